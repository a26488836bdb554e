//! A new version of a model takes over while the stage works.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Also in the functions that the tests share.

mod common;

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use common::{bright, frame, runtime, sha256, square, testdata};
use fleet::ModelCard;
use flow::Look;
use infer::{Detector, ModelError, Options, SwapError};

const PATIENCE: Duration = Duration::from_secs(20);
const CAMERAS: u64 = 6;

/// The same model with another hash: ONNX allows a `doc_string` (field 6 of `ModelProto`) anywhere in the file.
fn next_version(dir: &Path) -> ModelCard {
    let mut content = std::fs::read(testdata("bright.onnx")).unwrap();
    content.extend([6 << 3 | 2, 4]);
    content.extend(b"next");
    write(dir, "next.onnx", &content)
}

fn write(dir: &Path, name: &str, content: &[u8]) -> ModelCard {
    let file = dir.join(name);
    std::fs::write(&file, content).unwrap();
    ModelCard {
        sha256: sha256(&file),
        card_path: dir.join("card.yaml"),
        file,
        version: "2".into(),
        ..bright()
    }
}

/// A detector whose cameras each offer their next picture when the one before was looked at.
struct Stage {
    detector: Detector,
    looks: mpsc::Receiver<Look>,
    offered: u64,
}

impl Stage {
    fn start() -> Self {
        // Each camera has one look on its way at most.
        let (send, looks) = mpsc::sync_channel(64);
        let options = Options { sessions: 2, threads: 1, max_batch: 4, max_delay: Duration::from_millis(1) };
        let output = move |look| send.send(look).unwrap();
        let detector = Detector::new(&runtime(), vec![bright()], options, |_| bright().id, output).unwrap();
        let mut stage = Self { detector, looks, offered: 0 };
        (0..CAMERAS).for_each(|camera| stage.offer(&format!("camera-{camera}"), 0));
        stage
    }

    fn offer(&mut self, camera: &str, sequence: u64) {
        self.offered += 1;
        self.detector.offer(frame(camera, sequence, square([255, 0, 0], 16, 16)));
    }

    /// The weights that were used in so many looks, each camera's in the order of its pictures.
    fn look(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let look = self.looks.recv_timeout(PATIENCE).unwrap();
                assert!(!look.detections.list.is_empty(), "it sees what is there");
                let id = &look.frame.id;
                self.offer(&id.camera.to_string(), id.sequence + 1);
                look.detections.weights.to_string()
            })
            .collect()
    }
}

#[test]
fn a_new_version_takes_over_under_load_without_a_lost_look() {
    let dir = tempfile::tempdir().unwrap();
    let (old, next) = (bright(), next_version(dir.path()));
    assert_ne!(old.sha256, next.sha256);
    let mut stage = Stage::start();
    assert!(stage.look(50).iter().all(|weights| *weights == old.sha256));
    // The swap goes on in one thread while looks come and go in the others.
    let mut during = Vec::new();
    std::thread::scope(|scope| {
        let (done, finished) = mpsc::sync_channel(1);
        let swapping = &stage.detector;
        scope.spawn(move || done.send(swapping.swap(next.clone()).map_err(|e| e.to_string())).unwrap());
        let looks = &stage.looks;
        let offer = |camera: &str, sequence| {
            stage.detector.offer(frame(camera, sequence, square([255, 0, 0], 16, 16)));
        };
        loop {
            let look = looks.recv_timeout(PATIENCE).unwrap();
            offer(look.frame.id.camera.as_str(), look.frame.id.sequence + 1);
            during.push(look.detections.weights.to_string());
            match finished.try_recv() {
                Ok(done) => return done.unwrap(),
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => panic!("the swap did not end"),
            }
        }
    });
    stage.offered += during.len() as u64;
    println!("{} looks while the new version was opened", during.len());
    let after = stage.look(100);
    let new = next_version(dir.path()).sha256;
    assert!(during.iter().chain(&after).all(|weights| *weights == old.sha256 || *weights == new));
    assert!(after[40..].iter().all(|weights| *weights == new), "both threads have changed over");

    // Everything that was offered was looked at, but for what each camera still has inside.
    stage.detector.shutdown();
    let flow = stage.detector.counters();
    let stopped = flow.dropped.iter().find(|(why, _)| *why == "stopped").unwrap().1;
    assert_eq!(flow.received, stage.offered);
    assert_eq!(flow.passed + stopped, flow.received, "{flow:?}");
    assert!(stopped <= CAMERAS);
}

#[test]
fn a_version_that_fails_its_check_is_refused_with_one_error_and_the_old_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let content = std::fs::read(testdata("bright.onnx")).unwrap();
    let mut stage = Stage::start();
    let old = bright().sha256;
    let third = |card: ModelCard| ModelCard {
        classes: [card.classes.clone(), vec![flow::ClassName::new("green")]].concat(),
        ..card
    };
    let broken = [
        (write(dir.path(), "cut.onnx", &content[..content.len() / 2]), "no model that ONNX Runtime can load"),
        (write(dir.path(), "text.onnx", b"this is no model"), "no model that ONNX Runtime can load"),
        (third(bright()), "classes: the card says 3"),
        (
            ModelCard { sha256: "0".repeat(64), ..bright() },
            "the file is incomplete, damaged or another version",
        ),
        (ModelCard { file: dir.path().join("gone.onnx"), ..bright() }, "cannot be read"),
    ];
    for (card, said) in broken {
        let error = stage.detector.swap(card).unwrap_err();
        assert!(
            matches!(
                error,
                SwapError::Model(
                    ModelError::Load { .. }
                        | ModelError::Disagree { .. }
                        | ModelError::Hash { .. }
                        | ModelError::Read { .. }
                )
            ),
            "{error}"
        );
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.to_string().contains('\n'), "one line: {error}");
        assert!(stage.look(20).iter().all(|weights| *weights == old));
    }
    let stranger = ModelCard { id: flow::ModelId::new("stranger").unwrap(), ..bright() };
    let error = stage.detector.swap(stranger).unwrap_err().to_string();
    assert_eq!(error, "no model stranger is in use here (in use: bright)");
    // After all that, a good one takes over.
    let next = next_version(dir.path());
    stage.detector.swap(next.clone()).unwrap();
    assert!(stage.look(60)[40..].iter().all(|weights| *weights == next.sha256));
}
