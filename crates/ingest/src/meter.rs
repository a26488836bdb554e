//! The rates of one session: pictures, bits, key pictures, losses. Pure: times come in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fleet::{Look, Sampling};

use crate::Policy;

/// Windows over which losses are added up: one would judge a camera by a moment.
const LOSS_WINDOWS: usize = 6;
/// Too few packets say nothing about the share that is lost.
const MIN_PACKETS: u64 = 100;

/// Measured over the last window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Rates {
    pub fps: f32,
    /// Bits of RTP per second.
    pub bit_rate: u64,
    pub key_interval_s: Option<f32>,
    /// Since the last key picture, or since the start.
    pub without_key_s: f32,
    /// Over the last six windows.
    pub loss_percent: Option<f32>,
    /// The camera loses more than it should: over so long.
    pub losing: Option<Duration>,
}

impl Rates {
    /// Says so where looks at key pictures come further apart than `at_least_every`.
    pub(crate) fn too_seldom(&self, look: &Look) -> Option<String> {
        let apart = self.key_interval_s.unwrap_or(0.0).max(self.without_key_s);
        let allowed = look.at_least_every.as_secs_f32();
        (look.sampling == Sampling::Keyframes && apart > allowed).then(|| {
            format!("key pictures are {apart:.1} s apart, at_least_every is {allowed:.1} s: shorten the camera's key interval, or set `fps`")
        })
    }
}

/// What came and what did not in one window.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    length: Duration,
    packets: u64,
    lost: u64,
}

/// Counts one session's packets and pictures.
#[derive(Debug)]
pub(crate) struct Meter {
    window: Duration,
    losing_above: f32,
    losing_below: f32,
    window_began: Instant,
    pictures: u32,
    bytes: u64,
    now: Window,
    past: VecDeque<Window>,
    losing: bool,
    /// Or the start.
    last_key: Instant,
    seen_key: bool,
    key_interval_s: Option<f32>,
}

impl Meter {
    pub(crate) fn new(policy: &Policy, now: Instant) -> Self {
        Self {
            window: policy.health_every,
            losing_above: policy.losing_above,
            losing_below: policy.losing_below,
            window_began: now,
            pictures: 0,
            bytes: 0,
            now: Window::default(),
            past: VecDeque::with_capacity(LOSS_WINDOWS),
            losing: false,
            last_key: now,
            seen_key: false,
            key_interval_s: None,
        }
    }

    /// Counts packets of RTP that arrived, their bytes, and those missing before them.
    pub(crate) fn packets(&mut self, packets: u64, bytes: u64, lost: u64) {
        self.now.packets += packets;
        self.now.lost += lost;
        self.bytes += bytes;
    }

    /// Counts a whole picture; gives the rates once per window.
    pub(crate) fn picture(&mut self, key: bool, at: Instant) -> Option<Rates> {
        self.pictures += 1;
        if key {
            let since_key = at.saturating_duration_since(self.last_key).as_secs_f32();
            self.key_interval_s = self.seen_key.then_some(since_key);
            self.seen_key = true;
            self.last_key = at;
        }
        self.tick(at)
    }

    /// Gives the rates once per window, also while nothing whole comes.
    pub(crate) fn tick(&mut self, at: Instant) -> Option<Rates> {
        let elapsed = at.saturating_duration_since(self.window_began);
        if elapsed < self.window || elapsed.is_zero() {
            return None;
        }
        let (loss_percent, losing) = self.losses(elapsed);
        let since_key = at.saturating_duration_since(self.last_key).as_secs_f32();
        let rates = Rates {
            fps: self.pictures as f32 / elapsed.as_secs_f32(),
            bit_rate: (self.bytes as f64 * 8.0 / elapsed.as_secs_f64()) as u64,
            // While a key picture is overdue, the interval is at least as long as the wait for it.
            key_interval_s: self.key_interval_s.map(|interval| interval.max(since_key)),
            without_key_s: since_key,
            loss_percent,
            losing,
        };
        self.window_began = at;
        (self.pictures, self.bytes) = (0, 0);
        Some(rates)
    }

    /// The share that is lost, and over how long where it is too much. Once too much, it has to fall well below the
    /// limit to be good again: a camera at the limit must not change its state each window.
    fn losses(&mut self, elapsed: Duration) -> (Option<f32>, Option<Duration>) {
        if self.past.len() == LOSS_WINDOWS {
            self.past.pop_front();
        }
        self.past.push_back(Window { length: elapsed, ..std::mem::take(&mut self.now) });
        let sum = self.past.iter().fold(Window::default(), |sum, window| Window {
            length: sum.length + window.length,
            packets: sum.packets + window.packets,
            lost: sum.lost + window.lost,
        });
        let expected = sum.packets + sum.lost;
        if expected < MIN_PACKETS {
            return (None, None);
        }
        let percent = (sum.lost as f64 * 100.0 / expected as f64) as f32;
        self.losing = percent > if self.losing { self.losing_below } else { self.losing_above };
        (Some(percent), self.losing.then_some(sum.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy { health_every: Duration::from_secs(10), ..Policy::default() }
    }

    #[test]
    fn rates_come_once_per_window_and_a_long_key_interval_shows_while_it_lasts() {
        let start = Instant::now();
        let mut meter = Meter::new(&policy(), start);
        let mut seen = Vec::new();
        // 10 pictures per second, keys every 2 s for the first 10 s, then none.
        for i in 1..=300u64 {
            let at = start + Duration::from_millis(100 * i);
            meter.packets(5, 6_250, 0);
            seen.extend(meter.picture(i <= 100 && i % 20 == 0, at));
        }
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|r| (r.fps - 10.0).abs() < 0.01 && r.bit_rate == 500_000), "{seen:?}");
        assert!(seen.iter().all(|r| r.loss_percent == Some(0.0) && r.losing.is_none()), "{seen:?}");
        let intervals: Vec<f32> = seen.iter().filter_map(|r| r.key_interval_s).collect();
        assert_eq!(intervals, [2.0, 10.0, 20.0]);

        let mut look = crate::testing::look(Sampling::Keyframes, Duration::ZERO);
        look.at_least_every = Duration::from_secs(10);
        assert_eq!(seen[1].too_seldom(&look), None);
        let complaint = seen[2].too_seldom(&look).unwrap();
        assert!(
            complaint.starts_with("key pictures are 20.0 s apart, at_least_every is 10.0 s"),
            "{complaint}"
        );
        look.sampling = Sampling::Fps(1.0);
        assert_eq!(seen[2].too_seldom(&look), None, "every picture is decoded");
    }

    /// The state of each window for a loss of so many packets out of a thousand in each.
    fn states(lost: &[u64]) -> Vec<bool> {
        let start = Instant::now();
        let mut meter = Meter::new(&policy(), start);
        let window = |(n, lost): (usize, &u64)| {
            meter.packets(1_000 - lost, 1_000_000, *lost);
            meter.tick(start + Duration::from_secs(10 * (n as u64 + 1))).unwrap().losing.is_some()
        };
        lost.iter().enumerate().map(window).collect()
    }

    #[test]
    fn losing_begins_above_one_limit_and_ends_below_a_lower_one() {
        let policy = policy();
        assert_eq!((policy.losing_above, policy.losing_below), (2.0, 1.0));
        assert_eq!(states(&[30]), [true]);
        assert_eq!(states(&[19; 12]), [false; 12], "not above the upper limit");
        // 3 % for a minute, then 1.5 %: above the lower limit, so it stays; then nothing: gone when the mean of a
        // minute is below 1 %.
        let mut windows = vec![30; 6];
        windows.extend([15; 8]);
        assert_eq!(states(&windows), [true; 14]);
        windows.extend([0; 4]);
        assert_eq!(states(&windows)[14..], [true, false, false, false]);
    }

    #[test]
    fn a_handful_of_packets_says_nothing() {
        let start = Instant::now();
        let mut meter = Meter::new(&policy(), start);
        meter.packets(10, 100, 5);
        let rates = meter.tick(start + Duration::from_secs(10)).unwrap();
        assert_eq!((rates.loss_percent, rates.losing), (None, None));
    }
}
