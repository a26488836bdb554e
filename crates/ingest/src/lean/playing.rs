//! A session that plays: frames to events, keep-alive, and the goodbye.

use std::time::{Duration, Instant};

use flow::Timestamp;

use super::arrival::Estimator;
use super::ask::Asker;
use super::fault::Fault;
use super::framer::{Framer, Piece};
use super::message::{Message, Start};
use super::rtcp::{self, Report};
use super::rtp::{self, Follower, Place};
use super::socket::Socket;
use super::talk::answer_to;
use crate::error::SessionError;
use crate::picture::{Arrival, Packet};
use crate::source::{Event, SenderClock};

/// Packets of the right kind on a channel that was not agreed upon, before it is believed to be meant.
const ELSEWHERE: u32 = 8;

/// What SETUP agreed upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// Channel of RTP.
    pub rtp: u8,
    /// Channel of RTCP.
    pub rtcp: u8,
    pub payload_type: u8,
    /// RTP ticks per second.
    pub clock_rate: u32,
    /// Of the whole session: what keep-alive and TEARDOWN name.
    pub url: String,
    /// After so long without a request the camera may end the session.
    pub timeout: Duration,
    /// Methods that the camera told of so far.
    pub public: Option<String>,
}

/// A session that plays.
#[derive(Debug)]
pub(crate) struct Playing {
    socket: Socket,
    stream: Stream,
}

/// What the bytes mean; apart from where they come from.
#[derive(Debug)]
struct Stream {
    agreed: Agreed,
    asker: Asker,
    framer: Framer,
    follower: Follower,
    arrivals: Estimator,
    /// How long a packet may have waited before it was fetched.
    latency: Duration,
    /// A packet of the agreed payload type came.
    heard: bool,
    elsewhere: u32,
    keep_alive: KeepAlive,
    /// To be written.
    answers: Vec<u8>,
}

#[derive(Debug)]
struct KeepAlive {
    every: Duration,
    next: Instant,
    get_parameter: bool,
    logged_in: bool,
    retried: bool,
}

impl Playing {
    pub(crate) fn new(socket: Socket, agreed: Agreed, asker: Asker) -> Self {
        // Half the time, so that one that gets lost does no harm; servers that promise long often keep less.
        let every = (agreed.timeout / 2).clamp(Duration::from_secs(1), Duration::from_secs(30));
        let get_parameter = agreed.public.as_deref().is_some_and(knows_get_parameter);
        let next = Instant::now() + every;
        let keep_alive = KeepAlive { every, next, get_parameter, logged_in: false, retried: false };
        let stream = Stream {
            arrivals: Estimator::new(agreed.clock_rate, Instant::now()),
            latency: socket.latency(),
            agreed,
            asker,
            framer: Framer::default(),
            follower: Follower::default(),
            heard: false,
            elsewhere: 0,
            keep_alive,
            answers: Vec::new(),
        };
        Self { socket, stream }
    }

    /// How long packets may wait before they are handed on.
    pub(crate) fn set_latency(&mut self, latency: Duration) {
        self.socket.set_latency(latency);
        self.stream.latency = latency;
    }

    /// Bytes so far that were neither RTSP nor RTP.
    pub(crate) fn garbage(&self) -> u64 {
        self.stream.framer.garbage()
    }

    pub(crate) async fn ready(&mut self) -> Result<(), SessionError> {
        self.socket.ready().await.map_err(Fault::Io)?;
        // Not only at a tick: a busy stream may never need one.
        if self.stream.keep_alive.next <= Instant::now() {
            self.stream.keep_alive()?;
            self.send()?;
        }
        Ok(())
    }

    pub(crate) fn take(
        &mut self,
        to: &mut impl FnMut(Event<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let arrival = Arrival { wall: Timestamp::now(), at: Instant::now() };
        let Self { socket, stream } = self;
        let open = socket.turn(|data| {
            let mut at = 0;
            while let Some(piece) = stream.framer.next(data, &mut at)? {
                stream.piece(piece, arrival, to)?;
            }
            Ok::<_, SessionError>(at)
        })?;
        if !open {
            return Err(Fault::Closed.into());
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), SessionError> {
        if self.stream.answers.is_empty() {
            return Ok(());
        }
        let answers = std::mem::take(&mut self.stream.answers);
        if self.socket.write(&answers).map_err(Fault::Io)? { Ok(()) } else { Err(Fault::Deaf.into()) }
    }

    /// TEARDOWN, and until it is answered everything else thrown away: with unread bytes in its buffer the kernel
    /// would reset the connection, and the camera might never read the request.
    pub(crate) async fn close(mut self) {
        let Ok((request, _)) = self.stream.asker.request("TEARDOWN", &self.stream.agreed.url, "") else {
            return;
        };
        if self.socket.write(request.as_bytes()).is_err() {
            return;
        }
        let sequence = self.stream.asker.sequence();
        self.socket.wake_at_once();
        let mut answered = false;
        while !answered && self.socket.ready().await.is_ok() {
            let framer = &mut self.stream.framer;
            let open = self.socket.turn(|data| {
                let mut at = 0;
                while let Some(piece) = framer.next(data, &mut at)? {
                    answered |= matches!(piece, Piece::Message(reply) if reply.sequence() == Some(sequence));
                }
                Ok::<_, Fault>(at)
            });
            if !open.unwrap_or(false) {
                return;
            }
        }
    }
}

impl Stream {
    fn piece(
        &mut self,
        piece: Piece<'_>,
        arrival: Arrival,
        to: &mut impl FnMut(Event<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let (channel, data) = match piece {
            Piece::Frame { channel, data } => (channel, data),
            Piece::Message(message) => return Ok(self.message(&message)?),
        };
        let is_report = channel == self.agreed.rtcp || matches!(data.get(1), Some(200..=207));
        if channel == self.agreed.rtp && !is_report {
            self.rtp(data, arrival, to)
        } else if channel == self.agreed.rtcp || channel == self.agreed.rtp {
            self.rtcp(data, arrival, to)
        } else {
            self.other_channel(channel, data);
            Ok(())
        }
    }

    fn rtp(
        &mut self,
        data: &[u8],
        arrival: Arrival,
        to: &mut impl FnMut(Event<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let Some(header) = rtp::parse(data) else { return Ok(()) };
        let own = header.payload_type == self.agreed.payload_type;
        // Some cameras send another type than they describe; but one that sends both means two things.
        if !own && self.heard && !self.follower.is_following(header.ssrc) {
            return Ok(());
        }
        let place = self.follower.follow(&header);
        let Place::Next { lost, ticks } = place else { return Ok(()) };
        if !own && self.heard {
            return Ok(());
        }
        self.heard |= own;
        let arrival = self.arrivals.arrival(ticks, arrival, self.latency);
        to(Event::Packet(Packet { ticks, mark: header.mark, lost, arrival, payload: header.payload }))
    }

    fn rtcp(
        &mut self,
        data: &[u8],
        arrival: Arrival,
        to: &mut impl FnMut(Event<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        for report in rtcp::parse(data) {
            match report {
                Report::Sender { ssrc, ntp, time } => {
                    if let Some(ticks) = self.follower.extended(ssrc, time) {
                        to(Event::Clock(SenderClock { ntp, ticks, arrival }))?;
                    }
                }
                Report::Bye { ssrc } if self.follower.is_following(ssrc) => {
                    return Err(Fault::Goodbye("RTCP BYE").into());
                }
                Report::Bye { .. } => {}
            }
        }
        Ok(())
    }

    /// Other media that a server sends unasked, the rest of a session of somebody else, or our own on a channel of the
    /// server's liking.
    fn other_channel(&mut self, channel: u8, data: &[u8]) {
        let own = |header: rtp::Header<'_>| header.payload_type == self.agreed.payload_type;
        if self.heard || !channel.is_multiple_of(2) || !rtp::parse(data).is_some_and(own) {
            return;
        }
        self.elsewhere += 1;
        if self.elsewhere >= ELSEWHERE {
            tracing::debug!(
                channel,
                agreed = self.agreed.rtp,
                "the camera uses another channel than it said"
            );
            (self.agreed.rtp, self.agreed.rtcp) = (channel, channel + 1);
        }
    }

    fn keep_alive(&mut self) -> Result<(), Fault> {
        self.keep_alive.next = Instant::now() + self.keep_alive.every;
        self.keep_alive.retried = false;
        self.ask_to_stay()
    }

    /// OPTIONS until the camera has said that it knows GET_PARAMETER (RFC 2326 10.8), which some want to see.
    fn ask_to_stay(&mut self) -> Result<(), Fault> {
        let method = if self.keep_alive.get_parameter { "GET_PARAMETER" } else { "OPTIONS" };
        let (request, logged_in) = self.asker.request(method, &self.agreed.url, "")?;
        self.keep_alive.logged_in = logged_in;
        self.answers.extend_from_slice(request.as_bytes());
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Result<(), Fault> {
        let status = match &message.start {
            Start::Reply { status, .. } => *status,
            Start::Request { method } if method == "TEARDOWN" => return Err(Fault::Goodbye("TEARDOWN")),
            Start::Request { method } if method == "REDIRECT" => return Err(Fault::Goodbye("REDIRECT")),
            Start::Request { method } => {
                self.answers.extend_from_slice(answer_to(method, message).as_bytes());
                return Ok(());
            }
        };
        match status {
            200..300 => {
                self.asker.accepted();
                let knows = message.header("public").is_some_and(knows_get_parameter);
                if knows && !std::mem::replace(&mut self.keep_alive.get_parameter, true) {
                    // OPTIONS may not count, and the next turn would come too late.
                    self.ask_to_stay()?;
                }
            }
            // A nonce became too old; anything else that it may mean, the stream will show.
            401 if !self.keep_alive.retried => {
                self.keep_alive.retried = true;
                if self.asker.challenged(message, self.keep_alive.logged_in).is_ok() {
                    self.ask_to_stay()?;
                }
            }
            454 => return Err(Fault::Goodbye("454 Session Not Found")),
            405 | 501 | 551 => self.keep_alive.get_parameter = false,
            _ => {}
        }
        Ok(())
    }
}

fn knows_get_parameter(public: &str) -> bool {
    public.split(',').any(|method| method.trim().eq_ignore_ascii_case("GET_PARAMETER"))
}
