//! Two and more cameras that see the same place.
#![allow(clippy::unwrap_used, reason = "part of tests, though outside of a #[test] function")]

mod common;

use std::sync::Arc;

use common::{at, rule, secs, thing, zone};
use fleet::{Camera, Dwell, Ground, Per, Rule, RuleKind};
use flow::{
    Basis, CameraId, Detection, Detections, Event, FrameId, MapPoint, ModelId, NormPoint, Phase, SessionId,
};
use scene::{Neighbours, Saved, Scene};

const ORIGIN: MapPoint = MapPoint { x: 126.046, y: 42.685 };

/// The picture of a camera shows a square of this many metres, one corner so far east of the origin: each as another part.
const SIZE: f64 = 100.0;

fn parking(same_place_m: f32) -> Rule {
    let kind = RuleKind::Dwell(Dwell {
        classes: common::classes(&["car"]),
        at_least: secs(10),
        drift: 0.25,
        per: Per::Thing,
    });
    Rule { same_place_m, ..rule("illegal_parking", kind) }
}

/// Looks straight down; `east` metres of the origin.
fn camera(id: &str, east: f64, same_place_m: f32) -> Camera {
    let corner = |x: f32, y: f32| {
        let metres = (east + f64::from(x) * SIZE, -f64::from(y) * SIZE);
        (NormPoint { x, y }, fleet::moved("wgs84", ORIGIN, metres))
    };
    let corners = [corner(0.0, 0.0), corner(1.0, 0.0), corner(1.0, 1.0), corner(0.0, 1.0)];
    Camera {
        id: CameraId::new(id).unwrap(),
        ground: Some(Ground { crs: "wgs84".into(), corners }),
        ..common::camera(vec![zone("street", vec![parking(same_place_m)])])
    }
}

/// A car so many metres east and south of the origin.
fn car(camera: &Camera, east: f64, south: f64) -> Detection {
    let corner = fleet::metres("wgs84", ORIGIN, camera.ground.as_ref().unwrap().corners[0].1);
    let (x, y) = (((east - corner.0) / SIZE) as f32, (south / SIZE) as f32);
    thing("car", 0.8, [x - 0.02, y - 0.03, 0.04, 0.03])
}

struct Street {
    cameras: Vec<Camera>,
    scenes: Vec<Scene>,
    neighbours: Neighbours,
}

impl Street {
    fn new(cameras: Vec<Camera>) -> Self {
        let neighbours = Neighbours::new(&cameras);
        Self { scenes: cameras.iter().map(Scene::new).collect(), neighbours, cameras }
    }

    /// One look of one camera, at what stands there in metres.
    fn look(&mut self, camera: usize, second: i64, cars: &[(f64, f64)]) -> Vec<Event> {
        let seen = cars.iter().map(|&(east, south)| car(&self.cameras[camera], east, south));
        let look = Detections {
            frame: FrameId {
                camera: self.cameras[camera].id.clone(),
                session: SessionId::next(),
                sequence: second as u64,
            },
            captured: at(second),
            model: ModelId::new("m").unwrap(),
            weights: "".into(),
            basis: Basis::Inferred,
            list: seen.collect(),
        };
        let mut events = self.scenes[camera].look(&look, None);
        events.iter_mut().for_each(|event| self.neighbours.take(event));
        events
    }

    /// All looks of all cameras, in this order; what is where is a function of the second.
    fn run(
        &mut self,
        seconds: std::ops::Range<i64>,
        order: &[usize],
        what: impl Fn(usize, i64) -> Vec<(f64, f64)>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for second in seconds.step_by(2) {
            for &camera in order {
                events.extend(self.look(camera, second, &what(camera, second)));
            }
        }
        events
    }
}

fn began(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| event.phase == Phase::Began).collect()
}

/// How many cases a desk makes of it.
fn problems(events: &[Event]) -> usize {
    began(events).iter().filter(|event| event.same_as.is_none()).count()
}

#[test]
fn two_cameras_tell_of_one_car_once_and_it_is_over_when_both_say_so() {
    let mut street = Street::new(vec![camera("a", 0.0, 50.0), camera("b", 60.0, 50.0)]);
    let events = street.run(0..80, &[0, 1], |camera, second| {
        // The second camera's view of it is cleared later.
        if second < if camera == 0 { 40 } else { 60 } { vec![(75.0, 40.0)] } else { vec![] }
    });
    let first = began(&events)[0];
    assert_eq!(first.same_as, None);
    let place = fleet::metres("wgs84", ORIGIN, first.place.unwrap());
    assert!((place.0 - 75.0).hypot(place.1 + 40.0) < 0.1, "{place:?}");
    let of_b: Vec<_> = events.iter().filter(|event| event.key.camera.as_str() == "b").collect();
    assert_eq!(of_b.len(), 2, "it began and it ended");
    for event in of_b {
        let same = event.same_as.as_ref().unwrap();
        assert_eq!((same.event, &same.key), (first.id, &first.key));
    }
    let ends = events.iter().filter(|event| matches!(event.phase, Phase::Ended { .. }));
    assert_eq!(ends.map(|event| event.key.camera.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    // What the desk says of one holds for both.
    let mut both = street.neighbours.views_of(first.id);
    both.sort();
    assert_eq!(both.len(), 2);
    let mut same = street.neighbours.views_of(both[1]);
    same.sort();
    assert_eq!(same, both);
}

#[test]
fn things_side_by_side_stay_as_many_as_there_are_whoever_tells_first() {
    for order in [[0, 1], [1, 0]] {
        let mut street = Street::new(vec![camera("a", 0.0, 50.0), camera("b", 50.0, 50.0)]);
        let events = street.run(0..20, &order, |_, _| vec![(70.0, 40.0), (78.0, 40.0), (86.0, 40.0)]);
        assert_eq!((began(&events).len(), problems(&events)), (6, 3));
        for event in began(&events).iter().filter(|event| event.same_as.is_some()) {
            let first =
                began(&events).into_iter().find(|e| e.id == event.same_as.as_ref().unwrap().event).unwrap();
            let (east, north) = fleet::metres("wgs84", first.place.unwrap(), event.place.unwrap());
            assert!(east.hypot(north) < 1.0, "the nearest is the same");
        }
    }
}

#[test]
fn what_is_further_away_or_of_a_camera_without_ground_is_another_problem() {
    let mut street = Street::new(vec![camera("a", 0.0, 5.0), camera("b", 0.0, 5.0)]);
    let events = street.run(0..20, &[0, 1], |camera, _| vec![(40.0 + 8.0 * camera as f64, 40.0)]);
    assert_eq!(problems(&events), 2);
    let blind = Camera { ground: None, ..camera("b", 0.0, 50.0) };
    let mut street = Street::new(vec![camera("a", 0.0, 50.0), blind]);
    street.cameras[1] = camera("b", 0.0, 50.0);
    let events = street.run(0..20, &[0, 1], |_, _| vec![(40.0, 40.0)]);
    assert_eq!(problems(&events), 2);
    assert!(events.iter().any(|event| event.place.is_none()));
}

#[test]
fn the_same_place_again_is_the_same_problem_again_also_for_the_neighbour() {
    let mut street = Street::new(vec![camera("a", 0.0, 50.0), camera("b", 0.0, 50.0)]);
    let first = street.run(0..40, &[0], |_, second| if second < 20 { vec![(40.0, 40.0)] } else { vec![] });
    let events = street.run(3_600..3_640, &[1], |_, _| vec![(42.0, 40.0)]);
    assert_eq!((began(&events)[0].recurs, &began(&events)[0].same_as), (Some(first[0].id), &None));
    // A day later nobody remembers.
    let mut street = Street::new(vec![camera("a", 0.0, 50.0), camera("b", 0.0, 50.0)]);
    street.run(0..40, &[0], |_, second| if second < 20 { vec![(40.0, 40.0)] } else { vec![] });
    let events = street.run(90_000..90_040, &[1], |_, _| vec![(42.0, 40.0)]);
    assert_eq!(began(&events)[0].recurs, None);
}

/// Any number of cameras over the same square, looking in any order, each at times of its own, each off by up to a metre and
/// a half: as many problems as there are things.
#[test]
fn the_number_of_problems_does_not_depend_on_the_order_of_the_cameras() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(2..5);
        let cars: Vec<(f64, f64)> =
            (0..rng.usize(1..6)).map(|index| (12.0 + 14.0 * index as f64, 20.0 + 50.0 * rng.f64())).collect();
        let mut orders: Vec<Vec<usize>> = (0..3).map(|_| (0..count).collect()).collect();
        orders.iter_mut().for_each(|order| rng.shuffle(order));
        let errors: Vec<(f64, f64)> =
            (0..count).map(|_| (rng.f64() * 3.0 - 1.5, rng.f64() * 3.0 - 1.5)).collect();
        // Some are hidden from all cameras but one.
        let seen: Vec<Vec<bool>> =
            (0..count).map(|camera| cars.iter().map(|_| camera == 0 || rng.u8(..4) > 0).collect()).collect();
        let mut restarts = rng.clone();
        for order in orders {
            let cameras = (0..count).map(|index| camera(&format!("c{index}"), 0.0, 6.0)).collect();
            let mut street = Street::new(cameras);
            let mut events = Vec::new();
            for second in (0..60).step_by(2) {
                for &camera in &order {
                    let visible = cars.iter().zip(&seen[camera]).filter(|(_, seen)| **seen && second < 40);
                    let here: Vec<_> = visible
                        .map(|(car, _)| (car.0 + errors[camera].0, car.1 + errors[camera].1))
                        .collect();
                    events.extend(street.look(camera, second + camera as i64 % 2, &here));
                }
                if restarts.u8(..10) == 0 {
                    street = restarted(street);
                }
            }
            assert_eq!(problems(&events), cars.len(), "seed {seed}, order {order:?}");
            let ends = events.iter().filter(|event| matches!(event.phase, Phase::Ended { .. })).count();
            assert_eq!(began(&events).len(), ends, "seed {seed}");
            assert!(events.iter().filter_map(|e| e.same_as.as_ref()).all(|first| {
                events.iter().any(|event| event.id == first.event && event.same_as.is_none())
            }));
        }
    }
}

/// The same street after all state was written and read.
fn restarted(street: Street) -> Street {
    let mut again = Street::new(street.cameras.clone());
    for (camera, (scene, new)) in street.cameras.iter().zip(street.scenes.iter().zip(&mut again.scenes)) {
        let mut saved = scene.save();
        saved.sightings = street.neighbours.save(&camera.id);
        let text = serde_json::to_string(&saved).unwrap();
        let mut saved: Saved = serde_json::from_str(&text).unwrap();
        again.neighbours.restore(&camera.id, std::mem::take(&mut saved.sightings));
        assert!(new.restore(saved));
    }
    again
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut rule = parking(50.0);
    rule.cap_per_day = 100_000;
    let many = Camera { zones: Arc::new([zone("street", vec![rule])]), ..camera("a", 0.0, 50.0) };
    let mut street = Street::new(vec![many]);
    let mut told = 0;
    for round in 0..40 {
        let events = street.run(round * 40..round * 40 + 40, &[0], |_, second| {
            let stand = second % 40 < 20;
            (0..if stand { 20 } else { 0 })
                .map(|n| (3.0 + 4.5 * f64::from(n), 10.0 + 2.0 * round as f64))
                .collect()
        });
        told += began(&events).len();
    }
    assert!(told > 600, "{told}");
    assert!(street.neighbours.save(&street.cameras[0].id).len() <= 256);
}
