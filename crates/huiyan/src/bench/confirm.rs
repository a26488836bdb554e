//! `bench confirm`: what a question to a second model costs, from the picture's planes to the answer, beside ONNX Runtime
//! alone on the same session.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::NormBox;
use infer::{Confirmer, Model, Question, Runtime};

use super::infer::load;
use super::material::{Keys, size};
use super::report::{Figure, Kind, Pairs, median};
use super::{ROUNDS, cpu, step};
use crate::cmd::demo::model_dir;

/// Questions asked at once.
const AT_ONCE: [usize; 2] = [1, 4];
/// Nobody waits so long here.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the classifier's card [default: models/street-confirm]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Size of the street's pictures
    #[arg(long, value_parser = size, default_value = "640x360")]
    size: (u32, u32),
    /// Processor seconds that each measurement takes
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let seconds = super::positive(args.seconds, "--seconds")?;
    let dir = match &args.model {
        Some(dir) => dir.clone(),
        None => model_dir(None)?.with_file_name("street-confirm"),
    };
    let card = load(&dir)?;
    let id = card.id.clone();
    let runtime = Runtime::load(None)?;
    let frames = Keys::of_street(args.size)?.frames()?;
    let confirmer = Confirmer::new(&runtime, vec![card.clone()])?;
    let mut model = Model::open(&runtime, Arc::new(card))?;
    let mut figures = Vec::new();
    for at_once in AT_ONCE {
        let questions: Vec<Question<'_>> = (0..at_once)
            .map(|i| {
                let left = 0.1 + 0.2 * i as f32;
                let place = NormBox::new(left, 0.4, left + 0.15, 0.65)?;
                Ok(Question { frame: &frames[i % frames.len()], place, model: &id })
            })
            .collect::<Result<_, flow::BoxError>>()?;
        let (mut pairs, mut waits) = (Pairs::default(), Vec::new());
        for round in 1..=ROUNDS {
            step(&format!("confirm {id}, {at_once} at once: round {round} of {ROUNDS}"));
            let alone = per_question(seconds, at_once, || Ok(model.run_alone(at_once)?))?;
            let ours = per_question(seconds, at_once, || {
                let began = Instant::now();
                for answer in confirmer.ask(&questions, PATIENCE) {
                    answer?;
                }
                waits.push(began.elapsed().as_secs_f64() * 1e3);
                Ok(())
            })?;
            pairs.push(ours, Some(alone));
        }
        let unit = "ms of processor / question";
        figures.push(pairs.figure(format!("confirm.cpu_ms_per_question.b{at_once}"), unit, Kind::Cost));
        let wait = median(waits.into_iter()).unwrap_or(f64::NAN);
        figures.push(Figure::plain(format!("confirm.wait_p50_ms.b{at_once}"), wait, "ms"));
    }
    Ok(figures)
}

/// Milliseconds of this process's time per question.
fn per_question(
    seconds: f64,
    questions: usize,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    // The first run of a new batch size allocates.
    work()?;
    let start = cpu::own()?;
    let mut done = 0;
    loop {
        work()?;
        done += questions;
        let spent = (cpu::own()? - start).as_secs_f64();
        if spent >= seconds {
            return Ok(spent * 1e3 / done as f64);
        }
    }
}
