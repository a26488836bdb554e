//! The cameras, each with what its class gives it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use flow::{CameraId, NormPoint, ZoneId};
use url::Url;

use crate::check::{Fields, Item, Value};
use crate::gate::GatePart;
use crate::load::Context;
use crate::look::LookPart;
use crate::mistake::{Path, Place, Problem};
use crate::presets::polygons;
use crate::tables::{Class, Model, Tables, Watch, certificate, transport};
use crate::{Camera, Location, Look, OnLongKeys, Preset, Rule, RuleKind, Zone};
use crate::{ground, tiles};

/// What looks at a camera, and at what.
struct Watched {
    model: Arc<Model>,
    presets: Arc<[Preset]>,
    zones: Arc<[Zone]>,
}

/// Reads cameras; remembers the ids and the texts that many of them share.
pub(crate) struct Cameras<'t, 'c, 'e> {
    tables: &'t Tables,
    pub(crate) cx: &'c mut Context<'e>,
    ids: HashMap<Box<str>, Place>,
    texts: HashSet<Arc<str>>,
}

impl<'t, 'c, 'e> Cameras<'t, 'c, 'e> {
    pub fn new(tables: &'t Tables, cx: &'c mut Context<'e>) -> Self {
        Self { tables, cx, ids: HashMap::new(), texts: HashSet::new() }
    }

    /// Reads the `cameras` of all files, in their order.
    pub fn read(&mut self, lists: Vec<Item>) -> Vec<Arc<Camera>> {
        let mut cameras = vec![];
        let path = Path::Root.key("cameras");
        for list in lists {
            let Value::List(items) = list.value else { continue };
            cameras.reserve_exact(items.len());
            for (index, item) in items.into_iter().enumerate() {
                if let Value::Map(fields) = &item.value
                    && let Some(camera) = self.camera(fields, item.place, &path.index(index))
                {
                    cameras.push(Arc::new(camera));
                }
            }
        }
        cameras
    }

    /// Checks everything before it gives up, so that all mistakes are seen.
    fn camera(&mut self, fields: &Fields, place: Place, path: &Path<'_>) -> Option<Camera> {
        let id = self.id(fields, path);
        let class = self.class(fields, path);
        let own_model = self.tables.model(fields, path, self.cx);
        let own_login = self.tables.login(fields, path, self.cx);
        let own_watch = self.tables.watch(fields, path, self.cx);
        let location = self.location(fields, path);
        let ground = ground::read(fields, location.as_ref(), path, &mut self.cx.report);
        let own = (own_model.as_ref(), own_watch);
        let watched = self.watched(fields, class.as_deref(), own, location.as_ref(), (place, path));
        let class = class?;
        let look = self.look(fields, &class, path);
        let other_url = self.other_url(fields, look.as_ref(), place, path);
        let credentials = own_login.unwrap_or_else(|| class.credentials.clone());
        let Watched { model, presets, zones } = watched?;
        Some(Camera {
            id: id?,
            name: fields.text("name").map(Arc::from),
            address: self.shared(fields, "address"),
            grid: self.shared(fields, "grid"),
            location,
            ground,
            url: fields.url("url")?,
            other_url: other_url?,
            certificate: certificate(fields).unwrap_or(class.certificate),
            credentials,
            transport: transport(fields).unwrap_or(class.transport),
            look: look?,
            gate: GatePart::read(fields.item("gate")).or(class.gate).filled(),
            tiles: tiles::read(fields.item("tiles"))
                .map_or_else(|| class.tiles.clone(), |own| own.map(Arc::new)),
            model: model.id.clone(),
            presets,
            zones,
            ignore: polygons(fields, "ignore"),
            masks: polygons(fields, "masks"),
            keep_evidence: class.keep_evidence,
            class: class.name.clone(),
        })
    }

    /// `None`: there is none where there should be one.
    fn other_url(
        &mut self,
        fields: &Fields,
        look: Option<&Look>,
        place: Place,
        path: &Path<'_>,
    ) -> Option<Option<Url>> {
        if fields.item("other_url").is_some() {
            return fields.url("other_url").map(Some);
        }
        if look.is_some_and(|look| look.on_long_keys == OnLongKeys::OtherStream) {
            let problem = Problem::new(
                "is missing",
                "look.on_long_keys: other_stream needs the address of the camera's other stream here",
            );
            self.cx.report.add(place, &path.key("other_url"), None, problem);
            return None;
        }
        Some(None)
    }

    fn id(&mut self, fields: &Fields, path: &Path<'_>) -> Option<CameraId> {
        let item = fields.item("id")?;
        let text = item.text()?;
        if let Some(first) = self.ids.insert(text.into(), item.place) {
            let problem = format!("is already used at {}", self.cx.report.name(first));
            let problem = Problem::new(problem, "camera ids are unique in a site");
            self.cx.report.add(item.place, &path.key("id"), Some(text), problem);
        }
        CameraId::new(text).ok()
    }

    fn class(&mut self, fields: &Fields, path: &Path<'_>) -> Option<Arc<Class>> {
        let item = fields.item("class")?;
        self.tables.classes.find(item.text()?, item.place, &path.key("class"), &mut self.cx.report)
    }

    /// The model that looks and the zones that it looks at.
    fn watched(
        &mut self,
        fields: &Fields,
        class: Option<&Class>,
        (own_model, own_watch): (Option<&Arc<Model>>, Option<Watch>),
        location: Option<&Location>,
        (place, path): (Place, &Path<'_>),
    ) -> Option<Watched> {
        // What is written and absent here is wrong, and reported.
        let written = |key| fields.item(key).is_some();
        let wrong = class.is_none_or(|class| class.wrong);
        let from_class = class.and_then(|class| class.model.as_ref());
        let model = if written("model") { own_model } else { from_class };
        let from_class = class.and_then(|class| class.watch.as_ref());
        // The class's own is calibrated for its own model.
        let watch = match (written("situations"), written("model")) {
            (false, false) => from_class.cloned(),
            (true, _) => own_watch.map(|own| self.tables.calibrated(own, model.map(|model| &**model))),
            (false, true) => {
                from_class.map(|watch| self.tables.calibrated(watch.clone(), model.map(|model| &**model)))
            }
        };
        let watch = watch.as_ref();
        if model.is_none() && !written("model") && !wrong {
            let problem = Problem::new("is missing", "name one here or in the camera's class");
            self.cx.report.add(place, &path.key("model"), None, problem);
        }
        if let (Some(model), Some(watch)) = (model, watch) {
            let item = fields.item("situations").or(fields.item("model"));
            self.tables.compare(&watch.rules, model, item, path, self.cx);
        }
        let presets = self.presets(fields, watch, model, location, path);
        let zones = match fields.list("zones") {
            Some(items) => self.zones(items, watch, model, &path.key("zones")),
            None if written("zones") || written("presets") => None,
            None => watch.map(|watch| watch.whole.clone()),
        };
        let silent = watch.is_none() && !written("situations") && !wrong;
        if zones.is_none() && silent && !written("zones") && !written("presets") {
            let problem =
                Problem::new("is missing", "say what is watched for here, in its zones or in its class");
            self.cx.report.add(place, &path.key("situations"), None, problem);
        }
        let (presets, zones) = match presets {
            Some(both) => both,
            None if written("presets") => return None,
            None => (Arc::from([]), zones?),
        };
        Some(Watched { model: model?.clone(), presets, zones })
    }

    pub(crate) fn zones(
        &mut self,
        items: &[Item],
        watch: Option<&Watch>,
        model: Option<&Arc<Model>>,
        path: &Path<'_>,
    ) -> Option<Arc<[Zone]>> {
        let mut zones: Vec<Zone> = Vec::with_capacity(items.len());
        let mut places = vec![];
        for (index, item) in items.iter().enumerate() {
            let Value::Map(fields) = &item.value else { continue };
            let path = path.index(index);
            let own = self.tables.watch(fields, &path, self.cx);
            let own = own.map(|own| self.tables.calibrated(own, model.map(|model| &**model)));
            if let (Some(own), Some(model)) = (&own, model) {
                self.tables.compare(&own.rules, model, fields.item("situations"), &path, self.cx);
            }
            let rules = match fields.item("situations") {
                Some(_) => own.map(|own| own.rules),
                None => watch.map(|watch| watch.rules.clone()),
            };
            let Some(id) = fields.item("id").and_then(Item::text).and_then(|id| ZoneId::new(id).ok()) else {
                continue;
            };
            if let Some(first) = zones.iter().position(|zone| zone.id == id) {
                let problem = format!("is already used at {}", self.cx.report.name(places[first]));
                let problem = Problem::new(problem, "zone ids are unique in a camera");
                let place = fields.item("id").unwrap_or(item).place;
                self.cx.report.add(place, &path.key("id"), Some(id.as_str()), problem);
            }
            if let (Some(rules), Some(Value::Polygon(polygon))) =
                (rules, fields.item("polygon").map(|item| &item.value))
            {
                let line = self.line(fields, &rules, item.place, &path);
                let permitted = self.tables.clock.calendar(fields, "permitted", &path, self.cx);
                places.push(item.place);
                zones.push(Zone { id, polygon: (**polygon).clone(), rules, line, permitted });
            }
        }
        (zones.len() == items.len()).then(|| zones.into())
    }

    /// The zone's line, which a rule `cross` needs.
    fn line(
        &mut self,
        fields: &Fields,
        rules: &[Arc<Rule>],
        place: Place,
        path: &Path<'_>,
    ) -> Option<[NormPoint; 2]> {
        let crossing = rules.iter().find(|rule| matches!(rule.kind, RuleKind::Cross(_)));
        if let (None, Some(rule)) = (fields.item("line"), crossing) {
            let problem = format!("is missing: {} watches it", rule.situation);
            let problem = Problem::new(problem, "expected two points, [[x, y], [x, y]]");
            self.cx.report.add(place, &path.key("line"), None, problem);
        }
        let ends: Vec<_> = fields.list("line")?.iter().filter_map(point).collect();
        let line = <[NormPoint; 2]>::try_from(ends).ok()?;
        if line[0] == line[1] {
            let place = fields.item("line").map_or(place, |item| item.place);
            let problem = Problem::new("has no length", "expected two different points");
            self.cx.report.add(place, &path.key("line"), None, problem);
        }
        Some(line)
    }

    fn look(&mut self, fields: &Fields, class: &Class, path: &Path<'_>) -> Option<Look> {
        let own = LookPart::read(fields.map("look"))?;
        let look = own.or(class.look);
        match fields.map("look") {
            Some(written) if own != LookPart::default() => {
                look.resolve(written, &path.key("look"), &mut self.cx.report)
            }
            // Contradictions within a class are reported there.
            _ => look.filled(),
        }
    }

    fn location(&mut self, fields: &Fields, path: &Path<'_>) -> Option<Location> {
        let fields = fields.map("location")?;
        let (x, y, crs) = (fields.number("x")?, fields.number("y")?, fields.text("crs")?);
        // CGCS2000 is also used in projected form, in metres.
        let limits = if &*crs == "cgcs2000" { [1e8, 1e8] } else { [180.0, 90.0] };
        let path = path.key("location");
        for (key, value, limit) in [("x", x, limits[0]), ("y", y, limits[1])] {
            if let Some(item) = fields.item(key)
                && value.abs() > limit
            {
                let problem =
                    Problem::new("is out of range", format!("{crs} is in degrees: -{limit} to {limit}"));
                self.cx.report.add(item.place, &path.key(key), Some(&value.to_string()), problem);
            }
        }
        Some(Location { x, y, crs: self.intern(&crs) })
    }

    fn shared(&mut self, fields: &Fields, key: &str) -> Option<Arc<str>> {
        fields.text(key).map(|text| self.intern(&text))
    }

    /// One copy of a text that many cameras have.
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }
}

fn point(item: &Item) -> Option<NormPoint> {
    let Value::List(ends) = &item.value else { return None };
    match (&ends.first()?.value, &ends.get(1)?.value) {
        (Value::Number(x), Value::Number(y)) => Some(NormPoint { x: *x as f32, y: *y as f32 }),
        _ => None,
    }
}
