//! Key pictures decoded per second of CPU time, beside libavcodec's own in the same run.
//!
//! ```sh
//! cargo run --release -p decode --example keyframes_per_core [-- CLIP.mp4]
//! ```
//!
//! Key pictures of a clip (as they are, and coded again at the sizes of interest) go many times through a pool with
//! one thread; the CPU time (user + system) is that of this process. The floor is `ffmpeg -threads 1 -skip_frame
//! nokey` on a file of the same pictures in the same number; its CPU time is that of the child. The two take turns,
//! and the median of the rounds is shown. CPU times come from `/proc/self/stat` in ticks of 10 ms.

#![allow(clippy::disallowed_macros, reason = "an example prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use decode::{Pool, PoolOptions};
use flow::{Codec, Pixels};

const ROUNDS: usize = 5;
/// CPU seconds that one measurement should take, so that start-up and ticks do not count.
const SECONDS: f64 = 3.0;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Case {
    name: String,
    codec: Codec,
    pictures: Vec<Bytes>,
}

fn main() -> Result<()> {
    let clip = std::env::args().nth(1).map(PathBuf::from);
    let media = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/media");
    let clip = clip.unwrap_or_else(|| media.join("one-by-one.mp4"));
    let folder = tempfile::tempdir()?;
    let mut cases = vec![Case::of(&clip, Codec::H264, "as it is")?];
    for (width, height) in [(704, 576), (1920, 1080)] {
        let scaled = folder.path().join(format!("{width}x{height}.mp4"));
        scale(&clip, &scaled, width, height)?;
        cases.push(Case::of(&scaled, Codec::H264, &format!("scaled to {width}x{height}"))?);
    }
    let hevc = media.join("shop-hevc-1080p.mp4");
    if hevc.exists() {
        cases.push(Case::of(&hevc, Codec::H265, "as it is")?);
    }
    let both: Vec<Bytes> =
        cases[1].pictures.iter().zip(&cases[2].pictures).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    cases.push(Case { name: "704x576 and 1920x1080 in turn".to_owned(), codec: Codec::H264, pictures: both });

    println!("{:52} {:>12} {:>12} {:>6}", "key pictures per second of CPU", "pool", "libavcodec", "ratio");
    for case in &cases {
        let rate = case.ours(case.pictures.len().max(20))?;
        let count = (rate * SECONDS) as usize;
        let mut ours = Vec::new();
        let mut floor = Vec::new();
        for _ in 0..ROUNDS {
            floor.push(case.floor(count, folder.path())?);
            ours.push(case.ours(count)?);
        }
        let mut ratios: Vec<f64> = ours.iter().zip(&floor).map(|(a, b)| a / b).collect();
        let name = format!("{}, {} pictures", case.name, count);
        println!(
            "{name:52} {:12.1} {:12.1} {:6.2}",
            median(&mut ours),
            median(&mut floor),
            median(&mut ratios)
        );
    }
    Ok(())
}

impl Case {
    fn of(clip: &Path, codec: Codec, note: &str) -> Result<Self> {
        let pictures: Vec<Bytes> =
            support::read_file(codec, clip).into_iter().filter(|c| c.key).map(|c| c.data).collect();
        let bytes = pictures.iter().map(Bytes::len).sum::<usize>() / pictures.len().max(1);
        let name = clip.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name: format!("{codec} {name} {note}, {} KB", bytes / 1000), codec, pictures })
    }

    /// Pictures per CPU second of a pool with one thread.
    fn ours(&self, count: usize) -> Result<f64> {
        let luma = Arc::new(AtomicU64::new(0));
        let sum = luma.clone();
        let output = move |frame: flow::Frame| {
            // Touch the picture, as a consumer would.
            let Pixels::Host(picture) = &frame.pixels;
            sum.fetch_add(u64::from(picture.planes()[0].data[0]), Ordering::Relaxed);
        };
        let options = PoolOptions { threads: 1, queue: 64, max_chained: 0 };
        let pool = Pool::new(options, output, |camera, fault| println!("{camera}: {fault}"))?;
        let mut sources: Vec<_> = (0..100).map(|i| support::Source::new(i, self.codec)).collect();
        // The decoder is built before the clock starts, as it is once per process.
        pool.offer(sources[0].alone(self.pictures[0].clone()))?;
        wait(&pool, 0);
        let before = cpu_times()?.0;
        for index in 0..count {
            wait(&pool, 60);
            let picture = self.pictures[index % self.pictures.len()].clone();
            pool.offer(sources[index % 100].alone(picture))?;
        }
        wait(&pool, 0);
        let spent = cpu_times()?.0 - before;
        let flow = pool.shutdown(Duration::from_secs(1));
        if flow.passed != count as u64 + 1 {
            return Err(format!("{}: {flow:?}", self.name).into());
        }
        Ok(count as f64 / spent.max(0.01))
    }

    /// Pictures per CPU second of `ffmpeg`.
    fn floor(&self, count: usize, folder: &Path) -> Result<f64> {
        let path =
            folder.join(format!("pictures.{}", if self.codec == Codec::H264 { "h264" } else { "h265" }));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        for index in 0..count {
            file.write_all(&self.pictures[index % self.pictures.len()])?;
        }
        file.into_inner()?.sync_all()?;
        let before = cpu_times()?.1;
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-threads", "1", "-skip_frame", "nokey", "-i"])
            .arg(&path)
            .args(["-f", "null", "-"])
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err("ffmpeg failed".into());
        }
        Ok(count as f64 / (cpu_times()?.1 - before).max(0.01))
    }
}

fn wait(pool: &Pool, inside: i64) {
    let until = Instant::now() + Duration::from_secs(60);
    while pool.counters().inside() > inside && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// CPU seconds (user + system) of this process and of its children that have ended (proc(5), fields 14 to 17).
fn cpu_times() -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1;
    let field = |number: usize| -> Result<f64> {
        Ok(rest.split_whitespace().nth(number - 3).ok_or("too few fields")?.parse::<f64>()? / 100.0)
    };
    Ok((field(14)? + field(15)?, field(16)? + field(17)?))
}

/// Every tenth picture (the clip's key pictures), coded again as an intra picture of a camera's usual quality.
fn scale(from: &Path, to: &Path, width: u32, height: u32) -> Result<()> {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-skip_frame", "nokey", "-i"])
        .arg(from)
        .args([
            "-vsync",
            "0",
            "-vf",
            &format!("scale={width}:{height}"),
            "-c:v",
            "libx264",
            "-g",
            "1",
            "-crf",
            "23",
        ])
        .arg(to)
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("ffmpeg cannot scale {}", from.display()).into()) }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
