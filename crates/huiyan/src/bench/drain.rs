//! The floor under `ingest`: the same sessions, set up with as few words of RTSP as the simulator takes, then read
//! into one buffer each and thrown away.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flow::Counter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cameras::Cameras;
use super::cpu;

/// What a session reads at a time, where wake-ups are not batched.
const BUFFER: usize = 16 << 10;

/// More than a sender report, less than a key picture.
const FLOWS: usize = 512;

/// Running drains. They end when this is dropped.
pub struct Drain {
    bytes: Arc<Counter>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Drain {
    /// Drains these, and waits until pictures come from all. `low_water`: nobody is woken up before so many bytes are there.
    pub async fn start(
        server: SocketAddr,
        urls: Vec<String>,
        low_water: Option<usize>,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let sessions = urls.len();
        let (bytes, playing) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let mut tasks = JoinSet::new();
        for url in urls {
            tasks.spawn(session(server, url, low_water, playing.clone(), bytes.clone()));
        }
        let mut drain = Self { bytes, tasks };
        let deadline = Instant::now() + limit;
        while (playing.get() as usize) < sessions {
            drain.check()?;
            if Instant::now() > deadline {
                bail!("{} of {sessions} sessions play after {limit:?}", playing.get());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(drain)
    }

    /// Received so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Fails if a session has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(ended) = self.tasks.try_join_next() {
            ended??;
            bail!("a session ended before its time");
        }
        Ok(())
    }
}

/// What a drain on tokio costs.
pub struct Drained {
    /// Sessions that a core carries.
    pub sessions_per_core: f64,
}

/// Drains all cameras for so long. Must run alone in this process.
pub async fn measure(cameras: &Cameras, settle: Duration, window: Duration) -> anyhow::Result<Drained> {
    let mut drain = Drain::start(cameras.address(), cameras.urls(), None, Duration::from_secs(20)).await?;
    tokio::time::sleep(settle).await;
    let (start, spent) = (Instant::now(), cpu::own()?);
    tokio::time::sleep(window).await;
    let (wall, spent) = (start.elapsed(), cpu::own()? - spent);
    drain.check()?;
    let session_seconds = cameras.count() as f64 * wall.as_secs_f64();
    Ok(Drained { sessions_per_core: session_seconds / spent.as_secs_f64().max(1e-6) })
}

async fn session(
    server: SocketAddr,
    url: String,
    low_water: Option<usize>,
    playing: Arc<Counter>,
    bytes: Arc<Counter>,
) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    if let Some(low_water) = low_water {
        // The kernel counts its own overhead in.
        socket.set_recv_buffer_size(4 * low_water as u32)?;
    }
    let mut stream = socket.connect(server).await?;
    let mut buffer = vec![0; low_water.unwrap_or(BUFFER).max(BUFFER)];
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1";
    for (cseq, (method, track)) in [("SETUP", "/trackID=0"), ("PLAY", "")].into_iter().enumerate() {
        let request = format!("{method} {url}{track} RTSP/1.0\r\nCSeq: {cseq}\r\n{transport}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        // The simulator sends a reply in one piece; media may follow PLAY's at once.
        let size = stream.read(&mut buffer).await.with_context(|| format!("{url}: {method}"))?;
        if !buffer[..size].starts_with(b"RTSP/1.0 200") {
            bail!("{url}: {method} was refused: {}", String::from_utf8_lossy(&buffer[..size.min(40)]));
        }
    }
    let mut received = 0;
    let mut flows = false;
    loop {
        match stream.read(&mut buffer).await.with_context(|| url.clone())? {
            0 => bail!("{url}: closed by the simulator"),
            size => {
                bytes.add(size as u64);
                received += size;
            }
        }
        // The stream begins with the next key picture, a sender report before it.
        if !flows && received >= FLOWS {
            flows = true;
            if let Some(low_water) = low_water {
                set_low_water(&stream, low_water)?;
            }
            playing.add(1);
        }
    }
}

/// `SO_RCVLOWAT` (socket(7)).
#[allow(unsafe_code, reason = "no library at hand sets it")]
fn set_low_water(stream: &TcpStream, bytes: usize) -> std::io::Result<()> {
    use nix::libc;
    let bytes = libc::c_int::try_from(bytes).map_err(std::io::Error::other)?;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and the kernel reads `size` bytes of `bytes`.
    let done = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
