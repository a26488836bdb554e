use std::sync::Arc;

use bytes::Bytes;
use fleet::{Camera, Dwell, Look as Sampled, Per, Rule, RuleKind, Sampling, Transport, Zone};
use flow::{
    Basis, Detection, Detections, FrameId, HostPicture, Luma, Matrix, ModelId, NormBox, NormPoint, Plane,
    Score, SessionId, SituationId, Timestamp, ZoneId,
};

use super::*;

const COLUMNS: usize = 80;
const ROWS: usize = 60;

fn polygon(points: &[(f32, f32)]) -> Polygon {
    Polygon::new(points.iter().map(|&(x, y)| NormPoint { x, y }).collect()).unwrap()
}

/// A camera on whose right half cars may stand for `at_least` seconds.
pub(super) fn camera(at_least: u64) -> Camera {
    let kind = RuleKind::Dwell(Dwell {
        classes: vec![ClassName::new("car")],
        at_least: Duration::from_secs(at_least),
        drift: 0.25,
        per: Per::Thing,
    });
    let rule = Rule::new(SituationId::new("parking").unwrap(), kind);
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
        look: Sampled {
            sampling: Sampling::Keyframes,
            at_most_every: Duration::from_secs(1),
            at_least_every: Duration::from_secs(10),
            on_long_keys: Default::default(),
            priority: fleet::Priority::default(),
        },
        gate: Some(fleet::Gate {
            refresh: Duration::from_secs(60),
            sensitivity: 1.0,
            decode_at_least_every: Duration::from_secs(10),
        }),
        tiles: None,
        model: ModelId::new("m").unwrap(),
        presets: Arc::new([]),
        zones: Arc::new([Zone {
            id: ZoneId::new("right").unwrap(),
            polygon: polygon(&[(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]),
            rules: vec![Arc::new(rule)],
            line: None,
            permitted: None,
        }]),
        ignore: Arc::new([]),
        masks: Arc::new([]),
        keep_evidence: None,
    }
}

/// A gate, and a detector behind it that sees what the test says is there.
pub(super) struct Street {
    pub gate: Gate,
    pub camera: CameraId,
    pub session: SessionId,
    pub second: i64,
    random: fastrand::Rng,
    light: f32,
}

impl Street {
    pub fn new(camera: Camera) -> Self {
        Self {
            camera: camera.id.clone(),
            gate: Gate::serving_all([&Arc::new(camera)]),
            session: SessionId::next(),
            second: 0,
            random: fastrand::Rng::with_seed(7),
            light: 1.0,
        }
    }

    /// A picture of cars, each 8 x 4 cells, at these cells.
    pub fn frame(&mut self, cars: &[(usize, usize)]) -> Frame {
        let mut cells = vec![0; COLUMNS * ROWS];
        for (i, cell) in cells.iter_mut().enumerate() {
            let (x, y) = (i % COLUMNS, i / COLUMNS);
            let ground = 80.0 + 25.0 * (x as f32 / 9.0).sin() + 20.0 * (y as f32 / 13.0).cos();
            let in_car = |&(cx, cy): &(usize, usize)| (cx..cx + 8).contains(&x) && (cy..cy + 4).contains(&y);
            let value = if cars.iter().any(in_car) { 150.0 } else { ground };
            let noise: f32 = (0..4).map(|_| self.random.f32() - 0.5).sum();
            *cell = (value * self.light + noise * 1.7).clamp(0.0, 255.0) as u8;
        }
        let plane = || Plane { data: Bytes::from_static(&[0; 4]), stride: 2 };
        let picture = HostPicture::new(2, 2, [plane(), plane(), plane()], Matrix::Bt601, false).unwrap();
        let id = FrameId { camera: self.camera.clone(), session: self.session, sequence: self.second as u64 };
        let at = Timestamp::from_second(1_700_000_000 + self.second).unwrap();
        let mut frame = Frame::host(id, at, picture);
        frame.luma = Luma::from_cells(COLUMNS as u16, ROWS as u16, cells).unwrap();
        frame
    }

    /// What the model sees.
    pub fn detections(frame: &Frame, cars: &[(usize, usize)]) -> Detections {
        let detection = |&(x, y): &(usize, usize)| Detection {
            class: ClassName::new("car"),
            score: Score::new(0.8).unwrap(),
            bbox: NormBox::new(
                x as f32 / COLUMNS as f32,
                y as f32 / ROWS as f32,
                (x + 8) as f32 / COLUMNS as f32,
                (y + 4) as f32 / ROWS as f32,
            )
            .unwrap(),
        };
        Detections {
            frame: frame.id.clone(),
            captured: frame.captured,
            model: ModelId::new("m").unwrap(),
            weights: "".into(),
            basis: Basis::Inferred,
            list: cars.iter().map(detection).collect(),
        }
    }

    /// The next picture, two seconds later: what the gate repeated, or `None` where the model looked.
    fn next(&mut self, cars: &[(usize, usize)]) -> Option<Vec<Detection>> {
        self.second += 2;
        let frame = self.frame(cars);
        match self.gate.judge(frame) {
            Passage::Through(frame) => {
                let detections = Self::detections(&frame, cars);
                self.gate.looked(&Look { detections, frame });
                None
            }
            Passage::Spared(look) => {
                assert_eq!(look.detections.basis, Basis::Unchanged);
                assert_eq!(look.detections.frame, look.frame.id);
                assert_eq!(look.detections.captured, look.frame.captured);
                Some(look.detections.list)
            }
        }
    }

    /// So many pictures of the same; how often the model looked.
    fn stay(&mut self, pictures: usize, cars: &[(usize, usize)]) -> usize {
        (0..pictures).filter(|_| self.next(cars).is_none()).count()
    }

    fn through(&self, reason: &str) -> u64 {
        self.gate.numbers().through.iter().find(|(name, _)| *name == reason).unwrap().1
    }
}

const PARKED: (usize, usize) = (60, 30);

#[test]
fn a_parked_thing_costs_a_look_a_minute_and_is_repeated_all_the_time() {
    let mut street = Street::new(camera(180));
    assert_eq!(street.stay(2, &[PARKED]), 2, "the first, and one more");
    let mut looks = 0;
    for _ in 0..300 {
        match street.next(&[PARKED]) {
            Some(list) => assert_eq!(list.len(), 1),
            None => looks += 1,
        }
    }
    assert!((10..=13).contains(&looks), "{looks} looks in ten minutes");
    assert_eq!(street.through("refresh"), looks);
}

#[test]
fn the_light_may_change() {
    let mut street = Street::new(camera(180));
    street.stay(2, &[PARKED]);
    let mut looks = 0;
    for step in 0..28 {
        street.light = 1.0 + 0.3 * (step as f32 / 8.0).sin();
        looks += street.stay(1, &[PARKED]);
    }
    assert_eq!(looks, 1, "the refresh: {:?}", street.gate.numbers());
}

#[test]
fn what_comes_and_what_goes_is_looked_at() {
    // At once, since a short rule cannot wait; when it has shown the same for a moment, where a rule can.
    for (at_least, after) in [(10, 0), (60, 1), (180, 3)] {
        let mut street = Street::new(camera(at_least));
        street.stay(6, &[]);
        let waits = (0..).take_while(|_| street.next(&[PARKED]).is_some()).count();
        assert_eq!(waits, after, "a car came");
        assert_eq!(street.stay(1, &[PARKED]), 1, "seen twice");
        assert!(street.next(&[PARKED]).is_some_and(|list| list.len() == 1));
        // It was in the list: that it has gone is seen at once.
        assert_eq!(street.next(&[]), None);
        assert_eq!(street.through("gone"), 1);
        assert_eq!(street.stay(1, &[]), 1);
        assert_eq!(street.next(&[]), Some(vec![]));
    }
}

#[test]
fn what_passes_is_let_pass_where_a_rule_can_wait() {
    let drive = |second: usize| [(42 + (second * 9) % 30, 20 + (second * 5) % 30)];
    let mut patient = Street::new(camera(180));
    patient.stay(6, &[]);
    let looks = (0..12).filter(|second| patient.next(&drive(*second)).is_none()).count();
    assert!(looks <= 3, "{:?}", patient.gate.numbers());
    let mut hasty = Street::new(camera(10));
    hasty.stay(6, &[]);
    let looks = (0..12).filter(|second| hasty.next(&drive(*second)).is_none()).count();
    assert_eq!(looks, 12);
}

#[test]
fn a_place_that_never_rests_is_looked_at_all_the_same() {
    let mut street = Street::new(camera(180));
    street.stay(6, &[]);
    // Each time other things cover the same place.
    let busy = |n: usize| [(58 + n % 5, 29 + n % 3), (50 + (n * 7) % 20, 31 - n % 3)];
    let waits = (0..).take_while(|n| street.next(&busy(*n)).is_some()).count();
    assert_eq!(waits, 5);
}

#[test]
fn outside_the_zones_nothing_matters() {
    let mut street = Street::new(camera(10));
    street.stay(2, &[]);
    assert_eq!((0..20).filter(|n| street.next(&[(n * 3 % 30, 20)]).is_none()).count(), 0);
    let mut everywhere = Street::new(Camera {
        ignore: Arc::new([polygon(&[(0.7, 0.4), (1.0, 0.4), (1.0, 0.7), (0.7, 0.7)])]),
        ..camera(10)
    });
    everywhere.stay(2, &[]);
    assert_eq!(everywhere.stay(5, &[PARKED]), 0, "an ignored part of the zone");
}

#[test]
fn a_new_session_another_size_and_a_question_are_looked_at() {
    let mut street = Street::new(camera(180));
    street.stay(4, &[PARKED]);
    street.session = SessionId::next();
    assert_eq!(street.stay(3, &[PARKED]), 1, "nothing was new, so one look is enough");
    street.gate.ask(&CameraId::new("cam").unwrap());
    assert_eq!(street.stay(3, &[PARKED]), 1);
    street.gate.forget(|_| true);
    assert_eq!(street.stay(3, &[PARKED]), 2);
    let mut frame = street.frame(&[PARKED]);
    frame.luma = Luma::from_cells(40, 30, vec![90; 1200]).unwrap();
    assert!(matches!(street.gate.judge(frame), Passage::Through(_)));
}

#[test]
fn while_a_look_is_on_its_way_the_next_frames_go_the_same_way() {
    let mut street = Street::new(camera(180));
    street.stay(4, &[PARKED]);
    street.gate.ask(&CameraId::new("cam").unwrap());
    let frames = [0, 1].map(|_| {
        street.second += 2;
        let frame = street.frame(&[PARKED]);
        let Passage::Through(frame) = street.gate.judge(frame) else { panic!("not looked at") };
        frame
    });
    // The first was replaced by the second while it waited, and only that one was looked at.
    let [_, frame] = frames;
    let detections = Street::detections(&frame, &[PARKED]);
    street.gate.looked(&Look { detections, frame });
    assert_eq!(street.through("waiting"), 1);
    assert!(street.stay(3, &[PARKED]) <= 1);
}

#[test]
fn no_gate_lets_everything_through() {
    let mut street = Street::new(Camera { gate: None, ..camera(180) });
    assert_eq!(street.stay(5, &[PARKED]), 5);
    assert_eq!(street.through("off"), 5);
}

#[test]
fn a_camera_whose_rules_decide_within_a_minute_has_no_looks_to_spare() {
    let gated = |at_least| !Gate::new([&Arc::new(camera(at_least))]).cameras.is_empty();
    assert!(!gated(10) && !gated(59));
    assert!(gated(60) && gated(180));
}
