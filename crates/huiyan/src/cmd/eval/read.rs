//! Events and truth from files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use flow::Timestamp;
use serde::Deserialize;

use super::figures::Stretch;
use super::matching::{Told, True};
use crate::UserError;

/// Files larger than this are refused, bytes.
const MAX_FILE: u64 = 1 << 28;

/// One line of `huiyan replay`.
#[derive(Deserialize)]
struct EventLine {
    event: String,
    camera: String,
    zone: String,
    situation: String,
    first_seen: Timestamp,
    began: Timestamp,
    last_seen: Timestamp,
    ended: Option<Timestamp>,
    confidence: f32,
    #[serde(default)]
    uncalibrated: Option<f32>,
    #[serde(default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(rename = "box")]
    bbox: [f32; 4],
}

/// The situations that a file of events tells, in the order in which they began. Lines without an event (`--looks`) are skipped.
pub fn events(path: &Path) -> anyhow::Result<Vec<Told>> {
    let mut told = Vec::new();
    for (number, line) in text(path)?.lines().enumerate() {
        let at = || format!("{}:{}", path.display(), number + 1);
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|e| UserError(format!("{}: {e}", at())))?;
        if value.get("event").is_none() {
            continue;
        }
        let line: EventLine =
            serde_json::from_value(value).map_err(|e| UserError(format!("{}: {e}", at())))?;
        take(&mut told, line);
    }
    Ok(told)
}

/// Adds an event to what it is part of.
fn take(told: &mut Vec<Told>, line: EventLine) {
    let boxes = line.objects.iter().map(|o| o.bbox);
    let until = line.ended.unwrap_or(line.last_seen).max(line.began);
    // The newest situations are at the end.
    match told.iter_mut().rev().find(|known| known.event == line.event) {
        Some(known) => {
            known.until = known.until.max(until);
            known.boxes.extend(boxes);
        }
        None => told.push(Told {
            boxes: boxes.collect(),
            event: line.event,
            camera: line.camera,
            situation: line.situation,
            zone: line.zone,
            first_seen: line.first_seen,
            began: line.began,
            until,
            confidence: line.confidence,
            uncalibrated: line.uncalibrated,
        }),
    }
}

/// The situations that events tell.
pub fn told(events: &[flow::Event]) -> Vec<Told> {
    let mut told = Vec::new();
    for event in events {
        let ended = match event.phase {
            flow::Phase::Ended { at } => Some(at),
            flow::Phase::Began | flow::Phase::Updated => None,
        };
        take(
            &mut told,
            EventLine {
                event: event.id.to_string(),
                camera: event.key.camera.to_string(),
                zone: event.key.zone.to_string(),
                situation: event.key.situation.to_string(),
                first_seen: event.first_seen,
                began: event.began,
                last_seen: event.last_seen,
                ended,
                confidence: event.confidence.get(),
                uncalibrated: event.uncalibrated.map(|score| score.get()),
                objects: event.objects.iter().map(|o| Object { bbox: o.bbox.to_array() }).collect(),
            },
        );
    }
    told
}

/// What is true of one camera.
#[derive(Debug)]
pub struct Truth {
    /// The camera, and for how long it was watched.
    pub stretch: Stretch,
    /// What is there.
    pub list: Vec<True>,
    /// The zone, where the truth draws one.
    pub zone: Option<(String, Vec<[f32; 2]>)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TruthFile {
    /// What `huiyan sim` writes.
    List(Vec<Entry>),
    Whole(Whole),
    Visits(Visits),
}

#[derive(Deserialize)]
struct Entry {
    situation: String,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default, rename = "box")]
    bbox: Option<[f32; 4]>,
    /// Seconds from the start.
    from: f64,
    to: f64,
    /// Seconds for which it must last before it is told.
    #[serde(default)]
    at_least: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(default)]
    camera: Option<String>,
    #[serde(default)]
    hours: Option<f64>,
    #[serde(default)]
    light: Option<String>,
    #[serde(default)]
    weather: Option<String>,
    situations: Vec<Entry>,
}

/// People who come and stand somewhere.
#[derive(Deserialize)]
struct Visits {
    zone: ZoneText,
    visits: Vec<Visit>,
}

#[derive(Deserialize)]
struct ZoneText {
    id: String,
    polygon: Vec<[f32; 2]>,
}

#[derive(Deserialize)]
struct Visit {
    standing: [f64; 2],
}

/// The situation's name where the truth is of visits.
pub const STANDING: &str = "standing";

/// Reads a truth: a list as `huiyan sim` writes it, the same with the camera's circumstances (`camera, hours, light,
/// weather, situations`), or visits to a zone. Seconds count from `start`. `hours`: for how long it was watched, where the
/// file does not say.
pub fn truth(path: &Path, start: Timestamp, hours: Option<f64>) -> anyhow::Result<Truth> {
    let wrong = |why: &str| UserError(format!("{}: {why}", path.display()));
    let value: serde_json::Value =
        serde_saphyr::from_str(&text(path)?).map_err(|e| wrong(&format!("no JSON or YAML: {e}")))?;
    let file: TruthFile = serde_json::from_value(value).map_err(|_| {
        wrong("expected a list of {situation, zone, from, to}, {camera, hours, light, weather, situations}, or {zone, visits}")
    })?;
    let mut whole = Whole { camera: None, hours: None, light: None, weather: None, situations: Vec::new() };
    let mut zone = None;
    match file {
        TruthFile::List(list) => whole.situations = list,
        TruthFile::Whole(file) => whole = file,
        TruthFile::Visits(file) => {
            let entry = |visit: &Visit| Entry {
                situation: STANDING.into(),
                zone: Some(file.zone.id.clone()),
                bbox: None,
                from: visit.standing[0],
                to: visit.standing[1],
                at_least: 0.0,
            };
            whole.situations = file.visits.iter().map(entry).collect();
            zone = Some((file.zone.id, file.zone.polygon));
        }
    }
    let camera = whole.camera.unwrap_or_else(|| camera_of(path));
    let list = whole.situations.iter().map(|entry| entry.to_true(&camera, start));
    let list = list.collect::<anyhow::Result<Vec<_>>>().with_context(|| path.display().to_string())?;
    let last = whole.situations.iter().map(|entry| entry.to).fold(0.0, f64::max);
    let tags = [("light", whole.light), ("weather", whole.weather)];
    let stretch = Stretch {
        camera,
        days: whole.hours.or(hours).unwrap_or(last / 3_600.0) / 24.0,
        tags: tags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
    };
    Ok(Truth { stretch, list, zone })
}

impl Entry {
    fn to_true(&self, camera: &str, start: Timestamp) -> anyhow::Result<True> {
        let at = |seconds: f64| {
            let after = Duration::try_from_secs_f64(seconds);
            after.ok().and_then(|after| start.checked_add(after).ok())
        };
        let times = at(self.from).zip(at(self.to)).filter(|(from, to)| from < to);
        let (from, to) = times.ok_or_else(|| {
            UserError(format!(
                "{}: from: {}, to: {}; expected seconds, 0 <= from < to",
                self.situation, self.from, self.to
            ))
        })?;
        Ok(True {
            camera: camera.into(),
            situation: self.situation.clone(),
            zone: self.zone.clone(),
            bbox: self.bbox,
            from,
            to,
            at_least: Duration::try_from_secs_f64(self.at_least).unwrap_or_default(),
        })
    }
}

/// `street.situations.json` and `street.truth.yaml` are of camera `street`, as `replay` names it.
fn camera_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    crate::cmd::playback::camera_id(Path::new(stem)).to_string()
}

fn text(path: &Path) -> anyhow::Result<String> {
    let size = std::fs::metadata(path).map_err(|e| UserError(format!("{}: {e}", path.display())))?.len();
    if size > MAX_FILE {
        return Err(
            UserError(format!("{}: {size} bytes; at most {MAX_FILE} are read", path.display())).into()
        );
    }
    std::fs::read_to_string(path).map_err(|e| UserError(format!("{}: {e}", path.display())).into())
}

/// Adds situations to a list of names.
pub fn names<'t>(of: impl Iterator<Item = &'t String>) -> Vec<String> {
    of.map(|name| (name.clone(), ())).collect::<BTreeMap<_, ()>>().into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn truth_comes_in_three_forms_and_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let start: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
        let read = |name: &str, text: &str| truth(&file(dir.path(), name, text), start, None);
        let list =
            read("my street.situations.json", r#"[{"situation": "s", "zone": "z", "from": 10, "to": 3610}]"#)
                .unwrap();
        assert_eq!((list.stretch.camera.as_str(), list.list[0].zone.as_deref()), ("my-street", Some("z")));
        assert_eq!(list.list[0].from.to_string(), "2000-01-01T00:00:10Z");
        let whole = r#"{"camera": "c", "hours": 12, "light": "night", "situations": [{"situation": "s", "from": 1, "to": 2}]}"#;
        let whole = read("a.json", whole).unwrap();
        assert_eq!((whole.stretch.days, whole.stretch.tags), (0.5, vec![("light", "night".to_owned())]));
        let visits = "zone: {id: table, polygon: [[0, 0], [1, 0], [1, 1]]}\nvisits:\n  - {in: 7, standing: [8, 18], out: 19}\n";
        let visits = read("one-by-one.truth.yaml", visits).unwrap();
        assert_eq!((visits.list.len(), visits.list[0].situation.as_str()), (1, STANDING));
        assert_eq!(visits.zone.unwrap().1.len(), 3);
        assert!(
            read("b.json", "[{\"situation\": \"s\", \"from\": 5, \"to\": 5}]")
                .unwrap_err()
                .to_string()
                .contains("b.json")
        );
        assert!(read("c.json", "{}").unwrap_err().to_string().contains("expected a list"));
    }

    #[test]
    fn events_of_one_id_are_one_situation() {
        let dir = tempfile::tempdir().unwrap();
        let line = |phase: &str, last: u32, ended: &str| {
            format!(
                r#"{{"event": "e1", "phase": "{phase}", "camera": "c", "zone": "z", "situation": "s", "first_seen": "2000-01-01T00:00:01Z",
                "began": "2000-01-01T00:00:10Z", "last_seen": "2000-01-01T00:00:{last}Z", "ended": {ended}, "confidence": 0.8,
                "objects": [{{"class": "car", "score": 0.9, "box": [0.1, 0.1, 0.2, 0.2], "track": 1}}]}}"#
            )
            .replace('\n', " ")
        };
        let text = [
            line("began", 10, "null"),
            r#"{"look": 11.0, "detections": []}"#.into(),
            line("ended", 30, r#""2000-01-01T00:00:32Z""#),
        ]
        .join("\n");
        let told = events(&file(dir.path(), "e.jsonl", &text)).unwrap();
        assert_eq!(
            (told.len(), told[0].boxes.len(), told[0].until.to_string().as_str()),
            (1, 2, "2000-01-01T00:00:32Z")
        );
        assert!(events(&file(dir.path(), "bad.jsonl", "{")).unwrap_err().to_string().contains("bad.jsonl:1"));
    }
}
