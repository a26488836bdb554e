//! [`flow::Event`] → [`EventMessage`].

use flow::Event;

use crate::wire::{
    CameraInfo, Code, ConfirmedBy, EventData, EventMessage, Evidence, LocationInfo, ModelInfo, Object,
    PhaseName, SituationInfo, Text, Times,
};

/// Who speaks; the same for all of a process's events.
#[derive(Debug, Clone)]
pub(crate) struct Speaker {
    pub site: String,
    pub worker: String,
    pub config_hash: String,
}

impl Speaker {
    /// The message that reports `event`.
    pub fn message(
        &self,
        event: &Event,
        camera: &fleet::Camera,
        situation: &fleet::Situation,
        model: &ModelInfo,
        evidence: Vec<Evidence>,
    ) -> EventMessage {
        let phase = PhaseName::from(event.phase);
        let key = &event.key;
        EventMessage {
            specversion: "1.0".into(),
            id: EventMessage::message_id(event.id, event.sequence),
            source: format!("/{}/{}", self.site, self.worker),
            kind: phase.event_type(),
            subject: key.camera.clone(),
            time: event.captured,
            datacontenttype: "application/json".into(),
            traceparent: Some(EventMessage::trace(event.id, event.sequence)),
            data: EventData {
                event: event.id,
                phase,
                sequence: event.sequence,
                text: text(phase, situation, camera, key.zone.as_str()),
                situation: SituationInfo {
                    id: key.situation.clone(),
                    zh: situation.zh.to_string(),
                    en: situation.en.to_string(),
                },
                code: situation.code.as_ref().map(code),
                camera: camera_info(camera),
                zone: key.zone.clone(),
                rule: event.rule.into(),
                times: times(event),
                confidence: event.confidence,
                objects: event.objects.iter().map(Object::from).collect(),
                evidence,
                model: model.clone(),
                config_hash: self.config_hash.clone(),
                worker: self.worker.clone(),
                epoch: 0,
                problem: problem(event.same_as.as_ref().map_or(key, |first| &first.key)),
                place: event.place.and_then(|place| {
                    let crs = camera.location.as_ref()?.crs.to_string();
                    Some(LocationInfo { x: place.x, y: place.y, crs })
                }),
                same_as: event.same_as.as_ref().map(|first| first.event),
                recurs: event.recurs,
                confirmed_by: event.confirmed_by.as_ref().map(ConfirmedBy::from),
            },
        }
    }
}

fn problem(key: &flow::SituationKey) -> String {
    format!("{}/{}/{}", key.camera, key.zone, key.situation)
}

/// One line for a person, in both languages; never a finding, always a suspicion.
fn text(phase: PhaseName, situation: &fleet::Situation, camera: &fleet::Camera, zone: &str) -> Text {
    let place = camera.name.as_deref().unwrap_or(camera.id.as_str());
    let (zh, en) = (situation.zh.trim_start_matches("疑似"), situation.en.as_ref());
    let (zh_end, en_end) = match phase {
        PhaseName::Began => ("", ""),
        PhaseName::Updated => ("，仍在持续", ", still there"),
        PhaseName::Ended => ("，已消失", ", gone"),
    };
    Text {
        zh: format!("疑似{zh}：{place}（{zone}）{zh_end}"),
        en: format!("Suspected {en}: {place} ({zone}){en_end}"),
    }
}

fn code(code: &fleet::Code) -> Code {
    Code {
        set: code.set.to_string(),
        version: code.version.to_string(),
        code: code.code.to_string(),
        name: code.name.to_string(),
    }
}

fn camera_info(camera: &fleet::Camera) -> CameraInfo {
    let text = |t: &Option<std::sync::Arc<str>>| t.as_deref().map(str::to_owned);
    CameraInfo {
        id: camera.id.clone(),
        class: camera.class.to_string(),
        name: text(&camera.name),
        address: text(&camera.address),
        grid: text(&camera.grid),
        location: camera.location.as_ref().map(|l| LocationInfo { x: l.x, y: l.y, crs: l.crs.to_string() }),
    }
}

fn times(event: &Event) -> Times {
    let ended = match event.phase {
        flow::Phase::Ended { at } => Some(at),
        flow::Phase::Began | flow::Phase::Updated => None,
    };
    Times { first_seen: event.first_seen, began: event.began, last_seen: event.last_seen, ended }
}

impl From<&flow::Confirmation> for ConfirmedBy {
    fn from(said: &flow::Confirmation) -> Self {
        Self { model: said.model.clone(), class: said.class.clone(), score: said.score }
    }
}

impl From<&flow::EventObject> for Object {
    fn from(object: &flow::EventObject) -> Self {
        Self {
            class: object.class.clone(),
            score: object.score,
            bbox: object.bbox,
            track: object.track,
            first_seen: object.first_seen,
        }
    }
}
