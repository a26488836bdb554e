//! What the tests of this crate share.

use std::path::PathBuf;

use fleet::{Channels, Head, ModelCard, Range, Resize, Thresholds};
use flow::{ClassName, ModelId};

/// A card of a YOLOX model that names no file, with `classes` classes and a batch of any size.
pub(crate) fn card(width: u32, height: u32, classes: usize) -> ModelCard {
    ModelCard {
        id: ModelId::new("test").unwrap(),
        version: "1".into(),
        licence: "Apache-2.0".into(),
        source: "test".into(),
        card_path: PathBuf::from("card.yaml"),
        file: PathBuf::from("model.onnx"),
        sha256: String::new(),
        width,
        height,
        channels: Channels::Bgr,
        range: Range { mean: [0.0; 3], deviation: [1.0; 3] },
        resize: Resize::LetterboxTopLeft { pad: 114 },
        head: Head::Yolox,
        classes: (0..classes).map(|i| ClassName::new(&format!("class {i}"))).collect(),
        thresholds: Thresholds { score: 0.3, nms_iou: 0.65 },
        batch: None,
        notes: String::new(),
    }
}
