//! Packets in, pictures out: the values of the depacketizer.

use std::time::Instant;

use bytes::Bytes;
use flow::Timestamp;

/// When something arrived, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub wall: Timestamp,
    pub at: Instant,
}

/// One RTP packet, in order of its sequence number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// RTP timestamp, extended to 64 bits.
    pub ticks: i64,
    pub mark: bool,
    /// Packets missing before this one.
    pub lost: u32,
    pub arrival: Arrival,
    pub payload: &'a [u8],
}

/// One picture of the stream, whole or not.
#[derive(Debug)]
pub(crate) struct Picture {
    pub ticks: i64,
    /// Of its last packet.
    pub arrival: Arrival,
    /// Packets missing since the picture before.
    pub lost_before: u32,
    pub content: Content,
}

/// What is left of a picture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// All of it: an Annex B byte stream, or a JPEG file.
    Coded {
        /// Decoding may start here.
        key: bool,
        /// It can be decoded by itself.
        stands_alone: bool,
        /// H.265 RASL.
        skipped_leading: bool,
        data: Bytes,
    },
    /// It was whole, and not wanted.
    NotKey,
    /// A key picture without the parameter sets that it needs.
    NoParameters,
    /// Not enough to decode.
    Damaged(Damage),
}

/// Why a picture cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("packets of it were lost")]
    Loss,
    #[error("a payload is empty or cut short")]
    Short,
    #[error("a NAL unit header has its forbidden bit set or is of no known kind")]
    Header,
    #[error("a payload structure is not supported (MTAP of interleaved mode, PACI, fields of JPEG)")]
    Structure,
    #[error("NAL units are not sent in decoding order (interleaved mode)")]
    Order,
    #[error("the JPEG's quantization tables are missing or none")]
    Tables,
    #[error("the JPEG's size is neither in RTP nor in the SDP")]
    Size,
    #[error("fragments of a NAL unit do not follow each other")]
    Fragments,
    #[error("the RTP marker stands inside the picture")]
    Marker,
}

/// A picture that grows past the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a picture is larger than {limit} bytes")]
pub(crate) struct TooLarge {
    pub limit: usize,
}
