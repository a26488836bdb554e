//! Unblurred originals, where the configuration asks for them: encrypted with `age` (age-encryption.org/v1) to a public
//! key whose other half is not on the worker. The plain picture is only ever in memory.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use age::x25519::Recipient;
use age::{Decryptor, IdentityFile};

/// No sealed picture is larger.
const MAX_SEALED: u64 = 64 * 1024 * 1024;

/// An original that could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The configured recipient is none.
    #[error("evidence.originals.recipient {0:?} is no public key of age: {1}")]
    Recipient(String, &'static str),
    /// Encryption failed.
    #[error("an original could not be sealed: {0}")]
    Seal(String),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not sealed, or not for this identity.
    #[error("{path}: {cause}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// Seals.
#[derive(Clone)]
pub(crate) struct Seal(Recipient);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seal({})", self.0)
    }
}

impl Seal {
    /// To a recipient `age1…`.
    pub fn to(recipient: &str) -> Result<Self, SealError> {
        recipient.parse().map(Self).map_err(|why| SealError::Recipient(recipient.to_owned(), why))
    }

    /// The encrypted bytes.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        age::encrypt(&self.0, plain).map_err(|error| SealError::Seal(error.to_string()))
    }
}

/// Decrypts a sealed original with the identities (`AGE-SECRET-KEY-…`) of a file, as age-keygen writes it.
pub(crate) fn open(sealed: &Path, identities: &Path) -> Result<Vec<u8>, SealError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| SealError::File { path, source }
    };
    let text = std::fs::read(identities).map_err(file(identities))?;
    let bytes = std::fs::File::open(sealed).map_err(file(sealed))?;
    let open = open_bytes(io::BufReader::new(bytes), &text);
    open.map_err(|cause| SealError::Open { path: sealed.to_owned(), cause })
}

/// The same with what the files hold; the error is the cause alone.
pub(super) fn open_bytes(sealed: impl io::BufRead, identities: &[u8]) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let keys = IdentityFile::from_buffer(identities).map_err(|error| text(&error))?;
    let keys = keys.into_identities().map_err(|error| text(&error))?;
    let decryptor = Decryptor::new_buffered(sealed).map_err(|error| text(&error))?;
    let mut plain = Vec::new();
    let reader = decryptor.decrypt(keys.iter().map(|key| &**key)).map_err(|error| text(&error))?;
    reader.take(MAX_SEALED).read_to_end(&mut plain).map_err(|error| text(&error))?;
    Ok(plain)
}
