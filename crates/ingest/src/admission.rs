//! How many sessions may be set up at once, and how fast.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::Policy;

/// Shared by all cameras.
#[derive(Debug)]
pub(crate) struct Admission {
    all: Semaphore,
    hosts: HashMap<String, Semaphore>,
    next_start: Mutex<Instant>,
    spacing: Duration,
}

/// Held while a session is being set up.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    _host: Option<SemaphorePermit<'a>>,
    _all: Option<SemaphorePermit<'a>>,
}

impl Admission {
    pub(crate) fn new<'a>(policy: &Policy, hosts: impl Iterator<Item = &'a str>) -> Self {
        Self {
            all: Semaphore::new(policy.setups.max(1)),
            hosts: hosts
                .map(|host| (host.to_owned(), Semaphore::new(policy.setups_per_host.max(1))))
                .collect(),
            next_start: Mutex::new(Instant::now()),
            spacing: Duration::from_secs(1) / policy.starts_per_second.max(1),
        }
    }

    /// Waits for a turn. The host's comes first, so that cameras behind one slow recorder hold nobody else up.
    pub(crate) async fn enter(&self, host: &str) -> Admitted<'_> {
        // `acquire` fails only on a closed semaphore, and nothing closes these.
        let host = match self.hosts.get(host) {
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        let all = self.all.acquire().await.ok();
        let start = {
            let mut next = self.next_start.lock().await;
            let start = (*next).max(Instant::now());
            *next = start + self.spacing;
            start
        };
        tokio::time::sleep_until(start).await;
        Admitted { _host: host, _all: all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_are_spaced_and_a_slow_host_holds_up_only_itself() {
        let policy = Policy { starts_per_second: 100, setups: 8, setups_per_host: 2, ..Policy::default() };
        let admission = Admission::new(&policy, ["slow", "other"].into_iter());
        let began = Instant::now();
        let slow = (admission.enter("slow").await, admission.enter("slow").await);
        assert_eq!(
            began.elapsed(),
            Duration::from_millis(10),
            "the second start waits a hundredth of a second"
        );
        let third = tokio::time::timeout(Duration::from_secs(60), admission.enter("slow")).await;
        assert!(third.is_err(), "two at a time at one host");
        tokio::time::timeout(Duration::from_secs(1), admission.enter("other")).await.expect("not held up");
        drop(slow);
        tokio::time::timeout(Duration::from_secs(1), admission.enter("slow")).await.expect("free again");
    }
}
