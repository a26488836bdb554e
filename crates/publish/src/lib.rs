//! Events to MQTT 5, at least once; owns the wire format.
//!
//! ```text
//! Event + picture -> evidence (blurred JPEG) -> outbox (SQLite, one transaction) -> link (QoS 1) ==> broker
//!                                                       ^--------- PUBACK deletes the row ----------'
//! ```
//!
//! [`Publisher::submit`] returns once the event is on disk. From there a background task carries it to the broker,
//! over as many connections, broker restarts and process restarts as it takes; a message may therefore arrive
//! twice, always with the same CloudEvents id, and the receiver keeps the first (the desk shows how).
//!
//! What is on the wire, and in which topic, is described by the types of [`wire`]; the files in `testdata/` are
//! the same as examples for integrators, and the tests hold the two together.

pub mod contract;
mod ear;
pub mod evidence;
#[doc(hidden)]
pub mod fuzz;
mod link;
mod message;
mod metrics;
pub mod mqtt;
mod outbox;
mod publisher;
pub mod wire;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use ear::{Ear, EarCounters, Heard, HeardError, OnHeard, ReplyTo, read as read_heard};
pub use evidence::{Blur, EvidenceError, Jpeg};
pub use metrics::{BOUNDS_MS, Delivered, Histogram, Metrics};
pub use mqtt::backoff;
pub use outbox::{
    Depth, HELD_BYTES, HELD_EVENTS, Outbox, OutboxError, Retention, Salvage, SceneState, Trouble, TroubleKind,
};
pub use publisher::{
    EvidenceNumbers, EvidenceOptions, Link, Options, Publisher, StartError, State, StoreNumbers, Stored,
    SubmitError, Submitted,
};
pub use wire::ModelInfo;
