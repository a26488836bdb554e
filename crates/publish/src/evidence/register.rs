//! Who opened which sealed original, and why: an append-only list, on disk before the picture is seen.
//!
//! One JSON object per line, each with the SHA-256 of the line before it, so that a line that is changed or taken out
//! shows. It is not signed: whoever opens originals is not the worker.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flow::Timestamp;
use serde::{Deserialize, Serialize};

use super::chain::{NOTHING, lines};
use super::seal::{self, SealError};
use crate::wire::sha256;

/// Its name in the evidence folder.
pub const REGISTER: &str = "register.jsonl";
/// A reason is a sentence, not a book.
const MAX_REASON: usize = 1_000;

/// One opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Counts the openings, from 1.
    pub seq: u64,
    /// SHA-256 of the line before; of the first, 64 zeros.
    pub prev: String,
    /// When.
    pub at: Timestamp,
    /// Who: the account on this machine.
    pub who: String,
    /// Why, in the words of who did it.
    pub reason: String,
    /// The sealed file.
    pub file: PathBuf,
    /// SHA-256 of the sealed file.
    pub sha256: String,
}

/// An original that was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody opens one without a reason.
    #[error(
        "--reason is empty or longer than {MAX_REASON} bytes: say in a sentence why the original is needed"
    )]
    Reason,
    /// The register could not be written, so nothing was opened.
    #[error("{path}: the register of openings cannot be written, so nothing is opened: {source}")]
    Register {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sealed file.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Opens a sealed original with the identities of a file. The reason is in the register, on disk, before the picture is
/// decrypted; an attempt that fails stays there as well.
///
/// # Errors
/// Without a reason, without a register that can be written, or where the identity does not fit.
pub fn open_original(
    sealed: &Path,
    identities: &Path,
    register: &Path,
    who: &str,
    reason: &str,
) -> Result<Vec<u8>, OpenError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(OpenError::Reason);
    }
    let bytes = fs::read(sealed).map_err(|source| SealError::File { path: sealed.to_owned(), source })?;
    let opening = Opening {
        seq: 0,
        prev: String::new(),
        at: Timestamp::now(),
        who: who.to_owned(),
        reason: reason.to_owned(),
        file: sealed.to_owned(),
        sha256: sha256(&bytes),
    };
    append(register, opening).map_err(|source| OpenError::Register { path: register.to_owned(), source })?;
    Ok(seal::open(sealed, identities)?)
}

/// Appends behind the last whole line. Others that do the same wait.
fn append(path: &Path, mut opening: Opening) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let last = text[..end].split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    opening.prev = last.map_or_else(|| NOTHING.to_owned(), sha256);
    let seq = |line| serde_json::from_slice::<Opening>(line).map_or(0, |opening| opening.seq);
    opening.seq = last.map_or(0, seq) + 1;
    let line = serde_json::to_string(&opening)? + "\n";
    file.seek(SeekFrom::Start(end as u64))?;
    file.set_len(end as u64)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

/// Numbers of lines that do not follow the one before, with what is wrong. No register is a right one.
pub(super) fn broken(path: &Path) -> io::Result<Vec<(u64, String)>> {
    let mut found = Vec::new();
    let all = match lines(path) {
        Ok(all) => all,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let (mut prev, mut seq) = (NOTHING.to_owned(), 0);
    for line in all {
        let (number, line, whole) = line?;
        if !whole {
            break;
        }
        match serde_json::from_slice::<Opening>(&line) {
            Ok(opening) => {
                if opening.seq != seq + 1 {
                    found.push((number, format!("is entry {}, and {} was expected", opening.seq, seq + 1)));
                } else if opening.prev != prev {
                    found.push((
                        number,
                        "does not follow the entry before it: one of them was changed".into(),
                    ));
                }
                seq = opening.seq;
            }
            Err(error) => found.push((number, format!("is no entry: {error}"))),
        }
        prev = sha256(&line);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::*;

    fn sealed(dir: &Path) -> (PathBuf, PathBuf) {
        let identity = age::x25519::Identity::generate();
        let bytes =
            super::seal::Seal::to(&identity.to_public().to_string()).unwrap().seal(b"a picture").unwrap();
        let (file, key) = (dir.join("first-ab.jpg.age"), dir.join("identity.txt"));
        fs::write(&file, bytes).unwrap();
        fs::write(&key, format!("# created: now\n{}\n", identity.to_string().expose_secret())).unwrap();
        (file, key)
    }

    #[test]
    fn an_original_is_opened_with_a_reason_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, key) = sealed(dir.path());
        let register = dir.path().join(REGISTER);
        let open = |reason| open_original(&file, &key, &register, "li", reason);
        assert!(matches!(open("  "), Err(OpenError::Reason)));
        assert!(!register.exists());
        assert_eq!(open("case 12, complaint of a shop").unwrap(), b"a picture");
        assert_eq!(open("case 13").unwrap(), b"a picture");
        let text = fs::read_to_string(&register).unwrap();
        let lines: Vec<Opening> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (lines[0].seq, &*lines[0].reason, &*lines[0].who),
            (1, "case 12, complaint of a shop", "li")
        );
        assert_eq!((lines[1].seq, &*lines[1].prev), (2, &*sha256(text.lines().next().unwrap().as_bytes())));
        assert!(broken(&register).unwrap().is_empty());
        fs::write(&register, text.replace("shop", "stop")).unwrap();
        assert_eq!(broken(&register).unwrap()[0].0, 2);
    }

    #[test]
    fn without_a_register_or_with_another_key_nothing_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (file, key) = sealed(dir.path());
        let nowhere = dir.path().join("no/such/register");
        assert!(matches!(open_original(&file, &key, &nowhere, "li", "x"), Err(OpenError::Register { .. })));
        let other = tempfile::tempdir().unwrap();
        let (_, wrong) = sealed(other.path());
        let register = dir.path().join(REGISTER);
        let error = open_original(&file, &wrong, &register, "li", "x").unwrap_err();
        assert!(matches!(error, OpenError::Seal(SealError::Open { .. })), "{error}");
        assert_eq!(fs::read_to_string(&register).unwrap().lines().count(), 1, "the attempt is there");
    }

    #[test]
    fn a_recipient_that_is_none_is_refused() {
        let error = super::seal::Seal::to("age1nonsense").unwrap_err().to_string();
        assert!(error.contains("age1nonsense"), "{error}");
    }
}
