//! Parameter sets out of a session description.
//!
//! retina reads them as well, but gives up where there are several of a kind, or where it cannot interpret one; all
//! that is needed here is to hand each on to the decoder.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::nal;

/// Padding is left out by some cameras, and bits left over are not always zero.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The NAL units in the `fmtp` line of a payload type: `sprop-parameter-sets` (RFC 6184 8.1), `sprop-vps`,
/// `sprop-sps`, `sprop-pps` (RFC 7798 7.1). What cannot be read is left out: the stream may bring it.
pub(crate) fn parameter_sets(sdp: &[u8], payload_type: u8) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(sdp);
    let fmtp = format!("a=fmtp:{payload_type} ");
    let formats = text.lines().filter_map(|line| line.trim_end().strip_prefix(&fmtp));
    let settings = formats.flat_map(|format| format.split(';')).filter_map(|s| s.trim().split_once('='));
    let sets = settings
        .filter(|(key, _)| matches!(*key, "sprop-parameter-sets" | "sprop-vps" | "sprop-sps" | "sprop-pps"))
        .flat_map(|(_, value)| value.split(','))
        .filter_map(|set| BASE64.decode(set.trim()).ok());
    sets.flat_map(|set| nal::split_annex_b(&set).map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_one_payload_type_in_all_the_ways_cameras_write_them() {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
            a=fmtp:97 sprop-parameter-sets=AAAA\r\n\
            a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0IAHpZU,aM44gA==,AAAAAWhbIA,*;profile-level-id=42001e\r\n";
        let sets = parameter_sets(sdp.as_bytes(), 96);
        let expected: [&[u8]; 3] =
            [&[0x67, 66, 0, 30, 0x96, 0x54], &[0x68, 0xce, 0x38, 0x80], &[0x68, 0x5b, 0x20]];
        assert_eq!(sets, expected);
        assert!(parameter_sets(b"a=fmtp:96 sprop-parameter-sets", 96).is_empty());
        assert!(parameter_sets(&[0xff; 64], 96).is_empty());
    }

    #[test]
    fn hevc_sets_have_a_name_each() {
        let sdp = "a=fmtp:98 profile-id=1;sprop-sps=QgEB;sprop-pps=RAHA;sprop-vps=QAEM\n";
        let sets = parameter_sets(sdp.as_bytes(), 98);
        assert_eq!(sets, [[0x42, 1, 1], [0x44, 1, 0xc0], [0x40, 1, 0x0c]]);
    }
}
