//! What a sequence parameter set says about its pictures, for people: profile, level, size, rate.
//!
//! A receiver does not need any of it (the decoder reads its own), so what cannot be read here costs a line of a
//! report and nothing else. Reading is bounded by the set's own length.

use flow::Codec;

use crate::nal;
use crate::parameters::{Bits, rbsp_start};

/// A real set has some dozens of bytes; scaling lists can make it some hundreds.
const MAX_SPS: usize = 2048;

/// A sequence parameter set (H.264 7.3.2.1.1, H.265 7.3.2.2).
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Sps {
    /// As the standard names it, for example `High` or `Main 10`; `profile 144` where it is not known here.
    pub profile: String,
    /// For example `4.1`; H.265's high tier as `4.1 high`.
    pub level: String,
    /// Pixels per row, after cropping.
    pub width: u32,
    /// Rows, after cropping.
    pub height: u32,
    /// Bits per luma sample.
    pub bit_depth: u32,
    /// Coded as fields (H.264 `frame_mbs_only_flag` = 0).
    pub interlaced: bool,
    /// What the timing information says, if there is any; many cameras leave it out or leave it wrong.
    pub fps: Option<f32>,
}

/// Reads a set. `None`: it is none, is cut short, or uses what is not read here.
pub(crate) fn read(codec: Codec, unit: &[u8]) -> Option<Sps> {
    let rbsp = rbsp_start(unit.get(nal::header_len(codec)..)?, MAX_SPS);
    let bits = &mut Bits::new(&rbsp);
    let sps = match codec {
        Codec::H264 => h264(bits)?,
        Codec::H265 => h265(bits)?,
        Codec::Mjpeg => return None,
    };
    (sps.width > 0 && sps.height > 0 && sps.width <= 16_384 && sps.height <= 16_384).then_some(sps)
}

/// What of an H.264 set it takes to find `frame_num` and the field flags in a slice header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliceLayout {
    pub frame_num_bits: u32,
    pub separate_planes: bool,
    /// There are no fields.
    pub frames_only: bool,
}

/// Reads an H.264 set as far as slice headers depend on it.
pub(crate) fn slice_layout(unit: &[u8]) -> Option<SliceLayout> {
    let rbsp = rbsp_start(unit.get(1..)?, MAX_SPS);
    h264_frames(&mut Bits::new(&rbsp)).map(|frames| frames.layout)
}

/// The first part of a set, up to `frame_mbs_only_flag`.
struct Frames {
    profile_idc: u32,
    constraints: u32,
    level_idc: u32,
    chroma: u32,
    bit_depth: u32,
    columns: u32,
    rows: u32,
    layout: SliceLayout,
}

fn h264_frames(bits: &mut Bits<'_>) -> Option<Frames> {
    let profile_idc = bits.read(8)?;
    let constraints = bits.read(8)?;
    let level_idc = bits.read(8)?;
    bits.ue()?; // seq_parameter_set_id
    let (mut chroma, mut bit_depth) = (1, 8);
    let mut separate_planes = false;
    if matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.ue()?;
        separate_planes = chroma == 3 && bits.bit()? == 1;
        bit_depth = 8 + bits.ue()?;
        bits.ue()?; // bit_depth_chroma_minus8
        bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
        if bits.bit()? == 1 {
            skip_scaling_lists(bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    let frame_num_bits = bits.ue()?.checked_add(4).filter(|bits| *bits <= 16)?;
    match bits.ue()? {
        0 => _ = bits.ue()?, // log2_max_pic_order_cnt_lsb_minus4
        1 => {
            bits.skip(1)?; // delta_pic_order_always_zero_flag
            bits.ue()?; // offset_for_non_ref_pic
            bits.ue()?; // offset_for_top_to_bottom_field
            for _ in 0..bits.ue()?.min(255) {
                bits.ue()?;
            }
        }
        _ => {}
    }
    bits.ue()?; // max_num_ref_frames
    bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
    let (columns, rows) = (bits.ue()?.checked_add(1)?, bits.ue()?.checked_add(1)?);
    let layout = SliceLayout { frame_num_bits, separate_planes, frames_only: bits.bit()? == 1 };
    Some(Frames { profile_idc, constraints, level_idc, chroma, bit_depth, columns, rows, layout })
}

fn h264(bits: &mut Bits<'_>) -> Option<Sps> {
    let Frames { profile_idc, constraints, level_idc, chroma, bit_depth, columns, rows, layout } =
        h264_frames(bits)?;
    let separate_planes = layout.separate_planes;
    let frames_only = u32::from(layout.frames_only);
    if frames_only == 0 {
        bits.skip(1)?; // mb_adaptive_frame_field_flag
    }
    bits.skip(1)?; // direct_8x8_inference_flag
    let (width, height) = (columns.checked_mul(16)?, rows.checked_mul(16 * (2 - frames_only))?);
    let crop = if bits.bit()? == 1 { [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?] } else { [0; 4] };
    // Table 6-1; without chroma, or with planes coded one by one, the unit is a luma sample.
    let (unit_x, unit_y) = if separate_planes { (1, 1) } else { chroma_unit(chroma) };
    Some(Sps {
        profile: h264_profile(profile_idc, constraints),
        level: h264_level(profile_idc, constraints, level_idc),
        width: width.checked_sub(crop[0].checked_add(crop[1])?.checked_mul(unit_x)?)?,
        height: height.checked_sub(crop[2].checked_add(crop[3])?.checked_mul(unit_y * (2 - frames_only))?)?,
        bit_depth,
        interlaced: frames_only == 0,
        fps: vui_start(bits).and_then(|()| h264_timing(bits)),
    })
}

/// H.264 7.3.2.1.1.1.
fn skip_scaling_lists(bits: &mut Bits<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if bits.bit()? == 0 {
            continue;
        }
        let (mut last, mut next) = (8i32, 8i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + signed(bits.ue()?)).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// se(v) of its code number (H.264 table 9-3).
fn signed(code: u32) -> i32 {
    let half = code.div_ceil(2) as i32;
    if code % 2 == 1 { half } else { -half }
}

/// What a crop counts in (SubWidthC, SubHeightC).
fn chroma_unit(chroma_format_idc: u32) -> (u32, u32) {
    match chroma_format_idc {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    }
}

/// From `vui_parameters_present_flag` up to where the two standards begin to differ (H.264 E.1.1, H.265 E.2.1).
fn vui_start(bits: &mut Bits<'_>) -> Option<()> {
    const EXTENDED_SAR: u32 = 255;
    if bits.bit()? == 0 {
        return None;
    }
    if bits.bit()? == 1 && bits.read(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.bit()? == 1 {
        bits.skip(1)?; // overscan_appropriate_flag
    }
    if bits.bit()? == 1 {
        bits.skip(4)?; // video_format, video_full_range_flag
        if bits.bit()? == 1 {
            bits.skip(24)?; // colour primaries, transfer, matrix
        }
    }
    if bits.bit()? == 1 {
        bits.ue()?; // chroma_sample_loc_type_top_field
        bits.ue()?; // chroma_sample_loc_type_bottom_field
    }
    Some(())
}

/// Two ticks make a frame, as there may be two fields (H.264 E.2.1).
fn h264_timing(bits: &mut Bits<'_>) -> Option<f32> {
    timing(bits).map(|ticks_per_second| ticks_per_second / 2.0)
}

/// `time_scale` / `num_units_in_tick`, where it makes sense.
fn timing(bits: &mut Bits<'_>) -> Option<f32> {
    if bits.bit()? == 0 {
        return None;
    }
    let (units, scale) = (bits.read(32)?, bits.read(32)?);
    let rate = f64::from(scale) / f64::from(units);
    (rate.is_finite() && rate > 0.0 && rate <= 1000.0).then_some(rate as f32)
}

fn h264_profile(profile_idc: u32, constraints: u32) -> String {
    let set = |bit: u32| constraints & (0x80 >> bit) != 0;
    let name = match profile_idc {
        66 if set(1) => "Constrained Baseline",
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 if set(4) && set(5) => "Constrained High",
        100 if set(4) => "Progressive High",
        100 => "High",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4 Predictive",
        other => return format!("profile {other}"),
    };
    name.to_owned()
}

fn h264_level(profile_idc: u32, constraints: u32, level_idc: u32) -> String {
    // Level 1b is written as 11 with constraint_set3_flag in the profiles that came before High.
    if matches!(profile_idc, 66 | 77 | 88) && level_idc == 11 && constraints & 0x10 != 0 {
        return "1b".to_owned();
    }
    format!("{}.{}", level_idc / 10, level_idc % 10)
}

fn h265(bits: &mut Bits<'_>) -> Option<Sps> {
    bits.skip(4)?; // sps_video_parameter_set_id
    let sub_layers = bits.read(3)?;
    bits.skip(1)?; // sps_temporal_id_nesting_flag
    // Profile, tier and level are skipped as one below; what is wanted of them stands at their beginning.
    bits.skip(2)?; // general_profile_space
    let high_tier = bits.bit()? == 1;
    let profile_idc = bits.read(5)?;
    let compatibility = bits.read(32)?;
    bits.skip(48)?; // constraint flags
    let level_idc = bits.read(8)?;
    bits.skip_sub_layers(sub_layers)?;
    bits.ue()?; // sps_seq_parameter_set_id
    let chroma = bits.ue()?;
    let separate_planes = chroma == 3 && bits.bit()? == 1;
    let (width, height) = (bits.ue()?, bits.ue()?);
    let crop = if bits.bit()? == 1 { [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?] } else { [0; 4] };
    let (unit_x, unit_y) = if separate_planes { (1, 1) } else { chroma_unit(chroma) };
    let bit_depth = 8 + bits.ue()?;
    Some(Sps {
        profile: h265_profile(profile_idc, compatibility),
        level: format!("{}.{}{}", level_idc / 30, level_idc % 30 / 3, if high_tier { " high" } else { "" }),
        width: width.checked_sub(crop[0].checked_add(crop[1])?.checked_mul(unit_x)?)?,
        height: height.checked_sub(crop[2].checked_add(crop[3])?.checked_mul(unit_y)?)?,
        bit_depth,
        // Told in SEI messages, if at all, and no camera does.
        interlaced: false,
        fps: None,
    })
}

fn h265_profile(profile_idc: u32, compatibility: u32) -> String {
    // Some encoders leave the number at 0 and set the flag only (H.265 A.3).
    let number = match profile_idc {
        0 => (1..=11).find(|i| compatibility & (1 << (31 - i)) != 0).unwrap_or(0),
        number => number,
    };
    let name = match number {
        1 => "Main",
        2 => "Main 10",
        3 => "Main Still Picture",
        4 => "Range Extensions",
        9 => "Screen Content Coding",
        other => return format!("profile {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
            .collect()
    }

    /// Written by x264 and x265; what is expected is what ffprobe says of the same files.
    const SETS: [(Codec, &str, &str); 5] = [
        (
            Codec::H264,
            "67640028acd940780227e5c044000003000400000300c83c60c658",
            "High 4.0 1920x1080 8 false Some(25.0)",
        ),
        (
            Codec::H264,
            "6742c016d900a02ff97011000003000100000300180f162e48",
            "Constrained Baseline 2.2 640x360 8 false Some(12.0)",
        ),
        (
            Codec::H264,
            "677a001eb6cd940b024d808800000300080000030190f8a14cb0",
            "High 4:2:2 3.0 704x576 10 true Some(25.0)",
        ),
        (
            Codec::H265,
            "420101016000000300900000030000030078a003c08010e596566924caf0168080000003008000000c84",
            "Main 4.0 1920x1080 8 false None",
        ),
        (
            Codec::H265,
            "420101222000000300900000030000030099a001402005a9f2365959a4932bc05a020000030002000003003210",
            "Main 10 5.1 high 2560x1442 10 false None",
        ),
    ];

    #[test]
    fn sets_of_real_encoders_say_what_they_are() {
        for (codec, set, expected) in SETS {
            let s = read(codec, &hex(set)).unwrap_or_else(|| panic!("not read: {set}"));
            let said = format!(
                "{} {} {}x{} {} {} {:?}",
                s.profile, s.level, s.width, s.height, s.bit_depth, s.interlaced, s.fps
            );
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn scaling_lists_are_skipped_to_the_bit() {
        // High 2.0, 4:2:0, one 4x4 list of 16 deltas of +1 and seven absent ones, 320x240 behind them.
        let mut bits = String::from("01100100" /* 100 */);
        bits += "00000000" /* constraints */;
        bits += "00010100" /* level 20 */;
        bits += "1" /* id 0 */;
        bits += "010" /* 4:2:0 */;
        bits += "11" /* 8 bits each */;
        bits += "0";
        bits += "1" /* scaling matrix */;
        bits += "1";
        bits += &"010".repeat(16) /* delta +1 */;
        bits += "0000000";
        bits += "1" /* frame_num */;
        bits += "011" /* order type 2 */;
        bits += "010" /* one reference */;
        bits += "0";
        bits += "000010100" /* 20 columns: 19 */;
        bits += "0001111" /* 15 rows: 14 */;
        bits += "1" /* frames only */;
        bits += "1";
        bits += "0" /* no crop */;
        bits += "0" /* no VUI */;
        bits += "1";
        let mut set = vec![0x67];
        for byte in bits.as_bytes().chunks(8) {
            let text = format!("{:0<8}", std::str::from_utf8(byte).unwrap());
            set.push(u8::from_str_radix(&text, 2).unwrap());
        }
        let sps = read(Codec::H264, &set).unwrap();
        assert_eq!((sps.width, sps.height, sps.profile.as_str(), sps.fps), (320, 240, "High", None));
    }

    #[test]
    fn any_beginning_of_a_set_and_any_changed_byte_is_read_or_refused() {
        for (codec, set, _) in SETS {
            let set = hex(set);
            for end in 0..set.len() {
                let _ = read(codec, &set[..end]);
            }
            for at in 0..set.len() {
                for value in 0..=255 {
                    let mut changed = set.clone();
                    changed[at] = value;
                    if let Some(sps) = read(codec, &changed) {
                        assert!(sps.width <= 16_384 && sps.height <= 16_384);
                    }
                }
            }
        }
        assert_eq!(read(Codec::H264, &[0x67]), None);
        assert_eq!(read(Codec::H265, &[]), None);
    }
}
