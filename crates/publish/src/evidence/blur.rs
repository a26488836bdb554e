//! Pixelation of boxes in I420 planes.

use flow::{HostPicture, NormBox};

/// A blurred box has at most this many blocks in each direction.
pub(super) const BLOCKS: usize = 8;
/// Blocks are at least this many luma pixels wide and high, so that a distant person is not left as it was.
const MIN_BLOCK: usize = 8;

/// One plane without padding: `width × height` samples.
pub(super) struct Samples {
    pub data: Vec<u8>,
    pub width: usize,
    pub height: usize,
}

/// A private copy of a picture: Y, Cb, Cr, the chroma planes half as wide and high, rounded up.
pub(super) struct Planes([Samples; 3]);

/// Pixels `x0..x1`, `y0..y1` of the luma plane; even where the picture's edge allows, so that chroma agrees.
struct Area {
    x: [usize; 2],
    y: [usize; 2],
}

impl Planes {
    /// Copies the planes and drops their padding.
    pub fn copy_of(picture: &HostPicture) -> Self {
        let mut shift = 0;
        Self(picture.planes().each_ref().map(|plane| {
            let (width, height) =
                (picture.width().div_ceil(1 << shift), picture.height().div_ceil(1 << shift));
            let (width, height) = (width as usize, height as usize);
            shift = 1;
            let rows = plane.data.chunks(plane.stride).take(height);
            Samples { data: rows.flat_map(|row| &row[..width]).copied().collect(), width, height }
        }))
    }

    /// Y, Cb, Cr.
    pub fn each(&self) -> &[Samples; 3] {
        &self.0
    }

    /// Replaces every block of the box, grown by `margin` on each side, by its average.
    pub fn pixelate(&mut self, bbox: &NormBox, margin: f32) {
        let [y, cb, cr] = &mut self.0;
        let area = Area::new(bbox, margin.max(0.0), y.width, y.height);
        let step = |[from, to]: [usize; 2]| (to - from).div_ceil(BLOCKS).max(MIN_BLOCK).next_multiple_of(2);
        let (bw, bh) = (step(area.x), step(area.y));
        y.average_blocks(area.x, area.y, bw, bh);
        let half = |[from, to]: [usize; 2]| [from / 2, to.div_ceil(2)];
        for chroma in [cb, cr] {
            chroma.average_blocks(half(area.x), half(area.y), bw / 2, bh / 2);
        }
    }
}

impl Area {
    fn new(bbox: &NormBox, margin: f32, width: usize, height: usize) -> Self {
        let span = |from: f32, to: f32, size: usize| {
            let grow = (to - from) * margin;
            let from = ((from - grow).max(0.0) * size as f32).floor() as usize;
            let to = ((to + grow).min(1.0) * size as f32).ceil() as usize;
            [from / 2 * 2, to.next_multiple_of(2).min(size)]
        };
        Self { x: span(bbox.x0(), bbox.x1(), width), y: span(bbox.y0(), bbox.y1(), height) }
    }
}

impl Samples {
    fn average_blocks(&mut self, xs: [usize; 2], ys: [usize; 2], block_w: usize, block_h: usize) {
        for y in (ys[0]..ys[1]).step_by(block_h) {
            for x in (xs[0]..xs[1]).step_by(block_w) {
                self.average([x, (x + block_w).min(xs[1])], [y, (y + block_h).min(ys[1])]);
            }
        }
    }

    fn average(&mut self, [x0, x1]: [usize; 2], [y0, y1]: [usize; 2]) {
        let row = |y: usize| y * self.width + x0..y * self.width + x1;
        let sum: u64 = (y0..y1).flat_map(|y| &self.data[row(y)]).map(|v| u64::from(*v)).sum();
        let count = ((x1 - x0) * (y1 - y0)) as u64;
        let average = ((sum + count / 2) / count) as u8;
        for y in y0..y1 {
            let row = y * self.width + x0..y * self.width + x1;
            self.data[row].fill(average);
        }
    }
}
