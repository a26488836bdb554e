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

/// A smooth road, as asphalt is at 160 columns.
fn asphalt(x: usize, y: usize, _: f32) -> f32 {
    100.0 + ((x * 7 + y * 13) % 5) as f32
}

#[test]
fn ground_that_was_hidden_while_the_light_changed_is_no_thing_afterwards() {
    let mut road = Road::new();
    let mut background = Background::default();
    // Hidden for two hours of dusk: what the model sees is never taken up, nor is the ground under it.
    let lorry = |x: usize, y: usize, light: f32| {
        let inside = (20..50).contains(&x) && (12..32).contains(&y);
        light * if inside { 60.0 + 30.0 * (x % 2) as f32 } else { asphalt(x, y, 0.0) }
    };
    let seen = Detection {
        class: flow::ClassName::new("truck"),
        score: flow::Score::new(0.9).unwrap(),
        bbox: NormBox::new(0.25, 0.26, 0.63, 0.72).unwrap(),
    };
    for look in 0..100 {
        background.look(&road.look(1.0, asphalt), &[], std::iter::empty(), at(2 * look));
    }
    for look in 0..720 {
        let light = 1.0 - 0.7 * look as f32 / 720.0;
        let picture = road.look(1.0, |x, y, _| lorry(x, y, light));
        let seen = std::slice::from_ref(&seen);
        background.look(&picture, seen, std::iter::empty(), at(300 + 10 * look));
    }
    for look in 0..60 {
        let picture = road.look(1.0, |x, y, grey| 0.3 * asphalt(x, y, grey));
        background.look(&picture, &[], std::iter::empty(), at(7_500 + 10 * look));
        let share = share(&mut background);
        assert!(look < 6 || share == Some(0.0), "look {look}: {share:?}");
    }
}

#[test]
fn what_passes_while_the_sun_comes_out_leaves_nothing_behind() {
    let mut road = Road::new();
    let mut background = empty(&mut road);
    // Sun falls through leaves in five places, while two bicycles, which no model sees, pass.
    for look in 21..80 {
        let picture = road.look(1.0, |x, y, road| match (x / 8, y / 8) {
            (1 | 3 | 5 | 7 | 9, 1) if x % 8 < 5 && y % 8 < 5 => road * 1.4,
            (2 | 6, 4) if look == 21 => 20.0 + 40.0 * ((x / 2 + y) % 2) as f32,
            _ => road,
        });
        background.look(&picture, &[], std::iter::empty(), at(10 * look));
        let share = share(&mut background);
        assert!(look < 28 || share == Some(0.0), "look {look}: {share:?}");
    }
}

#[test]
fn clouds_that_pass_suspend_nothing_and_hide_no_thing() {
    let mut road = Road::new();
    let mut background = empty(&mut road);
    // Soft shadows of clouds cross the street within seconds: half of the light, everywhere in turn.
    for look in 0..600_u32 {
        let light = |x: usize| 0.75 + 0.25 * (look as f32 * 0.9 + x as f32 / 25.0).sin();
        let picture = road.look(1.0, |x, y, road| {
            let grey = if look >= 200 { with_box(x, y, road) } else { road };
            grey * light(x)
        });
        background.look(&picture, &[], std::iter::empty(), at(300 + 10 * i64::from(look)));
        let share = share(&mut background).expect("it is only light");
        match look {
            0..200 => assert_eq!(share, 0.0, "look {look}"),
            212.. => assert!(share > 0.02, "look {look}: {share}"),
            _ => {}
        }
    }
}

#[test]
fn a_shadow_that_a_model_takes_for_a_car_covers_nothing_and_cartons_as_grey_as_the_road_do() {
    let car = NormBox::new(0.4, 0.3, 0.7, 0.7).unwrap();
    let played = |change: fn(usize, usize, f32) -> f32| {
        let mut road = Road::new();
        let mut background = Background::default();
        let mut shares = Vec::new();
        for look in 0..200 {
            let picture = road.look(1.0, |x, y, road| {
                let ground = asphalt(x, y, road);
                if look < 100 { ground } else { change(x, y, ground) }
            });
            background.look(&picture, &[], (look >= 100).then_some(car).into_iter(), at(10 * look));
            shares.extend(share(&mut background).filter(|_| look > 130));
        }
        shares
    };
    // The corner of a roof's shadow.
    let corner = |x: usize, y: usize, road: f32| if x > 38 && y > 17 + x / 16 { road * 0.6 } else { road };
    assert!(played(corner).iter().all(|share| *share == 0.0), "{:?}", played(corner));
    // Edges, and faces between them that differ from the road by less than light does.
    let cartons = |x: usize, y: usize, road: f32| {
        let inside = (34..54).contains(&x) && (15..30).contains(&y);
        if inside && (x.is_multiple_of(5) || y.is_multiple_of(5)) { road - 12.0 } else { road }
    };
    assert!(played(cartons).iter().all(|share| *share > 0.08), "{:?}", played(cartons));
}

#[test]
fn stripes_between_which_the_road_shows_are_one_thing() {
    let mut road = Road::new();
    let mut background = empty(&mut road);
    let barrier = |x: usize, y: usize, road: f32| {
        let inside = (30..50).contains(&x) && (20..26).contains(&y);
        if inside && x.is_multiple_of(3) { road + 90.0 } else { road }
    };
    for look in 100..130 {
        background.look(&road.look(1.0, barrier), &[], std::iter::empty(), at(2 * look));
    }
    let truth = 120.0 / (COLUMNS * ROWS) as f32;
    assert!(share(&mut background).unwrap() > truth * 0.8, "{:?}", share(&mut background));
}
