//! What can be wrong with the disk: told apart, each with the file, the cause and the way out.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flow::Timestamp;
use rusqlite::ErrorCode;

/// The outbox could not do its work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OutboxError {
    /// Another process uses it.
    #[error(
        "outbox {path}: the database is locked: another process uses it, and each worker needs a data_dir of its own"
    )]
    InUse {
        /// Its file.
        path: PathBuf,
    },
    /// The disk takes or gives nothing; it is tried again.
    #[error("{0}")]
    Disk(Trouble),
    /// The database, for another reason.
    #[error("outbox {path}: {cause}")]
    Database {
        /// Its file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A file or folder.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The outbox has been closed.
    #[error("the outbox is closed")]
    Closed,
}

/// What the disk does to the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// There is no room left, or the quota is used up.
    Full,
    /// Nothing can be written: mounted read-only, or not permitted.
    ReadOnly,
    /// It answers with errors.
    Failing,
}

impl TroubleKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Full, Self::ReadOnly, Self::Failing];

    /// `full`, `read_only` or `failing`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Failing => "failing",
        }
    }

    fn way_out(self) -> &'static str {
        match self {
            Self::Full => "free space there, or give data_dir a larger disk",
            Self::ReadOnly => {
                "mount it for writing (after checking it: a kernel that meets errors mounts read-only), or let the \
                 worker's user write there"
            }
            Self::Failing => "look into the kernel's log, and give data_dir another disk",
        }
    }
}

/// A disk that takes nothing. Its text names the file, the cause and the way out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Trouble {
    /// What it is.
    pub kind: TroubleKind,
    /// Where.
    pub path: PathBuf,
    /// In the words of SQLite or of the operating system.
    pub cause: String,
    /// Since when.
    pub since: Timestamp,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            TroubleKind::Full => "the disk is full",
            TroubleKind::ReadOnly => "cannot be written",
            TroubleKind::Failing => "the disk fails",
        };
        let (path, cause, way_out) = (self.path.display(), &self.cause, self.kind.way_out());
        write!(f, "{path}: {what} ({cause}); {way_out}; events are held in memory until then")
    }
}

/// What an error of the database means.
#[derive(Debug)]
pub(super) enum Meaning {
    Disk(TroubleKind),
    Corrupt,
    InUse,
    /// Nothing that waiting would heal.
    Other,
}

pub(super) fn meaning(error: &rusqlite::Error, dir: &Path) -> Meaning {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Meaning::Disk(TroubleKind::Full),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Meaning::Disk(TroubleKind::ReadOnly),
        // SQLite says "disk I/O error" of a file system that has become read-only, or of a limit on file sizes: the
        // operating system says more.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
            let probed = probe(dir).err().and_then(|error| kind_of(&error));
            Meaning::Disk(probed.unwrap_or(TroubleKind::Failing))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Meaning::Corrupt,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Meaning::InUse,
        _ => Meaning::Other,
    }
}

/// What an error of the operating system means; `None`: nothing that waiting would heal.
pub(super) fn kind_of(error: &io::Error) -> Option<TroubleKind> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Some(TroubleKind::Full)
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Some(TroubleKind::ReadOnly),
        _ => error.raw_os_error().filter(|code| *code == nix::libc::EIO).map(|_| TroubleKind::Failing),
    }
}

/// Writes a page beside the database, and removes it.
fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join("outbox.probe");
    let write = || {
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&[0; 4096])?;
        file.sync_all()
    };
    let written = write();
    // Where nothing can be written, nothing is to be removed.
    let _ = std::fs::remove_file(&path);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_names_the_file_the_cause_and_the_way_out() {
        for kind in TroubleKind::ALL {
            let trouble = Trouble {
                kind,
                path: "/data/outbox.sqlite".into(),
                cause: "because".into(),
                since: Timestamp::UNIX_EPOCH,
            };
            let text = trouble.to_string();
            assert!(text.starts_with("/data/outbox.sqlite: ") && text.contains("(because)"), "{text}");
            assert!(text.contains(kind.way_out()) && text.contains("held in memory"), "{text}");
        }
    }

    #[test]
    fn the_operating_systems_words_are_understood() {
        let kind = |code| kind_of(&io::Error::from_raw_os_error(code));
        assert_eq!(kind(nix::libc::ENOSPC), Some(TroubleKind::Full));
        assert_eq!(kind(nix::libc::EDQUOT), Some(TroubleKind::Full));
        assert_eq!(kind(nix::libc::EFBIG), Some(TroubleKind::Full));
        assert_eq!(kind(nix::libc::EROFS), Some(TroubleKind::ReadOnly));
        assert_eq!(kind(nix::libc::EACCES), Some(TroubleKind::ReadOnly));
        assert_eq!(kind(nix::libc::EIO), Some(TroubleKind::Failing));
        assert_eq!(kind(nix::libc::ENOTDIR), None);
    }
}
