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
    assert!(events.iter().all(|(_, e)| e.id == events[0].1.id && e.first_seen == at(6) && e.began == at(16)));
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
        run(&mut scene, 0..60, |s| if (20..40).contains(&s) { vec![bus()] } else { vec![thing("car", 0.6)] });
    let phases: Vec<_> = events.iter().map(|(_, e)| e.phase).collect();
    assert!(!phases.iter().any(|p| matches!(p, Phase::Ended { .. })), "{phases:?}");
    assert_eq!(phases[0], Phase::Began);
    assert_eq!(scene.open(), 1);
}

#[test]
fn a_car_that_drives_off_in_view_ends_where_it_stood() {
    let mut scene = Scene::new(&camera());
    let events = run(&mut scene, 0..60, |s| {
        if s < 30 { vec![thing("car", 0.6)] } else { vec![thing("car", 0.6 - 0.02 * (s - 28) as f32 % 0.6)] }
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
