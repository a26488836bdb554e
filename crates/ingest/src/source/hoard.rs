//! A guard around a library that keeps whatever a camera answers, however long it is.
//!
//! retina puts a reply together without a limit, and does not let us between it and its socket: over a fast network a
//! hostile camera can make it keep gigabytes within the time that a reply may take. So while retina waits for replies
//! the memory of the whole process is looked at, and a set-up during which it grew beyond all measure is dropped.

use std::pin::pin;
use std::task::Poll;

/// Far more than the replies of a whole county at once.
pub(super) const LIMIT_KIB: u64 = 256 << 10;

/// Runs `work` as long as the process does not grow by more than `limit_kib` meanwhile; `None`: it did.
pub(super) async fn guarded<T>(limit_kib: u64, work: impl Future<Output = T>) -> Option<T> {
    let before = resident_kib();
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        // tokio's sockets give way after some hundred reads, so that one poll cannot take all.
        let poll = work.as_mut().poll(context);
        if poll.is_pending() && resident_kib().saturating_sub(before) > limit_kib {
            return Poll::Ready(None);
        }
        poll.map(Some)
    })
    .await
}

/// Memory of this process that is resident (proc(5)); 0 where the system does not say.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_grows_without_end_is_dropped_and_what_does_not_is_left_alone() {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let hoards = async {
            for n in 0..1_000u32 {
                kept.push(vec![n as u8 | 1; 1 << 20]);
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(guarded(64 << 10, hoards).await, None);
        assert!((60..200).contains(&kept.len()), "{} MiB", kept.len());
        let modest = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(guarded(64 << 10, modest).await, Some(7));
    }
}
