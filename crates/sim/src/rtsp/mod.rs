//! An RTSP/1.0 server (RFC 2326) that plays clips from memory to any number of sessions, and goes wrong on purpose.
//!
//! ```text
//! Clip --once--> PacketTable (RTP payloads) --shared--> Player (one session's place in it) --> connection
//! ```
//!
//! A session owns a place in a shared table and the numbers of its RTP headers, nothing else; it is one task, with
//! one timer. See the crate's README for what a session costs.

mod auth;
mod connection;
mod extra;
mod fault;
mod host;
mod jpeg;
mod late;
mod mount;
mod packets;
mod play;
mod player;
mod random;
mod request;
mod rtcp;
mod script;
mod sdp;
mod server;

pub use fault::{Fault, KeepAlive, Step};
pub use host::HostStats;
pub use mount::{Auth, Mount, MountError, Scheme, Start, Track};
pub use random::RandomFaults;
pub use server::{Options, PlayRecord, Server, Stats};
