//! Heads with Generalized Focal Loss (arXiv:2006.04388): NanoDet and NanoDet-Plus (RangiLyu/nanodet), PP-PicoDet
//! (arXiv:2111.00902, PaddlePaddle/PaddleDetection).
//!
//! A grid per stride (8, 16, 32, 64; sides rounded up). For each cell the class scores, after the sigmoid, and for each
//! of left, top, right, bottom `reg_max + 1` values: the softmax over them weighs the distances 0, 1, … `reg_max`, and
//! their mean, times the stride, is how far the edge lies from the cell's point. Every class of a cell that scores high
//! enough is a box, as in the authors' multi-class suppression. That point is the cell's corner in
//! NanoDet-Plus (`centre: 0`) and its middle in NanoDet-m and PicoDet (`centre: 0.5`).
//!
//! - Merged, NanoDet-Plus at 416×416 on COCO: one output, `batch × cells × (classes + 4 × (reg_max + 1))`, 1×3598×112.
//! - Per stride, PicoDet-S at 416×416: scores `batch × cells × classes`, 1×2704×80, 1×676×80, 1×169×80, 1×49×80, then
//!   distances `batch × cells × 4 × (reg_max + 1)`, 1×2704×32 and so on; so also NanoDet-m.
//! - Decoded, PicoDet exported without its last step: `boxes`, `batch × cells × 4`: left, top, right, bottom in pixels;
//!   `scores`, `batch × classes × cells`.

use fleet::{Activation, ModelCard};

use super::{Dim, Found, Head, Output, Part, hot, logit, sigmoid};

/// What all forms share.
#[derive(Debug, Clone)]
struct Grid {
    strides: Vec<u32>,
    size: (u32, u32),
    classes: usize,
    bins: usize,
    centre: f32,
    logits: bool,
}

impl Grid {
    fn new(card: &ModelCard) -> Self {
        Self {
            strides: card.output.strides.clone(),
            size: (card.width, card.height),
            classes: card.classes.len(),
            bins: card.output.reg_max + 1,
            centre: card.output.centre,
            logits: card.output.activation == Activation::Sigmoid,
        }
    }

    /// Columns and cells of the grid of a stride.
    fn cells(&self, stride: u32) -> (usize, usize) {
        let columns = self.size.0.div_ceil(stride) as usize;
        (columns, columns * self.size.1.div_ceil(stride) as usize)
    }

    /// Puts one grid into `found`.
    fn decode<'a>(
        &self,
        stride: u32,
        cells: impl Iterator<Item = (&'a [f32], &'a [f32])>,
        found: &mut Found<'_>,
    ) {
        let (columns, _) = self.cells(stride);
        let least = if self.logits { logit(found.threshold) } else { found.threshold };
        for (index, (scores, distances)) in cells.enumerate() {
            if !hot(scores, least) {
                continue;
            }
            if scores.iter().any(|score| score.is_nan()) {
                found.broken();
                continue;
            }
            let stride = stride as f32;
            let x = ((index % columns) as f32 + self.centre) * stride;
            let y = ((index / columns) as f32 + self.centre) * stride;
            let side = |i: usize| mean(&distances[i * self.bins..][..self.bins]) * stride;
            let at = [x - side(0), y - side(1), x + side(2), y + side(3)];
            // Each class for itself, as the authors' multi-class suppression takes them.
            for (class, &score) in scores.iter().enumerate().filter(|(_, score)| **score >= least) {
                found.push(class, if self.logits { sigmoid(score) } else { score }, at);
            }
        }
    }
}

/// The mean of 0, 1, 2, … weighed by a softmax.
fn mean(values: &[f32]) -> f32 {
    let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighed) = (0.0, 0.0);
    for (index, value) in values.iter().enumerate() {
        let weight = (value - top).exp();
        sum += weight;
        weighed += weight * index as f32;
    }
    weighed / sum
}

/// One output for all grids.
#[derive(Debug)]
pub(super) struct Merged(Grid);

impl Merged {
    pub fn new(card: &ModelCard) -> Self {
        Self(Grid::new(card))
    }
}

impl Head for Merged {
    fn parts(&self) -> Vec<Part> {
        let cells = self.0.strides.iter().map(|stride| self.0.cells(*stride).1).sum();
        let values = Dim::Classes { before: 0, after: 4 * self.0.bins, count: self.0.classes };
        vec![Part::floats("output", [Dim::Batch, Dim::Boxes(cells), values])]
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let grid = &self.0;
        let mut rows = parts[0].values.floats().chunks_exact(grid.classes + 4 * grid.bins);
        for &stride in &grid.strides {
            let (_, cells) = grid.cells(stride);
            grid.decode(stride, rows.by_ref().take(cells).map(|row| row.split_at(grid.classes)), found);
        }
    }
}

/// Scores of every stride, then distances of every stride.
#[derive(Debug)]
pub(super) struct PerStride(Grid);

impl PerStride {
    pub fn new(card: &ModelCard) -> Self {
        Self(Grid::new(card))
    }
}

impl Head for PerStride {
    fn parts(&self) -> Vec<Part> {
        let part = |what, stride: &u32, values: Dim| {
            Part::floats(what, [Dim::Batch, Dim::Boxes(self.0.cells(*stride).1), values])
        };
        let classes = Dim::Classes { before: 0, after: 0, count: self.0.classes };
        let scores = self.0.strides.iter().map(|stride| part("cls", stride, classes.clone()));
        let distances =
            self.0.strides.iter().map(|stride| part("dis", stride, Dim::Exactly(4 * self.0.bins)));
        scores.chain(distances).collect()
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let grid = &self.0;
        let (scores, distances) = parts.split_at(grid.strides.len());
        for ((stride, scores), distances) in grid.strides.iter().zip(scores).zip(distances) {
            let scores = scores.values.floats().chunks_exact(grid.classes);
            let distances = distances.values.floats().chunks_exact(4 * grid.bins);
            grid.decode(*stride, scores.zip(distances), found);
        }
    }
}

/// Boxes in pixels and scores class by class.
#[derive(Debug)]
pub(super) struct Decoded(Grid);

impl Decoded {
    pub fn new(card: &ModelCard) -> Self {
        Self(Grid::new(card))
    }
}

impl Head for Decoded {
    fn parts(&self) -> Vec<Part> {
        let cells = Dim::Boxes(self.0.strides.iter().map(|stride| self.0.cells(*stride).1).sum());
        let classes = Dim::Classes { before: 0, after: 0, count: self.0.classes };
        vec![
            Part::floats("boxes", [Dim::Batch, cells.clone(), Dim::Exactly(4)]),
            Part::floats("scores", [Dim::Batch, classes, cells]),
        ]
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn decode(&mut self, parts: &[Output<'_>], found: &mut Found<'_>) {
        let cells = parts[1].side(1);
        let scores = parts[1].values.floats();
        for (cell, at) in parts[0].values.floats().chunks_exact(4).enumerate().take(cells) {
            for (class, &score) in scores[cell..].iter().step_by(cells).enumerate() {
                // NaN goes on, to be counted.
                if score >= found.threshold || score.is_nan() {
                    found.push(class, score, [at[0], at[1], at[2], at[3]]);
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

    const BINS: usize = 8;
    /// 96 x 48 at strides 8, 16, 32, 64: 12 x 6, 6 x 3, 3 x 2 and 2 x 1 cells.
    const CELLS: [usize; 4] = [72, 18, 6, 2];

    fn card(head: fleet::Head) -> ModelCard {
        testing::card_of(head, 96, 48, 2)
    }

    /// Bins that say "exactly `n`", and "between `n` and the next one".
    fn sure(n: usize) -> [f32; BINS] {
        std::array::from_fn(|i| if i == n { 60.0 } else { 0.0 })
    }

    fn between(n: usize) -> [f32; BINS] {
        std::array::from_fn(|i| if i == n || i == n + 1 { 60.0 } else { 0.0 })
    }

    /// Scores and distances of a grid with a thing in one cell.
    fn grid(cells: usize, thing: Option<usize>) -> (Vec<f32>, Vec<f32>) {
        let (mut scores, mut distances) = (vec![0.1; 2 * cells], vec![0.0; cells * 4 * BINS]);
        if let Some(cell) = thing {
            scores[2 * cell + 1] = 0.9;
            let sides = [sure(1), between(0), sure(3), sure(0)].concat();
            distances[cell * 4 * BINS..][..4 * BINS].copy_from_slice(&sides);
        }
        (scores, distances)
    }

    /// Stride 16, cell (row 1, column 4) and its distances 16, 8, 48 and 0 from the point.
    fn wanted(centre: f32) -> Candidate {
        let (x, y) = ((4.0 + centre) * 16.0, (1.0 + centre) * 16.0);
        Candidate { class: 1, score: 0.9, x0: x - 16.0, y0: y - 8.0, x1: x + 48.0, y1: y }
    }

    fn grids() -> [(Vec<f32>, Vec<f32>); 4] {
        [0, 1, 2, 3].map(|i| grid(CELLS[i], (i == 1).then_some(10)))
    }

    #[test]
    fn per_stride_grids_have_points_in_the_middle() {
        let grids = grids();
        let mut given: Vec<_> =
            grids.iter().zip(CELLS).map(|((s, _), n)| Given::floats("transpose", &[1, n, 2], s)).collect();
        given.extend(grids.iter().zip(CELLS).map(|((_, d), n)| Given::floats("transpose", &[1, n, 32], d)));
        let (found, broken) = testing::decode(&card(fleet::Head::Picodet), &given);
        close(&found, &[wanted(0.5)]);
        assert_eq!(broken, 0);
        // The file's order does not matter where shapes tell.
        given.reverse();
        close(&testing::decode(&card(fleet::Head::Picodet), &given).0, &[wanted(0.5)]);
    }

    #[test]
    fn a_merged_output_has_points_in_the_corner() {
        let mut rows = Vec::new();
        for (scores, distances) in &grids() {
            for (s, d) in scores.chunks(2).zip(distances.chunks(4 * BINS)) {
                rows.extend_from_slice(s);
                rows.extend_from_slice(d);
            }
        }
        // Broken: a score, and a distance of a box that is wanted.
        rows[0] = f32::NAN;
        rows[34..36].copy_from_slice(&[0.1, 0.9]);
        rows[40] = f32::NAN;
        let (found, broken) =
            testing::decode(&card(fleet::Head::Nanodet), &[Given::floats("output", &[1, 98, 34], &rows)]);
        close(&found, &[wanted(0.0)]);
        assert_eq!(broken, 2);
    }

    #[test]
    fn decoded_boxes_are_taken_as_they_are() {
        let (mut boxes, mut scores) = (vec![0.0; 98 * 4], vec![0.1; 2 * 98]);
        boxes[30 * 4..][..4].copy_from_slice(&[10.0, 4.0, 30.0, 20.0]);
        scores[98 + 30] = 0.7;
        scores[98 + 31] = f32::NAN;
        let given =
            [Given::floats("boxes", &[1, 98, 4], &boxes), Given::floats("scores", &[1, 2, 98], &scores)];
        let (found, broken) = testing::decode(&card(fleet::Head::Picodet), &given);
        close(&found, &[Candidate { class: 1, score: 0.7, x0: 10.0, y0: 4.0, x1: 30.0, y1: 20.0 }]);
        assert_eq!(broken, 1);
    }
}
