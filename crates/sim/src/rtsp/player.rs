//! One session's way through a clip: which picture is due when, and its RTP packets. No I/O and no clock.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::packets::PacketTable;
use super::rtcp::Report;
use super::script::Script;
use super::sdp::PAYLOAD_TYPE;
use crate::nal::NalKind;

/// RTP header without extensions and contributing sources (RFC 3550 section 5.1).
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
    /// Starts at `position` of the clip, or rather at the first key picture from there on.
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
        player.skip_to_key();
        player.skipped = 0;
        player
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

    /// When the last round is over; `None`: the clip is played for ever, or not yet in its last round.
    pub(super) fn end(&self) -> Option<Instant> {
        // One more picture would be due: with B pictures that is later than the round's last shown picture.
        self.ended().then(|| self.round_start() + self.table.units[0].send)
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
        let payload = picture.table.payload(packet);
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
        let marker = packet == picture.last && !self.script.no_marker;
        out.extend_from_slice(&[0x80, PAYLOAD_TYPE | u8::from(marker) << 7]);
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&picture.timestamp.to_be_bytes());
        out.extend_from_slice(&self.identity.ssrc.to_be_bytes());
        out.extend_from_slice(payload);
        if picture.corrupt && !is_parameter_set(&picture.table, payload) {
            // From byte 8 on: the picture still starts like one.
            out[begin + RTP_HEADER..].iter_mut().skip(8).step_by(23).for_each(|byte| *byte ^= 0x5a);
        }
        true
    }

    /// Appends a whole picture, framed for the RTSP connection (RFC 2326 section 10.12); garbage is not framed.
    pub(super) fn interleaved(&mut self, picture: &Picture, channel: u8, out: &mut Vec<u8>) {
        for packet in picture.packets.clone() {
            let begin = out.len();
            if !picture.garbage {
                out.extend_from_slice(&[b'$', channel, 0, 0]);
            }
            if !self.packet(picture, packet, out) {
                out.truncate(begin);
            } else if !picture.garbage {
                let size = (out.len() - begin - 4) as u16;
                out[begin + 2..begin + 4].copy_from_slice(&size.to_be_bytes());
            }
        }
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

    /// When the connection is to be cut.
    pub(super) fn cut(&self) -> Option<Instant> {
        self.script.cut_after.map(|after| self.played + after)
    }

    fn ended(&self) -> bool {
        self.rounds.is_some_and(|rounds| self.round >= rounds)
    }

    fn round_start(&self) -> Instant {
        self.origin + self.shift + self.table.clip.duration * self.round
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
            self.shift += self.table.clip.duration * self.round + unit.pts;
            self.table = to.clone();
            self.switched += 1;
            self.index = 0;
            self.round = 0;
        }
    }
}

fn is_parameter_set(table: &PacketTable, payload: &[u8]) -> bool {
    matches!(NalKind::of(table.clip.codec, payload), NalKind::Vps | NalKind::Sps | NalKind::Pps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::mount::Fault;
    use crate::{Clip, ClipUnit};
    use flow::Codec;

    /// 25 pictures per second, a key picture every `gop`.
    fn table(pictures: u64, gop: u64) -> Arc<PacketTable> {
        let key = vec![0, 0, 1, 0x67, 1, 2, 3, 0, 0, 1, 0x68, 4, 0, 0, 1, 0x65, 9, 9, 9, 9];
        let plain = vec![0, 0, 1, 0x41, 0x9a, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];
        let units = (0..pictures).map(|i| {
            let data = if i % gop == 0 { key.clone() } else { plain.clone() };
            ClipUnit { data: data.into(), key: i % gop == 0, pts: Duration::from_millis(40 * i) }
        });
        let duration = Duration::from_millis(40 * pictures);
        let clip = Clip { codec: Codec::H264, width: 16, height: 16, units: units.collect(), duration };
        Arc::new(PacketTable::new(Arc::new(clip)).unwrap())
    }

    fn script(faults: &[Fault]) -> Arc<Script> {
        Arc::new(Script::new(faults, |_| Err(())).unwrap_or_default())
    }

    fn player(script: Arc<Script>, rounds: Option<u32>, position_ms: u64) -> (Player, Instant) {
        let now = Instant::now();
        let identity = Identity { ssrc: 1, sequence: u16::MAX - 10, timestamp: u32::MAX - 10_000 };
        (Player::new(table(10, 5), script, rounds, identity, now, Duration::from_millis(position_ms)), now)
    }

    /// Due time after PLAY in ms, RTP timestamp and sequence number of each packet.
    fn play(player: &mut Player, played: Instant, pictures: usize) -> Vec<(u128, u32, u16)> {
        let mut seen = Vec::new();
        for _ in 0..pictures {
            let Some(due) = player.due() else { break };
            let picture = player.take();
            for packet in picture.packets.clone() {
                let mut out = Vec::new();
                if player.packet(&picture, packet, &mut out) {
                    let timestamp = u32::from_be_bytes(out[4..8].try_into().unwrap());
                    let sequence = u16::from_be_bytes(out[2..4].try_into().unwrap());
                    seen.push(((due - played).as_millis(), timestamp, sequence));
                }
            }
        }
        seen
    }

    #[test]
    fn rounds_continue_time_timestamps_and_sequence_numbers() {
        let (mut player, now) = player(script(&[]), None, 0);
        let seen = play(&mut player, now, 35);
        for pair in seen.windows(2) {
            assert_eq!(pair[1].2, pair[0].2.wrapping_add(1));
            let (ms, ticks) = (pair[1].0 - pair[0].0, pair[1].1.wrapping_sub(pair[0].1));
            assert!((ms, ticks) == (40, 3_600) || (ms, ticks) == (0, 0), "{pair:?}");
        }
        assert_eq!(seen.last().unwrap().0, 34 * 40);
    }

    #[test]
    fn a_live_session_enters_at_the_next_key_picture() {
        let (mut player, now) = player(script(&[]), None, 90);
        assert_eq!(play(&mut player, now, 1)[0].0, 110, "key picture 5 is at 200 ms");
        let (mut wrapped, now) = self::player(script(&[]), None, 390);
        assert_eq!(play(&mut wrapped, now, 1)[0].0, 10, "the next round's first picture");
        assert_eq!(wrapped.take_skipped(), 0, "nobody missed what came before PLAY");
    }

    #[test]
    fn the_last_round_ends() {
        let (mut player, now) = player(script(&[]), Some(2), 0);
        assert_eq!(player.end(), None);
        play(&mut player, now, 100);
        assert_eq!(player.end(), Some(now + Duration::from_millis(800)));
    }

    #[test]
    fn a_slow_reader_is_taken_to_the_next_key_picture() {
        let (mut player, now) = player(script(&[]), None, 0);
        play(&mut player, now, 2);
        player.drop_to_key();
        assert_eq!(player.due(), Some(now + Duration::from_millis(200)));
        assert_eq!(player.take_skipped(), 3);
    }

    #[test]
    fn lost_packets_leave_gaps_and_are_the_same_every_time() {
        let lossy = || player(script(&[Fault::LosePackets { share: 0.3, seed: 9 }]), None, 0);
        let run = || {
            let (mut player, now) = lossy();
            play(&mut player, now, 500).into_iter().map(|(_, _, sequence)| sequence).collect::<Vec<_>>()
        };
        let seen = run();
        assert_eq!(seen, run());
        assert!((400..580).contains(&seen.len()), "{} of 700 packets", seen.len());
    }

    #[test]
    fn a_switch_waits_for_a_key_picture_and_keeps_the_timestamps() {
        let now = Instant::now();
        let after = Duration::from_millis(90);
        let script = Script { switches: vec![(after, table(4, 4))], ..Script::default() };
        let identity = Identity { ssrc: 1, sequence: 0, timestamp: 0 };
        let mut player = Player::new(table(10, 5), Arc::new(script), None, identity, now, Duration::ZERO);
        let seen = play(&mut player, now, 12);
        let mut times: Vec<_> = seen.iter().map(|packet| (packet.0, packet.1)).collect();
        times.dedup();
        assert_eq!(times, (0..12).map(|i| (40 * i, 3_600 * i as u32)).collect::<Vec<_>>());
        assert_eq!(player.table.units.len(), 4);
    }

    #[test]
    fn a_timestamp_jump_and_silence_come_when_they_are_due() {
        let faults = [
            Fault::TimestampJump { after: Duration::from_millis(80), ticks: -5_000 },
            Fault::SilentAfter(Duration::from_millis(120)),
        ];
        let (mut player, now) = player(script(&faults), None, 0);
        let seen = play(&mut player, now, 50);
        let last = seen.last().unwrap();
        assert_eq!(last.0, 80);
        assert_eq!(last.1.wrapping_sub(seen[0].1), 7_200u32.wrapping_sub(5_000));
    }
}
