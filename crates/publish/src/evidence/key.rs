//! The worker's Ed25519 key (RFC 8032): a PKCS#8 PEM file that OpenSSL reads and writes, too.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use crate::wire::hex;

/// DER of a SubjectPublicKeyInfo up to the 32 bytes of the key (RFC 8410 section 4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// No key file comes near.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No PEM of this kind.
    #[error(
        "the evidence key is no PEM of an Ed25519 {what}; `openssl genpkey -algorithm ed25519` makes a private key"
    )]
    Form {
        /// `PRIVATE KEY` or `PUBLIC KEY`.
        what: &'static str,
    },
    /// The system's random numbers failed.
    #[error("no evidence key could be made: the system gives no random numbers")]
    Random,
}

/// Signs. Prints nothing of itself but its id.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

/// Tells whether it signed something.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl SigningKey {
    /// Reads a PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let form = || KeyError::Form { what: PRIVATE };
        let der = unwrap_pem(pem, PRIVATE).ok_or_else(form)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| form())?;
        Ok(Self { pair })
    }

    /// The key in the file, which is made if it is not there: only its owner may read it. Two processes that do so at
    /// the same time end up with the same key.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        let error = |source| KeyError::File { path: path.to_owned(), source };
        if !path.exists() {
            let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new());
            let document = document.map_err(|_| KeyError::Random)?;
            write_new(path, wrap_pem(document.as_ref(), PRIVATE).as_bytes()).map_err(error)?;
        }
        let meta = fs::metadata(path).map_err(error)?;
        if meta.len() > MAX_KEY_FILE {
            return Err(KeyError::Form { what: PRIVATE });
        }
        if meta.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others could read the evidence key; now only its owner can");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(error)?;
        }
        Self::from_pem(&fs::read_to_string(path).map_err(error)?)
    }

    /// A key that everybody can make: for tests.
    pub(super) fn of_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        Self { pair: pair.expect("any 32 bytes are a seed (RFC 8032 section 5.1.5)") }
    }

    /// Signs `message`: 64 bytes, in Base64.
    pub fn sign(&self, message: &[u8]) -> String {
        BASE64.encode(self.pair.sign(message).as_ref())
    }

    /// Its other half.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref();
        PublicKey(bytes.try_into().expect("an Ed25519 public key has 32 bytes (RFC 8032 section 5.1.5)"))
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let form = || KeyError::Form { what: PUBLIC };
        let der = unwrap_pem(pem, PUBLIC).ok_or_else(form)?;
        let key = der.strip_prefix(&PUBLIC_PREFIX).ok_or_else(form)?;
        Ok(Self(key.try_into().map_err(|_| form())?))
    }

    /// Reads a file that holds one.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let error = |source| KeyError::File { path: path.to_owned(), source };
        if fs::metadata(path).map_err(error)?.len() > MAX_KEY_FILE {
            return Err(KeyError::Form { what: PUBLIC });
        }
        Self::from_pem(&fs::read_to_string(path).map_err(error)?)
    }

    /// As a SubjectPublicKeyInfo PEM.
    pub fn pem(&self) -> String {
        wrap_pem(&[&PUBLIC_PREFIX[..], &self.0].concat(), PUBLIC)
    }

    /// Names it: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes.
    pub fn id(&self) -> String {
        hex(&Sha256::digest(self.0))[..16].to_owned()
    }

    /// Whether `signature` (Base64) is this key's, of `message`.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = BASE64.decode(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature).is_ok()
    }
}

/// Writes beside and links into place, so that a file of this name is whole, and whoever came first wins.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("part-{}", std::process::id()));
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match fs::hard_link(&beside, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    let written = write();
    let _ = fs::remove_file(&beside);
    written
}

/// RFC 7468 section 2.
fn wrap_pem(der: &[u8], label: &str) -> String {
    let text = BASE64.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

fn unwrap_pem(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
    let (text, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let first = SigningKey::load_or_make(&path).unwrap().public();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(SigningKey::load_or_make(&path).unwrap().public(), first, "the same after a restart");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_it_signs_verifies_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_make(&dir.path().join("a")).unwrap();
        let other = SigningKey::load_or_make(&dir.path().join("b")).unwrap();
        let signature = key.sign(b"message");
        let public = PublicKey::from_pem(&key.public().pem()).unwrap();
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"massage", &signature));
        assert!(!other.public().verifies(b"message", &signature));
        assert!(!public.verifies(b"message", "no Base64!"));
        assert!(!public.verifies(b"message", ""));
        assert_ne!(public.id(), other.public().id());
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "hunter2"] {
            let error = SigningKey::from_pem(text).unwrap_err().to_string();
            assert!(error.contains("openssl genpkey") && !error.contains("hunter2"), "{error}");
            assert!(PublicKey::from_pem(text).is_err());
        }
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_make(&dir.path().join("a")).unwrap();
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    /// A key of OpenSSL's signs here, and what is signed here verifies there.
    #[test]
    #[allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]
    fn openssl_agrees() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let run = |args: &[&str]| Command::new("openssl").args(args).output();
        let made = run(&["genpkey", "-algorithm", "ed25519", "-out", &at("key.pem")]);
        if !made.is_ok_and(|made| made.status.success()) {
            return println!("skipped: openssl is not installed, or knows no Ed25519");
        }
        let key = SigningKey::from_pem(&fs::read_to_string(at("key.pem")).unwrap()).unwrap();
        fs::write(at("public.pem"), key.public().pem()).unwrap();
        fs::write(at("message"), "message").unwrap();
        fs::write(at("signature"), BASE64.decode(key.sign(b"message")).unwrap()).unwrap();
        let said = run(&[
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            &at("public.pem"),
            "-rawin",
            "-in",
            &at("message"),
            "-sigfile",
            &at("signature"),
        ]);
        let said = said.unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}
