//! RTSP cameras with scripted streets and scripted faults, with ground truth.
//!
//! A picture sequence is encoded once into a [`Clip`] and served to any number of sessions from memory, so a
//! thousand cameras cost little more than the bytes they send.

mod clip;

pub use clip::{Clip, ClipUnit};
