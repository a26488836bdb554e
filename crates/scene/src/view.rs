//! What a camera shows, as local contrasts: the light falls out, what is to be seen stays.

use flow::Luma;

/// Rows and columns are averaged down to about this many columns.
const COLUMNS: usize = 80;
/// Two pictures are of one kind of light when their means differ by less than this factor.
const SAME_LIGHT: f32 = 1.5;
/// Correlation of contrasts from which it is the same view.
pub(crate) const MATCHES: f32 = 0.45;
/// A displaced match must be this good, and better than the undisplaced one by [`CLEARLY`].
const DISPLACED: f32 = 0.5;
const CLEARLY: f32 = 0.2;
/// The displacement that is looked for, in cells either way.
const REACH: isize = 12;
/// A displacement of fewer cells does not move a thing out of its zone.
const MIN_DISPLACEMENT: isize = 2;
/// A cell is compared with those so many cells away.
const NEAR: usize = 2;
/// Grey levels are counted in quarters: the sum of the four cells of the grey copy that a cell here is made of.
const QUARTERS: u32 = 4;

/// The contrasts of one picture.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct View {
    columns: usize,
    mean: f32,
    /// Contrast between neighbouring cells, and between neighbours of neighbours of neighbours.
    pub fine: f32,
    pub coarse: f32,
    /// Local contrast of every cell, -127 to 127, row by row.
    #[serde(with = "packed")]
    contrast: Vec<i8>,
}

/// A grey copy with a margin that repeats its edge, so that every cell has neighbours.
struct Padded {
    columns: usize,
    rows: usize,
    width: usize,
    cells: Vec<i16>,
}

/// Cells of margin at the left and top, and at the right and bottom.
const BEFORE: usize = NEAR;
const BEHIND: usize = FAR;
/// Cells over which coarse contrast is measured.
const FAR: usize = 4;

impl Padded {
    fn of(luma: &Luma) -> Self {
        let step = luma.columns().div_ceil(COLUMNS).max(1);
        let (columns, rows) = ((luma.columns() / step).max(1), (luma.rows() / step).max(1));
        let width = BEFORE + columns + BEHIND;
        let mut cells = Vec::with_capacity(width * (BEFORE + rows + BEHIND));
        let mut sums = vec![0u32; luma.columns()];
        cells.resize(width * BEFORE, 0);
        for row in 0..rows {
            sums.fill(0);
            let end = ((row + 1) * step).min(luma.rows());
            for line in
                luma.cells()[row * step * luma.columns()..end * luma.columns()].chunks_exact(luma.columns())
            {
                sums.iter_mut().zip(line).for_each(|(sum, &cell)| *sum += u32::from(cell));
            }
            let start = cells.len();
            cells.resize(start + BEFORE, 0);
            match step {
                2 => cells.extend(sums.as_chunks::<2>().0.iter().take(columns).map(|[a, b]| (a + b) as i16)),
                _ => cells.extend(
                    sums.chunks(step)
                        .take(columns)
                        .map(|part| (part.iter().sum::<u32>() * QUARTERS / (step * step) as u32) as i16),
                ),
            }
            let (first, last) = (cells[start + BEFORE], cells[cells.len() - 1]);
            cells[start..start + BEFORE].fill(first);
            cells.resize(cells.len() + BEHIND, last);
        }
        for row in 0..BEFORE {
            cells.copy_within(width * BEFORE..width * (BEFORE + 1), width * row);
        }
        for _ in 0..BEHIND {
            cells.extend_from_within(cells.len() - width..);
        }
        Self { columns, rows, width, cells }
    }

    /// A row of cells, displaced by so many to the right and down.
    fn row(&self, row: usize, right: isize, down: isize) -> &[i16] {
        let at = (row + BEFORE).wrapping_add_signed(down) * self.width + BEFORE.wrapping_add_signed(right);
        &self.cells[at..at + self.columns]
    }

    /// Mean difference between cells so far apart, to the right plus down, in grey levels.
    fn contrast_over(&self, reach: usize) -> f32 {
        let reach = reach as isize;
        let mut sum = 0u64;
        for row in 0..self.rows {
            let here = self.row(row, 0, 0);
            let others = self.row(row, reach, 0).iter().zip(self.row(row, 0, reach));
            let apart = here.iter().zip(others).map(|(&a, (&b, &c))| ((a - b).abs() + (a - c).abs()) as u32);
            sum += u64::from(apart.sum::<u32>());
        }
        sum as f32 / (QUARTERS as usize * self.columns * self.rows) as f32
    }

    fn mean(&self) -> f32 {
        let rows = (0..self.rows).map(|row| self.row(row, 0, 0).iter().map(|&cell| cell as u32).sum::<u32>());
        rows.map(u64::from).sum::<u64>() as f32 / (QUARTERS as usize * self.columns * self.rows) as f32
    }

    /// Contrast against the surroundings, scaled by the brightness there: what light multiplies falls out.
    fn contrast(&self) -> Vec<i8> {
        let near = NEAR as isize;
        let mut contrast = Vec::with_capacity(self.columns * self.rows);
        for row in 0..self.rows {
            let across = self.row(row, -near, 0).iter().zip(self.row(row, near, 0));
            let along = self.row(row, 0, -near).iter().zip(self.row(row, 0, near));
            let around = across.zip(along).map(|((&a, &b), (&c, &d))| a + b + c + d);
            contrast.extend(self.row(row, 0, 0).iter().zip(around).map(|(&cell, around)| {
                let (cell, around) = (f32::from(cell), f32::from(around));
                // Sixteenths of a grey level; eight levels are added so that the dark is not all noise.
                let share = (4.0 * cell - around) / (around + 128.0) * 300.0;
                share.clamp(-127.0, 127.0) as i32 as i8
            }));
        }
        contrast
    }
}

impl View {
    pub fn of(luma: &Luma) -> Self {
        let grey = Padded::of(luma);
        Self {
            columns: grey.columns,
            mean: grey.mean(),
            fine: grey.contrast_over(1),
            coarse: grey.contrast_over(FAR),
            contrast: grey.contrast(),
        }
    }

    /// Whether two pictures have the same shape: only then can they be compared.
    pub fn is_like(&self, other: &Self) -> bool {
        self.columns == other.columns && self.contrast.len() == other.contrast.len()
    }

    pub fn same_light(&self, other: &Self) -> bool {
        let ratio = (self.mean + 4.0) / (other.mean + 4.0);
        (1.0 / SAME_LIGHT..=SAME_LIGHT).contains(&ratio)
    }

    /// Correlation of the contrasts where `other` is displaced by so many cells to the right and down: -1..=1.
    pub fn correlation(&self, other: &Self, right: isize, down: isize) -> f32 {
        let columns = self.columns as isize;
        let rows = (self.contrast.len() / self.columns.max(1)) as isize;
        let (mut ab, mut aa, mut bb) = (0i64, 0i64, 0i64);
        for row in 0.max(-down)..rows.min(rows - down) {
            let (first, end) = (0.max(-right), columns.min(columns - right));
            if first >= end {
                continue;
            }
            let mine = &self.contrast[(row * columns + first) as usize..(row * columns + end) as usize];
            let start = (row + down) * columns + first + right;
            let theirs = &other.contrast[start as usize..(start + end - first) as usize];
            let (mut x, mut y, mut z) = (0i32, 0i32, 0i32);
            for (&a, &b) in mine.iter().zip(theirs) {
                let (a, b) = (i32::from(a), i32::from(b));
                x += a * b;
                y += a * a;
                z += b * b;
            }
            ab += i64::from(x);
            aa += i64::from(y);
            bb += i64::from(z);
        }
        if aa == 0 || bb == 0 { 0.0 } else { (ab as f64 / (aa as f64 * bb as f64).sqrt()) as f32 }
    }

    /// By how much the picture is displaced against this view, in hundredths of the width, if it is.
    pub fn displaced(&self, picture: &Self, in_place: f32) -> Option<(i8, i8)> {
        let mut best = (in_place.max(DISPLACED - CLEARLY) + CLEARLY, 0, 0);
        for down in -REACH / 2..=REACH / 2 {
            for right in -REACH..=REACH {
                let here = self.correlation(picture, right, down);
                if here > best.0 {
                    best = (here, right, down);
                }
            }
        }
        let (_, right, down) = best;
        let hundredths = |cells: isize| (cells * 100 / self.columns as isize) as i8;
        (right.abs().max(down.abs()) >= MIN_DISPLACEMENT).then(|| (hundredths(right), hundredths(down)))
    }

    /// Takes up what slowly changes: over some hundred looks.
    pub fn follow(&mut self, picture: &Self) {
        let near = |was: f32, is: f32| was + (is - was) / 256.0;
        self.mean = near(self.mean, picture.mean);
        self.fine = near(self.fine, picture.fine);
        self.coarse = near(self.coarse, picture.coarse);
        for (was, &is) in self.contrast.iter_mut().zip(&picture.contrast) {
            // One level at a time: 8 bits hold no smaller step.
            let apart = i16::from(is) - i16::from(*was);
            *was += i8::from(apart > 8) - i8::from(apart < -8);
        }
    }
}

/// Bytes as hexadecimal digits.
mod packed {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[i8], serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
        let digits = bytes.iter().map(|&b| b as u8).flat_map(|b| [digit(b >> 4), digit(b & 15)]);
        serializer.serialize_str(&digits.collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits"))?;
        Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8 as i8).collect())
    }
}
