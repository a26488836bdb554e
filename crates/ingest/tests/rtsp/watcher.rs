//! What the tests against RTSP servers share: a camera, a policy that loses no time, and someone who watches.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet::{Camera, Credentials, Look, Sampling, Secret, Transport};
use flow::{AccessUnit, CameraId, CameraState, Health, ModelId};
use ingest::{HealthSink, Ingest, Overflow, Policy, Sink};
use tokio_util::sync::CancellationToken;

pub fn camera(id: &str, port: u16, path: &str) -> Camera {
    Camera {
        id: CameraId::new(id).unwrap(),
        class: "community".into(),
        name: None,
        address: None,
        grid: None,
        location: None,
        ground: None,
        url: format!("rtsp://127.0.0.1:{port}/{path}").parse().unwrap(),
        other_url: None,
        certificate: Default::default(),
        credentials: None,
        transport: Transport::Tcp,
        look: Look {
            sampling: Sampling::Keyframes,
            at_most_every: Duration::ZERO,
            at_least_every: Duration::from_secs(60),
            on_long_keys: Default::default(),
            priority: fleet::Priority::Normal,
        },
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

pub fn credentials(user: &str, password: &str) -> Option<Arc<Credentials>> {
    Some(Arc::new(Credentials { user: user.to_owned(), password: Secret::new(password.to_owned()) }))
}

/// Short enough for tests, long enough for a server that builds its pipeline on a busy machine.
pub fn policy() -> Policy {
    Policy {
        describe: Duration::from_secs(8),
        first_picture: Duration::from_secs(8),
        no_data: Duration::from_secs(4),
        backoff_base: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        health_every: Duration::from_secs(1),
        ..Policy::default()
    }
}

/// Collects all that the cameras send and all that is said about them.
#[derive(Default)]
pub struct Watcher {
    pub units: Mutex<Vec<AccessUnit>>,
    pub health: Mutex<Vec<Health>>,
    /// Refuse this many pictures.
    pub refuse: Mutex<usize>,
}

impl Watcher {
    pub fn start(cameras: Vec<Camera>, policy: Policy) -> (Arc<Self>, Ingest) {
        let watcher = Arc::new(Self::default());
        let ingest = watcher.watch(cameras, policy);
        (watcher, ingest)
    }

    pub fn watch(self: &Arc<Self>, cameras: Vec<Camera>, policy: Policy) -> Ingest {
        let (units, health) = (Arc::clone(self), Arc::clone(self));
        let sink: Sink = Arc::new(move |unit| units.take(unit));
        let health: HealthSink = Arc::new(move |news| health.health.lock().unwrap().push(news));
        Ingest::start(cameras.into_iter().map(Arc::new), policy, sink, health, &CancellationToken::new())
    }

    fn take(&self, unit: AccessUnit) -> Result<(), Overflow> {
        let mut refuse = self.refuse.lock().unwrap();
        if *refuse > 0 {
            *refuse -= 1;
            return Err(Overflow);
        }
        self.units.lock().unwrap().push(unit);
        Ok(())
    }

    /// Waits until `condition` holds; fails with what was seen if it does not within `seconds`.
    pub async fn until(&self, what: &str, seconds: u64, condition: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while !condition(self) {
            if tokio::time::Instant::now() > deadline {
                let health: Vec<_> = self.health.lock().unwrap().iter().map(brief).collect();
                let units = self.units.lock().unwrap().len();
                panic!("no {what} within {seconds} s; {units} pictures came; health: {health:#?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_pictures(&self, camera: &str, n: usize) {
        self.until(&format!("{n} pictures of {camera}"), 20, |w| w.pictures(camera).len() >= n).await;
    }

    pub async fn until_state(&self, camera: &str, name: &str) -> Health {
        self.until(&format!("{name} of {camera}"), 20, |w| w.found(camera, name).is_some()).await;
        self.found(camera, name).unwrap()
    }

    fn found(&self, camera: &str, name: &str) -> Option<Health> {
        let health = self.health.lock().unwrap();
        health.iter().find(|h| h.camera.as_str() == camera && h.state.name() == name).cloned()
    }

    pub fn pictures(&self, camera: &str) -> Vec<AccessUnit> {
        let units = self.units.lock().unwrap();
        units.iter().filter(|u| u.camera.as_str() == camera).cloned().collect()
    }

    /// The states of a camera, in turn.
    pub fn states(&self, camera: &str) -> Vec<CameraState> {
        let health = self.health.lock().unwrap();
        let mut states: Vec<_> =
            health.iter().filter(|h| h.camera.as_str() == camera).map(|h| h.state.clone()).collect();
        states.dedup();
        states
    }
}

fn brief(health: &Health) -> String {
    format!("{} {:?} {}", health.camera, health.state, health.reason)
}

/// The types of the NAL units of an Annex B byte stream.
pub fn nal_types(codec: flow::Codec, data: &[u8]) -> Vec<u8> {
    let starts = data.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i + 3);
    starts
        .map(|i| match codec {
            flow::Codec::H264 => data[i] & 0x1f,
            flow::Codec::H265 => data[i] >> 1 & 0x3f,
            flow::Codec::Mjpeg => panic!("it has no NAL units"),
        })
        .collect()
}
