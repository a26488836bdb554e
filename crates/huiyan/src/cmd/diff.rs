//! `huiyan diff`: which cameras a change of the configuration touches, and what follows for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use fleet::{Camera, Fleet, ModelCard, Rule};
use flow::{CameraId, SituationId};
use serde::Serialize;

use crate::UserError;
use crate::table::{Table, cut, thousands, width};

/// Names, and kinds of change, that are listed unless all are wanted.
const LISTED: usize = 30;
/// Characters of a value that are shown in a table.
const SHOWN: usize = 60;

/// Say which cameras a change of the configuration touches.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The fleet's YAML as it is
    before: PathBuf,
    /// As it is to be
    after: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// List everything, not only the first of many
    #[arg(long)]
    all: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let load = |path: &PathBuf| Fleet::load(path).map_err(|mistakes| UserError(mistakes.to_string()));
    let diff = Diff::of(&load(&args.before)?, &load(&args.after)?);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&diff)?);
    } else {
        print!("{}", diff.text(args.all, width()));
    }
    Ok(())
}

/// What follows for a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Effect {
    /// Its RTSP session is another: it is not watched for the seconds of a set-up.
    Session,
    /// It is looked at otherwise: at other pictures, more often or less, by another model.
    Look,
    /// It is judged otherwise: situations that last may end, others may begin.
    Scene,
    /// Its events say something else of it; nothing else changes.
    Label,
}

impl Effect {
    fn text(self) -> &'static str {
        match self {
            Self::Session => "session anew",
            Self::Look => "looked at otherwise",
            Self::Scene => "judged otherwise",
            Self::Label => "events say it otherwise",
        }
    }
}

/// Something that is written otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Change {
    key: String,
    before: String,
    after: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<Effect>,
}

/// A camera that is in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Changed {
    camera: CameraId,
    changes: Vec<Change>,
}

/// Two configurations.
#[derive(Debug, Serialize)]
struct Diff {
    cameras_before: usize,
    cameras_after: usize,
    /// What is of no single camera. Workers read it at their start.
    settings: Vec<Change>,
    added: Vec<CameraId>,
    removed: Vec<CameraId>,
    changed: Vec<Changed>,
    /// Cameras with this key changed.
    by_key: BTreeMap<String, usize>,
    same: usize,
}

impl Diff {
    fn of(before: &Fleet, after: &Fleet) -> Self {
        let by_id = |fleet: &'_ Fleet| -> BTreeMap<CameraId, usize> {
            fleet.cameras.iter().enumerate().map(|(place, camera)| (camera.id.clone(), place)).collect()
        };
        let (old, new) = (by_id(before), by_id(after));
        let only = |these: &BTreeMap<CameraId, usize>, those: &BTreeMap<CameraId, usize>| {
            these.keys().filter(|id| !those.contains_key(*id)).cloned().collect::<Vec<_>>()
        };
        let models = Models::of(before, after);
        let mut changed = Vec::new();
        let mut by_key: BTreeMap<String, usize> = BTreeMap::new();
        for (id, place) in &old {
            let Some(there) = new.get(id) else { continue };
            let changes = changes(&before.cameras[*place], &after.cameras[*there], &models);
            for key in changes.iter().map(|change| change.key.as_str()).collect::<BTreeSet<_>>() {
                *by_key.entry(key.to_owned()).or_default() += 1;
            }
            if !changes.is_empty() {
                changed.push(Changed { camera: id.clone(), changes });
            }
        }
        let (added, removed) = (only(&new, &old), only(&old, &new));
        Self {
            cameras_before: old.len(),
            cameras_after: new.len(),
            settings: settings(before, after),
            same: old.len() - removed.len() - changed.len(),
            added,
            removed,
            changed,
            by_key,
        }
    }

    fn text(&self, all: bool, width: usize) -> String {
        let mut out = format!(
            "{} cameras → {}: {} added, {} removed, {} changed, {} the same\n",
            thousands(self.cameras_before),
            thousands(self.cameras_after),
            thousands(self.added.len()),
            thousands(self.removed.len()),
            thousands(self.changed.len()),
            thousands(self.same)
        );
        if !self.settings.is_empty() {
            out += "\nSettings; workers read them at their start\n";
            out += &lines(&self.settings, width);
        }
        out += &self.keys(width);
        let listed = if all { usize::MAX } else { LISTED };
        for (title, cameras) in [("Added", &self.added), ("Removed", &self.removed)] {
            if !cameras.is_empty() {
                let names: Vec<String> = cameras.iter().take(listed).map(CameraId::to_string).collect();
                let more = if cameras.len() > names.len() { ", …" } else { "" };
                let names = crate::table::wrapped(&names, ", ", width, 2);
                out += &format!("\n{title}\n  {names}{more}\n");
            }
        }
        out += &self.groups(listed, width);
        out
    }

    /// Cameras that change in the same way, the most of a kind first.
    fn groups(&self, listed: usize, width: usize) -> String {
        let mut groups: Vec<(&[Change], Vec<&str>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for changed in &self.changed {
            let place = *places.entry(format!("{:?}", changed.changes)).or_insert_with(|| {
                groups.push((&changed.changes, Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push(changed.camera.as_str());
        }
        groups.sort_by_key(|(_, cameras)| std::cmp::Reverse(cameras.len()));
        let mut out = String::new();
        for (changes, cameras) in groups.iter().take(listed) {
            let names = match cameras.as_slice() {
                [only] => (*only).to_owned(),
                [first, second] => format!("{first}, {second}"),
                many => format!("{} cameras: {}, {}, …", thousands(many.len()), many[0], many[1]),
            };
            out += &format!("\n{}\n{}", cut(&names, width), lines(changes, width));
        }
        if groups.len() > listed {
            out += &format!("\n… and {} more: --all or --json\n", thousands(groups.len() - listed));
        }
        out
    }

    fn keys(&self, width: usize) -> String {
        if self.by_key.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&["key", ">cameras", "what follows"]);
        let mut keys: Vec<_> = self.by_key.iter().collect();
        keys.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        for (key, n) in keys {
            table.row(vec![key.clone(), thousands(*n), effect_of(key).text().to_owned()]);
        }
        format!("\n{}\n", table.lines(width, "").join("\n"))
    }
}

fn lines(changes: &[Change], width: usize) -> String {
    let mut table = Table::new(&["", ""]);
    for change in changes {
        let value = |text: &str| if text.is_empty() { "–".to_owned() } else { cut(text, SHOWN) };
        table.row(vec![change.key.clone(), format!("{} → {}", value(&change.before), value(&change.after))]);
    }
    table.lines(width, "  ").split_off(1).join("\n") + "\n"
}

fn effect_of(key: &str) -> Effect {
    match key {
        "url" | "other_url" | "credentials" | "transport" | "certificate" => Effect::Session,
        "look" | "gate" | "tiles" | "model" => Effect::Look,
        "masks" => Effect::Look,
        "zones" | "ignore" | "presets" => Effect::Scene,
        key if key.starts_with("situation ") => Effect::Scene,
        _ => Effect::Label,
    }
}

/// Models that are another under the same name.
struct Models(BTreeMap<flow::ModelId, (String, String)>);

impl Models {
    fn of(before: &Fleet, after: &Fleet) -> Self {
        let version = |dir: &PathBuf| {
            ModelCard::load(dir).map_or_else(
                |_| format!("in {}", dir.display()),
                |card| format!("{} {}", card.version, card.sha256.chars().take(8).collect::<String>()),
            )
        };
        let both = before.models.iter().filter_map(|(id, dir)| Some((id, dir, after.models.get(id)?)));
        let both = both.map(|(id, old, new)| (id.clone(), (version(old), version(new))));
        Self(both.filter(|(_, (old, new))| old != new).collect())
    }
}

/// What is written otherwise for a camera. Every field is named, so that one that is added cannot be forgotten.
fn changes(before: &Camera, after: &Camera, models: &Models) -> Vec<Change> {
    let Camera {
        id: _,
        class,
        name,
        address,
        grid,
        location,
        ground,
        url,
        other_url,
        certificate,
        credentials,
        transport,
        look,
        gate,
        tiles,
        model,
        presets,
        zones,
        ignore,
        masks,
        keep_evidence,
    } = before;
    let mut found = Found::default();
    let text = |value: &Option<std::sync::Arc<str>>| value.as_deref().unwrap_or_default().to_owned();
    found.note("class", class.to_string(), after.class.to_string());
    found.note("name", text(name), text(&after.name));
    found.note("address", text(address), text(&after.address));
    found.note("grid", text(grid), text(&after.grid));
    found.note("location", shown(location), shown(&after.location));
    found.note("ground", shown(ground), shown(&after.ground));
    found.note("url", url.to_string(), after.url.to_string());
    let other = |url: &Option<_>| url.as_ref().map(ToString::to_string).unwrap_or_default();
    found.note("other_url", other(other_url), other(&after.other_url));
    found.note("certificate", debug(certificate), debug(&after.certificate));
    found.note("transport", debug(transport), debug(&after.transport));
    if credentials != &after.credentials {
        let user = |login: &Option<std::sync::Arc<fleet::Credentials>>| {
            login.as_ref().map(|login| login.user.clone()).unwrap_or_default()
        };
        let (old, new) = (user(credentials), user(&after.credentials));
        // The same user: then it is the password, which is not shown.
        let changed = if old == new {
            (format!("{old} with one password"), format!("{new} with another"))
        } else {
            (old, new)
        };
        found.note("credentials", changed.0, changed.1);
    }
    found.note("look", debug(look), debug(&after.look));
    found.note("gate", shown(gate), shown(&after.gate));
    found.note("tiles", shown(tiles), shown(&after.tiles));
    found.note("model", model.to_string(), after.model.to_string());
    if model == &after.model
        && let Some((old, new)) = models.0.get(model)
    {
        found.note("model", format!("{model} {old}"), format!("{model} {new}"));
    }
    if debug(presets) != debug(&after.presets) {
        let names = |presets: &[fleet::Preset]| {
            presets.iter().map(|preset| preset.id.as_str()).collect::<Vec<_>>().join(" ")
        };
        let (old, new) = (names(presets), names(&after.presets));
        let new = if old == new { format!("{new}, drawn otherwise") } else { new };
        found.note("presets", old, new);
    }
    let outline = |zones: &[fleet::Zone]| {
        let zone = |zone: &fleet::Zone| {
            let situations: Vec<_> = zone.rules.iter().map(|rule| rule.situation.as_str()).collect();
            let own = (&zone.polygon, &zone.line, &zone.permitted);
            (zone.id.to_string(), situations.join(", "), debug(&own))
        };
        zones.iter().map(zone).collect::<Vec<_>>()
    };
    let (old, new) = (outline(zones), outline(&after.zones));
    if old != new {
        let names = |zones: &[(String, String, String)]| {
            zones
                .iter()
                .map(|(id, situations, _)| format!("{id} [{situations}]"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (old, new) = (names(&old), names(&new));
        let new = if old == new { format!("{new}, drawn otherwise") } else { new };
        found.note("zones", old, new);
    }
    found.note("ignore", format!("{} parts", ignore.len()), format!("{} parts", after.ignore.len()));
    if ignore.len() == after.ignore.len() && debug(ignore) != debug(&after.ignore) {
        found.note("ignore", "parts".to_owned(), "parts, drawn otherwise".to_owned());
    }
    found.note("masks", format!("{} parts", masks.len()), format!("{} parts", after.masks.len()));
    if masks.len() == after.masks.len() && debug(masks) != debug(&after.masks) {
        found.note("masks", "parts".to_owned(), "parts, drawn otherwise".to_owned());
    }
    found.note("keep_evidence", shown(keep_evidence), shown(&after.keep_evidence));
    rules(before, after, &mut found);
    found.0
}

/// Situations that are recognised otherwise, although the camera watches for them as before.
fn rules(before: &Camera, after: &Camera, found: &mut Found) {
    let by_situation = |camera: &Camera| -> BTreeMap<SituationId, std::sync::Arc<Rule>> {
        let rules = camera.zones.iter().flat_map(|zone| zone.rules.iter());
        rules.map(|rule| (rule.situation.clone(), rule.clone())).collect()
    };
    let (old, new) = (by_situation(before), by_situation(after));
    for (situation, rule) in &old {
        if let Some(now) = new.get(situation)
            && **rule != **now
        {
            let (old, new) = differing(&debug(rule), &debug(now));
            found.note(&format!("situation {situation}"), old, new);
        }
    }
}

/// The parts of two long texts that differ, from the word before to the word after.
fn differing(a: &str, b: &str) -> (String, String) {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split(' ').collect(), b.split(' ').collect());
    let least = a.len().min(b.len());
    let start = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let end = a.iter().rev().zip(b.iter().rev()).take(least - start).take_while(|(x, y)| x == y).count();
    let part = |words: &[&str]| {
        let words = &words[start.saturating_sub(1)..words.len() - end];
        words.join(" ").trim_end_matches(',').to_owned()
    };
    (part(&a), part(&b))
}

#[derive(Default)]
struct Found(Vec<Change>);

impl Found {
    fn note(&mut self, key: &str, before: String, after: String) {
        if before != after {
            self.0.push(Change { key: key.to_owned(), before, after, effect: Some(effect_of(key)) });
        }
    }
}

fn debug(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

fn shown(value: &Option<impl std::fmt::Debug>) -> String {
    value.as_ref().map(debug).unwrap_or_default()
}

/// What is of no single camera.
fn settings(before: &Fleet, after: &Fleet) -> Vec<Change> {
    let mut found = Vec::new();
    let mut note = |key: &str, old: String, new: String| {
        if old != new {
            let (before, after) =
                if old.len().max(new.len()) > SHOWN { differing(&old, &new) } else { (old, new) };
            found.push(Change { key: key.to_owned(), before, after, effect: None });
        }
    };
    note("site", before.site.clone(), after.site.clone());
    note("worker", before.worker.clone(), after.worker.clone());
    note("data_dir", before.data_dir.display().to_string(), after.data_dir.display().to_string());
    note("broker", debug(&before.broker), debug(&after.broker));
    if before.broker.credentials != after.broker.credentials {
        note("broker.credentials", "one login".to_owned(), "another".to_owned());
    }
    note("desk", debug(&before.desk), debug(&after.desk));
    note("node", debug(&before.node), debug(&after.node));
    for (id, dir) in &before.models {
        let there = after.models.get(id).map(|dir| dir.display().to_string()).unwrap_or_default();
        note(&format!("models.{id}"), dir.display().to_string(), there);
    }
    for (id, dir) in after.models.iter().filter(|(id, _)| !before.models.contains_key(*id)) {
        note(&format!("models.{id}"), String::new(), dir.display().to_string());
    }
    let names =
        |fleet: &Fleet| fleet.situations.keys().map(SituationId::to_string).collect::<Vec<_>>().join(", ");
    note("situations", names(before), names(after));
    for (id, old) in &before.situations {
        let Some(new) = after.situations.get(id) else { continue };
        let called = |s: &fleet::Situation| debug(&(&s.zh, &s.en, &s.code));
        note(&format!("situations.{id}"), called(old), called(new));
        note(&format!("situations.{id}.rule"), debug(&old.rule), debug(&new.rule));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_long_texts_the_words_that_differ_are_shown() {
        let text =
            |at_least: &str| format!("Rule {{ kind: Dwell, at_least: {at_least}, drift: 0.25, per: Thing }}");
        let (before, after) = differing(&text("300s"), &text("480s"));
        assert_eq!((before.as_str(), after.as_str()), ("at_least: 300s", "at_least: 480s"));
        assert_eq!(differing("a b", "a b c"), ("b".to_owned(), "b c".to_owned()));
        assert_eq!(differing("", "x"), (String::new(), "x".to_owned()));
        assert_eq!(differing("a a a", "a a"), ("a a".to_owned(), "a".to_owned()));
    }
}
