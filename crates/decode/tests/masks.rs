//! Parts of the picture that nobody may see.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use decode::{Pool, PoolOptions};
use flow::{CameraId, Codec, Frame, NormPoint, Polygon, Role};
use support::*;

/// The left half.
fn half() -> Polygon {
    let corners = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)];
    Polygon::new(corners.map(|(x, y)| NormPoint { x, y }).to_vec()).unwrap()
}

/// Whichever way a picture comes out, what is under a mask is black in it and in its small copy: nothing that sees a
/// frame can see what was there.
#[test]
fn no_picture_comes_out_with_what_is_under_a_mask() {
    let frames: Arc<Mutex<Vec<Frame>>> = Arc::default();
    let out = frames.clone();
    let masked = CameraId::new("masked").unwrap();
    let masks = HashMap::from([(masked.clone(), Arc::from([half()]))]);
    let pool = Pool::new(
        PoolOptions { threads: 1, masks: Arc::new(masks), ..PoolOptions::default() },
        move |frame| out.lock().unwrap().push(frame),
        |camera, fault| panic!("{camera}: {fault}"),
    )
    .unwrap();
    let bench = Bench { pool, frames, errors: Arc::default() };
    for (codec, settings) in [(Codec::H264, ""), (Codec::Mjpeg, "quality=95")] {
        let coded = encode(codec, "I420", (128, 64), &[[200, 90, 170]], settings).remove(0).data;
        for role in [Role::Alone, Role::Chained { deliver: true }] {
            let unit = |camera| Source::new(camera, codec).unit(true, role, coded.clone());
            bench.pool.offer(unit("masked")).unwrap();
            bench.pool.offer(unit("other")).unwrap();
        }
    }
    let frames = bench.frames.clone();
    // What is decoded in full comes out when the stream ends.
    bench.pool.shutdown(std::time::Duration::from_secs(20));
    let frames = frames.lock().unwrap();
    assert_eq!(frames.len(), 8);
    for frame in &*frames {
        let picture = host(frame);
        let black = if picture.full_range { 0 } else { 16 };
        for (plane, dark) in [(0, black), (1, 128), (2, 128)] {
            let width = if plane == 0 { 128 } else { 64 };
            let samples = rows(picture, plane);
            let mut left = samples.chunks(width).flat_map(|row| &row[..width / 2]);
            let mut right = samples.chunks(width).flat_map(|row| &row[width / 2..]);
            assert_eq!(left.all(|v| *v == dark), frame.id.camera == masked, "{:?}", frame.id);
            assert!(right.all(|v| v.abs_diff(dark) > 20), "the rest stays");
        }
        let small = format!("{:?}", flow::Luma::of(picture));
        assert_eq!(format!("{:?}", frame.luma), small, "the small copy was made of the masked picture");
    }
}
