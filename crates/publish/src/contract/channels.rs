//! Every topic with what travels in it: the table that the AsyncAPI document is made of.

use crate::wire::{CONTENT_TYPE, CROSSED, INSIDE, ROOT};

/// Who writes into a topic, seen from Huiyan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Huiyan.
    Written,
    /// Somebody else; Huiyan's workers, or whoever opens cases, read it.
    Read,
}

/// What a topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// JSON after this schema.
    Json(&'static str),
    /// A JPEG.
    Jpeg,
}

/// A topic.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Its name in the document.
    pub name: &'static str,
    /// Below the root and the site; of ONVIF, below its own prefix.
    pub address: &'static str,
    pub title: &'static str,
    pub doc: &'static str,
    pub direction: Direction,
    pub body: Body,
    pub content_type: &'static str,
    pub retained: bool,
    /// Kept by the broker for an absent subscriber only for `broker.message_expiry`.
    pub expires: bool,
    /// MQTT 5 user properties.
    pub headers: &'static [(&'static str, &'static str)],
    /// Golden files.
    pub examples: &'static [(&'static str, &'static str)],
    /// The channel that carries the answer.
    pub reply: Option<&'static str>,
}

impl Channel {
    /// The whole topic, with its parameters in braces.
    pub fn topic(&self) -> String {
        if let Some(local) = [INSIDE, CROSSED].iter().find(|local| **local == self.address) {
            return format!("{{onvif_prefix}}/{local}/&{{camera}}/huiyan/{{rule}}");
        }
        format!("{ROOT}/{{site}}/{}", self.address)
    }
}

const ID: (&str, &str) = ("id", "As in the body: duplicates can be sorted out unread.");
const TRACE: (&str, &str) = ("traceparent", "W3C Trace Context: one trace per situation.");
const JSON: &str = "application/json";

macro_rules! golden {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../testdata/", $name, ".json")))),*]
    };
}

/// All of them.
pub(crate) static CHANNELS: &[Channel] = &[
    Channel {
        name: "event",
        address: "event/{situation}/{camera}",
        title: "A situation began, lasts, or is over",
        doc: "CloudEvents 1.0 in structured JSON. At least once: source + id is unique, keep the first. In order within a \
              situation.",
        direction: Direction::Written,
        body: Body::Json("EventMessage"),
        content_type: CONTENT_TYPE,
        retained: false,
        expires: true,
        headers: &[ID, TRACE],
        examples: golden!("event-began", "event-updated", "event-ended", "event-confirmed"),
        reply: None,
    },
    Channel {
        name: "open",
        address: "open/{camera}/{event}",
        title: "A situation that lasts",
        doc: "The situation's latest event, retained while it lasts; an empty payload clears it when it is over.",
        direction: Direction::Written,
        body: Body::Json("EventMessage"),
        content_type: CONTENT_TYPE,
        retained: true,
        expires: false,
        headers: &[ID, TRACE],
        examples: golden!("event-updated"),
        reply: None,
    },
    Channel {
        name: "evidence",
        address: "evidence/{event}/{role}",
        title: "An evidence picture",
        doc: "A JPEG, published before the event that names it. Persons are blurred; boxes are in the event, not in the \
              picture.",
        direction: Direction::Written,
        body: Body::Jpeg,
        content_type: "image/jpeg",
        retained: false,
        expires: true,
        headers: &[("sha256", "Of the payload, as in the event."), TRACE],
        examples: &[],
        reply: None,
    },
    Channel {
        name: "health",
        address: "camera/{camera}/health",
        title: "How a camera is doing",
        doc: "At each change of state, and once a minute while only measured rates change; the latest counts.",
        direction: Direction::Written,
        body: Body::Json("HealthMessage"),
        content_type: JSON,
        retained: true,
        expires: false,
        headers: &[],
        examples: golden!("health", "health-unknown"),
        reply: None,
    },
    Channel {
        name: "worker",
        address: "worker/{worker}/status",
        title: "Birth and death of a worker",
        doc: "Published by the worker when it connects and when it stops; by the broker, as last will, when it is lost.",
        direction: Direction::Written,
        body: Body::Json("WorkerStatus"),
        content_type: JSON,
        retained: true,
        expires: false,
        headers: &[],
        examples: golden!("worker-status"),
        reply: None,
    },
    Channel {
        name: "look",
        address: "command/{camera}/look",
        title: "Look now",
        doc: "Asks the camera's worker to look at its next picture. The payload may be empty; the answer goes to the \
              response topic, or to reply_to from clients without response topics (MQTT 3.1.1).",
        direction: Direction::Read,
        body: Body::Json("LookCommand"),
        content_type: JSON,
        retained: false,
        expires: false,
        headers: &[],
        examples: golden!("look-command"),
        reply: Some("reply"),
    },
    Channel {
        name: "reply",
        address: "reply/{reply}",
        title: "The answer to a request",
        doc: "The last levels are the requester's choice. Correlation data comes back as it was sent.",
        direction: Direction::Written,
        body: Body::Json("LookAnswer"),
        content_type: JSON,
        retained: false,
        expires: false,
        headers: &[],
        examples: golden!("look-answer"),
        reply: None,
    },
    Channel {
        name: "receipt",
        address: "receipt/{event}",
        title: "What became of an event",
        doc: "Written by whoever opens cases, once per event message.",
        direction: Direction::Read,
        body: Body::Json("Receipt"),
        content_type: JSON,
        retained: false,
        expires: true,
        headers: &[],
        examples: golden!("receipt"),
        reply: None,
    },
    Channel {
        name: "verdict",
        address: "verdict/{event}",
        title: "What a person decided",
        doc: "not_a_problem ends the situation, and the same thing in the same place is left alone for a day, then longer.",
        direction: Direction::Read,
        body: Body::Json("VerdictMessage"),
        content_type: JSON,
        retained: false,
        expires: false,
        headers: &[],
        examples: golden!("verdict"),
        reply: None,
    },
    Channel {
        name: "onvifInside",
        address: INSIDE,
        title: "A situation as an ONVIF property",
        doc: "With `broker.onvif` only. ONVIF Core, JSON Event Payload: true while such a situation lasts in the zone, then \
              false.",
        direction: Direction::Written,
        body: Body::Json("OnvifEvent"),
        content_type: JSON,
        retained: true,
        expires: false,
        headers: &[],
        examples: golden!("onvif-began", "onvif-ended"),
        reply: None,
    },
    Channel {
        name: "onvifCrossed",
        address: CROSSED,
        title: "A crossed line as an ONVIF event",
        doc: "With `broker.onvif` only. ONVIF Core, JSON Event Payload.",
        direction: Direction::Written,
        body: Body::Json("OnvifEvent"),
        content_type: JSON,
        retained: false,
        expires: true,
        headers: &[],
        examples: golden!("onvif-crossed"),
        reply: None,
    },
];

/// What a level of a topic is.
pub(crate) static PARAMETERS: &[(&str, &str)] = &[
    ("site", "Name of the site: `site` of the configuration."),
    ("situation", "Kind of situation, for example illegal_parking."),
    ("camera", "Id of the camera."),
    ("event", "Id of the situation (UUID); the same from began to ended."),
    ("role", "first, near, latest or clear."),
    ("worker", "Name of the worker."),
    ("reply", "The requester's choice."),
    ("onvif_prefix", "ONVIF's TopicPrefix: `broker.onvif` of the configuration; may have several levels."),
    ("rule", "Situation and zone: `illegal_parking@lane`."),
];
