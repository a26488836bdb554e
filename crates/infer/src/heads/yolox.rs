//! YOLOX (arXiv:2107.08430, Megvii-BaseDetection/YOLOX): anchor-free, one box per cell of three grids.
//!
//! One output, `batch × anchors × (5 + classes)`; YOLOX-nano at 416×416 on COCO: 1×3549×85. For every cell, in rows, strides 8, 16, 32 one after the other: `x, y, w, h, objectness, class scores…`. The
//! centre is `(x + column, y + row) × stride`, the size `exp(w), exp(h) × stride`; objectness and class scores come
//! out of a sigmoid. Exports with `decode_in_inference` give middle and size in pixels instead (`boxes: pixels`).

use fleet::{Boxes, ModelCard};

use super::{Dim, Found, Head, Output, Part, corners, largest, score};

/// Values of an anchor before its class scores.
const BEFORE_CLASSES: usize = 5;

/// `batch × anchors × (5 + classes)`.
#[derive(Debug)]
pub(super) struct Yolox {
    strides: Vec<u32>,
    size: (u32, u32),
    classes: usize,
    /// The model has worked out the grid itself (`decode_in_inference`): boxes are in pixels.
    decoded: bool,
}

/// How many boxes grids of these strides have at this input size.
pub(super) fn cells(strides: &[u32], (width, height): (u32, u32)) -> usize {
    strides.iter().map(|s| (width / s) as usize * (height / s) as usize).sum()
}

impl Yolox {
    pub fn new(card: &ModelCard) -> Self {
        Self {
            strides: card.output.strides.clone(),
            size: (card.width, card.height),
            classes: card.classes.len(),
            decoded: card.output.boxes == Boxes::Pixels,
        }
    }
}

impl Head for Yolox {
    fn parts(&self) -> Vec<Part> {
        let values = Dim::Classes { before: BEFORE_CLASSES, after: 0, count: self.classes };
        let boxes = Dim::Boxes(cells(&self.strides, self.size));
        vec![Part::floats("output", [Dim::Batch, boxes, values])]
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let mut anchors = parts[0].values.floats().chunks_exact(BEFORE_CLASSES + self.classes);
        for &stride in &self.strides {
            let (columns, rows) = ((self.size.0 / stride) as usize, (self.size.1 / stride) as usize);
            for (cell, anchor) in anchors.by_ref().take(columns * rows).enumerate() {
                // Nearly every anchor leaves here: no class score is above 1.
                if (-super::SCORE_SLACK..found.threshold).contains(&anchor[4]) {
                    continue;
                }
                let at = if self.decoded {
                    [anchor[0], anchor[1], anchor[2], anchor[3]]
                } else {
                    place(anchor, stride as f32, (cell / columns) as f32, (cell % columns) as f32)
                };
                take(anchor, at, found);
            }
        }
    }
}

/// Middle and size of a cell's box, in pixels.
fn place(anchor: &[f32], stride: f32, row: f32, column: f32) -> [f32; 4] {
    [
        (anchor[0] + column) * stride,
        (anchor[1] + row) * stride,
        anchor[2].exp() * stride,
        anchor[3].exp() * stride,
    ]
}

/// Objectness times the best class.
pub(super) fn take(anchor: &[f32], middle_and_size: [f32; 4], found: &mut Found<'_>) {
    let best = largest(anchor[BEFORE_CLASSES..].iter().copied());
    let scores = best.and_then(|(class, value)| Some((class, score(value)?, score(anchor[4])?)));
    match scores {
        Some((class, value, objectness)) => found.push(class, objectness * value, corners(middle_and_size)),
        None => found.broken(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::Candidate;
    use crate::testing::{self, Given, close};

    const SIZE: (u32, u32) = (64, 32);
    const CLASSES: usize = 2;
    const VALUES: usize = BEFORE_CLASSES + CLASSES;
    const CELLS: usize = 42;

    fn empty() -> Vec<f32> {
        vec![0.0; CELLS * VALUES]
    }

    fn run(tensor: &[f32], threshold: f32) -> (Vec<Candidate>, u64) {
        run_as(Boxes::Grid, tensor, threshold)
    }

    fn run_as(boxes: Boxes, tensor: &[f32], threshold: f32) -> (Vec<Candidate>, u64) {
        let mut card = testing::card(SIZE.0, SIZE.1, CLASSES);
        card.output.boxes = boxes;
        card.thresholds.score = threshold;
        testing::decode(&card, &[Given::floats("output", &[1, CELLS, VALUES], tensor)])
    }

    #[test]
    fn anchors_of_the_published_sizes() {
        assert_eq!(cells(&[8, 16, 32], (416, 416)), 3549);
        assert_eq!(cells(&[8, 16, 32], (640, 640)), 8400);
        assert_eq!(cells(&[8, 16, 32], SIZE), CELLS);
    }

    #[test]
    fn a_decoded_grid_is_in_pixels() {
        let mut tensor = empty();
        tensor[20 * VALUES..][..VALUES].copy_from_slice(&[30.0, 10.0, 20.0, 8.0, 0.5, 0.2, 0.9]);
        let (found, broken) = run_as(Boxes::Pixels, &tensor, 0.3);
        assert_eq!(broken, 0);
        close(&found, &[Candidate { class: 1, score: 0.45, x0: 20.0, y0: 6.0, x1: 40.0, y1: 14.0 }]);
    }

    #[test]
    fn the_grid_is_decoded_by_rows_and_strides() {
        let mut tensor = empty();
        // Stride 8 has 8 x 4 cells: row 2, column 3 is cell 19. Stride 16 has 4 x 2: row 1, column 0 is 32 + 4.
        // Stride 32 has 2 x 1: column 1 is 32 + 8 + 1.
        for (cell, class) in [(19, 0), (36, 1), (41, 1)] {
            let anchor = &mut tensor[cell * VALUES..][..VALUES];
            anchor[..5].copy_from_slice(&[0.5, 0.25, 2f32.ln(), 0.0, 0.8]);
            anchor[5 + class] = 0.5;
        }
        let (found, broken) = run(&tensor, 0.3);
        assert_eq!(broken, 0);
        let expected = [
            Candidate { class: 0, score: 0.4, x0: 20.0, y0: 14.0, x1: 36.0, y1: 22.0 },
            Candidate { class: 1, score: 0.4, x0: -8.0, y0: 12.0, x1: 24.0, y1: 28.0 },
            Candidate { class: 1, score: 0.4, x0: 16.0, y0: -8.0, x1: 80.0, y1: 24.0 },
        ];
        close(&found, &expected);
    }

    #[test]
    fn the_score_is_objectness_times_class() {
        let mut tensor = empty();
        tensor[4..7].copy_from_slice(&[0.6, 0.4, 0.5]);
        assert_eq!(run(&tensor, 0.31).0, []);
        let found = run(&tensor, 0.29).0;
        assert_eq!((found[0].class, found[0].score), (1, 0.6 * 0.5));
    }

    #[test]
    fn broken_anchors_are_skipped_and_counted() {
        let good = [0.5, 0.5, 0.0, 0.0, 0.9, 0.9, 0.1];
        let mut tensor = empty();
        let spoil = [
            (0, f32::NAN),      // x
            (2, f32::NAN),      // w
            (3, 200.0),         // e^200 is no height
            (3, f32::INFINITY), // nor this
            (2, -200.0),        // a width that rounds to nothing
            (4, f32::NAN),      // objectness
            (4, -3.0),          // a logit that went through no sigmoid
            (4, 7.0),
            (5, f32::NAN), // class scores, also of a class that does not win
            (6, f32::NAN),
            (6, 5.0), // the winner's is no score
        ];
        for (cell, (index, value)) in spoil.into_iter().enumerate() {
            let anchor = &mut tensor[cell * VALUES..][..VALUES];
            anchor.copy_from_slice(&good);
            anchor[index] = value;
        }
        tensor[20 * VALUES..][..VALUES].copy_from_slice(&good);
        let (found, broken) = run(&tensor, 0.3);
        assert_eq!(broken, spoil.len() as u64);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_score_a_hair_above_one_is_one() {
        let mut tensor = empty();
        tensor[..VALUES].copy_from_slice(&[0.5, 0.5, 0.0, 0.0, 1.0004, 1.0004, 0.0]);
        assert_eq!(run(&tensor, 0.3).0[0].score, 1.0);
    }
}
