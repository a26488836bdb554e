//! What does a session cost? Serves a clip to many sessions of one watcher process and says how much processor time
//! and memory the server took, and whether every session got its bit rate.
//!
//! `cargo run --release -p sim --example sessions -- 1000 10 0.5` — sessions, seconds, Mbit/s per session.
//! The process starts itself again as the watcher, so that the two are measured apart.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sim::rtsp::Server;
use sim::{Clip, ClipUnit, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("watch") => watch(arguments[1].parse()?, arguments[2].parse()?, arguments[3].parse()?).await,
        _ => {
            let argument = |n: usize, default: f64| arguments.get(n).map_or(Ok(default), |text| text.parse());
            serve(argument(0, 1_000.0)? as usize, argument(1, 10.0)?, argument(2, 0.5)?).await
        }
    }
}

/// Four seconds at 25 pictures per second, a key picture each two seconds that is ten times as large as the others.
/// The pictures are noise behind right headers: the server does not look inside.
fn clip(mbit: f64) -> Arc<Clip> {
    let unit = mbit * 1e6 / 8.0 * 4.0 / (98.0 + 2.0 * 10.0);
    let units = (0..100u64).map(|n| {
        let key = n % 50 == 0;
        let mut data = match key {
            true => vec![
                0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1,
                0x65,
            ],
            false => vec![0, 0, 0, 1, 0x41],
        };
        data.extend((0..(unit * if key { 10.0 } else { 1.0 }) as usize).map(|_| fastrand::u8(1..)));
        ClipUnit { data: Bytes::from(data), key, pts: Duration::from_millis(40 * n) }
    });
    let (codec, duration) = (flow::Codec::H264, Duration::from_secs(4));
    Arc::new(Clip { codec, width: 704, height: 576, units: units.collect(), duration })
}

async fn serve(sessions: usize, seconds: f64, mbit: f64) -> Result<(), Failure> {
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let before = resident_kib()?;
    Plan::new(sessions).mount(&server, &[clip(mbit)])?;
    let arguments =
        ["watch".into(), server.local_addr().to_string(), sessions.to_string(), seconds.to_string()];
    let mut watcher = tokio::process::Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    while (server.stats().plays as usize) < sessions {
        sleep(Duration::from_millis(50)).await;
    }
    // Until the last has come to its key picture.
    sleep(Duration::from_secs(3)).await;
    let (cpu, stats, started) = (cpu_seconds()?, server.stats(), Instant::now());
    sleep(Duration::from_secs_f64(seconds)).await;
    let (cpu, now, wall) = (cpu_seconds()? - cpu, server.stats(), started.elapsed().as_secs_f64());
    let mut seen = String::new();
    if let Some(mut output) = watcher.stdout.take() {
        output.read_to_string(&mut seen).await?;
    }
    watcher.wait().await?;
    let bits = (now.bytes - stats.bytes) as f64 * 8.0;
    let figures = serde_json::json!({
        "sessions": sessions,
        "mbit_per_session": bits / wall / 1e6 / sessions as f64,
        "pictures_per_second": (now.pictures - stats.pictures) as f64 / wall,
        "pictures_dropped": now.pictures_dropped,
        "server_cores": cpu / wall,
        "server_cores_per_1000_sessions": cpu / wall / sessions as f64 * 1_000.0,
        "gbit_per_core": bits / cpu / 1e9,
        "kib_per_session": (resident_kib()? - before) / sessions as f64,
        "watcher": serde_json::from_str::<serde_json::Value>(&seen)?,
    });
    let mut text = serde_json::to_string_pretty(&figures)?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())?;
    server.shutdown().await;
    Ok(())
}

/// The other process: plays all cameras and counts bytes, without looking at them.
async fn watch(server: SocketAddr, sessions: usize, seconds: f64) -> Result<(), Failure> {
    let end = Instant::now() + Duration::from_secs_f64(seconds) + Duration::from_secs(6) + lead(sessions);
    let tasks: Vec<_> = (1..=sessions).map(|n| tokio::spawn(drain(server, n, end))).collect();
    let mut rates = Vec::new();
    for task in tasks {
        rates.push(task.await??);
    }
    rates.sort_by(f64::total_cmp);
    let figures = serde_json::json!({ "mbit_min": rates[0], "mbit_max": rates[sessions - 1] });
    std::io::stdout().write_all(figures.to_string().as_bytes())?;
    Ok(())
}

/// Time to set all sessions up.
fn lead(sessions: usize) -> Duration {
    Duration::from_millis(sessions as u64)
}

/// Mbit/s that one session received.
async fn drain(server: SocketAddr, n: usize, end: Instant) -> Result<f64, Failure> {
    // Staggered, as a worker would connect.
    sleep(lead(n)).await;
    let mut stream = TcpStream::connect(server).await?;
    let url = format!("rtsp://{server}/cam-{n:04}");
    let mut buffer = vec![0; 64 << 10];
    for (cseq, request) in [("SETUP", "/trackID=0"), ("PLAY", "")].iter().enumerate() {
        let (method, track) = request;
        let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1";
        let request = format!("{method} {url}{track} RTSP/1.0\r\nCSeq: {cseq}\r\n{transport}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let size = stream.read(&mut buffer).await?;
        if !buffer[..size].starts_with(b"RTSP/1.0 200") {
            return Err(format!("{url}: {method} refused").into());
        }
    }
    // Whole rounds only, from the key picture on.
    stream.read_exact(&mut buffer[..1]).await?;
    let (started, mut bytes) = (Instant::now(), 0);
    while let Ok(read) = tokio::time::timeout_at(end, stream.read(&mut buffer)).await {
        match read? {
            0 => return Err(format!("{url}: closed by the server").into()),
            size => bytes += size,
        }
    }
    Ok(bytes as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e6)
}

/// User and system time of this process so far (proc(5), stat fields 14 and 15, in hundredths of a second).
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn resident_kib() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
