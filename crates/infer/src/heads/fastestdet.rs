//! FastestDet (dog-qiuqiu/FastestDet): one grid at stride 16, one box per cell.
//!
//! One output, `batch × (5 + classes) × rows × columns`, 1×85×22×22 at 352×352 on COCO: objectness after the sigmoid, x, y,
//! width, height, class scores after the softmax. The middle is `(tanh(x) + column) / columns`, the size `σ(w), σ(h)`, as
//! shares of the input. The score is `objectness^0.6 × class^0.4`.

use fleet::ModelCard;

use super::{Dim, Found, Head, Output, Part, corners, largest, score, sigmoid};

const BEFORE_CLASSES: usize = 5;
const STRIDE: u32 = 16;

/// `batch × (5 + classes) × rows × columns`.
#[derive(Debug)]
pub(super) struct FastestDet {
    size: (u32, u32),
    classes: usize,
}

impl FastestDet {
    pub fn new(card: &ModelCard) -> Self {
        Self { size: (card.width, card.height), classes: card.classes.len() }
    }
}

impl Head for FastestDet {
    fn parts(&self) -> Vec<Part> {
        let values = Dim::Classes { before: BEFORE_CLASSES, after: 0, count: self.classes };
        let [rows, columns] =
            [self.size.1, self.size.0].map(|side| Dim::Exactly(side.div_ceil(STRIDE) as usize));
        vec![Part::floats("output", [Dim::Batch, values, rows, columns])]
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let (rows, columns) = (parts[0].side(1), parts[0].side(2));
        let cells = rows * columns;
        let values = parts[0].values.floats();
        // No class can lift the score above objectness^0.6.
        let least = found.threshold.powf(1.0 / 0.6);
        for cell in 0..cells {
            let at = |index: usize| values[index * cells + cell];
            if (-super::SCORE_SLACK..least).contains(&at(0)) {
                continue;
            }
            let best = largest((0..self.classes).map(|class| at(BEFORE_CLASSES + class)));
            let scores = best.and_then(|(class, value)| Some((class, score(value)?, score(at(0))?)));
            let Some((class, value, objectness)) = scores else {
                found.broken();
                continue;
            };
            let (width, height) = (self.size.0 as f32, self.size.1 as f32);
            let x = (at(1).tanh() + (cell % columns) as f32) / columns as f32 * width;
            let y = (at(2).tanh() + (cell / columns) as f32) / rows as f32 * height;
            let middle_and_size = [x, y, sigmoid(at(3)) * width, sigmoid(at(4)) * height];
            found.push(class, objectness.powf(0.6) * value.powf(0.4), corners(middle_and_size));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::heads::Candidate;
    use crate::testing::{self, Given, close};

    #[test]
    fn the_grid_is_decoded() {
        let card = testing::card_of(fleet::Head::Fastestdet, 64, 32, 2);
        let mut tensor = vec![0.0; 7 * 8];
        let mut put = |cell: usize, values: [f32; 7]| {
            values.into_iter().enumerate().for_each(|(i, v)| tensor[i * 8 + cell] = v);
        };
        // Row 1, column 2 of 2 x 4; tanh 0.5, sigmoids 0.25 and 0.5.
        put(6, [0.9, 0.5f32.atanh(), 0.0, -(3f32.ln()), 0.0, 0.2, 0.8]);
        put(0, [0.05, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        put(1, [f32::NAN, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        put(2, [0.9, f32::NAN, 0.0, 0.0, 0.0, 1.0, 0.0]);
        put(3, [0.9, 0.0, 0.0, 0.0, 0.0, f32::NAN, 0.9]);
        let (found, broken) = testing::decode(&card, &[Given::floats("output", &[1, 7, 2, 4], &tensor)]);
        let score = 0.9f32.powf(0.6) * 0.8f32.powf(0.4);
        close(&found, &[Candidate { class: 1, score, x0: 32.0, y0: 8.0, x1: 48.0, y1: 24.0 }]);
        assert_eq!(broken, 3);
    }
}
