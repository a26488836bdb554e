//! The body of an event: CloudEvents 1.0 in structured JSON.

use std::fmt;
use std::str::FromStr;

use flow::{CameraId, ClassName, EventId, ModelId, NormBox, Phase, Score, SituationId, Timestamp, ZoneId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{finite, shape};

/// Content type of an event message (CloudEvents MQTT binding, section 3.2: structured mode).
pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// No event of ours comes near; more is refused unread.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Something happened to a situation. `source` + `id` is unique: a message that comes twice is recognised by it
/// (CloudEvents 1.0, "id").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventMessage {
    /// `1.0`.
    #[schemars(with = "shape::One")]
    pub specversion: String,
    /// `{event id}.{sequence}`.
    #[schemars(with = "shape::Message")]
    pub id: String,
    /// `/{site}/{worker}`.
    #[schemars(with = "shape::Source")]
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The camera.
    #[schemars(with = "shape::Id")]
    pub subject: CameraId,
    /// When: the capture time of the look that decided.
    #[schemars(with = "shape::Time")]
    pub time: Timestamp,
    /// `application/json`: how `data` is coded.
    #[schemars(with = "shape::Json")]
    pub datacontenttype: String,
    /// The trace of the situation, as in the user property of the same name (CloudEvents extension "Distributed Tracing",
    /// W3C Trace Context): here for clients without user properties (MQTT 3.1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Trace>")]
    pub traceparent: Option<String>,
    /// The event.
    pub data: EventData,
}

/// The CloudEvents type; its last part is the version of [`EventData`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// A situation began.
    #[serde(rename = "huiyan.situation.began.v1")]
    Began,
    /// It lasts.
    #[serde(rename = "huiyan.situation.updated.v1")]
    Updated,
    /// It is over.
    #[serde(rename = "huiyan.situation.ended.v1")]
    Ended,
}

/// Where a situation is in its life, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PhaseName {
    /// It began.
    Began,
    /// It lasts.
    Updated,
    /// It is over.
    Ended,
}

impl PhaseName {
    /// The type of the message that reports it.
    pub fn event_type(self) -> EventType {
        match self {
            Self::Began => EventType::Began,
            Self::Updated => EventType::Updated,
            Self::Ended => EventType::Ended,
        }
    }

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Updated => "updated",
            Self::Ended => "ended",
        }
    }
}

impl From<Phase> for PhaseName {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Began => Self::Began,
            Phase::Updated => Self::Updated,
            Phase::Ended { .. } => Self::Ended,
        }
    }
}

/// The event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventData {
    /// Which situation; the same from `began` to `ended`.
    #[schemars(with = "shape::Event")]
    pub event: EventId,
    /// Where it is in its life.
    pub phase: PhaseName,
    /// Counts the situation's messages, from 0.
    pub sequence: u32,
    /// One line for a person. Always says 疑似 / suspected: an event is a lead, a person decides.
    pub text: Text,
    /// What kind.
    pub situation: SituationInfo,
    /// Its number in a numbering, where the fleet gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Seen by.
    pub camera: CameraInfo,
    /// In which zone of the camera's picture.
    #[schemars(with = "shape::Id")]
    pub zone: ZoneId,
    /// By which rule: `dwell`, `together`, `coverage`, `count`, `cross` or `model`.
    pub rule: String,
    /// When.
    pub times: Times,
    /// How sure, 0..=1.
    #[schemars(with = "shape::Share")]
    pub confidence: Score,
    /// What takes part.
    #[serde(default)]
    pub objects: Vec<Object>,
    /// Pictures; published before this message.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// Seen with.
    pub model: ModelInfo,
    /// SHA-256 of the worker's configuration.
    #[schemars(with = "shape::Sha256")]
    pub config_hash: String,
    /// Seen by the process of this name.
    #[schemars(with = "shape::Id")]
    pub worker: String,
    /// The assignment under which the worker watches the camera; a desk refuses an older one. 0 without a cluster.
    pub epoch: u64,
    /// `{camera}/{zone}/{situation}`: equal for what may be the same problem. Where `same_as` is given, the key of that
    /// one.
    pub problem: String,
    /// Where its things stand on the map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<LocationInfo>,
    /// The situation of another camera that is the same problem and was told of first: this is another view of it, and
    /// opens no case of its own. The problem is over when each of them has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Event>")]
    pub same_as: Option<EventId>,
    /// The situation of this kind that was in the same place not long before: the same problem again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Event>")]
    pub recurs: Option<EventId>,
    /// What a second model made of the place before the situation was told of; absent where its rule asks none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<ConfirmedBy>,
}

/// What a second model said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfirmedBy {
    /// Its id.
    #[schemars(with = "shape::Id")]
    pub model: ModelId,
    /// The class that it gave to the place.
    #[schemars(with = "shape::Class")]
    pub class: ClassName,
    /// How sure it was, 0..=1.
    #[schemars(with = "shape::Share")]
    pub score: Score,
}

/// A text in two languages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Text {
    /// Chinese.
    pub zh: String,
    /// English.
    pub en: String,
}

/// A kind of situation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SituationInfo {
    /// Id, also a level of the topic.
    #[schemars(with = "shape::Id")]
    pub id: SituationId,
    /// Chinese name.
    pub zh: String,
    /// English name.
    pub en: String,
}

/// A number in a numbering. Two national numberings disagree, so a number never travels alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Code {
    /// Which numbering.
    pub set: String,
    /// Which edition of it.
    pub version: String,
    /// The number.
    pub code: String,
    /// What the numbering calls it.
    pub name: String,
}

/// A camera, as far as a receiver needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraInfo {
    /// Id, also a level of the topic.
    #[schemars(with = "shape::Id")]
    pub id: CameraId,
    /// Camera class, for example `community`.
    pub class: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Street and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Code of its grid (网格).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<String>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationInfo>,
}

/// A place on the map. The reference system is named because mixing two puts a case into the wrong grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LocationInfo {
    /// Longitude in degrees, or metres.
    pub x: f64,
    /// Latitude in degrees, or metres.
    pub y: f64,
    /// `wgs84`, `gcj02` or `cgcs2000`.
    pub crs: String,
}

/// When, all UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// The things that make it up were first seen.
    #[schemars(with = "shape::Time")]
    pub first_seen: Timestamp,
    /// The rule held for the first time.
    #[schemars(with = "shape::Time")]
    pub began: Timestamp,
    /// The last look at which it was seen.
    #[schemars(with = "shape::Time")]
    pub last_seen: Timestamp,
    /// The first look at which it was gone; with `ended` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Time>")]
    pub ended: Option<Timestamp>,
}

/// A thing that takes part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// What.
    #[schemars(with = "shape::Class")]
    pub class: ClassName,
    /// How sure, 0..=1.
    #[schemars(with = "shape::Share")]
    pub score: Score,
    /// `[x0, y0, x1, y1]` as shares of the camera's picture, from its top left corner. Not drawn into the evidence, which
    /// may show a part of that picture alone ([`Evidence::part`]).
    #[serde(rename = "box", with = "corners")]
    #[schemars(with = "shape::Corners")]
    pub bbox: NormBox,
    /// Number of its track.
    pub track: u64,
    /// First look at which it was seen.
    #[schemars(with = "shape::Time")]
    pub first_seen: Timestamp,
}

/// What an evidence picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The situation when it began.
    First,
    /// The same from near, in the best look so far: sharp, whole, nothing before it. A part of the camera's picture.
    Near,
    /// The situation as it is now; replaces the one before.
    Latest,
    /// The place when it was gone.
    Clear,
}

impl Role {
    /// The word, a level of the topic and the name of the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Near => "near",
            Self::Latest => "latest",
            Self::Clear => "clear",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::First, Self::Near, Self::Latest, Self::Clear].into_iter().find(|r| r.name() == text).ok_or(())
    }
}

impl From<PhaseName> for Role {
    fn from(phase: PhaseName) -> Self {
        match phase {
            PhaseName::Began => Self::First,
            PhaseName::Updated => Self::Latest,
            PhaseName::Ended => Self::Clear,
        }
    }
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What it shows.
    pub role: Role,
    /// `image/jpeg`.
    #[schemars(with = "shape::MediaType")]
    pub media_type: String,
    /// SHA-256 of its bytes.
    #[schemars(with = "shape::Sha256")]
    pub sha256: String,
    /// Where it is: the MQTT topic on which it was published, or its address in the store that the site has configured
    /// (`s3://bucket/...`, `file:///...`), where it will be soon.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Which part of the camera's picture it is, as `[x0, y0, x1, y1]` in shares of that; absent: all of it.
    #[serde(default, deserialize_with = "finite::part", skip_serializing_if = "Option::is_none")]
    pub part: Option<[f32; 4]>,
    /// Its record in its camera's signed chain of pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<EvidenceRecord>,
}

/// A record of a camera's chain. A chain that ends before it, or has another there, was cut or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceRecord {
    /// Its number, from 1.
    pub seq: u64,
    /// SHA-256 of its line.
    #[schemars(with = "shape::Sha256")]
    pub sha256: String,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelInfo {
    /// Its id.
    #[schemars(with = "shape::Id")]
    pub id: ModelId,
    /// The author's version.
    pub version: String,
    /// SHA-256 of the model file.
    #[schemars(with = "shape::Sha256")]
    pub sha256: String,
}

impl From<&fleet::ModelCard> for ModelInfo {
    fn from(card: &fleet::ModelCard) -> Self {
        Self { id: card.id.clone(), version: card.version.clone(), sha256: card.sha256.clone() }
    }
}

/// A message that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Longer than [`MAX_EVENT_BYTES`].
    #[error("has {0} bytes; at most {MAX_EVENT_BYTES} are read")]
    TooLong(usize),
    /// No JSON, or not with these fields.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Two places that have to say the same do not.
    #[error("{field} is {found:?}; expected {expected:?}")]
    Disagrees {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it would have to say.
        expected: String,
    },
}

impl EventMessage {
    /// Reads and checks a message. Fields that are not known are ignored.
    pub fn parse(body: &[u8]) -> Result<Self, ReadError> {
        if body.len() > MAX_EVENT_BYTES {
            return Err(ReadError::TooLong(body.len()));
        }
        let message: Self = serde_json::from_slice(body)?;
        message.check()?;
        Ok(message)
    }

    /// What the types cannot say: that the envelope and the data agree.
    fn check(&self) -> Result<(), ReadError> {
        let data = &self.data;
        let same = |field, found: &str, expected: &str| {
            if found == expected {
                return Ok(());
            }
            Err(ReadError::Disagrees {
                field,
                found: found.chars().take(128).collect(),
                expected: expected.into(),
            })
        };
        same("specversion", &self.specversion, "1.0")?;
        same("id", &self.id, &Self::message_id(data.event, data.sequence))?;
        same("subject", self.subject.as_str(), data.camera.id.as_str())?;
        if self.kind != data.phase.event_type() {
            let found = format!("{:?}", self.kind).to_lowercase();
            return same("type", &found, data.phase.name());
        }
        if self.source.is_empty() || self.source.len() > 256 {
            return same("source", &self.source, "/SITE/WORKER, at most 256 bytes");
        }
        Ok(())
    }

    /// The JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// W3C Trace Context of a situation's message: one trace per situation (its id has the 16 bytes of a trace id), one
    /// span per message.
    pub fn trace(event: EventId, sequence: u32) -> String {
        let trace: String = event.to_string().chars().filter(|c| *c != '-').collect();
        format!("00-{trace}-{:016x}-00", u64::from(sequence) + 1)
    }

    /// The CloudEvents id of a situation's message.
    pub fn message_id(event: EventId, sequence: u32) -> String {
        format!("{event}.{sequence}")
    }
}

/// The event id in a message that [`EventMessage::parse`] refused, so that the refusal can name it.
pub fn peek_event_id(body: &[u8]) -> Option<EventId> {
    #[derive(Deserialize)]
    struct Body {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        event: EventId,
    }
    if body.len() > MAX_EVENT_BYTES {
        return None;
    }
    serde_json::from_slice::<Body>(body).ok().map(|b| b.data.event)
}

/// A box as its corners.
mod corners {
    use flow::NormBox;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bbox: &NormBox, serializer: S) -> Result<S::Ok, S::Error> {
        bbox.to_array().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NormBox, D::Error> {
        let [x0, y0, x1, y1] = <[f32; 4]>::deserialize(deserializer)?;
        NormBox::new(x0, y0, x1, y1).map_err(serde::de::Error::custom)
    }
}
