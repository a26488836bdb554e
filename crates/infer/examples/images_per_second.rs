//! Images per second and core of this stage, end to end (planes → tensor → run → detections), beside ONNX Runtime alone
//! on a constant tensor, in the same process and session, turn by turn.
//!
//! `cargo run --release -p infer --example images_per_second` with YOLOX-nano from `../shared`.
//! Times are CPU times of the one thread, so that other load on the machine does not count.
#![allow(clippy::disallowed_macros)] // A program of its own: it writes to the terminal.
#![allow(missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use flow::{Frame, HostPicture};
use infer::Model;

const ROUNDS: usize = 40;
const PER_ROUND: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (Some(card), Some(pictures)) = (common::yolox_nano(), common::shared("images/coco/val")) else {
        return Ok(());
    };
    let mut model = Model::open(&common::runtime(), Arc::new(card))?;
    println!("YOLOX-nano 416x416, batch 1, 1 thread, {} pictures per line", ROUNDS * PER_ROUND);
    println!(
        "{:>11} {:>10} {:>10} {:>7} {:>11} {:>8} {:>9} {:>6}",
        "picture", "images/s", "floor", "ratio", "preprocess", "run", "decode", "seen"
    );
    for (width, height) in [(768, 432), (1280, 720), (1920, 1080)] {
        let picture = enlarged(&pictures.join("000000184324.jpg"), width, height)?;
        line(&mut model, &common::frame("a", 0, picture))?;
    }
    Ok(())
}

/// One of the pictures, brought to the size by repeating pixels.
fn enlarged(path: &std::path::Path, width: u32, height: u32) -> Result<HostPicture, image::ImageError> {
    let image = image::open(path)?.to_rgb8();
    let at = |x, y| image.get_pixel(x * image.width() / width, y * image.height() / height).0;
    Ok(common::picture(width, height, at))
}

fn line(model: &mut Model, frame: &Frame) -> Result<(), Box<dyn std::error::Error>> {
    let before = model.work();
    let (mut looks, mut floors, mut seen) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let start = cpu_ms()?;
        for _ in 0..PER_ROUND {
            model.run_alone(1)?;
        }
        let middle = cpu_ms()?;
        for _ in 0..PER_ROUND {
            seen = model.look(&[frame])?[0].list.len();
        }
        floors.push((middle - start) / PER_ROUND as f64);
        looks.push((cpu_ms()? - middle) / PER_ROUND as f64);
    }
    let (look, floor) = (median(looks), median(floors));
    let work = model.work();
    // Wall-clock shares of the whole, only to show where the time goes.
    let ms = |after: std::time::Duration, before: std::time::Duration| {
        (after - before).as_secs_f64() * 1e3 / (ROUNDS * PER_ROUND) as f64
    };
    let flow::Pixels::Host(picture) = &frame.pixels;
    println!(
        "{:>11} {:>10.1} {:>10.1} {:>7.3} {:>8.2} ms {:>5.2} ms {:>6.3} ms {:>6}",
        format!("{}x{}", picture.width(), picture.height()),
        1e3 / look,
        1e3 / floor,
        floor / look,
        ms(work.preprocess, before.preprocess),
        ms(work.run, before.run),
        ms(work.decode, before.decode),
        seen,
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time of this thread in ms (first field of schedstat, in ns).
fn cpu_ms() -> Result<f64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().unwrap_or_default().parse::<f64>()? / 1e6)
}
