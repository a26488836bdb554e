//! An encoded picture sequence in memory.

mod open;
mod pattern;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use flow::Codec;

pub use pattern::{Pattern, PatternError};

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

impl Clip {
    /// Reads a video file (MP4, MKV or anything else that GStreamer demuxes, with H.264 or H.265 inside) without
    /// re-encoding it. Sound and further video tracks are left out, and so is whatever stands before the first
    /// key picture. Blocks until the file is read.
    ///
    /// # Errors
    /// [`ClipError`] names the file and what would be right.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ClipError> {
        open::open(path.as_ref())
    }

    /// Bytes of all pictures together.
    pub fn bytes(&self) -> usize {
        self.units.iter().map(|unit| unit.data.len()).sum()
    }

    /// Pictures per second, on average over the clip.
    pub fn fps(&self) -> f64 {
        self.units.len() as f64 / self.duration.as_secs_f64().max(1e-9)
    }

    /// Bits per second, on average over the clip.
    pub fn bits_per_second(&self) -> f64 {
        self.bytes() as f64 * 8.0 / self.duration.as_secs_f64().max(1e-9)
    }
}

/// Why a file cannot be a clip.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The file cannot be read at all.
    #[error("{}: cannot be read; expected a video file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// GStreamer, or one of its plugins, is not installed.
    #[error("{}: GStreamer is not usable here ({reason}); install its base, good and bad plugins", path.display())]
    GStreamer {
        /// The file.
        path: PathBuf,
        /// What GStreamer said.
        reason: String,
    },
    /// GStreamer gave up on the file.
    #[error("{}: not readable as video ({reason}); expected an MP4 or MKV file with H.264 or H.265", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What GStreamer said.
        reason: String,
    },
    /// No track that can be served.
    #[error("{}: holds no H.264 or H.265 video (found: {found}); convert it first: ffmpeg -i IN -c:v libx264 OUT.mp4", path.display())]
    NoVideo {
        /// The file.
        path: PathBuf,
        /// The tracks that it does hold.
        found: String,
    },
    /// No picture at which decoding can start.
    #[error("{}: none of its {pictures} pictures is a key picture with parameter sets; re-encode it", path.display())]
    NoKeyPicture {
        /// The file.
        path: PathBuf,
        /// Pictures read.
        pictures: usize,
    },
    /// A picture without time.
    #[error("{}: picture {picture} has no time; put the stream into a container: ffmpeg -r FPS -i IN -c copy OUT.mp4", path.display())]
    NoTime {
        /// The file.
        path: PathBuf,
        /// Which, from 0 in decoding order.
        picture: usize,
    },
    /// More than is kept in memory.
    #[error("{}: holds more than {limit_mib} MiB of video; cut it first: ffmpeg -i IN -t SECONDS -c copy OUT.mp4", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How much is allowed.
        limit_mib: usize,
    },
    /// Nothing came for a long time.
    #[error("{}: gave no picture for {seconds} s while being read; is the disk well?", path.display())]
    Stalled {
        /// The file.
        path: PathBuf,
        /// For how long.
        seconds: u64,
    },
}
