//! `bench node`: the whole pipeline, from sockets to the broker, at the cameras' own pace; processor time per look,
//! beside the sum of the stages' floors per look, with few cameras and with many; how long events take; and what
//! other ways to do the same cost on the same cameras.
//!
//! The cameras run in a child process. The broker runs in this one and is counted: it is little, and a worker's
//! own share of talking to it is most of that. The split by stage goes by the names of the threads. The gate is off, so
//! that every look goes through the model; `bench gate` says what it spares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use fleet::{Fleet, ModelCard, Node};
use infer::{Model, Runtime};
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::cameras::Cameras;
use super::decode::Floor;
use super::hardware::{self, Hardware};
use super::infer::{alone, load};
use super::material::{Keys, TempFolder};
use super::report::{Figure, Kind, Pairs, median};
use super::{ROUNDS, alternatives, cpu, drain, step};
use crate::cmd::demo::model_dir;
use crate::cmd::runtime;
use crate::pipeline::{Pipeline, Report};
use crate::{broker, fleet_text};

/// Few cameras, whose pictures find every cache cold; the others find the pipeline busy.
const FEW: usize = 24;
const CAMERAS: usize = 300;
const SECONDS: f64 = 24.0;
/// How long a thing has to stand before it is a situation: longer than a round lasts, since in a street an event is
/// rare beside looks.
const NO_EVENTS: Duration = Duration::from_secs(600);
/// In the last round, which finds out what an event costs: two looks.
const EVENTS: Duration = Duration::from_secs(2);
/// Processor seconds of the model alone in a round, and key pictures that libavcodec decodes alone meanwhile: about as
/// long.
const FLOOR_SECONDS: f64 = 1.2;
const FLOOR_PICTURES: usize = 400;
/// One look in this many seconds, of every camera: what `node.cameras` counts with.
const LOOK_EVERY: f64 = 2.0;
/// As much of the cores is planned with; at more, looks wait (`infer.latency_p99_ms.load90`).
const PLANNED: f64 = 0.9;
/// Cameras that the other ways have to look at.
const ALTERNATIVES: usize = 48;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many cameras at most
    #[arg(long, default_value_t = CAMERAS)]
    pub cameras: usize,
    /// Seconds that are measured in all, over three rounds, of each number of cameras
    #[arg(long, default_value_t = SECONDS)]
    pub seconds: f64,
    /// What the cameras play instead of the rendered street
    #[arg(long)]
    pub video: Option<PathBuf>,
    /// Folder of the model's card [default: models/street-demo]
    #[arg(long)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub hardware: Hardware,
}

impl Default for Args {
    fn default() -> Self {
        let hardware = Hardware::default();
        Self { cameras: CAMERAS, seconds: SECONDS, video: None, model: None, hardware }
    }
}

/// What all rounds share.
struct Bench {
    runtime: tokio::runtime::Runtime,
    card: ModelCard,
    dir: PathBuf,
    cameras: Cameras,
    broker: std::net::SocketAddr,
    data: TempFolder,
    window: Duration,
    rounds: usize,
    hardware: Node,
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let window = Duration::from_secs_f64(super::positive(args.seconds, "--seconds")? / ROUNDS as f64);
    let hardware = args.hardware.node()?;
    let dir = model_dir(args.model.as_deref())?;
    let card = load(&dir)?;
    let mut floors = Floors::new(&card, args.video.as_deref())?;
    let mut bench = Bench {
        runtime: runtime()?,
        cameras: Cameras::start(args.cameras.max(1), args.video.as_deref())?,
        broker: broker::start(0)?,
        data: TempFolder::new()?,
        card,
        dir,
        window,
        rounds: 0,
        hardware,
    };
    let all = bench.cameras.count();
    let (few, many) = (bench.tally(FEW.min(all), &mut floors)?, bench.tally(all, &mut floors)?);
    let mut figures = many.figures();
    let of_few = |part: &str| format!("node.cpu_ms_per_look.of_{}{part}", FEW.min(all));
    figures.push(few.total.figure(of_few(""), MS, Kind::Cost));
    figures.push(few.decode.figure(of_few(".decode"), MS, Kind::Cost));
    figures.push(few.infer.figure(of_few(".infer"), MS, Kind::Cost));
    figures.extend(bench.with_events(&few)?);
    figures.extend(bench.beside(&few)?);
    Ok(figures)
}

impl Bench {
    /// Cameras from all over the simulator, so that their key pictures do not fall together.
    fn urls(&self, count: usize) -> Vec<String> {
        let urls = self.cameras.urls();
        (0..count.min(urls.len())).map(|n| urls[n * urls.len() / count].clone()).collect()
    }

    fn fleet(&mut self, count: usize, dwell: Duration) -> anyhow::Result<Arc<Fleet>> {
        let urls = self.urls(count);
        let mut fleet = fleet_text::anything_that_stands(&self.card, &self.dir, dwell, &urls, None)?;
        fleet.cameras.iter_mut().for_each(|camera| Arc::make_mut(camera).gate = None);
        (fleet.broker.host, fleet.broker.port) = (self.broker.ip().to_string(), self.broker.port());
        hardware::choose(&mut fleet.node, &self.hardware);
        self.rounds += 1;
        fleet.data_dir = self.data.path().join(self.rounds.to_string());
        std::fs::create_dir_all(&fleet.data_dir)?;
        Ok(Arc::new(fleet))
    }

    fn measure(&mut self, count: usize, dwell: Duration) -> anyhow::Result<Round> {
        let fleet = self.fleet(count, dwell)?;
        self.runtime.block_on(measure(&fleet, &self.cameras, self.window))
    }

    /// Rounds with so many cameras, each beside its floors.
    fn tally(&mut self, count: usize, floors: &mut Floors) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        for round in 1..=ROUNDS {
            step(&format!("node: {count} cameras, round {round} of {ROUNDS}"));
            let ours = self.measure(count, NO_EVENTS)?;
            let settle = Duration::from_secs(1);
            let drained = self.runtime.block_on(drain::measure(&self.cameras, settle, self.window / 2))?;
            let floor = floors.measure(1e3 * self.cameras.key_every / drained.sessions_per_core)?;
            tally.push(&ours, floor);
        }
        Ok(tally)
    }

    /// What an event costs, and how long it takes to a subscriber, while few cameras have many of them.
    fn with_events(&mut self, without: &Tally) -> anyhow::Result<Vec<Figure>> {
        step("node: one more round, with events");
        let arrivals = self.runtime.block_on(Arrivals::watch(self.broker))?;
        let eventful = self.measure(FEW.min(self.cameras.count()), EVENTS)?;
        let took = arrivals.sorted();
        let mut figures = Vec::new();
        if let Some(p99) = took.get((took.len() * 99 / 100).min(took.len().saturating_sub(1))) {
            step(&format!(
                "node: {} events arrived, the median after {:.0?}",
                took.len(),
                took[took.len() / 2]
            ));
            figures.push(Figure::plain(
                "node.event_p99_ms",
                p99.as_secs_f64() * 1e3,
                "ms from capture to subscriber",
            ));
        }
        let cost = without.per_event(&eventful);
        figures.extend(cost.map(|ms| Figure::plain("node.cpu_ms_per_event", ms, "ms of a core / event")));
        Ok(figures)
    }

    /// Some of the cameras seen by what people build instead, and how many times our cost with few cameras that is.
    fn beside(&mut self, ours: &Tally) -> anyhow::Result<Vec<Figure>> {
        let count = ALTERNATIVES.min(self.cameras.count());
        let urls = self.urls(count);
        let Some(our_cost) = ours.total.ours() else { return Ok(vec![]) };
        let versus = |name: &str, cost: f64| Figure {
            name: name.to_owned(),
            value: cost / our_cost,
            unit: "times our processor time per look",
            floor: None,
            ratio: None,
        };
        let mut figures = Vec::new();
        step(&format!("node: {count} of the cameras with a Python pipeline"));
        if let Some(cost) = alternatives::python(&urls, &self.card, self.window)? {
            step(&format!("node: Python takes {cost:.2} ms of a core per look"));
            figures.push(versus("node.vs_python", cost));
        }
        step(&format!("node: {count} of the cameras with a GStreamer chain, without inference"));
        let window = self.window;
        if let Some(cost) = alternatives::gstreamer(&mut self.cameras, &urls, &self.card, window)? {
            let inference = ours.infer.floor().unwrap_or(0.0);
            step(&format!(
                "node: GStreamer takes {cost:.2} ms of a core per look, and {inference:.2} for the model alone"
            ));
            figures.push(versus("node.vs_gstreamer", cost + inference));
        }
        Ok(figures)
    }
}

/// Processor milliseconds per look, by stage.
#[derive(Debug, Clone, Copy)]
struct Cost {
    ingest: f64,
    decode: f64,
    infer: f64,
}

/// What the stages' libraries cost alone.
struct Floors {
    model: Model,
    /// `None` without ffmpeg.
    decode: Option<Floor>,
}

impl Floors {
    fn new(card: &ModelCard, video: Option<&Path>) -> anyhow::Result<Self> {
        let keys = match video {
            Some(path) => Keys::of_file(path)?,
            // The very pictures: what a picture takes goes by its bytes.
            None => Keys::of_cameras()?,
        };
        let model = Model::open(&Runtime::load(None)?, Arc::new(card.clone()))?;
        Ok(Self { model, decode: Floor::new(&keys, FLOOR_PICTURES)? })
    }

    /// Decoding and the model side by side, as the pipeline has them: they share caches and memory there, too. The
    /// model one picture at a time, because larger runs cost more on a processor.
    fn measure(&mut self, ingest: f64) -> anyhow::Result<Option<Cost>> {
        let Self { model, decode } = self;
        let Some(decode) = decode else { return Ok(None) };
        let (infer, decode) = std::thread::scope(|scope| {
            let infer = scope.spawn(|| alone(model, 1, FLOOR_SECONDS));
            let decode = decode.rate();
            (infer.join(), decode)
        });
        let infer = infer.map_err(|_| anyhow::anyhow!("the model's thread panicked"))??;
        Ok(Some(Cost { ingest, decode: 1e3 / decode?, infer: 1e3 / infer }))
    }
}

/// One round of the pipeline.
struct Round {
    /// Processor milliseconds per look, all in all.
    total: f64,
    looks: f64,
    events: u64,
    stages: Cost,
    /// Share of the key pictures due that were not dropped on their way to a look.
    coverage: f64,
}

async fn measure(fleet: &Arc<Fleet>, cameras: &Cameras, window: Duration) -> anyhow::Result<Round> {
    let pipeline = Pipeline::start(fleet, crate::pipeline::policy(&fleet.node), Box::new(|_| ()))?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while fleet.cameras.iter().any(|camera| pipeline.looks_of(&camera.id) == 0) {
        if Instant::now() > deadline {
            bail!("not every camera had a look within 60 s: {}", serde_json::to_string(&pipeline.report())?);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (before, threads, spent) = (pipeline.report(), cpu::by_thread()?, cpu::own()?);
    let start = Instant::now();
    tokio::time::sleep(window).await;
    let (spent, now) = (cpu::own()? - spent, cpu::by_thread()?);
    let (after, wall) = (pipeline.report(), start.elapsed());
    let batches = pipeline.infer_numbers().batches;
    pipeline.stop().await;

    let looks = (after.scene.passed - before.scene.passed) as f64;
    if looks == 0.0 {
        bail!("no looks within {window:?}: {}", serde_json::to_string(&after)?);
    }
    let (runs, pictures) = batches.iter().fold((0, 0), |(r, p), (size, n)| (r + n, p + n * *size as u64));
    let round = Round {
        total: spent.as_secs_f64() * 1e3 / looks,
        looks,
        events: after.events - before.events,
        stages: by_stage(&threads, &now, looks),
        coverage: coverage(&before, &after),
    };
    step(&format!(
        "node: {:.1} looks/s of {:.1} that the cameras offer, {:.1} pictures per batch, {} events, {:.0} % of a core",
        looks / wall.as_secs_f64(),
        fleet.cameras.len() as f64 / cameras.key_every,
        pictures as f64 / (runs as f64).max(1.0),
        round.events,
        100.0 * spent.as_secs_f64() / wall.as_secs_f64(),
    ));
    Ok(round)
}

/// Pictures that are still on their way count as watched.
fn coverage(before: &Report, after: &Report) -> f64 {
    let all = |flow: &flow::Flow| flow.dropped.iter().map(|(_, n)| n).sum::<u64>();
    let full = |flow: &flow::Flow| {
        flow.dropped.iter().filter(|(why, _)| *why == "overflow").map(|(_, n)| n).sum::<u64>()
    };
    let refused = full(&after.ingest) - full(&before.ingest);
    let due = after.ingest.passed - before.ingest.passed + refused;
    // What a decoder's queue refuses is counted there as well.
    let lost = all(&after.decode) - all(&before.decode) + all(&after.infer) - all(&before.infer);
    1.0 - lost as f64 / (due as f64).max(1.0)
}

/// Threads are named by the stage that they belong to; GStreamer names its own by the element and its pad, and
/// only decoders have some here. The runtime's threads serve RTSP and MQTT.
fn by_stage(before: &BTreeMap<String, Duration>, after: &BTreeMap<String, Duration>, looks: f64) -> Cost {
    let spent = |belongs: fn(&str) -> bool| {
        let all = after.iter().filter(|(name, _)| belongs(name)).map(|(name, now)| {
            now.saturating_sub(before.get(name).copied().unwrap_or_default()).as_secs_f64()
        });
        all.sum::<f64>() * 1e3 / looks
    };
    Cost {
        ingest: spent(|name| name.starts_with("tokio-")),
        decode: spent(|name| name.starts_with("decode-") || name.contains(":src")),
        infer: spent(|name| name.starts_with("infer-")),
    }
}

/// All rounds.
#[derive(Default)]
struct Tally {
    total: Pairs,
    ingest: Pairs,
    decode: Pairs,
    infer: Pairs,
    other: Vec<f64>,
    coverage: Vec<f64>,
}

const MS: &str = "ms of a core / look";

impl Tally {
    fn push(&mut self, ours: &Round, floor: Option<Cost>) {
        let sum = floor.map(|f| f.ingest + f.decode + f.infer);
        self.total.push(ours.total, sum);
        self.ingest.push(ours.stages.ingest, floor.map(|f| f.ingest));
        self.decode.push(ours.stages.decode, floor.map(|f| f.decode));
        self.infer.push(ours.stages.infer, floor.map(|f| f.infer));
        let Cost { ingest, decode, infer } = ours.stages;
        self.other.push((ours.total - ingest - decode - infer).max(0.0));
        self.coverage.push(ours.coverage);
    }

    /// What a round with events took more than the others, per event; `None` where no event came.
    fn per_event(&self, round: &Round) -> Option<f64> {
        let without = self.total.ours()?;
        (round.events > 0).then(|| (round.total - without).max(0.0) * round.looks / round.events as f64)
    }

    fn figures(&self) -> Vec<Figure> {
        let middle = |values: &[f64]| median(values.iter().copied()).unwrap_or(f64::NAN);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let total = self.total.figure("node.cpu_ms_per_look", MS, Kind::Cost);
        let cameras = |ms: f64| PLANNED * cores * LOOK_EVERY * 1e3 / ms;
        vec![
            Figure {
                name: "node.cameras".to_owned(),
                value: cameras(total.value),
                unit: "cameras at a look in 2 s, 0.9 of the cores",
                floor: total.floor.map(cameras),
                ratio: total.ratio,
            },
            total,
            self.ingest.figure("node.cpu_ms_per_look.sockets", MS, Kind::Cost),
            self.decode.figure("node.cpu_ms_per_look.decode", MS, Kind::Cost),
            self.infer.figure("node.cpu_ms_per_look.infer", MS, Kind::Cost),
            Figure::plain("node.cpu_ms_per_look.other", middle(&self.other), MS),
            Figure::plain("node.coverage", middle(&self.coverage), "of the key pictures"),
        ]
    }
}
