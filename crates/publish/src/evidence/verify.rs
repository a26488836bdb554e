//! Whether the pictures in a folder are those that the worker made, all of them, in their order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use flow::{EventId, Timestamp};
use serde::Serialize;

use super::chain::{Kept, Line, NOTHING, What, lines};
use super::folder::{CHAINS, KEYS, files_of, is_event};
use super::key::{KeyError, PublicKey};
use super::register::{REGISTER, broken};
use crate::wire::sha256;

/// A folder that cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There are no chains.
    #[error("{path}: no evidence folder: expected chains in {CHAINS}/")]
    NoFolder {
        /// Which.
        path: PathBuf,
    },
    /// No chain names the event.
    #[error("no chain in {path} names event {event}")]
    NoEvent {
        /// Where it was looked for.
        path: PathBuf,
        /// Which.
        event: EventId,
    },
}

/// What was found wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The chain's camera; empty for a picture that is in none.
    pub camera: String,
    /// Number of the line in the chain's file; 0 where no line is meant.
    pub line: u64,
    /// The record's `seq`, where it has one.
    pub seq: Option<u64>,
    /// The event whose picture it is about.
    pub event: Option<EventId>,
    /// The picture's file, where it is about one.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub problem: Wrong,
    /// In words.
    pub text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&*self.camera, self.line) {
            ("", _) => {}
            (camera, 0) => write!(f, "camera {camera}: ")?,
            (camera, line) => write!(f, "camera {camera}, line {line}: ")?,
        }
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Kinds of what can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// A file is not what its record says.
    ChangedFile,
    /// A file is gone, and no record says that it was deleted.
    MissingFile,
    /// A file is in no chain.
    UnknownFile,
    /// A record does not follow the one before it.
    BrokenChain,
    /// A record was not signed with a known key, or was changed.
    WrongSignature,
    /// A line is no record.
    NoRecord,
}

/// How a camera's chain ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainEnd {
    /// Its camera.
    pub camera: String,
    /// The last record's `seq`.
    pub seq: u64,
    /// SHA-256 of its line. An event names both of its own record: a chain that ends before that was cut.
    pub sha256: String,
    /// When it was written.
    pub at: Option<Timestamp>,
    /// A crash left the beginning of a line behind it. No mistake: the next record takes its place.
    pub unfinished: bool,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Verification {
    /// Records read.
    pub records: u64,
    /// Pictures that are as they were made.
    pub pictures: u64,
    /// Pictures whose deletion is in the chain, by reason.
    pub deleted: BTreeMap<&'static str, u64>,
    /// Pictures in the store that were not fetched.
    pub elsewhere: u64,
    /// Ids of the keys that signed, and whether they were given by who asked (or else lay beside the pictures).
    pub keys: BTreeSet<String>,
    /// Where each chain ends.
    pub ends: Vec<ChainEnd>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Fetches a file from the store: its event and its name with ending.
pub type Fetch<'f> = &'f dyn Fn(EventId, &str) -> Result<Vec<u8>, String>;

/// What to verify with.
#[derive(Default)]
pub struct VerifyOptions<'f> {
    /// Keys that are believed; empty: those that lie beside the pictures, which proves less: who can write there can
    /// replace both.
    pub keys: Vec<PublicKey>,
    /// Only the chains that name this event, and its pictures.
    pub event: Option<EventId>,
    /// Gets what is in the store; `None`: that is counted, and not looked at.
    pub fetch: Option<Fetch<'f>>,
}

/// Reads every chain of an evidence folder, and every picture that should be there.
///
/// # Errors
/// Where there is nothing to verify. What is wrong with records and pictures is no error, but in the result.
pub fn verify(dir: &Path, options: &VerifyOptions<'_>) -> Result<Verification, VerifyError> {
    let chains = dir.join(CHAINS);
    let list = fs::read_dir(&chains).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => VerifyError::NoFolder { path: dir.to_owned() },
        _ => VerifyError::File { path: chains.clone(), source },
    })?;
    let mut paths: Vec<_> = list.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    paths.sort();
    if let Some(event) = options.event {
        let names = |path: &PathBuf| names_event(path, event).unwrap_or(true);
        paths.retain(names);
        if paths.is_empty() {
            return Err(VerifyError::NoEvent { path: dir.to_owned(), event });
        }
    }
    let keys = keys(dir, options)?;
    let mut done = Verification::default();
    let mut known = HashMap::new();
    for path in &paths {
        let error = |source| VerifyError::File { path: path.clone(), source };
        let size = || fs::metadata(path).map_or(0, |file| file.len());
        let before = size();
        let mut chain = Chain::read(dir, path, &keys, options).map_err(error)?;
        // A worker that is running may have removed a picture between the reading of its chain and of its folder.
        if !chain.done.findings.is_empty() && size() != before {
            chain = Chain::read(dir, path, &keys, options).map_err(error)?;
        }
        done.add(chain.done);
        known.extend(chain.known);
    }
    if options.event.is_none() {
        done.findings.extend(unknown_files(dir, &known));
        done.findings.extend(wrong_openings(dir)?);
    }
    Ok(done)
}

fn names_event(path: &Path, event: EventId) -> io::Result<bool> {
    let name = event.to_string();
    for line in lines(path)? {
        if line?.1.windows(name.len()).any(|part| part == name.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn keys(dir: &Path, options: &VerifyOptions<'_>) -> Result<HashMap<String, PublicKey>, VerifyError> {
    let mut keys = options.keys.clone();
    if keys.is_empty() {
        for entry in fs::read_dir(dir.join(KEYS)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "pem") {
                keys.push(PublicKey::from_file(&entry.path())?);
            }
        }
    }
    Ok(keys.into_iter().map(|key| (key.id(), key)).collect())
}

/// The state of a picture after the chain's last record about it.
enum State {
    Here,
    Stored,
    Deleted,
}

/// One chain while it is read.
struct Chain<'c> {
    dir: &'c Path,
    camera: String,
    options: &'c VerifyOptions<'c>,
    done: Verification,
    /// Line, record and state of every picture, by its path without ending.
    pictures: BTreeMap<PathBuf, (u64, u64, Kept, State)>,
    /// Files that may be there.
    known: HashMap<PathBuf, ()>,
}

impl<'c> Chain<'c> {
    fn read(
        dir: &'c Path,
        path: &Path,
        keys: &HashMap<String, PublicKey>,
        options: &'c VerifyOptions<'c>,
    ) -> io::Result<Self> {
        let camera = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut chain = Self {
            dir,
            camera: camera.clone(),
            options,
            done: Verification::default(),
            pictures: BTreeMap::new(),
            known: HashMap::new(),
        };
        let mut end = ChainEnd { camera, seq: 0, sha256: NOTHING.to_owned(), at: None, unfinished: false };
        for line in lines(path)? {
            let (number, line, whole) = line?;
            if !whole {
                end.unfinished = true;
                break;
            }
            chain.line(number, &line, keys, &mut end);
        }
        chain.done.ends.push(end);
        chain.look();
        Ok(chain)
    }

    fn found(&mut self, line: u64, seq: Option<u64>, problem: Wrong, text: String) {
        let camera = self.camera.clone();
        self.done.findings.push(Finding { camera, line, seq, event: None, file: None, problem, text });
    }

    fn line(&mut self, number: u64, line: &[u8], keys: &HashMap<String, PublicKey>, end: &mut ChainEnd) {
        self.done.records += 1;
        let (prev, before) = (std::mem::replace(&mut end.sha256, sha256(line)), end.seq);
        let parsed = match Line::parse(line) {
            Ok(parsed) => parsed,
            Err(error) => {
                // What follows is measured against what is there.
                end.seq += 1;
                return self.found(number, None, Wrong::NoRecord, error.to_string());
            }
        };
        let Line { record, signed, signature } = parsed;
        (end.seq, end.at) = (record.seq, Some(record.at));
        let seq = Some(record.seq);
        if record.camera.as_str() != self.camera {
            let text = format!("is a record of camera {}", record.camera);
            self.found(number, seq, Wrong::BrokenChain, text);
        }
        if record.seq != before + 1 {
            let text = format!("is record {}, and record {} was expected", record.seq, before + 1);
            self.found(number, seq, Wrong::BrokenChain, text);
        } else if record.prev != prev {
            let text = "does not follow the record before it: one of them was changed".to_owned();
            self.found(number, seq, Wrong::BrokenChain, text);
        }
        match keys.get(&record.key) {
            Some(key) if key.verifies(signed, signature) => drop(self.done.keys.insert(record.key)),
            Some(_) => {
                let text = "was changed: its signature is not that of its content".to_owned();
                self.found(number, seq, Wrong::WrongSignature, text);
            }
            None => {
                let text = format!("was signed with key {}, which is not known here", record.key);
                self.found(number, seq, Wrong::WrongSignature, text);
            }
        }
        self.apply(number, record.seq, record.what);
    }

    fn apply(&mut self, number: u64, seq: u64, what: What) {
        let at = |event: EventId, name: &str| PathBuf::from(event.to_string()).join(name);
        match what {
            What::Kept(kept) => {
                // A name is part of a path: one that could leave the folder is not looked at.
                if !is_plain(&kept.name) {
                    let text = format!("names a picture {:?}", kept.name);
                    return self.found(number, Some(seq), Wrong::NoRecord, text);
                }
                let path = at(kept.event, &kept.name);
                self.pictures.insert(path, (number, seq, kept, State::Here));
            }
            What::Deleted(deleted) => match self.pictures.get_mut(&at(deleted.event, &deleted.name)) {
                Some(picture) => {
                    *self.done.deleted.entry(deleted.why.name()).or_default() += 1;
                    picture.3 = State::Deleted;
                }
                None => {
                    let text = format!("deletes {}, which no record made", deleted.name);
                    self.found(number, Some(seq), Wrong::BrokenChain, text);
                }
            },
            What::Stored(stored) => {
                if let Some(picture) = self.pictures.get_mut(&at(stored.event, &stored.name))
                    && matches!(picture.3, State::Here)
                {
                    picture.3 = State::Stored;
                }
            }
        }
    }

    /// Looks at the pictures.
    fn look(&mut self) {
        for (path, (line, seq, kept, state)) in std::mem::take(&mut self.pictures) {
            for (end, _) in files_of(&kept) {
                self.known.insert(with_end(&path, end), ());
            }
            if self.options.event.is_some_and(|event| event != kept.event) || matches!(state, State::Deleted)
            {
                continue;
            }
            let wrong = match (&state, self.options.fetch) {
                (State::Stored, None) => {
                    self.done.elsewhere += 1;
                    continue;
                }
                (State::Stored, Some(fetch)) => {
                    check(&path, &kept, |end| fetch(kept.event, &format!("{}.{end}", kept.name)).map(Some))
                }
                _ => check(&path, &kept, |end| match fs::read(self.dir.join(with_end(&path, end))) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error.to_string()),
                }),
            };
            if wrong.is_empty() {
                self.done.pictures += 1;
            }
            for (file, problem, text) in wrong {
                self.done.findings.push(Finding {
                    camera: self.camera.clone(),
                    line,
                    seq: Some(seq),
                    event: Some(kept.event),
                    file: Some(file),
                    problem,
                    text,
                });
            }
        }
    }
}

/// What is wrong with a picture's files.
fn check(
    path: &Path,
    kept: &Kept,
    mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, String>,
) -> Vec<(PathBuf, Wrong, String)> {
    let mut wrong = Vec::new();
    for (end, expected) in files_of(kept) {
        let file = with_end(path, end);
        match read(end) {
            Ok(Some(bytes)) if sha256(&bytes) == *expected => {}
            Ok(Some(bytes)) => {
                let text =
                    format!("was changed: its SHA-256 is {}, and {expected} was signed", sha256(&bytes));
                wrong.push((file, Wrong::ChangedFile, text));
            }
            Ok(None) => {
                let text = "is missing, and no record says that it was deleted".to_owned();
                wrong.push((file, Wrong::MissingFile, text));
            }
            Err(error) => wrong.push((file, Wrong::MissingFile, format!("cannot be read: {error}"))),
        }
    }
    wrong
}

/// Files in the folders of events that no chain made.
fn unknown_files(dir: &Path, known: &HashMap<PathBuf, ()>) -> Vec<Finding> {
    let mut found = Vec::new();
    let folders = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in folders.filter(|folder| is_event(folder)) {
        for file in fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let short = file.strip_prefix(dir).unwrap_or(&file).to_owned();
            let unfinished = short.extension().is_some_and(|end| end == "part");
            if !unfinished && !known.contains_key(&short) {
                let event = EventId::parse(&folder.file_name().unwrap_or_default().to_string_lossy()).ok();
                found.push(Finding {
                    camera: String::new(),
                    line: 0,
                    seq: None,
                    event,
                    file: Some(short),
                    problem: Wrong::UnknownFile,
                    text: "is in no chain".to_owned(),
                });
            }
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

/// Entries of the register of openings that were changed.
fn wrong_openings(dir: &Path) -> Result<Vec<Finding>, VerifyError> {
    let path = dir.join(REGISTER);
    let broken = broken(&path).map_err(|source| VerifyError::File { path, source })?;
    let finding = |(line, text): (u64, String)| Finding {
        camera: String::new(),
        line,
        seq: None,
        event: None,
        file: Some(REGISTER.into()),
        problem: Wrong::BrokenChain,
        text: format!("line {line} {text}"),
    };
    Ok(broken.into_iter().map(finding).collect())
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{end}"));
    name.into()
}

/// Whether a name stays in its folder.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl Verification {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.pictures += other.pictures;
        self.elsewhere += other.elsewhere;
        for (why, count) in other.deleted {
            *self.deleted.entry(why).or_default() += count;
        }
        self.keys.extend(other.keys);
        self.ends.extend(other.ends);
        self.findings.extend(other.findings);
    }
}
