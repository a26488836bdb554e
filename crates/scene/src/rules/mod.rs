//! One rule in one zone, with what it has found.

mod clock;
mod confirm;
mod crossing;
mod memory;
mod situation;
mod things;
mod zone;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use fleet::{Rule, RuleKind, Zone};
use flow::{
    ClassName, Confirmation, Detection, Detections, Event, EventId, NormBox, NormPoint, Score, SituationKey,
    Timestamp,
};

use crate::story::Story;
use crate::tracker::Track;
use confirm::{Begun, Doubts, Subject};
use memory::Memory;

pub(crate) use confirm::{Candidate, widened};
pub(crate) use crossing::Crossings;
pub(crate) use things::Things;
pub(crate) use zone::ZoneClock;

/// One look, with everything that a rule may ask of it.
pub(crate) struct View<'a> {
    pub look: &'a Detections,
    /// Those that are not in an ignored part of the picture.
    pub detections: &'a [Detection],
    pub tracks: &'a [Track],
    /// Share of each zone that something stationary covers, in the order of the zones; `None`: not known now.
    pub covered: &'a [Option<Covered>],
    /// Of the time since the look before, how much nobody looked.
    pub unwatched: Duration,
    /// Set where a rule would have to know what the model sees now.
    pub wants_look: Cell<bool>,
}

impl View<'_> {
    pub fn now(&self) -> Timestamp {
        self.look.captured
    }

    /// The look only repeats what the last one saw: time goes on, nothing is counted.
    pub fn repeats(&self) -> bool {
        self.look.basis == flow::Basis::Unchanged
    }
}

/// What covers a zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Covered {
    /// Share of its area, 0..=1.
    pub share: f32,
    /// Around all of it; `None` where nothing covers it.
    pub around: Option<NormBox>,
}

/// One rule in one zone.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub zones: Arc<[Zone]>,
    pub zone_index: usize,
    pub rule: Arc<Rule>,
    pub state: State,
    /// What would begin with the look just taken, if a second model agrees.
    pub candidates: Vec<Candidate>,
}

/// What a rule remembers. Saved with the camera's state.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct State {
    /// Since when the rule applies; `None`: it does not, by its calendar.
    applies_since: Option<Timestamp>,
    memory: Memory,
    #[serde(default)]
    doubts: Doubts,
    found: Found,
}

/// What has been found, by kind of rule.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
enum Found {
    Things(Things),
    Zone(Box<ZoneClock>),
    Line(Crossings),
}

impl State {
    pub fn new(rule: &Rule) -> Self {
        let found = match &rule.kind {
            RuleKind::Dwell(_) | RuleKind::Together(_) => Found::Things(Things::default()),
            RuleKind::Coverage(_) | RuleKind::Count(_) | RuleKind::Model(_) => Found::Zone(Box::default()),
            RuleKind::Cross(_) => Found::Line(Crossings::default()),
        };
        Self { applies_since: None, memory: Memory::default(), doubts: Doubts::default(), found }
    }

    /// What its open situations are told by.
    pub fn stories_mut(&mut self) -> Box<dyn Iterator<Item = &mut Story> + '_> {
        match &mut self.found {
            Found::Things(things) => Box::new(things.stories_mut()),
            Found::Zone(clock) => Box::new(clock.story_mut().into_iter()),
            Found::Line(_) => Box::new(std::iter::empty()),
        }
    }

    fn stories(&self) -> Box<dyn Iterator<Item = &Story> + '_> {
        match &self.found {
            Found::Things(things) => Box::new(things.stories()),
            Found::Zone(clock) => Box::new(clock.story().into_iter()),
            Found::Line(_) => Box::new(std::iter::empty()),
        }
    }

    /// Whether this is the state of such a rule.
    pub fn fits(&self, rule: &Rule) -> bool {
        std::mem::discriminant(&self.found) == std::mem::discriminant(&Self::new(rule).found)
    }
}

/// A rule in its zone, as its state sees them.
pub(crate) struct Place<'a> {
    pub key: SituationKey,
    pub rule: &'a Rule,
    pub zone: &'a Zone,
    pub zone_index: usize,
    /// Time before this does not count.
    pub since: Timestamp,
    memory: &'a mut Memory,
    doubts: &'a mut Doubts,
    candidates: &'a mut Vec<Candidate>,
}

impl Place<'_> {
    /// Whether a situation may begin here, for all that is remembered; asked only where the rule holds.
    pub fn may_begin(&mut self, place: &NormBox, now: Timestamp) -> bool {
        !self.memory.cools(self.rule, place, now)
            && !self.memory.dismissed(place, now)
            && self.memory.allows(self.rule, place)
    }

    /// Whether these things begin nothing, because a second model has rejected them or is being asked already.
    pub fn is_doubtful(&self, subject: &Subject, now: Timestamp) -> bool {
        let Some(confirm) = &self.rule.confirm else { return false };
        let asked = |(thing, _): &(u64, Timestamp)| self.candidates.iter().any(|c| c.has(*thing));
        subject.iter().any(asked) || self.doubts.silence(confirm, subject, now)
    }

    /// Lets a second model decide.
    pub fn ask(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
    }

    /// Forgets rejected things that have left.
    pub fn forget_doubts(&mut self, stands: impl Fn(u64, Timestamp) -> bool) {
        self.doubts.forget(stands);
    }

    /// The situation that was here before, if that is not long ago.
    pub fn before(&self, place: &NormBox, now: Timestamp) -> Option<EventId> {
        self.memory.before(self.rule, place, now)
    }

    /// Of `time` up to now, what counts.
    pub fn counted(&self, time: Duration, now: Timestamp) -> Duration {
        time.min(now.duration_since(self.since).unsigned_abs())
    }

    /// Whether a thing is large enough, sure enough, of the right class and in the zone.
    pub fn counts(&self, classes: &[flow::ClassName], detection: &Detection) -> bool {
        classes.contains(&detection.class)
            && detection.score.get() >= self.rule.min_score_of(&detection.class)
            && self.large_enough(&detection.bbox)
            && self.zone.polygon.contains(foot(&detection.bbox))
    }

    pub fn large_enough(&self, place: &NormBox) -> bool {
        self.rule.min_height.is_none_or(|least| place.height() >= least.at(place.y1()))
    }
}

impl Watch {
    /// Takes one look. `over` gets the tracks of situations that ended.
    pub fn look(&mut self, view: &View<'_>, events: &mut Vec<Event>, over: &mut Vec<u64>) {
        let now = view.now();
        self.candidates.clear();
        let zone = &self.zones[self.zone_index];
        self.state.memory.age(&self.rule, now);
        let key = SituationKey {
            camera: view.look.frame.camera.clone(),
            zone: zone.id.clone(),
            situation: self.rule.situation.clone(),
        };
        let before = events.len();
        if !applies(&self.rule, zone, now) {
            // What was a problem is none any more, by the calendar.
            self.state.applies_since = None;
            self.state.doubts.clear();
            match &mut self.state.found {
                Found::Things(things) => things.end_all(&self.rule, view.look, events, over),
                Found::Zone(clock) => clock.end_all(&self.rule, view.look, events),
                Found::Line(crossings) => crossings.forget(),
            }
            self.state.memory.note(&events[before..], now);
            return;
        }
        let since = *self.state.applies_since.get_or_insert_with(|| applies_since(&self.rule, zone, now));
        let mut place = Place {
            key,
            rule: &self.rule,
            zone,
            zone_index: self.zone_index,
            since,
            memory: &mut self.state.memory,
            doubts: &mut self.state.doubts,
            candidates: &mut self.candidates,
        };
        match &mut self.state.found {
            Found::Things(things) => things.look(&mut place, view, events, over),
            Found::Zone(clock) => clock.look(&mut place, view, events),
            Found::Line(crossings) => crossings.look(&mut place, view, events),
        }
        self.state.memory.note(&events[before..], now);
    }

    /// The desk says of this situation that it is no problem: it ends if it is open, and the same place is left alone
    /// for a while. `true`: it was this rule's.
    pub fn dismiss(&mut self, event: EventId, now: Timestamp) -> bool {
        let open = match &mut self.state.found {
            Found::Things(things) => things.dismiss(event),
            Found::Zone(clock) => clock.dismiss(event),
            Found::Line(_) => None,
        };
        let Some(places) = open.or_else(|| self.state.memory.places_of(event)) else { return false };
        self.state.memory.dismiss(&places, now);
        true
    }

    /// A second model's answer about one of the candidates: its best class, if it was sure of any. The event, if that
    /// confirms.
    pub fn answer(&mut self, candidate: usize, best: Option<(&ClassName, Score)>) -> Option<Event> {
        let confirm = self.rule.confirm.as_ref()?;
        let held = self.candidates.get_mut(candidate).filter(|held| !held.answered)?;
        held.answered = true;
        let Candidate { subject, begun, mut event, .. } = held.clone();
        let now = event.captured;
        let Some((class, score)) = best.filter(|(class, score)| confirm.accepts(class, score.get())) else {
            self.state.doubts.reject(&subject, now);
            return None;
        };
        let said = Confirmation { model: confirm.model.clone(), class: class.clone(), score };
        event.confirmed_by = Some(said.clone());
        match (begun, &mut self.state.found) {
            (Begun::Things(mut situation), Found::Things(things)) => {
                situation.story().confirm(said);
                things.open(situation);
            }
            (Begun::Zone(mut story), Found::Zone(clock)) => {
                story.confirm(said);
                clock.open(story);
            }
            // A candidate is of its own rule.
            _ => return None,
        }
        self.state.memory.note(std::slice::from_ref(&event), now);
        Some(event)
    }

    /// How many situations a second model has held back so far.
    pub fn rejected(&self) -> u32 {
        self.state.doubts.rejected()
    }

    /// What its open situations are told by.
    pub fn stories(&self) -> impl Iterator<Item = &Story> {
        self.state.stories()
    }

    /// How many situations did not begin of late because of the rule's cap.
    pub fn held_back(&self) -> u32 {
        self.state.memory.held_back()
    }

    /// Whether an open situation is made of this track.
    pub fn awaits(&self, track: u64) -> bool {
        match &self.state.found {
            Found::Things(things) => things.has(track),
            Found::Zone(_) | Found::Line(_) => false,
        }
    }

    /// The situations that are open.
    pub fn open_events(&self) -> Vec<EventId> {
        match &self.state.found {
            Found::Things(things) => things.open_events().collect(),
            Found::Zone(clock) => clock.open_event().into_iter().collect(),
            Found::Line(_) => Vec::new(),
        }
    }

    /// How many situations are open.
    pub fn open(&self) -> usize {
        match &self.state.found {
            Found::Things(things) => things.count(),
            Found::Zone(clock) => usize::from(clock.is_open()),
            Found::Line(_) => 0,
        }
    }
}

/// Whether a rule applies in a zone, by the calendars of both.
fn applies(rule: &Rule, zone: &Zone, now: Timestamp) -> bool {
    let permitted = zone.permitted.as_ref().is_some_and(|permitted| permitted.is_open(now));
    !permitted && rule.windows.as_ref().is_none_or(|windows| windows.is_open(now))
}

/// Since when it does, where it does: asked once per window.
fn applies_since(rule: &Rule, zone: &Zone, now: Timestamp) -> Timestamp {
    let since = rule.windows.as_ref().and_then(|windows| windows.open_since(now)).unwrap_or(Timestamp::MIN);
    match &zone.permitted {
        None => since,
        // What stood there in permitted hours has its clock started at their end, to the minute.
        Some(permitted) => {
            let minute = Duration::from_secs(60);
            let open = (1..=24 * 60).find(|minutes| permitted.is_open(now - minute * *minutes));
            open.map_or(since, |minutes| since.max(now - minute * (minutes - 1)))
        }
    }
}

/// Where a thing stands. Just above the bottom edge of its box, so that a thing cut off by the picture's
/// lower edge is still inside a zone that reaches down to it.
pub(crate) fn foot(place: &NormBox) -> NormPoint {
    let foot = place.foot();
    NormPoint { y: foot.y - 1e-4, ..foot }
}

/// Whether two boxes touch once each is widened by half of its size on every side.
pub(crate) fn side_by_side(a: &NormBox, b: &NormBox) -> bool {
    let near = |a0: f32, a1: f32, b0: f32, b1: f32| {
        let (middle, reach) = ((a0 + a1 - b0 - b1).abs() / 2.0, (a1 - a0) + (b1 - b0));
        middle <= reach
    };
    near(a.x0(), a.x1(), b.x0(), b.x1()) && near(a.y0(), a.y1(), b.y0(), b.y1())
}
