//! One camera: its tracker, its rules, its open situations.

use std::sync::Arc;

use fleet::{Camera, Dwell, Per, Rule, Zone};
use flow::{Basis, CameraId, Detections, Event, NormBox, NormPoint, SituationKey};

use crate::situation::Situation;
use crate::tracker::{Need, Presence, Track, Tracker};

/// Two tracks that overlap more than this are one thing: a second box on it opens no second situation.
const SAME_THING_IOU: f32 = 0.4;
/// A thing must have been seen on this share of the clear looks while it stood there.
const MIN_SEEN_SHARE: f32 = 0.5;
/// ... and on at least this many looks, whatever the time between them.
const MIN_HITS: u32 = 2;

/// The state of one camera.
#[derive(Debug, Clone)]
pub struct Scene {
    camera: CameraId,
    tracker: Tracker,
    watches: Vec<Watch>,
    /// An unchanged look would have made an event of it.
    wants_look: bool,
}

/// One rule in one zone, with what it has found.
#[derive(Debug, Clone)]
struct Watch {
    zone: Arc<[Zone]>,
    zone_index: usize,
    rule: Arc<Rule>,
    open: Vec<Situation>,
}

impl Scene {
    /// An empty scene for `camera`, with nothing seen yet.
    pub fn new(camera: &Camera) -> Self {
        let rules = || camera.zones.iter().flat_map(|zone| &zone.rules);
        let start_score = rules().map(|rule| rule.min_score).fold(1.0, f32::min);
        let drift = rules().map(|rule| dwell(rule).drift).fold(f32::INFINITY, f32::min);
        let watches = camera.zones.iter().enumerate().flat_map(|(zone_index, zone)| {
            let all = camera.zones.clone();
            zone.rules.iter().map(move |rule| Watch {
                zone: all.clone(),
                zone_index,
                rule: rule.clone(),
                open: Vec::new(),
            })
        });
        // Three looks missed in a row are a gap; before that it is a slow camera.
        let max_gap = camera.look.at_least_every * 3;
        let drift = if drift.is_finite() { drift } else { 0.25 };
        Self {
            camera: camera.id.clone(),
            tracker: Tracker::new(max_gap, drift, start_score),
            watches: watches.collect(),
            wants_look: false,
        }
    }

    /// Takes one look of this camera and says what it means: events in the order in which they should be sent.
    /// Looks that are not later than the one before are ignored.
    ///
    /// An unchanged look ([`Basis::Unchanged`]) carries on what was seen, but makes no event: whatever begins, goes on or
    /// ends was seen by the model in the very picture that is its evidence. Where an unchanged look would have made one,
    /// it is not taken, and [`wants_look`](Self::wants_look) says that the model should look.
    pub fn look(&mut self, look: &Detections) -> Vec<Event> {
        debug_assert_eq!(look.frame.camera, self.camera, "a look of another camera");
        if look.basis == Basis::Inferred {
            self.wants_look = false;
            return self.take(look);
        }
        let mut after = self.clone();
        if after.take(look).is_empty() {
            *self = after;
        } else {
            self.wants_look = true;
        }
        Vec::new()
    }

    /// Whether the model should look at the next picture, even if that shows nothing new: something is due.
    pub fn wants_look(&self) -> bool {
        self.wants_look
    }

    fn take(&mut self, look: &Detections) -> Vec<Event> {
        let taken = match look.basis {
            Basis::Inferred => self.tracker.look(&look.list, look.captured),
            Basis::Unchanged => self.tracker.carry(&look.list, look.captured),
        };
        if !taken {
            return Vec::new();
        }
        let tracks = self.tracker.tracks();
        let mut events = Vec::new();
        let mut over = Vec::new();
        for watch in &mut self.watches {
            over.extend(watch.follow(tracks, look, &mut events));
        }
        for watch in &mut self.watches {
            watch.begin(&self.camera, tracks, look, &mut events);
        }
        let watches = &self.watches;
        self.tracker.forget(|track| {
            if watches.iter().any(|watch| watch.open.iter().any(|situation| situation.has(track.id))) {
                Need::Awaited
            } else if over.iter().any(|situation| situation.has(track.id)) {
                Need::Over
            } else {
                Need::Unknown
            }
        });
        events
    }

    /// How many situations are open.
    pub fn open(&self) -> usize {
        self.watches.iter().map(|watch| watch.open.len()).sum()
    }
}

impl Watch {
    fn zone(&self) -> &Zone {
        &self.zone[self.zone_index]
    }

    /// Carries the open situations on; those that are over.
    fn follow(&mut self, tracks: &[Track], look: &Detections, events: &mut Vec<Event>) -> Vec<Situation> {
        let rule = &self.rule;
        let ended = self.open.extract_if(.., |situation| {
            let event = situation.look(rule, tracks, look);
            let ended = event.as_ref().is_some_and(|e| matches!(e.phase, flow::Phase::Ended { .. }));
            events.extend(event);
            ended
        });
        ended.collect()
    }

    /// Opens a situation for every track of which the rule now holds.
    fn begin(&mut self, camera: &CameraId, tracks: &[Track], look: &Detections, events: &mut Vec<Event>) {
        for track in tracks {
            if self.known(track, tracks) || !self.holds(track, look.captured) {
                continue;
            }
            let key = SituationKey {
                camera: camera.clone(),
                zone: self.zone().id.clone(),
                situation: self.rule.situation.clone(),
            };
            let condition = dwell(&self.rule);
            if condition.per == Per::Group && self.join(track, tracks) {
                continue;
            }
            let (situation, event) = Situation::begin(key, &self.rule, track, look);
            self.open.push(situation);
            events.push(event);
        }
    }

    /// Whether `track`, or one that is the same thing, already has a situation here.
    fn known(&self, track: &Track, tracks: &[Track]) -> bool {
        self.open.iter().any(|situation| {
            situation.has(track.id)
                || tracks
                    .iter()
                    .filter(|other| situation.has(other.id))
                    .any(|other| other.place().iou(&track.place()) > SAME_THING_IOU)
        })
    }

    /// Makes `track` part of an open situation whose things stand beside it.
    fn join(&mut self, track: &Track, tracks: &[Track]) -> bool {
        let beside = |situation: &&mut Situation| {
            let members = tracks.iter().filter(|other| situation.has(other.id));
            members.into_iter().any(|other| side_by_side(&other.place(), &track.place()))
        };
        let found = self.open.iter_mut().find(beside);
        found.map(|situation| situation.join(track)).is_some()
    }

    fn holds(&self, track: &Track, now: flow::Timestamp) -> bool {
        let condition = dwell(&self.rule);
        condition.classes.contains(&track.class)
            && track.presence == Presence::Seen
            && !track.in_doubt()
            && track.stood_for(now) >= condition.at_least
            && track.hits() >= MIN_HITS
            && track.seen_share() >= MIN_SEEN_SHARE
            && track.mean_score() >= self.rule.min_score
            && self.zone().polygon.contains(foot(track))
    }
}

/// Where a thing stands. Just above the bottom edge of its box, so that a thing cut off by the picture's
/// lower edge is still inside a zone that reaches down to it.
fn foot(track: &Track) -> NormPoint {
    let foot = track.place().foot();
    NormPoint { y: foot.y - 1e-4, ..foot }
}

/// Whether two boxes touch once each is widened by half of its size on every side.
fn side_by_side(a: &NormBox, b: &NormBox) -> bool {
    let near = |a0: f32, a1: f32, b0: f32, b1: f32| {
        let (middle, reach) = ((a0 + a1 - b0 - b1).abs() / 2.0, (a1 - a0) + (b1 - b0));
        middle <= reach
    };
    near(a.x0(), a.x1(), b.x0(), b.x1()) && near(a.y0(), a.y1(), b.y0(), b.y1())
}

fn dwell(rule: &Rule) -> &Dwell {
    rule.kind.things().expect("only rules about things get here")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet::{Look, RuleKind, Sampling, Transport};
    use flow::{
        ClassName, Detection, FrameId, ModelId, NormBox, Phase, Polygon, Score, SessionId, SituationId,
        Timestamp, ZoneId,
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
            url: "rtsp://127.0.0.1/".parse().unwrap(),
            credentials: None,
            transport: Transport::Tcp,
            look: Look {
                sampling: Sampling::Keyframes,
                at_most_every: Duration::from_secs(1),
                at_least_every: Duration::from_secs(10),
                priority: fleet::Priority::Normal,
            },
            model: ModelId::new("m").unwrap(),
            zones: Arc::new([Zone {
                id: ZoneId::new("right").unwrap(),
                polygon: Polygon::new(right).unwrap(),
                rules: vec![Arc::new(rule)],
                line: None,
                permitted: None,
            }]),
            ignore: Arc::new([]),
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
        looks.flat_map(|s| scene.look(&look(s, session, what(s))).into_iter().map(move |e| (s, e))).collect()
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
            let events = scene.look(&now);
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
    fn what_only_the_gate_repeated_is_no_evidence() {
        // Seen once, repeated for a minute; when the model looks again it is not there.
        let (mut scene, session) = (Scene::new(&camera()), SessionId::next());
        let mut events = scene.look(&look(0, session, vec![thing("car", 0.6)]));
        for second in (2..60).step_by(2) {
            events.extend(scene.look(&unchanged(second, session, vec![thing("car", 0.6)])));
        }
        assert!(scene.wants_look() || scene.tracker.tracks()[0].hits() == 1);
        for second in (60..80).step_by(2) {
            events.extend(scene.look(&look(second, session, vec![])));
        }
        assert_eq!(events, []);
    }

    #[test]
    fn a_clear_picture_that_stays_the_same_ends_nothing_before_the_model_has_looked_again() {
        let (mut scene, session) = (Scene::new(&camera()), SessionId::next());
        assert_eq!(run(&mut scene, 0..14, |_| vec![thing("car", 0.6)]).len(), 1);
        // Missed once, perhaps by mistake; then the gate repeats that.
        assert_eq!(scene.look(&look(14, session, vec![])), []);
        for second in (16..40).step_by(2) {
            assert_eq!(scene.look(&unchanged(second, session, vec![])), []);
        }
        assert!(scene.wants_look());
        // It was one: the car is there.
        let events = scene.look(&look(40, session, vec![thing("car", 0.6)]));
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
