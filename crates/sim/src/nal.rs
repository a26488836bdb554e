//! Just enough of the H.264 and H.265 byte streams to packetise a clip and to know where it can be entered.

use flow::Codec;

/// What a NAL unit is to a packetiser (ITU-T H.264 table 7-1, H.265 table 7-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NalKind {
    /// H.265 video parameter set.
    Vps,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
    /// A slice of a picture at which decoding can start.
    RandomAccess,
    /// H.265 slice of a leading picture that cannot be decoded when decoding started at its key picture.
    SkippedLeading,
    /// Any other slice.
    Slice,
    /// Supplemental enhancement information.
    Sei,
    /// Says only that a picture starts; RTP has the marker bit for that.
    Delimiter,
    /// Anything else.
    Other,
}

impl NalKind {
    /// Reads the NAL unit header. An empty `nal` is [`NalKind::Other`].
    pub(crate) fn of(codec: Codec, nal: &[u8]) -> Self {
        let Some(&first) = nal.first() else { return Self::Other };
        match codec {
            Codec::H264 => match first & 0x1f {
                1..=4 => Self::Slice,
                5 => Self::RandomAccess,
                6 => Self::Sei,
                7 => Self::Sps,
                8 => Self::Pps,
                9 => Self::Delimiter,
                _ => Self::Other,
            },
            Codec::H265 => match (first >> 1) & 0x3f {
                8 | 9 => Self::SkippedLeading,
                0..=7 => Self::Slice,
                16..=23 => Self::RandomAccess,
                32 => Self::Vps,
                33 => Self::Sps,
                34 => Self::Pps,
                35 => Self::Delimiter,
                39 => Self::Sei,
                _ => Self::Other,
            },
            Codec::Mjpeg => Self::Other,
        }
    }
}

/// The NAL units of an Annex B byte stream, without start codes and trailing zeros.
pub(crate) fn nals(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(stream);
    std::iter::from_fn(move || {
        let current = rest?;
        let end = find_start_code(current).unwrap_or(current.len());
        rest = after_start_code(&current[end..]);
        let nal = &current[..end];
        let used = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(&nal[..used])
    })
    .filter(|nal| !nal.is_empty())
}

/// Where the next `00 00 01` begins.
fn find_start_code(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    while at < bytes.len() {
        match bytes[at] {
            0 => at += 1,
            1 if bytes[at - 1] == 0 && bytes[at - 2] == 0 => return Some(at - 2),
            // Neither 0 nor 1 can be part of a start code: the next possible end is three bytes on.
            1 => at += 1,
            _ => at += 3,
        }
    }
    None
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    find_start_code(bytes).map(|at| &bytes[at + 3..])
}

/// Whether decoding can start at this access unit: an IDR, CRA or BLA picture, or in H.264 a picture whose recovery
/// point SEI (D.1.8) says that it recovers at once, which is how encoders mark the start of an open GOP.
pub(crate) fn is_random_access(codec: Codec, access_unit: &[u8]) -> bool {
    if codec == Codec::Mjpeg {
        return true;
    }
    nals(access_unit).any(|nal| match NalKind::of(codec, nal) {
        NalKind::RandomAccess => true,
        NalKind::Sei => codec == Codec::H264 && recovers_at_once(&nal[1..]),
        _ => false,
    })
}

/// Whether an H.264 SEI holds a recovery point with `recovery_frame_cnt` 0 (its `ue(v)` is then the single bit 1).
fn recovers_at_once(sei: &[u8]) -> bool {
    let mut rest = sei;
    while rest.len() > 2 {
        let Some((kind, after)) = sei_number(rest) else { return false };
        let Some((size, body)) = sei_number(after) else { return false };
        if kind == 6 {
            return body.first().is_some_and(|byte| byte & 0x80 != 0);
        }
        let Some(next) = body.get(size..) else { return false };
        rest = next;
    }
    false
}

/// Numbers in an SEI header are sums of bytes, as long as they are 255 (H.264 7.3.2.3.1).
fn sei_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let full = bytes.iter().take_while(|&&byte| byte == 0xff).count();
    let last = usize::from(*bytes.get(full)?);
    Some((full * 255 + last, &bytes[full + 1..]))
}

/// The parameter sets found in an access unit, in the order VPS, SPS, PPS; the first of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ParameterSets {
    pub(crate) vps: Option<Vec<u8>>,
    pub(crate) sps: Option<Vec<u8>>,
    pub(crate) pps: Option<Vec<u8>>,
}

impl ParameterSets {
    pub(crate) fn of(codec: Codec, access_unit: &[u8]) -> Self {
        let mut sets = Self::default();
        for nal in nals(access_unit) {
            let slot = match NalKind::of(codec, nal) {
                NalKind::Vps => &mut sets.vps,
                NalKind::Sps => &mut sets.sps,
                NalKind::Pps => &mut sets.pps,
                _ => continue,
            };
            slot.get_or_insert_with(|| nal.to_vec());
        }
        sets
    }

    /// Whether a decoder has all that it needs.
    pub(crate) fn complete(&self, codec: Codec) -> bool {
        match codec {
            Codec::H264 => self.sps.is_some() && self.pps.is_some(),
            Codec::H265 => self.sps.is_some() && self.pps.is_some() && self.vps.is_some(),
            Codec::Mjpeg => true,
        }
    }

    /// All of them, as a byte stream.
    pub(crate) fn annex_b(&self) -> Vec<u8> {
        let sets = [&self.vps, &self.sps, &self.pps];
        sets.into_iter().flatten().flat_map(|set| [&[0, 0, 0, 1], set.as_slice()].concat()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_a_byte_stream_with_long_and_short_start_codes() {
        let stream = [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 0, 0, 3, 1, 9, 0, 0];
        let found: Vec<&[u8]> = nals(&stream).collect();
        assert_eq!(found, [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 0, 0, 3, 1, 9]]);
        assert_eq!(nals(&[]).count(), 0);
        assert_eq!(nals(&[0, 0, 1]).count(), 0);
        assert_eq!(nals(&[7; 40]).count(), 0);
    }

    #[test]
    fn finds_every_start_code_wherever_it_lies() {
        for at in 0..40 {
            let mut bytes = vec![5u8; 48];
            bytes[at..at + 3].copy_from_slice(&[0, 0, 1]);
            assert_eq!(find_start_code(&bytes), Some(at));
        }
        assert_eq!(find_start_code(&[0, 1, 0, 1, 1, 0, 0, 0, 1]), Some(6));
    }

    #[test]
    fn random_access_is_idr_irap_or_an_immediate_recovery_point() {
        let idr = [0, 0, 1, 0x65, 0x88];
        let plain = [0, 0, 1, 0x41, 0x9a];
        let open_gop = [0, 0, 1, 0x06, 0x06, 0x01, 0xc4, 0x80, 0, 0, 1, 0x41, 0x9a];
        let gradual = [0, 0, 1, 0x06, 0x06, 0x01, 0x24, 0x80, 0, 0, 1, 0x41, 0x9a];
        let after_user_data = [0, 0, 1, 0x06, 0x05, 0x01, 0xaa, 0x06, 0x01, 0xc4, 0x80, 0, 0, 1, 0x41];
        assert!(is_random_access(Codec::H264, &idr));
        assert!(!is_random_access(Codec::H264, &plain));
        assert!(is_random_access(Codec::H264, &open_gop));
        assert!(!is_random_access(Codec::H264, &gradual), "intra refresh takes many pictures");
        assert!(is_random_access(Codec::H264, &after_user_data));
        assert!(is_random_access(Codec::H265, &[0, 0, 1, 21 << 1, 1]), "CRA");
        assert!(!is_random_access(Codec::H265, &[0, 0, 1, 1 << 1, 1]));
    }
}
