//! The evidence files: on disk, and in their chain, before the row that names them; gone from both after it.
//!
//! A row of `evidence` is a picture that is to be there. One that is to go moves to `gone` in the transaction that decides
//! it; when that is on disk, its end is recorded in its camera's chain and its files are removed ([`Files::settle`]). What
//! a crash leaves undone is done at the next start.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use flow::{CameraId, EventId, Timestamp};
use rusqlite::{Connection, Transaction, params};

use super::trouble::OutboxError;
use super::{Job, Outbox, Store, now_ms, wait};
use crate::evidence::chain::Why;
use crate::evidence::folder::{Folder, LazyFolder, New, Placed, name_of, remove_files};
use crate::wire::{Role, sha256};

/// On a full disk so much is made free at once, and is to be free before pictures are spared.
const ROOM: u64 = 16 << 20;
/// Pictures whose time is over that go in one transaction.
const SWEPT_AT_ONCE: i64 = 256;
/// No sweep is due.
const NEVER: i64 = i64::MIN;

/// For how long pictures are kept.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// Where nothing else is said; `None`: until there is no room.
    pub keep: Option<Duration>,
    /// By situation; wins.
    pub by_situation: HashMap<String, Duration>,
    /// By class of cameras.
    pub by_class: HashMap<String, Duration>,
}

impl Retention {
    fn of(&self, situation: &str, class: &str) -> Option<Duration> {
        self.by_situation.get(situation).or_else(|| self.by_class.get(class)).copied().or(self.keep)
    }
}

/// The folder, how much of it may be used, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub dir: PathBuf,
    pub max_bytes: u64,
    pub folder: Arc<LazyFolder>,
    pub retention: Arc<Retention>,
    /// Pictures whose time was over at this moment (ms since 1970) go with the next transaction.
    pub sweep: Arc<AtomicI64>,
    pub deleted: Arc<Mutex<HashMap<Why, u64>>>,
}

/// A picture that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Victim {
    pub event: String,
    pub role: String,
    pub name: String,
    pub bytes: i64,
    pub why: Why,
}

/// A picture that is to go to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub event: EventId,
    pub name: String,
    pub camera: String,
}

impl Outbox {
    /// Where a picture is kept.
    pub(crate) fn picture_path(&self, event: EventId, name: &str) -> PathBuf {
        picture_path(&self.files.dir, event, name)
    }

    /// Writes a picture with its side file and sealed original, and its record. All of it is on disk when this returns,
    /// so that a row that is written later finds it also after a power cut.
    pub(crate) fn keep_picture(&self, new: &New<'_>) -> Result<Placed, OutboxError> {
        let keep = || self.files.folder.get()?.keep(new);
        keep().map_err(|source| file_error(&self.files.dir.join(new.event.to_string()), &source))
    }

    /// The bytes of a picture that is to be sent, if they are still those that the event names.
    pub(crate) fn read_file(&self, event: EventId, role: Role, expected_sha256: &str) -> Option<Vec<u8>> {
        // Earlier versions named the file after its role alone.
        let names = [name_of(role, expected_sha256), role.to_string()];
        let bytes = names.iter().find_map(|name| fs::read(self.picture_path(event, name)).ok())?;
        (sha256(&bytes) == expected_sha256).then_some(bytes)
    }

    /// Deletes some of the pictures whose time is over at `now`; how many. To be called until there are none.
    pub(crate) fn sweep(&self, now: Timestamp) -> Result<u64, OutboxError> {
        let count = || self.deleted().get(&Why::Retention).copied().unwrap_or(0);
        let before = count();
        self.files.sweep.store(now.as_millisecond(), Ordering::SeqCst);
        // An empty transaction: sweeping is part of every one.
        let since = Instant::now();
        let store = |done| Store { pushes: vec![], scenes: vec![], hold: false, since, done };
        wait(|answer| self.core.submit(Job::Store(store(Box::new(answer)))))?;
        Ok(count() - before)
    }

    /// Pictures deleted since the start, by reason.
    pub(crate) fn deleted(&self) -> HashMap<Why, u64> {
        self.files.deleted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pictures that the store does not have yet, the oldest first.
    pub(crate) fn waiting_for_store(&self, limit: usize) -> Result<Vec<Waiting>, OutboxError> {
        self.with(move |db| {
            let mut select = db.prepare_cached(
                "SELECT event, name, camera FROM evidence WHERE stored = 0 ORDER BY created, event LIMIT ?1",
            )?;
            let rows = select
                .query_map([limit as i64], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))?;
            let known = |(event, name, camera): (String, _, _)| {
                EventId::parse(&event).ok().map(|event| Waiting { event, name, camera })
            };
            rows.filter_map(|row| row.map(known).transpose()).collect()
        })
    }

    /// How many that are.
    pub(crate) fn count_waiting_for_store(&self) -> Result<u64, OutboxError> {
        self.with(|db| {
            db.query_row("SELECT count(*) FROM evidence WHERE stored = 0", [], |row| row.get::<_, i64>(0))
        })
        .map(|count| count.max(0) as u64)
    }

    /// A picture's files, each with its ending.
    pub(crate) fn picture_files(
        &self,
        event: EventId,
        name: &str,
    ) -> Result<Vec<(&'static str, Vec<u8>)>, OutboxError> {
        let read = || self.files.folder.get()?.read_all(event, name);
        read().map_err(|source| file_error(&self.picture_path(event, name), &source))
    }

    /// The store has a picture: recorded, and its files here removed.
    pub(crate) fn stored(&self, picture: &Waiting, reference: String) -> Result<(), OutboxError> {
        let (event, name) = (picture.event, picture.name.clone());
        let record = || match CameraId::new(&picture.camera) {
            Ok(camera) => self.files.folder.get()?.stored(&camera, event, &name, reference),
            Err(_) => remove_files(&self.files.dir, event, &name),
        };
        record().map_err(|source| file_error(&self.picture_path(event, &name), &source))?;
        let core = self.core.clone();
        self.with(move |db| {
            let key = params![event.to_string(), name];
            let mut bytes = db.prepare_cached("SELECT bytes FROM evidence WHERE event = ?1 AND name = ?2")?;
            let bytes: Option<i64> = bytes.query_map(key, |row| row.get(0))?.next().transpose()?;
            match bytes {
                Some(bytes) => {
                    db.execute(
                        "UPDATE evidence SET stored = 1, bytes = 0 WHERE event = ?1 AND name = ?2",
                        key,
                    )?;
                    let mut state = core.lock();
                    let left = state.depth.evidence_bytes.saturating_sub(bytes.max(0) as u64);
                    state.depth.evidence_bytes = left;
                }
                // It was replaced or deleted while it was on its way: it is to go there, too.
                None => drop(db.execute(
                    "INSERT OR REPLACE INTO gone (event, name, camera, why, stored, recorded)
                     VALUES (?1, ?2, '', '', 1, 1)",
                    key,
                )?),
            }
            Ok(())
        })
    }

    /// Pictures that the store is to delete.
    pub(crate) fn gone_from_store(&self, limit: usize) -> Result<Vec<(EventId, String)>, OutboxError> {
        self.with(move |db| {
            let mut select =
                db.prepare_cached("SELECT event, name FROM gone WHERE stored = 1 AND recorded = 1 LIMIT ?1")?;
            let rows = select.query_map([limit as i64], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
            let known = |(event, name): (String, _)| EventId::parse(&event).ok().map(|event| (event, name));
            rows.filter_map(|row| row.map(known).transpose()).collect()
        })
    }

    /// The store has deleted a picture.
    pub(crate) fn deleted_from_store(&self, event: EventId, name: &str) -> Result<(), OutboxError> {
        let key = (event.to_string(), name.to_owned());
        self.with(move |db| db.execute("DELETE FROM gone WHERE event = ?1 AND name = ?2", key)).map(drop)
    }
}

impl Files {
    /// The folder `evidence` of a data directory.
    pub fn new(data_dir: &Path, max_bytes: u64, folder: LazyFolder, retention: Retention) -> Self {
        Self {
            dir: data_dir.join("evidence"),
            max_bytes,
            folder: Arc::new(folder),
            retention: Arc::new(retention),
            sweep: Arc::new(AtomicI64::new(NEVER)),
            deleted: Arc::default(),
        }
    }

    /// Removes rows of pictures whose time is over, of the oldest until the rest fits into `max_bytes`, and of those that
    /// were removed already; unsent ones with their messages, whose ids are returned. The files are to follow once this
    /// is on disk.
    pub fn evict(
        &self,
        transaction: &Transaction,
        bytes: i64,
        gone: &[Victim],
    ) -> rusqlite::Result<Vec<(Victim, Vec<i64>)>> {
        let mut victims = gone.to_vec();
        let now = self.sweep.swap(NEVER, Ordering::SeqCst);
        if now != NEVER {
            victims.extend(self.due(transaction, now, gone)?);
        }
        let bytes = bytes - victims.iter().map(|victim| victim.bytes).sum::<i64>();
        let too_many = u64::try_from(bytes).unwrap_or(0).saturating_sub(self.max_bytes);
        victims.extend(self.oldest(transaction, too_many, &victims)?);
        let remove = |victim: Victim| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO gone (event, name, camera, why, stored)
                     SELECT event, name, camera, ?3, stored FROM evidence WHERE event = ?1 AND role = ?2",
                )?
                .execute(params![victim.event, victim.role, victim.why.name()])?;
            let key = params![victim.event, victim.role];
            transaction
                .prepare_cached("DELETE FROM evidence WHERE event = ?1 AND role = ?2")?
                .execute(key)?;
            let mut unsent = transaction.prepare_cached(
                "DELETE FROM outbox WHERE event = ?1 AND kind = 'evidence' AND topic LIKE '%/' || ?2 RETURNING id",
            )?;
            let ids = unsent.query_map(key, |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
            drop(unsent);
            Ok((victim, ids))
        };
        victims.into_iter().map(remove).collect()
    }

    /// Some of the pictures whose time was over at `now`, by what their situation, their camera's class or else the
    /// configuration says today.
    fn due(&self, db: &Connection, now: i64, but: &[Victim]) -> rusqlite::Result<Vec<Victim>> {
        let mut kinds = db.prepare_cached("SELECT DISTINCT situation, class FROM evidence")?;
        let kinds = kinds
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let mut victims = Vec::new();
        for (situation, class) in kinds {
            let Some(keep) = self.retention.of(&situation, &class) else { continue };
            let before = now.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
            let mut due = db.prepare_cached(
                "SELECT event, role, name, bytes FROM evidence
                 WHERE situation = ?1 AND class = ?2 AND created <= ?3 ORDER BY created LIMIT ?4",
            )?;
            let rows = due.query_map(params![situation, class, before, SWEPT_AT_ONCE], |row| {
                victim(row, Why::Retention)
            })?;
            for found in rows {
                let found = found?;
                if !but.iter().any(|victim| victim.same(&found)) {
                    victims.push(found);
                }
            }
        }
        Ok(victims)
    }

    /// The oldest pictures that hold so many bytes together.
    pub fn oldest(&self, db: &Connection, bytes: u64, but: &[Victim]) -> rusqlite::Result<Vec<Victim>> {
        let (mut victims, mut sum) = (Vec::new(), 0);
        if bytes == 0 {
            return Ok(victims);
        }
        let mut oldest = db.prepare_cached(
            "SELECT event, role, name, bytes FROM evidence WHERE stored = 0 ORDER BY created, event",
        )?;
        let mut rows = oldest.query([])?;
        while sum < bytes
            && let Some(row) = rows.next()?
        {
            let found = victim(row, Why::Room)?;
            if !but.iter().any(|victim| victim.same(&found)) {
                sum += u64::try_from(found.bytes).unwrap_or(0);
                victims.push(found);
            }
        }
        Ok(victims)
    }

    /// How much is to be removed so that some room is free on the file system.
    pub fn missing_room(&self) -> u64 {
        self.free_bytes().map_or(0, |free| ROOM.saturating_sub(free))
    }

    /// Bytes free on the file system; `None` where the system does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        let said = nix::sys::statvfs::statvfs(&self.dir).ok()?;
        Some(said.blocks_available() * said.fragment_size())
    }

    /// Removes a picture's files at once, on a disk that has no room for the record; that follows. What cannot be removed
    /// is found at the next start.
    pub fn remove(&self, victim: &Victim) {
        let Ok(event) = EventId::parse(&victim.event) else { return };
        if let Err(error) = remove_files(&self.dir, event, &victim.name) {
            tracing::warn!("{}: {error}", self.dir.join(&victim.event).display());
        }
    }

    /// Records the end of the pictures in `gone`, and removes their files. What fails is done with the next.
    pub fn settle(&self, db: &Connection) {
        if let Err(error) = self.try_settle(db) {
            tracing::warn!("{}: pictures are removed later: {error}", self.dir.display());
        }
    }

    fn try_settle(&self, db: &Connection) -> Result<(), String> {
        let told = |error: rusqlite::Error| error.to_string();
        let mut by_camera: HashMap<String, Vec<(EventId, String, Why)>> = HashMap::new();
        {
            let mut select = db
                .prepare_cached("SELECT event, name, camera, why FROM gone WHERE recorded = 0")
                .map_err(told)?;
            let rows = select
                .query_map([], |row| {
                    let text = |n| row.get::<_, String>(n);
                    Ok((text(0)?, text(1)?, text(2)?, text(3)?))
                })
                .map_err(told)?;
            for row in rows {
                let (event, name, camera, why) = row.map_err(told)?;
                if let Ok(event) = EventId::parse(&event) {
                    by_camera.entry(camera).or_default().push((event, name, Why::parse(&why)));
                }
            }
        }
        for (camera, gone) in by_camera {
            match CameraId::new(&camera) {
                Ok(camera) => self.folder.get().and_then(|folder| folder.delete(&camera, &gone)),
                // Of an earlier version, without a chain.
                Err(_) => gone.iter().try_for_each(|(event, name, _)| remove_files(&self.dir, *event, name)),
            }
            .map_err(|error| error.to_string())?;
            let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
            gone.iter().for_each(|(_, _, why)| *deleted.entry(*why).or_default() += 1);
            drop(deleted);
            for (event, name, _) in gone {
                let key = params![event.to_string(), name];
                db.execute("UPDATE gone SET recorded = 1 WHERE event = ?1 AND name = ?2", key)
                    .map_err(told)?;
                db.execute("DELETE FROM gone WHERE event = ?1 AND name = ?2 AND stored = 0", key)
                    .map_err(told)?;
            }
        }
        Ok(())
    }

    /// Finishes what a crash left: pictures that were to go, and files that no row names, since a crash came between
    /// file and transaction. Not those of this process.
    pub fn remove_strays(&self, db: &Connection, started: SystemTime) -> rusqlite::Result<()> {
        self.settle(db);
        let mut select = db.prepare_cached("SELECT 1 FROM evidence WHERE event = ?1 AND name = ?2")?;
        let mut failed = None;
        let mut is_known = |event: EventId, name: &str| {
            select.exists(params![event.to_string(), name]).unwrap_or_else(|error| {
                failed = Some(error);
                true
            })
        };
        if let Ok(folder) = self.folder.get()
            && let Err(error) = folder.tidy(started, &mut is_known)
        {
            tracing::warn!("{}: {error}", self.dir.display());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Enters pictures that no row names: the rows were lost with a corrupt database, and the pictures still count. What
    /// they are is in their chain.
    pub fn register(&self, db: &Connection) -> rusqlite::Result<()> {
        let transaction = db.unchecked_transaction()?;
        let mut enter = transaction.prepare(
            "INSERT OR IGNORE INTO evidence (event, role, bytes, created, name, camera, stored)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let found = self.folder.get().and_then(Folder::all).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}", self.dir.display());
            Vec::new()
        });
        for picture in found {
            let role = picture.name.split('-').next().unwrap_or(&picture.name);
            let camera = picture.camera.as_ref().map_or("", |camera| camera.as_str());
            let (event, bytes) = (picture.event.to_string(), picture.bytes as i64);
            enter.execute(params![event, role, bytes, now_ms(), picture.name, camera, picture.stored])?;
        }
        drop(enter);
        transaction.commit()
    }
}

impl Victim {
    /// Whether it is the same picture, for whatever reason it goes.
    fn same(&self, other: &Self) -> bool {
        (&self.event, &self.name) == (&other.event, &other.name)
    }
}

fn victim(row: &rusqlite::Row, why: Why) -> rusqlite::Result<Victim> {
    Ok(Victim { event: row.get(0)?, role: row.get(1)?, name: row.get(2)?, bytes: row.get(3)?, why })
}

fn picture_path(dir: &Path, event: EventId, name: &str) -> PathBuf {
    dir.join(event.to_string()).join(format!("{name}.jpg"))
}

pub(super) fn file_error(path: &Path, source: &io::Error) -> OutboxError {
    OutboxError::File { path: path.to_owned(), cause: source.to_string() }
}
