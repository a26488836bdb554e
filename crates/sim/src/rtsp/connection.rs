//! One client: its socket, its timer and what is sent when. What it asks for is handled in `request`.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rtsp_types::{Message, ParseError, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::player::{Identity, Picture, Player};
use super::rtcp;
use super::server::{Mounted, Shared};

/// Bytes of one request, or of what a client sends between two wake-ups.
const MAX_INPUT: usize = 16 << 10;
/// Datagrams in one go: a key picture sent at once would overflow a client's default receive buffer.
const UDP_BURST: usize = 32;
const UDP_PAUSE: Duration = Duration::from_millis(1);
/// Pictures sent per wake-up at most when late, so that one client cannot hold a thread.
const MAX_CATCH_UP: usize = 32;

thread_local! {
    /// Where a picture's packets are put together. One per thread, not per session: a session keeps only what its
    /// socket did not take.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

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
    pub(super) delivery: Delivery,
    pub(super) identity: Identity,
    pub(super) playing: Option<Playing>,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    shared: Arc<Shared>,
}

impl Session {
    pub(super) fn new(shared: &Arc<Shared>, mounted: Arc<Mounted>, delivery: Delivery) -> Self {
        shared.counters.sessions.fetch_add(1, Ordering::Relaxed);
        Self {
            id: format!("{:016X}", fastrand::u64(..)),
            gone: Box::pin(mounted.gone.clone().cancelled_owned()),
            mounted,
            delivery,
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
}

/// One client.
pub(super) struct Connection<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) session: Option<Session>,
    /// A fault: nothing is answered any more.
    pub(super) hung: bool,
    /// Close when everything is written.
    pub(super) closing: bool,
    input: Vec<u8>,
    /// What the socket did not take yet, from `written` on: the rest of one picture and replies.
    pending: Vec<u8>,
    written: usize,
    /// When the socket last took something.
    progress: Instant,
    heard: Instant,
}

/// Serves one client until one side ends it.
pub(super) async fn serve(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> End {
    if let Err(error) = stream.set_nodelay(true) {
        return End::Socket(error);
    }
    let now = Instant::now();
    let mut connection = Connection {
        shared,
        stream,
        peer,
        session: None,
        hung: false,
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
        loop {
            if self.closing && self.pending.is_empty() {
                return End::Done;
            }
            let deadline = self.deadline();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            // While the client takes nothing its requests wait as well, so that replies cannot pile up.
            let writing = !self.pending.is_empty();
            let step = tokio::select! {
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
        let Some(playing) = self.session.as_ref().and_then(|session| session.playing.as_ref()) else {
            return next;
        };
        let picture = match &playing.in_flight {
            Some((_, _, resume)) => Some(*resume),
            None => playing.player.due(),
        };
        let end = playing.player.end().filter(|_| !self.closing);
        [picture, end, playing.player.cut(), Some(playing.next_report)]
            .into_iter()
            .flatten()
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
        self.heard = Instant::now();
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
        let Some(mut session) = self.session.take() else { return Ok(()) };
        let result = match &mut session.playing {
            Some(playing) => self.play(session.delivery, playing, now),
            None => Ok(()),
        };
        self.session = Some(session);
        result
    }

    fn play(&mut self, delivery: Delivery, playing: &mut Playing, now: Instant) -> Result<(), End> {
        if playing.player.cut().is_some_and(|cut| now >= cut) {
            return Err(End::Reset);
        }
        if now >= playing.next_report {
            playing.next_report = now + self.shared.options.report_every;
            if !playing.player.silent(now) {
                SCRATCH.with_borrow_mut(|out| {
                    self.send_rtcp(delivery, playing, out, now, rtcp::sender_report)
                })?;
            }
        }
        for _ in 0..MAX_CATCH_UP {
            let due = match &playing.in_flight {
                Some((_, _, resume)) => *resume,
                None => playing.player.due().unwrap_or(now + UDP_PAUSE),
            };
            if due > now {
                break;
            }
            SCRATCH.with_borrow_mut(|out| match delivery {
                Delivery::Interleaved { rtp, .. } => self.send_interleaved(&mut playing.player, rtp, out),
                Delivery::Udp { rtp, .. } => {
                    self.send_datagrams(playing, rtp, out, now);
                    Ok(())
                }
            })?;
        }
        if !self.closing && playing.player.end().is_some_and(|end| now >= end) {
            self.closing = true;
            SCRATCH.with_borrow_mut(|out| self.send_rtcp(delivery, playing, out, now, rtcp::bye))?;
        }
        Ok(())
    }

    fn send_interleaved(&mut self, player: &mut Player, channel: u8, out: &mut Vec<u8>) -> Result<(), End> {
        let counters = &self.shared.counters;
        if !self.pending.is_empty() {
            player.drop_to_key();
            counters.pictures_dropped.fetch_add(player.take_skipped(), Ordering::Relaxed);
            return Ok(());
        }
        counters.pictures.fetch_add(1, Ordering::Relaxed);
        let picture = player.take();
        out.clear();
        player.interleaved(&picture, channel, out);
        self.send(out)
    }

    /// Sends the next datagrams of the picture in flight, or of the one that is due.
    fn send_datagrams(&mut self, playing: &mut Playing, to: SocketAddr, out: &mut Vec<u8>, now: Instant) {
        let counters = &self.shared.counters;
        let (picture, first) = match playing.in_flight.take() {
            Some((picture, next, _)) => (picture, next),
            None => {
                counters.pictures.fetch_add(1, Ordering::Relaxed);
                let picture = playing.player.take();
                let first = picture.packets.start;
                (picture, first)
            }
        };
        let end = picture.packets.end.min(first + UDP_BURST);
        for packet in first..end {
            out.clear();
            // A datagram that the kernel does not take is lost, as it would be on the way.
            if playing.player.packet(&picture, packet, out)
                && let Ok(size) = self.shared.rtp.try_send_to(out, to)
            {
                counters.bytes.fetch_add(size as u64, Ordering::Relaxed);
            }
        }
        if end < picture.packets.end {
            playing.in_flight = Some((picture, end, now + UDP_PAUSE));
        }
    }

    fn send_rtcp(
        &mut self,
        delivery: Delivery,
        playing: &Playing,
        out: &mut Vec<u8>,
        now: Instant,
        write: fn(&rtcp::Report, SystemTime, &mut Vec<u8>),
    ) -> Result<(), End> {
        out.clear();
        let report = playing.player.report(now);
        match delivery {
            Delivery::Interleaved { rtcp, .. } => {
                // A report can wait; half a picture cannot be interrupted, so it is queued behind it.
                out.extend_from_slice(&[b'$', rtcp, 0, 0]);
                write(&report, SystemTime::now(), out);
                let size = (out.len() - 4) as u16;
                out[2..4].copy_from_slice(&size.to_be_bytes());
                self.send(out)
            }
            Delivery::Udp { rtcp, .. } => {
                write(&report, SystemTime::now(), out);
                if let Ok(size) = self.shared.rtcp.try_send_to(out, rtcp) {
                    self.shared.counters.bytes.fetch_add(size as u64, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }
}
