//! The NAL units inside packets and pictures: which there are, for a report.

use flow::Codec;

use super::watch::KeyKind;
use crate::nal::{self, Kind, SetKind};
use crate::sei;

/// What a picture is made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub slices: usize,
    /// Set where decoding can start at it.
    pub key: Option<KeyKind>,
}

/// Looks through a picture (Annex B).
pub(crate) fn look(codec: Codec, picture: &[u8]) -> Seen {
    let mut seen = Seen::default();
    if codec == Codec::Mjpeg {
        return Seen { slices: 1, key: Some(KeyKind::Jpeg) };
    }
    let mut recovery = None;
    for unit in nal::split_annex_b(picture) {
        match nal::classify(codec, unit) {
            Some(Kind::Slice(_)) => {
                seen.slices += 1;
                seen.key = seen.key.or(key_kind(codec, nal::nal_type(codec, unit[0])));
            }
            Some(Kind::Sei) => recovery = recovery.or(sei::recovery_point(codec, unit)),
            _ => {}
        }
    }
    if seen.key.is_none() && seen.slices > 0 {
        seen.key = match recovery {
            Some(0) => Some(KeyKind::RecoveryPoint),
            Some(_) => Some(KeyKind::Refresh),
            None => None,
        };
    }
    seen
}

fn key_kind(codec: Codec, nal_type: u8) -> Option<KeyKind> {
    match (codec, nal_type) {
        (Codec::H264, 5) | (Codec::H265, 19 | 20) => Some(KeyKind::Idr),
        (Codec::H265, 16..=18) => Some(KeyKind::Bla),
        (Codec::H265, 21) => Some(KeyKind::Cra),
        _ => None,
    }
}

/// Calls `each` with the units that stand whole in an RTP payload: alone, or aggregated (RFC 6184 5.6 and 5.7.1, RFC
/// 7798 4.4.1 and 4.4.2). Fragments of slices are not wanted, and nothing else is fragmented in practice.
pub(crate) fn in_payload<'a>(codec: Codec, payload: &'a [u8], each: &mut impl FnMut(&'a [u8])) {
    let head = nal::header_len(codec);
    let Some(&first) = payload.first() else { return };
    match (codec, nal::nal_type(codec, first)) {
        (Codec::H264, 24) | (Codec::H265, 48) => {
            let mut rest = payload.get(head..).unwrap_or_default();
            while let Some((length, after)) = rest.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                let Some(unit) = after.get(..length) else { return };
                each(unit);
                rest = &after[length..];
            }
        }
        (Codec::H264, 25..) | (Codec::H265, 49..) | (Codec::Mjpeg, _) => {}
        // A slice can be long, and nobody puts sets behind one; before one, with start codes between, some do.
        (codec, nal_type) if is_slice(codec, nal_type) => {}
        _ => nal::split_annex_b(payload).for_each(each),
    }
}

fn is_slice(codec: Codec, nal_type: u8) -> bool {
    match codec {
        Codec::H264 => matches!(nal_type, 1..=5),
        Codec::H265 => nal_type < 32,
        Codec::Mjpeg => true,
    }
}

/// A parameter set of any kind.
pub(crate) fn is_set(codec: Codec, unit: &[u8]) -> bool {
    matches!(nal::classify(codec, unit), Some(Kind::Parameters(_)))
}

/// A sequence parameter set.
pub(crate) fn is_sps(codec: Codec, unit: &[u8]) -> bool {
    nal::classify(codec, unit) == Some(Kind::Parameters(SetKind::Sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annex_b(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&nal::START_CODE[..], unit].concat()).collect()
    }

    #[test]
    fn pictures_say_where_decoding_can_start() {
        let idr = annex_b(&[&[0x67, 66, 0, 30, 0x96], &[0x65, 0x88, 1], &[0x65, 0x08, 1]]);
        assert_eq!(look(Codec::H264, &idr), Seen { slices: 2, key: Some(KeyKind::Idr) });
        // x264 writes its settings as an SEI of type 5 before the recovery point.
        let settings: &[u8] = &[0x06, 5, 3, 1, 2, 4, 6, 1, 0x84, 0x80];
        let open = annex_b(&[settings, &[0x41, 0x9a, 1]]);
        assert_eq!(look(Codec::H264, &open), Seen { slices: 1, key: Some(KeyKind::RecoveryPoint) });
        let refresh = annex_b(&[&[0x06, 6, 2, 0b0000_1100, 0b1100_0000, 0x80], &[0x41, 0x9a, 1]]);
        assert_eq!(look(Codec::H264, &refresh), Seen { slices: 1, key: Some(KeyKind::Refresh) });
        let plain = annex_b(&[&[0x06, 5, 3, 1, 2, 4, 0x80], &[0x41, 0x9a, 1]]);
        assert_eq!(look(Codec::H264, &plain), Seen { slices: 1, key: None });
        let cra = annex_b(&[&[0x2a, 1, 0xaf, 1]]);
        assert_eq!(look(Codec::H265, &cra), Seen { slices: 1, key: Some(KeyKind::Cra) });
        assert_eq!(look(Codec::H265, &[]), Seen::default());
    }

    #[test]
    fn sets_are_found_alone_and_aggregated_and_never_in_fragments() {
        let sets = |codec, payload: &[u8]| {
            let mut found = 0;
            in_payload(codec, payload, &mut |unit| found += usize::from(is_set(codec, unit)));
            found
        };
        assert_eq!(sets(Codec::H264, &[0x67, 66, 0, 30]), 1);
        assert_eq!(sets(Codec::H264, &[0x78, 0, 3, 0x67, 66, 0, 0, 2, 0x68, 0xce, 0, 2, 0x65, 0x88]), 2);
        assert_eq!(sets(Codec::H264, &[0x67, 66, 0, 30, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65, 0x88]), 2);
        assert_eq!(sets(Codec::H264, &[0x7c, 0x85, 0x67, 66]), 0, "FU-A");
        assert_eq!(sets(Codec::H265, &[0x60, 1, 0, 4, 0x40, 1, 12, 1, 0, 9]), 1, "AP that is cut");
        assert_eq!(sets(Codec::H264, &[]), 0);
    }
}
