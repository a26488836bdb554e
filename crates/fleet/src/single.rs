//! One camera from a command line, by the same rules as one from a file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flow::{CameraId, ModelId};
use url::Url;

use crate::mistake::Problem;
use crate::tables::resolve;
use crate::{Camera, Credentials, Look, Sampling, Secret, SecretRef, Transport, address};

/// Reads a camera's address. `way` says how a login is written where the text stands: an address that holds one is
/// refused.
///
/// # Errors
/// What is wrong with the text, without repeating a password in it, and what would be right.
pub fn camera_url(text: &str, way: &str) -> Result<Url, String> {
    address::rtsp(text).map_err(|problem| told(text, &problem, way))
}

/// The same for a broker's address.
///
/// # Errors
/// As above.
pub fn broker_url(text: &str, way: &str) -> Result<Url, String> {
    address::mqtt(text).map_err(|problem| told(text, &problem, way))
}

fn told(text: &str, problem: &Problem, way: &str) -> String {
    let holds_login = problem.problem.contains("credential") || problem.problem.contains("password");
    let expected = if holds_login { way } else { &problem.expected };
    format!("{:?} {}; {expected}", address::masked(text), problem.problem)
}

impl Camera {
    /// A camera of which only this is known: nothing is watched for, and it is looked at as by default.
    pub fn bare(id: CameraId, url: Url, credentials: Option<Arc<Credentials>>, transport: Transport) -> Self {
        Self {
            id,
            class: "any".into(),
            name: None,
            address: None,
            grid: None,
            location: None,
            ground: None,
            url,
            other_url: None,
            certificate: Default::default(),
            credentials,
            transport,
            look: Look {
                sampling: Sampling::Keyframes,
                at_most_every: Duration::from_secs(1),
                at_least_every: Duration::from_secs(10),
                on_long_keys: Default::default(),
                priority: Default::default(),
            },
            gate: None,
            tiles: None,
            model: ModelId::new("none").expect("it keeps to the alphabet of ids"),
            presets: Arc::new([]),
            zones: Arc::new([]),
            ignore: Arc::new([]),
            masks: Arc::new([]),
            keep_evidence: None,
        }
    }
}

impl Credentials {
    /// A login whose password is at `password`: `env:NAME` or `file:PATH`. The user may be either too.
    ///
    /// # Errors
    /// What is wrong with the reference, which is not shown where it may be the password itself.
    pub fn by_reference(user: &str, password: &str) -> Result<Self, String> {
        let user = match reference(user) {
            Some(at) => read(&at)?,
            None => user.to_owned(),
        };
        let at = reference(password)
            .ok_or("the password is no reference; write env:NAME or file:PATH, never the password itself")?;
        Ok(Self { user, password: Secret::new(read(&at)?) })
    }
}

fn reference(text: &str) -> Option<SecretRef> {
    match text.split_once(':')? {
        ("env", name) if !name.is_empty() => Some(SecretRef::Env(name.to_owned())),
        ("file", path) if !path.is_empty() => Some(SecretRef::File(PathBuf::from(path))),
        _ => None,
    }
}

fn read(at: &SecretRef) -> Result<String, String> {
    let name = match at {
        SecretRef::Env(name) => format!("env:{name}"),
        SecretRef::File(path) => format!("file:{}", path.display()),
    };
    resolve(at, &|name| std::env::var(name).ok())
        .map_err(|problem| format!("{name} {}; {}", problem.problem, problem.expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_login_is_refused_with_the_way_to_write_it() {
        let way = "write --user NAME --password env:NAME";
        assert!(camera_url("rtsp://10.0.0.1/x", way).is_ok());
        for text in ["rtsp://admin:hunter2@10.0.0.1/x", "rtsp://10.0.0.1/x?password=hunter2"] {
            let error = camera_url(text, way).unwrap_err();
            assert!(error.contains(way) && !error.contains("hunter2"), "{error}");
        }
        assert!(broker_url("mqtt://me:hunter2@h", way).unwrap_err().ends_with(way));
        assert_eq!(broker_url("mqtt://h:1884", way).unwrap().port(), Some(1884));
        let error = camera_url("10.0.0.1", way).unwrap_err();
        assert_eq!(error, "\"10.0.0.1\" is no address; expected rtsp://host[:port]/path");
    }

    #[test]
    fn a_password_is_read_where_it_is_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "hunter2\n").unwrap();
        let login = Credentials::by_reference("viewer", &format!("file:{}", path.display())).unwrap();
        assert_eq!((login.user.as_str(), login.password.reveal()), ("viewer", "hunter2"));
        let error = Credentials::by_reference("viewer", "hunter2").unwrap_err();
        assert!(error.contains("env:NAME") && !error.contains("hunter2"), "{error}");
        let error = Credentials::by_reference("viewer", "env:HUIYAN_NO_SUCH").unwrap_err();
        assert_eq!(error, "env:HUIYAN_NO_SUCH is not set; set the environment variable HUIYAN_NO_SUCH");
    }
}
