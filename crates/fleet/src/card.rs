//! `models/<id>/card.yaml`: what a model file expects and gives.

use std::path::{Path, PathBuf};

use flow::{ClassName, ModelId};

/// A checked card. Whether the file agrees with it is checked where the file is opened (`infer`).
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    /// The name of its folder.
    pub id: ModelId,
    /// The author's version.
    pub version: String,
    /// SPDX expression.
    pub licence: String,
    /// Where it comes from.
    pub source: String,
    /// The card itself, for error messages.
    pub card_path: PathBuf,
    /// The model file.
    pub file: PathBuf,
    /// Lower-case hex SHA-256 of the model file.
    pub sha256: String,
    /// Pixels per row that the model takes.
    pub width: u32,
    /// Rows that the model takes.
    pub height: u32,
    /// Order of the colour planes.
    pub channels: Channels,
    /// What a sample is scaled to.
    pub range: Range,
    /// How a picture is made to fit.
    pub resize: Resize,
    /// How the output is read.
    pub head: Head,
    /// The model's classes, in its order.
    pub classes: Vec<ClassName>,
    /// Thresholds.
    pub thresholds: Thresholds,
    /// `None`: any number of pictures at once; `Some(n)`: exactly n.
    pub batch: Option<usize>,
    /// What the model is for and not for, in words.
    pub notes: String,
}

/// Order of the colour planes in the input tensor, which is always planar (NCHW, f32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// What an 8-bit sample becomes: `(sample - mean) / deviation`, per plane in the tensor's order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by; none is 0.
    pub deviation: [f32; 3],
}

/// How a picture is made to fit the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Scaled to fit, put into the top left corner, the rest filled with `pad`.
    LetterboxTopLeft {
        /// The fill, 0..=255.
        pad: u8,
    },
    /// Scaled to fit, put into the middle, the rest filled with `pad`.
    LetterboxCentre {
        /// The fill, 0..=255.
        pad: u8,
    },
    /// Each side scaled by itself.
    Stretch,
}

/// How the output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// YOLOX: `N × anchors × (4 + 1 + classes)`, strides 8, 16, 32, grid not yet decoded (arXiv:2107.08430).
    Yolox,
}

impl Head {
    /// The name in the card.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yolox => "yolox",
        }
    }
}

/// Thresholds of the post-processing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Below it a detection is not reported.
    pub score: f32,
    /// Two boxes of a class that overlap more than this are one thing (IoU).
    pub nms_iou: f32,
}

/// A card that cannot be used: one line per mistake, each `file:line:column: key: value; what would be right`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct CardError(pub Vec<String>);

impl ModelCard {
    /// Reads and checks `dir/card.yaml`; all mistakes at once.
    pub fn load(dir: &Path) -> Result<Self, CardError> {
        Err(CardError(vec![format!("{}: not built yet", dir.display())]))
    }
}
