//! The tensors that a head reads, as it expects them and as a file has them.

use std::fmt;

use fleet::ModelCard;

use super::Output;
use crate::agree::{Disagreement, differ};

/// An input or output of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its elements, as ONNX Runtime's binding names it: `f32`, `u8`, …; `None` for what is no tensor.
    pub element: Option<String>,
    /// Its dimensions; -1 for one that may be anything.
    pub shape: Vec<i64>,
}

impl Tensor {
    /// Its element type in words.
    pub fn element(&self) -> &str {
        self.element.as_deref().unwrap_or("what is no tensor")
    }
}

/// `1x3x416x416`, with `?` for what may be anything.
pub(crate) fn dimensions(shape: &[i64]) -> String {
    let text: Vec<_> = shape.iter().map(|&d| if d < 0 { "?".to_owned() } else { d.to_string() }).collect();
    text.join("x")
}

/// Values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Labels and counts.
    I64(&'a [i64]),
    /// Labels and counts.
    I32(&'a [i32]),
}

impl<'a> Values<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::I32(values) => values.len(),
        }
    }

    /// Single precision; empty where they are whole numbers.
    pub fn floats(&self) -> &'a [f32] {
        match self {
            Self::F32(values) => values,
            Self::I64(_) | Self::I32(_) => &[],
        }
    }

    /// A label or count: a whole number that is not negative. `None` for anything else.
    pub fn label(&self, index: usize) -> Option<usize> {
        match self {
            Self::F32(values) => values.get(index).copied().and_then(whole),
            Self::I64(values) => usize::try_from(*values.get(index)?).ok(),
            Self::I32(values) => usize::try_from(*values.get(index)?).ok(),
        }
    }

    fn part(self, start: usize, len: usize) -> Self {
        let range = start..start + len;
        match self {
            Self::F32(values) => Self::F32(values.get(range).unwrap_or_default()),
            Self::I64(values) => Self::I64(values.get(range).unwrap_or_default()),
            Self::I32(values) => Self::I32(values.get(range).unwrap_or_default()),
        }
    }
}

/// A label that is kept as a floating-point number.
pub(super) fn whole(value: f32) -> Option<usize> {
    let rounded = value.round();
    ((value - rounded).abs() < 0.01 && (0.0..1e6).contains(&rounded)).then_some(rounded as usize)
}

/// What a tensor's elements have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Single precision.
    Floats,
    /// Whole numbers, or single precision that holds some.
    Labels,
}

/// One dimension of a tensor that a head reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Dim {
    /// The pictures.
    Batch,
    /// As many boxes as the grids of this input size have.
    Boxes(usize),
    /// As many boxes as the model likes.
    Any,
    /// `before`, then one per class, then `after`.
    Classes {
        /// What comes before the classes.
        before: usize,
        /// What comes after them.
        after: usize,
        /// Classes that the card lists.
        count: usize,
    },
    /// Always this.
    Exactly(usize),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("batch"),
            Self::Boxes(_) | Self::Any => f.write_str("boxes"),
            Self::Classes { before: 0, after: 0, .. } => f.write_str("classes"),
            Self::Classes { before, after: 0, .. } => write!(f, "({before} + classes)"),
            Self::Classes { before: 0, after, .. } => write!(f, "(classes + {after})"),
            Self::Classes { before, after, .. } => write!(f, "({before} + classes + {after})"),
            Self::Exactly(n) => write!(f, "{n}"),
        }
    }
}

impl Dim {
    /// What it has to be; `None` where it may be anything, or depends on the run.
    fn wanted(&self, slots: Option<usize>) -> Option<usize> {
        match self {
            Self::Batch => slots,
            Self::Any => None,
            Self::Boxes(n) | Self::Exactly(n) => Some(*n),
            Self::Classes { before, after, count } => Some(before + after + count),
        }
    }
}

/// A tensor that a head reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// What it holds, for messages: `scores`, `boxes`, ….
    pub what: &'static str,
    /// Its elements.
    pub numbers: Numbers,
    /// Its dimensions.
    pub dims: Vec<Dim>,
}

impl Part {
    /// A tensor of single precision.
    pub fn floats(what: &'static str, dims: impl Into<Vec<Dim>>) -> Self {
        Self { what, numbers: Numbers::Floats, dims: dims.into() }
    }

    /// A tensor of labels or counts.
    pub fn labels(what: &'static str, dims: impl Into<Vec<Dim>>) -> Self {
        Self { what, numbers: Numbers::Labels, dims: dims.into() }
    }

    /// Whether elements of this type can be read.
    pub fn takes(&self, element: Option<&str>) -> bool {
        match self.numbers {
            Numbers::Floats => element == Some("f32"),
            Numbers::Labels => matches!(element, Some("f32" | "i64" | "i32")),
        }
    }

    /// Its dimensions in words: `batch x boxes x (5 + classes)`.
    pub fn form(&self) -> String {
        let dims: Vec<_> = self.dims.iter().map(ToString::to_string).collect();
        dims.join(" x ")
    }

    /// All in which a shape is not this; -1 in it stands for what may be anything.
    pub fn differences(&self, card: &ModelCard, shape: &[i64], slots: Option<usize>) -> Vec<Disagreement> {
        let (head, text) = (card.head.name(), dimensions(shape));
        let another_form =
            || differ("head", format_args!("{head}, {}", self.form()), format_args!("gives {text}"));
        if shape.len() != self.dims.len() {
            return vec![another_form()];
        }
        let mut list = Vec::new();
        for (dim, &side) in self.dims.iter().zip(shape) {
            let Some(wanted) = dim.wanted(slots) else { continue };
            if side < 0 || usize::try_from(side) == Ok(wanted) {
                continue;
            }
            list.push(match dim {
                Dim::Boxes(n) => differ(
                    "head",
                    format_args!("{head}, {n} boxes at {}x{}", card.width, card.height),
                    format_args!("gives {side} ({text})"),
                ),
                Dim::Classes { before, after, .. } => {
                    let given = side - (before + after) as i64;
                    let form = dim.to_string().replace(['(', ')'], "");
                    differ(
                        "classes",
                        card.classes.len(),
                        format_args!("gives {given} (output {text}, {form})"),
                    )
                }
                Dim::Batch => differ("batch", wanted, format_args!("gives {text}")),
                Dim::Exactly(_) | Dim::Any => return vec![another_form()],
            });
        }
        list
    }

    /// What belongs to one picture: its share of the values, without the batch dimension. All of it where the
    /// batch is no dimension of its own.
    pub(super) fn of_picture<'a>(&self, output: Output<'a>, slot: usize, slots: usize) -> Output<'a> {
        if self.dims.first() != Some(&Dim::Batch) || slots == 0 {
            return output;
        }
        let len = output.values.len() / slots;
        Output {
            shape: output.shape.get(1..).unwrap_or_default(),
            values: output.values.part(slot * len, len),
        }
    }
}
