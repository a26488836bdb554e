//! How a camera is watched that is sampled at its key pictures, where those come too seldom.
//!
//! Smart codecs (H.264+, H.265+, Smart Codec) put key pictures minutes apart; a camera with intra refresh has none. Once
//! none has come for as long as `at_least_every` allows, the camera is watched in another way: decoded in full, or on
//! its other stream. Either begins with a new session, because cameras send a key picture when one begins, and what came
//! since the last one was not kept. What was found out outlives the session.
//!
//! Pure: pictures and times come in.

use std::time::{Duration, Instant};

use fleet::{Look, OnLongKeys, Sampling};

/// Key pictures in a row that must come in time before they are enough again; doubled each time they were not.
const IN_TIME: u32 = 3;
const MAX_IN_TIME: u32 = 48;
/// Sessions on the other stream that may fail in a row.
const OTHER_FAILURES: u32 = 2;
/// A stream that was left is tried again no later than this.
const MAX_RETRY: Duration = Duration::from_secs(12 * 3600);

/// Which of a camera's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// The one that the configuration names first.
    Main,
    Other,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Stay,
    /// From this picture on key pictures are enough.
    Keys,
    /// Begin another session: it is watched in another way, or is another stream.
    Reconnect,
}

/// One camera's.
#[derive(Debug)]
pub(crate) struct Watching {
    limit: Duration,
    /// `None`: the camera is decoded in full anyhow.
    on_long_keys: Option<OnLongKeys>,
    stream: Stream,
    in_full: bool,
    /// Of this session: its last key picture, or its start.
    last_key: Option<Instant>,
    seen_key: bool,
    in_time: u32,
    needed: u32,
    /// When the stream that was left is tried again.
    retry_at: Option<Instant>,
    first_retry: Duration,
    retry: Duration,
    other_failures: u32,
}

impl Watching {
    /// `retry`: after this time the main stream is looked at again, then after twice as long, and so on.
    pub(crate) fn new(look: &Look, has_other: bool, retry: Duration) -> Self {
        let on_long_keys = match (look.sampling, look.on_long_keys) {
            (Sampling::Fps(_), _) => None,
            (Sampling::Keyframes, OnLongKeys::OtherStream) if has_other => Some(OnLongKeys::OtherStream),
            (Sampling::Keyframes, _) => Some(OnLongKeys::Decode),
        };
        Self {
            limit: look.at_least_every,
            on_long_keys,
            stream: Stream::Main,
            in_full: false,
            last_key: None,
            seen_key: false,
            in_time: 0,
            needed: IN_TIME,
            retry_at: None,
            first_retry: retry,
            retry,
            other_failures: 0,
        }
    }

    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    /// The stream is decoded in full although key pictures were asked for.
    pub(crate) fn in_full(&self) -> bool {
        self.in_full
    }

    /// A session plays.
    pub(crate) fn begins(&mut self, now: Instant) {
        self.last_key = Some(now);
        self.seen_key = false;
        self.in_time = 0;
    }

    /// A whole picture came. `stands_alone`: it can be looked at by itself.
    pub(crate) fn picture(&mut self, stands_alone: bool, now: Instant) -> Step {
        let step = self.step(stands_alone, now);
        if step == Step::Reconnect {
            // What still comes of this session says nothing about the next one.
            self.last_key = None;
        }
        step
    }

    fn step(&mut self, stands_alone: bool, now: Instant) -> Step {
        let (Some(on_long_keys), Some(last)) = (self.on_long_keys, self.last_key) else { return Step::Stay };
        if stands_alone {
            self.last_key = Some(now);
            // From the session's start to its first key picture is no interval of the camera's.
            let counts = std::mem::replace(&mut self.seen_key, true);
            if self.in_full && counts && self.is_enough(now.saturating_duration_since(last)) {
                return Step::Keys;
            }
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            return self.try_again(now);
        }
        // Key pictures jitter: an interval that is just what is allowed must not be cut off.
        let overdue = now.saturating_duration_since(last) > self.limit + self.limit / 8;
        if stands_alone || self.in_full || !overdue {
            return Step::Stay;
        }
        match on_long_keys {
            OnLongKeys::OtherStream if self.stream == Stream::Main => {
                self.stream = Stream::Other;
                self.retry_later(now);
            }
            _ => self.in_full = true,
        }
        Step::Reconnect
    }

    fn is_enough(&mut self, interval: Duration) -> bool {
        self.in_time = if interval <= self.limit { self.in_time + 1 } else { 0 };
        let enough = self.in_time >= self.needed;
        if enough {
            self.in_full = false;
            self.in_time = 0;
            self.needed = (self.needed * 2).min(MAX_IN_TIME);
            if self.stream == Stream::Main {
                self.retry_at = None;
            }
        }
        enough
    }

    /// Looks whether the stream that was left is better now.
    fn try_again(&mut self, now: Instant) -> Step {
        match self.stream {
            Stream::Other => {
                self.stream = Stream::Main;
                self.in_full = false;
                self.retry_at = None;
            }
            Stream::Main => {
                self.stream = Stream::Other;
                self.in_full = false;
                self.other_failures = 0;
                self.retry_later(now);
            }
        }
        Step::Reconnect
    }

    fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now + self.retry);
        self.retry = (self.retry * 2).min(MAX_RETRY.max(self.first_retry));
    }

    /// A session failed; `streamed`: after pictures had come.
    pub(crate) fn failed(&mut self, streamed: bool, now: Instant) {
        self.last_key = None;
        if self.stream == Stream::Main {
            return;
        }
        self.other_failures = if streamed { 0 } else { self.other_failures + 1 };
        if self.other_failures >= OTHER_FAILURES {
            self.stream = Stream::Main;
            self.in_full = true;
            self.retry_later(now);
        }
    }

    /// In words, for the camera's health; empty where it is watched as configured.
    pub(crate) fn note(&self) -> String {
        let why = |stream: &str| {
            let limit = self.limit;
            format!("key pictures{stream} come further apart than at_least_every, {limit:?}")
        };
        match (self.stream, self.in_full) {
            (Stream::Main, false) => String::new(),
            (Stream::Main, true) if self.other_failures >= OTHER_FAILURES => {
                format!("{}: decoded in full, since its other stream cannot be had", why(""))
            }
            (Stream::Main, true) => format!("{}: decoded in full", why("")),
            (Stream::Other, false) => format!("{}: its other stream is watched", why(" of its first stream")),
            (Stream::Other, true) => {
                format!("{}: its other stream is decoded in full", why(" of both of its streams"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::look;

    /// A camera at 10 pictures per second. `at_least_every` is 10 s.
    struct Camera {
        watching: Watching,
        start: Instant,
        now_ms: u64,
        log: Vec<(u64, Step)>,
    }

    impl Camera {
        fn new(on_long_keys: OnLongKeys) -> Self {
            let mut look = look(Sampling::Keyframes, Duration::from_secs(1));
            look.at_least_every = Duration::from_secs(10);
            look.on_long_keys = on_long_keys;
            let mut watching = Watching::new(&look, true, Duration::from_secs(600));
            let start = Instant::now();
            watching.begins(start);
            Self { watching, start, now_ms: 0, log: vec![] }
        }

        fn now(&self) -> Instant {
            self.start + Duration::from_millis(self.now_ms)
        }

        /// Sends for so long, with keys so far apart on each stream; a session begins with one.
        fn sends(&mut self, seconds: u64, main_keys_s: u64, other_keys_s: u64) -> &mut Self {
            let mut since_key = 0;
            for _ in 0..seconds * 10 {
                let every = match self.watching.stream() {
                    Stream::Main => main_keys_s,
                    Stream::Other => other_keys_s,
                };
                let key = since_key % (every * 1000) == 0;
                let step = self.watching.picture(key, self.now());
                if step != Step::Stay {
                    self.log.push((self.now_ms / 1000, step));
                }
                since_key += 100;
                self.now_ms += 100;
                if step == Step::Reconnect {
                    self.watching.begins(self.now());
                    since_key = 0;
                }
            }
            self
        }
    }

    #[test]
    fn keys_in_time_change_nothing() {
        let mut camera = Camera::new(OnLongKeys::Decode);
        assert_eq!(camera.sends(100, 2, 2).sends(100, 10, 2).log, []);
        assert_eq!(camera.watching.note(), "");
    }

    #[test]
    fn long_keys_are_decoded_in_full_until_they_are_short_for_a_while() {
        let mut camera = Camera::new(OnLongKeys::Decode);
        camera.sends(60, 600, 600);
        assert_eq!(camera.log, [(11, Step::Reconnect)]);
        assert!(camera.watching.in_full());
        assert_eq!(
            camera.watching.note(),
            "key pictures come further apart than at_least_every, 10s: decoded in full"
        );
        camera.sends(30, 4, 4);
        assert_eq!(camera.log[1..], [(72, Step::Keys)], "the third interval in time");
        assert_eq!(camera.watching.note(), "");
        // And again: now it takes twice as many.
        camera.log.clear();
        camera.sends(60, 600, 600).sends(60, 4, 4);
        assert_eq!(camera.log.len(), 2);
        assert_eq!(camera.log[1], (90 + 60 + 24, Step::Keys));
    }

    #[test]
    fn intervals_at_the_limit_do_not_flap() {
        let mut camera = Camera::new(OnLongKeys::Decode);
        // 11 s are too many and 9 are not, in turn.
        for _ in 0..40 {
            camera.sends(11, 11, 11).sends(9, 9, 9);
        }
        assert!(camera.log.len() <= 2, "{:?}", camera.log);
    }

    #[test]
    fn the_other_stream_is_watched_and_the_first_one_tried_again() {
        let mut camera = Camera::new(OnLongKeys::OtherStream);
        camera.sends(600, 600, 2);
        assert_eq!(camera.log, [(11, Step::Reconnect)]);
        assert_eq!((camera.watching.stream(), camera.watching.in_full()), (Stream::Other, false));
        assert!(camera.watching.note().ends_with("its other stream is watched"));
        // After ten minutes, and after twenty more.
        camera.sends(1800, 600, 2);
        let times: Vec<u64> = camera.log.iter().map(|(at, _)| *at).collect();
        assert_eq!(times.len(), 5, "{times:?}");
        assert!((611..613).contains(&times[1]) && times[2] - times[1] == 11, "{times:?}");
        assert!((1199..1203).contains(&(times[3] - times[2])), "{times:?}");
        // The smart codec is switched off.
        camera.log.clear();
        camera.sends(3600, 2, 2);
        assert_eq!(camera.log.len(), 1);
        assert_eq!((camera.watching.stream(), camera.watching.note()), (Stream::Main, String::new()));
    }

    #[test]
    fn another_stream_that_is_no_better_or_not_there() {
        let mut camera = Camera::new(OnLongKeys::OtherStream);
        camera.sends(60, 600, 600);
        assert_eq!(camera.log.len(), 2);
        assert!(camera.watching.note().contains("both of its streams"), "{}", camera.watching.note());

        let mut camera = Camera::new(OnLongKeys::OtherStream);
        camera.sends(12, 600, 600);
        assert_eq!(camera.watching.stream(), Stream::Other);
        camera.watching.failed(false, camera.now());
        assert_eq!(camera.watching.stream(), Stream::Other);
        camera.watching.failed(false, camera.now());
        assert_eq!((camera.watching.stream(), camera.watching.in_full()), (Stream::Main, true));
        assert!(camera.watching.note().ends_with("since its other stream cannot be had"));
        camera.watching.begins(camera.now());
        camera.log.clear();
        camera.sends(1250, 6000, 2);
        assert_eq!(camera.log.len(), 1, "{:?}", camera.log);
        assert_eq!((camera.watching.stream(), camera.watching.in_full()), (Stream::Other, false));
    }

    #[test]
    fn what_is_left_of_a_session_changes_nothing_more() {
        let mut camera = Camera::new(OnLongKeys::OtherStream);
        let late = camera.start + Duration::from_secs(12);
        assert_eq!(camera.watching.picture(false, late), Step::Reconnect);
        assert_eq!(camera.watching.picture(false, late + Duration::from_secs(60)), Step::Stay);
        assert_eq!((camera.watching.stream(), camera.watching.in_full()), (Stream::Other, false));
    }

    #[test]
    fn a_camera_that_is_decoded_in_full_anyhow_is_left_alone() {
        let look = look(Sampling::Fps(5.0), Duration::ZERO);
        let mut watching = Watching::new(&look, true, Duration::from_secs(600));
        let now = Instant::now();
        watching.begins(now);
        assert_eq!(watching.picture(false, now + Duration::from_secs(3600)), Step::Stay);
        assert!(!watching.in_full());
    }
}
