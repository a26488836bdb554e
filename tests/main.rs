//! The program as its users meet it: the real binary, real RTSP, a real broker. One binary, so that it links once.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says why")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in tests, also in the functions that tests share"
)]

mod bad_input;
mod bench;
mod cameras;
mod confirm;
mod contract;
mod crash;
mod deliver;
mod delivery;
mod demo;
mod diff;
mod eval;
mod evidence;
mod gate;
mod memory;
mod neighbours;
mod pictures;
mod probe;
mod real_video;
mod soak;
mod status;
mod street_model;
mod telemetry;
mod tiles;
mod util;
