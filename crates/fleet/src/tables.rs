//! What cameras refer to by name: logins, models, situations, classes.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flow::{ClassName, ModelId, Polygon, SituationId, ZoneId};

use crate::calibration::{self, Calibration};
use crate::card::{self, Head};
use crate::check::{Entry, Fields, Item, Value};
use crate::codes::CodeSets;
use crate::gate::GatePart;
use crate::load::Context;
use crate::look::LookPart;
use crate::mistake::{Path, Place, Problem, Report, listed, nearest};
use crate::rules::{self, Clock, ListedClass, ListedClasses};
use crate::sources::read_bounded;
use crate::tiles::{self, Tiles};
use crate::{Certificate, Credentials, Rule, Secret, SecretRef, Situation, Transport, Zone};

/// Bytes of a file that holds a password.
const MAX_SECRET: u64 = 1 << 16;

/// Things by name. A name whose thing is wrong stays known, so that each mistake is reported once.
pub(crate) struct Known<T> {
    what: &'static str,
    things: BTreeMap<Box<str>, Option<Arc<T>>>,
}

impl<T> Known<T> {
    fn read(
        what: &'static str,
        key: &str,
        root: &Fields,
        cx: &mut Context<'_>,
        mut one: impl FnMut(&Entry, &Path<'_>, &mut Context<'_>) -> Option<T>,
    ) -> Self {
        let path = Path::Root.key(key);
        let entries = match root.item(key).map(|item| &item.value) {
            Some(Value::Table(entries)) => entries.as_slice(),
            _ => &[],
        };
        let mut things = BTreeMap::new();
        for entry in entries {
            let thing = one(entry, &path.key(&entry.name), cx).map(Arc::new);
            things.insert(entry.name.clone(), thing);
        }
        Self { what, things }
    }

    /// The thing of this name. Reports a name that nobody gave.
    pub fn find(&self, name: &str, place: Place, path: &Path<'_>, report: &mut Report) -> Option<Arc<T>> {
        if let Some(thing) = self.things.get(name) {
            return thing.clone();
        }
        // What is missing may be in a file that could not be read.
        if !report.incomplete {
            let names = || self.things.keys().map(|name| &**name);
            let expected = match nearest(name, names()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known: {}", listed(names())),
            };
            // A login written where its name belongs is not repeated.
            let secret = self.what == "login" && flow::ModelId::new(name).is_err();
            let problem = Problem::new(format!("is no known {}", self.what), expected);
            report.add(place, path, Some(if secret { "***" } else { name }), problem);
        }
        None
    }

    /// Those that are right.
    pub fn present(&self) -> impl Iterator<Item = &Arc<T>> {
        self.things.values().flatten()
    }
}

/// A model that cameras may name.
pub(crate) struct Model {
    pub id: ModelId,
    pub dir: PathBuf,
    pub classes: Vec<ClassName>,
    pub head: Head,
    /// What its confidence is worth, by situation.
    pub calibrations: BTreeMap<SituationId, Arc<Calibration>>,
}

/// What the cameras of a class share.
pub(crate) struct Class {
    pub name: Arc<str>,
    pub transport: Transport,
    pub certificate: Certificate,
    pub look: LookPart,
    pub gate: GatePart,
    pub tiles: Option<Arc<Tiles>>,
    pub model: Option<Arc<Model>>,
    pub watch: Option<Watch>,
    pub credentials: Option<Arc<Credentials>>,
    pub keep_evidence: Option<Duration>,
    /// Something above is absent because it is wrong.
    pub wrong: bool,
}

/// What is watched for: the rules, and the whole picture with these rules.
#[derive(Clone)]
pub(crate) struct Watch {
    pub rules: Vec<Arc<Rule>>,
    pub whole: Arc<[Zone]>,
}

impl Watch {
    fn new(rules: Vec<Arc<Rule>>) -> Self {
        let id = ZoneId::new("whole").expect("it keeps to the alphabet of ids");
        let whole =
            [Zone { id, polygon: Polygon::whole(), line: None, permitted: None, rules: rules.clone() }]
                .into();
        Self { rules, whole }
    }
}

/// All of them.
pub(crate) struct Tables {
    pub credentials: Known<Credentials>,
    pub models: Known<Model>,
    pub situations: Known<Situation>,
    pub classes: Known<Class>,
    /// Where each situation lists its classes, for messages.
    listed: ListedClasses,
    /// Situations that some camera, zone or class watches for.
    used: RefCell<HashSet<SituationId>>,
    /// The site's clock.
    pub clock: Clock,
    /// Pairs of situation and model that were compared.
    compared: RefCell<HashSet<(SituationId, ModelId)>>,
    /// Rules as they are with a model.
    calibrated: RefCell<HashMap<(SituationId, ModelId), Arc<Rule>>>,
}

impl Tables {
    pub fn read(root: &Fields, cx: &mut Context<'_>) -> Self {
        let mut listed = ListedClasses::new();
        let clock = Clock::read(root, cx);
        let codes = CodeSets::read(root, cx);
        let credentials = Known::read("login", "credentials", root, cx, login);
        let models = Known::read("model", "models", root, cx, model);
        let situations = Known::read("situation", "situations", root, cx, |entry, path, cx| {
            rules::situation(entry, path, &clock, &codes, &models, &mut listed, cx)
        });
        let classes = Known { what: "class", things: BTreeMap::new() };
        let compared = RefCell::default();
        let mut tables = Self {
            credentials,
            models,
            situations,
            classes,
            listed,
            used: RefCell::default(),
            clock,
            compared,
            calibrated: RefCell::default(),
        };
        tables.classes =
            Known::read("class", "classes", root, cx, |entry, path, cx| tables.class(entry, path, cx));
        tables
    }

    fn class(&self, entry: &Entry, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Class> {
        let Value::Map(fields) = &entry.item.value else { return None };
        let model = self.model(fields, path, cx);
        let watch = self.watch(fields, path, cx);
        let credentials = self.login(fields, path, cx).flatten();
        if let (Some(watch), Some(model)) = (&watch, &model) {
            self.compare(&watch.rules, model, fields.item("situations"), path, cx);
        }
        let watch = watch.map(|watch| self.calibrated(watch, model.as_deref()));
        let look = LookPart::read(fields.map("look"));
        if let (Some(look), Some(written)) = (&look, fields.map("look")) {
            look.resolve(written, &path.key("look"), &mut cx.report);
        }
        let absent = |key, there: bool| fields.item(key).is_some() && !there;
        Some(Class {
            name: (*entry.name).into(),
            transport: transport(fields).unwrap_or(Transport::Tcp),
            certificate: certificate(fields).unwrap_or_default(),
            wrong: absent("model", model.is_some()) || absent("situations", watch.is_some()),
            look: look.unwrap_or_default(),
            gate: GatePart::read(fields.item("gate")),
            tiles: tiles::read(fields.item("tiles")).flatten().map(Arc::new),
            model,
            watch,
            credentials,
            keep_evidence: fields.duration("keep_evidence"),
        })
    }

    /// The model that a class or camera names.
    pub fn model(&self, fields: &Fields, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Arc<Model>> {
        let item = fields.item("model")?;
        self.models.find(item.text()?, item.place, &path.key("model"), &mut cx.report)
    }

    /// The login that a class or camera names; `Some(None)` where it says `none`.
    pub fn login(
        &self,
        fields: &Fields,
        path: &Path<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Option<Arc<Credentials>>> {
        let item = fields.item("credentials")?;
        match item.text()? {
            "none" => Some(None),
            name => Some(self.credentials.find(name, item.place, &path.key("credentials"), &mut cx.report)),
        }
    }

    /// The situations that a class, camera or zone names.
    pub fn watch(&self, fields: &Fields, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Watch> {
        let items = fields.list("situations")?;
        let path = path.key("situations");
        let mut rules: Vec<Arc<Rule>> = Vec::with_capacity(items.len());
        let mut complete = true;
        for (index, item) in items.iter().enumerate() {
            let path = path.index(index);
            let found =
                item.text().and_then(|name| self.situations.find(name, item.place, &path, &mut cx.report));
            match found {
                Some(situation) if rules.iter().any(|rule| rule.situation == situation.id) => {
                    let problem = Problem::new("is listed twice", "keep one of them");
                    cx.report.add(item.place, &path, item.text(), problem);
                }
                Some(situation) => {
                    self.used.borrow_mut().insert(situation.id.clone());
                    rules.push(situation.rule.clone());
                }
                None => complete = false,
            }
        }
        complete.then(|| Watch::new(rules))
    }

    /// The same, with what this model's confidence is worth.
    pub fn calibrated(&self, watch: Watch, model: Option<&Model>) -> Watch {
        let Some(model) = model else { return watch };
        if model.calibrations.is_empty() && watch.rules.iter().all(|rule| rule.calibration.is_none()) {
            return watch;
        }
        let rule = |rule: &Arc<Rule>| {
            let mut known = self.calibrated.borrow_mut();
            let made = known.entry((rule.situation.clone(), model.id.clone())).or_insert_with(|| {
                let learned = model.calibrations.get(&rule.situation).filter(|learned| learned.is_of(rule));
                Arc::new(Rule { calibration: learned.cloned(), ..(**rule).clone() })
            });
            made.clone()
        };
        Watch::new(watch.rules.iter().map(rule).collect())
    }

    /// Whether `model` can see what these rules count. `item` is the list that names the situations.
    pub fn compare(
        &self,
        rules: &[Arc<Rule>],
        model: &Model,
        item: Option<&Item>,
        path: &Path<'_>,
        cx: &mut Context<'_>,
    ) {
        for (index, rule) in rules.iter().enumerate() {
            if !self.compared.borrow_mut().insert((rule.situation.clone(), model.id.clone())) {
                continue;
            }
            for class in rule.kind.classes().filter(|class| !model.classes.contains(class)) {
                let able = self.models.present().filter(|m| m.classes.contains(class));
                let able = listed(able.map(|m| m.id.as_str()));
                if able == "none" {
                    continue; // Reported where the situation lists it.
                }
                let class = class.as_str();
                let problem = format!("counts {class:?}, which the model {} does not know", model.id);
                let known = listed(model.classes.iter().map(ClassName::as_str));
                let problem = Problem::new(
                    problem,
                    format!("{} knows {known}; {class:?} is known by: {able}", model.id),
                );
                let (list, key) = (item.and_then(list_of), path.key("situations"));
                match list.and_then(|list| list.get(index)) {
                    Some(named) => {
                        cx.report.add(named.place, &key.index(index), Some(rule.situation.as_str()), problem);
                    }
                    None => {
                        let place = item.map_or(Place { file: 0, line: 1, column: 1 }, |item| item.place);
                        cx.report.add(place, &path.key("model"), Some(model.id.as_str()), problem);
                    }
                }
            }
        }
    }

    /// Classes that no configured model knows, of the situations that somebody watches for: a library may hold more.
    pub fn check_class_names(&self, cx: &mut Context<'_>) {
        // A model whose card is wrong may know them.
        if cx.report.incomplete || self.models.things.values().any(Option::is_none) {
            return;
        }
        let known: HashSet<&ClassName> = self.models.present().flat_map(|model| &model.classes).collect();
        let used = self.used.borrow();
        for (situation, classes) in self.listed.iter().filter(|(situation, _)| used.contains(*situation)) {
            for ListedClass { class, place, path } in classes {
                if known.is_empty() || known.contains(class) {
                    continue;
                }
                let names = || known.iter().map(|class| class.as_str());
                let near = nearest(class.as_str(), names()).map(|near| format!("did you mean {near:?}? "));

                let mut sorted: Vec<&str> = names().collect();
                sorted.sort_unstable();
                let expected = format!("{}they know {}", near.unwrap_or_default(), listed(sorted));
                let path = format!("situations.{situation}.rule.{path}");
                let problem = Problem::new("is known by none of the configured models", expected);
                cx.report.add_named(*place, path, Some(class.as_str()), problem);
            }
        }
    }
}

fn list_of(item: &Item) -> Option<&[Item]> {
    match &item.value {
        Value::List(items) => Some(items),
        _ => None,
    }
}

/// How media travel, where it is written.
pub(crate) fn transport(fields: &Fields) -> Option<Transport> {
    match fields.item("transport")?.text()? {
        "udp" => Some(Transport::Udp),
        _ => Some(Transport::Tcp),
    }
}

/// Whose certificate is believed, where it is written.
pub(crate) fn certificate(fields: &Fields) -> Option<Certificate> {
    match fields.item("certificate")?.text()? {
        "any" => Some(Certificate::Any),
        _ => Some(Certificate::Checked),
    }
}

fn login(entry: &Entry, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Credentials> {
    let Value::Map(fields) = &entry.item.value else { return None };
    let part = |key, cx: &mut Context<'_>| {
        let item = fields.item(key)?;
        let text = item.text()?;
        let resolved = secret_ref(text, item, cx).map_or(Ok(text.to_owned()), |at| resolve(&at, cx.env));
        resolved.map_err(|problem| cx.report.add(item.place, &path.key(key), Some(text), problem)).ok()
    };
    let (user, password) = (part("user", cx), part("password", cx));
    Some(Credentials { user: user?, password: Secret::new(password?) })
}

pub(crate) fn secret_ref(text: &str, item: &Item, cx: &Context<'_>) -> Option<SecretRef> {
    match text.split_once(':') {
        Some(("env", name)) => Some(SecretRef::Env(name.to_owned())),
        Some(("file", path)) => Some(SecretRef::File(cx.resolve(item.place, path))),
        _ => None,
    }
}

/// The secret itself.
pub(crate) fn resolve(at: &SecretRef, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    match at {
        SecretRef::Env(name) => match env(name) {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(Problem::new("is empty", format!("set the environment variable {name}"))),
            None => Err(Problem::new("is not set", format!("set the environment variable {name}"))),
        },
        SecretRef::File(path) => {
            let expected =
                |what: &str| Problem::new(what, format!("expected the secret in {}", path.display()));
            let bytes = read_bounded(path, MAX_SECRET).map_err(|problem| expected(&problem.problem))?;
            let text = String::from_utf8(bytes).map_err(|_| expected("is not UTF-8"))?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
    }
}

fn model(entry: &Entry, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Model> {
    let text = entry.item.text()?;
    let dir = cx.resolve(entry.item.place, text);
    if !dir.is_dir() {
        let problem =
            Problem::new("is no folder", format!("expected one with a card.yaml at {}", dir.display()));
        cx.report.add(entry.item.place, path, Some(text), problem);
        return None;
    }
    let incomplete = cx.report.incomplete;
    let card = card::read(&dir, card::FileNeed::Pulled, &mut cx.report, &mut cx.hash);
    let calibrations =
        card.as_ref().map(|card| calibration::read(card, &mut cx.report, &mut cx.hash)).unwrap_or_default();
    // A card that cannot be read hides no names: only its own classes are unknown.
    cx.report.incomplete = incomplete;
    let card = card?;
    if *entry.name != *card.id.as_str() {
        let problem =
            Problem::new(format!("is the folder of the model {:?}", card.id.as_str()), "use its own name");
        cx.report.add(entry.place, path, Some(text), problem);
        return None;
    }
    Some(Model { id: card.id, dir, classes: card.classes, head: card.head, calibrations })
}
