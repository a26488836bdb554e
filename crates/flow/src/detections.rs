//! `infer` → `scene`.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{ClassName, Frame, FrameId, ModelId, NormBox};

/// How sure a model is, 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, serde::Serialize)]
#[serde(transparent)]
pub struct Score(f32);

/// A number that is no score.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0} is no score: expected 0 to 1")]
pub struct ScoreError(f32);

impl Score {
    /// Refuses NaN and what lies outside 0..=1.
    pub fn new(value: f32) -> Result<Self, ScoreError> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(ScoreError(value)) }
    }

    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl<'de> serde::Deserialize<'de> for Score {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(f32::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One thing that a model saw.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Detection {
    /// What.
    pub class: ClassName,
    /// How sure.
    pub score: Score,
    /// Where.
    #[serde(rename = "box")]
    pub bbox: NormBox,
}

/// All that a model saw in one picture. An empty list is a clear look, not a missing one.
#[derive(Debug, Clone, PartialEq)]
pub struct Detections {
    /// In which picture.
    pub frame: FrameId,
    /// When that was captured.
    pub captured: Timestamp,
    /// Which model looked.
    pub model: ModelId,
    /// Which version of it: SHA-256 of its file, lower-case hex.
    pub weights: Arc<str>,
    /// Whether the model saw this very picture.
    pub basis: Basis,
    /// What it saw, highest score first.
    pub list: Vec<Detection>,
}

/// What detections rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The model ran on this picture.
    Inferred,
    /// The picture shows what the last inferred one of this camera showed: its detections stand.
    Unchanged,
}

/// A picture and what was seen in it. `scene` reads the detections; the picture travels along because it
/// is the evidence if an event comes of it.
#[derive(Debug)]
pub struct Look {
    /// What was seen.
    pub detections: Detections,
    /// In this picture.
    pub frame: Frame,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_refuse_nan_and_outside() {
        assert!(Score::new(f32::NAN).is_err());
        assert!(Score::new(1.01).is_err());
        assert!(Score::new(-0.1).is_err());
        assert_eq!(Score::new(0.5).unwrap().get(), 0.5);
    }
}
