//! RTSP cameras with scripted streets and scripted faults, with ground truth.
//!
//! A picture sequence is encoded once into a [`Clip`] and served to any number of sessions from memory, so a
//! thousand cameras cost little more than the bytes they send.

mod clip;
mod nal;
mod plan;
pub mod rtsp;
pub mod street;

pub use clip::{Clip, ClipError, ClipUnit, Pattern, PatternError};
pub use plan::{Begin, Plan, SimCamera, fleet_yaml};
