//! What the delivery of events measures about itself: one snapshot, with everything that a metric would want.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flow::{EventId, Flow};

use crate::outbox::{Depth, Salvage, Trouble, TroubleKind};
use crate::publisher::Link;

/// Everything that is counted and measured, at one moment. All counts are since the start of the process.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// The connection to the broker.
    pub link: Link,
    /// What waits: messages by kind, refused ones, the age of the oldest, bytes of evidence.
    pub outbox: Depth,
    /// Bytes of the outbox's database with its log.
    pub outbox_bytes: u64,
    /// Bytes free on its file system; `None` where the system does not say.
    pub disk_free_bytes: Option<u64>,
    /// What is wrong with the disk, if anything. Its `kind` makes a label.
    pub disk: Option<Trouble>,
    /// How often the disk got into each trouble.
    pub disk_troubles: [(TroubleKind, u64); 3],
    /// The last corrupt database that was replaced, and how many were.
    pub salvaged: Option<Salvage>,
    /// How many were.
    pub salvages: u64,
    /// How often a submitter had to wait because the memory held all that it may: watching stood still meanwhile.
    pub waits: u64,
    /// Events: submitted (and found waiting at start), acknowledged, dropped by reason (`duplicate`).
    pub events: Flow,
    /// Evidence pictures, likewise (`evicted`, `replaced`, `lost`).
    pub evidence: Flow,
    /// Messages of every kind that the broker has acknowledged, but for those that a newer one had replaced meanwhile.
    pub messages_acked: u64,
    /// Messages that the broker refused, by its reason. They are kept and tried again.
    pub refused: Vec<(String, u64)>,
    /// From submitting to the disk: how long events waited for their transaction, the sync included.
    pub stored: Histogram,
    /// From submitting to the broker's PUBACK, events only. Those that an earlier process had submitted are not in it.
    pub acked: Histogram,
    /// How long transactions took, those included that only removed what was sent.
    pub transactions: Histogram,
}

/// Upper bounds of a [`Histogram`]'s buckets, ms; the last bucket has none.
pub const BOUNDS_MS: [f64; 16] =
    [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 10e3, 60e3, 600e3];

/// How long something took, as Prometheus counts it, but not cumulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// How many fell below each of [`BOUNDS_MS`] and not below the one before; the last: above all of them.
    pub counts: [u64; BOUNDS_MS.len() + 1],
    /// All times together, seconds.
    pub sum_s: f64,
}

impl Histogram {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Clock {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Clock {
    pub fn add(&self, took: Duration) {
        let ms = took.as_secs_f64() * 1e3;
        let bucket = BOUNDS_MS.iter().position(|bound| ms <= *bound).unwrap_or(BOUNDS_MS.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn read(&self) -> Histogram {
        Histogram {
            counts: std::array::from_fn(|n| self.counts[n].load(Ordering::Relaxed)),
            sum_s: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

/// The clocks of the outbox.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub stored: Clock,
    pub acked: Clock,
    pub transactions: Clock,
}

/// An event that the broker has acknowledged: where the time went. For benches and traces.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Which situation.
    pub event: EventId,
    /// Which of its messages.
    pub sequence: u32,
    /// It was handed to the publisher. `None`: by an earlier process.
    pub submitted: Option<Instant>,
    /// It was on disk. `None`: it was read from there.
    pub stored: Option<Instant>,
    /// It was handed to the connection.
    pub sent: Instant,
    /// The PUBACK came.
    pub acked: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let clock = Clock::default();
        [100, 250, 251, 3_000, 700_000_000].into_iter().for_each(|us| clock.add(Duration::from_micros(us)));
        let read = clock.read();
        assert_eq!((read.counts[0], read.counts[1], read.counts[4], read.counts[16]), (2, 1, 1, 1));
        assert_eq!(read.count(), 5);
        assert!((read.sum_s - 700.003_601).abs() < 1e-6);
    }
}
