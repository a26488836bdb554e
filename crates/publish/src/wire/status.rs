//! Bodies other than events: how cameras and workers are, and what became of an event.

use std::collections::BTreeMap;

use flow::{CameraId, EventId, Minutes, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{finite, shape};

/// How a camera is doing; retained, the latest counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthMessage {
    /// Whose.
    #[schemars(with = "shape::Id")]
    pub camera: CameraId,
    /// `connecting`, `streaming`, `no_data`, `auth_failed`, `refused`, `unsupported`, `broken`, `frozen`, `dark`,
    /// `losing` or `suspended`.
    pub state: String,
    /// Why, in words; empty while streaming, unless something is to be said about it.
    #[serde(default)]
    pub reason: String,
    /// Since when.
    #[schemars(with = "shape::Time")]
    pub since: Timestamp,
    /// Pictures per second as measured, once known.
    #[serde(default, deserialize_with = "finite::number", skip_serializing_if = "Option::is_none")]
    pub fps: Option<f32>,
    /// Bits of RTP per second as measured, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit_rate: Option<u64>,
    /// Seconds between key pictures as measured, once known.
    #[serde(default, deserialize_with = "finite::number", skip_serializing_if = "Option::is_none")]
    pub key_interval_s: Option<f32>,
    /// Share of the RTP packets that did not arrive lately, in percent, once known.
    #[serde(default, deserialize_with = "finite::number", skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<f32>,
    /// The camera's clock minus the worker's in seconds, where its RTCP tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_s: Option<f64>,
    /// When the last whole picture arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Time>")]
    pub last_picture: Option<Timestamp>,
    /// What receives it: `lean`, `retina` or `rtspsrc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// How it is watched, where that is not simply as configured; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Where its time went since the worker began to watch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<CoverageMessage>,
    /// The worker that says so.
    #[schemars(with = "shape::Id")]
    pub worker: String,
}

/// A camera's time in seconds: the parts by state add up to the whole, but for rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CoverageMessage {
    /// All of it.
    pub total_s: f64,
    /// With pictures that show what is there: `streaming` and `losing`.
    pub watched_s: f64,
    /// By state; those without time are left out.
    pub by_state_s: BTreeMap<String, f64>,
}

impl From<&Minutes> for CoverageMessage {
    fn from(minutes: &Minutes) -> Self {
        // Milliseconds: more digits would be noise.
        let seconds = |time: std::time::Duration| (time.as_secs_f64() * 1e3).round() / 1e3;
        Self {
            total_s: seconds(minutes.total()),
            watched_s: seconds(minutes.watched()),
            by_state_s: minutes.by_state().map(|(state, spent)| (state.into(), seconds(spent))).collect(),
        }
    }
}

impl HealthMessage {
    /// The message of `worker` about a camera, with its time by state where that is known.
    pub fn new(health: &flow::Health, coverage: Option<&Minutes>, worker: &str) -> Self {
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
            bit_rate: health.bit_rate,
            key_interval_s: health.key_interval_s.filter(|n| n.is_finite()),
            loss_percent: health.loss_percent.filter(|n| n.is_finite()),
            clock_offset_s: health.clock_offset_s.filter(|n| n.is_finite()),
            last_picture: health.last_picture,
            via: health.via.map(|via| via.name().into()),
            note: health.note.clone(),
            coverage: coverage.map(CoverageMessage::from),
            worker: worker.into(),
        }
    }
}

/// Whether a worker is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Connected.
    Online,
    /// Stopped, or lost (then the broker says so in its place: the last will).
    Offline,
}

/// A worker's birth and death; retained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerStatus {
    /// Whose.
    #[schemars(with = "shape::Id")]
    pub worker: String,
    /// There or not.
    pub state: WorkerState,
    /// Why it is not there; empty while it is.
    #[serde(default)]
    pub reason: String,
    /// When its process started.
    #[schemars(with = "shape::Time")]
    pub started: Timestamp,
    /// Version of the program.
    pub version: String,
    /// SHA-256 of its configuration.
    #[schemars(with = "shape::Sha256")]
    pub config_hash: String,
}

/// What became of an event at the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// About which situation.
    #[schemars(with = "shape::Event")]
    pub event: EventId,
    /// Which of its messages, where that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Message>")]
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
    #[schemars(with = "shape::Time")]
    pub at: Timestamp,
}
