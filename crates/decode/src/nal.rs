//! As much of the syntax of ITU-T H.264 (section 7.3) and H.265 (section 7.3) as it takes to say whether an
//! access unit stands alone. One decoder serves many cameras and remembers parameter sets, so an access unit
//! that leans on sets it does not carry would silently be decoded with those of another camera.

use std::hash::{DefaultHasher, Hasher};

use flow::Codec;

/// NAL units before the first slice that are looked at; cameras send fewer than ten.
const MAX_UNITS: usize = 64;

/// Checks that the first slice is one of a random-access picture and that the parameter sets it names stand
/// in front of it. Returns a hash of its sequence parameter set; `Err` says what is missing.
pub(crate) fn check_alone(codec: Codec, data: &[u8]) -> Result<u64, String> {
    if codec == Codec::Mjpeg {
        return crate::jpeg::frame_header(data).map(hash);
    }
    let mut sets = Sets::default();
    let mut empty = true;
    for unit in units(data).take(MAX_UNITS) {
        empty = false;
        let found = match codec {
            Codec::H264 => sets.h264(unit)?,
            Codec::H265 => sets.h265(unit)?,
            Codec::Mjpeg => None,
        };
        if let Some(sequence) = found {
            return Ok(sequence);
        }
    }
    Err(if empty { "no NAL unit (expected an Annex B byte stream)" } else { "no slice" }.to_owned())
}

/// What it takes until pictures are right when decoding starts at this one, which the session takes for a key picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is whole, and so is all that follows: IDR, IRAP (whose RASL pictures the session drops), JPEG.
    Clean,
    /// So many pictures that others refer to, after this one (recovery point SEI: H.264 D.1.8, H.265 D.2.8). 0: it is
    /// whole, but pictures that are shown before it are not.
    After(u32),
}

/// How a stream is entered here.
pub(crate) fn entry(codec: Codec, data: &[u8]) -> Entry {
    for unit in units(data).take(MAX_UNITS) {
        let Some(&head) = unit.first() else { continue };
        match (codec, head & 31, head >> 1 & 63) {
            (Codec::H264, 1..=5, _) | (Codec::H265, _, 0..=31) => break,
            (Codec::H264, 6, _) => {
                if let Some(count) = recovery_point(&unit[1..]) {
                    return Entry::After(count);
                }
            }
            (Codec::H265, _, 39) => {
                if let Some(code) = unit.get(2..).and_then(recovery_point) {
                    // se(v) in picture order: odd codes are positive. Pictures are at least one apart in it.
                    return Entry::After(if code % 2 == 1 { code.div_ceil(2) } else { 0 });
                }
            }
            _ => {}
        }
    }
    Entry::Clean
}

/// Whether other pictures may refer to this one: `nal_ref_idc` (H.264 7.4.1); the sub-layer non-reference pictures of
/// H.265 (table 7-1: even types below 16).
pub(crate) fn is_reference(codec: Codec, data: &[u8]) -> bool {
    let slice = units(data).take(MAX_UNITS).filter_map(|unit| unit.first()).find(|head| match codec {
        Codec::H264 => matches!(**head & 31, 1..=5),
        _ => **head >> 1 & 63 < 32,
    });
    slice.is_none_or(|head| match codec {
        Codec::H264 => head & 0x60 != 0,
        _ => head >> 1 & 63 >= 16 || head >> 1 & 1 == 1,
    })
}

/// Frames are counted from this one on: all but an H.264 picture that is no IDR picture (7.4.3, `frame_num`).
pub(crate) fn is_counted_from_zero(codec: Codec, data: &[u8]) -> bool {
    let mut types = units(data).take(MAX_UNITS).filter_map(|unit| unit.first()).map(|head| head & 31);
    codec != Codec::H264 || types.find(|kind| matches!(kind, 1..=5)).is_none_or(|kind| kind == 5)
}

/// The number at the start of the recovery point message (type 6) of an SEI, where it has one.
fn recovery_point(sei: &[u8]) -> Option<u32> {
    let mut bits = Bits::new(sei);
    // Numbers are sums of bytes, as long as they are 255 (H.264 7.3.2.3.1).
    let number = |bits: &mut Bits<'_>| {
        let mut sum = 0;
        loop {
            let byte = bits.read(8)?;
            sum += byte;
            if byte != 255 {
                return Some(sum as usize);
            }
        }
    };
    loop {
        let (kind, size) = (number(&mut bits)?, number(&mut bits)?);
        if kind == 6 {
            return bits.ue();
        }
        (0..size).try_for_each(|_| bits.read(8).map(drop))?;
    }
}

/// The NAL units of an Annex B byte stream (H.264 annex B.1), without start codes.
pub(crate) fn units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = start_code(data).map(|(_, after)| &data[after..]);
    std::iter::from_fn(move || {
        let unit = rest?;
        let end = match start_code(unit) {
            Some((at, after)) => {
                rest = Some(&unit[after..]);
                at
            }
            None => {
                rest = None;
                unit.len()
            }
        };
        Some(&unit[..end])
    })
}

/// Where the first `00 00 01` begins and ends.
fn start_code(data: &[u8]) -> Option<(usize, usize)> {
    let mut at = 2;
    loop {
        match *data.get(at)? {
            // Might be the middle of one.
            0 => at += 1,
            1 if data[at - 2..at] == [0, 0] => return Some((at - 2, at + 1)),
            // Nothing that holds this byte is one.
            _ => at += 3,
        }
    }
}

/// The parameter sets seen so far.
#[derive(Default)]
struct Sets {
    /// Ids of VPSs.
    video: Vec<u32>,
    /// Id and hash of SPSs.
    sequence: Vec<(u32, u64)>,
    /// Id of PPSs, and of the SPS that each names.
    picture: Vec<(u32, u32)>,
}

impl Sets {
    /// Takes one NAL unit of H.264 (7.3.1, types in table 7-1); the hash of its SPS once the first slice is found good.
    fn h264(&mut self, unit: &[u8]) -> Result<Option<u64>, String> {
        let Some(header) = unit.first() else { return Ok(None) };
        let mut bits = Bits::new(&unit[1..]);
        match header & 31 {
            // seq_parameter_set_data: profile_idc, constraints, level_idc, seq_parameter_set_id
            7 => {
                bits.skip(24);
                self.sequence.push((id(bits.ue())?, hash(unit)));
            }
            // pic_parameter_set_id, seq_parameter_set_id
            8 => self.picture.push((id(bits.ue())?, id(bits.ue())?)),
            // slice_header: first_mb_in_slice, slice_type, pic_parameter_set_id
            kind @ (1 | 2 | 5) => {
                bits.ue();
                let slice = bits.ue();
                if kind != 5 && !matches!(slice, Some(2 | 4 | 7 | 9)) {
                    return Err("its first slice is neither IDR nor intra".to_owned());
                }
                return self.named(id(bits.ue())?).map(Some);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Takes one NAL unit of H.265 (7.3.1, types in table 7-1); the hash of its SPS once the first slice is found good.
    fn h265(&mut self, unit: &[u8]) -> Result<Option<u64>, String> {
        let (Some(header), Some(body)) = (unit.first(), unit.get(2..)) else { return Ok(None) };
        let mut bits = Bits::new(body);
        let kind = header >> 1 & 63;
        match kind {
            32 => self.video.push(id(bits.read(4))?),
            33 => {
                let video = id(bits.read(4))?;
                if !self.video.contains(&video) {
                    return Err(format!("SPS without its VPS {video}"));
                }
                let layers = bits.read(3).unwrap_or(0);
                bits.skip(1);
                skip_profile_tier_level(&mut bits, layers);
                self.sequence.push((id(bits.ue())?, hash(unit)));
            }
            34 => self.picture.push((id(bits.ue())?, id(bits.ue())?)),
            // first_slice_segment_in_pic_flag, no_output_of_prior_pics_flag, slice_pic_parameter_set_id
            16..=23 => {
                bits.skip(2);
                return self.named(id(bits.ue())?).map(Some);
            }
            0..=31 => return Err(format!("its first slice is of NAL unit type {kind}, not 16 to 23 (IRAP)")),
            _ => {}
        }
        Ok(None)
    }

    /// The slice names this PPS: it and its SPS must be here.
    fn named(&self, pps: u32) -> Result<u64, String> {
        let Some((_, sps)) = self.picture.iter().rev().find(|(id, _)| *id == pps) else {
            return Err(format!("PPS {pps} is not in front of the slice"));
        };
        let sequence = self.sequence.iter().rev().find(|(id, _)| id == sps);
        sequence.map(|(_, hash)| *hash).ok_or_else(|| format!("SPS {sps} is not in front of the slice"))
    }
}

/// H.265 section 7.3.3 with profilePresentFlag 1.
fn skip_profile_tier_level(bits: &mut Bits, max_sub_layers_minus1: u32) {
    bits.skip(88 + 8);
    let present: Vec<(u32, u32)> =
        (0..max_sub_layers_minus1).map(|_| (bits.read(1).unwrap_or(0), bits.read(1).unwrap_or(0))).collect();
    if max_sub_layers_minus1 > 0 {
        bits.skip(2 * (8 - max_sub_layers_minus1 as usize));
    }
    for (profile, level) in present {
        bits.skip(88 * profile as usize + 8 * level as usize);
    }
}

fn hash(unit: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(unit);
    hasher.finish()
}

fn id(value: Option<u32>) -> Result<u32, String> {
    value.ok_or_else(|| "a parameter set or slice header ends early".to_owned())
}

/// Reads an RBSP bit by bit, leaving out emulation prevention bytes (H.264 section 7.4.1).
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    byte: usize,
    bit: u8,
    zeros: u8,
    escaped: bool,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, byte: 0, bit: 0, zeros: 0, escaped: true }
    }

    /// Of bytes without emulation prevention.
    pub(crate) fn plain(data: &'a [u8]) -> Self {
        Self { escaped: false, ..Self::new(data) }
    }

    /// Bits read so far; of plain bytes only.
    pub(crate) fn position(&self) -> usize {
        self.byte * 8 + usize::from(self.bit)
    }

    fn next(&mut self) -> Option<u32> {
        if self.escaped && self.bit == 0 && self.zeros >= 2 && self.data.get(self.byte) == Some(&3) {
            self.byte += 1;
            self.zeros = 0;
        }
        let byte = *self.data.get(self.byte)?;
        let value = u32::from(byte >> (7 - self.bit) & 1);
        self.bit += 1;
        if self.bit == 8 {
            self.bit = 0;
            self.byte += 1;
            self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
        }
        Some(value)
    }

    pub(crate) fn read(&mut self, count: usize) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | self.next()?))
    }

    pub(crate) fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    /// Exp-Golomb, unsigned (H.264 section 9.1); `None` past the end or beyond 16 bits.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.next()? == 0 {
            zeros += 1;
            if zeros > 16 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.read(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 66, 0, 30, 0b1000_0000];
    const PPS: &[u8] = &[0, 0, 1, 0x68, 0b1110_0000];
    // first_mb 0 (1), slice_type 7 (0001000), pps 0 (1)
    const IDR: &[u8] = &[0, 0, 1, 0x65, 0b1000_1000, 0b1000_0000];

    #[test]
    fn the_first_start_code_is_found_wherever_it_is() {
        for length in 0..12usize {
            // Every string of 0, 1 and 2 of this length.
            for number in 0..3usize.pow(length as u32) {
                let data: Vec<u8> = (0..length).map(|i| (number / 3usize.pow(i as u32) % 3) as u8).collect();
                let first = data.windows(3).position(|w| w == [0, 0, 1]).map(|at| (at, at + 3));
                assert_eq!(start_code(&data), first, "{data:?}");
            }
        }
    }

    #[test]
    fn an_idr_with_its_sets_stands_alone() {
        assert_eq!(check_alone(Codec::H264, &[SPS, PPS, IDR].concat()), Ok(hash(&SPS[4..])));
    }

    #[test]
    fn what_is_missing_is_named() {
        let say = |parts: &[&[u8]]| check_alone(Codec::H264, &parts.concat()).unwrap_err();
        assert_eq!(say(&[]), "no NAL unit (expected an Annex B byte stream)");
        assert_eq!(say(&[SPS, PPS]), "no slice");
        assert_eq!(say(&[SPS, IDR]), "PPS 0 is not in front of the slice");
        assert_eq!(say(&[PPS, IDR]), "SPS 0 is not in front of the slice");
        // A P slice (type 5: 00110).
        assert_eq!(
            say(&[SPS, PPS, &[0, 0, 1, 0x41, 0b1001_1010, 0]]),
            "its first slice is neither IDR nor intra"
        );
        assert_eq!(say(&[SPS, PPS, &[0, 0, 1, 0x65]]), "a parameter set or slice header ends early");
        assert_eq!(
            check_alone(Codec::H265, &[0, 0, 1, 2, 1, 0x80]).unwrap_err(),
            "its first slice is of NAL unit type 1, not 16 to 23 (IRAP)"
        );
    }

    #[test]
    fn emulation_prevention_bytes_are_left_out() {
        let mut bits = Bits::new(&[0, 0, 3, 1, 0xff]);
        assert_eq!(bits.read(24), Some(1));
        assert_eq!(bits.read(8), Some(0xff));
        assert_eq!(bits.read(1), None);
    }

    #[test]
    fn how_a_stream_is_entered() {
        let sei = |body: &[u8]| [&[0, 0, 1, 6][..], body, &[0x80]].concat();
        let slice = &[0, 0, 1, 0x41, 0b1000_1000];
        let user_data: &[u8] = &[5, 3, 9, 9, 9];
        assert_eq!(entry(Codec::H264, &[SPS, PPS, IDR].concat()), Entry::Clean);
        assert_eq!(entry(Codec::H264, &[SPS, &sei(&[6, 1, 0xc0]), slice].concat()), Entry::After(0));
        let both = [user_data, &[6, 2, 0b0000_1100, 0b1100_0000]].concat();
        assert_eq!(entry(Codec::H264, &[SPS, &sei(&both), slice].concat()), Entry::After(24));
        assert_eq!(entry(Codec::H264, &[&sei(user_data), IDR, &sei(&[6, 1, 0xc0])].concat()), Entry::Clean);
        let h265 = [0, 0, 1, 0x4e, 1, 6, 2, 0b0000_1100, 0b0100_0000, 0x80, 0, 0, 1, 2, 1, 0x80];
        assert_eq!(entry(Codec::H265, &h265), Entry::After(12));
        assert!(is_reference(Codec::H264, slice) && !is_reference(Codec::H264, &[0, 0, 1, 0x01, 0x88]));
        assert!(is_reference(Codec::H265, &h265) && !is_reference(Codec::H265, &[0, 0, 1, 0, 1, 0x80]));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut state = 1u64;
        for length in 0..2000 {
            let mut data = vec![0u8; length % 97];
            for byte in &mut data {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 60) as u8 | if state >> 59 & 1 == 1 { 0x60 } else { 0 };
            }
            let _ = check_alone(Codec::H264, &data);
            let _ = check_alone(Codec::H265, &data);
            let _ = (entry(Codec::H264, &data), entry(Codec::H265, &data));
            let _ = (is_reference(Codec::H264, &data), is_reference(Codec::H265, &data));
        }
    }
}
