//! How a camera is doing. Any stage may learn something about it; the program merges and publishes it.

use jiff::Timestamp;

use crate::CameraId;

/// What a camera is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CameraState {
    /// Being set up, or waiting before the next try.
    Connecting,
    /// Pictures arrive.
    Streaming,
    /// The session stands, but no picture has come for too long.
    NoData,
    /// The camera wants other credentials.
    AuthFailed,
    /// Nobody listens there, or the camera said no.
    Refused,
    /// It sends something that cannot be used; the text says what.
    Unsupported(String),
    /// It spoke, but not RTSP/RTP as the standards say, or broke off.
    Broken(String),
    /// Pictures arrive and are always the same one: the encoder, or what feeds it, has stopped.
    Frozen,
    /// Pictures arrive and are black: the lens is covered, the sensor is dead, or there is no light at all.
    Dark,
    /// Pictures arrive, and this many percent of the RTP packets do not.
    Losing(u8),
    /// Pictures arrive, but they do not show what the zones were drawn on: the camera has moved, is covered or out of
    /// focus; the text says which.
    Suspended(String),
}

impl CameraState {
    /// The names of all states, in the order of the variants.
    pub const NAMES: [&'static str; 11] = [
        "connecting",
        "streaming",
        "no_data",
        "auth_failed",
        "refused",
        "unsupported",
        "broken",
        "frozen",
        "dark",
        "losing",
        "suspended",
    ];

    /// The name on the wire: one of [`CameraState::NAMES`].
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Place in [`CameraState::NAMES`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Connecting => 0,
            Self::Streaming => 1,
            Self::NoData => 2,
            Self::AuthFailed => 3,
            Self::Refused => 4,
            Self::Unsupported(_) => 5,
            Self::Broken(_) => 6,
            Self::Frozen => 7,
            Self::Dark => 8,
            Self::Losing(_) => 9,
            Self::Suspended(_) => 10,
        }
    }

    /// Pictures come that show what is there: `streaming`, and `losing`, which misses some of them.
    pub fn is_watched(&self) -> bool {
        matches!(self, Self::Streaming | Self::Losing(_))
    }

    /// Pictures come, whatever they show.
    pub fn has_pictures(&self) -> bool {
        matches!(self, Self::Streaming | Self::Losing(_) | Self::Frozen | Self::Dark | Self::Suspended(_))
    }
}

/// What receives a camera's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The program's own receiver for RTP in the RTSP connection.
    Lean,
    /// The RTSP library.
    Retina,
    /// GStreamer's element, for what the others refuse.
    Rtspsrc,
}

impl Via {
    /// The name on the wire: `lean`, `retina`, `rtspsrc`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lean => "lean",
            Self::Retina => "retina",
            Self::Rtspsrc => "rtspsrc",
        }
    }
}

/// How a camera is, as reported by `ingest`: told at every change of state, and while it streams now and then.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Whose.
    pub camera: CameraId,
    /// What it is doing now.
    pub state: CameraState,
    /// Why, in words for the fleet engineer; empty while streaming, unless key pictures come further apart than
    /// the camera's `at_least_every`.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Pictures per second as measured, once known.
    pub fps: Option<f32>,
    /// Bits of RTP per second as measured, all packets of the video, once known.
    pub bit_rate: Option<u64>,
    /// Seconds between key pictures as measured, once known.
    pub key_interval_s: Option<f32>,
    /// Share of the RTP packets that did not arrive, in percent, over the last minute or so, once known.
    pub loss_percent: Option<f32>,
    /// The camera's clock minus ours, from its RTCP sender reports, in seconds: includes the way to us.
    pub clock_offset_s: Option<f64>,
    /// When the last whole picture arrived, in whichever session.
    pub last_picture: Option<Timestamp>,
    /// What receives it, once decided.
    pub via: Option<Via>,
    /// How it is watched, where that is not simply as configured, for example that a smart codec stretches its key
    /// interval and what is done about it. Empty otherwise.
    pub note: String,
}

impl Health {
    /// Of a camera of which nothing has been measured.
    pub fn new(camera: CameraId, state: CameraState, reason: impl Into<String>, since: Timestamp) -> Self {
        Self {
            camera,
            state,
            reason: reason.into(),
            since,
            fps: None,
            bit_rate: None,
            key_interval_s: None,
            loss_percent: None,
            clock_offset_s: None,
            last_picture: None,
            via: None,
            note: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_own_name() {
        let text = String::new;
        let all = [
            CameraState::Connecting,
            CameraState::Streaming,
            CameraState::NoData,
            CameraState::AuthFailed,
            CameraState::Refused,
            CameraState::Unsupported(text()),
            CameraState::Broken(text()),
            CameraState::Frozen,
            CameraState::Dark,
            CameraState::Losing(7),
            CameraState::Suspended(text()),
        ];
        let names: Vec<_> = all.iter().map(CameraState::name).collect();
        assert_eq!(names, CameraState::NAMES);
        assert!(all.iter().all(|state| !state.is_watched() || state.has_pictures()));
    }
}
