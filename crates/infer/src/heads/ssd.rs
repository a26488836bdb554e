//! SSD (arXiv:1512.02325), finished by the model: double boxes are gone.
//!
//! Rows, as OpenVINO's `DetectionOutput` gives them: one output, `1 × 1 × boxes × 7`, 1×1×200×7: picture of the batch
//! (below 0: no more), label, score, left, top, right, bottom as shares of the input.
//!
//! Tensors, as TensorFlow's Object Detection API gives them: `detection_boxes`, `batch × boxes × 4` (top, left, bottom,
//! right as shares of the input), `detection_classes` and `detection_scores`, `batch × boxes`, `num_detections`, `batch`.
//!
//! Labels begin with 1 in both; 0 is the background (`first_class`).

use fleet::{Boxes, ModelCard};

use super::{Dim, Found, Head, Output, Part, part};

/// Pixels per unit of a box's coordinates: shares, unless the card says pixels.
fn unit(card: &ModelCard) -> [f32; 2] {
    match card.output.boxes {
        Boxes::Pixels => [1.0, 1.0],
        Boxes::Grid | Boxes::Unit => [card.width as f32, card.height as f32],
    }
}

/// `1 × 1 × boxes × 7`.
#[derive(Debug)]
pub(super) struct Rows {
    first_class: usize,
    unit: [f32; 2],
}

impl Rows {
    pub fn new(card: &ModelCard) -> Self {
        Self { first_class: card.output.first_class, unit: unit(card) }
    }
}

impl Head for Rows {
    fn parts(&self) -> Vec<Part> {
        vec![Part::floats("output", [Dim::Exactly(1), Dim::Exactly(1), Dim::Any, Dim::Exactly(7)])]
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let [x, y] = self.unit;
        for row in parts[0].values.floats().chunks_exact(7) {
            if row[0] < 0.0 {
                return;
            }
            // Of another picture, which counts it itself.
            if part::whole(row[0]).is_some_and(|picture| picture != found.slot)
                || (0.0..found.threshold).contains(&row[2])
            {
                continue;
            }
            let picture = part::whole(row[0]);
            match picture.and(part::whole(row[1])).and_then(|label| label.checked_sub(self.first_class)) {
                Some(class) => found.push(class, row[2], [row[3] * x, row[4] * y, row[5] * x, row[6] * y]),
                None => found.broken(),
            }
        }
    }
}

/// Four outputs.
#[derive(Debug)]
pub(super) struct Tensors {
    first_class: usize,
    unit: [f32; 2],
}

impl Tensors {
    pub fn new(card: &ModelCard) -> Self {
        Self { first_class: card.output.first_class, unit: unit(card) }
    }
}

impl Head for Tensors {
    fn parts(&self) -> Vec<Part> {
        vec![
            Part::floats("boxes", [Dim::Batch, Dim::Any, Dim::Exactly(4)]),
            Part::labels("classes", [Dim::Batch, Dim::Any]),
            Part::floats("scores", [Dim::Batch, Dim::Any]),
            Part::labels("num", [Dim::Batch]),
        ]
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let Some(count) = parts[3].values.label(0) else {
            found.broken();
            return;
        };
        let [x, y] = self.unit;
        let boxes = parts[0].values.floats().chunks_exact(4).zip(parts[2].values.floats());
        for (index, (at, &score)) in boxes.enumerate().take(count) {
            if (0.0..found.threshold).contains(&score) {
                continue;
            }
            let class = parts[1].values.label(index).and_then(|label| label.checked_sub(self.first_class));
            match class {
                Some(class) => found.push(class, score, [at[1] * x, at[0] * y, at[3] * x, at[2] * y]),
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

    const WANTED: Candidate = Candidate { class: 1, score: 0.9, x0: 16.0, y0: 8.0, x1: 48.0, y1: 16.0 };

    fn card() -> ModelCard {
        testing::card_of(fleet::Head::Ssd, 64, 32, 2)
    }

    #[test]
    fn rows_belong_to_the_picture_that_they_name() {
        #[rustfmt::skip]
        let rows = [
            0.0, 2.0, 0.9, 0.25, 0.25, 0.75, 0.5,
            1.0, 1.0, 0.8, 0.25, 0.25, 0.75, 0.5,
            0.0, 2.0, 0.1, 0.25, 0.25, 0.75, 0.5,
            // The background; a label that there is not; no score.
            0.0, 0.0, 0.9, 0.25, 0.25, 0.75, 0.5,
            0.0, 3.0, 0.9, 0.25, 0.25, 0.75, 0.5,
            0.0, 1.0, f32::NAN, 0.25, 0.25, 0.75, 0.5,
            -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
            // What comes after the end is rubbish.
            0.0, 2.0, 0.9, 0.25, 0.25, 0.75, 0.5,
        ];
        let given = [Given::floats("detection_out", &[1, 1, 8, 7], &rows)];
        let (found, broken) = testing::decode(&card(), &given);
        close(&found, &[WANTED]);
        assert_eq!(broken, 3);
        let (found, broken) = testing::decode_slot(&card(), &given, 1, 2);
        close(&found, &[Candidate { class: 0, score: 0.8, ..WANTED }]);
        assert_eq!(broken, 0);
    }

    #[test]
    fn tensors_have_rows_before_columns() {
        let boxes = [[0.25, 0.25, 0.5, 0.75]; 4].concat();
        let given = [
            Given::floats("detection_boxes:0", &[1, 4, 4], &boxes),
            Given::floats("detection_classes:0", &[1, 4], &[2.0, 2.0, 0.5, 2.0]),
            Given::floats("detection_scores:0", &[1, 4], &[0.9, 0.2, 0.9, 0.9]),
            Given::floats("num_detections:0", &[1], &[3.0]),
        ];
        let (found, broken) = testing::decode(&card(), &given);
        close(&found, &[WANTED]);
        assert_eq!(broken, 1);
        // As some exporters order them: the names tell.
        let given = [given[3].clone(), given[2].clone(), given[1].clone(), given[0].clone()];
        close(&testing::decode(&card(), &given).0, &[WANTED]);
    }
}
