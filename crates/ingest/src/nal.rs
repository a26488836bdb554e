//! What a NAL unit is, as far as a receiver has to know (H.264 table 7-1, H.265 table 7-1).

use flow::Codec;

use crate::parameters::Bits;

/// Start code with the leading `zero_byte` (H.264 and H.265 annex B).
pub(crate) const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// A kind of NAL unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Part of a coded picture.
    Slice(Slice),
    /// Parameters that slices refer to.
    Parameters(SetKind),
    /// Supplemental enhancement information in front of a picture.
    Sei,
    /// Access unit delimiter: a picture begins. Nothing that a decoder needs.
    Delimiter,
    /// Filler: nothing that a decoder needs.
    Padding,
    /// Anything else, passed on as it is: extensions, end of sequence.
    Other,
}

/// What a slice says about its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    /// IDR (H.264), or IRAP: IDR, CRA, BLA (H.265).
    pub key: bool,
    /// H.264: an I slice, which refers to no other picture.
    pub intra: bool,
    /// H.265 RASL: refers to pictures before the last key picture, so it cannot be decoded when decoding starts there.
    pub skipped_leading: bool,
    /// The slice starts its picture (`first_mb_in_slice` = 0, `first_slice_segment_in_pic_flag`).
    pub first: bool,
}

/// Which parameter set, in the order in which a stream must send them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetKind {
    /// H.265 only.
    Video,
    Sequence,
    Picture,
}

/// Bytes of a NAL unit's header.
pub(crate) fn header_len(codec: Codec) -> usize {
    match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
        Codec::Mjpeg => 0,
    }
}

/// `nal_unit_type`, from the first byte of the header.
pub(crate) fn nal_type(codec: Codec, first: u8) -> u8 {
    match codec {
        Codec::H264 => first & 0x1f,
        Codec::H265 => first >> 1 & 0x3f,
        Codec::Mjpeg => 0,
    }
}

/// Classifies a NAL unit by its header and the bytes after it. `None`: too short to be one, or the forbidden bit is
/// set, or the codec has no NAL units.
pub(crate) fn classify(codec: Codec, nal: &[u8]) -> Option<Kind> {
    let head = *nal.first()?;
    let after = *nal.get(header_len(codec))?;
    if head & 0x80 != 0 {
        return None;
    }
    let first = after & 0x80 != 0;
    let slice = |key, skipped_leading| Kind::Slice(Slice { key, intra: false, skipped_leading, first });
    Some(match (codec, nal_type(codec, head)) {
        (Codec::H264, 1 | 2 | 5) => {
            let key = nal_type(codec, head) == 5;
            Kind::Slice(Slice { key, intra: is_i_slice(&nal[1..]), skipped_leading: false, first })
        }
        (Codec::H264, 3 | 4) => slice(false, false),
        (Codec::H264, 6) => Kind::Sei,
        (Codec::H264, 7) => Kind::Parameters(SetKind::Sequence),
        (Codec::H264, 8) => Kind::Parameters(SetKind::Picture),
        (Codec::H264, 9) => Kind::Delimiter,
        (Codec::H264, 12) => Kind::Padding,
        (Codec::H264, _) => Kind::Other,
        // Enhancement layers (nuh_layer_id > 0, split over both bytes) belong to no picture that we decode.
        (Codec::H265, _) if head & 1 != 0 || nal[1] >> 3 != 0 => Kind::Other,
        (Codec::H265, 8 | 9) => slice(false, true),
        (Codec::H265, 16..=21) => slice(true, false),
        (Codec::H265, 0..=31) => slice(false, false),
        (Codec::H265, 32) => Kind::Parameters(SetKind::Video),
        (Codec::H265, 33) => Kind::Parameters(SetKind::Sequence),
        (Codec::H265, 34) => Kind::Parameters(SetKind::Picture),
        (Codec::H265, 35) => Kind::Delimiter,
        (Codec::H265, 38) => Kind::Padding,
        (Codec::H265, 39) => Kind::Sei,
        (Codec::H265, _) => Kind::Other,
        (Codec::Mjpeg, _) => return None,
    })
}

/// End of sequence and end of bitstream, which are a header and nothing else.
pub(crate) fn is_end(codec: Codec, unit: &[u8]) -> bool {
    let Some(&head) = unit.first() else { return false };
    match codec {
        Codec::H264 => matches!(nal_type(codec, head), 10 | 11),
        Codec::H265 => matches!(nal_type(codec, head), 36 | 37),
        Codec::Mjpeg => false,
    }
}

/// H.264 7.3.3: `first_mb_in_slice`, then `slice_type`, of which 2, 4, 7 and 9 are I and SI slices.
fn is_i_slice(header: &[u8]) -> bool {
    let mut bits = Bits::new(header);
    bits.ue().and_then(|_| bits.ue()).is_some_and(|slice_type| matches!(slice_type, 2 | 4 | 7 | 9))
}

/// Splits at Annex B start codes, which some cameras leave inside an RTP payload. A unit without any comes back
/// whole; trailing zero bytes belong to no unit.
pub(crate) fn split_annex_b(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let data = rest.take()?;
        let end = data.windows(3).position(|w| w == [0, 0, 1]);
        rest = end.map(|at| &data[at + 3..]);
        Some(&data[..end.unwrap_or(data.len())])
    })
    .map(|unit| {
        let end = unit.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        &unit[..end]
    })
    .filter(|unit| !unit.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_of_the_standards() {
        let slice = |key, intra, skipped_leading, first| {
            Some(Kind::Slice(Slice { key, intra, skipped_leading, first }))
        };
        // first_mb 0 (1), slice_type 7 (0001000).
        assert_eq!(classify(Codec::H264, &[0x65, 0x88]), slice(true, true, false, true));
        assert_eq!(classify(Codec::H264, &[0x41, 0x88]), slice(false, true, false, true), "I, but no IDR");
        // first_mb 0, slice_type 5 (00110): P.
        assert_eq!(classify(Codec::H264, &[0x41, 0x9a]), slice(false, false, false, true));
        assert_eq!(classify(Codec::H264, &[0x41, 0x40]), slice(false, false, false, false));
        assert_eq!(classify(Codec::H264, &[0x06, 5]), Some(Kind::Sei));
        assert_eq!(classify(Codec::H264, &[0x67, 0x64]), Some(Kind::Parameters(SetKind::Sequence)));
        assert_eq!(classify(Codec::H264, &[0x09, 0xf0]), Some(Kind::Delimiter));
        assert_eq!(classify(Codec::H265, &[0x26, 0x01, 0xaf]), slice(true, false, false, true), "IDR_W_RADL");
        assert_eq!(classify(Codec::H265, &[0x2a, 0x01, 0xaf]), slice(true, false, false, true), "CRA");
        assert_eq!(classify(Codec::H265, &[0x20, 0x01, 0xaf]), slice(true, false, false, true), "BLA_W_LP");
        assert_eq!(classify(Codec::H265, &[0x12, 0x01, 0x2f]), slice(false, false, true, false), "RASL_R");
        assert_eq!(classify(Codec::H265, &[0x40, 0x01, 0x0c]), Some(Kind::Parameters(SetKind::Video)));
        assert_eq!(classify(Codec::H265, &[0x4e, 0x01, 0x06]), Some(Kind::Sei));
        assert_eq!(classify(Codec::H265, &[0x42, 0x09, 0x0c]), Some(Kind::Other), "layer 1");
        assert_eq!(classify(Codec::H264, &[0xe5, 0x88]), None, "forbidden bit");
        assert_eq!(classify(Codec::H265, &[0x26, 0x01]), None, "header only");
        assert_eq!(classify(Codec::Mjpeg, &[0x26, 0x01]), None);
    }

    #[test]
    fn start_codes_inside_a_payload_separate_units() {
        let units = |data: &'static [u8]| split_annex_b(data).collect::<Vec<_>>();
        assert_eq!(units(&[0x67, 1, 0, 0, 1, 0x68, 2]), [&[0x67, 1][..], &[0x68, 2]]);
        assert_eq!(units(&[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0]), [&[0x67, 1][..], &[0x68, 2]]);
        assert_eq!(units(&[0x06, 5]), [&[0x06, 5][..]]);
        assert!(units(&[0, 0, 0]).is_empty());
    }
}
