//! What a rule remembers of a zone after a situation is over: the same place again is the same problem, what the desk
//! has dismissed is not told again so soon, and one camera does not flood the desk.

use std::time::Duration;

use fleet::Rule;
use flow::{Event, EventId, NormBox, Phase, Timestamp};

/// Two boxes that overlap this much stand in the same place.
const SAME_PLACE_IOU: f32 = 0.3;
/// How many ended situations are remembered.
const MAX_ENDED: usize = 32;
/// How many dismissed places.
const MAX_DISMISSED: usize = 32;
/// A dismissed thing is left alone for a day, and twice as long each time that the desk says so again ...
const DISMISS_FOR: Duration = Duration::from_secs(24 * 3_600);
/// ... up to a month: streets change.
const DISMISS_MOST: Duration = Duration::from_secs(30 * 24 * 3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Saved with the camera's state.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Memory {
    ended: Vec<Ended>,
    dismissed: Vec<Dismissed>,
    /// When the situations of the last 24 hours began.
    begun: Vec<Timestamp>,
    /// How many did not begin in the last 24 hours because of the rule's cap.
    held_back: u32,
    /// What was told last of each that is held back, so that a thing is counted once.
    held: Vec<NormBox>,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Ended {
    event: EventId,
    places: Vec<NormBox>,
    at: Timestamp,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Dismissed {
    place: NormBox,
    until: Timestamp,
    lasted: Duration,
}

impl Memory {
    /// Forgets what is too old.
    pub fn age(&mut self, rule: &Rule, now: Timestamp) {
        let keep = rule.cooldown.max(rule.recurs_within);
        self.ended.retain(|ended| since(ended.at, now) < keep);
        // A place stays known for as long again, so that a second verdict counts as one.
        self.dismissed.retain(|known| now <= known.until + known.lasted);
        let before = self.begun.len();
        self.begun.retain(|began| since(*began, now) < DAY);
        if self.begun.len() < before {
            (self.held_back, self.held) = (0, Vec::new());
        }
    }

    /// Notes what has begun and ended.
    pub fn note(&mut self, events: &[Event], now: Timestamp) {
        for event in events {
            match event.phase {
                Phase::Began => self.begun.push(now),
                Phase::Updated => {}
                Phase::Ended { .. } => {
                    let places = event.objects.iter().map(|object| object.bbox).collect();
                    self.ended.push(Ended { event: event.id, places, at: now });
                    let excess = self.ended.len().saturating_sub(MAX_ENDED);
                    self.ended.drain(..excess);
                }
            }
        }
    }

    /// Whether something ended in this place so lately that nothing begins there yet.
    pub fn cools(&self, rule: &Rule, place: &NormBox, now: Timestamp) -> bool {
        self.ended.iter().any(|ended| since(ended.at, now) < rule.cooldown && ended.is_at(place))
    }

    /// The situation that was in this place before, if that is not long ago.
    pub fn before(&self, rule: &Rule, place: &NormBox, now: Timestamp) -> Option<EventId> {
        let here = |ended: &&Ended| since(ended.at, now) < rule.recurs_within && ended.is_at(place);
        self.ended.iter().rev().find(here).map(|ended| ended.event)
    }

    /// Whether the desk has said of this place that it is no problem.
    pub fn dismissed(&self, place: &NormBox, now: Timestamp) -> bool {
        self.dismissed.iter().any(|known| now < known.until && known.place.iou(place) >= SAME_PLACE_IOU)
    }

    /// Whether one more may begin today; counts it if not.
    pub fn allows(&mut self, rule: &Rule, place: &NormBox) -> bool {
        if self.begun.len() < rule.cap_per_day as usize {
            return true;
        }
        if !self.held.iter().any(|held| held.iou(place) >= SAME_PLACE_IOU) && self.held.len() < MAX_ENDED {
            self.held.push(*place);
            self.held_back += 1;
        }
        false
    }

    /// How many did not begin because of the cap, of late.
    pub fn held_back(&self) -> u32 {
        self.held_back
    }

    /// Where the ended situation was.
    pub fn places_of(&self, event: EventId) -> Option<Vec<NormBox>> {
        self.ended.iter().find(|ended| ended.event == event).map(|ended| ended.places.clone())
    }

    /// The desk says that what was in these places is no problem.
    pub fn dismiss(&mut self, places: &[NormBox], now: Timestamp) {
        for place in places {
            let known = self.dismissed.iter().position(|known| known.place.iou(place) >= SAME_PLACE_IOU);
            let lasted = match known.map(|index| self.dismissed.swap_remove(index)) {
                Some(before) => (before.lasted * 2).min(DISMISS_MOST),
                None => DISMISS_FOR,
            };
            self.dismissed.push(Dismissed { place: *place, until: now + lasted, lasted });
        }
        let excess = self.dismissed.len().saturating_sub(MAX_DISMISSED);
        self.dismissed.drain(..excess);
    }
}

impl Ended {
    fn is_at(&self, place: &NormBox) -> bool {
        self.places.iter().any(|was| was.iou(place) >= SAME_PLACE_IOU)
    }
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(then).unsigned_abs()
}
