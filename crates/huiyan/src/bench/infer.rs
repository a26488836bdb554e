//! `bench infer`: pictures per second and core through a model, beside ONNX Runtime alone on the same session; then the
//! stage under load (`under_load.rs`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet::ModelCard;
use flow::Frame;
use infer::{Model, Runtime};

use super::material::{Keys, size};
use super::report::{Figure, Kind, Pairs};
use super::{ROUNDS, cpu, step, under_load};
use crate::cmd::demo::model_dir;
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
    let node = fleet_text::anything_that_stands(&card, &dir, DWELL, &[], None)?.node;
    figures.extend(under_load::latencies(&runtime, &card, &node, &frames)?);
    figures.extend(under_load::many(&frames)?);
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
