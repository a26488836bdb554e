//! The evidence files: `evidence/{event}/{role}.jpg`, synced before the row that names them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flow::EventId;
use rusqlite::params;

use super::{Outbox, OutboxError};
use crate::wire::{Role, sha256};

impl Outbox {
    /// Where a picture is kept.
    pub(crate) fn evidence_path(&self, event: EventId, role: Role) -> PathBuf {
        self.evidence_dir.join(event.to_string()).join(format!("{role}.jpg"))
    }

    /// Writes beside, syncs, renames: a reader sees the old picture or the new one.
    pub(crate) fn write_file(&self, event: EventId, role: Role, bytes: &[u8]) -> Result<(), OutboxError> {
        let path = self.evidence_path(event, role);
        let write = || -> io::Result<()> {
            let dir = path.parent().unwrap_or(&self.evidence_dir);
            fs::create_dir_all(dir)?;
            let beside = path.with_extension("part");
            let mut file = fs::File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            fs::File::open(dir)?.sync_all()
        };
        write().map_err(|source| OutboxError::File { path: path.clone(), source })
    }

    /// The bytes of a picture that is to be sent, if they are still those that the event names.
    pub(crate) fn read_file(&self, event: EventId, role: Role, expected_sha256: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.evidence_path(event, role)).ok()?;
        (sha256(&bytes) == expected_sha256).then_some(bytes)
    }

    /// A picture that can no longer be sent: gone, or another file in its place.
    pub(crate) fn lost(&self, id: i64) -> Result<(), OutboxError> {
        self.counters.pictures_lost.add(1);
        self.with(|db| db.execute("DELETE FROM outbox WHERE id = ?1", [id])).map(drop)
    }

    /// Removes the oldest pictures until the rest fits into `evidence_max_bytes`; unsent ones with their message.
    pub(super) fn evict(&self) -> Result<(), OutboxError> {
        let max = i64::try_from(self.evidence_max_bytes).unwrap_or(i64::MAX);
        let mut victims: Vec<(String, String)> = Vec::new();
        let unsent = self.with(|db| {
            let transaction = db.transaction()?;
            let mut total: i64 =
                transaction.query_row("SELECT coalesce(sum(bytes), 0) FROM evidence", [], |r| r.get(0))?;
            if total > max {
                let mut oldest =
                    transaction.prepare("SELECT event, role, bytes FROM evidence ORDER BY created, event")?;
                let mut rows = oldest.query([])?;
                while let Some(row) = rows.next()?.filter(|_| total > max) {
                    total -= row.get::<_, i64>(2)?;
                    victims.push((row.get(0)?, row.get(1)?));
                }
            }
            let mut unsent = 0;
            for (event, role) in &victims {
                let key = params![event, role];
                transaction.execute("DELETE FROM evidence WHERE event = ?1 AND role = ?2", key)?;
                unsent += transaction.execute(
                    "DELETE FROM outbox WHERE event = ?1 AND kind = 'evidence' AND topic LIKE '%/' || ?2",
                    key,
                )?;
            }
            transaction.commit()?;
            Ok(unsent as u64)
        })?;
        for (event, role) in &victims {
            let dir = self.evidence_dir.join(event);
            remove(&dir.join(format!("{role}.jpg")))?;
            // Not empty while another picture of the event is left.
            let _ = fs::remove_dir(&dir);
        }
        self.counters.pictures_evicted.add(unsent);
        Ok(())
    }

    /// Removes files that no row names: a crash came between file and transaction.
    pub(super) fn remove_strays(&self) -> Result<(), OutboxError> {
        let error = |source| OutboxError::File { path: self.evidence_dir.clone(), source };
        for event in fs::read_dir(&self.evidence_dir).map_err(error)? {
            let dir = event.map_err(error)?.path();
            let Ok(files) = fs::read_dir(&dir) else { continue };
            for file in files.flatten() {
                let path = file.path();
                if !self.is_known(&dir, &path)? {
                    remove(&path)?;
                }
            }
            let _ = fs::remove_dir(&dir);
        }
        Ok(())
    }

    fn is_known(&self, dir: &Path, file: &Path) -> Result<bool, OutboxError> {
        let text = |name: Option<&std::ffi::OsStr>| name.map(|n| n.to_string_lossy().into_owned());
        let (event, role) = (text(dir.file_name()), text(file.file_stem()));
        if file.extension().is_none_or(|e| e != "jpg") {
            return Ok(false);
        }
        let sql = "SELECT count(*) FROM evidence WHERE event = ?1 AND role = ?2";
        self.with(|db| db.query_row(sql, params![event, role], |row| row.get::<_, i64>(0))).map(|n| n > 0)
    }
}

fn remove(path: &Path) -> Result<(), OutboxError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(OutboxError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
