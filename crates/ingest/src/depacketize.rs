//! RTP payloads → coded pictures: by NAL units for H.264 and H.265, by JPEG files for Motion JPEG.

use flow::Codec;

use crate::jpeg::Jpegs;
use crate::picture::{Packet, Picture, TooLarge};
use crate::sdp::Format;
use crate::units::Units;

/// Assembles the pictures of one session.
#[derive(Debug)]
pub(crate) enum Depacketizer {
    Units(Box<Units>),
    Jpegs(Box<Jpegs>),
}

impl Depacketizer {
    /// `keys_only`: other pictures come out as [`Content::NotKey`](crate::picture::Content::NotKey). `max_bytes`: of
    /// one picture.
    pub(crate) fn new(codec: Codec, keys_only: bool, max_bytes: usize) -> Self {
        match codec {
            Codec::H264 | Codec::H265 => Self::Units(Box::new(Units::new(codec, keys_only, max_bytes))),
            Codec::Mjpeg => Self::Jpegs(Box::new(Jpegs::new(max_bytes))),
        }
    }

    /// A parameter set that came by another way than RTP (SDP).
    pub(crate) fn add_parameters(&mut self, nal: &[u8]) {
        if let Self::Units(units) = self {
            units.add_parameters(nal);
        }
    }

    /// What the session description says about the payloads.
    pub(crate) fn format(&mut self, format: Format) {
        match self {
            Self::Units(units) => units.numbered(format.numbered),
            Self::Jpegs(jpegs) => jpegs.set_size(format.jpeg_size),
        }
    }

    /// From the next picture on; see [`Self::new`].
    pub(crate) fn keys_only(&mut self, keys_only: bool) {
        if let Self::Units(units) = self {
            units.keys_only(keys_only);
        }
    }

    /// The next finished picture.
    pub(crate) fn pop(&mut self) -> Option<Picture> {
        match self {
            Self::Units(units) => units.pop(),
            Self::Jpegs(jpegs) => jpegs.pop(),
        }
    }

    /// Adds a packet; call [`Self::pop`] until it gives `None` before the next one.
    pub(crate) fn push(&mut self, packet: &Packet<'_>) -> Result<(), TooLarge> {
        match self {
            Self::Units(units) => units.push(packet),
            Self::Jpegs(jpegs) => jpegs.push(packet),
        }
    }
}
