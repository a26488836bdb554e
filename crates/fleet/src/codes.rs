//! National numberings of situations: data, versioned, since they disagree with each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Code;
use crate::check::{Entry, Fields, Value};
use crate::load::Context;
use crate::mistake::{Path, Place, Problem, listed, nearest};
use crate::rule_shapes::CODE_SET;
use crate::sources::{read_map, read_text};

/// Bytes of a file of numbers.
const MAX_FILE: u64 = 1 << 20;

/// One numbering.
struct CodeSet {
    version: Arc<str>,
    names: BTreeMap<Box<str>, Arc<str>>,
}

/// All of them, and which one events carry.
pub(crate) struct CodeSets {
    /// `None`: wrong, and reported.
    sets: BTreeMap<Box<str>, Option<CodeSet>>,
    chosen: Option<Box<str>>,
}

impl CodeSets {
    pub fn read(root: &Fields, cx: &mut Context<'_>) -> Self {
        let entries = match root.item("code_sets").map(|item| &item.value) {
            Some(Value::Table(entries)) => entries.as_slice(),
            _ => &[],
        };
        let sets = entries.iter().map(|entry| (entry.name.clone(), code_set(entry, cx))).collect();
        let mut all = Self { sets, chosen: None };
        if let Some(item) = root.item("code_set")
            && let Some(name) = item.text()
            && all.known(name, item.place, &Path::Root.key("code_set"), cx)
        {
            all.chosen = Some(name.into());
        }
        all
    }

    /// The number that events of a situation carry. Every number that it lists is checked.
    pub fn code_of(&self, situation: &Fields, path: &Path<'_>, cx: &mut Context<'_>) -> Option<Code> {
        let entries = match situation.item("codes").map(|item| &item.value) {
            Some(Value::Table(entries)) => entries.as_slice(),
            _ => return None,
        };
        let path = path.key("codes");
        let mut chosen = None;
        for entry in entries {
            let path = path.key(&entry.name);
            if !self.known(&entry.name, entry.place, &path, cx) {
                continue;
            }
            let (Some(Some(set)), Some(code)) = (self.sets.get(&entry.name), entry.item.text()) else {
                continue;
            };
            let Some(name) = set.names.get(code) else {
                let problem =
                    Problem::new(format!("is no number of {}", entry.name), "see the code set's file");
                cx.report.add(entry.item.place, &path, Some(code), problem);
                continue;
            };
            if self.chosen.as_deref() == Some(&*entry.name) {
                let (set_name, version) = ((*entry.name).into(), set.version.clone());
                chosen = Some(Code { set: set_name, version, code: code.into(), name: name.clone() });
            }
        }
        chosen
    }

    fn known(&self, name: &str, place: Place, path: &Path<'_>, cx: &mut Context<'_>) -> bool {
        let known = self.sets.contains_key(name);
        // What is missing may be in a file that could not be read.
        if !known && !cx.report.incomplete {
            let names = || self.sets.keys().map(|name| &**name);
            let expected = match nearest(name, names()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known: {}", listed(names())),
            };
            cx.report.add(place, path, Some(name), Problem::new("is no known code set", expected));
        }
        known
    }
}

fn code_set(entry: &Entry, cx: &mut Context<'_>) -> Option<CodeSet> {
    let file = cx.resolve(entry.item.place, entry.item.text()?);
    let number = cx.report.add_file(&file);
    let incomplete = cx.report.incomplete;
    let text = read_text(&file, MAX_FILE, number, &mut cx.report);
    let fields = text.and_then(|text| read_map(&text, number, &CODE_SET, &mut cx.report, &mut cx.hash));
    // A table that cannot be read hides no names but its own.
    cx.report.incomplete = incomplete;
    let fields = fields?;
    let names = match fields.item("codes").map(|item| &item.value) {
        Some(Value::Table(entries)) => entries
            .iter()
            .filter_map(|code| Some((code.name.clone(), Arc::from(code.item.text()?))))
            .collect(),
        _ => return None,
    };
    Some(CodeSet { version: fields.text("version")?.into(), names })
}
