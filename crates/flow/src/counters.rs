//! Every stage counts what came in, what went out and what was dropped, by reason; the sums agree.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, shared between threads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// So far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stage's account at one moment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Flow {
    /// Values received.
    pub received: u64,
    /// Values passed on.
    pub passed: u64,
    /// Values dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
}

impl Flow {
    /// Values received and not yet accounted for: still inside the stage. Never negative once the stage is idle.
    pub fn inside(&self) -> i64 {
        let gone = self.passed + self.dropped.iter().map(|(_, n)| n).sum::<u64>();
        self.received as i64 - gone as i64
    }
}
