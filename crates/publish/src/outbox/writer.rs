//! The one thread that owns the database. What many submit at once goes into one transaction, and so into one sync of
//! the disk: a group is whatever came while the last one was being written. Rows of messages that left are removed with
//! the next group, or after [`LEFT_WAIT`] without a sync of their own: lost in a power cut, they would be sent again,
//! which receivers expect.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::again;
use super::ahead::{Hungry, PER_LINE};
use super::core::{Ask, Core, Job, Left, Refusal, State, Store, Why};
use super::evidence::{Files, Victim};
use super::file::{Place, Salvage, SalvageError};
use super::rows::{self, Inserted, Kind, own_line};
use super::trouble::{Meaning, OutboxError, Trouble, TroubleKind, kind_of, meaning};
use super::{Pushed, now_ms};

/// Events of one transaction, at most.
const GROUP: usize = 512;
/// Rows of messages that left go this much later, at most.
const LEFT_WAIT: Duration = Duration::from_millis(20);
/// Or when there are so many.
const LEFT_GROUP: usize = 512;
/// Or so many, where a full disk waits for room.
const LEFT_ROOM: usize = 64;
/// Rows read at once.
const READ: usize = 256;
/// A disk that took nothing is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// Free pages that stay, and free pages given back in one step when nothing else is to be done.
const FREE_PAGES: i64 = 1_024;

pub(super) struct Writer {
    pub core: Arc<Core>,
    pub place: Place,
    pub files: Files,
    /// `None` until the disk lets it be opened.
    pub db: Option<Connection>,
    /// While the disk is in trouble: not before this.
    pub retry_at: Option<Instant>,
    /// Commits wait for the disk.
    pub syncs: bool,
    /// Pictures that were removed to make room, and whose rows are still there.
    pub victims: Vec<Victim>,
    pub started: std::time::SystemTime,
    /// Jobs of the present group that were put back, in front of all others.
    pub put_back: usize,
}

/// What to do next.
#[derive(Default)]
struct Batch {
    stores: Vec<Store>,
    asks: Vec<Ask>,
    left: Vec<Left>,
    refusals: Vec<Refusal>,
    /// The disk is to be tried.
    writes: bool,
    last: bool,
}

/// What a transaction did.
#[derive(Default)]
struct Outcome {
    /// For each store, for each of its pushes; `None`: a duplicate.
    inserted: Vec<Vec<Option<Inserted>>>,
    left: Vec<(Why, bool)>,
    /// Pictures removed to keep to the bound, and the ids of their messages where they were unsent.
    evicted: Vec<(Victim, Vec<i64>)>,
    refused: Option<u64>,
    oldest: Option<i64>,
}

impl Writer {
    /// Until the outbox is closed.
    pub fn run(mut self) {
        loop {
            let batch = self.wait();
            let last = batch.last;
            self.work(batch);
            self.read_ahead();
            if last {
                return;
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> Batch {
        let core = self.core.clone();
        let mut state = core.lock();
        loop {
            let now = Instant::now();
            // What left makes room on a full disk: no need to wait for more.
            let room = state.left.len() >= LEFT_ROOM
                && state.trouble.as_ref().is_some_and(|trouble| trouble.kind == TroubleKind::Full);
            let may_write = self.retry_at.is_none_or(|at| now >= at) || state.closing || room;
            let batch = self.take(&mut state, may_write, now);
            if let Some(batch) = batch {
                return batch;
            }
            let due = [
                self.retry_at.filter(|_| !may_write),
                state.left_since.filter(|_| may_write).map(|since| since + LEFT_WAIT),
            ];
            let next = due.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(60));
            let patience = next.saturating_duration_since(now);
            let waited = core.work.wait_timeout(state, patience);
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    fn take(&mut self, state: &mut State, may_write: bool, now: Instant) -> Option<Batch> {
        let mut batch = Batch { writes: may_write, last: state.closing, ..Batch::default() };
        let mut events = 0;
        let mut kept = std::collections::VecDeque::new();
        while let Some(job) = state.jobs.pop_front() {
            match job {
                Job::Ask(ask) => batch.asks.push(ask),
                // One that is not to be held is answered at once, if only with what is wrong.
                Job::Store(store) if may_write || !store.hold => {
                    events += store.pushes.len().max(1);
                    batch.stores.push(store);
                }
                job => kept.push_back(job),
            }
            if events >= GROUP && !batch.last {
                break;
            }
        }
        kept.append(&mut state.jobs);
        state.jobs = kept;
        let left_due = state.left.len() >= LEFT_GROUP
            || state.left_since.is_some_and(|since| now >= since + LEFT_WAIT)
            || !state.refusals.is_empty();
        let retries = self.retry_at.is_some() && may_write;
        if may_write && (left_due || retries || batch.last || !batch.stores.is_empty()) {
            batch.left = std::mem::take(&mut state.left);
            batch.refusals = std::mem::take(&mut state.refusals);
            state.left_since = None;
        }
        let reads = self.db.is_some() && (state.ahead.wants_rows().is_some() || state.ahead.is_hungry());
        let something = !batch.stores.is_empty()
            || !batch.asks.is_empty()
            || !batch.left.is_empty()
            || !batch.refusals.is_empty();
        (something || reads || retries || batch.last).then_some(batch)
    }

    fn work(&mut self, batch: Batch) {
        let Batch { stores, asks, left, refusals, writes, last } = batch;
        self.put_back = 0;
        if writes {
            self.write(stores, left, refusals, last);
        } else if let Some(error) = self.trouble() {
            self.answer(stores, |_| Err(error.clone()));
        }
        for ask in asks {
            // Whoever asks may lock, too.
            let trouble = self.core.lock().trouble.clone();
            let error = match (&mut self.db, trouble) {
                (Some(db), _) => ask(Ok(db)),
                (None, Some(trouble)) => ask(Err(OutboxError::Disk(trouble))),
                (None, None) => ask(Err(OutboxError::Closed)),
            };
            if let Some(error) = error {
                self.heal(&error);
            }
        }
    }

    /// Writes, and where the disk refuses, says so and keeps what is to be kept.
    fn write(&mut self, stores: Vec<Store>, left: Vec<Left>, refusals: Vec<Refusal>, last: bool) {
        let mut tries = 0;
        let error = loop {
            match self.transact(&stores, &left, &refusals) {
                Ok(outcome) => return self.written(stores, outcome),
                // Each of these changes what the next try meets.
                Err(error) if tries < 2 && self.heal(&error) => tries += 1,
                Err(error) => break error,
            }
        };
        let meaning = self.meaning(&error);
        let parts = !stores.is_empty() && stores.len() + left.len() + refusals.len() > 1;
        if parts && matches!(meaning, Meaning::Disk(TroubleKind::Full) | Meaning::Other) {
            // What left makes room for what comes; what does not fit together may fit one by one; and of what is
            // wrong with one the others know nothing.
            return self.write_each(stores, left, refusals, last);
        }
        let path = || self.place.path.clone();
        let error = match meaning {
            Meaning::Disk(kind) => self.in_trouble(kind, error.to_string()),
            Meaning::Corrupt => self.in_trouble(TroubleKind::Failing, error.to_string()),
            Meaning::InUse => OutboxError::InUse { path: path() },
            Meaning::Other => OutboxError::Database { path: path(), cause: error.to_string() },
        };
        self.back(left, refusals);
        self.keep_or_refuse(stores, &error, last);
    }

    /// The same in small steps, as far as it goes.
    fn write_each(&mut self, stores: Vec<Store>, left: Vec<Left>, refusals: Vec<Refusal>, last: bool) {
        if !left.is_empty() || !refusals.is_empty() || !self.victims.is_empty() {
            self.write(Vec::new(), left, refusals, last);
        }
        let mut stores = std::collections::VecDeque::from(stores);
        let before = self.retry_at;
        while let Some(store) = stores.pop_front() {
            self.write(vec![store], Vec::new(), Vec::new(), last);
            if let Some(error) = self.trouble().filter(|_| self.retry_at != before) {
                // The first that does not fit: the others stay behind it, in their order.
                return self.keep_or_refuse(stores.into(), &error, last);
            }
        }
    }

    fn keep_or_refuse(&mut self, stores: Vec<Store>, error: &OutboxError, last: bool) {
        let hold = matches!(error, OutboxError::Disk(_)) && !last;
        let (held, answered): (Vec<_>, Vec<_>) = stores.into_iter().partition(|store| store.hold && hold);
        self.answer(answered, |_| Err(error.clone()));
        let mut state = self.core.lock();
        // Behind those that an earlier part of the group put back.
        let at = self.put_back;
        self.put_back += held.len();
        held.into_iter().enumerate().for_each(|(n, store)| state.jobs.insert(at + n, Job::Store(store)));
    }

    fn back(&self, left: Vec<Left>, refusals: Vec<Refusal>) {
        let mut state = self.core.lock();
        let newer = std::mem::replace(&mut state.left, left);
        state.left.extend(newer);
        state.left_since = (!state.left.is_empty()).then(Instant::now);
        let newer = std::mem::replace(&mut state.refusals, refusals);
        state.refusals.extend(newer);
    }

    fn answer(&self, stores: Vec<Store>, mut result: impl FnMut(usize) -> Result<Vec<Pushed>, OutboxError>) {
        let mut state = self.core.lock();
        state.held_events -= stores.iter().map(|store| store.pushes.len()).sum::<usize>();
        state.held_bytes -= stores.iter().map(Store::bytes).sum::<usize>();
        drop(state);
        self.core.room.notify_all();
        stores.into_iter().enumerate().for_each(|(n, store)| (store.done)(result(n)));
    }

    /// One transaction. Waits for the disk if it stores anything.
    fn transact(
        &mut self,
        stores: &[Store],
        left: &[Left],
        refusals: &[Refusal],
    ) -> rusqlite::Result<Outcome> {
        let began = Instant::now();
        self.open()?;
        let syncs = !stores.is_empty();
        let evidence_bytes = self.core.lock().depth.evidence_bytes as i64;
        let Some(db) = &mut self.db else { return Ok(Outcome::default()) };
        if syncs != self.syncs {
            db.pragma_update(None, "synchronous", if syncs { "FULL" } else { "NORMAL" })?;
            self.syncs = syncs;
        }
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcome = Outcome::default();
        let (now, keep) = (now_ms(), self.core.keep_sent_ms.load(Ordering::Relaxed));
        for gone in left {
            if keep > 0 && gone.why != Why::Lost {
                again::keep(&transaction, gone.id, now)?;
            }
            outcome.left.push((gone.why, rows::delete(&transaction, gone.id)?));
        }
        if left.iter().any(|gone| gone.why != Why::Lost) {
            again::forget(&transaction, now - keep)?;
        }
        for Refusal { message, reason, until } in refusals {
            rows::refuse(&transaction, message.id, reason, *until)?;
        }
        for store in stores {
            let pushes = store.pushes.iter().map(|push| rows::insert(&transaction, push, now));
            outcome.inserted.push(pushes.collect::<Result<_, _>>()?);
            for scene in &store.scenes {
                rows::keep_scene(&transaction, scene)?;
            }
        }
        let inserted = outcome.inserted.iter().flatten().flatten();
        let bytes = evidence_bytes + inserted.map(|inserted| inserted.evidence_bytes).sum::<i64>();
        outcome.evicted = self.files.evict(&transaction, bytes, &self.victims)?;
        if !refusals.is_empty() || self.core.lock().depth.refused > 0 {
            outcome.refused = Some(rows::refused(&transaction)?);
        }
        outcome.oldest = rows::oldest(&transaction)?;
        transaction.commit()?;
        self.core.times.transactions.add(began.elapsed());
        Ok(outcome)
    }

    /// Opens the database if that was not possible before.
    fn open(&mut self) -> rusqlite::Result<()> {
        if self.db.is_some() {
            return Ok(());
        }
        let db = self.place.open()?;
        self.opened(db, None)
    }

    /// Begins with a database: reads how much waits in it.
    pub fn opened(&mut self, db: Connection, salvage: Option<Salvage>) -> rusqlite::Result<()> {
        let known = salvage.is_some();
        if known {
            self.files.register(&db)?;
        } else {
            self.files.remove_strays(&db, self.started)?;
        }
        let (depth, oldest) = (rows::depth(&db)?, rows::oldest(&db)?);
        self.db = Some(db);
        self.syncs = true;
        let counters = &self.core.counters;
        let mut state = self.core.lock();
        if !known {
            // The backlog counts as received, so that the account of this run adds up.
            counters.events_in.add(depth.events);
            counters.pictures_in.add(depth.evidence);
        }
        state.depth = depth;
        state.oldest = oldest;
        state.ahead = super::ahead::Ahead::new();
        if let Some(salvage) = salvage {
            counters.salvages.add(1);
            state.salvage = Some(salvage);
        }
        Ok(())
    }

    /// The disk has it: tells everybody.
    fn written(&mut self, stores: Vec<Store>, outcome: Outcome) {
        // A picture that is gone from the tables is of no use.
        let replaces = outcome.inserted.iter().flatten().flatten().any(|inserted| inserted.replaces);
        if let Some(db) = self.db.as_ref().filter(|_| replaces || !outcome.evicted.is_empty()) {
            self.files.settle(db);
        }
        self.victims.clear();
        let recovered = self.recovered(!stores.is_empty());
        let stored = Instant::now();
        let mut answers = Vec::with_capacity(stores.len());
        let (core, counters) = (self.core.clone(), &self.core.counters);
        let mut state = core.lock();
        for (why, there) in outcome.left {
            self.count_left(&mut state, why, there);
        }
        for (store, inserted) in stores.iter().zip(outcome.inserted) {
            counters.events_in.add(inserted.len() as u64);
            core.times.stored.add(stored - store.since);
            let pushed = inserted.into_iter().zip(&store.pushes).map(|(inserted, push)| match inserted {
                None => {
                    counters.duplicates.add(1);
                    Pushed::Duplicate
                }
                Some(inserted) => {
                    let sent = push.picture.as_ref().is_some_and(|picture| picture.topic.is_some());
                    counters.pictures_in.add(u64::from(sent));
                    keep(&mut state, inserted, store.since, stored, counters);
                    Pushed::Stored
                }
            });
            answers.push(pushed.collect::<Vec<_>>());
        }
        for (victim, ids) in &outcome.evicted {
            less(&mut state.depth.evidence_bytes, victim.bytes as usize);
            less(&mut state.depth.evidence, ids.len());
            less(&mut state.depth.messages, ids.len());
            counters.pictures_evicted.add(ids.len() as u64);
            removed(&mut state, &victim.event, ids);
        }
        state.depth.refused = outcome.refused.unwrap_or(state.depth.refused);
        state.oldest = outcome.oldest;
        drop(state);
        if recovered {
            core.tell_disk();
        }
        core.tell_ready();
        let mut answers = answers.into_iter();
        self.answer(stores, |_| Ok(answers.next().unwrap_or_default()));
    }

    fn count_left(&self, state: &mut State, why: Why, there: bool) {
        // A row that was gone had been replaced or evicted, and was counted then.
        if !there {
            return;
        }
        let (counters, depth) = (&self.core.counters, &mut state.depth);
        less(&mut depth.messages, 1);
        counters.messages_acked.add(u64::from(why != Why::Lost));
        match why {
            Why::AckedEvent => {
                less(&mut depth.events, 1);
                counters.events_acked.add(1);
            }
            Why::AckedPicture => {
                less(&mut depth.evidence, 1);
                counters.pictures_acked.add(1);
            }
            Why::Lost => {
                less(&mut depth.evidence, 1);
                counters.pictures_lost.add(1);
            }
            Why::AckedOpen => {}
        }
    }

    /// Reads on where there is room, and gives back room on disk where there is nothing else to do.
    fn read_ahead(&mut self) {
        let core = self.core.clone();
        let Some(db) = &self.db else { return };
        let (cursor, hungry, upto, idle) = {
            let mut state = core.lock();
            let idle = state.depth.messages == 0 && state.jobs.is_empty() && state.trouble.is_none();
            (state.ahead.wants_rows(), state.ahead.take_hungry(), state.ahead.cursor(), idle)
        };
        let mut error = None;
        for Hungry { line, after } in hungry {
            match rows::of_line(db, &line, (after, upto), PER_LINE) {
                Ok(rows) => {
                    let end = rows.len() < PER_LINE;
                    core.lock().ahead.feed(&line, rows, end);
                }
                Err(failed) => {
                    core.lock().ahead.hungry_again(Hungry { line, after });
                    error = Some(failed);
                }
            }
        }
        if let Some(cursor) = cursor {
            match rows::after(db, cursor, READ) {
                Ok(page) => core.lock().ahead.read(page),
                Err(failed) => error = Some(failed),
            }
        }
        if idle {
            // Of no consequence where it fails: the room stays for the next outage.
            let free: i64 = db.query_row("PRAGMA freelist_count", [], |row| row.get(0)).unwrap_or(0);
            if free > 2 * FREE_PAGES {
                let _ = db.execute_batch(&format!("PRAGMA incremental_vacuum({FREE_PAGES})"));
            }
        }
        match error {
            None => core.tell_ready(),
            Some(error) if self.heal(&error) => {}
            Some(error) => {
                let kind = match self.meaning(&error) {
                    Meaning::Disk(kind) => kind,
                    _ => TroubleKind::Failing,
                };
                self.in_trouble(kind, error.to_string());
            }
        }
    }

    /// Does what can be done about an error. `false`: nothing.
    fn heal(&mut self, error: &rusqlite::Error) -> bool {
        match self.meaning(error) {
            Meaning::Corrupt => self.replace(error),
            Meaning::Disk(TroubleKind::Full) => self.make_room(),
            _ => false,
        }
    }

    fn meaning(&self, error: &rusqlite::Error) -> Meaning {
        meaning(error, self.place.path.parent().unwrap_or(&self.place.path))
    }

    /// A corrupt database is set aside, and a new one begins with what can be read of it.
    pub fn replace(&mut self, error: &rusqlite::Error) -> bool {
        // Closed first: it would go on with the file under its new name.
        self.db = None;
        let done = self.place.salvage(error).and_then(|(db, salvage)| {
            let said = salvage.clone();
            self.opened(db, Some(salvage)).map(|()| said).map_err(SalvageError::New)
        });
        match done {
            Ok(Salvage { set_aside, cause, messages, whole }) => {
                let (old, new) = (set_aside.display(), self.place.path.display());
                tracing::error!(
                    "{new}: the database was corrupt ({cause}); it is set aside as {old}, and {messages} message(s) were \
                     read from it{}. A new one has begun: nothing is to be done, but look into the kernel's log whether \
                     the disk fails, and remove {old} when nobody needs it",
                    if whole { ", all that it held" } else { "; others may be missing" },
                );
                self.core.tell_disk();
                true
            }
            Err(SalvageError::Aside { path, source }) => {
                let kind = kind_of(&source).unwrap_or(TroubleKind::Failing);
                self.in_trouble(
                    kind,
                    format!("corrupt, and {} cannot be set aside: {source}", path.display()),
                );
                false
            }
            Err(SalvageError::New(error)) => {
                self.in_trouble(TroubleKind::Failing, error.to_string());
                false
            }
        }
    }

    /// Room on a full disk: the log is written back and cut, and pictures go, the oldest first. Events never go.
    fn make_room(&mut self) -> bool {
        let Some(db) = &self.db else { return false };
        // Where it fails there was nothing to gain.
        let _ = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let wanted = self.files.missing_room();
        let Ok(victims) = self.files.oldest(db, wanted, &self.victims) else { return true };
        if !victims.is_empty() {
            tracing::warn!(
                "{}: the disk is full; {} evidence picture(s) are removed, the oldest first, so that events find room",
                self.files.dir.display(),
                victims.len()
            );
        }
        victims.iter().for_each(|victim| self.files.remove(victim));
        self.victims.extend(victims);
        true
    }

    fn trouble(&self) -> Option<OutboxError> {
        self.core.lock().trouble.clone().map(OutboxError::Disk)
    }

    /// From now on the disk is tried once a second.
    pub fn in_trouble(&mut self, kind: TroubleKind, cause: String) -> OutboxError {
        self.retry_at = Some(Instant::now() + RETRY);
        let mut state = self.core.lock();
        let before = state.trouble.take();
        let since = before.as_ref().map_or_else(flow::Timestamp::now, |before| before.since);
        let trouble = Trouble { kind, path: self.place.path.clone(), cause, since };
        let news = before.is_none_or(|before| before.kind != kind);
        state.trouble = Some(trouble.clone());
        drop(state);
        if news {
            self.core.counters.troubles[kind as usize].add(1);
            tracing::error!("{trouble}");
            self.core.tell_disk();
        }
        OutboxError::Disk(trouble)
    }

    /// Whether the disk had been in trouble until now. That a row could be removed says little while events wait.
    fn recovered(&mut self, stored: bool) -> bool {
        let mut state = self.core.lock();
        if !stored && state.held_events > 0 {
            return false;
        }
        self.retry_at = None;
        let Some(trouble) = state.trouble.take() else { return false };
        let held = state.held_events;
        drop(state);
        let path = trouble.path.display();
        tracing::info!(
            "{path}: the disk takes events again, after trouble since {}; {held} were held",
            trouble.since
        );
        true
    }
}

/// Accounts for a push that is on disk, and lets its messages be sent.
fn keep(
    state: &mut State,
    mut inserted: Inserted,
    since: Instant,
    stored: Instant,
    counters: &super::Counters,
) {
    let Some(event) = inserted.rows.first().map(|row| row.event.clone()) else { return };
    for (id, kind) in inserted.removed {
        less(&mut state.depth.messages, 1);
        if kind == Kind::Evidence {
            less(&mut state.depth.evidence, 1);
            counters.pictures_replaced.add(1);
        }
        removed(state, &event, &[id]);
    }
    state.depth.messages += inserted.rows.len() as u64;
    state.depth.events += inserted.rows.iter().filter(|row| row.kind == Kind::Event).count() as u64;
    state.depth.evidence += inserted.rows.iter().filter(|row| row.kind == Kind::Evidence).count() as u64;
    let bytes = state.depth.evidence_bytes as i64 + inserted.evidence_bytes;
    state.depth.evidence_bytes = bytes.max(0) as u64;
    for row in &mut inserted.rows {
        (row.submitted, row.stored) = (Some(since), Some(stored));
    }
    state.ahead.written(inserted.rows);
}

/// Counts down. What is counted was read from the database: where somebody else wrote into it, not below nothing.
fn less(count: &mut u64, by: usize) {
    *count = count.saturating_sub(by as u64);
}

/// Unsent messages are gone: from the situation's line, or from that of a refused picture.
fn removed(state: &mut State, event: &str, ids: &[i64]) {
    state.ahead.removed(event, ids);
    for id in ids {
        state.ahead.removed(&own_line(event, *id), &[*id]);
    }
}
