//! The session description (RFC 4566; parameter sets by RFC 6184 section 8.2 and RFC 7798 section 7.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flow::Codec;

use super::mount::Track;
use super::packets::{self, PacketTable};
use super::script::Script;
use super::server::Mounted;

/// What a track's name in SETUP, relative to Content-Base, begins with; the video's number is 0.
pub(super) const TRACK: &str = "trackID=";

/// Describes a mount, with the faults of `script`.
pub(super) fn describe(mounted: &Mounted, script: &Script) -> String {
    let (table, tracks) = (&mounted.table, &mounted.mount.tracks);
    let track = |track: Track| match tracks.contains(&track) {
        true => track.describe(),
        false => String::new(),
    };
    let mut text = format!(
        "v=0\r\n\
         o=- 1 1 IN IP4 0.0.0.0\r\n\
         s={}\r\n\
         c=IN IP4 0.0.0.0\r\n\
         t=0 0\r\n\
         a=control:*\r\n\
         a=range:npt=0-\r\n",
        mounted.path
    );
    text += &track(Track::Metadata);
    text += &video(table, script.no_sets_in_sdp);
    text += &track(Track::Audio);
    while text.len() < script.huge_sdp {
        text += "a=x-vendor-extension:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n";
    }
    text
}

fn video(table: &PacketTable, no_sets: bool) -> String {
    let payload_type = packets::payload_type(table.codec);
    let (encoding, fmtp) = format(table, no_sets);
    let fmtp = if fmtp.is_empty() { fmtp } else { format!("a=fmtp:{payload_type} {fmtp}\r\n") };
    let kbit = (table.bits_per_second / 1_000.0).ceil();
    let fps = (table.fps * 1_000.0).round() / 1_000.0;
    format!(
        "m=video 0 RTP/AVP {payload_type}\r\n\
         b=AS:{kbit}\r\n\
         a=rtpmap:{payload_type} {encoding}/90000\r\n\
         {fmtp}\
         a=framerate:{fps}\r\n\
         a=control:{TRACK}0\r\n"
    )
}

/// The encoding's name and what its `fmtp` says.
fn format(table: &PacketTable, no_sets: bool) -> (&'static str, String) {
    let set = |set: &Option<Vec<u8>>| BASE64.encode(set.as_deref().unwrap_or_default());
    let sets = &table.sets;
    match table.codec {
        Codec::Mjpeg => ("JPEG", String::new()),
        Codec::H264 if no_sets => ("H264", "packetization-mode=1".into()),
        Codec::H264 => {
            let sps = sets.sps.iter().flat_map(|sps| sps.iter().skip(1).take(3));
            let profile: String = sps.map(|byte| format!("{byte:02X}")).collect();
            let sets = format!("{},{}", set(&sets.sps), set(&sets.pps));
            let fmtp = format!("packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}");
            ("H264", fmtp)
        }
        Codec::H265 if no_sets => ("H265", String::new()),
        Codec::H265 => {
            let (vps, sps, pps) = (set(&sets.vps), set(&sets.sps), set(&sets.pps));
            ("H265", format!("sprop-vps={vps};sprop-sps={sps};sprop-pps={pps}"))
        }
    }
}
