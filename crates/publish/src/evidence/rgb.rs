//! I420 to RGB at a smaller size, in one pass.

use super::blur::{Planes, Samples};

/// Interleaved RGB, 8 bits each.
pub(super) struct Rgb {
    pub data: Vec<u8>,
    pub width: u32,
    pub height: u32,
}

/// How samples become colours, in 1/65536 (ITU-T H.273 table 4, equations 33 to 43).
struct Conversion {
    luma_offset: i32,
    luma: i32,
    cr_to_r: i32,
    cb_to_g: i32,
    cr_to_g: i32,
    cb_to_b: i32,
}

impl Conversion {
    fn new(bt709: bool, full_range: bool) -> Self {
        let (kr, kb) = if bt709 { (0.2126, 0.0722) } else { (0.299, 0.114) };
        let kg = 1.0 - kr - kb;
        let (luma_scale, chroma_scale) = if full_range { (1.0, 1.0) } else { (255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |v: f64| (v * 65536.0).round() as i32;
        Self {
            luma_offset: if full_range { 0 } else { 16 },
            luma: fixed(luma_scale),
            cr_to_r: fixed(2.0 * (1.0 - kr) * chroma_scale),
            cb_to_g: fixed(-2.0 * (1.0 - kb) * kb / kg * chroma_scale),
            cr_to_g: fixed(-2.0 * (1.0 - kr) * kr / kg * chroma_scale),
            cb_to_b: fixed(2.0 * (1.0 - kb) * chroma_scale),
        }
    }

    fn rgb(&self, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let y = (i32::from(y) - self.luma_offset) * self.luma + 32768;
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        let clamp = |v: i32| (v >> 16).clamp(0, 255) as u8;
        [
            clamp(y + cr * self.cr_to_r),
            clamp(y + cb * self.cb_to_g + cr * self.cr_to_g),
            clamp(y + cb * self.cb_to_b),
        ]
    }
}

/// Scales down to at most `max_width` pixels per row, the shape kept, and converts.
pub(super) fn convert(planes: &Planes, max_width: u32, bt709: bool, full_range: bool) -> Rgb {
    let [y, cb, cr] = planes.each();
    let width = y.width.min(max_width as usize);
    let height = ((y.height * width + y.width / 2) / y.width).max(1);
    let conversion = Conversion::new(bt709, full_range);
    let [y, cb, cr] = [y, cb, cr].map(|plane| resample(plane, width, height));
    let samples = y.iter().zip(&cb).zip(&cr);
    let data = samples.flat_map(|((&y, &cb), &cr)| conversion.rgb(y, cb, cr)).collect();
    Rgb { data, width: width as u32, height: height as u32 }
}

/// Each new sample is the average of the samples it covers; where it is smaller than one, that one.
fn resample(plane: &Samples, width: usize, height: usize) -> Vec<u8> {
    if (plane.width, plane.height) == (width, height) {
        return plane.data.clone();
    }
    let cover = |i: usize, from: usize, to: usize| {
        let start = i * from / to;
        start..((i + 1) * from / to).max(start + 1)
    };
    let mut out = Vec::with_capacity(width * height);
    for row in 0..height {
        let rows = cover(row, plane.height, height);
        for column in 0..width {
            let columns = cover(column, plane.width, width);
            let count = (rows.len() * columns.len()) as u32;
            let line = |y: usize| &plane.data[y * plane.width + columns.start..y * plane.width + columns.end];
            let sum: u32 = rows.clone().flat_map(line).map(|v| u32::from(*v)).sum();
            out.push(((sum + count / 2) / count) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::Conversion;

    #[test]
    fn known_colours() {
        let tv = Conversion::new(false, false);
        assert_eq!(tv.rgb(16, 128, 128), [0, 0, 0]);
        assert_eq!(tv.rgb(235, 128, 128), [255, 255, 255]);
        // 100 % red, BT.601 and BT.709, limited range (ITU-R BT.601-7 and BT.709-6, rounded to 8 bits).
        assert_eq!(tv.rgb(81, 90, 240).map(|v| v / 8), [31, 0, 0]);
        assert_eq!(Conversion::new(true, false).rgb(63, 102, 240).map(|v| v / 8), [31, 0, 0]);
        let full = Conversion::new(false, true);
        assert_eq!(full.rgb(0, 128, 128), [0, 0, 0]);
        assert_eq!(full.rgb(255, 128, 128), [255, 255, 255]);
        assert_eq!(full.rgb(76, 85, 255), [254, 0, 0]);
    }
}
