//! Broken models: one clear error each, and what runs goes on running.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Also in the functions that the tests share.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{bright, frame, runtime, sha256, square, testdata};
use fleet::ModelCard;
use flow::ClassName;
use infer::{Model, ModelError};

/// A card that vouches for this content.
fn vouched(dir: &Path, content: &[u8]) -> ModelCard {
    let file = dir.join("model.onnx");
    std::fs::write(&file, content).unwrap();
    ModelCard { sha256: sha256(&file), file, card_path: dir.join("card.yaml"), ..bright() }
}

#[test]
fn each_is_one_clear_error_and_what_runs_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(bright().file).unwrap();
    let read = |name: &str| std::fs::read(testdata("broken").join(name)).unwrap();
    let mut running = Model::open(&runtime(), Arc::new(bright())).unwrap();
    let mut still_sees = || {
        let looks = running.look(&[&frame("a", 1, square([255, 60, 60], 16, 32))]).unwrap();
        assert_eq!(looks[0].list[0].class.as_str(), "red");
    };

    type Lie = fn(&mut ModelCard);
    let (honest, three): (Lie, Lie) =
        (|_| (), |card| card.classes = ["a", "b", "c"].map(ClassName::new).into());
    let text = b"version https://git-lfs.github.com/spec/v1\n".to_vec();
    let cases: [(&str, Vec<u8>, Lie, &[&str]); 7] = [
        ("0 bytes", Vec::new(), honest, &["(0 bytes) is no model"]),
        ("truncated", good[..good.len() / 2].to_vec(), honest, &["bytes) is no model"]),
        ("a text file", text, honest, &["is no model"]),
        ("wrong opset", read("future.onnx"), honest, &["is no model", "opset"]),
        ("NaN", read("nan.onnx"), three, &["gives NaN for an empty picture"]),
        ("class count", good.clone(), three, &["classes: the card says 3, the file gives 2"]),
        ("another hash", good.clone(), |card| card.sha256 = "0".repeat(64), &["sha256: the card says 0000"]),
    ];
    for (name, content, lie, wanted) in cases {
        let mut card = vouched(dir.path(), &content);
        lie(&mut card);
        let error = Model::open(&runtime(), Arc::new(card)).expect_err(name);
        let text = error.to_string();
        assert!(wanted.iter().all(|part| text.contains(part)), "{name}: {text}");
        assert!(text.contains("model.onnx"), "{name} names its file: {text}");
        assert!(!text.contains("panicked") && text.lines().count() <= 2, "{name}: {text}");
        still_sees();
    }
}

#[test]
fn hostile_bytes_never_end_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(testdata("heads/detr.onnx")).unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let mut refused = 0;
    for _ in 0..60 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.usize(..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        match Model::open(&runtime(), Arc::new(vouched(dir.path(), &bytes))) {
            Ok(_) => panic!("its head is another one"),
            Err(ModelError::Load { .. } | ModelError::Disagree { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 60);
}
