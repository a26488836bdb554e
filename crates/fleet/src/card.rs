//! `models/<id>/card.yaml`: what a model file expects and gives.

mod output;
mod read;

use std::path::{Path, PathBuf};

use flow::{ClassName, ModelId};
use sha2::{Digest, Sha256};

use crate::mistake::{Mistakes, Report};

pub(crate) use output::HEAD_NAMES;
pub use output::{Activation, Boxes, Head, Output};
pub(crate) use read::{FileNeed, hex, read};

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
    /// Lower-case hex SHA-256 of the model file. Empty where the card says `unknown`, which only
    /// [`load_without_file`](Self::load_without_file) lets through.
    pub sha256: String,
    /// Where the model file can be fetched.
    pub url: Option<String>,
    /// Pixels per row that the model takes.
    pub width: u32,
    /// Rows that the model takes.
    pub height: u32,
    /// The input that takes the picture; `None`: the file's only one that is no `extra` one.
    pub input_name: Option<String>,
    /// Where the colours of a pixel lie in the input tensor.
    pub layout: Layout,
    /// Order of the colours.
    pub channels: Channels,
    /// What a sample is scaled to.
    pub range: Range,
    /// How a picture is made to fit.
    pub resize: Resize,
    /// How samples are mixed then.
    pub filter: Filter,
    /// Inputs beside the picture, and what they are told.
    pub extra: Vec<(String, Extra)>,
    /// How the output is read.
    pub head: Head,
    /// What differs between exports of one head.
    pub output: Output,
    /// The model's classes, in its order. `-` stands for an output that means nothing: what the model finds of it is dropped.
    pub classes: Vec<ClassName>,
    /// Thresholds.
    pub thresholds: Thresholds,
    /// `None`: any number of pictures at once; `Some(n)`: exactly n.
    pub batch: Option<usize>,
    /// What the model is for and not for, in words.
    pub notes: String,
}

/// The name, in `classes`, of an output that means nothing.
pub const NO_CLASS: &str = "-";

/// Where the colours of a pixel lie in the input tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// One plane per colour: batch × 3 × height × width.
    #[default]
    Nchw,
    /// Side by side: batch × height × width × 3.
    Nhwc,
}

/// Order of the colours in the input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// What an input beside the picture is told, per picture: two numbers.
///
/// The sizes are the model's own input size, so that boxes come back in pixels of the input, as from other models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Height and width of the input (PaddleDetection's `im_shape`).
    HeightWidth,
    /// Width and height of the input (RT-DETR's and D-FINE's `orig_target_sizes`).
    WidthHeight,
    /// 1 and 1 (PaddleDetection's `scale_factor`).
    Ones,
}

/// What an 8-bit sample becomes: `(sample - mean) / deviation`, per colour in the tensor's order.
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

/// How samples are mixed when a picture is scaled. Which of them a model was trained and measured with shows in its
/// scores where pictures shrink to between the half and all of their size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filter {
    /// All samples that a triangle as wide as the scale covers: PIL's `BILINEAR`, torchvision's `antialias`.
    #[default]
    Smooth,
    /// The two nearest on each side: OpenCV's `INTER_LINEAR`.
    Linear,
}

/// Thresholds of the post-processing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Below it a detection is not reported.
    pub score: f32,
    /// Two boxes of a class that overlap more than this are one thing (IoU). Not used by heads whose model has
    /// sorted that out itself.
    pub nms_iou: f32,
}

impl ModelCard {
    /// Reads and checks `dir/card.yaml`; all mistakes at once. The model file must be there and have the
    /// SHA-256 that the card gives; what is inside it is checked where it is opened (`infer`).
    pub fn load(dir: &Path) -> Result<Self, Mistakes> {
        Self::load_as(dir, FileNeed::Pulled)
    }

    /// The same, but the model file need not be there yet, and its SHA-256 may be `unknown`: for fetching it.
    pub fn load_without_file(dir: &Path) -> Result<Self, Mistakes> {
        Self::load_as(dir, FileNeed::None)
    }

    fn load_as(dir: &Path, need: FileNeed) -> Result<Self, Mistakes> {
        let mut report = Report::default();
        let card = read(dir, need, &mut report, &mut Sha256::new());
        report.finish(card)
    }
}
