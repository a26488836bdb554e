use bytes::Bytes;
use fleet::{Filter, Range};
use flow::{Matrix, Plane};

use super::*;
use crate::testing;

fn card(width: u32, height: u32, resize: Resize, channels: Channels) -> ModelCard {
    ModelCard { resize, channels, ..testing::card(width, height, 2) }
}

/// A picture of one colour, with `slack` bytes of rubbish after each row and a last row that ends with the picture.
fn flat(size: (u32, u32), [y, cb, cr]: [u8; 3], slack: usize) -> HostPicture {
    textured(size, slack, |plane, _, _| [y, cb, cr][plane])
}

fn textured(
    (width, height): (u32, u32),
    slack: usize,
    sample: impl Fn(usize, u32, u32) -> u8,
) -> HostPicture {
    let plane = |index: usize| {
        let shift = u32::from(index > 0);
        let (w, h) = (width.div_ceil(1 << shift), height.div_ceil(1 << shift));
        let stride = w as usize + slack;
        let mut data = vec![0xEE; stride * h as usize];
        for y in 0..h {
            for x in 0..w {
                data[y as usize * stride + x as usize] = sample(index, x, y);
            }
        }
        data.truncate(data.len() - slack);
        Plane { data: Bytes::from(data), stride }
    };
    let planes = [plane(0), plane(1), plane(2)];
    HostPicture::new(width, height, planes, Matrix::Bt709, false).unwrap()
}

fn pixel(tensor: &[f32], width: u32, height: u32, x: u32, y: u32) -> [f32; 3] {
    let plane = (width * height) as usize;
    [0, 1, 2].map(|i| tensor[i * plane + (y * width + x) as usize])
}

fn assert_near(got: [f32; 3], wanted: [f32; 3], within: f32) {
    for (g, w) in got.into_iter().zip(wanted) {
        assert!((g - w).abs() <= within, "{got:?} is not {wanted:?}");
    }
}

/// Red, green and blue of one sample.
fn colour(matrix: Matrix, full_range: bool, code: [u8; 3]) -> [f32; 3] {
    let grey = |index: usize| Plane { data: Bytes::copy_from_slice(&code[index..=index]), stride: 1 };
    let picture = HostPicture::new(1, 1, [grey(0), grey(1), grey(2)], matrix, full_range).unwrap();
    let mut p = Preprocessor::new(&card(32, 32, Resize::Stretch, Channels::Rgb));
    p.put(0, &picture);
    pixel(p.tensor(1), 32, 32, 17, 5)
}

#[test]
fn colours_are_those_of_the_standards() {
    // EBU Tech 3325 / ITU-R BT.709-6 table 4.6: limited-range code values of the 100 % colour bars, and BT.601's.
    let bars709 = [([180, 128, 128], [191.0; 3]), ([63, 102, 240], [255.0, 0.0, 0.0])];
    let bars601 = [([81, 90, 240], [255.0, 0.0, 0.0]), ([145, 54, 34], [0.0, 255.0, 0.0])];
    for (matrix, bars) in [(Matrix::Bt709, bars709), (Matrix::Bt601, bars601)] {
        for (code, rgb) in bars {
            let out = colour(matrix, false, code);
            assert_near(out, rgb, 2.0);
        }
    }
    // Full range: black is 0 and white 255; in limited range 16 and 235, and beyond them nothing more.
    for (full, y, wanted) in
        [(true, 0, 0.0), (true, 255, 255.0), (false, 16, 0.0), (false, 235, 255.0), (false, 255, 255.0)]
    {
        let out = colour(Matrix::Bt601, full, [y, 128, 128]);
        assert!((out[1] - wanted).abs() < 0.01, "{full} {y}: {out:?}");
    }
}

#[test]
fn red_lands_where_the_card_says_and_is_scaled_by_that_plane() {
    let red = flat((64, 64), [63, 102, 240], 0);
    let mut card = card(32, 32, Resize::Stretch, Channels::Bgr);
    card.range = Range { mean: [0.0, 0.0, 100.0], deviation: [1.0, 1.0, 50.0] };
    let mut p = Preprocessor::new(&card);
    p.put(0, &red);
    assert_near(pixel(p.tensor(1), 32, 32, 7, 9), [0.0, 0.0, (255.0 - 100.0) / 50.0], 1.5);
    card.channels = Channels::Rgb;
    card.range = Range { mean: [0.0; 3], deviation: [255.0; 3] };
    let mut p = Preprocessor::new(&card);
    p.put(0, &red);
    assert_near(pixel(p.tensor(1), 32, 32, 31, 31), [1.0, 0.0, 0.0], 0.01);
}

#[test]
fn odd_sizes_and_strides_do_not_bleed_into_the_picture() {
    for size in [(5, 3), (1, 1), (33, 17), (64, 64), (767, 431), (2, 101)] {
        for slack in [0, 1, 13] {
            for resize in [Resize::Stretch, Resize::LetterboxCentre { pad: 114 }] {
                let mut p = Preprocessor::new(&card(32, 64, resize, Channels::Rgb));
                let place = p.put(0, &flat(size, [180, 128, 128], slack));
                let tensor = p.tensor(1);
                for y in 0..64 {
                    for x in 0..32 {
                        let inside = (place.left..place.left + place.width).contains(&x)
                            && (place.top..place.top + place.height).contains(&y);
                        let wanted = if inside { 191.0 } else { 114.0 };
                        assert_near(pixel(tensor, 32, 64, x, y), [wanted; 3], 0.1);
                    }
                }
            }
        }
    }
}

#[test]
fn the_stride_of_a_single_row_may_be_anything() {
    let plane = || Plane { data: Bytes::from_static(&[180, 180]), stride: usize::MAX / 2 };
    let picture = HostPicture::new(2, 1, [plane(), plane(), plane()], Matrix::Bt709, false).unwrap();
    let mut p = Preprocessor::new(&card(32, 32, Resize::Stretch, Channels::Rgb));
    p.put(0, &picture);
}

#[test]
fn luma_and_chroma_of_an_odd_size_stay_together() {
    // A vertical edge in luma at column 6 of 13 and in Cr at the same place, column 3 of 6.5.
    let picture = textured(
        (13, 9),
        3,
        |plane, x, _| if x < [6, 3, 3][plane] { [60, 128, 128] } else { [180, 128, 150] }[plane],
    );
    let mut p = Preprocessor::new(&card(130, 90, Resize::Stretch, Channels::Rgb));
    p.put(0, &picture);
    let tensor = p.tensor(1);
    // Where red - green passes its middle, the luma-only blue does too, within 2 of 130 columns.
    let crossing = |value: &dyn Fn([f32; 3]) -> f32| {
        let (first, last) = (value(pixel(tensor, 130, 90, 0, 45)), value(pixel(tensor, 130, 90, 129, 45)));
        (0..130).find(|&x| value(pixel(tensor, 130, 90, x, 45)) > (first + last) / 2.0).unwrap()
    };
    let (chroma, luma) = (crossing(&|[r, g, _]| r - g), crossing(&|[_, _, b]| b));
    assert!(chroma.abs_diff(60) <= 2 && luma.abs_diff(60) <= 2, "luma {luma}, chroma {chroma}");
}

#[test]
fn shrinking_does_not_alias() {
    // One-pixel stripes become grey, not stripes of another width.
    let stripes = textured((416, 416), 0, |plane, x, _| if plane > 0 || x % 2 == 0 { 128 } else { 235 });
    let mut p = Preprocessor::new(&card(96, 96, Resize::Stretch, Channels::Rgb));
    p.put(0, &stripes);
    let tensor = p.tensor(1);
    let row: Vec<f32> = (8..88).map(|x| pixel(tensor, 96, 96, x, 48)[1]).collect();
    let spread = row.iter().copied().fold(f32::MIN, f32::max) - row.iter().copied().fold(f32::MAX, f32::min);
    assert!(spread < 16.0, "stripes of {spread} levels are left");
}

#[test]
fn a_slot_forgets_the_picture_before() {
    let resize = Resize::LetterboxTopLeft { pad: 114 };
    let card = card(64, 64, resize, Channels::Rgb);
    let (tall, wide) = (flat((32, 64), [235, 128, 128], 0), flat((64, 32), [16, 128, 128], 0));
    let mut used = Preprocessor::new(&card);
    for picture in [&wide, &tall, &wide, &wide] {
        for slot in [0, 2] {
            used.put(slot, picture);
        }
    }
    let mut fresh = Preprocessor::new(&card);
    fresh.put(0, &wide);
    let (values, wanted) = (3 * 64 * 64, fresh.tensor(1).to_vec());
    let tensor = used.tensor(3);
    assert_eq!(tensor[..values], wanted);
    assert_eq!(tensor[2 * values..], wanted);
    // The slot in between was never used.
    assert!(tensor[values..2 * values].iter().all(|v| *v == 0.0));
}

/// `INTER_LINEAR` as OpenCV defines it, in floating point, over one plane.
fn by_the_book(plane: &Plane, from: (usize, usize), into: (usize, usize), x: usize, y: usize) -> f64 {
    let at = |index: usize, from: usize, into: usize| {
        let at = (index as f64 + 0.5) * from as f64 / into as f64 - 0.5;
        at.clamp(0.0, (from - 1) as f64)
    };
    let (x, y) = (at(x, from.0, into.0), at(y, from.1, into.1));
    let sample =
        |x: usize, y: usize| f64::from(plane.data[y.min(from.1 - 1) * plane.stride + x.min(from.0 - 1)]);
    let (left, top) = (x as usize, y as usize);
    let (fx, fy) = (x - left as f64, y - top as f64);
    let row = |y: usize| sample(left, y) * (1.0 - fx) + sample(left + 1, y) * fx;
    row(top) * (1.0 - fy) + row(top + 1) * fy
}

#[test]
fn samples_are_those_that_opencv_takes() {
    let mut random = fastrand::Rng::with_seed(3);
    for (from, into) in
        [((96, 64), (64, 64)), ((50, 40), (96, 64)), ((64, 64), (64, 64)), ((63, 127), (32, 64))]
    {
        let noise: Vec<u8> = (0..from.0 * from.1).map(|_| random.u8(16..=235)).collect();
        let grey = textured((from.0, from.1), 0, |plane, x, y| match plane {
            0 => noise[(y * from.0 + x) as usize],
            _ => 128,
        });
        let mut card = card(into.0, into.1, Resize::Stretch, Channels::Rgb);
        card.filter = Filter::Linear;
        let mut p = Preprocessor::new(&card);
        p.put(0, &grey);
        let (from, size) = ((from.0 as usize, from.1 as usize), (into.0 as usize, into.1 as usize));
        let mut worst = 0.0f64;
        for y in 0..size.1 {
            for x in 0..size.0 {
                let wanted = (by_the_book(&grey.planes()[0], from, size, x, y) - 16.0) * 255.0 / 219.0;
                let got = pixel(p.tensor(1), into.0, into.1, x as u32, y as u32)[0];
                worst = worst.max((f64::from(got) - wanted).abs());
            }
        }
        // Half a level for rounding between the two steps, and 1/512 of a sample's place each way.
        assert!(worst < 1.8, "{from:?} to {size:?}: off by {worst}");
    }
}

#[test]
fn every_way_of_compiling_gives_the_same() {
    // Sizes around the four rows that are made at a time, and cells of every kind.
    let mut random = fastrand::Rng::with_seed(9);
    for (width, height) in [(33, 31), (64, 65), (199, 98), (640, 161), (32 * 9 + 1, 64 * 7 + 3)] {
        let seed = random.u64(..);
        let sample = move |plane: usize, x: u32, y: u32| {
            (u64::from(x * 7919 + y * 104_729 + plane as u32).wrapping_mul(seed | 1) >> 40) as u8
        };
        let picture = textured((width, height), 5, sample);
        let fill = |portable: bool| {
            let mut p = Preprocessor::new(&card(32, 64, Resize::Stretch, Channels::Bgr));
            p.kernel.portable = portable;
            p.put(0, &picture);
            p.tensor(1).to_vec()
        };
        let (here, portable) = (fill(false), fill(true));
        let off = here.iter().zip(&portable).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-3, "{width}x{height}: {off}");
    }
}
