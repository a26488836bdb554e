//! Judges the looks and hands the events on, on one thread: a camera's looks stay in order, and the work is small.
//!
//! What a scene remembers is stored with the events that it leads to, in one transaction, and of all cameras in turn
//! once a minute: a program that is killed goes on where it was, and neither forgets nor doubles a situation.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use fleet::{Camera, Fleet};
use flow::{Basis, CameraId, Counter, Detections, Event, Look, Timestamp};
use infer::{Confirmer, Gate};
use publish::wire::{LookAnswer, Object, Verdict};
use publish::{Blur, Heard, Jpeg, OutboxError, Publisher, ReplyTo, SceneState};
use scene::{Condition, Neighbours, Saved, Scene};

use crate::confirm::{PATIENCE, Verdicts};
use crate::health::HeldBack;
use crate::pipeline::{OnEvent, Told};
use crate::reference;
use crate::versions::Infos;

/// Every camera's state is stored this often, events or not.
const STORE_EVERY: Duration = Duration::from_secs(60);
/// In so many turns, so that no turn is long.
const TURNS: u32 = 60;
/// Who asks for a look waits for the camera's next picture, and then this long at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Requests that wait for one camera, at most.
const MAX_ASKED: usize = 16;

/// What comes to the scenes.
#[allow(
    clippy::large_enum_variant,
    reason = "few wait, and a look on the heap would cost each of them an allocation"
)]
pub enum Sight {
    /// A look and its picture.
    Look(Look),
    /// A look that stands in the place of a picture that was not decoded.
    Repeated(Detections),
}

impl Sight {
    fn detections(&self) -> &Detections {
        match self {
            Self::Look(look) => &look.detections,
            Self::Repeated(detections) => detections,
        }
    }
}

/// Told what a scene finds out about its camera: its condition, and how many situations its rules hold back.
pub type OnCamera = Box<dyn Fn(&CameraId, Condition, HeldBack) + Send>;

/// What the stage counts.
#[derive(Default)]
pub struct Tally {
    /// Looks received.
    pub looks: Counter,
    /// Looks judged.
    pub done: Counter,
    /// Events made.
    pub events: Counter,
    /// What second models said.
    pub verdicts: Verdicts,
    /// Looks, by camera.
    pub per_camera: HashMap<CameraId, Counter>,
}

/// The stage.
pub struct SceneStage {
    /// The cameras and situations.
    pub fleet: Arc<Fleet>,
    /// Asked to let a picture through where a scene wants one.
    pub gate: Arc<Gate>,
    /// The models' versions.
    pub models: Arc<Infos>,
    /// Second models, where a rule asks one.
    pub confirmer: Option<Arc<Confirmer>>,
    /// Takes the events.
    pub publisher: Arc<Publisher>,
    /// Counts.
    pub tally: Arc<Tally>,
    /// Told of each event that is on disk.
    pub on_event: Arc<Mutex<OnEvent>>,
    /// Told of each camera whose condition changes.
    pub on_camera: OnCamera,
    /// What the desk and others say.
    pub heard: Receiver<Heard>,
    /// Takes the answers.
    pub answers: OnAnswer,
    /// How pictures in answers are blurred.
    pub blur: Blur,
}

/// Takes the answer to a request to look.
pub type OnAnswer = Box<dyn Fn(&ReplyTo, &LookAnswer) + Send>;

/// Somebody waits for a look.
struct Asked {
    reply: ReplyTo,
    at: Timestamp,
    until: Instant,
}

/// One camera.
struct Watched {
    camera: Arc<Camera>,
    scene: Scene,
    /// What was told last.
    told: (Condition, HeldBack),
    /// A look came since its state was stored.
    changed: bool,
    asked: Vec<Asked>,
}

impl SceneStage {
    /// Runs until nobody sends looks any more, then stores every state.
    pub fn run(self, looks: &Receiver<Sight>) {
        let (mut scenes, mut neighbours) = self.restored();
        let mut order: VecDeque<CameraId> = scenes.keys().cloned().collect();
        let per_turn = order.len().div_ceil(TURNS as usize);
        let mut next_turn = Instant::now() + STORE_EVERY / TURNS;
        loop {
            match looks.recv_deadline(next_turn) {
                Ok(sight) => {
                    self.tally.looks.add(1);
                    if let Some(watched) = scenes.get_mut(&sight.detections().frame.camera) {
                        self.take(watched, &mut neighbours, &sight);
                    }
                    self.tally.done.add(1);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for heard in self.heard.try_iter() {
                self.hear(&mut scenes, &neighbours, heard);
            }
            if Instant::now() >= next_turn {
                scenes.values_mut().for_each(|watched| self.give_up(watched));
                next_turn = Instant::now() + STORE_EVERY / TURNS;
                order.rotate_left(per_turn.min(order.len()));
                let turn = order.iter().rev().take(per_turn);
                let due = turn.filter_map(|id| scenes.get_mut(id)?.take_state(&neighbours));
                self.store(due.collect());
            }
        }
        let all = scenes.values_mut().filter_map(|watched| watched.take_state(&neighbours));
        self.store(all.collect());
    }

    /// The cameras' scenes, each where it was when the program last ran.
    fn restored(&self) -> (HashMap<CameraId, Watched>, Neighbours) {
        let new = |camera: &Arc<Camera>| Watched {
            camera: camera.clone(),
            scene: reference::scene(camera),
            told: (Condition::Good, HeldBack::default()),
            changed: false,
            asked: Vec::new(),
        };
        let mut scenes: HashMap<_, _> =
            self.fleet.cameras.iter().map(|camera| (camera.id.clone(), new(camera))).collect();
        let mut neighbours = Neighbours::new(self.fleet.cameras.iter().map(|camera| &**camera));
        let stored = self.publisher.scenes().unwrap_or_else(|error| {
            tracing::error!("{error}; every scene starts anew, and what lasts is told again");
            Vec::new()
        });
        for (camera, state) in stored {
            let Some(watched) = CameraId::new(&camera).ok().and_then(|id| scenes.get_mut(&id)) else {
                continue;
            };
            match serde_json::from_slice::<Saved>(&state) {
                Ok(mut saved) => {
                    neighbours.restore(&watched.camera.id, std::mem::take(&mut saved.sightings));
                    watched.scene.restore(saved);
                }
                Err(error) => {
                    tracing::warn!(camera, "its stored scene cannot be read ({error}); it starts anew")
                }
            }
        }
        (scenes, neighbours)
    }

    fn hear(&self, scenes: &mut HashMap<CameraId, Watched>, neighbours: &Neighbours, heard: Heard) {
        match heard {
            Heard::Verdict { event, verdict, reason } => {
                if verdict != Verdict::NotAProblem {
                    return;
                }
                let now = Timestamp::now();
                // Of another worker's cameras, else.
                let views = neighbours.views_of(event);
                for watched in scenes.values_mut() {
                    for view in views.iter().filter(|view| watched.scene.dismiss(**view, now)) {
                        watched.changed = true;
                        tracing::info!(camera = %watched.camera.id, event = %view, reason, "dismissed by the desk");
                    }
                }
            }
            Heard::Look { camera, reply } => {
                let Some(watched) = scenes.get_mut(&camera) else { return };
                if watched.asked.len() < MAX_ASKED {
                    let until = Instant::now() + watched.camera.look.at_least_every + ANSWER_WITHIN;
                    watched.asked.push(Asked { reply, at: Timestamp::now(), until });
                }
                self.gate.ask(&camera);
            }
        }
    }

    /// Answers who asked for a look before this one was captured.
    fn answer(&self, watched: &mut Watched, look: &Look) {
        if watched.asked.is_empty() {
            return;
        }
        let detections = &look.detections;
        if detections.basis == Basis::Unchanged {
            return self.gate.ask(&watched.camera.id);
        }
        let asked = watched.asked.extract_if(.., |asked| asked.at <= detections.captured).collect::<Vec<_>>();
        if asked.is_empty() {
            return;
        }
        let picture = Jpeg::of(&look.frame, &detections.list, &self.blur);
        let object = |seen: &flow::Detection| Object {
            class: seen.class.clone(),
            score: seen.score,
            bbox: seen.bbox,
            track: 0,
            first_seen: detections.captured,
        };
        let answer = LookAnswer {
            camera: watched.camera.id.clone(),
            captured: Some(detections.captured),
            objects: detections.list.iter().map(object).collect(),
            open: watched.scene.open_events(),
            error: picture.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            picture: picture.ok().map(|jpeg| jpeg.picture()),
        };
        asked.iter().for_each(|asked| (self.answers)(&asked.reply, &answer));
    }

    /// Tells who has waited too long that no picture came.
    fn give_up(&self, watched: &mut Watched) {
        let now = Instant::now();
        let late = watched.asked.extract_if(.., |asked| asked.until <= now).collect::<Vec<_>>();
        for asked in late {
            let answer = LookAnswer {
                camera: watched.camera.id.clone(),
                captured: None,
                objects: vec![],
                open: watched.scene.open_events(),
                picture: None,
                error: "no picture came in time".into(),
            };
            (self.answers)(&asked.reply, &answer);
        }
    }

    fn take(&self, watched: &mut Watched, neighbours: &mut Neighbours, sight: &Sight) {
        let seen = sight.detections();
        let luma = match sight {
            Sight::Look(look) => Some(&look.frame.luma),
            Sight::Repeated(_) => None,
        };
        let mut events = watched.scene.look(seen, luma);
        if let (Sight::Look(look), Some(confirmer)) = (sight, &self.confirmer) {
            events.extend(self.tally.verdicts.settle(&mut watched.scene, &look.frame, confirmer, PATIENCE));
        }
        if let Sight::Look(look) = sight
            && watched.scene.wants_near()
            && let Ok(picture) = look.frame.pixels.on_host()
        {
            events.extend(watched.scene.near(seen, &picture));
        }
        events.iter_mut().for_each(|event| neighbours.take(event));
        watched.changed = true;
        if let Sight::Look(look) = sight {
            if !events.is_empty() {
                self.publish(watched, neighbours, &events, look);
            }
            self.answer(watched, look);
        } else {
            debug_assert!(events.is_empty(), "a look that repeats makes no event");
        }
        let id = &watched.camera.id;
        let wants_look = watched.scene.wants_look();
        if seen.basis == Basis::Unchanged && wants_look {
            self.gate.ask(id);
        }
        let at_ease = !wants_look && watched.asked.is_empty() && watched.scene.condition() == Condition::Good;
        self.gate.taken(&seen.frame, at_ease);
        self.tally.per_camera.get(id).inspect(|counter| counter.add(1));
        let sum = |list: Vec<(_, _, u32)>| list.iter().map(|(_, _, n)| n).sum();
        let held_back = HeldBack {
            by_cap: sum(watched.scene.held_back()),
            by_second_model: sum(watched.scene.rejected()),
        };
        let now = (watched.scene.condition(), held_back);
        if now != watched.told {
            watched.told = now;
            (self.on_camera)(id, now.0, now.1);
        }
    }

    /// Does not wait for the disk: many events share one sync of it. While it takes nothing, they are held in memory and
    /// watching goes on; when that is full this waits, looks wait behind it, and frames are replaced by newer ones. An
    /// event is never dropped.
    fn publish(&self, watched: &mut Watched, neighbours: &Neighbours, events: &[Event], look: &Look) {
        self.tally.events.add(events.len() as u64);
        let situation = |event: &Event| {
            let situation = self.fleet.situations.get(&event.key.situation);
            &**situation.expect("a rule's situation is checked")
        };
        let all: Vec<_> = events.iter().map(|event| (event, situation(event))).collect();
        let seen = &look.detections;
        let model = self.models.of(&seen.model, &seen.weights).expect("a look's model was loaded");
        let picture = Some((&look.frame, look.detections.list.as_slice()));
        let state = watched.take_state(neighbours);
        let (on_event, told, id) = (self.on_event.clone(), events.to_vec(), watched.camera.id.clone());
        let done = move |stored: publish::Stored| match stored {
            Ok(stored) => {
                let on_event = on_event.lock().unwrap_or_else(PoisonError::into_inner);
                for (event, stored) in told.iter().zip(stored) {
                    on_event(Told { event, evidence: stored.evidence_path });
                }
            }
            // Only of a disk that took nothing until the program ended.
            Err(error) => tracing::error!(camera = %id, "{error}: {} event(s) are lost", told.len()),
        };
        if let Err(error) = self.publisher.hand_over(&all, &watched.camera, &model, picture, state, done) {
            tracing::error!(camera = %watched.camera.id, "{error}");
        }
    }

    /// What is not stored now is stored in a minute, or learned anew.
    fn store(&self, states: Vec<SceneState>) {
        if states.is_empty() {
            return;
        }
        match self.publisher.keep_scenes(&states) {
            // That the disk takes nothing was said when it began.
            Ok(()) | Err(OutboxError::Disk(_)) => {}
            Err(error) => {
                tracing::warn!("{error}: the scenes of {} cameras are not stored", states.len());
            }
        }
    }
}

impl Watched {
    /// What to store, if a look came since it was last stored.
    fn take_state(&mut self, neighbours: &Neighbours) -> Option<SceneState> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut saved = self.scene.save();
        saved.sightings = neighbours.save(&self.camera.id);
        match serde_json::to_vec(&saved) {
            Ok(state) => Some(SceneState { camera: self.camera.id.clone(), state }),
            Err(error) => {
                tracing::error!(camera = %self.camera.id, "its scene cannot be written: {error}");
                None
            }
        }
    }
}
