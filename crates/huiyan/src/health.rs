//! What is known about each camera, merged from the stages: `ingest` says how its session does, `decode` and `infer`
//! say when a picture could not be used.

use std::collections::BTreeMap;
use std::sync::Mutex;

use flow::{CameraId, CameraState, Health, Timestamp};

/// The newest health of every camera.
#[derive(Default)]
pub struct Board {
    cameras: Mutex<BTreeMap<CameraId, Entry>>,
}

#[derive(Clone)]
struct Entry {
    health: Health,
    /// Pictures that a later stage could not use.
    bad_pictures: u64,
}

impl Board {
    /// Takes what `ingest` says; what should be published.
    pub fn session(&self, health: Health) -> Health {
        let mut cameras = self.cameras.lock().expect("no holder of this lock panics");
        let bad_pictures = cameras.get(&health.camera).map_or(0, |entry| entry.bad_pictures);
        cameras.insert(health.camera.clone(), Entry { health: health.clone(), bad_pictures });
        health
    }

    /// Takes a picture that could not be used. To be published where it is news: the first, and then each time that
    /// the number has doubled.
    pub fn bad_picture(&self, camera: &CameraId, why: &str) -> Option<Health> {
        let mut cameras = self.cameras.lock().expect("no holder of this lock panics");
        let entry = cameras.entry(camera.clone()).or_insert_with(|| Entry {
            health: Health {
                camera: camera.clone(),
                state: CameraState::Streaming,
                reason: String::new(),
                since: Timestamp::now(),
                fps: None,
                key_interval_s: None,
            },
            bad_pictures: 0,
        });
        entry.bad_pictures += 1;
        entry.health.reason = format!("{} picture(s) could not be used; the last: {why}", entry.bad_pictures);
        entry.bad_pictures.is_power_of_two().then(|| entry.health.clone())
    }

    /// Everything known, by camera.
    pub fn all(&self) -> Vec<Health> {
        self.cameras
            .lock()
            .expect("no holder of this lock panics")
            .values()
            .map(|entry| entry.health.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_bad_pictures_is_told_now_and_then() {
        let board = Board::default();
        let camera = CameraId::new("c").unwrap();
        let told = (0..1000).filter_map(|_| board.bad_picture(&camera, "no picture came out")).count();
        assert_eq!(told, 10);
        assert!(board.all()[0].reason.starts_with("1000 picture(s)"));
    }
}
