//! The face of the crate: submit here, and it will arrive.

mod options;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flow::{CameraId, Detection, Event, Flow, Frame, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::evidence::folder::{KeySource, LazyFolder, New, Placed};
use crate::evidence::keeper::{Keeper, SharedStoreState, StoreState};
use crate::evidence::{Blur, Jpeg, KEY_FILE, Seal, SigningKey, Store, Why, side};
use crate::link;
use crate::message::Speaker;
use crate::metrics::{Delivered, Metrics};
use crate::outbox::{
    Depth, Outbox, OutboxError, Push, Pushed, PushedPicture, PushedProperty, Salvage, SceneState, Trouble,
    TroubleKind,
};
use crate::wire::{
    EventMessage, Evidence, EvidenceRecord, HealthMessage, ModelInfo, Onvif, PhaseName, Role, Topic,
};
pub use options::{EvidenceOptions, Options, StartError, SubmitError};

/// The events of one look that are on disk, or why they are not.
pub type Stored = Result<Vec<Submitted>, SubmitError>;

/// An event that is on disk and will arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Its evidence picture, where there is one.
    pub evidence_path: Option<PathBuf>,
    /// It was there already; nothing was stored again.
    pub duplicate: bool,
}

/// The connection to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not yet, or not any more.
    Down {
        /// Since when.
        since: Timestamp,
        /// Why; empty before the first try has failed.
        error: String,
    },
    /// It stands.
    Up {
        /// Since when.
        since: Timestamp,
    },
}

/// What became of evidence pictures.
#[derive(Debug, Clone)]
pub struct EvidenceNumbers {
    /// How many were deleted since the start, by reason.
    pub deleted: HashMap<Why, u64>,
    /// `None`: no store is configured.
    pub store: Option<StoreNumbers>,
}

/// How pictures get to the store.
#[derive(Debug, Clone)]
pub struct StoreNumbers {
    /// How it is doing.
    pub state: StoreState,
    /// Pictures that wait for it on disk; `None`: the disk does not say.
    pub waiting: Option<u64>,
}

/// How the publisher is doing.
#[derive(Debug, Clone)]
pub struct State {
    /// The connection.
    pub link: Link,
    /// What waits.
    pub outbox: Depth,
    /// What is wrong with the disk, if anything. Its text names the file, the cause and the way out.
    pub disk: Option<Trouble>,
    /// The last corrupt database that was replaced, if any.
    pub salvaged: Option<Salvage>,
    /// Events: submitted (and found waiting at start), acknowledged by the broker, dropped as duplicates. What is
    /// inside waits on disk.
    pub events: Flow,
    /// Evidence pictures, likewise; dropped to keep to the disk bound, replaced by a newer one, or lost.
    pub evidence: Flow,
    /// Messages that the broker refused, by its reason; they are kept and tried again.
    pub refused: Vec<(String, u64)>,
}

/// Carries events to the broker. Dropping it says goodbye in the background; what waits stays on disk.
#[derive(Debug)]
pub struct Publisher {
    outbox: Arc<Outbox>,
    shared: Arc<Shared>,
    speaker: Speaker,
    /// The TopicPrefix of ONVIF events, where they are wanted.
    onvif: Option<Box<str>>,
    blur: Blur,
    seal: Option<Seal>,
    store: Option<Store>,
    store_state: SharedStoreState,
    keeper: Mutex<Option<JoinHandle<()>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

/// What the publisher and its background task both see.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<SharedState>,
    /// Something is to be sent.
    pub wake: Notify,
}

#[derive(Debug)]
pub(crate) struct SharedState {
    pub link: Link,
    pub refused: BTreeMap<String, u64>,
    /// The latest word about each camera.
    pub health: HashMap<CameraId, HealthMessage>,
    /// Cameras whose latest word is not yet at the broker.
    pub health_due: BTreeSet<CameraId>,
    /// The worker's own latest word is not yet at the broker.
    pub status_due: bool,
}

impl Shared {
    fn new() -> Self {
        Self {
            state: Mutex::new(SharedState {
                link: Link::Down { since: Timestamp::now(), error: String::new() },
                refused: BTreeMap::new(),
                health: HashMap::new(),
                health_due: BTreeSet::new(),
                status_due: false,
            }),
            wake: Notify::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// Opens the outbox and starts the background task on `handle`. Does not wait for the broker.
    pub fn start(options: Options, handle: &tokio::runtime::Handle) -> Result<Self, StartError> {
        for (what, name) in [("site", &options.site), ("worker", &options.worker)] {
            Topic::check_level(name).map_err(|source| StartError::Name {
                what,
                name: name.clone(),
                source,
            })?;
        }
        let evidence = &options.evidence;
        let seal = evidence.originals_for.as_deref().map(Seal::to).transpose()?;
        let store = evidence.store.as_ref().map(Store::open).transpose()?;
        let outbox = Arc::new(open_outbox(&options)?);
        let shared = Arc::new(Shared::new());
        let (ready, disk) = (shared.clone(), shared.clone());
        outbox.hooks(
            move || ready.wake.notify_one(),
            move || {
                disk.lock().status_due = true;
                disk.wake.notify_one();
            },
        );
        let stop = CancellationToken::new();
        let onvif = options.broker.onvif.clone();
        let speaker = Speaker {
            site: options.site.clone(),
            worker: options.worker.clone(),
            config_hash: options.config_hash.clone(),
        };
        let blur = options.blur.clone();
        let store_state = SharedStoreState::default();
        let keeper = Keeper { outbox: outbox.clone(), store: store.clone(), state: store_state.clone() };
        let keeper = handle.spawn(keeper.run(stop.clone()));
        let link = link::LinkTask::new(options, outbox.clone(), shared.clone());
        let task = handle.spawn(link.run(stop.clone()));
        Ok(Self {
            outbox,
            shared,
            speaker,
            onvif,
            blur,
            seal,
            store,
            store_state,
            keeper: Mutex::new(Some(keeper)),
            task: Mutex::new(Some(task)),
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Stores an event and, where `picture` is given, its evidence: [`submit_look`](Self::submit_look) with one event.
    ///
    /// # Errors
    /// As there.
    pub fn submit(
        &self,
        event: &Event,
        camera: &fleet::Camera,
        situation: &fleet::Situation,
        model: &ModelInfo,
        picture: Option<(&Frame, &[Detection])>,
    ) -> Result<Submitted, SubmitError> {
        let mut all = self.submit_look(&[(event, situation)], camera, model, picture, None)?;
        Ok(all.pop().expect("one event, one answer"))
    }

    /// Stores all events of one look in one transaction, with what the camera's scene remembers after it, so that a
    /// restart neither forgets nor doubles what it began. Where `picture` is given, it is each event's evidence: the
    /// picture that decided, and everything that was seen in it (persons among it are blurred). Blocks for the disk,
    /// tens of milliseconds; call it from a thread, not from a task. When it returns `Ok`, the events will arrive.
    ///
    /// # Errors
    /// Nothing was stored: an event that is not of this camera and situation, or a disk that does not take it.
    pub fn submit_look(
        &self,
        events: &[(&Event, &fleet::Situation)],
        camera: &fleet::Camera,
        model: &ModelInfo,
        picture: Option<(&Frame, &[Detection])>,
        scene: Option<&SceneState>,
    ) -> Stored {
        let since = Instant::now();
        let Some((first, _)) = events.first() else { return Ok(Vec::new()) };
        let made = self.make_all(events, camera, model, picture)?;
        let pushes = made.iter().flatten().map(|made| made.push.clone()).collect();
        let pushed = self.outbox.push_now(pushes, scene.cloned(), since);
        pushed
            .map(|pushed| answers(made, pushed))
            .map_err(|source| SubmitError::Outbox { event: first.id, source })
    }

    /// The same without waiting: `done` is called once the events are on disk, on the outbox's thread, where it must not
    /// take long. Many that are handed over meanwhile share one sync of the disk. While the disk takes nothing (full,
    /// read-only, failing), the events are held in memory, up to [`HELD_EVENTS`](crate::HELD_EVENTS) or
    /// [`HELD_BYTES`](crate::HELD_BYTES), without pictures; beyond that this call waits. What is held when the process
    /// ends is lost, and `done` is told so.
    ///
    /// # Errors
    /// Nothing was taken: an event that is not of this camera and situation.
    pub fn hand_over(
        &self,
        events: &[(&Event, &fleet::Situation)],
        camera: &fleet::Camera,
        model: &ModelInfo,
        picture: Option<(&Frame, &[Detection])>,
        scene: Option<SceneState>,
        done: impl FnOnce(Stored) + Send + 'static,
    ) -> Result<(), SubmitError> {
        let since = Instant::now();
        let Some((first, _)) = events.first() else { return Ok(()) };
        let (event, made) = (first.id, self.make_all(events, camera, model, picture)?);
        let pushes = made.iter().flatten().map(|made| made.push.clone()).collect();
        let told = move |pushed: Result<_, _>| {
            done(
                pushed
                    .map(|pushed| answers(made, pushed))
                    .map_err(|source| SubmitError::Outbox { event, source }),
            );
        };
        let pushed = self.outbox.push(pushes, scene, true, since, told);
        pushed.map_err(|source| SubmitError::Outbox { event, source })
    }

    /// The message that reports an event, without evidence: what [`submit`](Self::submit) sends, but for the picture.
    pub fn message(
        &self,
        event: &Event,
        camera: &fleet::Camera,
        situation: &fleet::Situation,
        model: &ModelInfo,
    ) -> EventMessage {
        self.speaker.message(event, camera, situation, model, Vec::new())
    }

    /// Has `observer` told of every event that the broker has acknowledged, with where its time went. It is called on
    /// the connection's task and must not take long. Once; whether nobody was told before.
    pub fn observe(&self, observer: impl Fn(&Delivered) + Send + Sync + 'static) -> bool {
        self.outbox.observe(Box::new(observer))
    }

    fn make_all(
        &self,
        events: &[(&Event, &fleet::Situation)],
        camera: &fleet::Camera,
        model: &ModelInfo,
        picture: Option<(&Frame, &[Detection])>,
    ) -> Result<Vec<Option<Made>>, SubmitError> {
        // A disk that takes no event takes no picture.
        let picture = picture.filter(|_| self.outbox.trouble().is_none());
        let make = |(event, situation): &(&Event, &fleet::Situation)| {
            self.make(event, camera, situation, model, picture)
        };
        events.iter().map(make).collect()
    }

    /// An event's messages and picture; `None`: it was submitted before.
    fn make(
        &self,
        event: &Event,
        camera: &fleet::Camera,
        situation: &fleet::Situation,
        model: &ModelInfo,
        picture: Option<(&Frame, &[Detection])>,
    ) -> Result<Option<Made>, SubmitError> {
        check(event, camera, situation)?;
        // Without a picture there is no file that an older one could replace, and the transaction finds out.
        if picture.is_some() && self.outbox.has(event.id, event.sequence).unwrap_or(false) {
            self.outbox.count_duplicate();
            return Ok(None);
        }
        let role = role_of(event);
        let site = || self.speaker.site.clone();
        let kept = picture.and_then(|(frame, seen)| self.keep_picture(event, role, model, frame, seen));
        let topic = match self.store {
            Some(_) => None,
            None => Some(Topic::Evidence { site: site(), event: event.id, role }.to_string()),
        };
        let list = kept.iter().map(|(jpeg, placed)| {
            let in_store = || {
                self.store.as_ref().map(|store| store.reference(event.id, &format!("{}.jpg", placed.name)))
            };
            evidence(event, role, topic.clone().or_else(in_store).unwrap_or_default(), (jpeg, placed))
        });
        let list = list.collect();
        let message = self.speaker.message(event, camera, situation, model, list);
        let class = camera.class.clone();
        let (situation, camera) = (event.key.situation.clone(), event.key.camera.clone());
        let evidence_path = kept.as_ref().map(|(_, placed)| self.outbox.picture_path(event.id, &placed.name));
        let picture = kept.map(|(jpeg, placed)| PushedPicture {
            role,
            topic,
            bytes: placed.bytes,
            sha256: jpeg.sha256,
            name: placed.name,
            camera: camera.clone(),
            class,
            situation: situation.clone(),
        });
        let no_json = |source| SubmitError::Json { event: event.id, source };
        let body = message.to_json().map_err(no_json)?;
        let onvif = self.onvif.as_ref().and_then(|prefix| Onvif::new(prefix, &self.speaker.site, &message));
        let property = onvif.map(|onvif| {
            let payload = serde_json::to_vec(&onvif.event)?.into();
            Ok(PushedProperty { topic: onvif.topic, payload, lasting: onvif.property })
        });
        let property = property.transpose().map_err(no_json)?;
        let push = Push {
            event: event.id,
            sequence: event.sequence,
            topic: Topic::Event { site: site(), situation, camera: camera.clone() }.to_string(),
            body: body.into(),
            open: Topic::Open { site: site(), camera, event: event.id }.to_string(),
            ended: matches!(event.phase, flow::Phase::Ended { .. }),
            picture,
            property,
        };
        Ok(Some(Made { push, evidence_path }))
    }

    /// Stores what scenes remember, without events. Blocks for the disk.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn keep_scenes(&self, scenes: &[SceneState]) -> Result<(), OutboxError> {
        self.outbox.keep_scenes(scenes)
    }

    /// What the scenes remembered when the program last ran, by camera.
    ///
    /// # Errors
    /// The disk does not give it.
    pub fn scenes(&self) -> Result<Vec<(String, Vec<u8>)>, OutboxError> {
        self.outbox.scenes()
    }

    /// An event without its picture is worth more than none: a picture that cannot be made or written is
    /// reported and left out.
    fn keep_picture(
        &self,
        event: &Event,
        role: Role,
        model: &ModelInfo,
        frame: &Frame,
        seen: &[Detection],
    ) -> Option<(Jpeg, Placed)> {
        let without = |error: &dyn std::fmt::Display| {
            tracing::warn!(event = %event.id, %error, "event without evidence");
        };
        let jpeg = Jpeg::of_part(frame, seen, &self.blur, event.near.as_ref());
        let jpeg = jpeg.inspect_err(|error| without(error)).ok()?;
        let side = side::of(event, role, model, seen, &self.blur, &jpeg);
        let side = side.inspect_err(|error| without(error)).ok()?;
        let original = self.seal.as_ref().and_then(|seal| {
            let sealed = Jpeg::original(frame).map_err(|error| error.to_string());
            let sealed = sealed.and_then(|plain| seal.seal(&plain).map_err(|error| error.to_string()));
            sealed
                .inspect_err(|error| tracing::warn!(event = %event.id, error, "picture without original"))
                .ok()
        });
        let new = New {
            camera: &event.key.camera,
            event: event.id,
            sequence: event.sequence,
            role,
            captured: event.captured,
            jpeg: &jpeg,
            side: &side,
            original: original.as_deref(),
        };
        let placed = self.outbox.keep_picture(&new).inspect_err(|error| without(error)).ok()?;
        Some((jpeg, placed))
    }

    /// How many evidence pictures were deleted since the start, and how the store is doing. Waits for the thread that owns
    /// the database, where a store is configured.
    pub fn evidence_numbers(&self) -> EvidenceNumbers {
        let store = self.store.as_ref().map(|_| {
            let state = self.store_state.lock().unwrap_or_else(PoisonError::into_inner).clone();
            StoreNumbers { state, waiting: self.outbox.count_waiting_for_store().ok() }
        });
        EvidenceNumbers { deleted: self.outbox.deleted(), store }
    }

    /// Deletes every evidence picture whose time is over at `now`, as happens once an hour; how many.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn sweep_evidence(&self, now: Timestamp) -> Result<u64, OutboxError> {
        let mut all = 0;
        loop {
            match self.outbox.sweep(now)? {
                0 => return Ok(all),
                some => all += some,
            }
        }
    }

    /// Publishes how a camera is doing and where its time went, retained. Only the latest word about each camera counts; it is kept in
    /// memory and sent again after each reconnect.
    pub fn health(&self, health: &flow::Health, coverage: Option<&flow::Minutes>) {
        let message = HealthMessage::new(health, coverage, &self.speaker.worker);
        let mut state = self.shared.lock();
        state.health_due.insert(health.camera.clone());
        state.health.insert(health.camera.clone(), message);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// How it is doing now.
    ///
    /// # Errors
    /// None any more: what is counted is in memory.
    pub fn state(&self) -> Result<State, OutboxError> {
        let Metrics { link, outbox, disk, salvaged, events, evidence, refused, .. } = self.metrics();
        Ok(State { link, outbox, disk, salvaged, events, evidence, refused })
    }

    /// Everything that is counted and measured.
    pub fn metrics(&self) -> Metrics {
        let (outbox, counters, times) = (self.outbox.depth(), self.outbox.counters(), self.outbox.times());
        let (link, refused) = {
            let shared = self.shared.lock();
            (shared.link.clone(), shared.refused.iter().map(|(reason, n)| (reason.clone(), *n)).collect())
        };
        Metrics {
            link,
            refused,
            outbox,
            outbox_bytes: self.outbox.bytes(),
            disk_free_bytes: self.outbox.free_bytes(),
            disk: self.outbox.trouble(),
            disk_troubles: TroubleKind::ALL.map(|kind| (kind, counters.troubles[kind as usize].get())),
            salvaged: self.outbox.salvaged(),
            salvages: counters.salvages.get(),
            waits: counters.waits.get(),
            messages_acked: counters.messages_acked.get(),
            events: Flow {
                received: counters.events_in.get(),
                passed: counters.events_acked.get(),
                dropped: vec![("duplicate", counters.duplicates.get())],
            },
            evidence: Flow {
                received: counters.pictures_in.get(),
                passed: counters.pictures_acked.get(),
                dropped: vec![
                    ("evicted", counters.pictures_evicted.get()),
                    ("replaced", counters.pictures_replaced.get()),
                    ("lost", counters.pictures_lost.get()),
                ],
            },
            stored: times.stored.read(),
            acked: times.acked.read(),
            transactions: times.transactions.read(),
        }
    }

    /// Waits until nothing waits any more, at most `patience`; then says goodbye to the broker (so that it sends
    /// no last will) and ends the background task. Returns what is left on disk for the next start.
    pub async fn stop(&self, patience: Duration) -> Result<Depth, OutboxError> {
        let deadline = tokio::time::Instant::now() + patience;
        self.settle().await;
        while self.outbox.depth().messages > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.stop.cancel();
        for task in [&self.task, &self.keeper] {
            let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task {
                // The task bounds its own goodbye.
                let _ = task.await;
            }
        }
        self.settle().await;
        Ok(self.outbox.depth())
    }

    /// Waits for what was handed over, and for what the broker has acknowledged.
    async fn settle(&self) {
        let outbox = self.outbox.clone();
        // Fails only if that panics, which it would have said.
        let _ = tokio::task::spawn_blocking(move || outbox.settle()).await;
    }

    /// Ends the background task as a crash would: the connection breaks off.
    #[cfg(test)]
    pub(crate) async fn crash(self) {
        for task in [&self.task, &self.keeper] {
            let task = task.lock().unwrap().take().unwrap();
            task.abort();
            let _ = task.await;
        }
    }
}

/// An event on its way to the outbox.
struct Made {
    push: Push,
    evidence_path: Option<PathBuf>,
}

/// What became of each event; `None`: it had been submitted before.
fn answers(made: Vec<Option<Made>>, pushed: Vec<Pushed>) -> Vec<Submitted> {
    let mut pushed = pushed.into_iter();
    let answer = |made: Option<Made>| match made {
        None => Submitted { evidence_path: None, duplicate: true },
        Some(made) => Submitted {
            evidence_path: made.evidence_path,
            duplicate: pushed.next() == Some(Pushed::Duplicate),
        },
    };
    made.into_iter().map(answer).collect()
}

fn check(event: &Event, camera: &fleet::Camera, situation: &fleet::Situation) -> Result<(), SubmitError> {
    let mismatch = |expected: &str, found: &str| SubmitError::Mismatch {
        event: event.id,
        expected: expected.into(),
        found: found.into(),
    };
    if event.key.camera != camera.id {
        return Err(mismatch(event.key.camera.as_str(), camera.id.as_str()));
    }
    if event.key.situation != situation.id {
        return Err(mismatch(event.key.situation.as_str(), situation.id.as_str()));
    }
    Ok(())
}

/// What an event's picture is.
fn role_of(event: &Event) -> Role {
    if event.near.is_some() { Role::Near } else { Role::from(PhaseName::from(event.phase)) }
}

fn evidence(event: &Event, role: Role, reference: String, (jpeg, placed): (&Jpeg, &Placed)) -> Evidence {
    Evidence {
        role,
        media_type: "image/jpeg".into(),
        sha256: jpeg.sha256.clone(),
        reference,
        width: jpeg.width,
        height: jpeg.height,
        part: event.near.map(flow::NormBox::to_array),
        record: Some(EvidenceRecord { seq: placed.link.seq, sha256: placed.link.sha256.clone() }),
    }
}

/// The outbox, with its pictures as the options say.
fn open_outbox(options: &Options) -> Result<Outbox, StartError> {
    let evidence = &options.evidence;
    if let Some(pem) = &evidence.key {
        SigningKey::from_pem(pem.reveal())?;
    }
    let dir = &options.data_dir;
    let key = evidence.key.clone().map_or_else(|| KeySource::File(dir.join(KEY_FILE)), KeySource::Given);
    let by = format!("{}/{}", options.site, options.worker);
    let folder = LazyFolder::new(dir.join("evidence"), by, key);
    let pictures = (options.evidence_max_bytes, folder, evidence.retention.clone());
    let outbox = Outbox::open_with(dir, pictures, options.outbox_max_bytes)?;
    outbox.keep_sent(options.broker.keep_sent);
    Ok(outbox)
}
