//! Where a session's packets come from. Whatever receives them, [`Receiver`](crate::session) sees the same.
//!
//! To add a way: a module with `open` and a type with the methods of [`Source`], a variant here, and its place in
//! [`Route`].

pub(crate) mod retina;

use fleet::Transport;
use flow::{Codec, Via};

use crate::error::SessionError;
use crate::picture::{Arrival, Packet};
use crate::session::{Context, End};

/// The video of a session, as its description says.
#[derive(Debug)]
pub(crate) struct Video {
    pub codec: Codec,
    /// RTP ticks per second. > 0.
    pub clock_rate: u32,
    /// NAL units out of the description; what cannot be read there may come in the stream.
    pub parameter_sets: Vec<Vec<u8>>,
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

/// Bytes and packets of the video since the last time they were asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Of RTP, headers included.
    pub bytes: u64,
    pub packets: u64,
    /// Missing, by sequence number.
    pub lost: u64,
}

/// A session that plays.
pub(crate) enum Source {
    Retina(Box<retina::Playing>),
}

impl Source {
    /// Waits until there is something to take, or the session is over. Cancel safe.
    pub(crate) async fn ready(&mut self) -> Result<(), SessionError> {
        match self {
            Self::Retina(playing) => playing.ready().await,
        }
    }

    /// Hands over what is there without waiting, a bounded amount of it, so that other cameras get their turn.
    pub(crate) fn take(
        &mut self,
        to: &mut impl FnMut(Event<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        match self {
            Self::Retina(playing) => playing.take(to),
        }
    }

    /// Says goodbye, as far as the camera still listens.
    pub(crate) async fn close(self, context: &Context<'_>) {
        match self {
            Self::Retina(playing) => playing.close(context).await,
        }
    }
}

/// Opens a session: DESCRIBE, SETUP, PLAY.
pub(crate) async fn open(context: &Context<'_>, via: Via) -> Result<(Video, Source), End> {
    match via {
        Via::Lean | Via::Retina | Via::Rtspsrc => {
            let (video, playing) = retina::open(context).await?;
            Ok((video, Source::Retina(Box::new(playing))))
        }
    }
}

/// Which way a camera is received. The next one is tried when one meets what it does not speak, and the one that
/// works is kept.
#[derive(Debug)]
pub(crate) struct Route {
    ways: &'static [Via],
    at: usize,
}

impl Route {
    pub(crate) fn new(transport: Transport) -> Self {
        let ways: &[Via] = match transport {
            Transport::Tcp => &[Via::Retina],
            Transport::Udp => &[Via::Retina],
        };
        Self { ways, at: 0 }
    }

    pub(crate) fn via(&self) -> Via {
        self.ways[self.at]
    }

    /// A session ended. `true`: the next one goes another way, so it may start at once.
    pub(crate) fn failed(&mut self, error: &SessionError) -> bool {
        if !error.may_work_another_way() {
            return false;
        }
        self.at = (self.at + 1) % self.ways.len();
        self.at > 0
    }
}

/// The first video that can be decoded, of (media, encoding name) pairs in lower case.
pub(crate) fn choose_video<'a>(
    offers: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(usize, Codec), SessionError> {
    let codec = |offer| match offer {
        ("video", "h264") => Some(Codec::H264),
        ("video", "h265") => Some(Codec::H265),
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
