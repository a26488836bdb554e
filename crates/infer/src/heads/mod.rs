//! What a model's output tensors mean: plain arithmetic from numbers to boxes, testable without a model.
//!
//! Each head is a file that names its paper or repository, says which tensors it wants ([`Part`]) and reads those of
//! one picture ([`Head::decode`]). [`Reader`] finds a head's tensors among a file's outputs, checks their shapes, cuts
//! a batch into pictures and removes double boxes.

mod bind;
mod classifier;
mod detr;
mod end2end;
mod fastestdet;
mod gfl;
mod nms;
mod part;
mod rtmdet;
mod ssd;
mod yolov5;
mod yolov8;
mod yolox;

use std::fmt;

use fleet::{ModelCard, NO_CLASS};

pub(crate) use nms::suppress;
pub(crate) use part::{Dim, Numbers, Part, Tensor, Values, dimensions};

use crate::Disagreement;

/// Tensors that a head reads at most.
pub(crate) const MAX_PARTS: usize = 16;

/// A box as the head gives it, in pixels of the model's input. All numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Index into the card's classes.
    pub class: usize,
    /// 0..=1.
    pub score: f32,
    /// Left edge.
    pub x0: f32,
    /// Top edge.
    pub y0: f32,
    /// Right edge, > `x0`.
    pub x1: f32,
    /// Bottom edge, > `y0`.
    pub y1: f32,
}

impl Candidate {
    fn area(&self) -> f32 {
        (self.x1 - self.x0) * (self.y1 - self.y0)
    }

    /// Intersection over union.
    fn iou(&self, other: &Self) -> f32 {
        let w = self.x1.min(other.x1) - self.x0.max(other.x0);
        let h = self.y1.min(other.y1) - self.y0.max(other.y0);
        if w <= 0.0 || h <= 0.0 {
            return 0.0;
        }
        w * h / (self.area() + other.area() - w * h)
    }
}

/// One output of a run, for the whole batch or for one picture of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output<'a> {
    /// Its dimensions, all known.
    pub shape: &'a [i64],
    /// Its values, as many as the shape says.
    pub values: Values<'a>,
}

impl Output<'_> {
    const NONE: Self = Self { shape: &[], values: Values::F32(&[]) };

    /// A dimension; 0 where there is none.
    fn side(&self, index: usize) -> usize {
        self.shape.get(index).map_or(0, |side| usize::try_from(*side).unwrap_or(0))
    }
}

/// One way in which a family of detectors gives its results.
pub(crate) trait Head: fmt::Debug + Send {
    /// The tensors that it reads, in a fixed order.
    fn parts(&self) -> Vec<Part>;

    /// Whether several boxes may stand for one thing, so that double ones have to be removed.
    fn overlaps(&self) -> bool;

    /// Reads one picture: its part of each tensor, in the order of [`parts`](Self::parts). Shapes were checked.
    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>);
}

/// Where a head puts what it finds.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    list: &'a mut Vec<Candidate>,
    /// Which classes mean nothing.
    unused: &'a [bool],
    /// Boxes with a lower score are not wanted.
    pub threshold: f32,
    /// Which picture of the batch it is, for heads whose rows say so themselves.
    pub slot: usize,
    broken: u64,
}

/// A sigmoid gives 0..=1; half-precision kernels may miss that by a little. Further out, the tensor is no score.
const SCORE_SLACK: f32 = 1e-3;

/// `None` for NaN and for what no sigmoid gives.
fn score(value: f32) -> Option<f32> {
    (-SCORE_SLACK..=1.0 + SCORE_SLACK).contains(&value).then(|| value.clamp(0.0, 1.0))
}

impl Found<'_> {
    /// Takes a box, corners in pixels of the input; counts it as broken where its numbers are none.
    /// What is below the threshold, or of a class that means nothing, is dropped.
    fn push(&mut self, class: usize, value: f32, [x0, y0, x1, y1]: [f32; 4]) {
        let finite = [x0, y0, x1, y1, (x1 - x0) * (y1 - y0)].iter().all(|v| v.is_finite());
        let Some(score) = score(value).filter(|_| finite && x0 < x1 && y0 < y1 && class < self.unused.len())
        else {
            self.broken += 1;
            return;
        };
        if score >= self.threshold && !self.unused[class] {
            self.list.push(Candidate { class, score, x0, y0, x1, y1 });
        }
    }

    /// Counts a box whose numbers are none.
    fn broken(&mut self) {
        self.broken += 1;
    }
}

/// The corners of a box given by its middle and its size.
fn corners([x, y, w, h]: [f32; 4]) -> [f32; 4] {
    [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]
}

/// Whether any of the values is at least this, or NaN. Without a branch inside, so that the compiler makes vector code
/// of it: nearly all cells of a picture are empty, and this is all that is done about them.
fn hot(values: &[f32], least: f32) -> bool {
    !values.iter().fold(true, |cold, value| cold & (*value < least))
}

/// Index and value of the largest; `None` where any of them is NaN, or there is none.
fn largest(values: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
    let (mut best, mut sound) = ((0, f32::NEG_INFINITY), true);
    let mut count = 0;
    for value in values {
        sound &= !value.is_nan();
        if value > best.1 {
            best = (count, value);
        }
        count += 1;
    }
    (sound && count > 0).then_some(best)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// What a sigmoid turns into `score`.
fn logit(score: f32) -> f32 {
    (score / (1.0 - score)).ln()
}

/// The ways in which models of the card's head give their results, the most usual first.
fn forms(card: &ModelCard) -> Vec<Box<dyn Head>> {
    match card.head {
        fleet::Head::Yolox => vec![Box::new(yolox::Yolox::new(card))],
        fleet::Head::Yolov5 => {
            vec![Box::new(yolov5::Decoded::new(card)), Box::new(yolov5::Raw::new(card))]
        }
        fleet::Head::Yolov8 => vec![Box::new(yolov8::Yolov8::new(card))],
        fleet::Head::End2end => vec![Box::new(end2end::End2end::new(card))],
        fleet::Head::Detr => vec![Box::new(detr::Queries::new(card)), Box::new(detr::Final::new(card))],
        fleet::Head::Nanodet | fleet::Head::Picodet => {
            vec![
                Box::new(gfl::Merged::new(card)),
                Box::new(gfl::PerStride::new(card)),
                Box::new(gfl::Decoded::new(card)),
            ]
        }
        fleet::Head::Rtmdet => vec![Box::new(rtmdet::Final::new(card)), Box::new(rtmdet::Raw::new(card))],
        fleet::Head::Ssd => vec![Box::new(ssd::Rows::new(card)), Box::new(ssd::Tensors::new(card))],
        fleet::Head::Fastestdet => vec![Box::new(fastestdet::FastestDet::new(card))],
        fleet::Head::Classifier => vec![Box::new(classifier::Classifier::new(card))],
    }
}

/// Reads the outputs of one model's runs.
#[derive(Debug)]
pub(crate) struct Reader {
    head: Box<dyn Head>,
    parts: Vec<Part>,
    /// For each part the index of its tensor among the model's outputs.
    outputs: Vec<usize>,
    unused: Vec<bool>,
    threshold: f32,
    /// Where double boxes have to be removed.
    nms_iou: Option<f32>,
}

impl Reader {
    /// Finds the tensors that the card's head reads among a file's outputs, or says in what they disagree.
    pub fn new(card: &ModelCard, outputs: &[Tensor]) -> Result<Self, Vec<Disagreement>> {
        let (head, bound) = bind::choose(card, forms(card), outputs)?;
        let (parts, nms_iou) = (head.parts(), head.overlaps().then_some(card.thresholds.nms_iou));
        let unused = card.classes.iter().map(|class| class.as_str() == NO_CLASS).collect();
        Ok(Self { head, parts, outputs: bound, unused, threshold: card.thresholds.score, nms_iou })
    }

    /// For each tensor that is read its index among the model's outputs.
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// Whether the outputs of a run of `slots` pictures, in the order of [`outputs`](Self::outputs), have the shapes
    /// that the head reads: a file may leave them open.
    pub fn check(
        &self,
        card: &ModelCard,
        outputs: &[Output<'_>],
        slots: usize,
    ) -> Result<(), Vec<Disagreement>> {
        let list: Vec<_> = self
            .parts
            .iter()
            .zip(outputs)
            .flat_map(|(part, output)| part.differences(card, output.shape, Some(slots)))
            .collect();
        if list.is_empty() { Ok(()) } else { Err(list) }
    }

    /// Puts the boxes of the picture `slot` of `slots` into `found`, without double ones, best first. The outputs were
    /// [checked](Self::check). Returns how many boxes were skipped because their numbers are none (NaN, scores
    /// outside of 0..=1, no size): a sane model gives none.
    pub fn decode(
        &mut self,
        outputs: &[Output<'_>],
        slot: usize,
        slots: usize,
        found: &mut Vec<Candidate>,
    ) -> u64 {
        let mut pictures = [Output::NONE; MAX_PARTS];
        let count = self.parts.len().min(outputs.len()).min(MAX_PARTS);
        for ((picture, part), output) in pictures.iter_mut().zip(&self.parts).zip(outputs) {
            *picture = part.of_picture(*output, slot, slots);
        }
        found.clear();
        let (unused, threshold) = (&*self.unused, self.threshold);
        let mut found = Found { list: found, unused, threshold, slot, broken: 0 };
        self.head.decode(&pictures[..count], &mut found);
        let broken = found.broken;
        // A threshold that no overlap exceeds removes nothing: what is left is the order.
        suppress(found.list, self.nms_iou.unwrap_or(f32::INFINITY));
        broken
    }
}

#[cfg(test)]
mod tests;
