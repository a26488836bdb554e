//! How many sessions, of how many threads, and how many pictures per run are fastest on this machine.
//!
//! Measured at every start, for a second or less, and not kept on disk: what was measured in a busy moment is gone
//! with the next start. Where the machine is shared, say `infer_sessions` and `infer_threads` yourself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fleet::ModelCard;
use flow::ModelId;

use crate::{Model, ModelError, Runtime};

/// No further way is tried after this; the one that runs is finished.
const BUDGET: Duration = Duration::from_millis(900);
/// How long each way is measured, or for two runs.
const TRIAL: Duration = Duration::from_millis(120);
/// More pictures per run must be better by this: they take more memory, and the first waits for the last.
const WORTH: f64 = 1.05;
/// More threads per session must be better by this: they save sessions, but take more processor time for the same.
const WORTH_A_THREAD: f64 = 1.15;
/// Pictures per run that are tried.
const RUNS: [usize; 4] = [1, 2, 4, 8];

/// How the stage is sized.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Sizing {
    /// Sessions of each model; each has an owner thread.
    pub sessions: usize,
    /// Threads per session.
    pub threads: usize,
    /// Pictures per run, for models that take any number; of a batch that is larger, several runs are made.
    pub run: Vec<(ModelId, usize)>,
    /// What was measured for it; empty where nothing had to be.
    pub trials: Vec<Trial>,
}

/// One way, measured.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Trial {
    /// Whose.
    pub model: ModelId,
    /// Sessions that ran at once.
    pub sessions: usize,
    /// Threads of each.
    pub threads: usize,
    /// Pictures per run.
    pub run: usize,
    /// Pictures per second by the clock: of all sessions together, or in the shortest run of a single one.
    pub rate: f64,
}

impl fmt::Display for Sizing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sessions x {} threads", self.sessions, self.threads)?;
        self.run.iter().try_for_each(|(model, run)| write!(f, ", {model}: {run} pictures per run"))?;
        if !self.trials.is_empty() {
            f.write_str(" (measured: ")?;
            for (i, t) in self.trials.iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                write!(f, "{comma}{} {} x {} x {}: {:.0}/s", t.model, t.sessions, t.threads, t.run, t.rate)?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// What was asked for; 0 where it is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub sessions: usize,
    pub threads: usize,
    pub max_batch: usize,
}

/// Fills in what the wish leaves open; nothing is measured where it leaves nothing open, and a run then takes the
/// whole batch. Sessions and threads are measured with the model that takes longest.
pub(crate) fn size(runtime: &Runtime, cards: &[Arc<ModelCard>], wish: Wish) -> Result<Sizing, ModelError> {
    if wish.sessions > 0 && wish.threads > 0 {
        return Ok(Sizing { sessions: wish.sessions, threads: wish.threads, run: vec![], trials: vec![] });
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let mut trials = Vec::new();
    let mut run = Vec::new();
    let mut slowest: Option<(Duration, &Arc<ModelCard>)> = None;
    for card in cards {
        let mut model = Model::open_with(runtime, card.clone(), wish.threads.max(1))?;
        let first = timed(&mut model)?;
        if slowest.is_none_or(|(longest, _)| first > longest) {
            slowest = Some((first, card));
        }
        if card.batch.is_none() {
            run.push((card.id.clone(), pictures_per_run(&mut model, wish, begun, &mut trials)?));
        }
    }
    let (sessions, threads) = match (wish.sessions, wish.threads, slowest) {
        (0, 0, Some((_, card))) if cores > 1 => {
            let pictures = run.iter().find(|(id, _)| *id == card.id).map_or(1, |(_, run)| *run);
            sessions_by_threads(runtime, card, (cores, pictures), begun, &mut trials)?
        }
        (0, threads, _) => ((cores / threads.max(1)).max(1), threads.max(1)),
        (sessions, 0, _) => (sessions, (cores / sessions).clamp(1, 2)),
        (sessions, threads, _) => (sessions, threads),
    };
    Ok(Sizing { sessions, threads, run, trials })
}

/// How long a run of one picture takes; the warm-up has been.
fn timed(model: &mut Model) -> Result<Duration, ModelError> {
    let begun = Instant::now();
    ran(model, 1)?;
    Ok(begun.elapsed())
}

fn ran(model: &mut Model, pictures: usize) -> Result<(), ModelError> {
    let result = model.run_alone(pictures);
    result.map_err(|source| ModelError::WarmUp { file: model.card().file.clone(), source })
}

/// The smallest number that is as good as any.
fn pictures_per_run(
    model: &mut Model,
    wish: Wish,
    begun: Instant,
    trials: &mut Vec<Trial>,
) -> Result<usize, ModelError> {
    let mut best: Option<(usize, f64)> = None;
    for run in RUNS.into_iter().filter(|run| *run <= wish.max_batch.max(1)) {
        if best.is_some() && begun.elapsed() > BUDGET / 2 {
            break;
        }
        // The first run of a new size allocates.
        ran(model, run)?;
        let start = Instant::now();
        // The shortest run is the one that other work on the machine disturbed least.
        let mut shortest = Duration::MAX;
        let mut runs = 0;
        while runs < 2 || start.elapsed() < TRIAL / 2 {
            let begun = Instant::now();
            ran(model, run)?;
            (shortest, runs) = (shortest.min(begun.elapsed()), runs + 1);
        }
        let rate = run as f64 / shortest.as_secs_f64().max(1e-9);
        trials.push(Trial { model: model.card().id.clone(), sessions: 1, threads: 1, run, rate });
        if best.is_none_or(|(_, known)| rate > known * WORTH) {
            best = Some((run, rate));
        }
    }
    Ok(best.map_or(1, |(run, _)| run))
}

/// All cores, as many sessions of one thread, or fewer sessions of more threads.
fn sessions_by_threads(
    runtime: &Runtime,
    card: &Arc<ModelCard>,
    (cores, run): (usize, usize),
    begun: Instant,
    trials: &mut Vec<Trial>,
) -> Result<(usize, usize), ModelError> {
    let mut best = ((cores, 1), 0.0);
    for threads in [1, 2, 4].into_iter().filter(|threads| *threads <= cores) {
        // Opening takes its time, too, and there is something to choose from only after the first.
        if threads > 1 && begun.elapsed() > BUDGET {
            break;
        }
        let sessions = cores / threads;
        let open = |_| Model::open_with(runtime, card.clone(), threads);
        let models = (0..sessions).map(open).collect::<Result<Vec<_>, _>>()?;
        let rate = together(models, run)?;
        trials.push(Trial { model: card.id.clone(), sessions, threads, run, rate });
        if rate > best.1 * WORTH_A_THREAD {
            best = ((sessions, threads), rate);
        }
    }
    Ok(best.0)
}

/// Pictures per second of all these sessions running at once.
fn together(models: Vec<Model>, run: usize) -> Result<f64, ModelError> {
    let over = AtomicBool::new(false);
    let work = |mut model: Model| {
        let begun = Instant::now();
        let mut pictures = 0;
        while pictures < 2 * run || !over.load(Ordering::Relaxed) {
            ran(&mut model, run)?;
            pictures += run;
            if begun.elapsed() >= TRIAL {
                over.store(true, Ordering::Relaxed);
            }
        }
        Ok(pictures as f64 / begun.elapsed().as_secs_f64())
    };
    thread::scope(|scope| {
        let all: Vec<_> = models.into_iter().map(|model| scope.spawn(|| work(model))).collect();
        all.into_iter().map(|one| one.join().unwrap_or(Ok(0.0))).sum()
    })
}
