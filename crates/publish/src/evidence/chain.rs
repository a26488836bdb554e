//! What happened to each camera's pictures: a signed chain of records, one file of JSON lines per camera.
//!
//! A record holds the SHA-256 of the record before it, so that none can be changed, left out or put in without breaking
//! every later one, and the worker's signature, so that only the worker can add one. It is appended, and on disk, before
//! the event that names the picture is stored, and before a picture's file is removed. What a crash may leave is thus a
//! file without a record (of no event: removed at the next start) or the beginning of a last line (cut off there).
//!
//! A line is a JSON object whose last member is `sig`. What is signed is the line up to `,"sig":`; what the next record
//! holds is the SHA-256 of the whole line without its end.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use flow::{CameraId, EventId, Timestamp};
use serde::{Deserialize, Serialize};

use super::key::SigningKey;
use crate::wire::{Role, sha256};

/// `prev` of a chain's first record.
pub(crate) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// A line is a few hundred bytes long; a longer one is not ours.
pub(crate) const MAX_LINE: usize = 16 * 1024;
/// Version of [`Record`].
const VERSION: u32 = 1;
pub(super) const SIGNATURE: &str = ",\"sig\":\"";

/// One record of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form: 1.
    pub v: u32,
    /// Whose pictures: each camera has a chain of its own.
    pub camera: CameraId,
    /// Counts the records of the chain, from 1.
    pub seq: u64,
    /// SHA-256 of the line before; of the first, 64 zeros.
    pub prev: String,
    /// When it was written, by the worker's clock.
    pub at: Timestamp,
    /// `{site}/{worker}`: who wrote it.
    pub by: String,
    /// Id of the key that signed it.
    pub key: String,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened to a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// It was made.
    Kept(Kept),
    /// It was deleted, on purpose.
    Deleted(Deleted),
    /// It was moved into the store.
    Stored(Stored),
}

/// A picture that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Of which event.
    pub event: EventId,
    /// Which of the event's messages, as its `sequence`.
    pub sequence: u32,
    /// What it shows.
    pub role: Role,
    /// When it was captured.
    pub captured: Timestamp,
    /// Name of its files, in the folder `{event}`, without ending.
    pub name: String,
    /// SHA-256 of the picture, `{name}.jpg`.
    pub sha256: String,
    /// SHA-256 of its side file, `{name}.json`.
    pub side: String,
    /// SHA-256 of the sealed original, `{name}.jpg.age`, where one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
}

/// A picture that was deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deleted {
    /// Of which event.
    pub event: EventId,
    /// Name of its files.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// Why a picture was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its time was over.
    Retention,
    /// To make room.
    Room,
    /// A newer one of the same role has its place.
    Replaced,
    /// A crash came before its event was stored: it is no event's evidence.
    NotReported,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Retention, Self::Room, Self::Replaced, Self::NotReported];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Room => "room",
            Self::Replaced => "replaced",
            Self::NotReported => "not_reported",
        }
    }

    /// Reads the word.
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "retention" => Self::Retention,
            "replaced" => Self::Replaced,
            "not_reported" => Self::NotReported,
            _ => Self::Room,
        }
    }
}

/// A picture that is in the store and no longer in the folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Of which event.
    pub event: EventId,
    /// Name of its files.
    pub name: String,
    /// Where the picture is; its other files lie beside it.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// A record's place in its chain; an event names it, so that a chain that lost its end does not go unnoticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its `seq`.
    pub seq: u64,
    /// SHA-256 of its line.
    pub sha256: String,
}

/// A line that is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("is longer than {MAX_LINE} bytes")]
    Long,
    #[error("is no record: {0}")]
    Form(String),
}

/// A record, what of it was signed, and the signature.
pub(crate) struct Line<'l> {
    pub record: Record,
    pub signed: &'l [u8],
    pub signature: &'l str,
}

impl<'l> Line<'l> {
    /// Reads a line without its end. Hostile lines are errors.
    pub fn parse(line: &'l [u8]) -> Result<Self, LineError> {
        if line.len() > MAX_LINE {
            return Err(LineError::Long);
        }
        let form = |text: &str| LineError::Form(text.to_owned());
        let text = std::str::from_utf8(line).map_err(|_| form("not UTF-8"))?;
        let (signed, rest) = text.rsplit_once(SIGNATURE).ok_or_else(|| form("without a signature"))?;
        let signature = rest.strip_suffix("\"}").ok_or_else(|| form("cut off"))?;
        let record: Record =
            serde_json::from_str(&format!("{signed}}}")).map_err(|error| form(&error.to_string()))?;
        if record.v != VERSION {
            return Err(LineError::Form(format!("version {} is not known", record.v)));
        }
        Ok(Self { record, signed: signed.as_bytes(), signature })
    }
}

/// The chains of a worker's cameras, to be appended to.
#[derive(Debug)]
pub(crate) struct Chains {
    dir: PathBuf,
    by: String,
    key: SigningKey,
    key_id: String,
    heads: Mutex<HashMap<CameraId, Head>>,
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq)]
struct Head {
    seq: u64,
    sha256: String,
    /// Bytes of whole lines.
    bytes: u64,
}

impl Chains {
    /// The chains in `dir`, which need not be there yet.
    pub fn new(dir: PathBuf, by: String, key: SigningKey) -> Self {
        let key_id = key.public().id();
        Self { dir, by, key, key_id, heads: Mutex::default() }
    }

    /// The key that signs.
    #[cfg(test)]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The file of a camera's chain.
    pub fn path(&self, camera: &CameraId) -> PathBuf {
        self.dir.join(format!("{camera}.jsonl"))
    }

    /// Appends records of one camera; on disk when it returns. On an error none of them is part of the chain.
    pub fn append(&self, camera: &CameraId, all: Vec<What>) -> io::Result<Vec<Link>> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(camera);
        let new = !path.exists();
        if new {
            fs::create_dir_all(&self.dir)?;
        }
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut head = match heads.get(camera) {
            // Somebody cut the file: go on from what is there, which will show.
            Some(known) if file.metadata()?.len() >= known.bytes => known.clone(),
            _ => end_of(&mut file)?,
        };
        let before = head.bytes;
        let (mut text, mut links) = (String::new(), Vec::with_capacity(all.len()));
        for what in all {
            let line = self.line(camera, &head, what)?;
            text += &line;
            text.push('\n');
            head.seq += 1;
            head.sha256 = sha256(line.as_bytes());
            links.push(Link { seq: head.seq, sha256: head.sha256.clone() });
        }
        head.bytes += text.len() as u64;
        let write = |file: &mut fs::File| {
            // Also cuts off the beginning of a line that a crash or a full disk left.
            file.set_len(before)?;
            file.seek(SeekFrom::Start(before))?;
            file.write_all(text.as_bytes())?;
            file.sync_data()?;
            if new { fs::File::open(&self.dir)?.sync_all() } else { Ok(()) }
        };
        if let Err(error) = write(&mut file) {
            // Where even this fails, the next append cuts it off, or reads the end again.
            let _ = file.set_len(before);
            heads.remove(camera);
            return Err(error);
        }
        heads.insert(camera.clone(), head);
        Ok(links)
    }

    fn line(&self, camera: &CameraId, head: &Head, what: What) -> io::Result<String> {
        let record = Record {
            v: VERSION,
            camera: camera.clone(),
            seq: head.seq + 1,
            prev: head.sha256.clone(),
            at: Timestamp::now(),
            by: self.by.clone(),
            key: self.key_id.clone(),
            what,
        };
        let json = serde_json::to_string(&record)?;
        let signed = json.strip_suffix('}').unwrap_or(&json);
        let signature = self.key.sign(signed.as_bytes());
        Ok(format!("{signed}{SIGNATURE}{signature}\"}}"))
    }
}

/// The last whole line of a chain. One that cannot be read is passed over as what it is: the chain goes on behind it,
/// and whoever verifies it sees where it broke.
fn end_of(file: &mut fs::File) -> io::Result<Head> {
    let size = file.metadata()?.len();
    let from = size.saturating_sub(2 * MAX_LINE as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(2 * MAX_LINE as u64).read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        return Ok(Head { seq: 0, sha256: NOTHING.to_owned(), bytes: from });
    };
    let begin = tail[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = &tail[begin..end];
    let seq = Line::parse(line).map_or(0, |line| line.record.seq);
    Ok(Head { seq, sha256: sha256(line), bytes: from + end as u64 + 1 })
}

/// The lines of a file without their ends, each with its number from 1, and whether its end was there. What is longer
/// than a record may be comes as much as is needed to see that.
pub(crate) fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<(u64, Vec<u8>, bool)>>> {
    use io::BufRead;
    let mut reader = io::BufReader::new(fs::File::open(path)?);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        let read = reader.by_ref().take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
        number += 1;
        let whole = line.last() == Some(&b'\n');
        if whole {
            line.pop();
        } else if line.len() > MAX_LINE
            && let Err(error) = skip_line(&mut reader)
        {
            return Some(Err(error));
        }
        let whole = whole || line.len() > MAX_LINE;
        Some(Ok((number, line, whole)))
    }))
}

/// The pictures that a chain says are kept, and whether in the store. A line that is no record says nothing.
pub(crate) fn live(path: &Path) -> io::Result<Vec<(Kept, bool)>> {
    let mut live: BTreeMap<(EventId, String), (Kept, bool)> = BTreeMap::new();
    for line in lines(path)? {
        let (_, line, whole) = line?;
        let Some(line) = Line::parse(&line).ok().filter(|_| whole) else { continue };
        match line.record.what {
            What::Kept(kept) => drop(live.insert((kept.event, kept.name.clone()), (kept, false))),
            What::Deleted(gone) => drop(live.remove(&(gone.event, gone.name))),
            What::Stored(stored) => {
                if let Some(picture) = live.get_mut(&(stored.event, stored.name)) {
                    picture.1 = true;
                }
            }
        }
    }
    Ok(live.into_values().collect())
}

fn skip_line(reader: &mut impl io::BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let (used, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample::event;

    fn chains(dir: &Path) -> Chains {
        let key = SigningKey::load_or_make(&dir.join("key.pem")).unwrap();
        Chains::new(dir.join("chain"), "huinan/w1".into(), key)
    }

    fn camera() -> CameraId {
        CameraId::new("hn-0001").unwrap()
    }

    fn deleted(name: &str) -> What {
        What::Deleted(Deleted { event: event(1, 0).id, name: name.into(), why: Why::Room })
    }

    fn read(chains: &Chains) -> Vec<Vec<u8>> {
        lines(&chains.path(&camera())).unwrap().map(|line| line.unwrap().1).collect()
    }

    #[test]
    fn records_hold_each_other_and_their_signature() {
        let dir = tempfile::tempdir().unwrap();
        let chains = chains(dir.path());
        let mut links = chains.append(&camera(), vec![deleted("a"), deleted("b")]).unwrap();
        links.extend(chains.append(&camera(), vec![deleted("c")]).unwrap());
        let (mut prev, key) = (NOTHING.to_owned(), chains.key().public());
        for (number, (line, link)) in read(&chains).iter().zip(&links).enumerate() {
            let parsed = Line::parse(line).unwrap();
            assert_eq!(parsed.record.seq, number as u64 + 1);
            assert_eq!(parsed.record.prev, prev);
            assert!(key.verifies(parsed.signed, parsed.signature));
            prev = sha256(line);
            assert_eq!(*link, Link { seq: parsed.record.seq, sha256: prev.clone() });
        }
        assert_eq!(links.len(), 3);
    }

    #[test]
    fn after_a_restart_the_chain_goes_on_also_where_a_line_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        chains(dir.path()).append(&camera(), vec![deleted("a"), deleted("b")]).unwrap();
        let path = chains(dir.path()).path(&camera());
        let whole = fs::read(&path).unwrap();
        let second = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        // A crash at any byte of the second line.
        for cut in [second, second + 1, second + 40, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            let again = chains(dir.path());
            again.append(&camera(), vec![deleted("c")]).unwrap();
            let lines = read(&again);
            assert_eq!(lines.len(), 2, "cut at {cut}");
            let last = Line::parse(&lines[1]).unwrap().record;
            assert_eq!((last.seq, last.prev), (2, sha256(&lines[0])));
        }
    }

    #[test]
    fn a_full_disk_leaves_the_chain_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let chains = chains(dir.path());
        chains.append(&camera(), vec![deleted("a")]).unwrap();
        let path = chains.path(&camera());
        let before = fs::read(&path).unwrap();
        // A folder in the file's place: whatever is written fails.
        fs::rename(&path, dir.path().join("aside")).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(chains.append(&camera(), vec![deleted("b")]).is_err());
        fs::remove_dir(&path).unwrap();
        fs::rename(dir.path().join("aside"), &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        chains.append(&camera(), vec![deleted("b")]).unwrap();
        assert_eq!(Line::parse(&read(&chains)[1]).unwrap().record.seq, 2);
    }

    #[test]
    fn hostile_lines_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let chains = chains(dir.path());
        chains.append(&camera(), vec![deleted("a")]).unwrap();
        let good = read(&chains).remove(0);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut line = good.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..line.len());
                match random.u8(..4) {
                    0 => line.truncate(at.max(1)),
                    1 => line[at] = random.u8(..),
                    2 => drop(line.drain(at..(at + random.usize(..20)).min(line.len() - 1).max(at))),
                    _ => line.insert(at, random.u8(..)),
                }
            }
            let Ok(parsed) = Line::parse(&line) else { continue };
            let key = chains.key().public();
            assert!(!key.verifies(parsed.signed, parsed.signature) || line == good);
        }
        assert_eq!(Line::parse(&vec![b' '; MAX_LINE + 1]).err(), Some(LineError::Long));
        let path = dir.path().join("long");
        fs::write(&path, [vec![b'x'; 3 * MAX_LINE], b"\nshort\nopen".to_vec()].concat()).unwrap();
        let found: Vec<_> = lines(&path).unwrap().map(Result::unwrap).collect();
        let shape: Vec<_> = found.iter().map(|(n, line, whole)| (*n, line.len().min(100), *whole)).collect();
        assert_eq!(shape, [(1, 100, true), (2, 5, true), (3, 4, false)]);
    }
}
