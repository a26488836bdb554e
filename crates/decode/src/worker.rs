//! One thread of the pool.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};
use flow::{AccessUnit, CameraId, Frame, Role};

use crate::Fault;
use crate::alone::Alone;
use crate::chained::{Chained, Outcome, id};
use crate::counters::{Counters, Reason};
use crate::device::Means;
use crate::pool::Masks;

/// A chained decoder that was not used for so long may be taken away from its camera.
const STALE: Duration = Duration::from_secs(10);
/// How often a worker looks for stale decoders while nothing else happens.
const SWEEP: Duration = Duration::from_secs(5);

type Output = dyn Fn(Frame) + Send + Sync;
type OnError = dyn Fn(&CameraId, &Fault) + Send + Sync;

/// What all workers use.
pub(crate) struct Shared {
    pub(crate) means: Means,
    pub(crate) counters: Counters,
    pub(crate) output: Box<Output>,
    pub(crate) on_error: Box<OnError>,
    pub(crate) masks: Masks,
    /// The deadline of the shutdown has passed: empty the queues without decoding.
    pub(crate) abort: AtomicBool,
}

impl Shared {
    fn settle(&self, outcome: Outcome) {
        match outcome {
            Outcome::Picture(id, captured, picture) => {
                // Here, since whoever sees a picture sees a frame, and its small copy is made of what is left.
                let masks = self.masks.get(&id.camera).map_or(&[][..], |masks| masks);
                match Frame::decoded(id.clone(), captured, picture, masks) {
                    Ok(frame) => {
                        (self.output)(frame);
                        // Counted after the hand-over, so that an idle account means that all frames have arrived.
                        self.counters.passed.add(1);
                    }
                    Err(error) => {
                        let fault = Fault::Unusable(error.to_string());
                        self.settle(Outcome::Refused(id, Reason::Failed, fault));
                    }
                }
            }
            Outcome::Dropped(reason) => self.counters.drop_one(reason),
            Outcome::Refused(id, reason, fault) => {
                tracing::debug!(camera = %id.camera, session = %id.session, sequence = id.sequence, %fault,
                    "access unit refused");
                (self.on_error)(&id.camera, &fault);
                self.counters.drop_one(reason);
            }
        }
    }
}

/// Owns its decoders; nobody else touches them.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    max_chained: usize,
    alone: Alone,
    chained: HashMap<CameraId, Chained>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, max_chained: usize) -> Self {
        let alone = Alone::new(shared.means.clone());
        Self { shared, max_chained, alone, chained: HashMap::new() }
    }

    /// Works until both queues are closed and empty.
    pub(crate) fn run(mut self, mut any: Receiver<AccessUnit>, mut own: Receiver<AccessUnit>) {
        let (mut any_open, mut own_open) = (true, true);
        while any_open || own_open {
            let unit = select! {
                recv(any) -> unit => unit.inspect_err(|_| { any_open = false; any = never(); }).ok(),
                recv(own) -> unit => unit.inspect_err(|_| { own_open = false; own = never(); }).ok(),
                default(SWEEP) => None,
            };
            match unit {
                Some(_) if self.shared.abort.load(Ordering::Relaxed) => {
                    self.shared.counters.drop_one(Reason::Shutdown);
                }
                Some(unit) => self.work(unit),
                None => self.sweep(),
            }
        }
        self.finish_all();
    }

    fn work(&mut self, unit: AccessUnit) {
        match unit.role {
            Role::Alone => {
                let outcome = self.stand_alone(unit);
                self.shared.settle(outcome);
            }
            Role::Chained { .. } => {
                let mut out = Vec::new();
                self.chain(unit, &mut out);
                out.into_iter().for_each(|outcome| self.shared.settle(outcome));
            }
        }
    }

    fn stand_alone(&mut self, unit: AccessUnit) -> Outcome {
        let id = id(&unit);
        if !unit.key {
            return Outcome::Dropped(Reason::NoKey);
        }
        match self.alone.decode(unit.codec, unit.data) {
            Ok(picture) => Outcome::Picture(id, unit.captured, picture),
            Err(fault) => {
                let reason = match fault {
                    Fault::Deadline(_) | Fault::Failed(_) => Reason::Failed,
                    _ => Reason::Corrupt,
                };
                Outcome::Refused(id, reason, fault)
            }
        }
    }

    fn chain(&mut self, unit: AccessUnit, out: &mut Vec<Outcome>) {
        let camera = unit.camera.clone();
        if self.chained.get(&camera).is_some_and(|chained| !chained.fits(&unit)) {
            self.retire(&camera, out);
        }
        if !self.chained.contains_key(&camera) {
            // Without a key picture a decoder would be built only to wait.
            if !unit.key {
                return out.push(Outcome::Dropped(Reason::NoKey));
            }
            if let Err((reason, fault)) = self.make_room(out).and_then(|()| self.start(&unit)) {
                if reason != Reason::NoDecoder {
                    return out.push(Outcome::Refused(id(&unit), reason, fault));
                }
                // What stands alone can be looked at all the same.
                return out.push(match self.stand_alone(unit) {
                    Outcome::Refused(id, Reason::Corrupt, Fault::NotAlone(_)) => {
                        Outcome::Refused(id, reason, fault)
                    }
                    other => {
                        (self.shared.on_error)(&camera, &fault);
                        other
                    }
                });
            }
        }
        let Some(chained) = self.chained.get_mut(&camera) else { return };
        if let Err(fault) = chained.decode(unit, out)
            && let Some(chained) = self.chained.remove(&camera)
        {
            chained.abandon(&fault, out);
        }
    }

    fn start(&mut self, unit: &AccessUnit) -> Result<(), (Reason, Fault)> {
        let chained = Chained::new(&self.shared.means, unit).map_err(|fault| (Reason::Failed, fault))?;
        self.chained.insert(unit.camera.clone(), chained);
        Ok(())
    }

    /// Taking a decoder from a camera that is being watched would leave both with nothing but key pictures, so
    /// only one that has fallen silent loses it.
    fn make_room(&mut self, out: &mut Vec<Outcome>) -> Result<(), (Reason, Fault)> {
        if self.chained.len() < self.max_chained {
            return Ok(());
        }
        let oldest = self.chained.iter().min_by_key(|(_, chained)| chained.last_used);
        match oldest.map(|(camera, chained)| (camera.clone(), chained.last_used.elapsed())) {
            Some((camera, idle)) if idle >= STALE => {
                self.retire(&camera, out);
                Ok(())
            }
            _ => Err((Reason::NoDecoder, Fault::NoDecoder(self.max_chained))),
        }
    }

    fn retire(&mut self, camera: &CameraId, out: &mut Vec<Outcome>) {
        if let Some(mut chained) = self.chained.remove(camera)
            && let Err(fault) = chained.finish(out)
        {
            chained.abandon(&fault, out);
        }
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        let stale: Vec<CameraId> = self
            .chained
            .iter()
            .filter(|(_, chained)| now.duration_since(chained.last_used) >= STALE)
            .map(|(camera, _)| camera.clone())
            .collect();
        self.retire_all(stale);
    }

    fn finish_all(&mut self) {
        let all = self.chained.keys().cloned().collect();
        self.retire_all(all);
    }

    fn retire_all(&mut self, cameras: Vec<CameraId>) {
        let mut out = Vec::new();
        for camera in &cameras {
            self.retire(camera, &mut out);
        }
        out.into_iter().for_each(|outcome| self.shared.settle(outcome));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use flow::{Codec, MediaTime, SessionId, Timestamp};

    use super::*;

    fn unit(camera: &str, key: bool) -> AccessUnit {
        AccessUnit {
            camera: CameraId::new(camera).unwrap(),
            session: SessionId::next(),
            sequence: 0,
            codec: Codec::H264,
            media_time: MediaTime { ticks: 0, clock_rate: 90_000 },
            captured: Timestamp::UNIX_EPOCH,
            key,
            role: Role::Chained { deliver: true },
            lost_before: 0,
            bytes_between: 0,
            data: crate::testing::coded(),
        }
    }

    #[test]
    fn only_a_silent_camera_loses_its_decoder() {
        let arrived: Arc<Mutex<Vec<CameraId>>> = Arc::default();
        let to_arrived = arrived.clone();
        let shared = Arc::new(Shared {
            means: Means::default(),
            counters: Counters::default(),
            output: Box::new(move |frame| to_arrived.lock().unwrap().push(frame.id.camera)),
            on_error: Box::new(|_, _| {}),
            masks: Arc::default(),
            abort: AtomicBool::new(false),
        });
        let mut worker = Worker::new(shared.clone(), 1);
        let (a, b) = (CameraId::new("a").unwrap(), CameraId::new("b").unwrap());
        let cameras = |worker: &Worker| worker.chained.keys().cloned().collect::<Vec<_>>();

        worker.work(unit("b", false));
        assert!(cameras(&worker).is_empty(), "no decoder without a key picture");
        worker.work(unit("a", true));
        worker.work(unit("b", true));
        assert_eq!(cameras(&worker), std::slice::from_ref(&a), "a is being watched");
        worker.chained.get_mut(&a).unwrap().last_used -= STALE;
        worker.work(unit("b", true));
        assert_eq!(cameras(&worker), std::slice::from_ref(&b));
        worker.chained.get_mut(&b).unwrap().last_used -= STALE;
        worker.sweep();
        assert!(cameras(&worker).is_empty());

        let dropped = shared.counters.flow().dropped;
        assert_eq!(dropped.iter().filter(|(_, n)| *n > 0).copied().collect::<Vec<_>>(), [("no_key", 1)]);
        assert_eq!(*arrived.lock().unwrap(), [b.clone(), a, b], "b's key picture, then what they held");
    }
}
