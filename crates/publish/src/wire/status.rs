//! Bodies other than events: how cameras and workers are, and what became of an event.

use flow::{CameraId, EventId, Timestamp};
use serde::{Deserialize, Serialize};

/// How a camera is doing; retained, the latest counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthMessage {
    /// Whose.
    pub camera: CameraId,
    /// `connecting`, `streaming`, `no_data`, `auth_failed`, `refused`, `unsupported` or `broken`.
    pub state: String,
    /// Why, in words; empty while streaming.
    #[serde(default)]
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Pictures per second as measured, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<f32>,
    /// Seconds between key pictures as measured, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_interval_s: Option<f32>,
    /// The worker that says so.
    pub worker: String,
}

impl HealthMessage {
    /// The message of `worker` about a camera.
    pub fn new(health: &flow::Health, worker: &str) -> Self {
        let detail = match &health.state {
            flow::CameraState::Unsupported(text) | flow::CameraState::Broken(text) => text.as_str(),
            _ => "",
        };
        Self {
            camera: health.camera.clone(),
            state: health.state.name().into(),
            reason: if health.reason.is_empty() { detail.into() } else { health.reason.clone() },
            since: health.since,
            fps: health.fps.filter(|n| n.is_finite()),
            key_interval_s: health.key_interval_s.filter(|n| n.is_finite()),
            worker: worker.into(),
        }
    }
}

/// Whether a worker is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Connected.
    Online,
    /// Stopped, or lost (then the broker says so in its place: the last will).
    Offline,
}

/// A worker's birth and death; retained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Whose.
    pub worker: String,
    /// There or not.
    pub state: WorkerState,
    /// Why it is not there; empty while it is.
    #[serde(default)]
    pub reason: String,
    /// When its process started.
    pub started: Timestamp,
    /// Version of the program.
    pub version: String,
    /// SHA-256 of its configuration.
    pub config_hash: String,
}

/// What became of an event at the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It opened a case or was attached to one.
    Accepted,
    /// This message was there already.
    Duplicate,
    /// It cannot be used; the reason says why.
    Refused,
}

/// The desk's answer to an event message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// About which situation.
    pub event: EventId,
    /// Which of its messages, where that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Number of the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<u64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was decided.
    pub at: Timestamp,
}
