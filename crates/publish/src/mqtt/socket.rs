//! The socket below a connection: TCP that notices a dead line, and TLS.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::{ConnectError, of_tls};

/// Plain or with TLS.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A socket and what is needed to say why it ended before the broker's first word.
pub(super) struct Socket {
    pub io: Box<dyn Io>,
    tls: Option<Handshake>,
}

struct Handshake {
    ca: Option<std::path::PathBuf>,
    own: Arc<OwnCertificate>,
}

impl Socket {
    /// Connects; `timeout` is shared by the addresses of the name. `dead_after`: what was sent and is not confirmed by the
    /// other machine for so long ends the connection (TCP_USER_TIMEOUT), else the kernel would try for a quarter of an
    /// hour.
    pub async fn open(
        at: &fleet::Address,
        tls: Option<&fleet::Tls>,
        timeout: Duration,
        dead_after: Duration,
    ) -> Result<Self, ConnectError> {
        let tcp = tcp(at, timeout).await?;
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        let ms = u32::try_from(dead_after.as_millis()).unwrap_or(u32::MAX);
        setsockopt(&tcp, sockopt::TcpUserTimeout, &ms).map_err(|errno| ConnectError::Tcp(errno.into()))?;
        let Some(tls) = tls else { return Ok(Self { io: Box::new(tcp), tls: None }) };

        let name = tls.name.clone().unwrap_or_else(|| at.host.clone());
        let name = ServerName::try_from(name).map_err(|error| ConnectError::Tls(error.to_string()))?;
        let wanted = tls.clone();
        // Files, and perhaps the system's hundred and fifty authorities.
        let config = tokio::task::spawn_blocking(move || config(&wanted)).await;
        let (config, own) = config.map_err(|error| ConnectError::Tls(error.to_string()))??;
        let handshake = Handshake { ca: tls.ca.clone(), own };
        match TlsConnector::from(config).connect(name, tcp).await {
            Ok(stream) => Ok(Self { io: Box::new(stream), tls: Some(handshake) }),
            Err(error) => Err(handshake.failed(&error)),
        }
    }

    /// What it means that the connection ended before the broker's first word.
    pub fn unanswered(&self, error: &io::Error) -> ConnectError {
        match &self.tls {
            Some(handshake) if handshake.own.asked() || error.get_ref().is_some() => handshake.failed(error),
            _ => ConnectError::Unanswered,
        }
    }
}

impl Handshake {
    fn failed(&self, error: &io::Error) -> ConnectError {
        of_tls(error, self.ca.as_ref(), self.own.asked(), self.own.identity.is_some())
    }
}

async fn tcp(at: &fleet::Address, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let found = tokio::net::lookup_host((at.host.as_str(), at.port)).await.map_err(ConnectError::Host)?;
    let found: Vec<_> = found.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    // One that does not answer must not take the others' time.
    let share = timeout / u32::try_from(found.len()).unwrap_or(1).max(1);
    for address in found {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(ConnectError::Tcp(last))
}

/// Gives our certificate where the broker asks for one, and remembers that it did: a broker that goes on to hang up
/// wanted it.
#[derive(Debug)]
struct OwnCertificate {
    identity: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl OwnCertificate {
    fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

fn config(tls: &fleet::Tls) -> Result<(Arc<ClientConfig>, Arc<OwnCertificate>), ConnectError> {
    let files = tls.load()?;
    let roots = match files.roots {
        Some(roots) => roots,
        None => system_authorities()?,
    };
    let own =
        Arc::new(OwnCertificate { identity: files.identity.map(Arc::new), asked: AtomicBool::new(false) });
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(own.clone());
    Ok((Arc::new(config), own))
}

fn system_authorities() -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(ConnectError::NoAuthorities) } else { Ok(roots) }
}

/// The socket of a connection without TLS, and nothing above it.
#[cfg(test)]
pub(crate) async fn open_socket(
    at: &fleet::Address,
    timeout: Duration,
    dead_after: Duration,
) -> Result<impl AsyncRead + AsyncWrite + Unpin, ConnectError> {
    Socket::open(at, None, timeout, dead_after).await.map(|socket| socket.io)
}
