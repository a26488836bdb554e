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

struct Entry {
    /// As `ingest` put it.
    health: Health,
    /// Pictures that a later stage could not use.
    bad: u64,
    /// How many of them when `ingest` last spoke.
    bad_before: u64,
    /// What was wrong with the last one.
    why: String,
}

impl Entry {
    fn new(health: Health) -> Self {
        Self { health, bad: 0, bad_before: 0, why: String::new() }
    }

    /// What to publish: a stream that flows but cannot be used says so for as long as that goes on.
    fn merged(&self) -> Health {
        let mut health = self.health.clone();
        if self.bad > self.bad_before && health.state == CameraState::Streaming && health.reason.is_empty() {
            health.reason = format!("{} picture(s) could not be used; the last: {}", self.bad, self.why);
        }
        health
    }
}

impl Board {
    /// Takes what `ingest` says; what should be published.
    pub fn session(&self, health: Health) -> Health {
        let mut cameras = self.cameras.lock().expect("no holder of this lock panics");
        let entry = cameras.entry(health.camera.clone()).or_insert_with(|| Entry::new(health.clone()));
        entry.health = health;
        let merged = entry.merged();
        entry.bad_before = entry.bad;
        merged
    }

    /// Takes a picture that could not be used. To be published where it is news: the first, and then each time that
    /// the number has doubled.
    pub fn bad_picture(&self, camera: &CameraId, why: &str) -> Option<Health> {
        let mut cameras = self.cameras.lock().expect("no holder of this lock panics");
        let entry = cameras.entry(camera.clone()).or_insert_with(|| {
            Entry::new(Health {
                camera: camera.clone(),
                state: CameraState::Streaming,
                reason: String::new(),
                since: Timestamp::now(),
                fps: None,
                key_interval_s: None,
            })
        });
        entry.bad += 1;
        entry.why = why.to_owned();
        entry.bad.is_power_of_two().then(|| entry.merged())
    }

    /// Everything known, by camera.
    pub fn all(&self) -> Vec<Health> {
        self.cameras
            .lock()
            .expect("no holder of this lock panics")
            .values()
            .map(|entry| entry.merged())
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

    #[test]
    fn a_stream_that_cannot_be_used_says_so_until_it_can() {
        let board = Board::default();
        let camera = CameraId::new("c").unwrap();
        let speaks = || Health {
            camera: camera.clone(),
            state: CameraState::Streaming,
            reason: String::new(),
            since: Timestamp::UNIX_EPOCH,
            fps: Some(8.0),
            key_interval_s: Some(2.0),
        };
        assert_eq!(board.session(speaks()).reason, "");
        board.bad_picture(&camera, "no picture came out");
        assert!(board.session(speaks()).reason.contains("no picture came out"));
        assert_eq!(board.session(speaks()).reason, "", "none since ingest last spoke");
    }
}
