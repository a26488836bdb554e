//! The light of a picture, told apart from what the picture shows.

/// Light is compared block by block, of so many cells a side: smaller than a cloud's shadow, larger than most things.
const BLOCK: usize = 10;
/// A block of which less than this share is open is not compared.
const OPEN: f32 = 0.25;
/// A block is in other light than most of the picture when its ratio is further from theirs than this share.
const OTHER_LIGHT: f32 = 0.08;
/// Light is uneven when one block in so many is in other light: a thing takes up less than that.
const UNEVEN: usize = 5;
/// Cells over which contrasts are compared.
const REACH: usize = 3;
/// Correlation of contrasts from which two pictures show the same street, whatever their light.
const SAME_STREET: f32 = 0.6;

/// Room for the work of one look.
#[derive(Debug, Default)]
pub(super) struct Light {
    ratios: Vec<f32>,
    /// How much brighter each block is than the long picture; `NAN`: not known.
    blocks: Vec<f32>,
    smooth: Vec<f32>,
    /// What the long picture would show in the light of the short one, cell by cell.
    pub expected: Vec<f32>,
}

impl Light {
    /// Puts the long picture into the light of the short one. One gain for the whole picture, the median of the ratios, so
    /// that things do not count; where a cloud passes, one for each part of it. `open`: 1 where the model sees nothing.
    pub fn compare(&mut self, short: &[f32], long: &[f32], open: &[f32], columns: usize) {
        let gain = self.gain(short, long);
        self.expected.clear();
        self.measure(short, long, open, columns);
        let other = |ratio: &&f32| (*ratio / gain - 1.0).abs() > OTHER_LIGHT;
        let known = self.blocks.iter().filter(|ratio| !ratio.is_nan()).count();
        if self.blocks.iter().filter(other).count() * UNEVEN < known {
            self.expected.extend(long.iter().map(|long| long * gain));
            return;
        }
        self.smooth(gain, columns.div_ceil(BLOCK));
        self.spread(long, columns);
    }

    fn gain(&mut self, short: &[f32], long: &[f32]) -> f32 {
        // One cell in 29 is plenty for a median, and no divisor of a row.
        let cells = short.iter().step_by(29).zip(long.iter().step_by(29));
        self.ratios.clear();
        self.ratios.extend(cells.map(|(short, long)| (short + 1.0) / (long + 1.0)));
        let middle = self.ratios.len() / 2;
        *self.ratios.select_nth_unstable_by(middle, f32::total_cmp).1
    }

    /// The ratio of each block, over its open cells.
    fn measure(&mut self, short: &[f32], long: &[f32], open: &[f32], columns: usize) {
        self.blocks.clear();
        let mut sums: Vec<[f32; 3]> = Vec::new();
        let width = columns * BLOCK;
        for ((short, long), open) in short.chunks(width).zip(long.chunks(width)).zip(open.chunks(width)) {
            sums.clear();
            sums.resize(columns.div_ceil(BLOCK), [0.0; 3]);
            // Every other row is plenty.
            let rows = short.chunks(columns).zip(long.chunks(columns)).zip(open.chunks(columns)).step_by(2);
            for ((short, long), open) in rows {
                let parts = short.chunks(BLOCK).zip(long.chunks(BLOCK)).zip(open.chunks(BLOCK));
                for (sum, ((short, long), open)) in sums.iter_mut().zip(parts) {
                    for ((short, long), open) in short.iter().zip(long).zip(open) {
                        sum[0] += short * open;
                        sum[1] += long * open;
                        sum[2] += open;
                    }
                }
            }
            let least = OPEN * (BLOCK * BLOCK / 2) as f32;
            self.blocks.extend(sums.iter().map(|[short, long, cells]| {
                if *cells < least { f32::NAN } else { (short + cells) / (long + cells) }
            }));
        }
    }

    /// The median of each block and its neighbours: a thing that fills a block does not count.
    fn smooth(&mut self, gain: f32, across: usize) {
        let down = self.blocks.len() / across;
        self.smooth.clear();
        for at in 0..self.blocks.len() {
            let (x, y) = (at % across, at / across);
            let mut near = [0.0; 9];
            let mut count = 0;
            for row in y.saturating_sub(1)..(y + 2).min(down) {
                for column in x.saturating_sub(1)..(x + 2).min(across) {
                    let ratio = self.blocks[row * across + column];
                    if !ratio.is_nan() {
                        near[count] = ratio;
                        count += 1;
                    }
                }
            }
            near[..count].sort_unstable_by(f32::total_cmp);
            self.smooth.push(if count == 0 { gain } else { near[count / 2] });
        }
    }

    /// Goes over from the middle of each block to those beside it.
    fn spread(&mut self, long: &[f32], columns: usize) {
        let across = columns.div_ceil(BLOCK);
        let down = self.smooth.len() / across;
        let between = |cell: usize, blocks: usize| {
            let place = ((cell as f32 + 0.5) / BLOCK as f32 - 0.5).clamp(0.0, (blocks - 1) as f32);
            (place as usize, (place as usize + 1).min(blocks - 1), place.fract())
        };
        for (y, row) in long.chunks(columns).enumerate() {
            let (top, below, part) = between(y, down);
            let of = |x: usize| {
                let (upper, lower) = (self.smooth[top * across + x], self.smooth[below * across + x]);
                upper + (lower - upper) * part
            };
            for (x, long) in row.iter().enumerate() {
                let (left, right, part) = between(x, across);
                let (a, b) = (of(left), of(right));
                self.expected.push(long * (a + (b - a) * part));
            }
        }
    }
}

/// Whether a look shows what another picture shows, in whatever light: the same contrasts between near places.
pub(super) fn is_same_street(look: &[u8], other: &[f32], columns: usize) -> bool {
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    let below = REACH * columns;
    let rows = look.chunks_exact(columns).zip(other.chunks_exact(columns)).enumerate();
    for (row, (a, b)) in rows.step_by(2) {
        for x in 0..columns.saturating_sub(REACH) {
            let (grey, was) = (f32::from(a[x]), b[x]);
            let mut add = |other: u8, was_other: f32| {
                let (a, b) = (f32::from(other) - grey, was_other - was);
                aa += a * a;
                bb += b * b;
                ab += a * b;
            };
            add(a[x + REACH], b[x + REACH]);
            let at = row * columns + x + below;
            if let (Some(other), Some(was)) = (look.get(at), other.get(at)) {
                add(*other, *was);
            }
        }
    }
    ab / (aa * bb).sqrt().max(1e-6) > SAME_STREET
}
