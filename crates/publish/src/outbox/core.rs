//! What the outbox's thread, the submitters and the link share. Held for moments only: never while the disk works.

use std::collections::VecDeque;
use std::sync::atomic::AtomicI64;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rusqlite::Connection;

use super::ahead::Ahead;
use super::file::Salvage;
use super::rows::Message;
use super::trouble::{OutboxError, Trouble};
use super::{Counters, Depth, Push, Pushed, SceneState};
use crate::metrics::Times;

/// Events held in memory, at most: those whose transaction is under way, and all that come while the disk takes
/// nothing. A county's node makes a few thousand a day; at 1,000 a second it is ten seconds.
pub const HELD_EVENTS: usize = 10_000;
/// Bytes of their bodies, at most.
pub const HELD_BYTES: usize = 64 << 20;

pub(super) struct Core {
    state: Mutex<State>,
    /// Wakes the outbox's thread.
    pub work: Condvar,
    /// Wakes submitters that wait for room.
    pub room: Condvar,
    pub counters: Counters,
    pub times: Times,
    pub hooks: Hooks,
    /// Acknowledged messages are kept for so long.
    pub keep_sent_ms: AtomicI64,
}

/// Who is told of what. Set once, before anything happens.
#[derive(Default)]
pub(super) struct Hooks {
    /// There may be something to send.
    pub ready: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The disk's state has changed.
    pub disk: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
pub(super) struct State {
    pub jobs: VecDeque<Job>,
    /// Events in `jobs` and in the transaction that is under way.
    pub held_events: usize,
    pub held_bytes: usize,
    pub ahead: Ahead,
    /// Messages that left and whose rows are still there, in the order in which they left.
    pub left: Vec<Left>,
    /// When the first of them left.
    pub left_since: Option<Instant>,
    pub refusals: Vec<Refusal>,
    pub depth: Depth,
    /// When the oldest row was stored, ms since 1970.
    pub oldest: Option<i64>,
    pub trouble: Option<Trouble>,
    pub salvage: Option<Salvage>,
    pub closing: bool,
}

pub(super) enum Job {
    Store(Store),
    Ask(Ask),
}

/// Events of one look, and what a scene remembers after it; or what several scenes remember.
pub(super) struct Store {
    pub pushes: Vec<Push>,
    pub scenes: Vec<SceneState>,
    /// While the disk takes nothing, this is held and tried again; otherwise it is answered with an error.
    pub hold: bool,
    pub since: Instant,
    pub done: Done,
}

/// Called on the outbox's thread, once.
pub(super) type Done = Box<dyn FnOnce(Result<Vec<Pushed>, OutboxError>) + Send>;

impl Store {
    pub fn bytes(&self) -> usize {
        let pushes: usize = self.pushes.iter().map(|push| push.body.len()).sum();
        pushes + self.scenes.iter().map(|scene| scene.state.len()).sum::<usize>()
    }
}

/// Something that needs the database; called on its thread. What SQLite said, where that was an error.
pub(super) type Ask = Box<dyn FnOnce(Result<&mut Connection, OutboxError>) -> Option<rusqlite::Error> + Send>;

pub(super) struct Left {
    pub id: i64,
    pub why: Why,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    AckedEvent,
    AckedPicture,
    AckedOpen,
    /// A picture whose file is gone.
    Lost,
}

pub(super) struct Refusal {
    pub message: Message,
    pub reason: String,
    pub until: i64,
}

impl Core {
    pub fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            counters: Counters::default(),
            times: Times::default(),
            hooks: Hooks::default(),
            keep_sent_ms: AtomicI64::new(0),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before something can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job; one that may be held waits for room first.
    pub fn submit(&self, job: Job) -> Result<(), OutboxError> {
        let mut state = self.lock();
        if let Job::Store(store) = &job {
            let full = |state: &mut State| {
                !state.closing && (state.held_events >= HELD_EVENTS || state.held_bytes >= HELD_BYTES)
            };
            if store.hold && full(&mut state) {
                self.counters.waits.add(1);
                state = self.room.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
            }
            state.held_events += store.pushes.len();
            state.held_bytes += store.bytes();
        }
        if state.closing {
            return Err(OutboxError::Closed);
        }
        state.jobs.push_back(job);
        self.work.notify_one();
        Ok(())
    }

    pub fn tell_ready(&self) {
        if let Some(ready) = self.hooks.ready.get() {
            ready();
        }
    }

    pub fn tell_disk(&self) {
        if let Some(disk) = self.hooks.disk.get() {
            disk();
        }
    }
}
