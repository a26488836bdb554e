//! Cuts what comes in an RTSP connection into interleaved frames (RFC 2326 10.12) and messages, and finds the way
//! back when something else stands in between.

use super::fault::Fault;
use super::message::{self, Message};

/// Bytes before the data of a frame: `$`, channel, length.
const HEAD: usize = 4;
/// More in a row than any picture of a stream that is merely broken in one place.
const MAX_GARBAGE: usize = 1 << 20;
/// Of messages while the stream plays: answers to keep-alives have none or little.
const MAX_BODY: usize = 32 << 10;
/// What a frame that begins may need until it is whole; nothing that is kept is longer.
pub(crate) const MAX_PIECE: usize = message::MAX_HEAD + MAX_BODY + 4;

/// One thing that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Frame { channel: u8, data: &'a [u8] },
    Message(Message),
}

/// Remembers how far the stream can be trusted.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    /// Bytes that belonged to nothing.
    garbage: u64,
    /// In a row.
    run: usize,
    lost_step: bool,
    scanned: usize,
}

impl Framer {
    /// Bytes so far that were neither RTSP nor RTP.
    pub(crate) fn garbage(&self) -> u64 {
        self.garbage
    }

    /// The next piece of `data`, from `*at` on, which is moved behind it. `None`: more has to come; what lies from
    /// `*at` on must then be given again, in front of that.
    pub(crate) fn next<'a>(&mut self, data: &'a [u8], at: &mut usize) -> Result<Option<Piece<'a>>, Fault> {
        loop {
            if self.lost_step && !self.find_step(data, at)? {
                return Ok(None);
            }
            let rest = &data[*at..];
            match rest {
                [] => return Ok(None),
                // Some servers end their messages with more line ends than they announce.
                [b'\r' | b'\n', ..] => *at += 1,
                [b'$', channel, high, low, after @ ..] => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    if after.first().is_some_and(|first| length > 0 && !is_rtp(*first)) {
                        self.skip(at, 1)?;
                        continue;
                    }
                    let Some(frame) = after.get(..length) else { return Ok(None) };
                    *at += HEAD + length;
                    self.run = 0;
                    return Ok(Some(Piece::Frame { channel: *channel, data: frame }));
                }
                [b'$', ..] => return Ok(None),
                _ if message::may_begin(rest) => match message::parse(rest, &mut self.scanned, MAX_BODY) {
                    Ok(None) => return Ok(None),
                    Ok(Some((message, length))) => {
                        *at += length;
                        (self.scanned, self.run) = (0, 0);
                        return Ok(Some(Piece::Message(message)));
                    }
                    // It looked like one.
                    Err(Fault::Malformed(_)) => self.skip(at, 1)?,
                    Err(other) => return Err(other),
                },
                _ => self.skip(at, 1)?,
            }
        }
    }

    /// Looks for the next place where a frame or a message may begin; `false`: not in `data`.
    fn find_step(&mut self, data: &[u8], at: &mut usize) -> Result<bool, Fault> {
        while let Some(found) = data[*at..].iter().position(|b| matches!(b, b'$' | b'R')) {
            self.skip(at, found)?;
            let rest = &data[*at..];
            // Enough to see whether it is RTP or RTCP, and with what payload type.
            if rest.len() < HEAD + 2 {
                return Ok(false);
            }
            let frame = rest[0] == b'$' && rest[1] < 32 && is_rtp(rest[4]) && is_payload(rest[5]);
            if frame || rest.starts_with(b"RTSP/") {
                self.lost_step = false;
                return Ok(true);
            }
            self.skip(at, 1)?;
        }
        let left = data.len() - *at;
        self.skip(at, left)?;
        Ok(false)
    }

    fn skip(&mut self, at: &mut usize, bytes: usize) -> Result<(), Fault> {
        *at += bytes;
        self.lost_step = true;
        // What looked like a message may have turned out to be none before its end was found.
        self.scanned = 0;
        self.garbage += bytes as u64;
        self.run += bytes;
        if self.run > MAX_GARBAGE { Err(Fault::Garbage(self.run)) } else { Ok(()) }
    }
}

/// Version 2, as RTP and RTCP both begin (RFC 3550 5.1, 6.4).
fn is_rtp(first: u8) -> bool {
    first >> 6 == 2
}

/// A payload type in use for video or RTCP, so that a stray `$` is less often taken for a frame.
fn is_payload(second: u8) -> bool {
    matches!(second & 0x7f, 24..=34 | 96..=127) || matches!(second, 200..=207)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(channel: u8, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        [&[b'$', channel, length[0], length[1]], data].concat()
    }

    const RTP: &[u8] = &[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0x65, b'$'];

    /// Gives `stream` in parts of so many bytes, as a socket would.
    fn pieces(stream: &[u8], step: usize) -> (Vec<String>, Framer) {
        let mut framer = Framer::default();
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        for part in stream.chunks(step) {
            kept.extend_from_slice(part);
            let mut at = 0;
            while let Some(piece) = framer.next(&kept, &mut at).unwrap() {
                seen.push(match piece {
                    Piece::Frame { channel, data } => format!("{channel}:{}", data.len()),
                    Piece::Message(message) => format!("{:?}", message.sequence()),
                });
            }
            kept.drain(..at);
        }
        (seen, framer)
    }

    #[test]
    fn frames_and_messages_come_in_any_pieces() {
        let reply = b"RTSP/1.0 200 OK\r\nCSeq: 9\r\nContent-Length: 2\r\n\r\n$$\r\n";
        let stream = [&frame(0, RTP)[..], &frame(1, &[0x80, 200, 0, 0]), reply, &frame(2, RTP)].concat();
        for step in 1..stream.len() {
            let (seen, framer) = pieces(&stream, step);
            assert_eq!(seen, ["0:14", "1:4", "Some(9)", "2:14"], "{step}");
            assert_eq!(framer.garbage(), 0);
        }
        assert_eq!(pieces(&frame(0, &[]), 1).0, ["0:0"]);
    }

    #[test]
    fn after_garbage_the_next_frame_is_found_and_what_was_skipped_is_counted() {
        for garbage in
            [&b"\x01\x02\x03"[..], b"$\x00\x00\x05abcde", b"RTSX", b"$$$$$", b"RTSP/1.0 nonsense\r\n\r\n"]
        {
            let stream = [&frame(0, RTP)[..], garbage, &frame(0, RTP), &frame(0, RTP)].concat();
            for step in [1, 7, stream.len()] {
                let (seen, framer) = pieces(&stream, step);
                assert_eq!(seen, ["0:14", "0:14", "0:14"], "{garbage:?} {step}");
                let ends = garbage.iter().filter(|b| b"\r\n".contains(b)).count() as u64;
                let expected = garbage.len() as u64;
                assert!((expected - ends..=expected).contains(&framer.garbage()), "{garbage:?}");
            }
        }
    }

    /// Found by fuzzing: how far it had been read was remembered.
    #[test]
    fn what_began_like_a_message_and_was_none_is_forgotten() {
        let stream = b"SET_PARAMETEx__RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n";
        for step in 1..stream.len() {
            assert_eq!(pieces(stream, step).0, ["Some(9)"], "{step}");
        }
    }

    #[test]
    fn nothing_but_garbage_is_given_up() {
        let mut framer = Framer::default();
        let part = [0xff; 4096];
        let given_up = (0..1000).find_map(|n| framer.next(&part, &mut 0).is_err().then_some(n * part.len()));
        assert_eq!(given_up, Some(MAX_GARBAGE));
    }
}
