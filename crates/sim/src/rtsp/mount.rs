//! What is served under a path, how, and what goes wrong on purpose.

use std::sync::Arc;
use std::time::Duration;

use fleet::Credentials;

use crate::Clip;

/// What is served under a path.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The pictures.
    pub clip: Arc<Clip>,
    /// Where in the clip a session begins.
    pub start: Start,
    /// Who may watch; `None`: anybody.
    pub auth: Option<Auth>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// How often the clip is played before the server says BYE and closes; `None`: for ever. With [`Start::Live`]
    /// the round under way at PLAY counts as the first.
    pub rounds: Option<u32>,
}

impl Mount {
    /// Plays `clip` for ever, from its first picture, to anybody, without faults.
    pub fn new(clip: Arc<Clip>) -> Self {
        Self { clip, start: Start::OnPlay, auth: None, faults: Vec::new(), rounds: None }
    }

    /// The same with another start.
    pub fn starting(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// The same for those who know the password.
    pub fn guarded(self, auth: Auth) -> Self {
        Self { auth: Some(auth), ..self }
    }

    /// The same with one more fault.
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// The same, ending after `rounds`.
    pub fn rounds(self, rounds: u32) -> Self {
        Self { rounds: Some(rounds), ..self }
    }
}

/// Where in the clip a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Each session plays from the first picture, from its PLAY on.
    OnPlay,
    /// All sessions of all mounts share one running position, counted from the start of the server, so that cameras
    /// with different offsets can share one clip. A session gets its first picture at the next key picture.
    Live {
        /// Added to the running position.
        offset: Duration,
    },
}

/// Who may watch.
#[derive(Debug, Clone)]
pub struct Auth {
    /// How the password is proved.
    pub scheme: Scheme,
    /// What is expected.
    pub credentials: Credentials,
}

/// How a password is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 7617: the password itself, in base64.
    Basic,
    /// RFC 2069/2617 without `qop`, as cameras have it: MD5 over a nonce.
    Digest {
        /// An older nonce is answered with 401 and `stale=true`. At least 1 s.
        nonce_lifetime: Duration,
    },
}

/// Something that goes wrong on purpose. Times count from PLAY.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is reset as soon as a request names the path. (Nothing listens: use an address without server.)
    RefuseConnection,
    /// Every request that names the path gets this status, for example 404 or 503.
    Answer(u16),
    /// The request is never answered, nor is anything after it.
    Hang(Step),
    /// DESCRIBE is answered with bytes that are no SDP.
    GarbageSdp,
    /// The right password is refused, always.
    WrongPassword,
    /// The session stays, requests are answered, but no more media come.
    SilentAfter(Duration),
    /// Random bytes come instead of media.
    GarbageAfter(Duration),
    /// The TCP connection is reset.
    CutAfter(Duration),
    /// This share of the packets is lost; sequence numbers tell.
    LosePackets {
        /// 0.0 to 1.0.
        share: f64,
        /// The same seed loses the same packets in every session.
        seed: u64,
    },
    /// At the first key picture after this time the stream goes on with another clip, without new SDP; timestamps
    /// and sequence numbers continue.
    SwitchClip {
        /// When.
        after: Duration,
        /// To what.
        to: Arc<Clip>,
    },
    /// Bytes of every so-many-th picture are flipped, except in its parameter sets.
    CorruptPicture {
        /// 1: every picture.
        every: u32,
    },
    /// The marker bit, which ends a picture, is never set.
    NoMarker,
    /// RTP timestamps jump.
    TimestampJump {
        /// When.
        after: Duration,
        /// By how much, at 90 kHz.
        ticks: i32,
    },
}

/// A request that can hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// OPTIONS.
    Options,
    /// DESCRIBE.
    Describe,
    /// SETUP.
    Setup,
    /// PLAY.
    Play,
}

/// Why a path cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The path would not survive in a URL.
    #[error("mount {path:?}: expected letters, digits and any of '/._~-', for example \"street/cam-0001\"")]
    Path {
        /// The path.
        path: String,
    },
    /// No client could start to decode.
    #[error("mount {path:?}: the clip is empty or does not start with a key picture with its parameter sets")]
    Clip {
        /// The path.
        path: String,
    },
}
