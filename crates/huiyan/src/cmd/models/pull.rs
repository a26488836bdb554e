//! `huiyan models pull`: the file of a card, from its address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::ModelCard;

use super::fetch::{self, FetchError};
use crate::UserError;

/// Fetch the file of a card from its address, and compare its SHA-256.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders with a card.yaml, or ids of models
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What became of a card's file.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Pulled {
    model: String,
    file: PathBuf,
    bytes: u64,
    sha256: String,
    /// The card vouches for it.
    usable: bool,
    /// It had not been here.
    fetched: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut unknown = Vec::new();
    let mut all = Vec::new();
    for given in &args.models {
        let folder = super::folder(given)?;
        let bar = indicatif::ProgressBar::no_length().with_style(style()?);
        bar.enable_steady_tick(Duration::from_millis(200));
        let pulled = pull(&folder, |done, total| {
            total.iter().for_each(|total| bar.set_length(*total));
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let pulled = pulled?;
        if !args.json {
            println!("{}", line(&pulled));
        }
        if !pulled.usable {
            unknown.push(format!(
                "{}: sha256: the card says unknown, the file has {}; compare it with what its authors say and write it \
                 there: until then the model is not used",
                folder.join("card.yaml").display(),
                pulled.sha256
            ));
        }
        all.push(pulled);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    if unknown.is_empty() { Ok(()) } else { Err(UserError(unknown.join("\n")).into()) }
}

fn style() -> anyhow::Result<indicatif::ProgressStyle> {
    let template = "{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    Ok(indicatif::ProgressStyle::with_template(template)?)
}

fn line(pulled: &Pulled) -> String {
    let Pulled { model, file, bytes, sha256, fetched, .. } = pulled;
    let how = if *fetched { "fetched" } else { "was here already" };
    format!("{model}: {} {how} ({bytes} bytes, SHA-256 {sha256})", file.display())
}

/// Fetches the file of the card in this folder, unless it is there with the right hash.
fn pull(folder: &Path, progress: impl FnMut(u64, Option<u64>)) -> anyhow::Result<Pulled> {
    let card = ModelCard::load_without_file(folder).map_err(|mistakes| UserError(mistakes.to_string()))?;
    let pulled = |bytes, sha256: String, fetched| Pulled {
        model: card.id.to_string(),
        file: card.file.clone(),
        bytes,
        usable: sha256 == card.sha256,
        sha256,
        fetched,
    };
    if card.file.is_file() {
        let (bytes, sha256) = fetch::hash(&card.file)?;
        if sha256 == card.sha256 || card.sha256.is_empty() {
            return Ok(pulled(bytes, sha256, false));
        }
        tracing::warn!(file = %card.file.display(), "is another file than the card's, and will be replaced");
    }
    let Some(url) = &card.url else {
        let text = format!("{}: has no url, so its model cannot be fetched", card.card_path.display());
        return Err(UserError(text).into());
    };
    let known = (!card.sha256.is_empty()).then_some(&*card.sha256);
    let (bytes, sha256) = fetch::fetch(url, &card.file, known, progress).map_err(|error| match error {
        FetchError::Hash { .. } => UserError(format!("{}: {error}", card.card_path.display())).into(),
        error => anyhow::Error::from(error).context(card.id.to_string()),
    })?;
    Ok(pulled(bytes, sha256, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::models::fetch::server::{Behaviour, Server};

    const CONTENT: &[u8] = b"pretend that this is a model";

    fn folder(url: &str, sha256: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pulled");
        std::fs::create_dir(&folder).unwrap();
        let card = format!(
            "id: pulled\nversion: \"1\"\nlicence: Apache-2.0\nsource: a test\nurl: {url}\nsha256: {sha256}\n\
             input: {{ width: 416, height: 416, channels: bgr, resize: stretch }}\nhead: yolox\nclasses: [thing]\n"
        );
        std::fs::write(folder.join("card.yaml"), card).unwrap();
        (dir, folder)
    }

    #[test]
    fn a_card_gets_its_file_once() {
        let server = Server::start(CONTENT.to_vec(), Behaviour::default());
        let right = fetch::hex(CONTENT);
        let (_dir, folder) = folder(&server.url(), &right);
        assert!(ModelCard::load(&folder).unwrap_err().to_string().contains("huiyan models pull"));
        let pulled = pull(&folder, |_, _| ()).unwrap();
        assert_eq!((pulled.bytes, pulled.usable, pulled.fetched), (CONTENT.len() as u64, true, true));
        assert_eq!(std::fs::read(ModelCard::load(&folder).unwrap().file).unwrap(), CONTENT);
        assert!(!pull(&folder, |_, _| ()).unwrap().fetched);
        assert_eq!(server.requests().len(), 1);
    }

    #[test]
    fn an_unknown_hash_is_found_but_not_trusted() {
        let server = Server::start(CONTENT.to_vec(), Behaviour::default());
        let (_dir, folder) = folder(&server.url(), "unknown");
        let pulled = pull(&folder, |_, _| ()).unwrap();
        assert_eq!((pulled.usable, &*pulled.sha256), (false, &*fetch::hex(CONTENT)));
        let error = ModelCard::load(&folder).unwrap_err().to_string();
        assert!(error.contains(&pulled.sha256), "{error}");
    }

    #[test]
    fn another_file_than_the_cards_is_refused() {
        let server = Server::start(CONTENT.to_vec(), Behaviour::default());
        let (_dir, folder) = folder(&server.url(), &"0".repeat(64));
        let error = pull(&folder, |_, _| ()).unwrap_err().to_string();
        assert!(error.contains(&"0".repeat(64)) && error.contains(&fetch::hex(CONTENT)), "{error}");
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["card.yaml"]);
    }
}
