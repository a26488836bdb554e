//! The wiring: the only place where two stages meet, and where each queue's overflow rule is said.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::bounded;
use decode::{Pool, PoolOptions};
use fleet::{Camera, Fleet};
use flow::{CameraId, Counter, Event, Flow};
use infer::{Confirmer, Detector, Gate, GateNumbers, Passage, Route, Runtime};
use ingest::{Ingest, Policy};
use publish::{Ear, Heard, Publisher};
use scene::Condition;
use tokio_util::sync::CancellationToken;

use crate::UserError;
use crate::confirm::Confirmations;
use crate::health::{Board, Known};
use crate::picture_health::Limits;
use crate::scene_stage::{SceneStage, Sight, Tally};
use crate::telemetry::traces::Traces;
use crate::versions::{Users, Versions};

/// Detections that wait for the scenes; the inference threads wait with them.
const LOOKS_WAITING: usize = 64;
/// Verdicts and requests that wait for the scenes.
const HEARD_WAITING: usize = 1_024;
/// How long a stage gets to finish what it holds when the program stops.
const STOP_STAGE: Duration = Duration::from_secs(5);

/// An event, as told to whoever watches the program.
pub struct Told<'a> {
    /// What happened.
    pub event: &'a Event,
    /// Its evidence picture.
    pub evidence: Option<PathBuf>,
}

/// Called for every event once it is safe on disk, on the outbox's thread.
pub type OnEvent = Box<dyn Fn(Told<'_>) + Send>;

/// The running stages of one worker.
pub struct Pipeline {
    ingest: Ingest,
    pool: Arc<Pool>,
    gate: Arc<Gate>,
    detector: Arc<Detector>,
    /// Only where a rule asks.
    confirmer: Option<Arc<Confirmer>>,
    versions: Arc<Versions>,
    scenes: JoinHandle<()>,
    publisher: Arc<Publisher>,
    /// Listens as long as it is there.
    ear: Arc<Ear>,
    board: Arc<Board>,
    tally: Arc<Tally>,
}

const NOTHING: Flow = Flow { received: 0, passed: 0, dropped: Vec::new() };

/// What every stage has done so far.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Pictures received; passed to a decoder; dropped by reason.
    pub ingest: Flow,
    /// Access units received; pictures passed on.
    pub decode: Flow,
    /// Pictures that were not decoded, and pictures spared the model: their looks were repeated. Pictures decoded, and let
    /// through to the model, by reason.
    pub gate: GateNumbers,
    /// Pictures received; looks passed on.
    pub infer: Flow,
    /// Looks received; looks judged.
    pub scene: Flow,
    /// What second models were asked, and what came of it.
    pub confirm: Confirmations,
    /// Events received; acknowledged by the broker.
    pub publish: Flow,
    /// Events made by the scenes.
    pub events: u64,
    /// Messages that wait on disk.
    pub outbox: u64,
    /// What is wrong with the disk; empty where nothing is.
    pub disk: String,
    /// Whether the broker is connected, or why not.
    pub broker: String,
}

impl Pipeline {
    /// Starts every stage, last stage first, so that each is handed its output. Must be called within a tokio
    /// runtime.
    pub fn start(fleet: &Arc<Fleet>, policy: Policy, on_event: OnEvent) -> anyhow::Result<Self> {
        let versions = Arc::new(Versions::load(fleet)?);
        let runtime = runtime(fleet)?;
        tracing::info!(by = ?runtime.provider_names(), library = %runtime.library().display(), "inference");
        let gate = Arc::new(Gate::new(&fleet.cameras));

        // Events are never dropped: they wait on disk until the broker has acknowledged them.
        let options = publish::Options::from_fleet(fleet);
        let (ear_options, blur) = (options.clone(), options.blur.clone());
        let publisher = Arc::new(Publisher::start(options, &tokio::runtime::Handle::current())?);

        let traces = match &fleet.telemetry.otlp {
            Some(otlp) => Some(Traces::start(otlp, &fleet.site, &fleet.worker)?),
            None => None,
        };
        if let Some(traces) = traces.clone() {
            publisher.observe(move |delivered| traces.delivered(delivered));
        }
        let on_event = traced(on_event, traces.clone());

        let limits = Limits {
            frozen_after: fleet.node.frozen_after,
            dark_after: fleet.node.dark_after,
            ..Limits::default()
        };
        let cameras = fleet.cameras.iter().map(|camera| camera.id.clone());
        let board = Arc::new(Board::new(cameras, limits, Instant::now()));
        let tell: Arc<dyn Fn(Option<Known>) + Send + Sync> = {
            let publisher = publisher.clone();
            Arc::new(move |known| {
                if let Some(Known { health, minutes, .. }) = known {
                    publisher.health(&health, Some(&minutes));
                }
            })
        };

        // Detections wait: the queue is short, and when it is full the inference thread waits.
        let (looks_in, looks) = bounded::<Sight>(LOOKS_WAITING);
        let tally = Arc::new(Tally {
            per_camera: fleet.cameras.iter().map(|c| (c.id.clone(), Counter::default())).collect(),
            ..Tally::default()
        });
        // What others say waits; beyond that the desk's verdict is lost, and a request is to be repeated.
        let (said, heard) = bounded::<Heard>(HEARD_WAITING);
        let ear = Arc::new(Ear::start(
            &ear_options,
            &tokio::runtime::Handle::current(),
            Box::new(move |heard| said.try_send(heard).is_ok()),
        ));
        let mouth = ear.clone();

        // Whoever asks waits no longer than a moment: one batch of questions waits, what is more gets no answer.
        let second = versions.confirming();
        let confirmer = match second.is_empty() {
            true => None,
            false => Some(Arc::new(Confirmer::new(&runtime, second)?)),
        };

        let (found, tell_found) = (board.clone(), tell.clone());
        let stage = SceneStage {
            fleet: fleet.clone(),
            gate: gate.clone(),
            models: versions.infos.clone(),
            confirmer: confirmer.clone(),
            publisher: publisher.clone(),
            tally: tally.clone(),
            on_event: Arc::new(std::sync::Mutex::new(on_event)),
            on_camera: Box::new(move |camera, condition, held_back| {
                let suspended = (condition != Condition::Good).then(|| condition.to_string());
                let news = found.scene(camera, suspended, held_back, Instant::now());
                if let Some(Known { health, .. }) = &news {
                    tracing::info!(%camera, state = health.state.name(), "{} {}", health.reason, health.note);
                }
                tell_found(news);
            }),
            heard,
            answers: Box::new(move |reply, answer| mouth.answer(reply, answer)),
            blur,
        };
        let scenes = std::thread::Builder::new().name("scene".into()).spawn(move || stage.run(&looks))?;

        // Frames are newest-wins: one slot per camera, a newer frame replaces the one that waits.
        let options = infer::Options {
            sessions: fleet.node.infer_sessions,
            threads: fleet.node.infer_threads,
            max_batch: fleet.node.max_batch,
            max_delay: fleet.node.max_delay,
        };
        // When not all can be looked at, the least important cameras are left out first.
        let route = |c: &Arc<Camera>| Route {
            model: c.model.clone(),
            priority: c.look.priority,
            tiles: c.tiles.clone(),
        };
        let routes: HashMap<CameraId, Route> =
            fleet.cameras.iter().map(|c| (c.id.clone(), route(c))).collect();
        let (looked, looks_out, seen) = (gate.clone(), looks_in.clone(), traces.clone());
        let detector = Arc::new(Detector::new(
            &runtime,
            versions.cards(),
            options,
            move |camera| routes.get(camera).expect("frames come from the fleet's cameras").clone(),
            // Fails only once the scene thread is gone, which is after this stage has stopped.
            move |look| {
                looked.looked(&look);
                if let Some(traces) = &seen {
                    traces.looked(&look.frame.id);
                }
                drop(looks_out.send(Sight::Look(look)));
            },
        )?);

        // Access units: bounded; a full queue refuses, and `ingest` drops to that camera's next key picture.
        let options = PoolOptions {
            threads: fleet.node.decode_threads,
            decoding: fleet.node.decoder,
            pictures: fleet.node.pictures,
            // Before the gate, the model, the watch over the picture's health or anything else sees a picture.
            masks: decode::masks_of(fleet.cameras.iter().map(|camera| &**camera)),
            ..PoolOptions::default()
        };
        let (judge, frames) = (gate.clone(), detector.clone());
        let repeats = looks_in.clone();
        let (shown, tell_shown) = (board.clone(), tell.clone());
        let (faults, tell_fault) = (board.clone(), tell.clone());
        let pool = Arc::new(Pool::new(
            options,
            move |frame| {
                if let Some(traces) = &traces {
                    traces.decoded(&frame.id);
                }
                let news = shown.picture(&frame.id.camera, &frame.luma, Instant::now());
                if let Some(Known { health, .. }) = &news {
                    tracing::info!(camera = %health.camera, state = health.state.name(), "{}", health.reason);
                }
                tell_shown(news);
                match judge.judge(frame) {
                    Passage::Through(frame) => frames.offer(frame),
                    // Waits for the scenes as other looks do, and the decoder's thread with it.
                    Passage::Spared(look) => drop(looks_in.send(Sight::Look(look))),
                }
            },
            move |camera, fault| {
                let news = faults.bad_picture(camera, &fault.to_string(), Instant::now());
                if let Some(Known { health, .. }) = &news {
                    tracing::warn!(%camera, "{}", health.reason);
                }
                tell_fault(news);
            },
        )?);

        tracing::info!(threads = pool.threads(), by = %pool.backend(), "decoding");

        let units = pool.clone();
        let screen = gate.clone();
        // Where nothing has happened, the last look stands, and the picture is not decoded. Sockets do not wait for the
        // scenes: where those have no room, it is decoded.
        let sink: ingest::Sink = Arc::new(move |unit| {
            let repeat = |look| repeats.try_send(Sight::Repeated(look)).is_ok();
            match screen.must_decode(&unit, repeat) {
                true => units.offer(unit).map_err(|_| ingest::Overflow),
                false => Ok(()),
            }
        });
        let sessions = board.clone();
        let health: ingest::HealthSink =
            Arc::new(move |health| tell(sessions.session(health, Instant::now())));
        let ingest = Ingest::start(fleet.cameras.clone(), policy, sink, health, &CancellationToken::new());

        Ok(Self { ingest, pool, gate, detector, confirmer, versions, scenes, publisher, ear, board, tally })
    }

    /// The account of every stage.
    pub fn report(&self) -> Report {
        let disk =
            |trouble: &Option<publish::Trouble>| trouble.as_ref().map_or(String::new(), ToString::to_string);
        let (publish, outbox, disk, broker) = match self.publisher.state() {
            Ok(state) => {
                let broker = match &state.link {
                    publish::Link::Up { .. } => "connected".to_owned(),
                    publish::Link::Down { error, .. } if error.is_empty() => "connecting".to_owned(),
                    publish::Link::Down { error, .. } => error.clone(),
                };
                (state.events, state.outbox.messages, disk(&state.disk), broker)
            }
            Err(error) => (NOTHING, 0, String::new(), error.to_string()),
        };
        Report {
            ingest: self.ingest.counters(),
            decode: self.pool.counters(),
            gate: self.gate.numbers(),
            infer: self.detector.counters(),
            scene: judged(&self.tally),
            confirm: self.tally.verdicts.report(self.confirmer.as_deref()),
            events: self.tally.events.get(),
            publish,
            outbox,
            disk,
            broker,
        }
    }

    /// Looks taken so far, of one camera.
    pub fn looks_of(&self, camera: &CameraId) -> u64 {
        self.tally.per_camera.get(camera).map_or(0, Counter::get)
    }

    /// How the cameras are doing, and where their time went.
    pub fn health(&self) -> Vec<Known> {
        self.board.all(Instant::now())
    }

    /// What the delivery of events measures about itself.
    pub fn delivery(&self) -> publish::Metrics {
        self.publisher.metrics()
    }

    /// What became of evidence pictures; may wait for the disk.
    pub fn evidence(&self) -> publish::EvidenceNumbers {
        self.publisher.evidence_numbers()
    }

    /// What the inference stage measures about itself.
    pub fn infer_numbers(&self) -> infer::Numbers {
        self.detector.numbers()
    }

    /// Lets new versions of the models take over; see [`Versions::renew`]. To be called where it may take its time.
    pub fn renewal(&self) -> impl Fn(bool) + Send + Sync + 'static {
        let (versions, gate) = (self.versions.clone(), self.gate.clone());
        // The detector ends with the pipeline, whoever may still ask for new versions.
        let confirmer = self.confirmer.as_ref().map_or_else(std::sync::Weak::new, Arc::downgrade);
        let users = Users { detector: Arc::downgrade(&self.detector), confirmer };
        move |asked| versions.renew(&users, &gate, asked)
    }

    /// Stops in the order in which data flow, so that what is inside comes out; each stage has a deadline. Events
    /// that the broker has not acknowledged by then stay on disk for the next start.
    pub async fn stop(self) -> Report {
        let Self { ingest, pool, gate, detector, confirmer, scenes, publisher, ear, tally, .. } = self;
        let (ingest, _) = ingest.shutdown().await;
        let stopped = tokio::task::spawn_blocking(move || {
            let decode = pool.shutdown(STOP_STAGE);
            drop(pool);
            detector.shutdown();
            let infer = detector.counters();
            // The detector holds the sending end of the looks: without it the scene thread runs dry and ends.
            drop(detector);
            (decode, infer)
        });
        let (decode, infer) = stopped.await.expect("stopping a stage does not panic");
        let joined = tokio::task::spawn_blocking(move || scenes.join());
        if tokio::time::timeout(STOP_STAGE, joined).await.is_err() {
            tracing::warn!("the scenes did not finish within {STOP_STAGE:?}");
        }
        if let Some(ear) = Arc::into_inner(ear) {
            ear.stop().await;
        }
        let left = publisher.stop(STOP_STAGE).await;
        let metrics = publisher.metrics();
        Report {
            ingest,
            decode,
            gate: gate.numbers(),
            infer,
            scene: judged(&tally),
            confirm: tally.verdicts.report(confirmer.as_deref()),
            publish: metrics.events,
            events: tally.events.get(),
            disk: metrics.disk.map_or(String::new(), |trouble| trouble.to_string()),
            outbox: left.map_or(0, |depth| depth.messages),
            broker: "stopped".to_owned(),
        }
    }
}

/// Tells the traces of every event, too.
fn traced(on_event: OnEvent, traces: Option<Arc<Traces>>) -> OnEvent {
    let Some(traces) = traces else { return on_event };
    Box::new(move |told| {
        traces.told(told.event);
        on_event(told);
    })
}

fn judged(tally: &Tally) -> Flow {
    Flow { received: tally.looks.get(), passed: tally.done.get(), dropped: vec![] }
}

/// How patient the node is, as its configuration says.
pub fn policy(node: &fleet::Node) -> Policy {
    Policy {
        starts_per_second: node.starts_per_second,
        setups_per_host: node.setups_per_host,
        setups_per_subnet: node.setups_per_subnet,
        ..Policy::default()
    }
}

/// ONNX Runtime with what the node's configuration asks for.
fn runtime(fleet: &Fleet) -> anyhow::Result<Runtime> {
    runtime_for(&fleet.node, &fleet.data_dir)
}

/// The same for a node whose state is in `data_dir`.
pub fn runtime_for(node: &fleet::Node, data_dir: &Path) -> anyhow::Result<Runtime> {
    let engines = node.engines.clone().unwrap_or_else(|| data_dir.join("engines"));
    if node.providers.contains(&fleet::Provider::TensorRt) {
        std::fs::create_dir_all(&engines).with_context(|| engines.display().to_string())?;
    }
    let runtime = Runtime::load(node.onnxruntime.as_deref())?;
    let runtime = runtime.with_providers(&node.providers, Some(&engines));
    let runtime = runtime.map(|runtime| runtime.with_max_batch(node.max_batch));
    let runtime = if node.cuda_graphs { runtime.and_then(Runtime::with_cuda_graphs) } else { runtime };
    runtime.map_err(|error| UserError(error.to_string()).into())
}
