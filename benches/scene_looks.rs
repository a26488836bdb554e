//! What scenes cost: looks per second of one core (10 things, 5 zones with a rule each, every kind of rule) without their
//! picture, with it (the camera's own condition) and with a rule that asks what covers its zone; bytes of
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
    let things = looks_per_second(&plain, &[], &mut rng);
    let with_coverage = camera(true);
    let pictures = pictures(&mut rng);
    let pictured = looks_per_second(&plain, &pictures, &mut rng);
    let covered = looks_per_second(&with_coverage, &pictures, &mut rng);

    // A state as full as this street makes it, once without the background of `coverage` and once with.
    let (state, save, restore) = restart(&plain, &[], &mut rng);
    let (largest, ..) = restart(&with_coverage, &pictures, &mut rng);

    let figures = [
        ("scene.looks_per_core", things, "1/s", Some(MIN_LOOKS_PER_SECOND)),
        ("scene.looks_per_core.picture", pictured, "1/s", Some(MIN_LOOKS_PER_SECOND)),
        ("scene.looks_per_core.coverage", covered, "1/s", Some(MIN_LOOKS_PER_SECOND)),
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
    let slowest = things.min(pictured).min(covered);
    let good = slowest >= MIN_LOOKS_PER_SECOND
        && state.max(largest) <= MAX_STATE
        && save.max(restore) <= MAX_SECONDS;
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

/// A street with houses, texture, noise, three things that stand since the first tenth, and two that move.
fn pictures(rng: &mut fastrand::Rng) -> Vec<Luma> {
    let mut street: Vec<u8> = (0..160 * 90).map(|_| rng.u8(90..130)).collect();
    for _ in 0..120 {
        let (left, top, grey) = (rng.usize(0..150), rng.usize(0..82), rng.u8(20..220));
        (top..top + 8).for_each(|row| street[row * 160 + left..row * 160 + left + 10].fill(grey));
    }
    let picture = |index: usize, rng: &mut fastrand::Rng| {
        let mut cells: Vec<u8> = street.iter().map(|cell| cell + rng.u8(0..4)).collect();
        let standing = [(20, 40), (70, 60), (120, 50)].into_iter().filter(|_| index >= 64);
        let moving = [(index * 7 % 140, 30), (140 - index * 5 % 140, 70)];
        for (left, top) in standing.chain(moving) {
            (top..top + 8).for_each(|row| cells[row * 160 + left..row * 160 + left + 12].fill(40));
        }
        Luma::from_cells(160, 90, cells).unwrap()
    };
    (0..640).map(|index| picture(index, rng)).collect()
}

/// Of one core: the looks are made beforehand.
fn looks_per_second(camera: &Camera, pictures: &[Luma], rng: &mut fastrand::Rng) -> f64 {
    let looks: Vec<_> = (0..4_000).map(|second| look(second, rng)).collect();
    let best = (0..8).map(|_| {
        let mut scene = Scene::new(camera);
        let start = cpu_time();
        let picture = |index: usize| (!pictures.is_empty()).then(|| &pictures[index % pictures.len()]);
        let looked = looks.iter().enumerate().map(|(index, look)| scene.look(look, picture(index)).len());
        let events: usize = looked.sum();
        assert!(events > 0, "the street makes something happen");
        looks.len() as f64 / (cpu_time() - start).as_secs_f64()
    });
    best.fold(0.0, f64::max)
}

/// Processor time of this thread: what others do on the machine does not count. Where the kernel does not tell it, the
/// time of the clock.
fn cpu_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let clock = START.get_or_init(Instant::now).elapsed();
    // The first number is nanoseconds on a processor (Documentation/scheduler/sched-stats.rst).
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or(clock, Duration::from_nanos)
}

/// Bytes of one state; seconds in which all cameras are saved, and restored.
fn restart(camera: &Camera, pictures: &[Luma], rng: &mut fastrand::Rng) -> (usize, f64, f64) {
    let mut scene = Scene::new(camera);
    for second in 0..500 {
        scene.look(&look(second, rng), pictures.get(second as usize % pictures.len().max(1)));
    }
    let start = cpu_time();
    let saved: Vec<String> = (0..CAMERAS).map(|_| serde_json::to_string(&scene.save()).unwrap()).collect();
    let save = (cpu_time() - start).as_secs_f64();
    let start = cpu_time();
    let restored = saved.iter().map(|text| {
        let mut scene = Scene::new(camera);
        scene.restore(serde_json::from_str::<Saved>(text).unwrap())
    });
    assert_eq!(restored.filter(|taken| *taken).count(), CAMERAS);
    (saved[0].len(), save, (cpu_time() - start).as_secs_f64())
}
