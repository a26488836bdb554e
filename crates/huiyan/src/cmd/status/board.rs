//! The retained messages of a site.

use std::collections::BTreeMap;
use std::time::Instant;

use flow::{CameraId, EventId};
use publish::wire::{EventMessage, HealthMessage, Topic, WorkerState, WorkerStatus};
use serde_json::Value;

/// Cameras, workers and situations that are kept. What lasts longer than the county has is not ours.
const MAX_ENTRIES: usize = 1_000_000;

/// A message, and all that it held: a newer worker may say more than is known here.
#[derive(Debug, Clone)]
pub struct Said<T> {
    pub message: T,
    pub whole: Value,
}

/// What is retained, the newest of each.
#[derive(Debug, Clone, Default)]
pub struct Board {
    pub cameras: BTreeMap<CameraId, Said<HealthMessage>>,
    pub workers: BTreeMap<String, Said<WorkerStatus>>,
    pub open: BTreeMap<EventId, Said<EventMessage>>,
    /// Messages that were none of ours, and the last of them.
    pub unreadable: usize,
    pub last_unreadable: String,
    pub changed: Option<Instant>,
}

impl Board {
    /// Takes a message as it came.
    pub fn take(&mut self, topic: &str, payload: &[u8]) {
        self.changed = Some(Instant::now());
        if let Err(why) = self.read(topic, payload) {
            self.unreadable += 1;
            self.last_unreadable = format!("{topic}: {why}");
        }
    }

    fn read(&mut self, topic: &str, payload: &[u8]) -> Result<(), String> {
        let topic: Topic = topic.parse().map_err(|error: publish::wire::TopicError| error.to_string())?;
        if self.cameras.len() + self.workers.len() + self.open.len() >= MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} retained messages"));
        }
        match topic {
            Topic::Health { camera, .. } => match said::<HealthMessage>(payload)? {
                Some(said) => _ = self.cameras.insert(camera, said),
                None => _ = self.cameras.remove(&camera),
            },
            Topic::Worker { worker, .. } => match said::<WorkerStatus>(payload)? {
                Some(said) => _ = self.workers.insert(worker, said),
                None => _ = self.workers.remove(&worker),
            },
            Topic::Open { event, .. } => match said::<EventMessage>(payload)? {
                Some(said) => _ = self.open.insert(event, said),
                None => _ = self.open.remove(&event),
            },
            other => return Err(format!("{other} was not asked for")),
        }
        Ok(())
    }

    /// Whether the worker that speaks of the camera is gone: then nobody knows how the camera is.
    pub fn is_stale(&self, health: &HealthMessage) -> bool {
        let worker = self.workers.get(&health.worker);
        worker.is_some_and(|worker| worker.message.state == WorkerState::Offline)
    }
}

/// An empty payload takes a retained message back.
fn said<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<Option<Said<T>>, String> {
    if payload.is_empty() {
        return Ok(None);
    }
    let whole: Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    let message = T::deserialize(&whole).map_err(|error| error.to_string())?;
    Ok(Some(Said { message, whole }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let mut board = Board::default();
        board.take(
            "huiyan/v1/s/camera/c1/health",
            br#"{"camera":"c1","state":"streaming","since":"2026-01-01T00:00:00Z","worker":"w1","new_field":7}"#,
        );
        board
    }

    #[test]
    fn the_newest_counts_and_an_empty_one_takes_it_back() {
        let mut board = board();
        assert_eq!(board.cameras.len(), 1);
        let (_, said) = board.cameras.first_key_value().unwrap();
        assert_eq!(said.whole["new_field"], 7, "what is not known here is kept");
        board.take("huiyan/v1/s/camera/c1/health", b"");
        assert!(board.cameras.is_empty());
        assert_eq!(board.unreadable, 0);
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_changes_nothing() {
        let mut board = board();
        board.take("huiyan/v1/s/camera/c1/health", b"{");
        board.take("huiyan/v1/s/camera/c1/health", br#"{"state":7}"#);
        board.take("other/topic", b"{}");
        assert_eq!((board.unreadable, board.cameras.len()), (3, 1));
        assert!(board.last_unreadable.starts_with("other/topic: "), "{}", board.last_unreadable);
    }

    #[test]
    fn cameras_of_a_worker_that_is_gone_are_stale() {
        let mut board = board();
        let health = board.cameras.first_key_value().unwrap().1.message.clone();
        assert!(!board.is_stale(&health), "nothing is known of the worker");
        let status = |state: &str| {
            format!(
                r#"{{"worker":"w1","state":"{state}","started":"2026-01-01T00:00:00Z","version":"1","config_hash":""}}"#
            )
        };
        board.take("huiyan/v1/s/worker/w1/status", status("online").as_bytes());
        assert!(!board.is_stale(&health));
        board.take("huiyan/v1/s/worker/w1/status", status("offline").as_bytes());
        assert!(board.is_stale(&health));
    }
}
