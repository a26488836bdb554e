//! A file over HTTP, resumed where the connection broke off (RFC 9110 section 14), taken only with the right hash.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Attempts in a row that bring nothing, after which it is given up.
const FRUITLESS: u32 = 5;
/// Between attempts; doubled each time.
const PAUSE: Duration = Duration::from_millis(200);
/// A connection that is silent for so long is given up and taken up again.
const SILENCE: Duration = Duration::from_secs(30);
/// No model is larger: ONNX files cannot be (2 GiB), and a server without end should not fill the disk.
const MOST_BYTES: u64 = 1 << 31;

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server says so.
    #[error("{url}: the server answers {status}")]
    Status { url: String, status: StatusCode },
    /// Attempt after attempt brought nothing.
    #[error(
        "{url}: given up after {FRUITLESS} attempts that brought nothing: {reason}; {bytes} bytes are kept, try again later"
    )]
    Broken { url: String, bytes: u64, reason: String },
    /// Not what the card promises.
    #[error("sha256: the card says {said}, but {url} gives {has} ({bytes} bytes); nothing was kept")]
    Hash { url: String, said: String, has: String, bytes: u64 },
    /// Larger than any model can be.
    #[error("{url}: is larger than {MOST_BYTES} bytes, so it is no model")]
    TooLarge { url: String },
    /// The disk.
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: std::io::Error },
}

/// Lower-case hexadecimal SHA-256 of some bytes.
#[cfg(test)]
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Size and lower-case hexadecimal SHA-256 of a file.
pub fn hash(path: &Path) -> Result<(u64, String), FetchError> {
    let failed = |source| FetchError::File { path: path.into(), source };
    let mut file = File::open(path).map_err(failed)?;
    let (mut digest, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok((bytes, digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())),
            n => {
                digest.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// Fetches `url` into `path`, by way of `path` with `.part` behind it. What an earlier call left there is gone on
/// with if the hash is known; a file that turns out wrong is removed. `progress` hears how much is here, of how much.
///
/// Returns the size and SHA-256.
pub fn fetch(
    url: &str,
    path: &Path,
    sha256: Option<&str>,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<(u64, String), FetchError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let failed = |source| FetchError::File { path: part.clone(), source };
    // Without a hash nobody would notice that two halves do not belong together.
    let options =
        OpenOptions::new().create(true).read(true).write(true).truncate(sha256.is_none()).open(&part);
    let mut download = Download { url, file: options.map_err(failed)?, have: 0, tag: None, agent: agent() };
    download.have = download.file.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut fruitless = 0;
    loop {
        let before = download.have;
        match download.attempt(&mut progress) {
            Ok(()) => break,
            Err(Stop::Final(error)) => {
                remove_empty(&part, download.have);
                return Err(error);
            }
            Err(Stop::File(source)) => return Err(failed(source)),
            Err(Stop::Again(reason)) => {
                fruitless = if download.have > before { 0 } else { fruitless + 1 };
                if fruitless >= FRUITLESS {
                    remove_empty(&part, download.have);
                    return Err(FetchError::Broken { url: url.into(), bytes: download.have, reason });
                }
                tracing::info!(url, have = download.have, reason, "the connection broke off; going on");
                std::thread::sleep(PAUSE * 2u32.pow(fruitless));
            }
        }
    }
    download.file.sync_all().map_err(failed)?;
    let (bytes, has) = hash(&part)?;
    if let Some(said) = sha256.filter(|said| *said != has) {
        std::fs::remove_file(&part).map_err(failed)?;
        return Err(FetchError::Hash { url: url.into(), said: said.into(), has, bytes });
    }
    // Whoever opens the file sees all of it or none.
    std::fs::rename(&part, path).map_err(failed)?;
    Ok((bytes, has))
}

/// Leaves nothing of an attempt that brought nothing.
fn remove_empty(part: &Path, bytes: u64) {
    if bytes == 0 {
        // It is not in the way; that it cannot be removed is not what the user wants to hear now.
        drop(std::fs::remove_file(part));
    }
}

fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        // A county's own authority is known to its machines, not to Mozilla.
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_resolve(Some(SILENCE))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("huiyan/", env!("CARGO_PKG_VERSION")))
        // What is stored is what is hashed: never packed on the way.
        .accept_encoding("identity")
        .build()
        .new_agent()
}

/// A file on its way.
struct Download<'u> {
    url: &'u str,
    file: File,
    /// Bytes that are here.
    have: u64,
    /// Names the version of the file of which they are.
    tag: Option<String>,
    agent: Agent,
}

/// Why an attempt ended before the file did.
enum Stop {
    /// It is worth another one.
    Again(String),
    /// It is not.
    Final(FetchError),
    /// The disk.
    File(std::io::Error),
}

impl Download<'_> {
    /// One request; `Ok` once all is here.
    fn attempt(&mut self, progress: &mut impl FnMut(u64, Option<u64>)) -> Result<(), Stop> {
        let mut request = self.agent.get(self.url);
        if self.have > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", self.have));
            if let Some(tag) = &self.tag {
                request = request.header(header::IF_RANGE, tag);
            }
        }
        let mut response = request.call().map_err(|error| Stop::Again(error.to_string()))?;
        let total = match self.begin(&response)? {
            Some(Begun::Complete) => return Ok(()),
            Some(Begun::Total(total)) => Some(total),
            None => None,
        };
        if total.is_some_and(|total| total > MOST_BYTES) {
            return Err(Stop::Final(FetchError::TooLarge { url: self.url.into() }));
        }
        progress(self.have, total);
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = body.read(&mut buffer).map_err(|error| Stop::Again(error.to_string()))?;
            if n == 0 {
                break;
            }
            self.file.write_all(&buffer[..n]).map_err(Stop::File)?;
            self.have += n as u64;
            if self.have > MOST_BYTES {
                return Err(Stop::Final(FetchError::TooLarge { url: self.url.into() }));
            }
            progress(self.have, total);
        }
        match total {
            Some(total) if self.have < total => {
                Err(Stop::Again(format!("{} of {total} bytes came", self.have)))
            }
            _ => Ok(()),
        }
    }

    /// Reads the answer's head and puts the file to where its body belongs. `None`: nobody knows how long it will be.
    fn begin(&mut self, response: &Response<Body>) -> Result<Option<Begun>, Stop> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        match response.status() {
            StatusCode::OK => {
                self.restart()?;
                self.tag = text(header::ETAG).filter(|tag| !tag.starts_with("W/")).map(ToOwned::to_owned);
                let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
                Ok(length.map(Begun::Total))
            }
            StatusCode::PARTIAL_CONTENT => match text(header::CONTENT_RANGE).and_then(range) {
                Some((from, total)) if from == self.have => Ok(total.map(Begun::Total)),
                _ => {
                    self.restart()?;
                    Err(Stop::Again("the server sends another part than was asked for".into()))
                }
            },
            // Nothing comes after what is here: either it is all, or it is not of this file.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let total = text(header::CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes */"));
                if total.and_then(|total| total.parse().ok()) == Some(self.have) {
                    return Ok(Some(Begun::Complete));
                }
                self.restart()?;
                Err(Stop::Again("what was here is longer than the file".into()))
            }
            status if status.is_server_error() => Err(Stop::Again(format!("the server answers {status}"))),
            status => Err(Stop::Final(FetchError::Status { url: self.url.into(), status })),
        }
    }

    fn restart(&mut self) -> Result<(), Stop> {
        self.have = 0;
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(Stop::File)
    }
}

/// What an answer begins.
enum Begun {
    /// Nothing: all is here.
    Complete,
    /// A body after which so many bytes are here.
    Total(u64),
}

/// `bytes 100-199/200` → 100 and 200; the total may be `*`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = span.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
pub mod server;

#[cfg(test)]
mod tests {
    use super::server::{Behaviour, Server};
    use super::*;

    fn content() -> Vec<u8> {
        (0..300_000u32).flat_map(u32::to_le_bytes).collect()
    }

    /// Bytes and hash, or why not.
    type Fetched = Result<(u64, String), FetchError>;

    /// Fetches into an empty folder, or one with this much already there; what is in the file then.
    fn get(server: &Server, sha256: Option<&str>, there: &[u8]) -> (Fetched, Option<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        if !there.is_empty() {
            std::fs::write(dir.path().join("model.onnx.part"), there).unwrap();
        }
        let result = fetch(&server.url(), &path, sha256, |_, _| ());
        (result, std::fs::read(path).ok())
    }

    #[test]
    fn a_connection_that_breaks_off_again_and_again_is_taken_up_where_it_broke() {
        let content = content();
        let server =
            Server::start(content.clone(), Behaviour { cut_after: Some(400_000), ..Default::default() });
        let (result, file) = get(&server, Some(&hex(&content)), &[]);
        assert_eq!(result.unwrap(), (content.len() as u64, hex(&content)));
        assert_eq!(file.unwrap(), content);
        let requests = server.requests();
        // 1.2 MB in pieces of 400 kB: three, none of them from the start again.
        assert_eq!(requests, [None, Some(400_000), Some(800_000)]);
    }

    #[test]
    fn what_an_earlier_call_left_is_gone_on_with() {
        let content = content();
        let server = Server::start(content.clone(), Behaviour::default());
        let (result, file) = get(&server, Some(&hex(&content)), &content[..1_000_000]);
        result.unwrap();
        assert_eq!((file.unwrap(), server.requests()), (content.clone(), vec![Some(1_000_000)]));
        // All of it.
        let (result, _) = get(&server, Some(&hex(&content)), &content);
        result.unwrap();
        // Without a hash it would be a risk.
        let (result, file) = get(&server, None, &[7; 1000]);
        result.unwrap();
        assert_eq!(file.unwrap(), content);
        assert_eq!(server.requests()[2], None);
    }

    #[test]
    fn a_server_that_cannot_resume_starts_again() {
        let content = content();
        let behaviour = Behaviour { cut_after: Some(700_000), cuts: 1, no_ranges: true };
        let server = Server::start(content.clone(), behaviour);
        let (result, file) = get(&server, Some(&hex(&content)), &[]);
        result.unwrap();
        assert_eq!((file.unwrap(), server.requests().len()), (content, 2));
    }

    #[test]
    fn a_wrong_half_is_noticed_and_removed() {
        let content = content();
        let server = Server::start(content.clone(), Behaviour::default());
        let (result, file) = get(&server, Some(&hex(&content)), &[7; 1000]);
        assert!(matches!(result, Err(FetchError::Hash { .. })), "{result:?}");
        assert_eq!(file, None);
    }

    #[test]
    fn what_is_not_there_is_said_at_once_and_a_dead_server_after_a_while() {
        let server = Server::start(Vec::new(), Behaviour::default());
        let dir = tempfile::tempdir().unwrap();
        let url = server.url().replace("model", "nothing");
        let error = fetch(&url, &dir.path().join("m"), None, |_, _| ()).unwrap_err();
        assert!(error.to_string().contains("404"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let url = server.url();
        drop(server);
        let error = fetch(&url, &dir.path().join("m"), None, |_, _| ()).unwrap_err();
        assert!(matches!(error, FetchError::Broken { .. }), "{error}");
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(range("bytes 100-199/*"), Some((100, None)));
        assert_eq!(range("items 1-2/3"), None);
        assert_eq!(range("bytes 99999999999999999999-1/2"), None);
    }
}
