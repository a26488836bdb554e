//! JSON Schemas of the messages.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

use super::channels::Direction;
use crate::wire::{
    EventMessage, HealthMessage, LookAnswer, LookCommand, OnvifEvent, Receipt, VerdictMessage, WorkerStatus,
};

/// A message's type.
struct Message {
    name: &'static str,
    /// What Huiyan writes holds every field that it always writes; what it reads may leave out what has a default.
    direction: Direction,
    reference: fn(&mut SchemaGenerator) -> Schema,
    root: fn(SchemaGenerator) -> Schema,
}

impl Message {
    const fn of<T: JsonSchema>(name: &'static str, direction: Direction) -> Self {
        Self {
            name,
            direction,
            reference: |generator| generator.subschema_for::<T>(),
            root: |generator| generator.into_root_schema_for::<T>(),
        }
    }
}

static MESSAGES: &[Message] = &[
    Message::of::<EventMessage>("EventMessage", Direction::Written),
    Message::of::<HealthMessage>("HealthMessage", Direction::Written),
    Message::of::<WorkerStatus>("WorkerStatus", Direction::Written),
    Message::of::<LookAnswer>("LookAnswer", Direction::Written),
    Message::of::<OnvifEvent>("OnvifEvent", Direction::Written),
    Message::of::<LookCommand>("LookCommand", Direction::Read),
    Message::of::<Receipt>("Receipt", Direction::Read),
    Message::of::<VerdictMessage>("VerdictMessage", Direction::Read),
];

fn settings(direction: Direction) -> SchemaSettings {
    let settings = SchemaSettings::draft07();
    match direction {
        Direction::Written => settings.for_serialize(),
        Direction::Read => settings.for_deserialize(),
    }
}

/// One schema per message, each complete in itself; by message.
pub(super) fn alone() -> Vec<(&'static str, Value)> {
    let one = |message: &Message| {
        let schema = (message.root)(settings(message.direction).into_generator());
        (message.name, tidy(schema.to_value()))
    };
    MESSAGES.iter().map(one).collect()
}

/// The definitions of all messages and their parts, which refer to each other below `#/components/schemas/`.
pub(super) fn components() -> Map<String, Value> {
    let mut all = Map::new();
    for direction in [Direction::Written, Direction::Read] {
        let mut generator =
            settings(direction).with(|s| s.definitions_path = "/components/schemas".into()).into_generator();
        for message in MESSAGES.iter().filter(|message| message.direction == direction) {
            (message.reference)(&mut generator);
        }
        let part = generator.take_definitions(true);
        all.extend(part.into_iter().map(|(name, schema)| (name, tidy(schema))));
    }
    all
}

/// What derives cannot know: an optional field is left out, never null; the names of Rust's number types mean nothing to
/// others; a doc comment's line breaks and links are for the source.
fn tidy(schema: Value) -> Value {
    match schema {
        Value::Object(map) => object(map),
        Value::Array(list) => list.into_iter().map(tidy).collect(),
        other => other,
    }
}

fn object(map: Map<String, Value>) -> Value {
    if let Some(only) = without_null(&map) {
        let mut only = object(only);
        if let (Some(text), Some(only)) = (map.get("description"), only.as_object_mut()) {
            only.insert("description".into(), describe(text));
        }
        return only;
    }
    let keep = |(key, value): (String, Value)| {
        let value = match (key.as_str(), &value) {
            // A property may have any of these names, then it is no text.
            ("description", Value::String(_)) => describe(&value),
            ("format", Value::String(format)) if format.starts_with(['u', 'i', 'f', 'd']) => {
                let ours = ["uuid", "date-time"].contains(&format.as_str());
                return ours.then_some((key, value));
            }
            ("default", Value::Null) => return None,
            ("type", Value::Array(types)) => {
                let types: Vec<_> = types.iter().filter(|t| *t != "null").cloned().collect();
                if let [only] = types.as_slice() { only.clone() } else { types.into() }
            }
            // Examples and defaults are values, not schemas.
            ("default" | "const" | "enum", _) => value,
            _ => tidy(value),
        };
        Some((key, value))
    };
    Value::Object(map.into_iter().filter_map(keep).collect())
}

/// The one alternative beside null.
fn without_null(map: &Map<String, Value>) -> Option<Map<String, Value>> {
    let alternatives = map.get("anyOf")?.as_array()?;
    let mut others = alternatives.iter().filter(|one| one["type"] != "null");
    let only = others.next()?;
    (others.next().is_none() && alternatives.len() == 2).then(|| {
        // Beside a reference draft 7 ignores what else is said.
        if only.get("$ref").is_some() {
            return [("allOf".to_owned(), Value::Array(vec![only.clone()]))].into_iter().collect();
        }
        only.as_object().cloned().unwrap_or_default()
    })
}

fn describe(text: &Value) -> Value {
    let text = text.as_str().unwrap_or_default();
    text.replace('\n', " ").replace("[`", "").replace("`]", "").into()
}
