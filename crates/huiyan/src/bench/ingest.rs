//! `bench ingest`: what RTSP sessions cost, beside raw drains of the same sockets and the programs that a user would
//! pick instead.
//!
//! Each measurement has a process of its own ([`client`]). Pictures are dropped as soon as `ingest` hands them on. Bits
//! are those on the wire: sessions that were served times the rate that the drains measured.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::cameras::{Cameras, Material, Wanted};
use super::client::{self, Kind, Measured};
use super::peers::Peer;
use super::plot::{Plot, Series};
use super::report::{self, Figure, Pairs, median};
use super::step;
use crate::UserError;

const SESSIONS: [usize; 3] = [100, 1_000, 2_500];
const MOST_SESSIONS: usize = 20_000;
const SECONDS: f64 = 5.0;
const ROUNDS: usize = 2;
const PEER_SESSIONS: usize = 30;
/// Of a community camera's sub-stream.
const MBIT: f64 = 0.53;
/// The last of them is the floor.
const DRAINS: [Kind; 3] = [Kind::Drain, Kind::Drain16k, Kind::Drain64k];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sessions at the same time; several numbers, one after the other
    #[arg(long, value_delimiter = ',', default_values_t = SESSIONS)]
    sessions: Vec<usize>,
    /// Mbit/s of each
    #[arg(long, default_value_t = MBIT)]
    mbit: f64,
    /// What the cameras play instead of a test pattern
    #[arg(long, conflicts_with = "mbit")]
    video: Option<PathBuf>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = SECONDS)]
    seconds: f64,
    /// Turns that `ingest` and the drains take
    #[arg(long, default_value_t = ROUNDS)]
    rounds: usize,
    /// Sessions of GStreamer's rtspsrc (one process) and of ffmpeg (a process each); 0: leave the two out
    #[arg(long, default_value_t = PEER_SESSIONS)]
    peers: usize,
    /// Draw the cost of a session against the number of sessions into this SVG file
    #[arg(long)]
    plot: Option<PathBuf>,
}

impl Args {
    /// For `bench all`: one number of sessions, one turn.
    pub fn short() -> Self {
        Self {
            sessions: vec![1_000],
            mbit: MBIT,
            video: None,
            seconds: SECONDS,
            rounds: 1,
            peers: PEER_SESSIONS,
            plot: None,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        super::positive(self.seconds, "--seconds")?;
        let mistake = |text| Err(UserError(text).into());
        if let Some(sessions) = self.sessions.iter().find(|n| !(1..=MOST_SESSIONS).contains(*n)) {
            return mistake(format!("--sessions {sessions}: expected 1 to {MOST_SESSIONS}"));
        }
        if !(0.05..=50.0).contains(&self.mbit) {
            return mistake(format!("--mbit {}: expected 0.05 to 50", self.mbit));
        }
        if !(1..=20).contains(&self.rounds) {
            return mistake(format!("--rounds {}: expected 1 to 20", self.rounds));
        }
        if self.peers > 200 {
            return mistake(format!("--peers {}: expected 0 to 200", self.peers));
        }
        Ok(())
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    args.check()?;
    let most = args.sessions.iter().copied().max().context("there is a number of sessions")?;
    // One connection at each end, both on this machine; each process checks its own.
    crate::descriptors::raise_for(most)?;
    let material = args.video.as_deref().map_or(Material::Pattern(args.mbit), Material::File);
    let mut cameras = Cameras::start_with(&Wanted {
        cameras: most.max(args.peers),
        material,
        hosts: 1,
        random_faults: None,
    })?;
    let window = Duration::from_secs_f64(args.seconds);
    let mut levels = Vec::new();
    for sessions in &args.sessions {
        // What was measured so far is worth having, whatever this machine cannot carry.
        match level(args, &mut cameras, *sessions, window) {
            Ok(level) => levels.push(level),
            Err(error) => step(&format!("ingest: {sessions} sessions are left out: {error:#}")),
        }
    }
    if levels.is_empty() {
        bail!("no number of sessions could be measured");
    }
    let mut peers = Vec::new();
    for peer in [Peer::Rtspsrc, Peer::Ffmpeg].into_iter().filter(|_| args.peers > 0) {
        step(&format!("ingest: {} sessions of {}", args.peers, peer.name()));
        match peer.cpu_ms(&mut cameras, args.peers, window)? {
            Some(cpu_ms) => peers.push((peer, cpu_ms)),
            None => step(&format!("ingest: {} is not installed and is left out", peer.name())),
        }
    }
    if let Some(path) = &args.plot {
        std::fs::write(path, plot(args, &levels, &peers)).with_context(|| path.display().to_string())?;
    }
    Ok(figures(args, &levels, &peers))
}

/// All that was measured with one number of sessions, round by round.
struct Level {
    sessions: usize,
    ours: Vec<Measured>,
    /// In the order of [`DRAINS`].
    drains: [Vec<Measured>; 3],
    /// Cores that the simulator took while `ingest` received.
    simulator: Vec<f64>,
    /// Pictures per second of a camera.
    fps: f64,
}

fn level(args: &Args, cameras: &mut Cameras, sessions: usize, window: Duration) -> anyhow::Result<Level> {
    let mut level = Level {
        sessions,
        ours: Vec::new(),
        drains: Default::default(),
        simulator: Vec::new(),
        fps: cameras.fps,
    };
    for round in 1..=args.rounds {
        step(&format!("ingest: {sessions} sessions, round {round} of {}", args.rounds));
        let before = (cameras.served()?, cameras.spent()?, std::time::Instant::now());
        level.ours.push(client::measure(cameras, Kind::Ingest, sessions, window)?);
        let (served, spent, wall) = (cameras.served()?, cameras.spent()? - before.1, before.2.elapsed());
        level.simulator.push(spent.as_secs_f64() / wall.as_secs_f64());
        let (sent, missed) =
            (served.pictures - before.0.pictures, served.pictures_dropped - before.0.pictures_dropped);
        if missed > sent / 100 {
            tracing::warn!(sent, missed, "`ingest` did not keep up: the machine is too busy for this many");
        }
        for (kind, found) in DRAINS.into_iter().zip(&mut level.drains) {
            found.push(client::measure(cameras, kind, sessions, window)?);
        }
    }
    Ok(level)
}

impl Level {
    /// Bits per second of a session, as the plain drain measured them: the others may have much in hand.
    fn bits(&self) -> f64 {
        median(self.drains[0].iter().map(|m| m.bytes as f64 * 8.0 / m.wall / self.sessions as f64))
            .unwrap_or(f64::NAN)
    }

    /// Sessions that had all their pictures: what the machine did not carry does not count.
    fn served(&self, ours: &Measured) -> f64 {
        (ours.pictures as f64 / self.fps / ours.wall).min(self.sessions as f64)
    }

    /// Processor time of a session in milliseconds per second.
    fn cpu_ms(&self) -> f64 {
        median(self.ours.iter().map(|m| m.cpu_ms(self.served(m)))).unwrap_or(f64::NAN)
    }

    fn drain_cpu_ms(&self, drain: usize) -> f64 {
        median(self.drains[drain].iter().map(|m| m.cpu_ms(self.sessions as f64))).unwrap_or(f64::NAN)
    }

    fn middle(&self, value: impl Fn(&Measured) -> f64) -> f64 {
        median(self.ours.iter().map(value)).unwrap_or(f64::NAN)
    }

    fn figures(&self) -> Vec<Figure> {
        let (n, suffix) = (self.sessions as f64, format!("s{}", self.sessions));
        let name = |name: &str| format!("ingest.{name}.{suffix}");
        let (mut gbit, mut sessions) = (Pairs::default(), Pairs::default());
        let per_core = |cpu_ms: f64| 1e3 / cpu_ms;
        let bits = self.bits();
        for (ours, floor) in self.ours.iter().zip(&self.drains[DRAINS.len() - 1]) {
            let (ours, floor) = (per_core(ours.cpu_ms(self.served(ours))), per_core(floor.cpu_ms(n)));
            sessions.push(ours, Some(floor));
            gbit.push(ours * bits / 1e9, Some(floor * bits / 1e9));
        }
        let mut figures = vec![
            gbit.figure(name("gbit_per_core"), "Gbit/s / core", report::Kind::Rate),
            sessions.figure(name("sessions_per_core"), "sessions / core", report::Kind::Rate),
            Figure::plain(name("cpu_ms_per_session"), self.cpu_ms(), "ms / s"),
            Figure::plain(name("rss_kib_per_session"), self.middle(|m| m.rss_kib / n), "KiB / session"),
            Figure::plain(name("kernel_kib_per_session"), self.middle(|m| m.kernel_kib / n), "KiB / session"),
            Figure::plain(name("threads"), self.middle(|m| m.threads as f64), "threads"),
            Figure::plain(name("wakeups_per_second"), self.middle(|m| m.wake_ups as f64 / m.wall), "1/s"),
        ];
        for (drain, of) in ["drain", "drain_16k", "drain_64k"].into_iter().enumerate() {
            let value = per_core(self.drain_cpu_ms(drain)) * bits / 1e9;
            figures.push(Figure::plain(name(&format!("{of}.gbit_per_core")), value, "Gbit/s / core"));
        }
        let simulator = median(self.simulator.iter().copied()).unwrap_or(f64::NAN);
        figures.push(Figure::plain(name("simulator_cores"), simulator, "cores"));
        figures.push(Figure::plain(name("mbit_per_session"), bits / 1e6, "Mbit/s"));
        figures
    }
}

/// Those of the largest number of sessions come first, under names that say no number.
fn figures(args: &Args, levels: &[Level], peers: &[(Peer, f64)]) -> Vec<Figure> {
    let Some(largest) = levels.iter().max_by_key(|level| level.sessions) else { return Vec::new() };
    let suffix = format!(".s{}", largest.sessions);
    let main = ["gbit_per_core", "sessions_per_core", "rss_kib_per_session", "threads", "wakeups_per_second"];
    let mut figures: Vec<Figure> = largest
        .figures()
        .into_iter()
        .filter_map(|figure| {
            let name = figure.name.strip_suffix(&suffix)?.to_owned();
            main.iter().any(|main| name == format!("ingest.{main}")).then_some(Figure { name, ..figure })
        })
        .collect();
    for (peer, cpu_ms) in peers {
        let name = peer.name();
        figures.push(Figure::plain(format!("ingest.vs_{name}"), cpu_ms / largest.cpu_ms(), "times"));
        let with = format!("ingest.{name}.cpu_ms_per_session.s{}", args.peers);
        figures.push(Figure::plain(with, *cpu_ms, "ms / s"));
    }
    figures.extend(levels.iter().flat_map(Level::figures));
    figures
}

fn plot(args: &Args, levels: &[Level], peers: &[(Peer, f64)]) -> String {
    let line = |name: &str, cost: &dyn Fn(&Level) -> f64| Series {
        name: name.to_owned(),
        points: levels.iter().map(|level| (level.sessions as f64, cost(level))).collect(),
    };
    let mut series = vec![line("huiyan", &Level::cpu_ms)];
    for (drain, name) in ["tokio drain", "drain, 16 KiB", "drain, 64 KiB"].into_iter().enumerate() {
        series.push(line(name, &|level: &Level| level.drain_cpu_ms(drain)));
    }
    for (peer, cpu_ms) in peers {
        series.push(Series { name: peer.name().to_owned(), points: vec![(args.peers as f64, *cpu_ms)] });
    }
    let mbit = levels.first().map_or(f64::NAN, |level| level.bits() / 1e6);
    Plot {
        title: format!("Processor time of an RTSP session of {mbit:.2} Mbit/s"),
        x: "sessions at the same time".to_owned(),
        y: "ms of one core per second".to_owned(),
        series,
    }
    .svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(cpu: f64, pictures: u64, bytes: u64) -> Measured {
        Measured {
            cpu,
            wall: 5.0,
            pictures,
            bytes,
            rss_kib: 6_400.0,
            kernel_kib: 3_200.0,
            threads: 3,
            wake_ups: 500,
        }
    }

    fn level(sessions: usize, served: u64) -> Level {
        let bytes = 5 * 125_000 * sessions as u64;
        Level {
            sessions,
            ours: vec![measured(0.05 * sessions as f64 / 100.0, 5 * 25 * served, 0)],
            drains: [0.1, 0.04, 0.02].map(|cpu| vec![measured(cpu * sessions as f64 / 100.0, 0, bytes)]),
            simulator: vec![0.3],
            fps: 25.0,
        }
    }

    #[test]
    fn figures_are_per_session_that_was_served_and_the_largest_comes_first() {
        let args = Args { peers: 20, ..Args::short() };
        let levels = [level(100, 100), level(1_000, 500)];
        let figures = figures(&args, &levels, &[(Peer::Rtspsrc, 3.0)]);
        let figure = |name: &str| figures.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name}"));
        // 0.05 s of 5 s for 100 sessions of 1 Mbit/s: 0.1 ms per second each, 10,000 of them on a core.
        let first = figure("ingest.sessions_per_core.s100");
        assert!((first.value - 10_000.0).abs() < 1.0, "{first:?}");
        assert_eq!(first.ratio.map(|r| (r * 100.0).round()), Some(40.0));
        assert!((figure("ingest.gbit_per_core.s100").value - 10.0).abs() < 0.01);
        assert!((figure("ingest.drain.gbit_per_core.s100").value - 5.0).abs() < 0.01);
        // Half of the pictures are missing: the sessions that had them cost twice as much.
        assert!((figure("ingest.sessions_per_core").value - 5_000.0).abs() < 1.0);
        assert!((figure("ingest.vs_rtspsrc").value - 15.0).abs() < 0.01);
        assert!((figure("ingest.rss_kib_per_session.s100").value - 64.0).abs() < 0.01);
        assert!((figure("ingest.kernel_kib_per_session.s100").value - 32.0).abs() < 0.01);
        assert!((figure("ingest.wakeups_per_second").value - 100.0).abs() < 0.01);
        assert_eq!(figure("ingest.threads").value, 3.0);
        let mut names: Vec<&str> = figures.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names[0], "ingest.gbit_per_core");
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        assert!(plot(&args, &levels, &[(Peer::Ffmpeg, 0.5)]).contains("ffmpeg"));
    }

    #[test]
    fn numbers_that_make_no_sense_are_the_users_mistake() {
        for args in [
            Args { sessions: vec![100, 0], ..Args::short() },
            Args { mbit: 0.0, ..Args::short() },
            Args { rounds: 0, ..Args::short() },
            Args { peers: 1_000, ..Args::short() },
            Args { seconds: -1.0, ..Args::short() },
        ] {
            assert!(args.check().unwrap_err().is::<UserError>(), "{args:?}");
        }
        assert!(Args::short().check().is_ok());
    }
}
