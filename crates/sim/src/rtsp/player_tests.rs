//! A session's way through a clip, without a server.

use super::*;
use crate::rtsp::fault::Fault;
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
    Arc::new(PacketTable::new(&clip).unwrap())
}

fn script(faults: &[Fault]) -> Arc<Script> {
    Arc::new(Script::new(faults, |_| Err(())).unwrap_or_default())
}

fn player(script: Arc<Script>, rounds: Option<u32>, position_ms: u64) -> (Player, Instant) {
    let now = Instant::now();
    let identity = Identity { ssrc: 1, sequence: u16::MAX - 10, timestamp: u32::MAX - 10_000 };
    (
        Player::new(table(10, 5), script, rounds, identity, now, Duration::from_millis(position_ms)).at_key(),
        now,
    )
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
