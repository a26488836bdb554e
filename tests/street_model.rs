//! The demo's own detector, on streets that its training has not seen.

use bytes::Bytes;
use flow::{CameraId, Frame, FrameId, HostPicture, Matrix, Plane, SessionId, Timestamp};
use infer::{Model, Runtime};
use sim::street::Seen;
use sim::street::dataset::{self, Sample};

use crate::util::project;

/// How many pictures, and which streets: far from those of the training (see `models/street-demo/README.md`).
const PICTURES: usize = 240;
const SEED: u64 = 5_000_001;
const SIZE: (u32, u32) = (640, 360);
/// COCO's "medium and large": boxes of at least 32 x 32 pixels. What is smaller, or more hidden, is neither asked for nor
/// forbidden; the model's README says so.
const LEAST_AREA: f32 = 1024.0;
const LEAST_VISIBLE: f32 = 0.5;
/// The smallest things that the training asks for; printed, not required.
const TRAINED_AREA: f32 = 400.0;

/// A found box of one class.
struct Found {
    score: f32,
    picture: usize,
    bbox: [f32; 4],
}

#[test]
fn the_demo_model_finds_what_is_in_rendered_streets() {
    let runtime = Runtime::load(None).unwrap();
    let card = fleet::ModelCard::load(&project("models/street-demo")).unwrap();
    let classes = card.classes.clone();
    // Average precision wants the weak detections too.
    let card = fleet::ModelCard { thresholds: fleet::Thresholds { score: 0.02, ..card.thresholds }, ..card };
    let mut model = Model::open(&runtime, std::sync::Arc::new(card)).unwrap();

    let samples = dataset::samples(PICTURES, SEED, SIZE).unwrap();
    let mut found: Vec<Vec<Found>> = classes.iter().map(|_| Vec::new()).collect();
    for (picture, sample) in samples.iter().enumerate() {
        let frame = frame(sample);
        for detection in &model.look(&[&frame]).unwrap()[0].list {
            let class = classes.iter().position(|c| *c == detection.class).unwrap();
            let [x0, y0, x1, y1] = detection.bbox.to_array();
            let (w, h) = (SIZE.0 as f32, SIZE.1 as f32);
            let bbox = [x0 * w, y0 * h, x1 * w, y1 * h];
            found[class].push(Found { score: detection.score.get(), picture, bbox });
        }
    }
    println!("AP50 on {PICTURES} pictures   medium and large   from {TRAINED_AREA} square pixels");
    let mut sums = [0.0; 2];
    for (class, found) in classes.iter().zip(&mut found) {
        let ap = [LEAST_AREA, TRAINED_AREA].map(|area| {
            let truth: Vec<Vec<True>> = samples.iter().map(|s| boxes(s, class.as_str(), area)).collect();
            average_precision(found, &truth, area)
        });
        println!("{class:10} {:>30.3} {:>26.3}", ap[0], ap[1]);
        sums = [sums[0] + ap[0], sums[1] + ap[1]];
    }
    let [mean, trained] = sums.map(|sum| sum / classes.len() as f64);
    println!("{:10} {mean:>30.3} {trained:>26.3}", "mean");
    assert!(mean >= 0.9, "mean AP50 of medium and large things: {mean:.3}");
}

/// A thing that is there.
struct True {
    /// Left, top, right, bottom; pixels.
    bbox: [f32; 4],
    /// Large and visible enough to be asked for.
    asked: bool,
}

/// The things of a class in a picture.
fn boxes(sample: &Sample, class: &str, least_area: f32) -> Vec<True> {
    let of_class = sample.labels.iter().filter(|seen| seen.class.name() == class);
    let thing = |seen: &Seen| {
        let bbox = seen.bbox.map(|v| v as f32);
        True { bbox, asked: area(&bbox) >= least_area && seen.visible >= LEAST_VISIBLE }
    };
    of_class.map(thing).collect()
}

/// AP at an IoU of 0.5, the mean of the precision at COCO's 101 recalls (pycocotools, `COCOeval.accumulate`).
fn average_precision(found: &mut [Found], truth: &[Vec<True>], least_area: f32) -> f64 {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let total = truth.iter().flatten().filter(|thing| thing.asked).count();
    let mut free: Vec<Vec<bool>> = truth.iter().map(|boxes| vec![true; boxes.len()]).collect();
    let mut hits = 0_usize;
    let mut curve = Vec::new();
    let mut counted = 0_usize;
    for f in found.iter() {
        let candidates = truth[f.picture].iter().enumerate().filter(|(i, _)| free[f.picture][*i]);
        let overlaps =
            candidates.map(|(i, t)| (i, t.asked, iou(&t.bbox, &f.bbox))).filter(|(_, _, iou)| *iou >= 0.5);
        // Things that are asked for first, then by overlap, as in COCO's evaluation.
        match overlaps.max_by(|a, b| a.1.cmp(&b.1).then(a.2.total_cmp(&b.2))) {
            Some((i, asked, _)) => {
                free[f.picture][i] = false;
                hits += usize::from(asked);
                counted += usize::from(asked);
            }
            None => counted += usize::from(area(&f.bbox) >= least_area),
        }
        curve.push((hits as f64 / total as f64, hits as f64 / counted.max(1) as f64));
    }
    let at = |recall: f64| curve.iter().filter(|(r, _)| *r >= recall).map(|(_, p)| *p).fold(0.0, f64::max);
    (0..=100).map(|i| at(f64::from(i) / 100.0)).sum::<f64>() / 101.0
}

fn area(b: &[f32; 4]) -> f32 {
    (b[2] - b[0]) * (b[3] - b[1])
}

fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let w = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    w * h / (area(a) + area(b) - w * h)
}

/// The picture as the data set stores it, compressed, and as a decoder would give it: BT.601, limited range, chroma of
/// half the size.
pub fn frame(sample: &Sample) -> Frame {
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let rgb = image::load_from_memory(&sample.jpeg().unwrap()).unwrap().into_rgb8().into_raw();
    let at = |x: usize, y: usize| {
        let start = (y * width + x) * 3;
        [rgb[start], rgb[start + 1], rgb[start + 2]].map(f32::from)
    };
    let mut luma = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let [r, g, b] = at(x, y);
            luma.push((16.5 + (0.299 * r + 0.587 * g + 0.114 * b) * 219.0 / 255.0) as u8);
        }
    }
    let chroma = |weights: [f32; 3]| {
        let mut plane = Vec::with_capacity(width * height / 4);
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                let four = [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)];
                let sum: f32 = four.iter().flat_map(|p| p.iter().zip(weights)).map(|(v, w)| v * w).sum();
                plane.push((128.5 + sum / 4.0 * 224.0 / 255.0).clamp(0.0, 255.0) as u8);
            }
        }
        plane
    };
    let planes = [
        (luma, width),
        (chroma([-0.168_736, -0.331_264, 0.5]), width / 2),
        (chroma([0.5, -0.418_688, -0.081_312]), width / 2),
    ]
    .map(|(data, stride)| Plane { data: Bytes::from(data), stride });
    let id = FrameId { camera: CameraId::new("street").unwrap(), session: SessionId::next(), sequence: 0 };
    Frame::host(
        id,
        Timestamp::UNIX_EPOCH,
        HostPicture::new(SIZE.0, SIZE.1, planes, Matrix::Bt601, false).unwrap(),
    )
}
