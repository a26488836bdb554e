//! One client: its socket, its timer and what is sent when. What it asks for is handled in `request`.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtsp_types::{Message, ParseError, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::extra::Extra;
use super::host::Presence;
use super::late::Late;
use super::player::{Identity, Picture, Player};
use super::script::Script;
use super::server::{Mounted, Shared};

/// Bytes of one request, or of what a client sends between two wake-ups.
const MAX_INPUT: usize = 16 << 10;
/// What a reply that never ends consists of.
const ENDLESS_HEADER: &[u8] = b"X-Header: 0123456789abcdef0123456789abcdef0123456789abcdef\r\n";

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed it.
    Closed,
    /// All was said and sent.
    Done,
    /// Its mount is gone.
    Unmounted,
    /// Nothing heard for the session timeout.
    TimedOut,
    /// The client takes nothing.
    Stalled,
    /// A fault of the mount: reset.
    Reset,
    /// The socket failed.
    Socket(#[allow(dead_code, reason = "for the log")] std::io::Error),
}

/// How media travel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Delivery {
    /// In the RTSP connection, on these channels.
    Interleaved { rtp: u8, rtcp: u8 },
    /// To these addresses.
    Udp { rtp: SocketAddr, rtcp: SocketAddr },
}

/// Between SETUP and TEARDOWN.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) mounted: Arc<Mounted>,
    pub(super) script: Arc<Script>,
    /// How the video travels; `None`: it is not set up.
    pub(super) delivery: Option<Delivery>,
    pub(super) extras: Vec<Extra>,
    pub(super) identity: Identity,
    pub(super) playing: Option<Playing>,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    shared: Arc<Shared>,
}

impl Session {
    pub(super) fn new(shared: &Arc<Shared>, mounted: Arc<Mounted>, script: Arc<Script>) -> Self {
        shared.counters.sessions.fetch_add(1, Ordering::Relaxed);
        Self {
            id: format!("{:016X}", fastrand::u64(..)),
            gone: Box::pin(mounted.gone.clone().cancelled_owned()),
            mounted,
            script,
            delivery: None,
            extras: Vec::new(),
            identity: Identity::random(),
            playing: None,
            shared: shared.clone(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.counters.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// After PLAY.
pub(super) struct Playing {
    pub(super) player: Player,
    pub(super) next_report: Instant,
    /// A picture of which datagrams are still to be sent, the next of them, and when.
    pub(super) in_flight: Option<(Picture, usize, Instant)>,
    /// Datagrams that are to be late.
    pub(super) late: Late,
}

/// One client.
pub(super) struct Connection<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) presence: Presence,
    pub(super) session: Option<Session>,
    /// What goes wrong here, once a request has named a mount.
    pub(super) drawn: Option<(Arc<Mounted>, Arc<Script>)>,
    /// A fault: nothing is answered any more.
    pub(super) hung: bool,
    /// A fault: header lines follow for ever.
    pub(super) endless: bool,
    /// A fault: replies that go out byte by byte, and when the next one does.
    pub(super) drip: VecDeque<u8>,
    pub(super) next_drip: Instant,
    /// Close when everything is written.
    pub(super) closing: bool,
    input: Vec<u8>,
    /// What the socket did not take yet, from `written` on: the rest of one picture and replies.
    pub(super) pending: Vec<u8>,
    written: usize,
    /// When the socket last took something.
    progress: Instant,
    heard: Instant,
}

/// Serves one client until one side ends it.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    presence: Presence,
) -> End {
    if let Err(error) = stream.set_nodelay(true) {
        return End::Socket(error);
    }
    let now = Instant::now();
    let mut connection = Connection {
        shared,
        stream,
        peer,
        presence,
        session: None,
        drawn: None,
        hung: false,
        endless: false,
        drip: VecDeque::new(),
        next_drip: now,
        closing: false,
        input: Vec::new(),
        pending: Vec::new(),
        written: 0,
        progress: now,
        heard: now,
    };
    let end = connection.run().await;
    match end {
        // Closing with a linger time of zero sends RST. If it cannot be set, the client sees an ordinary end.
        End::Reset => drop(connection.stream.set_zero_linger()),
        _ => drop(connection.stream.shutdown().await),
    }
    end
}

async fn gone(session: &mut Option<Session>) {
    match session {
        Some(session) => session.gone.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Connection<'_> {
    async fn run(&mut self) -> End {
        let mut timer = pin!(sleep_until(self.deadline()));
        let cut = self.presence.cut.clone();
        let mut cut = pin!(cut.cancelled());
        loop {
            if self.closing && self.pending.is_empty() && self.drip.is_empty() {
                return End::Done;
            }
            let deadline = self.deadline();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            // While the client takes nothing its requests wait as well, so that replies cannot pile up.
            let writing = !self.pending.is_empty();
            let step = tokio::select! {
                () = &mut cut => Err(End::Reset),
                () = gone(&mut self.session) => Err(End::Unmounted),
                ready = self.stream.writable(), if writing => ready.map_err(End::Socket).and_then(|()| self.flush()),
                ready = self.stream.readable(), if !writing => ready.map_err(End::Socket).and_then(|()| self.read()),
                () = timer.as_mut() => self.on_time(Instant::now()),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// When there is something to do, if the socket is quiet until then.
    fn deadline(&self) -> Instant {
        let mut next = self.heard + self.shared.options.session_timeout;
        if !self.pending.is_empty() {
            next = next.min(self.progress + self.shared.options.stall_timeout);
        }
        if !self.drip.is_empty() {
            return next.min(self.next_drip);
        }
        let Some(session) = &self.session else { return next };
        let Some(playing) = &session.playing else { return next };
        let picture = match &playing.in_flight {
            Some((_, _, resume)) => Some(*resume),
            None => playing.player.due(),
        };
        let picture = picture.filter(|_| session.delivery.is_some());
        let end = playing.player.end().filter(|_| !self.closing);
        let extras = session.extras.iter().filter_map(Extra::due);
        [picture, end, playing.player.cut(), Some(playing.next_report)]
            .into_iter()
            .flatten()
            .chain(extras)
            .fold(next, Instant::min)
    }

    fn read(&mut self) -> Result<(), End> {
        let room = MAX_INPUT.saturating_sub(self.input.len());
        let mut buffer = [0; 4 << 10];
        let size = room.min(buffer.len());
        match self.stream.try_read(&mut buffer[..size]) {
            Ok(0) => return Err(End::Closed),
            Ok(size) => self.input.extend_from_slice(&buffer[..size]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(End::Socket(error)),
        }
        if self.hears_everything() {
            self.heard = Instant::now();
        }
        let input = std::mem::take(&mut self.input);
        let used = self.understand(&input)?;
        if self.closing || self.hung {
            return Ok(());
        }
        self.input.extend_from_slice(&input[used..]);
        if self.input.len() >= MAX_INPUT {
            tracing::debug!(peer = %self.peer, limit = MAX_INPUT, "RTSP request too long");
            self.refuse(StatusCode::RequestMessageBodyTooLarge)?;
        }
        Ok(())
    }

    /// Whether any sign of life keeps the session; else only a certain request does, once it plays.
    fn hears_everything(&self) -> bool {
        let playing = self.session.as_ref().filter(|session| session.playing.is_some());
        playing.is_none_or(|session| session.script.keep_alive.is_none())
    }

    /// That request has come.
    pub(super) fn kept_alive(&mut self) {
        self.heard = Instant::now();
    }

    /// Handles the whole messages in `input` and says how many bytes they took.
    fn understand(&mut self, input: &[u8]) -> Result<usize, End> {
        let mut used = 0;
        while !self.hung && !self.closing && used < input.len() {
            match Message::<Vec<u8>>::parse(&input[used..]) {
                Ok((message, size)) => {
                    used += size;
                    // Interleaved data are the client's RTCP: a sign of life, nothing more.
                    if let Message::Request(request) = message {
                        self.request(&request)?;
                    }
                }
                Err(ParseError::Incomplete(_)) => break,
                Err(ParseError::Error) => {
                    tracing::debug!(peer = %self.peer, "not an RTSP request");
                    self.refuse(StatusCode::BadRequest)?;
                }
            }
        }
        Ok(used)
    }

    /// Sends, or keeps what the socket does not take now.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.pending.is_empty() {
            let taken = self.write(bytes)?;
            self.progress = Instant::now();
            self.pending.extend_from_slice(&bytes[taken..]);
        } else {
            self.pending.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Begins with header lines that never end: as soon as some are written, there are more.
    pub(super) fn start_endless(&mut self) -> Result<(), End> {
        self.pending.extend_from_slice(ENDLESS_HEADER);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        let pending = std::mem::take(&mut self.pending);
        let taken = self.write(&pending[self.written..])?;
        if taken > 0 {
            self.progress = Instant::now();
        }
        self.written += taken;
        if self.written < pending.len() {
            self.pending = pending;
        } else {
            // The memory goes as well: most sessions never need it again.
            self.written = 0;
            if self.endless {
                self.pending = ENDLESS_HEADER.repeat(64);
            }
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, End> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.stream.try_write(&bytes[taken..]) {
                Ok(0) => return Err(End::Closed),
                Ok(size) => taken += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(End::Socket(error)),
            }
        }
        self.shared.counters.bytes.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(taken)
    }

    fn on_time(&mut self, now: Instant) -> Result<(), End> {
        if now >= self.heard + self.shared.options.session_timeout {
            return Err(End::TimedOut);
        }
        if !self.pending.is_empty() && now >= self.progress + self.shared.options.stall_timeout {
            return Err(End::Stalled);
        }
        self.drip_one(now)?;
        if !self.drip.is_empty() {
            // Media would stand in the middle of the reply.
            return Ok(());
        }
        let Some(mut session) = self.session.take() else { return Ok(()) };
        let result = match (&mut session.playing, session.delivery) {
            (Some(playing), Some(delivery)) => self.play(delivery, playing, now),
            _ => Ok(()),
        };
        let result = result.and_then(|()| self.play_extras(&mut session.extras, now));
        self.session = Some(session);
        result
    }

    fn drip_one(&mut self, now: Instant) -> Result<(), End> {
        let Some((_, script)) = self.drawn.as_ref().filter(|_| now >= self.next_drip) else { return Ok(()) };
        let pause = script.drip.unwrap_or_default();
        let Some(byte) = self.drip.pop_front() else { return Ok(()) };
        self.next_drip = now + pause;
        self.send(&[byte])
    }
}
