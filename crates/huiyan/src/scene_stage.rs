//! Judges the looks and hands the events on, on one thread: a camera's looks stay in order, and the work is small.
//!
//! What a scene remembers is stored with the events that it leads to, in one transaction, and of all cameras in turn
//! once a minute: a program that is killed goes on where it was, and neither forgets nor doubles a situation.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use fleet::{Camera, Fleet};
use flow::{Basis, CameraId, Counter, Event, Look};
use infer::Gate;
use publish::{Publisher, SceneState};
use scene::{Condition, Scene};

use crate::pipeline::{OnEvent, Told};
use crate::versions::Infos;

/// Every camera's state is stored this often, events or not.
const STORE_EVERY: Duration = Duration::from_secs(60);
/// In so many turns, so that no turn is long.
const TURNS: u32 = 60;

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
}

/// One camera.
struct Watched {
    camera: Arc<Camera>,
    scene: Scene,
    /// What was told last.
    told: (Condition, u32),
    /// A look came since its state was stored.
    changed: bool,
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
            if Instant::now() >= next_turn {
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

    fn look(&self, watched: &mut Watched, look: &Look) {
        let events = watched.scene.look(&look.detections, Some(&look.frame.luma));
        watched.changed = true;
        if !events.is_empty() {
            self.publish(watched, &events, look);
        }
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
