//! `confidence.yaml` beside a model's card: what the confidence of its events is worth, situation by situation.
//!
//! A rule states how sure it is as a mean score; whether nine in ten such statements are true depends on the model and on
//! the situation. The file holds what was observed; it is written by `huiyan eval --fit-confidence`.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow::{Score, SituationId};
use sha2::Sha256;

use crate::check::{Entry, Fields, Item, Value};
use crate::mistake::{Path as Dotted, Place, Problem, Report};
use crate::shape::{Kind, Shape, required};
use crate::sources::{read_map, read_text};
use crate::{ModelCard, Rule};

/// Its name, in the model's folder.
pub const CALIBRATION_FILE: &str = "confidence.yaml";
/// Bytes of a file.
const MAX_FILE: u64 = 1 << 20;

/// What the stated confidence of one situation is worth, as it was observed with one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Name of the rule's kind: of another kind the confidence means something else.
    rule: Arc<str>,
    /// How many events it was learned from.
    pub events: u64,
    /// Of them, how many were true.
    pub right: u64,
    /// Stated and observed, both 0..=1; what is stated rises, what is observed does not fall. Never empty.
    points: Vec<(f32, f32)>,
}

impl Calibration {
    /// Stated and observed confidence, for a rule of this kind ([`RuleKind::name`](crate::RuleKind::name)), learned from so
    /// many events. `None` unless there are points, all in 0..=1, whose stated values rise and whose observed ones do not fall.
    pub fn new(rule: &str, (events, right): (u64, u64), points: Vec<(f32, f32)>) -> Option<Self> {
        let fits = points.iter().all(|(x, y)| (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y));
        let rises = points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        (fits && rises && !points.is_empty()).then(|| Self { rule: rule.into(), events, right, points })
    }

    /// What a stated confidence is worth: straight lines between the points, level beyond them.
    pub fn of(&self, stated: Score) -> Score {
        let x = stated.get();
        let after = self.points.partition_point(|point| point.0 < x);
        let y = match (after.checked_sub(1).map(|at| self.points[at]), self.points.get(after)) {
            (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
            (Some((_, y)), None) | (None, Some(&(_, y))) => y,
            (None, None) => x,
        };
        Score::new(y.clamp(0.0, 1.0)).unwrap_or(stated)
    }

    /// Whether it was learned with a rule of this one's kind.
    pub fn is_of(&self, rule: &Rule) -> bool {
        *self.rule == *rule.kind.name()
    }

    /// Stated and observed.
    pub fn points(&self) -> &[(f32, f32)] {
        &self.points
    }
}

static SITUATION: Shape = Shape {
    name: "calibration",
    keys: &[
        required(
            "rule",
            Kind::Word(&["dwell", "together", "coverage", "count", "cross", "model"]),
            "The kind of rule that it was learned with.",
        ),
        required("events", Kind::Whole(1, 1 << 40), "From so many events."),
        required("right", Kind::Whole(0, 1 << 40), "Of them, so many were true."),
        required(
            "points",
            Kind::List(&Kind::List(&Kind::Number(0.0, 1.0), 2, 2), 1, 256),
            "[stated, observed]: what is stated rises, what is observed does not fall.",
        ),
    ],
};

pub(crate) static FILE: Shape = Shape {
    name: "confidence",
    keys: &[
        required("model", Kind::Id, "Of which model."),
        required("sha256", Kind::Sha256, "Of which file of it."),
        required("measured", Kind::Text(2_000), "How and on what it was measured."),
        required("situations", Kind::Table(&Kind::Map(&SITUATION)), "By situation."),
    ],
};

/// Reads the file beside a card, if there is one. What is wrong with it is reported.
pub(crate) fn read(
    card: &ModelCard,
    report: &mut Report,
    hash: &mut Sha256,
) -> BTreeMap<SituationId, Arc<Calibration>> {
    let path = card.card_path.with_file_name(CALIBRATION_FILE);
    if !path.exists() {
        return BTreeMap::new();
    }
    let number = report.add_file(&path);
    let incomplete = report.incomplete;
    let text = read_text(&path, MAX_FILE, number, report);
    let fields = text.and_then(|text| read_map(&text, number, &FILE, report, hash));
    // It names nothing that others refer to.
    report.incomplete = incomplete;
    let Some(fields) = fields else { return BTreeMap::new() };
    is_of(card, &fields, report);
    let entries = match fields.item("situations").map(|item| &item.value) {
        Some(Value::Table(entries)) => entries.as_slice(),
        _ => &[],
    };
    let path = Dotted::Root.key("situations");
    let one = |entry: &Entry| {
        let calibration = situation(entry, &path.key(&entry.name), report)?;
        Some((SituationId::new(&entry.name).ok()?, Arc::new(calibration)))
    };
    entries.iter().filter_map(one).collect()
}

/// Measured with another model, or another file of it, it says nothing.
fn is_of(card: &ModelCard, fields: &Fields, report: &mut Report) {
    let again = "measure again with huiyan eval --fit-confidence, or delete the file";
    for (key, right) in [("model", card.id.as_str()), ("sha256", card.sha256.as_str())] {
        let Some(item) = fields.item(key) else { continue };
        let Some(text) = item.text().filter(|text| !text.eq_ignore_ascii_case(right)) else { continue };
        let problem = Problem::new(format!("is not the {key} of the card, {right:?}"), again);
        report.add(item.place, &Dotted::Root.key(key), Some(text), problem);
    }
}

fn situation(entry: &Entry, path: &Dotted<'_>, report: &mut Report) -> Option<Calibration> {
    let Value::Map(fields) = &entry.item.value else { return None };
    let (events, right) = (fields.whole("events")?, fields.whole("right")?);
    let list = fields.list("points")?;
    let points: Vec<(f32, f32)> = list.iter().filter_map(pair).collect();
    // Bad numbers are reported where they stand.
    if points.len() < list.len() {
        return None;
    }
    let mut mistake =
        |place: Place, key: &str, problem: Problem| report.add(place, &path.key(key), None, problem);
    if right > events {
        let place = fields.item("right").map_or(entry.place, |item| item.place);
        mistake(
            place,
            "right",
            Problem::new(format!("is more than the {events} events"), "expected no more"),
        );
        return None;
    }
    let calibration = Calibration::new(&fields.text("rule")?, (events, right), points);
    if calibration.is_none() {
        let place = fields.item("points").map_or(entry.place, |item| item.place);
        let expected = "expected [stated, observed] pairs; stated rises, observed does not fall";
        mistake(place, "points", Problem::new("are not in order", expected));
    }
    calibration
}

fn pair(item: &Item) -> Option<(f32, f32)> {
    let Value::List(items) = &item.value else { return None };
    match items[..] {
        [Item { value: Value::Number(x), .. }, Item { value: Value::Number(y), .. }] => {
            Some((x as f32, y as f32))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(calibration: &Calibration, stated: f32) -> f32 {
        calibration.of(Score::new(stated).unwrap()).get()
    }

    #[test]
    fn between_points_it_is_straight_and_beyond_them_level() {
        let calibration =
            Calibration::new("dwell", (10, 9), vec![(0.4, 0.5), (0.6, 0.9), (0.8, 0.9)]).unwrap();
        let close = |stated, worth: f32| assert!((at(&calibration, stated) - worth).abs() < 1e-6, "{stated}");
        for (stated, worth) in [(0.0, 0.5), (0.4, 0.5), (0.5, 0.7), (0.6, 0.9), (0.7, 0.9), (1.0, 0.9)] {
            close(stated, worth);
        }
        let single = Calibration::new("dwell", (10, 9), vec![(0.4, 0.5)]).unwrap();
        assert_eq!((at(&single, 0.0), at(&single, 1.0)), (0.5, 0.5));
    }

    #[test]
    fn what_falls_is_no_calibration() {
        for points in [vec![], vec![(0.4, 0.5), (0.4, 0.6)], vec![(0.4, 0.5), (0.6, 0.4)], vec![(0.4, 1.1)]] {
            assert_eq!(Calibration::new("dwell", (10, 9), points), None);
        }
    }
}
