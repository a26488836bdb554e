//! The floor under `ingest`: the same sessions, set up with as few words of RTSP as the simulator takes, then read
//! into one buffer each and thrown away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flow::Counter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cameras::Cameras;
use super::cpu;

/// What a session reads at most at a time.
const BUFFER: usize = 16 << 10;

/// What a drain cost.
pub struct Drained {
    /// Bits per second that a session receives.
    pub bits_per_session: f64,
    /// Sessions that a core carries.
    pub sessions_per_core: f64,
}

/// Drains all cameras for so long. Must run alone in this process.
pub async fn measure(cameras: &Cameras, settle: Duration, window: Duration) -> anyhow::Result<Drained> {
    let (bytes, playing) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let mut tasks = JoinSet::new();
    for url in cameras.urls() {
        tasks.spawn(session(cameras.address(), url, playing.clone(), bytes.clone()));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while (playing.get() as usize) < cameras.count() {
        if let Some(ended) = tasks.try_join_next() {
            ended??;
            bail!("a session ended while the others were being set up");
        }
        if Instant::now() > deadline {
            bail!("{} of {} sessions play after 20 s", playing.get(), cameras.count());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(settle).await;
    let (before, start, spent) = (bytes.get(), Instant::now(), cpu::own()?);
    tokio::time::sleep(window).await;
    let (received, wall, spent) = (bytes.get() - before, start.elapsed(), cpu::own()? - spent);
    if let Some(ended) = tasks.try_join_next() {
        ended??;
        bail!("a session was closed by the simulator");
    }
    tasks.shutdown().await;
    let session_seconds = cameras.count() as f64 * wall.as_secs_f64();
    Ok(Drained {
        bits_per_session: received as f64 * 8.0 / session_seconds,
        sessions_per_core: session_seconds / spent.as_secs_f64().max(1e-6),
    })
}

async fn session(
    server: SocketAddr,
    url: String,
    playing: Arc<Counter>,
    bytes: Arc<Counter>,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    let mut buffer = vec![0; BUFFER];
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
    playing.add(1);
    loop {
        match stream.read(&mut buffer).await.with_context(|| url.clone())? {
            0 => bail!("{url}: closed by the simulator"),
            size => bytes.add(size as u64),
        }
    }
}
