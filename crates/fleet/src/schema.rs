//! The JSON Schema (draft 2020-12) of the configuration and of a model card, for editors.

use serde_json::{Map, Value, json};

use crate::shape::{Key, Kind, Need, Shape};
use crate::shapes::{CARD, ROOT};

const ID: &str = "^[A-Za-z0-9._-]{1,64}$";

/// JSON Schema of the configuration. What a schema cannot say (references, circles, contradictions between
/// keys) is left to [`Fleet::load`](crate::Fleet::load).
pub fn schema() -> Value {
    document(&ROOT, "Huiyan configuration")
}

/// JSON Schema of a model's `card.yaml`.
pub fn card_schema() -> Value {
    document(&CARD, "Huiyan model card")
}

fn document(shape: &'static Shape, title: &str) -> Value {
    let mut defs = Map::new();
    let root = object(shape, &mut defs);
    let mut out = Map::new();
    out.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    out.insert("title".to_owned(), json!(title));
    if let Value::Object(root) = root {
        out.extend(root);
    }
    out.insert("$defs".to_owned(), Value::Object(defs));
    Value::Object(out)
}

fn object(shape: &'static Shape, defs: &mut Map<String, Value>) -> Value {
    let properties: Map<_, _> =
        shape.keys.iter().map(|key| (key.name.to_owned(), property(key, defs))).collect();
    let required: Vec<_> =
        shape.keys.iter().filter(|key| key.need == Need::Required).map(|key| key.name).collect();
    let mut object = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn property(key: &'static Key, defs: &mut Map<String, Value>) -> Value {
    let mut property = of_kind(&key.kind, defs);
    property["description"] = json!(key.doc);
    if let Need::Default(text) = key.need {
        property["default"] = match &key.kind {
            Kind::Whole(..) | Kind::Number(..) | Kind::List(..) => {
                serde_json::from_str(text).unwrap_or_else(|_| json!(text))
            }
            _ => json!(text),
        };
    }
    property
}

fn of_kind(kind: &'static Kind, defs: &mut Map<String, Value>) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    match kind {
        // YAML takes 0505 for a number; the configuration takes it as written.
        Kind::Text(max) => json!({"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": max}),
        Kind::Id => json!({"type": ["string", "integer"], "pattern": ID}),
        Kind::Name(_) | Kind::Path | Kind::User => json!({"type": "string", "minLength": 1}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Whole(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Number(min, max) => json!({"type": "number", "minimum": min, "maximum": max}),
        Kind::Duration(..) => text(r"^[0-9]+(\.[0-9]+)?\s*(ms|s|min|h|d)$"),
        Kind::Size(..) => text(r"^[0-9]+(\.[0-9]+)?\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$"),
        Kind::Rtsp => text("^[Rr][Tt][Ss][Pp][Ss]?://[^/?#@]+([/?].*)?$"),
        Kind::Mqtt => text("^[Mm][Qq][Tt][Tt][Ss]?://[^/?#@]+/?$"),
        Kind::Listen => text(":[1-9][0-9]{0,4}$"),
        Kind::Secret => text("^(env|file):.+$"),
        Kind::Sha256 => text("^[0-9A-Fa-f]{64}$"),
        Kind::Polygon => {
            let coordinate = json!({"type": "number", "minimum": 0, "maximum": 1});
            let corner = json!({"type": "array", "items": coordinate, "minItems": 2, "maxItems": 2});
            json!({"type": "array", "items": corner, "minItems": 3, "maxItems": 256})
        }
        Kind::Map(shape) => {
            if !defs.contains_key(shape.name) {
                // Holds the place, in the order of first use.
                defs.insert(shape.name.to_owned(), Value::Null);
                let object = object(shape, defs);
                defs.insert(shape.name.to_owned(), object);
            }
            json!({"$ref": format!("#/$defs/{}", shape.name)})
        }
        Kind::Table(of) => {
            let of = of_kind(of, defs);
            json!({"type": "object", "propertyNames": {"pattern": ID}, "additionalProperties": of})
        }
        Kind::List(of, min, max) => {
            let of = of_kind(of, defs);
            json!({"type": "array", "items": of, "minItems": min, "maxItems": max})
        }
        Kind::WordOr(words, of) => {
            let of = of_kind(of, defs);
            json!({"anyOf": [{"enum": words}, of]})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::all_keys;

    #[test]
    fn every_key_is_in_the_schema_with_its_text() {
        let all = format!("{}{}", schema(), card_schema());
        for (_, key) in all_keys() {
            assert!(all.contains(&format!("\"{}\":", key.name)), "{}", key.name);
            assert!(all.contains(&serde_json::to_string(key.doc).unwrap()), "{}", key.doc);
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_references_lead_somewhere() {
        for schema in [schema(), card_schema()] {
            let defs = schema["$defs"].as_object().unwrap();
            for def in defs.values() {
                assert_eq!(def["additionalProperties"], json!(false), "{def}");
            }
            let text = schema.to_string();
            for reference in text.split("\"#/$defs/").skip(1) {
                let name = reference.split('"').next().unwrap();
                assert!(defs.contains_key(name), "{name}");
            }
        }
        assert_eq!(schema()["$defs"]["camera"]["required"], json!(["id", "class", "url"]));
        assert_eq!(schema()["$defs"]["node"]["properties"]["max_batch"]["default"], json!(16));
        assert_eq!(card_schema()["$defs"]["input"]["properties"]["mean"]["default"], json!([0, 0, 0]));
    }
}
