//! The stage with its threads: newest wins, batches, order, failures, accounts.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Also in the functions that the tests share.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{bright, frame, moody, runtime, square};
use fleet::ModelCard;
use flow::{CameraId, Flow, Look, ModelId};
use infer::{Detector, Options};

const PATIENCE: Duration = Duration::from_secs(10);

/// Camera, sequence, and how much was seen.
type Arrived = (String, u64, usize);

/// Where looks arrive; it can be closed, and then holds up the thread that brings one.
#[derive(Default)]
struct Gate {
    state: Mutex<(Vec<Arrived>, bool)>,
    changed: Condvar,
}

impl Gate {
    fn receive(&self, look: &Look) {
        let mut state = self.state.lock().unwrap();
        let id = &look.frame.id;
        assert_eq!(look.detections.frame, *id);
        state.0.push((id.camera.to_string(), id.sequence, look.detections.list.len()));
        self.changed.notify_all();
        while state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn close(&self, closed: bool) {
        self.state.lock().unwrap().1 = closed;
        self.changed.notify_all();
    }

    fn wait_for(&self, looks: usize) -> Vec<Arrived> {
        let state = self.state.lock().unwrap();
        let (state, timeout) =
            self.changed.wait_timeout_while(state, PATIENCE, |s| s.0.len() < looks).unwrap();
        assert!(!timeout.timed_out(), "{} of {looks} looks came", state.0.len());
        state.0.clone()
    }
}

fn dropped(flow: &Flow, reason: &str) -> u64 {
    flow.dropped.iter().find(|(name, _)| *name == reason).unwrap().1
}

fn detector(gate: &Arc<Gate>, models: Vec<ModelCard>, options: Options) -> Detector {
    let gate = gate.clone();
    // Cameras are named after their model.
    let model_of = |camera: &CameraId| ModelId::new(camera.as_str().split('-').next().unwrap()).unwrap();
    Detector::new(&runtime(), models, options, model_of, move |look| gate.receive(&look)).unwrap()
}

fn options(sessions: usize, max_batch: usize, max_delay_ms: u64) -> Options {
    Options { sessions, threads: 1, max_batch, max_delay: Duration::from_millis(max_delay_ms) }
}

/// Waits until the account shows that nothing is inside.
fn settled(detector: &Detector) -> Flow {
    let start = Instant::now();
    loop {
        let flow = detector.counters();
        if flow.inside() == 0 {
            return flow;
        }
        assert!(start.elapsed() < PATIENCE, "{flow:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_newer_frame_replaces_the_one_that_waits() {
    let gate = Arc::new(Gate::default());
    let detector = detector(&gate, vec![bright()], options(1, 4, 0));
    gate.close(true);
    detector.offer(frame("bright-a", 0, square([255, 0, 0], 0, 0)));
    gate.wait_for(1);
    // The only thread is held up: of these, the last of each camera is looked at.
    for sequence in 1..=5 {
        detector.offer(frame("bright-a", sequence, square([20; 3], 0, 0)));
        detector.offer(frame("bright-b", sequence, square([20; 3], 0, 0)));
    }
    assert_eq!(detector.numbers().waiting, 2);
    gate.close(false);
    let looks = gate.wait_for(3);
    assert_eq!(looks[1..], [("bright-a".into(), 5, 0), ("bright-b".into(), 5, 0)]);
    let flow = settled(&detector);
    assert_eq!((flow.received, flow.passed, dropped(&flow, "superseded")), (11, 3, 8));
}

#[test]
fn a_full_batch_does_not_wait() {
    let gate = Arc::new(Gate::default());
    let detector = detector(&gate, vec![bright()], options(1, 4, 3_600_000));
    for i in 0..4 {
        detector.offer(frame(&format!("bright-{i}"), i, square([255, 0, 0], 0, 0)));
    }
    let looks = gate.wait_for(4);
    assert!(looks.iter().all(|(_, _, seen)| *seen > 0));
    settled(&detector);
    assert_eq!(detector.numbers().batches, [(4, 1)]);
}

#[test]
fn a_batch_that_does_not_fill_runs_after_its_delay() {
    let gate = Arc::new(Gate::default());
    let detector = detector(&gate, vec![bright()], options(2, 4, 80));
    let start = Instant::now();
    for i in 0..3 {
        detector.offer(frame(&format!("bright-{i}"), i, square([20; 3], 0, 0)));
    }
    gate.wait_for(3);
    assert!(start.elapsed() >= Duration::from_millis(80));
    settled(&detector);
    let numbers = detector.numbers();
    assert_eq!(numbers.batches, [(3, 1)]);
    assert!(numbers.wait_max >= Duration::from_millis(60), "{numbers:?}");
    assert!(numbers.wait_p99 <= numbers.wait_max);
}

#[test]
fn looks_of_a_camera_come_in_order_however_many_threads_look() {
    let gate = Arc::new(Gate::default());
    let detector = detector(&gate, vec![bright()], options(4, 2, 1));
    for sequence in 0..300 {
        for camera in 0..5 {
            detector.offer(frame(&format!("bright-{camera}"), sequence, square([20; 3], 0, 0)));
        }
    }
    let flow = settled(&detector);
    let mut last: HashMap<String, u64> = HashMap::new();
    for (camera, sequence, _) in gate.wait_for(flow.passed as usize) {
        let before = last.insert(camera.clone(), sequence);
        assert!(before.is_none_or(|b| b < sequence), "{camera}: {sequence} after {before:?}");
    }
    // The newest of each is never lost.
    assert!(last.len() == 5 && last.values().all(|sequence| *sequence == 299), "{last:?}");
    assert_eq!(flow.received, 1500);
}

#[test]
fn a_failed_run_loses_its_look_and_nothing_else() {
    let gate = Arc::new(Gate::default());
    let detector = detector(&gate, vec![bright(), moody()], options(1, 4, 1));
    let (fails, works) = ([255; 3], [240, 0, 0]);
    for sequence in 0..10 {
        let colour = if sequence % 2 == 0 { fails } else { works };
        detector.offer(frame(&format!("moody-{sequence}"), sequence, square(colour, 16, 16)));
        detector.offer(frame(&format!("bright-{sequence}"), sequence, square(fails, 16, 16)));
    }
    let flow = settled(&detector);
    assert_eq!((flow.received, flow.passed, dropped(&flow, "failed")), (20, 15, 5));
    let looks = gate.wait_for(15);
    assert!(looks.iter().all(|(camera, sequence, _)| camera.starts_with("bright") || sequence % 2 == 1));
    // The camera that failed gets its next look.
    detector.offer(frame("moody-0", 10, square(works, 16, 16)));
    gate.wait_for(16);
}

#[test]
fn a_camera_without_a_model_is_counted() {
    let gate = Arc::new(Gate::default());
    let detector = detector(&gate, vec![bright()], options(1, 1, 0));
    detector.offer(frame("unknown-1", 0, square([20; 3], 0, 0)));
    let flow = settled(&detector);
    assert_eq!((flow.received, flow.passed, dropped(&flow, "no_model")), (1, 0, 1));
}

#[test]
fn shutdown_finishes_what_runs_and_accounts_for_what_waits() {
    let gate = Arc::new(Gate::default());
    let detector = detector(&gate, vec![bright()], options(1, 1, 0));
    gate.close(true);
    for i in 0..4 {
        detector.offer(frame(&format!("bright-{i}"), i, square([20; 3], 0, 0)));
    }
    gate.wait_for(1);
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| detector.shutdown());
        while detector.numbers().waiting > 0 {
            std::thread::yield_now();
        }
        assert!(!ending.is_finished());
        gate.close(false);
    });
    detector.offer(frame("bright-0", 9, square([20; 3], 0, 0)));
    let flow = detector.counters();
    assert_eq!((flow.received, flow.passed, dropped(&flow, "stopped")), (5, 1, 4));
    assert_eq!(flow.inside(), 0);
    detector.shutdown();
    assert_eq!(gate.wait_for(1).len(), 1);
}

#[test]
fn a_lying_card_stops_the_start() {
    let mut card = bright();
    card.classes.clear();
    let made = Detector::new(
        &runtime(),
        vec![card],
        options(1, 1, 0),
        |c| ModelId::new(c.as_str()).unwrap(),
        |_| (),
    );
    assert!(made.unwrap_err().to_string().contains("classes: the card says 0, the file gives 2"));
}

#[test]
fn what_is_left_open_is_measured_and_said() {
    let gate = Arc::new(Gate::default());
    let detector = detector(&gate, vec![bright(), moody()], Options { threads: 0, ..options(0, 4, 0) });
    let sizing = detector.sizing().unwrap().clone();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!((1..=cores).contains(&(sizing.sessions * sizing.threads)), "{sizing}");
    // Only one of them takes any number of pictures.
    let per_run = sizing.run.iter().map(|(model, _)| model.as_str()).collect::<Vec<_>>();
    assert_eq!(per_run, ["bright"]);
    assert!(sizing.trials.iter().any(|trial| trial.run == 1 && trial.rate > 0.0));
    // And it works, also with batches that are larger than a run.
    for i in 0..9 {
        detector.offer(frame(&format!("bright-{i}"), 0, square([255, 0, 0], 0, 0)));
    }
    assert_eq!(gate.wait_for(9).len(), 9);
}
