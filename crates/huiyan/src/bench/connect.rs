//! `bench connect`: how fast a node's sessions stand, and how fast they are back after all are cut at once, without
//! any recorder being met by more than its cap of set-ups.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use flow::Counter;
use ingest::{Ingest, Policy};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cameras::{Cameras, Material, Wanted};
use super::report::Figure;
use super::step;
use crate::cmd::runtime;
use crate::descriptors;

const SESSIONS: usize = 2_500;
const HOSTS: u16 = 40;
/// Of each camera.
const MBIT: f64 = 0.2;
/// No machine that can carry the sessions at all takes longer.
const PATIENCE: Duration = Duration::from_secs(180);
/// A recorder that restarts is gone for so long, at least.
const DOWN: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Cameras
    #[arg(long, default_value_t = SESSIONS)]
    sessions: usize,
    /// Addresses (127.0.0.1, 127.0.0.2, ...) that they are behind, as if behind as many recorders
    #[arg(long, default_value_t = HOSTS)]
    hosts: u16,
}

impl Default for Args {
    fn default() -> Self {
        Self { sessions: SESSIONS, hosts: HOSTS }
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    descriptors::raise_for(args.sessions)?;
    let mut cameras = Cameras::start_with(&Wanted {
        cameras: args.sessions.max(1),
        // What is set up and counted here is sessions, not bits.
        material: Material::Pattern(MBIT),
        hosts: args.hosts.clamp(2, 1_000),
        random_faults: None,
    })?;
    runtime()?.block_on(measure(&mut cameras))
}

async fn measure(simulator: &mut Cameras) -> anyhow::Result<Vec<Figure>> {
    let cameras = simulator.count();
    let policy = Policy::default();
    let cap = policy.setups_per_host as f64;
    let pictures = Arc::new(Counter::default());
    step(&format!("connect: {cameras} sessions from nothing"));
    let began = Instant::now();
    let counted = pictures.clone();
    let ingest = Ingest::start(
        simulator.as_fleet()?,
        policy,
        Arc::new(move |unit| {
            drop(unit);
            counted.add(1);
            Ok(())
        }),
        Arc::new(drop),
        &CancellationToken::new(),
    );
    let establish = until(simulator, cameras as u64, cameras, began).await?;
    let establish_peak = peak(simulator)?;

    step("connect: all are cut at once");
    let plays = simulator.served()?.plays;
    let cut = Instant::now();
    simulator.cut(None)?;
    let back = until(simulator, plays + cameras as u64, cameras, cut).await?;
    let back_peak = peak(simulator)?;

    step(&format!("connect: all recorders are down for {DOWN:?}"));
    let plays = simulator.served()?.plays;
    simulator.take_down(None, DOWN)?;
    let up = Instant::now() + DOWN;
    let after_reboot = until(simulator, plays + cameras as u64, cameras, up).await?;
    let reboot_peak = peak(simulator)?;
    let took = pictures.get();
    let (_, cut_off) = ingest.shutdown().await;
    let left = settled(simulator).await?;
    tracing::debug!(pictures = took, "taken");

    let peak = establish_peak.max(back_peak).max(reboot_peak) as f64;
    Ok(vec![
        Figure::plain("connect.establish_s", establish.as_secs_f64(), "s"),
        Figure::plain("connect.per_second", cameras as f64 / establish.as_secs_f64(), "sessions / s"),
        Figure::plain("connect.back_s", back.as_secs_f64(), "s"),
        Figure::plain("connect.back_after_reboot_s", after_reboot.as_secs_f64(), "s"),
        Figure {
            name: "connect.peak_setups_per_host".into(),
            value: peak,
            unit: "set-ups",
            floor: Some(cap),
            ratio: Some(cap / peak.max(1.0)),
        },
        Figure::plain("connect.left_after_stop", (left + cut_off as u64) as f64, "sessions"),
    ])
}

/// The most set-ups at one recorder since the last time that this was asked.
fn peak(simulator: &mut Cameras) -> anyhow::Result<u64> {
    let hosts = simulator.served()?.hosts;
    simulator.reset_peaks()?;
    Ok(hosts.values().map(|host| host.setting_up_peak).max().unwrap_or(0))
}

/// Waits until so many PLAYs were answered and all sessions stand; how long after `since` that was.
async fn until(
    simulator: &mut Cameras,
    plays: u64,
    cameras: usize,
    since: Instant,
) -> anyhow::Result<Duration> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let served = simulator.served()?;
        if served.plays >= plays && served.sessions >= cameras as u64 {
            return Ok(Instant::now().saturating_duration_since(since));
        }
        if Instant::now() > deadline {
            bail!("{} of {cameras} sessions stand after {PATIENCE:?}", served.sessions);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Connections that the recorders still see some time after we stopped.
async fn settled(simulator: &mut Cameras) -> anyhow::Result<u64> {
    let mut left = 0;
    for _ in 0..40 {
        let hosts = simulator.served().context("after the stop")?.hosts;
        left = hosts.values().map(|host| host.connections).sum();
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(left)
}
