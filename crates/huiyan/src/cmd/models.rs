//! `huiyan models`: cards and model files, before cameras depend on them.

mod accuracy;
mod check;
mod coco;
mod fetch;
mod list;
mod propose;
mod pull;
mod rebatch;

use std::path::{Path, PathBuf};

use crate::UserError;

/// Where cards are looked for.
const FOLDERS: [&str; 2] = ["models", "models/zoo"];

/// List, check, describe and fetch models.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// ONNX Runtime's library [default: $HUIYAN_ONNXRUNTIME, then the one that the set-up unpacked]
    #[arg(long, global = true, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What cards there are, and whether their models can be used
    List(list::Args),
    /// Compare cards with their files: hash, inputs, outputs, classes, a dry run
    Check(check::Args),
    /// Propose a card for a bare model file, from the names and shapes in it
    Propose(propose::Args),
    /// Fetch the file of a card from its address, and compare its SHA-256
    Pull(pull::Args),
    /// Rewrite a model that takes one picture at a time to take any number, and prove that it is still the same
    Rebatch(rebatch::Args),
    /// Measure a model's COCO AP on labelled pictures
    Accuracy(accuracy::Args),
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let library = args.onnxruntime.as_deref();
    match args.command {
        Command::List(args) => list::run(&args),
        Command::Check(args) => check::run(&args, library),
        Command::Propose(args) => propose::run(&args, library),
        Command::Pull(args) => pull::run(&args),
        Command::Rebatch(args) => rebatch::run(&args, library),
        Command::Accuracy(args) => accuracy::run(&args, library),
    }
}

/// The folder of a card, given itself or as the model's id.
fn folder(given: &Path) -> Result<PathBuf, UserError> {
    let own = if given.file_name().is_some_and(|name| name == "card.yaml") { given.parent() } else { None };
    let given = own.unwrap_or(given);
    let places =
        [given.to_owned()].into_iter().chain(FOLDERS.iter().map(|folder| Path::new(folder).join(given)));
    let places: Vec<_> = places.collect();
    places.iter().find(|place| place.join("card.yaml").is_file()).cloned().ok_or_else(|| {
        let looked: Vec<_> =
            places.iter().map(|place| place.join("card.yaml").display().to_string()).collect();
        UserError(format!("{}: no card.yaml there; looked for {}", given.display(), looked.join(", ")))
    })
}

/// The folders in the usual places that hold a card, sorted.
fn known() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in FOLDERS {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| entry.path()).filter(|path| path.join("card.yaml").is_file()));
    }
    found.sort();
    found
}
