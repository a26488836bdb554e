//! `bench ingest`: what RTSP sessions cost, beside a raw drain of the same sockets.
//!
//! Pictures are dropped as soon as `ingest` hands them on. Bits are those on the wire: pictures received times the
//! mean size that the drain measured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use ingest::{Ingest, Policy};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cameras::Cameras;
use super::report::{Figure, Kind, Pairs};
use super::{ROUNDS, cpu, drain, step};
use crate::cmd::runtime;

const SESSIONS: usize = 200;
const SECONDS: f64 = 10.0;
/// After the last session has begun, until the measurement.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sessions at the same time
    #[arg(long, default_value_t = SESSIONS)]
    sessions: usize,
    /// Seconds that are measured in all, over three rounds
    #[arg(long, default_value_t = SECONDS)]
    seconds: f64,
    /// What the cameras play instead of the rendered street
    #[arg(long)]
    video: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self { sessions: SESSIONS, seconds: SECONDS, video: None }
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let window = Duration::from_secs_f64(super::positive(args.seconds, "--seconds")? / ROUNDS as f64);
    let cameras = Cameras::start(args.sessions.max(1), args.video.as_deref())?;
    let threads_before = cpu::threads()?;
    let runtime = runtime()?;
    let (mut gbit, mut sessions) = (Pairs::default(), Pairs::default());
    let mut first = None;
    for round in 1..=ROUNDS {
        step(&format!("ingest: {} sessions, round {round} of {ROUNDS}", cameras.count()));
        let ours = runtime.block_on(measure(&cameras, window))?;
        let floor = runtime.block_on(drain::measure(&cameras, SETTLE, window))?;
        let to_gbit = floor.bits_per_session / 1e9;
        tracing::debug!(mbit_per_session = to_gbit * 1e3, "drained");
        sessions.push(ours.sessions_per_core, Some(floor.sessions_per_core));
        gbit.push(ours.sessions_per_core * to_gbit, Some(floor.sessions_per_core * to_gbit));
        if first.is_none() {
            let rate = to_gbit * 1e3;
            step(&format!("ingest: {rate:.2} Mbit/s and {:.1} pictures/s per session", cameras.fps));
            first = Some(ours);
        }
    }
    let mut figures = vec![
        gbit.figure("ingest.gbit_per_core", "Gbit/s / core", Kind::Rate),
        sessions.figure("ingest.sessions_per_core", "sessions / core", Kind::Rate),
    ];
    // Only the first round meets a heap that no session has used before.
    if let Some(first) = first {
        let threads = first.threads.saturating_sub(threads_before) as f64;
        figures.push(Figure::plain("ingest.rss_kib_per_session", first.rss_kib_per_session, "KiB / session"));
        figures.push(Figure::plain("ingest.threads", threads, "threads"));
    }
    Ok(figures)
}

struct Measured {
    sessions_per_core: f64,
    rss_kib_per_session: f64,
    threads: usize,
}

async fn measure(cameras: &Cameras, window: Duration) -> anyhow::Result<Measured> {
    let resident = cpu::resident_kib()?;
    let ingest = Ingest::start(
        cameras.as_fleet()?,
        Policy::default(),
        Arc::new(|unit| {
            drop(unit);
            Ok(())
        }),
        Arc::new(drop),
        &CancellationToken::new(),
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let silent = ingest.camera_counters().filter(|(_, flow)| flow.received == 0).count();
        if silent == 0 {
            break;
        }
        if Instant::now() > deadline {
            bail!("{silent} of {} sessions have sent no picture after 30 s", cameras.count());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let (before, start, spent) = (ingest.counters().received, Instant::now(), cpu::own()?);
    tokio::time::sleep(window).await;
    let (pictures, wall, spent) = (ingest.counters().received - before, start.elapsed(), cpu::own()? - spent);
    let measured = Measured {
        sessions_per_core: pictures as f64 / cameras.fps / spent.as_secs_f64().max(1e-6),
        rss_kib_per_session: (cpu::resident_kib()? - resident) / cameras.count() as f64,
        threads: cpu::threads()?,
    };
    let due = cameras.count() as f64 * cameras.fps * wall.as_secs_f64();
    if (pictures as f64) < 0.9 * due {
        tracing::warn!(
            pictures,
            due = due.round(),
            "fewer pictures came than the cameras should send: the machine is too busy for this many"
        );
    }
    ingest.shutdown().await;
    Ok(measured)
}
