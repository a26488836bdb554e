//! Situations as ONVIF events over MQTT, for a video management system that knows ONVIF and not us: the payload
//! "onvif-ej" (ONVIF Core Specification, "JSON Event Payload"), in the topics of ONVIF's own rules (Analytics Service
//! Specification, "Field Detector" and "Line Detector").

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventMessage, PhaseName, shape};

/// A rule's source: it names the property, so it is the same for all situations of one kind in one zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct OnvifSource {
    /// The camera's id.
    #[schemars(with = "shape::Id")]
    pub video_source: String,
    /// `huiyan`: one configuration for all.
    pub analytics_configuration: String,
    /// `{situation}@{zone}`.
    pub rule: String,
}

/// What a rule says. `IsInside` and `ObjectId` are ONVIF's own; the others are additions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct OnvifData {
    /// Whether there is such a situation in the zone; absent where a line was crossed, which is over at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_inside: Option<bool>,
    /// The same, for clients that look for a state whatever the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<bool>,
    /// The tracks that take part, with blanks between.
    pub object_id: String,
    /// The situation's event id: more is in the message of that id.
    #[schemars(with = "shape::Event")]
    pub event: String,
    /// When it began.
    #[schemars(with = "shape::Time")]
    pub since: flow::Timestamp,
    /// One line for a person, in Chinese; always 疑似 (suspected).
    pub text: String,
}

/// An ONVIF event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct OnvifEvent {
    /// When: the capture time of the look that decided.
    #[schemars(with = "shape::Time")]
    pub utc_time: flow::Timestamp,
    /// Which rule.
    pub source: OnvifSource,
    /// What it says.
    pub data: OnvifData,
}

/// The topic of a property, below the prefix: retained, it changes when the first such situation of a zone begins and when
/// the last ends.
pub(crate) const INSIDE: &str = "onvif-ej/RuleEngine/FieldDetector/ObjectsInside";
/// The topic of what happens at once: not retained.
pub(crate) const CROSSED: &str = "onvif-ej/RuleEngine/LineDetector/Crossed";
/// The rule of ours that is one of lines.
const CROSS: &str = "cross";
const CONFIGURATION: &str = "huiyan";

/// How an ONVIF client is told of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Onvif {
    /// The whole topic.
    pub topic: String,
    /// The event; of a property, as long as the situation lasts.
    pub event: OnvifEvent,
    /// It is a property: there is a state to be retained.
    pub property: bool,
}

impl Onvif {
    /// `None`: nothing is to be told, as where a line was crossed and is not any more.
    pub fn new(prefix: &str, site: &str, message: &EventMessage) -> Option<Self> {
        let data = &message.data;
        let camera = data.camera.id.as_str();
        let property = data.rule != CROSS;
        if !property && data.phase != PhaseName::Began {
            return None;
        }
        let rule = format!("{}@{}", data.situation.id, data.zone);
        let prefix = prefix.replace("{site}", site).replace("{camera}", camera);
        let local = if property { INSIDE } else { CROSSED };
        // Source values in the order of the source's items; none of them can hold a level's end or a wild card.
        let topic = format!("{prefix}/{local}/&{camera}/{CONFIGURATION}/{rule}");
        let lasts = property.then_some(data.phase != PhaseName::Ended);
        let tracks: Vec<_> = data.objects.iter().map(|object| object.track.to_string()).collect();
        let event = OnvifEvent {
            utc_time: message.time,
            source: OnvifSource {
                video_source: camera.into(),
                analytics_configuration: CONFIGURATION.into(),
                rule,
            },
            data: OnvifData {
                is_inside: lasts,
                state: lasts,
                object_id: tracks.join(" "),
                event: data.event.to_string(),
                since: data.times.began,
                text: data.text.zh.clone(),
            },
        };
        Some(Self { topic, event, property })
    }
}
