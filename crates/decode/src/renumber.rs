//! H.264 streams that are entered at another picture than IDR: their frame numbers are made to begin at 0 there.
//!
//! Frame numbers that begin somewhere look like lost frames. libavcodec makes up as many as the stream keeps for
//! reference (8.2.5.2), and `avdec_h264` cannot give it buffers for more than three: the picture is lost. Numbers
//! matter by their differences only, so all of a stream can be moved by the same amount. Where the picture itself
//! refers to others (intra refresh), one made-up frame is what libavcodec needs to decode it at all.

use std::collections::HashMap;

use bytes::Bytes;

use crate::nal::{Bits, units};

/// As many bytes of a slice hold its header up to `frame_num`: three numbers of 33 bits at most, 2 bits, 16 bits.
const HEADER: usize = 24;

/// Where `frame_num` stands in the slices of a sequence parameter set.
#[derive(Debug, Clone, Copy)]
struct Layout {
    bits: usize,
    separate_planes: bool,
}

/// Moves the frame numbers of one stream.
#[derive(Debug)]
pub(crate) struct Renumber {
    /// What the first picture's number becomes.
    first: u32,
    /// By `seq_parameter_set_id`.
    layouts: HashMap<u32, Layout>,
    /// By `pic_parameter_set_id`: the SPS that it names.
    named: HashMap<u32, u32>,
    /// What is taken off, once the first slice has told.
    shift: Option<u32>,
}

impl Renumber {
    /// `intra`: the first picture refers to no other.
    pub(crate) fn new(intra: bool) -> Self {
        let first = if intra { 0 } else { 2 };
        Self { first, layouts: HashMap::new(), named: HashMap::new(), shift: None }
    }

    /// The same access unit with its numbers moved; an IDR picture begins anew,
    /// and what cannot be read stays as it is.
    pub(crate) fn access_unit(&mut self, data: &Bytes) -> Bytes {
        let mut out = Vec::with_capacity(data.len() + 16);
        for unit in units(data) {
            // The next start code's first zero is no part of it.
            let unit = &unit[..unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
            out.extend_from_slice(&[0, 0, 0, 1]);
            match unit.first().map(|head| head & 31) {
                Some(7) => self.sequence(unit),
                Some(8) => self.picture(unit),
                Some(5) => self.shift = Some(0),
                Some(1 | 2) => {
                    if let Some(moved) = self.slice(unit) {
                        out.extend_from_slice(&moved);
                        continue;
                    }
                }
                _ => {}
            }
            out.extend_from_slice(unit);
        }
        out.into()
    }

    /// 7.3.2.1.1, up to `log2_max_frame_num_minus4`.
    fn sequence(&mut self, unit: &[u8]) {
        let mut bits = Bits::new(&unit[1..]);
        let mut read = || {
            let profile = bits.read(8)?;
            bits.skip(16);
            let id = bits.ue()?;
            let mut separate_planes = false;
            if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
                let chroma = bits.ue()?;
                separate_planes = chroma == 3 && bits.read(1)? == 1;
                bits.ue()?; // bit depths
                bits.ue()?;
                bits.read(1)?; // qpprime_y_zero_transform_bypass_flag
                if bits.read(1)? == 1 {
                    skip_scaling_lists(&mut bits, if chroma == 3 { 12 } else { 8 })?;
                }
            }
            let length = bits.ue()?.checked_add(4).filter(|length| *length <= 16)?;
            Some((id, Layout { bits: length as usize, separate_planes }))
        };
        self.layouts.extend(read());
    }

    fn picture(&mut self, unit: &[u8]) {
        let mut bits = Bits::new(&unit[1..]);
        self.named.extend(bits.ue().zip(bits.ue()));
    }

    fn slice(&mut self, unit: &[u8]) -> Option<Vec<u8>> {
        let (start, rest) = plain(unit);
        let mut bits = Bits::plain(&start[1..]);
        bits.ue()?; // first_mb_in_slice
        bits.ue()?; // slice_type
        let layout = *self.layouts.get(self.named.get(&bits.ue()?)?)?;
        if layout.separate_planes {
            bits.skip(2);
        }
        let at = 8 + bits.position();
        let number = bits.read(layout.bits)?;
        let shift = *self.shift.get_or_insert(number.wrapping_sub(self.first));
        if shift == 0 {
            return None;
        }
        let moved = number.wrapping_sub(shift) & ((1 << layout.bits) - 1);
        let mut start = start;
        for bit in 0..layout.bits {
            let (byte, mask) = ((at + bit) / 8, 0x80 >> ((at + bit) % 8));
            match moved >> (layout.bits - 1 - bit) & 1 {
                0 => start[byte] &= !mask,
                _ => start[byte] |= mask,
            }
        }
        Some(escaped(&start, rest))
    }
}

/// The beginning of a NAL unit without emulation prevention (7.4.1), and the rest as it is.
fn plain(unit: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut start = Vec::with_capacity(HEADER);
    let mut zeros = 0;
    for (at, &byte) in unit.iter().enumerate() {
        // Not behind a zero: what stands before and after the cut is escaped apart.
        if start.len() >= HEADER && start.last() != Some(&0) {
            return (start, &unit[at..]);
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        start.push(byte);
    }
    (start, &[])
}

fn escaped(start: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(start.len() + rest.len() + 4);
    let mut zeros = 0;
    for &byte in start {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out.extend_from_slice(rest);
    out
}

/// 7.3.2.1.1.1.
fn skip_scaling_lists(bits: &mut Bits<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if bits.read(1)? == 0 {
            continue;
        }
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                let code = i64::from(bits.ue()?);
                let delta = if code % 2 == 1 { code / 2 + 1 } else { -code / 2 };
                next = (last + delta).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Baseline, id 0, 8 bits of frame_num.
    const SPS: &[u8] = &[0, 0, 1, 0x67, 66, 0, 30, 0b1001_0110];
    const PPS: &[u8] = &[0, 0, 1, 0x68, 0b1110_0000];

    /// A slice of zeros behind frame_num, as a decoder has to read it.
    fn slice(kind: u8, number: u8) -> Vec<u8> {
        // first_mb 0 (1), slice_type 7 (0001000), pps 0 (1), then 8 bits, then three zero bits to fill.
        let word = u32::from_be_bytes([0b1000_1000, 0b1000_0000, 0, 0]) | u32::from(number) << 15;
        let head = word.to_be_bytes();
        [&[0, 0, 0, 1], &escaped(&[&[kind | 0x40], &head[..], &[0; 30], &[0x80]].concat(), &[])[..]].concat()
    }

    fn moved(renumber: &mut Renumber, parts: &[&[u8]]) -> Vec<u8> {
        renumber.access_unit(&Bytes::from(parts.concat())).to_vec()
    }

    #[test]
    fn numbers_begin_at_zero_and_wrap_until_an_idr_picture() {
        let mut renumber = Renumber::new(true);
        let sets = [&[0][..], SPS, &[0], PPS].concat();
        assert_eq!(
            moved(&mut Renumber::new(false), &[&sets, &slice(1, 250)]),
            [&sets[..], &slice(1, 2)].concat()
        );
        let first = moved(&mut renumber, &[&sets, &slice(1, 250)]);
        assert_eq!(first, [&sets[..], &slice(1, 0)].concat());
        assert_eq!(
            moved(&mut renumber, &[&slice(1, 251), &slice(1, 251)]),
            [slice(1, 1), slice(1, 1)].concat()
        );
        assert_eq!(moved(&mut renumber, &[&slice(1, 3)]), slice(1, 9));
        assert_eq!(moved(&mut renumber, &[&slice(5, 0)]), slice(5, 0));
        assert_eq!(moved(&mut renumber, &[&slice(1, 77)]), slice(1, 77));
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_is() {
        let slice = slice(1, 9);
        assert_eq!(moved(&mut Renumber::new(true), &[&slice]), slice, "no parameter sets");
        for end in 0..20 {
            let mut renumber = Renumber::new(true);
            moved(&mut renumber, &[SPS, PPS, &slice[..end]]);
        }
    }
}
