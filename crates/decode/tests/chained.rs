//! Streams that are decoded in full.

#![allow(clippy::disallowed_macros, clippy::unwrap_used, reason = "a test prints, and may panic")]

mod support;

use std::time::Duration;

use flow::{Codec, Role};
use support::*;

const SIZE: (u32, u32) = (320, 240);

fn colours(count: usize) -> Vec<Colour> {
    (0..count).map(|i| [30 + i as u8 * 4, 100, 150]).collect()
}

fn stream(codec: Codec, count: usize, b_frames: u32) -> Vec<Coded> {
    let settings = match codec {
        Codec::H264 => format!(
            "key-int-max=10 bframes={b_frames} speed-preset=veryfast quantizer=10 pass=qual rc-lookahead=4 option-string=scenecut=0:open-gop=0"
        ),
        Codec::H265 => format!(
            "key-int-max=10 speed-preset=ultrafast log-level=none option-string=bframes={b_frames}:scenecut=0:open-gop=0:crf=10"
        ),
        Codec::Mjpeg => "quality=95".to_owned(),
    };
    encode(codec, "I420", SIZE, &colours(count), &settings)
}

fn chained(deliver: bool) -> Role {
    Role::Chained { deliver }
}

#[test]
fn only_flagged_pictures_come_out_each_under_its_own_number() {
    for codec in [Codec::H264, Codec::H265] {
        let coded = stream(codec, 40, 2);
        assert!(
            coded.windows(2).any(|w| w[1].index < w[0].index),
            "{codec}: the test's stream is not reordered"
        );
        let bench = Bench::new(2, 100, 1);
        let mut source = Source::new("a", codec);
        for c in &coded {
            bench.pool.offer(source.unit(c.key, chained(c.index % 3 == 0), c.data.clone())).unwrap();
        }
        // The shutdown puts out what the decoder holds back.
        let flow = bench.pool.shutdown(Duration::from_secs(10));
        assert_eq!(bench.errors.lock().unwrap().as_slice(), &[], "{codec}");
        assert_eq!((flow.received, flow.passed, flow.inside()), (40, 14, 0), "{codec}: {flow:?}");
        assert_eq!(bench.dropped("not_wanted"), 26);
        for frame in bench.frames.lock().unwrap().iter() {
            let index = coded[frame.id.sequence as usize].index;
            assert_eq!(index % 3, 0);
            assert_colour(host(frame), colours(40)[index], 2, &format!("{codec} picture {index}"));
        }
    }
}

#[test]
fn a_stream_without_reordering_comes_out_at_once() {
    let coded = stream(Codec::H264, 12, 0);
    let bench = Bench::new(1, 100, 1);
    let mut source = Source::new("a", Codec::H264);
    for c in &coded {
        let frame = bench.one(source.unit(c.key, chained(true), c.data.clone())).expect("a picture");
        assert_eq!(frame.id.sequence, source.sequence - 1);
        assert_colour(host(&frame), colours(12)[c.index], 2, "in step");
    }
}

#[test]
fn after_a_loss_or_in_a_new_session_it_waits_for_a_key_picture() {
    let coded = stream(Codec::H264, 30, 0);
    assert!(coded[10].key && coded[20].key);
    let bench = Bench::new(1, 100, 1);
    let mut source = Source::new("a", Codec::H264);
    for (index, c) in coded.iter().enumerate() {
        let mut unit = source.unit(c.key, chained(true), c.data.clone());
        // Packets are lost before picture 3; a new session begins at picture 15.
        unit.lost_before = u32::from(index == 3);
        if index == 15 {
            source.session = flow::SessionId::next();
        }
        if index >= 15 {
            unit.session = source.session;
        }
        bench.pool.offer(unit).unwrap();
    }
    let flow = bench.pool.shutdown(Duration::from_secs(10));
    let numbers: Vec<u64> = bench.frames.lock().unwrap().iter().map(|f| f.id.sequence).collect();
    assert_eq!(numbers, [0, 1, 2, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29]);
    assert_eq!(bench.dropped("no_key"), 12);
    assert_eq!(flow.inside(), 0);
    for frame in bench.frames.lock().unwrap().iter() {
        assert_colour(host(frame), colours(30)[frame.id.sequence as usize], 2, "after a break");
    }
}

#[test]
fn a_damaged_picture_is_refused_with_all_that_builds_on_it() {
    let Some(path) = shared("media/car-park-overhead.mp4") else { return };
    let coded = read_file(Codec::H264, &path);
    let next_key = 1 + coded[1..].iter().position(|c| c.key).unwrap();
    let bench = Bench::new(1, 1000, 1);
    let mut source = Source::new("a", Codec::H264);
    for (index, c) in coded[..next_key + 5].iter().enumerate() {
        let data = if index == 7 { c.data.slice(..c.data.len() / 2) } else { c.data.clone() };
        bench.pool.offer(source.unit(c.key, chained(true), data)).unwrap();
    }
    let flow = bench.pool.shutdown(Duration::from_secs(10));
    assert_eq!(flow.inside(), 0);
    assert_eq!(bench.dropped("corrupt"), 1, "{:?}", bench.errors.lock().unwrap());
    assert_eq!(bench.dropped("no_key"), next_key as u64 - 8);
    assert_eq!(flow.passed, 7 + 5);
}

#[test]
fn cameras_beyond_the_limit_are_refused_with_the_reason() {
    let coded = stream(Codec::H264, 3, 0);
    let bench = Bench::new(1, 100, 2);
    let mut sources: Vec<Source> = (0..3).map(|i| Source::new(i, Codec::H264)).collect();
    for c in &coded {
        for source in &mut sources {
            bench.pool.offer(source.unit(c.key, chained(true), c.data.clone())).unwrap();
        }
    }
    // Pictures that stand alone are not affected.
    bench.pool.offer(sources[2].alone(coded[0].data.clone())).unwrap();
    let flow = bench.pool.shutdown(Duration::from_secs(10));
    // Of the third camera its key picture all the same, and no more.
    assert_eq!((flow.received, flow.passed, flow.inside()), (10, 8, 0), "{flow:?}");
    assert_eq!((bench.dropped("no_decoder"), bench.dropped("no_key")), (0, 2));
    let errors = bench.errors.lock().unwrap();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].0, camera(2));
    assert!(errors[0].1.starts_with("all 2 decoders for full streams"), "{}", errors[0].1);
}

#[test]
fn a_camera_may_change_codec_between_sessions() {
    let bench = Bench::new(1, 100, 1);
    for codec in [Codec::H264, Codec::H265, Codec::H264] {
        let mut source = Source::new("a", codec);
        for c in stream(codec, 3, 0) {
            bench.pool.offer(source.unit(c.key, chained(true), c.data)).unwrap();
        }
    }
    let flow = bench.pool.shutdown(Duration::from_secs(10));
    assert_eq!((flow.received, flow.passed, flow.inside()), (9, 9, 0), "{flow:?}");
}

/// Entered at picture `from`, which the session takes for a key picture: what comes out has the right colours, and how
/// many came out before the stream was whole is told.
fn entered_at(codec: Codec, coded: &[Coded], from: usize) -> (Vec<usize>, u64) {
    let bench = Bench::new(1, 200, 1);
    let mut source = Source::new("a", codec);
    for c in &coded[from..] {
        let key = source.sequence == 0;
        bench.pool.offer(source.unit(key, chained(true), c.data.clone())).unwrap();
    }
    let flow = bench.pool.shutdown(Duration::from_secs(20));
    assert_eq!(bench.errors.lock().unwrap().as_slice(), &[], "{codec}");
    assert_eq!(flow.inside(), 0);
    let mut shown: Vec<usize> = Vec::new();
    for frame in bench.frames.lock().unwrap().iter() {
        let index = coded[from + frame.id.sequence as usize].index;
        assert_colour(host(frame), colours(coded.len())[index], 3, &format!("{codec} picture {index}"));
        shown.push(index);
    }
    shown.sort_unstable();
    (shown, bench.dropped("recovering"))
}

/// Whether there is a recovery point SEI in it: of H.264, type 6; of H.265, type 39.
fn has_recovery_point(codec: Codec, data: &[u8]) -> bool {
    data.windows(6).any(|w| match codec {
        Codec::H265 => w[..3] == [0, 0, 1] && w[3] >> 1 == 39 && w[5] == 6,
        _ => w[..3] == [0, 0, 1] && w[3] & 31 == 6 && w[4] == 6,
    })
}

#[test]
fn an_open_group_is_entered_at_its_recovery_point_without_the_pictures_shown_before_it() {
    let settings = "key-int-max=10 bframes=3 b-adapt=false speed-preset=veryfast quantizer=10 pass=qual rc-lookahead=10 \
                    option-string=scenecut=0:open-gop=1";
    let coded = encode(Codec::H264, "I420", SIZE, &colours(40), settings);
    let from = 1 + coded[1..].iter().position(|c| has_recovery_point(Codec::H264, &c.data)).unwrap();
    let entry = coded[from].index;
    let leading = coded[from..].iter().filter(|c| c.index < entry).count() as u64;
    assert!(leading > 0, "the test's group is not open");
    let (shown, early) = entered_at(Codec::H264, &coded, from);
    assert_eq!(shown, (entry..40).collect::<Vec<_>>());
    assert_eq!(early, leading);
    // By itself it is a picture like any other key picture.
    let bench = Bench::new(1, 4, 1);
    for _ in 0..2 {
        let frame =
            bench.one(Source::new("b", Codec::H264).alone(coded[from].data.clone())).expect("a picture");
        assert_colour(host(&frame), colours(40)[entry], 2, "alone");
        let frame = bench.one(Source::new("c", Codec::H264).alone(coded[0].data.clone())).expect("a picture");
        assert_colour(host(&frame), colours(40)[0], 2, "IDR");
    }
}

#[test]
fn intra_refresh_is_decoded_once_it_has_gone_round() {
    let settings = "key-int-max=10 intra-refresh=true bframes=0 speed-preset=veryfast quantizer=10 pass=qual \
                    rc-lookahead=0 option-string=scenecut=0";
    let coded = encode(Codec::H264, "I420", SIZE, &colours(50), settings);
    let from = 1 + coded[1..].iter().position(|c| has_recovery_point(Codec::H264, &c.data)).unwrap();
    let (shown, early) = entered_at(Codec::H264, &coded, from);
    assert!((5..=12).contains(&early), "{early} pictures until it is whole");
    assert_eq!(shown, (from + early as usize..50).collect::<Vec<_>>());
    // Where it begins, it begins with an IDR picture.
    let (shown, early) = entered_at(Codec::H264, &coded, 0);
    assert_eq!((shown.len(), early), (50, 0));
}

#[test]
fn the_first_whole_picture_stands_for_those_that_were_wanted_before() {
    let settings = "key-int-max=10 intra-refresh=true bframes=0 speed-preset=veryfast quantizer=10 pass=qual \
                    rc-lookahead=0 option-string=scenecut=0";
    let coded = encode(Codec::H264, "I420", SIZE, &colours(50), settings);
    let from = 1 + coded[1..].iter().position(|c| has_recovery_point(Codec::H264, &c.data)).unwrap();
    let bench = Bench::new(1, 200, 1);
    let mut source = Source::new("a", Codec::H264);
    for c in &coded[from..] {
        let first = source.sequence == 0;
        bench.pool.offer(source.unit(first, chained(first), c.data.clone())).unwrap();
    }
    bench.pool.shutdown(Duration::from_secs(20));
    assert_eq!(bench.frames.lock().unwrap().len(), 1);
}
