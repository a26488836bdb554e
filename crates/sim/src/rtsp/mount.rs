//! What is served under a path, how, and what goes wrong on purpose.

use std::sync::Arc;
use std::time::Duration;

use fleet::Credentials;

use super::fault::Fault;
use super::random::RandomFaults;
use crate::Clip;

/// What is served under a path.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The pictures.
    pub clip: Arc<Clip>,
    /// What is offered beside the video.
    pub tracks: Vec<Track>,
    /// Where in the clip a session begins.
    pub start: Start,
    /// Who may watch; `None`: anybody.
    pub auth: Option<Auth>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What goes wrong as well, drawn anew for each connection.
    pub random: Option<RandomFaults>,
    /// How often the clip is played before the server says BYE and closes; `None`: for ever. With [`Start::Live`]
    /// the round under way at PLAY counts as the first.
    pub rounds: Option<u32>,
}

impl Mount {
    /// Plays `clip` for ever, from its first picture, to anybody, without faults.
    pub fn new(clip: Arc<Clip>) -> Self {
        Self {
            clip,
            tracks: Vec::new(),
            start: Start::OnPlay,
            auth: None,
            faults: Vec::new(),
            random: None,
            rounds: None,
        }
    }

    /// The same with one more track beside the video.
    pub fn with_track(mut self, track: Track) -> Self {
        self.tracks.push(track);
        self
    }

    /// The same with faults that are drawn anew for each connection.
    pub fn with_random_faults(self, random: RandomFaults) -> Self {
        Self { random: Some(random), ..self }
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

/// What cameras offer beside the video. It is sent to clients that set it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// G.711 μ-law (RFC 3551 section 4.5.14) at 8 kHz, 20 ms per packet. Listed after the video.
    Audio,
    /// ONVIF metadata: an XML document per second, no clock worth mentioning. Listed before the video.
    Metadata,
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
    /// Like `Live`, but without waiting for a key picture: as cameras do that send what the encoder gives just now.
    Anywhere {
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
    /// RFC 7616 with SHA-256 and `qop="auth"`. An answer without `qop` is taken as well.
    Sha256 {
        /// As for `Digest`.
        nonce_lifetime: Duration,
    },
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
