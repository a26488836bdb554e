//! What waits for inference, and the decision which of it runs next. No threads, no clock: `now` comes in.
//!
//! One slot per camera, newest wins: a newer frame replaces the one that waits, but keeps its place in the line, so
//! that a fast camera neither passes a slow one nor is passed for ever. A camera whose frame is being looked at is
//! out of the line until that is done, so its looks come out in the order of its frames however many threads look.
//!
//! The order of the line is that of the moments when frames arrived, each put off by [`PATIENCE`] for every step that
//! the camera's priority is below the highest. So as long as all can be served, nobody notices a priority. When more
//! comes than can be looked at, frames of the lowest priority are passed again and again and replaced in their slots;
//! but none longer than its patience and one turn of all cameras: whatever arrives later than that stands behind it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use fleet::Priority;
use flow::CameraId;

/// How long a frame lets those of the next higher priority pass. Situations last minutes: a look in half a minute,
/// or in one, still sees them.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Run a batch of this model.
    Take(usize),
    /// Nothing is full, but something is due then.
    WaitUntil(Instant),
    /// Nothing waits.
    Wait,
}

/// What of one model waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// Cameras in it.
    pub ready: usize,
    /// Since when the one waits that waits longest.
    pub oldest: Option<Instant>,
    /// When the next one arrived, put off by its patience.
    pub next: Option<Instant>,
    /// As many as fit into a batch, > 0.
    pub full: usize,
}

/// Runs a model when its batch is full or when its oldest frame has waited for `max_delay`; of several such models,
/// the one whose next frame has the earliest place.
pub(crate) fn decide(
    lines: impl Iterator<Item = Line> + Clone,
    max_delay: Duration,
    now: Instant,
) -> Decision {
    let waiting = || lines.clone().enumerate().filter_map(|(model, l)| Some((l.oldest?, l.next?, model, l)));
    let due = waiting().filter(|(oldest, .., line)| line.ready >= line.full || now >= *oldest + max_delay);
    if let Some((_, _, model, _)) = due.min_by_key(|(_, next, model, _)| (*next, *model)) {
        return Decision::Take(model);
    }
    let next = waiting().map(|(oldest, ..)| oldest + max_delay).min();
    next.map_or(Decision::Wait, Decision::WaitUntil)
}

/// A place in the line: arrival, and a number that orders what arrived in the same instant.
type Place = (Instant, u64);

/// Cameras in the order of their arrival, by priority.
type Lines = [BTreeMap<Place, CameraId>; Priority::ALL.len()];

/// How long frames of a priority let others pass.
fn patience(priority: Priority) -> Duration {
    PATIENCE * priority as u32
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    model: usize,
    priority: Priority,
    place: Place,
    arrived: Instant,
}

#[derive(Debug)]
struct Slot<T> {
    waiting: Option<Waiting<T>>,
    running: bool,
}

/// Something taken out of the queue to be run.
#[derive(Debug, PartialEq)]
pub(crate) struct Taken<T> {
    /// Whose.
    pub camera: CameraId,
    /// What.
    pub item: T,
    /// How long this very item waited.
    pub waited: Duration,
    /// As how important.
    pub priority: Priority,
}

/// The frames that wait, at most one per camera.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    max_delay: Duration,
    /// As many as fit into a batch, per model.
    full: Vec<usize>,
    /// Per model.
    lines: Vec<Lines>,
    slots: HashMap<CameraId, Slot<T>>,
    turns: u64,
}

impl<T> Queue<T> {
    /// For as many models as `full` has entries: the size of each one's batch, > 0.
    pub fn new(full: Vec<usize>, max_delay: Duration) -> Self {
        let lines = full.iter().map(|_| Lines::default()).collect();
        Self { max_delay, full, lines, slots: HashMap::new(), turns: 0 }
    }

    /// Puts an item into the camera's slot. Returns the one that waited there and is now superseded.
    pub fn offer(
        &mut self,
        camera: &CameraId,
        (model, priority): (usize, Priority),
        item: T,
        now: Instant,
    ) -> Option<T> {
        if !self.slots.contains_key(camera) {
            self.slots.insert(camera.clone(), Slot { waiting: None, running: false });
        }
        let slot = self.slots.get_mut(camera)?;
        self.turns += 1;
        let before = slot.waiting.take();
        let place = before.as_ref().map_or((now, self.turns), |w| w.place);
        if let Some(before) = &before {
            self.lines[before.model][before.priority as usize].remove(&place);
        }
        if !slot.running {
            self.lines[model][priority as usize].insert(place, camera.clone());
        }
        slot.waiting = Some(Waiting { item, model, priority, place, arrived: now });
        before.map(|w| w.item)
    }

    /// What to do now.
    pub fn decide(&self, now: Instant) -> Decision {
        decide((0..self.lines.len()).map(|model| self.line(model)), self.max_delay, now)
    }

    /// What of a model waits.
    pub fn line(&self, model: usize) -> Line {
        let lines = &self.lines[model];
        let first = |line: &BTreeMap<Place, CameraId>| line.first_key_value().map(|((since, _), _)| *since);
        Line {
            ready: lines.iter().map(BTreeMap::len).sum(),
            oldest: lines.iter().filter_map(first).min(),
            next: next(lines).map(|(at, _)| at),
            full: self.full[model],
        }
    }

    /// Takes a batch of a model, in the order of the line, and adds it to `batch`. Its cameras are running until
    /// [`done`](Self::done).
    pub fn take(&mut self, model: usize, now: Instant, batch: &mut Vec<Taken<T>>) {
        for _ in 0..self.full[model] {
            let Some((_, priority)) = next(&self.lines[model]) else { break };
            let Some((_, camera)) = self.lines[model][priority as usize].pop_first() else { break };
            let Some(slot) = self.slots.get_mut(&camera) else { continue };
            let Some(waiting) = slot.waiting.take() else { continue };
            slot.running = true;
            let waited = now.saturating_duration_since(waiting.arrived);
            batch.push(Taken { camera, item: waiting.item, waited, priority: waiting.priority });
        }
    }

    /// The camera's frame has been looked at: it may have its next turn.
    pub fn done(&mut self, camera: &CameraId) {
        let Some(slot) = self.slots.get_mut(camera) else { return };
        slot.running = false;
        match &slot.waiting {
            Some(waiting) => {
                let line = &mut self.lines[waiting.model][waiting.priority as usize];
                line.insert(waiting.place, camera.clone());
            }
            None => {
                self.slots.remove(camera);
            }
        }
    }

    /// Whether a batch could be taken now or later without a further frame.
    pub fn has_ready(&self) -> bool {
        self.lines.iter().flatten().any(|line| !line.is_empty())
    }

    /// Items that wait.
    pub fn waiting(&self) -> usize {
        self.slots.values().filter(|slot| slot.waiting.is_some()).count()
    }

    /// Drops all that waits and says how many.
    pub fn clear(&mut self) -> usize {
        let waiting = self.waiting();
        self.lines.iter_mut().flatten().for_each(BTreeMap::clear);
        self.slots.retain(|_, slot| {
            slot.waiting = None;
            slot.running
        });
        waiting
    }
}

/// The earliest place of a model's lines, and in which line it is.
fn next(lines: &Lines) -> Option<(Instant, Priority)> {
    let first = |priority: Priority| {
        let ((since, _), _) = lines[priority as usize].first_key_value()?;
        Some((*since + patience(priority), priority))
    };
    Priority::ALL.into_iter().filter_map(first).min_by_key(|(at, priority)| (*at, *priority as usize))
}

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod tests;
