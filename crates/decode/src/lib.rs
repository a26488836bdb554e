//! Coded pictures to pixels, through a fixed pool of decoders.
//!
//! ```text
//!                        +- worker 0: decoders (H.264, H.265) ------------+
//! offer(AccessUnit) ---->|            chained decoders, one per camera    |----> output(Frame)
//!                        +- worker 1: ... --------------------------------+
//! ```
//!
//! A picture that stands alone ([`flow::Role::Alone`]) goes to whichever worker is free next and leaves no trace
//! there, so that a few decoders serve thousands of cameras. A picture of a stream that is decoded in full
//! ([`flow::Role::Chained`]) goes to the worker that its camera's name chooses, which keeps the references.
//!
//! Threads do not grow with cameras: each worker is one thread, and each GStreamer decoder that it owns (at most
//! 6 for pictures that stand alone, one per codec and size, and [`PoolOptions::max_chained`] more) has one
//! streaming thread: at most `threads × (7 + max_chained)` in all. A worker waits for its decoder, so at most
//! `threads` of them are busy at once.
//!
//! Everything that goes in is accounted for: [`Pool::counters`] gives received, passed and dropped by reason.

mod alone;
mod backend;
mod chained;
mod counters;
mod cuda;
mod decoder;
mod device;
mod fault;
mod jpeg;
mod nal;
mod picture;
mod pool;
mod renumber;
#[cfg(test)]
mod testing;
mod trouble;
mod worker;

pub use backend::Backend;
pub use fault::{DecodeError, Fault};
pub use pool::{Full, Masks, Pool, PoolOptions, masks_of};
