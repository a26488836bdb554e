//! Keeps one RTSP session per camera alive.
//!
//! ```text
//!                   Turnstile (whose turn it is, by network, host and log-in)
//!                      |
//! fleet::Camera --> Streamer::run (retries) --> run_once: DESCRIBE SETUP PLAY
//!                                                  |  Source (lean, or retina, or rtspsrc): RTSP, RTP, keep-alive, log-in
//!                                                  v
//!                                    depacketize (RTP --> pictures) --> select (which of them) --> Sink
//! ```
//!
//! [`Ingest::start`] gives every camera a task on the current tokio runtime; there are no other threads. Pictures go
//! to a [`Sink`] that never blocks, a camera's state goes to a [`HealthSink`]. What a camera sends is bounded and
//! never trusted: it can break its own session, nothing else.

mod account;
mod backoff;
mod depacketize;
mod error;
mod fields;
#[doc(hidden)]
pub mod fuzz;
mod health;
mod ingest;
mod jpeg;
mod lean;
mod meter;
mod nal;
mod parameters;
mod picture;
mod policy;
pub mod probe;
mod sdp;
mod sei;
mod select;
mod session;
mod source;
mod sps;
mod streamer;
#[cfg(test)]
mod testing;
mod turns;
mod turnstile;
mod unit;
mod units;
mod watching;

use std::sync::Arc;

use flow::{AccessUnit, Health};

pub use backoff::Backoff;
pub use ingest::Ingest;
pub use policy::Policy;

/// Takes pictures. Called on the runtime's threads, so it must return at once: it takes the picture or refuses it.
pub type Sink = Arc<dyn Fn(AccessUnit) -> Result<(), Overflow> + Send + Sync>;

/// Takes news about cameras: every change of state, and measured rates at most every
/// [`Policy::health_every`]. Must return at once.
pub type HealthSink = Arc<dyn Fn(Health) + Send + Sync>;

/// The next stage has no room. The camera drops to its next key picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the next stage has no room for an access unit")]
pub struct Overflow;
