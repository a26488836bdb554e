//! `huiyan sim`: simulated cameras over RTSP, and pictures for training.

mod control;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use flow::Codec;
use indicatif::{ProgressBar, ProgressStyle};
use sim::rtsp::{Fault, Mount, RandomFaults, Server};
use sim::street::{self, Film, Timeline};
use sim::{Begin, Clip, Pattern, Plan, SimCamera};

use super::{duration, interrupted_or_over, runtime};
use crate::UserError;

/// Serve simulated cameras over RTSP, or render pictures for training.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Serve video files and rendered streets in a loop, as many cameras as wanted
    Serve(ServeArgs),
    /// Render labelled pictures of random streets (COCO's layout)
    Dataset(DatasetArgs),
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// A video file to serve, H.264 or H.265; may be given several times
    #[arg(long)]
    video: Vec<PathBuf>,
    /// A street: vending-day, parking-dusk, obstruction-rain, quiet-day, or the path of a timeline's YAML; may be given
    /// several times [default: all four]
    #[arg(long)]
    street: Vec<String>,
    /// A test pattern of so many Mbit/s, 704x576 at 25 pictures per second, instead of a street
    #[arg(long)]
    pattern: Option<f64>,
    /// How many cameras, over these in turn
    #[arg(long, default_value_t = 8)]
    cameras: usize,
    /// Spread the cameras over so many addresses, 127.0.0.1 and those after it, as if over recorders; listen on 0.0.0.0
    #[arg(long, default_value_t = 1)]
    hosts: u16,
    /// Let connections fail at random: refused, hung, cut, silent, garbage, loss; the seed says which
    #[arg(long)]
    random_faults: Option<u64>,
    /// With --random-faults: how long a stream goes well, on average
    #[arg(long, value_parser = duration, default_value = "2min")]
    mean_uptime: Duration,
    /// Every so-many-th camera asks for a password that nobody has; 0: none
    #[arg(long, default_value_t = 0)]
    locked_every: usize,
    /// So many cameras, the last ones, send 100 Mbit/s each
    #[arg(long, default_value_t = 0)]
    floods: usize,
    /// Obey lines on standard input (stats, cut [ADDRESS], down SECONDS [ADDRESS], reset-peaks) and answer each with a
    /// line of JSON; stop when the input ends
    #[arg(long)]
    control: bool,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8554")]
    listen: SocketAddr,
    /// Each session begins with the first picture, instead of somewhere in the loop
    #[arg(long)]
    from_start: bool,
    /// Code streets as H.265
    #[arg(long)]
    h265: bool,
    /// Write the ground truth of each street into this folder
    #[arg(long)]
    truth: Option<PathBuf>,
    /// Write the cameras' ids and URLs as a snippet of fleet YAML
    #[arg(long)]
    fleet: Option<PathBuf>,
    /// Stop after this long
    #[arg(long = "for", value_parser = duration)]
    limit: Option<Duration>,
}

#[derive(Debug, clap::Args)]
struct DatasetArgs {
    /// Folder to write to
    #[arg(long)]
    out: PathBuf,
    /// What the labels are about: things (what a detector learns) or subjects (what may be taken for a vendor, as what
    /// it is: what a confirming model learns)
    #[arg(long, value_enum, default_value_t = About::Things)]
    labels: About,
    /// How many pictures
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Which streets; training and evaluation need different seeds
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum About {
    Things,
    Subjects,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    match args.what {
        What::Serve(args) => serve(args),
        What::Dataset(args) => {
            let bar = bar(args.count as u64, "pictures");
            let about = match args.labels {
                About::Things => street::dataset::Labels::Things,
                About::Subjects => street::dataset::Labels::Subjects,
            };
            street::dataset::export(&args.out, about, args.count, args.seed, (640, 360), &|done| {
                bar.set_position(done as u64)
            })?;
            bar.finish_and_clear();
            println!("{} pictures in {}", args.count, args.out.display());
            Ok(())
        }
    }
}

fn serve(args: ServeArgs) -> anyhow::Result<()> {
    if args.hosts > 1 && !args.listen.ip().is_unspecified() {
        let listen = args.listen;
        return Err(
            UserError(format!("--hosts {} needs --listen 0.0.0.0:PORT, not {listen}", args.hosts)).into()
        );
    }
    crate::descriptors::raise_for(args.cameras)?;
    let mut clips = Vec::new();
    for path in &args.video {
        clips.push(Arc::new(Clip::open(path)?));
    }
    if let Some(mbit) = args.pattern {
        clips.push(Arc::new(Clip::pattern(&Pattern { mbit, ..Pattern::default() })?));
    }
    let all = street::SHIPPED.map(|(name, _)| name.to_owned());
    let names: &[String] = if args.street.is_empty() && clips.is_empty() { &all } else { &args.street };
    let timelines = timelines(names)?;
    let codec = if args.h265 { Codec::H265 } else { Codec::H264 };
    for ((name, _), film) in timelines.iter().zip(render(&timelines, codec)?) {
        if let Some(dir) = &args.truth {
            std::fs::create_dir_all(dir)?;
            let stem = Path::new(name).file_stem().unwrap_or_default();
            film.truth.write(&dir.join(stem)).with_context(|| dir.display().to_string())?;
        }
        clips.push(Arc::new(film.clip));
    }
    runtime()?.block_on(async {
        let server =
            Server::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
        let begin = if args.from_start { Begin::FirstPicture } else { Begin::Staggered };
        let random = args.random_faults.map(|seed| RandomFaults { seed, mean_uptime: args.mean_uptime });
        let plan = Plan { begin, random, hosts: args.hosts, ..Plan::new(args.cameras) };
        let cameras = plan.mount(&server, &clips)?;
        mount_troublemakers(&server, &cameras, &clips, &args)?;
        if let Some(path) = &args.fleet {
            std::fs::write(path, sim::fleet_yaml(&cameras)).with_context(|| path.display().to_string())?;
        }
        // Whoever gives orders reads one line, then answers.
        let shown = if args.control { 1 } else { 8 };
        for camera in cameras.iter().take(shown) {
            println!("{}", camera.url);
        }
        if cameras.len() > shown && !args.control {
            println!("... {} in all", cameras.len());
        }
        tokio::select! {
            () = interrupted_or_over(args.limit) => {}
            obeyed = control::obey(&server), if args.control => obeyed?,
        }
        server.shutdown().await;
        Ok(())
    })
}

/// Cameras that are all trouble, in the place of some of the others.
fn mount_troublemakers(
    server: &Server,
    cameras: &[SimCamera],
    clips: &[Arc<Clip>],
    args: &ServeArgs,
) -> anyhow::Result<()> {
    let locked = cameras.iter().step_by(args.locked_every.max(1)).filter(|_| args.locked_every > 0);
    for camera in locked {
        let mount = Mount::new(clips[camera.clip].clone());
        server.mount(&camera.id, mount.with_fault(Fault::WrongPassword))?;
    }
    for camera in cameras.iter().rev().take(args.floods) {
        let mount = Mount::new(clips[camera.clip].clone());
        server.mount(&camera.id, mount.with_fault(Fault::Flood { mbit: 100 }))?;
    }
    Ok(())
}

/// The timelines of these names, or in these files.
pub fn timelines(names: &[String]) -> anyhow::Result<Vec<(String, Timeline)>> {
    let open = |name: &String| Timeline::open(name).map(|t| (name.clone(), t));
    names.iter().map(|name| open(name).map_err(|error| UserError(error.to_string()).into())).collect()
}

/// Renders and codes streets, on as many threads as there are cores, with a progress bar.
pub fn render(timelines: &[(String, Timeline)], codec: Codec) -> anyhow::Result<Vec<Film>> {
    let total: u32 = timelines.iter().map(|(_, t)| t.frames()).sum();
    let bar = bar(u64::from(total), "pictures rendered");
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut films = Vec::new();
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some((name, timeline)) = timelines.get(index) else { return Ok(films) };
            let film = street::film(timeline, codec, &mut |_, _| bar.inc(1)).with_context(|| name.clone())?;
            films.push((index, film));
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(timelines.len());
    let parts = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .map(|h| h.join().expect("rendering does not panic"))
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    bar.finish_and_clear();
    let mut films: Vec<_> = parts.into_iter().flatten().collect();
    films.sort_by_key(|(index, _)| *index);
    Ok(films.into_iter().map(|(_, film)| film).collect())
}

fn bar(length: u64, unit: &str) -> ProgressBar {
    let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
    ProgressBar::new(length)
        .with_style(ProgressStyle::with_template(&template).expect("the template is valid"))
}
