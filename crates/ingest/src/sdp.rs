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

/// What a depacketizer has to know beside parameter sets.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// H.265 payloads carry decoding order numbers: `sprop-max-don-diff` is above 0 (RFC 7798 section 7.1).
    pub numbered: bool,
    /// Pixels of Motion JPEG, whose RTP header knows multiples of 8 up to 2,040 only: `a=framesize` (3GPP TS 26.234
    /// section 5.3.3.2) or `a=x-dimensions`.
    pub jpeg_size: Option<(u16, u16)>,
}

/// Reads the format of a payload type.
pub(crate) fn format(sdp: &[u8], payload_type: u8) -> Format {
    let text = String::from_utf8_lossy(sdp);
    let own = |name: &str| format!("a={name}:{payload_type} ");
    let (fmtp, frame_size) = (own("fmtp"), own("framesize"));
    let mut format = Format::default();
    for line in text.lines().map(str::trim) {
        if let Some(settings) = line.strip_prefix(&fmtp) {
            let mut settings = settings.split(';').filter_map(|s| s.trim().split_once('='));
            let diff = settings.find(|(key, _)| *key == "sprop-max-don-diff");
            format.numbered |= diff.is_some_and(|(_, n)| n.trim().parse::<u32>().is_ok_and(|n| n > 0));
        }
        let size = line.strip_prefix(&frame_size).and_then(|size| size.split_once('-'));
        let size = size.or_else(|| line.strip_prefix("a=x-dimensions:")?.split_once(','));
        if let Some((width, height)) = size
            && let (Ok(width @ 1..), Ok(height @ 1..)) = (width.trim().parse(), height.trim().parse())
        {
            format.jpeg_size = Some((width, height));
        }
    }
    format
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

    #[test]
    fn order_numbers_and_sizes() {
        let numbered = |fmtp: &str| format(fmtp.as_bytes(), 98).numbered;
        assert!(numbered("a=fmtp:98 profile-id=1; sprop-max-don-diff=2;tx-mode=SRST\r\n"));
        assert!(!numbered("a=fmtp:98 sprop-max-don-diff=0\r\n"));
        assert!(!numbered("a=fmtp:97 sprop-max-don-diff=1\r\n"));
        let size = |line: &str| format(line.as_bytes(), 26).jpeg_size;
        assert_eq!(size("a=framesize:26 2560-1440\r\n"), Some((2560, 1440)));
        assert_eq!(size("a=x-dimensions: 1280, 720\n"), Some((1280, 720)));
        assert_eq!(size("a=framesize:26 0-1440\r\na=framesize:27 8-8\r\na=x-dimensions:9"), None);
        assert_eq!(size("a=x-dimensions:70000,5"), None);
    }
}
