//! `bench decode`: key pictures per second and core through the pool, beside libavcodec alone.
//!
//! The floor is the program `ffmpeg` with one thread on a file of the same pictures in the same order. What its
//! start costs is measured on a short file and taken off.
//!
//! Hardware has no core, so what it decodes (`--decoder`) is told by the clock, beside what it takes of the processor.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use decode::{Pool, PoolOptions};
use fleet::Node;
use flow::{Codec, Frame, Pixels};

use super::hardware::{self, Hardware};
use super::material::{Keys, TempFolder, Units, size, wait_inside};
use super::report::{Figure, Kind, Pairs};
use super::{ROUNDS, cpu, step};

const SECONDS: f64 = 1.2;
/// What a sub-stream and two usual main streams send.
const SIZES: [(u32, u32); 3] = [(640, 360), (1280, 720), (1920, 1080)];
/// Pictures in the file that tells what ffmpeg's start costs: enough for it to find out what is inside.
const SHORT: usize = 16;
/// Pictures that wait in the pool.
const INSIDE: i64 = 48;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Key pictures of this file, H.264 or H.265, instead of the rendered street
    #[arg(long)]
    video: Option<PathBuf>,
    /// The street's sizes; may be given several times [default: 640x360, 1280x720, 1920x1080]
    #[arg(long, value_parser = size, conflicts_with = "video")]
    size: Vec<(u32, u32)>,
    /// Processor seconds that each measurement takes
    #[arg(long, default_value_t = SECONDS)]
    seconds: f64,
    /// Decoder threads [default: one, and one per core]
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    hardware: Hardware,
}

impl Default for Args {
    fn default() -> Self {
        let hardware = Hardware::default();
        Self { video: None, size: Vec::new(), seconds: SECONDS, threads: None, hardware }
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let seconds = super::positive(args.seconds, "--seconds")?;
    let node = args.hardware.node()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match args.threads {
        Some(threads) => vec![threads.max(1)],
        None if cores > 1 => vec![1, cores],
        None => vec![1],
    };
    let mut figures = Vec::new();
    let mut materials: Vec<_> = match &args.video {
        Some(path) => vec![Keys::of_file(path)?],
        None => {
            let sizes = if args.size.is_empty() { &SIZES[..] } else { &args.size };
            sizes.iter().map(|size| Keys::of_street(*size)).collect::<Result<_, _>>()?
        }
    };
    materials.extend(Keys::mixed(&materials));
    for keys in &materials {
        figures.extend(measure(keys, &node, &threads, seconds)?);
    }
    Ok(figures)
}

fn measure(keys: &Keys, node: &Node, threads: &[usize], seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let pools = threads.iter().map(|n| Decoders::new(keys, node, *n)).collect::<anyhow::Result<Vec<_>>>()?;
    if hardware::decodes(node) {
        return by_the_clock(keys, &pools, threads, seconds);
    }
    let rate = pools[0].rate(keys, 32)?.per_core();
    let count = ((rate * seconds) as usize).max(2 * SHORT);
    let floor = Floor::new(keys, count)?;
    let mut pairs = vec![Pairs::default(); pools.len()];
    for round in 1..=ROUNDS {
        step(&format!(
            "decode {} {}: round {round} of {ROUNDS}, {count} key pictures of {} KB",
            keys.codec,
            keys.label,
            keys.mean_bytes() / 1000
        ));
        let alone = floor.as_ref().map(Floor::rate).transpose()?;
        for (pool, pairs) in pools.iter().zip(&mut pairs) {
            pairs.push(pool.rate(keys, count)?.per_core(), alone);
        }
    }
    let base = format!("decode.keyframes_per_core.{}", keys.label);
    let named = pairs.iter().zip(threads).map(|(pairs, threads)| {
        let name = if *threads == 1 { base.clone() } else { format!("{base}.t{threads}") };
        pairs.figure(name, "key pictures / core second", Kind::Rate)
    });
    Ok(named.collect())
}

/// What hardware decodes, by the clock, and what that takes of the processor.
fn by_the_clock(
    keys: &Keys,
    pools: &[Decoders],
    threads: &[usize],
    seconds: f64,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (pool, threads) in pools.iter().zip(threads) {
        let backend = pool.pool.backend();
        let count = ((pool.rate(keys, 32)?.per_second() * seconds) as usize).max(2 * SHORT);
        let (mut rate, mut cost) = (Pairs::default(), Pairs::default());
        for round in 1..=ROUNDS {
            step(&format!(
                "decode {} {} by {backend}, {threads} threads: round {round} of {ROUNDS}, {count} key pictures",
                keys.codec, keys.label
            ));
            let took = pool.rate(keys, count)?;
            rate.push(took.per_second(), None);
            cost.push(1e3 / took.per_core(), None);
        }
        let of = |what: &str| format!("decode.{what}.{backend}.{}.t{threads}", keys.label);
        figures.push(rate.figure(of("keyframes_per_second"), "key pictures / s by the clock", Kind::Rate));
        figures.push(cost.figure(of("cpu_ms_per_keyframe"), "ms of a core / key picture", Kind::Cost));
    }
    Ok(figures)
}

/// What some pictures took.
struct Took {
    pictures: usize,
    cpu: Duration,
    clock: Duration,
}

impl Took {
    /// Pictures per second of processor time.
    fn per_core(&self) -> f64 {
        self.pictures as f64 / self.cpu.as_secs_f64().max(1e-6)
    }

    /// Pictures per second.
    fn per_second(&self) -> f64 {
        self.pictures as f64 / self.clock.as_secs_f64().max(1e-6)
    }
}

/// The pool under test.
struct Decoders {
    pool: Pool,
    /// Keeps the consumer's reads from being optimised away.
    seen: Arc<AtomicU64>,
}

impl Decoders {
    /// Starts the threads and their decoders, which happens once per process.
    fn new(keys: &Keys, node: &Node, threads: usize) -> anyhow::Result<Self> {
        let seen = Arc::new(AtomicU64::new(0));
        let sum = seen.clone();
        let output = move |frame: Frame| {
            // What stays on an accelerator is not wanted here; its grey copy is.
            let sample = match &frame.pixels {
                Pixels::Host(picture) => picture.planes()[0].data[0],
                Pixels::Device(_) => frame.luma.cells()[0],
            };
            sum.fetch_add(u64::from(sample), Ordering::Relaxed);
        };
        let options = PoolOptions { queue: 64, max_chained: 0, ..hardware::pool(node, threads) };
        let pool = Pool::new(options, output, |camera, fault| tracing::warn!(%camera, "{fault}"))?;
        let decoders = Self { pool, seen };
        decoders.rate(keys, 8 * threads)?;
        Ok(decoders)
    }

    /// What so many pictures take, in this process.
    fn rate(&self, keys: &Keys, count: usize) -> anyhow::Result<Took> {
        let mut units = Units::new(100)?;
        let passed = self.pool.counters().passed;
        let (before, start) = (cpu::own()?, Instant::now());
        for index in 0..count {
            wait_inside(&self.pool, INSIDE)?;
            self.pool.offer(units.next(keys.codec, keys.pictures[index % keys.pictures.len()].clone()))?;
        }
        wait_inside(&self.pool, 0)?;
        let took = Took { pictures: count, cpu: cpu::own()? - before, clock: start.elapsed() };
        let flow = self.pool.counters();
        if flow.passed - passed != count as u64 {
            bail!("{} of {count} key pictures were decoded: {flow:?}", flow.passed - passed);
        }
        tracing::trace!(sum = self.seen.load(Ordering::Relaxed), "decoded");
        Ok(took)
    }
}

/// libavcodec alone.
pub struct Floor {
    /// Holds the files; removed at the end.
    folder: TempFolder,
    codec: Codec,
    count: usize,
}

impl Floor {
    /// Writes the files; `None`, with a word about it, where there is no ffmpeg.
    pub fn new(keys: &Keys, count: usize) -> anyhow::Result<Option<Self>> {
        let there =
            Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            tracing::warn!("ffmpeg is not installed, so libavcodec alone cannot be measured: no floor");
            return Ok(None);
        }
        let floor = Self { folder: TempFolder::new()?, codec: keys.codec, count: count.max(2 * SHORT) };
        for (name, count) in [("long", floor.count), ("short", SHORT)] {
            let path = floor.folder.path().join(name);
            let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
            for index in 0..count {
                file.write_all(&keys.pictures[index % keys.pictures.len()])?;
            }
            file.flush().with_context(|| path.display().to_string())?;
        }
        Ok(Some(floor))
    }

    /// Pictures per second of the child's processor time.
    pub fn rate(&self) -> anyhow::Result<f64> {
        let start = self.spent("short")?;
        let all = self.spent("long")?;
        let spent = all.saturating_sub(start).as_secs_f64();
        Ok((self.count - SHORT) as f64 / spent.max(1e-6))
    }

    fn spent(&self, name: &str) -> anyhow::Result<Duration> {
        let format = match self.codec {
            Codec::H264 => "h264",
            Codec::H265 => "hevc",
            Codec::Mjpeg => "mjpeg",
        };
        let before = cpu::ended_children()?;
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-threads", "1", "-skip_frame", "nokey", "-f", format, "-i"])
            .arg(self.folder.path().join(name))
            .args(["-f", "null", "-"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("ffmpeg could not decode the key pictures ({status})");
        }
        Ok(cpu::ended_children()? - before)
    }
}
