//! One session's way through a clip: which picture is due when, and its RTP packets. No I/O and no clock.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::packets::{self, MAX_PAYLOAD, PacketTable};
use super::rtcp::Report;
use super::script::Script;

/// Bytes of a [`Header`].
const RTP_HEADER: usize = 12;

/// The numbers that a session announces before it plays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    /// RTP timestamp of the clip's start.
    pub(super) timestamp: u32,
}

impl Identity {
    /// Random, as RFC 3550 section 5.1 wants them.
    pub(super) fn random() -> Self {
        Self { ssrc: fastrand::u32(..), sequence: fastrand::u16(..), timestamp: fastrand::u32(..) }
    }
}

/// A picture that is due.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    table: Arc<PacketTable>,
    /// Its packets; what [`Player::packet`] takes.
    pub(super) packets: Range<usize>,
    timestamp: u32,
    last: usize,
    corrupt: bool,
    garbage: bool,
    /// Filler packets to be sent before its first one.
    filler: u32,
    /// The connection is to be reset in the middle of it.
    pub(super) cut: bool,
}

/// One session's way through a clip.
#[derive(Debug)]
pub(super) struct Player {
    script: Arc<Script>,
    table: Arc<PacketTable>,
    rounds: Option<u32>,
    /// When the first round began, or would have.
    origin: Instant,
    played: Instant,
    /// From `origin` to where the present clip began: more than 0 after a switch.
    shift: Duration,
    round: u32,
    index: usize,
    switched: usize,
    identity: Identity,
    sequence: u16,
    pictures: u64,
    skipped: u64,
    sent_packets: u32,
    sent_bytes: u32,
    loss: fastrand::Rng,
    noise: fastrand::Rng,
}

impl Player {
    /// Starts at the first picture from `position` of the clip on.
    pub(super) fn new(
        table: Arc<PacketTable>,
        script: Arc<Script>,
        rounds: Option<u32>,
        identity: Identity,
        now: Instant,
        position: Duration,
    ) -> Self {
        let seed = script.lose.map_or(0, |(_, seed)| seed);
        let index = table.units.partition_point(|unit| unit.send < position);
        let mut player = Self {
            script,
            table,
            rounds,
            origin: now.checked_sub(position).unwrap_or(now),
            played: now,
            shift: Duration::ZERO,
            round: 0,
            index,
            switched: 0,
            identity,
            sequence: identity.sequence,
            pictures: 0,
            skipped: 0,
            sent_packets: 0,
            sent_bytes: 0,
            loss: fastrand::Rng::with_seed(seed),
            noise: fastrand::Rng::with_seed(1),
        };
        player.settle();
        player
    }

    /// The same, but not before the next key picture.
    pub(super) fn at_key(mut self) -> Self {
        self.skip_to_key();
        self.skipped = 0;
        self
    }

    /// When the next picture is due; `None`: none will come.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.ended() {
            return None;
        }
        let due = self.round_start() + self.table.units[self.index].send;
        let silent = self.script.silent_after.is_some_and(|after| due >= self.played + after);
        (!silent).then_some(due)
    }

    /// When the server is to say BYE; `None`: the clip is played for ever, or not yet in its last round.
    pub(super) fn end(&self) -> Option<Instant> {
        // One more picture would be due: with B pictures that is later than the round's last shown picture.
        let over = self.ended().then(|| self.round_start() + self.table.units[0].send);
        let bye = self.script.bye_after.map(|after| self.played + after);
        [over, bye].into_iter().flatten().min()
    }

    /// The RTP timestamp of the picture that comes next, for RTP-Info.
    pub(super) fn next_timestamp(&self) -> u32 {
        let unit = &self.table.units[self.index];
        self.timestamp(self.round_start() + unit.pts)
    }

    /// The sequence number of the packet that comes next, for RTP-Info.
    pub(super) fn next_sequence(&self) -> u16 {
        self.sequence
    }

    /// Takes the picture that is due and moves on to the one after it.
    pub(super) fn take(&mut self) -> Picture {
        let start = self.round_start();
        let unit = &self.table.units[self.index];
        let after = (start + unit.send).saturating_duration_since(self.played);
        let picture = Picture {
            filler: self.filler(&unit.packets),
            cut: self.script.cut_in_picture.is_some_and(|from| after >= from),
            packets: unit.packets.clone(),
            timestamp: self.timestamp(start + unit.pts),
            last: unit.packets.end - 1,
            corrupt: self.script.corrupt_every.is_some_and(|every| (self.pictures + 1).is_multiple_of(every)),
            garbage: self.script.garbage_after.is_some_and(|from| after >= from),
            table: self.table.clone(),
        };
        self.pictures += 1;
        self.step();
        picture
    }

    /// Leaves out the picture that is due and all until the next key picture, for a client that does not keep up.
    pub(super) fn drop_to_key(&mut self) {
        self.skipped += 1;
        self.step();
        self.skip_to_key();
    }

    /// Pictures left out since the last call.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Appends one packet of `picture`, header and payload, unless it is to be lost.
    pub(super) fn packet(&mut self, picture: &Picture, packet: usize, out: &mut Vec<u8>) -> bool {
        let (payload, codec) = (picture.table.payload(packet), picture.table.codec);
        if self.script.sets_only_in_sdp && packets::is_parameter_set(codec, payload) {
            return false;
        }
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        if let Some((share, _)) = self.script.lose
            && self.loss.f64() < share
        {
            return false;
        }
        self.sent_packets = self.sent_packets.wrapping_add(1);
        self.sent_bytes = self.sent_bytes.wrapping_add(payload.len() as u32);
        let begin = out.len();
        if picture.garbage {
            out.resize(begin + RTP_HEADER + payload.len(), 0);
            self.noise.fill(&mut out[begin..]);
            return true;
        }
        let ends =
            packet == picture.last || (self.script.mark_each_unit && packets::ends_unit(codec, payload));
        let header = Header {
            marker: ends && !self.script.no_marker,
            payload_type: packets::payload_type(codec),
            sequence,
            timestamp: picture.timestamp,
            ssrc: self.identity.ssrc,
        };
        header.write(out);
        out.extend_from_slice(payload);
        if picture.corrupt && !packets::is_parameter_set(codec, payload) {
            // From byte 8 on: the picture still starts like one.
            out[begin + RTP_HEADER..].iter_mut().skip(8).step_by(23).for_each(|byte| *byte ^= 0x5a);
        }
        true
    }

    /// Appends a whole picture, framed for the RTSP connection (RFC 2326 section 10.12); garbage is not framed. A
    /// picture that is to be cut ends in the middle of a packet.
    pub(super) fn interleaved(&mut self, picture: &Picture, channel: u8, out: &mut Vec<u8>) {
        if self.script.strange_channel {
            let frame = [b'$', channel.wrapping_add(40), 0, 100];
            out.extend_from_slice(&frame);
            out.resize(out.len() + 100, 0x80);
        }
        for packet in picture.packets.clone() {
            // In front: between the fragments of a NAL unit nothing may stand (RFC 6184 5.8).
            if packet == picture.packets.start {
                (0..picture.filler).for_each(|_| self.filler_packet(picture, channel, out));
            }
            if let Some((every, bytes)) = self.script.garbage_between
                && self.sent_packets.is_multiple_of(every)
            {
                let begin = out.len();
                out.resize(begin + bytes, 0);
                self.noise.fill(&mut out[begin..]);
            }
            let begin = out.len();
            if !picture.garbage {
                out.extend_from_slice(&[b'$', channel, 0, 0]);
            }
            if !self.packet(picture, packet, out) {
                out.truncate(begin);
            } else if !picture.garbage {
                close_frame(out, begin);
            }
        }
        if picture.cut {
            out.truncate(out.len() / 2 + 1);
        }
    }

    /// How many packets of filler data bring a picture to the rate of a flood.
    fn filler(&self, packets: &Range<usize>) -> u32 {
        let Some(rate) = self.script.flood else { return 0 };
        if packets::filler(self.table.codec).is_empty() {
            return 0;
        }
        let wanted = rate as f64 / 8.0 / self.table.fps / MAX_PAYLOAD as f64;
        (wanted as u32).saturating_sub(packets.len() as u32)
    }

    fn filler_packet(&mut self, picture: &Picture, channel: u8, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[b'$', channel, 0, 0]);
        let header = Header {
            marker: false,
            payload_type: packets::payload_type(picture.table.codec),
            sequence: self.sequence,
            timestamp: picture.timestamp,
            ssrc: self.identity.ssrc,
        };
        self.sequence = self.sequence.wrapping_add(1);
        header.write(out);
        out.extend_from_slice(packets::filler(picture.table.codec));
        out.resize(begin + 4 + RTP_HEADER + MAX_PAYLOAD, 0xff);
        close_frame(out, begin);
    }

    /// What a sender report says at `now`.
    pub(super) fn report(&self, now: Instant) -> Report {
        Report {
            ssrc: self.identity.ssrc,
            timestamp: self.timestamp(now),
            packets: self.sent_packets,
            bytes: self.sent_bytes,
        }
    }

    /// Whether nothing at all is sent any more, sender reports included.
    pub(super) fn silent(&self, now: Instant) -> bool {
        self.script.silent_after.is_some_and(|after| now >= self.played + after)
    }

    /// By how many seconds the camera's clock is wrong.
    pub(super) fn clock_error(&self, now: Instant) -> i64 {
        self.script.clock_jumped(now.saturating_duration_since(self.played))
    }

    /// When the connection is to be cut.
    pub(super) fn cut(&self) -> Option<Instant> {
        self.script.cut_after.map(|after| self.played + after)
    }

    fn ended(&self) -> bool {
        self.rounds.is_some_and(|rounds| self.round >= rounds)
    }

    fn round_start(&self) -> Instant {
        self.origin + self.shift + self.table.duration * self.round
    }

    fn timestamp(&self, at: Instant) -> u32 {
        let ticks = at.saturating_duration_since(self.origin).as_nanos() * 9 / 100_000;
        let jumped = self.script.jumped(at.saturating_duration_since(self.played));
        // RTP timestamps wrap.
        self.identity.timestamp.wrapping_add(ticks as u32).wrapping_add(jumped)
    }

    fn step(&mut self) {
        self.index += 1;
        self.settle();
    }

    fn skip_to_key(&mut self) {
        self.settle();
        while !self.ended() && !self.table.units[self.index].key {
            self.skipped += 1;
            self.step();
        }
    }

    /// Begins the next round at the end of the clip, and the next clip at a key picture after its time.
    fn settle(&mut self) {
        if self.index >= self.table.units.len() {
            self.index = 0;
            self.round += 1;
        }
        let unit = &self.table.units[self.index];
        let Some((after, to)) = self.script.switches.get(self.switched) else { return };
        if unit.key && self.round_start() + unit.send >= self.played + *after {
            self.shift += self.table.duration * self.round + unit.pts;
            self.table = to.clone();
            self.switched += 1;
            self.index = 0;
            self.round = 0;
        }
    }
}

/// Fills in the length of the interleaved frame that began at `begin`.
fn close_frame(out: &mut [u8], begin: usize) {
    let size = (out.len() - begin - 4) as u16;
    out[begin + 2..begin + 4].copy_from_slice(&size.to_be_bytes());
}

/// An RTP header without extensions and contributing sources (RFC 3550 section 5.1).
pub(super) struct Header {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
}

impl Header {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x80, self.payload_type | u8::from(self.marker) << 7]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
    }
}

#[cfg(test)]
#[path = "player_tests.rs"]
mod tests;
