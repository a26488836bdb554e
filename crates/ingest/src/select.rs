//! Which pictures are passed on. Pure: times come in with the pictures.

use std::time::{Duration, Instant};

use fleet::{Look, Sampling};
use flow::{Codec, Role};

use crate::picture::{Content, Picture};

/// Why a picture was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Not a key picture, and only key pictures are looked at.
    NotKey,
    /// A key picture, sooner than `at_most_every` allows.
    TooSoon,
    /// Follows a gap; a decoder has to wait for the next key picture.
    AwaitKey,
    /// Parts of it are missing or wrong.
    Damaged,
    /// A key picture whose parameter sets never came.
    NoParameters,
    /// The next stage had no room.
    Overflow,
}

impl Reason {
    pub(crate) const ALL: [Self; 6] =
        [Self::NotKey, Self::TooSoon, Self::AwaitKey, Self::Damaged, Self::NoParameters, Self::Overflow];

    /// The name in the counters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotKey => "not_key",
            Self::TooSoon => "too_soon",
            Self::AwaitKey => "await_key",
            Self::Damaged => "damaged",
            Self::NoParameters => "no_parameters",
            Self::Overflow => "overflow",
        }
    }
}

/// Decides for each picture of one session in turn.
#[derive(Debug)]
pub(crate) enum Selector {
    /// Key pictures only, each by itself.
    Keys(Pacer),
    /// The whole stream from a key picture on.
    All {
        pacer: Pacer,
        /// Nothing can be decoded before the next key picture.
        await_key: bool,
        /// Decoding started at this key picture, so what leans on pictures before it cannot be decoded.
        fresh_start: bool,
    },
}

impl Selector {
    /// `in_full`: although the camera is sampled at its key pictures.
    pub(crate) fn new(look: &Look, codec: Codec, in_full: bool) -> Self {
        // `fps` is the user's own figure for how often to look, so `at_most_every` has nothing to add.
        let pacer = match look.sampling {
            Sampling::Keyframes => Pacer::at_most_every(look.at_most_every),
            Sampling::Fps(fps) => Pacer::frames_per_second(fps),
        };
        // Each JPEG stands alone: there is nothing to decode in full.
        if codec == Codec::Mjpeg || look.sampling == Sampling::Keyframes && !in_full {
            Self::Keys(pacer)
        } else {
            Self::All { pacer, await_key: true, fresh_start: true }
        }
    }

    /// From the next picture on key pictures are enough.
    pub(crate) fn keys_only(&mut self) {
        if let Self::All { pacer, .. } = self {
            *self = Self::Keys(pacer.clone());
        }
    }

    /// Call [`Self::passed`] or [`Self::refused`] after a picture that was to be passed.
    pub(crate) fn decide(&mut self, picture: &Picture) -> Result<Role, Reason> {
        match self {
            Self::Keys(pacer) => match &picture.content {
                Content::Damaged(_) => Err(Reason::Damaged),
                Content::NoParameters => Err(Reason::NoParameters),
                Content::NotKey | Content::Coded { stands_alone: false, .. } => Err(Reason::NotKey),
                Content::Coded { .. } if !pacer.is_due(picture.arrival.at) => Err(Reason::TooSoon),
                Content::Coded { .. } => Ok(Role::Alone),
            },
            Self::All { pacer, await_key, fresh_start } => {
                let (key, skipped_leading) = match &picture.content {
                    Content::Coded { key, skipped_leading, .. } => (*key, *skipped_leading),
                    broken => {
                        *await_key = true;
                        return Err(match broken {
                            Content::NoParameters => Reason::NoParameters,
                            _ => Reason::Damaged,
                        });
                    }
                };
                if key {
                    *fresh_start = std::mem::replace(await_key, false);
                } else if *await_key || picture.lost_before > 0 {
                    *await_key = true;
                    return Err(Reason::AwaitKey);
                } else if *fresh_start && skipped_leading {
                    return Err(Reason::AwaitKey);
                }
                Ok(Role::Chained { deliver: pacer.is_due(picture.arrival.at) })
            }
        }
    }

    /// The picture was taken.
    pub(crate) fn passed(&mut self, at: Instant, role: Role) {
        match self {
            Self::Keys(pacer) => pacer.take(at),
            Self::All { pacer, .. } if role == (Role::Chained { deliver: true }) => pacer.take(at),
            Self::All { .. } => {}
        }
    }

    /// The next stage had no room for it: whatever follows waits for the next key picture.
    pub(crate) fn refused(&mut self) {
        if let Self::All { await_key, .. } = self {
            *await_key = true;
        }
    }
}

/// Lets something happen once per period, on the average and without adding up jitter.
#[derive(Debug, Clone)]
pub(crate) struct Pacer {
    every: Duration,
    /// How much too early still counts as on time.
    tolerance: Duration,
    due: Option<Instant>,
}

impl Pacer {
    /// Key pictures come at an interval of their own, with the jitter of encoder and network: an eighth of the
    /// period, 250 ms at most, is forgiven, or a camera with a 1 s key interval looked at "at most every 1 s"
    /// would lose every picture that comes a millisecond early.
    fn at_most_every(every: Duration) -> Self {
        Self { every, tolerance: (every / 8).min(Duration::from_millis(250)), due: None }
    }

    /// The frame nearest to each point in time: half a period early is as good as half a period late.
    fn frames_per_second(fps: f32) -> Self {
        let every = Duration::try_from_secs_f32(1.0 / fps).unwrap_or(Duration::ZERO);
        Self { every, tolerance: every / 2, due: None }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now + self.tolerance >= due)
    }

    fn take(&mut self, now: Instant) {
        // Keep to the grid while pictures come near it; start a new one after a late picture.
        let grid = match self.due {
            Some(due) if due + self.tolerance >= now => due,
            _ => now,
        };
        self.due = Some(grid + self.every);
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
