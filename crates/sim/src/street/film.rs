//! A timeline → a clip and its ground truth.

use std::io::{self, Write};
use std::path::Path;

use flow::{Codec, NormBox, NormPoint, Polygon, SituationId, ZoneId};
use serde::Serialize;

use super::dataset::asked_for;
use super::encode::{EncodeError, Encoder};
use super::stage::Stage;
use super::studio::{Picture, Studio};
use super::thing::Class;
use super::timeline::Timeline;
use crate::Clip;

/// A watched part of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct StreetZone {
    /// Its id.
    pub id: ZoneId,
    /// What counts as a situation in it.
    pub situation: Option<SituationId>,
    /// Where.
    pub polygon: Polygon,
}

/// A thing in one picture, as ground truth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TruthBox {
    /// Seconds since the start of the clip.
    pub t: f32,
    /// What.
    pub class: Class,
    /// Left, top, right, bottom; shares of the picture.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// Visible share of it, 0..=1.
    pub visible: f32,
}

/// A situation, as ground truth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TruthSituation {
    /// What.
    pub situation: SituationId,
    /// Where.
    pub zone: ZoneId,
    /// Second at which the first of its things stands in place.
    pub from: f32,
    /// Second at which the last of them is gone.
    pub to: f32,
}

/// What there is to see in a clip.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Truth {
    /// Of every picture, those things of which at least a quarter is visible.
    pub boxes: Vec<TruthBox>,
    /// The situations.
    pub situations: Vec<TruthSituation>,
}

impl Truth {
    /// Writes `stem.boxes.jsonl` (one box a line) and `stem.situations.json`.
    pub fn write(&self, stem: &Path) -> io::Result<()> {
        let mut lines = io::BufWriter::new(std::fs::File::create(stem.with_extension("boxes.jsonl"))?);
        for bbox in &self.boxes {
            serde_json::to_writer(&mut lines, bbox)?;
            lines.write_all(b"\n")?;
        }
        lines.flush()?;
        let file = io::BufWriter::new(std::fs::File::create(stem.with_extension("situations.json"))?);
        serde_json::to_writer_pretty(file, &self.situations).map_err(io::Error::from)
    }
}

/// A clip and what there is to see in it.
#[derive(Debug, Clone)]
pub struct Film {
    /// The pictures, coded.
    pub clip: Clip,
    /// What is in them.
    pub truth: Truth,
}

impl Timeline {
    /// The watched parts of the picture; a zone that is not in the picture is left out.
    pub fn zones(&self) -> Vec<StreetZone> {
        let layout = self.layout();
        let zone = |spec: &super::timeline::ZoneSpec| {
            let corners = layout.strip(spec.at, spec.across, (spec.along, spec.wide));
            let points = corners.into_iter().map(|(x, y)| NormPoint { x, y }).collect();
            let polygon = Polygon::new(points).ok()?;
            Some(StreetZone { id: spec.id.clone(), situation: spec.situation.clone(), polygon })
        };
        self.zones.iter().filter_map(zone).collect()
    }

    /// The situations: acts of the script that happen in a zone where they count.
    pub fn situations(&self) -> Vec<TruthSituation> {
        let stage = Stage::new(self);
        let zones = self.zones();
        let view = stage.layout().view;
        let mut out = Vec::new();
        for (act, held) in self.script.iter().zip(stage.held()) {
            let Some((x, y)) = view.project(held.at) else { continue };
            let at = NormPoint { x: x / view.width, y: y / view.height };
            let counts = |z: &&StreetZone| {
                z.situation.as_ref().is_some_and(|s| s.as_str() == act.situation()) && z.polygon.contains(at)
            };
            for zone in zones.iter().filter(counts) {
                let Some(situation) = zone.situation.clone() else { continue };
                let (from, to) = (held.from.max(0.0), held.to.min(self.seconds));
                out.push(TruthSituation { situation, zone: zone.id.clone(), from, to });
            }
        }
        out
    }

    /// Renders every picture, in order, and gives each to `each` with its number.
    pub fn render<E>(&self, mut each: impl FnMut(u32, Picture) -> Result<(), E>) -> Result<(), E>
    where
        E: From<super::studio::SizeError>,
    {
        let stage = Stage::new(self);
        let mut studio = Studio::new(stage.layout().clone(), self.conditions())?;
        for number in 0..self.frames() {
            let things = stage.things(number as f32 / self.fps as f32);
            each(number, studio.take(&things, self.seed.wrapping_add(u64::from(number))))?;
        }
        Ok(())
    }
}

/// The ground truth of one picture.
pub fn truth_boxes(picture: &Picture, t: f32) -> Vec<TruthBox> {
    let (w, h) = (picture.width as f32, picture.height as f32);
    asked_for(picture)
        .filter_map(|seen| {
            let [x0, y0, x1, y1] = seen.bbox.map(|v| v as f32);
            let bbox = NormBox::clamped(x0 / w, y0 / h, x1 / w, y1 / h)?;
            Some(TruthBox { t, class: seen.class, bbox: bbox.to_array(), visible: seen.visible })
        })
        .collect()
}

/// x265 3.5 on rare occasions damages a picture, so that one too many or too few comes out; then it is asked again.
const TRIES: u32 = 3;

/// Renders and codes a timeline, and keeps its ground truth. `progress` is called with pictures done and in all; it
/// starts again from the first where the H.265 encoder failed and is tried once more.
pub fn film(
    timeline: &Timeline,
    codec: Codec,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Film, EncodeError> {
    for _ in 1..TRIES {
        match film_once(timeline, codec, progress) {
            Err(error @ EncodeError::Stopped { codec: Codec::H265, .. }) => {
                tracing::warn!("{error}; coding again");
            }
            done => return done,
        }
    }
    film_once(timeline, codec, progress)
}

fn film_once(
    timeline: &Timeline,
    codec: Codec,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Film, EncodeError> {
    let mut encoder = Encoder::start(timeline, codec)?;
    let mut truth = Truth { boxes: Vec::new(), situations: timeline.situations() };
    timeline.render(|number, picture| -> Result<(), EncodeError> {
        truth.boxes.extend(truth_boxes(&picture, number as f32 / timeline.fps as f32));
        encoder.push(number, picture)?;
        progress(number + 1, timeline.frames());
        Ok(())
    })?;
    Ok(Film { clip: encoder.finish()?, truth })
}

/// The clip of a timeline, H.264. `progress` is called with pictures done and in all.
pub fn encode(timeline: &Timeline, progress: &mut dyn FnMut(u32, u32)) -> Result<Clip, EncodeError> {
    film(timeline, Codec::H264, progress).map(|film| film.clip)
}
