use super::*;
use crate::picture::{Arrival, Damage};
use crate::testing::look;

struct Stream {
    selector: Selector,
    start: Instant,
}

impl Stream {
    fn new(sampling: Sampling, at_most_every_ms: u64) -> Self {
        let look = look(sampling, Duration::from_millis(at_most_every_ms));
        Self { selector: Selector::new(&look, Codec::H264, false), start: Instant::now() }
    }

    /// What becomes of a picture that the next stage takes.
    fn at(&mut self, ms: u64, lost_before: u32, content: Content) -> Result<Role, Reason> {
        let at = self.start + Duration::from_millis(ms);
        let arrival = Arrival { wall: flow::Timestamp::UNIX_EPOCH, at };
        let role = self.selector.decide(&Picture { ticks: 0, arrival, lost_before, content })?;
        self.selector.passed(at, role);
        Ok(role)
    }

    fn key(&mut self, ms: u64) -> Result<Role, Reason> {
        self.at(ms, 0, coded(true, false))
    }

    fn other(&mut self, ms: u64) -> Result<Role, Reason> {
        self.at(ms, 0, coded(false, false))
    }
}

fn coded(key: bool, skipped_leading: bool) -> Content {
    Content::Coded { key, stands_alone: key, skipped_leading, data: bytes::Bytes::new() }
}

const DELIVER: Result<Role, Reason> = Ok(Role::Chained { deliver: true });
const REFERENCE: Result<Role, Reason> = Ok(Role::Chained { deliver: false });

#[test]
fn with_keyframes_each_key_picture_stands_alone() {
    let mut s = Stream::new(Sampling::Keyframes, 0);
    assert_eq!(s.at(0, 0, Content::NotKey), Err(Reason::NotKey));
    assert_eq!(s.key(40), Ok(Role::Alone));
    assert_eq!(s.at(80, 9, coded(true, false)), Ok(Role::Alone), "a gap before it does not matter");
    assert_eq!(s.at(120, 0, Content::Damaged(Damage::Loss)), Err(Reason::Damaged));
    assert_eq!(s.at(160, 0, Content::NoParameters), Err(Reason::NoParameters));
}

#[test]
fn at_most_every_holds_and_jitter_loses_nothing() {
    let mut s = Stream::new(Sampling::Keyframes, 1000);
    let mut random = fastrand::Rng::with_seed(3);
    for second in 0..500u64 {
        // ±60 ms around a 1 s interval.
        assert_eq!(s.key(1000 + second * 1000 + random.u64(0..120)), Ok(Role::Alone), "second {second}");
    }

    let mut s = Stream::new(Sampling::Keyframes, 2000);
    let passed: Vec<u64> = (0..40).map(|i| i * 500).filter(|ms| s.key(*ms).is_ok()).collect();
    assert_eq!(passed, [0, 2000, 4000, 6000, 8000, 10000, 12000, 14000, 16000, 18000]);
    // After a pause the next look is a whole period away again.
    assert_eq!(s.key(27_300), Ok(Role::Alone));
    assert_eq!(s.key(28_500), Err(Reason::TooSoon));
    assert_eq!(s.key(29_300), Ok(Role::Alone));
}

#[test]
fn a_refused_picture_does_not_use_up_the_turn() {
    let mut s = Stream::new(Sampling::Keyframes, 5000);
    let arrival = Arrival { wall: flow::Timestamp::UNIX_EPOCH, at: s.start };
    let picture = Picture { ticks: 0, arrival, lost_before: 0, content: coded(true, false) };
    assert_eq!(s.selector.decide(&picture), Ok(Role::Alone));
    s.selector.refused();
    assert_eq!(s.key(1000), Ok(Role::Alone));
}

#[test]
fn a_whole_stream_starts_at_a_key_picture_and_again_after_a_gap() {
    let mut s = Stream::new(Sampling::Fps(1000.0), 0);
    assert_eq!(s.other(0), Err(Reason::AwaitKey));
    assert_eq!(s.key(40), DELIVER);
    assert_eq!(s.other(80), DELIVER);
    assert_eq!(s.at(120, 3, coded(false, false)), Err(Reason::AwaitKey));
    assert_eq!(s.other(160), Err(Reason::AwaitKey));
    assert_eq!(s.key(200), DELIVER);
    assert_eq!(s.at(240, 0, Content::Damaged(Damage::Fragments)), Err(Reason::Damaged));
    assert_eq!(s.other(280), Err(Reason::AwaitKey));
    assert_eq!(s.at(320, 2, coded(true, false)), DELIVER, "a whole key picture after a gap is a new start");
    s.selector.refused();
    assert_eq!(s.other(360), Err(Reason::AwaitKey));
    assert_eq!(s.key(400), DELIVER);
}

#[test]
fn leading_pictures_are_dropped_only_where_decoding_starts() {
    let mut s = Stream::new(Sampling::Fps(1000.0), 0);
    assert_eq!(s.key(0), DELIVER);
    assert_eq!(s.at(40, 0, coded(false, true)), Err(Reason::AwaitKey));
    assert_eq!(s.other(80), DELIVER);
    assert_eq!(s.key(120), DELIVER);
    assert_eq!(s.at(160, 0, coded(false, true)), DELIVER, "its reference was decoded");
}

#[test]
fn fps_picks_the_nearest_frames_and_passes_all() {
    for (fps, camera_fps, expected) in [(5.0, 25, 50), (10.0, 25, 100), (25.0, 25, 250), (12.0, 25, 120)] {
        let mut s = Stream::new(Sampling::Fps(fps), 0);
        let mut random = fastrand::Rng::with_seed(5);
        let roles: Vec<_> = (0..camera_fps * 10)
            .map(|i| {
                let ms = i * 1000 / camera_fps + random.u64(0..8);
                if i == 0 { s.key(ms) } else { s.other(ms) }
            })
            .collect();
        assert!(roles.iter().all(|r| *r == DELIVER || *r == REFERENCE));
        let delivered = roles.iter().filter(|r| **r == DELIVER).count() as i64;
        assert!((delivered - expected).abs() <= 2, "{fps} of {camera_fps} fps: {delivered} in 10 s");
    }
}

#[test]
fn in_full_one_picture_per_period_is_looked_at_and_then_key_pictures_are_enough_again() {
    let mut s = Stream::new(Sampling::Keyframes, 1000);
    s.selector = Selector::new(&look(Sampling::Keyframes, Duration::from_secs(1)), Codec::H264, true);
    assert_eq!(s.other(0), Err(Reason::AwaitKey));
    let roles: Vec<_> = (0..100).map(|i| if i == 0 { s.key(100) } else { s.other(100 + i * 100) }).collect();
    // The last one is an eighth of a second early.
    assert_eq!(roles.iter().filter(|role| **role == DELIVER).count(), 11);
    assert_eq!(roles.iter().filter(|role| **role == REFERENCE).count(), 89);
    s.selector.keys_only();
    assert_eq!(s.key(10_150), Err(Reason::TooSoon), "no look sooner than before");
    assert_eq!(s.key(11_050), Ok(Role::Alone));
    assert_eq!(s.other(12_200), Err(Reason::NotKey));
}

#[test]
fn motion_jpeg_is_picked_by_time_and_each_picture_stands_alone() {
    let mut s = Stream::new(Sampling::Fps(5.0), 0);
    s.selector = Selector::new(&look(Sampling::Fps(5.0), Duration::ZERO), Codec::Mjpeg, false);
    let roles: Vec<_> = (0..250).map(|i| s.key(i * 40)).collect();
    assert_eq!(roles.iter().filter(|role| **role == Ok(Role::Alone)).count(), 51);
    assert!(roles.iter().all(|role| *role == Ok(Role::Alone) || *role == Err(Reason::TooSoon)));
}
