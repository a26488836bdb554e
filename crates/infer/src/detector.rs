//! The stage: frames of all cameras in, looks out, through a fixed number of threads.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fleet::{ModelCard, Priority, Tiles};
use flow::{CameraId, Detections, Flow, Frame, Look, ModelId};

use crate::calibrate::{self, Sizing, Wish};
use crate::numbers::{Tally, Throttle};
use crate::queue::{Decision, Queue, Taken};
use crate::swap::Versions;
use crate::{LookError, Model, ModelError, Numbers, Runtime, SwapError, TilesOf, Work};

/// How the stage is sized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Owner threads. Each has one session of every model and runs one batch at a time. 0: found out by measuring.
    pub sessions: usize,
    /// Threads that work on one run. 0: found out by measuring.
    pub threads: usize,
    /// Pictures per batch at most, for models that take any number. 0 counts as 1.
    pub max_batch: usize,
    /// How long the oldest picture of a batch waits at most for others.
    pub max_delay: Duration,
}

/// Which model looks at a camera, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The model.
    pub model: ModelId,
    /// Who is left out first when more comes than can be looked at.
    pub priority: Priority,
    /// How its pictures are cut; `None`: not at all.
    pub tiles: Option<Arc<Tiles>>,
}

impl From<ModelId> for Route {
    fn from(model: ModelId) -> Self {
        Self { model, priority: Priority::default(), tiles: None }
    }
}

/// What looks at batches of pictures: a [`Model`], or what stands for one in a test or a bench.
pub trait Runner: Send {
    /// Looks at the pictures and says for each, in their order, what it saw. An error means that none of them was
    /// looked at.
    fn look(&mut self, frames: &[&Frame]) -> Result<Vec<Detections>, LookError>;

    /// Its work since the last call.
    fn take_work(&mut self) -> Work;
}

impl Runner for Model {
    fn look(&mut self, frames: &[&Frame]) -> Result<Vec<Detections>, LookError> {
        Self::look(self, frames)
    }

    fn take_work(&mut self) -> Work {
        Self::take_work(self)
    }
}

/// Looks at frames of many cameras with the model of each.
///
/// [`offer`](Self::offer) never blocks: each camera has one slot, and a newer frame replaces the one that waits.
/// A thread takes a batch when it is full or when its oldest frame has waited for `max_delay`, the cameras that wait
/// longest first. When more comes than can be looked at, cameras of low [`Priority`] are passed by the others, but
/// none for longer than [`PATIENCE`](crate::PATIENCE) per step and one turn of all cameras. Every frame taken becomes a look, also where nothing was seen; looks of a camera come out in the
/// order of its frames.
pub struct Detector {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    versions: Option<Versions>,
}

struct Shared {
    models: Vec<ModelId>,
    route: Box<dyn Fn(&CameraId) -> Route + Send + Sync>,
    output: Box<dyn Fn(Look) + Send + Sync>,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    queue: Queue<Frame>,
    tally: Tally,
    no_model: Throttle,
    stopping: bool,
}

impl fmt::Debug for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detector").field("models", &self.shared.models).finish_non_exhaustive()
    }
}

impl Detector {
    /// Opens and warms up every model for every thread, then starts the threads.
    ///
    /// `route` says which model looks at a camera and, as a [`Route`], how much that matters. `output` gets the
    /// looks, on the stage's threads: while it blocks, its thread looks at nothing and newer frames replace those
    /// that wait.
    pub fn new<R: Into<Route>>(
        runtime: &Runtime,
        models: Vec<ModelCard>,
        options: Options,
        route: impl Fn(&CameraId) -> R + Send + Sync + 'static,
        output: impl Fn(Look) + Send + Sync + 'static,
    ) -> Result<Self, ModelError> {
        let cards: Vec<_> = models.into_iter().map(Arc::new).collect();
        let Options { sessions, threads, max_batch, max_delay } = options;
        let sizing = calibrate::size(runtime, &cards, Wish { sessions, threads, max_batch })?;
        tracing::info!("inference: {sizing}");
        let route: Arc<dyn Fn(&CameraId) -> Route + Send + Sync> =
            Arc::new(move |camera| route(camera).into());
        let tiles: TilesOf = {
            let route = route.clone();
            Arc::new(move |camera| route(camera).tiles)
        };
        let mut versions = Versions::new(runtime.clone(), sizing, max_batch, tiles);
        let crews = versions.crews(&cards)?;
        let full = |card: &Arc<ModelCard>| (card.id.clone(), card.batch.unwrap_or(max_batch));
        let models = cards.iter().map(full).collect();
        let mut detector = Self::with_runners(models, crews, max_delay, move |camera| route(camera), output)?;
        detector.versions = Some(versions);
        Ok(detector)
    }

    /// With runners of the caller's making. `models` holds each model's id and how many pictures go into a batch;
    /// `crews` one runner of each model, in their order, for every thread.
    pub fn with_runners<R: Into<Route>>(
        models: Vec<(ModelId, usize)>,
        crews: Vec<Vec<Box<dyn Runner>>>,
        max_delay: Duration,
        route: impl Fn(&CameraId) -> R + Send + Sync + 'static,
        output: impl Fn(Look) + Send + Sync + 'static,
    ) -> Result<Self, ModelError> {
        let tally = Tally { work: vec![Default::default(); models.len()], ..Tally::default() };
        let queue = Queue::new(models.iter().map(|(_, full)| (*full).max(1)).collect(), max_delay);
        let shared = Arc::new(Shared {
            models: models.into_iter().map(|(id, _)| id).collect(),
            route: Box::new(move |camera| route(camera).into()),
            output: Box::new(output),
            state: Mutex::new(State { queue, tally, no_model: Throttle::default(), stopping: false }),
            wake: Condvar::new(),
        });
        // Made before the threads, so that those already started end if a later one cannot be.
        let detector = Self { shared: shared.clone(), threads: Mutex::default(), versions: None };
        for (i, crew) in crews.into_iter().enumerate() {
            let shared = shared.clone();
            let thread = thread::Builder::new().name(format!("infer-{i}"));
            let handle = thread.spawn(move || run(&shared, crew)).map_err(ModelError::Thread)?;
            detector.threads().push(handle);
        }
        Ok(detector)
    }

    /// How it was sized, and what was measured for that; `None` with runners of the caller's making.
    pub fn sizing(&self) -> Option<&Sizing> {
        self.versions.as_ref().map(|versions| &versions.sizing)
    }

    /// Lets a new version of a model take over: no look is lost, and the old one looks until the new one is ready. Takes as
    /// long as opening the model for every thread; the looks say from when on it was the new one (`weights`). Pictures
    /// per batch stay what they were at the start; a version that takes fewer at once makes several runs of a batch.
    ///
    /// # Errors
    /// Where no camera uses a model of this id, or where the card and the file disagree, or the first run fails: then the
    /// old version goes on.
    pub fn swap(&self, card: ModelCard) -> Result<(), SwapError> {
        match &self.versions {
            Some(versions) => versions.swap(card),
            None => Err(SwapError::NotInUse { model: card.id, in_use: Vec::new() }),
        }
    }

    /// Puts a frame into its camera's slot. Never blocks.
    pub fn offer(&self, frame: Frame) {
        let route = (self.shared.route)(&frame.id.camera);
        let model = self.shared.models.iter().position(|m| *m == route.model);
        // The superseded frame is freed after the lock is.
        let _superseded = self.shared.lock().offer(&self.shared.wake, frame, &route, model);
    }

    /// What came in, went out and was dropped: `superseded` by a newer frame, `failed` in the run, `no_model` for the
    /// camera, `stopped` while waiting.
    pub fn counters(&self) -> Flow {
        self.shared.lock().tally.flow()
    }

    /// Batch sizes, waiting times and the models' work.
    pub fn numbers(&self) -> Numbers {
        let state = self.shared.lock();
        Numbers::new(&state.tally, &self.shared.models, state.queue.waiting())
    }

    /// Ends the threads: batches that run are finished and passed on, frames that wait are dropped (`stopped`), as is
    /// what is offered afterwards. Does nothing the second time. Not to be called from `output`.
    pub fn shutdown(&self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            state.tally.stopped += state.queue.clear() as u64;
        }
        self.shared.wake.notify_all();
        for thread in self.threads().drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(thread = name, "an inference thread had panicked");
            }
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl State {
    fn offer(&mut self, wake: &Condvar, frame: Frame, route: &Route, model: Option<usize>) -> Option<Frame> {
        let now = Instant::now();
        let camera = frame.id.camera.clone();
        self.tally.received += 1;
        if self.stopping {
            self.tally.stopped += 1;
            return Some(frame);
        }
        let Some(model) = model else {
            self.tally.no_model += 1;
            if let Some(held_back) = self.no_model.pass(now) {
                tracing::warn!(%camera, model = %route.model, held_back, "the camera's model is not loaded");
            }
            return Some(frame);
        };
        let superseded = self.queue.offer(&camera, (model, route.priority), frame, now);
        self.tally.superseded[route.priority as usize] += u64::from(superseded.is_some());
        // In between, a thread is already waiting for the moment when the first of the line is due.
        let line = self.queue.line(model);
        if line.ready == 1 || line.ready >= line.full {
            wake.notify_one();
        }
        superseded
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in the locked sections leaves the state half changed, so a panic elsewhere is no reason to stop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next batch, puts it into `batch` and says of which model it is; `None` when the stage stops.
    fn next_batch(&self, batch: &mut Vec<Taken<Frame>>) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            let now = Instant::now();
            match state.queue.decide(now) {
                Decision::Take(model) => {
                    state.queue.take(model, now, batch);
                    state.tally.batch(batch.iter().map(|taken| (taken.priority, taken.waited)));
                    if state.queue.has_ready() {
                        // While this thread works, another one has to watch the rest.
                        self.wake.notify_one();
                    }
                    return Some(model);
                }
                Decision::WaitUntil(due) => {
                    let wait = self.wake.wait_timeout(state, due.saturating_duration_since(now));
                    state = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
                Decision::Wait => {
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// The life of one thread. What it takes per batch is kept from batch to batch.
fn run(shared: &Shared, mut crew: Vec<Box<dyn Runner>>) {
    let mut log = Throttle::default();
    let (mut batch, mut cameras) = (Vec::new(), Vec::new());
    while let Some(index) = shared.next_batch(&mut batch) {
        let runner = &mut crew[index];
        let frames: Vec<_> = batch.iter().map(|taken| &taken.item).collect();
        let outcome = runner.look(&frames);
        let work = runner.take_work();
        cameras.extend(batch.iter().map(|taken| taken.camera.clone()));
        report(&mut log, &shared.models[index], &cameras, outcome.as_ref().err(), work.broken_boxes);
        let looks = outcome.unwrap_or_default();
        let passed = looks.len() as u64;
        for (detections, taken) in looks.into_iter().zip(batch.drain(..)) {
            (shared.output)(Look { detections, frame: taken.item });
        }
        batch.clear();
        let mut state = shared.lock();
        state.tally.passed += passed;
        state.tally.failed += cameras.len() as u64 - passed;
        state.tally.work[index] += work;
        cameras.drain(..).for_each(|camera| state.queue.done(&camera));
    }
}

/// What went wrong in a batch, in at most one line a second.
fn report(
    log: &mut Throttle,
    model: &ModelId,
    cameras: &[CameraId],
    error: Option<&LookError>,
    broken_boxes: u64,
) {
    if error.is_none() && broken_boxes == 0 {
        return;
    }
    let Some(held_back) = log.pass(Instant::now()) else { return };
    match error {
        Some(error) => tracing::warn!(%model, ?cameras, held_back, %error, "pictures were not looked at"),
        None => tracing::warn!(%model, ?cameras, held_back, broken_boxes, "the model gave NaN or no scores"),
    }
}
