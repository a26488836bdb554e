//! What is known, for a person and for a program.

use std::collections::BTreeMap;

use flow::Timestamp;
use publish::wire::{HealthMessage, WorkerState};
use serde_json::{Value, json};

use super::Site;
use super::board::Board;
use crate::table::{Side, Table, aligned, bar, cut, thousands};

const BAR: usize = 30;
/// Worst first. Names that are not here come before all: a newer worker knows more states.
const WORST_FIRST: [&str; 11] = [
    "auth_failed",
    "refused",
    "unsupported",
    "broken",
    "no_data",
    "dark",
    "suspended",
    "frozen",
    "losing",
    "connecting",
    "streaming",
];
/// Of a camera whose worker is gone, and of one that nobody has spoken of.
const WORKER_GONE: &str = "worker_offline";
const NEVER: &str = "no_report";

/// What is known at a moment.
pub struct View<'a> {
    pub site: &'a Site,
    pub board: &'a Board,
    /// Why it may be old.
    pub link: Option<String>,
    pub now: Timestamp,
}

/// A camera as it is listed.
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    state: &'a str,
    health: Option<&'a HealthMessage>,
}

impl View<'_> {
    /// For a program. Cameras and workers are as their messages have them, field by field.
    pub fn json(&self) -> Value {
        let rows = self.rows();
        let totals: serde_json::Map<String, Value> =
            self.totals(&rows).into_iter().map(|(state, n)| (state.to_owned(), json!(n))).collect();
        let whole = |row: &Row<'_>| {
            let said = flow::CameraId::new(row.id).ok().and_then(|id| self.board.cameras.get(&id));
            let mut value = said.map_or_else(|| json!({ "camera": row.id }), |said| said.whole.clone());
            value["listed_as"] = json!(row.state);
            if !row.name.is_empty() {
                value["name"] = json!(row.name);
            }
            value
        };
        json!({
            "site": self.site.name,
            "broker": self.site.broker.to_string(),
            "at": self.now,
            "trouble": self.link,
            "totals": totals,
            "coverage": self.coverage(),
            "workers": self.board.workers.values().map(|said| &said.whole).collect::<Vec<_>>(),
            "cameras": rows.iter().map(whole).collect::<Vec<_>>(),
            "open": self.board.open.values().map(|said| &said.whole).collect::<Vec<_>>(),
            "unreadable": self.board.unreadable,
        })
    }

    /// For a person, with so many of the cameras that are not well.
    pub fn text(&self, worst: usize, width: usize) -> String {
        let rows = self.rows();
        let broker = self.site.broker.to_string();
        let now = self.now.strftime("%Y-%m-%d %H:%M:%S UTC");
        let mut out = format!("Site {} at {broker}, {now}\n\n", self.site.name);
        if let Some(trouble) = &self.link {
            out += &format!("{}\n\n", cut(&format!("This may be old: {trouble}"), width));
        }
        out += &self.workers(width);
        out += &self.states(&rows, width);
        out += &self.worst(&rows, worst, width);
        out += &self.open(width);
        if self.board.unreadable > 0 {
            let text = format!("{} messages could not be read; the last: ", self.board.unreadable);
            out += &format!("\n{}\n", cut(&(text + &self.board.last_unreadable), width));
        }
        out
    }

    /// All cameras, the worst first.
    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (id, said) in &self.board.cameras {
            let health = &said.message;
            let state = if self.board.is_stale(health) { WORKER_GONE } else { health.state.as_str() };
            let name = self.site.cameras.as_ref().and_then(|cameras| cameras.get(id));
            let name = name.map(String::as_str).unwrap_or_default();
            rows.push(Row { id: id.as_str(), name, state, health: Some(health) });
        }
        for (id, name) in self.site.cameras.iter().flatten() {
            if !self.board.cameras.contains_key(id) {
                rows.push(Row { id: id.as_str(), name, state: NEVER, health: None });
            }
        }
        // Of two in the same state, the one that has been so for longer.
        rows.sort_by_key(|row| (badness(row), row.health.map(|health| health.since)));
        rows
    }

    fn totals<'r>(&self, rows: &[Row<'r>]) -> Vec<(&'r str, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(row.state).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(state, _)| std::cmp::Reverse(place(state)));
        counts
    }

    fn workers(&self, width: usize) -> String {
        if self.board.workers.is_empty() {
            return "Workers: none has ever spoken\n\n".to_owned();
        }
        let mut table = Table::new(&["worker", "state", ">cameras", "started", "version", "config", "why"]);
        for (name, said) in &self.board.workers {
            let status = &said.message;
            let cameras = self.board.cameras.values().filter(|said| said.message.worker == *name).count();
            let state = match status.state {
                WorkerState::Online => "online",
                WorkerState::Offline => "offline",
            };
            table.row(vec![
                cut(name, 24),
                state.to_owned(),
                thousands(cameras),
                format!("{} ago", self.ago(status.started)),
                status.version.clone(),
                status.config_hash.chars().take(8).collect(),
                status.reason.clone(),
            ]);
        }
        format!("{}\n\n", table.lines(width, "").join("\n"))
    }

    fn states(&self, rows: &[Row<'_>], width: usize) -> String {
        let totals = self.totals(rows);
        let fleet = match &self.site.cameras {
            Some(cameras) => {
                let strangers = self.board.cameras.keys().filter(|id| !cameras.contains_key(*id)).count();
                let more = if strangers > 0 {
                    format!(" and {} that are not", thousands(strangers))
                } else {
                    String::new()
                };
                format!("{} of the fleet{more}", thousands(cameras.len()))
            }
            None => format!("{} that workers speak of", thousands(rows.len())),
        };
        let mut out = format!("Cameras: {fleet}\n");
        let wide = totals.iter().map(|(state, _)| state.len()).max().unwrap_or(0);
        let digits = totals.iter().map(|(_, n)| thousands(*n).len()).max().unwrap_or(0);
        for (state, n) in totals {
            let share = n as f64 / rows.len().max(1) as f64;
            let line = format!(
                "  {}  {:>digits$}  {:>5.1} %  {}",
                aligned(state, wide, Side::Left),
                thousands(n),
                share * 100.0,
                bar(share, BAR)
            );
            out += &format!("{}\n", cut(line.trim_end(), width));
        }
        if let Some(coverage) = self.coverage() {
            let percent = coverage["watched_percent"].as_f64().unwrap_or(0.0);
            out += &format!("  watched {percent:.1} % of their time since their workers began\n");
        }
        out.push('\n');
        out
    }

    /// The time of all cameras together. A camera that has no pictures is spoken of only when that changes, so the time
    /// since then is added: it spends it in the state in which it is.
    fn coverage(&self) -> Option<Value> {
        let (mut total, mut watched, mut by_state) = (0.0, 0.0, BTreeMap::<&str, f64>::new());
        for said in self.board.cameras.values() {
            let health = &said.message;
            let Some(part) = &health.coverage else { continue };
            let worker = self.board.workers.get(&health.worker).map(|said| &said.message);
            let online = worker.filter(|worker| worker.state == WorkerState::Online);
            let up = online.map_or(0.0, |worker| self.now.duration_since(worker.started).as_secs_f64());
            let unsaid = if is_watched(&health.state) { 0.0 } else { (up - part.total_s).max(0.0) };
            total += part.total_s + unsaid;
            watched += part.watched_s;
            for (state, seconds) in &part.by_state_s {
                *by_state.entry(state).or_default() += seconds;
            }
            *by_state.entry(&health.state).or_default() += unsaid;
        }
        by_state.retain(|_, seconds| *seconds > 0.0);
        (total > 0.0).then(|| {
            json!({ "total_s": total, "watched_s": watched, "watched_percent": watched / total * 100.0, "by_state_s": by_state })
        })
    }

    fn worst(&self, rows: &[Row<'_>], worst: usize, width: usize) -> String {
        let all = worst == usize::MAX;
        let unwell = |row: &&Row<'_>| {
            let said = |health: &HealthMessage| !health.reason.is_empty() || !health.note.is_empty();
            row.state != "streaming" || row.health.is_some_and(said)
        };
        let listed: Vec<&Row<'_>> = rows.iter().filter(|row| all || unwell(row)).collect();
        if listed.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&[
            "camera", "name", "state", ">since", ">fps", ">key s", ">loss %", ">clock s", ">picture", "why",
        ]);
        for row in listed.iter().take(worst) {
            table.row(self.cells(row));
        }
        let mut out = format!("{}\n", table.lines(width, "").join("\n"));
        if listed.len() > worst {
            out += &format!("… and {} more: --worst N, --all or --json\n", thousands(listed.len() - worst));
        }
        out.push('\n');
        out
    }

    fn cells(&self, row: &Row<'_>) -> Vec<String> {
        let mut cells = vec![cut(row.id, 24), cut(row.name, 20), row.state.to_owned()];
        let Some(health) = row.health else {
            cells.resize(9, String::new());
            cells.push("no worker has spoken of it".to_owned());
            return cells;
        };
        let number =
            |value: Option<f64>, digits: usize| value.map(|v| format!("{v:.digits$}")).unwrap_or_default();
        cells.extend([
            self.ago(health.since),
            number(health.fps.map(f64::from), 1),
            number(health.key_interval_s.map(f64::from), 1),
            number(health.loss_percent.map(f64::from), 1),
            number(health.clock_offset_s, 1),
            health.last_picture.map(|at| self.ago(at)).unwrap_or_default(),
            why(row, health),
        ]);
        cells
    }

    fn open(&self, width: usize) -> String {
        if self.board.open.is_empty() {
            return "Open situations: none\n".to_owned();
        }
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for said in self.board.open.values() {
            let situation = &said.message.data.situation;
            *counts.entry((situation.id.as_str(), situation.zh.as_str())).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let mut table = Table::new(&["situation", "", ">open"]);
        for ((id, zh), n) in counts {
            table.row(vec![id.to_owned(), format!("疑似{zh}"), thousands(n)]);
        }
        let lines = table.lines(width, "  ");
        format!("Open situations: {}\n{}\n", thousands(self.board.open.len()), lines[1..].join("\n"))
    }

    /// How long ago, in the largest unit that says enough.
    fn ago(&self, then: Timestamp) -> String {
        let seconds = self.now.duration_since(then).as_secs().max(0);
        match seconds {
            0..120 => format!("{seconds} s"),
            120..7_200 => format!("{} min", seconds / 60),
            7_200..172_800 => format!("{} h", seconds / 3_600),
            _ => format!("{} days", seconds / 86_400),
        }
    }
}

/// The state of a camera whose pictures show what is there.
fn is_watched(state: &str) -> bool {
    matches!(state, "streaming" | "losing")
}

/// The reason without what the row says already.
fn why(row: &Row<'_>, health: &HealthMessage) -> String {
    let prefix = format!("camera {} at ", row.id);
    let reason = match health.reason.strip_prefix(&prefix).and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest,
        None => &health.reason,
    };
    let mut parts: Vec<String> = Vec::new();
    if row.state == WORKER_GONE {
        parts.push(format!("{} is offline; it last said {}", health.worker, health.state));
    }
    parts.extend(
        [reason, health.note.as_str()].into_iter().filter(|text| !text.is_empty()).map(str::to_owned),
    );
    parts.join("; ")
}

fn badness(row: &Row<'_>) -> usize {
    place(row.state)
}

/// Place of a state, the worst first.
fn place(state: &str) -> usize {
    match state {
        NEVER => 1,
        WORKER_GONE => 2,
        known => WORST_FIRST.iter().position(|name| *name == known).map_or(0, |place| place + 3),
    }
}

#[cfg(test)]
mod tests {
    use flow::CameraState;

    use super::*;

    #[test]
    fn every_state_has_its_place() {
        for name in CameraState::NAMES {
            assert!(place(name) >= 3, "{name} is not in WORST_FIRST");
        }
        assert!(place("auth_failed") < place("frozen") && place("frozen") < place("streaming"));
        assert_eq!(place("invented_later"), 0);
    }
}
