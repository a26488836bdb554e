//! The folder of pictures and their chains: what is written when, so that a crash at any moment leaves it in order.
//!
//! ```text
//! evidence/{event}/{role}-{hash}.jpg        the picture, blurred; never written again under this name
//!                              .json       its side file: boxes, zone, model
//!                              .jpg.age    the sealed original, where one is kept
//! evidence/chain/{camera}.jsonl            the chains
//! evidence/keys/{id}.pem                   public keys that signed them
//! evidence/register.jsonl                  who opened which original, and why
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flow::{CameraId, EventId, Timestamp};

use super::Jpeg;
use super::chain::{Chains, Deleted, Kept, Link, Stored, What, Why};
use super::key::{KeyError, SigningKey};
use super::verify::is_plain;
use crate::wire::{Role, sha256};

/// Folder of the chains.
pub(crate) const CHAINS: &str = "chain";
/// Folder of the public keys.
pub(crate) const KEYS: &str = "keys";

/// A picture that is to be kept.
pub(crate) struct New<'p> {
    pub camera: &'p CameraId,
    pub event: EventId,
    pub sequence: u32,
    pub role: Role,
    pub captured: Timestamp,
    pub jpeg: &'p Jpeg,
    pub side: &'p [u8],
    /// Encrypted already.
    pub original: Option<&'p [u8]>,
}

/// A picture that is on disk and in its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Name of its files, without ending.
    pub name: String,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Its record.
    pub link: Link,
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    chains: Chains,
}

impl Folder {
    /// The folder `dir`, which is made; its public key is put where [`super::verify`] looks for it.
    pub fn open(dir: PathBuf, by: String, key: SigningKey) -> Result<Self, KeyError> {
        let public = key.public();
        let path = dir.join(KEYS).join(format!("{}.pem", public.id()));
        let write = || {
            fs::create_dir_all(dir.join(KEYS))?;
            if path.exists() { Ok(()) } else { write_synced(&path, public.pem().as_bytes()) }
        };
        write().map_err(|source| KeyError::File { path: path.clone(), source })?;
        let chains = Chains::new(dir.join(CHAINS), by, key);
        Ok(Self { dir, chains })
    }

    /// Writes a picture and what belongs to it, and then its record. Each is on disk when this returns.
    ///
    /// The name holds the picture's hash, so it is known before anything is written, and another picture never takes it.
    pub fn keep(&self, new: &New<'_>) -> io::Result<Placed> {
        let name = name_of(new.role, &new.jpeg.sha256);
        let dir = self.dir.join(new.event.to_string());
        let fresh = match fs::create_dir(&dir) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let mut files = vec![("jpg", &new.jpeg.bytes[..]), ("json", new.side)];
        files.extend(new.original.map(|bytes| ("jpg.age", bytes)));
        let write = || {
            let mut open = Vec::with_capacity(5);
            for (end, bytes) in &files {
                open.push(write_beside(&dir.join(format!("{name}.{end}")), bytes)?);
            }
            open.push(fs::File::open(&dir)?);
            if fresh {
                open.push(fs::File::open(&self.dir)?);
            }
            // In any order: what a crash leaves of them is in no chain yet, and is removed at the next start.
            sync_together(&open)?;
            let kept = Kept {
                event: new.event,
                sequence: new.sequence,
                role: new.role,
                captured: new.captured,
                name: name.clone(),
                sha256: new.jpeg.sha256.clone(),
                side: sha256(new.side),
                original: new.original.map(sha256),
            };
            self.chains.append(new.camera, vec![What::Kept(kept)])
        };
        let links = write().inspect_err(|_| {
            // A full disk needs the room of half a picture.
            files.iter().for_each(|(end, _)| drop(fs::remove_file(dir.join(format!("{name}.{end}")))));
            let _ = fs::remove_dir(&dir);
        })?;
        let link = links.into_iter().next().ok_or_else(|| io::Error::other("no record was written"))?;
        let bytes = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        Ok(Placed { name, bytes, link })
    }

    /// Records that pictures of a camera are deleted, and then removes their files. What fails is done again with the
    /// next call: a record that is there twice says nothing wrong, and a file that is gone stays gone.
    pub fn delete(&self, camera: &CameraId, gone: &[(EventId, String, Why)]) -> io::Result<()> {
        let deleted = |(event, name, why): &(EventId, String, Why)| {
            What::Deleted(Deleted { event: *event, name: name.clone(), why: *why })
        };
        self.chains.append(camera, gone.iter().map(deleted).collect())?;
        gone.iter().try_for_each(|(event, name, _)| remove_files(&self.dir, *event, name))
    }

    /// Records that a picture is in the store, and then removes its files.
    pub fn stored(&self, camera: &CameraId, event: EventId, name: &str, reference: String) -> io::Result<()> {
        let stored = Stored { event, name: name.to_owned(), reference };
        self.chains.append(camera, vec![What::Stored(stored)])?;
        remove_files(&self.dir, event, name)
    }

    /// A picture's files that are there, each with its ending.
    pub fn read_all(&self, event: EventId, name: &str) -> io::Result<Vec<(&'static str, Vec<u8>)>> {
        let mut found = Vec::new();
        for end in ENDS {
            match fs::read(self.dir.join(event.to_string()).join(format!("{name}.{end}"))) {
                Ok(bytes) => found.push((end, bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// After a crash: files of no picture that `is_known` names are removed, and where a chain holds them, that is
    /// recorded. Files that were written since `started` are this process's own. The cameras whose chains are read are
    /// those of such files only.
    pub fn tidy(
        &self,
        started: std::time::SystemTime,
        mut is_known: impl FnMut(EventId, &str) -> bool,
    ) -> io::Result<u64> {
        let mut strays = Vec::new();
        for folder in children(&self.dir).filter(|folder| is_event(folder)) {
            let Some(event) = event_of(&folder) else { continue };
            for file in children(&folder) {
                let text = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let name = ENDS.iter().find_map(|end| text.strip_suffix(&format!(".{end}")));
                let old = fs::metadata(&file).and_then(|meta| meta.modified()).is_ok_and(|at| at < started);
                if !old || name.is_some_and(|name| is_known(event, name)) {
                    continue;
                }
                match name {
                    Some(name) if is_plain(name) => strays.push((event, name.to_owned())),
                    // The beginning of a file that was never finished.
                    _ => drop(fs::remove_file(&file)),
                }
            }
            let _ = fs::remove_dir(&folder);
        }
        strays.sort();
        strays.dedup();
        let count = strays.len() as u64;
        if count > 0 {
            self.forget(strays)?;
        }
        Ok(count)
    }

    /// Every picture that a chain says is kept, and every other one whose file is there.
    pub fn all(&self) -> io::Result<Vec<Found>> {
        let size = |event: EventId, name: &str, end: &str| {
            let path = self.dir.join(event.to_string()).join(format!("{name}.{end}"));
            fs::metadata(path).map_or(0, |file| file.len())
        };
        let mut found: BTreeMap<(EventId, String), Found> = BTreeMap::new();
        let mut enter = |event: EventId, name: String, camera: Option<CameraId>, stored: bool| {
            let bytes = ENDS.iter().map(|end| size(event, &name, end)).sum();
            let key = (event, name.clone());
            found.entry(key).or_insert(Found { event, name, camera, bytes, stored });
        };
        for (camera, path) in self.chains() {
            for (kept, stored) in super::chain::live(&path)? {
                enter(kept.event, kept.name, Some(camera.clone()), stored);
            }
        }
        for folder in children(&self.dir).filter(|folder| is_event(folder)) {
            let Some(event) = event_of(&folder) else { continue };
            for file in children(&folder) {
                let name = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".jpg"));
                if let Some(name) = name.filter(|name| is_plain(name)) {
                    enter(event, name.to_owned(), None, false);
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// The chains, each with its camera.
    fn chains(&self) -> impl Iterator<Item = (CameraId, PathBuf)> {
        children(&self.dir.join(CHAINS)).filter_map(|path| {
            let camera = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
            Some((CameraId::new(camera).ok()?, path))
        })
    }

    /// Records the end of pictures whose chain says that they are there, and removes the files of all.
    fn forget(&self, strays: Vec<(EventId, String)>) -> io::Result<()> {
        for (camera, path) in self.chains() {
            let live = super::chain::live(&path)?.into_iter();
            let here = live.filter(|(_, stored)| !stored).map(|(kept, _)| (kept.event, kept.name));
            let here: Vec<_> = here.filter(|it| strays.binary_search(it).is_ok()).collect();
            if !here.is_empty() {
                let gone: Vec<_> =
                    here.into_iter().map(|(event, name)| (event, name, Why::NotReported)).collect();
                self.delete(&camera, &gone)?;
            }
        }
        strays.iter().try_for_each(|(event, name)| remove_files(&self.dir, *event, name))
    }
}

/// Removes a picture's files without a word.
pub(crate) fn remove_files(dir: &Path, event: EventId, name: &str) -> io::Result<()> {
    let dir = dir.join(event.to_string());
    for end in ENDS {
        match fs::remove_file(dir.join(format!("{name}.{end}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // Not empty while another picture of the event is left.
    let _ = fs::remove_dir(&dir);
    Ok(())
}

/// The folder once it can be opened: a disk that takes nothing must not keep a worker from watching.
#[derive(Debug)]
pub(crate) struct LazyFolder {
    dir: PathBuf,
    by: String,
    key: KeySource,
    folder: OnceLock<Folder>,
}

/// Where the signing key comes from.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// PEM, from the configuration.
    Given(fleet::Secret),
    /// This file, which is made.
    File(PathBuf),
}

impl LazyFolder {
    pub fn new(dir: PathBuf, by: String, key: KeySource) -> Self {
        Self { dir, by, key, folder: OnceLock::new() }
    }

    /// The folder.
    pub fn get(&self) -> io::Result<&Folder> {
        if let Some(folder) = self.folder.get() {
            return Ok(folder);
        }
        let open = || {
            let key = match &self.key {
                KeySource::Given(pem) => SigningKey::from_pem(pem.reveal())?,
                KeySource::File(path) => SigningKey::load_or_make(path)?,
            };
            Folder::open(self.dir.clone(), self.by.clone(), key)
        };
        let folder = open().map_err(|error| match error {
            // With its kind, which says whether the disk is full.
            KeyError::File { source, .. } => source,
            error => io::Error::other(error),
        })?;
        Ok(self.folder.get_or_init(|| folder))
    }
}

/// A picture that a chain or a folder holds.
pub(crate) struct Found {
    pub event: EventId,
    pub name: String,
    /// `None`: no chain holds it.
    pub camera: Option<CameraId>,
    /// Bytes of its files here.
    pub bytes: u64,
    pub stored: bool,
}

/// Endings of a picture's files. The longest first, since a name never ends with one.
pub(crate) const ENDS: [&str; 3] = ["jpg.age", "json", "jpg"];

/// `{role}-{first twelve digits of the hash}`.
pub(crate) fn name_of(role: Role, sha256: &str) -> String {
    format!("{role}-{}", sha256.get(..12).unwrap_or(sha256))
}

/// Endings and hashes of a picture's files.
pub(super) fn files_of(kept: &Kept) -> impl Iterator<Item = (&'static str, &String)> {
    [("jpg", &kept.sha256), ("json", &kept.side)]
        .into_iter()
        .chain(kept.original.as_ref().map(|hash| ("jpg.age", hash)))
}

/// Whether a folder is that of an event.
pub(super) fn is_event(folder: &Path) -> bool {
    event_of(folder).is_some() && folder.is_dir()
}

fn event_of(folder: &Path) -> Option<EventId> {
    EventId::parse(folder.file_name()?.to_str()?).ok()
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Writes beside, syncs, renames: a reader sees all of it or nothing.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_beside(path, bytes)?.sync_all()
}

/// Writes beside and renames; not synced.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<fs::File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        fs::rename(&beside, path)?;
        Ok(file)
    };
    write().inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Syncs all at the same time: a file system's journal takes them together, so that it costs little more than one.
fn sync_together(files: &[fs::File]) -> io::Result<()> {
    let Some((here, others)) = files.split_first() else { return Ok(()) };
    std::thread::scope(|scope| {
        let sync = |file| {
            let thread = std::thread::Builder::new().name("sync".into());
            thread.spawn_scoped(scope, move || fs::File::sync_all(file)).map_err(|_| file)
        };
        let others: Vec<_> = others.iter().map(sync).collect();
        here.sync_all()?;
        others.into_iter().try_for_each(|other| match other {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread ended"))),
            // There are no threads to be had.
            Err(file) => file.sync_all(),
        })
    })
}
