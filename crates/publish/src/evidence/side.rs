//! What a picture shows, beside the picture: boxes are not drawn into it.

use flow::{
    CameraId, ClassName, Detection, Event, EventId, EventObject, NormBox, Score, SituationId, Timestamp,
    ZoneId,
};
use serde::Serialize;

use super::{Blur, Jpeg};
use crate::wire::{ModelInfo, PhaseName, Role};

/// The side file, `{name}.json`.
#[derive(Serialize)]
struct Side<'s> {
    /// Version of this form.
    v: u32,
    picture: PictureInfo<'s>,
    camera: &'s CameraId,
    /// When the picture was captured.
    captured: Timestamp,
    event: EventId,
    sequence: u32,
    phase: PhaseName,
    role: Role,
    /// Which part of the camera's picture it is, where it is a close-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<[f32; 4]>,
    situation: &'s SituationId,
    zone: &'s ZoneId,
    model: &'s ModelInfo,
    /// What takes part in the situation, as last seen.
    objects: Vec<Thing<'s>>,
    /// All that the model saw in this picture.
    seen: Vec<Thing<'s>>,
    /// What was made unrecognisable.
    hidden: Vec<Thing<'s>>,
}

#[derive(Serialize)]
struct PictureInfo<'s> {
    sha256: &'s str,
    width: u32,
    height: u32,
}

/// A box, as shares of the camera's picture: `[x0, y0, x1, y1]`.
#[derive(Serialize)]
struct Thing<'s> {
    class: &'s ClassName,
    score: Score,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'s ZoneId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<Timestamp>,
}

impl<'s> Thing<'s> {
    fn taking_part(object: &'s EventObject, event: &'s Event) -> Self {
        Self {
            class: &object.class,
            score: object.score,
            bbox: object.bbox.to_array(),
            zone: Some(&event.key.zone),
            track: Some(object.track),
            first_seen: Some(object.first_seen),
        }
    }

    fn of(seen: &'s Detection, bbox: NormBox) -> Self {
        let bbox = bbox.to_array();
        Self { class: &seen.class, score: seen.score, bbox, zone: None, track: None, first_seen: None }
    }
}

/// The side file of an event's picture.
pub(crate) fn of(
    event: &Event,
    role: Role,
    model: &ModelInfo,
    seen: &[Detection],
    blur: &Blur,
    jpeg: &Jpeg,
) -> serde_json::Result<Vec<u8>> {
    let side = Side {
        v: 1,
        picture: PictureInfo { sha256: &jpeg.sha256, width: jpeg.width, height: jpeg.height },
        camera: &event.key.camera,
        captured: event.captured,
        event: event.id,
        sequence: event.sequence,
        phase: PhaseName::from(event.phase),
        role,
        part: event.near.map(NormBox::to_array),
        situation: &event.key.situation,
        zone: &event.key.zone,
        model,
        objects: event.objects.iter().map(|object| Thing::taking_part(object, event)).collect(),
        seen: seen.iter().map(|seen| Thing::of(seen, seen.bbox)).collect(),
        hidden: blur.hidden(seen).map(|(seen, part)| Thing::of(seen, part)).collect(),
    };
    serde_json::to_vec_pretty(&side)
}
