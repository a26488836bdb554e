//! YOLOv8, YOLO11, YOLO12 (ultralytics/ultralytics): anchor-free, no objectness, boxes across.
//!
//! One output, `batch × (4 + classes) × anchors`; at 640×640 on COCO 1×84×8400: row by row middle x, middle y, width,
//! height in pixels (`boxes: unit`: shares of the input), then one row of scores per class, after the sigmoid.

use fleet::{Activation, ModelCard};

use super::yolov5::unit;
use super::{Dim, Found, Head, Output, Part, corners, logit, sigmoid};

const BEFORE_CLASSES: usize = 4;

/// `batch × (4 + classes) × anchors`.
#[derive(Debug)]
pub(super) struct Yolov8 {
    classes: usize,
    unit: [f32; 2],
    logits: bool,
    /// Per anchor: the best score so far and its class.
    best: Vec<(f32, usize)>,
}

impl Yolov8 {
    pub fn new(card: &ModelCard) -> Self {
        let logits = card.output.activation == Activation::Sigmoid;
        Self { classes: card.classes.len(), unit: unit(card), logits, best: Vec::new() }
    }
}

impl Head for Yolov8 {
    fn parts(&self) -> Vec<Part> {
        let values = Dim::Classes { before: BEFORE_CLASSES, after: 0, count: self.classes };
        // Not counted from the strides: YOLOv8-P2 and -P6 have others, and nothing here depends on them.
        vec![Part::floats("output", [Dim::Batch, values, Dim::Any])]
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let anchors = parts[0].side(1);
        let values = parts[0].values.floats();
        if anchors == 0 {
            return;
        }
        let (boxes, scores) = values.split_at(values.len().min(BEFORE_CLASSES * anchors));
        // Row by row, as they lie in memory.
        self.best.clear();
        self.best.resize(anchors, (f32::NEG_INFINITY, 0));
        for (class, row) in scores.chunks_exact(anchors).enumerate() {
            for (best, &value) in self.best.iter_mut().zip(row) {
                // NaN takes the place and keeps it, so that it is counted below.
                if value > best.0 || value.is_nan() {
                    *best = (value, class);
                }
            }
        }
        let least = if self.logits { logit(found.threshold) } else { found.threshold };
        for (anchor, &(best, class)) in self.best.iter().enumerate() {
            if best < least {
                continue;
            }
            let at = [0, 1, 2, 3].map(|row| boxes[row * anchors + anchor] * self.unit[row % 2]);
            found.push(class, if self.logits { sigmoid(best) } else { best }, corners(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::Candidate;
    use crate::testing::{self, Given, close};

    /// Three anchors, two classes; columns are anchors.
    const TENSOR: [f32; 18] = [
        32.0, 10.0, 50.0, // x
        16.0, 10.0, 20.0, // y
        10.0, 4.0, 6.0, // width
        8.0, 4.0, 6.0, // height
        0.1, 0.2, 0.7, // class 0
        0.8, 0.25, 0.6, // class 1
    ];
    const WANTED: [Candidate; 2] = [
        Candidate { class: 1, score: 0.8, x0: 27.0, y0: 12.0, x1: 37.0, y1: 20.0 },
        Candidate { class: 0, score: 0.7, x0: 47.0, y0: 17.0, x1: 53.0, y1: 23.0 },
    ];

    fn run(card: &ModelCard, tensor: &[f32]) -> (Vec<Candidate>, u64) {
        testing::decode(card, &[Given::floats("output0", &[1, 6, 3], tensor)])
    }

    #[test]
    fn the_best_class_of_each_anchor_counts() {
        let mut card = testing::card_of(fleet::Head::Yolov8, 64, 32, 2);
        let (found, broken) = run(&card, &TENSOR);
        close(&found, &WANTED);
        assert_eq!(broken, 0);
        card.output.activation = Activation::Sigmoid;
        let mut tensor = TENSOR;
        tensor[12..].iter_mut().for_each(|v| *v = logit(*v));
        close(&run(&card, &tensor).0, &WANTED);
    }

    #[test]
    fn nan_is_counted_wherever_it_is() {
        let card = testing::card_of(fleet::Head::Yolov8, 64, 32, 2);
        for (index, broken) in [(0, 1), (7, 0), (12, 1), (15, 1), (17, 1)] {
            let mut tensor = TENSOR;
            tensor[index] = f32::NAN;
            // A box that nobody asks for is not looked at (index 7).
            assert_eq!(run(&card, &tensor).1, broken, "{index}");
        }
    }
}
