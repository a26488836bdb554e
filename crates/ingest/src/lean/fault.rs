//! What can go wrong between us and a camera.

use std::io;

use super::message::{MAX_BODY, MAX_HEAD};

/// Redirections that are followed.
pub(crate) const MAX_REDIRECTS: usize = 3;

/// Why a question was not answered, or a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the host's name cannot be resolved")]
    Resolve(#[source] io::Error),
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("the connection broke off")]
    Io(#[source] io::Error),
    #[error("the camera closed the connection")]
    Closed,
    #[error("the camera answers with RTSP status {status} {phrase}")]
    Status { status: u16, phrase: String },
    #[error("the camera wants a log-in (RTSP status 401), and none is configured for it: set `credentials`")]
    NoCredentials,
    #[error(
        "the camera sent us on to another host, {0}, which wants a log-in (RTSP status 401): write that host's URL"
    )]
    LoginElsewhere(String),
    #[error("the camera's request for a log-in (RTSP status 401) cannot be answered: {0}")]
    Challenge(String),
    #[error("header lines of more than {MAX_HEAD} bytes")]
    LongHead,
    #[error("a body of {0} bytes was announced; at most {MAX_BODY} are taken")]
    LongBody(u64),
    #[error("more than {0} bytes came instead of an answer")]
    Drowned(usize),
    #[error("what came is no RTSP message: {0:?}")]
    Malformed(String),
    #[error("{0} bytes came in a row that are neither RTSP nor RTP")]
    Garbage(usize),
    #[error("sends us on to {0:?}, which is no rtsp:// address")]
    BadRedirect(String),
    #[error("sends us on more than {MAX_REDIRECTS} times, last to {0}")]
    Redirects(String),
    #[error("the description cannot be used: {0}")]
    Description(&'static str),
    #[error("the answer to SETUP offers another transport than RTP in the connection: {0:?}")]
    Transport(String),
    #[error("the camera says goodbye ({0})")]
    Goodbye(&'static str),
    #[error("the camera does not read what is asked")]
    Deaf,
}

impl Fault {
    /// The RTSP status that was the answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::NoCredentials | Self::LoginElsewhere(_) | Self::Challenge(_) => Some(401),
            _ => None,
        }
    }

    /// Nobody was met who speaks RTSP.
    pub(crate) fn is_nobody(&self) -> bool {
        matches!(self, Self::Resolve(_) | Self::Connect(_) | Self::Io(_) | Self::Closed)
    }

    /// It was not understood, so that somebody else may understand it.
    pub(crate) fn is_unspoken(&self) -> bool {
        matches!(
            self,
            Self::Challenge(_)
                | Self::Malformed(_)
                | Self::Garbage(_)
                | Self::Description(_)
                | Self::Transport(_)
        )
    }
}

/// The first words of what a camera sent, for people.
pub(crate) fn excerpt(data: &[u8]) -> String {
    String::from_utf8_lossy(&data[..data.len().min(40)]).into_owned()
}
