//! Figures out of verdicts: for each situation, and split by light, weather and whatever else is known of the cameras.

use std::collections::BTreeMap;

use serde::Serialize;

use super::matching::{Told, True, Verdict, Verdicts};

/// Bins of the reliability curve.
const BINS: usize = 10;

/// What is known of a camera that was watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// Its id.
    pub camera: String,
    /// For how long it was watched.
    pub days: f64,
    /// `light` is `night`, `weather` is `rain`, and the like.
    pub tags: Vec<(&'static str, String)>,
}

/// Events, truth and verdicts of some cameras.
#[derive(Debug, Default)]
pub struct Judged {
    /// The cameras.
    pub stretches: Vec<Stretch>,
    /// What is there.
    pub truth: Vec<True>,
    /// What was told.
    pub told: Vec<Told>,
    /// What became of each.
    pub verdicts: Verdicts,
    /// The situations that were watched for, told or not.
    pub situations: Vec<String>,
}

/// One situation's figures. What cannot be said (no event, no situation) is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Share of what was told that is true; duplicates count neither for nor against.
    pub precision: Option<f64>,
    /// Share of what is true that was told.
    pub recall: Option<f64>,
    /// Harmonic mean of the two.
    pub f1: Option<f64>,
    /// Seconds from when a situation was due (it had lasted for its dwell) to when it was told: median ...
    pub onset_p50_s: Option<f64>,
    /// ... and 95th percentile.
    pub onset_p95_s: Option<f64>,
    /// Events told per situation that was told at all: 1 is none too many.
    pub duplicates_per_event: Option<f64>,
    /// False alarms per camera and day.
    pub false_alarms_per_camera_day: Option<f64>,
    /// Over so many.
    pub camera_days: f64,
    /// Situations that are there.
    pub situations: usize,
    /// Of them, found.
    pub found: usize,
    /// Events of nothing.
    pub false_alarms: usize,
    /// Events of what had been told.
    pub duplicates: usize,
}

/// How often what is said to be so sure is true.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// Of the events, from the least sure.
    pub bins: Vec<Bin>,
    /// Mean distance between what is stated and what is observed, over all events (expected calibration error).
    pub expected_calibration_error: Option<f64>,
}

/// Events of about the same confidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Confidence from ...
    pub from: f64,
    /// ... to.
    pub to: f64,
    /// How many.
    pub events: usize,
    /// Their mean confidence.
    pub stated: f64,
    /// Share of them that is true.
    pub observed: f64,
}

impl Judged {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        let (events, situations) = (self.told.len(), self.truth.len());
        self.stretches.extend(other.stretches);
        self.told.extend(other.told);
        self.truth.extend(other.truth);
        self.verdicts.told.extend(other.verdicts.told.into_iter().map(|verdict| match verdict {
            Verdict::Right(t) => Verdict::Right(t + situations),
            Verdict::Again(t) => Verdict::Again(t + situations),
            Verdict::Wrong => Verdict::Wrong,
        }));
        self.verdicts.found.extend(other.verdicts.found.into_iter().map(|e| e.map(|e| e + events)));
        for situation in other.situations {
            if !self.situations.contains(&situation) {
                self.situations.push(situation);
            }
        }
    }

    /// Figures of each situation, on the cameras that `counts` picks.
    pub fn figures(&self, counts: impl Fn(&Stretch) -> bool) -> BTreeMap<String, Figures> {
        let cameras: Vec<&Stretch> = self.stretches.iter().filter(|s| counts(s)).collect();
        let known = |camera: &str| cameras.iter().any(|s| s.camera == camera);
        let days = cameras.iter().map(|s| s.days).sum();
        let of = |situation: &String| {
            let wanted = |camera: &String, kind: &String| kind == situation && known(camera);
            let truth: Vec<_> = self
                .truth
                .iter()
                .zip(&self.verdicts.found)
                .filter(|(t, _)| wanted(&t.camera, &t.situation))
                .collect();
            let told: Vec<_> = self
                .told
                .iter()
                .zip(&self.verdicts.told)
                .filter(|(e, _)| wanted(&e.camera, &e.situation))
                .collect();
            let late = truth.iter().filter_map(|(there, found)| {
                let event = self.told.get((**found)?)?;
                Some(event.began.duration_since(there.from).as_secs_f64() - there.at_least.as_secs_f64())
            });
            let count = |verdict: fn(&Verdict) -> bool| told.iter().filter(|(_, v)| verdict(v)).count();
            let counts = Counts {
                situations: truth.len(),
                found: truth.iter().filter(|(_, found)| found.is_some()).count(),
                wrong: count(|v| *v == Verdict::Wrong),
                again: count(|v| matches!(v, Verdict::Again(_))),
            };
            (situation.clone(), counts.figures(late.collect(), days))
        };
        self.situations.iter().map(of).collect()
    }

    /// The same for each value of each tag: `light`, then `night`, then the situation.
    pub fn split(&self) -> BTreeMap<&'static str, BTreeMap<String, BTreeMap<String, Figures>>> {
        let mut out: BTreeMap<&'static str, BTreeMap<String, _>> = BTreeMap::new();
        for (key, value) in self.stretches.iter().flat_map(|s| &s.tags) {
            let values = out.entry(*key).or_default();
            if !values.contains_key(value) {
                let figures = self.figures(|s| s.tags.iter().any(|(k, v)| k == key && v == value));
                values.insert(value.clone(), figures);
            }
        }
        out
    }

    /// The reliability of what is said of a situation; of all with `None`.
    pub fn reliability(&self, situation: Option<&str>) -> Reliability {
        let mine = self.told_of(situation);
        reliability(mine.map(|(e, right)| (f64::from(e.confidence), right)))
    }

    /// The same of what the rules state by themselves, before that is calibrated.
    pub fn reliability_uncalibrated(&self, situation: Option<&str>) -> Reliability {
        reliability(self.statements(situation))
    }

    /// What the rules state by themselves of a situation, and whether it is true.
    pub fn statements(&self, situation: Option<&str>) -> impl Iterator<Item = (f64, bool)> {
        self.told_of(situation).map(|(e, right)| (f64::from(e.uncalibrated.unwrap_or(e.confidence)), right))
    }

    fn told_of(&self, situation: Option<&str>) -> impl Iterator<Item = (&Told, bool)> {
        let events = self.told.iter().zip(&self.verdicts.told);
        let mine = events.filter(move |(e, _)| situation.is_none_or(|s| s == e.situation));
        mine.map(|(e, verdict)| (e, *verdict != Verdict::Wrong))
    }
}

struct Counts {
    situations: usize,
    found: usize,
    wrong: usize,
    again: usize,
}

impl Counts {
    fn figures(self, mut late: Vec<f64>, camera_days: f64) -> Figures {
        let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
        let precision = share(self.found, self.found + self.wrong);
        let recall = share(self.found, self.situations);
        let f1 = precision.zip(recall).map(|(p, r)| if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 });
        late.sort_by(f64::total_cmp);
        Figures {
            precision,
            recall,
            f1,
            onset_p50_s: percentile(&late, 0.5),
            onset_p95_s: percentile(&late, 0.95),
            duplicates_per_event: share(self.found + self.again, self.found),
            false_alarms_per_camera_day: (camera_days > 0.0).then(|| self.wrong as f64 / camera_days),
            camera_days,
            situations: self.situations,
            found: self.found,
            false_alarms: self.wrong,
            duplicates: self.again,
        }
    }
}

/// Of sorted values, the one that this share of them does not exceed.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The reliability of statements: confidence, and whether it was true.
pub fn reliability(statements: impl Iterator<Item = (f64, bool)>) -> Reliability {
    let mut sums = [(0_usize, 0.0, 0_usize); BINS];
    for (confidence, is_true) in statements {
        let bin = &mut sums[((confidence * BINS as f64) as usize).min(BINS - 1)];
        *bin = (bin.0 + 1, bin.1 + confidence, bin.2 + usize::from(is_true));
    }
    let total: usize = sums.iter().map(|(events, _, _)| events).sum();
    let bins: Vec<Bin> = sums
        .iter()
        .enumerate()
        .filter(|(_, (events, _, _))| *events > 0)
        .map(|(i, &(events, sum, right))| Bin {
            from: i as f64 / BINS as f64,
            to: (i + 1) as f64 / BINS as f64,
            events,
            stated: sum / events as f64,
            observed: right as f64 / events as f64,
        })
        .collect();
    let gap = |bin: &Bin| bin.events as f64 * (bin.stated - bin.observed).abs();
    let error = (total > 0).then(|| bins.iter().map(gap).sum::<f64>() / total as f64);
    Reliability { bins, expected_calibration_error: error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_what_their_names_say() {
        let counts = Counts { situations: 10, found: 8, wrong: 2, again: 1 };
        let figures = counts.figures(vec![9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 4.0);
        assert_eq!((figures.precision, figures.recall), (Some(0.8), Some(0.8)));
        assert!((figures.f1.unwrap() - 0.8).abs() < 1e-12);
        assert_eq!((figures.onset_p50_s, figures.onset_p95_s), (Some(4.0), Some(9.0)));
        assert_eq!(figures.duplicates_per_event, Some(1.125));
        assert_eq!(figures.false_alarms_per_camera_day, Some(0.5));
        let nothing = Counts { situations: 0, found: 0, wrong: 0, again: 0 }.figures(vec![], 2.0);
        assert_eq!((nothing.precision, nothing.recall, nothing.onset_p50_s), (None, None, None));
        assert_eq!(nothing.false_alarms_per_camera_day, Some(0.0));
    }

    #[test]
    fn reliability_compares_what_is_stated_with_what_is_observed() {
        let statements = [(0.95, true), (0.95, true), (0.95, false), (0.95, true), (0.3, false), (0.3, true)];
        let curve = reliability(statements.into_iter());
        let seen: Vec<_> = curve.bins.iter().map(|b| (b.events, b.observed)).collect();
        assert_eq!(seen, [(2, 0.5), (4, 0.75)]);
        assert!((curve.expected_calibration_error.unwrap() - (4.0 * 0.2 + 2.0 * 0.2) / 6.0).abs() < 1e-9);
    }
}
