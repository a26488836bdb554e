//! `count`, `coverage` and `model`: what is asked of the zone as a whole.

use std::time::Duration;

use fleet::{Rule, RuleKind};
use flow::{ClassName, Detection, Detections, Event, EventId, EventObject, NormBox, Score, Timestamp};

use super::confirm::{Begun, Candidate, around};
use super::{Place, View};
use crate::story::{Seen, Story};

/// Objects that one event lists at most.
const MAX_OBJECTS: usize = 64;
/// Looks without it, in a row, after which the clock starts anew: a detector may miss one.
const RESET_LOOKS: u32 = 2;

/// Since when the condition holds in the zone, and the situation if there is one.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct ZoneClock {
    run: Option<Run>,
    open: Option<Story>,
    /// The first clear look at which an open situation was gone.
    gone_since: Option<Timestamp>,
    /// Situations so far: tells apart those that begin in the same look.
    number: u64,
}

/// A stretch over which the condition holds.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Run {
    since: Timestamp,
    /// Of the time since then, how long nobody looked.
    unwatched: Duration,
    looks: u32,
    hits: u32,
    /// Looks without it since the last hit.
    missed: u32,
    score_sum: f32,
}

/// What one look says about the zone.
enum Reading {
    Holds(Vec<EventObject>, Score),
    /// Below where it begins, not below where it ends.
    Between,
    Released,
    /// Nothing can be said.
    Unclear,
}

impl ZoneClock {
    pub fn open_event(&self) -> Option<EventId> {
        self.open.as_ref().map(Story::id)
    }

    /// What an open situation is told by.
    pub fn story(&self) -> Option<&Story> {
        self.open.as_ref()
    }

    pub fn story_mut(&mut self) -> Option<&mut Story> {
        self.open.as_mut()
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// For how long the condition has held, watched.
    pub fn ran(&self, now: Timestamp) -> Option<Duration> {
        self.run.map(|run| now.duration_since(run.since).unsigned_abs().saturating_sub(run.unwatched))
    }

    /// The desk says that the open situation is no problem. Where it is.
    pub fn dismiss(&mut self, event: EventId) -> Option<Vec<NormBox>> {
        self.open.as_mut().filter(|story| story.id() == event).map(Story::dismiss)
    }

    /// Ends it: the rule no longer applies.
    pub fn end_all(&mut self, rule: &Rule, look: &Detections, events: &mut Vec<Event>) {
        events.extend(self.open.take().map(|mut story| story.end(rule, look.captured, look)));
        (self.run, self.gone_since) = (None, None);
    }

    pub fn look(&mut self, place: &mut Place<'_>, view: &View<'_>, events: &mut Vec<Event>) {
        let reading = read(place, view);
        if let Some(run) = &mut self.run {
            run.unwatched += view.unwatched;
        }
        if let Some(event) = self.follow(place, &reading, view) {
            events.push(event);
        }
        if self.open.is_none() {
            events.extend(self.wait(place, reading, view));
        }
        let stands = self.run.map(|run| run.since);
        place.forget_doubts(|_, since| stands == Some(since));
    }

    /// Carries an open situation on.
    fn follow(&mut self, place: &Place<'_>, reading: &Reading, view: &View<'_>) -> Option<Event> {
        let story = self.open.as_mut()?;
        let now = view.now();
        if story.is_dismissed() {
            let event = story.end(place.rule, now, view.look);
            (self.open, self.run, self.gone_since) = (None, None, None);
            return Some(event);
        }
        match reading {
            Reading::Holds(objects, score) => {
                self.gone_since = None;
                story.update(place.rule, Seen { confidence: *score, objects: objects.clone() }, view.look)
            }
            Reading::Between => {
                self.gone_since = None;
                None
            }
            Reading::Unclear => None,
            Reading::Released => {
                let since = *self.gone_since.get_or_insert(now);
                if now.duration_since(since).unsigned_abs() < place.rule.end_after {
                    return None;
                }
                let event = story.end(place.rule, since, view.look);
                (self.open, self.run, self.gone_since) = (None, None, None);
                Some(event)
            }
        }
    }

    /// Runs the clock; the event, once it has run long enough.
    fn wait(&mut self, place: &mut Place<'_>, reading: Reading, view: &View<'_>) -> Option<Event> {
        let now = view.now();
        let (objects, score) = match reading {
            Reading::Unclear => return None,
            Reading::Between | Reading::Released => {
                if let Some(run) = &mut self.run
                    && !view.repeats()
                {
                    run.looks += 1;
                    run.missed += 1;
                    // A class that flickers is judged by its share, not by single looks.
                    let patient = matches!(place.rule.kind, RuleKind::Model(_));
                    if run.missed >= RESET_LOOKS && (!patient || run.share() < share(place.rule)) {
                        self.run = None;
                    }
                }
                return None;
            }
            Reading::Holds(objects, score) => (objects, score),
        };
        if self.run.is_none() && view.repeats() {
            return None;
        }
        let run = self.run.get_or_insert(Run {
            since: now,
            unwatched: Duration::ZERO,
            looks: 0,
            hits: 0,
            missed: 0,
            score_sum: 0.0,
        });
        if !view.repeats() {
            run.looks += 1;
            run.hits += 1;
            run.missed = 0;
            run.score_sum += score.get();
        }
        let ran = now.duration_since(run.since).unsigned_abs().saturating_sub(run.unwatched);
        if place.counted(ran, now) < at_least(place.rule) || run.hits < 2 || run.share() < share(place.rule) {
            return None;
        }
        let at = objects.first()?.bbox;
        let subject = vec![(0, run.since)];
        if place.is_doubtful(&subject, now) || !place.may_begin(&at, now) {
            return None;
        }
        let all = around(objects.iter().map(|object| &object.bbox)).unwrap_or(at);
        let recurs = place.before(&at, now);
        let mean = run.score_sum / run.hits as f32 * run.share();
        let confidence = Score::new(mean.clamp(0.0, 1.0)).unwrap_or(score);
        let (story, event) = Story::begin(
            &place.key,
            place.rule,
            self.number + 1,
            (run.since, recurs),
            Seen { confidence, objects },
            view.look,
        );
        if place.rule.confirm.is_some() {
            place.ask(Candidate::new(subject, all, Begun::Zone(story), event));
            return None;
        }
        self.open(story);
        Some(event)
    }

    /// It begins.
    pub fn open(&mut self, story: Story) {
        self.number += 1;
        self.open = Some(story);
    }
}

impl Run {
    fn share(&self) -> f32 {
        self.hits as f32 / self.looks.max(1) as f32
    }
}

fn at_least(rule: &Rule) -> Duration {
    match &rule.kind {
        RuleKind::Coverage(rule) => rule.at_least,
        RuleKind::Count(rule) => rule.at_least,
        RuleKind::Model(rule) => rule.at_least,
        RuleKind::Dwell(_) | RuleKind::Together(_) | RuleKind::Cross(_) => Duration::ZERO,
    }
}

/// On which share of the looks it must hold.
fn share(rule: &Rule) -> f32 {
    match &rule.kind {
        RuleKind::Model(rule) => rule.share,
        _ => 0.5,
    }
}

fn read(place: &Place<'_>, view: &View<'_>) -> Reading {
    match &place.rule.kind {
        RuleKind::Count(rule) => {
            let found = found(place, &rule.classes, view);
            let number = found.len() as u32;
            if number >= rule.from {
                holds(&found, view)
            } else if number >= rule.below {
                Reading::Between
            } else {
                Reading::Released
            }
        }
        RuleKind::Model(rule) => {
            let found = found(place, &rule.classes, view);
            if found.is_empty() { Reading::Released } else { holds(&found, view) }
        }
        RuleKind::Coverage(rule) => match view.covered.get(place.zone_index).copied().flatten() {
            None => Reading::Unclear,
            Some(covered) => match covered.around {
                Some(around) if covered.share >= rule.share => {
                    // Twice the share that is asked for is as sure as it gets.
                    let sure = (covered.share / rule.share / 2.0).min(1.0);
                    let Ok(score) = Score::new(sure) else { return Reading::Unclear };
                    let object = EventObject {
                        class: ClassName::new("unknown"),
                        score,
                        bbox: around,
                        track: 0,
                        first_seen: view.now(),
                    };
                    Reading::Holds(vec![object], score)
                }
                Some(_) if covered.share >= rule.share / 2.0 => Reading::Between,
                _ => Reading::Released,
            },
        },
        RuleKind::Dwell(_) | RuleKind::Together(_) | RuleKind::Cross(_) => Reading::Unclear,
    }
}

fn found<'d>(place: &Place<'_>, classes: &[ClassName], view: &View<'d>) -> Vec<&'d Detection> {
    view.detections.iter().filter(|detection| place.counts(classes, detection)).collect()
}

fn holds(found: &[&Detection], view: &View<'_>) -> Reading {
    let best = found.iter().map(|d| d.score).max_by(|a, b| a.get().total_cmp(&b.get()));
    let Some(score) = best else { return Reading::Released };
    let object = |detection: &&Detection| {
        let track = view.tracks.iter().find(|track| track.bbox == detection.bbox);
        EventObject {
            class: detection.class.clone(),
            score: detection.score,
            bbox: detection.bbox,
            track: track.map_or(0, |track| track.id),
            first_seen: track.map_or(view.now(), |track| track.first_seen),
        }
    };
    Reading::Holds(found.iter().take(MAX_OBJECTS).map(object).collect(), score)
}
