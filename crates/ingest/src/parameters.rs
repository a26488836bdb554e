//! The parameter sets of a stream: out of the SDP, out of the stream itself, changing at any time.
//!
//! They are kept by kind and number, because a stream may use several of a kind (H.264 allows 32 SPS and 256 PPS),
//! so that a key picture can be given all that it may refer to.

use flow::Codec;

use crate::nal::{self, SetKind};
use crate::sps::{self, SliceLayout};

/// All sets together; a real stream has some hundred bytes of them.
const MAX_BYTES: usize = 64 * 1024;

/// The sets in force, ordered by kind and number.
#[derive(Debug)]
pub(crate) struct ParameterSets {
    codec: Codec,
    sets: Vec<Set>,
}

#[derive(Debug)]
struct Set {
    kind: SetKind,
    number: u32,
    nal: Box<[u8]>,
    /// Of an H.264 SPS.
    layout: Option<SliceLayout>,
    /// Of an H.264 PPS: the number of the SPS that it names.
    names: Option<u32>,
}

impl ParameterSets {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, sets: Vec::new() }
    }

    /// Keeps a set in place of the one with its kind and number. `false`: it is none, or there is no room for it.
    pub(crate) fn insert(&mut self, kind: SetKind, nal: &[u8]) -> bool {
        let Some(number) = number(self.codec, kind, nal) else { return false };
        let place = self.sets.binary_search_by_key(&(kind, number), |s| (s.kind, s.number));
        if let Ok(at) = place
            && *self.sets[at].nal == *nal
        {
            return true;
        }
        let replaced = place.map_or(0, |at| self.sets[at].nal.len());
        let bytes: usize = self.sets.iter().map(|s| s.nal.len()).sum();
        if bytes - replaced + nal.len() > MAX_BYTES {
            return false;
        }
        let h264 = self.codec == Codec::H264;
        let layout = (h264 && kind == SetKind::Sequence).then(|| sps::slice_layout(nal)).flatten();
        let names = (h264 && kind == SetKind::Picture).then(|| named_by_pps(nal)).flatten();
        let set = Set { kind, number, nal: nal.into(), layout, names };
        match place {
            Ok(at) => self.sets[at] = set,
            Err(at) => self.sets.insert(at, set),
        }
        true
    }

    /// There is one of each kind, so a key picture can be decoded.
    pub(crate) fn complete(&self) -> bool {
        let has = |kind| self.sets.iter().any(|s| s.kind == kind);
        has(SetKind::Sequence) && has(SetKind::Picture) && (self.codec == Codec::H264 || has(SetKind::Video))
    }

    /// Which field of which frame an H.264 slice belongs to; `None` for slices of frames, and where the sets that it
    /// names are not there (H.264 7.3.3).
    pub(crate) fn field(&self, slice: &[u8]) -> Option<Field> {
        let find = |kind, number| self.sets.iter().find(|s| s.kind == kind && s.number == number);
        // Three numbers of 35 bits at most, and 16 + 2 + 2 bits.
        let rbsp = rbsp_start(slice.get(1..)?, 24);
        let mut bits = Bits::new(&rbsp);
        bits.ue()?; // first_mb_in_slice
        bits.ue()?; // slice_type
        let pps = find(SetKind::Picture, bits.ue()?)?;
        let layout = find(SetKind::Sequence, pps.names?)?.layout.filter(|layout| !layout.frames_only)?;
        if layout.separate_planes {
            bits.skip(2)?; // colour_plane_id
        }
        let frame_num = bits.read(layout.frame_num_bits)?;
        let is_field = bits.bit()? == 1;
        let bottom = is_field && bits.bit()? == 1;
        is_field.then_some(Field { frame_num, bottom })
    }

    /// An H.264 stream that may be coded in fields.
    pub(crate) fn may_have_fields(&self) -> bool {
        self.sets.iter().any(|set| set.layout.is_some_and(|layout| !layout.frames_only))
    }

    /// All of them as a byte stream, in the order in which a decoder must see them.
    pub(crate) fn annex_b(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.sets.iter().map(|s| s.nal.len() + 4).sum());
        for set in &self.sets {
            out.extend_from_slice(&nal::START_CODE);
            out.extend_from_slice(&set.nal);
        }
        out
    }
}

/// One of the two fields of an interlaced frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    frame_num: u32,
    bottom: bool,
}

impl Field {
    /// The two are one frame (H.264 3.30, complementary field pair).
    pub(crate) fn completes(self, other: Self) -> bool {
        self.frame_num == other.frame_num && self.bottom != other.bottom
    }
}

/// `pic_parameter_set_id`, then `seq_parameter_set_id` (H.264 7.3.2.2).
fn named_by_pps(nal: &[u8]) -> Option<u32> {
    let rbsp = rbsp_start(nal.get(1..)?, 16);
    let mut bits = Bits::new(&rbsp);
    bits.ue()?;
    bits.ue()
}

/// The set's own number (`seq_parameter_set_id` and its like), or `None` where it has none that is allowed.
fn number(codec: Codec, kind: SetKind, nal: &[u8]) -> Option<u32> {
    // An H.265 SPS with seven sub-layers has its number behind 12 + 2 + 7 × 12 bytes.
    let rbsp = rbsp_start(nal.get(nal::header_len(codec)..)?, 128);
    let mut bits = Bits::new(&rbsp);
    let (number, limit) = match (codec, kind) {
        (Codec::H264, SetKind::Sequence) => {
            bits.skip(24)?; // profile_idc, constraint flags, level_idc
            (bits.ue()?, 31)
        }
        (Codec::H264, SetKind::Picture) => (bits.ue()?, 255),
        (Codec::H264, SetKind::Video) => return None,
        (Codec::H265, SetKind::Video) => (bits.read(4)?, 15),
        (Codec::H265, SetKind::Sequence) => {
            bits.skip(4)?; // sps_video_parameter_set_id
            let sub_layers = bits.read(3)?;
            bits.skip(1)?; // sps_temporal_id_nesting_flag
            bits.skip_profile_tier_level(sub_layers)?;
            (bits.ue()?, 15)
        }
        (Codec::H265, SetKind::Picture) => (bits.ue()?, 63),
        (Codec::Mjpeg, _) => return None,
    };
    (number <= limit).then_some(number)
}

/// The first `enough` bytes of the payload, or a few more, without emulation prevention (H.264 7.3.1).
pub(crate) fn rbsp_start(payload: &[u8], enough: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(enough.min(payload.len()));
    let mut zeros = 0;
    for &byte in payload.iter().take(enough + enough / 2) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Bits of profile, tier and constraints in H.265 7.3.3.
const PROFILE: usize = 88;
/// Bits of the level there.
const LEVEL: usize = 8;

/// Reads bits, most significant first; `None` at the end.
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    pub(crate) fn bit(&mut self) -> Option<u32> {
        let byte = *self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    pub(crate) fn read(&mut self, n: u32) -> Option<u32> {
        (0..n).try_fold(0, |value, _| Some(value << 1 | self.bit()?))
    }

    pub(crate) fn skip(&mut self, n: usize) -> Option<()> {
        self.at += n;
        (self.at <= self.data.len() * 8).then_some(())
    }

    /// Exp-Golomb (H.264 9.1), up to 16 leading zeros: no number that is read here needs more.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 16 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.read(zeros)?)
    }

    /// H.265 7.3.3, `profilePresentFlag` = 1.
    pub(crate) fn skip_profile_tier_level(&mut self, max_sub_layers_minus1: u32) -> Option<()> {
        self.skip(PROFILE + LEVEL)?;
        self.skip_sub_layers(max_sub_layers_minus1)
    }

    /// The rest of it, behind `general_level_idc`.
    pub(crate) fn skip_sub_layers(&mut self, max_sub_layers_minus1: u32) -> Option<()> {
        let mut present = Vec::new();
        for _ in 0..max_sub_layers_minus1 {
            present.push((self.bit()? == 1, self.bit()? == 1));
        }
        if max_sub_layers_minus1 > 0 {
            self.skip(2 * (8 - max_sub_layers_minus1 as usize))?;
        }
        for (profile, level) in present {
            self.skip(if profile { PROFILE } else { 0 } + if level { LEVEL } else { 0 })?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Baseline 3.0, number 0 (first bit after the level is 1) and number 1 (010).
    const SPS0: &[u8] = &[0x67, 66, 0, 30, 0x96, 0x54];
    const SPS1: &[u8] = &[0x67, 66, 0, 30, 0x4b, 0x2a];
    const PPS0: &[u8] = &[0x68, 0xce, 0x38, 0x80];
    const PPS1: &[u8] = &[0x68, 0x5b, 0x20];
    // x265, 320x180.
    const HEVC_SPS: &[u8] =
        &[0x42, 0x01, 0x01, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 0x08, 0x05];

    #[test]
    fn numbers_are_read_behind_profile_and_level() {
        assert_eq!(number(Codec::H264, SetKind::Sequence, SPS0), Some(0));
        assert_eq!(number(Codec::H264, SetKind::Sequence, SPS1), Some(1));
        assert_eq!(number(Codec::H264, SetKind::Picture, PPS1), Some(1));
        assert_eq!(
            number(Codec::H265, SetKind::Sequence, HEVC_SPS),
            Some(0),
            "behind three prevention bytes"
        );
        assert_eq!(number(Codec::H264, SetKind::Sequence, &[0x67, 66]), None);
        assert_eq!(number(Codec::H264, SetKind::Sequence, &[0x67, 66, 0, 30, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_set_replaces_the_one_with_its_number_only() {
        let mut sets = ParameterSets::new(Codec::H264);
        assert!(!sets.complete());
        for (kind, nal) in [(SetKind::Picture, PPS0), (SetKind::Sequence, SPS0), (SetKind::Picture, PPS1)] {
            assert!(sets.insert(kind, nal));
        }
        assert!(sets.complete());
        let other_pps0 = [0x68, 0xff, 0x01];
        assert!(sets.insert(SetKind::Picture, &other_pps0));
        let expected: Vec<u8> =
            [SPS0, &other_pps0, PPS1].iter().flat_map(|n| [&nal::START_CODE[..], n].concat()).collect();
        assert_eq!(sets.annex_b(), expected);
    }

    #[test]
    fn a_camera_cannot_fill_the_memory_with_sets() {
        let mut sets = ParameterSets::new(Codec::H264);
        let mut huge = SPS0.to_vec();
        huge.resize(MAX_BYTES + 1, 0xff);
        assert!(!sets.insert(SetKind::Sequence, &huge));
        assert!(sets.annex_b().is_empty());
    }
}
