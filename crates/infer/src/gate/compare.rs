//! How a small grey picture differs from another one of the same place: plain arithmetic, no state.
//!
//! The light may change: gain and offset between the two pictures are fitted first, by least squares without what
//! does not fit. What is left is measured against the camera's noise (the median of what is left, so that a thing in
//! part of the picture does not count as noise) and against how steep the reference is at each cell, since a mast that
//! sways and a coder that quantises differently move edges. Drops and flakes are one cell wide and go in a median
//! over three cells. Then windows of 4 x 4 cells, half overlapping, are changed or not.

use flow::Luma;

/// Cells per side of a half window.
const HALF: usize = 2;
/// Cells in a window.
const WINDOW_CELLS: f32 = (4 * HALF * HALF) as f32;
/// Noise is never taken to be less than this: cells are whole grey levels.
const LEAST_NOISE: f32 = 1.0;
/// Noise beyond this is no noise: the pictures show different things.
const MOST_NOISE: f32 = 6.0;
/// By what share of a cell edges may shift.
const SHIFT: f32 = 0.1;
/// Gains outside of this are no change of exposure.
const GAINS: std::ops::RangeInclusive<f32> = 0.5..=2.0;
/// Less than this share of the cells that fits: not the same picture.
const LEAST_FITTING: f32 = 0.4;

/// Windows of a grid, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Cells in a row of the picture.
    cells: (usize, usize),
    /// Windows in a row.
    pub columns: usize,
    /// Rows of windows.
    pub rows: usize,
}

impl Grid {
    /// Of a picture; `None` where it is too small to have a window.
    pub fn of(luma: &Luma) -> Option<Self> {
        let windows = |cells: usize| (cells / HALF).checked_sub(1).filter(|n| *n > 0);
        Some(Self {
            cells: (luma.columns(), luma.rows()),
            columns: windows(luma.columns())?,
            rows: windows(luma.rows())?,
        })
    }

    /// How many windows.
    pub fn len(&self) -> usize {
        self.columns * self.rows
    }

    /// Left, top, right and bottom of a window as shares of the picture.
    pub fn place(&self, window: usize) -> [f32; 4] {
        let (column, row) = (window % self.columns, window / self.columns);
        let share = |cell: usize, cells: usize| cell as f32 / cells as f32;
        let (x, y) = (column * HALF, row * HALF);
        let (columns, rows) = self.cells;
        [share(x, columns), share(y, rows), share(x + 2 * HALF, columns), share(y + 2 * HALF, rows)]
    }

    /// Columns and rows of the windows that lie mostly inside a box given in shares of the picture: at least one each.
    pub fn inside(&self, [x0, y0, x1, y1]: [f32; 4]) -> [std::ops::Range<usize>; 2] {
        let range = |low: f32, high: f32, cells: usize, windows: usize| {
            // A window's middle lies one half window behind its start.
            let first = (low * cells as f32 / HALF as f32 - 1.0).round().max(0.0) as usize;
            let end = (high * cells as f32 / HALF as f32 - 1.0).round().max(0.0) as usize;
            let first = first.min(windows - 1);
            first..end.clamp(first + 1, windows)
        };
        let (columns, rows) = self.cells;
        [range(x0, x1, columns, self.columns), range(y0, y1, rows, self.rows)]
    }
}

/// Buffers, used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Cells of both pictures, side by side.
    pairs: Vec<(f32, f32)>,
    /// Of a row: what is left, and its squares in units of the noise.
    left: Vec<f32>,
    squares: Vec<f32>,
    halves: Vec<f32>,
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Compared {
    /// Window by window; standard deviation of the noise in grey levels.
    Windows { noise: f32 },
    /// Not the same picture: another place, another exposure mode, a camera that is covered.
    Another,
}

/// Compares `now` with `reference`, pictures of one size, and sets `changed` for every window whose root mean square
/// of what is left is more than `threshold` times the noise.
pub(crate) fn compare(
    (reference, now): (&Luma, &Luma),
    grid: Grid,
    threshold: f32,
    scratch: &mut Scratch,
    changed: &mut Vec<bool>,
) -> Compared {
    let Some((gain, offset, noise)) = fit(reference, now, &mut scratch.pairs) else {
        return Compared::Another;
    };
    if !GAINS.contains(&gain) || noise > MOST_NOISE {
        return Compared::Another;
    }
    let noise = noise.max(LEAST_NOISE);
    halves(reference, now, (gain, offset, noise), grid, scratch);
    let limit = threshold * threshold * WINDOW_CELLS;
    let per_row = grid.columns + 1;
    changed.clear();
    for row in 0..grid.rows {
        let (upper, lower) =
            (&scratch.halves[row * per_row..][..per_row], &scratch.halves[(row + 1) * per_row..][..per_row]);
        let sums = upper.windows(2).zip(lower.windows(2)).map(|(a, b)| a[0] + a[1] + b[0] + b[1]);
        changed.extend(sums.map(|sum| sum > limit));
    }
    Compared::Windows { noise }
}

/// Gain and offset that make `reference` into `now`, and the noise that is left. `None`: they do not belong together.
fn fit(reference: &Luma, now: &Luma, pairs: &mut Vec<(f32, f32)>) -> Option<(f32, f32, f32)> {
    let columns = reference.columns();
    // Every fourth cell of every second row is plenty.
    let rows = reference.cells().chunks_exact(columns).zip(now.cells().chunks_exact(columns)).step_by(2);
    pairs.clear();
    for (r, n) in rows {
        let some = r.iter().zip(n).step_by(4);
        pairs.extend(some.map(|(r, n)| (f32::from(*r), f32::from(*n))));
    }
    // First what the quartiles say: they stand what least squares does not.
    let mut line = quartiles(reference, now);
    let mut noise = 0.0;
    for _ in 0..3 {
        noise = spread(pairs.iter().map(|(r, n)| n - line.0 * r - line.1));
        let near = 3.0 * f32::max(noise, LEAST_NOISE);
        let mut sums = [0.0_f64; 5];
        for &(r, n) in pairs.iter().filter(|(r, n)| (n - line.0 * r - line.1).abs() <= near) {
            let (r, n) = (f64::from(r), f64::from(n));
            for (sum, value) in sums.iter_mut().zip([1.0, r, n, r * r, r * n]) {
                *sum += value;
            }
        }
        let [count, r, n, rr, rn] = sums;
        if (count as f32) < LEAST_FITTING * pairs.len() as f32 {
            return None;
        }
        let variance = rr - r * r / count;
        // A flat picture says nothing about the gain: its noise would pull it towards 0.
        let least = 4.0 + 16.0 * f64::from(noise * noise);
        let gain = if variance > least * count { (rn - r * n / count) / variance } else { 1.0 };
        line = (gain as f32, ((n - gain * r) / count) as f32);
    }
    Some((line.0, line.1, noise))
}

/// Gain and offset that make the quartiles of one into those of the other.
fn quartiles(reference: &Luma, now: &Luma) -> (f32, f32) {
    let of = |luma: &Luma| {
        let mut counts = [0_u32; 256];
        luma.cells().iter().for_each(|cell| counts[usize::from(*cell)] += 1);
        let all = luma.cells().len() as u32;
        [all / 4, all / 2, all - all / 4].map(|rank| quantile(&counts, rank) as f32)
    };
    let ([r25, r50, r75], [n25, n50, n75]) = (of(reference), of(now));
    let gain = if r75 - r25 >= 8.0 { ((n75 - n25) / (r75 - r25)).clamp(0.5, 2.0) } else { 1.0 };
    (gain, n50 - gain * r50)
}

/// Standard deviation out of the median of the absolute values (1.4826 times it for normal noise).
fn spread(values: impl Iterator<Item = f32>) -> f32 {
    /// Bins per grey level.
    const FINE: f32 = 8.0;
    let mut counts = [0_u32; 256];
    let mut all = 0;
    for value in values {
        counts[((value.abs() * FINE) as usize).min(255)] += 1;
        all += 1;
    }
    (quantile(&counts, all / 2) as f32 + 0.5) / FINE * 1.4826
}

/// The bin that holds the value of this rank.
fn quantile(counts: &[u32], rank: u32) -> usize {
    let mut seen = 0;
    let found = counts.iter().position(|count| {
        seen += count;
        seen >= rank.max(1)
    });
    found.unwrap_or(0)
}

/// Fills `scratch.halves`: per half window, the squares of what is left, in units of the noise.
fn halves(
    reference: &Luma,
    now: &Luma,
    (gain, offset, noise): (f32, f32, f32),
    grid: Grid,
    scratch: &mut Scratch,
) {
    let (columns, rows) = (reference.columns(), reference.rows());
    let per_row = grid.columns + 1;
    let Scratch { left, squares, halves, .. } = scratch;
    halves.clear();
    halves.resize(per_row * (grid.rows + 1), 0.0);
    squares.clear();
    // The first and the last column have no neighbour and count as unchanged.
    squares.resize(columns, 0.0);
    let line = |y: usize| &reference.cells()[y * columns..][..columns];
    let (least, shift) = (noise * noise, SHIFT * SHIFT);
    for y in 0..(grid.rows + 1) * HALF {
        let (here, above, below) = (line(y), line(y.saturating_sub(1)), line((y + 1).min(rows - 1)));
        let current = &now.cells()[y * columns..][..columns];
        left.clear();
        left.extend(here.iter().zip(current).map(|(r, n)| f32::from(*n) - gain * f32::from(*r) - offset));
        let inner = left.windows(3).zip(here.windows(3)).zip(above[1..].iter().zip(&below[1..]));
        for (square, ((left, here), (above, below))) in squares[1..].iter_mut().zip(inner) {
            let rest = median3(left[0], left[1], left[2]);
            let across = f32::from(here[2]) - f32::from(here[0]);
            let down = f32::from(*below) - f32::from(*above);
            *square = rest * rest / (least + shift * (across * across + down * down));
        }
        let out = &mut halves[y / HALF * per_row..][..per_row];
        for (half, squares) in out.iter_mut().zip(squares.chunks_exact(HALF)) {
            *half += squares.iter().sum::<f32>();
        }
    }
}

fn median3(a: f32, b: f32, c: f32) -> f32 {
    a.min(b).max(a.max(b).min(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: u16 = 80;
    const ROWS: u16 = 60;

    /// A picture with some structure, and noise of this standard deviation (roughly: the sum of four uniform ones).
    fn picture(noise: f32, seed: u64, cell: impl Fn(f32, f32) -> f32) -> Luma {
        let mut random = fastrand::Rng::with_seed(seed);
        let cells = (0..usize::from(ROWS) * usize::from(COLUMNS)).map(|i| {
            let (x, y) = ((i % usize::from(COLUMNS)) as f32, (i / usize::from(COLUMNS)) as f32);
            let sum: f32 = (0..4).map(|_| random.f32() - 0.5).sum();
            (cell(x, y) + sum * noise * 1.732).round().clamp(0.0, 255.0) as u8
        });
        Luma::from_cells(COLUMNS, ROWS, cells.collect()).unwrap()
    }

    fn street(x: f32, y: f32) -> f32 {
        90.0 + 40.0 * (x / 7.0).sin() + 30.0 * (y / 11.0).cos() + if x > 50.0 { 35.0 } else { 0.0 }
    }

    fn changed(reference: &Luma, now: &Luma) -> Option<Vec<usize>> {
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        match compare((reference, now), Grid::of(now)?, 3.0, &mut scratch, &mut out) {
            Compared::Windows { .. } => {
                Some(out.iter().enumerate().filter(|(_, c)| **c).map(|(i, _)| i).collect())
            }
            Compared::Another => None,
        }
    }

    #[test]
    fn noise_and_light_are_no_change() {
        for noise in [0.0, 0.7, 1.5, 3.0] {
            let reference = picture(noise, 1, street);
            for (gain, offset) in [(1.0, 0.0), (1.0, 14.0), (1.3, -20.0), (0.75, 5.0)] {
                for seed in 2..12 {
                    let now = picture(noise, seed, |x, y| street(x, y) * gain + offset);
                    assert_eq!(
                        changed(&reference, &now),
                        Some(vec![]),
                        "noise {noise}, light x {gain} + {offset}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_small_thing_is_a_change_where_it_stands() {
        for (noise, contrast) in [(0.7, 8.0), (0.7, -8.0), (1.5, 14.0), (3.0, 25.0)] {
            let reference = picture(noise, 1, street);
            // 4 x 3 cells: 16 x 12 pixels of a picture 640 wide.
            let there = |x: f32, y: f32| (30.0..34.0).contains(&x) && (20.0..23.0).contains(&y);
            let now = picture(noise, 2, |x, y| street(x, y) * 1.1 + if there(x, y) { contrast } else { 0.0 });
            let found = changed(&reference, &now).unwrap();
            assert!(!found.is_empty(), "noise {noise}, contrast {contrast}");
            let grid = Grid::of(&now).unwrap();
            for window in found {
                let [x0, y0, x1, y1] = grid.place(window);
                assert!(x0 < 34.0 / 80.0 && x1 > 30.0 / 80.0 && y0 < 23.0 / 60.0 && y1 > 20.0 / 60.0);
            }
        }
    }

    #[test]
    fn rain_is_none() {
        let rain = |seed: u64| {
            let mut random = fastrand::Rng::with_seed(seed);
            let streaks: Vec<(f32, f32)> =
                (0..40).map(|_| (random.f32() * 80.0, random.f32() * 60.0)).collect();
            picture(0.8, seed, move |x, y| {
                let hit = |(sx, sy): &(f32, f32)| *sx >= x && *sx < x + 1.0 && y >= *sy && y < *sy + 4.0;
                street(x, y) + if streaks.iter().any(hit) { 8.0 } else { 0.0 }
            })
        };
        let reference = rain(1);
        // Two drops may fall side by side.
        let found = (2..12).filter(|seed| !changed(&reference, &rain(*seed)).unwrap().is_empty()).count();
        assert!(found <= 3, "{found} of 10 pictures");
    }

    #[test]
    fn a_camera_that_was_turned_shows_another_picture() {
        let reference = picture(1.0, 1, street);
        let turned = picture(1.0, 2, |x, y| street(x + 23.0, y + 17.0));
        let found = changed(&reference, &turned);
        assert!(found.is_none_or(|windows| windows.len() > 300));
        // A lens cap, and a bus in front of three quarters of the picture.
        assert_eq!(changed(&reference, &picture(1.0, 2, |_, _| 20.0)), None);
        let bus = picture(1.0, 2, |x, y| if x < 60.0 { 200.0 - y } else { street(x, y) });
        assert!(changed(&reference, &bus).is_none_or(|windows| windows.len() > 300));
    }

    #[test]
    fn windows_of_a_box() {
        let luma = picture(0.0, 1, street);
        let grid = Grid::of(&luma).unwrap();
        assert_eq!((grid.columns, grid.rows), (39, 29));
        assert_eq!(grid.inside([0.0, 0.0, 1.0, 1.0]), [0..39, 0..29]);
        let [columns, rows] = grid.inside([0.5, 0.5, 0.6, 0.5001]);
        assert_eq!((columns, rows), (19..23, 14..15));
        assert_eq!(grid.inside([1.0, 1.0, 1.0, 1.0]), [38..39, 28..29]);
        assert_eq!(Grid::of(&Luma::from_cells(3, 9, vec![0; 27]).unwrap()), None);
    }
}
