//! Cameras and looks made of a few words.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "part of tests, though outside of a #[test] function")]

use std::sync::Arc;
use std::time::Duration;

use fleet::{Camera, Rule, RuleKind, Transport, Zone};
use flow::{
    Basis, CameraId, ClassName, Detection, Detections, Event, FrameId, ModelId, NormBox, NormPoint, Phase,
    Polygon, Score, SessionId, SituationId, Timestamp, ZoneId,
};
use scene::Scene;

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// 2023-11-14T22:13:20Z and so many seconds.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub fn classes(names: &[&str]) -> Vec<ClassName> {
    names.iter().map(|name| ClassName::new(name)).collect()
}

pub fn rule(situation: &str, kind: RuleKind) -> Rule {
    Rule {
        update_every: secs(3_600),
        end_after: secs(4),
        ..Rule::new(SituationId::new(situation).unwrap(), kind)
    }
}

pub fn polygon(corners: &[(f32, f32)]) -> Polygon {
    Polygon::new(corners.iter().map(|&(x, y)| NormPoint { x, y }).collect()).unwrap()
}

/// The whole picture, with these rules.
pub fn zone(id: &str, rules: Vec<Rule>) -> Zone {
    Zone {
        id: ZoneId::new(id).unwrap(),
        polygon: Polygon::whole(),
        rules: rules.into_iter().map(Arc::new).collect(),
        line: None,
        permitted: None,
    }
}

pub fn camera(zones: Vec<Zone>) -> Camera {
    let (id, url) = (CameraId::new("cam").unwrap(), "rtsp://127.0.0.1/".parse().unwrap());
    Camera { zones: zones.into(), ..Camera::bare(id, url, None, Transport::Tcp) }
}

/// A thing of this class, score and box: left, top, width, height.
pub fn thing(class: &str, score: f32, [x, y, w, h]: [f32; 4]) -> Detection {
    Detection {
        class: ClassName::new(class),
        score: Score::new(score).unwrap(),
        bbox: NormBox::new(x, y, x + w, y + h).unwrap(),
    }
}

/// One for all looks of a test.
fn session() -> SessionId {
    static SESSION: std::sync::OnceLock<SessionId> = std::sync::OnceLock::new();
    *SESSION.get_or_init(SessionId::next)
}

pub fn look(second: i64, list: Vec<Detection>) -> Detections {
    let frame =
        FrameId { camera: CameraId::new("cam").unwrap(), session: session(), sequence: second as u64 };
    Detections {
        frame,
        captured: at(second),
        model: ModelId::new("m").unwrap(),
        weights: "".into(),
        basis: Basis::Inferred,
        list,
    }
}

/// Looks every two seconds; what came, and when.
pub fn run(
    scene: &mut Scene,
    seconds: std::ops::Range<i64>,
    what: impl Fn(i64) -> Vec<Detection>,
) -> Vec<(i64, Event)> {
    seconds
        .step_by(2)
        .flat_map(|s| scene.look(&look(s, what(s)), None).into_iter().map(move |e| (s, e)))
        .collect()
}

/// `(second, phase)` of each event; an `ended` says the second at which it was gone.
pub fn story(events: &[(i64, Event)]) -> Vec<(i64, String)> {
    let phase = |event: &Event| match event.phase {
        Phase::Began => "began".to_owned(),
        Phase::Updated => "updated".to_owned(),
        Phase::Ended { at: gone } => format!("ended {}", gone.as_second() - 1_700_000_000),
    };
    events.iter().map(|(second, event)| (*second, phase(event))).collect()
}
