//! YAML → a checked [`Fleet`].
//!
//! What the user wrote and what the program uses are two things: the files are read into a tree that knows its
//! places, checked as a whole (every mistake at once, each with file, line, column, key, value and what would be
//! right), and only a tree without mistakes becomes a [`Fleet`], whose types leave nothing to check later.

mod address;
mod broker;
mod calendar;
mod calibration;
mod camera;
mod cameras;
mod card;
mod check;
mod codes;
mod confirm;
mod der;
mod evidence;
#[cfg(test)]
mod example;
mod gate;
pub mod generate;
mod ground;
mod hardware;
mod load;
mod look;
mod mistake;
mod presets;
mod rule;
mod rule_shapes;
mod rules;
mod schema;
mod secret;
mod shape;
mod shapes;
mod single;
mod sources;
mod tables;
mod telemetry;
mod tiles;
mod tls;
mod tree;
mod units;

pub use broker::{Address, Broker, MqttVersion};
pub use calendar::Calendar;
pub use calibration::{CALIBRATION_FILE, Calibration};
pub use camera::{Camera, Certificate, Location, Look, OnLongKeys, Priority, Sampling, Transport, Zone};
pub use card::{
    Activation, Boxes, Channels, Extra, Filter, Head, Layout, ModelCard, NO_CLASS, Output, Range, Resize,
    Thresholds,
};
pub use confirm::Confirm;
pub use evidence::{Evidence, S3, Store};
pub use gate::Gate;
pub use ground::{Ground, metres, moved};
pub use hardware::{Decoding, Pictures, Provider};
pub use mistake::{Mistake, Mistakes};
pub use presets::Preset;
pub use rule::{
    Code, Confirmed, Count, Coverage, Cross, Direction, Dwell, Per, Perspective, Rule, RuleKind, Situation,
    Together,
};
pub use schema::{card_schema, schema};
pub use secret::{Credentials, Secret, SecretRef};
pub use single::{broker_url, camera_url};
pub use telemetry::Telemetry;
pub use tiles::Tiles;
pub use tls::{Identity, Tls, TlsError, TlsFiles};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use flow::{ModelId, SituationId};

/// Everything that the configuration says, checked.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Name of the site, part of every topic.
    pub site: String,
    /// Name of this worker, part of its topics.
    pub worker: String,
    /// Where the program keeps its state: outbox, evidence, desk database.
    pub data_dir: PathBuf,
    /// The broker.
    pub broker: Broker,
    /// The desk.
    pub desk: Desk,
    /// What becomes of evidence pictures.
    pub evidence: Evidence,
    /// Where the program says how it is doing.
    pub telemetry: Telemetry,
    /// How the stages are sized.
    pub node: Node,
    /// Models by id; the folder that holds `card.yaml`.
    pub models: BTreeMap<ModelId, PathBuf>,
    /// Situations by id.
    pub situations: BTreeMap<SituationId, Arc<Situation>>,
    /// The cameras, in the order of the files.
    pub cameras: Vec<Arc<Camera>>,
    /// SHA-256 of everything read, lower-case hex: events carry it.
    pub config_hash: String,
}

/// The desk.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Where its page is served.
    pub listen: SocketAddr,
    /// Where it reads the pictures that went to a store; where nothing else is said, as [`Evidence::store`].
    pub store: Option<Store>,
}

/// How the stages are sized. `0` threads means: choose by the number of cores.
#[derive(Debug, Clone)]
pub struct Node {
    /// Sessions begun per second, all cameras together. > 0.
    pub starts_per_second: u32,
    /// Sessions being set up at the same time at one host. > 0.
    pub setups_per_host: usize,
    /// Sessions being set up at the same time in one network. > 0.
    pub setups_per_subnet: usize,
    /// From when on an unchanged picture is frozen.
    pub frozen_after: std::time::Duration,
    /// From when on a black picture is dark.
    pub dark_after: std::time::Duration,
    /// What decodes.
    pub decoder: Decoding,
    /// Decoder threads.
    pub decode_threads: usize,
    /// What runs the models, in the order in which it is tried.
    pub providers: Vec<Provider>,
    /// Where decoded pictures stay until a model has looked at them.
    pub pictures: Pictures,
    /// Whether the models' runs are recorded as CUDA graphs.
    pub cuda_graphs: bool,
    /// Where engines that were built for this machine are kept; where absent, in `data_dir`.
    pub engines: Option<PathBuf>,
    /// Inference sessions of each model; 0: to be measured.
    pub infer_sessions: usize,
    /// Threads per session; 0: to be measured.
    pub infer_threads: usize,
    /// Pictures per batch at most.
    pub max_batch: usize,
    /// How long the oldest picture of a batch waits at most.
    pub max_delay: std::time::Duration,
    /// ONNX Runtime's shared library; where absent, `HUIYAN_ONNXRUNTIME`, then the set-up's own copy.
    pub onnxruntime: Option<PathBuf>,
    /// Bytes of evidence pictures kept on disk at most; the oldest go first.
    pub evidence_max_bytes: u64,
    /// Bytes of events on disk at most, beyond which the disk counts as full; `None`: as many as it takes.
    pub outbox_max_bytes: Option<u64>,
}
