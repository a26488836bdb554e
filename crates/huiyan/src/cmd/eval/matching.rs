//! Which event tells of which true situation.
//!
//! An event and a situation belong together when camera and kind are the same, the places overlap and the times overlap. Of
//! all such pairs those that overlap longest are taken first, each event and each situation once. A further event of a
//! situation that has been told is a duplicate, not a false alarm; an event that overlaps no situation is one.

use std::time::Duration;

use flow::{NormBox, Timestamp};

/// Boxes of one place cover at least this share of the smaller of the two.
const SAME_PLACE: f32 = 0.1;

/// A situation that is there.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct True {
    /// On which camera.
    pub camera: String,
    /// Of which kind.
    pub situation: String,
    /// In which zone; `None`: in any.
    pub zone: Option<String>,
    /// Where in the picture; `None`: anywhere in the zone.
    #[serde(rename = "box")]
    pub bbox: Option<[f32; 4]>,
    /// When its first thing stood in place.
    pub from: Timestamp,
    /// When it was over.
    pub to: Timestamp,
    /// For how long it must last before it is to be told.
    #[serde(skip)]
    pub at_least: Duration,
}

/// A situation that was told: all events of one id.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Told {
    /// Its id.
    pub event: String,
    /// On which camera.
    pub camera: String,
    /// Of which kind.
    pub situation: String,
    /// In which zone.
    pub zone: String,
    /// What takes part, in all of its events.
    pub boxes: Vec<[f32; 4]>,
    /// When the things that make it up were first seen.
    pub first_seen: Timestamp,
    /// When it was told.
    pub began: Timestamp,
    /// When it was last seen, or over.
    pub until: Timestamp,
    /// How sure it was said to be when it began, 0..=1.
    pub confidence: f32,
    /// How sure the rule was by itself, where that is not the same.
    pub uncalibrated: Option<f32>,
}

/// What became of each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdicts {
    /// Of every event: the situation that it tells, and whether as the first one.
    pub told: Vec<Verdict>,
    /// Of every situation: the event that tells it.
    pub found: Vec<Option<usize>>,
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It tells this situation.
    Right(usize),
    /// This situation has been told by another.
    Again(usize),
    /// There is nothing of the kind.
    Wrong,
}

/// Judges the events of any number of cameras.
pub fn judge(told: &[Told], truth: &[True]) -> Verdicts {
    let mut pairs = Vec::new();
    for (e, event) in told.iter().enumerate() {
        for (t, there) in truth.iter().enumerate() {
            if let Some(seconds) = overlap(event, there) {
                pairs.push((seconds, e, t));
            }
        }
    }
    // Ties go to the earlier event and situation.
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut verdicts = Verdicts { told: vec![Verdict::Wrong; told.len()], found: vec![None; truth.len()] };
    for &(_, e, t) in &pairs {
        if verdicts.told[e] == Verdict::Wrong && verdicts.found[t].is_none() {
            verdicts.told[e] = Verdict::Right(t);
            verdicts.found[t] = Some(e);
        }
    }
    for &(_, e, t) in &pairs {
        if verdicts.told[e] == Verdict::Wrong {
            verdicts.told[e] = Verdict::Again(t);
        }
    }
    verdicts
}

/// For how many seconds both are there, where they can be the same.
fn overlap(event: &Told, there: &True) -> Option<f64> {
    let same = event.camera == there.camera
        && event.situation == there.situation
        && there.zone.as_ref().is_none_or(|zone| *zone == event.zone)
        && there
            .bbox
            .is_none_or(|place| event.boxes.is_empty() || event.boxes.iter().any(|b| near(*b, place)));
    if !same {
        return None;
    }
    let (from, to) = (event.first_seen.max(there.from), event.until.min(there.to));
    (from < to).then(|| to.duration_since(from).as_secs_f64())
}

fn near(a: [f32; 4], b: [f32; 4]) -> bool {
    let of = |v: [f32; 4]| NormBox::clamped(v[0], v[1], v[2], v[3]);
    let (Some(a), Some(b)) = (of(a), of(b)) else { return false };
    a.intersection(&b) >= SAME_PLACE * a.area().min(b.area())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn there(from: i64, to: i64, x: f32) -> True {
        True {
            camera: "a".into(),
            situation: "s".into(),
            zone: Some("z".into()),
            bbox: Some([x, 0.2, x + 0.2, 0.4]),
            from: at(from),
            to: at(to),
            at_least: Duration::from_secs(60),
        }
    }

    fn told(from: i64, to: i64, x: f32) -> Told {
        Told {
            event: format!("{from}"),
            camera: "a".into(),
            situation: "s".into(),
            zone: "z".into(),
            boxes: vec![[x, 0.2, x + 0.2, 0.4]],
            first_seen: at(from),
            began: at(from + 60),
            until: at(to),
            confidence: 0.9,
            uncalibrated: None,
        }
    }

    #[test]
    fn what_overlaps_in_time_and_place_belongs_together() {
        let truth = [there(0, 500, 0.1), there(600, 900, 0.1), there(0, 500, 0.6)];
        let events = [told(5, 480, 0.12), told(610, 890, 0.1), told(10, 490, 0.62), told(950, 990, 0.1)];
        let verdicts = judge(&events, &truth);
        assert_eq!(verdicts.told, [Verdict::Right(0), Verdict::Right(1), Verdict::Right(2), Verdict::Wrong]);
        assert_eq!(verdicts.found, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_second_event_is_a_duplicate_and_the_longest_is_the_first() {
        let truth = [there(0, 500, 0.1)];
        let verdicts = judge(&[told(400, 490, 0.1), told(5, 390, 0.1)], &truth);
        assert_eq!(verdicts.told, [Verdict::Again(0), Verdict::Right(0)]);
    }

    #[test]
    fn one_event_over_two_situations_leaves_one_of_them_missed() {
        let truth = [there(0, 500, 0.1), there(520, 700, 0.1)];
        let verdicts = judge(&[told(5, 690, 0.1)], &truth);
        assert_eq!(verdicts.found, [Some(0), None]);
    }

    #[test]
    fn another_camera_kind_zone_place_or_time_is_another_matter() {
        let truth = [there(0, 500, 0.1)];
        let right = told(5, 480, 0.1);
        let wrong = [
            Told { camera: "b".into(), ..right.clone() },
            Told { situation: "t".into(), ..right.clone() },
            Told { zone: "y".into(), ..right.clone() },
            Told { boxes: vec![[0.31, 0.2, 0.5, 0.4]], ..right.clone() },
            Told { first_seen: at(500), until: at(600), ..right.clone() },
        ];
        assert!(judge(&wrong, &truth).told.iter().all(|verdict| *verdict == Verdict::Wrong));
        // Where the truth knows no place, the zone is enough; where it knows no zone, the place is.
        let vague = [True { bbox: None, ..there(0, 500, 0.1) }];
        assert_eq!(judge(&[told(5, 480, 0.7)], &vague).told, [Verdict::Right(0)]);
        let vague = [True { zone: None, ..there(0, 500, 0.1) }];
        assert_eq!(judge(&wrong[2..3], &vague).told, [Verdict::Right(0)]);
    }
}
