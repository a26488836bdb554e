//! Recovery points: where a stream without IDR pictures may be entered (H.264 D.1.8, H.265 D.2.8).

use flow::Codec;

use crate::nal;
use crate::parameters::{Bits, rbsp_start};

/// `payloadType` of a recovery point, the same in both standards.
const RECOVERY_POINT: usize = 6;
/// Messages are short; cameras put user data of their own before or after it.
const ENOUGH: usize = 1024;

/// How many pictures after this one the decoded pictures are right again, where the SEI says that decoding may start
/// here: `recovery_frame_cnt` (H.264, in frames that others refer to), `recovery_poc_cnt` (H.265, in picture order).
/// 0: at once. `None`: no recovery point in it.
pub(crate) fn recovery_point(codec: Codec, unit: &[u8]) -> Option<u32> {
    let rbsp = rbsp_start(unit.get(nal::header_len(codec)..)?, ENOUGH);
    let mut rest = &rbsp[..];
    // What is left at the end are the trailing bits.
    while rest.len() > 2 {
        let (kind, after) = number(rest)?;
        let (size, body) = number(after)?;
        if kind == RECOVERY_POINT {
            let count = Bits::new(body).ue()?;
            return Some(match codec {
                Codec::H265 if count % 2 == 0 => 0, // se(v): not positive
                Codec::H265 => count.div_ceil(2),
                _ => count,
            });
        }
        rest = body.get(size..)?;
    }
    None
}

/// A sum of bytes as long as they are 255 (H.264 7.3.2.3.1, H.265 7.3.5).
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let full = bytes.iter().take_while(|&&byte| byte == 0xff).count();
    let last = usize::from(*bytes.get(full)?);
    Some((full * 255 + last, &bytes[full + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_both_standards() {
        // ue 0 = 1, then exact_match 1, broken_link 0, changing_slice_group 00.
        assert_eq!(recovery_point(Codec::H264, &[6, 6, 1, 0b1100_0000, 0x80]), Some(0));
        // ue 24 = 000011001.
        assert_eq!(recovery_point(Codec::H264, &[6, 6, 2, 0b0000_1100, 0b1100_0000, 0x80]), Some(24));
        // se 12 is code number 23: 000011000; se -3 is 6: 00111; se 0: 1.
        assert_eq!(recovery_point(Codec::H265, &[0x4e, 1, 6, 2, 0b0000_1100, 0b0100_0000, 0x80]), Some(12));
        assert_eq!(recovery_point(Codec::H265, &[0x4e, 1, 6, 1, 0b0011_1000, 0x80]), Some(0));
        assert_eq!(recovery_point(Codec::H265, &[0x4e, 1, 6, 1, 0b1100_0000, 0x80]), Some(0));
    }

    #[test]
    fn it_stands_behind_other_messages() {
        let user_data = [&[5, 255, 20][..], &[0xaa; 275]].concat();
        let sei = [&[6][..], &user_data, &[6, 1, 0b1100_0000, 0x80]].concat();
        assert_eq!(recovery_point(Codec::H264, &sei), Some(0));
        assert_eq!(recovery_point(Codec::H264, &[&[6][..], &user_data, &[0x80]].concat()), None);
    }

    #[test]
    fn any_beginning_is_read_or_refused() {
        let sei = [6, 5, 3, 1, 2, 3, 6, 2, 0b0000_1100, 0b1100_0000, 0x80];
        for end in 0..sei.len() {
            let _ = recovery_point(Codec::H264, &sei[..end]);
            let _ = recovery_point(Codec::H265, &sei[..end]);
        }
        assert_eq!(recovery_point(Codec::H264, &[6, 255, 255, 255]), None);
        assert_eq!(recovery_point(Codec::H264, &[6, 6, 200, 0, 0, 0, 0]), None);
    }
}
