//! Where a session's packets come from. Whatever receives them, [`Receiver`](crate::session) sees the same.
//!
//! To add a way: a module with `open` and a type with the methods of [`Source`], a variant here, and its place in
//! [`Route`].

mod hoard;
pub(crate) mod retina;
pub(crate) mod rtspsrc;

use std::time::Duration;

use fleet::{Camera, Look, Sampling, Transport};
use flow::{Codec, Via};

use crate::error::SessionError;
use crate::lean;
use crate::picture::{Arrival, Packet};
use crate::sdp;
use crate::session::{Context, End};

/// The video of a session, as its description says.
#[derive(Debug)]
pub(crate) struct Video {
    pub codec: Codec,
    /// RTP ticks per second. > 0.
    pub clock_rate: u32,
    /// NAL units out of the description; what cannot be read there may come in the stream.
    pub parameter_sets: Vec<Vec<u8>>,
    /// What else the description says about the payloads.
    pub format: sdp::Format,
    /// The session description itself, for a probe.
    pub description: Box<[u8]>,
    /// After how long without a sign of life the camera gives a session up (RFC 2326 12.37), where it is known.
    pub session_timeout: Option<std::time::Duration>,
}

/// Something that came.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A packet of the video, in order of its sequence number.
    Packet(Packet<'a>),
    /// What a sender report says about the camera's clock (RFC 3550 6.4.1).
    Clock(SenderClock),
}

/// The two clocks of a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SenderClock {
    /// Wall clock of the camera: seconds since 1900 in the upper 32 bits, fractions of 2⁻³² s in the lower.
    pub ntp: u64,
    /// The same instant as RTP time, extended like [`Packet::ticks`].
    pub ticks: i64,
    pub arrival: Arrival,
}

/// A session that plays.
pub(crate) enum Source {
    Lean(Box<lean::Playing>),
    Retina(Box<retina::Playing>),
    Rtspsrc(Box<rtspsrc::Playing>),
}

impl SenderClock {
    /// How far the camera's clock is ahead of ours, in seconds; `None`: it says that it has none. Too little by the
    /// time that the report took, also in our own receive buffer.
    pub(crate) fn offset_s(&self) -> Option<f64> {
        /// Seconds from 1900 to 1970.
        const UNIX: f64 = 2_208_988_800.0;
        let camera = self.ntp as f64 / f64::from(2.0_f32.powi(32)) - UNIX;
        let ours = self.arrival.wall.as_microsecond() as f64 / 1e6;
        (self.ntp != 0).then_some(camera - ours)
    }
}

impl Source {
    /// Waits until there is something to take, or the session is over. Cancel safe.
    pub(crate) async fn ready(&mut self) -> Result<(), SessionError> {
        match self {
            Self::Lean(playing) => playing.ready().await,
            Self::Retina(playing) => playing.ready().await,
            Self::Rtspsrc(playing) => playing.ready().await,
        }
    }

    /// Hands over what is there without waiting, a bounded amount of it, so that other cameras get their turn.
    pub(crate) fn take(
        &mut self,
        to: &mut impl FnMut(Event<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        match self {
            Self::Lean(playing) => playing.take(to),
            Self::Retina(playing) => playing.take(to),
            Self::Rtspsrc(playing) => playing.take(to),
        }
    }

    /// Says goodbye, as far as the camera still listens.
    pub(crate) async fn close(self, context: &Context<'_>) {
        match self {
            Self::Lean(playing) => {
                if tokio::time::timeout(context.policy.teardown, playing.close()).await.is_err() {
                    tracing::debug!(camera = %context.camera.id, "TEARDOWN takes too long");
                }
            }
            Self::Retina(playing) => playing.close(context).await,
            Self::Rtspsrc(playing) => playing.close(context.policy.teardown).await,
        }
    }

    /// How long packets may wait before they are handed on; see [`allowed_latency`].
    pub(crate) fn set_latency(&mut self, latency: Duration) {
        if let Self::Lean(playing) = self {
            playing.set_latency(latency);
        }
    }

    /// Bytes so far that were neither RTSP nor RTP, where they do not end the session.
    pub(crate) fn garbage(&self) -> u64 {
        match self {
            Self::Lean(playing) => playing.garbage(),
            Self::Retina(_) | Self::Rtspsrc(_) => 0,
        }
    }
}

/// Opens a session: DESCRIBE, SETUP, PLAY.
pub(crate) async fn open(context: &Context<'_>, via: Via) -> Result<(Video, Source), End> {
    match via {
        Via::Lean => {
            let (video, playing) = lean::open(context, allowed_latency(&context.camera.look, None)).await?;
            Ok((video, Source::Lean(Box::new(playing))))
        }
        Via::Retina => {
            let (video, playing) = retina::open(context).await?;
            Ok((video, Source::Retina(Box::new(playing))))
        }
        Via::Rtspsrc => {
            let (video, playing) = rtspsrc::open(context).await?;
            Ok((video, Source::Rtspsrc(Box::new(playing))))
        }
    }
}

/// Which way a camera is received. The next one is tried when one meets what it does not speak, and the one that
/// works is kept.
#[derive(Debug)]
pub(crate) struct Route {
    ways: &'static [Via],
    at: usize,
    /// Failures in a row that may make another way the better one, since the present way brought pictures; `None`: it
    /// never did.
    doubts: Option<u32>,
    /// Something since the first way was tried said that others may not speak what the camera does.
    unsupported: bool,
}

/// A camera that was understood before may garble one answer; it does not speak otherwise for that.
const DOUBTS: u32 = 3;

impl Route {
    pub(crate) fn new(camera: &Camera) -> Self {
        let ways: &[Via] = match camera.transport {
            // Nobody else speaks TLS.
            _ if camera.url.scheme() == "rtsps" => &[Via::Rtspsrc],
            Transport::Tcp => &[Via::Lean, Via::Retina, Via::Rtspsrc],
            Transport::Udp => &[Via::Retina, Via::Rtspsrc],
        };
        Self { ways, at: 0, doubts: None, unsupported: false }
    }

    pub(crate) fn via(&self) -> Via {
        self.ways[self.at]
    }

    /// The present way brought pictures.
    pub(crate) fn works(&mut self) {
        self.doubts = Some(0);
    }

    /// A session ended. `true`: the next one goes another way, so it may start at once.
    pub(crate) fn failed(&mut self, error: &SessionError) -> bool {
        if !error.may_work_another_way() {
            return false;
        }
        if let Some(doubts) = &mut self.doubts
            && *doubts + 1 < DOUBTS
        {
            *doubts += 1;
            return false;
        }
        self.doubts = None;
        self.at = (self.at + 1) % self.ways.len();
        self.unsupported |= error.is_unsupported();
        // It costs threads, so it is for what only it may speak.
        if self.via() == Via::Rtspsrc && !self.unsupported {
            self.at = 0;
        }
        self.unsupported &= self.at > 0;
        self.at > 0
    }
}

/// How long packets may wait in the kernel: a quarter of the time from one look to the next, so that a wake-up serves
/// as many packets as it can and nobody notices. `key_interval`: as measured, once it was.
pub(crate) fn allowed_latency(look: &Look, key_interval: Option<Duration>) -> Duration {
    let (between, shortest, longest) = match look.sampling {
        Sampling::Keyframes => (look.at_most_every.max(key_interval.unwrap_or_default()), 50, 500),
        Sampling::Fps(fps) => (Duration::try_from_secs_f32(1.0 / fps).unwrap_or(Duration::ZERO), 10, 100),
    };
    (between / 4).clamp(Duration::from_millis(shortest), Duration::from_millis(longest))
}

/// The first video that can be decoded, of (media, encoding name) pairs in lower case.
pub(crate) fn choose_video<'a>(
    offers: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(usize, Codec), SessionError> {
    let codec = |offer| match offer {
        ("video", "h264") => Some(Codec::H264),
        ("video", "h265") => Some(Codec::H265),
        ("video", "jpeg") => Some(Codec::Mjpeg),
        _ => None,
    };
    let mut numbered = offers.clone().enumerate();
    numbered.find_map(|(i, offer)| Some((i, codec(offer)?))).ok_or_else(|| {
        let names = offers.map(|(media, encoding)| format!("{media}/{encoding}"));
        let mut offers = names.take(8).collect::<Vec<_>>().join(", ");
        if offers.is_empty() {
            offers.push_str("nothing");
        }
        SessionError::NoVideo { offers: offers.chars().take(200).collect() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_worked_is_left_after_three_doubts_in_a_row_and_one_that_never_did_at_once() {
        let strange = || SessionError::NoVideo { offers: "nothing".into() };
        let mut route = Route::new(&crate::testing::camera("c", "rtsp://192.0.2.1/"));
        assert!(route.failed(&strange()));
        assert_eq!(route.via(), Via::Retina);
        route.works();
        assert!(
            !route.failed(&strange()) && !route.failed(&SessionError::Closed) && !route.failed(&strange())
        );
        route.works();
        assert!(!route.failed(&strange()) && !route.failed(&strange()));
        assert_eq!(route.via(), Via::Retina, "it worked in between");
        route.failed(&strange());
        assert_ne!(route.via(), Via::Retina);
    }

    #[test]
    fn gstreamer_receives_what_nobody_else_speaks() {
        let nothing = || SessionError::NoVideo { offers: "nothing".into() };
        let mut route = Route::new(&crate::testing::camera("c", "rtsp://192.0.2.1/"));
        assert!(route.failed(&SessionError::ClockRate) && route.failed(&SessionError::ClockRate));
        assert_eq!(route.via(), Via::Rtspsrc);
        assert!(!route.failed(&SessionError::ClockRate), "all were tried: wait, then begin anew");
        assert_eq!(route.via(), Via::Lean);
        assert!(route.failed(&nothing()) && !route.failed(&nothing()), "it would find no more to decode");
        assert_eq!(route.via(), Via::Lean);

        let mut route = Route::new(&crate::testing::camera("c", "rtsps://192.0.2.1/"));
        assert_eq!(route.via(), Via::Rtspsrc);
        assert!(!route.failed(&SessionError::ClockRate));
        assert_eq!(route.via(), Via::Rtspsrc);
    }
}
