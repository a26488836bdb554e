//! What a publisher is told, and why it cannot start or store.

use std::path::PathBuf;

use crate::evidence::{Blur, KeyError, SealError, StoreError};
use crate::outbox::{OutboxError, Retention};

/// What a publisher needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the site, part of every topic.
    pub site: String,
    /// Name of this worker, part of its client id: two workers of a site need two names.
    pub worker: String,
    /// The broker.
    pub broker: fleet::Broker,
    /// Where outbox and evidence are kept.
    pub data_dir: PathBuf,
    /// Bytes of evidence kept on disk at most.
    pub evidence_max_bytes: u64,
    /// Bytes of events on disk at most, beyond which the disk counts as full; `None`: as many as it takes.
    pub outbox_max_bytes: Option<u64>,
    /// SHA-256 of the configuration.
    pub config_hash: String,
    /// What is made unrecognisable in evidence.
    pub blur: Blur,
    /// How evidence is signed, and where and for how long it is kept.
    pub evidence: EvidenceOptions,
}

/// How evidence is signed, and where and for how long it is kept.
#[derive(Debug, Clone, Default)]
pub struct EvidenceOptions {
    /// PKCS#8 PEM of the signing key; `None`: made at the first start, in the data directory.
    pub key: Option<fleet::Secret>,
    /// The `age` recipient of sealed originals; `None`: nothing unblurred touches a disk.
    pub originals_for: Option<String>,
    /// Where pictures go; `None`: they stay, and are sent over MQTT.
    pub store: Option<fleet::Store>,
    /// For how long they are kept.
    pub retention: Retention,
}

impl EvidenceOptions {
    /// As the fleet says.
    pub fn from_fleet(fleet: &fleet::Fleet) -> Self {
        let settings = &fleet.evidence;
        let situations = fleet.situations.values();
        let classes = fleet.cameras.iter();
        let retention = Retention {
            keep: Some(settings.keep),
            by_situation: situations.filter_map(|s| Some((s.id.to_string(), s.keep_evidence?))).collect(),
            by_class: classes.filter_map(|c| Some((c.class.to_string(), c.keep_evidence?))).collect(),
        };
        Self {
            key: settings.key.clone(),
            originals_for: settings.originals_for.clone(),
            store: settings.store.clone(),
            retention,
        }
    }
}

impl Options {
    /// As the fleet says.
    pub fn from_fleet(fleet: &fleet::Fleet) -> Self {
        Self {
            site: fleet.site.clone(),
            worker: fleet.worker.clone(),
            broker: fleet.broker.clone(),
            data_dir: fleet.data_dir.clone(),
            evidence_max_bytes: fleet.node.evidence_max_bytes,
            outbox_max_bytes: fleet.node.outbox_max_bytes,
            config_hash: fleet.config_hash.clone(),
            blur: Blur { also: fleet.evidence.also_blur.clone(), ..Blur::default() },
            evidence: EvidenceOptions::from_fleet(fleet),
        }
    }
}

/// A publisher that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Site or worker cannot be a level of a topic.
    #[error("{what} {name:?} {source}")]
    Name {
        /// `site` or `worker`.
        what: &'static str,
        /// As given.
        name: String,
        /// What is wrong with it.
        source: flow::IdError,
    },
    /// The outbox does not open.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The configured signing key is none.
    #[error("evidence.key: {0}")]
    Key(#[from] KeyError),
    /// The configured recipient of originals is none.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The configured store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An event that was not stored.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Camera or situation are not those of the event.
    #[error("event {event} is about {expected}, but {found} was given with it")]
    Mismatch {
        /// Which event.
        event: flow::EventId,
        /// What its key says.
        expected: String,
        /// What was given.
        found: String,
    },
    /// It could not be written as JSON.
    #[error("event {event}: {source}")]
    Json {
        /// Which event.
        event: flow::EventId,
        /// Why.
        source: serde_json::Error,
    },
    /// The disk.
    #[error("event {event} is not stored: {source}")]
    Outbox {
        /// Which event.
        event: flow::EventId,
        /// Why.
        source: OutboxError,
    },
}
