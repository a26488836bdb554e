//! The socket of a session that plays: woken seldom, read into a buffer that all sessions of a thread share.
//!
//! The kernel wakes nobody before [`LOW_WATER`] bytes are there (`SO_RCVLOWAT`), or the connection ends. What comes
//! slower than that is fetched by a tick, whose time is the delay that a camera's pictures may have. Ticks of all
//! sessions fall on one grid, so that a thread wakes once for many of them.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Sleep;

use super::fault::Fault;
use super::framer::MAX_PIECE;

/// `SO_RCVBUF`; Linux counts twice as much, its own overhead included. It holds two thirds of a key picture of a
/// 4 Mbit/s main stream (285 kB), with the reader at most some milliseconds away; without a limit the kernel lets a
/// buffer grow to `tcp_rmem[2]`, 6 MB and more for each of 30,000 cameras. Not above what Linux allows by default
/// (`rmem_max`, 208 KiB).
const RECEIVE_BUFFER: u32 = 192 << 10;
/// Well above what a sub-stream brings from tick to tick, well below the receive buffer.
pub(crate) const LOW_WATER: usize = 64 << 10;
/// What one thread reads into. Small enough to stay in its core's cache.
const SCRATCH: usize = 128 << 10;
/// A turn ends after so many full buffers, so that a camera that floods us does not keep the others from theirs.
const READS_PER_TURN: usize = 2;
/// Ticks that may wait longer than four of these fall on multiples of it; others on multiples of the shorter one.
const GRID: Duration = Duration::from_millis(50);
const FINE_GRID: Duration = Duration::from_millis(5);

const _: () = assert!(MAX_PIECE < SCRATCH, "what is kept must leave room to read");

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Connects with a receive buffer that is limited from the beginning: the window is negotiated with it.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Why [`Socket::ready`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// There is enough to read, or the connection ended.
    Readable,
    /// Time to look whether something is there.
    Tick,
}

/// A connection that is read in turns.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// The beginning of a piece whose end has not come.
    kept: Vec<u8>,
    /// What was kept came before PLAY was answered, and nobody has seen it.
    begins: bool,
    /// The last turn ended before everything was read.
    more: bool,
    latency: Duration,
    tick: Pin<Box<Sleep>>,
    /// When everything had been read.
    drained: Instant,
    /// To be written once there is room.
    outbox: Vec<u8>,
}

impl Socket {
    /// `early`: what has been read of the stream. `latency`: how long bytes may lie in the kernel.
    pub(crate) fn new(stream: TcpStream, early: Vec<u8>, latency: Duration) -> Self {
        if let Err(error) = set_low_water(&stream, LOW_WATER) {
            tracing::debug!("SO_RCVLOWAT: {error}; the session costs more than it has to");
        }
        let now = Instant::now();
        Self {
            stream,
            kept: early,
            begins: true,
            more: true,
            latency,
            tick: Box::pin(tokio::time::sleep_until(tick_after(now, latency))),
            drained: now,
            outbox: Vec::new(),
        }
    }

    /// How long bytes may lie in the kernel.
    pub(crate) fn latency(&self) -> Duration {
        self.latency
    }

    /// How long bytes may lie in the kernel from now on.
    pub(crate) fn set_latency(&mut self, latency: Duration) {
        if self.latency != latency {
            self.latency = latency;
            self.tick.as_mut().reset(tick_after(Instant::now(), latency));
        }
    }

    /// Waits for something to do. Cancel safe.
    pub(crate) async fn ready(&mut self) -> io::Result<Wake> {
        if self.more {
            tokio::task::yield_now().await;
            return Ok(Wake::Readable);
        }
        poll_fn(|cx| {
            if let Poll::Ready(ready) = self.stream.poll_read_ready(cx) {
                return Poll::Ready(ready.map(|()| Wake::Readable));
            }
            while self.tick.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                self.tick.as_mut().reset(tick_after(now, self.latency));
                // Else it was read a moment ago, because there was much.
                if now.saturating_duration_since(self.drained) >= self.latency / 2 {
                    return Poll::Ready(Ok(Wake::Tick));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads what is there, a bounded amount, and gives it to `parse` together with what was kept; `parse` says how
    /// much of it is done with. `Ok(false)`: the other side has closed the connection.
    pub(crate) fn turn<E: From<Fault>>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        self.more = false;
        if std::mem::take(&mut self.begins) && !self.kept.is_empty() {
            let early = std::mem::take(&mut self.kept);
            let used = parse(&early)?;
            self.keep(&early[used..]);
        }
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..READS_PER_TURN {
                let kept = self.kept.len();
                buffer[..kept].copy_from_slice(&self.kept);
                let Some(read) = self.read(&mut buffer[kept..]).map_err(Fault::Io)? else { break };
                let data = &buffer[..kept + read];
                let used = parse(data)?;
                self.keep(&data[used..]);
                if read == 0 {
                    return Ok(false);
                }
                self.more = data.len() == SCRATCH;
                if !self.more {
                    break;
                }
            }
            self.drained = Instant::now();
            Ok(true)
        })
    }

    /// Reads once. `None`: nothing is there.
    fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut result = None;
        let room = into.len();
        let mut read = || {
            // `MSG_DONTWAIT` is what the socket does anyway.
            let got = recv(self.stream.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT);
            let drained = !matches!(got, Ok(n) if n == room || n == 0);
            result = Some(got);
            // Whoever has read all waits for the next wake-up, and tokio has to know.
            if drained { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        // A tick reads without the socket being readable, as tokio sees it.
        if self.stream.try_io(Interest::READABLE, &mut read).is_err() && result.is_none() {
            let mut read = || {
                result = Some(recv(self.stream.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT));
            };
            read();
        }
        match result {
            Some(Ok(n)) => Ok(Some(n)),
            None | Some(Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR)) => Ok(None),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Most sessions keep the beginning of a packet; one that kept much once must not hold it for ever.
    fn keep(&mut self, rest: &[u8]) {
        const SMALL: usize = 4 << 10;
        if self.kept.capacity() > SMALL && rest.len() <= SMALL {
            self.kept = rest.to_vec();
        } else {
            self.kept.clear();
            self.kept.extend_from_slice(rest);
        }
    }

    /// Writes, now or as soon as there is room. `false`: the other side has not read for long.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        const MAX_WAITING: usize = 8 << 10;
        self.outbox.extend_from_slice(bytes);
        while !self.outbox.is_empty() {
            match self.stream.try_write(&self.outbox) {
                Ok(written) => drop(self.outbox.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.outbox.len() <= MAX_WAITING)
    }

    /// From now on every byte wakes.
    pub(crate) fn wake_at_once(&self) {
        if let Err(error) = set_low_water(&self.stream, 1) {
            tracing::debug!("SO_RCVLOWAT: {error}");
        }
    }
}

/// The latest point of the grid that lets nothing wait longer than `latency`.
fn tick_after(now: Instant, latency: Duration) -> tokio::time::Instant {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let origin = *ORIGIN;
    let grid = if latency >= 4 * GRID { GRID } else { FINE_GRID }.as_micros();
    let due = (now + latency).saturating_duration_since(origin).as_micros();
    let due = Duration::from_micros(u64::try_from(due / grid * grid).unwrap_or(u64::MAX));
    tokio::time::Instant::from_std((origin + due).max(now + FINE_GRID))
}

/// `SO_RCVLOWAT` (socket(7)): since Linux 2.6.28 it also counts for `epoll`, which is what tokio waits with.
#[allow(unsafe_code)]
fn set_low_water(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and pointer and length are those of `value`.
    let result = unsafe {
        let value = std::ptr::from_ref(&value).cast();
        libc::setsockopt(stream.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, value, length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(latency: Duration) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(connect(address), listener.accept());
        let theirs = theirs.unwrap().0;
        theirs.set_nodelay(true).unwrap();
        let mut socket = Socket::new(ours.unwrap(), Vec::new(), latency);
        // Looks once whether something came early.
        assert_eq!(socket.ready().await.unwrap(), Wake::Readable);
        assert_eq!(all(&mut socket), (true, 0));
        (socket, theirs)
    }

    /// Reads a turn and is done with all of it: whether the connection still stands, and how many bytes came.
    fn all(socket: &mut Socket) -> (bool, usize) {
        let mut bytes = 0;
        let open = socket.turn(|data| {
            bytes += data.len();
            Ok::<_, Fault>(data.len())
        });
        (open.unwrap(), bytes)
    }

    #[tokio::test]
    async fn five_hundred_packets_cost_a_handful_of_wake_ups() {
        let (mut socket, mut camera) = pair(Duration::from_millis(250)).await;
        let sent = tokio::spawn(async move {
            for _ in 0..500 {
                camera.write_all(&[7; 1400]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            camera
        });
        let (mut bytes, mut wakes) = (0, 0);
        while bytes < 500 * 1400 {
            socket.ready().await.unwrap();
            bytes += all(&mut socket).1;
            wakes += 1;
        }
        // 700 kB are eleven times the low-water mark; the rest are ticks, four per second.
        assert!(wakes <= 40, "{wakes} wake-ups");
        drop(sent.await.unwrap());
    }

    #[tokio::test]
    async fn little_is_fetched_by_the_next_tick_and_much_or_the_end_wakes_at_once() {
        let (mut socket, mut camera) = pair(Duration::from_millis(200)).await;
        camera.write_all(&[7; 100]).await.unwrap();
        let began = Instant::now();
        let mut bytes = 0;
        while bytes == 0 {
            assert_eq!(socket.ready().await.unwrap(), Wake::Tick, "too little to wake anybody");
            bytes = all(&mut socket).1;
        }
        // A busy machine may be late; a whole second is not the latency that was asked for.
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

        socket.set_latency(Duration::from_secs(3600));
        camera.write_all(&[7; LOW_WATER]).await.unwrap();
        let mut bytes = 0;
        while bytes < LOW_WATER {
            let ready = tokio::time::timeout(Duration::from_secs(20), socket.ready());
            assert_eq!(ready.await.unwrap().unwrap(), Wake::Readable);
            bytes += all(&mut socket).1;
        }
        assert_eq!(bytes, LOW_WATER);
        camera.write_all(&[7; 100]).await.unwrap();
        drop(camera);
        let mut seen = 0;
        loop {
            let ready = tokio::time::timeout(Duration::from_secs(20), socket.ready());
            assert_eq!(ready.await.unwrap().unwrap(), Wake::Readable, "the end wakes below the mark");
            let (open, bytes) = all(&mut socket);
            seen += bytes;
            if !open {
                break;
            }
        }
        assert_eq!(seen, 100, "and what came before it is not lost");
    }

    #[tokio::test]
    async fn a_reset_wakes_at_once() {
        let (mut socket, mut camera) = pair(Duration::from_secs(3600)).await;
        socket.write(b"unread").unwrap();
        camera.write_all(&[7; 100]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        // Closed with bytes that nobody read: that is a reset.
        drop(camera);
        let end = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                if socket.ready().await.is_err() {
                    break;
                }
                match socket.turn(|data| Ok::<_, Fault>(data.len())) {
                    Ok(true) => {}
                    Ok(false) | Err(_) => break,
                }
            }
        });
        end.await.expect("the reset is seen");
    }

    #[tokio::test]
    async fn a_turn_is_bounded_and_the_next_one_comes_by_itself() {
        let (mut socket, mut camera) = pair(Duration::from_secs(3600)).await;
        let flood = tokio::spawn(async move {
            for _ in 0..64 {
                camera.write_all(&vec![7; 64 << 10]).await.unwrap();
            }
            camera
        });
        let others = std::sync::Arc::new(AtomicUsize::new(0));
        let neighbour = tokio::spawn({
            let others = others.clone();
            async move {
                loop {
                    others.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let (mut bytes, mut turns) = (0, 0);
        while bytes < 64 * (64 << 10) {
            socket.ready().await.unwrap();
            let turn = all(&mut socket).1;
            assert!(turn <= READS_PER_TURN * SCRATCH, "{turn}");
            bytes += turn;
            turns += 1;
        }
        neighbour.abort();
        assert!(
            others.load(Ordering::Relaxed) >= turns / 2,
            "the neighbour on the same thread had its turns"
        );
        drop(flood.await.unwrap());
    }

    #[tokio::test]
    async fn what_is_kept_comes_again_in_front_of_what_follows() {
        let (mut socket, mut camera) = pair(Duration::from_millis(10)).await;
        let text: Vec<u8> = (0..30_000u32).map(|n| (n % 251) as u8).collect();
        camera.write_all(&text).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < text.len() {
            socket.ready().await.unwrap();
            // Takes 700 bytes at a time, as packets would be, and leaves the rest.
            let open = socket.turn(|data| {
                let whole =
                    if seen.len() + data.len() == text.len() { data.len() } else { data.len() / 700 * 700 };
                seen.extend_from_slice(&data[..whole]);
                Ok::<_, Fault>(whole)
            });
            assert!(open.unwrap());
        }
        assert_eq!(seen, text);
        assert!(socket.kept.capacity() <= 4 << 10, "no more is kept than needed");
    }

    #[test]
    fn ticks_share_a_grid_and_are_never_late_on_purpose() {
        let now = Instant::now() + Duration::from_secs(1);
        let ticks: std::collections::HashSet<_> = (0..40)
            .map(|ms| tick_after(now + Duration::from_millis(ms), Duration::from_millis(500)))
            .collect();
        assert!(ticks.len() <= 2, "sessions within 40 ms share one or two ticks: {ticks:?}");
        for ms in [10, 50, 250, 500] {
            let latency = Duration::from_millis(ms);
            let wait = tick_after(now, latency).into_std() - now;
            assert!(wait <= latency && wait >= latency / 2, "{ms}: {wait:?}");
        }
    }
}
