//! YOLOv5 (ultralytics/yolov5), and YOLOv7 (arXiv:2207.02696), which kept its output.
//!
//! Decoded, as `export.py` gives it: `batch × anchors × (5 + classes)`, 1×25200×85 at 640×640 on COCO: middle x and y,
//! width, height in pixels (some exports: shares of the input), objectness, class scores, all of them final.
//!
//! Raw, as other exporters cut it off: for each stride `batch × anchors × rows × columns × (5 + classes)`, 1×3×80×80×85
//! and so on, before any sigmoid. With `σ` of every value: middle `(2σ − 0.5 + column) × stride`, size `(2σ)² × anchor`.

use fleet::{Boxes, ModelCard};

use super::yolox::{cells, take};
use super::{Dim, Found, Head, Output, Part, SCORE_SLACK, corners, largest, logit, sigmoid};

const BEFORE_CLASSES: usize = 5;

/// One output, boxes in pixels or shares.
#[derive(Debug)]
pub(super) struct Decoded {
    boxes: usize,
    classes: usize,
    /// Pixels per unit of x and y.
    unit: [f32; 2],
}

impl Decoded {
    pub fn new(card: &ModelCard) -> Self {
        let per_cell = card.output.anchors.first().map_or(3, Vec::len);
        Self {
            boxes: per_cell * cells(&card.output.strides, (card.width, card.height)),
            classes: card.classes.len(),
            unit: unit(card),
        }
    }
}

/// Pixels per unit of a box's coordinates.
pub(super) fn unit(card: &ModelCard) -> [f32; 2] {
    match card.output.boxes {
        Boxes::Unit => [card.width as f32, card.height as f32],
        Boxes::Grid | Boxes::Pixels => [1.0, 1.0],
    }
}

impl Head for Decoded {
    fn parts(&self) -> Vec<Part> {
        let values = Dim::Classes { before: BEFORE_CLASSES, after: 0, count: self.classes };
        vec![Part::floats("output", [Dim::Batch, Dim::Boxes(self.boxes), values])]
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let [x, y] = self.unit;
        for anchor in parts[0].values.floats().chunks_exact(BEFORE_CLASSES + self.classes) {
            if !(-SCORE_SLACK..found.threshold).contains(&anchor[4]) {
                take(anchor, [anchor[0] * x, anchor[1] * y, anchor[2] * x, anchor[3] * y], found);
            }
        }
    }
}

/// One output per stride, before any sigmoid.
#[derive(Debug)]
pub(super) struct Raw {
    strides: Vec<u32>,
    anchors: Vec<Vec<[f32; 2]>>,
    size: (u32, u32),
    classes: usize,
}

impl Raw {
    pub fn new(card: &ModelCard) -> Self {
        Self {
            strides: card.output.strides.clone(),
            anchors: card.output.anchors.clone(),
            size: (card.width, card.height),
            classes: card.classes.len(),
        }
    }
}

impl Head for Raw {
    fn parts(&self) -> Vec<Part> {
        let part = |(stride, anchors): (&u32, &Vec<_>)| {
            let values = Dim::Classes { before: BEFORE_CLASSES, after: 0, count: self.classes };
            let (columns, rows) = ((self.size.0 / stride) as usize, (self.size.1 / stride) as usize);
            let sides = [anchors.len(), rows, columns].map(Dim::Exactly);
            let [per_cell, rows, columns] = sides;
            Part::floats("output", [Dim::Batch, per_cell, rows, columns, values])
        };
        self.strides.iter().zip(&self.anchors).map(part).collect()
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let least = logit(found.threshold);
        for ((part, &stride), anchors) in parts.iter().zip(&self.strides).zip(&self.anchors) {
            let columns = (self.size.0 / stride) as usize;
            let per_anchor = part.side(1) * part.side(2);
            let cells = part.values.floats().chunks_exact(BEFORE_CLASSES + self.classes);
            for (index, cell) in cells.enumerate() {
                // NaN goes on, to be counted.
                if cell[4] < least {
                    continue;
                }
                let Some(anchor) = anchors.get(index / per_anchor.max(1)) else { break };
                let at = index % per_anchor;
                let (row, column) = ((at / columns) as f32, (at % columns) as f32);
                let Some((class, best)) = largest(cell[BEFORE_CLASSES..].iter().copied()) else {
                    found.broken();
                    continue;
                };
                let middle = |v: f32, cell: f32| (2.0 * sigmoid(v) - 0.5 + cell) * stride as f32;
                let side = |v: f32, anchor: f32| (2.0 * sigmoid(v)).powi(2) * anchor;
                let at = [
                    middle(cell[0], column),
                    middle(cell[1], row),
                    side(cell[2], anchor[0]),
                    side(cell[3], anchor[1]),
                ];
                found.push(class, sigmoid(cell[4]) * sigmoid(best), corners(at));
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
        testing::card_of(fleet::Head::Yolov5, 64, 32, 2)
    }

    #[test]
    fn decoded_boxes_are_middle_and_size() {
        // 3 x (8 x 4 + 4 x 2 + 2 x 1) boxes.
        let mut tensor = vec![0.0; 126 * 7];
        tensor[100 * 7..][..7].copy_from_slice(&[32.0, 16.0, 10.0, 8.0, 0.9, 0.1, 0.8]);
        tensor[50 * 7..][..7].copy_from_slice(&[0.0, 0.0, 10.0, 8.0, 0.29, 1.0, 0.8]);
        tensor[60 * 7..][..7].copy_from_slice(&[0.0, 0.0, f32::NAN, 8.0, 0.9, 1.0, 0.8]);
        let (found, broken) = testing::decode(&card(), &[Given::floats("output0", &[1, 126, 7], &tensor)]);
        let wanted = Candidate { class: 1, score: 0.72, x0: 27.0, y0: 12.0, x1: 37.0, y1: 20.0 };
        close(&found, &[wanted]);
        assert_eq!(broken, 1);
        let mut card = card();
        card.output.boxes = Boxes::Unit;
        tensor[100 * 7..][..4].copy_from_slice(&[0.5, 0.5, 10.0 / 64.0, 0.25]);
        close(&testing::decode(&card, &[Given::floats("output0", &[1, 126, 7], &tensor)]).0, &[wanted]);
    }

    #[test]
    fn raw_grids_are_decoded_with_their_anchors() {
        let (low, none) = (-20.0, 0.0);
        let mut grids: Vec<Vec<f32>> = [(4, 8), (2, 4), (1, 2)]
            .map(|(rows, columns)| [none, none, none, none, low, low, low].repeat(3 * rows * columns))
            .into();
        // Stride 16, anchor 2 (59 x 119), row 1, column 3: index (2 * 2 + 1) * 4 + 3.
        let cell = &mut grids[1][23 * 7..][..7];
        // Sigmoids: 0.5, 0.5, 0.5, 0.5; objectness 0.9; class 0 0.8.
        cell.copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 9f32.ln(), 4f32.ln(), low]);
        grids[2][4] = f32::NAN;
        let given: Vec<_> = [(4, 8), (2, 4), (1, 2)]
            .iter()
            .zip(&grids)
            .map(|((rows, columns), grid)| Given::floats("grid", &[1, 3, *rows, *columns, 7], grid))
            .collect();
        let (found, broken) = testing::decode(&card(), &given);
        // Middle (0.5 + 3) * 16, (0.5 + 1) * 16; size of the anchor.
        let (x, y, w, h) = (56.0, 24.0, 59.0, 119.0);
        let wanted = Candidate {
            class: 0,
            score: 0.72,
            x0: x - w / 2.0,
            y0: y - h / 2.0,
            x1: x + w / 2.0,
            y1: y + h / 2.0,
        };
        close(&found, &[wanted]);
        assert_eq!(broken, 1);
    }
}
