//! An encoded picture sequence in memory.

use std::time::Duration;

use bytes::Bytes;
use flow::Codec;

/// One coded picture of a clip.
#[derive(Debug, Clone)]
pub struct ClipUnit {
    /// Annex B; a key picture carries its parameter sets in front.
    pub data: Bytes,
    /// A random-access picture.
    pub key: bool,
    /// When it is shown, from the start of the clip; in decoding order, so not always growing with B pictures.
    pub pts: Duration,
}

/// An encoded picture sequence, starting with a key picture, that can be played in a loop.
#[derive(Debug, Clone)]
pub struct Clip {
    /// How it is coded.
    pub codec: Codec,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The pictures, in decoding order.
    pub units: Vec<ClipUnit>,
    /// How long one round takes.
    pub duration: Duration,
}
