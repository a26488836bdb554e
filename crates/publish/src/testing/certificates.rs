//! Authorities and certificates for tests with TLS.

// What is made here is constant: it either always works or never.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority with its files in a folder.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    name: &'static str,
}

impl Authority {
    /// Makes one; its certificate is `{name}.pem` in `dir`.
    pub fn new(dir: &Path, name: &'static str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir: dir.to_owned(), name }
    }

    /// Its certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// Issues a certificate for `host` that is valid from yesterday until tomorrow.
    pub fn issue(&self, host: &str) -> fleet::Identity {
        self.issue_until(host, SystemTime::now() + Duration::from_secs(86_400))
    }

    /// The same until then. Its common name is `host` too, which mosquitto may take for a user name.
    pub fn issue_until(&self, host: &str, until: SystemTime) -> fleet::Identity {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        params.not_before = (until - Duration::from_secs(2 * 86_400)).into();
        params.not_after = until.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file =
            |ending: &str| self.dir.join(format!("{}-{host}-{}.{ending}", self.name, until_name(until)));
        let identity = fleet::Identity { certificate: file("pem"), key: file("key") };
        std::fs::write(&identity.certificate, certificate.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

fn until_name(until: SystemTime) -> u64 {
    until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
