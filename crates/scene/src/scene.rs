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
        background.look(luma, detections, now);
        background.cover_with(self.mind.tracker.standing(STANDS, now));
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
mod tests {
    use std::time::Duration;

    use fleet::{Dwell, Look, Per, RuleKind, Sampling, Transport, Zone};
    use flow::{
        ClassName, Detection, FrameId, ModelId, NormBox, NormPoint, Phase, Polygon, Score, SessionId,
        SituationId, Timestamp, ZoneId,
    };

    use super::*;

    /// A camera with one zone, its right half, in which a car may stand for 10 s.
    fn camera() -> Camera {
        let kind = RuleKind::Dwell(Dwell {
            classes: vec![ClassName::new("car")],
            at_least: Duration::from_secs(10),
            drift: 0.25,
            per: Per::Thing,
        });
        let rule = Rule {
            update_every: Duration::from_secs(20),
            end_after: Duration::from_secs(4),
            ..Rule::new(SituationId::new("illegal_parking").unwrap(), kind)
        };
        let corner = |x, y| NormPoint { x, y };
        let right = vec![corner(0.5, 0.0), corner(1.0, 0.0), corner(1.0, 1.0), corner(0.5, 1.0)];
        Camera {
            id: CameraId::new("cam").unwrap(),
            class: "community".into(),
            name: None,
            address: None,
            grid: None,
            location: None,
            ground: None,
            url: "rtsp://127.0.0.1/".parse().unwrap(),
            other_url: None,
            certificate: Default::default(),
            credentials: None,
            transport: Transport::Tcp,
            look: Look {
                sampling: Sampling::Keyframes,
                at_most_every: Duration::from_secs(1),
                at_least_every: Duration::from_secs(10),
                on_long_keys: Default::default(),
                priority: fleet::Priority::Normal,
            },
            model: ModelId::new("m").unwrap(),
            presets: Arc::new([]),
            zones: Arc::new([Zone {
                id: ZoneId::new("right").unwrap(),
                polygon: Polygon::new(right).unwrap(),
                rules: vec![Arc::new(rule)],
                line: None,
                permitted: None,
            }]),
            ignore: Arc::new([]),
            masks: Arc::new([]),
            keep_evidence: None,
            gate: None,
            tiles: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn thing(class: &str, x: f32) -> Detection {
        Detection {
            class: ClassName::new(class),
            score: Score::new(0.8).unwrap(),
            bbox: NormBox::new(x, 0.5, x + 0.2, 0.7).unwrap(),
        }
    }

    fn look(second: i64, session: SessionId, list: Vec<Detection>) -> Detections {
        let camera = CameraId::new("cam").unwrap();
        let frame = FrameId { camera, session, sequence: second as u64 };
        Detections {
            frame,
            captured: at(second),
            model: ModelId::new("m").unwrap(),
            weights: "".into(),
            basis: Basis::Inferred,
            list,
        }
    }

    /// Runs `what(second)` at one look per 2 s; the events with the second at which each came.
    fn run(
        scene: &mut Scene,
        seconds: std::ops::Range<i64>,
        what: impl Fn(i64) -> Vec<Detection>,
    ) -> Vec<(i64, Event)> {
        let session = SessionId::next();
        let looks = seconds.step_by(2);
        looks
            .flat_map(|s| scene.look(&look(s, session, what(s)), None).into_iter().map(move |e| (s, e)))
            .collect()
    }

    #[test]
    fn a_parked_car_begins_is_updated_and_ends() {
        let mut scene = Scene::new(&camera());
        let events =
            run(&mut scene, 0..80, |s| if (6..50).contains(&s) { vec![thing("car", 0.6)] } else { vec![] });
        let story: Vec<_> = events.iter().map(|(s, e)| (*s, e.phase, e.sequence)).collect();
        assert_eq!(
            story,
            [(16, Phase::Began, 0), (36, Phase::Updated, 1), (54, Phase::Ended { at: at(50) }, 2),]
        );
        assert!(
            events.iter().all(|(_, e)| e.id == events[0].1.id && e.first_seen == at(6) && e.began == at(16))
        );
        assert_eq!(events[2].1.last_seen, at(48));
        assert_eq!(scene.open(), 0);
    }

    #[test]
    fn a_replay_gives_the_same_events() {
        let parked = |s: i64| if (6..50).contains(&s) { vec![thing("car", 0.6)] } else { vec![] };
        let ids = |events: Vec<(i64, Event)>| events.into_iter().map(|(_, e)| e.id).collect::<Vec<_>>();
        let first = ids(run(&mut Scene::new(&camera()), 0..80, parked));
        assert_eq!(first, ids(run(&mut Scene::new(&camera()), 0..80, parked)));
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn passing_traffic_the_wrong_class_and_the_wrong_zone_are_nothing() {
        let mut scene = Scene::new(&camera());
        let events = run(&mut scene, 0..200, |s| {
            let passing = 0.1 + 0.08 * ((s / 2) % 8) as f32;
            vec![thing("car", passing), thing("person", 0.7), thing("car", 0.05)]
        });
        assert_eq!(events, []);
    }

    #[test]
    fn the_next_thing_in_the_same_place_starts_its_own_clock() {
        let mut scene = Scene::new(&camera());
        let events = run(&mut scene, 0..70, |s| {
            let there = (0..20).contains(&s) || (30..50).contains(&s);
            if there { vec![thing("car", 0.6)] } else { vec![] }
        });
        let story: Vec<_> = events.iter().map(|(s, e)| (*s, e.phase)).collect();
        let ended = |second| Phase::Ended { at: at(second) };
        assert_eq!(story, [(10, Phase::Began), (24, ended(20)), (40, Phase::Began), (54, ended(50))]);
        assert_ne!(events[0].1.id, events[2].1.id);
    }

    #[test]
    fn a_lost_stream_ends_nothing_and_a_new_session_goes_on() {
        let mut scene = Scene::new(&camera());
        let parked = |_| vec![thing("car", 0.6)];
        assert_eq!(run(&mut scene, 0..14, parked).len(), 1);
        // Ten minutes without a picture, then another session shows the same car.
        let events = run(&mut scene, 614..620, parked);
        assert_eq!(events.iter().map(|(s, e)| (*s, e.phase)).collect::<Vec<_>>(), [(614, Phase::Updated)]);
        assert_eq!(scene.open(), 1);
    }

    #[test]
    fn what_stands_in_front_ends_nothing() {
        let mut scene = Scene::new(&camera());
        let bus = || Detection { bbox: NormBox::new(0.5, 0.3, 1.0, 0.9).unwrap(), ..thing("bus", 0.0) };
        let events =
            run(
                &mut scene,
                0..60,
                |s| if (20..40).contains(&s) { vec![bus()] } else { vec![thing("car", 0.6)] },
            );
        let phases: Vec<_> = events.iter().map(|(_, e)| e.phase).collect();
        assert!(!phases.iter().any(|p| matches!(p, Phase::Ended { .. })), "{phases:?}");
        assert_eq!(phases[0], Phase::Began);
        assert_eq!(scene.open(), 1);
    }

    #[test]
    fn a_car_that_drives_off_in_view_ends_where_it_stood() {
        let mut scene = Scene::new(&camera());
        let events = run(&mut scene, 0..60, |s| {
            if s < 30 {
                vec![thing("car", 0.6)]
            } else {
                vec![thing("car", 0.6 - 0.02 * (s - 28) as f32 % 0.6)]
            }
        });
        let ended = events.iter().find(|(_, e)| matches!(e.phase, Phase::Ended { .. })).expect("it ended");
        assert!((32..=42).contains(&ended.0), "ended at {}", ended.0);
    }

    #[test]
    fn a_second_box_on_the_same_thing_is_one_situation_and_a_second_thing_is_two() {
        let twice = |_| vec![thing("car", 0.6), thing("car", 0.66)];
        assert_eq!(run(&mut Scene::new(&camera()), 0..20, twice).len(), 1);
        let two = |_| vec![thing("car", 0.5), thing("car", 0.78)];
        let events = run(&mut Scene::new(&camera()), 0..20, two);
        assert_eq!(events.len(), 2);
        assert_ne!(events[0].1.id, events[1].1.id);
    }

    #[test]
    fn a_group_is_one_situation_and_lasts_until_the_last_of_it_is_gone() {
        let mut camera = camera();
        let zone = &camera.zones[0];
        let mut rule = (*zone.rules[0]).clone();
        let RuleKind::Dwell(dwell) = &mut rule.kind else { panic!("a dwell rule") };
        dwell.per = Per::Group;
        camera.zones = Arc::new([Zone { rules: vec![Arc::new(rule)], ..zone.clone() }]);
        let mut scene = Scene::new(&camera);
        let events = run(&mut scene, 0..80, |s| {
            let first = (s < 30).then(|| thing("car", 0.5));
            let second = (6..50).contains(&s).then(|| thing("car", 0.75));
            first.into_iter().chain(second).collect()
        });
        let story: Vec<_> = events.iter().map(|(s, e)| (*s, e.phase, e.objects.len())).collect();
        let ended = Phase::Ended { at: at(50) };
        assert_eq!(story, [(10, Phase::Began, 1), (30, Phase::Updated, 1), (54, ended, 1)]);
        assert_eq!(events[1].1.last_seen, at(30));
    }

    /// The same list again, without a look of the model.
    fn unchanged(second: i64, session: SessionId, list: Vec<Detection>) -> Detections {
        Detections { basis: Basis::Unchanged, ..look(second, session, list) }
    }

    #[test]
    fn unchanged_looks_carry_on_and_an_inferred_one_decides() {
        let (mut scene, session) = (Scene::new(&camera()), SessionId::next());
        let parked = || vec![thing("car", 0.6)];
        let mut story = Vec::new();
        // The model looks when the car comes, when it has gone, and when the scene wants it; else the gate answers.
        for second in (0..80).step_by(2) {
            let list = if (6..50).contains(&second) { parked() } else { vec![] };
            let news = [0, 6, 8, 50, 52].contains(&second) || scene.wants_look();
            let now = if news { look(second, session, list) } else { unchanged(second, session, list) };
            let events = scene.look(&now, None);
            assert!(news || events.is_empty(), "an event of an unchanged look");
            story.extend(events.into_iter().map(|e| (second, e.phase, e.first_seen, e.last_seen)));
        }
        // One look later than with the model at every picture: 16, 36 and 54.
        assert_eq!(
            story,
            [
                (18, Phase::Began, at(6), at(18)),
                (40, Phase::Updated, at(6), at(40)),
                (56, Phase::Ended { at: at(50) }, at(6), at(48)),
            ]
        );
    }

    #[test]
    fn what_was_seen_once_and_stands_is_looked_at_again() {
        let (mut scene, session) = (Scene::new(&camera()), SessionId::next());
        let parked = || vec![thing("car", 0.6)];
        let mut story = scene.look(&look(0, session, parked()), None);
        for second in (2..40).step_by(2) {
            let now = if scene.wants_look() {
                look(second, session, parked())
            } else {
                unchanged(second, session, parked())
            };
            story.extend(scene.look(&now, None));
        }
        assert_eq!(story.len(), 2, "{story:?}");
        assert_eq!((story[0].phase, story[0].captured), (Phase::Began, at(12)));
    }

    #[test]
    fn what_only_the_gate_repeated_is_no_evidence() {
        // Seen once, repeated for a minute; when the model looks again it is not there.
        let (mut scene, session) = (Scene::new(&camera()), SessionId::next());
        let mut events = scene.look(&look(0, session, vec![thing("car", 0.6)]), None);
        for second in (2..60).step_by(2) {
            events.extend(scene.look(&unchanged(second, session, vec![thing("car", 0.6)]), None));
        }
        assert!(scene.wants_look() || scene.sights[0].mind.tracker.tracks()[0].stand().hits() == 1);
        for second in (60..80).step_by(2) {
            events.extend(scene.look(&look(second, session, vec![]), None));
        }
        assert_eq!(events, []);
    }

    #[test]
    fn a_clear_picture_that_stays_the_same_ends_nothing_before_the_model_has_looked_again() {
        let (mut scene, session) = (Scene::new(&camera()), SessionId::next());
        assert_eq!(run(&mut scene, 0..14, |_| vec![thing("car", 0.6)]).len(), 1);
        // Missed once, perhaps by mistake; then the gate repeats that.
        assert_eq!(scene.look(&look(14, session, vec![]), None), []);
        for second in (16..40).step_by(2) {
            assert_eq!(scene.look(&unchanged(second, session, vec![]), None), []);
        }
        assert!(scene.wants_look());
        // It was one: the car is there.
        let events = scene.look(&look(40, session, vec![thing("car", 0.6)]), None);
        assert!(events.iter().all(|e| e.phase == Phase::Updated), "{events:?}");
        assert_eq!((scene.open(), scene.wants_look()), (1, false));
    }

    #[test]
    fn flicker_is_not_dwelling() {
        let mut scene = Scene::new(&camera());
        let events = run(&mut scene, 0..60, |s| if s % 6 == 0 { vec![thing("car", 0.6)] } else { vec![] });
        assert_eq!(events, []);
    }
}
