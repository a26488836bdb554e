//! YOLOv10 (arXiv:2405.14458), YOLO26 (ultralytics/ultralytics) and other exports that finish their boxes themselves.
//!
//! One output, `batch × boxes × 6`, 1×300×6: left, top, right, bottom in pixels (`boxes: unit`: shares of the input),
//! score, class. Rows without a box have a score of 0. Each thing has one box, so none is removed.

use fleet::ModelCard;

use super::yolov5::unit;
use super::{Dim, Found, Head, Output, Part, part};

const VALUES: usize = 6;

/// `batch × boxes × 6`.
#[derive(Debug)]
pub(super) struct End2end {
    unit: [f32; 2],
}

impl End2end {
    pub fn new(card: &ModelCard) -> Self {
        Self { unit: unit(card) }
    }
}

impl Head for End2end {
    fn parts(&self) -> Vec<Part> {
        vec![Part::floats("output", [Dim::Batch, Dim::Any, Dim::Exactly(VALUES)])]
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let [x, y] = self.unit;
        for row in parts[0].values.floats().chunks_exact(VALUES) {
            if (0.0..found.threshold).contains(&row[4]) {
                continue;
            }
            match part::whole(row[5]) {
                Some(class) => found.push(class, row[4], [row[0] * x, row[1] * y, row[2] * x, row[3] * y]),
                None => found.broken(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::heads::Candidate;
    use crate::testing::{self, Given, close};

    #[test]
    fn rows_are_boxes_as_they_are() {
        let card = testing::card_of(fleet::Head::End2end, 64, 32, 2);
        #[rustfmt::skip]
        let tensor = [
            10.0, 4.0, 30.0, 20.0, 0.5, 1.0,
            10.0, 4.0, 30.0, 20.0, 0.9, 0.0,
            // The same thing again: the model's own business.
            10.0, 4.0, 30.0, 20.0, 0.8, 0.0,
            10.0, 4.0, 30.0, 20.0, 0.2, 0.0,
            0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
            // Broken: a class that there is not, one that is none, no score, no box.
            10.0, 4.0, 30.0, 20.0, 0.9, 2.0,
            10.0, 4.0, 30.0, 20.0, 0.9, 0.5,
            10.0, 4.0, 30.0, 20.0, f32::NAN, 0.0,
            10.0, 4.0, 9.0, 20.0, 0.9, 0.0,
        ];
        let (found, broken) = testing::decode(&card, &[Given::floats("output0", &[1, 9, 6], &tensor)]);
        let wanted = |class, score| Candidate { class, score, x0: 10.0, y0: 4.0, x1: 30.0, y1: 20.0 };
        close(&found, &[wanted(0, 0.9), wanted(0, 0.8), wanted(1, 0.5)]);
        assert_eq!(broken, 4);
    }
}
