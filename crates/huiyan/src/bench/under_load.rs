//! `bench infer`, second part: the stage under load. How long a picture takes from the decoder to its look when a share
//! of what the machine can take is offered; and, with a model that only takes a millisecond, what a thousand cameras
//! wait for their batch and who loses when twice as much comes as can be looked at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet::{ModelCard, Priority};
use flow::{Basis, CameraId, Detections, Frame, Look, ModelId};
use infer::{Detector, LookError, Route, Runner, Runtime, Work};

use super::material::{as_camera, camera_id};
use super::report::Figure;
use super::step;

/// Cameras that offer pictures to the real model.
const CAMERAS: usize = 200;
/// Shares of what the machine takes, in percent.
const LOADS: [u32; 4] = [25, 50, 75, 90];
/// For how long the stage is offered more than it can take, to find out how much that is.
const SATURATE: Duration = Duration::from_secs(2);
/// For how long a share of that is offered.
const OFFER: Duration = Duration::from_secs(4);
/// Cameras of the batcher's bench, one look per this.
const MANY: usize = 1000;
const PERIOD: Duration = Duration::from_secs(2);
/// How the batcher is set up there.
const FULL: usize = 16;
const MAX_DELAY: Duration = Duration::from_millis(50);
/// What a batch takes the model that is none.
const MILLISECOND: Duration = Duration::from_millis(1);
/// For how long its cameras go on; and when they are too many, which takes longer to settle.
const MANY_FOR: Duration = Duration::from_secs(6);
const OVERLOAD_FOR: Duration = Duration::from_secs(16);

/// How long pictures take from the offer to the look, by load; the cameras keep their pace at random phases.
pub fn latencies(
    runtime: &Runtime,
    card: &ModelCard,
    node: &fleet::Node,
    frames: &[Frame],
) -> anyhow::Result<Vec<Figure>> {
    let took: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let out = took.clone();
    let output = move |look: Look| {
        let since = flow::Timestamp::now().duration_since(look.detections.captured);
        let took = Duration::try_from(since).unwrap_or_default();
        out.lock().unwrap_or_else(PoisonError::into_inner).push(took);
    };
    let options = infer::Options {
        sessions: node.infer_sessions,
        threads: node.infer_threads,
        max_batch: node.max_batch,
        max_delay: node.max_delay,
    };
    let id = card.id.clone();
    let detector = Detector::new(runtime, vec![card.clone()], options, move |_| id.clone(), output)?;
    if let Some(sizing) = detector.sizing() {
        step(&format!("infer: {sizing}"));
    }
    let cameras = (0..CAMERAS).map(camera_id).collect::<anyhow::Result<Vec<_>>>()?;
    let capacity = capacity(&detector, &cameras, frames)?;
    step(&format!("infer: this machine takes {capacity:.0} pictures/s now"));
    let mut figures = vec![Figure::plain("infer.capacity", capacity, "pictures / s of this machine")];
    let mut random = fastrand::Rng::with_seed(1);
    for load in LOADS {
        let every = Duration::from_secs_f64(CAMERAS as f64 / (capacity * f64::from(load) / 100.0));
        step(&format!("infer: {load} % of that from {CAMERAS} cameras, for {OFFER:?}"));
        took.lock().unwrap_or_else(PoisonError::into_inner).clear();
        offer(&detector, &cameras, frames, every, OFFER, &mut random)?;
        let mut all = std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner));
        all.sort();
        for (name, q) in [("p50", 50), ("p99", 99)] {
            let at = all.get((all.len() * q / 100).min(all.len().saturating_sub(1)));
            let ms = at.map_or(f64::NAN, |took| took.as_secs_f64() * 1e3);
            figures.push(Figure::plain(format!("infer.latency_{name}_ms.load{load}"), ms, "ms"));
        }
    }
    Ok(figures)
}

/// A thousand cameras at one look in two seconds, a model of one millisecond per batch.
pub fn many(frames: &[Frame]) -> anyhow::Result<Vec<Figure>> {
    step(&format!(
        "infer: {MANY} cameras, one look in {PERIOD:?}, a model that takes 1 ms, for {MANY_FOR:?}"
    ));
    let (detector, cameras) = fake(MILLISECOND, false)?;
    let mut random = fastrand::Rng::with_seed(2);
    offer(&detector, &cameras, frames, PERIOD, MANY_FOR, &mut random)?;
    let (numbers, flow) = (detector.numbers(), detector.counters());
    step(&format!(
        "infer: waits: median {:.0?}, longest {:.0?}; {} of {} looked at; batches as (size, times): {:?}",
        numbers.wait_p50, numbers.wait_max, flow.passed, flow.received, numbers.batches
    ));
    let bound = (MAX_DELAY + MILLISECOND).as_secs_f64() * 1e3;
    let p99 = numbers.wait_p99.as_secs_f64() * 1e3;
    let wait = Figure {
        name: "infer.batch_wait_p99_ms".to_owned(),
        value: p99,
        unit: "ms",
        floor: Some(bound),
        ratio: Some(bound / p99.max(1e-3)),
    };
    let share = flow.passed as f64 / (flow.received as f64).max(1.0);
    let mut figures = vec![wait, Figure::plain("infer.batch_looked_at", share, "of the frames offered")];
    figures.extend(overload(frames, &mut random)?);
    Ok(figures)
}

/// The same cameras, a quarter of high, a quarter of normal and half of low priority, with a model that takes half of
/// what comes.
fn overload(frames: &[Frame], random: &mut fastrand::Rng) -> anyhow::Result<Vec<Figure>> {
    let takes = PERIOD.mul_f64(2.0 * FULL as f64 / MANY as f64);
    step(&format!(
        "infer: the same with {takes:.0?} per batch of {FULL}, half of what is needed, for {OVERLOAD_FOR:?}"
    ));
    let (detector, cameras) = fake(takes, true)?;
    offer(&detector, &cameras, frames, PERIOD, OVERLOAD_FOR, random)?;
    let kept = detector.numbers().shares.into_iter().map(|(priority, taken, superseded)| {
        let name = format!("infer.kept_at_twice_the_load.{}", format!("{priority:?}").to_lowercase());
        Figure::plain(name, taken as f64 / ((taken + superseded) as f64).max(1.0), "of the frames offered")
    });
    Ok(kept.collect())
}

/// Offers pictures of the cameras in turn, each camera at its own pace and at a phase of its own, by chance, so that
/// they come in clumps as they do in a city. Returns when all have been dealt with.
fn offer(
    detector: &Detector,
    cameras: &[CameraId],
    frames: &[Frame],
    every: Duration,
    lasts: Duration,
    random: &mut fastrand::Rng,
) -> anyhow::Result<()> {
    let mut due = Vec::new();
    for camera in cameras {
        let mut at = every.mul_f64(random.f64());
        while at < lasts {
            due.push((at, camera));
            at += every;
        }
    }
    due.sort_by_key(|(at, _)| *at);
    let begun = Instant::now();
    for (sequence, (at, camera)) in due.iter().enumerate() {
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        detector.offer(as_camera(&frames[sequence % frames.len()], camera, sequence as u64)?);
    }
    settle(detector);
    Ok(())
}

fn settle(detector: &Detector) {
    let until = Instant::now() + Duration::from_secs(10);
    while detector.counters().inside() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pictures per second, by the clock, of a stage that always finds every camera's slot full.
fn capacity(detector: &Detector, cameras: &[CameraId], frames: &[Frame]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut sequence = 0;
    while begun.elapsed() < SATURATE {
        // No more than the slots hold: what is replaced costs this thread time that the stage could use.
        if detector.numbers().waiting < cameras.len() / 2 {
            for camera in cameras {
                detector.offer(as_camera(&frames[sequence as usize % frames.len()], camera, sequence)?);
                sequence += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let capacity = detector.counters().passed as f64 / begun.elapsed().as_secs_f64();
    settle(detector);
    Ok(capacity)
}

/// A stage with one thread and a model that is none.
fn fake(takes: Duration, priorities: bool) -> anyhow::Result<(Detector, Vec<CameraId>)> {
    let model = ModelId::new("none")?;
    let cameras = (0..MANY).map(camera_id).collect::<anyhow::Result<Vec<_>>>()?;
    let runner: Box<dyn Runner> = Box::new(Fake { model: model.clone(), takes, work: Work::default() });
    let route = move |camera: &CameraId| {
        let number = camera.as_str().rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0usize);
        let priority = match number % 4 {
            0 if priorities => Priority::High,
            1 | 3 if priorities => Priority::Low,
            _ => Priority::Normal,
        };
        Route { model: model.clone(), priority, tiles: None }
    };
    let models = vec![(ModelId::new("none")?, FULL)];
    Ok((Detector::with_runners(models, vec![vec![runner]], MAX_DELAY, route, drop)?, cameras))
}

/// Sees nothing, and takes its time for that.
struct Fake {
    model: ModelId,
    takes: Duration,
    work: Work,
}

impl Runner for Fake {
    fn look(&mut self, frames: &[&Frame]) -> Result<Vec<Detections>, LookError> {
        let begun = Instant::now();
        if self.takes > 5 * MILLISECOND {
            std::thread::sleep(self.takes);
        }
        while begun.elapsed() < self.takes {
            std::hint::spin_loop();
        }
        self.work += Work { pictures: frames.len() as u64, runs: 1, ..Work::default() };
        let nothing = |frame: &&Frame| Detections {
            frame: frame.id.clone(),
            captured: frame.captured,
            model: self.model.clone(),
            weights: "".into(),
            basis: Basis::Inferred,
            list: Vec::new(),
        };
        Ok(frames.iter().map(nothing).collect())
    }

    fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }
}
