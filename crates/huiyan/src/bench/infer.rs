//! `bench infer`: pictures per second and core through a model, beside ONNX Runtime alone on the same session; then the
//! stage under load (`under_load.rs`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::ModelCard;
use flow::Frame;
use infer::Model;

use super::hardware::{self, Hardware};
use super::material::{Keys, TempFolder, size};
use super::report::{Figure, Kind, Pairs};
use super::{ROUNDS, cpu, step, under_load};
use crate::cmd::demo::model_dir;
use crate::pipeline::runtime_for;
use crate::{UserError, fleet_text};

const SECONDS: f64 = 1.0;
const BATCHES: [usize; 4] = [1, 4, 8, 16];
/// How long a thing has to stand in the fleet whose defaults are used; of no meaning here.
const DWELL: Duration = Duration::from_secs(10);

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
    #[command(flatten)]
    pub hardware: Hardware,
}

impl Default for Args {
    fn default() -> Self {
        let hardware = Hardware::default();
        Self { model: None, size: (640, 360), video: None, seconds: SECONDS, hardware }
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let seconds = super::positive(args.seconds, "--seconds")?;
    let dir = model_dir(args.model.as_deref())?;
    let card = load(&dir)?;
    let hardware = args.hardware.node()?;
    let data = TempFolder::new()?;
    let runtime = runtime_for(&hardware, data.path())?;
    let keys = match &args.video {
        Some(path) => Keys::of_file(path)?,
        None => Keys::of_street(args.size)?,
    };
    let frames = keys.frames_by(hardware::pool(&hardware, 1))?;
    let mut model = Model::open(&runtime, Arc::new(card.clone()))?;
    let mut figures = match hardware::infers(&hardware) {
        Some(provider) => {
            let label = format!("{} by {provider}", keys.label);
            by_the_clock(&mut model, &frames, (&label, provider), seconds)?
        }
        None => on_the_processor(&mut model, &frames, &keys.label, seconds)?,
    };
    let mut node = fleet_text::anything_that_stands(&card, &dir, DWELL, &[], None)?.node;
    hardware::choose(&mut node, &hardware);
    figures.extend(under_load::latencies(&runtime, &card, &node, &frames)?);
    figures.extend(under_load::many(&frames)?);
    Ok(figures)
}

/// Pictures per second of processor time.
fn on_the_processor(
    model: &mut Model,
    frames: &[Frame],
    label: &str,
    seconds: f64,
) -> anyhow::Result<Vec<Figure>> {
    let (id, fixed) = (model.card().id.clone(), model.card().batch);
    let mut figures = Vec::new();
    for batch in BATCHES.into_iter().filter(|batch| fixed.is_none_or(|fixed| fixed == *batch)) {
        let mut pairs = Pairs::default();
        let some: Vec<&Frame> = frames.iter().cycle().take(batch).collect();
        for round in 1..=ROUNDS {
            step(&format!("infer {id} {label}, batch {batch}: round {round} of {ROUNDS}"));
            let alone = alone(model, batch, seconds)?;
            let ours = per_core(seconds, batch, || {
                model.look(&some)?;
                Ok(())
            })?;
            pairs.push(ours, Some(alone));
        }
        let name = format!("infer.images_per_second.{id}.b{batch}");
        figures.push(pairs.figure(name, "pictures / core second", Kind::Rate));
    }
    Ok(figures)
}

/// Pictures per second by the clock: hardware that runs a model has no core.
fn by_the_clock(
    model: &mut Model,
    frames: &[Frame],
    (label, provider): (&str, &str),
    seconds: f64,
) -> anyhow::Result<Vec<Figure>> {
    let (id, fixed) = (model.card().id.clone(), model.card().batch);
    let mut figures = Vec::new();
    for batch in BATCHES.into_iter().filter(|batch| fixed.is_none_or(|fixed| fixed == *batch)) {
        let some: Vec<&Frame> = frames.iter().cycle().take(batch).collect();
        let mut pairs = Pairs::default();
        for round in 1..=ROUNDS {
            step(&format!("infer {id} {label}, batch {batch}, by the clock: round {round} of {ROUNDS}"));
            let alone = per_second(seconds, batch, || Ok(model.run_alone(batch)?))?;
            let ours = per_second(seconds, batch, || Ok(model.look(&some).map(drop)?))?;
            pairs.push(ours, Some(alone));
        }
        let name = format!("infer.images_per_second_by_the_clock.{provider}.{id}.b{batch}");
        figures.push(pairs.figure(name, "pictures / s by the clock", Kind::Rate));
    }
    Ok(figures)
}

/// Runs `work` for so many seconds and tells pictures per second.
fn per_second(
    seconds: f64,
    pictures: usize,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    // The first run of a new batch size allocates, and may be recorded.
    work()?;
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < seconds {
        work()?;
        done += pictures;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
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
