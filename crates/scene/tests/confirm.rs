//! What a second model decides, told as short stories.

#![allow(clippy::unwrap_used, reason = "part of tests, though outside of a #[test] function")]

mod common;

use common::{at, camera, classes, look, rule, secs, story, thing, zone};
use fleet::{Confirm, Count, Dwell, Per, Rule, RuleKind, Together, Zone};
use flow::{Basis, ClassName, Detection, Detections, Event, ModelId, Phase, Score, Timestamp};
use scene::{Answer, Question, Saved, Scene};

const CART: [f32; 4] = [0.5, 0.5, 0.1, 0.1];
const GOODS: [f32; 4] = [0.62, 0.52, 0.06, 0.08];

fn cart() -> Detection {
    thing("tricycle", 0.8, CART)
}

fn goods() -> Detection {
    thing("goods", 0.8, GOODS)
}

/// A stall stands for 10 s, and a second model must take it for a vendor.
fn vending(per: Per) -> Rule {
    let kind = RuleKind::Dwell(Dwell {
        classes: classes(&["tricycle", "goods"]),
        at_least: secs(10),
        drift: 0.25,
        per,
    });
    confirmed(rule("street_vending", kind))
}

fn confirmed(rule: Rule) -> Rule {
    let confirm = Confirm::new(ModelId::new("second").unwrap(), classes(&["vendor"]));
    Rule { confirm: Some(confirm), ..rule }
}

fn scene_of(rule: Rule) -> Scene {
    Scene::new(&camera(vec![zone("z", vec![rule])]))
}

fn said(class: &str, score: f32) -> Option<Answer> {
    Some(Answer { class: ClassName::new(class), score: Score::new(score).unwrap() })
}

/// What came, when, and when something was asked.
#[derive(Default)]
struct Told {
    events: Vec<(i64, Event)>,
    asked: Vec<i64>,
}

/// Looks every two seconds; `answers` gives the second model's word, or `None` for no word at all.
fn play(
    scene: &mut Scene,
    seconds: std::ops::Range<i64>,
    what: impl Fn(i64) -> Vec<Detection>,
    answers: impl Fn(i64, &Question) -> Option<Option<Answer>>,
) -> Told {
    let mut told = Told::default();
    for second in seconds.step_by(2) {
        told.events.extend(scene.look(&look(second, what(second)), None).into_iter().map(|e| (second, e)));
        for question in scene.questions() {
            told.asked.push(second);
            let Some(answer) = answers(second, &question) else { continue };
            let events = scene.answer(question.id, answer.as_ref());
            told.events.extend(events.into_iter().map(|event| (second, event)));
        }
    }
    told
}

#[test]
fn what_is_confirmed_begins_with_the_look_that_was_asked_about() {
    let mut scene = scene_of(vending(Per::Group));
    let what = |s: i64| if s < 30 { vec![cart(), goods()] } else { vec![] };
    let told = play(&mut scene, 0..50, what, |_, _| Some(said("vendor", 0.7)));
    assert_eq!(story(&told.events), [(10, "began".into()), (34, "ended 30".into())]);
    assert_eq!(told.asked, [10], "both things are one question, asked once");
    let began = &told.events[0].1;
    assert_eq!((began.captured, began.frame.sequence, began.first_seen), (at(10), 10, at(0)));
    for (_, event) in &told.events {
        let by = event.confirmed_by.as_ref().unwrap();
        assert_eq!((by.model.as_str(), by.class.as_str(), by.score.get()), ("second", "vendor", 0.7));
    }
    assert_eq!(scene.rejected(), []);
}

#[test]
fn the_events_are_those_of_a_rule_that_asks_nobody() {
    let what = |s: i64| match s {
        0..40 => vec![cart(), goods()],
        60..90 => vec![cart()],
        _ => vec![],
    };
    let plain = Rule { confirm: None, ..vending(Per::Group) };
    let without = play(&mut scene_of(plain), 0..120, what, |_, _| None).events;
    let mut with =
        play(&mut scene_of(vending(Per::Group)), 0..120, what, |_, _| Some(said("vendor", 1.0))).events;
    with.iter_mut().for_each(|(_, event)| event.confirmed_by = None);
    assert_eq!(with, without);
}

#[test]
fn the_question_is_about_all_of_the_group_with_a_margin() {
    let mut scene = scene_of(vending(Per::Group));
    play(
        &mut scene,
        0..12,
        |_| vec![cart(), goods()],
        |_, question| {
            let place = question.place.to_array();
            // 0.5..0.68 x 0.5..0.6, and three tenths of that on every side.
            let wanted = [0.446, 0.47, 0.734, 0.63];
            assert!(place.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4), "{place:?}");
            assert_eq!((question.model.as_str(), question.situation.as_str()), ("second", "street_vending"));
            None
        },
    );
    assert_eq!(scene.questions().len(), 1);
    // Each by itself where each is a situation of its own.
    let mut scene = scene_of(vending(Per::Thing));
    assert_eq!(play(&mut scene, 0..12, |_| vec![cart(), goods()], |_, _| None).asked, [10, 10]);
    // Who is beside a stall belongs to the picture of it.
    let things = Dwell { classes: classes(&["tricycle"]), at_least: secs(10), drift: 0.25, per: Per::Group };
    let kind = RuleKind::Together(Together { things, with: classes(&["person"]), share: 0.3 });
    let mut scene = scene_of(confirmed(rule("street_vending", kind)));
    let seller = || thing("person", 0.8, [0.62, 0.4, 0.05, 0.2]);
    let told = play(
        &mut scene,
        0..12,
        |_| vec![cart(), seller()],
        |_, question| {
            assert!(question.place.x1() > 0.67 && question.place.y0() < 0.4, "{question:?}");
            None
        },
    );
    assert_eq!(told.asked, [10]);
}

#[test]
fn what_is_rejected_is_asked_about_again_until_the_tries_are_used_up() {
    let mut scene = scene_of(vending(Per::Group));
    let told = play(&mut scene, 0..400, |_| vec![cart()], |_, _| Some(said("parked_tricycle", 0.9)));
    assert_eq!(told.events, []);
    assert_eq!(told.asked, [10, 40, 70]);
    assert_eq!((scene.open(), scene.rejected()[0].2), (0, 1));
    // It leaves; what comes next is asked about anew.
    let told = play(&mut scene, 400..500, |s| if s < 420 { vec![] } else { vec![cart()] }, |_, _| None);
    assert_eq!(told.asked[0], 430);
}

#[test]
fn a_vendor_who_unpacks_beside_a_parked_cart_is_seen() {
    let mut scene = scene_of(vending(Per::Group));
    let what = |s: i64| if s < 200 { vec![cart()] } else { vec![cart(), goods()] };
    let told = play(&mut scene, 0..240, what, |s, _| {
        Some(if s < 200 { said("parked_tricycle", 0.9) } else { said("vendor", 0.9) })
    });
    assert_eq!(told.asked, [10, 40, 70, 210]);
    assert_eq!(story(&told.events), [(210, "began".into())]);
}

#[test]
fn who_is_not_sure_or_says_nothing_of_use_does_not_confirm() {
    for answer in [said("vendor", 0.59), said("umbrella_pedestrian", 1.0), None] {
        let mut scene = scene_of(vending(Per::Group));
        let told = play(&mut scene, 0..20, |_| vec![cart()], |_, _| Some(answer.clone()));
        assert_eq!((told.events, told.asked, scene.rejected()[0].2), (vec![], vec![10], 1), "{answer:?}");
    }
}

#[test]
fn a_question_without_an_answer_is_asked_again_at_the_next_look() {
    let mut scene = scene_of(vending(Per::Group));
    let told = play(&mut scene, 0..40, |_| vec![cart()], |s, _| (s >= 20).then(|| said("vendor", 0.9)));
    assert_eq!(told.asked, [10, 12, 14, 16, 18, 20]);
    assert_eq!(story(&told.events), [(20, "began".into())]);
    assert_eq!(told.events[0].1.first_seen, at(0));
    assert_eq!(scene.rejected(), [], "no answer is no rejection");
}

#[test]
fn an_answer_that_comes_twice_or_too_late_is_ignored() {
    let mut scene = scene_of(vending(Per::Group));
    play(&mut scene, 0..12, |_| vec![cart()], |_, _| None);
    let question = scene.questions().remove(0);
    assert_eq!(scene.answer(question.id, said("vendor", 0.9).as_ref()).len(), 1);
    assert_eq!(scene.answer(question.id, said("vendor", 0.9).as_ref()), []);
    assert_eq!((scene.open(), scene.questions()), (1, vec![]));
    scene.look(&look(12, vec![cart()]), None);
    assert_eq!(scene.answer(question.id, said("vendor", 0.9).as_ref()), []);
}

/// The same list again, without a look of the model.
fn unchanged(second: i64, list: Vec<Detection>) -> Detections {
    Detections { basis: Basis::Unchanged, ..look(second, list) }
}

#[test]
fn an_unchanged_look_asks_for_one_that_can_be_asked_about() {
    let mut scene = scene_of(vending(Per::Group));
    scene.look(&look(0, vec![cart()]), None);
    scene.look(&look(2, vec![cart()]), None);
    for second in (4..20).step_by(2) {
        assert_eq!(scene.look(&unchanged(second, vec![cart()]), None), []);
        assert_eq!((scene.questions(), scene.wants_look()), (vec![], second >= 10), "{second}");
    }
    scene.look(&look(20, vec![cart()]), None);
    let question = scene.questions().remove(0);
    assert_eq!(scene.answer(question.id, said("parked_tricycle", 0.9).as_ref()), []);
    // Rejected: quiet until it is asked again.
    for second in (22..60).step_by(2) {
        scene.look(&unchanged(second, vec![cart()]), None);
        assert_eq!(scene.wants_look(), second >= 50, "{second}");
    }
}

#[test]
fn what_was_rejected_stays_so_over_a_restart() {
    let rule = vending(Per::Group);
    let mut scene = scene_of(rule.clone());
    let no = |_: i64, _: &Question| Some(said("parked_tricycle", 0.9));
    assert_eq!(play(&mut scene, 0..60, |_| vec![cart()], no).asked, [10, 40]);
    let saved: Saved = serde_json::from_str(&serde_json::to_string(&scene.save()).unwrap()).unwrap();
    let mut next = scene_of(rule);
    assert!(next.restore(saved));
    assert_eq!(play(&mut next, 60..300, |_| vec![cart()], no).asked, [70]);
    assert_eq!(next.rejected()[0].2, 1);
}

#[test]
fn zones_are_asked_about_as_a_whole() {
    let kind =
        RuleKind::Count(Count { classes: classes(&["person"]), from: 2, below: 1, at_least: secs(10) });
    let mut scene = scene_of(confirmed(rule("crowd", kind)));
    let two = |_: i64| {
        vec![thing("person", 0.8, [0.1, 0.5, 0.05, 0.2]), thing("person", 0.9, [0.8, 0.5, 0.05, 0.2])]
    };
    let told = play(&mut scene, 0..60, two, |s, question| {
        assert!(question.place.x0() < 0.1 && question.place.x1() > 0.85, "{question:?}");
        Some(if s < 30 { said("nothing", 0.9) } else { said("vendor", 0.9) })
    });
    assert_eq!(told.asked, [10, 40]);
    assert_eq!(story(&told.events), [(40, "began".into())]);
    assert!(told.events[0].1.confirmed_by.is_some());
}

#[test]
fn the_cap_and_the_desks_verdict_come_before_the_question() {
    let mut scene = scene_of(Rule { cap_per_day: 1, ..vending(Per::Thing) });
    let yes = |_: i64, _: &Question| Some(said("vendor", 0.9));
    let told = play(&mut scene, 0..14, |_| vec![cart()], yes);
    assert_eq!(told.asked, [10]);
    let told = play(&mut scene, 14..60, |_| vec![cart(), thing("goods", 0.8, [0.1, 0.5, 0.1, 0.1])], yes);
    assert!(told.asked.is_empty(), "the cap of the day is reached");
    assert_eq!(scene.held_back()[0].2, 1);

    let mut scene = scene_of(vending(Per::Thing));
    let began = play(&mut scene, 0..14, |_| vec![cart()], yes).events.remove(0).1;
    assert!(scene.dismiss(began.id, at(14)));
    let told = play(&mut scene, 14..200, |s| if s < 30 { vec![] } else { vec![cart()] }, yes);
    assert!(told.asked.is_empty());
    assert!(matches!(told.events[0].1.phase, Phase::Ended { .. }));
}

#[test]
fn two_rules_of_a_zone_have_their_own_questions() {
    let plain = Rule { confirm: None, ..vending(Per::Thing) };
    let other = flow::SituationId::new("goods_outside").unwrap();
    let plain = Rule { situation: other, ..plain };
    let both: Zone = zone("z", vec![plain, vending(Per::Thing)]);
    let mut scene = Scene::new(&camera(vec![both]));
    let told = play(
        &mut scene,
        0..14,
        |_| vec![cart()],
        |_, question| {
            assert_eq!(question.situation.as_str(), "street_vending");
            Some(said("vendor", 0.9))
        },
    );
    let situations: Vec<_> =
        told.events.iter().map(|(_, e)| (e.key.situation.as_str(), e.confirmed_by.is_some())).collect();
    assert_eq!(situations, [("goods_outside", false), ("street_vending", true)]);
}

#[test]
fn time_that_goes_back_asks_nothing_twice() {
    let mut scene = scene_of(vending(Per::Group));
    play(&mut scene, 0..12, |_| vec![cart()], |_, _| None);
    assert_eq!(scene.questions().len(), 1);
    let earlier: Timestamp = at(5);
    let old = Detections { captured: earlier, ..look(11, vec![cart()]) };
    assert_eq!(scene.look(&old, None), []);
    assert_eq!(scene.questions(), [], "a look that is not later than the one before is ignored");
}
