//! The presets of a camera that turns: each shows other ground, and has zones of its own.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use flow::{Polygon, ZoneId};

use crate::cameras::Cameras;
use crate::check::{Fields, Item, Value};
use crate::ground;
use crate::load::Context;
use crate::mistake::{Path, Problem};
use crate::shape::{Kind, Shape, optional, required};
use crate::shapes::ZONE;
use crate::sources::read_bounded;
use crate::tables::{Model, Watch};
use crate::{Ground, Location, Zone};

/// Bytes of a reference picture.
const MAX_PICTURE: u64 = 16 << 20;

/// One preset (预置位) of a camera that turns.
#[derive(Debug, Clone)]
pub struct Preset {
    /// Unique in its camera.
    pub id: ZoneId,
    /// Pictures of what the camera shows there: JPEG files, for example one by day and one at night. At least one.
    pub references: Vec<PathBuf>,
    /// Which of the camera's zones were drawn on it.
    pub zones: Range<usize>,
    /// Parts of its picture in which nothing counts.
    pub ignore: Arc<[Polygon]>,
    /// Which places it shows.
    pub ground: Option<Ground>,
}

static PRESET: Shape = Shape {
    name: "preset",
    keys: &[
        required("id", Kind::Id, "Unique in its camera."),
        required(
            "references",
            Kind::List(&Kind::Path, 1, 8),
            "Pictures of what the camera shows at this preset, as JPEG files relative to this file: by them it is \
             recognised. One for each kind of light that changes at once, such as day and infrared.",
        ),
        required(
            "zones",
            Kind::List(&Kind::Map(&ZONE), 1, 256),
            "What is watched for where, while the camera shows this preset.",
        ),
        optional(
            "ignore",
            Kind::List(&Kind::Polygon, 0, 256),
            "Parts of its picture in which nothing counts.",
        ),
        optional("ground", ground::KIND, "Which places it shows, by four points."),
    ],
};

impl Cameras<'_, '_, '_> {
    /// Reads the key `presets`. `None`: it is absent, or something is wrong and reported.
    pub(crate) fn presets(
        &mut self,
        fields: &Fields,
        watch: Option<&Watch>,
        model: Option<&Arc<Model>>,
        location: Option<&Location>,
        path: &Path<'_>,
    ) -> Option<Turned> {
        let items = fields.list("presets")?;
        if let Some(zones) = fields.item("zones") {
            let problem =
                Problem::new("stand beside presets", "write each zone into the preset that it was drawn on");
            self.cx.report.add(zones.place, &path.key("zones"), None, problem);
        }
        let path = path.key("presets");
        let (mut presets, mut zones): (Vec<Preset>, Vec<Zone>) = (vec![], vec![]);
        for (index, item) in items.iter().enumerate() {
            let Value::Map(fields) = &item.value else { continue };
            let path = path.index(index);
            let references = self.references(fields, &path.key("references"));
            let own =
                fields.list("zones").and_then(|list| self.zones(list, watch, model, &path.key("zones")));
            let ground = ground::read(fields, location, &path, &mut self.cx.report);
            let Some(id) = fields.item("id").and_then(Item::text).and_then(|id| ZoneId::new(id).ok()) else {
                continue;
            };
            let (Some(references), Some(own)) = (references, own) else { continue };
            let taken = presets.iter().any(|preset| preset.id == id);
            let doubled = own.iter().find(|zone| zones.iter().any(|other| other.id == zone.id));
            if taken {
                let problem = Problem::new("is already used", "preset ids are unique in a camera");
                self.cx.report.add(item.place, &path.key("id"), Some(id.as_str()), problem);
            }
            if let Some(zone) = doubled {
                let problem =
                    Problem::new("is a zone of another preset too", "zone ids are unique in a camera");
                self.cx.report.add(item.place, &path.key("zones"), Some(zone.id.as_str()), problem);
            }
            let first = zones.len();
            zones.extend(own.iter().cloned());
            presets.push(Preset {
                id,
                references,
                zones: first..zones.len(),
                ignore: polygons(fields, "ignore"),
                ground,
            });
        }
        (presets.len() == items.len()).then(|| (presets.into(), zones.into()))
    }

    fn references(&mut self, fields: &Fields, path: &Path<'_>) -> Option<Vec<PathBuf>> {
        let items = fields.list("references")?.iter().enumerate();
        let files: Vec<_> = items.map(|(index, item)| reference(item, &path.index(index), self.cx)).collect();
        files.into_iter().collect()
    }
}

/// The presets, and the zones of all of them in a row.
type Turned = (Arc<[Preset]>, Arc<[Zone]>);

/// Some of them.
pub(crate) const KIND: Kind = Kind::List(&Kind::Map(&PRESET), 1, 64);

/// Whether the file of a reference is there and a picture; its path.
fn reference(item: &Item, path: &Path<'_>, cx: &mut Context<'_>) -> Option<PathBuf> {
    let text = item.text()?;
    let file = cx.resolve(item.place, text);
    let wrong = match read_bounded(&file, MAX_PICTURE) {
        // ITU-T T.81 annex B: start of image, then another marker.
        Ok(bytes) if bytes.starts_with(&[0xff, 0xd8, 0xff]) => {
            cx.hash_more(&bytes);
            return Some(file);
        }
        Ok(_) => Problem::new("is no JPEG file", "expected a picture of this preset, as the camera sends it"),
        Err(problem) => problem,
    };
    cx.report.add(item.place, path, Some(text), wrong);
    None
}

/// The polygons of a list.
pub(crate) fn polygons(fields: &Fields, key: &str) -> Arc<[Polygon]> {
    let items = fields.list(key).unwrap_or_default().iter();
    items
        .filter_map(|item| match &item.value {
            Value::Polygon(polygon) => Some((**polygon).clone()),
            _ => None,
        })
        .collect()
}
