//! Detection transformers: RT-DETR (arXiv:2304.08069, lyuwenyu/RT-DETR), D-FINE (arXiv:2410.13842, Peterande/D-FINE),
//! DEIM (arXiv:2412.04234, ShihuaHuang95/DEIM), RF-DETR (roboflow/rf-detr), DETR (arXiv:2005.12872).
//!
//! Bare queries: `logits`, `batch × queries × classes`, 1×300×80, and `boxes`, `batch × queries × 4`: middle x and y,
//! width, height as shares of the input. Each pair of query and class whose sigmoid is high enough is a thing, as in
//! the authors' top-k over all pairs. RF-DETR's 91 classes are COCO's category numbers (`first_class: 1`). DETR itself
//! takes a softmax instead, with "no thing" last.
//!
//! Finished, as the authors' `export_onnx.py` gives it with an input `orig_target_sizes`: `labels`, `batch × queries`,
//! `boxes`, `batch × queries × 4` (left, top, right, bottom, in pixels of that size), `scores`, `batch × queries`.
//!
//! Each thing has one query, so no box is removed.

use fleet::{Activation, ModelCard};

use super::yolov5::unit;
use super::{Dim, Found, Head, Output, Part, corners, hot, logit, sigmoid};

/// `logits` and `boxes`.
#[derive(Debug)]
pub(super) struct Queries {
    classes: usize,
    first_class: usize,
    activation: Activation,
    size: [f32; 2],
}

impl Queries {
    pub fn new(card: &ModelCard) -> Self {
        Self {
            classes: card.classes.len(),
            first_class: card.output.first_class,
            activation: card.output.activation,
            size: [card.width as f32, card.height as f32],
        }
    }

    /// Values per query.
    fn values(&self) -> usize {
        self.first_class + self.classes + usize::from(self.activation == Activation::Softmax)
    }
}

impl Head for Queries {
    fn parts(&self) -> Vec<Part> {
        let after = usize::from(self.activation == Activation::Softmax);
        let values = Dim::Classes { before: self.first_class, after, count: self.classes };
        vec![
            Part::floats("logits", [Dim::Batch, Dim::Any, values]),
            Part::floats("boxes", [Dim::Batch, Dim::Any, Dim::Exactly(4)]),
        ]
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let least = match self.activation {
            Activation::Sigmoid => logit(found.threshold),
            Activation::None => found.threshold,
            // Needs all of them.
            Activation::Softmax => f32::NEG_INFINITY,
        };
        let queries = parts[0].values.floats().chunks_exact(self.values());
        for (values, place) in queries.zip(parts[1].values.floats().chunks_exact(4)) {
            if !hot(values, least) {
                continue;
            }
            let sum = match self.activation {
                Activation::Softmax => values.iter().map(|v| v.exp()).sum(),
                Activation::Sigmoid | Activation::None => 1.0,
            };
            let at = corners([0, 1, 2, 3].map(|i| place[i] * self.size[i % 2]));
            let things = values[self.first_class..][..self.classes].iter().enumerate();
            for (class, &value) in things.filter(|(_, value)| **value >= least || value.is_nan()) {
                let score = match self.activation {
                    Activation::Sigmoid => sigmoid(value),
                    Activation::Softmax => value.exp() / sum,
                    Activation::None => value,
                };
                // Below the threshold nobody looks at the box; NaN is counted.
                if score >= found.threshold || score.is_nan() {
                    found.push(class, score, at);
                }
            }
        }
    }
}

/// `labels`, `boxes`, `scores`.
#[derive(Debug)]
pub(super) struct Final {
    first_class: usize,
    unit: [f32; 2],
}

impl Final {
    pub fn new(card: &ModelCard) -> Self {
        Self { first_class: card.output.first_class, unit: unit(card) }
    }
}

impl Head for Final {
    fn parts(&self) -> Vec<Part> {
        vec![
            Part::labels("labels", [Dim::Batch, Dim::Any]),
            Part::floats("boxes", [Dim::Batch, Dim::Any, Dim::Exactly(4)]),
            Part::floats("scores", [Dim::Batch, Dim::Any]),
        ]
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let boxes = parts[1].values.floats().chunks_exact(4);
        for (query, (&score, place)) in parts[2].values.floats().iter().zip(boxes).enumerate() {
            if (0.0..found.threshold).contains(&score) {
                continue;
            }
            let class = parts[0].values.label(query).and_then(|label| label.checked_sub(self.first_class));
            match class {
                Some(class) => found.push(class, score, [0, 1, 2, 3].map(|i| place[i] * self.unit[i % 2])),
                None => found.broken(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::Candidate;
    use crate::testing::{self, Given, close};

    const LOW: f32 = -9.0;
    /// Middle (0.5, 0.25), size (0.25, 0.5) of 64 x 32.
    const BOX: [f32; 4] = [0.5, 0.25, 0.25, 0.5];
    const WANTED: Candidate = Candidate { class: 1, score: 0.8, x0: 24.0, y0: 0.0, x1: 40.0, y1: 16.0 };

    fn card() -> ModelCard {
        testing::card_of(fleet::Head::Detr, 64, 32, 2)
    }

    fn queries(card: &ModelCard, logits: &[f32], boxes: &[f32]) -> (Vec<Candidate>, u64) {
        let (n, values) = (boxes.len() / 4, logits.len() / (boxes.len() / 4));
        let given = [
            Given::floats("pred_logits", &[1, n, values], logits),
            Given::floats("pred_boxes", &[1, n, 4], boxes),
        ];
        testing::decode(card, &given)
    }

    #[test]
    fn each_pair_of_query_and_class_is_a_thing() {
        let (high, some) = (logit(0.8), logit(0.6));
        let boxes = [BOX, BOX, BOX].concat();
        let (found, broken) = queries(&card(), &[some, high, LOW, LOW, LOW, f32::NAN], &boxes);
        close(&found, &[WANTED, Candidate { class: 0, score: 0.6, ..WANTED }]);
        assert_eq!(broken, 1);
    }

    #[test]
    fn labels_before_the_first_class_mean_nothing() {
        let mut card = card();
        card.output.first_class = 1;
        let (found, broken) = queries(&card, &[9.0, LOW, logit(0.8)], &BOX);
        close(&found, &[WANTED]);
        assert_eq!(broken, 0);
    }

    #[test]
    fn a_softmax_has_no_thing_at_its_end() {
        let mut card = card();
        card.output.activation = Activation::Softmax;
        // Shares 0.1, 0.8, 0.1; then nearly all of it "no thing".
        let logits = [1f32.ln(), 8f32.ln(), 1f32.ln(), 0.0, 0.0, 9.0];
        let (found, broken) = queries(&card, &logits, &[BOX, BOX].concat());
        close(&found, &[WANTED]);
        assert_eq!(broken, 0);
    }

    #[test]
    fn finished_boxes_are_in_pixels() {
        let boxes = [[24.0, 0.0, 40.0, 16.0], [0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 4.0, 6.0]].concat();
        let given = [
            Given::labels("labels", &[1, 3], &[1, 0, 0]),
            Given::floats("boxes", &[1, 3, 4], &boxes),
            Given::floats("scores", &[1, 3], &[0.8, 0.2, 0.9]),
        ];
        let (found, broken) = testing::decode(&card(), &given);
        close(&found, &[WANTED]);
        assert_eq!(broken, 1);
    }
}
