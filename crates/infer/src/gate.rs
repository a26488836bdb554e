//! The gate: a picture that shows what the last inferred one showed needs no inference.
//!
//! It stands in front of the [`Detector`](crate::Detector) and lets a frame through to it, or answers in its place
//! with the detections of the last inferred frame, marked [`Basis::Unchanged`](flow::Basis). What is parked is thus
//! never lost from view: its state is kept until a look says otherwise.
//!
//! A frame is looked at if it is the camera's first, or the first of a session or a size; if the last look is
//! `refresh` old; if somebody asked ([`Gate::ask`]); if one is still on its way; and if something has changed, in
//! or near a zone, since the last look. Where a look shows other things than the one before, one more frame is looked at,
//! so that what is new was seen twice.
//!
//! Where all rules of a camera are about things that stay for a time that is long against the time between two
//! frames, what only passes is let pass. A change counts at once where a thing was seen that a rule counts; elsewhere it
//! counts when it has come to stay (the following frames show the same, for a thirtieth of that time and at most three of
//! them), or when its place does not come to rest for two frames more.
//!
//! Before the decoder ([`Gate::must_decode`]) the sizes of the coded pictures say whether anything has happened: where they are
//! as usual, the picture is not decoded, and its look is the last one repeated. One is decoded every
//! `decode_at_least_every` in any case.

mod coded;
mod compare;
mod screen;
mod watch;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet::{Camera, RuleKind};
use flow::{AccessUnit, CameraId, ClassName, Counter, Detections, Frame, FrameId, Look, Polygon};

use screen::Reason;
use watch::{Judgement, Scratches, Watch};

/// Refreshes are spread over this share of `refresh`, so that cameras that start together do not all come due together.
const SPREAD: f32 = 0.2;

/// Why a frame is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The camera's first.
    First,
    /// The first of a session.
    Session,
    /// Another size, another view, another exposure.
    Another,
    /// The last look is too old.
    Refresh,
    /// The one after a change.
    Settling,
    /// Somebody asked.
    Asked,
    /// One is still on its way.
    Waiting,
    /// Something changed.
    Changed,
    /// Something changed and stays so.
    Stays,
    /// Where a thing was that a rule counts, something changed.
    Gone,
    /// The camera has no gate.
    Off,
}

/// All reasons, in the order in which they are counted.
const REASONS: [(Why, &str); 11] = [
    (Why::First, "first"),
    (Why::Session, "session"),
    (Why::Another, "another_view"),
    (Why::Refresh, "refresh"),
    (Why::Settling, "settling"),
    (Why::Asked, "asked"),
    (Why::Waiting, "waiting"),
    (Why::Changed, "changed"),
    (Why::Stays, "stays"),
    (Why::Gone, "gone"),
    (Why::Off, "off"),
];

/// What the gate needs to know of a camera.
#[derive(Debug, Clone)]
struct Settings {
    refresh: Duration,
    sensitivity: f32,
    /// A picture is decoded at least this often; `None`: each is.
    decode_every: Option<Duration>,
    /// 0 to 1: the camera's own place in the turn of all.
    phase: f32,
    /// The shortest time for which a thing must stay, where all rules are about things that stay.
    shortest: Option<Duration>,
    /// Classes that count; `None`: all.
    classes: Option<HashSet<ClassName>>,
    zones: Vec<Polygon>,
    ignore: Vec<Polygon>,
}

impl Settings {
    fn of(camera: &Camera) -> Option<Self> {
        let gate = camera.gate?;
        let rules = || camera.zones.iter().flat_map(|zone| &zone.rules);
        let dwells: Option<Vec<_>> = rules()
            .map(|rule| match &rule.kind {
                RuleKind::Dwell(dwell) => Some(dwell),
                _ => None,
            })
            .collect();
        // A digest of the name: the same in every process.
        let digest =
            camera.id.as_str().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte));
        let phase = (digest.wrapping_mul(0x9e37_79b9) >> 8) as f32 / (1 << 24) as f32;
        Some(Self {
            refresh: gate.refresh.mul_f32(1.0 - SPREAD * phase),
            sensitivity: gate.sensitivity,
            decode_every: decode_every(camera, gate.decode_at_least_every),
            phase,
            shortest: dwells.as_ref().and_then(|dwells| dwells.iter().map(|dwell| dwell.at_least).min()),
            classes: dwells
                .map(|dwells| dwells.iter().flat_map(|dwell| dwell.classes.iter().cloned()).collect()),
            zones: camera.zones.iter().filter(|z| !z.rules.is_empty()).map(|z| z.polygon.clone()).collect(),
            ignore: camera.ignore.to_vec(),
        })
    }
}

/// Rules that decide sooner than this are given every look: there are few to spare, and a look late is a large part of
/// their time.
const QUICK: Duration = Duration::from_secs(60);

/// In the shortest time that a rule waits, so many pictures are decoded at least.
const DECODED_PER_WAIT: u32 = 12;

/// The shortest time for which a rule of this camera waits; `None` without rules.
fn shortest_wait(camera: &Camera) -> Option<Duration> {
    let waits = |kind: &RuleKind| match kind {
        RuleKind::Dwell(rule) => rule.at_least,
        RuleKind::Together(rule) => rule.things.at_least,
        RuleKind::Coverage(rule) => rule.at_least,
        RuleKind::Count(rule) => rule.at_least,
        RuleKind::Model(rule) => rule.at_least,
        RuleKind::Cross(_) => Duration::ZERO,
    };
    camera.zones.iter().flat_map(|zone| &zone.rules).map(|rule| waits(&rule.kind)).min()
}

fn has_looks_to_spare(camera: &Camera) -> bool {
    shortest_wait(camera).is_none_or(|shortest| shortest >= QUICK)
}

/// How often a picture is decoded at least; `None`: every one, since a rule learns from each what covers the ground, or the
/// camera turns.
fn decode_every(camera: &Camera, asked: Duration) -> Option<Duration> {
    let rules = || camera.zones.iter().flat_map(|zone| &zone.rules);
    let needs_all =
        rules().any(|rule| matches!(rule.kind, RuleKind::Coverage(_))) || !camera.presets.is_empty();
    let every = shortest_wait(camera).map_or(asked, |shortest| asked.min(shortest / DECODED_PER_WAIT));
    (!needs_all && !every.is_zero()).then_some(every)
}

/// The gate of all cameras. Shared between threads.
#[derive(Default)]
pub struct Gate {
    cameras: HashMap<CameraId, Mutex<Watch>>,
    repeated: Counter,
    decoded: [Counter; screen::REASONS.len()],
    spared: Counter,
    inferred: [Counter; REASONS.len()],
}

/// What becomes of a frame.
#[derive(Debug)]
pub enum Passage {
    /// Give it to the detector.
    Through(Frame),
    /// It needs no inference: this is its look.
    Spared(Look),
}

/// What the gate did so far.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GateNumbers {
    /// Pictures that were not decoded: the last look was repeated.
    pub repeated: u64,
    /// Pictures decoded, by reason.
    pub decoded: Vec<(&'static str, u64)>,
    /// Frames answered without inference.
    pub spared: u64,
    /// Frames let through, by reason.
    pub through: Vec<(&'static str, u64)>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("cameras", &self.cameras.len()).finish_non_exhaustive()
    }
}

impl Gate {
    /// For these cameras; those whose configuration says `gate: off` have none, and neither have cameras not named here,
    /// nor those that have no looks to spare: a rule that decides within a minute needs each of them, and so does one
    /// about things that cross a line.
    pub fn new<'c>(cameras: impl IntoIterator<Item = &'c Arc<Camera>>) -> Self {
        Self::serving_all(cameras.into_iter().filter(|camera| has_looks_to_spare(camera)))
    }

    /// The same, for cameras with quick rules too: to measure what it would spare and lose there.
    pub fn serving_all<'c>(cameras: impl IntoIterator<Item = &'c Arc<Camera>>) -> Self {
        let watch = |camera: &Arc<Camera>| {
            Settings::of(camera).map(|settings| (camera.id.clone(), Mutex::new(Watch::new(settings))))
        };
        Self { cameras: cameras.into_iter().filter_map(watch).collect(), ..Self::default() }
    }

    /// Whether a picture has to be decoded: decides from its size and that of what came before it, in some microseconds. If
    /// not, `repeat` takes the look that stands in its place; where it refuses, the picture is decoded after all.
    ///
    /// Must be asked about every picture of a camera in turn, or about none, and works only where the scenes say what they
    /// have taken ([`Gate::taken`]).
    pub fn must_decode(&self, unit: &AccessUnit, repeat: impl FnOnce(Detections) -> bool) -> bool {
        let Some(mut watch) = self.watch(&unit.camera) else {
            self.count_decoded(Reason::Off);
            return true;
        };
        let why = match watch.screen(unit) {
            Ok(look) => {
                if repeat(look) {
                    self.repeated.add(1);
                    return false;
                }
                Reason::Full
            }
            Err(why) => why,
        };
        self.count_decoded(why);
        watch.decodes(unit);
        true
    }

    /// A scene has taken the look at this frame. `at_ease`: it waits for nothing, so that the same look once more would tell
    /// it nothing but that time goes on.
    pub fn taken(&self, frame: &FrameId, at_ease: bool) {
        if let Some(mut watch) = self.watch(&frame.camera) {
            watch.taken(frame, at_ease);
        }
    }

    /// Decides about a frame. Takes some tenths of a millisecond; never waits for inference.
    pub fn judge(&self, frame: Frame) -> Passage {
        thread_local! {
            static SCRATCH: RefCell<Scratches> = RefCell::default();
        }
        let Some(mut watch) = self.watch(&frame.id.camera) else {
            self.count(Why::Off);
            return Passage::Through(frame);
        };
        let judgement =
            SCRATCH.with_borrow_mut(|scratch| watch.judge(&frame.id, frame.captured, &frame.luma, scratch));
        match judgement {
            Judgement::Infer(why) => {
                self.count(why);
                Passage::Through(frame)
            }
            Judgement::Spare(detections) => {
                self.spared.add(1);
                Passage::Spared(Look { detections, frame })
            }
        }
    }

    /// Must be told of every look that comes out of the detector.
    pub fn looked(&self, look: &Look) {
        if let Some(mut watch) = self.watch(&look.frame.id.camera) {
            watch.looked(&look.detections, &look.frame.luma);
        }
    }

    /// The camera's next frame is looked at.
    pub fn ask(&self, camera: &CameraId) {
        if let Some(mut watch) = self.watch(camera) {
            watch.ask();
        }
    }

    /// What was seen so far no longer counts, for example because another model looks now.
    pub fn forget(&self, of: impl Fn(&CameraId) -> bool) {
        for (_, watch) in self.cameras.iter().filter(|(camera, _)| of(camera)) {
            watch.lock().unwrap_or_else(PoisonError::into_inner).forget();
        }
    }

    /// What it did so far.
    pub fn numbers(&self) -> GateNumbers {
        let through = REASONS.iter().zip(&self.inferred).map(|((_, name), n)| (*name, n.get()));
        let decoded = screen::REASONS.iter().zip(&self.decoded).map(|((_, name), n)| (*name, n.get()));
        GateNumbers {
            repeated: self.repeated.get(),
            decoded: decoded.collect(),
            spared: self.spared.get(),
            through: through.collect(),
        }
    }

    fn watch(&self, camera: &CameraId) -> Option<MutexGuard<'_, Watch>> {
        // A watch is never left half changed.
        self.cameras.get(camera).map(|watch| watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count_decoded(&self, why: Reason) {
        // The table lists the reasons in the order of the enum (tested).
        self.decoded[why as usize].add(1);
    }

    fn count(&self, why: Why) {
        if let Some(index) = REASONS.iter().position(|(reason, _)| *reason == why) {
            self.inferred[index].add(1);
        }
    }
}

#[cfg(test)]
mod screen_tests;
#[cfg(test)]
mod tests;
