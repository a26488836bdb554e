//! What has to reach the broker, on disk until it has.
//!
//! SQLite with a write-ahead log and `synchronous=FULL`: when [`Outbox::push`] returns, the event survives a power
//! cut. One transaction stores the event's key, its messages and what is known of its pictures. The pictures
//! themselves are files, written and synced before that transaction; a file without a row is what a crash in
//! between leaves, and is removed at the next start.
//!
//! Events are never dropped. Pictures are, the oldest first, when they exceed `evidence_max_bytes`: an event
//! without its picture is worth more than a full disk.

mod evidence;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flow::{CameraId, Counter, EventId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::evidence::Jpeg;
use crate::wire::{Role, Topic};
pub(crate) use rows::{Kind, Message};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS seen (            -- events that were pushed, so that a second push is recognised
    event TEXT NOT NULL, sequence INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (event, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (          -- messages without PUBACK, in the order of sending
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL, sequence INTEGER NOT NULL, kind TEXT NOT NULL, topic TEXT NOT NULL,
    payload BLOB,                            -- NULL for evidence: the file holds it
    sha256 TEXT,                             -- of the file
    created INTEGER NOT NULL,                -- ms since 1970
    refusal TEXT,                            -- the broker's reason, where it said no
    retry_at INTEGER NOT NULL DEFAULT 0      -- ms since 1970: not before
);
CREATE INDEX IF NOT EXISTS outbox_event ON outbox (event, kind);
CREATE TABLE IF NOT EXISTS evidence (        -- the files
    event TEXT NOT NULL, role TEXT NOT NULL, bytes INTEGER NOT NULL, created INTEGER NOT NULL,
    PRIMARY KEY (event, role)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open (            -- situations that last: what their retained message says
    event TEXT PRIMARY KEY, sequence INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scene (           -- what the scenes remember, with the events that it led to
    camera TEXT PRIMARY KEY, state BLOB NOT NULL
) WITHOUT ROWID;
";

/// For whoever changes the tables.
const SCHEMA_VERSION: i32 = 1;

/// A second push of an event is recognised for this long.
const SEEN_FOR_MS: i64 = 30 * 24 * 3600 * 1000;

/// The outbox of one worker: `outbox.sqlite` and `evidence/` in its data directory.
#[derive(Debug)]
pub struct Outbox {
    db: Mutex<Connection>,
    evidence_dir: PathBuf,
    evidence_max_bytes: u64,
    pub(crate) counters: Counters,
}

/// What happened since the outbox was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub events_in: Counter,
    pub events_acked: Counter,
    pub duplicates: Counter,
    pub pictures_in: Counter,
    pub pictures_acked: Counter,
    /// Removed unsent to keep to `evidence_max_bytes`.
    pub pictures_evicted: Counter,
    /// Unsent when the same event got a newer picture of the same role.
    pub pictures_replaced: Counter,
    /// The file was gone or another when its turn came.
    pub pictures_lost: Counter,
}

/// The outbox could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The database. Locked means that another process uses it: each worker needs a data directory of its own.
    #[error("outbox {path}: {source}")]
    Database {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// An event on its way into the outbox.
pub(crate) struct Push<'a> {
    pub event: EventId,
    pub sequence: u32,
    pub topic: &'a Topic,
    pub body: &'a [u8],
    pub open: &'a Topic,
    /// The situation is over: `open` is cleared.
    pub ended: bool,
    pub picture: Option<(Role, &'a Topic, &'a Jpeg)>,
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
#[derive(Debug, PartialEq, Eq)]
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
}

impl Outbox {
    /// Opens, or creates, the outbox in `dir`. Evidence is kept up to `evidence_max_bytes`.
    pub fn open(dir: &Path, evidence_max_bytes: u64) -> Result<Self, OutboxError> {
        let evidence_dir = dir.join("evidence");
        std::fs::create_dir_all(&evidence_dir)
            .map_err(|source| OutboxError::File { path: evidence_dir.clone(), source })?;
        let path = dir.join("outbox.sqlite");
        let open = || {
            let db = Connection::open(&path)?;
            db.busy_timeout(std::time::Duration::from_secs(2))?;
            // Two workers with one data directory would send everything twice: the second does not start.
            db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            db.execute_batch(SCHEMA)?;
            db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            db.execute("DELETE FROM seen WHERE at < ?1", [now_ms() - SEEN_FOR_MS])?;
            Ok(db)
        };
        let db = open().map_err(|source| OutboxError::Database { path, source })?;
        let outbox =
            Self { db: Mutex::new(db), evidence_dir, evidence_max_bytes, counters: Counters::default() };
        outbox.remove_strays()?;
        let depth = outbox.depth()?;
        // The backlog counts as received, so that the account of this run adds up.
        outbox.counters.events_in.add(depth.events);
        outbox.counters.pictures_in.add(depth.evidence);
        Ok(outbox)
    }

    /// Whether this event was pushed before. Asked first, to spare the work of making its evidence, and because
    /// the evidence file of a later event may have taken the place of its own.
    pub(crate) fn has(&self, event: EventId, sequence: u32) -> Result<bool, OutboxError> {
        let sql = "SELECT 1 FROM seen WHERE event = ?1 AND sequence = ?2";
        let key = params![event.to_string(), sequence];
        self.with(|db| db.query_row(sql, key, |_| Ok(())).optional()).map(|found| found.is_some())
    }

    /// Counts an event that [`Outbox::has`] knew.
    pub(crate) fn count_duplicate(&self) {
        self.counters.events_in.add(1);
        self.counters.duplicates.add(1);
    }

    /// Stores the events of one look with their messages, and what the camera's scene remembers after it, in one
    /// transaction: evidence before the event, the retained message after it. The same event with the same sequence
    /// number is stored once. The pictures' files are there already.
    pub(crate) fn push(
        &self,
        pushes: &[Push],
        scene: Option<&SceneState>,
    ) -> Result<Vec<Pushed>, OutboxError> {
        let replaced = self.with(|db| {
            let transaction = db.transaction()?;
            let now = now_ms();
            let replaced: Vec<_> =
                pushes.iter().map(|push| rows::insert(&transaction, push, now)).collect::<Result<_, _>>()?;
            if let Some(scene) = scene {
                rows::keep_scene(&transaction, scene)?;
            }
            transaction.commit()?;
            Ok(replaced)
        })?;
        self.counters.events_in.add(pushes.len() as u64);
        let mut pictures = false;
        let each = pushes.iter().zip(replaced).map(|(push, replaced)| {
            let Some(replaced) = replaced else {
                self.counters.duplicates.add(1);
                return Pushed::Duplicate;
            };
            if push.picture.is_some() {
                self.counters.pictures_in.add(1);
                self.counters.pictures_replaced.add(replaced);
                pictures = true;
            }
            Pushed::Stored
        });
        let pushed = each.collect();
        if pictures {
            self.evict()?;
        }
        Ok(pushed)
    }

    /// Stores what scenes remember, without events.
    pub(crate) fn keep_scenes(&self, scenes: &[SceneState]) -> Result<(), OutboxError> {
        self.with(|db| {
            let transaction = db.transaction()?;
            scenes.iter().try_for_each(|scene| rows::keep_scene(&transaction, scene).map(drop))?;
            transaction.commit()
        })
    }

    /// What the scenes remembered when the program last ran.
    pub(crate) fn scenes(&self) -> Result<Vec<(String, Vec<u8>)>, OutboxError> {
        self.with(|db| {
            let mut statement = db.prepare("SELECT camera, state FROM scene")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }

    /// Messages to send now, oldest first, at most `limit`; one per situation, so that a situation's messages
    /// arrive in order, and none of a situation in `busy`.
    pub(crate) fn pending(&self, busy: &[String], limit: usize) -> Result<Vec<Message>, OutboxError> {
        self.with(|db| rows::pending(db, busy, limit, now_ms()))
    }

    /// The broker has it (PUBACK): forget it.
    pub(crate) fn acked(&self, message: &Message) -> Result<(), OutboxError> {
        let gone = self.with(|db| db.execute("DELETE FROM outbox WHERE id = ?1", [message.id]))?;
        if gone == 1 {
            match message.kind {
                Kind::Event => self.counters.events_acked.add(1),
                Kind::Evidence => self.counters.pictures_acked.add(1),
                Kind::Open => {}
            }
        }
        Ok(())
    }

    /// The broker does not want it: kept with the reason, tried again after `wait_ms`.
    pub(crate) fn refused(&self, message: &Message, reason: &str, wait_ms: i64) -> Result<(), OutboxError> {
        let retry_at = now_ms() + wait_ms;
        self.with(|db| {
            db.execute(
                "UPDATE outbox SET refusal = ?2, retry_at = ?3 WHERE id = ?1",
                params![message.id, reason, retry_at],
            )
        })?;
        Ok(())
    }

    /// After a new connection every situation that lasts is published again: a broker may have lost its retained
    /// messages.
    pub(crate) fn connected(&self) -> Result<(), OutboxError> {
        self.with(|db| {
            db.execute(
                "INSERT INTO outbox (event, sequence, kind, topic, payload, created)
                 SELECT event, sequence, 'open', topic, payload, ?1 FROM open
                 WHERE event NOT IN (SELECT event FROM outbox WHERE kind = 'open')",
                [now_ms()],
            )
        })
        .map(drop)
    }

    /// How full it is.
    pub fn depth(&self) -> Result<Depth, OutboxError> {
        self.with(|db| {
            let count = |n: i64| u64::try_from(n).unwrap_or(0);
            let mut depth = db.query_row(
                "SELECT coalesce(sum(kind = 'event'), 0), coalesce(sum(kind = 'evidence'), 0), count(*),
                        coalesce(sum(refusal IS NOT NULL), 0), min(created) FROM outbox",
                [],
                |row| {
                    let oldest: Option<i64> = row.get(4)?;
                    Ok(Depth {
                        events: count(row.get(0)?),
                        evidence: count(row.get(1)?),
                        messages: count(row.get(2)?),
                        refused: count(row.get(3)?),
                        evidence_bytes: 0,
                        oldest_ms: oldest.map_or(0, |ms| count(now_ms() - ms)),
                    })
                },
            )?;
            let bytes = db.query_row("SELECT coalesce(sum(bytes), 0) FROM evidence", [], |row| row.get(0))?;
            depth.evidence_bytes = count(bytes);
            Ok(depth)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, OutboxError> {
        let mut db = self.lock();
        work(&mut db).map_err(|source| OutboxError::Database {
            path: self.evidence_dir.with_file_name("outbox.sqlite"),
            source,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back: the connection is as good as before.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
