//! The second stage: classifiers that are asked about parts of pictures.
//!
//! They have a thread of their own, so that they run beside the detector and not in its turn, and whoever asks waits
//! no longer than he says. One batch waits while another runs; more is refused at once. Who gets no answer asks again
//! when the next picture comes: nothing is decided without one.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fleet::ModelCard;
use flow::{ClassName, Flow, Frame, ModelId, NormBox, Score};

use crate::crop::crop;
use crate::detector::Runner;
use crate::numbers::Throttle;
use crate::swap::{Changing, Seat};
use crate::{Model, ModelError, Runtime, SwapError, Work};

/// Crops that go through a model at once.
const BATCH: usize = 16;

/// What is there, in this part of this picture?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The picture.
    pub frame: &'a Frame,
    /// The part of it; grown to the shape that the model takes.
    pub place: NormBox,
    /// Who is asked.
    pub model: &'a ModelId,
}

/// What a classifier made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Opinion {
    /// Its best class and how sure it is of that; `None` where no class reaches the score of its card.
    pub best: Option<(ClassName, Score)>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nobody of this name.
    #[error("the model {0} is not loaded")]
    NoModel(ModelId),
    /// Another batch waits already.
    #[error("others are waiting")]
    Busy,
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The run failed, or gave no numbers.
    #[error("{0}")]
    Failed(String),
    /// The thread has ended.
    #[error("nobody answers any more")]
    Stopped,
}

type Answer = Result<Opinion, Unanswered>;

/// A model's id, width and height of what it takes, and what runs it.
pub type Classifier = (ModelId, (u32, u32), Box<dyn Runner>);

/// Crops of one `ask`, with the number of the model for each.
struct Batch {
    crops: Vec<(usize, Frame)>,
    reply: SyncSender<Vec<Answer>>,
}

/// One classifier, as whoever asks sees it.
struct Asked {
    id: ModelId,
    /// Width and height of what it takes.
    shape: (u32, u32),
    seat: Seat,
}

/// What became of the questions.
#[derive(Default)]
struct Tally {
    received: u64,
    answered: u64,
    failed: u64,
    late: u64,
    busy: u64,
    no_model: u64,
    log: Throttle,
}

/// Answers questions about parts of pictures.
pub struct Confirmer {
    runtime: Option<Runtime>,
    models: Mutex<Vec<Asked>>,
    /// `None` once it has stopped.
    batches: Mutex<Option<SyncSender<Batch>>>,
    tally: Mutex<Tally>,
    work: Arc<Mutex<Vec<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Confirmer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmer").finish_non_exhaustive()
    }
}

impl Confirmer {
    /// Opens and warms up every model, each with one thread, and starts the thread that runs them.
    ///
    /// # Errors
    /// Where a card and its file disagree, or the first run fails.
    pub fn new(runtime: &Runtime, cards: Vec<ModelCard>) -> Result<Self, ModelError> {
        let mut runners: Vec<Classifier> = Vec::with_capacity(cards.len());
        for card in cards {
            let (id, shape) = (card.id.clone(), (card.width, card.height));
            runners.push((id, shape, Box::new(open(runtime, card)?)));
        }
        let mut confirmer = Self::with_runners(runners)?;
        confirmer.runtime = Some(runtime.clone());
        Ok(confirmer)
    }

    /// With runners of the caller's making: each model's id, width and height, and what stands for it.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn with_runners(models: Vec<Classifier>) -> Result<Self, ModelError> {
        let mut asked = Vec::with_capacity(models.len());
        let mut crew = Vec::with_capacity(models.len());
        for (id, shape, runner) in models {
            let seat = Seat::default();
            crew.push(Changing::new(runner, seat.clone()));
            asked.push(Asked { id, shape, seat });
        }
        let work = Arc::new(Mutex::new(vec![Work::default(); crew.len()]));
        let (batches, waiting) = sync_channel(1);
        let counted = work.clone();
        let thread =
            thread::Builder::new().name("confirm".into()).spawn(move || run(crew, &waiting, &counted));
        Ok(Self {
            runtime: None,
            models: Mutex::new(asked),
            batches: Mutex::new(Some(batches)),
            tally: Mutex::default(),
            work,
            thread: Mutex::new(Some(thread.map_err(ModelError::Thread)?)),
        })
    }

    /// Asks about all of them at once and waits for the answers, in their order, `patience` at most.
    pub fn ask(&self, questions: &[Question<'_>], patience: Duration) -> Vec<Answer> {
        if questions.is_empty() {
            return Vec::new();
        }
        let mut answers: Vec<Option<Answer>> = vec![None; questions.len()];
        let mut crops = Vec::with_capacity(questions.len());
        {
            let models = lock(&self.models);
            for (question, answer) in questions.iter().zip(&mut answers) {
                let found = models.iter().position(|asked| asked.id == *question.model);
                let cut =
                    found.and_then(|at| Some((at, crop(question.frame, &question.place, models[at].shape)?)));
                match cut {
                    Some(cut) => crops.push(cut),
                    None => *answer = Some(Err(Unanswered::NoModel(question.model.clone()))),
                }
            }
        }
        let mut said = self.send(crops, patience).into_iter();
        let all = answers
            .into_iter()
            .map(|answer| answer.or_else(|| said.next()).unwrap_or(Err(Unanswered::Stopped)));
        let all: Vec<Answer> = all.collect();
        self.count(&all);
        all
    }

    /// The answers to these crops, one each.
    fn send(&self, crops: Vec<(usize, Frame)>, patience: Duration) -> Vec<Answer> {
        let count = crops.len();
        if count == 0 {
            return Vec::new();
        }
        let (reply, replies) = sync_channel(1);
        let sent = match &*lock(&self.batches) {
            None => Err(Unanswered::Stopped),
            Some(batches) => batches.try_send(Batch { crops, reply }).map_err(|error| match error {
                TrySendError::Full(_) => Unanswered::Busy,
                TrySendError::Disconnected(_) => Unanswered::Stopped,
            }),
        };
        let answers = sent.and_then(|()| {
            replies.recv_timeout(patience).map_err(|error| match error {
                RecvTimeoutError::Timeout => Unanswered::Late(patience),
                RecvTimeoutError::Disconnected => Unanswered::Stopped,
            })
        });
        answers.unwrap_or_else(|why| vec![Err(why); count])
    }

    fn count(&self, answers: &[Answer]) {
        let mut tally = lock(&self.tally);
        tally.received += answers.len() as u64;
        for answer in answers {
            let Err(why) = answer else {
                tally.answered += 1;
                continue;
            };
            let counter = match why {
                Unanswered::NoModel(_) => &mut tally.no_model,
                Unanswered::Busy => &mut tally.busy,
                Unanswered::Late(_) => &mut tally.late,
                Unanswered::Failed(_) | Unanswered::Stopped => &mut tally.failed,
            };
            *counter += 1;
            if let Some(held_back) = tally.log.pass(Instant::now()) {
                tracing::warn!(
                    held_back,
                    "a question about a picture has no answer and is asked again: {why}"
                );
            }
        }
    }

    /// Questions received, answered, and not answered by reason.
    pub fn counters(&self) -> Flow {
        let tally = lock(&self.tally);
        Flow {
            received: tally.received,
            passed: tally.answered,
            dropped: vec![
                ("failed", tally.failed),
                ("late", tally.late),
                ("busy", tally.busy),
                ("no_model", tally.no_model),
            ],
        }
    }

    /// What each model did.
    pub fn work(&self) -> Vec<(ModelId, Work)> {
        let ids: Vec<_> = lock(&self.models).iter().map(|asked| asked.id.clone()).collect();
        ids.into_iter().zip(lock(&self.work).iter().copied()).collect()
    }

    /// Lets a new version of a model take over before its next run. Takes as long as opening it.
    ///
    /// # Errors
    /// Where nobody asks a model of this id, or its card and file disagree: then the old version goes on.
    pub fn swap(&self, card: ModelCard) -> Result<(), SwapError> {
        let find = |models: &[Asked]| models.iter().position(|asked| asked.id == card.id);
        let not_in_use = |models: &[Asked]| {
            let in_use = models.iter().map(|asked| asked.id.clone()).collect();
            SwapError::NotInUse { model: card.id.clone(), in_use }
        };
        let (Some(at), Some(runtime)) = (find(&lock(&self.models)), &self.runtime) else {
            return Err(not_in_use(&lock(&self.models)));
        };
        let shape = (card.width, card.height);
        let model = open(runtime, card)?;
        let mut models = lock(&self.models);
        models[at].seat.put(Box::new(model));
        models[at].shape = shape;
        Ok(())
    }

    /// Ends the thread; who asks afterwards gets no answer. Does nothing the second time.
    pub fn shutdown(&self) {
        drop(lock(&self.batches).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the confirming thread had panicked");
        }
    }
}

impl Drop for Confirmer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

fn open(runtime: &Runtime, card: ModelCard) -> Result<Model, ModelError> {
    let mut model = Model::open(runtime, Arc::new(card))?;
    model.set_per_run(BATCH);
    Ok(model)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The life of the thread.
fn run(mut crew: Vec<Changing>, batches: &Receiver<Batch>, work: &Mutex<Vec<Work>>) {
    while let Ok(Batch { crops, reply }) = batches.recv() {
        let mut answers: Vec<Answer> = vec![Err(Unanswered::Stopped); crops.len()];
        for (model, runner) in crew.iter_mut().enumerate() {
            let own: Vec<usize> = (0..crops.len()).filter(|at| crops[*at].0 == model).collect();
            for own in own.chunks(BATCH) {
                let frames: Vec<&Frame> = own.iter().map(|at| &crops[*at].1).collect();
                let said = answer(runner, &frames);
                lock(work)[model] += said.1;
                own.iter().zip(said.0).for_each(|(at, said)| answers[*at] = said);
            }
        }
        // Who no longer waits has counted it as late.
        drop(reply.try_send(answers));
    }
}

/// One run: an answer for each crop.
fn answer(runner: &mut Changing, frames: &[&Frame]) -> (Vec<Answer>, Work) {
    let outcome = runner.look(frames);
    let work = runner.take_work();
    let answers = match outcome {
        Err(error) => vec![Err(Unanswered::Failed(error.to_string())); frames.len()],
        Ok(looks) => looks
            .into_iter()
            .map(|look| match look.list.into_iter().next() {
                // Without numbers it is no opinion.
                None if work.broken_boxes > 0 => {
                    Err(Unanswered::Failed("the model gave NaN or no scores".into()))
                }
                best => Ok(Opinion { best: best.map(|best| (best.class, best.score)) }),
            })
            .collect(),
    };
    (answers, work)
}
