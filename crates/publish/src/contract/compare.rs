//! What in a newer contract breaks a program that was written against an older one.
//!
//! What we write, others read: there, less must not be promised (a field that may be missing, a type or a value that was
//! not there before). What others write, we read: there, more must not be asked for. A field that goes breaks both. The
//! comparison knows the keywords that our schemas use; another one that differs counts as a break, since nothing is known
//! about it.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::channels::Direction;

/// Deeper than any message of ours; what refers to itself ends here.
const MAX_DEPTH: usize = 32;

/// Something that would break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Channel, and the path to the field.
    pub place: String,
    /// What is no longer as it was.
    pub what: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Compares two AsyncAPI documents of ours, channel by channel.
pub fn breaking(old: &Value, new: &Value) -> Vec<Break> {
    let mut comparison = Comparison { old, new, breaks: Vec::new() };
    for (name, channel) in entries(&old["channels"]) {
        comparison.channel(name, channel);
    }
    comparison.breaks
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    breaks: Vec<Break>,
}

impl<'a> Comparison<'a> {
    fn broken(&mut self, place: &str, what: impl Into<String>) {
        self.breaks.push(Break { place: place.into(), what: what.into() });
    }

    /// Says so where `was` and `is` differ.
    fn same(&mut self, place: &str, name: &str, was: &Value, is: &Value) {
        if was != is {
            self.broken(place, format!("{name} was {was} and is {is}"));
        }
    }

    fn channel(&mut self, name: &str, was: &'a Value) {
        let Some(is) = self.new["channels"].get(name) else { return self.broken(name, "the topic is gone") };
        self.same(name, "the topic", &was["address"], &is["address"]);
        let (was_op, is_op) = (operation(self.old, name), operation(self.new, name));
        let (was_mqtt, is_mqtt) = (&was_op["bindings"]["mqtt"], &is_op["bindings"]["mqtt"]);
        self.same(name, "who writes it", &was_op["action"], &is_op["action"]);
        self.same(name, "retained", &was_mqtt["retain"], &is_mqtt["retain"]);
        if is_mqtt["qos"].as_u64() < was_mqtt["qos"].as_u64() {
            self.same(name, "QoS", &was_mqtt["qos"], &is_mqtt["qos"]);
        }
        if was_mqtt.get("messageExpiryInterval").is_none() && is_mqtt.get("messageExpiryInterval").is_some() {
            self.broken(name, "the message expires now");
        }
        // A reply has no operation of its own: what is not received is sent.
        let received = was_op["action"] == "receive";
        let direction = if received { Direction::Read } else { Direction::Written };
        for (message, was) in entries(&was["messages"]) {
            match is["messages"].get(message) {
                Some(is) => self.message(message, direction, was, is),
                None => self.broken(name, format!("message {message} is gone")),
            }
        }
    }

    fn message(&mut self, name: &str, direction: Direction, was: &'a Value, is: &'a Value) {
        let (was, is) = (resolve(self.old, was), resolve(self.new, is));
        self.same(name, "the content type", &was["contentType"], &is["contentType"]);
        for (header, _) in entries(&was["headers"]["properties"]) {
            if is["headers"]["properties"].get(header).is_none() {
                self.broken(name, format!("user property {header} is gone"));
            }
        }
        self.schema(name, direction, &was["payload"], &is["payload"], 0);
    }

    fn schema(&mut self, place: &str, direction: Direction, was: &'a Value, is: &'a Value, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let (was, is) = (resolve(self.old, was), resolve(self.new, is));
        self.types(place, direction, was, is);
        self.values(place, direction, was, is);
        self.bounds(place, direction, was, is);
        self.texts(place, direction, was, is);
        self.required(place, direction, was, is);
        for (name, was) in entries(&was["properties"]) {
            let place = format!("{place}.{name}");
            match is["properties"].get(name) {
                Some(is) => self.schema(&place, direction, was, is, depth + 1),
                None => self.broken(&place, "the field is gone"),
            }
        }
        for (keyword, sign) in [("items", "[]"), ("additionalProperties", ".*")] {
            match (&was[keyword], &is[keyword]) {
                (Value::Object(_), Value::Object(_)) => {
                    let place = format!("{place}{sign}");
                    self.schema(&place, direction, &was[keyword], &is[keyword], depth + 1);
                }
                (a, b) => self.same(place, keyword, a, b),
            }
        }
        // No schema of ours has others: what is not understood must not change.
        for keyword in
            ["anyOf", "not", "if", "patternProperties", "dependencies", "contains", "propertyNames"]
        {
            self.same(place, keyword, &was[keyword], &is[keyword]);
        }
        if (values(was).is_none() || values(is).is_none()) && was["oneOf"] != is["oneOf"] {
            self.same(place, "oneOf", &was["oneOf"], &is["oneOf"]);
        }
    }

    fn types(&mut self, place: &str, direction: Direction, was: &Value, is: &Value) {
        let (old, new) = (types(was), types(is));
        let fits = match direction {
            Direction::Written => new.is_subset(&old),
            Direction::Read => old.is_subset(&new),
        };
        if !fits {
            self.broken(place, format!("the type was {} and is {}", was["type"], is["type"]));
        }
    }

    /// A value that goes breaks also what we write: somebody waits for it.
    fn values(&mut self, place: &str, direction: Direction, was: &Value, is: &Value) {
        let (old, new) = match (values(was), values(is)) {
            (None, None) => return,
            (Some(old), Some(new)) => (old, new),
            (Some(_), None) if direction == Direction::Read => return,
            (None, Some(_)) if direction == Direction::Written => return,
            (Some(_), None) => return self.broken(place, "is no longer one of a list of values"),
            (None, Some(_)) => return self.broken(place, "must be one of a list of values now"),
        };
        for gone in old.difference(&new) {
            self.broken(place, format!("the value {gone} is gone"));
        }
        if direction == Direction::Written {
            for unknown in new.difference(&old) {
                self.broken(place, format!("the value {unknown} is new, and readers do not know it"));
            }
        }
    }

    fn bounds(&mut self, place: &str, direction: Direction, was: &Value, is: &Value) {
        for (low, high) in [
            ("minimum", "maximum"),
            ("exclusiveMinimum", "exclusiveMaximum"),
            ("minLength", "maxLength"),
            ("minItems", "maxItems"),
            ("minProperties", "maxProperties"),
        ] {
            for (name, absent) in [(low, f64::NEG_INFINITY), (high, f64::INFINITY)] {
                let bound = |schema: &Value| schema[name].as_f64().unwrap_or(absent);
                let (old, new) = (bound(was), bound(is));
                let wider = if name == low { new < old } else { new > old };
                let narrower = new != old && !wider;
                let broken = match direction {
                    Direction::Written => wider,
                    Direction::Read => narrower,
                };
                if broken {
                    self.same(place, name, &was[name], &is[name]);
                }
            }
        }
    }

    fn texts(&mut self, place: &str, direction: Direction, was: &Value, is: &Value) {
        for name in ["pattern", "format", "contentMediaType", "multipleOf", "uniqueItems"] {
            let harmless = match direction {
                Direction::Written => was[name].is_null(),
                Direction::Read => is[name].is_null(),
            };
            if !harmless {
                self.same(place, name, &was[name], &is[name]);
            }
        }
    }

    fn required(&mut self, place: &str, direction: Direction, was: &Value, is: &Value) {
        let (old, new) = (names(&was["required"]), names(&is["required"]));
        match direction {
            Direction::Written => {
                for name in old.difference(&new) {
                    // One that is gone altogether is reported as such.
                    if is["properties"].get(*name).is_some() {
                        self.broken(&format!("{place}.{name}"), "was always there and may be missing now");
                    }
                }
            }
            Direction::Read => {
                for name in new.difference(&old) {
                    self.broken(&format!("{place}.{name}"), "is required now");
                }
            }
        }
    }
}

/// The operation on a channel; null for a reply.
fn operation<'a>(document: &'a Value, channel: &str) -> &'a Value {
    let reference = format!("#/channels/{channel}");
    let found = entries(&document["operations"]).find(|(_, op)| op["channel"]["$ref"] == reference.as_str());
    found.map_or(&Value::Null, |(_, operation)| operation)
}

/// Follows references, and an `allOf` of one (how draft 7 adds a description to a reference).
fn resolve<'a>(document: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..MAX_DEPTH {
        let reference = match (schema["$ref"].as_str(), schema["allOf"].as_array().map(Vec::as_slice)) {
            (Some(reference), _) => reference,
            (None, Some([only])) => {
                schema = only;
                continue;
            }
            _ => return schema,
        };
        schema = reference.strip_prefix('#').and_then(|p| document.pointer(p)).unwrap_or(&Value::Null);
    }
    schema
}

fn types(schema: &Value) -> BTreeSet<&str> {
    let mut types = match &schema["type"] {
        Value::String(one) => [one.as_str()].into(),
        Value::Array(_) => names(&schema["type"]),
        // What only lists values, all of them texts in our schemas, or says nothing: anything.
        _ if values(schema).is_some() => ["string"].into(),
        _ => ["array", "boolean", "null", "number", "object", "string"].into(),
    };
    if types.contains("number") {
        types.insert("integer");
    }
    types
}

/// The list of values that a schema allows, as JSON; `None` where it is open.
fn values(schema: &Value) -> Option<BTreeSet<String>> {
    if let Some(only) = schema.get("const") {
        return Some([only.to_string()].into());
    }
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return Some(list.iter().map(Value::to_string).collect());
    }
    let each = schema.get("oneOf")?.as_array()?.iter().map(values);
    each.collect::<Option<Vec<_>>>().map(|sets| sets.into_iter().flatten().collect())
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn entries(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flat_map(Map::iter)
}
