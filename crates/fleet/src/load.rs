//! Files → [`Fleet`]: read all, check the form, then the meaning, and report everything that is wrong.

use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};

use flow::SituationId;
use sha2::{Digest, Sha256};

use crate::cameras::Cameras;
use crate::card::hex;
use crate::check::{Entry, Fields, Item, Value};
use crate::mistake::{Mistakes, Path, Place, Problem, Report};
use crate::shapes::{DESK, NODE, ROOT};
use crate::sources::Reader;
use crate::tables::{Known, Tables};
use crate::{Credentials, Decoding, Desk, Fleet, Node, Pictures, Provider, broker, evidence, hardware};

/// Looks up an environment variable.
type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What every step of loading needs.
pub(crate) struct Context<'e> {
    pub report: Report,
    pub hash: Sha256,
    pub env: Env<'e>,
}

impl Context<'_> {
    /// Makes what a file holds part of the configuration's hash.
    pub fn hash_more(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// A path of the configuration: relative to the file that holds it.
    pub fn resolve(&self, place: Place, path: &str) -> PathBuf {
        self.report.file(place).parent().unwrap_or(FilePath::new("")).join(path)
    }
}

impl Fleet {
    /// Loads a configuration and everything that it includes, with the secrets of this process's environment.
    ///
    /// # Errors
    /// All mistakes at once, each with its place.
    pub fn load(path: &FilePath) -> Result<Self, Mistakes> {
        Self::load_with(path, &|name| std::env::var(name).ok())
    }

    /// The same with other environment variables.
    ///
    /// # Errors
    /// All mistakes at once, each with its place.
    pub fn load_with(path: &FilePath, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        load(env, |reader| reader.read(path))
    }

    /// Loads a configuration that is not in a file; its paths are relative to `base_dir`, and messages
    /// call it `base_dir/<text>`.
    ///
    /// # Errors
    /// All mistakes at once, each with its place.
    pub fn from_yaml_str(text: &str, base_dir: &FilePath) -> Result<Self, Mistakes> {
        Self::from_yaml_str_with(text, base_dir, &|name| std::env::var(name).ok())
    }

    /// The same with other environment variables.
    ///
    /// # Errors
    /// All mistakes at once, each with its place.
    pub fn from_yaml_str_with(
        text: &str,
        base_dir: &FilePath,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Mistakes> {
        let path = base_dir.join("<text>");
        load(env, |reader| {
            let number = reader.report.add_file(&path);
            reader.text(text, number, &path, path.clone());
        })
    }
}

fn load(env: Env<'_>, read: impl FnOnce(&mut Reader<'_>)) -> Result<Fleet, Mistakes> {
    let mut cx = Context { report: Report::default(), hash: Sha256::new(), env };
    let mut reader = Reader::new(&mut cx.report, &mut cx.hash);
    read(&mut reader);
    let mut roots = reader.roots;
    // Cameras are not merged: messages count them within their own file.
    let cameras: Vec<Item> = roots.iter_mut().filter_map(|root| root.take("cameras")).collect();
    let root = merged(roots, &mut cx.report);
    let fleet = build(&root, cameras, &mut cx);
    cx.report.finish(fleet)
}

fn build(root: &Fields, cameras: Vec<Item>, cx: &mut Context<'_>) -> Option<Fleet> {
    let start = Place { file: 0, line: 1, column: 1 };
    if root.item("site").is_none() && !cx.report.incomplete {
        let problem = Problem::new("is missing", "expected the name of the site, part of every MQTT topic");
        cx.report.add(start, &Path::Root.key("site"), None, problem);
    }
    let tables = Tables::read(root, cx);
    let broker = broker::read(root, &tables.credentials, cx);
    let evidence = evidence::read(root, &tables.credentials, cx);
    let desk = desk(root, &tables.credentials, cx);
    let telemetry = crate::telemetry::read(root, cx);
    let node = node(root, cx);
    let cameras = Cameras::new(&tables, cx).read(cameras);
    tables.check_class_names(cx);
    let data_dir = root.text("data_dir");
    let data_place = root.item("data_dir").map_or(start, |item| item.place);
    if !cx.report.is_clean() {
        return None;
    }
    let situations = tables.situations.present().map(|s| (s.id.clone(), s.clone())).collect();
    let models = tables.models.present().map(|m| (m.id.clone(), m.dir.clone())).collect();
    let (evidence, desk) = (evidence?, desk?);
    Some(Fleet {
        site: root.text("site")?.into(),
        worker: root.text("worker")?.into(),
        data_dir: cx.resolve(data_place, &data_dir?),
        broker: broker?,
        desk: Desk { store: desk.store.or_else(|| evidence.store.clone()), ..desk },
        evidence,
        telemetry: telemetry?,
        node: node?,
        models,
        situations,
        cameras,
        config_hash: hex(&std::mem::take(&mut cx.hash).finalize()),
    })
}

fn desk(root: &Fields, logins: &Known<Credentials>, cx: &mut Context<'_>) -> Option<Desk> {
    let empty = Fields::empty(&DESK);
    let fields = root.map("desk").unwrap_or(&empty);
    let store = evidence::store(fields, &Path::Root.key("desk"), logins, cx);
    Some(Desk { listen: fields.listen("listen")?, store: store? })
}

fn node(root: &Fields, cx: &mut Context<'_>) -> Option<Node> {
    let empty = Fields::empty(&NODE);
    let fields = root.map("node").unwrap_or(&empty);
    let (decoder, providers) = (decoder(&fields.text("decoder")?)?, providers(fields)?);
    let pictures = pictures(&fields.text("pictures")?)?;
    let cuda_graphs = &*fields.text("cuda_graphs")? == "on";
    for (key, needs) in hardware::at_odds(decoder, &providers, pictures, cuda_graphs) {
        // Neither is so by itself, so it was written.
        if let Some(item) = fields.item(key) {
            let path = Path::Root.key("node");
            cx.report.add(
                item.place,
                &path.key(key),
                item.text(),
                Problem::new("is not possible here", needs),
            );
        }
    }
    let library = fields.item("onnxruntime").and_then(|item| Some(cx.resolve(item.place, item.text()?)));
    let engines = fields.item("engines").and_then(|item| Some(cx.resolve(item.place, item.text()?)));
    Some(Node {
        starts_per_second: fields.whole("starts_per_second")? as u32,
        setups_per_host: fields.whole("setups_per_host")? as usize,
        setups_per_subnet: fields.whole("setups_per_subnet")? as usize,
        frozen_after: fields.duration("frozen_after")?,
        dark_after: fields.duration("dark_after")?,
        decoder,
        providers,
        pictures,
        cuda_graphs,
        engines,
        decode_threads: fields.whole("decode_threads")? as usize,
        infer_sessions: fields.whole("infer_sessions")? as usize,
        infer_threads: fields.whole("infer_threads")? as usize,
        max_batch: fields.whole("max_batch")? as usize,
        max_delay: fields.duration("max_delay")?,
        onnxruntime: library,
        evidence_max_bytes: fields.whole("evidence_max_bytes")?,
        outbox_max_bytes: fields.whole("outbox_max_bytes"),
    })
}

fn decoder(name: &str) -> Option<Decoding> {
    Decoding::ALL.into_iter().find(|decoding| decoding.name() == name)
}

fn pictures(name: &str) -> Option<Pictures> {
    Pictures::ALL.into_iter().find(|pictures| pictures.name() == name)
}

fn providers(fields: &Fields) -> Option<Vec<Provider>> {
    let Some(items) = fields.list("providers") else {
        return fields.item("providers").is_none().then(|| vec![Provider::Cpu]);
    };
    let provider = |item: &Item| Provider::ALL.into_iter().find(|p| Some(p.name()) == item.text());
    items.iter().map(provider).collect()
}

/// One configuration out of those of all files.
fn merged(roots: Vec<Fields>, report: &mut Report) -> Fields {
    let mut all = Fields::empty(&ROOT);
    for root in roots {
        merge(&mut all, root, &Path::Root, report);
    }
    all
}

fn merge(into: &mut Fields, from: Fields, path: &Path<'_>, report: &mut Report) {
    for (key, item) in from.written() {
        let path = path.key(key.name);
        let Some(present) = into.slot(key.name) else { continue };
        let Some(mine) = present else {
            *present = Some(item);
            continue;
        };
        match (&mut mine.value, item.value) {
            (Value::Map(mine), Value::Map(theirs)) => merge(mine, theirs, &path, report),
            (Value::Table(mine), Value::Table(theirs)) => join(mine, theirs, &path, report),
            (Value::Bad, theirs) => mine.value = theirs,
            (_, Value::Bad) => {}
            _ => twice(report, item.place, &path, mine.place),
        }
    }
}

fn join(mine: &mut Vec<Entry>, theirs: Vec<Entry>, path: &Path<'_>, report: &mut Report) {
    let first: HashMap<Box<str>, Place> =
        mine.iter().map(|entry| (entry.name.clone(), entry.place)).collect();
    for entry in theirs {
        match first.get(&entry.name) {
            Some(first) => twice(report, entry.place, &path.key(&entry.name), *first),
            None => mine.push(entry),
        }
    }
}

fn twice(report: &mut Report, place: Place, path: &Path<'_>, first: Place) {
    let problem = format!("is written twice: first at {}", report.name(first));
    report.add(place, path, None, Problem::new(problem, "keep one of them"));
}

/// A situation's id out of a text whose form was checked.
pub(crate) fn situation_id(text: &str) -> Option<SituationId> {
    SituationId::new(text).ok()
}
