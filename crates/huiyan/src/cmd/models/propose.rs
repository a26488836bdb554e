//! `huiyan models propose`: a card for a bare model file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fleet::{Activation, Boxes, Channels, Extra, Filter, Layout, ModelCard, Output, Resize};
use infer::{Description, Proposal, Runtime};
use sha2::{Digest, Sha256};

use super::coco;
use crate::UserError;

/// Propose a card for a bare model file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model, an .onnx file
    file: PathBuf,
}

pub fn run(args: &Args, library: Option<&Path>) -> anyhow::Result<()> {
    let runtime = Runtime::load(library)?;
    let described = infer::describe(&runtime, &args.file).map_err(|error| UserError(error.to_string()))?;
    let Some(mut proposal) = infer::propose(&described, &args.file) else {
        let file = args.file.display();
        let (takes, gives) = (described.inputs.join("; "), described.outputs.join("; "));
        let text = format!("{file}: no head reads what it gives.\n  takes {takes}\n  gives {gives}");
        return Err(UserError(text).into());
    };
    proposal.card.sha256 =
        Sha256::digest(std::fs::read(&args.file)?).iter().map(|b| format!("{b:02x}")).collect();
    print!("{}", card_text(&described, &proposal));
    Ok(())
}

/// The card as YAML, with what could and what could not be known.
fn card_text(described: &Description, proposal: &Proposal) -> String {
    let card = &proposal.card;
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!(
        "# Proposed from the names and shapes in {}; save it as {}/card.yaml beside the model.",
        name(card),
        card.id
    ));
    line(&format!("# It takes {}.", described.inputs.join("; ")));
    line(&format!("# It gives {}.", described.outputs.join("; ")));
    if let Some(producer) = &described.producer {
        line(&format!("# Written by {}.", one_line(producer)));
    }
    if !proposal.also.is_empty() {
        let also: Vec<_> = proposal.also.iter().map(|head| head.name()).collect();
        line(&format!("# These heads would fit the shapes as well: {}.", also.join(", ")));
    }
    line(
        "# Not in any model file: its licence, where it comes from, and how its pictures were prepared in training. The",
    );
    line(&format!(
        "# input's colours, range and resize below are what is usual for {}; if they are wrong, it still",
        card.head.name()
    ));
    line("# finds things, only worse: compare `huiyan models accuracy` with what its authors say.");
    line(&format!("id: {}", card.id));
    line("version: \"1\"");
    line("licence: unknown");
    line("source: unknown");
    line(&format!("file: {}", quoted(&name(card))));
    line(&format!("sha256: {}", card.sha256));
    if !proposal.size_known {
        line("# The file takes any size; this one is a guess.");
    }
    line(&input(card));
    line(&format!("head: {}", card.head.name()));
    if let Some(output) = output(card) {
        line(&output);
    }
    classes(proposal, &mut line);
    line("# Usual values; lower `score` to see more, at the price of false alarms.");
    line(&format!(
        "thresholds: {{ score: {}, nms_iou: {} }}",
        card.thresholds.score, card.thresholds.nms_iou
    ));
    line(&format!("batch: {}", card.batch.map_or_else(|| "dynamic".to_owned(), |n| n.to_string())));
    out
}

fn name(card: &ModelCard) -> String {
    card.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Text from a model file, fit for a comment.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", one_line(text).replace('\\', "\\\\").replace('"', "\\\""))
}

fn input(card: &ModelCard) -> String {
    let list = |numbers: [f32; 3]| format!("[{}, {}, {}]", numbers[0], numbers[1], numbers[2]);
    let mut text = format!("input: {{ width: {}, height: {}", card.width, card.height);
    if let Some(name) = &card.input_name {
        let _ = write!(text, ", name: {}", quoted(name));
    }
    if card.layout == Layout::Nhwc {
        text.push_str(", layout: nhwc");
    }
    let channels = match card.channels {
        Channels::Rgb => "rgb",
        Channels::Bgr => "bgr",
    };
    let (mean, deviation) = (list(card.range.mean), list(card.range.deviation));
    let _ = write!(text, ", channels: {channels}, mean: {mean}, deviation: {deviation}, resize: ");
    match card.resize {
        Resize::LetterboxTopLeft { pad } => {
            let _ = write!(text, "letterbox_top_left, pad: {pad}");
        }
        Resize::LetterboxCentre { pad } => {
            let _ = write!(text, "letterbox_centre, pad: {pad}");
        }
        Resize::Stretch => text.push_str("stretch"),
    }
    if card.filter == Filter::Linear {
        text.push_str(", filter: linear");
    }
    let extra = card.extra.iter().map(|(name, extra)| {
        let word = match extra {
            Extra::HeightWidth => "height_width",
            Extra::WidthHeight => "width_height",
            Extra::Ones => "ones",
        };
        format!("{name}: {word}")
    });
    let extra: Vec<_> = extra.collect();
    if !extra.is_empty() {
        let _ = write!(text, ", extra: {{ {} }}", extra.join(", "));
    }
    text + " }"
}

/// Where the export differs from what is usual for the head.
fn output(card: &ModelCard) -> Option<String> {
    let (own, usual) = (&card.output, Output::of(card.head));
    let mut keys = Vec::new();
    if own.strides != usual.strides {
        keys.push(format!("strides: {:?}", own.strides));
    }
    if own.reg_max != usual.reg_max {
        keys.push(format!("reg_max: {}", own.reg_max));
    }
    if own.centre != usual.centre {
        keys.push(format!("centre: {}", own.centre));
    }
    if own.activation != usual.activation {
        let word = match own.activation {
            Activation::None => "none",
            Activation::Sigmoid => "sigmoid",
            Activation::Softmax => "softmax",
        };
        keys.push(format!("activation: {word}"));
    }
    if own.boxes != usual.boxes {
        let word = match own.boxes {
            Boxes::Grid => "grid",
            Boxes::Pixels => "pixels",
            Boxes::Unit => "unit",
        };
        keys.push(format!("boxes: {word}"));
    }
    (!keys.is_empty()).then(|| format!("output: {{ {} }}", keys.join(", ")))
}

fn classes(proposal: &Proposal, line: &mut impl FnMut(&str)) {
    let card = &proposal.card;
    let names: Vec<&str> = if proposal.names_known {
        card.classes.iter().map(flow::ClassName::as_str).collect()
    } else if !proposal.count_known {
        line(
            "# The file says neither how many classes there are nor their names; these are COCO's, the most usual ones.",
        );
        coco::classes()
    } else if card.classes.len() == coco::classes().len() {
        line("# The file has 80 classes and no names; these are COCO's, the most usual ones.");
        coco::classes()
    } else {
        line(&format!("# The file has {} classes and does not name them.", card.classes.len()));
        card.classes.iter().map(flow::ClassName::as_str).collect()
    };
    let names: Vec<_> = names.into_iter().map(quoted).collect();
    line(&format!("classes: [{}]", names.join(", ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is proposed for each of the test models is a card that the program takes as it stands.
    #[test]
    fn a_proposal_is_a_card() {
        let heads = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infer/testdata/heads");
        let runtime = Runtime::load(None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut proposed = 0;
        for entry in std::fs::read_dir(heads).unwrap().flatten() {
            let described = infer::describe(&runtime, &entry.path()).unwrap();
            let mut proposal = infer::propose(&described, &entry.path()).unwrap();
            let folder = dir.path().join(proposal.card.id.as_str());
            std::fs::create_dir(&folder).unwrap();
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
            proposal.card.sha256 = super::super::fetch::hash(&entry.path()).unwrap().1;
            std::fs::write(folder.join("card.yaml"), card_text(&described, &proposal)).unwrap();
            let card = ModelCard::load(&folder).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!((card.head, &card.output, &card.extra), {
                let own = &proposal.card;
                (own.head, &own.output, &own.extra)
            });
            infer::Model::open(&runtime, std::sync::Arc::new(card)).unwrap_or_else(|error| panic!("{error}"));
            proposed += 1;
        }
        assert_eq!(proposed, 15);
    }
}
