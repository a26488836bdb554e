//! Why a session ended, and what that says about the camera.

use std::fmt;
use std::time::Duration;

use flow::CameraState;

use crate::lean::Fault;
use crate::picture::{Damage, TooLarge};
use crate::source::rtspsrc::{Failure, Kind};

/// Reasons are for people and for logs: longer ones are cut.
const MAX_REASON_CHARS: usize = 500;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Describe,
    Setup,
    Play,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Describe => "DESCRIBE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
        })
    }
}

/// Why a session ended. The messages leave out which camera and host: [`reason`] adds them once.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("nobody answers: no connection within {limit:?}")]
    Unreachable { limit: Duration },
    #[error("the connection stands, but {step} was not answered within {limit:?}")]
    Silent { step: Step, limit: Duration },
    #[error("the answer to {step} does not end")]
    Endless { step: Step },
    #[error("{step} failed")]
    Request { step: Step, source: retina::Error },
    #[error("{step} failed")]
    Asked { step: Step, source: Fault },
    #[error("offers no H.264, H.265 or JPEG video, but {offers}")]
    NoVideo { offers: String },
    #[error("the video's RTP clock rate is 0; expected 90000")]
    ClockRate,
    #[error("no picture came within {limit:?}{}", if *.udp { " (over UDP: is there a firewall in between?)" } else { "" })]
    NoPicture { limit: Duration, udp: bool },
    #[error("no picture came within {limit:?}, but {bytes} bytes that are neither RTSP nor RTP")]
    OnlyGarbage { limit: Duration, bytes: u64 },
    #[error("no whole picture came within {limit:?}; {damaged} arrived damaged, the last because")]
    OnlyDamaged { limit: Duration, damaged: u64, source: Damage },
    #[error("{0} key pictures came in a row, and no parameter sets (SPS, PPS) to decode them with")]
    NoParameters(u32),
    #[error("sends more than the program takes")]
    TooLarge(#[from] TooLarge),
    #[error("the stream broke off")]
    Stream(#[source] retina::Error),
    #[error("the camera closed the connection")]
    Closed,
    #[error("the stream ended")]
    Ended(#[from] Fault),
    #[error("GStreamer's rtspsrc gives up")]
    Rtspsrc(#[source] Failure),
    #[error("the RTSP library panicked: {0}")]
    Panicked(String),
}

impl SessionError {
    /// The log-in was refused.
    pub(crate) fn is_auth(&self) -> bool {
        self.status() == Some(401)
    }

    /// The RTSP status with which the camera said no.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => source.status_code(),
            Self::Asked { source, .. } => source.status(),
            Self::Rtspsrc(Failure { kind: Kind::NotAuthorized, .. }) => Some(401),
            Self::Rtspsrc(Failure { kind: Kind::NotFound, .. }) => Some(404),
            Self::Rtspsrc(Failure { kind: Kind::Transport, .. }) => Some(461),
            _ => None,
        }
    }

    /// Nobody was met who speaks RTSP: what is wrong may be the host's, not the camera's.
    pub(crate) fn nobody_answered(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { step: Step::Describe, .. } => true,
            Self::Request { step: Step::Describe, source } => source.status_code().is_none(),
            Self::Asked { step: Step::Describe, source } => source.is_nobody(),
            Self::Rtspsrc(failure) => failure.kind == Kind::NoConnection,
            _ => false,
        }
    }

    /// It was not understood what the camera says; who speaks otherwise may be luckier.
    pub(crate) fn may_work_another_way(&self) -> bool {
        match self {
            Self::NoVideo { .. } | Self::ClockRate | Self::Panicked(_) => true,
            _ if self.status() == Some(461) => true,
            Self::Rtspsrc(failure) => failure.kind == Kind::Other,
            Self::Request { source, .. } => match source.status_code() {
                Some(status) => (200..300).contains(&status),
                None => !is_connect_error(source),
            },
            Self::Asked { source, .. } => source.is_unspoken(),
            _ => false,
        }
    }

    /// The camera speaks RTSP, but not as it is understood here, or not over the transport that was asked for.
    pub(crate) fn is_unsupported(&self) -> bool {
        match self {
            Self::ClockRate | Self::Panicked(_) => true,
            _ if self.status() == Some(461) => true,
            // A description without video, or garbage, is no better for being read by another program.
            Self::Request { step, source } => {
                *step != Step::Describe && matches!(source.status_code(), Some(200..300))
            }
            Self::Asked { source, .. } => {
                matches!(source, Fault::Challenge(_) | Fault::Malformed(_) | Fault::Transport(_))
            }
            _ => false,
        }
    }

    /// What the camera's health is to say. The texts are the same each time, so that a repeated failure is no change.
    pub(crate) fn state(&self) -> CameraState {
        let broken = |text: &str| CameraState::Broken(text.to_owned());
        match self {
            Self::Unreachable { .. } => CameraState::Refused,
            Self::Silent { step, .. } => CameraState::Broken(format!("does not answer {step}")),
            Self::Request { step, source } => match source.status_code() {
                Some(401) => CameraState::AuthFailed,
                Some(461) => CameraState::Unsupported("refuses the transport (RTSP status 461)".to_owned()),
                Some(status) if !(200..300).contains(&status) => CameraState::Refused,
                Some(_) => CameraState::Broken(format!("its answer to {step} cannot be used")),
                None if is_connect_error(source) => CameraState::Refused,
                None => CameraState::Broken(format!("does not speak RTSP at {step}")),
            },
            Self::Asked { step, source } => match source {
                _ if source.status() == Some(401) => CameraState::AuthFailed,
                _ if source.status() == Some(461) => {
                    CameraState::Unsupported("refuses the transport (RTSP status 461)".to_owned())
                }
                Fault::Status { .. } | Fault::Connect(_) | Fault::Resolve(_) => CameraState::Refused,
                Fault::LongHead | Fault::LongBody(_) | Fault::Drowned(_) => {
                    CameraState::Broken(format!("answers {step} with more than the program takes"))
                }
                Fault::BadRedirect(_) | Fault::Redirects(_) => broken("redirects to where no stream is"),
                Fault::Description(_) | Fault::Transport(_) => {
                    CameraState::Broken(format!("its answer to {step} cannot be used"))
                }
                _ => CameraState::Broken(format!("does not speak RTSP at {step}")),
            },
            Self::NoVideo { offers } => {
                CameraState::Unsupported(format!("offers no H.264, H.265 or JPEG video, but {offers}"))
            }
            Self::ClockRate => CameraState::Unsupported("RTP clock rate 0".to_owned()),
            Self::Endless { step } => CameraState::Broken(format!("its answer to {step} does not end")),
            Self::NoPicture { .. } => CameraState::NoData,
            Self::OnlyDamaged { .. } => broken("sends no whole picture"),
            Self::NoParameters(_) => broken("sends no parameter sets"),
            Self::TooLarge(_) => broken("sends too large a picture"),
            Self::Stream(_) => broken("breaks off, or sends what is not RTSP or RTP"),
            Self::Closed | Self::Ended(Fault::Closed | Fault::Goodbye(_)) => broken("closes the connection"),
            Self::Ended(_) | Self::OnlyGarbage { .. } => {
                broken("breaks off, or sends what is not RTSP or RTP")
            }
            Self::Rtspsrc(failure) => match failure.kind {
                Kind::NotAuthorized => CameraState::AuthFailed,
                Kind::NoConnection | Kind::NotFound => CameraState::Refused,
                Kind::Transport => {
                    CameraState::Unsupported("refuses the transport (RTSP status 461)".to_owned())
                }
                Kind::Missing | Kind::Full => CameraState::Unsupported(failure.text.clone()),
                Kind::Other => broken("is not understood by GStreamer's rtspsrc either"),
            },
            Self::Panicked(_) => broken("makes the RTSP library panic"),
        }
    }
}

/// retina keeps the kind of its errors to itself; what it prints is all there is to go by. A test holds this.
fn is_connect_error(error: &retina::Error) -> bool {
    error.to_string().starts_with("Unable to connect to RTSP server")
}

/// The whole chain of causes on one line, each once, without control characters, cut at some hundred characters.
pub(crate) fn reason(camera: &fleet::Camera, error: &SessionError) -> String {
    let host = camera.url.host_str().unwrap_or("?");
    let port = camera.url.port().unwrap_or(554);
    let mut text = format!("camera {} at {host}:{port}: {error}", camera.id);
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    // retina prints what it received; that is whatever the camera likes.
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_REASON_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_what_needs_no_network() {
        let limit = Duration::from_secs(15);
        assert_eq!(SessionError::NoPicture { limit, udp: true }.state(), CameraState::NoData);
        assert_eq!(SessionError::Unreachable { limit }.state(), CameraState::Refused);
        assert_eq!(SessionError::Silent { step: Step::Setup, limit }.state().name(), "broken");
        let codec = SessionError::NoVideo { offers: "video/jpeg".to_owned() };
        assert_eq!(codec.state().name(), "unsupported");
        assert!(codec.to_string().contains("video/jpeg"));
    }

    #[test]
    fn a_reason_names_the_camera_and_every_cause_once() {
        let camera = crate::testing::camera("gate-7", "rtsp://10.0.0.7/live");
        let error = SessionError::OnlyDamaged {
            limit: Duration::from_secs(15),
            damaged: 40,
            source: Damage::Fragments,
        };
        let text = reason(&camera, &error);
        assert!(
            text.starts_with("camera gate-7 at 10.0.0.7:554: no whole picture came within 15s"),
            "{text}"
        );
        assert_eq!(text.matches("fragments of a NAL unit").count(), 1, "{text}");
        let long = SessionError::NoVideo { offers: "x\u{7}\n".repeat(2000) };
        let text = reason(&camera, &long);
        assert!(text.chars().count() <= MAX_REASON_CHARS + 1 && !text.chars().any(char::is_control));
    }
}
