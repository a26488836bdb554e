//! Models that were exported for one picture, made to take any number: the same results, in batches of any size.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Also in the functions that the tests share.

mod common;

use std::sync::Arc;

use common::{bright, detectors, frame, moody, open, runtime, sha256, shared, testdata};
use fleet::{ModelCard, Thresholds};
use flow::{Detections, Frame};
use infer::{Model, RebatchError, rebatch};

/// The same model with a file that takes any number of pictures.
fn any_number(card: &ModelCard, dir: &std::path::Path) -> ModelCard {
    let made = rebatch(&runtime(), &std::fs::read(&card.file).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", card.id));
    let file = dir.join(format!("{}.onnx", card.id));
    std::fs::write(&file, made).unwrap();
    ModelCard { sha256: sha256(&file), file, batch: None, ..card.clone() }
}

fn same(alone: &[Detections], together: &[Detections], name: &str) {
    assert_eq!(alone.len(), together.len());
    for (a, b) in alone.iter().zip(together) {
        assert_eq!((&a.frame, a.list.len()), (&b.frame, b.list.len()), "{name}");
        for (a, b) in a.list.iter().zip(&b.list) {
            let corners = a.bbox.to_array().into_iter().zip(b.bbox.to_array());
            let near = corners.into_iter().all(|(a, b)| (a - b).abs() <= 1e-4);
            assert!(
                a.class == b.class && near && (a.score.get() - b.score.get()).abs() <= 1e-4,
                "{name}: {a:?} {b:?}"
            );
        }
    }
}

#[test]
fn detectors_for_one_picture_take_any_number_and_see_the_same() {
    let (Some(cards), Some(folder)) = (detectors(), shared("images/coco/val")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let frames: Vec<Frame> = files[..7].iter().zip(0..).map(|(path, i)| frame("a", i, open(path))).collect();
    let frames: Vec<_> = frames.iter().collect();
    for card in cards {
        let card = ModelCard { thresholds: Thresholds { score: 0.3, ..card.thresholds }, ..card };
        let mut one = Model::open(&runtime(), Arc::new(card.clone())).unwrap();
        let alone = one.look(&frames).unwrap();
        assert!(alone.iter().map(|look| look.list.len()).sum::<usize>() > 10, "{}", card.id);
        let mut many = Model::open(&runtime(), Arc::new(any_number(&card, dir.path()))).unwrap();
        for size in [1, 3, 7] {
            let together: Vec<_> = frames.chunks(size).flat_map(|some| many.look(some).unwrap()).collect();
            same(&alone, &together, &format!("{} by {size}", card.id));
        }
        assert_eq!(many.work().runs, 7 + 3 + 1);
    }
}

#[test]
fn what_cannot_be_rewritten_says_why() {
    let read = |card: ModelCard| std::fs::read(card.file).unwrap();
    // Any number already.
    assert!(matches!(rebatch(&runtime(), &read(bright())), Err(RebatchError::NotOne(_))));
    // It fails where any of its pictures is bright, so its pictures depend on each other.
    let error = rebatch(&runtime(), &read(moody())).unwrap_err();
    assert!(matches!(error, RebatchError::Differs(_)), "{error}");
    let broken = std::fs::read(testdata("broken/future.onnx")).unwrap();
    assert!(matches!(rebatch(&runtime(), &broken), Err(RebatchError::Run(_))));
}
