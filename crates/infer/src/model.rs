//! One model, opened and checked against its card.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::ModelCard;
use flow::{Basis, Detection, Detections, Frame, Pixels, Score};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use sha2::{Digest, Sha256};

use crate::agree::Disagreement;
use crate::device::Places;
use crate::heads::Candidate;
use crate::preprocess::Preprocessor;
use crate::run::{Ran, Runner};
use crate::{Placement, Runtime};

/// Protocol Buffers cannot hold more in one message, so no ONNX file without external data is larger.
const MAX_FILE_BYTES: u64 = 1 << 31;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{card}: file: {file} cannot be read: {source}", card = .card.display(), file = .file.display())]
    Read {
        /// The card that names it.
        card: PathBuf,
        /// The file.
        file: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is not the one the card was written for.
    #[error(
        "{card}: sha256: the card says {said}, but {file} ({bytes} bytes) has {has}; the file is incomplete, damaged \
         or another version", card = .card.display(), file = .file.display()
    )]
    Hash {
        /// The card.
        card: PathBuf,
        /// The file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// SHA-256 in the card.
        said: String,
        /// SHA-256 of the file.
        has: String,
    },
    /// ONNX Runtime cannot make a session of it.
    #[error("{file} ({bytes} bytes) is no model that ONNX Runtime can load: {reason}", file = .file.display())]
    Load {
        /// The file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// ONNX Runtime's words.
        reason: String,
    },
    /// A provider was asked for whose memory it does not have.
    #[error("{file}: pictures cannot be kept where the model runs: {reason}", file = .file.display())]
    Device {
        /// The model.
        file: PathBuf,
        /// ONNX Runtime's words.
        reason: String,
    },
    /// Runs were to be recorded, and those of this model cannot be.
    #[error("{file}: node.cuda_graphs is on, but {reason}", file = .file.display())]
    Graphs {
        /// The model.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The card says one thing, the file another.
    #[error("{}", lines(.card, .file, .list))]
    Disagree {
        /// The card.
        card: PathBuf,
        /// The file.
        file: PathBuf,
        /// The points, at least one.
        list: Vec<Disagreement>,
    },
    /// It gives no numbers: already on an empty picture, so on every other one, too.
    #[error(
        "{file} gives NaN for an empty picture; it is broken, or was converted with too little precision",
        file = .file.display()
    )]
    NotANumber {
        /// The file.
        file: PathBuf,
    },
    /// The first run, on an empty picture, failed.
    #[error("{file} was loaded, but its first run failed: {source}", file = .file.display())]
    WarmUp {
        /// The file.
        file: PathBuf,
        /// What happened.
        source: LookError,
    },
    /// The system gives no thread for it.
    #[error("no thread for an inference session: {0}")]
    Thread(std::io::Error),
}

fn lines(card: &Path, file: &Path, list: &[Disagreement]) -> String {
    let line = |d: &Disagreement| format!("{}: {d} ({})", card.display(), file.display());
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Why a picture was not looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// ONNX Runtime failed.
    #[error("the run failed: {0}")]
    Run(#[from] ort::Error),
    /// A picture cannot be had from the accelerator that decoded it.
    #[error(transparent)]
    Download(#[from] flow::DownloadError),
    /// The output is not what the card (and the file itself) promised.
    #[error("{}", list(.0))]
    Output(Vec<Disagreement>),
}

fn list(points: &[Disagreement]) -> String {
    points.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What a model has done so far, and what it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Work {
    /// Pictures looked at.
    pub pictures: u64,
    /// Runs of the session.
    pub runs: u64,
    /// Boxes skipped because they hold NaN or a score that is none. A sane model gives none.
    pub broken_boxes: u64,
    /// Time spent from planes to tensor.
    pub preprocess: Duration,
    /// Time spent inside ONNX Runtime.
    pub run: Duration,
    /// Time spent from tensor to detections.
    pub decode: Duration,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.pictures += other.pictures;
        self.runs += other.runs;
        self.broken_boxes += other.broken_boxes;
        self.preprocess += other.preprocess;
        self.run += other.run;
        self.decode += other.decode;
    }
}

/// A model ready to look: one session with one thread, the buffers that it needs, and the card it agrees with.
#[derive(Debug)]
pub struct Model {
    card: Arc<ModelCard>,
    runner: Runner,
    preprocessor: Preprocessor,
    candidates: Vec<Candidate>,
    /// The file's hash, as every look carries it.
    weights: Arc<str>,
    work: Work,
    /// Pictures per run at most, where the file takes any number.
    per_run: usize,
    /// The input of [`run_alone`](Self::run_alone), empty until then.
    grey: Vec<f32>,
}

impl Model {
    /// Opens the model with one thread, its caller's; see [`open_with`](Self::open_with).
    pub fn open(runtime: &Runtime, card: Arc<ModelCard>) -> Result<Self, ModelError> {
        Self::open_with(runtime, card, 1)
    }

    /// Reads the card's file, checks it against the card and runs it once on an empty picture. A run works on
    /// `threads` threads, of which the caller's is one.
    ///
    /// What is checked: the file's SHA-256; that it takes pictures as the card says; that its outputs fit the head and
    /// the number of classes, and hold numbers.
    pub fn open_with(runtime: &Runtime, card: Arc<ModelCard>, threads: usize) -> Result<Self, ModelError> {
        let content = read(&card)?;
        let session = start(runtime, &content, &card, threads).map_err(|e| ModelError::Load {
            file: card.file.clone(),
            bytes: content.len() as u64,
            reason: e.to_string(),
        })?;
        let disagree = |list| {
            let (card, file) = (card.card_path.clone(), card.file.clone());
            ModelError::Disagree { card, file, list }
        };
        let mut runner = Runner::new(session, card.clone()).map_err(disagree)?;
        if let Some(memory) = runtime.providers().memory() {
            let places = places(runtime, &card, &mut runner)?;
            let no_memory =
                |e: ort::Error| ModelError::Device { file: card.file.clone(), reason: e.to_string() };
            runner.prepare_device(runtime, memory, places).map_err(no_memory)?;
        }
        let preprocessor = Preprocessor::new(&card);
        let (candidates, work, grey) = (Vec::new(), Work::default(), Vec::new());
        let weights = card.sha256.as_str().into();
        let per_run = usize::MAX;
        let mut model = Self { card, runner, preprocessor, candidates, weights, work, per_run, grey };
        match model.warm_up() {
            Ok(false) => Ok(model),
            Ok(true) => Err(ModelError::NotANumber { file: model.card.file.clone() }),
            Err(source) => Err(model.refuse(source)),
        }
    }

    /// A file may leave its outputs' shapes open; then the first run shows that the card is wrong.
    fn refuse(&self, source: LookError) -> ModelError {
        let (card, file) = (self.card.card_path.clone(), self.card.file.clone());
        match source {
            LookError::Output(list) => ModelError::Disagree { card, file, list },
            source @ (LookError::Run(_) | LookError::Download(_)) => ModelError::WarmUp { file, source },
        }
    }

    /// The first run allocates and packs; better now than with the first picture. It also shows the true shape of
    /// an output that the file leaves open, and whether it holds NaN.
    fn warm_up(&mut self) -> Result<bool, LookError> {
        let slots = self.card.batch.unwrap_or(1);
        self.preprocessor.grow(slots);
        self.runner.run(self.preprocessor.tensor(slots), slots, |ran| ran.holds_nan())
    }

    /// As on a machine with an accelerator, whose memory is here main memory.
    #[cfg(test)]
    pub(crate) fn prepare_device(&mut self, runtime: &Runtime, places: Places) {
        self.runner.can_be_fixed().unwrap();
        self.runner.prepare_device(runtime, crate::device::Memory::Host, places).unwrap();
        assert!(self.runner.device().is_some());
    }

    /// Where the tensors of a run of so many pictures are.
    #[cfg(test)]
    pub(crate) fn addresses(&mut self, slots: usize) -> Vec<usize> {
        self.runner.device().unwrap().addresses(slots)
    }

    /// Limits the pictures per run. Where a file takes any number, more at once need not be faster.
    pub fn set_per_run(&mut self, pictures: usize) {
        self.per_run = pictures.max(1);
    }

    /// The card.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// What it did so far, the warm-up not counted.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Its work since the last call.
    pub(crate) fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    /// Looks at the pictures and says for each, in their order, what it saw.
    ///
    /// A model with a fixed batch runs as often as it takes; one without takes all at once, or as many as
    /// [`set_per_run`](Self::set_per_run) said. An error means that none of the pictures was looked at.
    pub fn look(&mut self, frames: &[&Frame]) -> Result<Vec<Detections>, LookError> {
        let mut looks = Vec::with_capacity(frames.len());
        for batch in frames.chunks(self.card.batch.unwrap_or(self.per_run).max(1)) {
            self.look_where_they_are(batch, &mut looks)?;
        }
        Ok(looks)
    }

    /// Pictures on the accelerator stay there. Where some are and some are not, each kind has a run of its own.
    fn look_where_they_are(
        &mut self,
        frames: &[&Frame],
        looks: &mut Vec<Detections>,
    ) -> Result<(), LookError> {
        let on_device = |frame: &&Frame| matches!(frame.pixels, Pixels::Device(_));
        if self.runner.device().is_none() || !frames.iter().any(on_device) {
            return self.look_at_batch(frames, looks);
        }
        let device: Vec<&Frame> = frames.iter().copied().filter(on_device).collect();
        let host: Vec<&Frame> = frames.iter().copied().filter(|frame| !on_device(frame)).collect();
        let (mut there, mut here) = (Vec::with_capacity(device.len()), Vec::with_capacity(host.len()));
        self.look_on_device(&device, &mut there)?;
        if !host.is_empty() {
            self.look_at_batch(&host, &mut here)?;
        }
        let (mut there, mut here) = (there.into_iter(), here.into_iter());
        looks.extend(frames.iter().filter_map(|f| if on_device(f) { there.next() } else { here.next() }));
        Ok(())
    }

    fn look_on_device(&mut self, frames: &[&Frame], looks: &mut Vec<Detections>) -> Result<(), LookError> {
        let Self { card, runner, candidates, weights, work, .. } = self;
        let slots = card.batch.unwrap_or(frames.len());
        let start = Instant::now();
        let mut places = Vec::with_capacity(frames.len());
        for (slot, frame) in frames.iter().enumerate() {
            if let (Pixels::Device(picture), Some(device)) = (&frame.pixels, runner.device()) {
                places.push(device.put(slots, slot, picture)?);
            }
        }
        let ready = Instant::now();
        let read = |mut outputs: Ran<'_>| {
            let ran = Instant::now();
            (ran, understand(&mut outputs, (card, weights), frames, &places, candidates, looks))
        };
        let (ran, broken) = runner.run_device(slots, read)?;
        *work += spent(frames.len(), broken, [start, ready, ran]);
        Ok(())
    }

    /// ONNX Runtime alone: one run of this session on a grey tensor of `pictures` (or the fixed batch), nothing before
    /// and nothing after. The floor that a bench compares [`look`](Self::look) with.
    pub fn run_alone(&mut self, pictures: usize) -> Result<(), LookError> {
        let slots = self.card.batch.unwrap_or(pictures);
        self.grey.resize(slots * self.preprocessor.values(), 114.0);
        self.runner.run(&self.grey, slots, |_| ())
    }

    fn look_at_batch(&mut self, frames: &[&Frame], looks: &mut Vec<Detections>) -> Result<(), LookError> {
        let Self { card, runner, preprocessor, candidates, weights, work, .. } = self;
        // A fixed batch that is not full runs with what its last slots held before; nobody reads those results.
        let slots = card.batch.unwrap_or(frames.len());
        preprocessor.grow(slots);
        let start = Instant::now();
        let mut places = Vec::with_capacity(frames.len());
        for (slot, frame) in frames.iter().enumerate() {
            places.push(preprocessor.put(slot, &*frame.pixels.on_host()?));
        }
        let ready = Instant::now();
        let read = |mut outputs: Ran<'_>| {
            let ran = Instant::now();
            (ran, understand(&mut outputs, (card, weights), frames, &places, candidates, looks))
        };
        let (ran, broken) = runner.run(preprocessor.tensor(slots), slots, read)?;
        *work += spent(frames.len(), broken, [start, ready, ran]);
        Ok(())
    }
}

/// Whether the model's tensors keep their places, which recorded runs need.
fn places(runtime: &Runtime, card: &ModelCard, runner: &mut Runner) -> Result<Places, ModelError> {
    let refused = |reason| ModelError::Graphs { file: card.file.clone(), reason };
    if !runtime.providers().graphs_of(card).map_err(refused)? {
        return Ok(Places::Any);
    }
    runner.can_be_fixed().map_err(refused)?;
    Ok(Places::Fixed)
}

/// What the outputs say of each picture; returns how many boxes were broken.
fn understand(
    outputs: &mut Ran<'_>,
    (card, weights): (&ModelCard, &Arc<str>),
    frames: &[&Frame],
    places: &[Placement],
    candidates: &mut Vec<Candidate>,
    looks: &mut Vec<Detections>,
) -> u64 {
    let mut broken = 0;
    for (slot, (frame, place)) in frames.iter().zip(places).enumerate() {
        broken += outputs.decode(slot, candidates);
        looks.push(detections(card, weights, frame, *place, candidates));
    }
    broken
}

/// One run's work, from when it began, was ready to run, and had run.
fn spent(pictures: usize, broken_boxes: u64, [start, ready, ran]: [Instant; 3]) -> Work {
    Work {
        pictures: pictures as u64,
        runs: 1,
        broken_boxes,
        preprocess: ready - start,
        run: ran - ready,
        decode: ran.elapsed(),
    }
}

/// Reads the file and compares its hash. The session is made of these very bytes, so that what was checked is what runs.
fn read(card: &ModelCard) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::Read { card: card.card_path.clone(), file: card.file.clone(), source };
    let file = std::fs::File::open(&card.file).map_err(failed)?;
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut content).map_err(failed)?;
    let has: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    if has != card.sha256 {
        return Err(ModelError::Hash {
            card: card.card_path.clone(),
            file: card.file.clone(),
            bytes: content.len() as u64,
            said: card.sha256.clone(),
            has,
        });
    }
    Ok(content)
}

/// A session whose part on the processor has so many threads, the caller's among them. A provider that was asked for and does not work is
/// an error.
fn start(runtime: &Runtime, content: &[u8], card: &ModelCard, threads: usize) -> ort::Result<Session> {
    let providers = runtime.providers();
    let input = if providers.asks_for_input(card) { only_input(runtime, content)? } else { None };
    Session::builder(runtime.environment())?
        .with_execution_providers(providers.of(card, input.as_deref()))?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_parallel_execution(false)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Threads that spin take twice the processor time for less work (README.md).
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // A memory plan is kept per input shape: worth it only where there is one shape.
        .with_memory_pattern(card.batch.is_some())?
        .commit_from_memory(content)
}

/// The name of the model's input where it has but one, as the processor's own session of it says.
fn only_input(runtime: &Runtime, content: &[u8]) -> ort::Result<Option<String>> {
    let builder = Session::builder(runtime.environment())?.with_intra_threads(1)?;
    let session =
        builder.with_optimization_level(GraphOptimizationLevel::Disable)?.commit_from_memory(content)?;
    Ok(match session.inputs() {
        [input] => Some(input.name().to_owned()),
        _ => None,
    })
}

fn detections(
    card: &ModelCard,
    weights: &Arc<str>,
    frame: &Frame,
    place: Placement,
    candidates: &[Candidate],
) -> Detections {
    let detection = |c: &Candidate| {
        Some(Detection {
            class: card.classes.get(c.class)?.clone(),
            score: Score::new(c.score).ok()?,
            bbox: place.undo(c.x0, c.y0, c.x1, c.y1)?,
        })
    };
    Detections {
        frame: frame.id.clone(),
        captured: frame.captured,
        model: card.id.clone(),
        weights: weights.clone(),
        basis: Basis::Inferred,
        list: candidates.iter().filter_map(detection).collect(),
    }
}
