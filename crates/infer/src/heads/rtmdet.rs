//! RTMDet (arXiv:2212.07784, open-mmlab/mmdetection), as mmdeploy exports it.
//!
//! Finished: `dets`, `batch × boxes × 5`, 1×100×5: left, top, right, bottom in pixels, score; `labels`, `batch × boxes`.
//! The model has removed double boxes.
//!
//! Bare: for each stride (8, 16, 32) logits, `batch × classes × rows × columns`, then for each stride distances from the
//! cell's corner to left, top, right, bottom in pixels, `batch × 4 × rows × columns`.

use fleet::{Activation, ModelCard};

use super::{Dim, Found, Head, Output, Part, logit, sigmoid};

/// `dets` and `labels`.
#[derive(Debug)]
pub(super) struct Final;

impl Final {
    pub fn new(_: &ModelCard) -> Self {
        Self
    }
}

impl Head for Final {
    fn parts(&self) -> Vec<Part> {
        vec![
            Part::floats("dets", [Dim::Batch, Dim::Any, Dim::Exactly(5)]),
            Part::labels("labels", [Dim::Batch, Dim::Any]),
        ]
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        for (index, row) in parts[0].values.floats().chunks_exact(5).enumerate() {
            // Rows without a box have a score of 0 and a label of -1.
            if (0.0..found.threshold).contains(&row[4]) {
                continue;
            }
            match parts[1].values.label(index) {
                Some(class) => found.push(class, row[4], [row[0], row[1], row[2], row[3]]),
                None => found.broken(),
            }
        }
    }
}

/// Logits and distances per stride.
#[derive(Debug)]
pub(super) struct Raw {
    strides: Vec<u32>,
    size: (u32, u32),
    classes: usize,
    centre: f32,
    logits: bool,
}

impl Raw {
    pub fn new(card: &ModelCard) -> Self {
        Self {
            strides: card.output.strides.clone(),
            size: (card.width, card.height),
            classes: card.classes.len(),
            centre: card.output.centre,
            logits: card.output.activation == Activation::Sigmoid,
        }
    }

    fn sides(&self, stride: u32) -> (usize, usize) {
        (self.size.1.div_ceil(stride) as usize, self.size.0.div_ceil(stride) as usize)
    }
}

impl Head for Raw {
    fn parts(&self) -> Vec<Part> {
        let part = |what, stride: &u32, values: Dim| {
            let (rows, columns) = self.sides(*stride);
            Part::floats(what, [Dim::Batch, values, Dim::Exactly(rows), Dim::Exactly(columns)])
        };
        let classes = Dim::Classes { before: 0, after: 0, count: self.classes };
        let scores = self.strides.iter().map(|stride| part("cls", stride, classes.clone()));
        let distances = self.strides.iter().map(|stride| part("bbox", stride, Dim::Exactly(4)));
        scores.chain(distances).collect()
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let least = if self.logits { logit(found.threshold) } else { found.threshold };
        let (scores, distances) = parts.split_at(self.strides.len());
        for ((&stride, scores), distances) in self.strides.iter().zip(scores).zip(distances) {
            let (rows, columns) = self.sides(stride);
            let cells = rows * columns;
            let (scores, distances) = (scores.values.floats(), distances.values.floats());
            for cell in 0..cells {
                let mut at = None;
                for (class, &score) in scores[cell..].iter().step_by(cells).enumerate() {
                    // NaN goes on, to be counted.
                    if score < least {
                        continue;
                    }
                    let at = *at.get_or_insert_with(|| {
                        let x = ((cell % columns) as f32 + self.centre) * stride as f32;
                        let y = ((cell / columns) as f32 + self.centre) * stride as f32;
                        let side = |i: usize| distances[i * cells + cell];
                        [x - side(0), y - side(1), x + side(2), y + side(3)]
                    });
                    found.push(class, if self.logits { sigmoid(score) } else { score }, at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::Candidate;
    use crate::testing::{self, Given, close};

    fn card() -> ModelCard {
        testing::card_of(fleet::Head::Rtmdet, 64, 32, 2)
    }

    #[test]
    fn finished_boxes_come_with_labels() {
        #[rustfmt::skip]
        let dets = [
            10.0, 4.0, 30.0, 20.0, 0.9,
            10.0, 4.0, 30.0, 20.0, 0.8,
            0.0, 0.0, 0.0, 0.0, 0.0,
            10.0, 4.0, f32::NAN, 20.0, 0.9,
            10.0, 4.0, 30.0, 20.0, 0.9,
        ];
        let given =
            [Given::floats("dets", &[1, 5, 5], &dets), Given::labels("labels", &[1, 5], &[1, 1, -1, 0, 7])];
        let (found, broken) = testing::decode(&card(), &given);
        let wanted = |score| Candidate { class: 1, score, x0: 10.0, y0: 4.0, x1: 30.0, y1: 20.0 };
        close(&found, &[wanted(0.9), wanted(0.8)]);
        assert_eq!(broken, 2);
    }

    #[test]
    fn bare_grids_hold_distances_in_pixels() {
        let sides = [(4, 8), (2, 4), (1, 2)];
        let mut logits: Vec<Vec<f32>> = sides.map(|(rows, columns)| vec![-9.0; 2 * rows * columns]).into();
        let mut distances: Vec<Vec<f32>> = sides.map(|(rows, columns)| vec![1.0; 4 * rows * columns]).into();
        // Stride 8, row 2, column 3, class 1.
        logits[0][32 + 19] = logit(0.75);
        for (i, side) in [4.0, 6.0, 10.0, 12.0].into_iter().enumerate() {
            distances[0][i * 32 + 19] = side;
        }
        logits[2][0] = f32::NAN;
        let mut given = Vec::new();
        for (values, count) in [(&logits, 2), (&distances, 4)] {
            for ((rows, columns), values) in sides.iter().zip(values) {
                given.push(Given::floats("out", &[1, count, *rows, *columns], values));
            }
        }
        let (found, broken) = testing::decode(&card(), &given);
        close(&found, &[Candidate { class: 1, score: 0.75, x0: 20.0, y0: 10.0, x1: 34.0, y1: 28.0 }]);
        assert_eq!(broken, 1);
    }
}
