//! The loops from planes to the input tensor.
//!
//! Four rows of the target are made at a time. Their sources are mixed down the columns first, which vectorises by
//! itself; the four results of a column then lie side by side in one `u64`, 16 bits each, so that mixing along the
//! row, where the sources are not neighbours, takes one multiplication for all four. Only then do samples become
//! floats: YCbCr to RGB, limited, scaled for the model, written to the three planes of the tensor.
//!
//! The loops are compiled three times, for AVX-512, AVX2 and whatever else the program was built for.

use fleet::Filter;
use flow::{HostPicture, Matrix, Plane};

use super::axis::{Axis, MAX_TAPS, Tap};

/// Rows made at a time: as many as 16-bit numbers fit into a `u64`.
const LANES: usize = 4;

/// Where in the tensor a picture is written to.
pub(super) struct Target<'t> {
    /// Red, green and blue, each whole.
    pub planes: [&'t mut [f32]; 3],
    /// Values per row.
    pub width: usize,
    /// Where the picture's first row and column lie.
    pub left: usize,
    /// See `left`.
    pub top: usize,
}

/// Buffers and positions, kept from picture to picture.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    luma: Side,
    chroma: Side,
    /// Planes whose samples were averaged into cells first.
    reduced: [Vec<u8>; 3],
    sums: Vec<u16>,
    rows: Rows,
    /// Does without this processor's wider instructions, so that a test can compare.
    #[cfg(test)]
    pub portable: bool,
}

/// Columns and rows of a plane.
#[derive(Debug, Default)]
struct Side {
    x: Axis,
    y: Axis,
}

/// Rows on their way.
#[derive(Debug, Default)]
struct Rows {
    /// Four rows mixed down the columns, one after the other.
    mixed: Vec<u8>,
    /// The same side by side, and beyond them what taps name but give no share.
    packed: Vec<u64>,
    /// Mixed along the row as well, in 256ths: four rows of luma; two of Cb and Cr; two more.
    luma: Vec<u64>,
    chroma: [Vec<u64>; 2],
}

/// A plane to take samples from.
#[derive(Clone, Copy)]
struct Source<'p> {
    data: &'p [u8],
    stride: usize,
    columns: usize,
    rows: usize,
}

impl<'p> Source<'p> {
    fn row(&self, row: usize) -> &'p [u8] {
        // The stride of a single row may be anything, also beyond what can be multiplied.
        if row == 0 { &self.data[..self.columns] } else { &self.data[row * self.stride..][..self.columns] }
    }

    /// The rows that a tap names; those below the last have no share, so it stands for them.
    fn rows<const TAPS: usize>(&self, tap: Tap) -> [&'p [u8]; TAPS] {
        std::array::from_fn(|offset| self.row((tap.first as usize + offset).min(self.rows - 1)))
    }
}

impl Kernel {
    /// Writes `picture`, made `width` × `height`, to the target.
    pub fn fill(
        &mut self,
        picture: &HostPicture,
        (width, height): (u32, u32),
        filter: Filter,
        colours: &Colours,
        target: &mut Target<'_>,
    ) {
        let (w, h) = (picture.width(), picture.height());
        self.luma.x.set(w, 2 * w, width, filter);
        self.luma.y.set(h, 2 * h, height, filter);
        self.chroma.x.set(w.div_ceil(2), w, width, filter);
        self.chroma.y.set(h.div_ceil(2), h, height, filter);
        self.dispatch(picture.planes(), colours, target);
    }

    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    fn dispatch(&mut self, planes: &[Plane; 3], colours: &Colours, target: &mut Target<'_>) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512(kernel: &mut Kernel, planes: &[Plane; 3], colours: &Colours, target: &mut Target<'_>) {
            kernel.run(planes, colours, target);
        }
        #[target_feature(enable = "avx2")]
        fn avx2(kernel: &mut Kernel, planes: &[Plane; 3], colours: &Colours, target: &mut Target<'_>) {
            kernel.run(planes, colours, target);
        }
        #[cfg(test)]
        if self.portable {
            return self.run(planes, colours, target);
        }
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        if wide && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the processor has these instructions, as was just asked.
            unsafe { avx512(self, planes, colours, target) }
        } else if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            unsafe { avx2(self, planes, colours, target) }
        } else {
            self.run(planes, colours, target);
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn dispatch(&mut self, planes: &[Plane; 3], colours: &Colours, target: &mut Target<'_>) {
        self.run(planes, colours, target);
    }

    #[inline(always)]
    fn run(&mut self, planes: &[Plane; 3], colours: &Colours, target: &mut Target<'_>) {
        let Self { luma, chroma, reduced, sums, rows, .. } = self;
        let sides = [&*luma, chroma, chroma];
        for ((plane, side), into) in planes.iter().zip(sides).zip(&mut *reduced) {
            if side.x.cell > 1 || side.y.cell > 1 {
                reduce(&source(plane, side), side, sums, into);
            }
        }
        let [y, cb, cr] = [0, 1, 2].map(|i| match (sides[i].x.cell, sides[i].y.cell) {
            (1, 1) => source(&planes[i], sides[i]),
            _ => {
                let (columns, rows) = (sides[i].x.cells(), sides[i].y.cells());
                Source { data: &reduced[i], stride: columns, columns, rows }
            }
        });
        let height = luma.y.taps.len();
        for top in (0..height).step_by(LANES) {
            // Below the last row the last one is made again, and not written.
            let row = |lane: usize| (top + lane).min(height - 1);
            let [y0, y1, y2, y3] = [0, 1, 2, 3].map(|lane| (y, luma.y.taps[row(lane)]));
            luma.mix(&[y0, y1, y2, y3], &mut rows.mixed, &mut rows.packed, &mut rows.luma);
            for (pair, into) in rows.chroma.iter_mut().enumerate() {
                let [above, below] = [0, 1].map(|lane| chroma.y.taps[row(2 * pair + lane)]);
                let four = [(cb, above), (cr, above), (cb, below), (cr, below)];
                chroma.mix(&four, &mut rows.mixed, &mut rows.packed, into);
            }
            for lane in 0..LANES.min(height - top) {
                let (luma, chroma) = ((&*rows.luma, 16 * lane), (&*rows.chroma[lane / 2], 32 * (lane % 2)));
                let start = (target.top + top + lane) * target.width + target.left;
                let out = target.planes.each_mut().map(|plane| &mut plane[start..][..luma.0.len()]);
                colours.row(luma, chroma, out);
            }
        }
    }
}

fn source<'p>(plane: &'p Plane, side: &Side) -> Source<'p> {
    Source { data: &plane.data, stride: plane.stride, columns: side.x.samples, rows: side.y.samples }
}

impl Side {
    /// Four rows, each mixed of rows of its source and then along the row, side by side.
    #[inline(always)]
    fn mix(
        &self,
        four: &[(Source<'_>, Tap); LANES],
        mixed: &mut Vec<u8>,
        packed: &mut Vec<u64>,
        out: &mut Vec<u64>,
    ) {
        let columns = four[0].0.columns;
        let mixed = sized(mixed, LANES * columns);
        let packed = sized(packed, columns + MAX_TAPS - 1);
        let out = sized(out, self.x.taps.len());
        for ((source, tap), row) in four.iter().zip(mixed.chunks_exact_mut(columns)) {
            let weights = tap.weights;
            if self.y.wide {
                let [a, b, c, d] = source.rows(*tap);
                for ((((out, a), b), c), d) in row.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *out = weighted([*a, *b, *c, *d], weights);
                }
            } else {
                let [a, b] = source.rows(*tap);
                for ((out, a), b) in row.iter_mut().zip(a).zip(b) {
                    *out = weighted([*a, *b], [weights[0], weights[1]]);
                }
            }
        }
        pack(mixed, packed);
        if self.x.wide {
            along::<4>(packed, &self.x.taps, out)
        } else {
            along::<2>(packed, &self.x.taps, out)
        }
    }
}

/// Weights are 256 in all, so that 16 bits hold the sum.
#[inline(always)]
fn weighted<const TAPS: usize>(samples: [u8; TAPS], weights: [u16; TAPS]) -> u8 {
    let sum = samples.iter().zip(weights).fold(128, |sum: u16, (sample, w)| sum + u16::from(*sample) * w);
    (sum >> 8) as u8
}

/// Four rows, one after the other, side by side.
#[inline(always)]
fn pack(rows: &[u8], packed: &mut [u64]) {
    let columns = rows.len() / LANES;
    let (a, rest) = rows.split_at(columns);
    let (b, rest) = rest.split_at(columns);
    let (c, d) = rest.split_at(columns);
    for ((((out, a), b), c), d) in packed.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *out = u64::from(*a) | u64::from(*b) << 16 | u64::from(*c) << 32 | u64::from(*d) << 48;
    }
}

/// Mixes along the row. No lane exceeds 255 × 256, so none runs over into the next; what lies beyond the last column
/// has no share, and is whatever an earlier picture left there.
#[inline(always)]
fn along<const TAPS: usize>(packed: &[u64], taps: &[Tap], out: &mut [u64]) {
    for (out, tap) in out.iter_mut().zip(taps) {
        let sources = &packed[tap.first as usize..][..TAPS];
        let mixed = sources.iter().zip(tap.weights).map(|(source, weight)| source * u64::from(weight));
        *out = mixed.sum();
    }
}

/// The buffer at this length; as a slice, so that the loops need not ask the vector where it lies.
fn sized<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    buffer.resize(length, T::default());
    buffer
}

/// Averages cells of samples.
#[inline(always)]
fn reduce(source: &Source<'_>, side: &Side, sums: &mut Vec<u16>, into: &mut Vec<u8>) {
    let (width, columns) = (side.x.cell, side.x.cells());
    let into = sized(into, columns * side.y.cells());
    let sums = sized(sums, source.columns);
    for (cell, out) in into.chunks_exact_mut(columns).enumerate() {
        let top = cell * side.y.cell;
        let bottom = (top + side.y.cell).min(source.rows);
        sums.fill(0);
        for row in top..bottom {
            // At most 128 rows of 255 each.
            sums.iter_mut().zip(source.row(row)).for_each(|(sum, sample)| *sum += u16::from(*sample));
        }
        let rows = (bottom - top) as u32;
        match width {
            1 => across::<1>(sums, rows, out),
            2 => across::<2>(sums, rows, out),
            3 => across::<3>(sums, rows, out),
            4 => across::<4>(sums, rows, out),
            5 => across::<5>(sums, rows, out),
            6 => across::<6>(sums, rows, out),
            _ => {
                for (out, sums) in out.iter_mut().zip(sums.chunks(width)) {
                    *out =
                        mean(sums.iter().map(|sum| u32::from(*sum)).sum(), share(sums.len() as u32 * rows));
                }
            }
        }
    }
}

#[inline(always)]
fn across<const CELL: usize>(sums: &[u16], rows: u32, out: &mut [u8]) {
    let (whole, rest) = sums.as_chunks::<CELL>();
    let each = share(CELL as u32 * rows);
    for (out, sums) in out.iter_mut().zip(whole) {
        *out = mean(sums.iter().map(|sum| u32::from(*sum)).sum(), each);
    }
    if let (Some(last), false) = (out.last_mut(), rest.is_empty()) {
        *last = mean(rest.iter().map(|sum| u32::from(*sum)).sum(), share(rest.len() as u32 * rows));
    }
}

/// One over a number of samples, in 2^-22: times 255 times that number it still fits into 32 bits.
fn share(samples: u32) -> u32 {
    ((1 << 22) + samples / 2) / samples
}

#[inline(always)]
fn mean(sum: u32, share: u32) -> u8 {
    ((sum * share + (1 << 21)) >> 22) as u8
}

/// YCbCr → RGB (ITU-T H.273 equations 38 to 46), and what the model wants of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Colours {
    /// Luma: factor and what is added.
    luma: [f32; 2],
    /// Of Cr in red; of Cb and Cr in green; of Cb in blue; each with what is added.
    red: [f32; 2],
    green: [f32; 3],
    blue: [f32; 2],
    /// Per colour: factor and what is added, after the limits.
    model: [[f32; 2]; 3],
}

impl Colours {
    /// `model` says per colour what 0..=255 is multiplied by, and what is added then.
    pub fn new(matrix: Matrix, full_range: bool, model: [[f32; 2]; 3]) -> Self {
        let (kr, kb) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (luma, black, c) =
            if full_range { (1.0, 0.0, 1.0) } else { (255.0 / 219.0, 16.0, 255.0 / 224.0) };
        let (to_red, to_blue) = (2.0 * (1.0 - kr) * c, 2.0 * (1.0 - kb) * c);
        let (cb_green, cr_green) = (-to_blue * kb / kg, -to_red * kr / kg);
        // Samples come in 256ths.
        let part = |factor: f32| factor / 256.0;
        Self {
            luma: [part(luma), -luma * black],
            red: [part(to_red), -128.0 * to_red],
            green: [part(cb_green), part(cr_green), -128.0 * (cb_green + cr_green)],
            blue: [part(to_blue), -128.0 * to_blue],
            model,
        }
    }

    /// For red, green and blue: the factors of Y, Cb and Cr in 255ths, and what is added. What the model wants is left out.
    pub fn as_rows(&self) -> [([f32; 3], f32); 3] {
        let whole = |part: f32| 256.0 * part;
        let (y, plus) = (whole(self.luma[0]), self.luma[1]);
        [
            ([y, 0.0, whole(self.red[0])], plus + self.red[1]),
            ([y, whole(self.green[0]), whole(self.green[1])], plus + self.green[2]),
            ([y, whole(self.blue[0]), 0.0], plus + self.blue[1]),
        ]
    }

    /// One row. `luma` and `chroma` are four rows side by side and the bit at which this row's (first) sample
    /// begins; Cr follows Cb. No branch inside, so that the compiler makes vector code of it.
    #[inline(always)]
    fn row(&self, luma: (&[u64], usize), chroma: (&[u64], usize), [red, green, blue]: [&mut [f32]; 3]) {
        let sample = |four: u64, bit: usize| ((four >> bit) & 0xFFFF) as i32 as f32;
        let finish = |value: f32, [factor, plus]: [f32; 2]| value.clamp(0.0, 255.0) * factor + plus;
        let samples = luma.0.iter().zip(chroma.0);
        for (((y, c), red), (green, blue)) in samples.zip(red).zip(green.iter_mut().zip(blue)) {
            let y = sample(*y, luma.1) * self.luma[0] + self.luma[1];
            let (cb, cr) = (sample(*c, chroma.1), sample(*c, chroma.1 + 16));
            *red = finish(y + cr * self.red[0] + self.red[1], self.model[0]);
            *green = finish(y + cb * self.green[0] + cr * self.green[1] + self.green[2], self.model[1]);
            *blue = finish(y + cb * self.blue[0] + self.blue[1], self.model[2]);
        }
    }
}
