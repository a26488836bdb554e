//! Second models: what they are shown, and what whoever asks gets where there is no answer.

#![allow(clippy::unwrap_used, reason = "part of tests, though outside of a #[test] function")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::Bytes;
use common::{bright, frame, moody, picture, runtime};
use fleet::ModelCard;
use flow::{Basis, ClassName, Detection, Detections, Frame, HostPicture, ModelId, NormBox, Plane, Score};
use infer::{Confirmer, LookError, Model, Opinion, Question, Runner, Unanswered, Work};

const LONG: Duration = Duration::from_secs(60);

fn place(x0: f32, y0: f32, x1: f32, y1: f32) -> NormBox {
    NormBox::new(x0, y0, x1, y1).unwrap()
}

/// The demo's own.
fn street_confirm() -> ModelCard {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/street-confirm");
    ModelCard::load(&dir).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Something with edges and colours, so that no crop is like another.
fn motley(x: u32, y: u32) -> [u8; 3] {
    let stripe = |a: u32, b: u32| ((a * 7 + b * 13) % 256) as u8;
    [stripe(x, y / 3), stripe(y, x / 5), ((x / 9 + y / 7) % 2 * 200 + 20) as u8]
}

/// This part of it, copied: what a model sees that is given nothing else.
fn copied(from: &HostPicture, [left, top, width, height]: [usize; 4]) -> HostPicture {
    let cut = |plane: &Plane, shift: usize| {
        let (w, h) = (width.div_ceil(1 << shift), height.div_ceil(1 << shift));
        let rows = (0..h)
            .flat_map(|y| plane.data[((top >> shift) + y) * plane.stride + (left >> shift)..][..w].to_vec());
        Plane { data: Bytes::from(rows.collect::<Vec<u8>>()), stride: w }
    };
    let [y, cb, cr] = from.planes();
    let planes = [cut(y, 0), cut(cb, 1), cut(cr, 1)];
    HostPicture::new(width as u32, height as u32, planes, from.matrix, from.full_range).unwrap()
}

#[test]
fn a_crop_is_what_the_model_sees_of_a_picture_that_is_no_larger() {
    let card = street_confirm();
    let id = card.id.clone();
    let confirmer = Confirmer::new(&runtime(), vec![card.clone()]).unwrap();
    let mut model = Model::open(&runtime(), Arc::new(card)).unwrap();
    let whole = || picture(640, 360, motley);
    let seen = frame("a", 0, whole());
    // Boxes and the parts that the model is shown: square, as the model is, inside the picture, even.
    let cases = [
        (place(0.25, 0.25, 0.35, 0.5), [147, 90, 90, 90]),
        (place(0.0, 0.0, 0.1, 0.1), [0, 0, 64, 64]),
        (place(0.9, 0.8, 1.0, 1.0), [568, 288, 72, 72]),
        (place(0.0, 0.0, 1.0, 1.0), [0, 0, 640, 360]),
    ];
    let questions: Vec<_> =
        cases.iter().map(|(place, _)| Question { frame: &seen, place: *place, model: &id }).collect();
    let answers = confirmer.ask(&questions, LONG);
    for ((place, [left, top, width, height]), answer) in cases.iter().zip(answers) {
        let part = [left & !1, *top, width + left % 2, *height];
        let alone = frame("a", 0, copied(&whole(), part));
        let wanted = model.look(&[&alone]).unwrap().remove(0).list.into_iter().next().unwrap();
        let (class, score) = answer.unwrap().best.unwrap();
        assert_eq!(class, wanted.class, "{place:?}");
        assert!((score.get() - wanted.score.get()).abs() < 1e-5, "{place:?}: {score:?}, {:?}", wanted.score);
    }
    let work = confirmer.work();
    assert_eq!((work[0].1.pictures, work[0].1.runs), (4, 1), "all crops went through the model at once");
}

/// A drawn stall: a cart, wares, a canopy on its pole, somebody beside it.
fn stall(x: u32, y: u32) -> [u8; 3] {
    let within =
        |columns: std::ops::Range<u32>, rows: std::ops::Range<u32>| columns.contains(&x) && rows.contains(&y);
    if within(351..363, 138..150) {
        [220, 180, 150]
    } else if within(350..364, 150..232) {
        [40, 60, 110]
    } else if within(263..267, 150..230) {
        [178, 178, 172]
    } else if (110..150).contains(&y) && x.abs_diff(265) < (y - 105) * 2 {
        if (x / 24).is_multiple_of(2) { [40, 80, 200] } else { [235, 232, 224] }
    } else if within(200..330, 170..190) {
        [[216, 40, 26], [240, 140, 26], [90, 165, 50]][((x / 8 + y / 8) % 3) as usize]
    } else if within(200..330, 190..230) {
        [150, 40, 36]
    } else {
        [120, 118, 112]
    }
}

/// What Python (ONNX Runtime, PIL's `BILINEAR` on the RGB picture, the cut of `models/street-confirm/train.py` with its
/// margin of 0.3) makes of four parts of the drawn stall's picture. Our way in halves the chroma and cuts at whole, even
/// pixels.
#[test]
fn answers_are_those_of_the_training_scripts_own_way_in() {
    let card = street_confirm();
    let id = card.id.clone();
    let confirmer = Confirmer::new(&runtime(), vec![card]).unwrap();
    let seen = frame("a", 0, picture(640, 360, stall));
    // Left, top, width, height in pixels; class; score.
    let cases = [
        ([195.0, 105.0, 175.0, 130.0], "vendor", 0.877),
        ([340.0, 130.0, 40.0, 110.0], "vendor", 0.943),
        ([480.0, 200.0, 80.0, 60.0], "nothing", 0.979),
        ([60.0, 60.0, 60.0, 120.0], "nothing", 0.979),
    ];
    for ([x, y, w, h], class, score) in cases {
        let (dx, dy) = (0.3 * w, 0.3 * h);
        let place =
            NormBox::clamped((x - dx) / 640.0, (y - dy) / 360.0, (x + w + dx) / 640.0, (y + h + dy) / 360.0);
        let question = Question { frame: &seen, place: place.unwrap(), model: &id };
        let (found, sure) = confirmer.ask(&[question], LONG).remove(0).unwrap().best.unwrap();
        assert_eq!(found.as_str(), class);
        assert!((sure.get() - score).abs() < 0.06, "{class}: {} instead of {score}", sure.get());
    }
}

#[test]
fn each_question_gets_its_own_models_answer_in_order() {
    let confirmer = Confirmer::new(&runtime(), vec![bright(), moody()]).unwrap();
    let (bright, moody) = (bright().id, moody().id);
    // Red on the left, blue on the right.
    let seen = frame("a", 0, picture(128, 64, |x, _| if x < 64 { [240, 0, 0] } else { [0, 0, 240] }));
    let (left, right) = (place(0.0, 0.0, 0.5, 1.0), place(0.5, 0.0, 1.0, 1.0));
    let ask = |place, model| Question { frame: &seen, place, model };
    let answers = confirmer.ask(&[ask(right, &bright), ask(left, &moody), ask(left, &bright)], LONG);
    let best = |answer: &Result<Opinion, Unanswered>| {
        answer.as_ref().unwrap().best.as_ref().map(|(class, _)| class.as_str().to_owned())
    };
    assert_eq!(answers.iter().map(best).collect::<Vec<_>>(), ["blue", "red", "red"].map(|c| Some(c.into())));
    // Nothing reaches the card's score: an opinion, too.
    let dark = frame("a", 1, picture(64, 64, |_, _| [0, 0, 0]));
    let whole = place(0.0, 0.0, 1.0, 1.0);
    let answers = confirmer.ask(&[Question { frame: &dark, place: whole, model: &bright }], LONG);
    assert_eq!(answers, [Ok(Opinion { best: None })]);
    let unknown = ModelId::new("unknown").unwrap();
    let answers = confirmer.ask(&[ask(left, &unknown), ask(left, &bright)], LONG);
    assert_eq!(answers[0], Err(Unanswered::NoModel(unknown)));
    assert!(answers[1].is_ok());
    let flow = confirmer.counters();
    assert_eq!((flow.received, flow.passed), (6, 5));
    assert_eq!(flow.dropped.iter().find(|(why, _)| *why == "no_model").unwrap().1, 1);
}

#[test]
fn a_run_that_fails_gives_no_answer_and_the_next_one_does() {
    let confirmer = Confirmer::new(&runtime(), vec![moody()]).unwrap();
    let id = moody().id;
    let whole = place(0.0, 0.0, 1.0, 1.0);
    let bad = frame("a", 0, picture(64, 64, |_, _| [255, 255, 255]));
    let good = frame("a", 1, picture(64, 64, |_, _| [240, 0, 0]));
    let ask = |frame| Question { frame, place: whole, model: &id };
    assert!(matches!(&confirmer.ask(&[ask(&bad)], LONG)[..], [Err(Unanswered::Failed(_))]));
    assert!(confirmer.ask(&[ask(&good)], LONG)[0].is_ok());
    let flow = confirmer.counters();
    assert_eq!((flow.received, flow.passed, flow.dropped[0]), (2, 1, ("failed", 1)));
}

#[test]
fn a_file_that_is_no_model_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.onnx");
    std::fs::write(&file, "no model").unwrap();
    let card = ModelCard { sha256: common::sha256(&file), file, ..street_confirm() };
    let error = Confirmer::new(&runtime(), vec![card]).unwrap_err().to_string();
    assert!(error.contains("model.onnx") && error.contains("no model that ONNX Runtime can load"), "{error}");
}

/// Answers when it is let.
struct Slow {
    let_go: Arc<Barrier>,
    held: Arc<AtomicBool>,
}

impl Runner for Slow {
    fn look(&mut self, frames: &[&Frame]) -> Result<Vec<Detections>, LookError> {
        if self.held.load(Ordering::Acquire) {
            self.let_go.wait();
        }
        let look = |frame: &&Frame| Detections {
            frame: frame.id.clone(),
            captured: frame.captured,
            model: ModelId::new("slow").unwrap(),
            weights: "".into(),
            basis: Basis::Inferred,
            list: vec![Detection {
                class: ClassName::new("yes"),
                score: Score::new(0.9).unwrap(),
                bbox: place(0.0, 0.0, 1.0, 1.0),
            }],
        };
        Ok(frames.iter().map(look).collect())
    }

    fn take_work(&mut self) -> Work {
        Work::default()
    }
}

#[test]
fn nobody_waits_longer_than_he_says_and_a_full_queue_refuses_at_once() {
    let (let_go, held) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(true)));
    let slow = Slow { let_go: let_go.clone(), held: held.clone() };
    let id = ModelId::new("slow").unwrap();
    let confirmer = Confirmer::with_runners(vec![(id.clone(), (8, 8), Box::new(slow))]).unwrap();
    let seen = frame("a", 0, picture(64, 64, |_, _| [9, 9, 9]));
    let question = Question { frame: &seen, place: place(0.2, 0.2, 0.8, 0.8), model: &id };
    let short = Duration::from_millis(20);
    // The first runs and does not end, the second waits, the third finds no room.
    assert_eq!(confirmer.ask(&[question], short), [Err(Unanswered::Late(short))]);
    assert_eq!(confirmer.ask(&[question], short), [Err(Unanswered::Late(short))]);
    assert_eq!(confirmer.ask(&[question], LONG), [Err(Unanswered::Busy)]);
    held.store(false, Ordering::Release);
    let_go.wait();
    // Those who left are answered into the void; who asks now gets his own answer.
    let answer = loop {
        match confirmer.ask(&[question], LONG).remove(0) {
            Err(Unanswered::Busy) => std::thread::yield_now(),
            answer => break answer,
        }
    };
    assert_eq!(answer.unwrap().best.unwrap().0.as_str(), "yes");
    let flow = confirmer.counters();
    let lost: u64 = flow.dropped.iter().map(|(_, n)| n).sum();
    assert_eq!(flow.received, flow.passed + lost);
    confirmer.shutdown();
    assert_eq!(confirmer.ask(&[question], LONG), [Err(Unanswered::Stopped)]);
}

#[test]
fn a_new_version_takes_over() {
    let confirmer = Confirmer::new(&runtime(), vec![bright()]).unwrap();
    let seen = frame("a", 0, picture(64, 64, |_, _| [240, 0, 0]));
    let id = bright().id;
    let ask = || {
        let question = Question { frame: &seen, place: place(0.0, 0.0, 1.0, 1.0), model: &id };
        confirmer.ask(&[question], LONG).remove(0).unwrap().best.unwrap().0
    };
    assert_eq!(ask().as_str(), "red");
    let classes = ["scarlet", "navy"].map(ClassName::new).to_vec();
    confirmer.swap(ModelCard { classes, ..bright() }).unwrap();
    assert_eq!(ask().as_str(), "scarlet");
    assert!(confirmer.swap(moody()).is_err(), "nobody asks this one");
    let broken = ModelCard { sha256: "0".repeat(64), ..bright() };
    assert!(confirmer.swap(broken).is_err());
    assert_eq!(ask().as_str(), "scarlet", "the old one goes on");
}
