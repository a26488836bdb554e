//! What is told about a camera, and the rates measured for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Look, Sampling};
use flow::{CameraId, CameraState, Health, Timestamp};

use crate::HealthSink;

/// Tells changes of one camera's state, and rates now and then.
pub(crate) struct Reporter {
    camera: CameraId,
    sink: HealthSink,
    last: Option<(CameraState, Timestamp)>,
}

impl Reporter {
    pub(crate) fn new(camera: CameraId, sink: HealthSink) -> Self {
        Self { camera, sink: Arc::clone(&sink), last: None }
    }

    /// Tells the state if it is another than before; says whether it was.
    pub(crate) fn change(&mut self, state: CameraState, reason: String) -> bool {
        if self.last.as_ref().is_some_and(|(last, _)| *last == state) {
            return false;
        }
        self.last = Some((state.clone(), Timestamp::now()));
        self.tell(state, reason, None);
        true
    }

    /// Tells measured rates of a camera that streams. `complaint`: what they mean, if nothing good.
    pub(crate) fn rates(&mut self, rates: Rates, complaint: Option<String>) {
        self.tell(CameraState::Streaming, complaint.unwrap_or_default(), Some(rates));
    }

    fn tell(&self, state: CameraState, reason: String, rates: Option<Rates>) {
        let since = self.last.as_ref().map_or_else(Timestamp::now, |(_, since)| *since);
        (self.sink)(Health {
            camera: self.camera.clone(),
            state,
            reason,
            since,
            fps: rates.map(|r| r.fps),
            key_interval_s: rates.and_then(|r| r.key_interval_s),
        });
    }
}

/// Measured over the last window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    pub fps: f32,
    pub key_interval_s: Option<f32>,
    /// Since the last key picture, or since the start.
    pub without_key_s: f32,
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

/// Counts one session's pictures. Pure: times come in.
#[derive(Debug)]
pub(crate) struct Meter {
    window: Duration,
    window_began: Instant,
    pictures: u32,
    /// Or the start.
    last_key: Instant,
    seen_key: bool,
    key_interval_s: Option<f32>,
}

impl Meter {
    pub(crate) fn new(window: Duration, now: Instant) -> Self {
        Self { window, window_began: now, pictures: 0, last_key: now, seen_key: false, key_interval_s: None }
    }

    /// Counts a picture; gives the rates once per window.
    pub(crate) fn picture(&mut self, key: bool, at: Instant) -> Option<Rates> {
        self.pictures += 1;
        let since_key = at.saturating_duration_since(self.last_key).as_secs_f32();
        if key {
            self.key_interval_s = self.seen_key.then_some(since_key);
            self.seen_key = true;
            self.last_key = at;
        }
        let elapsed = at.saturating_duration_since(self.window_began);
        if elapsed < self.window || elapsed.is_zero() {
            return None;
        }
        // While a key picture is overdue, the interval is at least as long as the wait for it.
        let rates = Rates {
            fps: self.pictures as f32 / elapsed.as_secs_f32(),
            key_interval_s: self.key_interval_s.map(|interval| interval.max(since_key)),
            without_key_s: since_key,
        };
        self.window_began = at;
        self.pictures = 0;
        Some(rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_once_per_window_and_a_long_key_interval_shows_while_it_lasts() {
        let start = Instant::now();
        let mut meter = Meter::new(Duration::from_secs(10), start);
        let mut seen = Vec::new();
        // 10 pictures per second, keys every 2 s for the first 10 s, then none.
        for i in 1..=300u64 {
            let at = start + Duration::from_millis(100 * i);
            seen.extend(meter.picture(i <= 100 && i % 20 == 0, at));
        }
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|r| (r.fps - 10.0).abs() < 0.01), "{seen:?}");
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

    #[test]
    fn the_same_state_is_told_once() {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink: HealthSink = {
            let told = Arc::clone(&told);
            Arc::new(move |health| told.lock().unwrap().push(health))
        };
        let mut reporter = Reporter::new(CameraId::new("c").unwrap(), sink);
        assert!(reporter.change(CameraState::Refused, "once".to_owned()));
        assert!(!reporter.change(CameraState::Refused, "again".to_owned()));
        assert!(reporter.change(CameraState::Broken("x".to_owned()), "other".to_owned()));
        assert!(reporter.change(CameraState::Streaming, String::new()));
        reporter.rates(Rates { fps: 10.0, key_interval_s: None, without_key_s: 1.0 }, None);
        let told = told.lock().unwrap();
        assert_eq!(
            told.iter().map(|h| h.state.name()).collect::<Vec<_>>(),
            ["refused", "broken", "streaming", "streaming"]
        );
        assert_eq!(told[3].fps, Some(10.0));
        assert_eq!(told[3].since, told[2].since);
    }
}
