//! What waits for a decoder, and which worker takes it.
//!
//! Pictures that stand alone go to the worker that was busy last, of those that wait: its decoders are still in the
//! caches. (A channel wakes the one that has waited for longest, so that while there is little to do all take turns, each
//! time with another set of decoders.) Those of a chain go to the worker that has the references.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flow::AccessUnit;

/// What a worker is to do.
#[derive(Debug)]
pub(crate) enum Next {
    /// Decode this.
    Work(AccessUnit),
    /// Nothing came for a while.
    Idle,
    /// Nothing will come any more.
    End,
}

/// Why an access unit was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// So many wait.
    Full(usize),
    /// No more are taken.
    Closed,
}

/// The access units that wait.
pub(crate) struct Queue {
    /// So many wait per worker.
    each: usize,
    state: Mutex<State>,
    /// One per worker.
    wake: Vec<Condvar>,
}

struct State {
    /// For any worker.
    any: VecDeque<AccessUnit>,
    /// For one each.
    own: Vec<VecDeque<AccessUnit>>,
    /// Whether a worker's last was one of its own: then it is the others' turn.
    was_own: Vec<bool>,
    /// Workers that wait, the one that was busy last at the end.
    idle: Vec<usize>,
    open: bool,
}

impl Queue {
    /// For so many workers, with room for `each` times as many pictures that stand alone, and `each` of the chained ones for
    /// every worker.
    pub fn new(workers: usize, each: usize) -> Self {
        let state = State {
            any: VecDeque::with_capacity(workers * each),
            own: (0..workers).map(|_| VecDeque::new()).collect(),
            was_own: vec![false; workers],
            idle: Vec::with_capacity(workers),
            open: true,
        };
        Self { each, state: Mutex::new(state), wake: (0..workers).map(|_| Condvar::new()).collect() }
    }

    /// For whichever worker is next.
    pub fn offer(&self, unit: AccessUnit) -> Result<(), Refused> {
        let mut state = self.lock();
        let room = self.each * self.wake.len();
        if !state.open {
            return Err(Refused::Closed);
        }
        if state.any.len() >= room {
            return Err(Refused::Full(room));
        }
        state.any.push_back(unit);
        // No longer idle from now on: the next picture is for another one.
        if let Some(worker) = state.idle.pop() {
            self.wake[worker].notify_one();
        }
        Ok(())
    }

    /// For this worker.
    pub fn offer_to(&self, worker: usize, unit: AccessUnit) -> Result<(), Refused> {
        let mut state = self.lock();
        if !state.open {
            return Err(Refused::Closed);
        }
        if state.own[worker].len() >= self.each {
            return Err(Refused::Full(self.each));
        }
        state.own[worker].push_back(unit);
        // It has enough to do: what others may take is not for it.
        state.idle.retain(|idle| *idle != worker);
        self.wake[worker].notify_one();
        Ok(())
    }

    /// Nothing more is taken; what waits is worked off.
    pub fn close(&self) {
        self.lock().open = false;
        self.wake.iter().for_each(Condvar::notify_all);
    }

    /// Waits for work for this worker, no longer than `patience`.
    pub fn next(&self, worker: usize, patience: Duration) -> Next {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(unit) = state.take(worker) {
                return Next::Work(unit);
            }
            if !state.open {
                return Next::End;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Idle;
            }
            state.idle.push(worker);
            let waited = self.wake[worker].wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle.retain(|idle| *idle != worker);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in the locked sections leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One of its own and one of the others' in turn, where there are both.
    fn take(&mut self, worker: usize) -> Option<AccessUnit> {
        let own = !self.own[worker].is_empty() && !(self.was_own[worker] && !self.any.is_empty());
        self.was_own[worker] = own;
        if own { self.own[worker].pop_front() } else { self.any.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};

    use flow::{CameraId, Codec, MediaTime, Role, SessionId, Timestamp};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn unit(sequence: u64) -> AccessUnit {
        AccessUnit {
            camera: CameraId::new("cam").unwrap(),
            session: SessionId::next(),
            sequence,
            codec: Codec::H264,
            media_time: MediaTime { ticks: 0, clock_rate: 90_000 },
            captured: Timestamp::UNIX_EPOCH,
            key: true,
            role: Role::Alone,
            lost_before: 0,
            bytes_between: 0,
            data: crate::testing::coded(),
        }
    }

    fn taken(next: Next) -> u64 {
        let Next::Work(unit) = next else { panic!("{next:?}") };
        unit.sequence
    }

    /// Workers that say who took what.
    fn workers(queue: &Arc<Queue>, count: usize) -> Receiver<(usize, u64)> {
        let (said, heard) = channel();
        for worker in 0..count {
            let (queue, said) = (queue.clone(), said.clone());
            std::thread::spawn(move || {
                while let Next::Work(unit) = queue.next(worker, LONG) {
                    said.send((worker, unit.sequence)).unwrap();
                }
            });
        }
        heard
    }

    fn until_idle(queue: &Queue, count: usize) {
        while queue.lock().idle.len() < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_worker_that_was_busy_last_is_next() {
        let queue = Arc::new(Queue::new(3, 4));
        let heard = workers(&queue, 3);
        until_idle(&queue, 3);
        queue.offer(unit(0)).unwrap();
        let (first, _) = heard.recv_timeout(LONG).unwrap();
        for sequence in 1..20 {
            until_idle(&queue, 3);
            queue.offer(unit(sequence)).unwrap();
            assert_eq!(heard.recv_timeout(LONG).unwrap(), (first, sequence));
        }
        // Several at once are for several.
        until_idle(&queue, 3);
        (20..23).for_each(|sequence| queue.offer(unit(sequence)).unwrap());
        let mut all: Vec<_> = (0..3).map(|_| heard.recv_timeout(LONG).unwrap().1).collect();
        all.sort_unstable();
        assert_eq!(all, [20, 21, 22]);
        until_idle(&queue, 3);
        queue.offer_to(2, unit(23)).unwrap();
        assert_eq!(heard.recv_timeout(LONG).unwrap(), (2, 23));
        queue.close();
        assert!(heard.recv_timeout(LONG).is_err(), "the workers have ended");
    }

    #[test]
    fn neither_kind_starves_the_other_and_what_waits_is_worked_off() {
        let queue = Queue::new(2, 2);
        (0..4).for_each(|n| queue.offer(unit(n)).unwrap());
        assert_eq!(queue.offer(unit(4)), Err(Refused::Full(4)));
        (10..12).for_each(|n| queue.offer_to(1, unit(n)).unwrap());
        assert_eq!(queue.offer_to(1, unit(12)), Err(Refused::Full(2)));
        queue.close();
        assert_eq!(
            (queue.offer(unit(5)), queue.offer_to(0, unit(5))),
            (Err(Refused::Closed), Err(Refused::Closed))
        );
        let order: Vec<_> = (0..6).map(|_| taken(queue.next(1, LONG))).collect();
        assert_eq!(order, [10, 0, 11, 1, 2, 3]);
        assert!(matches!(queue.next(1, LONG), Next::End) && matches!(queue.next(0, LONG), Next::End));
    }

    #[test]
    fn a_worker_without_work_is_told_so_after_a_while() {
        let queue = Queue::new(1, 1);
        assert!(matches!(queue.next(0, Duration::from_millis(1)), Next::Idle));
        queue.offer(unit(0)).unwrap();
        assert_eq!(taken(queue.next(0, Duration::ZERO)), 0);
    }
}
