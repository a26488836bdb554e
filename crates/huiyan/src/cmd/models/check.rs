//! `huiyan models check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fleet::ModelCard;
use flow::{CameraId, Frame, FrameId, HostPicture, Matrix, Plane, SessionId, Timestamp};
use infer::{Model, Runtime};

use crate::UserError;

/// Runs after the first, timed.
const RUNS: u32 = 3;

/// Compare cards with their files.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders with a card.yaml, or ids of models [default: all in models/ and models/zoo/ whose files are here]
    models: Vec<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What a check found.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    model: String,
    /// Every point in which card and file disagree, a line each; empty where they agree.
    wrong: Vec<String>,
    /// What the file has, where it could be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
}

#[derive(Debug, serde::Serialize)]
struct Seen {
    inputs: Vec<String>,
    outputs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms_per_picture: Option<f64>,
}

pub fn run(args: &Args, library: Option<&Path>) -> anyhow::Result<()> {
    let runtime = Runtime::load(library)?;
    let folders = match &*args.models {
        [] => {
            let here =
                |folder: &PathBuf| ModelCard::load_without_file(folder).is_ok_and(|card| card.file.is_file());
            super::known().into_iter().filter(here).collect()
        }
        some => some.iter().map(|given| super::folder(given)).collect::<Result<Vec<_>, _>>()?,
    };
    let outcomes: Vec<Outcome> = folders.iter().map(|folder| check(&runtime, folder)).collect();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        outcomes.iter().for_each(print);
    }
    let wrong: Vec<&str> = outcomes.iter().filter(|o| !o.wrong.is_empty()).map(|o| &*o.model).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let (n, names) = (wrong.len(), wrong.join(", "));
    Err(UserError(format!("{n} of {} models cannot be used: {names}", outcomes.len())).into())
}

fn print(outcome: &Outcome) {
    let verdict = if outcome.wrong.is_empty() { "card and file agree" } else { "cannot be used" };
    println!("{}: {verdict}", outcome.model);
    if let Some(seen) = &outcome.seen {
        seen.inputs.iter().for_each(|text| println!("  takes {text}"));
        seen.outputs.iter().for_each(|text| println!("  gives {text}"));
        if let Some(ms) = seen.ms_per_picture {
            println!("  {ms:.1} ms for a picture, on one thread of this machine as it is now");
        }
    }
    outcome.wrong.iter().for_each(|line| println!("  {line}"));
}

fn check(runtime: &Runtime, folder: &Path) -> Outcome {
    let model = folder.display().to_string();
    let card = match ModelCard::load(folder) {
        Ok(card) => card,
        Err(mistakes) => {
            return Outcome {
                model,
                wrong: mistakes.list.iter().map(ToString::to_string).collect(),
                seen: None,
            };
        }
    };
    let mut seen = infer::describe(runtime, &card.file).ok().map(|described| Seen {
        inputs: described.inputs,
        outputs: described.outputs,
        ms_per_picture: None,
    });
    let outcome = match Model::open(runtime, Arc::new(card)) {
        Ok(mut opened) => dry_run(&mut opened),
        Err(error) => Err(error.to_string().lines().map(ToOwned::to_owned).collect()),
    };
    let wrong = match outcome {
        Ok(ms) => {
            seen.iter_mut().for_each(|seen| seen.ms_per_picture = Some(ms));
            Vec::new()
        }
        Err(wrong) => wrong,
    };
    Outcome { model, wrong, seen }
}

/// Looks at noise: whatever a picture holds, the outputs are numbers. Milliseconds per picture.
fn dry_run(model: &mut Model) -> Result<f64, Vec<String>> {
    let frame = noise(model.card().width, model.card().height);
    let mut look = || model.look(&[&frame]).map_err(|error| vec![format!("a dry run failed: {error}")]);
    look()?;
    let start = Instant::now();
    for _ in 0..RUNS {
        look()?;
    }
    let ms = start.elapsed().as_secs_f64() * 1e3 / f64::from(RUNS);
    let broken = model.work().broken_boxes;
    if broken > 0 {
        let file = model.card().file.display();
        return Err(vec![format!(
            "{file}: {} of the boxes found in noise hold NaN or a score outside of 0 to 1; is output.activation right?",
            broken / u64::from(RUNS + 1)
        )]);
    }
    Ok(ms)
}

fn noise(width: u32, height: u32) -> Frame {
    let mut random = fastrand::Rng::with_seed(1);
    let mut plane = |width: u32, height: u32| Plane {
        data: Bytes::from_iter((0..width * height).map(|_| random.u8(..))),
        stride: width as usize,
    };
    let (w, h) = (width.div_ceil(2), height.div_ceil(2));
    let planes = [plane(width, height), plane(w, h), plane(w, h)];
    let picture = HostPicture::new(width, height, planes, Matrix::Bt601, true).expect("planes of this size");
    let camera = CameraId::new("check").expect("letters are an id");
    Frame::host(FrameId { camera, session: SessionId::next(), sequence: 0 }, Timestamp::UNIX_EPOCH, picture)
}
