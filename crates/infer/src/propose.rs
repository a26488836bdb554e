//! What a bare model file says about itself, and a card that would fit it.

use std::collections::BTreeSet;
use std::path::Path;

use fleet::{Channels, Extra, Filter, Head, Layout, ModelCard, Output, Range, Resize, Thresholds};
use flow::{ClassName, ModelId};

use ort::session::Session;

use crate::agree::agree;
use crate::heads::{Tensor, dimensions};
use crate::run::tensor;
use crate::{ModelError, Runtime};

/// The side that is tried where a file takes pictures of any size.
const ANY_SIZE: u32 = 640;

/// What a model file says about itself.
#[derive(Debug, Clone)]
pub struct Description {
    /// The inputs as `name: type dimensions`.
    pub inputs: Vec<String>,
    /// The outputs in the same form; dimensions that the file leaves open are `?`.
    pub outputs: Vec<String>,
    /// What wrote the file, if it says so.
    pub producer: Option<String>,
    /// The classes, where the exporter has left their names in the file (Ultralytics does).
    pub names: Vec<String>,
    parts: (Vec<Tensor>, Vec<Tensor>),
}

/// A card that fits a file, as far as can be told.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The card; its `source` and `licence` are left to its reader, and `sha256` to the caller.
    pub card: ModelCard,
    /// The file fixes the size of its pictures.
    pub size_known: bool,
    /// The file says how many classes there are.
    pub count_known: bool,
    /// The file names its classes.
    pub names_known: bool,
    /// Heads that would fit as well.
    pub also: Vec<Head>,
}

fn text(tensor: &Tensor) -> String {
    format!("{}: {} {}", tensor.name, tensor.element(), dimensions(&tensor.shape))
}

/// Opens a model file without a card.
pub fn describe(runtime: &Runtime, file: &Path) -> Result<Description, ModelError> {
    let session = open(runtime, file)?;
    let (producer, names) = match session.metadata() {
        Ok(metadata) => (metadata.producer(), metadata.custom("names").map(|names| quoted(&names))),
        Err(_) => (None, None),
    };
    let inputs: Vec<_> = session.inputs().iter().map(tensor).collect();
    let outputs: Vec<_> = session.outputs().iter().map(tensor).collect();
    Ok(Description {
        inputs: inputs.iter().map(text).collect(),
        outputs: outputs.iter().map(text).collect(),
        producer: producer.filter(|producer| !producer.is_empty()),
        names: names.unwrap_or_default(),
        parts: (inputs, outputs),
    })
}

fn open(runtime: &Runtime, file: &Path) -> Result<Session, ModelError> {
    // The card is what will be written.
    let failed = |source| ModelError::Read { card: file.into(), file: file.into(), source };
    let bytes = std::fs::metadata(file).map_err(failed)?.len();
    let session = Session::builder(runtime.environment())
        .and_then(|builder| Ok(builder.with_intra_threads(1)?))
        .and_then(|mut builder| builder.commit_from_file(file));
    session.map_err(|error| ModelError::Load { file: file.into(), bytes, reason: error.to_string() })
}

/// The texts in quotes: the values of a Python dictionary that has numbers for keys.
fn quoted(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['\'', '"']) {
        let quote = &rest[start..=start];
        let inside = &rest[start + 1..];
        let Some(end) = inside.find(quote) else { break };
        names.push(inside[..end].to_owned());
        rest = &inside[end + 1..];
    }
    names
}

/// A card for the file, by the names and shapes of its tensors. `None` where no head reads them.
pub fn propose(described: &Description, file: &Path) -> Option<Proposal> {
    let (inputs, outputs) = &described.parts;
    let picture = Picture::find(inputs)?;
    let mut fitting: Vec<ModelCard> = Vec::new();
    for head in ORDER {
        let counts = if counted(head, outputs) { counts(head, outputs) } else { [1].into() };
        let named = (!described.names.is_empty()).then_some(described.names.len());
        // What the file names comes first; then the fewest, as in `4 + classes` against `classes`.
        let counts = named.into_iter().chain(counts);
        let fits = counts.flat_map(|count| variants(head, count)).find_map(|(count, output)| {
            let card = card(file, head, count, output, &picture);
            // Of the two, only Ultralytics leaves names in the file.
            let told_apart = head != Head::Yolox || described.names.is_empty();
            let fits = told_apart && plausible(head, outputs) && agree(&card, inputs, outputs).is_ok();
            fits.then_some(card)
        });
        fitting.extend(fits);
    }
    let also = fitting.iter().skip(1).map(|card| card.head).collect();
    let mut card = fitting.into_iter().next()?;
    let count_known = counted(card.head, outputs) || !described.names.is_empty();
    let names_known = described.names.len() == card.classes.len() && !described.names.is_empty();
    if names_known {
        card.classes = described.names.iter().map(|name| ClassName::new(name)).collect();
    }
    Some(Proposal { card, size_known: picture.size_known, count_known, names_known, also })
}

/// The most telling shapes first.
const ORDER: [Head; 11] = [
    Head::Yolox,
    Head::Yolov5,
    Head::Fastestdet,
    Head::Picodet,
    Head::Nanodet,
    Head::Rtmdet,
    Head::Ssd,
    Head::Detr,
    Head::End2end,
    Head::Yolov8,
    Head::Classifier,
];

/// Whether the shapes say how many classes there are.
fn counted(head: Head, outputs: &[Tensor]) -> bool {
    match head {
        Head::End2end | Head::Ssd => false,
        Head::Rtmdet => outputs.len() > 2,
        Head::Detr => outputs.len() < 3,
        _ => true,
    }
}

/// Numbers of classes that the shapes allow.
fn counts(head: Head, outputs: &[Tensor]) -> BTreeSet<usize> {
    let before: &[i64] = match head {
        Head::Yolox | Head::Yolov5 | Head::Fastestdet => &[5],
        Head::Yolov8 => &[4],
        Head::Nanodet | Head::Picodet => &[0, 32, 44, 68],
        _ => &[0],
    };
    let sides = outputs.iter().flat_map(|output| output.shape.iter().skip(1));
    let pairs = sides.flat_map(|side| before.iter().map(move |before| side - before));
    pairs
        .filter_map(|count| usize::try_from(count).ok())
        .filter(|count| (1..=10_000).contains(count))
        .collect()
}

/// The ways of export that differ in shape.
fn variants(head: Head, count: usize) -> Vec<(usize, Output)> {
    let usual = Output::of(head);
    let with = |strides: &[u32], reg_max, centre| Output {
        strides: strides.into(),
        reg_max,
        centre,
        ..usual.clone()
    };
    let own = match head {
        // NanoDet-m has three grids and its points in the middle; NanoDet-Plus four and in the corner.
        Head::Nanodet => {
            vec![with(&[8, 16, 32, 64], 7, 0.0), with(&[8, 16, 32], 7, 0.5), with(&[8, 16, 32], 10, 0.5)]
        }
        Head::Picodet => vec![with(&[8, 16, 32, 64], 7, 0.5), with(&[8, 16, 32], 7, 0.5)],
        _ => vec![usual],
    };
    own.into_iter().map(|output| (count, output)).collect()
}

/// What a shape alone would allow, but no model of the head has.
fn plausible(head: Head, outputs: &[Tensor]) -> bool {
    let side = |output: usize, index: usize| outputs.get(output).and_then(|o| o.shape.get(index)).copied();
    match head {
        // More anchors than values of an anchor.
        Head::Yolov8 => match (side(0, 1), side(0, 2)) {
            (Some(values), Some(anchors)) => anchors < 0 || anchors > values,
            _ => false,
        },
        // As many queries in one as in the other.
        Head::Detr => side(0, 1) == side(1, 1),
        // Those of PicoDet are numbered, those of NanoDet say what they are.
        Head::Picodet => !outputs.iter().any(|o| o.name.contains("pred_stride") || o.name == "output"),
        Head::Nanodet => outputs.len() == 1 || outputs.iter().all(|o| o.name.contains("pred_stride")),
        _ => true,
    }
}

/// The picture's input and what stands beside it.
struct Picture {
    name: Option<String>,
    layout: Layout,
    width: u32,
    height: u32,
    size_known: bool,
    batch: Option<usize>,
    extra: Vec<(String, Extra)>,
    bytes: bool,
}

impl Picture {
    fn find(inputs: &[Tensor]) -> Option<Self> {
        let index = inputs.iter().position(|input| input.shape.len() == 4)?;
        let tensor = &inputs[index];
        let layout = if tensor.shape[3] == 3 && tensor.shape[1] != 3 { Layout::Nhwc } else { Layout::Nchw };
        let (height, width) = match layout {
            Layout::Nchw => (tensor.shape[2], tensor.shape[3]),
            Layout::Nhwc => (tensor.shape[1], tensor.shape[2]),
        };
        let side = |side: i64| u32::try_from(side).ok().filter(|side| *side > 0);
        let extra = inputs.iter().enumerate().filter(|(other, _)| *other != index);
        let extra = extra.map(|(_, input)| Some((input.name.clone(), meant(&input.name)?)));
        let extra: Option<Vec<_>> = extra.collect();
        Some(Self {
            name: None,
            layout,
            width: side(width).unwrap_or(ANY_SIZE),
            height: side(height).unwrap_or(ANY_SIZE),
            size_known: side(width).and(side(height)).is_some(),
            batch: usize::try_from(tensor.shape[0]).ok(),
            extra: extra?,
            bytes: tensor.element.as_deref() == Some("u8"),
        })
    }
}

/// What an input beside the picture wants to be told, by the name that the authors' exporters give it.
fn meant(name: &str) -> Option<Extra> {
    match name {
        "orig_target_sizes" => Some(Extra::WidthHeight),
        "im_shape" => Some(Extra::HeightWidth),
        "scale_factor" => Some(Extra::Ones),
        _ => None,
    }
}

const IMAGENET: Range = Range { mean: [123.675, 116.28, 103.53], deviation: [58.395, 57.12, 57.375] };
const IMAGENET_BGR: Range = Range { mean: [103.53, 116.28, 123.675], deviation: [57.375, 57.12, 58.395] };
const BYTES: Range = Range { mean: [0.0; 3], deviation: [1.0; 3] };
const SHARES: Range = Range { mean: [0.0; 3], deviation: [255.0; 3] };

/// Colours, range and resize as the head's authors have them; a file says nothing about these.
fn usual(head: Head) -> (Channels, Range, Resize) {
    let (corner, middle) = (Resize::LetterboxTopLeft { pad: 114 }, Resize::LetterboxCentre { pad: 114 });
    match head {
        Head::Yolox => (Channels::Bgr, BYTES, corner),
        Head::Yolov5 | Head::Yolov8 | Head::End2end => (Channels::Rgb, SHARES, middle),
        Head::Detr => (Channels::Rgb, SHARES, Resize::Stretch),
        Head::Nanodet => (Channels::Bgr, IMAGENET_BGR, Resize::Stretch),
        Head::Picodet | Head::Classifier => (Channels::Rgb, IMAGENET, Resize::Stretch),
        Head::Rtmdet => (Channels::Bgr, IMAGENET_BGR, corner),
        Head::Ssd => (Channels::Rgb, BYTES, Resize::Stretch),
        Head::Fastestdet => (Channels::Bgr, SHARES, Resize::Stretch),
    }
}

fn card(file: &Path, head: Head, count: usize, output: Output, picture: &Picture) -> ModelCard {
    let (channels, range, resize) = usual(head);
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let safe: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(64).collect();
    let id = ModelId::new(safe.trim_matches(['-', '.']))
        .unwrap_or_else(|_| ModelId::new("model").expect("letters are an id"));
    ModelCard {
        id,
        version: "1".into(),
        licence: String::new(),
        source: String::new(),
        card_path: file.with_file_name("card.yaml"),
        file: file.to_owned(),
        sha256: String::new(),
        url: None,
        width: picture.width,
        height: picture.height,
        input_name: picture.name.clone(),
        layout: picture.layout,
        channels,
        // Bytes are taken as they are.
        range: if picture.bytes { BYTES } else { range },
        resize,
        filter: Filter::Linear,
        extra: picture.extra.clone(),
        head,
        output,
        classes: (0..count).map(|index| ClassName::new(&format!("class-{index}"))).collect(),
        thresholds: Thresholds { score: 0.4, nms_iou: 0.5 },
        batch: picture.batch,
        notes: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, element: &str, shape: &[i64]) -> Tensor {
        Tensor { name: name.into(), element: Some(element.into()), shape: shape.into() }
    }

    fn of(inputs: Vec<Tensor>, outputs: Vec<Tensor>, names: &[&str]) -> Option<Proposal> {
        let described = Description {
            inputs: Vec::new(),
            outputs: Vec::new(),
            producer: None,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            parts: (inputs, outputs),
        };
        propose(&described, Path::new("a model!.onnx"))
    }

    /// The head and the number of classes for a model with a picture of this side and these outputs.
    fn told(side: i64, outputs: &[(&str, &[i64])]) -> (Head, usize) {
        let input = named("images", "f32", &[1, 3, side, side]);
        let outputs = outputs.iter().map(|(name, shape)| {
            named(name, if *name == "labels" && shape.len() == 2 { "i64" } else { "f32" }, shape)
        });
        let outputs: Vec<_> = outputs.collect();
        let card = of(vec![input], outputs.clone(), &[]).unwrap_or_else(|| panic!("{outputs:?}")).card;
        (card.head, card.classes.len())
    }

    #[test]
    fn published_models_are_recognised_by_their_shapes() {
        assert_eq!(told(416, &[("output", &[1, 3549, 85])]), (Head::Yolox, 80));
        assert_eq!(told(640, &[("output0", &[1, 25_200, 85])]), (Head::Yolov5, 80));
        assert_eq!(told(640, &[("output0", &[1, 84, 8400])]), (Head::Yolov8, 80));
        assert_eq!(told(640, &[("output0", &[1, 5, 8400])]), (Head::Yolov8, 1));
        assert_eq!(told(640, &[("output0", &[1, 300, 6])]).0, Head::End2end);
        assert_eq!(told(640, &[("logits", &[1, 300, 80]), ("boxes", &[1, 300, 4])]), (Head::Detr, 80));
        assert_eq!(told(560, &[("dets", &[1, 300, 4]), ("labels", &[1, 300, 91])]), (Head::Detr, 91));
        assert_eq!(told(416, &[("output", &[1, 3598, 112])]), (Head::Nanodet, 80));
        assert_eq!(told(320, &[("dets", &[1, 100, 5]), ("labels", &[1, 100])]).0, Head::Rtmdet);
        assert_eq!(told(300, &[("detection_out", &[1, 1, 200, 7])]).0, Head::Ssd);
        assert_eq!(told(352, &[("758", &[1, 85, 22, 22])]), (Head::Fastestdet, 80));
        assert_eq!(told(224, &[("logits", &[1, 1000])]), (Head::Classifier, 1000));
        let sides: [(i64, i64); 4] = [(2704, 80), (676, 80), (169, 80), (49, 80)];
        let scores: Vec<_> = sides.iter().map(|(n, c)| [1, *n, *c]).collect();
        let bins: Vec<_> = sides.iter().map(|(n, _)| [1, *n, 32]).collect();
        let picodet: Vec<(&str, &[i64])> =
            scores.iter().chain(&bins).map(|shape| ("save_infer_model", &shape[..])).collect();
        assert_eq!(told(416, &picodet), (Head::Picodet, 80));
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed_at() {
        let input = || named("images", "f32", &[1, 3, 64, 64]);
        assert!(of(vec![input()], vec![named("mask", "f32", &[1, 1, 64, 64, 2])], &[]).is_none());
        assert!(
            of(vec![named("text", "i64", &[1, 77])], vec![named("out", "f32", &[1, 512])], &[]).is_none()
        );
        // An input that nobody knows what to tell.
        let prompt = named("prompt", "f32", &[1, 512]);
        assert!(of(vec![input(), prompt], vec![named("output0", "f32", &[1, 300, 6])], &[]).is_none());
    }

    #[test]
    fn names_and_further_inputs_are_taken_from_the_file() {
        let inputs =
            vec![named("images", "f32", &[-1, 3, -1, -1]), named("orig_target_sizes", "i64", &[-1, 2])];
        let outputs = vec![
            named("labels", "i64", &[-1, 300]),
            named("boxes", "f32", &[-1, 300, 4]),
            named("scores", "f32", &[-1, 300]),
        ];
        let proposal = of(inputs, outputs, &["cart", "bag"]).unwrap();
        let card = &proposal.card;
        assert_eq!((card.head, card.width, card.batch), (Head::Detr, 640, None));
        assert_eq!(card.extra, [("orig_target_sizes".to_owned(), Extra::WidthHeight)]);
        assert_eq!(card.classes, [ClassName::new("cart"), ClassName::new("bag")]);
        assert!(!proposal.size_known && proposal.names_known && proposal.count_known);
        assert_eq!(card.id.as_str(), "a-model");
    }

    #[test]
    fn names_are_read_out_of_a_python_dictionary() {
        assert_eq!(
            quoted("{0: 'person', 1: \"driver's cab\", 10: 'cart'}"),
            ["person", "driver's cab", "cart"]
        );
        assert_eq!(quoted("{0: 'person"), [""; 0]);
    }
}
