//! What has to reach the broker, on disk until it has.
//!
//! ```text
//! submit --> jobs --> [one thread: group --> transaction, sync --> answer] --> ahead --> link ==> broker
//!                              ^---- rows of what left are removed ------------- PUBACK <----------'
//! ```
//!
//! SQLite with a write-ahead log and `synchronous=FULL`: when a push is answered, the event survives a power cut. One
//! transaction stores the event's key, its messages and what is known of its pictures; what many submit at once shares
//! one ([`writer`]). The pictures themselves are files, written and synced before that transaction; a file without a
//! row is what a crash in between leaves, and is removed at the next start. The link reads and acknowledges in memory
//! ([`ahead`]) and never waits for the disk.
//!
//! Events are never dropped. Pictures are, the oldest first, when they exceed `evidence_max_bytes` or the disk is full:
//! an event without its picture is worth more than a full disk. While the disk takes nothing at all, events are held
//! in memory up to [`HELD_EVENTS`]; then who submits them waits.

mod again;
mod ahead;
mod core;
mod evidence;
mod file;
mod property;
mod rows;
mod trouble;
mod writer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use flow::{CameraId, Counter, EventId, SituationId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::evidence::KEY_FILE;
use crate::evidence::folder::{KeySource, LazyFolder};
use crate::metrics::{Delivered, Times};
use crate::wire::Role;
use ahead::Ahead;
use core::{Core, Job, Left, Refusal, State, Store, Why};
pub use core::{HELD_BYTES, HELD_EVENTS};
use evidence::Files;
pub use evidence::Retention;
pub(crate) use evidence::Waiting;
use file::Place;
pub use file::Salvage;
pub(crate) use property::PushedProperty;
pub(crate) use rows::{Kind, Message};
use trouble::{Meaning, kind_of, meaning};
pub use trouble::{OutboxError, Trouble, TroubleKind};
use writer::Writer;

/// Acknowledgements in memory whose rows could not be removed yet; beyond that nothing more is sent.
const LEFT_MAX: usize = 65_536;

/// The outbox of one worker: `outbox.sqlite` and `evidence/` in its data directory.
pub struct Outbox {
    core: Arc<Core>,
    files: Files,
    place: Place,
    thread: Mutex<Option<JoinHandle<()>>>,
    observer: std::sync::OnceLock<Observer>,
}

/// Told of every event that the broker has acknowledged.
pub(crate) type Observer = Box<dyn Fn(&Delivered) + Send + Sync>;

/// What happened since the outbox was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub events_in: Counter,
    pub events_acked: Counter,
    pub messages_acked: Counter,
    pub duplicates: Counter,
    pub pictures_in: Counter,
    pub pictures_acked: Counter,
    /// Removed unsent to keep to `evidence_max_bytes`, or to make room on a full disk.
    pub pictures_evicted: Counter,
    /// Unsent when the same event got a newer picture of the same role.
    pub pictures_replaced: Counter,
    /// The file was gone or another when its turn came.
    pub pictures_lost: Counter,
    /// Submitters that had to wait for room in memory.
    pub waits: Counter,
    /// By [`TroubleKind`].
    pub troubles: [Counter; 3],
    pub salvages: Counter,
}

/// An event on its way into the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    pub event: EventId,
    pub sequence: u32,
    pub topic: String,
    pub body: Bytes,
    pub open: String,
    /// The situation is over: `open` is cleared.
    pub ended: bool,
    pub picture: Option<PushedPicture>,
    /// What an ONVIF client is told.
    pub property: Option<PushedProperty>,
}

/// A picture whose file is there.
#[derive(Debug, Clone)]
pub(crate) struct PushedPicture {
    pub role: Role,
    /// Where it is published; `None`: it goes to a store instead.
    pub topic: Option<String>,
    pub sha256: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Name of its files.
    pub name: String,
    pub camera: CameraId,
    pub class: Arc<str>,
    pub situation: SituationId,
}

/// What a camera's scene remembers, as its crate writes it.
#[derive(Debug, Clone)]
pub struct SceneState {
    /// Of which camera.
    pub camera: CameraId,
    /// Opaque here.
    pub state: Vec<u8>,
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is on disk.
    Stored,
    /// This event with this sequence number was there before.
    Duplicate,
}

/// How full the outbox is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Depth {
    /// Event messages without PUBACK.
    pub events: u64,
    /// Evidence pictures without PUBACK.
    pub evidence: u64,
    /// All messages without PUBACK, the retained ones too.
    pub messages: u64,
    /// Messages that the broker refused; they are tried again.
    pub refused: u64,
    /// Bytes of evidence files on disk, sent ones too.
    pub evidence_bytes: u64,
    /// Age of the oldest message, in ms.
    pub oldest_ms: u64,
    /// Events held in memory because the disk takes nothing; of at most [`HELD_EVENTS`].
    pub held: u64,
}

impl Outbox {
    /// Opens, or creates, the outbox in `dir`. Evidence is kept up to `evidence_max_bytes`. A corrupt database is set
    /// aside and a new one begins; a disk that is full, read-only or failing is tried again each second, and events are
    /// held in memory until then.
    ///
    /// # Errors
    /// Another process uses it, or `dir` cannot be a folder.
    pub fn open(dir: &Path, evidence_max_bytes: u64) -> Result<Self, OutboxError> {
        Self::open_within(dir, evidence_max_bytes, None)
    }

    /// The same, with a database of at most `max_bytes`: beyond that the disk counts as full.
    pub(crate) fn open_within(
        dir: &Path,
        evidence_max_bytes: u64,
        max_bytes: Option<u64>,
    ) -> Result<Self, OutboxError> {
        let key = KeySource::File(dir.join(KEY_FILE));
        let folder = LazyFolder::new(dir.join("evidence"), String::new(), key);
        Self::open_with(dir, (evidence_max_bytes, folder, Retention::default()), max_bytes)
    }

    /// The same, with pictures signed and kept as is said.
    pub(crate) fn open_with(
        dir: &Path,
        (evidence_max_bytes, folder, retention): (u64, LazyFolder, Retention),
        max_bytes: Option<u64>,
    ) -> Result<Self, OutboxError> {
        let place = Place { path: dir.join("outbox.sqlite"), max_bytes };
        let files = Files::new(dir, evidence_max_bytes, folder, retention);
        let core = Arc::new(Core::new(State { ahead: Ahead::new(), ..State::default() }));
        let mut writer = Writer {
            core: core.clone(),
            place: place.clone(),
            files: files.clone(),
            db: None,
            retry_at: None,
            syncs: true,
            victims: Vec::new(),
            started: SystemTime::now(),
            put_back: 0,
        };
        writer.begin(dir)?;
        let thread = std::thread::Builder::new().name("outbox".into()).spawn(move || writer.run());
        let thread = thread.map_err(|source| evidence::file_error(&place.path, &source))?;
        Ok(Self {
            core,
            files,
            place,
            thread: Mutex::new(Some(thread)),
            observer: std::sync::OnceLock::new(),
        })
    }

    /// Says who is to be told that there may be something to send, that the disk's state has changed. Once.
    pub(crate) fn hooks(
        &self,
        ready: impl Fn() + Send + Sync + 'static,
        disk: impl Fn() + Send + Sync + 'static,
    ) {
        // A second call would be a mistake of this crate, and the first stays.
        let _ = self.core.hooks.ready.set(Box::new(ready));
        let _ = self.core.hooks.disk.set(Box::new(disk));
    }

    /// Says who is told of every acknowledged event; whether nobody was before.
    pub(crate) fn observe(&self, observer: Observer) -> bool {
        self.observer.set(observer).is_ok()
    }

    /// Whether this event was pushed before. Asked first, to spare the work of making its evidence, and because
    /// the evidence file of a later event may have taken the place of its own.
    pub(crate) fn has(&self, event: EventId, sequence: u32) -> Result<bool, OutboxError> {
        self.with(move |db| {
            db.prepare_cached("SELECT 1 FROM seen WHERE event = ?1 AND sequence = ?2")?
                .query_row(params![event.to_string(), sequence], |_| Ok(()))
                .optional()
        })
        .map(|found| found.is_some())
    }

    /// Counts an event that [`Outbox::has`] knew.
    pub(crate) fn count_duplicate(&self) {
        self.core.counters.events_in.add(1);
        self.core.counters.duplicates.add(1);
    }

    /// Stores the events of one look with their messages, and what the camera's scene remembers after it, in one
    /// transaction: evidence before the event, the retained message after it. The same event with the same sequence
    /// number is stored once. The pictures' files are there already. `done` is called on the outbox's thread once that
    /// is on disk.
    ///
    /// `hold`: while the disk takes nothing, it is kept in memory and tried again; this call waits for room there.
    /// Otherwise `done` gets the error, and nothing was stored.
    pub(crate) fn push(
        &self,
        pushes: Vec<Push>,
        scene: Option<SceneState>,
        hold: bool,
        since: Instant,
        done: impl FnOnce(Result<Vec<Pushed>, OutboxError>) + Send + 'static,
    ) -> Result<(), OutboxError> {
        let scenes = scene.into_iter().collect();
        self.core.submit(Job::Store(Store { pushes, scenes, hold, since, done: Box::new(done) }))
    }

    /// The same, answered when it is on disk.
    pub(crate) fn push_now(
        &self,
        pushes: Vec<Push>,
        scene: Option<SceneState>,
        since: Instant,
    ) -> Result<Vec<Pushed>, OutboxError> {
        wait(|answer| self.push(pushes, scene, false, since, answer))
    }

    /// Stores what scenes remember, without events.
    pub(crate) fn keep_scenes(&self, scenes: &[SceneState]) -> Result<(), OutboxError> {
        let scenes = scenes.to_vec();
        let since = Instant::now();
        let store = |done| Store { pushes: Vec::new(), scenes, hold: false, since, done };
        wait(|answer| self.core.submit(Job::Store(store(Box::new(answer))))).map(drop)
    }

    /// What the scenes remembered when the program last ran.
    pub(crate) fn scenes(&self) -> Result<Vec<(String, Vec<u8>)>, OutboxError> {
        self.with(|db| {
            let mut statement = db.prepare("SELECT camera, state FROM scene")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }

    /// Messages to send now, oldest first, at most `limit`; one per situation, so that a situation's messages arrive in
    /// order. They are under way until [`acked`](Self::acked), [`refused`](Self::refused), [`lost`](Self::lost) or
    /// [`disconnected`](Self::disconnected). Does not wait for the disk.
    pub(crate) fn take(&self, limit: usize) -> Vec<Message> {
        let mut state = self.core.lock();
        if state.left.len() >= LEFT_MAX {
            return Vec::new();
        }
        let taken = state.ahead.take(limit, now_ms());
        let reads = state.ahead.wants_rows().is_some() || state.ahead.is_hungry();
        drop(state);
        if reads {
            self.core.work.notify_one();
        }
        taken
    }

    /// The broker has it (PUBACK): it will be forgotten. Does not wait for the disk.
    pub(crate) fn acked(&self, message: &Message) {
        let why = match message.kind {
            Kind::Event => Why::AckedEvent,
            Kind::Evidence => Why::AckedPicture,
            Kind::Open | Kind::Property | Kind::Moment => Why::AckedOpen,
        };
        self.left(message, why);
        if message.kind != Kind::Event {
            return;
        }
        let acked = Instant::now();
        if let Some(submitted) = message.submitted {
            self.core.times.acked.add(acked - submitted);
        }
        if let (Some(observer), Some(event)) = (self.observer.get(), message.event_id()) {
            let Message { sequence, submitted, stored, sent, .. } = *message;
            let sent = sent.unwrap_or(acked);
            observer(&Delivered { event, sequence, submitted, stored, sent, acked });
        }
    }

    /// A picture that can no longer be sent: gone, or another file in its place.
    pub(crate) fn lost(&self, message: &Message) {
        self.left(message, Why::Lost);
    }

    fn left(&self, message: &Message, why: Why) {
        let mut state = self.core.lock();
        state.ahead.gone(message);
        state.left.push(Left { id: message.id, why });
        let first = state.left_since.is_none();
        state.left_since.get_or_insert_with(Instant::now);
        let wakes = first || state.ahead.is_hungry();
        drop(state);
        // The thread sleeps towards the first one's time.
        if wakes {
            self.core.work.notify_one();
        }
    }

    /// The broker does not want it: kept with the reason, tried again after `wait_ms`. Does not wait for the disk.
    pub(crate) fn refused(&self, message: &Message, reason: &str, wait_ms: i64) {
        let until = now_ms() + wait_ms;
        let mut state = self.core.lock();
        state.ahead.refused(message, until);
        state.refusals.push(Refusal { message: message.clone(), reason: reason.to_owned(), until });
        drop(state);
        self.core.work.notify_one();
    }

    /// The connection is gone: what was under way is to be sent again.
    pub(crate) fn disconnected(&self) {
        self.core.lock().ahead.disconnected();
    }

    /// Keeps what the broker acknowledged until another acknowledgement comes so much later, to be sent again where the
    /// connection is lost before that.
    pub(crate) fn keep_sent(&self, keep: Duration) {
        let ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        self.core.keep_sent_ms.store(ms, Ordering::Relaxed);
    }

    /// After a new connection every situation that lasts is published again, and so is what the broker had acknowledged
    /// just before the last one ended: it may have lost its retained messages, and forgotten what it had not yet written
    /// down. On a disk that takes nothing that is left out.
    pub(crate) fn connected(&self) -> Result<(), OutboxError> {
        let again = self.take_back();
        let core = self.core.clone();
        let told = self.with(move |db| {
            let transaction = db.transaction()?;
            let sent = again::recall(&transaction)?;
            let told = rows::tell_open_again(&transaction)?;
            transaction.commit()?;
            let counters = &core.counters;
            counters.events_in.add(sent.events);
            counters.pictures_in.add(sent.evidence);
            let mut state = core.lock();
            state.depth.events += sent.events;
            state.depth.evidence += sent.evidence;
            state.depth.messages += told as u64 + sent.messages;
            if again || sent.messages > 0 {
                // They are older than what was read ahead.
                state.ahead = Ahead::new();
            } else if told > 0 {
                state.ahead.more_on_disk();
            }
            Ok(())
        });
        match told {
            Err(OutboxError::Disk(trouble)) => {
                tracing::debug!(%trouble, "what lasts is not told again");
                Ok(())
            }
            told => told,
        }
    }

    /// Acknowledgements of the last connection that are in memory only: their messages count as unsent again. Whether there
    /// were any.
    fn take_back(&self) -> bool {
        let mut state = self.core.lock();
        let before = state.left.len();
        if self.core.keep_sent_ms.load(Ordering::Relaxed) > 0 {
            state.left.retain(|left| left.why == Why::Lost);
        }
        if state.left.is_empty() {
            state.left_since = None;
        }
        state.left.len() < before
    }

    /// How full it is. Messages that left within the last 20 ms may still be counted.
    pub fn depth(&self) -> Depth {
        let state = self.core.lock();
        let oldest = state.oldest.filter(|_| state.depth.messages > 0);
        let oldest_ms = oldest.map_or(0, |stored| u64::try_from(now_ms() - stored).unwrap_or(0));
        let held = state.trouble.as_ref().map_or(0, |_| state.held_events as u64);
        Depth { oldest_ms, held, ..state.depth.clone() }
    }

    /// Waits until everything before this call is on disk, or cannot be.
    pub(crate) fn settle(&self) {
        let settled = self.with(|_| Ok(()));
        if let Err(error) = settled {
            tracing::debug!(%error, "not settled");
        }
    }

    /// What is wrong with the disk, if anything.
    pub fn trouble(&self) -> Option<Trouble> {
        self.core.lock().trouble.clone()
    }

    /// The last corrupt database that was replaced.
    pub fn salvaged(&self) -> Option<Salvage> {
        self.core.lock().salvage.clone()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.core.counters
    }

    pub(crate) fn times(&self) -> &Times {
        &self.core.times
    }

    /// Bytes of the database with its log.
    pub(crate) fn bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let mut log = self.place.path.clone().into_os_string();
        log.push("-wal");
        size(&self.place.path) + size(Path::new(&log))
    }

    /// Bytes free on the file system; `None` where the system does not say.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.files.free_bytes()
    }

    /// Work with the database, on its thread; waits for it.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let path = self.place.path.clone();
        wait(move |answer| {
            self.core.submit(Job::Ask(Box::new(move |db| match db.map(work) {
                Ok(Ok(value)) => {
                    answer(Ok(value));
                    None
                }
                Ok(Err(error)) => {
                    answer(Err(error_of(&path, &error)));
                    Some(error)
                }
                Err(error) => {
                    answer(Err(error));
                    None
                }
            })))
        })
    }
}

/// Waits for the answer that somebody gives on another thread.
fn wait<T: Send + 'static>(ask: impl FnOnce(Answer<T>) -> Result<(), OutboxError>) -> Result<T, OutboxError> {
    let (said, heard) = mpsc::sync_channel(1);
    // Who asked waits below, always.
    ask(Box::new(move |answer| drop(said.send(answer))))?;
    heard.recv().unwrap_or(Err(OutboxError::Closed))
}

type Answer<T> = Box<dyn FnOnce(Result<T, OutboxError>) + Send>;

fn error_of(path: &Path, error: &rusqlite::Error) -> OutboxError {
    let (path, cause) = (path.to_owned(), error.to_string());
    match meaning(error, path.parent().unwrap_or(&path)) {
        Meaning::InUse => OutboxError::InUse { path },
        Meaning::Disk(kind) => OutboxError::Disk(Trouble { kind, path, cause, since: Timestamp::now() }),
        Meaning::Corrupt | Meaning::Other => OutboxError::Database { path, cause },
    }
}

impl Writer {
    /// Opens the database. What waiting may heal is no error.
    fn begin(&mut self, dir: &Path) -> Result<(), OutboxError> {
        if let Err(source) = std::fs::create_dir_all(&self.files.dir) {
            let Some(kind) = kind_of(&source) else { return Err(evidence::file_error(dir, &source)) };
            self.in_trouble(kind, source.to_string());
            return Ok(());
        }
        let opened = self.place.open();
        let Err(error) = opened.and_then(|db| self.opened(db, None)) else { return Ok(()) };
        match meaning(&error, dir) {
            Meaning::Disk(kind) => drop(self.in_trouble(kind, error.to_string())),
            Meaning::Corrupt => drop(self.replace(&error)),
            Meaning::InUse | Meaning::Other => return Err(error_of(&self.place.path, &error)),
        }
        Ok(())
    }
}

impl Drop for Outbox {
    /// What was submitted is written; what was held and cannot be is answered with an error.
    fn drop(&mut self) {
        self.core.lock().closing = true;
        self.core.work.notify_one();
        self.core.room.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the outbox's thread had ended");
        }
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("path", &self.place.path).finish_non_exhaustive()
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
