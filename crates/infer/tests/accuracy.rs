//! COCO AP in this crate, and that of the models' authors (`models/parity`), on the same labelled pictures.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Also in the functions that the tests share.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{detectors, frame, runtime, shared};
use fleet::ModelCard;
use flow::Detection;
use infer::{Accuracy, Found, Instances, Model, Picture, accuracy};

/// AP may differ by so much: 0.3 points.
const TOLERANCE: f64 = 0.003;

fn found(card: &ModelCard, detection: &Detection, (width, height): (u32, u32)) -> Found {
    let [x0, y0, x1, y1] = detection.bbox.to_array().map(f64::from);
    let (w, h) = (f64::from(width), f64::from(height));
    Found {
        class: card.classes.iter().position(|class| *class == detection.class).unwrap(),
        score: detection.score.get().into(),
        bbox: [x0 * w, y0 * h, (x1 - x0) * w, (y1 - y0) * h],
    }
}

fn measure(card: ModelCard, instances: &Instances, folder: &Path) -> Accuracy {
    let mut model = Model::open(&runtime(), Arc::new(card.clone())).unwrap();
    let classes: Vec<_> = card.classes.iter().map(flow::ClassName::as_str).collect();
    let mut pictures: Vec<Picture> = Vec::new();
    for (id, file, picture) in instances.pictures(&classes) {
        let image = image::open(folder.join(file)).unwrap().to_rgb8();
        let (width, height) = image.dimensions();
        for mirrored in [false, true] {
            let column = |x: u32| if mirrored { width - 1 - x } else { x };
            let pixels = common::picture(width, height, |x, y| image.get_pixel(column(x), y).0);
            let looks = model.look(&[&frame("a", id, pixels)]).unwrap();
            let mut picture = picture.clone();
            if mirrored {
                picture.things.iter_mut().for_each(|t| t.bbox[0] = f64::from(width) - t.bbox[0] - t.bbox[2]);
            }
            picture.found = looks[0].list.iter().map(|d| found(&card, d, (width, height))).collect();
            pictures.push(picture);
        }
    }
    assert_eq!(model.work().broken_boxes, 0);
    accuracy(&pictures, classes.len())
}

#[test]
fn every_detector_is_as_accurate_as_with_its_authors_own_steps() {
    let (Some(cards), Some(folder)) = (detectors(), shared("images/coco/val")) else { return };
    let instances = std::fs::read(folder.with_file_name("instances.json")).unwrap();
    let instances: Instances = serde_json::from_slice(&instances).unwrap();
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/parity/reference.json");
    let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(reference).unwrap()).unwrap();
    println!(
        "{:12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "AP", "authors", "AP50", "authors", "AP75", "authors"
    );
    let mut wrong = Vec::new();
    for card in cards {
        let (id, file) = (card.id.clone(), card.file.file_name().unwrap().to_str().unwrap().to_owned());
        let ours = measure(card, &instances, &folder);
        let theirs = |name: &str| reference[&file]["video"][name].as_f64().unwrap();
        let [ap, ap50, ap75] = [ours.ap, ours.ap50, ours.ap75].map(Option::unwrap);
        println!(
            "{id:12} {ap:8.4} {:8.4} {ap50:8.4} {:8.4} {ap75:8.4} {:8.4}",
            theirs("AP"),
            theirs("AP50"),
            theirs("AP75")
        );
        if (ap - theirs("AP")).abs() > TOLERANCE {
            wrong.push(format!("{id}: AP {ap:.4}, its authors' {:.4}", theirs("AP")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
