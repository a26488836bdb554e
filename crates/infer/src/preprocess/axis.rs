//! Which samples of a plane each sample of the model's input is made of, along one side.

use fleet::Filter;

/// More samples than this are never averaged into one: it would take a picture 128 times as large as the input.
const MAX_CELL: usize = 128;

/// Cells that a sample is mixed of at most.
pub(super) const MAX_TAPS: usize = 4;

/// Neighbouring cells and how they are mixed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tap {
    /// The first of them.
    pub first: u32,
    /// The share of each, in 256ths; 256 in all. Those that lie beyond the edge have none.
    pub weights: [u16; MAX_TAPS],
}

/// One side of a plane: cells of `cell` samples each, and up to four of them for each sample that is made.
///
/// The middle of the first sample is at 0.5, and beyond the edges there is nothing (or, which is the same with two
/// cells, the outermost samples go on). With [`Filter::Linear`] two cells are mixed, as OpenCV's `INTER_LINEAR` does;
/// with [`Filter::Smooth`], where a picture shrinks, all that a triangle as wide as the scale covers, as PIL's
/// `BILINEAR` does. Either would skip samples, or take many, where it shrinks to a half or less: there, as many as go
/// into the scale are averaged first, and two of these cells are mixed.
#[derive(Debug, Default)]
pub(super) struct Axis {
    /// Samples in the plane.
    pub samples: usize,
    /// Samples per cell.
    pub cell: usize,
    /// One per sample that is made.
    pub taps: Vec<Tap>,
    /// Some tap mixes more than two cells.
    pub wide: bool,
    /// What the taps were made for: samples, how much of them counts (in halves), samples to make.
    made_for: (u32, u32, u32, Filter),
}

impl Axis {
    /// For a plane's side of `samples`, of which the picture covers `halves` / 2 (the chroma of an odd size reaches
    /// half a sample beyond it), made into `made` samples. Keeps what it has if that was for the same.
    pub fn set(&mut self, samples: u32, halves: u32, made: u32, filter: Filter) {
        if self.made_for == (samples, halves, made, filter) {
            return;
        }
        self.made_for = (samples, halves, made, filter);
        let scale = f64::from(halves) / 2.0 / f64::from(made);
        self.samples = samples as usize;
        self.cell = (scale as usize).clamp(1, MAX_CELL);
        self.wide = filter == Filter::Smooth && self.cell == 1 && scale > 1.0;
        let (cells, reach) = (self.cells(), if self.wide { scale } else { 1.0 });
        let middle = |index: u32| (f64::from(index) + 0.5) * scale / self.cell as f64;
        // A scale beyond what cells take leaves the window at two cells.
        let taps =
            (0..made).map(|index| triangle(middle(index).min(cells as f64 - 0.5).max(0.5), reach, cells));
        // `middle` borrows the rest of the axis.
        let mut kept = std::mem::take(&mut self.taps);
        kept.clear();
        kept.extend(taps);
        self.taps = kept;
    }

    /// Cells; the last may be smaller than the others.
    pub fn cells(&self) -> usize {
        self.samples.div_ceil(self.cell)
    }
}

/// The cells within `reach` (1 to 2) of `middle`, each by how near its own middle is.
fn triangle(middle: f64, reach: f64, cells: usize) -> Tap {
    let first = (middle - reach + 0.5).floor().clamp(0.0, (cells - 1) as f64) as usize;
    let mut shares = [0.0; MAX_TAPS];
    for (offset, share) in shares.iter_mut().enumerate().take(cells - first) {
        *share = (1.0 - ((first + offset) as f64 + 0.5 - middle).abs() / reach).max(0.0);
    }
    let sum: f64 = shares.iter().sum();
    let mut weights = shares.map(|share| (share / sum * 256.0).round() as u16);
    // What rounding left over goes where it matters least.
    let largest = (0..MAX_TAPS).max_by_key(|at| weights[*at]).unwrap_or(0);
    weights[largest] = weights[largest] + 256 - weights.iter().sum::<u16>();
    Tap { first: first as u32, weights }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(filter: Filter, samples: u32, halves: u32, made: u32) -> (usize, Vec<f64>) {
        let mut axis = Axis::default();
        axis.set(samples, halves, made, filter);
        let at = axis.taps.iter().map(|tap| {
            assert_eq!(tap.weights.iter().sum::<u16>(), 256);
            assert!(axis.wide || tap.weights[2..] == [0, 0]);
            let cells = (0..MAX_TAPS).map(|offset| f64::from(tap.first) + offset as f64);
            cells.zip(tap.weights).map(|(cell, weight)| cell * f64::from(weight) / 256.0).sum()
        });
        (axis.cell, at.collect())
    }

    #[test]
    fn positions_are_those_of_opencv() {
        // (i + 0.5) * 4 / 6 - 0.5, held at the edges.
        let wanted = [0.0, 0.5, 1.1667, 1.8333, 2.5, 3.0];
        for filter in [Filter::Linear, Filter::Smooth] {
            let (cell, got) = at(filter, 4, 8, 6);
            assert_eq!(cell, 1);
            assert!(got.iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 0.003), "{got:?}");
            assert_eq!(at(filter, 5, 10, 5), (1, vec![0.0, 1.0, 2.0, 3.0, 4.0]));
            assert_eq!(at(filter, 1, 2, 3), (1, vec![0.0; 3]));
        }
        // (i + 0.5) * 1.5 - 0.5.
        assert_eq!(at(Filter::Linear, 6, 12, 4), (1, vec![0.25, 1.75, 3.25, 4.75]));
    }

    #[test]
    fn the_smooth_filter_is_that_of_pil() {
        // PIL's `Image.BILINEAR` from 6 to 4: a triangle of 1.5 each side around 0.75, 2.25, 3.75, 5.25.
        let mut axis = Axis::default();
        axis.set(6, 12, 4, Filter::Smooth);
        assert!(axis.wide);
        let shares = |tap: Tap| tap.weights.map(|weight| f64::from(weight) / 256.0);
        let near = |tap: Tap, wanted: [f64; 4]| {
            assert!(shares(tap).iter().zip(wanted).all(|(got, w)| (got - w).abs() < 0.004), "{tap:?}");
        };
        // Distances 0.25, 0.75, 1.75 of 1.5: shares 5/6, 1/2, none.
        near(axis.taps[0], [0.625, 0.375, 0.0, 0.0]);
        // 1.75 is too far; 0.75, 0.25, 1.25: shares 1/2, 5/6, 1/6.
        assert_eq!(axis.taps[1].first, 1);
        near(axis.taps[1], [1.0 / 3.0, 5.0 / 9.0, 1.0 / 9.0, 0.0]);
    }

    #[test]
    fn a_large_scale_is_taken_in_two_steps() {
        // 9 samples into 2: cells of 4, the last one of 1; middles at 2.25 and 6.75 samples.
        let (cell, got) = at(Filter::Smooth, 9, 18, 2);
        assert_eq!(cell, 4);
        assert!((got[0] - 0.0625).abs() < 0.004 && (got[1] - 1.1875).abs() < 0.004, "{got:?}");
        // Cells are never so large that nothing is left to mix.
        assert_eq!(at(Filter::Smooth, 16_384, 32_768, 32).0, 128);
    }
}
