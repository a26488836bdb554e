//! Every head on a model file with the inputs and outputs of its own exporter (`testdata/make_heads.py`).
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Also in the functions that the tests share.

mod common;

use std::sync::Arc;

use common::{bright, frame, picture, runtime, sha256, testdata};
use fleet::{Extra, Head, Layout, ModelCard, Output, Resize};
use flow::{ClassName, Detections, Frame};
use infer::Model;

/// The model of a file in `testdata/heads`, and what its card says beside the head.
fn card(file: &str) -> ModelCard {
    let head = match file {
        "yolov5_raw" => Head::Yolov5,
        "detr_final" => Head::Detr,
        "nanodet_m" => Head::Nanodet,
        "rtmdet_raw" => Head::Rtmdet,
        name => Head::all().find(|head| head.name() == name).unwrap(),
    };
    let path = testdata("heads").join(format!("{file}.onnx"));
    let mut card = ModelCard {
        sha256: sha256(&path),
        file: path,
        head,
        output: Output::of(head),
        resize: Resize::Stretch,
        classes: ["person", "cart", "bag"].map(ClassName::new).into(),
        ..bright()
    };
    match file {
        "nanodet_m" => (card.output.strides, card.output.centre) = (vec![8, 16, 32], 0.5),
        "detr_final" => card.extra = vec![("orig_target_sizes".into(), Extra::WidthHeight)],
        "ssd" => card.layout = Layout::Nhwc,
        _ => {}
    }
    card
}

const FILES: [&str; 15] = [
    "yolox",
    "yolov5",
    "yolov5_raw",
    "yolov8",
    "end2end",
    "detr",
    "detr_final",
    "nanodet",
    "nanodet_m",
    "picodet",
    "rtmdet",
    "rtmdet_raw",
    "ssd",
    "fastestdet",
    "classifier",
];

fn grey(sequence: u64) -> Frame {
    frame("a", sequence, picture(64, 64, |_, _| [90; 3]))
}

/// What each of the models sees: a cart in the left upper part of the middle.
fn sees_the_cart(file: &str, look: &Detections) {
    let [only] = &look.list[..] else { panic!("{file}: {:?}", look.list) };
    let wanted = if file == "classifier" { [0.0, 0.0, 1.0, 1.0] } else { [0.25, 0.125, 0.75, 0.375] };
    let same = only.bbox.to_array().into_iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-3);
    assert!(only.class.as_str() == "cart" && same, "{file}: {only:?}");
    assert!((only.score.get() - 0.8).abs() < 1e-3, "{file}: {only:?}");
}

#[test]
fn every_head_reads_its_exporters_layout() {
    for file in FILES {
        let mut model =
            Model::open(&runtime(), Arc::new(card(file))).unwrap_or_else(|e| panic!("{file}: {e}"));
        sees_the_cart(file, &model.look(&[&grey(0)]).unwrap()[0]);
        assert_eq!(model.work().broken_boxes, 0, "{file}");
    }
}

#[test]
fn every_head_reads_each_picture_of_a_batch() {
    for file in FILES {
        let mut model = Model::open(&runtime(), Arc::new(card(file))).unwrap();
        let frames = [grey(0), grey(1), grey(2)];
        let looks = model.look(&frames.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(looks.len(), 3);
        for (look, sequence) in looks.iter().zip(0..) {
            assert_eq!(look.frame.sequence, sequence);
            sees_the_cart(file, look);
        }
    }
}

#[test]
fn nan_in_one_picture_is_counted_and_harms_no_other() {
    for file in FILES {
        let mut model = Model::open(&runtime(), Arc::new(card(file))).unwrap();
        // A first sample above 250 makes the model give NaN.
        let white = frame("b", 1, picture(64, 64, |_, _| [255; 3]));
        let looks = model.look(&[&grey(0), &white, &grey(2)]).unwrap();
        sees_the_cart(file, &looks[0]);
        assert_eq!(looks[1].list, [], "{file}");
        sees_the_cart(file, &looks[2]);
        assert!(model.work().broken_boxes > 0, "{file}");
    }
}

#[test]
fn a_proposed_card_fits_its_file() {
    for file in FILES {
        let path = testdata("heads").join(format!("{file}.onnx"));
        let described = infer::describe(&runtime(), &path).unwrap();
        let proposal = infer::propose(&described, &path).unwrap_or_else(|| panic!("{file}: {described:?}"));
        let told = card(file);
        assert_eq!(proposal.card.head, told.head, "{file}: {:?}", proposal.also);
        assert_eq!(
            (proposal.card.extra.len(), proposal.card.layout),
            (told.extra.len(), told.layout),
            "{file}"
        );
        if proposal.count_known {
            assert_eq!(proposal.card.classes.len(), 3, "{file}");
        }
        assert_eq!(proposal.names_known, matches!(file, "yolov5" | "yolov8"), "{file}");
        // As its reader would complete it.
        let card = ModelCard { sha256: told.sha256, classes: told.classes, ..proposal.card };
        let mut model = Model::open(&runtime(), Arc::new(card)).unwrap_or_else(|e| panic!("{file}: {e}"));
        sees_the_cart(file, &model.look(&[&grey(0)]).unwrap()[0]);
    }
}

#[test]
fn another_heads_file_is_refused_with_what_it_gives() {
    for (head, file, wanted) in [
        (Head::Yolox, "yolov8", "the card says yolox, 84 boxes at 64x64, the file gives 7 (?x7x84)"),
        (Head::Yolov8, "yolox", "the card says 3, the file gives 80 (output ?x84x8, 4 + classes)"),
        (
            Head::Detr,
            "ssd",
            "the card says detr, with 3 outputs (labels, boxes, scores), the file has 4 outputs",
        ),
        (Head::Fastestdet, "classifier", "batch x (5 + classes) x 4 x 4, the file gives ?x3"),
    ] {
        let card = ModelCard { head, output: Output::of(head), ..card(file) };
        let error = Model::open(&runtime(), Arc::new(card)).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("card.yaml"), "{file}: {error}");
    }
}
