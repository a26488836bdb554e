//! The files of TLS: whom to believe, and who we are. They are checked when the configuration is loaded, and read
//! again for each connection, so that a renewed certificate needs no restart.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;

use crate::der;
use crate::sources::read_bounded;

/// Bytes of a file of certificates; a system's whole list has a quarter of this.
const MAX_FILE: u64 = 1 << 20;
/// A certificate that ends within this is worth a warning.
const SOON_S: i64 = 14 * 86_400;

/// TLS to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM file of the authorities that may have issued the broker's certificate; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where the broker asks for one.
    pub identity: Option<Identity>,
    /// The name that the broker's certificate must hold, where it is not the host of its address.
    pub name: Option<String>,
}

/// A client's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM file: the certificate, then what issued it.
    pub certificate: PathBuf,
    /// PEM file: the private key (PKCS#8, PKCS#1 or SEC1), without a passphrase.
    pub key: PathBuf,
}

/// What the files hold.
pub struct TlsFiles {
    /// The authorities of `ca`; `None`: those of the system are to be taken.
    pub roots: Option<RootCertStore>,
    /// Certificate chain, and its key.
    pub identity: Option<CertifiedKey>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = self.roots.as_ref().map(RootCertStore::len);
        f.debug_struct("TlsFiles").field("roots", &roots).field("identity", &self.identity.is_some()).finish()
    }
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {expected}")]
pub struct TlsError {
    /// The key below `broker.tls` that names it.
    pub key: &'static str,
    /// What is wrong, with the file's path where another file than the key's is meant.
    pub problem: String,
    /// What would be right.
    pub expected: String,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn load(&self) -> Result<TlsFiles, TlsError> {
        self.check_name()?;
        let roots = self.ca.as_deref().map(authorities).transpose()?;
        let identity = self.identity.as_ref().map(Identity::load).transpose()?;
        Ok(TlsFiles { roots, identity })
    }

    /// Everything that is wrong with the files.
    pub(crate) fn mistakes(&self) -> Vec<TlsError> {
        let name = self.check_name().err();
        let ca = self.ca.as_deref().and_then(|path| authorities(path).err());
        let identity = self.identity.as_ref().map(Identity::mistakes).unwrap_or_default();
        name.into_iter().chain(ca).chain(identity).collect()
    }

    /// What is no mistake, but should not stay so.
    pub fn warnings(&self) -> Vec<String> {
        let Some(identity) = &self.identity else { return Vec::new() };
        let (key, certificate) = (identity.key.display(), identity.certificate.display());
        let mut warnings = Vec::new();
        if readable_by_others(&identity.key) {
            warnings.push(format!(
                "{key}: the private key of the broker's TLS can be read by others; expected a file of mode 600 (chmod 600)"
            ));
        }
        let until = chain(&identity.certificate).ok().and_then(|chain| der::validity(&chain[0]));
        if let Some((_, until)) = until
            && until.as_second() - Timestamp::now().as_second() < SOON_S
        {
            warnings.push(format!(
                "{certificate}: the certificate ends at {until}; expected a renewal before that"
            ));
        }
        warnings
    }

    fn check_name(&self) -> Result<(), TlsError> {
        let Some(name) = &self.name else { return Ok(()) };
        let wrong = |_| error("name", "is no name of a host", "expected a DNS name or an IP address");
        ServerName::try_from(name.as_str()).map(drop).map_err(wrong)
    }
}

impl Identity {
    fn load(&self) -> Result<CertifiedKey, TlsError> {
        let (chain, key) = (chain(&self.certificate)?, private_key(&self.key)?);
        check_validity(&chain[0])?;
        let unusable = |why: rustls::Error| {
            let problem = format!("holds a private key that cannot be used: {why}");
            error(
                "key",
                problem,
                "expected an RSA key of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519",
            )
        };
        let provider = rustls::crypto::ring::default_provider();
        let key = provider.key_provider.load_private_key(key).map_err(unusable)?;
        let identity = CertifiedKey::new(chain, key);
        match identity.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(identity),
            Err(rustls::Error::InconsistentKeys(_)) => Err(error(
                "key",
                format!("is not the key of the first certificate in {}", self.certificate.display()),
                "expected the private key that the certificate was made for, and that certificate first in its file",
            )),
            Err(why) => Err(error("certificate", format!("cannot be used: {why}"), CERTIFICATE)),
        }
    }

    fn mistakes(&self) -> Vec<TlsError> {
        let chain = chain(&self.certificate).and_then(|chain| check_validity(&chain[0]));
        let key = private_key(&self.key).map(drop);
        let found: Vec<_> = chain.err().into_iter().chain(key.err()).collect();
        if found.is_empty() { self.load().err().into_iter().collect() } else { found }
    }
}

const CERTIFICATE: &str = "expected -----BEGIN CERTIFICATE----- and what follows (PEM)";

fn error(key: &'static str, problem: impl Into<String>, expected: impl Into<String>) -> TlsError {
    TlsError { key, problem: problem.into(), expected: expected.into() }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    read_bounded(path, MAX_FILE)
        .map_err(|why| error(key, why.problem, format!("{}, at {}", why.expected, path.display())))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|why| error(key, format!("is no PEM: {}", pem_problem(&why)), CERTIFICATE))?;
    if found.is_empty() {
        return Err(error(key, "holds no certificate", CERTIFICATE));
    }
    Ok(found)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates("ca", path)?.into_iter().enumerate() {
        let unusable = |why| {
            error("ca", format!("holds certificate {}, which cannot be used: {why}", index + 1), CERTIFICATE)
        };
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

/// Never empty.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = certificates("certificate", path)?;
    match der::validity(&found[0]) {
        Some(_) => Ok(found),
        None => Err(error("certificate", "holds something else than a certificate", CERTIFICATE)),
    }
}

fn check_validity(certificate: &[u8]) -> Result<(), TlsError> {
    let Some((from, until)) = der::validity(certificate) else { return Ok(()) };
    let now = Timestamp::now();
    let expected = "expected a certificate that is valid now; is this machine's clock right?";
    if now > until {
        return Err(error("certificate", format!("expired at {until}"), expected));
    }
    if now < from {
        return Err(error("certificate", format!("is not valid before {from}"), expected));
    }
    Ok(())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let expected = "expected -----BEGIN PRIVATE KEY----- and what follows (PEM), without a passphrase";
    let bytes = read("key", path)?;
    if String::from_utf8_lossy(&bytes).contains("ENCRYPTED") {
        return Err(error("key", "is encrypted with a passphrase", expected));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|why| match why {
        pem::Error::NoItemsFound => error("key", "holds no private key", expected),
        why => error("key", format!("is no PEM: {}", pem_problem(&why)), expected),
    })
}

/// Without the file's own bytes, which rustls would print.
fn pem_problem(why: &pem::Error) -> &'static str {
    match why {
        pem::Error::MissingSectionEnd { .. } => "a line -----END ...----- is missing",
        pem::Error::IllegalSectionStart { .. } => "a line -----BEGIN ...----- is damaged",
        pem::Error::Base64Decode(_) => "what stands between BEGIN and END is no Base64",
        pem::Error::NoItemsFound => "there is nothing in it",
        _ => "it cannot be read",
    }
}

#[cfg(unix)]
fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path) -> bool {
    false
}
