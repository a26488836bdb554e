//! What the cameras of a fleet send, for a person: sums first, then who needs a look.

use std::collections::BTreeMap;

use ingest::probe::{Outcome, Probed, Seen};
use serde_json::{Value, json};

use super::{Found, Wanted, detail};
use crate::table::{Side, Table, aligned, bar, cut, thousands};

/// Cameras that are listed one by one unless all are wanted.
const LISTED: usize = 40;
/// Names that a line of failures gives.
const NAMED: usize = 3;
const BAR: usize = 30;

/// Sums over cameras.
pub struct Histograms {
    /// In the order of the intervals.
    key_intervals: Vec<(&'static str, usize)>,
    codecs: Vec<(String, usize)>,
    resolutions: Vec<(String, usize)>,
    servers: Vec<(String, usize)>,
    /// Kind of failure, how many, and the first of them.
    failures: Vec<(String, usize, Vec<String>)>,
}

/// Upper limits in seconds; the last has none.
const INTERVALS: [(&str, f64); 7] = [
    ("up to 1 s", 1.05),
    ("1 to 2 s", 2.1),
    ("2 to 4 s", 4.2),
    ("4 to 10 s", 10.5),
    ("10 to 30 s", 31.5),
    ("30 s to 5 min", 315.0),
    ("longer", f64::INFINITY),
];

impl Histograms {
    pub fn of(probed: &[Probed]) -> Self {
        let seen: Vec<&Seen> = probed.iter().filter_map(seen).collect();
        let mut key_intervals = INTERVALS.map(|(name, _)| (name, 0));
        for interval in seen.iter().filter_map(|seen| seen.usual_key_interval_s()) {
            let place =
                INTERVALS.iter().position(|(_, limit)| interval <= *limit).unwrap_or(INTERVALS.len() - 1);
            key_intervals[place].1 += 1;
        }
        let resolution = |seen: &&Seen| match &seen.picture {
            Some(picture) => format!("{}×{}", picture.width, picture.height),
            None => "unknown".to_owned(),
        };
        let software = |probed: &Probed| {
            let server = probed.server.as_ref()?;
            Some(server.software.clone().unwrap_or_else(|| "does not say".to_owned()))
        };
        Self {
            key_intervals: key_intervals.to_vec(),
            codecs: counted(seen.iter().map(|seen| codec(seen))),
            resolutions: counted(seen.iter().map(resolution)),
            servers: counted(probed.iter().filter_map(software)),
            failures: failures(probed),
        }
    }

    pub fn json(&self) -> Value {
        let object = |counts: &[(String, usize)]| -> Value {
            counts.iter().map(|(name, n)| (name.clone(), json!(n))).collect::<serde_json::Map<_, _>>().into()
        };
        let intervals: Vec<_> = self.key_intervals.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let failures: Vec<_> = self.failures.iter().map(|(kind, n, _)| (kind.clone(), *n)).collect();
        json!({
            "key_interval": object(&intervals),
            "codec": object(&self.codecs),
            "resolution": object(&self.resolutions),
            "server": object(&self.servers),
            "failure": object(&failures),
        })
    }

    fn text(&self, width: usize) -> String {
        let intervals: Vec<_> = self.key_intervals.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        // Empty intervals at either end say nothing; those between do.
        let first = intervals.iter().position(|(_, n)| *n > 0).unwrap_or(0);
        let last = intervals.iter().rposition(|(_, n)| *n > 0).map_or(0, |last| last + 1);
        let shown = intervals.get(first..last).unwrap_or_default();
        let mut out = histogram("Key pictures apart", shown, width);
        out += &histogram("Codecs", &self.codecs, width);
        out += &histogram("Resolutions", &self.resolutions, width);
        out += &histogram("Servers", &self.servers, width);
        if !self.failures.is_empty() {
            out += &self.failures_text(width);
        }
        out
    }

    fn failures_text(&self, width: usize) -> String {
        let mut table = Table::new(&["", ">", ""]);
        for (kind, count, names) in &self.failures {
            let more = if *count > names.len() { ", …" } else { "" };
            let names = format!("{}{more}", names.join(", "));
            table.row(vec![cut(kind, 60), thousands(*count), names]);
        }
        let lines = table.lines(width, "  ");
        format!("Cannot be watched\n{}\n\n", lines[1..].join("\n"))
    }
}

fn seen(probed: &Probed) -> Option<&Seen> {
    match &probed.outcome {
        Outcome::Seen(seen) => Some(seen),
        Outcome::Failed(_) => None,
    }
}

fn codec(seen: &Seen) -> String {
    match &seen.picture {
        Some(picture) => format!("{} {}", seen.codec, picture.profile),
        None => seen.codec.clone(),
    }
}

/// Most frequent first.
fn counted(names: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts
}

fn failures(probed: &[Probed]) -> Vec<(String, usize, Vec<String>)> {
    let mut kinds: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for one in probed {
        let Some(failure) = super::failure(one) else { continue };
        let (count, names) = kinds.entry(format!("{}: {}", failure.state, failure.kind)).or_default();
        *count += 1;
        if names.len() < NAMED {
            names.push(one.camera.to_string());
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().map(|(kind, (count, names))| (kind, count, names)).collect();
    kinds.sort_by_key(|(_, n, _)| std::cmp::Reverse(*n));
    kinds
}

fn histogram(title: &str, counts: &[(String, usize)], width: usize) -> String {
    use unicode_width::UnicodeWidthStr as _;
    /// Of codecs, sizes and servers there may be many with one camera each.
    const ROWS: usize = 12;
    if counts.is_empty() {
        return String::new();
    }
    let mut counts = counts.to_vec();
    if counts.len() > ROWS {
        let others: usize = counts.drain(ROWS - 1..).map(|(_, n)| n).sum();
        counts.push(("others".to_owned(), others));
    }
    let total: usize = counts.iter().map(|(_, n)| n).sum();
    let most = counts.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
    let digits = thousands(most).len();
    let room = width.saturating_sub(2 + 2 + digits + 2 + 7 + 2 + BAR).max(10);
    let names: Vec<String> = counts.iter().map(|(name, _)| cut(name, room)).collect();
    let wide = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let mut out = format!("{title}\n");
    for (name, (_, n)) in names.iter().zip(&counts) {
        let share = *n as f64 / total.max(1) as f64 * 100.0;
        let line = format!(
            "  {}  {:>digits$}  {share:>5.1} %  {}",
            aligned(name, wide, Side::Left),
            thousands(*n),
            bar(*n as f64 / most as f64, BAR)
        );
        out += line.trim_end();
        out.push('\n');
    }
    out.push('\n');
    out
}

/// Everything.
pub fn text(found: &Found, cameras: &[Wanted], all: bool, width: usize) -> String {
    let probed = &found.probed;
    let failed = probed.iter().filter(|one| super::failure(one).is_some()).count();
    let mut out = format!(
        "{} cameras probed, {} send pictures, {} cannot be watched",
        thousands(probed.len()),
        thousands(probed.len() - failed),
        thousands(failed)
    );
    if found.stopped {
        out += &format!("; stopped, {} were not reached", thousands(found.asked - probed.len()));
    }
    out += "\n\n";
    out += &Histograms::of(probed).text(width);
    out += &list(probed, cameras, all, width);
    out
}

/// A row per camera: the worst first where not all are listed.
fn list(probed: &[Probed], cameras: &[Wanted], all: bool, width: usize) -> String {
    let by_id: BTreeMap<_, _> = cameras.iter().map(|wanted| (&wanted.camera.id, wanted)).collect();
    let badness = |one: &Probed| match &one.outcome {
        Outcome::Failed(_) => 0,
        Outcome::Seen(seen) if too_long(seen, by_id.get(&one.camera).copied()) => 1,
        Outcome::Seen(seen) if !seen.odd.is_empty() => 2,
        Outcome::Seen(_) => 3,
    };
    let mut rows: Vec<&Probed> = probed.iter().collect();
    if !all {
        rows.retain(|one| badness(one) < 3 || probed.len() <= LISTED);
        rows.sort_by_key(|one| badness(one));
    }
    let hidden = if all { 0 } else { rows.len().saturating_sub(LISTED) };
    rows.truncate(rows.len() - hidden);
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "camera",
        "state",
        "codec",
        "picture",
        ">fps",
        ">bit rate",
        ">key s",
        ">loss %",
        "remarks",
    ]);
    for one in rows {
        table.row(row(one));
    }
    let mut out = format!("{}\n", table.lines(width, "").join("\n"));
    if hidden > 0 {
        out += &format!("… and {} more that are unusual: --all, --json or --csv FILE\n", thousands(hidden));
    }
    out
}

fn too_long(seen: &Seen, wanted: Option<&Wanted>) -> bool {
    let allowed = wanted.map(|wanted| wanted.camera.look.at_least_every.as_secs_f64());
    matches!((seen.usual_key_interval_s(), allowed), (Some(interval), Some(allowed)) if interval > allowed)
}

fn row(probed: &Probed) -> Vec<String> {
    let name = cut(probed.camera.as_str(), 32);
    match &probed.outcome {
        Outcome::Failed(failure) => {
            let mut cells = vec![name, failure.state.to_owned()];
            cells.resize(8, String::new());
            cells.push(failure.kind.clone());
            cells
        }
        Outcome::Seen(seen) => {
            let picture = seen.picture.as_ref();
            let interval = match (seen.key_interval, seen.key_interval_above_s) {
                (Some(interval), _) => format!("{:.1}", interval.median_s),
                (None, Some(above)) => format!("> {above:.0}"),
                (None, None) => String::new(),
            };
            vec![
                name,
                "streaming".to_owned(),
                seen.codec.clone(),
                picture.map(|p| format!("{}×{}", p.width, p.height)).unwrap_or_default(),
                seen.fps.map(|fps| format!("{fps:.1}")).unwrap_or_default(),
                seen.bit_rate.map(detail::bits).unwrap_or_default(),
                interval,
                format!("{:.1}", seen.loss_percent),
                seen.odd.join("; "),
            ]
        }
    }
}
