//! Judges the looks and hands the events on, on one thread: a camera's looks stay in order, and the work is small.
//!
//! What a scene remembers is stored with the events that it leads to, in one transaction, and of all cameras in turn
//! once a minute: a program that is killed goes on where it was, and neither forgets nor doubles a situation.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use fleet::{Camera, Fleet};
use flow::{Basis, CameraId, Counter, Event, Look, Timestamp};
use infer::Gate;
use publish::wire::{LookAnswer, Object, Verdict};
use publish::{Blur, Heard, Jpeg, Publisher, ReplyTo, SceneState};
use scene::{Condition, Scene};

use crate::pipeline::{OnEvent, Told};
use crate::versions::Infos;

/// Every camera's state is stored this often, events or not.
const STORE_EVERY: Duration = Duration::from_secs(60);
/// In so many turns, so that no turn is long.
const TURNS: u32 = 60;
/// Who asks for a look waits for the camera's next picture, and then this long at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Requests that wait for one camera, at most.
const MAX_ASKED: usize = 16;

/// Told what a scene finds out about its camera: its condition, and how many situations its rules hold back.
pub type OnCamera = Box<dyn Fn(&CameraId, Condition, u32) + Send>;

/// What the stage counts.
#[derive(Default)]
pub struct Tally {
    /// Looks received.
    pub looks: Counter,
    /// Looks judged.
    pub done: Counter,
    /// Events made.
    pub events: Counter,
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
    /// Takes the events.
    pub publisher: Arc<Publisher>,
    /// Counts.
    pub tally: Arc<Tally>,
    /// Told of each event that is on disk.
    pub on_event: OnEvent,
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
    told: (Condition, u32),
    /// A look came since its state was stored.
    changed: bool,
    asked: Vec<Asked>,
}

impl SceneStage {
    /// Runs until nobody sends looks any more, then stores every state.
    pub fn run(self, looks: &Receiver<Look>) {
        let mut scenes = self.restored();
        let mut order: VecDeque<CameraId> = scenes.keys().cloned().collect();
        let per_turn = order.len().div_ceil(TURNS as usize);
        let mut next_turn = Instant::now() + STORE_EVERY / TURNS;
        loop {
            match looks.recv_deadline(next_turn) {
                Ok(look) => {
                    self.tally.looks.add(1);
                    if let Some(watched) = scenes.get_mut(&look.frame.id.camera) {
                        self.look(watched, &look);
                    }
                    self.tally.done.add(1);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for heard in self.heard.try_iter() {
                self.hear(&mut scenes, heard);
            }
            if Instant::now() >= next_turn {
                scenes.values_mut().for_each(|watched| self.give_up(watched));
                next_turn = Instant::now() + STORE_EVERY / TURNS;
                order.rotate_left(per_turn.min(order.len()));
                let turn = order.iter().rev().take(per_turn);
                let due = turn.filter_map(|id| scenes.get_mut(id).map(Watched::take_state)).flatten();
                self.store(due.collect());
            }
        }
        let all = scenes.values_mut().filter_map(Watched::take_state);
        self.store(all.collect());
    }

    /// The cameras' scenes, each where it was when the program last ran.
    fn restored(&self) -> HashMap<CameraId, Watched> {
        let new = |camera: &Arc<Camera>| Watched {
            camera: camera.clone(),
            scene: Scene::new(camera),
            told: (Condition::Good, 0),
            changed: false,
            asked: Vec::new(),
        };
        let mut scenes: HashMap<_, _> =
            self.fleet.cameras.iter().map(|camera| (camera.id.clone(), new(camera))).collect();
        let stored = self.publisher.scenes().unwrap_or_else(|error| {
            tracing::error!("{error}; every scene starts anew, and what lasts is told again");
            Vec::new()
        });
        for (camera, state) in stored {
            let Some(watched) = CameraId::new(&camera).ok().and_then(|id| scenes.get_mut(&id)) else {
                continue;
            };
            match serde_json::from_slice(&state) {
                Ok(saved) => drop(watched.scene.restore(saved)),
                Err(error) => {
                    tracing::warn!(camera, "its stored scene cannot be read ({error}); it starts anew")
                }
            }
        }
        scenes
    }

    fn hear(&self, scenes: &mut HashMap<CameraId, Watched>, heard: Heard) {
        match heard {
            Heard::Verdict { event, verdict, reason } => {
                if verdict != Verdict::NotAProblem {
                    return;
                }
                let now = Timestamp::now();
                // Of another worker's cameras, else.
                for watched in scenes.values_mut() {
                    if !watched.scene.dismiss(event, now) {
                        continue;
                    }
                    watched.changed = true;
                    tracing::info!(camera = %watched.camera.id, %event, reason, "dismissed by the desk");
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

    fn look(&self, watched: &mut Watched, look: &Look) {
        let events = watched.scene.look(&look.detections, Some(&look.frame.luma));
        watched.changed = true;
        if !events.is_empty() {
            self.publish(watched, &events, look);
        }
        self.answer(watched, look);
        let id = &watched.camera.id;
        if look.detections.basis == Basis::Unchanged && watched.scene.wants_look() {
            self.gate.ask(id);
        }
        self.tally.per_camera.get(id).inspect(|counter| counter.add(1));
        let held_back = watched.scene.held_back().iter().map(|(_, _, n)| n).sum();
        let now = (watched.scene.condition(), held_back);
        if now != watched.told {
            watched.told = now;
            (self.on_camera)(id, now.0, now.1);
        }
    }

    /// Does not return before the events are on disk: an event is never dropped. While the disk takes nothing, looks
    /// wait, and behind them frames are replaced by newer ones.
    fn publish(&self, watched: &mut Watched, events: &[Event], look: &Look) {
        self.tally.events.add(events.len() as u64);
        let situation = |event: &Event| {
            let situation = self.fleet.situations.get(&event.key.situation);
            &**situation.expect("a rule's situation is checked")
        };
        let all: Vec<_> = events.iter().map(|event| (event, situation(event))).collect();
        let seen = &look.detections;
        let model = self.models.of(&seen.model, &seen.weights).expect("a look's model was loaded");
        let picture = Some((&look.frame, look.detections.list.as_slice()));
        let state = watched.take_state();
        let mut said = false;
        loop {
            match self.publisher.submit_look(&all, &watched.camera, &model, picture, state.as_ref()) {
                Ok(done) => {
                    for (event, done) in events.iter().zip(done) {
                        (self.on_event)(Told { event, evidence: done.evidence_path });
                    }
                    return;
                }
                Err(error) if !said => {
                    tracing::error!(camera = %watched.camera.id, "{error}; trying again each second")
                }
                Err(_) => {}
            }
            said = true;
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// What is not stored now is stored in a minute, or learned anew.
    fn store(&self, states: Vec<SceneState>) {
        if states.is_empty() {
            return;
        }
        if let Err(error) = self.publisher.keep_scenes(&states) {
            tracing::warn!("{error}: the scenes of {} cameras are not stored", states.len());
        }
    }
}

impl Watched {
    /// What to store, if a look came since it was last stored.
    fn take_state(&mut self) -> Option<SceneState> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        match serde_json::to_vec(&self.scene.save()) {
            Ok(state) => Some(SceneState { camera: self.camera.id.clone(), state }),
            Err(error) => {
                tracing::error!(camera = %self.camera.id, "its scene cannot be written: {error}");
                None
            }
        }
    }
}
