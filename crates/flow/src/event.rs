//! `scene` → `publish`.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{CameraId, ClassName, FrameId, MapPoint, ModelId, NormBox, Score, SituationId, ZoneId};

/// One situation from `began` to `ended`. Made once, by `scene`, and stored with the event; a resent event
/// keeps it. In the form of a UUID version 7 (RFC 9562 section 5.7), so ids sort by the time of `began`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// The id of the situation at `key` that began at `began`. The same input gives the same id, so that
    /// replaying a recording reproduces its events.
    pub fn new(began: Timestamp, key: &SituationKey, number: u64) -> Self {
        // RFC 9562 leaves the 74 bits after the time to the implementation. A 128-bit FNV-1a
        // hash of what tells situations apart is enough: ids are compared, not trusted.
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        let parts: [&[u8]; 4] = [
            key.camera.as_str().as_bytes(),
            key.zone.as_str().as_bytes(),
            key.situation.as_str().as_bytes(),
            &number.to_le_bytes(),
        ];
        for part in parts {
            for byte in part.iter().chain([&0xff]) {
                hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
            }
        }
        let mut random = [0; 10];
        random.copy_from_slice(&hash.to_be_bytes()[..10]);
        let millis = began.as_millisecond().max(0) as u64;
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Reads the usual text form.
    pub fn parse(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes two situations of one moment different problems.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SituationKey {
    /// On which camera.
    pub camera: CameraId,
    /// In which zone.
    pub zone: ZoneId,
    /// Of which kind.
    pub situation: SituationId,
}

/// Where a situation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The rule holds for the first time.
    Began,
    /// It still holds; sent now and then.
    Updated,
    /// A clear look showed that it is over.
    Ended {
        /// The first look at which it was gone.
        at: Timestamp,
    },
}

/// A thing that takes part in a situation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EventObject {
    /// What.
    pub class: ClassName,
    /// How sure the model is in this look.
    pub score: Score,
    /// Where, in the evidence picture.
    pub bbox: NormBox,
    /// Number of the track, unique in its camera and process.
    pub track: u64,
    /// First look at which it was seen.
    pub first_seen: Timestamp,
}

/// A situation of another camera that is the same problem.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SameAs {
    /// The one that was told of first; never itself another view of a third.
    pub event: EventId,
    /// What it is.
    pub key: SituationKey,
}

/// What a second model said of a situation before it was told of.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Confirmation {
    /// Which model.
    pub model: ModelId,
    /// The class that it gave to the place.
    pub class: ClassName,
    /// How sure it was, 0..=1.
    pub score: Score,
}

/// One step in the life of one situation.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Which situation; the same through all its phases.
    pub id: EventId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Counts the situation's own events: 0 for `began`.
    pub sequence: u32,
    /// Camera, zone and kind.
    pub key: SituationKey,
    /// The rule that decided: `dwell`.
    pub rule: &'static str,
    /// When the things that make it up were first seen.
    pub first_seen: Timestamp,
    /// When the rule held for the first time.
    pub began: Timestamp,
    /// The last look at which it was seen.
    pub last_seen: Timestamp,
    /// How sure, 0..=1: of so many such events in a hundred, so many were true where that was measured.
    pub confidence: Score,
    /// How sure the rule is by itself, 0..=1, where [`confidence`](Self::confidence) is not that but what it is worth.
    pub uncalibrated: Option<Score>,
    /// What takes part; at `ended`, as last seen.
    pub objects: Vec<EventObject>,
    /// The situation of this kind that was in the same place not long before: the same problem again.
    pub recurs: Option<EventId>,
    /// Where its things stand, the middle of them; `None` where the camera's ground is not known.
    pub place: Option<MapPoint>,
    /// What another camera told of first and is the same problem: this is another view of it, no second one.
    pub same_as: Option<SameAs>,
    /// This look shows it better than those before: its evidence is this part of the picture, as a close-up.
    pub near: Option<NormBox>,
    /// What a second model made of it, where its rule asks one.
    pub confirmed_by: Option<Confirmation>,
    /// Which model saw it.
    pub model: ModelId,
    /// The look that decided; its picture is the evidence.
    pub frame: FrameId,
    /// When that picture was captured.
    pub captured: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(camera: &str) -> SituationKey {
        SituationKey {
            camera: CameraId::new(camera).unwrap(),
            zone: ZoneId::new("z").unwrap(),
            situation: SituationId::new("s").unwrap(),
        }
    }

    #[test]
    fn the_same_situation_has_the_same_id_and_others_differ() {
        let t = Timestamp::from_second(1_700_000_000).unwrap();
        let id = EventId::new(t, &key("a"), 1);
        assert_eq!(id, EventId::new(t, &key("a"), 1));
        assert_ne!(id, EventId::new(t, &key("b"), 1));
        assert_ne!(id, EventId::new(t, &key("a"), 2));
        assert!(id < EventId::new(Timestamp::from_second(1_700_000_001).unwrap(), &key("a"), 1));
        assert_eq!(EventId::parse(&id.to_string()).unwrap(), id);
        assert_eq!(Uuid::parse_str(&id.to_string()).unwrap().get_version_num(), 7);
    }
}
