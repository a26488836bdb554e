//! `bench infer`: pictures per second and core through a model, beside ONNX Runtime alone on the same session; and
//! how long a picture waits for its batch while many cameras offer half of what the node can take.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::ModelCard;
use flow::{CameraId, Frame};
use infer::{Detector, Model, Runtime};

use super::material::{Keys, as_camera, camera_id, size};
use super::report::{Figure, Kind, Pairs};
use super::{ROUNDS, cpu, step};
use crate::cmd::demo::model_dir;
use crate::{UserError, fleet_text};

const SECONDS: f64 = 1.0;
const BATCHES: [usize; 4] = [1, 4, 8, 16];
/// Cameras that offer pictures while waiting times are measured.
const CAMERAS: usize = 200;
/// Share of the node's capacity that they offer.
const LOAD: f64 = 0.5;
/// How long a thing has to stand in the fleet whose defaults are used; of no meaning here.
const DWELL: Duration = Duration::from_secs(10);
/// For how long the stage is offered more than it can take, to find out how much that is.
const SATURATE: Duration = Duration::from_secs(2);
/// For how long half of that is offered.
const OFFER: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the model's card [default: models/street-demo]
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Size of the street's pictures
    #[arg(long, value_parser = size, default_value = "640x360")]
    pub size: (u32, u32),
    /// Key pictures of this file instead of the rendered street
    #[arg(long, conflicts_with = "size")]
    pub video: Option<PathBuf>,
    /// Processor seconds that each measurement takes
    #[arg(long, default_value_t = SECONDS)]
    pub seconds: f64,
}

impl Default for Args {
    fn default() -> Self {
        Self { model: None, size: (640, 360), video: None, seconds: SECONDS }
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let seconds = super::positive(args.seconds, "--seconds")?;
    let dir = model_dir(args.model.as_deref())?;
    let card = load(&dir)?;
    let runtime = Runtime::load(None)?;
    let keys = match &args.video {
        Some(path) => Keys::of_file(path)?,
        None => Keys::of_street(args.size)?,
    };
    let frames = keys.frames()?;
    let mut model = Model::open(&runtime, Arc::new(card.clone()))?;
    let mut figures = Vec::new();
    for batch in BATCHES.into_iter().filter(|batch| card.batch.is_none_or(|fixed| fixed == *batch)) {
        let mut pairs = Pairs::default();
        let some: Vec<&Frame> = frames.iter().cycle().take(batch).collect();
        for round in 1..=ROUNDS {
            step(&format!("infer {} {}, batch {batch}: round {round} of {ROUNDS}", card.id, keys.label));
            let alone = alone(&mut model, batch, seconds)?;
            let ours = per_core(seconds, batch, || {
                model.look(&some)?;
                Ok(())
            })?;
            pairs.push(ours, Some(alone));
        }
        let name = format!("infer.images_per_second.{}.b{batch}", card.id);
        figures.push(pairs.figure(name, "pictures / core second", Kind::Rate));
    }
    figures.push(waits(&runtime, &card, &dir, &frames)?);
    Ok(figures)
}

/// The card in a folder; what is wrong with it is the user's mistake.
pub fn load(dir: &Path) -> anyhow::Result<ModelCard> {
    ModelCard::load(dir).map_err(|mistakes| UserError(mistakes.to_string()).into())
}

/// Pictures per core second of ONNX Runtime alone.
pub fn alone(model: &mut Model, batch: usize, seconds: f64) -> anyhow::Result<f64> {
    per_core(seconds, batch, || Ok(model.run_alone(batch)?))
}

/// Runs `work` for so many seconds of this thread's processor time and tells pictures per second of it.
fn per_core(
    seconds: f64,
    pictures: usize,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    // The first run of a new batch size allocates.
    work()?;
    let start = cpu::this_thread()?;
    let mut done = 0;
    loop {
        work()?;
        done += pictures;
        let spent = (cpu::this_thread()? - start).as_secs_f64();
        if spent >= seconds {
            return Ok(done as f64 / spent);
        }
    }
}

/// How long pictures wait until their batch is taken, in a stage that is set up as the pipeline does by default and
/// offered half of what it can take on this machine now.
fn waits(runtime: &Runtime, card: &ModelCard, dir: &Path, frames: &[Frame]) -> anyhow::Result<Figure> {
    let node = fleet_text::anything_that_stands(card, dir, DWELL, &[], None)?.node;
    let options = infer::Options {
        sessions: node.infer_sessions,
        max_batch: node.max_batch,
        max_delay: node.max_delay,
    };
    let start = || {
        let id = card.id.clone();
        Detector::new(runtime, vec![card.clone()], options, move |_| id.clone(), drop)
    };
    let cameras = (0..CAMERAS).map(camera_id).collect::<anyhow::Result<Vec<_>>>()?;
    step("infer: how many pictures per second this machine takes now");
    let capacity = capacity(&start()?, &cameras, frames)?;
    let every = Duration::from_secs_f64(CAMERAS as f64 / (capacity * LOAD));
    step(&format!(
        "infer: {CAMERAS} cameras offer {:.0} pictures/s, half of that, for {OFFER:?}",
        capacity * LOAD
    ));
    // Each camera keeps its period; where in it, is chance. So pictures come in clumps, as they do in a city.
    let mut random = fastrand::Rng::with_seed(1);
    let mut due = Vec::new();
    for camera in &cameras {
        let mut at = every.mul_f64(random.f64());
        while at < OFFER {
            due.push((at, camera));
            at += every;
        }
    }
    due.sort_by_key(|(at, _)| *at);
    let detector = start()?;
    let begun = Instant::now();
    for (sequence, (at, camera)) in due.iter().enumerate() {
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        detector.offer(as_camera(&frames[sequence % frames.len()], camera, sequence as u64)?);
    }
    // The last ones are looked at, too.
    let until = Instant::now() + Duration::from_secs(5);
    while detector.counters().inside() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let numbers = detector.numbers();
    step(&format!(
        "infer: waits for a batch: median {:.0?}, longest {:.0?}; batches as (size, times): {:?}",
        numbers.wait_p50, numbers.wait_max, numbers.batches
    ));
    Ok(Figure::plain("infer.batch_wait_p99_ms", numbers.wait_p99.as_secs_f64() * 1e3, "ms"))
}

/// Pictures per second, by the clock, of a stage that always finds every camera's slot full.
fn capacity(detector: &Detector, cameras: &[CameraId], frames: &[Frame]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut sequence = 0;
    while begun.elapsed() < SATURATE {
        for camera in cameras {
            detector.offer(as_camera(&frames[sequence as usize % frames.len()], camera, sequence)?);
            sequence += 1;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(detector.counters().passed as f64 / begun.elapsed().as_secs_f64())
}
