//! One model against its card, its own batches, and its authors' results.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Also in the functions that the tests share.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{bright, detectors, frame, moody, open, picture, runtime, sha256, shared, square, yolox_nano};
use fleet::{Filter, ModelCard, Thresholds};
use flow::{ClassName, Detection, Frame, NormBox};
use infer::{LookError, Model, ModelError};

fn fails(card: ModelCard) -> ModelError {
    Model::open(&runtime(), Arc::new(card)).expect_err("the card lies")
}

#[test]
fn it_says_what_is_where() {
    let mut model = Model::open(&runtime(), Arc::new(bright())).unwrap();
    let looks = model
        .look(&[
            &frame("a", 7, square([255, 60, 60], 16, 32)),
            &frame("b", 8, square([20; 3], 0, 0)),
            &frame("c", 9, square([60, 60, 255], 48, 0)),
        ])
        .unwrap();
    let best = |i: usize| looks[i].list.first().map(|d| (d.class.as_str(), d.bbox.centre()));
    let near = |i: usize, class: &str, x: f32, y: f32| {
        let (seen, at) = best(i).unwrap();
        assert_eq!(seen, class);
        assert!((at.x - x).abs() < 0.1 && (at.y - y).abs() < 0.1, "{at:?}");
    };
    near(0, "red", 0.375, 0.625);
    near(2, "blue", 0.875, 0.125);
    // Nothing seen is a look, too.
    assert_eq!(best(1), None);
    assert_eq!(looks.iter().map(|l| l.frame.sequence).collect::<Vec<_>>(), [7, 8, 9]);
    assert!(looks.iter().all(|l| l.model.as_str() == "bright"));
    let work = model.work();
    assert_eq!((work.pictures, work.runs, work.broken_boxes), (3, 1, 0));
}

#[test]
fn a_batch_of_many_is_as_good_as_many_batches_of_one() {
    let mut random = fastrand::Rng::with_seed(1);
    let frames: Vec<Frame> = (0..13)
        .map(|i| {
            let (left, top) = (random.u32(0..48), random.u32(0..48));
            let colour = if random.bool() { [255, random.u8(..), 0] } else { [0, random.u8(..), 255] };
            // Some of another shape, so that padding differs from slot to slot.
            let size = (64 - 3 * (i % 4), 64 - 5 * (i % 3));
            let inside = move |x, y| (left..left + 16).contains(&x) && (top..top + 16).contains(&y);
            frame("a", i.into(), picture(size.0, size.1, |x, y| if inside(x, y) { colour } else { [20; 3] }))
        })
        .collect();
    let mut model = Model::open(&runtime(), Arc::new(bright())).unwrap();
    let frames: Vec<_> = frames.iter().collect();
    let alone: Vec<_> = frames.iter().flat_map(|f| model.look(&[f]).unwrap()).collect();
    assert!(alone.iter().map(|l| l.list.len()).sum::<usize>() >= 13);
    for size in [2, 5, 13] {
        let together: Vec<_> = frames.chunks(size).flat_map(|c| model.look(c).unwrap()).collect();
        assert_eq!(alone.len(), together.len());
        for (a, b) in alone.iter().zip(&together) {
            assert_eq!((&a.frame, a.list.len()), (&b.frame, b.list.len()));
            for (a, b) in a.list.iter().zip(&b.list) {
                assert_eq!(a.class, b.class);
                assert!((a.score.get() - b.score.get()).abs() <= 1e-4);
                let corners = a.bbox.to_array().into_iter().zip(b.bbox.to_array());
                assert!(corners.into_iter().all(|(a, b)| (a - b).abs() <= 1e-4), "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn a_failed_run_is_an_error_and_the_next_one_works() {
    let mut model = Model::open(&runtime(), Arc::new(moody())).unwrap();
    let error = model.look(&[&frame("a", 0, square([255; 3], 8, 8))]).unwrap_err();
    assert!(matches!(&error, LookError::Run(_)), "{error}");
    let looks =
        model.look(&[&frame("a", 1, square([240, 0, 0], 8, 8)), &frame("a", 2, square([20; 3], 8, 8))]);
    let looks = looks.unwrap();
    assert_eq!(looks.len(), 2);
    assert_eq!(looks[0].list[0].class.as_str(), "red");
    assert_eq!(model.work().runs, 2);
}

#[test]
fn lying_cards_are_named_with_key_and_both_values() {
    type Lie = fn(&mut ModelCard);
    let lies: [(&str, Lie); 5] = [
        ("input.width: the card says 96, the file takes ?x3x64x64", |card| card.width = 96),
        ("input.height: the card says 32, the file takes ?x3x64x64", |card| card.height = 32),
        ("batch: the card says 8, the file takes any number of pictures", |card| card.batch = Some(8)),
        ("classes: the card says 1, the file gives 2", |card| card.classes.truncate(1)),
        ("classes: the card says 3, the file gives 2", |card| card.classes.push(ClassName::new("green"))),
    ];
    for (wanted, lie) in lies {
        let mut card = bright();
        lie(&mut card);
        let error = fails(card).to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(error.contains("card.yaml: ") && error.contains("bright.onnx"), "{error}");
    }
    let mut card = moody();
    card.batch = None;
    let error = fails(card).to_string();
    assert!(error.contains("batch: the card says any number of pictures, the file takes 1"), "{error}");
}

#[test]
fn another_file_than_the_cards_is_named_with_both_hashes() {
    let mut card = bright();
    card.sha256 = "0".repeat(64);
    let error = fails(card).to_string();
    assert!(error.contains("sha256") && error.contains(&"0".repeat(64)), "{error}");
    assert!(error.contains(&sha256(&bright().file)) && error.contains("bright.onnx"), "{error}");
}

/// Both ways in which half a file can come: with the whole file's hash, and with its own.
fn cut_in_half(mut card: ModelCard) {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(&card.file).unwrap();
    card.file = folder.path().join("model.onnx");
    std::fs::write(&card.file, &whole[..whole.len() / 2]).unwrap();
    let error = fails(card.clone());
    assert!(matches!(error, ModelError::Hash { .. }), "{error}");
    assert!(error.to_string().contains(&format!("({} bytes)", whole.len() / 2)), "{error}");

    card.sha256 = sha256(&card.file);
    let error = fails(card.clone());
    assert!(matches!(error, ModelError::Load { .. }), "{error}");
    assert!(error.to_string().contains("model.onnx"), "{error}");

    std::fs::write(&card.file, b"").unwrap();
    card.sha256 = sha256(&card.file);
    assert!(matches!(fails(card.clone()), ModelError::Load { .. } | ModelError::Disagree { .. }));

    std::fs::remove_file(&card.file).unwrap();
    let error = fails(card);
    assert!(matches!(error, ModelError::Read { .. }), "{error}");
}

#[test]
fn half_a_file_is_a_clear_error() {
    cut_in_half(bright());
}

#[test]
fn half_a_real_file_is_a_clear_error() {
    if let Some(card) = yolox_nano() {
        cut_in_half(card);
    }
}

#[derive(Debug)]
struct Golden {
    picture: PathBuf,
    list: Vec<Detection>,
}

fn golden(path: &Path, pictures: &Path) -> Golden {
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let [width, height] = [0, 1].map(|i| value["image_size"][i].as_f64().unwrap() as f32);
    let detection = |d: &serde_json::Value| {
        let at = |i: usize| d["box_xyxy"][i].as_f64().unwrap() as f32;
        Detection {
            class: ClassName::new(d["class"].as_str().unwrap()),
            score: flow::Score::new(d["score"].as_f64().unwrap() as f32).unwrap(),
            bbox: NormBox::clamped(at(0) / width, at(1) / height, at(2) / width, at(3) / height).unwrap(),
        }
    };
    Golden {
        picture: pictures.join(value["image"].as_str().unwrap()),
        list: value["detections"].as_array().unwrap().iter().map(detection).collect(),
    }
}

/// What the authors' own pre- and post-processing sees in three pictures, this crate sees, too: what they are sure of
/// with the same class, nearly the same score and box; and nothing more that is as sure.
///
/// The authors' input is the JPEG as RGB. Ours is I420, as from a camera: its chroma is halved once more and the
/// planes are rounded to 8 bits before and after scaling, which moves scores by about 0.01.
#[test]
fn detectors_see_what_their_authors_see() {
    let (Some(cards), Some(goldens)) = (detectors(), shared("models/golden")) else { return };
    let Some(pictures) = shared("images/coco/val") else { return };
    // FastestDet's file says 0.6, but its boxes are those of its authors' 0.45.
    // It has one box per 16 x 16 pixels: which of two neighbours is the better one changes with a hair, and boxes of
    // small things move most.
    let names = [
        ("yolox_nano_416", 0.65, 0.9, 0.45),
        ("picodet_s_416_coco", 0.6, 0.9, 0.45),
        ("FastestDet", 0.45, 0.8, 0.55),
    ];
    for (card, (name, nms_iou, least_iou, sure)) in cards.into_iter().zip(names) {
        // They were made with PIL's filter.
        let card =
            ModelCard { filter: Filter::Smooth, thresholds: Thresholds { score: 0.3, nms_iou }, ..card };
        let mut model = Model::open(&runtime(), Arc::new(card)).unwrap();
        for id in ["000000183709", "000000184324", "000000568290"] {
            let golden = golden(&goldens.join(format!("{name}__{id}.json")), &pictures);
            let looks = model.look(&[&frame("a", 0, open(&golden.picture))]).unwrap();
            let (difference, iou) =
                compare(&golden, &looks[0].list, (least_iou, sure), &format!("{name} {id}"));
            println!("{name} {id}: scores within {difference:.4}, boxes above IoU {iou:.3}");
        }
    }
}

/// The largest difference of a score and the least overlap of a box among what the authors are sure of.
fn compare(golden: &Golden, ours: &[Detection], (least_iou, sure): (f32, f32), name: &str) -> (f32, f32) {
    let mut worst = (0.0f32, 1.0f32);
    for theirs in golden.list.iter().filter(|d| d.score.get() >= sure) {
        let same = ours.iter().filter(|o| o.class == theirs.class);
        let best = same.max_by(|a, b| a.bbox.iou(&theirs.bbox).total_cmp(&b.bbox.iou(&theirs.bbox)));
        let best = best.unwrap_or_else(|| panic!("{name}: {theirs:?} is missing"));
        let (difference, iou) = ((best.score.get() - theirs.score.get()).abs(), best.bbox.iou(&theirs.bbox));
        assert!(difference <= 0.05 && iou >= least_iou, "{name}: {best:?} is not {theirs:?}");
        worst = (worst.0.max(difference), worst.1.min(iou));
    }
    for own in ours.iter().filter(|d| d.score.get() >= sure + 0.05) {
        let known = golden.list.iter().any(|g| g.class == own.class && g.bbox.iou(&own.bbox) >= least_iou);
        assert!(known, "{name}: {own:?} is not among the authors' detections");
    }
    worst
}
