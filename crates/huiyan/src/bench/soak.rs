//! `bench soak`: cameras that go wrong in every way, for long. Memory must stay flat, descriptors must come back, and
//! each camera's time must be accounted for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Camera, Credentials, Secret};
use flow::{CameraId, Minutes};
use ingest::{Ingest, Policy};
use tokio_util::sync::CancellationToken;

use super::cameras::{Cameras, Material, Wanted};
use super::report::{Figure, fit, median_slope};
use super::{cpu, step};
use crate::cmd::runtime;
use crate::health::{Board, Known};
use crate::picture_health::Limits;
use crate::{UserError, descriptors};

const CAMERAS: usize = 500;
const MINUTES: f64 = 30.0;
/// Cameras behind one simulated recorder.
const PER_HOST: usize = 16;
/// Of each camera.
const MBIT: f64 = 0.2;
/// Of the cameras, one in so many asks for a password that we do not know.
const LOCKED_EVERY: usize = 50;
/// The share of the time that is not looked at for memory: heaps grow until every session has met everything once.
const WARM_UP: f64 = 0.2;
/// Memory is read so many times, at most once a second.
const SAMPLES: f64 = 600.0;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Cameras
    #[arg(long, default_value_t = CAMERAS)]
    cameras: usize,
    /// Minutes
    #[arg(long, default_value_t = MINUTES)]
    minutes: f64,
    /// How long a stream goes well on average, in seconds
    #[arg(long, default_value_t = 60)]
    uptime: u64,
    /// Cameras that send 100 Mbit/s
    #[arg(long, default_value_t = 1)]
    floods: usize,
    /// Another seed, other faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    if !(0.05..=10_080.0).contains(&args.minutes) {
        return Err(UserError(format!("--minutes {}: expected 0.05 to 10080", args.minutes)).into());
    }
    descriptors::raise_for(args.cameras)?;
    let wanted = Wanted {
        cameras: args.cameras.max(1),
        material: Material::Pattern(MBIT),
        hosts: args.cameras.div_ceil(PER_HOST).clamp(2, 1_000) as u16,
        random_faults: Some((args.seed, Duration::from_secs(args.uptime.max(1)))),
    };
    let more = [format!("--locked-every={LOCKED_EVERY}"), format!("--floods={}", args.floods)];
    let simulator = Cameras::start_with_more(&wanted, &more)?;
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let threads = cpu::threads()?;
    let soaked = runtime()?.block_on(soak(&simulator, length))?;
    Ok(figures(&soaked, threads))
}

struct Soaked {
    known: Vec<Known>,
    /// Pictures received, by camera.
    pictures: BTreeMap<CameraId, u64>,
    /// Since the board was made.
    wall: Duration,
    /// Seconds and KiB.
    memory: Vec<(f64, f64)>,
    threads: usize,
    most_open: usize,
    /// More than before.
    left_open: i64,
    cut_off: usize,
    inside: i64,
    reports: u64,
    /// That a camera sends.
    fps: f64,
}

async fn soak(simulator: &Cameras, length: Duration) -> anyhow::Result<Soaked> {
    let mut cameras = simulator.as_fleet()?;
    let wrong = Credentials { user: "admin".into(), password: Secret::new("wrong".into()) };
    let wrong = Arc::new(wrong);
    for camera in cameras.iter_mut().step_by(LOCKED_EVERY) {
        *camera = Arc::new(Camera { credentials: Some(wrong.clone()), ..(**camera).clone() });
    }
    let open = cpu::descriptors()?;
    let start = Instant::now();
    let board = Arc::new(Board::new(cameras.iter().map(|c| c.id.clone()), Limits::default(), start));
    let (told, reports) = (board.clone(), Arc::new(flow::Counter::default()));
    let counted = reports.clone();
    let ingest = Ingest::start(
        cameras,
        Policy::default(),
        Arc::new(|unit| {
            drop(unit);
            Ok(())
        }),
        Arc::new(move |health| {
            counted.add(1);
            drop(told.session(health, Instant::now()));
        }),
        &CancellationToken::new(),
    );
    let every = Duration::from_secs_f64((length.as_secs_f64() / SAMPLES).clamp(0.2, 60.0));
    let (mut memory, mut threads, mut most_open) = (Vec::new(), 0, 0);
    let mut next_word = Duration::from_secs(60);
    while start.elapsed() < length {
        tokio::time::sleep(every.min(length.saturating_sub(start.elapsed()))).await;
        let (at, kib) = (start.elapsed(), cpu::resident_kib()?);
        memory.push((at.as_secs_f64(), kib));
        threads = threads.max(cpu::threads()?);
        most_open = most_open.max(cpu::descriptors()?);
        if at >= next_word {
            next_word += Duration::from_secs(60);
            let streaming = board.all(Instant::now()).iter().filter(|k| k.health.state.is_watched()).count();
            step(&format!("soak: {:.0} min, {streaming} streaming, {kib:.0} KiB", at.as_secs_f64() / 60.0));
        }
    }
    let end = Instant::now();
    let known = board.all(end);
    let pictures = ingest.camera_counters().map(|(camera, flow)| (camera.clone(), flow.received)).collect();
    let (flow, cut_off) = ingest.shutdown().await;
    // Sockets are closed by tasks that end a moment later.
    let mut left_open = 0;
    for _ in 0..40 {
        left_open = cpu::descriptors()? as i64 - open as i64;
        if left_open <= 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Soaked {
        known,
        pictures,
        wall: end - start,
        memory,
        threads,
        most_open,
        left_open,
        cut_off,
        inside: flow.inside(),
        reports: reports.get(),
        fps: simulator.fps,
    })
}

fn figures(soaked: &Soaked, threads_before: usize) -> Vec<Figure> {
    let cameras = soaked.known.len();
    let warm = soaked.wall.as_secs_f64() * WARM_UP;
    let settled: Vec<_> = soaked.memory.iter().copied().filter(|(at, _)| *at >= warm).collect();
    let slope = fit(&settled).map_or(f64::NAN, |(slope, _)| slope * 3_600.0);
    let median_slope = median_slope(&settled).map_or(f64::NAN, |slope| slope * 3_600.0);
    let peak = soaked.memory.iter().map(|(_, kib)| *kib).fold(0.0, f64::max);
    let memory = settled.last().map_or(f64::NAN, |(_, kib)| *kib);
    let mut all = Minutes::default();
    let mut off = Duration::ZERO;
    for known in &soaked.known {
        let parts: Duration = known.minutes.by_state().map(|(_, spent)| spent).sum();
        off = off.max(parts.abs_diff(soaked.wall)).max(known.minutes.total().abs_diff(soaked.wall));
        all.add(&known.minutes);
    }
    let percent = |part: Duration| part.as_secs_f64() * 100.0 / all.total().as_secs_f64().max(1e-9);
    let mut figures = vec![
        Figure::plain("soak.rss_kib_per_hour", slope, "KiB / hour"),
        Figure::plain("soak.rss_kib_per_hour_median", median_slope, "KiB / hour"),
        Figure::plain("soak.rss_kib", memory, "KiB"),
        Figure::plain("soak.rss_peak_kib", peak, "KiB"),
        Figure::plain("soak.descriptors_leaked", soaked.left_open as f64, "descriptors"),
        Figure::plain("soak.descriptors_peak", soaked.most_open as f64, "descriptors"),
        Figure::plain("soak.threads", soaked.threads.saturating_sub(threads_before) as f64, "threads"),
        Figure::plain("soak.cut_off_at_stop", soaked.cut_off as f64, "sessions"),
        Figure::plain("soak.pictures_unaccounted", soaked.inside as f64, "pictures"),
        Figure::plain("soak.seconds_unaccounted", off.as_secs_f64(), "s"),
        Figure::plain("soak.watched_percent", percent(all.watched()), "%"),
        Figure::plain("soak.pictures_per_watched", pictures_per_watched(soaked), "of those due"),
        Figure::plain(
            "soak.reports_per_camera_minute",
            soaked.reports as f64 * 60.0 / (cameras as f64 * soaked.wall.as_secs_f64()).max(1e-9),
            "1 / min",
        ),
    ];
    let by_state = all.by_state().filter(|(state, _)| *state != "streaming");
    figures.extend(
        by_state.map(|(state, spent)| Figure::plain(format!("soak.{state}_percent"), percent(spent), "%")),
    );
    figures
}

/// Pictures received, beside those that cameras send in the time that is said to be watched: what the account of the
/// time is worth. A camera that floods, or sends its pictures in pieces, is not compared.
fn pictures_per_watched(soaked: &Soaked) -> f64 {
    let (mut came, mut due) = (0.0, 0.0);
    for known in &soaked.known {
        let pictures = soaked.pictures.get(&known.health.camera).copied().unwrap_or(0);
        tracing::debug!(
            camera = %known.health.camera, pictures, watched = ?known.minutes.watched(),
            share = pictures as f64 / soaked.fps / known.minutes.watched().as_secs_f64(), state = known.health.state.name()
        );
        came += pictures as f64;
        due += known.minutes.watched().as_secs_f64() * soaked.fps;
    }
    came / f64::max(due, 1e-9)
}
