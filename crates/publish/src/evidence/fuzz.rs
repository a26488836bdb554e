//! Evidence as somebody else may have left it, for fuzzing.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flow::EventId;

use super::chain::{Line, NOTHING, Record, SIGNATURE};
use super::folder::{CHAINS, KEYS};
use super::key::{PublicKey, SigningKey};
use super::register::REGISTER;
use super::verify::is_plain;
use super::{Verification, VerifyOptions, Wrong, seal, verify};
use crate::wire::sha256;

/// Between the parts of an input: a record separator, which no file of ours holds.
const SEPARATOR: u8 = 0x1e;
const CAMERA: &str = "hn-0001";
const EVENT: &str = "0193d1a4-5c00-7e6b-8a13-2f6f9b1c7d11";

/// Of the first byte: the records are numbered and signed, so that what comes after the signatures is reached.
const SIGNED: u8 = 1;
/// One byte of the signed chain is changed, the second of the input says which; that has to be found.
const CHANGED: u8 = 2;
/// Pictures that were moved to the store are fetched.
const FETCHED: u8 = 4;
/// Only the event's.
const ONE_EVENT: u8 = 8;
/// The key is the one in the folder, not ours.
const OTHER_KEY: u8 = 16;

/// An evidence folder: flags, and then with a separator between each a camera's chain, the register, a public key, and
/// the bytes of a picture (of its side file, too).
pub(crate) fn evidence(data: &[u8]) {
    let [flags, at, data @ ..] = data else { return };
    let mut parts = data.splitn(4, |byte| *byte == SEPARATOR);
    let mut part = || parts.next().unwrap_or_default();
    let (mut chain, register, key, picture) = (part().to_vec(), part(), part(), part());
    records(&chain);
    let ours = SigningKey::of_seed(&[7; 32]);
    if flags & SIGNED != 0 {
        chain = sign(&chain, &ours);
    }
    // The end of the last line may be gone: that is what a crash leaves.
    let changed = flags & (SIGNED | CHANGED | ONE_EVENT | OTHER_KEY) == SIGNED | CHANGED && chain.len() > 1;
    if changed {
        let last = chain.len() - 1;
        chain[usize::from(*at) * last / 256] ^= 1;
    }
    let folder = Folder::new();
    folder.write(&format!("{CHAINS}/{CAMERA}.jsonl"), &chain);
    folder.write(REGISTER, register);
    folder.write(&format!("{KEYS}/other.pem"), key);
    for file in ["first-0a1b.jpg", "first-0a1b.json", "first-0a1b.jpg.age"] {
        folder.write(&format!("{EVENT}/{file}"), picture);
    }
    let fetch = |_: EventId, file: &str| {
        assert!(is_plain(file.split('.').next().unwrap_or_default()), "{file:?} is asked of the store");
        Ok(picture.to_vec())
    };
    let options = VerifyOptions {
        keys: if flags & OTHER_KEY == 0 { vec![ours.public()] } else { vec![] },
        event: (flags & ONE_EVENT != 0).then(|| EventId::parse(EVENT).expect("a UUID")),
        fetch: (flags & FETCHED != 0).then_some(&fetch),
    };
    let Ok(done) = verify(&folder.0, &options) else { return };
    look(&done);
    if flags & OTHER_KEY == 0 && flags & SIGNED == 0 {
        assert!(done.keys.is_empty(), "nobody else has the key");
    }
    if flags & (SIGNED | CHANGED | OTHER_KEY) == SIGNED {
        let forged = |wrong| matches!(wrong, Wrong::WrongSignature | Wrong::BrokenChain);
        // A record may delete what no record made, or be of another camera; those that are signed one after the other are right.
        let wrong = done.findings.iter().find(|finding| {
            // Not of the register, which nobody signs.
            let chain = finding.camera == CAMERA && forged(finding.problem);
            chain && !["no record made", "of camera"].iter().any(|text| finding.text.contains(text))
        });
        assert!(wrong.is_none(), "{wrong:?}");
    }
    assert!(!changed || !done.findings.is_empty(), "a changed byte is found");
}

fn look(done: &Verification) {
    for finding in &done.findings {
        let inside = |file: &PathBuf| file.components().all(|part| matches!(part, Component::Normal(_)));
        // What is in no chain is named with its folder, which is ours.
        let outside = finding.file.as_ref().is_some_and(|file| !inside(file) && !file.is_absolute());
        assert!(!outside, "{finding:?} is about a file elsewhere");
        assert!(finding.to_string().len() < 64 * 1024);
    }
    serde_json::to_vec(done).expect("--json prints it");
}

/// What can be read of a line can be written, and reads back as the same.
fn records(chain: &[u8]) {
    for line in chain.split(|byte| *byte == b'\n') {
        if let Ok(line) = Line::parse(line) {
            let written = serde_json::to_string(&line.record).expect("what was read can be written");
            assert_eq!(serde_json::from_str::<Record>(&written).ok(), Some(line.record));
        }
    }
}

/// The records of a chain, with or without signatures, numbered and signed anew. What is no record stays out.
fn sign(chain: &[u8], key: &SigningKey) -> Vec<u8> {
    let (mut out, mut prev, mut seq) = (Vec::new(), NOTHING.to_owned(), 0);
    for line in chain.split(|byte| *byte == b'\n') {
        let Ok(mut record) = serde_json::from_slice::<Record>(line) else { continue };
        seq += 1;
        (record.v, record.seq, record.prev, record.key) = (1, seq, prev, key.public().id());
        let json = serde_json::to_string(&record).expect("what was read can be written");
        let signed = json.strip_suffix('}').expect("an object");
        let line = format!("{signed}{SIGNATURE}{}\"}}", key.sign(signed.as_bytes()));
        prev = sha256(line.as_bytes());
        out.extend(line.as_bytes());
        out.push(b'\n');
    }
    out
}

/// A sealed original and the file of identities that is to open it, with a separator between; and keys in PEM.
pub(crate) fn sealed(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == SEPARATOR);
    let (identities, sealed) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Ok(text) = std::str::from_utf8(identities) {
        if let Ok(key) = PublicKey::from_pem(text) {
            assert_eq!(PublicKey::from_pem(&key.pem()).ok(), Some(key.clone()));
            assert!(!key.verifies(sealed, "c2lnbmVk"));
        }
        _ = SigningKey::from_pem(text).map(|key| key.sign(sealed));
    }
    if let Ok(plain) = seal::open_bytes(sealed, identities) {
        assert!(plain.len() < sealed.len(), "a seal adds a header");
    }
}

/// A folder that is gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // In memory, where there is such a place: a fuzzer makes a thousand of them in a second.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = base.join(format!("huiyan-fuzz-{}-{number}", std::process::id()));
        for inner in [CHAINS, KEYS, EVENT] {
            fs::create_dir_all(folder.join(inner)).expect("a folder can be made");
        }
        Self(folder)
    }

    /// An empty file is none.
    fn write(&self, file: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            fs::write(self.0.join(file), bytes).expect("a file can be written");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
