//! What the tests of this crate share.

use std::path::PathBuf;

use fleet::{Channels, Filter, Head, Layout, ModelCard, Range, Resize, Thresholds};
use flow::{ClassName, ModelId};

use crate::heads::{Candidate, Output, Reader, Tensor, Values};

/// A card of a YOLOX model that names no file, with `classes` classes and a batch of any size.
pub(crate) fn card(width: u32, height: u32, classes: usize) -> ModelCard {
    card_of(Head::Yolox, width, height, classes)
}

/// The same for any head, its output as is usual for it.
pub(crate) fn card_of(head: Head, width: u32, height: u32, classes: usize) -> ModelCard {
    ModelCard {
        id: ModelId::new("test").unwrap(),
        version: "1".into(),
        licence: "Apache-2.0".into(),
        source: "test".into(),
        card_path: PathBuf::from("card.yaml"),
        file: PathBuf::from("model.onnx"),
        sha256: String::new(),
        url: None,
        width,
        height,
        input_name: None,
        layout: Layout::Nchw,
        channels: Channels::Bgr,
        range: Range { mean: [0.0; 3], deviation: [1.0; 3] },
        resize: Resize::LetterboxTopLeft { pad: 114 },
        filter: Filter::Smooth,
        extra: Vec::new(),
        head,
        output: fleet::Output::of(head),
        classes: (0..classes).map(|i| ClassName::new(&format!("class {i}"))).collect(),
        thresholds: Thresholds { score: 0.3, nms_iou: 0.65 },
        batch: None,
        notes: String::new(),
    }
}

/// An output tensor of a run.
#[derive(Debug, Clone)]
pub(crate) struct Given<'a> {
    name: &'a str,
    shape: Vec<i64>,
    values: Kept<'a>,
}

#[derive(Debug, Clone)]
enum Kept<'a> {
    Floats(&'a [f32]),
    Labels(&'a [i64]),
}

impl<'a> Given<'a> {
    pub fn floats(name: &'a str, shape: &[usize], values: &'a [f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        Self { name, shape: shape.iter().map(|n| *n as i64).collect(), values: Kept::Floats(values) }
    }

    pub fn labels(name: &'a str, shape: &[usize], values: &'a [i64]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        Self { name, shape: shape.iter().map(|n| *n as i64).collect(), values: Kept::Labels(values) }
    }

    /// As the file describes it.
    pub fn tensor(&self) -> Tensor {
        let element = match self.values {
            Kept::Floats(_) => "f32",
            Kept::Labels(_) => "i64",
        };
        Tensor { name: self.name.into(), element: Some(element.into()), shape: self.shape.clone() }
    }

    pub fn output(&self) -> Output<'_> {
        let values = match self.values {
            Kept::Floats(values) => Values::F32(values),
            Kept::Labels(values) => Values::I64(values),
        };
        Output { shape: &self.shape, values }
    }
}

/// What the card's head makes of these outputs, and how many boxes were broken.
pub(crate) fn decode(card: &ModelCard, given: &[Given<'_>]) -> (Vec<Candidate>, u64) {
    decode_slot(card, given, 0, 1)
}

/// The same for one picture of a batch.
pub(crate) fn decode_slot(
    card: &ModelCard,
    given: &[Given<'_>],
    slot: usize,
    slots: usize,
) -> (Vec<Candidate>, u64) {
    let tensors: Vec<_> = given.iter().map(Given::tensor).collect();
    let mut reader = Reader::new(card, &tensors).unwrap();
    let outputs: Vec<_> = reader.outputs().iter().map(|index| given[*index].output()).collect();
    reader.check(card, &outputs, slots).unwrap();
    let mut found = Vec::new();
    let broken = reader.decode(&outputs, slot, slots, &mut found);
    (found, broken)
}

/// The two lists are the same, up to rounding.
pub(crate) fn close(found: &[Candidate], wanted: &[Candidate]) {
    assert_eq!(found.len(), wanted.len(), "{found:?} is not {wanted:?}");
    for (f, w) in found.iter().zip(wanted) {
        let numbers = |c: &Candidate| [c.score, c.x0, c.y0, c.x1, c.y1];
        let same = numbers(f).into_iter().zip(numbers(w)).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(f.class == w.class && same, "{f:?} is not {w:?}");
    }
}
