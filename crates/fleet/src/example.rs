//! The shipped example is the manual: every key stands in it, and what has a default has exactly that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};

use sha2::{Digest, Sha256};

use crate::Fleet;
use crate::mistake::Report;
use crate::shape::{Kind, Need, Shape};
use crate::shapes::{ROOT, all_keys};
use crate::tree::{Node, Tree, View, parse};

fn configs() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

/// The example and the library that it includes.
fn example_files() -> Vec<PathBuf> {
    let library = std::fs::read_dir(configs().join("situations")).unwrap();
    let library = library.map(|entry| entry.unwrap().path());
    [configs().join("huiyan.yaml")].into_iter().chain(library).collect()
}

/// Collects the keys that are written, and those that stand somewhere with their default.
struct Walk<'t> {
    tree: &'t Tree,
    written: BTreeSet<String>,
    at_default: BTreeSet<String>,
}

impl Walk<'_> {
    fn kind(&mut self, node: Node, kind: &'static Kind) {
        match (kind, self.tree.view(node)) {
            (Kind::Map(shape), View::Map(_)) => self.map(node, shape),
            (Kind::Table(of), View::Map(pairs)) => pairs.iter().for_each(|pair| self.kind(pair.node, of)),
            (Kind::List(of, ..), View::List(nodes)) => nodes.iter().for_each(|node| self.kind(*node, of)),
            (Kind::WordOr(_, of), View::Map(_)) => self.kind(node, of),
            _ => {}
        }
    }

    fn map(&mut self, node: Node, shape: &'static Shape) {
        let View::Map(pairs) = self.tree.view(node) else { return };
        for pair in pairs.iter() {
            let key = &shape.keys[shape.position(pair.key).unwrap()];
            self.written.insert(format!("{}.{}", shape.name, key.name));
            let text = match self.tree.view(pair.node) {
                View::Text { text, .. } => text.to_owned(),
                View::List(items) => {
                    let items = items.iter().map(|item| match self.tree.view(*item) {
                        View::Text { text, .. } => text,
                        _ => "",
                    });
                    format!("[{}]", items.collect::<Vec<_>>().join(", "))
                }
                _ => String::new(),
            };
            if matches!(key.need, Need::Default(default) if default == text) {
                self.at_default.insert(format!("{}.{}", shape.name, key.name));
            }
            self.kind(pair.node, &key.kind);
        }
    }
}

static ROOT_KIND: Kind = Kind::Map(&ROOT);

/// `map.key` of every key below a kind, and whether it has a default.
fn keys_of(kind: &'static Kind, out: &mut BTreeMap<String, bool>) {
    match kind {
        Kind::Map(shape) => {
            for key in shape.keys {
                out.insert(format!("{}.{}", shape.name, key.name), matches!(key.need, Need::Default(_)));
                keys_of(&key.kind, out);
            }
        }
        Kind::Table(of) | Kind::List(of, ..) | Kind::WordOr(_, of) => keys_of(of, out),
        _ => {}
    }
}

#[test]
fn the_example_shows_every_key_at_its_default() {
    let mut report = Report::default();
    let mut written = BTreeSet::new();
    let mut at_default = BTreeSet::new();
    let mut comments = String::new();
    for path in example_files() {
        let text = std::fs::read_to_string(path).unwrap();
        let tree = parse(&text, 0, &mut report).unwrap();
        let mut walk = Walk { tree: &tree, written: BTreeSet::new(), at_default: BTreeSet::new() };
        walk.kind(tree.root, &ROOT_KIND);
        written.append(&mut walk.written);
        at_default.append(&mut walk.at_default);
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with('#'));
        comments.extend(lines.map(|line| format!("{line}\n")));
    }
    let mut all = BTreeMap::new();
    keys_of(&ROOT_KIND, &mut all);
    // Elsewhere a key may stand with another value: the classes differ from each other on purpose.
    let with_default = all.iter().filter(|(_, default)| **default).map(|(key, _)| key);
    // `confirm` needs a model of one's own, so it stands in a comment, with its defaults.
    let told = |key: &str| {
        let confirm =
            all_keys().into_iter().find(|(map, k)| *map == "confirm" && key == format!("confirm.{}", k.name));
        confirm.is_some_and(|(_, key)| match key.need {
            Need::Default(text) => comments.contains(&format!("{}: {text}", key.name)),
            _ => false,
        })
    };
    let never: Vec<_> = with_default.filter(|key| !at_default.contains(*key) && !told(key)).collect();
    assert!(never.is_empty(), "nowhere at their defaults: {never:?}");
    // What is optional may be explained in a comment, as are a camera's keys that are those of its class.
    let explained = |key: &str| {
        let (map, name) = key.split_once('.').unwrap();
        comments.lines().any(|line| line.trim_start_matches(['#', ' ']).starts_with(&format!("{name}:")))
            || (map == "login" && comments.contains(&format!("{name}: ")))
            || (map == "confirm" && comments.contains(&format!("{name}: ")))
            || (map == "fps" && comments.contains("{fps: "))
            || (map == "camera" && comments.contains(name))
    };
    let missing: Vec<_> = all.keys().filter(|key| !written.contains(*key) && !explained(key)).collect();
    assert!(missing.is_empty(), "neither written nor explained: {missing:?}");
}

/// Loads the example beside a made-up model, once as it is and once without every line that only says a default.
#[test]
fn the_example_loads_and_its_defaults_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (configs_copy, model) = (dir.path().join("configs"), dir.path().join("models/street-demo"));
    std::fs::create_dir_all(&configs_copy).unwrap();
    std::fs::create_dir_all(&model).unwrap();
    std::fs::write(model.join("model.onnx"), "no model, but a file").unwrap();
    let hash = crate::card::hex(&Sha256::digest("no model, but a file"));
    std::fs::write(
        model.join("card.yaml"),
        format!(
            "id: street-demo\nversion: \"1\"\nlicence: Apache-2.0\nsource: a test\nsha256: {hash}\n\
             input: {{width: 416, height: 256, channels: bgr, resize: stretch}}\nhead: yolox\n\
             classes: [person, car, tricycle, umbrella, goods, barrier, boxes]\n"
        ),
    )
    .unwrap();
    let example = std::fs::read_to_string(configs().join("huiyan.yaml")).unwrap();
    for folder in ["situations", "codesets"] {
        std::fs::create_dir(configs_copy.join(folder)).unwrap();
        for entry in std::fs::read_dir(configs().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, configs_copy.join(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
    let load = |text: &str| {
        std::fs::write(configs_copy.join("huiyan.yaml"), text).unwrap();
        let fleet = Fleet::load_with(&configs_copy.join("huiyan.yaml"), &|_| None);
        let mut fleet = fleet.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        fleet.config_hash.clear();
        fleet
    };
    let written = load(&example);
    assert_eq!(written.cameras.len(), 3);
    assert_eq!(written.situations.len(), 13);
    let code = written.situations[&flow::SituationId::new("street_vending").unwrap()].code.as_ref().unwrap();
    assert_eq!((&*code.set, &*code.code, &*code.name), ("cjt214", "0501", "无照经营游商"));

    let defaults = [
        "worker: worker-1\n",
        "data_dir: data\n",
        "timezone: Asia/Shanghai\n",
        "  url: mqtt://127.0.0.1:1883\n",
        "  return_after: 5min\n",
        "  version: auto\n",
        "  connect_timeout: 5s\n",
        "  keep_alive: 10s\n",
        "  will_delay: 5s\n",
        "  session_expiry: 7d\n",
        "  message_expiry: 24h\n",
        "  keep_sent: 10s\n",
        "  listen: 127.0.0.1:8080\n",
        "  decode_threads: 0\n",
        "  infer_sessions: 0\n",
        "  infer_threads: 0\n",
        "  max_batch: 16\n",
        "  max_delay: 50ms\n",
        "  evidence_max_bytes: 10GiB\n",
        "    transport: tcp\n",
        "    certificate: checked\n",
        "      sampling: keyframes\n",
        "      at_most_every: 1s\n",
        "      at_least_every: 10s\n",
        "      on_long_keys: decode\n",
        "      priority: normal\n",
        "    credentials: none\n",
        "      crs: wgs84\n",
    ];
    let mut short = example;
    for line in defaults {
        assert!(short.contains(line), "{line}");
        short = short.replacen(line, "", 1);
    }
    assert_eq!(format!("{:#?}", load(&short)), format!("{written:#?}"));
}

/// The model that the example names, once it is there.
#[test]
#[allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]
fn the_example_loads_with_the_shipped_model() {
    if !configs().join("../models/street-demo/card.yaml").exists() {
        println!("skipped: models/street-demo is not there");
        return;
    }
    let fleet = Fleet::load_with(&configs().join("huiyan.yaml"), &|_| None);
    fleet.unwrap_or_else(|mistakes| panic!("{mistakes}"));
}
