//! What the stage counts.

use std::time::{Duration, Instant};

use fleet::Priority;
use flow::{Flow, ModelId};

use crate::Work;

/// Durations, sorted into buckets that grow by a ninth: quantiles are right to within 9 %.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    max: Duration,
}

/// Buckets per doubling.
const PER_OCTAVE: f64 = 8.0;
/// The first bucket ends here; the last one, 20 doublings further, at 17 minutes.
const SMALLEST_US: f64 = 1000.0 / 1024.0;
const BUCKETS: usize = 30 * PER_OCTAVE as usize + 1;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    pub fn add(&mut self, value: Duration) {
        let octaves = (value.as_secs_f64() * 1e6 / SMALLEST_US).max(1.0).log2();
        let bucket = (octaves * PER_OCTAVE).ceil() as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The upper edge of the bucket that holds the quantile, but no more than the largest value; zero when empty.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (q * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|n| {
            seen += n;
            seen >= rank
        });
        let edge = |b: usize| Duration::from_secs_f64(SMALLEST_US / 1e6 * (b as f64 / PER_OCTAVE).exp2());
        bucket.map_or(Duration::ZERO, |b| edge(b).min(self.max))
    }
}

/// What happened so far; kept under the detector's lock, so that the sums agree at any moment.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub received: u64,
    pub passed: u64,
    /// By priority, as is `taken`.
    pub superseded: [u64; Priority::ALL.len()],
    pub taken: [u64; Priority::ALL.len()],
    pub failed: u64,
    pub no_model: u64,
    pub stopped: u64,
    /// Batches by their size; index 0 is unused.
    pub batches: Vec<u64>,
    pub wait: Histogram,
    /// Per model.
    pub work: Vec<Work>,
}

impl Tally {
    pub fn batch(&mut self, frames: impl ExactSizeIterator<Item = (Priority, Duration)>) {
        let size = frames.len();
        if self.batches.len() <= size {
            self.batches.resize(size + 1, 0);
        }
        self.batches[size] += 1;
        for (priority, wait) in frames {
            self.taken[priority as usize] += 1;
            self.wait.add(wait);
        }
    }

    pub fn flow(&self) -> Flow {
        Flow {
            received: self.received,
            passed: self.passed,
            dropped: vec![
                ("superseded", self.superseded.iter().sum()),
                ("failed", self.failed),
                ("no_model", self.no_model),
                ("stopped", self.stopped),
            ],
        }
    }
}

/// How the stage works, beside its [`Flow`].
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Numbers {
    /// Frames that wait now.
    pub waiting: usize,
    /// Batches by their size: (pictures, how many such batches), no entry where there was none.
    pub batches: Vec<(usize, u64)>,
    /// How long frames waited until their batch was taken: median.
    pub wait_p50: Duration,
    /// 99 of 100 waited no longer.
    pub wait_p99: Duration,
    /// The longest wait.
    pub wait_max: Duration,
    /// Per priority: frames taken for a look, and frames that a newer one of their camera replaced first.
    pub shares: Vec<(Priority, u64, u64)>,
    /// What each model did.
    pub models: Vec<(ModelId, Work)>,
}

impl Numbers {
    pub(crate) fn new(tally: &Tally, models: &[ModelId], waiting: usize) -> Self {
        let sizes = tally.batches.iter().copied().enumerate();
        Self {
            waiting,
            batches: sizes.filter(|(_, n)| *n > 0).collect(),
            wait_p50: tally.wait.quantile(0.5),
            wait_p99: tally.wait.quantile(0.99),
            wait_max: tally.wait.max,
            shares: Priority::ALL.map(|p| (p, tally.taken[p as usize], tally.superseded[p as usize])).into(),
            models: models.iter().cloned().zip(tally.work.iter().copied()).collect(),
        }
    }
}

/// Lets one log line a second pass and says how many it held back since.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// `Some(lines held back since the last one)` where a line may be written now.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let quiet =
            self.last.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1));
        if quiet {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_within_a_ninth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.99), Duration::ZERO);
        for ms in 1..=1000 {
            histogram.add(Duration::from_millis(ms));
        }
        for (q, wanted) in [(0.5, 500.0), (0.99, 990.0), (0.001, 1.0), (1.0, 1000.0)] {
            let got = histogram.quantile(q).as_secs_f64() * 1e3;
            assert!((wanted..=wanted * 1.0906).contains(&got), "{q}: {got}, expected about {wanted}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(1));
    }

    #[test]
    fn extremes_stay_in_the_histogram() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::ZERO);
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        histogram.add(Duration::from_secs(1_000_000));
        assert!(histogram.quantile(1.0) > Duration::from_secs(1000));
    }

    #[test]
    fn one_line_a_second() {
        let (mut throttle, t) = (Throttle::default(), Instant::now());
        let passed = [0, 10, 999, 1000, 1001].map(|ms| throttle.pass(t + Duration::from_millis(ms)));
        assert_eq!(passed, [Some(0), None, None, Some(2), None]);
    }
}
