//! How a camera is doing. Any stage may learn something about it; the program merges and publishes it.

use jiff::Timestamp;

use crate::CameraId;

/// What a camera is doing, worst news first to be acted upon.
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
}

impl CameraState {
    /// The name on the wire: `connecting`, `streaming`, `no_data`, `auth_failed`, `refused`, `unsupported`, `broken`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::NoData => "no_data",
            Self::AuthFailed => "auth_failed",
            Self::Refused => "refused",
            Self::Unsupported(_) => "unsupported",
            Self::Broken(_) => "broken",
        }
    }
}

/// A change in a camera's health, as reported by `ingest`.
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
    /// Seconds between key pictures as measured, once known.
    pub key_interval_s: Option<f32>,
}
