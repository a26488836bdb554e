//! The parsers of what comes from outside, for fuzzing: each takes any bytes and must neither panic nor take long.
//! No part of the crate's interface.

use crate::lean::framer::Framer;
use crate::lean::{description, message, rtcp, rtp};

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
    _ = description::parse(data);
}
