//! Frames to detections: batches across cameras, runs the model, decodes its tensors.
//!
//! ```text
//!                 one slot per camera          one thread per session
//! Frame --offer--> [ newest wins ] --batch--> planes -> tensor -> ONNX Runtime -> boxes --output--> Look
//! ```
//!
//! [`Runtime`] finds and loads ONNX Runtime. [`Model`] is one model file, checked against its card, with one session;
//! it looks at pictures when told. [`Detector`] is the stage: it collects frames of many cameras into batches and
//! gives each to one of its threads.

mod accuracy;
mod agree;
mod calibrate;
mod confirmer;
mod crop;
mod detector;
mod device;
mod gate;
mod geometry;
mod heads;
mod model;
mod numbers;
mod preprocess;
mod propose;
mod provider;
mod queue;
mod rebatch;
mod run;
mod runtime;
mod swap;
#[cfg(test)]
mod testing;
mod tiles;

pub use accuracy::{Accuracy, Found, Instances, InstancesImage, Picture, Thing, accuracy};
pub use agree::Disagreement;
pub use calibrate::{Sizing, Trial};
pub use confirmer::{Classifier, Confirmer, Opinion, Question, Unanswered};
pub use detector::{Detector, Options, Route, Runner};
pub use gate::{Gate, GateNumbers, Passage};
pub use geometry::Placement;
pub use model::{LookError, Model, ModelError, Work};
pub use numbers::Numbers;
pub use propose::{Description, Proposal, describe, propose};
pub use queue::PATIENCE;
pub use rebatch::{RebatchError, rebatch};
pub use runtime::{Runtime, RuntimeError};
pub use swap::SwapError;
pub use tiles::{Tiled, TilesOf};
