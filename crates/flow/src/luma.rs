//! A small grey copy of a picture: made once where pixels come out of the decoder, read by everything that wants to
//! know what changed without looking at every pixel.

use crate::HostPicture;

/// Columns of a [`Luma`]; a picture that is narrower keeps its own width.
pub const LUMA_COLUMNS: u32 = 160;

/// Rows are skipped beyond this many per cell: the mean of a cell does not need each of them.
const ROWS_PER_CELL: usize = 4;

/// The picture's luma, averaged into at most 160 columns and as many rows as keep its shape. Samples are as coded:
/// 16 to 235 in limited range, 0 to 255 in full range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    columns: u16,
    rows: u16,
    cells: Box<[u8]>,
}

impl Luma {
    /// Averages the luma plane. Reads up to four rows per cell.
    pub fn of(picture: &HostPicture) -> Self {
        let plane = &picture.planes()[0];
        Self::averaged((picture.width(), picture.height()), &plane.data, plane.stride)
    }

    /// The same of a luma plane alone: `size` is columns and rows, `stride` the bytes from one row to the next. `None` where
    /// the plane does not hold so many.
    pub fn of_plane(size: (u32, u32), samples: &[u8], stride: usize) -> Option<Self> {
        let (width, height) = (size.0 as usize, size.1 as usize);
        let needed = stride.checked_mul(height.checked_sub(1)?)?.checked_add(width)?;
        (width > 0 && stride >= width && samples.len() >= needed)
            .then(|| Self::averaged(size, samples, stride))
    }

    fn averaged((width, height): (u32, u32), samples: &[u8], stride: usize) -> Self {
        let columns = LUMA_COLUMNS.min(width);
        let rows = ((u64::from(height) * u64::from(columns) + u64::from(width) / 2) / u64::from(width))
            .clamp(1, u64::from(height)) as u32;
        // Every cell's first column, and the end of the last one.
        let edges: Vec<usize> =
            (0..=columns).map(|c| (u64::from(c) * u64::from(width) / u64::from(columns)) as usize).collect();
        let mut cells = Vec::with_capacity((columns * rows) as usize);
        // Down the columns first, where neighbours lie side by side, then along the row.
        let mut sums = vec![0u16; width as usize];
        for row in 0..rows {
            let edge = |r: u32| (u64::from(r) * u64::from(height) / u64::from(rows)) as usize;
            let (top, end) = (edge(row), edge(row + 1));
            let step = ((end - top) / ROWS_PER_CELL).max(1);
            sums.fill(0);
            let mut taken = 0;
            for y in (top..end).step_by(step) {
                let line = &samples[y * stride..][..width as usize];
                // At most twice four rows of 255 each, less one.
                sums.iter_mut().zip(line).for_each(|(sum, sample)| *sum += u16::from(*sample));
                taken += 1;
            }
            match width / columns {
                4 if width == 4 * columns => means::<4>(&sums, taken, &mut cells),
                8 if width == 8 * columns => means::<8>(&sums, taken, &mut cells),
                12 if width == 12 * columns => means::<12>(&sums, taken, &mut cells),
                _ => cells.extend(edges.windows(2).map(|edge| mean(&sums[edge[0]..edge[1]], taken))),
            }
        }
        Self { columns: columns as u16, rows: rows as u16, cells: cells.into() }
    }

    /// Made of cells, row by row. `None` where their number is not columns times rows, or is 0.
    pub fn from_cells(columns: u16, rows: u16, cells: Vec<u8>) -> Option<Self> {
        let fits = !cells.is_empty() && cells.len() == usize::from(columns) * usize::from(rows);
        fits.then(|| Self { columns, rows, cells: cells.into() })
    }

    /// Cells in a row.
    pub fn columns(&self) -> usize {
        self.columns.into()
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows.into()
    }

    /// The means, row by row.
    pub fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// The mean of all cells.
    pub fn mean(&self) -> f32 {
        self.cells.iter().map(|&cell| u32::from(cell)).sum::<u32>() as f32 / self.cells.len() as f32
    }
}

/// The means of cells of the same width: of 640, 1280 and 1920 columns.
fn means<const WIDTH: usize>(sums: &[u16], rows: u32, cells: &mut Vec<u8>) {
    cells.extend(sums.as_chunks::<WIDTH>().0.iter().map(|sums| mean(sums, rows)));
}

/// The mean of samples whose sums over so many rows these are.
fn mean(sums: &[u16], rows: u32) -> u8 {
    let samples = sums.len() as u32 * rows;
    let sum: u32 = sums.iter().map(|sum| u32::from(*sum)).sum();
    ((sum + samples / 2) / samples) as u8
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Matrix, Plane};

    fn picture(width: u32, height: u32, stride: usize, sample: impl Fn(u32, u32) -> u8) -> HostPicture {
        let mut luma = vec![255; stride * height as usize];
        for y in 0..height {
            for x in 0..width {
                luma[y as usize * stride + x as usize] = sample(x, y);
            }
        }
        let (w, h) = (width.div_ceil(2) as usize, height.div_ceil(2) as usize);
        let chroma = || Plane { data: Bytes::from(vec![128; w * h]), stride: w };
        let luma = Plane { data: luma.into(), stride };
        HostPicture::new(width, height, [luma, chroma(), chroma()], Matrix::Bt601, false).unwrap()
    }

    #[test]
    fn cells_are_means_and_padding_is_not_read() {
        let luma = Luma::of(&picture(640, 360, 704, |x, y| if x < 320 { 40 } else { (y / 4) as u8 }));
        assert_eq!((luma.columns(), luma.rows()), (160, 90));
        assert_eq!(luma.cells()[0], 40);
        assert_eq!(luma.cells()[159], 0);
        assert_eq!(luma.cells()[89 * 160 + 80], 89);
    }

    #[test]
    fn any_size_gives_a_grid() {
        for (width, height) in [(1, 1), (7, 3), (161, 90), (16, 2_000), (2_000, 1), (1_921, 1_081)] {
            let luma = Luma::of(&picture(width, height, width as usize, |_, _| 77));
            assert_eq!(luma.cells().len(), luma.columns() * luma.rows(), "{width}x{height}");
            assert!(luma.cells().iter().all(|&cell| cell == 77), "{width}x{height}");
            assert_eq!(luma.mean(), 77.0);
        }
    }

    #[test]
    fn a_plane_alone_gives_the_same_and_one_that_is_short_gives_none() {
        let picture = picture(321, 123, 330, |x, y| (x * 3 + y) as u8);
        let plane = &picture.planes()[0];
        let of = |size, bytes: &[u8]| Luma::of_plane(size, bytes, plane.stride);
        assert_eq!(of((321, 123), &plane.data), Some(Luma::of(&picture)));
        assert_eq!(of((321, 124), &plane.data), None);
        assert_eq!(of((331, 123), &plane.data), None, "wider than its rows");
        assert_eq!(of((0, 123), &plane.data), None);
        assert_eq!(of((321, 0), &plane.data), None);
    }

    #[test]
    fn cells_that_do_not_fit_are_refused() {
        assert!(Luma::from_cells(2, 2, vec![0; 4]).is_some());
        assert!(Luma::from_cells(2, 2, vec![0; 5]).is_none());
        assert!(Luma::from_cells(0, 0, vec![]).is_none());
    }
}
