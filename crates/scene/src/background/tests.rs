use super::*;

const COLUMNS: usize = 80;
const ROWS: usize = 45;

/// A road with some texture, `light` times as bright, and noise.
struct Road {
    rng: fastrand::Rng,
}

impl Road {
    fn new() -> Self {
        Self { rng: fastrand::Rng::with_seed(3) }
    }

    fn look(&mut self, light: f32, change: impl Fn(usize, usize, f32) -> f32) -> Luma {
        let cells = (0..COLUMNS * ROWS).map(|at| {
            let (x, y) = (at % COLUMNS, at / COLUMNS);
            let road = 90.0 + 12.0 * ((x * 7 + y * 13) % 5) as f32;
            let noise = self.rng.f32() * 4.0 - 2.0;
            (change(x, y, road * light) + noise).clamp(0.0, 255.0) as u8
        });
        Luma::from_cells(COLUMNS as u16, ROWS as u16, cells.collect()).unwrap()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn same(_: usize, _: usize, road: f32) -> f32 {
    road
}

/// A box with its own texture.
fn with_box(x: usize, y: usize, road: f32) -> f32 {
    if (30..42).contains(&x) && (20..30).contains(&y) { 40.0 + 25.0 * ((x + y) % 2) as f32 } else { road }
}

fn covered(background: &mut Background) -> Option<Covered> {
    let zone = Zone {
        id: flow::ZoneId::new("z").unwrap(),
        polygon: Polygon::whole(),
        rules: vec![],
        line: None,
        permitted: None,
    };
    background.covered(&[zone], &[])[0]
}

fn share(background: &mut Background) -> Option<f32> {
    covered(background).map(|covered| covered.share)
}

/// 100 looks of an empty road.
fn empty(road: &mut Road) -> Background {
    let mut background = Background::default();
    for look in 0..100 {
        background.look(&road.look(1.0, same), &[], std::iter::empty(), at(2 * look));
    }
    assert_eq!(share(&mut background), Some(0.0));
    background
}

#[test]
fn what_is_put_down_is_found_within_a_minute_and_stays_found() {
    let mut road = Road::new();
    let mut background = empty(&mut road);
    for look in 100..130 {
        background.look(&road.look(1.0, with_box), &[], std::iter::empty(), at(2 * look));
    }
    let found = covered(&mut background).unwrap();
    let truth = 120.0 / (COLUMNS * ROWS) as f32;
    assert!((found.share / truth - 1.0).abs() < 0.2, "{found:?}");
    let around = found.around.unwrap();
    assert!((around.x0() - 30.0 / 80.0).abs() < 0.03 && (around.y1() - 30.0 / 45.0).abs() < 0.05);
    // Hours later, with a look every ten seconds.
    for look in 0..1_800 {
        background.look(&road.look(1.0, with_box), &[], std::iter::empty(), at(300 + 10 * look));
    }
    assert!(share(&mut background).unwrap() > truth * 0.8);
    // Taken away.
    for look in 0..30 {
        background.look(&road.look(1.0, same), &[], std::iter::empty(), at(20_000 + 2 * look));
    }
    assert_eq!(share(&mut background), Some(0.0));
}

#[test]
fn what_passes_is_not_taken_up() {
    let mut road = Road::new();
    let mut background = empty(&mut road);
    for look in 100..300 {
        let left = (look as usize * 9) % 70;
        let car = |x: usize, y: usize, road: f32| {
            if (left..left + 10).contains(&x) && (20..28).contains(&y) {
                30.0 + (x % 3) as f32 * 20.0
            } else {
                road
            }
        };
        background.look(&road.look(1.0, car), &[], std::iter::empty(), at(2 * look));
        assert!(share(&mut background).unwrap() < 0.005, "look {look}: {:?}", share(&mut background));
    }
}

#[test]
fn dusk_is_no_thing() {
    let mut road = Road::new();
    let mut background = empty(&mut road);
    // Down to a third within an hour.
    for look in 0..720 {
        let light = 1.0 - 0.66 * look as f32 / 720.0;
        background.look(&road.look(light, same), &[], std::iter::empty(), at(300 + 5 * look));
        assert_eq!(share(&mut background), Some(0.0), "look {look}");
    }
}

#[test]
fn a_shadow_that_stays_is_no_thing() {
    let mut road = Road::new();
    let mut background = empty(&mut road);
    let shade = |x: usize, y: usize, road: f32| {
        if (20..60).contains(&x) && (15..35).contains(&y) { road * 0.6 } else { road }
    };
    for look in 100..200 {
        background.look(&road.look(1.0, shade), &[], std::iter::empty(), at(2 * look));
        assert_eq!(share(&mut background), Some(0.0), "look {look}");
    }
}

#[test]
fn when_everything_changes_nothing_is_said_until_it_has_settled() {
    let mut road = Road::new();
    let mut background = empty(&mut road);
    let infrared = |x: usize, y: usize, _: f32| 150.0 - ((x * 3 + y) % 7) as f32 * 15.0;
    for look in 100..105 {
        background.look(&road.look(1.0, infrared), &[], std::iter::empty(), at(2 * look));
        assert_eq!(share(&mut background), None, "look {look}");
    }
    for look in 105..180 {
        background.look(&road.look(1.0, infrared), &[], std::iter::empty(), at(2 * look));
    }
    assert_eq!(share(&mut background), Some(0.0), "the new picture is the background");
}

#[test]
fn it_is_saved_and_goes_on() {
    let mut road = Road::new();
    let background = empty(&mut road);
    let text = serde_json::to_string(&background).unwrap();
    assert!(text.len() < 64 << 10, "{} bytes", text.len());
    let mut background: Background = serde_json::from_str(&text).unwrap();
    for look in 0..40 {
        background.look(&road.look(1.0, with_box), &[], std::iter::empty(), at(1_000 + 2 * look));
    }
    assert!(
        share(&mut background).unwrap() > 0.02,
        "what came during the restart is found: {:?}",
        share(&mut background)
    );
    for broken in [r#"{"columns":80,"rows":45,"long":"00"}"#, r#"{"columns":1,"rows":1,"long":"zz"}"#] {
        let mut background: Background = serde_json::from_str(broken).unwrap();
        background.look(&road.look(1.0, same), &[], std::iter::empty(), at(0));
        assert_eq!(share(&mut background), None);
    }
}
