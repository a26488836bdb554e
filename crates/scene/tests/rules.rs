//! Each rule, told as a short story.

mod common;

use std::sync::Arc;

use common::{at, camera, classes, look, polygon, rule, run, secs, story, thing, zone};
use fleet::{
    Confirmed, Count, Coverage, Cross, Direction, Dwell, Per, Perspective, Rule, RuleKind, Together, Zone,
};
use flow::{Luma, NormPoint, Phase};
use scene::Scene;

fn dwell(class: &str, at_least: u64) -> RuleKind {
    RuleKind::Dwell(Dwell {
        classes: classes(&[class]),
        at_least: secs(at_least),
        drift: 0.25,
        per: Per::Thing,
    })
}

fn scene_of(rule: Rule) -> Scene {
    Scene::new(&camera(vec![zone("z", vec![rule])]))
}

const CAR: [f32; 4] = [0.6, 0.5, 0.2, 0.2];

#[test]
fn a_stall_is_goods_and_somebody_beside_them() {
    let kind = RuleKind::Together(Together {
        things: Dwell {
            classes: classes(&["goods", "umbrella"]),
            at_least: secs(20),
            drift: 0.25,
            per: Per::Group,
        },
        with: classes(&["person"]),
        share: 0.3,
    });
    let goods = || thing("goods", 0.8, [0.5, 0.6, 0.1, 0.1]);
    let umbrella = || thing("umbrella", 0.8, [0.55, 0.45, 0.15, 0.1]);
    let vendor = |s: i64| thing("person", 0.8, [0.56 + 0.01 * (s % 3) as f32, 0.5, 0.06, 0.2]);

    let mut with_vendor = scene_of(rule("street_vending", kind.clone()));
    let events = run(&mut with_vendor, 0..80, |s| match s {
        // The vendor is seen at every other look.
        0..50 if s % 4 == 0 => vec![goods(), umbrella(), vendor(s)],
        0..50 => vec![goods(), umbrella()],
        _ => vec![],
    });
    assert_eq!(story(&events), [(20, "began".into()), (54, "ended 50".into())]);

    let mut alone = scene_of(rule("street_vending", kind.clone()));
    assert_eq!(story(&run(&mut alone, 0..80, |_| vec![goods(), umbrella()])), []);

    // Somebody who passes at the other side of the road, or once close by, sells nothing.
    let mut passing = scene_of(rule("street_vending", kind));
    let events = run(&mut passing, 0..80, |s| {
        let passer = thing("person", 0.8, [0.05 + 0.01 * s as f32, 0.1, 0.04, 0.15]);
        if s == 6 { vec![goods(), vendor(s)] } else { vec![goods(), passer] }
    });
    assert_eq!(story(&events), []);
}

#[test]
fn a_count_has_hysteresis_and_forgives_one_look() {
    let kind =
        RuleKind::Count(Count { classes: classes(&["bicycle"]), from: 5, below: 3, at_least: secs(20) });
    let bikes = |n: usize| -> Vec<_> {
        (0..n).map(|i| thing("bicycle", 0.7, [0.05 + 0.1 * i as f32, 0.5, 0.06, 0.1])).collect()
    };
    let mut scene = scene_of(rule("non_motor_parking", kind));
    let events = run(&mut scene, 0..120, |s| match s {
        0..10 => bikes(4),
        20 => bikes(2),
        10..40 => bikes(5),
        40..60 => bikes(3),
        _ => bikes(2),
    });
    assert_eq!(story(&events), [(30, "began".into()), (64, "ended 60".into())]);
    assert_eq!(events[0].1.objects.len(), 5);
}

#[test]
fn a_models_own_class_is_confirmed_by_its_share_of_looks() {
    let kind =
        RuleKind::Model(Confirmed { classes: classes(&["standing_water"]), at_least: secs(30), share: 0.6 });
    let water = || thing("standing_water", 0.7, [0.2, 0.6, 0.4, 0.2]);
    let mut scene = scene_of(rule("waterlogging", kind.clone()));
    // Seen on two looks of three.
    let events = run(&mut scene, 0..100, |s| if s % 6 == 4 || s > 80 { vec![] } else { vec![water()] });
    assert_eq!(story(&events)[0], (30, "began".into()));
    assert!(events[0].1.confidence.get() < 0.7, "lowered by the looks without it");
    assert_eq!(story(&events).last(), Some(&(86, "ended 82".into())));
    // On one of three it is a reflection.
    let mut scene = scene_of(rule("waterlogging", kind));
    let events = run(&mut scene, 0..300, |s| if s % 6 == 0 { vec![water()] } else { vec![] });
    assert_eq!(story(&events), []);
}

#[test]
fn a_line_is_crossed_in_its_direction_and_between_two_looks() {
    let line = [NormPoint { x: 0.5, y: 0.0 }, NormPoint { x: 0.5, y: 1.0 }];
    let crossings = |direction: Direction, way: fn(i64) -> f32| {
        let kind = RuleKind::Cross(Cross { classes: classes(&["car"]), direction });
        let zone = Zone { line: Some(line), ..zone("z", vec![rule("line_crossed", kind)]) };
        let mut scene = Scene::new(&camera(vec![zone]));
        run(&mut scene, 0..8, |s| vec![thing("car", 0.8, [way(s), 0.5, 0.1, 0.1])])
    };
    let rightwards: fn(i64) -> f32 = |s| 0.05 + 0.12 * s as f32;
    let leftwards: fn(i64) -> f32 = |s| 0.85 - 0.12 * s as f32;
    let both = crossings(Direction::Any, rightwards);
    assert_eq!(story(&both), [(4, "began".into()), (4, "ended 4".into())]);
    assert_eq!(both[0].1.id, both[1].1.id);
    // The line runs down the picture: what goes to the right in the picture goes to its left side.
    assert_eq!(crossings(Direction::ToLeft, rightwards).len(), 2);
    assert_eq!(crossings(Direction::ToRight, rightwards).len(), 0);
    assert_eq!(crossings(Direction::ToRight, leftwards).len(), 2);
    let beside = [NormPoint { x: 0.5, y: 0.0 }, NormPoint { x: 0.5, y: 0.3 }];
    let kind = RuleKind::Cross(Cross { classes: classes(&["car"]), direction: Direction::Any });
    let zone = Zone { line: Some(beside), ..zone("z", vec![rule("line_crossed", kind)]) };
    let mut scene = Scene::new(&camera(vec![zone]));
    let past = run(&mut scene, 0..8, |s| vec![thing("car", 0.8, [rightwards(s), 0.5, 0.1, 0.1])]);
    assert_eq!(story(&past), [], "it passes below the line's end");
}

#[test]
fn an_obstacle_that_no_model_knows_is_found_by_what_it_covers() {
    let kind = RuleKind::Coverage(Coverage { share: 0.03, at_least: secs(60) });
    let road = Zone {
        polygon: polygon(&[(0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)]),
        ..zone("road", vec![rule("road_obstructed", kind)])
    };
    let picture = |second: i64, rock: bool| {
        let cells = (0..160 * 90).map(|at| {
            let (x, y) = (at % 160, at / 160);
            let on_rock = rock && (60..85).contains(&x) && (60..75).contains(&y);
            let noise = ((at as i64 * 31 + second * 17) % 5) as u8;
            if on_rock { 30 + ((x * y) % 50) as u8 } else { 100 + ((x * 3 + y * 7) % 20) as u8 + noise }
        });
        Luma::from_cells(160, 90, cells.collect()).unwrap()
    };
    let mut scene = Scene::new(&camera(vec![road]));
    let mut events = Vec::new();
    for second in (0..400).step_by(2) {
        let luma = picture(second, (100..300).contains(&second));
        let came = scene.look(&look(second, vec![]), Some(&luma));
        events.extend(came.into_iter().map(|event| (second, event)));
    }
    let told = story(&events);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!((160..200).contains(&told[0].0), "{told:?}");
    assert!((300..340).contains(&told[1].0), "{told:?}");
    let found = &events[0].1.objects[0];
    assert_eq!(found.class.as_str(), "unknown");
    assert!((found.bbox.x0() - 60.0 / 160.0).abs() < 0.02 && (found.bbox.y1() - 75.0 / 90.0).abs() < 0.03);
}

#[test]
fn outside_its_window_time_does_not_count_and_what_is_open_ends() {
    // at(0) is 2023-11-14 22:13:20 UTC; the zone of these windows is Shanghai, eight hours ahead: 06:13:20.
    let windows = |from: &str, to: &str| {
        let yaml = format!(
            "site: s\nsituations: {{s: {{zh: 一, en: one, rule: {{dwell: {{classes: [car]}}, windows: [{{from: \"{from}\", to: \"{to}\"}}]}}}}}}\n"
        );
        let fleet = fleet::Fleet::from_yaml_str(&yaml, std::path::Path::new("")).unwrap();
        fleet.situations.values().next().unwrap().rule.windows.clone().unwrap()
    };
    let parked = |_| vec![thing("car", 0.8, CAR)];
    // 400 s after the start it is 06:20.
    let morning =
        Rule { windows: Some(windows("06:20", "06:30")), ..rule("illegal_parking", dwell("car", 60)) };
    let mut scene = scene_of(morning);
    assert_eq!(
        story(&run(&mut scene, 0..1_100, parked)),
        [(460, "began".into()), (1_000, "ended 1000".into())]
    );

    // Permitted until 06:20: the clock starts then.
    let market = Zone {
        permitted: Some(windows("06:00", "06:20")),
        ..zone("z", vec![rule("illegal_parking", dwell("car", 60))])
    };
    let mut scene = Scene::new(&camera(vec![market]));
    assert_eq!(story(&run(&mut scene, 0..600, parked)), [(460, "began".into())]);
}

#[test]
fn after_an_end_the_same_place_cools_and_another_does_not() {
    let cool = Rule { cooldown: secs(100), ..rule("illegal_parking", dwell("car", 10)) };
    let mut scene = scene_of(cool);
    let events = run(&mut scene, 0..240, |s| match s {
        0..30 | 60..240 => vec![thing("car", 0.8, CAR)],
        _ => vec![],
    });
    assert_eq!(
        story(&events),
        [(10, "began".into()), (34, "ended 30".into()), (134, "began".into())],
        "ended at 34, cools until 134"
    );
    let cool = Rule { cooldown: secs(100), ..rule("illegal_parking", dwell("car", 10)) };
    let mut scene = scene_of(cool);
    let events = run(&mut scene, 0..100, |s| match s {
        0..30 => vec![thing("car", 0.8, CAR)],
        60.. => vec![thing("car", 0.8, [0.1, 0.5, 0.2, 0.2])],
        _ => vec![],
    });
    assert_eq!(story(&events)[2], (70, "began".into()));
}

#[test]
fn small_things_weak_classes_and_ignored_parts_do_not_count() {
    let began = |camera: &fleet::Camera, score: f32, place: [f32; 4]| {
        let mut scene = Scene::new(camera);
        !run(&mut scene, 0..40, |_| vec![thing("car", score, place)]).is_empty()
    };
    let tall = Perspective { top: 0.02, bottom: 0.2 };
    let picky = Rule {
        min_height: Some(tall),
        class_scores: [(classes(&["car"])[0].clone(), 0.6)].into(),
        ..rule("illegal_parking", dwell("car", 10))
    };
    let plain = camera(vec![zone("z", vec![picky])]);
    assert!(began(&plain, 0.8, [0.4, 0.7, 0.2, 0.2]));
    assert!(!began(&plain, 0.8, [0.4, 0.8, 0.2, 0.1]), "too low for something so near");
    assert!(began(&plain, 0.8, [0.4, 0.2, 0.2, 0.1]), "far away it may be that low");
    assert!(!began(&plain, 0.5, [0.4, 0.7, 0.2, 0.2]), "its class needs 0.6");
    let mut masked = camera(vec![zone("z", vec![rule("illegal_parking", dwell("car", 10))])]);
    masked.ignore = Arc::new([polygon(&[(0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0)])]);
    assert!(!began(&masked, 0.8, [0.6, 0.6, 0.2, 0.2]));
    assert!(began(&masked, 0.8, [0.1, 0.6, 0.2, 0.2]));
}

#[test]
fn two_rules_of_one_zone_do_not_disturb_each_other() {
    let count = RuleKind::Count(Count { classes: classes(&["car"]), from: 1, below: 1, at_least: secs(6) });
    let rules = vec![rule("illegal_parking", dwell("car", 20)), rule("crowd", count)];
    let mut scene = Scene::new(&camera(vec![zone("z", rules)]));
    let events = run(&mut scene, 0..60, |s| if s < 40 { vec![thing("car", 0.8, CAR)] } else { vec![] });
    let told: Vec<_> = events
        .iter()
        .map(|(s, e)| (*s, e.key.situation.as_str(), matches!(e.phase, Phase::Ended { .. })))
        .collect();
    assert_eq!(
        told,
        [
            (6, "crowd", false),
            (20, "illegal_parking", false),
            (44, "illegal_parking", true),
            (44, "crowd", true)
        ]
    );
    assert_eq!(events[0].1.began, at(6));
}

#[test]
fn the_same_place_again_is_the_same_problem_and_says_so() {
    let mut scene = scene_of(rule("illegal_parking", dwell("car", 10)));
    let events = run(&mut scene, 0..240, |s| match s {
        0..30 | 60..100 => vec![thing("car", 0.8, CAR)],
        130..170 => vec![thing("car", 0.8, [0.1, 0.5, 0.2, 0.2])],
        _ => vec![],
    });
    let began: Vec<_> = events.iter().filter(|(_, e)| e.phase == Phase::Began).map(|(_, e)| e).collect();
    assert_eq!(began.len(), 3);
    assert_eq!(began[0].recurs, None);
    assert_eq!(began[1].recurs, Some(began[0].id));
    assert_eq!(began[2].recurs, None, "another place");
}

#[test]
fn what_the_desk_dismisses_ends_and_is_left_alone_for_a_day_then_longer() {
    let hour = 3_600;
    let quiet = Rule { update_every: secs(7 * 24 * 3_600), ..rule("illegal_parking", dwell("car", 10)) };
    let mut scene = scene_of(quiet);
    let parked = || vec![thing("car", 0.8, CAR)];
    let first = run(&mut scene, 0..12, |_| parked());
    assert!(scene.dismiss(first[0].1.id, at(12)));
    let ended = run(&mut scene, 12..40, |_| parked());
    assert_eq!(story(&ended), [(12, "ended 12".into())]);
    // It comes and goes all day: nothing. The next day: again, and linked with the first.
    let mut events = Vec::new();
    for second in (40..25 * hour).step_by(20) {
        events.extend(scene.look(&look(second, if second % hour < 1_800 { parked() } else { vec![] }), None));
    }
    let began: Vec<_> = events.iter().filter(|e| e.phase == Phase::Began).collect();
    assert_eq!(began.len(), 1);
    assert!(began[0].began >= at(24 * hour));
    // Said again: two days.
    assert!(scene.dismiss(began[0].id, at(25 * hour)));
    let mut again = Vec::new();
    for second in (25 * hour..75 * hour).step_by(20) {
        again.extend(scene.look(&look(second, if second % hour < 1_800 { parked() } else { vec![] }), None));
    }
    let began: Vec<_> = again.iter().filter(|e| e.phase == Phase::Began).collect();
    assert!(!began.is_empty() && began[0].began >= at(73 * hour), "{began:#?}");
    assert!(!scene.dismiss(flow::EventId::new(at(0), &began[0].key, 99), at(0)), "never heard of");
}

#[test]
fn beyond_the_cap_things_are_counted_and_not_told() {
    let capped = Rule { cap_per_day: 3, ..rule("illegal_parking", dwell("car", 10)) };
    let mut scene = scene_of(capped);
    let row =
        |s: i64| (0..(s / 20).min(8)).map(|i| thing("car", 0.8, [0.1 * i as f32, 0.5, 0.08, 0.1])).collect();
    let events = run(&mut scene, 0..240, row);
    assert_eq!(events.iter().filter(|(_, e)| e.phase == Phase::Began).count(), 3);
    let held = scene.held_back();
    assert_eq!((held.len(), held[0].1.as_str(), held[0].2), (1, "illegal_parking", 5));
}
