//! Pictures that stand alone: many cameras, one small pool.

#![allow(clippy::disallowed_macros, clippy::unwrap_used, reason = "a test prints, and may panic")]

mod support;

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use decode::{Full, Pool, PoolOptions};
use flow::{Codec, Matrix, Role};
use support::*;

fn threads_of_this_process() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn fifty_cameras_in_random_order_each_get_their_own_picture() {
    let kinds = [
        (Codec::H264, (320, 240)),
        (Codec::H264, (704, 576)),
        (Codec::H264, (1920, 1080)),
        (Codec::H265, (640, 360)),
        (Codec::H265, (322, 242)),
    ];
    let mut cameras = Vec::new();
    for (kind, (codec, size)) in kinds.into_iter().enumerate() {
        let colours: Vec<Colour> = (0..10)
            .map(|i| [20 + (kind * 10 + i) as u8 * 4, 60 + i as u8 * 12, 200 - kind as u8 * 30])
            .collect();
        for coded in encode(codec, "I420", size, &colours, intra(codec)) {
            assert!(coded.key);
            let colour = colours[coded.index];
            cameras.push((Source::new(cameras.len(), codec), coded.data, size, colour));
        }
    }
    assert_eq!(cameras.len(), 50);

    let bench = Bench::new(2, 500, 1);
    let before = threads_of_this_process();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..400 {
        let (source, data, ..) = &mut cameras[rng.usize(..50)];
        let unit = source.alone(data.clone());
        bench.pool.offer(unit).unwrap();
    }
    bench.settle();
    // Two workers with at most one decoder per codec and size each.
    assert!(threads_of_this_process() <= before + 2 * 5, "{} then {}", before, threads_of_this_process());

    assert_eq!(bench.errors.lock().unwrap().as_slice(), &[]);
    let frames = bench.frames.lock().unwrap();
    assert_eq!(frames.len(), 400);
    for frame in frames.iter() {
        let (source, _, size, colour) = cameras.iter().find(|(s, ..)| s.camera == frame.id.camera).unwrap();
        let picture = host(frame);
        assert_eq!(frame.id.session, source.session);
        assert_eq!(frame.captured.as_millisecond(), 1_700_000_000_000 + frame.id.sequence as i64);
        assert_eq!((picture.width(), picture.height()), *size);
        assert_colour(picture, *colour, 2, source.camera.as_str());
    }
    let flow = bench.pool.shutdown(Duration::from_secs(5));
    assert_eq!((flow.received, flow.passed, flow.inside()), (400, 400, 0));
}

#[test]
fn each_format_becomes_i420_of_the_same_colours() {
    let bench = Bench::new(1, 4, 1);
    let cases = [
        (Codec::H264, "I420", (1920, 1080)),
        (Codec::H264, "Y42B", (640, 360)),
        (Codec::H264, "Y444", (641, 359)),
        (Codec::H264, "I420_10LE", (320, 240)),
        (Codec::H264, "I420", (322, 242)),
        (Codec::H265, "I420_10LE", (704, 576)),
        (Codec::H265, "Y444", (320, 240)),
        (Codec::H265, "I420", (1920, 1080)),
        (Codec::H264, "I420", (16, 16)),
    ];
    for (codec, format, size) in cases {
        let what = format!("{codec} {format} {size:?}");
        let colour = [90, 180, 70];
        let coded = encode(codec, format, size, &[colour], intra(codec)).remove(0);
        let frame = bench.one(Source::new("a", codec).alone(coded.data));
        let frame = frame.unwrap_or_else(|| panic!("{what}: {:?}", bench.errors.lock().unwrap()));
        let picture = host(&frame);
        assert_eq!((picture.width(), picture.height()), size, "{what}");
        assert_colour(picture, colour, 3, &what);
        assert_eq!(picture.matrix, if size.1 > 576 { Matrix::Bt709 } else { Matrix::Bt601 }, "{what}");
        assert!(!picture.full_range, "{what}");
    }
}

#[test]
fn more_sizes_than_decoders() {
    let bench = Bench::new(1, 4, 1);
    let colour = [90, 180, 70];
    let mut pictures = Vec::new();
    for codec in [Codec::H264, Codec::H265] {
        for step in 0..10 {
            let size = (160 + 16 * step, 128);
            pictures.push((codec, size, encode(codec, "I420", size, &[colour], intra(codec)).remove(0).data));
        }
    }
    let before = threads_of_this_process();
    for (codec, size, data) in pictures.iter().chain(&pictures) {
        let frame = bench.one(Source::new("a", *codec).alone(data.clone()));
        let frame = frame
            .unwrap_or_else(|| panic!("{codec} {size:?}: {data:02x?} {:?}", bench.errors.lock().unwrap()));
        assert_eq!((host(&frame).width(), host(&frame).height()), *size);
        assert_colour(host(&frame), colour, 3, &format!("{codec} {size:?}"));
    }
    assert!(threads_of_this_process() <= before + 6, "{before} then {}", threads_of_this_process());
}

#[test]
fn colour_range_and_matrix_are_those_of_the_stream() {
    let bench = Bench::new(1, 4, 1);
    for (format, matrix, full) in [
        ("I420,colorimetry=1:3:5:1", Matrix::Bt709, true),
        ("I420,colorimetry=2:4:16:4", Matrix::Bt601, false),
        ("Y42B,colorimetry=1:3:5:1", Matrix::Bt709, true),
    ] {
        let coded = encode(Codec::H264, format, (320, 240), &[[90, 180, 70]], intra(Codec::H264)).remove(0);
        let frame = bench.one(Source::new("a", Codec::H264).alone(coded.data)).unwrap();
        assert_eq!((host(&frame).matrix, host(&frame).full_range), (matrix, full), "{format}");
        assert_colour(host(&frame), [90, 180, 70], 3, format);
    }
}

#[test]
fn a_corrupt_picture_is_counted_and_the_next_one_is_right() {
    let Some(path) = shared("media/one-by-one.mp4") else { return };
    let mut rng = fastrand::Rng::with_seed(3);
    let real = read_file(Codec::H264, &path).into_iter().find(|c| c.key).unwrap().data.to_vec();
    let mut bad = vec![
        Vec::new(),
        vec![0; 1000],
        (0..5000).map(|_| rng.u8(..)).collect::<Vec<u8>>(),
        b"\0\0\x01".to_vec(),
    ];
    for share in [10, 50, 90, 99] {
        bad.push(real[..real.len() * share / 100].to_vec());
    }
    for _ in 0..5 {
        let mut flipped = real.clone();
        for _ in 0..20 {
            let at = rng.usize(real.len() / 8..real.len());
            flipped[at] ^= 1 << rng.u8(..8);
        }
        bad.push(flipped);
    }
    assert_refused_and_recovers(Codec::H264, bad, real);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn thousands_of_pictures_good_and_bad_leave_nothing_behind() {
    let bench = Bench::new(1, 10_000, 1);
    let colours: Vec<Colour> = (0..4).map(|i| [40 + i * 40, 100, 150]).collect();
    let coded = encode(Codec::H264, "I420", (176, 144), &colours, intra(Codec::H264));
    let mut source = Source::new("a", Codec::H264);
    let mut round = |count: usize| {
        for index in 0..count {
            let data = &coded[index % 4].data;
            let end = if index % 2 == 0 { data.len() } else { data.len() - 6 };
            bench.pool.offer(source.alone(data.slice(..end))).unwrap();
        }
        bench.settle();
        bench.frames.lock().unwrap().clear();
        bench.errors.lock().unwrap().clear();
    };
    (0..20).for_each(|_| round(100));
    let before = resident_kib();
    (0..60).for_each(|_| round(100));
    let after = resident_kib();
    // A picture alone has 38 KB: one in a hundred left behind would show.
    assert!(after < before + 2000, "{before} KiB, then {after} KiB");
    assert_eq!(bench.dropped("failed"), 0);
}

#[test]
fn corrupt_h265_is_counted_and_the_next_one_is_right() {
    let colours = [[90, 180, 70]];
    let good = encode(Codec::H265, "I420", (320, 240), &colours, intra(Codec::H265)).remove(0).data.to_vec();
    let mut rng = fastrand::Rng::with_seed(3);
    let bad = vec![
        Vec::new(),
        good[..20].to_vec(),
        good[..good.len() / 2].iter().map(|b| b ^ 0x55).collect(),
        (0..5000).map(|_| rng.u8(..)).collect(),
        // The right start, then noise.
        good.iter().copied().take(60).chain((0..3000).map(|_| rng.u8(1..))).collect(),
    ];
    assert_refused_and_recovers(Codec::H265, bad, good);
}

fn assert_refused_and_recovers(codec: Codec, bad: Vec<Vec<u8>>, good: Vec<u8>) {
    let bench = Bench::new(1, 4, 1);
    let expected = bench.one(Source::new("good", codec).alone(good.clone())).expect("the undamaged picture");
    let count = bad.len() as u64;
    for (index, data) in bad.into_iter().enumerate() {
        let mut source = Source::new(format!("bad-{index}"), codec);
        assert!(bench.one(source.alone(data)).is_none(), "bad picture {index} came out");
        let last = bench.errors.lock().unwrap().last().cloned().unwrap();
        println!("{index}: {}", last.1);
        assert_eq!(last.0, source.camera);
        let next =
            bench.one(Source::new("good", codec).alone(good.clone())).expect("the picture after a bad one");
        assert_eq!(rows(host(&next), 0), rows(host(&expected), 0), "after bad picture {index}");
    }
    assert_eq!(bench.dropped("corrupt"), count);
    let flow = bench.pool.shutdown(Duration::from_secs(5));
    assert_eq!((flow.received, flow.passed, flow.inside()), (2 * count + 1, count + 1, 0));
}

#[test]
fn a_picture_is_never_decoded_with_another_cameras_parameter_sets() {
    let bench = Bench::new(1, 4, 1);
    for codec in [Codec::H264, Codec::H265] {
        let good = encode(codec, "I420", (320, 240), &[[90, 180, 70]], intra(codec)).remove(0).data;
        assert!(bench.one(Source::new("a", codec).alone(good.clone())).is_some());
        // The last NAL unit is the slice: leave out all that stands in front of it.
        let slice = good.windows(3).rposition(|w| w == [0, 0, 1]).unwrap();
        assert!(bench.one(Source::new("b", codec).alone(good.slice(slice..))).is_none());
        let (camera, why) = bench.errors.lock().unwrap().pop().unwrap();
        assert_eq!(camera, support::camera("b"));
        assert_eq!(why, "not a random-access picture: PPS 0 is not in front of the slice");
    }
    let mut source = Source::new("c", Codec::H264);
    assert!(bench.one(source.unit(false, Role::Alone, vec![0, 0, 1])).is_none());
    assert_eq!((bench.dropped("corrupt"), bench.dropped("no_key")), (2, 1));
}

/// An output that waits until it is let go.
fn gated_pool(queue: usize) -> (Pool, &'static (Mutex<bool>, Condvar)) {
    let gate: &'static (Mutex<bool>, Condvar) = Box::leak(Box::default());
    let output = move |_| {
        let open = gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap();
        drop(open);
    };
    let pool = Pool::new(
        PoolOptions { threads: 1, queue, max_chained: 0, ..PoolOptions::default() },
        output,
        |_, _| {},
    )
    .unwrap();
    (pool, gate)
}

fn open(gate: &(Mutex<bool>, Condvar)) {
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

#[test]
fn a_full_queue_refuses_at_once_and_counts() {
    let good = encode(Codec::H264, "I420", (320, 240), &[[90, 180, 70]], intra(Codec::H264)).remove(0).data;
    let (pool, gate) = gated_pool(2);
    let mut source = Source::new("a", Codec::H264);
    let refused = (0..10).filter(|_| pool.offer(source.alone(good.clone())) == Err(Full::Queue(2))).count();
    assert!((7..=8).contains(&refused), "{refused} refused: one in work, two waiting");
    open(gate);
    let flow = pool.shutdown(Duration::from_secs(5));
    assert_eq!(flow.received, 10);
    assert_eq!(flow.passed, 10 - refused as u64);
    assert_eq!(flow.dropped.iter().find(|(n, _)| *n == "overflow").unwrap().1, refused as u64);
    assert_eq!(flow.inside(), 0);
    assert_eq!(pool.offer(source.alone(good)), Err(Full::Closed));
    assert_eq!(pool.counters().inside(), 0);
}

#[test]
fn shutdown_drops_what_is_left_at_the_deadline() {
    let good = encode(Codec::H264, "I420", (320, 240), &[[90, 180, 70]], intra(Codec::H264)).remove(0).data;
    let (pool, gate) = gated_pool(20);
    let mut source = Source::new("a", Codec::H264);
    for _ in 0..10 {
        pool.offer(source.alone(good.clone())).unwrap();
    }
    let flow = std::thread::scope(|scope| {
        let closing = scope.spawn(|| pool.shutdown(Duration::from_millis(100)));
        // Long after the deadline, also where the machine is busy and the thread starts late.
        std::thread::sleep(Duration::from_millis(1500));
        open(gate);
        closing.join().unwrap()
    });
    assert_eq!(flow.received, 10);
    assert_eq!(flow.passed, 1, "the one that was in work");
    assert_eq!(flow.dropped.iter().find(|(n, _)| *n == "shutdown").unwrap().1, 9);
    assert_eq!(flow.inside(), 0);
}
