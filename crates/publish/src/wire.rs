//! What travels over MQTT: topics and bodies. Everything here is a contract with other people's programs.
//!
//! Rules of change: a field may be added; receivers ignore fields they do not know. A field that changes its
//! meaning, or goes, makes a new event type (`….v2`) and a new topic root.

mod command;
mod event;
mod finite;
mod hex;
mod onvif;
mod shape;
mod status;
mod topic;

pub use command::{LookAnswer, LookCommand, MAX_COMMAND_BYTES, Picture, Verdict, VerdictMessage};
pub use event::{
    CONTENT_TYPE, CameraInfo, Code, ConfirmedBy, EventData, EventMessage, EventType, Evidence,
    EvidenceRecord, LocationInfo, MAX_EVENT_BYTES, ModelInfo, Object, PhaseName, ReadError, Role,
    SituationInfo, Text, Times, peek_event_id,
};
pub use hex::{hex, sha256};
pub(crate) use onvif::{CROSSED, INSIDE, Onvif};
pub use onvif::{OnvifData, OnvifEvent, OnvifSource};
pub use status::{CoverageMessage, HealthMessage, Outcome, Receipt, WorkerState, WorkerStatus};
pub(crate) use topic::ROOT;
pub use topic::{Topic, TopicError};
