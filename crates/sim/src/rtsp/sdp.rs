//! The session description (RFC 4566; parameter sets by RFC 6184 section 8.2 and RFC 7798 section 7.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flow::Codec;

use super::packets::PacketTable;

/// The dynamic payload type of the video.
pub(super) const PAYLOAD_TYPE: u8 = 96;
/// The video's name in SETUP, relative to Content-Base.
pub(super) const TRACK: &str = "trackID=0";

/// Describes `table` under the name of its mount.
pub(super) fn describe(table: &PacketTable, name: &str) -> String {
    let clip = &table.clip;
    let set = |set: &Option<Vec<u8>>| BASE64.encode(set.as_deref().unwrap_or_default());
    let (encoding, fmtp) = match clip.codec {
        Codec::H264 => {
            let profile: String = table
                .sets
                .sps
                .iter()
                .flat_map(|sps| sps.iter().skip(1).take(3))
                .map(|b| format!("{b:02X}"))
                .collect();
            let sets = format!("{},{}", set(&table.sets.sps), set(&table.sets.pps));
            ("H264", format!("packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}"))
        }
        Codec::H265 => {
            let (vps, sps, pps) = (set(&table.sets.vps), set(&table.sets.sps), set(&table.sets.pps));
            ("H265", format!("sprop-vps={vps};sprop-sps={sps};sprop-pps={pps}"))
        }
    };
    let kbit = (clip.bits_per_second() / 1_000.0).ceil();
    let fps = (clip.fps() * 1_000.0).round() / 1_000.0;
    format!(
        "v=0\r\n\
         o=- 1 1 IN IP4 0.0.0.0\r\n\
         s={name}\r\n\
         c=IN IP4 0.0.0.0\r\n\
         t=0 0\r\n\
         a=control:*\r\n\
         a=range:npt=0-\r\n\
         m=video 0 RTP/AVP {PAYLOAD_TYPE}\r\n\
         b=AS:{kbit}\r\n\
         a=rtpmap:{PAYLOAD_TYPE} {encoding}/90000\r\n\
         a=fmtp:{PAYLOAD_TYPE} {fmtp}\r\n\
         a=framerate:{fps}\r\n\
         a=control:{TRACK}\r\n"
    )
}
