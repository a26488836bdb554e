//! What others tell a worker: verdicts of the desk, and requests to look now.

use flow::{CameraId, EventId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Object, shape};

/// No message to a worker comes near; more is refused unread.
pub const MAX_COMMAND_BYTES: usize = 16 * 1024;

/// What a person at the desk decided about a situation; topic `verdict/{event}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictMessage {
    /// Which situation; the topic says the same.
    #[schemars(with = "shape::Event")]
    pub event: EventId,
    /// What was decided.
    pub verdict: Verdict,
    /// Why, in the person's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When.
    #[schemars(with = "shape::Time")]
    pub at: Timestamp,
}

/// A verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is what the event says.
    Confirmed,
    /// It is not, or nobody needs to act: the same thing in the same place is left alone for a while.
    NotAProblem,
    /// The evidence does not tell.
    Unclear,
}

/// The body of a request to look now; topic `command/{camera}/look`. May be empty. Where the answer goes is the message's
/// response topic (MQTT 5), below `huiyan/v1/{site}/reply/`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LookCommand {
    /// Where the answer goes, for clients without response topics (MQTT 3.1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

/// The answer: what the model saw in the first picture after the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LookAnswer {
    /// Which camera.
    #[schemars(with = "shape::Id")]
    pub camera: CameraId,
    /// When the picture was captured; absent where none came in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Time>")]
    pub captured: Option<Timestamp>,
    /// What was seen.
    #[serde(default)]
    pub objects: Vec<Object>,
    /// The situations that last on this camera.
    #[serde(default)]
    #[schemars(with = "Vec<shape::Event>")]
    pub open: Vec<EventId>,
    /// The picture, persons blurred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Picture>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// A picture inside of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Picture {
    /// `image/jpeg`.
    #[schemars(with = "shape::Jpeg")]
    pub media_type: String,
    /// Of the decoded bytes, lower-case hex.
    #[schemars(with = "shape::Sha256")]
    pub sha256: String,
    /// Base64 (RFC 4648 section 4).
    #[schemars(with = "shape::Base64")]
    pub data: String,
}
