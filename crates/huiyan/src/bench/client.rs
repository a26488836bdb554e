//! One measurement of many sessions, in a process of its own: a heap that no session has used before, threads of
//! nobody else, and processor time that is the sessions' alone.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ingest::{Ingest, Policy};
use serde::{Deserialize, Serialize};
use sim::Plan;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cameras::{self, Cameras};
use super::cpu;
use super::drain::Drain;
use crate::cmd::runtime;

/// After the last session has begun, until the measurement, at most: a short one need not wait so long.
const SETTLE: Duration = Duration::from_secs(2);
/// New sessions per second.
const STARTS_PER_SECOND: u32 = 500;
/// Sessions without a picture, of all, with which it is measured all the same: only those with pictures count.
const MAY_BE_SILENT: f64 = 0.01;

/// What receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// `ingest`; pictures are dropped as soon as it hands them on.
    Ingest,
    /// A drain on tokio.
    Drain,
    /// The same, woken up once 16 KiB are there.
    Drain16k,
    /// The same, woken up once 64 KiB are there.
    Drain64k,
}

impl Kind {
    fn low_water(self) -> Option<usize> {
        match self {
            Self::Ingest | Self::Drain => None,
            Self::Drain16k => Some(16 << 10),
            Self::Drain64k => Some(64 << 10),
        }
    }
}

/// Arguments of the child.
#[derive(Debug, clap::Args)]
pub struct Args {
    kind: Kind,
    /// Of the first camera
    address: SocketAddr,
    /// Cameras that are served
    cameras: usize,
    sessions: usize,
    seconds: f64,
}

/// What a measurement found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Processor time, user and system, in seconds.
    pub cpu: f64,
    /// By the clock, in seconds.
    pub wall: f64,
    /// Whole pictures; a drain does not see them.
    pub pictures: u64,
    /// Bytes; `ingest` does not count those on the wire.
    pub bytes: u64,
    /// Growth of resident memory in KiB, all sessions together.
    pub rss_kib: f64,
    /// Growth of what socket buffers hold in KiB, at both ends.
    pub kernel_kib: f64,
    /// Of the process.
    pub threads: usize,
    /// In the time that was measured.
    pub wake_ups: u64,
}

impl Measured {
    /// Processor time of a session in milliseconds per second. `sessions`: how many there were.
    pub fn cpu_ms(&self, sessions: f64) -> f64 {
        self.cpu * 1e3 / self.wall / sessions
    }
}

/// Measures the first `sessions` of `cameras` in a child process.
pub fn measure(cameras: &Cameras, kind: Kind, sessions: usize, window: Duration) -> anyhow::Result<Measured> {
    let kind = clap::ValueEnum::to_possible_value(&kind).context("every kind has a name")?;
    let child = Command::new(std::env::current_exe()?)
        .args(["bench", "client", kind.get_name(), &cameras.address().to_string()])
        .args([cameras.count().to_string(), sessions.to_string(), window.as_secs_f64().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let what = || format!("{} of {sessions} sessions: {}", kind.get_name(), child.status);
    if !child.status.success() {
        bail!("{}", what());
    }
    serde_json::from_slice(&child.stdout).with_context(what)
}

/// The child: measures, and prints what it found as JSON.
pub fn run(args: &Args) -> anyhow::Result<()> {
    crate::descriptors::raise_for(args.sessions)?;
    let runtime = runtime()?;
    // So that the runtime's threads are there before memory is looked at.
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    let measured = match args.kind {
        Kind::Ingest => runtime.block_on(ingest(args))?,
        _ => runtime.block_on(drain(args))?,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// In KiB.
struct Memory {
    resident: f64,
    buffers: f64,
}

impl Memory {
    fn now() -> anyhow::Result<Self> {
        Ok(Self { resident: cpu::resident_kib()?, buffers: cpu::socket_buffers_kib()? })
    }
}

/// How long setting up may take.
fn patience(sessions: usize) -> Duration {
    Duration::from_secs(20) + Duration::from_millis(20) * sessions as u32
}

async fn ingest(args: &Args) -> anyhow::Result<Measured> {
    let fleet = cameras::as_fleet(args.address, &Plan::new(args.cameras), args.sessions)?;
    let before = Memory::now()?;
    // All cameras are at one host and in one network here, which a county's are not.
    let policy = Policy {
        starts_per_second: STARTS_PER_SECOND,
        setups_per_host: args.sessions,
        setups_per_subnet: args.sessions,
        ..Policy::default()
    };
    let sink = Arc::new(|unit| {
        drop(unit);
        Ok(())
    });
    let ingest = Ingest::start(fleet, policy, sink, Arc::new(drop), &CancellationToken::new());
    let limit = patience(args.sessions);
    let deadline = Instant::now() + limit;
    loop {
        let silent = ingest.camera_counters().filter(|(_, flow)| flow.received == 0).count();
        if silent == 0 {
            break;
        }
        if Instant::now() > deadline {
            if silent as f64 <= MAY_BE_SILENT * args.sessions as f64 {
                tracing::warn!("{silent} of {} sessions have sent no picture after {limit:?}", args.sessions);
                break;
            }
            bail!("{silent} of {} sessions have sent no picture after {limit:?}", args.sessions);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let measured = watch(args, before, || (ingest.counters().received, 0)).await?;
    ingest.shutdown().await;
    Ok(measured)
}

async fn drain(args: &Args) -> anyhow::Result<Measured> {
    let urls = cameras::urls(args.address, &Plan::new(args.cameras), args.sessions);
    let before = Memory::now()?;
    let mut drain = Drain::start(args.address, urls, args.kind.low_water(), patience(args.sessions)).await?;
    let measured = watch(args, before, || (0, drain.bytes())).await?;
    drain.check()?;
    Ok(measured)
}

/// `counts`: pictures and bytes so far.
async fn watch(args: &Args, before: Memory, counts: impl Fn() -> (u64, u64)) -> anyhow::Result<Measured> {
    tokio::time::sleep(SETTLE.min(Duration::from_secs_f64(2.0 * args.seconds))).await;
    let (start, cpu_before, wakes, (pictures, bytes)) =
        (Instant::now(), cpu::own()?, cpu::wake_ups()?, counts());
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let (wall, spent, (pictures_now, bytes_now)) = (start.elapsed(), cpu::own()? - cpu_before, counts());
    let after = Memory::now()?;
    Ok(Measured {
        cpu: spent.as_secs_f64().max(1e-6),
        wall: wall.as_secs_f64(),
        pictures: pictures_now - pictures,
        bytes: bytes_now - bytes,
        rss_kib: after.resident - before.resident,
        kernel_kib: after.buffers - before.buffers,
        threads: cpu::threads()?,
        wake_ups: cpu::wake_ups()? - wakes,
    })
}
