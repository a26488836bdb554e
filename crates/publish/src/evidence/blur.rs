//! Pixelation of boxes in I420 planes, so that nothing of what was there is left but a few averages.
//!
//! The blocks of a region lie on a grid that is fixed to the picture and whose width is a power of two, so that the same
//! thing in the same place gives the same averages in every picture: many pictures of a parked car tell no more about its
//! plate than one does. (Blocks that began where the detector's box begins would move with its jitter, and pictures with
//! shifted blocks can be put together into a sharper one.) Where the box's size jitters over a power of two, the larger blocks
//! are made of the smaller ones and add nothing to them.

use flow::{HostPicture, NormBox};

/// A hidden region spans at most this many blocks in each direction, and one more where its edges fall between.
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

/// Blocks along one direction of the luma plane: `from..to` in pixels, both on the grid of `block` but for the edge of
/// the picture.
#[derive(Clone, Copy)]
struct Span {
    from: usize,
    to: usize,
    block: usize,
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

    /// A part of it, from an even row and column on, so that colours stay where they are.
    pub fn cut(&self, part: &NormBox) -> Self {
        let even = |share: f32, size: usize| ((share * size as f32) as usize).min(size - 1) / 2 * 2;
        let [luma, ..] = &self.0;
        let (left, top) = (even(part.x0(), luma.width), even(part.y0(), luma.height));
        let right = ((part.x1() * luma.width as f32).ceil() as usize).clamp(left + 1, luma.width);
        let bottom = ((part.y1() * luma.height as f32).ceil() as usize).clamp(top + 1, luma.height);
        let mut shift = 0;
        Self(self.0.each_ref().map(|plane| {
            let (from, to) = (left >> shift, right.div_ceil(1 << shift));
            let rows = (top >> shift)..bottom.div_ceil(1 << shift);
            shift = 1;
            let height = rows.len();
            let data = rows.flat_map(|row| &plane.data[row * plane.width + from..row * plane.width + to]);
            Samples { data: data.copied().collect(), width: to - from, height }
        }))
    }

    /// Y, Cb, Cr.
    pub fn each(&self) -> &[Samples; 3] {
        &self.0
    }

    /// Replaces every block that the box, grown by `margin` on each side, touches by its average. What is left of it is
    /// at most `(BLOCKS + 1)²` averages of each plane.
    pub fn pixelate(&mut self, bbox: &NormBox, margin: f32) {
        let [y, cb, cr] = &mut self.0;
        let margin = margin.max(0.0);
        let across = Span::new(bbox.x0(), bbox.x1(), margin, y.width);
        let down = Span::new(bbox.y0(), bbox.y1(), margin, y.height);
        y.average_blocks(across, down);
        for chroma in [cb, cr] {
            chroma.average_blocks(across.halved(chroma.width), down.halved(chroma.height));
        }
    }
}

impl Span {
    fn new(from: f32, to: f32, margin: f32, size: usize) -> Self {
        let grow = (to - from) * margin;
        let from = (((from - grow).max(0.0) * size as f32).floor() as usize).min(size - 1);
        let to = (((to + grow).min(1.0) * size as f32).ceil() as usize).max(from + 1);
        let block = (to - from).div_ceil(BLOCKS).max(MIN_BLOCK).next_power_of_two();
        Self { from: from / block * block, to: to.next_multiple_of(block).min(size), block }
    }

    fn halved(self, size: usize) -> Self {
        Self { from: self.from / 2, to: self.to.div_ceil(2).min(size), block: self.block / 2 }
    }
}

impl Samples {
    fn average_blocks(&mut self, across: Span, down: Span) {
        for y in (down.from..down.to).step_by(down.block) {
            for x in (across.from..across.to).step_by(across.block) {
                self.average([x, (x + across.block).min(across.to)], [y, (y + down.block).min(down.to)]);
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::testing::sample::frame_of;

    /// Random luma and chroma.
    fn noise(seed: u64, width: usize, height: usize) -> Planes {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = |n: usize| (0..n).map(|_| random.u8(16..=235)).collect::<Vec<_>>();
        let half = width.div_ceil(2) * height.div_ceil(2);
        let frame = frame_of(width, height, bytes(width * height), (bytes(half), bytes(half)));
        let picture = &*frame.pixels.on_host().unwrap();
        Planes::copy_of(picture)
    }

    /// Of 200 boxes of any size and place: what is left of each is so many numbers, whatever was there.
    #[test]
    fn a_region_keeps_a_bounded_number_of_averages() {
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..200 {
            let (width, height) = (random.usize(1..400), random.usize(1..300));
            let [a, b] = [random.f32(), random.f32()];
            let [c, d] = [random.f32(), random.f32()];
            let Some(bbox) = NormBox::clamped(a.min(b), c.min(d), a.max(b), c.max(d)) else { continue };
            let (mut planes, before) = (noise(round, width, height), noise(round, width, height));
            planes.pixelate(&bbox, 0.1);
            for (plane, before) in planes.each().iter().zip(before.each()) {
                // Noise differs from its average nearly everywhere, so what changed is what was hidden.
                let mut values: HashMap<u8, usize> = HashMap::new();
                let changed = plane.data.iter().zip(&before.data).filter(|(now, then)| now != then);
                changed.for_each(|(now, _)| *values.entry(*now).or_default() += 1);
                assert!(values.len() <= (BLOCKS + 1) * (BLOCKS + 1), "{}", values.len());
            }
            let y = &planes.each()[0];
            // Every pixel of the box is one of its block's: rows of a block are equal.
            let x = ((bbox.x0() * width as f32) as usize).min(width - 1);
            let from = ((bbox.y0() * height as f32) as usize).min(height - 1);
            let to = ((bbox.y1() * height as f32).ceil() as usize).min(height);
            let column: Vec<_> = (from..to).map(|row| y.data[row * width + x]).collect();
            let steps = column.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(steps <= BLOCKS, "{steps} steps in {column:?}");
        }
    }

    /// The detector's box jitters; the averages of what does not move stay the same.
    #[test]
    fn a_box_that_jitters_reveals_nothing_more() {
        let hidden = |x0: f32, x1: f32| {
            let mut planes = noise(7, 320, 160);
            planes.pixelate(&NormBox::new(x0, 0.3, x1, 0.62).unwrap(), 0.0);
            let y = &planes.each()[0];
            // The middle, which all of them cover.
            (60..90).flat_map(|row| y.data[row * 320 + 140..row * 320 + 180].to_vec()).collect::<Vec<_>>()
        };
        let first = hidden(0.4, 0.62);
        for jitter in 1..12 {
            let by = jitter as f32 * 0.002;
            assert!(hidden(0.4 + by, 0.62 + by / 2.0) == first, "{by}");
        }
        // A smaller box may have blocks half as wide; four of them make one of these, so both tell what the finer tell.
        let finer = hidden(0.4, 0.59);
        let of_block = |all: &[u8], row: usize, column: usize| u32::from(all[row * 40 + column]);
        // Rows 64 to 79 and columns 144 to 159 are one block, seen from row 60 and column 140.
        let four = [(4, 4), (4, 12), (12, 4), (12, 12)].map(|(row, column)| of_block(&finer, row, column));
        assert!((four.iter().sum::<u32>() / 4).abs_diff(of_block(&first, 4, 4)) <= 1, "{four:?}");
        assert!(four.iter().any(|average| *average != four[0]));
    }
}
