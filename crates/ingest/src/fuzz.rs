//! The parsers of what comes from outside, for fuzzing: each takes any bytes and must neither panic nor take long.
//! No part of the crate's interface.

use std::time::Instant;

use flow::{Codec, Timestamp};

use crate::depacketize::Depacketizer;
use crate::lean::framer::Framer;
use crate::lean::{description, message, rtcp, rtp, target};
use crate::picture::{Arrival, Content, Packet};
use crate::{nal, probe, sdp as formats, sei, sps};

/// An entry point.
pub type Target = fn(&[u8]);

/// All of them, by the names of the fuzz targets and of the folders of their corpora.
pub const TARGETS: [(&str, Target); 10] = [
    ("reply", reply),
    ("interleaved", interleaved),
    ("rtp", rtp),
    ("rtcp", rtcp),
    ("sdp", sdp),
    ("location", location),
    ("depacketize_h264", depacketize_h264),
    ("depacketize_h265", depacketize_h265),
    ("depacketize_jpeg", depacketize_jpeg),
    ("parameters", parameters),
];

/// An RTSP message: headers and body.
pub fn reply(data: &[u8]) {
    let mut scanned = 0;
    let first = data.len() / 2;
    // In two pieces, as a socket may give it.
    _ = message::parse(&data[..first], &mut scanned, message::MAX_BODY);
    if let Ok(Some((message, used))) = message::parse(data, &mut scanned, message::MAX_BODY) {
        assert!(used <= data.len(), "no more is used than there is");
        _ = (message.sequence(), message.header("session"));
    }
}

/// What comes in a connection that plays: the first byte says in pieces of what size.
pub fn interleaved(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    let (mut framer, mut kept) = (Framer::default(), Vec::new());
    for part in data.chunks(usize::from(*step) + 1) {
        kept.extend_from_slice(part);
        let mut at = 0;
        loop {
            match framer.next(&kept, &mut at) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        kept.drain(..at);
    }
    assert!(framer.garbage() <= data.len() as u64, "each byte is skipped once at most");
}

/// RTP packets behind 16 bits of length each.
pub fn rtp(data: &[u8]) {
    let mut follower = rtp::Follower::default();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        if let Some(header) = rtp::parse(&after[..length]) {
            assert!(header.payload.len() + 12 <= length, "the payload is part of the packet");
            _ = follower.follow(&header);
            _ = follower.extended(header.ssrc, header.time);
        }
        rest = &after[length..];
    }
}

/// A compound RTCP packet.
pub fn rtcp(data: &[u8]) {
    assert!(rtcp::parse(data).count() <= data.len() / 4, "each report has a header");
}

/// A session description.
pub fn sdp(data: &[u8]) {
    if let Ok(description) = description::parse(data) {
        _ = format!("{description:?}");
    }
    _ = probe::describe::read(data);
    for payload_type in [26, 96] {
        _ = formats::format(data, payload_type);
        let sets = formats::parameter_sets(data, payload_type);
        assert!(sets.iter().map(Vec::len).sum::<usize>() <= data.len(), "base64 is longer than what it says");
    }
}

/// What a camera says where something is: a redirection, a base, a control attribute; lines of one input.
pub fn location(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let asked = target::Target { host: "h".into(), port: 554, url: "rtsp://h/asked?a=b".into() };
    if let Some(elsewhere) = asked.redirected(first) {
        assert_line(&elsewhere.url);
        assert!(!elsewhere.host.is_empty(), "nowhere");
    }
    let base = target::base(Some(first), None, &asked.url);
    assert_line(&base);
    assert_line(&target::join(&base, second));
}

/// A URL goes into a request line, which it must not end.
fn assert_line(url: &str) {
    assert!(!url.contains(|c: char| c.is_ascii_control() || c == ' '), "{url:?} breaks the line");
}

/// RTP payloads of H.264; see `depacketize`.
pub fn depacketize_h264(data: &[u8]) {
    depacketize(Codec::H264, data);
}

/// RTP payloads of H.265; see `depacketize`.
pub fn depacketize_h265(data: &[u8]) {
    depacketize(Codec::H265, data);
}

/// RTP payloads of Motion JPEG; see `depacketize`.
pub fn depacketize_jpeg(data: &[u8]) {
    depacketize(Codec::Mjpeg, data);
}

/// Payloads, each behind a byte of flags and 16 bits of length. The first byte of all: 1, key pictures only; 2, with
/// decoding order numbers; 4, of a known size. A payload's flags: 1, with the marker; 2, of the next time; 4, after a
/// loss; 8, of an earlier time.
fn depacketize(codec: Codec, data: &[u8]) {
    const MAX_BYTES: usize = 64 << 10;
    let Some((mode, mut rest)) = data.split_first() else { return };
    let mut depacketizer = Depacketizer::new(codec, mode & 1 != 0, MAX_BYTES);
    let jpeg_size = (mode & 4 != 0).then_some((640, 360));
    depacketizer.format(formats::Format { numbered: mode & 2 != 0, jpeg_size });
    let arrival = Arrival { wall: Timestamp::UNIX_EPOCH, at: Instant::now() };
    let (mut ticks, mut pictures) = (0, 0);
    while let Some(([flags, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        ticks += if flags & 2 != 0 { 3_600 } else { 0 } - if flags & 8 != 0 { 90_000 } else { 0 };
        let lost = u32::from(flags & 4 != 0);
        let packet = Packet { ticks, mark: flags & 1 != 0, lost, arrival, payload: &after[..length] };
        rest = &after[length..];
        if depacketizer.push(&packet).is_err() {
            return;
        }
        while let Some(picture) = depacketizer.pop() {
            pictures += 1;
            if let Content::Coded { data: coded, .. } = &picture.content {
                // A key picture brings the sets in force along, and a payload may repeat a JPEG's tables.
                assert!(coded.len() <= MAX_BYTES + 2 * data.len() + 4_096, "{} bytes", coded.len());
            }
        }
    }
    assert!(pictures <= data.len(), "a picture is made of something");
}

/// Parameter sets, SEI and slices: whatever is read of their bits. The first byte says the codec.
pub fn parameters(data: &[u8]) {
    let Some((codec, data)) = data.split_first() else { return };
    let codec = if codec & 1 == 0 { Codec::H264 } else { Codec::H265 };
    for unit in nal::split_annex_b(data).chain([data]) {
        _ = (nal::classify(codec, unit), sps::read(codec, unit), sei::recovery_point(codec, unit));
    }
    _ = sps::slice_layout(data);
    _ = probe::units::look(codec, data);
    probe::units::in_payload(codec, data, &mut |unit| {
        assert!(unit.len() <= data.len(), "a unit is part of it")
    });
}
