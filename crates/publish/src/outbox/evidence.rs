//! The evidence files: `evidence/{event}/{role}.jpg`, on disk before the row that names them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flow::EventId;
use rusqlite::{Connection, Transaction, params};

use super::trouble::OutboxError;
use super::{Outbox, now_ms};
use crate::wire::{Role, sha256};

/// On a full disk so much is made free at once, and is to be free before pictures are spared.
const ROOM: u64 = 16 << 20;

/// The folder, and how much of it may be used.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub dir: PathBuf,
    pub max_bytes: u64,
}

/// A picture that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Victim {
    pub event: String,
    pub role: String,
    pub bytes: i64,
}

impl Outbox {
    /// Where a picture is kept.
    pub(crate) fn evidence_path(&self, event: EventId, role: Role) -> PathBuf {
        self.files.dir.join(event.to_string()).join(format!("{role}.jpg"))
    }

    /// Writes beside, syncs, renames, and syncs the folders that name it: a reader sees the old picture or the new one,
    /// and a row that is written after this returns finds it also after a power cut.
    pub(crate) fn write_file(&self, event: EventId, role: Role, bytes: &[u8]) -> Result<(), OutboxError> {
        let path = self.evidence_path(event, role);
        let beside = path.with_extension("part");
        let write = || -> io::Result<()> {
            let dir = path.parent().unwrap_or(&self.files.dir);
            let new = match fs::create_dir(dir) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                Err(error) => return Err(error),
            };
            let mut file = fs::File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            fs::File::open(dir)?.sync_all()?;
            if new {
                fs::File::open(&self.files.dir)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|source| {
            // A full disk needs the room of half a picture.
            let _ = fs::remove_file(&beside);
            file_error(&path, &source)
        })
    }

    /// The bytes of a picture that is to be sent, if they are still those that the event names.
    pub(crate) fn read_file(&self, event: EventId, role: Role, expected_sha256: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.evidence_path(event, role)).ok()?;
        (sha256(&bytes) == expected_sha256).then_some(bytes)
    }
}

impl Files {
    /// Removes rows of the oldest pictures until the rest fits into `max_bytes`, and those of pictures that were removed
    /// already; unsent ones with their messages, whose ids are returned. The files are to follow once this is on disk.
    pub fn evict(
        &self,
        transaction: &Transaction,
        bytes: i64,
        gone: &[Victim],
    ) -> rusqlite::Result<Vec<(Victim, Vec<i64>)>> {
        let bytes = bytes - gone.iter().map(|victim| victim.bytes).sum::<i64>();
        let too_many = u64::try_from(bytes).unwrap_or(0).saturating_sub(self.max_bytes);
        let mut victims = gone.to_vec();
        victims.extend(self.oldest(transaction, too_many, gone)?);
        let remove = |victim: Victim| {
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

    /// The oldest pictures that hold so many bytes together.
    pub fn oldest(&self, db: &Connection, bytes: u64, but: &[Victim]) -> rusqlite::Result<Vec<Victim>> {
        let (mut victims, mut sum) = (Vec::new(), 0);
        if bytes == 0 {
            return Ok(victims);
        }
        let mut oldest =
            db.prepare_cached("SELECT event, role, bytes FROM evidence ORDER BY created, event")?;
        let mut rows = oldest.query([])?;
        while sum < bytes
            && let Some(row) = rows.next()?
        {
            let victim = Victim { event: row.get(0)?, role: row.get(1)?, bytes: row.get(2)? };
            if !but.contains(&victim) {
                sum += u64::try_from(victim.bytes).unwrap_or(0);
                victims.push(victim);
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

    /// Removes a picture's file. One that cannot be removed is found at the next start.
    pub fn remove(&self, victim: &Victim) {
        let dir = self.dir.join(&victim.event);
        let path = dir.join(format!("{}.jpg", victim.role));
        if let Err(error) = remove(&path) {
            tracing::warn!("{error}");
        }
        // Not empty while another picture of the event is left.
        let _ = fs::remove_dir(&dir);
    }

    /// Removes files that no row names: a crash came between file and transaction. Not those of this process.
    pub fn remove_strays(&self, db: &Connection, started: SystemTime) -> rusqlite::Result<()> {
        for (dir, path) in self.all() {
            let old = fs::metadata(&path).and_then(|file| file.modified()).is_ok_and(|at| at < started);
            if old
                && !is_known(db, &dir, &path)?
                && let Err(error) = remove(&path)
            {
                tracing::warn!("{error}");
            }
        }
        for dir in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            // Only where it is empty.
            let _ = fs::remove_dir(dir.path());
        }
        Ok(())
    }

    /// Enters files that no row names: the rows were lost with a corrupt database, and the pictures still count.
    pub fn register(&self, db: &Connection) -> rusqlite::Result<()> {
        let transaction = db.unchecked_transaction()?;
        for (dir, path) in self.all() {
            let (event, role) = (text(dir.file_name()), text(path.file_stem()));
            let bytes = fs::metadata(&path).map_or(0, |file| file.len());
            if path.extension().is_some_and(|end| end == "jpg") {
                transaction
                    .prepare_cached("INSERT OR IGNORE INTO evidence (event, role, bytes, created) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![event, role, bytes as i64, now_ms()])?;
            }
        }
        transaction.commit()
    }

    /// Every file, with its folder.
    fn all(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        list(&self.dir).flat_map(move |dir| {
            let files: Vec<_> = list(&dir).map(|file| (dir.clone(), file)).collect();
            files
        })
    }
}

fn is_known(db: &Connection, dir: &Path, file: &Path) -> rusqlite::Result<bool> {
    if file.extension().is_none_or(|end| end != "jpg") {
        return Ok(false);
    }
    db.prepare_cached("SELECT 1 FROM evidence WHERE event = ?1 AND role = ?2")?
        .exists(params![text(dir.file_name()), text(file.file_stem())])
}

fn text(name: Option<&std::ffi::OsStr>) -> Option<String> {
    name.map(|name| name.to_string_lossy().into_owned())
}

fn remove(path: &Path) -> Result<(), OutboxError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file_error(path, &source)),
        _ => Ok(()),
    }
}

pub(super) fn file_error(path: &Path, source: &io::Error) -> OutboxError {
    OutboxError::File { path: path.to_owned(), cause: source.to_string() }
}
