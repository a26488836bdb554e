//! The gate before the decoder: whether a coded picture has to be decoded at all.
//!
//! It need not be where nothing asks for it, the last decoded picture has come as far as the camera's scene, the scene
//! waits for nothing, the picture is as large as the others of late, as much came between it and the last one as does
//! usually, and the last decoded one is not too old. The last condition holds whatever the sizes say, so that a
//! camera whose rate control makes them all alike is late by that much at worst, never blind.

use std::time::Duration;

use flow::{AccessUnit, FrameId, Role, SessionId, Timestamp};

use super::coded::{Coded, Unusual};

/// Why a picture is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The camera has no gate, or one whose rules need every picture.
    Off,
    /// Others lean on it.
    Chained,
    /// The first ones of a session, and those after a change of the parameter sets.
    First,
    /// Packets were lost before it.
    Loss,
    /// The model is to look, whatever the picture shows.
    Look,
    /// The last decoded picture is still on its way.
    Waiting,
    /// The scene waits for something.
    Scene,
    /// Something has changed, and whether it stays is to be seen.
    Settling,
    /// Its size is unusual.
    Size,
    /// More or less moved before it than usual.
    Activity,
    /// The last decoded picture is too old.
    Due,
    /// The scenes take no more looks at the moment.
    Full,
}

/// All reasons, in the order of the enum.
pub(super) const REASONS: [(Reason, &str); 12] = [
    (Reason::Off, "off"),
    (Reason::Chained, "chained"),
    (Reason::First, "first"),
    (Reason::Loss, "loss"),
    (Reason::Look, "look"),
    (Reason::Waiting, "waiting"),
    (Reason::Scene, "scene"),
    (Reason::Settling, "settling"),
    (Reason::Size, "size"),
    (Reason::Activity, "activity"),
    (Reason::Due, "due"),
    (Reason::Full, "full"),
];

/// What the camera's watch says.
pub(super) struct Wanted {
    /// The next picture will be looked at in any case.
    pub look: bool,
    /// A change is to be seen again after so much time.
    pub settles_in: Option<Duration>,
    /// How far apart pictures are.
    pub interval: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Decoded {
    session: SessionId,
    sequence: u64,
    captured: Timestamp,
}

/// One camera's.
#[derive(Debug)]
pub(super) struct Screen {
    /// Pictures decoded at least this often; `None`: each.
    every: Option<Duration>,
    /// The same until the next one that is due.
    span: Duration,
    sensitivity: f32,
    coded: Coded,
    session: Option<SessionId>,
    before: Option<Timestamp>,
    /// The last picture that was given to the decoder.
    decoded: Option<Decoded>,
    /// The last one whose look the scene has taken, and whether it waits for nothing.
    taken: Option<(SessionId, u64)>,
    at_ease: bool,
}

impl Screen {
    /// `phase` of 0 to 1: how long after the first pictures one is due for the first time, so that cameras which start
    /// together do not all come due together.
    pub fn new(every: Option<Duration>, phase: f32, sensitivity: f32) -> Self {
        Self {
            every,
            span: every.unwrap_or_default().mul_f32(phase),
            sensitivity,
            coded: Coded::default(),
            session: None,
            before: None,
            decoded: None,
            taken: None,
            at_ease: false,
        }
    }

    /// Why the next picture must be decoded; `None`: its look may be repeated.
    pub fn judge(&mut self, unit: &AccessUnit, wanted: &Wanted) -> Option<Reason> {
        let every = match self.every {
            None => return Some(Reason::Off),
            Some(_) if unit.role != Role::Alone || !unit.key => return Some(Reason::Chained),
            Some(every) => every,
        };
        let new_session = self.session.replace(unit.session) != Some(unit.session);
        if new_session {
            self.coded.forget();
            self.before = None;
        }
        let since = self.before.replace(unit.captured).map(|before| unit.captured.duration_since(before));
        // Clocks that go back say nothing.
        let since = since.and_then(|since| Duration::try_from(since).ok()).map(|since| since.as_secs_f32());
        // Taken in any case: what is usual is learned from all.
        let unusual = self.coded.take(unit, since, self.sensitivity);
        let unusual = unusual.map(|unusual| match unusual {
            Unusual::Unknown | Unusual::Parameters => Reason::First,
            Unusual::Size => Reason::Size,
            Unusual::Activity => Reason::Activity,
        });
        let (Some(decoded), Some(interval), false) = (self.decoded, wanted.interval, new_session) else {
            return Some(Reason::First);
        };
        let Ok(age) = Duration::try_from(unit.captured.duration_since(decoded.captured)) else {
            return Some(Reason::First);
        };
        let has_arrived = self
            .taken
            .is_some_and(|(session, sequence)| session == decoded.session && sequence >= decoded.sequence);
        // The next picture would come too late; a little late is on time.
        let due = |span: Duration| age + interval.mul_f32(0.875) > span;
        let is_due = due(self.span.min(every));
        let reasons = [
            (unusual == Some(Reason::First), Reason::First),
            (unit.lost_before > 0, Reason::Loss),
            (wanted.look, Reason::Look),
            (!has_arrived, Reason::Waiting),
            (!self.at_ease, Reason::Scene),
            (wanted.settles_in.is_some_and(|span| age + interval.mul_f32(0.5) >= span), Reason::Settling),
            (unusual == Some(Reason::Size), Reason::Size),
            (unusual == Some(Reason::Activity), Reason::Activity),
            (is_due, Reason::Due),
        ];
        let why = reasons.iter().find(|(so, _)| *so).map(|(_, why)| *why);
        if why == Some(Reason::Due) {
            self.span = every;
        }
        why
    }

    /// The picture goes to the decoder.
    pub fn decodes(&mut self, unit: &AccessUnit) {
        let AccessUnit { session, sequence, captured, .. } = *unit;
        self.decoded = Some(Decoded { session, sequence, captured });
    }

    /// The scene has taken this picture's look.
    pub fn taken(&mut self, frame: &FrameId, at_ease: bool) {
        self.at_ease = at_ease;
        self.taken = Some((frame.session, frame.sequence));
    }
}
