//! `huiyan models list`.

use std::path::{Path, PathBuf};

use fleet::ModelCard;

/// What cards there are, and whether their models can be used.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders with a card.yaml, or ids of models [default: all in models/ and models/zoo/]
    models: Vec<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// One line of the list.
#[derive(Debug, serde::Serialize)]
struct Line {
    id: String,
    version: String,
    head: &'static str,
    input: String,
    classes: usize,
    licence: String,
    state: String,
    folder: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let folders = match &*args.models {
        [] => super::known(),
        some => some.iter().map(|given| super::folder(given)).collect::<Result<_, _>>()?,
    };
    let lines: Vec<Line> = folders.iter().map(|folder| line(folder)).collect();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    let widest = lines.iter().map(|line| line.id.len()).max().unwrap_or(0).max(5);
    println!("{:widest$}  {:10}  {:9}  {:>7}  {:12}  state", "model", "head", "input", "classes", "licence");
    for Line { id, head, input, classes, licence, state, .. } in &lines {
        println!("{id:widest$}  {head:10}  {input:9}  {classes:>7}  {licence:12}  {state}");
    }
    Ok(())
}

fn line(folder: &Path) -> Line {
    match ModelCard::load_without_file(folder) {
        Ok(card) => Line {
            id: card.id.to_string(),
            version: card.version.clone(),
            head: card.head.name(),
            input: format!("{}x{}", card.width, card.height),
            classes: card.classes.len(),
            licence: card.licence.clone(),
            state: state(folder, &card),
            folder: folder.into(),
        },
        Err(mistakes) => Line {
            id: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            version: String::new(),
            head: "",
            input: String::new(),
            classes: 0,
            licence: String::new(),
            state: format!(
                "card is wrong ({} mistakes; huiyan models check says which)",
                mistakes.list.len()
            ),
            folder: folder.into(),
        },
    }
}

fn state(folder: &Path, card: &ModelCard) -> String {
    if ModelCard::load(folder).is_ok() {
        return "ready".into();
    }
    match (card.file.is_file(), card.sha256.is_empty(), &card.url) {
        (false, _, Some(_)) => format!("not here yet: huiyan models pull {}", card.id),
        (false, _, None) => format!("{} is missing, and the card has no url", card.file.display()),
        (true, true, _) => "here, but the card does not know its SHA-256".into(),
        (true, false, _) => "another file than the card's".into(),
    }
}
