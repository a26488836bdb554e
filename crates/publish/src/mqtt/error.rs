//! Why a connection does not come about, why it ended, why a message was refused: each says what would be right.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use flow::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::reader::Malformed;

/// A reason of the broker's: MQTT 5's code (section 2.4) and, where it gave one, its text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reason {
    code: u8,
    text: String,
}

impl Reason {
    pub(super) fn new(code: u8) -> Self {
        Self { code, text: String::new() }
    }

    /// What 3.1.1 answers to a CONNECT, as a code of 5.0.
    pub(super) fn of_connack_311(code: u8) -> Self {
        Self::new(match code {
            1 => UNSUPPORTED_VERSION,
            2 => 0x85,
            3 => 0x88,
            4 => 0x86,
            5 => 0x87,
            other => other,
        })
    }

    /// With the broker's own words, as far as they are short.
    pub(super) fn saying(self, text: &str) -> Self {
        let text = text.chars().filter(|c| !c.is_control()).take(200).collect();
        Self { text, ..self }
    }

    /// From 0x80 on a code is a refusal.
    pub(super) fn refusal(self) -> Option<Self> {
        (self.code >= 0x80).then_some(self)
    }

    /// The code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Its name in the standard, in small letters.
    pub fn name(&self) -> &'static str {
        match self.code {
            0x00 => "normal disconnection",
            0x04 => "disconnect with will message",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            UNSUPPORTED_VERSION => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8a => "banned",
            0x8b => "server shutting down",
            0x8c => "bad authentication method",
            0x8d => "keep alive timeout",
            SESSION_TAKEN_OVER => "session taken over",
            0x8f => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9a => "retain not supported",
            0x9b => "QoS not supported",
            0x9c => "use another server",
            0x9d => "server moved",
            0x9f => "connection rate exceeded",
            0xa1 => "subscription identifiers not supported",
            0xa2 => "wildcard subscriptions not supported",
            _ => "unknown reason",
        }
    }

    /// What would be right, where it can be said.
    fn advice(&self) -> &'static str {
        match self.code {
            UNSUPPORTED_VERSION => "; expected `broker.version: v3.1.1`, or `auto`",
            0x85 => {
                "; expected a broker that takes client ids of this length (`site` and `worker` are part of it)"
            }
            0x86 => "; expected the right `broker.credentials`",
            0x87 => "; expected `broker.credentials` (or a certificate) that the broker's access list knows",
            SESSION_TAKEN_OVER => {
                "; another client has the same client id: each worker needs a name of its own"
            }
            0x97 | 0x9f => "; the broker's limit for connections is reached",
            _ => "",
        }
    }

    /// Whether it is about a message: sent again as it is, it would be refused again.
    pub(crate) fn is_of_message(&self) -> bool {
        matches!(self.code, 0x82 | 0x90 | 0x95 | 0x99..=0x9b)
    }

    pub(super) fn is_version(&self) -> bool {
        self.code == UNSUPPORTED_VERSION
    }
}

const UNSUPPORTED_VERSION: u8 = 0x84;
const SESSION_TAKEN_OVER: u8 = 0x8e;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x})", self.name(), self.code)?;
        if !self.text.is_empty() {
            write!(f, " {:?}", self.text)?;
        }
        Ok(())
    }
}

/// No connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name of the host is not known.
    #[error("the host is not known: {0}; expected a name that DNS resolves")]
    Host(io::Error),
    /// Nobody there, or not reachable.
    #[error("{0}")]
    Tcp(io::Error),
    /// It took too long.
    #[error("no answer within {0:?}: unreachable, frozen, or not a broker")]
    Timeout(Duration),
    /// Our own files.
    #[error("broker.tls.{key}: {0}", key = .0.key)]
    Files(#[from] fleet::TlsError),
    /// The system has no authorities.
    #[error("this system trusts no certificate authorities; expected `broker.tls.ca`")]
    NoAuthorities,
    /// The broker's certificate.
    #[error(
        "the broker's certificate expired at {0}; expected a renewed one there (is this machine's clock right?)"
    )]
    Expired(String),
    /// The broker's certificate.
    #[error(
        "the broker's certificate is not valid before {0}; expected one that is (is this machine's clock right?)"
    )]
    NotYetValid(String),
    /// The broker's certificate.
    #[error(
        "the broker's certificate is for {presented}, not for {expected}; expected an address with its name, or that name as `broker.tls.name`"
    )]
    WrongName {
        /// The names it holds.
        presented: String,
        /// What was looked for.
        expected: String,
    },
    /// The broker's certificate.
    #[error("the broker's certificate was issued by nobody in {}; expected its authority's certificate there", authorities(.0))]
    UnknownIssuer(Option<PathBuf>),
    /// The broker's certificate.
    #[error("the broker's certificate cannot be believed: {0}")]
    Certificate(String),
    /// The broker asks for a certificate.
    #[error(
        "the broker asks for a client certificate; expected `broker.tls.certificate` and `broker.tls.key`"
    )]
    NoClientCertificate,
    /// The broker does not take ours.
    #[error(
        "the broker refuses our certificate ({0}); expected one in `broker.tls.certificate` that it trusts"
    )]
    ClientCertificate(String),
    /// TLS to a port without.
    #[error(
        "there is no TLS at this port; expected the broker's TLS port (8883 by custom), or mqtt:// in the address"
    )]
    NoTls,
    /// A port with TLS, without.
    #[error(
        "this port speaks TLS; expected mqtts:// in the address, or the broker's plain port (1883 by custom)"
    )]
    IsTls,
    /// Something else between two TLS stacks.
    #[error("TLS: {0}")]
    Tls(String),
    /// The broker said no.
    #[error("the broker refuses the connection: {0}{advice}", advice = .0.advice())]
    Refused(Reason),
    /// It hung up before it answered.
    #[error(
        "closed before an answer; expected an MQTT broker, without TLS where the address begins with mqtt://"
    )]
    Unanswered,
    /// It answered something else.
    #[error("what answers is no MQTT broker: {0}")]
    NotMqtt(Malformed),
}

fn authorities(ca: &Option<PathBuf>) -> String {
    match ca {
        Some(path) => format!("broker.tls.ca ({})", path.display()),
        None => "this system's list (there is no broker.tls.ca)".to_owned(),
    }
}

/// A connection that stood is gone.
#[derive(Debug, thiserror::Error)]
pub enum LostError {
    /// The other side closed it without a word.
    #[error("the broker closed the connection")]
    Closed,
    /// The other side said why.
    #[error("the broker closed the connection: {0}{advice}", advice = .0.advice())]
    Disconnected(Reason),
    /// Nothing came any more: a cut line, or a broker that hangs.
    #[error("the broker has been silent for {0:?}, though asked for a sign of life")]
    Silent(Duration),
    /// The socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is no MQTT.
    #[error("the broker sent what is no MQTT: {0}")]
    Malformed(#[from] Malformed),
}

/// What failed while TLS was agreed on, or before the broker's first word. `asked`: it asked for our certificate;
/// `own`: there is one.
pub(super) fn of_tls(error: &io::Error, ca: Option<&PathBuf>, asked: bool, own: bool) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => of_certificate(why, ca),
        Some(rustls::Error::AlertReceived(alert)) => of_alert(*alert, asked, own),
        Some(rustls::Error::InvalidMessage(_)) => ConnectError::NoTls,
        Some(why) => ConnectError::Tls(why.to_string()),
        None if asked && !own => ConnectError::NoClientCertificate,
        None if asked => ConnectError::ClientCertificate("it closed the connection".to_owned()),
        // A broker without TLS hangs up on what it takes for nonsense.
        None => ConnectError::NoTls,
    }
}

fn of_certificate(why: &CertificateError, ca: Option<&PathBuf>) -> ConnectError {
    match why {
        CertificateError::ExpiredContext { not_after, .. } => ConnectError::Expired(date(not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            ConnectError::NotYetValid(date(not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => ConnectError::WrongName {
            presented: if presented.is_empty() { "no name".to_owned() } else { names(presented) },
            expected: expected.to_str().into_owned(),
        },
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            ConnectError::UnknownIssuer(ca.cloned())
        }
        other => ConnectError::Certificate(other.to_string()),
    }
}

/// `DnsName("a.example")` is what webpki makes of a name.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inner.trim_matches('"').chars().filter(|c| !c.is_control()).take(100).collect()
    };
    presented.iter().take(10).map(bare).collect::<Vec<String>>().join(", ")
}

fn of_alert(alert: AlertDescription, asked: bool, own: bool) -> ConnectError {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired | A::HandshakeFailure | A::BadCertificate if asked && !own => {
            ConnectError::NoClientCertificate
        }
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied
        | A::DecryptError
            if asked =>
        {
            ConnectError::ClientCertificate(format!("{alert:?}"))
        }
        A::ProtocolVersion => {
            ConnectError::Tls("the broker speaks only an old version; expected 1.2 or 1.3".to_owned())
        }
        other => ConnectError::Tls(format!("the broker broke off: {other:?}")),
    }
}

fn date(time: &UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map_or_else(|_| format!("{seconds} s after 1970"), |time| time.to_string())
}
