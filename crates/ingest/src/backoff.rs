//! How long to wait after a failure.

use std::time::Duration;

use crate::Policy;

/// Exponential backoff with full jitter: the wait is drawn evenly from zero to a bound that doubles, so that cameras
/// that failed together do not come back together.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
    refused_logins: u32,
}

impl Backoff {
    /// A session lasted: what comes next is a first failure.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The wait after one more failure. `auth`: the log-in was refused. `random`: evenly distributed in 0..1.
    pub fn after_failure(&mut self, policy: &Policy, auth: bool, random: f64) -> Duration {
        self.refused_logins = if auth { self.refused_logins + 1 } else { 0 };
        if self.refused_logins >= 2 {
            return lengthened(policy.auth_wait, random);
        }
        let bound = bound(policy, self.failures);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(random)
    }
}

/// The longest wait after so many failures and one more.
pub(crate) fn bound(policy: &Policy, failures: u32) -> Duration {
    policy.backoff_base.saturating_mul(1u32 << failures.min(20)).min(policy.backoff_max)
}

/// A wait that is never shorter than said: the jitter comes on top, a tenth at most.
pub(crate) fn lengthened(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(1.0 + random / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_its_limit_and_starts_again_after_success() {
        let policy = Policy::default();
        let mut backoff = Backoff::default();
        let bounds: Vec<f64> =
            (0..9).map(|_| backoff.after_failure(&policy, false, 1.0).as_secs_f64()).collect();
        assert_eq!(bounds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(backoff.after_failure(&policy, false, 0.25), Duration::from_secs(15));
        (0..100).for_each(|_| _ = backoff.after_failure(&policy, false, 1.0));
        backoff.reset();
        assert_eq!(backoff.after_failure(&policy, false, 1.0), Duration::from_millis(500));
    }

    #[test]
    fn two_refused_logins_in_a_row_wait_long() {
        let policy = Policy::default();
        let mut backoff = Backoff::default();
        assert!(backoff.after_failure(&policy, true, 1.0) <= Duration::from_secs(1));
        assert_eq!(backoff.after_failure(&policy, true, 0.0), policy.auth_wait);
        assert!(backoff.after_failure(&policy, true, 0.9) > policy.auth_wait);
        // Rebooted in between: the camera may have been given the right password.
        assert!(backoff.after_failure(&policy, false, 1.0) <= Duration::from_secs(2));
        assert!(backoff.after_failure(&policy, true, 1.0) <= Duration::from_secs(4));
    }
}
