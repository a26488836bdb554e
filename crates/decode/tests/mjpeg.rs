//! Motion JPEG through the same pool.

#![allow(clippy::disallowed_macros, clippy::unwrap_used, reason = "a test prints, and may panic")]

mod support;

use std::time::Duration;

use flow::{Codec, Matrix, Role};
use support::*;

const COLOUR: Colour = [90, 180, 70];

fn jpeg(format: &str, size: (u32, u32), settings: &str) -> bytes::Bytes {
    encode(Codec::Mjpeg, format, size, &[COLOUR], settings).remove(0).data
}

#[test]
fn each_sub_sampling_becomes_i420_in_full_range() {
    let bench = Bench::new(1, 4, 1);
    let cases = [
        ("I420", (640, 480)),
        ("Y42B", (704, 576)),
        ("Y42B", (1920, 1080)),
        ("Y444", (322, 242)),
        ("I420", (37, 21)),
    ];
    for (format, size) in cases {
        let frame = bench.one(Source::new("a", Codec::Mjpeg).alone(jpeg(format, size, "quality=95")));
        let frame = frame.unwrap_or_else(|| panic!("{format} {size:?}: {:?}", bench.errors.lock().unwrap()));
        let picture = host(&frame);
        assert_eq!((picture.width(), picture.height()), size, "{format}");
        // Where the size is no multiple of a block, the edge is coded less well.
        assert_colour(picture, COLOUR, 8, &format!("{format} {size:?}"));
        // JFIF: BT.601 whatever the size, and all 256 values.
        assert_eq!((picture.matrix, picture.full_range), (Matrix::Bt601, true), "{format} {size:?}");
    }
}

#[test]
fn grey_pictures_have_no_colour() {
    let bench = Bench::new(1, 4, 1);
    let mut file = jpeg("GRAY8", (64, 48), "quality=95").to_vec();
    let frame = bench.one(Source::new("a", Codec::Mjpeg).alone(file.clone())).unwrap();
    assert_colour(host(&frame), [COLOUR[0], 128, 128], 2, "grey");
    assert!(host(&frame).full_range);
    // Half of it.
    file.truncate(file.len() - 12);
    assert!(bench.one(Source::new("a", Codec::Mjpeg).alone(file)).is_none());
}

/// A picture with something in it, so that damage shows.
fn busy() -> Vec<u8> {
    let colours: Vec<Colour> = (0..3).map(|i| [40 + 60 * i, 100, 140]).collect();
    encode(Codec::Mjpeg, "I420", (320, 240), &colours, "quality=90 idct-method=0 snapshot=false")
        .remove(1)
        .data
        .to_vec()
}

#[test]
fn a_cut_or_foreign_picture_is_refused_and_the_next_one_is_right() {
    let bench = Bench::new(1, 4, 1);
    let good = busy();
    let mut bad = vec![Vec::new(), vec![0; 1000], vec![0xff; 1000], good[..200].to_vec()];
    let scan = good.windows(2).rposition(|w| w == [0xff, 0xda]).unwrap() + 12;
    bad.push(good[..scan].to_vec());
    bad.push(good[..scan + (good.len() - scan) / 2].to_vec());
    let mut rng = fastrand::Rng::with_seed(5);
    bad.push(good.iter().enumerate().map(|(i, b)| if i > scan + 20 { rng.u8(..0xff) } else { *b }).collect());
    let count = bad.len() as u64;
    for (index, data) in bad.into_iter().enumerate() {
        let came = bench.one(Source::new("bad", Codec::Mjpeg).alone(data)).is_some();
        println!("{index}: {:?}", bench.errors.lock().unwrap().last());
        assert!(!came, "bad picture {index} came out");
        assert!(bench.one(Source::new("good", Codec::Mjpeg).alone(good.clone())).is_some(), "after {index}");
    }
    assert_eq!(bench.dropped("corrupt"), count);
}

#[test]
fn random_damage_never_stops_the_pool() {
    let bench = Bench::new(1, 4, 1);
    let good = busy();
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..300 {
        let mut data = good.clone();
        for _ in 0..rng.usize(1..8) {
            let at = rng.usize(..data.len());
            data[at] = rng.u8(..);
        }
        bench.one(Source::new("bad", Codec::Mjpeg).alone(data));
    }
    assert!(bench.one(Source::new("good", Codec::Mjpeg).alone(good)).is_some());
    assert_eq!(bench.pool.shutdown(Duration::from_secs(5)).inside(), 0);
}

#[test]
fn a_stream_in_full_comes_out_picture_by_picture() {
    let colours: Vec<Colour> = (0..6).map(|i| [30 + 30 * i, 100, 150]).collect();
    let bench = Bench::new(1, 100, 1);
    let mut source = Source::new("a", Codec::Mjpeg);
    for c in encode(Codec::Mjpeg, "I420", (320, 240), &colours, "quality=95") {
        let frame = bench.one(source.unit(true, Role::Chained { deliver: true }, c.data)).expect("a picture");
        assert_colour(host(&frame), colours[c.index], 2, "in step");
    }
}
