//! Groups: a stall is goods, a cart, a parasol and somebody who sells, whatever boxes a model makes of them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{at, camera, classes, look, polygon, rule, run, secs, story, thing, zone};
use fleet::{Calibration, Dwell, Per, Rule, RuleKind, Together, Zone};
use flow::{Detection, Score};
use scene::Scene;

fn vending() -> Rule {
    let things = Dwell {
        classes: classes(&["tricycle", "umbrella", "goods"]),
        at_least: secs(30),
        drift: 0.25,
        per: Per::Group,
    };
    let kind = RuleKind::Together(Together { things, with: classes(&["person"]), share: 0.3 });
    rule("street_vending", kind)
}

fn vendor() -> Detection {
    thing("person", 0.8, [0.52, 0.38, 0.04, 0.16])
}

/// The same heap of goods, as one box with its cart and as two tables.
fn as_one() -> Vec<Detection> {
    vec![thing("goods", 0.8, [0.30, 0.42, 0.20, 0.14]), vendor()]
}

fn as_two() -> Vec<Detection> {
    let table = |x| thing("goods", 0.7, [x, 0.44, 0.06, 0.12]);
    vec![table(0.30), table(0.44), vendor()]
}

#[test]
fn a_stall_whose_boxes_change_is_one_stall() {
    let mut scene = Scene::new(&camera(vec![zone("footway", vec![vending()])]));
    let events = run(&mut scene, 0..220, |second| match second {
        0..60 | 120..180 => as_one(),
        60..120 => as_two(),
        _ => vec![vendor()],
    });
    assert_eq!(story(&events), [(30, "began".into()), (184, "ended 180".into())]);
    assert!(events.iter().all(|(_, event)| event.id == events[0].1.id));
}

#[test]
fn a_stall_that_is_moved_by_a_step_goes_on_and_one_that_moves_away_is_over() {
    let mut scene = Scene::new(&camera(vec![zone("footway", vec![vending()])]));
    let stall = |x: f32| vec![thing("tricycle", 0.8, [x, 0.42, 0.12, 0.14]), vendor()];
    let events = run(&mut scene, 0..120, |second| match second {
        0..60 => stall(0.36),
        60..90 => stall(0.44),
        _ => stall(0.80),
    });
    assert_eq!(story(&events), [(30, "began".into()), (94, "ended 90".into())]);
}

#[test]
fn who_passes_with_an_umbrella_keeps_no_stall_that_is_gone() {
    let mut scene = Scene::new(&camera(vec![zone("footway", vec![vending()])]));
    let events = run(&mut scene, 0..100, |second| match second {
        0..60 => as_one(),
        // Somebody walks past, and somebody after them.
        _ => {
            let x = ((second - 60) % 18) as f32 * 0.05;
            vec![thing("umbrella", 0.9, [x, 0.38, 0.06, 0.06]), thing("person", 0.9, [x, 0.40, 0.06, 0.2])]
        }
    });
    let told = story(&events);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1].1, "ended 60");
    assert!(told[1].0 <= 80, "{told:?}");
}

#[test]
fn who_stands_beside_one_thing_of_a_stall_is_with_all_of_it() {
    // The parasol is in the air above the footway, its foot not in the zone; the vendor stands behind it.
    let parasol = || thing("umbrella", 0.8, [0.38, 0.30, 0.14, 0.10]);
    let goods = || thing("goods", 0.8, [0.32, 0.46, 0.06, 0.08]);
    let behind = || thing("person", 0.8, [0.54, 0.30, 0.03, 0.12]);
    let footway = || Zone {
        polygon: polygon(&[(0.0, 0.45), (1.0, 0.45), (1.0, 0.7), (0.0, 0.7)]),
        ..zone("footway", vec![vending()])
    };
    let began = |list: &dyn Fn() -> Vec<Detection>| {
        let mut scene = Scene::new(&camera(vec![footway()]));
        run(&mut scene, 0..60, |_| list()).len()
    };
    assert_eq!(began(&|| vec![goods(), parasol(), behind()]), 1);
    assert_eq!(began(&|| vec![goods(), behind()]), 0, "without the parasol they are not side by side");
    assert_eq!(began(&|| vec![goods(), parasol()]), 0, "nobody is with it");
}

#[test]
fn confidence_is_what_it_is_worth_and_what_was_stated_stays_visible() {
    let learned = Calibration::new("together", (100, 98), vec![(0.4, 0.7), (0.8, 0.98)]).unwrap();
    let known = Rule { calibration: Some(Arc::new(learned)), ..vending() };
    let told = |rule: Rule| {
        let mut scene = Scene::new(&camera(vec![zone("footway", vec![rule])]));
        let mut events = run(&mut scene, 0..40, |_| as_two());
        // A restart changes nothing: what is kept is what the rule states.
        let saved = scene.save();
        scene.restore(saved);
        events.extend(scene.look(&look(4_000, as_two()), None).into_iter().map(|event| (4_000, event)));
        events.into_iter().map(|(_, event)| event).collect::<Vec<_>>()
    };
    let stated = told(vending());
    assert!(stated.iter().all(|event| event.uncalibrated.is_none()));
    let close = |a: Score, b: f32| assert!((a.get() - b).abs() < 1e-5, "{a:?} {b}");
    close(stated[0].confidence, 0.7);
    let worth = told(known);
    assert_eq!(worth.len(), stated.len());
    for (worth, stated) in worth.iter().zip(&stated) {
        assert_eq!(worth.uncalibrated, Some(stated.confidence));
        close(worth.confidence, 0.7 + 0.28 * (stated.confidence.get() - 0.4) / 0.4);
        assert_eq!(worth.id, stated.id);
    }
    assert!(worth.len() == 2 && worth[1].captured == at(4_000), "began, and updated after an hour");
}
