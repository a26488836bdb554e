//! Values to test with: a car that parks where it should not, seen by one camera.

// What is built here is constant: it either always works or never.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flow::{
    CameraId, ClassName, Detection, Event, EventId, EventObject, Frame, FrameId, HostPicture, Matrix,
    ModelId, NormBox, Phase, Plane, Score, SessionId, SituationId, SituationKey, Timestamp, ZoneId,
};

use crate::wire::ModelInfo;
use crate::{Blur, Options};

/// Seconds after an arbitrary fixed moment.
pub fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_764_000_000 + second).unwrap()
}

/// A picture with a little structure.
pub fn frame(width: usize, height: usize) -> Frame {
    let luma = (0..width * height).map(|i| ((i % width) * 7 + (i / width) * 3) as u8).collect();
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    frame_of(width, height, luma, (vec![110; chroma], vec![140; chroma]))
}

/// A picture with these planes, limited range, BT.601.
pub fn frame_of(width: usize, height: usize, y: Vec<u8>, (cb, cr): (Vec<u8>, Vec<u8>)) -> Frame {
    let plane = |data: Vec<u8>, stride| Plane { data: Bytes::from(data), stride };
    let half = width.div_ceil(2);
    let planes = [plane(y, width), plane(cb, half), plane(cr, half)];
    let picture = HostPicture::new(width as u32, height as u32, planes, Matrix::Bt601, false).unwrap();
    Frame::host(frame_id(), time(90), picture)
}

fn frame_id() -> FrameId {
    FrameId { camera: CameraId::new("hn-0001").unwrap(), session: SessionId::next(), sequence: 45 }
}

/// What a model saw in it.
pub fn seen() -> Vec<Detection> {
    let bbox = NormBox::new(0.5, 0.25, 0.75, 0.75).unwrap();
    vec![Detection { class: ClassName::new("car"), score: Score::new(0.875).unwrap(), bbox }]
}

/// Event `sequence` of situation `number`: the first begins it, the third ends it.
pub fn event(number: u64, sequence: u32) -> Event {
    let key = SituationKey {
        camera: CameraId::new("hn-0001").unwrap(),
        zone: ZoneId::new("lane").unwrap(),
        situation: SituationId::new("illegal_parking").unwrap(),
    };
    let phase = match sequence {
        0 => Phase::Began,
        1 => Phase::Updated,
        _ => Phase::Ended { at: time(150) },
    };
    Event {
        id: EventId::new(time(60), &key, number),
        phase,
        sequence,
        key,
        rule: "dwell",
        first_seen: time(0),
        began: time(60),
        last_seen: time(60 + 30 * i64::from(sequence)),
        confidence: Score::new(0.875).unwrap(),
        uncalibrated: None,
        objects: seen()
            .into_iter()
            .map(|d| EventObject {
                class: d.class,
                score: d.score,
                bbox: d.bbox,
                track: 3,
                first_seen: time(0),
            })
            .collect(),
        recurs: None,
        place: None,
        same_as: None,
        near: None,
        confirmed_by: None,
        model: ModelId::new("street-demo").unwrap(),
        frame: frame_id(),
        captured: time(60 + 30 * i64::from(sequence)),
    }
}

/// The camera.
pub fn camera() -> fleet::Camera {
    fleet::Camera {
        id: CameraId::new("hn-0001").unwrap(),
        class: "community".into(),
        name: Some("商业街东口".into()),
        address: Some("朝阳镇商业街 1 号".into()),
        grid: Some("220523100001".into()),
        location: Some(fleet::Location { x: 126.046, y: 42.685, crs: "cgcs2000".into() }),
        ground: None,
        url: "rtsp://127.0.0.1/1".parse().unwrap(),
        other_url: None,
        certificate: Default::default(),
        credentials: None,
        transport: fleet::Transport::Tcp,
        look: fleet::Look {
            sampling: fleet::Sampling::Keyframes,
            at_most_every: Duration::from_secs(1),
            at_least_every: Duration::from_secs(10),
            on_long_keys: Default::default(),
            priority: fleet::Priority::Normal,
        },
        model: ModelId::new("street-demo").unwrap(),
        presets: Arc::new([]),
        zones: Arc::new([]),
        ignore: Arc::new([]),
        masks: Arc::new([]),
        keep_evidence: None,
        gate: None,
        tiles: None,
    }
}

/// The situation.
pub fn situation() -> fleet::Situation {
    let id = SituationId::new("illegal_parking").unwrap();
    let dwell = fleet::Dwell {
        classes: vec![ClassName::new("car")],
        at_least: Duration::from_secs(60),
        drift: 0.2,
        per: fleet::Per::Thing,
    };
    fleet::Situation {
        zh: "机动车乱停放".into(),
        en: "illegal parking".into(),
        code: Some(fleet::Code {
            set: "cjt214".into(),
            version: "2005".into(),
            code: "0505".into(),
            name: "机动车乱停放".into(),
        }),
        rule: Arc::new(fleet::Rule {
            min_score: 0.3,
            update_every: Duration::from_secs(30),
            end_after: Duration::from_secs(20),
            ..fleet::Rule::new(id.clone(), fleet::RuleKind::Dwell(dwell))
        }),
        keep_evidence: None,
        id,
    }
}

/// The model.
pub fn model() -> ModelInfo {
    ModelInfo { id: ModelId::new("street-demo").unwrap(), version: "1.0.0".into(), sha256: "ab".repeat(32) }
}

/// A broker of this machine, without log-in.
pub fn broker(port: u16) -> fleet::Broker {
    // Messages that come again are what a few tests are about; the others count them.
    let (message_expiry, keep_sent) = (Duration::from_secs(3600), Duration::ZERO);
    fleet::Broker { message_expiry, keep_sent, ..fleet::Broker::at("127.0.0.1".into(), port) }
}

/// A publisher with its files in `dir`.
pub fn options(dir: &std::path::Path, broker: fleet::Broker) -> Options {
    Options {
        site: "huinan".into(),
        worker: "w1".into(),
        broker,
        data_dir: dir.to_owned(),
        evidence_max_bytes: 64 << 20,
        outbox_max_bytes: None,
        config_hash: "cd".repeat(32),
        blur: Blur::default(),
        evidence: Default::default(),
    }
}
