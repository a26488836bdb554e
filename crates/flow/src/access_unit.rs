//! `ingest` → `decode`.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{CameraId, SessionId};

/// How the picture is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
    /// Motion JPEG: each picture is a JPEG file by itself (RFC 2435 over RTP).
    Mjpeg,
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Mjpeg => "Motion JPEG",
        })
    }
}

/// The camera's own clock: ticks since the session's first picture. May jump; order by `sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaTime {
    /// Ticks since the start of the session.
    pub ticks: i64,
    /// Ticks per second, > 0 (90,000 for video, RFC 6184 section 5.1).
    pub clock_rate: u32,
}

/// What a decoder must do with an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A random-access picture of a camera that is sampled at key frames: decode it by itself, then forget it.
    Alone,
    /// One picture of a stream that is decoded in full: keep the references.
    Chained {
        /// Whether the picture is wanted, or only needed as a reference.
        deliver: bool,
    },
}

/// One coded picture of one camera.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// Whose.
    pub camera: CameraId,
    /// In which session.
    pub session: SessionId,
    /// Counts the session's pictures received, from 0, also those that were not passed on.
    pub sequence: u64,
    /// How it is coded.
    pub codec: Codec,
    /// The camera's time.
    pub media_time: MediaTime,
    /// When its last packet arrived.
    pub captured: Timestamp,
    /// A random-access picture: IDR, IRAP, an H.264 intra picture that stands alone, a JPEG. In a stream that is decoded
    /// in full also a recovery point (SEI), whose first pictures are not whole yet.
    pub key: bool,
    /// What to do with it.
    pub role: Role,
    /// RTP packets lost since the access unit before this one.
    pub lost_before: u32,
    /// Bytes of the pictures between that one and this one, which were not passed on; 0 where there are none, or nobody
    /// counted. Tells how much moved meanwhile.
    pub bytes_between: u64,
    /// Annex B byte stream (ITU-T H.264 annex B, H.265 annex B); a key picture carries its parameter sets in front.
    /// Motion JPEG: a JFIF file.
    pub data: Bytes,
}
