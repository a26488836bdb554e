//! Datagrams out of order.

use std::collections::VecDeque;

/// At most so many are held back at a time.
const MOST: usize = 8;

/// Holds back some datagrams and lets them follow later ones. The default: none.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Share of the datagrams that are late, and what draws them.
    random: Option<(f64, fastrand::Rng)>,
    /// A datagram, after how many others it goes, and whether it goes twice.
    held: VecDeque<(Vec<u8>, u32, bool)>,
}

impl Late {
    /// `reorder`: share and seed.
    pub(super) fn new(reorder: Option<(f64, u64)>) -> Self {
        let random = reorder.map(|(share, seed)| (share, fastrand::Rng::with_seed(seed)));
        Self { random, held: VecDeque::new() }
    }

    /// Sends a datagram, or keeps it, and sends those whose time has come.
    pub(super) fn pass(&mut self, datagram: &[u8], mut send: impl FnMut(&[u8])) {
        let Some((share, rng)) = &mut self.random else { return send(datagram) };
        if self.held.len() < MOST && rng.f64() < *share {
            self.held.push_back((datagram.to_vec(), rng.u32(1..=4), rng.u32(..4) == 0));
            return;
        }
        send(datagram);
        for (_, after, _) in &mut self.held {
            *after -= 1;
        }
        self.held.retain(|(datagram, after, twice)| {
            if *after == 0 {
                (0..=u8::from(*twice)).for_each(|_| send(datagram));
            }
            *after > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_come_some_of_them_late_and_some_twice() {
        let mut late = Late::new(Some((0.2, 3)));
        let mut seen: Vec<u32> = Vec::new();
        for n in 0..1_000u32 {
            late.pass(&n.to_be_bytes(), |d| seen.push(u32::from_be_bytes(d.try_into().unwrap())));
        }
        let out_of_order = seen.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!((100..260).contains(&out_of_order), "{out_of_order}");
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        assert!(once.len() >= 1_000 - MOST, "{}", once.len());
        assert!((20..90).contains(&(seen.len() - once.len())), "{} twice", seen.len() - once.len());
    }

    #[test]
    fn nothing_is_late_by_default() {
        let mut seen = 0;
        (0..10).for_each(|_| Late::default().pass(&[1], |_| seen += 1));
        assert_eq!(seen, 10);
    }
}
