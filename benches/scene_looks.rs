//! What scenes cost: looks per second of one core (10 things, 5 zones with a rule each, every kind of rule), bytes of
//! state per camera, and how long 5,000 cameras take to save and restore. Fails beyond the limits.
//!
//! `cargo bench -p scene --bench scene_looks [-- --json]`

#![allow(clippy::disallowed_macros, clippy::unwrap_used, reason = "a bench prints its figures")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Camera, Confirmed, Count, Coverage, Dwell, Per, Rule, RuleKind, Together, Transport, Zone};
use flow::{
    Basis, CameraId, ClassName, Detection, Detections, FrameId, Luma, ModelId, NormBox, NormPoint, Polygon,
    Score, SessionId, SituationId, Timestamp, ZoneId,
};
use scene::{Saved, Scene};

const MIN_LOOKS_PER_SECOND: f64 = 20_000.0;
const MAX_STATE: usize = 64 << 10;
const MAX_SECONDS: f64 = 1.0;
const CAMERAS: usize = 5_000;

fn main() -> ExitCode {
    let json = std::env::args().any(|argument| argument == "--json");
    let mut rng = fastrand::Rng::with_seed(1);
    let plain = camera(false);
    let things = looks_per_second(&plain, None, &mut rng);
    let with_coverage = camera(true);
    let luma = Luma::from_cells(160, 90, (0..160 * 90).map(|_| rng.u8(90..130)).collect()).unwrap();
    let covered = looks_per_second(&with_coverage, Some(&luma), &mut rng);

    // A state as full as this street makes it, once without the background of `coverage` and once with.
    let (state, save, restore) = restart(&plain, None, &mut rng);
    let (largest, ..) = restart(&with_coverage, Some(&luma), &mut rng);

    let figures = [
        ("scene.looks_per_core", things, "1/s", Some(MIN_LOOKS_PER_SECOND)),
        ("scene.looks_per_core.coverage", covered, "1/s", None),
        ("scene.state_bytes", state as f64, "B", Some(MAX_STATE as f64)),
        ("scene.state_bytes.coverage", largest as f64, "B", Some(MAX_STATE as f64)),
        ("scene.save_5000_s", save, "s", Some(MAX_SECONDS)),
        ("scene.restore_5000_s", restore, "s", Some(MAX_SECONDS)),
    ];
    if json {
        let one = |(name, value, unit, _): &(&str, f64, &str, Option<f64>)| {
            format!("{{\"name\":\"{name}\",\"value\":{value:.3},\"unit\":\"{unit}\"}}")
        };
        println!("[{}]", figures.iter().map(one).collect::<Vec<_>>().join(","));
    } else {
        for (name, value, unit, limit) in figures {
            let limit = limit.map(|limit| format!("  (limit {limit})")).unwrap_or_default();
            println!("{name:<32} {value:>12.3} {unit}{limit}");
        }
    }
    let good =
        things >= MIN_LOOKS_PER_SECOND && state.max(largest) <= MAX_STATE && save.max(restore) <= MAX_SECONDS;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Five zones, strips of the picture, with a rule each.
fn camera(coverage: bool) -> Camera {
    let classes = |names: &[&str]| names.iter().map(|name| ClassName::new(name)).collect::<Vec<_>>();
    let at_least = Duration::from_secs(20);
    let things = |names: &[&str], per| Dwell { classes: classes(names), at_least, drift: 0.25, per };
    let fifth = match coverage {
        true => RuleKind::Coverage(Coverage { share: 0.05, at_least }),
        false => RuleKind::Dwell(things(&["goods"], Per::Group)),
    };
    let kinds = [
        RuleKind::Dwell(things(&["car"], Per::Thing)),
        RuleKind::Together(Together {
            things: things(&["goods"], Per::Group),
            with: classes(&["person"]),
            share: 0.3,
        }),
        RuleKind::Count(Count { classes: classes(&["person"]), from: 3, below: 2, at_least }),
        RuleKind::Model(Confirmed { classes: classes(&["water"]), at_least, share: 0.6 }),
        fifth,
    ];
    let zones = kinds.into_iter().enumerate().map(|(index, kind)| {
        let (left, right) = (index as f32 * 0.2, index as f32 * 0.2 + 0.2);
        let corner = |x, y| NormPoint { x, y };
        Zone {
            id: ZoneId::new(&format!("z{index}")).unwrap(),
            polygon: Polygon::new(vec![
                corner(left, 0.2),
                corner(right, 0.2),
                corner(right, 1.0),
                corner(left, 1.0),
            ])
            .unwrap(),
            rules: vec![Arc::new(Rule::new(SituationId::new(kind.name()).unwrap(), kind))],
            line: None,
            permitted: None,
        }
    });
    let (id, url) = (CameraId::new("cam").unwrap(), "rtsp://127.0.0.1/".parse().unwrap());
    Camera { zones: zones.collect(), ..Camera::bare(id, url, None, Transport::Tcp) }
}

/// Ten things, half of which move, with jitter.
fn look(second: i64, rng: &mut fastrand::Rng) -> Detections {
    let list = (0..10).map(|index| {
        let moved = if index % 2 == 0 { 0.0 } else { (second as f32 * 0.03 + index as f32 * 0.1) % 0.8 };
        let x = if index % 2 == 0 { 0.08 * index as f32 } else { moved };
        let jitter = rng.f32() * 0.004;
        let y = 0.3 + 0.05 * index as f32;
        Detection {
            class: ClassName::new(["car", "person", "goods", "water"][index % 4]),
            score: Score::new(0.5 + rng.f32() * 0.4).unwrap(),
            bbox: NormBox::new(x + jitter, y, x + jitter + 0.12, y + 0.1).unwrap(),
        }
    });
    Detections {
        frame: FrameId {
            camera: CameraId::new("cam").unwrap(),
            session: SessionId::next(),
            sequence: second as u64,
        },
        captured: Timestamp::from_second(1_700_000_000 + 2 * second).unwrap(),
        model: ModelId::new("m").unwrap(),
        weights: "".into(),
        basis: Basis::Inferred,
        list: list.collect(),
    }
}

/// Of one core: the looks are made beforehand.
fn looks_per_second(camera: &Camera, luma: Option<&Luma>, rng: &mut fastrand::Rng) -> f64 {
    let looks: Vec<_> = (0..4_000).map(|second| look(second, rng)).collect();
    let best = (0..5).map(|_| {
        let mut scene = Scene::new(camera);
        let start = Instant::now();
        let events: usize = looks.iter().map(|look| scene.look(look, luma).len()).sum();
        assert!(events > 0, "the street makes something happen");
        looks.len() as f64 / start.elapsed().as_secs_f64()
    });
    best.fold(0.0, f64::max)
}

/// Bytes of one state; seconds in which all cameras are saved, and restored.
fn restart(camera: &Camera, luma: Option<&Luma>, rng: &mut fastrand::Rng) -> (usize, f64, f64) {
    let mut scene = Scene::new(camera);
    for second in 0..500 {
        scene.look(&look(second, rng), luma);
    }
    let start = Instant::now();
    let saved: Vec<String> = (0..CAMERAS).map(|_| serde_json::to_string(&scene.save()).unwrap()).collect();
    let save = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let restored = saved.iter().map(|text| {
        let mut scene = Scene::new(camera);
        scene.restore(serde_json::from_str::<Saved>(text).unwrap())
    });
    assert_eq!(restored.filter(|taken| *taken).count(), CAMERAS);
    (saved[0].len(), save, start.elapsed().as_secs_f64())
}
