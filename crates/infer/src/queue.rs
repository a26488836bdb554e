//! What waits for inference, and the decision which of it runs next. No threads, no clock: `now` comes in.
//!
//! One slot per camera, newest wins: a newer frame replaces the one that waits, but keeps its place in the line, so
//! that a fast camera neither passes a slow one nor is passed for ever. A camera whose frame is being looked at is
//! out of the line until that is done, so its looks come out in the order of its frames however many threads look.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use flow::CameraId;

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
    /// Since when the first of them waits.
    pub oldest: Option<Instant>,
    /// As many as fit into a batch, > 0.
    pub full: usize,
}

/// Runs a model when its batch is full or when its oldest frame has waited for `max_delay`; of several such models,
/// the one whose oldest frame waits longest.
pub(crate) fn decide(lines: &[Line], max_delay: Duration, now: Instant) -> Decision {
    let waiting = || lines.iter().enumerate().filter_map(|(model, line)| Some((line.oldest?, model, line)));
    let due = waiting().filter(|(oldest, _, line)| line.ready >= line.full || now >= *oldest + max_delay);
    if let Some((_, model, _)) = due.min_by_key(|(oldest, model, _)| (*oldest, *model)) {
        return Decision::Take(model);
    }
    let next = waiting().map(|(oldest, ..)| oldest + max_delay).min();
    next.map_or(Decision::Wait, Decision::WaitUntil)
}

/// A place in the line: arrival, and a number that orders what arrived in the same instant.
type Place = (Instant, u64);

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    model: usize,
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
}

/// The frames that wait, at most one per camera.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    max_delay: Duration,
    /// As many as fit into a batch, per model.
    full: Vec<usize>,
    /// Cameras in the order of their turns, per model.
    lines: Vec<BTreeMap<Place, CameraId>>,
    slots: HashMap<CameraId, Slot<T>>,
    turns: u64,
}

impl<T> Queue<T> {
    /// For as many models as `full` has entries: the size of each one's batch, > 0.
    pub fn new(full: Vec<usize>, max_delay: Duration) -> Self {
        let lines = full.iter().map(|_| BTreeMap::new()).collect();
        Self { max_delay, full, lines, slots: HashMap::new(), turns: 0 }
    }

    /// Puts an item into the camera's slot. Returns the one that waited there and is now superseded.
    pub fn offer(&mut self, camera: &CameraId, model: usize, item: T, now: Instant) -> Option<T> {
        if !self.slots.contains_key(camera) {
            self.slots.insert(camera.clone(), Slot { waiting: None, running: false });
        }
        let slot = self.slots.get_mut(camera)?;
        self.turns += 1;
        let before = slot.waiting.take();
        let place = before.as_ref().map_or((now, self.turns), |w| w.place);
        if let Some(before) = &before {
            self.lines[before.model].remove(&place);
        }
        if !slot.running {
            self.lines[model].insert(place, camera.clone());
        }
        slot.waiting = Some(Waiting { item, model, place, arrived: now });
        before.map(|w| w.item)
    }

    /// What to do now.
    pub fn decide(&self, now: Instant) -> Decision {
        let lines: Vec<_> = (0..self.lines.len()).map(|model| self.line(model)).collect();
        decide(&lines, self.max_delay, now)
    }

    /// What of a model waits.
    pub fn line(&self, model: usize) -> Line {
        let line = &self.lines[model];
        Line {
            ready: line.len(),
            oldest: line.first_key_value().map(|((since, _), _)| *since),
            full: self.full[model],
        }
    }

    /// Takes a batch of a model, oldest first. Its cameras are running until [`done`](Self::done).
    pub fn take(&mut self, model: usize, now: Instant) -> Vec<Taken<T>> {
        let mut batch = Vec::new();
        while batch.len() < self.full[model] {
            let Some((_, camera)) = self.lines[model].pop_first() else { break };
            let Some(slot) = self.slots.get_mut(&camera) else { continue };
            let Some(waiting) = slot.waiting.take() else { continue };
            slot.running = true;
            let waited = now.saturating_duration_since(waiting.arrived);
            batch.push(Taken { camera, item: waiting.item, waited });
        }
        batch
    }

    /// The camera's frame has been looked at: it may have its next turn.
    pub fn done(&mut self, camera: &CameraId) {
        let Some(slot) = self.slots.get_mut(camera) else { return };
        slot.running = false;
        match &slot.waiting {
            Some(waiting) => {
                self.lines[waiting.model].insert(waiting.place, camera.clone());
            }
            None => {
                self.slots.remove(camera);
            }
        }
    }

    /// Whether a batch could be taken now or later without a further frame.
    pub fn has_ready(&self) -> bool {
        self.lines.iter().any(|line| !line.is_empty())
    }

    /// Items that wait.
    pub fn waiting(&self) -> usize {
        self.slots.values().filter(|slot| slot.waiting.is_some()).count()
    }

    /// Drops all that waits and says how many.
    pub fn clear(&mut self) -> usize {
        let waiting = self.waiting();
        self.lines.iter_mut().for_each(BTreeMap::clear);
        self.slots.retain(|_, slot| {
            slot.waiting = None;
            slot.running
        });
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(50);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn camera(name: &str) -> CameraId {
        CameraId::new(name).unwrap()
    }

    fn items<T>(batch: Vec<Taken<T>>) -> Vec<T> {
        batch.into_iter().map(|t| t.item).collect()
    }

    #[test]
    fn a_batch_runs_when_full_or_when_its_oldest_has_waited() {
        let t = Instant::now();
        let line = |ready, since: u64| Line { ready, oldest: (ready > 0).then(|| t + ms(since)), full: 4 };
        let table = [
            (vec![], 0, Decision::Wait),
            (vec![line(0, 0)], 1000, Decision::Wait),
            (vec![line(3, 0)], 49, Decision::WaitUntil(t + DELAY)),
            (vec![line(3, 0)], 50, Decision::Take(0)),
            (vec![line(4, 0)], 0, Decision::Take(0)),
            (vec![line(9, 0)], 0, Decision::Take(0)),
            // Two models: the full one before the older one that is not yet due; of two due ones the older.
            (vec![line(1, 0), line(4, 20)], 20, Decision::Take(1)),
            (vec![line(4, 20), line(1, 0)], 60, Decision::Take(1)),
            (vec![line(1, 20), line(1, 0)], 30, Decision::WaitUntil(t + DELAY)),
        ];
        for (lines, now, wanted) in table {
            assert_eq!(decide(&lines, DELAY, t + ms(now)), wanted, "{lines:?} at {now} ms");
        }
    }

    #[test]
    fn the_newest_frame_wins_and_keeps_the_place_of_the_first() {
        let t = Instant::now();
        let mut queue = Queue::new(vec![2], DELAY);
        assert_eq!(queue.offer(&camera("fast"), 0, 1, t), None);
        assert_eq!(queue.offer(&camera("slow"), 0, 10, t + ms(1)), None);
        assert_eq!(queue.offer(&camera("other"), 0, 20, t + ms(2)), None);
        assert_eq!(queue.offer(&camera("fast"), 0, 2, t + ms(30)), Some(1));
        assert_eq!(queue.offer(&camera("fast"), 0, 3, t + ms(40)), Some(2));
        let batch = queue.take(0, t + ms(45));
        assert_eq!(batch[0], Taken { camera: camera("fast"), item: 3, waited: ms(5) });
        assert_eq!(batch[1], Taken { camera: camera("slow"), item: 10, waited: ms(44) });
        assert_eq!(queue.waiting(), 1);
    }

    #[test]
    fn a_frame_replaced_again_and_again_is_not_put_off() {
        let t = Instant::now();
        let mut queue = Queue::new(vec![8], DELAY);
        for i in 0..5 {
            queue.offer(&camera("fast"), 0, i, t + ms(i * 10));
        }
        assert_eq!(queue.decide(t + ms(49)), Decision::WaitUntil(t + DELAY));
        assert_eq!(queue.decide(t + ms(50)), Decision::Take(0));
    }

    #[test]
    fn a_camera_has_one_look_at_a_time_and_then_its_turn() {
        let t = Instant::now();
        let mut queue = Queue::new(vec![1], DELAY);
        queue.offer(&camera("a"), 0, 1, t);
        assert_eq!(items(queue.take(0, t)), [1]);
        queue.offer(&camera("a"), 0, 2, t + ms(1));
        queue.offer(&camera("b"), 0, 10, t + ms(2));
        // "a" waits, but its first frame is not done.
        assert_eq!(items(queue.take(0, t + ms(3))), [10]);
        assert_eq!(queue.decide(t + ms(500)), Decision::Wait);
        assert_eq!(queue.offer(&camera("a"), 0, 3, t + ms(4)), Some(2));
        queue.offer(&camera("c"), 0, 20, t + ms(5));
        queue.done(&camera("a"));
        // It waits since 1 ms, "c" since 5 ms.
        assert_eq!(items(queue.take(0, t + ms(6))), [3]);
        assert_eq!(items(queue.take(0, t + ms(6))), [20]);
    }

    #[test]
    fn many_cameras_get_equal_turns_under_overload() {
        // 50 cameras, the first ten of them ten times as fast; one batch of 5 per 10 ms serves half of what comes.
        let t = Instant::now();
        let mut queue = Queue::new(vec![5], DELAY);
        let cameras: Vec<_> = (0..50).map(|i| camera(&format!("c{i}"))).collect();
        let mut looks: HashMap<CameraId, u32> = HashMap::new();
        for step in 0..1000u64 {
            for (i, id) in cameras.iter().enumerate() {
                if i < 10 || step % 10 == i as u64 % 10 {
                    queue.offer(id, 0, (), t + ms(step * 10));
                }
            }
            let now = t + ms(step * 10 + 5);
            if let Decision::Take(model) = queue.decide(now) {
                for taken in queue.take(model, now) {
                    *looks.entry(taken.camera.clone()).or_default() += 1;
                    queue.done(&taken.camera);
                }
            }
        }
        let (least, most) = (looks.values().min().unwrap(), looks.values().max().unwrap());
        assert_eq!(looks.len(), 50);
        assert_eq!(looks.values().sum::<u32>(), 5 * 1000);
        assert!(*most <= *least * 2, "between {least} and {most} looks per camera");
    }

    #[test]
    fn models_do_not_share_batches_and_a_camera_may_change_its_model() {
        let t = Instant::now();
        let mut queue = Queue::new(vec![2, 2], DELAY);
        queue.offer(&camera("a"), 0, 1, t);
        queue.offer(&camera("b"), 1, 2, t);
        queue.offer(&camera("a"), 1, 3, t);
        assert_eq!(queue.line(0).ready, 0);
        assert_eq!(queue.decide(t), Decision::Take(1));
        assert_eq!(items(queue.take(1, t)), [3, 2]);
    }

    #[test]
    fn nothing_is_kept_of_a_camera_that_went_away() {
        let t = Instant::now();
        let mut queue = Queue::new(vec![4], DELAY);
        queue.offer(&camera("a"), 0, 1, t);
        queue.offer(&camera("b"), 0, 1, t);
        queue.take(0, t);
        queue.offer(&camera("b"), 0, 2, t);
        queue.done(&camera("a"));
        assert_eq!((queue.slots.len(), queue.waiting()), (1, 1));
        assert_eq!(queue.clear(), 1);
        queue.done(&camera("b"));
        assert_eq!((queue.slots.len(), queue.has_ready()), (0, false));
    }
}
