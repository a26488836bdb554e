//! A camera that turns: what happens at one preset while it shows another.
#![allow(clippy::unwrap_used, reason = "part of tests, though outside of a #[test] function")]

mod common;

use std::sync::Arc;

use common::{at, look, rule, secs, thing, zone};
use fleet::{Camera, Coverage, Dwell, Look, Per, Preset, RuleKind};
use flow::{Basis, Detection, Detections, Event, Luma, Phase, ZoneId};
use scene::{Condition, Saved, Scene};

const PRESETS: [&str; 2] = ["gate", "market"];

/// Parking at the gate, where a car may stand for 30 s; whatever covers the market.
fn turning() -> Camera {
    let parking = RuleKind::Dwell(Dwell {
        classes: common::classes(&["car"]),
        at_least: secs(30),
        drift: 0.25,
        per: Per::Thing,
    });
    let covered = RuleKind::Coverage(Coverage { share: 0.02, at_least: secs(20) });
    let zones = vec![
        zone("kerb", vec![rule("illegal_parking", parking)]),
        zone("square", vec![rule("road_obstructed", covered)]),
    ];
    let preset = |index: usize| Preset {
        id: ZoneId::new(PRESETS[index]).unwrap(),
        references: vec![],
        zones: index..index + 1,
        ignore: Arc::new([]),
        ground: None,
    };
    let camera = common::camera(zones);
    let look = Look { at_least_every: secs(4), ..camera.look };
    Camera { presets: Arc::new([preset(0), preset(1)]), look, ..camera }
}

/// What the camera shows when it is turned by so much: rows of houses.
fn shows(turn: usize, noise: u64, box_at: Option<(usize, usize)>) -> Luma {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut world = vec![100u8; 600 * 90];
    for _ in 0..900 {
        let (left, top, width, height) =
            (rng.usize(..590), rng.usize(..86), rng.usize(3..24), rng.usize(3..20));
        let grey = rng.u8(40..200);
        for row in top..(top + height).min(90) {
            world[row * 600 + left..row * 600 + (left + width).min(600)].fill(grey);
        }
    }
    let mut rng = fastrand::Rng::with_seed(noise);
    let cells = (0..160 * 90).map(|at| {
        let (x, y) = (at % 160, at / 160);
        let boxed =
            box_at.is_some_and(|(left, top)| (left..left + 24).contains(&x) && (top..top + 20).contains(&y));
        let grey = if boxed { if (x + y) % 2 == 0 { 20 } else { 60 } } else { world[y * 600 + turn + x] };
        grey.saturating_add(rng.u8(0..5))
    });
    Luma::from_cells(160, 90, cells.collect()).unwrap()
}

const GATE: usize = 40;
const MARKET: usize = 330;

fn scene() -> Scene {
    let mut scene = Scene::new(&turning());
    for (preset, turn) in PRESETS.into_iter().zip([GATE, MARKET]) {
        assert!(scene.refer(&ZoneId::new(preset).unwrap(), &shows(turn, 1, None)));
    }
    assert!(!scene.refer(&ZoneId::new("roof").unwrap(), &shows(0, 1, None)));
    scene
}

fn car() -> Detection {
    thing("car", 0.8, [0.3, 0.4, 0.2, 0.2])
}

/// Looks every two seconds in this direction.
fn watch(
    scene: &mut Scene,
    seconds: std::ops::Range<i64>,
    turn: impl Fn(i64) -> usize,
    list: &[Detection],
) -> Vec<(i64, Event)> {
    let looks = seconds.step_by(2);
    looks
        .flat_map(|second| {
            let luma = shows(turn(second), second as u64, None);
            let events = scene.look(&look(second, list.to_vec()), Some(&luma));
            events.into_iter().map(move |event| (second, event)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_situation_goes_on_while_the_camera_looks_elsewhere_and_its_clock_stands_still() {
    let mut scene = scene();
    // Twenty seconds at the gate, a minute and a half at the market, and back.
    assert_eq!(watch(&mut scene, 0..22, |_| GATE, &[car()]), []);
    assert_eq!(scene.zones_shown()[0].id.as_str(), "kerb");
    assert_eq!(watch(&mut scene, 22..110, |_| MARKET, &[]), []);
    assert_eq!(scene.zones_shown()[0].id.as_str(), "square");
    let events = watch(&mut scene, 110..130, |_| GATE, &[car()]);
    let [(second, began)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((began.phase, began.first_seen), (Phase::Began, at(2)), "settled from the second look on");
    // Of the time away, only as much counts as looks may be apart: 12 s. Without a gap it would have been 32.
    assert!((112..=120).contains(second), "{second}");
    // Away for an hour, over a restart; then the place is empty.
    assert_eq!(watch(&mut scene, 130..3_730, |_| MARKET, &[]), []);
    assert_eq!(scene.open(), 1);
    let saved: Saved = serde_json::from_str(&serde_json::to_string(&scene.save()).unwrap()).unwrap();
    let mut scene = self::scene();
    assert!(scene.restore(saved));
    let events = watch(&mut scene, 3_730..3_750, |_| GATE, &[]);
    let [(_, ended)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((ended.id, ended.phase), (began.id, Phase::Ended { at: at(3_732) }));
}

#[test]
fn what_moves_past_on_the_way_is_nothing() {
    let mut scene = scene();
    // A tour: never longer than a look in one direction, and a car that seems to stand in each of them.
    let events = watch(&mut scene, 0..600, |second| (second as usize * 37) % 430, &[car()]);
    assert_eq!(events, []);
    assert_eq!(scene.condition(), Condition::OffPreset);
    assert!(scene.zones_shown().is_empty());
    assert!(scene.condition().to_string().contains("off its presets"));
    let events = watch(&mut scene, 600..650, |_| GATE, &[car()]);
    assert_eq!(events.len(), 1);
    assert_eq!(scene.condition(), Condition::Good);
}

#[test]
fn each_preset_has_its_own_background() {
    let mut scene = scene();
    let mut events = Vec::new();
    let mut clock = 0;
    for round in 0..30 {
        for turn in [GATE, MARKET] {
            for _ in 0..12 {
                // From the twentieth round on something stands on the market.
                let something = (turn == MARKET && round >= 20).then_some((60, 40));
                let luma = shows(turn, clock as u64, something);
                events.extend(scene.look(&look(clock, vec![]), Some(&luma)));
                clock += 2;
            }
        }
    }
    let [began] = &events[..] else { panic!("{events:?}") };
    assert_eq!((began.phase, began.key.zone.as_str()), (Phase::Began, "square"));
    assert!(began.captured >= at(20 * 48), "nothing before it was there");
}

#[test]
fn a_repeated_look_without_its_picture_is_of_what_was_shown_last() {
    let mut scene = scene();
    watch(&mut scene, 0..10, |_| GATE, &[car()]);
    let repeated = Detections { basis: Basis::Unchanged, ..look(10, vec![car()]) };
    assert_eq!(scene.look(&repeated, None), []);
    assert_eq!(scene.zones_shown()[0].id.as_str(), "kerb");
    // The model's own look without a picture may be of anything.
    assert_eq!(scene.look(&look(12, vec![car()]), None), []);
    assert!(scene.zones_shown().is_empty());
}
