//! A clip, cut into RTP payloads once and shared by all sessions.
//!
//! H.264 by RFC 6184 (single NAL unit packets and FU-A), H.265 by RFC 7798 (single NAL unit packets and FUs), Motion
//! JPEG by RFC 2435.

use std::ops::Range;
use std::time::Duration;

use flow::Codec;

use super::jpeg;
use crate::Clip;
use crate::nal::{self, NalKind, ParameterSets};

/// Payload bytes per packet at most: fits an Ethernet frame with IPv6, UDP, RTP and a tunnel around it.
pub(super) const MAX_PAYLOAD: usize = 1_400;

/// RFC 3551 gives JPEG a payload type of its own.
pub(super) fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::H264 | Codec::H265 => 96,
        Codec::Mjpeg => 26,
    }
}

/// Whether a payload is a parameter set.
pub(super) fn is_parameter_set(codec: Codec, payload: &[u8]) -> bool {
    matches!(NalKind::of(codec, payload), NalKind::Vps | NalKind::Sps | NalKind::Pps)
}

/// Whether a NAL unit ends with this payload.
pub(super) fn ends_unit(codec: Codec, payload: &[u8]) -> bool {
    match (codec, payload) {
        (Codec::H264, [first, header, ..]) if first & 0x1f == 28 => header & 0x40 != 0,
        (Codec::H265, [first, _, header, ..]) if first >> 1 & 0x3f == 49 => header & 0x40 != 0,
        (Codec::H264 | Codec::H265, _) => true,
        (Codec::Mjpeg, _) => false,
    }
}

/// The header of a NAL unit that decoders throw away (filler data); empty where there is no such thing.
pub(super) fn filler(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::H264 => &[12],
        Codec::H265 => &[38 << 1, 1],
        Codec::Mjpeg => &[],
    }
}

/// One picture of the table.
#[derive(Debug)]
pub(super) struct Unit {
    /// A client can enter here.
    pub(super) key: bool,
    /// Shown at, from the start of the clip.
    pub(super) pts: Duration,
    /// Sent at, from the start of the clip: never before it is shown, as with a live camera.
    pub(super) send: Duration,
    /// Its payloads, see [`PacketTable::payload`].
    pub(super) packets: Range<usize>,
}

/// The payloads of a clip, ready for RTP headers.
#[derive(Debug)]
pub(super) struct PacketTable {
    pub(super) codec: Codec,
    /// How long one round takes.
    pub(super) duration: Duration,
    /// Pictures per second, on average.
    pub(super) fps: f64,
    /// On average.
    pub(super) bits_per_second: f64,
    /// Its pictures in decoding order.
    pub(super) units: Vec<Unit>,
    /// The parameter sets of its first picture, for the SDP.
    pub(super) sets: ParameterSets,
    /// Where each payload ends in `bytes`; it begins where the one before ends.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl PacketTable {
    /// Cuts `clip` up. `None` if it has no pictures, does not start with a key picture with parameter sets, takes no
    /// time, or holds JPEGs that RFC 2435 cannot send.
    pub(super) fn new(clip: &Clip) -> Option<Self> {
        let first = clip.units.first().filter(|first| first.key)?;
        let sets = ParameterSets::of(clip.codec, &first.data);
        if !sets.complete(clip.codec) || clip.duration.is_zero() {
            return None;
        }
        let sends = send_times(clip);
        let mut table = Self {
            codec: clip.codec,
            duration: clip.duration,
            fps: clip.fps(),
            bits_per_second: clip.bits_per_second(),
            units: Vec::with_capacity(sends.len()),
            sets,
            ends: Vec::new(),
            bytes: Vec::new(),
        };
        for (unit, send) in clip.units.iter().zip(sends) {
            let from = table.ends.len();
            table.push_picture(clip.codec, &unit.data)?;
            table.units.push(Unit { key: unit.key, pts: unit.pts, send, packets: from..table.ends.len() });
        }
        table.bytes.shrink_to_fit();
        Some(table)
    }

    /// One payload.
    pub(super) fn payload(&self, packet: usize) -> &[u8] {
        let start = if packet == 0 { 0 } else { self.ends[packet - 1] };
        &self.bytes[start..self.ends[packet]]
    }

    fn push_picture(&mut self, codec: Codec, picture: &[u8]) -> Option<()> {
        if codec == Codec::Mjpeg {
            jpeg::payloads(picture).ok()?.iter().for_each(|payload| self.push(payload));
            return Some(());
        }
        for nal in nal::nals(picture).filter(|nal| NalKind::of(codec, nal) != NalKind::Delimiter) {
            self.push_nal(codec, nal);
        }
        Some(())
    }

    fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    fn push_nal(&mut self, codec: Codec, nal: &[u8]) {
        if nal.len() <= MAX_PAYLOAD {
            return self.push(nal);
        }
        // What stands before each fragment, the last byte being the FU header without its start and end bits.
        let (header, prefix) = match codec {
            Codec::H264 => (1, [nal[0] & 0xe0 | 28, nal[0] & 0x1f].to_vec()),
            Codec::H265 => (2, [nal[0] & 0x81 | 49 << 1, nal[1], nal[0] >> 1 & 0x3f].to_vec()),
            Codec::Mjpeg => return,
        };
        let body = &nal[header..];
        let room = MAX_PAYLOAD - prefix.len();
        let last = body.len().div_ceil(room) - 1;
        for (index, part) in body.chunks(room).enumerate() {
            self.bytes.extend_from_slice(&prefix);
            let fu_header = self.bytes.len() - 1;
            self.bytes[fu_header] |= u8::from(index == 0) << 7 | u8::from(index == last) << 6;
            self.bytes.extend_from_slice(part);
            self.ends.push(self.bytes.len());
        }
    }
}

/// When each picture is sent: in decoding order, at the pace at which pictures are shown, and late enough that none
/// is sent before it is shown.
fn send_times(clip: &Clip) -> Vec<Duration> {
    let mut paced: Vec<Duration> = clip.units.iter().map(|unit| unit.pts).collect();
    paced.sort_unstable();
    let early = |(unit, paced): (&crate::ClipUnit, &Duration)| unit.pts.saturating_sub(*paced);
    let delay = clip.units.iter().zip(&paced).map(early).max().unwrap_or_default();
    paced.into_iter().map(|time| time + delay).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClipUnit;

    fn unit(data: Vec<u8>, key: bool, pts_ms: u64) -> ClipUnit {
        ClipUnit { data: data.into(), key, pts: Duration::from_millis(pts_ms) }
    }

    fn clip(codec: Codec, units: Vec<ClipUnit>) -> Clip {
        let duration = Duration::from_millis(40 * units.len() as u64);
        Clip { codec, width: 16, height: 16, units, duration }
    }

    fn h264_key(slice: usize) -> Vec<u8> {
        let mut data =
            vec![0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 0, 1, 0x68, 4, 0, 0, 1, 0x65];
        data.extend((0..slice).map(|i| i as u8 | 1));
        data
    }

    #[test]
    fn fragments_carry_start_end_and_type_and_add_up_to_the_nal() {
        let table = PacketTable::new(&clip(Codec::H264, vec![unit(h264_key(4_000), true, 0)])).unwrap();
        let payloads: Vec<&[u8]> = table.units[0].packets.clone().map(|i| table.payload(i)).collect();
        assert_eq!(payloads.len(), 5, "SPS, PPS, three fragments; no delimiter");
        assert_eq!(payloads[0], [0x67, 1, 2, 3]);
        assert!(payloads.iter().all(|p| p.len() <= MAX_PAYLOAD));
        assert_eq!(payloads[2][..2], [0x60 | 28, 0x80 | 5]);
        assert_eq!(payloads[3][..2], [0x60 | 28, 5]);
        assert_eq!(payloads[4][..2], [0x60 | 28, 0x40 | 5]);
        let body: Vec<u8> = payloads[2..].iter().flat_map(|p| p[2..].to_vec()).collect();
        assert_eq!(body, (0..4_000).map(|i| i as u8 | 1).collect::<Vec<u8>>());
    }

    #[test]
    fn h265_fragments_keep_layer_and_temporal_id() {
        let mut data =
            vec![0, 0, 1, 32 << 1, 1, 7, 0, 0, 1, 33 << 1, 1, 7, 0, 0, 1, 34 << 1, 1, 7, 0, 0, 1, 19 << 1, 1];
        data.extend(vec![0xaa; 3_000]);
        let table = PacketTable::new(&clip(Codec::H265, vec![unit(data, true, 0)])).unwrap();
        let payloads: Vec<&[u8]> = table.units[0].packets.clone().map(|i| table.payload(i)).collect();
        assert_eq!(payloads.len(), 6);
        assert_eq!(payloads[3][..3], [49 << 1, 1, 0x80 | 19]);
        assert_eq!(payloads[4][..3], [49 << 1, 1, 19]);
        assert_eq!(payloads[5][..3], [49 << 1, 1, 0x40 | 19]);
    }

    #[test]
    fn b_pictures_are_sent_in_order_and_never_before_they_are_shown() {
        let plain = || vec![0, 0, 1, 0x41, 0x9a];
        let units = vec![
            unit(h264_key(10), true, 0),
            unit(plain(), false, 120),
            unit(plain(), false, 40),
            unit(plain(), false, 80),
        ];
        let table = PacketTable::new(&clip(Codec::H264, units)).unwrap();
        assert!(table.units.iter().all(|unit| unit.send >= unit.pts));
        assert!(table.units.windows(2).all(|pair| pair[1].send - pair[0].send == Duration::from_millis(40)));
    }

    #[test]
    fn a_clip_that_no_client_could_enter_is_refused() {
        assert!(PacketTable::new(&clip(Codec::H264, vec![])).is_none());
        assert!(PacketTable::new(&clip(Codec::H264, vec![unit(vec![0, 0, 1, 0x65, 1], true, 0)])).is_none());
        assert!(PacketTable::new(&clip(Codec::H264, vec![unit(h264_key(10), false, 0)])).is_none());
    }
}
