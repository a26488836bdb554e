//! One camera: its tracker, its rules, its open situations; of a camera that turns, those of each preset.

mod clocks;
mod questions;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet::{Camera, Rule, Zone};
use flow::{
    Basis, CameraId, Detection, Detections, Event, EventId, Luma, Polygon, SituationId, Timestamp, ZoneId,
};

use crate::background::Background;
use crate::condition::{Condition, Watchman};
use crate::ground::Ground;
use crate::neighbours::Sighting;
use crate::presets::{self, Presets};
use crate::rules::{Covered, State, View, Watch, foot};
use crate::tracker::{Memory, Need, Tracker};

pub use clocks::Clock;
pub use questions::{Answer, Question, QuestionId};

/// What a model has seen in one place for this long, on most looks, stands there: as long as the background takes to
/// believe the same of what no model knows.
const STANDS: Duration = Duration::from_secs(30);

/// The state of one camera.
#[derive(Debug)]
pub struct Scene {
    camera: CameraId,
    /// What it may show: one sight, or one for each preset. Never empty.
    sights: Vec<Sight>,
    /// Which of them it shows.
    shown: Option<usize>,
    guard: Guard,
    /// An unchanged look would have made an event of it.
    wants_look: bool,
    condition: Condition,
}

/// Says what the camera shows, by its picture.
#[derive(Debug)]
enum Guard {
    /// Always the same, when it is well.
    Fixed(Watchman),
    /// One of its presets, or none.
    Turning(Presets),
}

/// What a camera shows that points one way.
#[derive(Debug)]
struct Sight {
    /// The preset's id; empty where there are none.
    name: String,
    mind: Mind,
    zones: Arc<[Zone]>,
    ignore: Arc<[Polygon]>,
    /// Only where a rule asks what covers a zone.
    background: Option<Background>,
    ground: Option<Ground>,
}

/// What looks change, and a look that must not count does not.
#[derive(Debug, Clone)]
struct Mind {
    tracker: Tracker,
    watches: Vec<Watch>,
}

/// What a scene remembers over a restart of the program. Small: a few hundred bytes per thing.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    camera: CameraId,
    /// By preset.
    sights: BTreeMap<String, SavedSight>,
    watchman: Option<Watchman>,
    presets: Option<presets::Kept>,
    /// What [`Neighbours`](crate::Neighbours) remember of this camera, so that it is stored with what it rests on.
    #[serde(default)]
    pub sightings: Vec<Sighting>,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct SavedSight {
    tracker: Memory,
    /// By zone and situation.
    watches: BTreeMap<String, State>,
    background: Option<Background>,
}

impl Scene {
    /// An empty scene for `camera`, with nothing seen yet. Of a camera that turns, [`refer`](Self::refer) says what it
    /// shows at its presets.
    pub fn new(camera: &Camera) -> Self {
        let fixed = || Sight::new("", camera, camera.zones.clone(), &camera.ignore, camera.ground.as_ref());
        let turned = |preset: &fleet::Preset| {
            let zones = camera.zones[preset.zones.clone()].into();
            Sight::new(preset.id.as_str(), camera, zones, &preset.ignore, preset.ground.as_ref())
        };
        let (sights, guard) = match &camera.presets[..] {
            [] => (vec![fixed()], Guard::Fixed(Watchman::default())),
            presets => {
                let names = presets.iter().map(|preset| preset.id.as_str());
                (presets.iter().map(turned).collect(), Guard::Turning(Presets::new(names)))
            }
        };
        let shown = camera.presets.is_empty().then_some(0);
        let camera = camera.id.clone();
        Self { camera, sights, shown, guard, wants_look: false, condition: Condition::Good }
    }

    /// A picture of what the camera shows at this preset; several, for several kinds of light. A preset without any is
    /// never recognised. `false`: the camera has no such preset.
    pub fn refer(&mut self, preset: &ZoneId, picture: &Luma) -> bool {
        match &mut self.guard {
            Guard::Fixed(_) => false,
            Guard::Turning(presets) => presets.refer(preset.as_str(), picture),
        }
    }

    /// Takes one look of this camera and says what it means: events in the order in which they should be sent.
    /// `luma` is that look's picture, for rules that ask what covers a zone, and without which a camera that turns may
    /// show anything: without it they say nothing. Looks that are not later than the one before are ignored.
    ///
    /// While the camera does not show what its zones were drawn on ([`condition`](Self::condition)), looks say nothing:
    /// nothing begins and nothing ends, as if nobody looked. The same holds for the zones of one preset while the camera
    /// shows another.
    ///
    /// An unchanged look ([`Basis::Unchanged`]) carries on what was seen, but makes no event: whatever begins, goes on or
    /// ends was seen by the model in the very picture that is its evidence. Where an unchanged look would have made one,
    /// it is not taken, and [`wants_look`](Self::wants_look) says that the model should look.
    pub fn look(&mut self, look: &Detections, luma: Option<&Luma>) -> Vec<Event> {
        debug_assert_eq!(look.frame.camera, self.camera, "a look of another camera");
        self.forget_questions();
        self.shown = self.shows(luma, look);
        let Some(shown) = self.shown else {
            self.wants_look = false;
            return Vec::new();
        };
        let sight = &mut self.sights[shown];
        let ignored = |d: &&Detection| sight.ignore.iter().any(|part| part.contains(foot(&d.bbox)));
        let detections: Vec<_> = look.list.iter().filter(|d| !ignored(d)).cloned().collect();
        let covered = sight.covered(luma, &detections, look.captured);
        if look.basis == Basis::Inferred {
            self.wants_look = false;
            let mut events = sight.mind.take(look, &detections, &covered).0;
            sight.place(&mut events);
            return events;
        }
        let mut after = sight.mind.clone();
        let (events, wants_look) = after.take(look, &detections, &covered);
        let due = !events.is_empty() || after.asks();
        if !due {
            sight.mind = after;
        }
        self.wants_look |= wants_look || due;
        Vec::new()
    }

    /// Which of its sights the camera shows, if its zones can be judged.
    fn shows(&mut self, luma: Option<&Luma>, look: &Detections) -> Option<usize> {
        match (&mut self.guard, luma) {
            (Guard::Fixed(watchman), Some(luma)) => {
                self.condition = watchman.look(luma, look.captured);
                (self.condition == Condition::Good).then_some(0)
            }
            // The last look that had its picture says how the camera is.
            (Guard::Fixed(_), None) => (self.condition == Condition::Good).then_some(0),
            (Guard::Turning(presets), Some(luma)) => {
                let shown = presets.look(luma, look.captured);
                self.condition = presets.condition();
                shown
            }
            // Nothing has moved since the last picture, not the camera either.
            (Guard::Turning(_), None) if look.basis == Basis::Unchanged => self.shown,
            (Guard::Turning(_), None) => None,
        }
    }

    /// Whether the model should look at the next picture, even if that shows nothing new: something is due.
    pub fn wants_look(&self) -> bool {
        self.wants_look
    }

    /// How the camera's own picture is; anything but [`Condition::Good`] suspends all zones. Known only where looks come
    /// with their picture.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// The zones that the newest look was judged by: none while they are suspended, of a camera that turns those of the
    /// preset that it shows.
    pub fn zones_shown(&self) -> &[Zone] {
        self.shown.map_or(&[], |shown| &self.sights[shown].zones)
    }

    /// The desk says of a situation, open or over, that it is no problem: an open one ends at the next look, and for a
    /// day nothing of its kind begins in the same place; for twice as long each time that the desk says so again, up to
    /// a month. `false`: no such situation is remembered.
    pub fn dismiss(&mut self, event: EventId, now: Timestamp) -> bool {
        let mut watches = self.sights.iter_mut().flat_map(|sight| &mut sight.mind.watches);
        watches.any(|watch| watch.dismiss(event, now))
    }

    /// How many situations did not begin of late, because a rule's `cap_per_day` was reached: zone, situation, number.
    pub fn held_back(&self) -> Vec<(ZoneId, SituationId, u32)> {
        let held = self.watches().filter(|watch| watch.held_back() > 0);
        held.map(|watch| {
            (watch.zones[watch.zone_index].id.clone(), watch.rule.situation.clone(), watch.held_back())
        })
        .collect()
    }

    /// The situations that are open.
    pub fn open_events(&self) -> Vec<EventId> {
        self.watches().flat_map(Watch::open_events).collect()
    }

    /// How many situations are open.
    pub fn open(&self) -> usize {
        self.watches().map(Watch::open).sum()
    }

    fn watches(&self) -> impl Iterator<Item = &Watch> {
        self.sights.iter().flat_map(|sight| &sight.mind.watches)
    }

    /// Those of what the camera shows now.
    pub(crate) fn watches_shown(&self) -> impl Iterator<Item = &Watch> {
        self.shown.into_iter().flat_map(|shown| &self.sights[shown].mind.watches)
    }

    pub(crate) fn watches_shown_mut(&mut self) -> impl Iterator<Item = &mut Watch> {
        let shown = self.shown.and_then(|shown| self.sights.get_mut(shown));
        shown.into_iter().flat_map(|sight| &mut sight.mind.watches)
    }

    /// Says where events of what the camera shows now are.
    pub(crate) fn place_shown(&self, events: &mut [Event]) {
        self.shown.into_iter().for_each(|shown| self.sights[shown].place(events));
    }

    /// What to keep over a restart.
    pub fn save(&self) -> Saved {
        let (watchman, presets) = match &self.guard {
            Guard::Fixed(watchman) => (Some(watchman.clone()), None),
            Guard::Turning(presets) => (None, Some(presets.save())),
        };
        Saved {
            camera: self.camera.clone(),
            sights: self.sights.iter().map(|sight| (sight.name.clone(), sight.save())).collect(),
            watchman,
            presets,
            sightings: Vec::new(),
        }
    }

    /// Goes on from where a scene of this camera was saved. Rules and presets that are new start empty; what was found by
    /// a rule that is gone or of another kind now is forgotten. `false`: it is of another camera, and nothing was taken.
    pub fn restore(&mut self, mut saved: Saved) -> bool {
        if saved.camera != self.camera {
            return false;
        }
        for sight in &mut self.sights {
            if let Some(saved) = saved.sights.remove(&sight.name) {
                sight.restore(saved);
            }
        }
        match (&mut self.guard, saved.watchman, saved.presets) {
            (Guard::Fixed(watchman), Some(saved), _) => *watchman = saved,
            (Guard::Turning(presets), _, Some(saved)) => presets.restore(saved),
            _ => {}
        }
        true
    }
}

impl Sight {
    fn new(
        name: &str,
        camera: &Camera,
        zones: Arc<[Zone]>,
        ignore: &Arc<[Polygon]>,
        ground: Option<&fleet::Ground>,
    ) -> Self {
        let rules = || zones.iter().flat_map(|zone| &zone.rules);
        let start_score = rules().map(|rule| rule.lowest_score()).fold(1.0, f32::min);
        let drifts: Vec<_> =
            rules().filter_map(|rule| rule.kind.things()).map(|things| things.drift).collect();
        let watches = zones.iter().enumerate().flat_map(|(zone_index, zone)| {
            let zones = zones.clone();
            zone.rules.iter().map(move |rule| Watch {
                zones: zones.clone(),
                zone_index,
                rule: rule.clone(),
                state: State::new(rule),
                candidates: Vec::new(),
            })
        });
        // Three looks missed in a row are a gap; before that it is a slow camera. What a camera does not show while it is
        // turned away is one, too.
        let max_gap = camera.look.at_least_every * 3;
        let covers = rules().any(|rule| matches!(rule.kind, fleet::RuleKind::Coverage(_)));
        Self {
            name: name.to_owned(),
            mind: Mind { tracker: Tracker::new(max_gap, &drifts, start_score), watches: watches.collect() },
            ignore: ignore.clone(),
            background: covers.then(Background::default),
            ground: ground.and_then(Ground::new),
            zones,
        }
    }

    /// What something stationary covers of each zone.
    fn covered(
        &mut self,
        luma: Option<&Luma>,
        detections: &[Detection],
        now: Timestamp,
    ) -> Vec<Option<Covered>> {
        let (Some(background), Some(luma)) = (&mut self.background, luma) else { return Vec::new() };
        background.look(luma, detections, self.mind.tracker.standing(STANDS, now), now);
        background.covered(&self.zones, &self.ignore)
    }

    /// Says where these events are.
    fn place(&self, events: &mut [Event]) {
        let Some(ground) = &self.ground else { return };
        events.iter_mut().for_each(|event| event.place = ground.place_of(&event.objects));
    }

    fn save(&self) -> SavedSight {
        SavedSight {
            tracker: self.mind.tracker.memory().clone(),
            watches: self.mind.watches.iter().map(|watch| (name(watch), watch.state.clone())).collect(),
            background: self.background.clone(),
        }
    }

    fn restore(&mut self, mut saved: SavedSight) {
        self.mind.tracker.restore(saved.tracker);
        for watch in &mut self.mind.watches {
            match saved.watches.remove(&name(watch)) {
                Some(state) if state.fits(&watch.rule) => watch.state = state,
                _ => {}
            }
        }
        if self.background.is_some() {
            self.background = saved.background.or_else(|| self.background.take());
        }
    }
}

impl Mind {
    /// Whether a second model would have to be asked.
    fn asks(&self) -> bool {
        self.watches.iter().any(|watch| !watch.candidates.is_empty())
    }

    /// The events, and whether a rule would have to know what the model sees now.
    fn take(
        &mut self,
        look: &Detections,
        detections: &[Detection],
        covered: &[Option<Covered>],
    ) -> (Vec<Event>, bool) {
        let taken = match look.basis {
            Basis::Inferred => self.tracker.look(detections, look.captured),
            Basis::Unchanged => self.tracker.carry(detections, look.captured),
        };
        if !taken {
            return (Vec::new(), false);
        }
        let view = View {
            look,
            detections,
            tracks: self.tracker.tracks(),
            covered,
            unwatched: self.tracker.unwatched(),
            wants_look: Cell::new(false),
        };
        let mut events = Vec::new();
        let mut over = Vec::new();
        for watch in &mut self.watches {
            watch.look(&view, &mut events, &mut over);
        }
        let wants_look = view.wants_look.get();
        let watches = &self.watches;
        self.tracker.forget(|track| {
            if watches.iter().any(|watch| watch.awaits(track.id)) {
                Need::Awaited
            } else if over.contains(&track.id) {
                Need::Over
            } else {
                Need::Unknown
            }
        });
        (events, wants_look)
    }
}

/// Ids hold no slash.
fn name(watch: &Watch) -> String {
    let rule: &Rule = &watch.rule;
    format!("{}/{}", watch.zones[watch.zone_index].id, rule.situation)
}

#[cfg(test)]
mod tests;
