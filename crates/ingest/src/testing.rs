//! What several unit tests need.

use std::sync::Arc;
use std::time::Duration;

use fleet::{Camera, Look, Priority, Sampling, Transport};
use flow::{CameraId, ModelId};

pub(crate) fn camera(id: &str, url: &str) -> Camera {
    Camera {
        id: CameraId::new(id).unwrap(),
        class: "community".into(),
        name: None,
        address: None,
        grid: None,
        location: None,
        ground: None,
        url: url.parse().unwrap(),
        other_url: None,
        certificate: Default::default(),
        credentials: None,
        transport: Transport::Tcp,
        look: look(Sampling::Keyframes, Duration::ZERO),
        model: ModelId::new("m").unwrap(),
        presets: Arc::new([]),
        zones: Arc::new([]),
        ignore: Arc::new([]),
        masks: Arc::new([]),
        keep_evidence: None,
        gate: None,
        tiles: None,
    }
}

pub(crate) fn look(sampling: Sampling, at_most_every: Duration) -> Look {
    Look {
        sampling,
        at_most_every,
        at_least_every: Duration::from_secs(60),
        on_long_keys: Default::default(),
        priority: Priority::Normal,
    }
}
