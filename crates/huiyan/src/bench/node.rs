//! `bench node`: the whole pipeline, from sockets to the broker, at the cameras' own pace; processor time per look,
//! beside the sum of the stages' floors per look.
//!
//! The cameras run in a child process. The broker runs in this one and is counted: it is little, and a worker's
//! own share of talking to it is most of that. The split by stage goes by the names of the threads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use fleet::{Fleet, ModelCard};
use infer::{Model, Runtime};
use tokio::time::Instant;

use super::cameras::Cameras;
use super::decode::Floor;
use super::infer::{alone, load};
use super::material::{Keys, TempFolder};
use super::report::{Figure, Kind, Pairs, median};
use super::{ROUNDS, cpu, drain, step};
use crate::cmd::demo::model_dir;
use crate::cmd::runtime;
use crate::pipeline::{Pipeline, Report};
use crate::{broker, fleet_text};

const CAMERAS: usize = 24;
const SECONDS: f64 = 18.0;
/// How long a thing has to stand before it is a situation: longer than a round lasts, since in a street an event is
/// rare beside looks.
const NO_EVENTS: Duration = Duration::from_secs(600);
/// In the last round, which finds out what an event costs: two looks.
const EVENTS: Duration = Duration::from_secs(2);
/// Key pictures that libavcodec decodes alone in a round.
const FLOOR_PICTURES: usize = 400;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many cameras
    #[arg(long, default_value_t = CAMERAS)]
    pub cameras: usize,
    /// Seconds that are measured in all, over three rounds
    #[arg(long, default_value_t = SECONDS)]
    pub seconds: f64,
    /// What the cameras play instead of the rendered street
    #[arg(long)]
    pub video: Option<PathBuf>,
    /// Folder of the model's card [default: models/street-demo]
    #[arg(long)]
    pub model: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self { cameras: CAMERAS, seconds: SECONDS, video: None, model: None }
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let window = Duration::from_secs_f64(super::positive(args.seconds, "--seconds")? / ROUNDS as f64);
    let dir = model_dir(args.model.as_deref())?;
    let card = load(&dir)?;
    let mut floors = Floors::new(&card, args.video.as_deref())?;
    let cameras = Cameras::start(args.cameras.max(1), args.video.as_deref())?;
    let mqtt = broker::start(0)?;
    let data = TempFolder::new()?;
    let fleet = |dwell: Duration, round: usize| -> anyhow::Result<Arc<Fleet>> {
        let mut fleet = fleet_text::anything_that_stands(&card, &dir, dwell, &cameras.urls(), None)?;
        (fleet.broker.host, fleet.broker.port) = (mqtt.ip().to_string(), mqtt.port());
        fleet.data_dir = data.path().join(round.to_string());
        std::fs::create_dir_all(&fleet.data_dir)?;
        Ok(Arc::new(fleet))
    };
    let runtime = runtime()?;
    let mut tally = Tally::default();
    for round in 1..=ROUNDS {
        step(&format!("node: {} cameras, round {round} of {ROUNDS}", cameras.count()));
        let ours = runtime.block_on(measure(&fleet(NO_EVENTS, round)?, &cameras, window))?;
        let drained = runtime.block_on(drain::measure(&cameras, Duration::from_secs(1), window / 2))?;
        let floor = floors.measure(1e3 * cameras.key_every / drained.sessions_per_core, ours.batch)?;
        tally.push(&ours, floor);
    }
    let mut figures = tally.figures();
    step("node: one more round, with events");
    let eventful = runtime.block_on(measure(&fleet(EVENTS, ROUNDS + 1)?, &cameras, window))?;
    figures.extend(
        tally
            .per_event(&eventful)
            .map(|ms| Figure::plain("node.cpu_ms_per_event", ms, "ms of a core / event")),
    );
    Ok(figures)
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
            None => Keys::of_street((640, 360))?,
        };
        let model = Model::open(&Runtime::load(None)?, Arc::new(card.clone()))?;
        Ok(Self { model, decode: Floor::new(&keys, FLOOR_PICTURES)? })
    }

    fn measure(&mut self, ingest: f64, batch: usize) -> anyhow::Result<Option<Cost>> {
        let Some(decode) = &self.decode else { return Ok(None) };
        let decode = 1e3 / decode.rate()?;
        Ok(Some(Cost { ingest, decode, infer: 1e3 / alone(&mut self.model, batch, 0.5)? }))
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
    /// Mean size of a batch, rounded.
    batch: usize,
}

async fn measure(fleet: &Arc<Fleet>, cameras: &Cameras, window: Duration) -> anyhow::Result<Round> {
    let pipeline = Pipeline::start(fleet, ingest::Policy::default(), Box::new(|_| ()))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while fleet.cameras.iter().any(|camera| pipeline.looks_of(&camera.id) == 0) {
        if Instant::now() > deadline {
            bail!("not every camera had a look within 30 s: {}", serde_json::to_string(&pipeline.report())?);
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
        batch: (pictures as f64 / (runs as f64).max(1.0)).round().max(1.0) as usize,
    };
    step(&format!(
        "node: {:.1} looks/s of {:.1} that the cameras offer, batches of {}, {} events, {:.0} % of a core",
        looks / wall.as_secs_f64(),
        cameras.count() as f64 / cameras.key_every,
        round.batch,
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
    looks_per_core: Pairs,
    total: Pairs,
    ingest: Pairs,
    decode: Pairs,
    infer: Pairs,
    other: Vec<f64>,
    coverage: Vec<f64>,
}

impl Tally {
    fn push(&mut self, ours: &Round, floor: Option<Cost>) {
        let sum = floor.map(|f| f.ingest + f.decode + f.infer);
        self.looks_per_core.push(1e3 / ours.total, sum.map(|ms| 1e3 / ms));
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
        const MS: &str = "ms of a core / look";
        let middle = |values: &[f64]| median(values.iter().copied()).unwrap_or(f64::NAN);
        vec![
            self.looks_per_core.figure("node.looks_per_core", "looks / core second", Kind::Rate),
            self.total.figure("node.cpu_ms_per_look", MS, Kind::Cost),
            self.ingest.figure("node.cpu_ms_per_look.sockets", MS, Kind::Cost),
            self.decode.figure("node.cpu_ms_per_look.decode", MS, Kind::Cost),
            self.infer.figure("node.cpu_ms_per_look.infer", MS, Kind::Cost),
            Figure::plain("node.cpu_ms_per_look.other", middle(&self.other), MS),
            Figure::plain("node.coverage", middle(&self.coverage), "of the key pictures"),
        ]
    }
}
