//! The values that move between stages: ids, time, geometry and the border types.
//!
//! ```text
//! ingest --AccessUnit--> decode --Frame--> infer --Look(Detections + Frame)--> scene --Event--> publish
//! ```
//!
//! A value is named for what it is at that moment and is moved, never shared and changed. This crate
//! does no I/O, knows no async runtime and reads no clock: times come in with the data.

mod access_unit;
mod counters;
mod coverage;
mod detections;
mod device;
mod event;
mod frame;
mod geometry;
mod health;
mod id;
mod luma;
mod mask;

pub use access_unit::{AccessUnit, Codec, MediaTime, Role};
pub use counters::{Counter, Flow};
pub use coverage::{Coverage, Minutes};
pub use detections::{Basis, Detection, Detections, Look, Score, ScoreError};
pub use device::{DeviceMemory, DevicePicture, DownloadError, OnHost};
pub use event::{Confirmation, Event, EventId, EventObject, Phase, SameAs, SituationKey};
pub use frame::{Frame, FrameId, HostPicture, Matrix, PictureError, Pixels, Plane};
pub use geometry::{BoxError, MapPoint, NormBox, NormPoint, Polygon, PolygonError};
pub use health::{CameraState, Health, Via};
pub use id::{CameraId, ClassName, IdError, ModelId, SessionId, SituationId, ZoneId};
pub use luma::{LUMA_COLUMNS, Luma};

/// Wall-clock time, UTC.
pub use jiff::Timestamp;
