//! What is shipped under `configs/contract/` is what the types say, and a newer contract does not break an older one.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::contract::{self, Break, breaking};
use crate::wire::Topic;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/contract")
}

fn document() -> Value {
    contract::files().swap_remove(0).json
}

fn listed(folder: &Path) -> BTreeSet<String> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".json")).collect()
    };
    let schemas = names(&folder.join("schemas")).into_iter().map(|name| format!("schemas/{name}"));
    names(folder).into_iter().chain(schemas).collect()
}

#[test]
fn what_is_shipped_is_what_the_types_say() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        contract::write(&shipped()).unwrap();
    }
    let files = contract::files();
    for file in &files {
        let there = std::fs::read_to_string(shipped().join(&file.path)).unwrap_or_default();
        assert!(
            there == file.text(),
            "configs/contract/{} is not what the types say; \
             if the change is meant: cargo run -p huiyan -- schema --contract configs/contract",
            file.path
        );
    }
    let made: BTreeSet<_> = files.into_iter().map(|file| file.path).collect();
    assert_eq!(listed(&shipped()), made, "nothing else is shipped");
}

#[test]
fn the_released_contract_is_not_broken() {
    let new = document();
    let version = contract::version(&new).unwrap();
    let path = shipped().join(format!("released/v{version}/asyncapi.json"));
    let old: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(contract::version(&old), Some(version), "{}", path.display());
    let breaks: Vec<_> = breaking(&old, &new).iter().map(Break::to_string).collect();
    assert!(
        breaks.is_empty(),
        "programs written against {} would break; take a new version, or take it back:\n{}",
        path.display(),
        breaks.join("\n")
    );
}

#[test]
fn every_channel_is_a_topic_and_every_topic_a_channel() {
    const ID: &str = "0193d1a4-5c00-7e6b-8a13-2f6f9b1c7d11";
    let document = document();
    let channels = document["channels"].as_object().unwrap();
    let mut kinds = HashSet::new();
    for (name, channel) in channels {
        let address = channel["address"].as_str().unwrap();
        let topic = address
            .replace("{site}", "huinan")
            .replace("{situation}", "illegal_parking")
            .replace("{camera}", "hn-0001")
            .replace("{event}", ID)
            .replace("{role}", "first")
            .replace("{worker}", "w1");
        if name == "reply" {
            assert_eq!(
                address.replace("{site}", "huinan"),
                format!("{}/{{reply}}", Topic::replies("huinan"))
            );
            continue;
        }
        if name.starts_with("onvif") {
            assert!(address.starts_with("{onvif_prefix}/onvif-ej/RuleEngine/"), "{address}");
            continue;
        }
        let parsed: Topic = topic.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(parsed.to_string(), topic);
        kinds.insert(std::mem::discriminant(&parsed));
        assert_eq!(channel["parameters"].as_object().unwrap().len(), address.matches('{').count(), "{name}");
    }
    assert_eq!(kinds.len(), 8, "each variant of Topic has its channel");
}

/// What breaks after `change`.
fn after(change: impl Fn(&mut Value)) -> Vec<String> {
    let old = document();
    let mut new = old.clone();
    change(&mut new);
    assert_ne!(old, new, "the change did not hit anything");
    breaking(&old, &new).iter().map(Break::to_string).collect()
}

/// After a change of one schema.
fn schema(name: &str, change: impl Fn(&mut Value)) -> Vec<String> {
    after(|document| change(&mut document["components"]["schemas"][name]))
}

fn remove(list: &mut Value, name: &str) {
    list.as_array_mut().unwrap().retain(|entry| entry != name);
}

#[test]
fn what_only_adds_breaks_nothing() {
    assert_eq!(breaking(&document(), &document()), []);
    assert!(schema("EventData", |s| s["properties"]["x-new"] = json!({"type": "string"})).is_empty());
    let required = |s: &mut Value| {
        s["properties"]["x-new"] = json!({"type": "string"});
        s["required"].as_array_mut().unwrap().push(json!("x-new"));
    };
    assert!(schema("EventData", required).is_empty(), "what we write may promise more");
    assert!(schema("Text", |s| s["description"] = json!("other words")).is_empty());
    assert!(schema("VerdictMessage", |s| s["properties"]["by"] = json!({"type": "string"})).is_empty());
    let wider = |s: &mut Value| {
        s["oneOf"].as_array_mut().unwrap().push(json!({"type": "string", "const": "later"}));
    };
    assert!(schema("Verdict", wider).is_empty(), "what we read may be more");
    assert!(after(|d| d["channels"]["more"] = d["channels"]["health"].clone()).is_empty());
}

#[test]
fn a_field_that_goes_or_is_renamed_breaks() {
    let gone = schema("EventData", |s| {
        s["properties"].as_object_mut().unwrap().shift_remove("problem");
        remove(&mut s["required"], "problem");
    });
    assert!(gone.contains(&"event.data.problem: the field is gone".to_owned()), "{gone:?}");
    let renamed = schema("Evidence", |s| {
        let was = s["properties"].as_object_mut().unwrap().shift_remove("sha256").unwrap();
        s["properties"]["hash"] = was;
        remove(&mut s["required"], "sha256");
        s["required"].as_array_mut().unwrap().push(json!("hash"));
    });
    assert!(renamed.contains(&"event.data.evidence[].sha256: the field is gone".to_owned()), "{renamed:?}");
    let optional = schema("CameraInfo", |s| {
        s["properties"].as_object_mut().unwrap().shift_remove("grid");
    });
    assert!(optional.contains(&"event.data.camera.grid: the field is gone".to_owned()), "{optional:?}");
    let read = schema("VerdictMessage", |s| {
        s["properties"].as_object_mut().unwrap().shift_remove("reason");
    });
    assert_eq!(read, ["verdict.reason: the field is gone"]);
}

#[test]
fn what_is_promised_less_or_asked_more_breaks() {
    let maybe = schema("EventData", |s| remove(&mut s["required"], "confidence"));
    assert!(
        maybe.contains(&"event.data.confidence: was always there and may be missing now".to_owned()),
        "{maybe:?}"
    );
    let asked = schema("VerdictMessage", |s| s["required"].as_array_mut().unwrap().push(json!("reason")));
    assert_eq!(asked, ["verdict.reason: is required now"]);
    let fewer = schema("VerdictMessage", |s| remove(&mut s["required"], "at"));
    assert!(fewer.is_empty(), "asking for less is no break: {fewer:?}");
}

#[test]
fn another_type_breaks() {
    let other = schema("EventData", |s| s["properties"]["sequence"] = json!({"type": "string"}));
    assert!(
        other.iter().any(|b| b.contains(r#"event.data.sequence: the type was "integer" and is "string""#))
    );
    let null = schema("EventData", |s| s["properties"]["zone"]["type"] = json!(["string", "null"]));
    assert!(null.iter().any(|b| b.starts_with("event.data.zone: the type was")), "{null:?}");
    let wider = schema("HealthMessage", |s| s["properties"]["bit_rate"]["type"] = json!("number"));
    assert!(wider.iter().any(|b| b.starts_with("health.bit_rate: the type was")), "{wider:?}");
    let narrower = schema("HealthMessage", |s| s["properties"]["fps"]["type"] = json!("integer"));
    assert!(narrower.is_empty(), "a whole number is a number: {narrower:?}");
    let read = schema("Receipt", |s| s["properties"]["case"]["type"] = json!("string"));
    assert!(read.iter().any(|b| b.starts_with("receipt.case: the type was")), "{read:?}");
    let items = schema("EventData", |s| s["properties"]["objects"]["items"] = json!({"type": "string"}));
    assert!(items.iter().any(|b| b.starts_with("event.data.objects[]: the type was")), "{items:?}");
    let map = schema("CoverageMessage", |s| {
        s["properties"]["by_state_s"]["additionalProperties"] = json!({"type": "string"});
    });
    assert!(map.iter().any(|b| b.starts_with("health.coverage.by_state_s.*: the type was")), "{map:?}");
}

#[test]
fn a_list_of_values_that_changes_breaks() {
    let narrowed = schema("Verdict", |s| {
        s["oneOf"].as_array_mut().unwrap().retain(|v| v["const"] != "unclear");
    });
    assert_eq!(narrowed, [r#"verdict.verdict: the value "unclear" is gone"#]);
    let renamed = schema("PhaseName", |s| s["oneOf"][1]["const"] = json!("lasts"));
    assert!(renamed.contains(&r#"event.data.phase: the value "updated" is gone"#.to_owned()), "{renamed:?}");
    let unknown = schema("WorkerState", |s| {
        s["oneOf"].as_array_mut().unwrap().push(json!({"type": "string", "const": "draining"}));
    });
    assert!(unknown.iter().any(|b| b.contains(r#"the value "draining" is new"#)), "{unknown:?}");
    let versions = schema("EventType", |s| s["oneOf"][0]["const"] = json!("huiyan.situation.began.v2"));
    assert!(versions.iter().any(|b| b.contains("began.v1")), "{versions:?}");
    let open = schema("Role", |s| *s = json!({"type": "string"}));
    assert!(open.iter().any(|b| b.contains("no longer one of a list")), "{open:?}");
    let closed =
        schema("VerdictMessage", |s| s["properties"]["reason"] = json!({"type": "string", "enum": ["a"]}));
    assert_eq!(closed, ["verdict.reason: must be one of a list of values now"]);
}

#[test]
fn bounds_and_forms_of_text_break() {
    let wider = schema("EventData", |s| s["properties"]["confidence"]["maximum"] = json!(100));
    assert!(wider.iter().any(|b| b.starts_with("event.data.confidence: maximum was 1")), "{wider:?}");
    let tighter = schema("VerdictMessage", |s| s["properties"]["reason"]["maxLength"] = json!(10));
    assert_eq!(tighter, ["verdict.reason: maxLength was null and is 10"]);
    let form = schema("EventData", |s| s["properties"]["config_hash"]["pattern"] = json!("^[0-9a-f]{128}$"));
    assert!(form.iter().any(|b| b.starts_with("event.data.config_hash: pattern was")), "{form:?}");
    let time = schema("Times", |s| {
        s["properties"]["began"].as_object_mut().unwrap().shift_remove("format");
    });
    assert!(time.iter().any(|b| b.starts_with("event.data.times.began: format was")), "{time:?}");
    let corners = schema("Object", |s| s["properties"]["box"]["maxItems"] = json!(5));
    assert!(corners.iter().any(|b| b.starts_with("event.data.objects[].box: maxItems")), "{corners:?}");
}

#[test]
fn topics_and_their_promises_break() {
    let gone = after(|d| {
        d["channels"].as_object_mut().unwrap().shift_remove("open");
    });
    assert_eq!(gone, ["open: the topic is gone"]);
    let moved = after(|d| d["channels"]["health"]["address"] = json!("huiyan/v1/{site}/health/{camera}"));
    assert!(moved.len() == 1 && moved[0].starts_with("health: the topic was"), "{moved:?}");
    let binding = |key: &str, value: Value| {
        after(|d| d["operations"]["sendOpen"]["bindings"]["mqtt"][key] = value.clone())
    };
    assert_eq!(binding("retain", json!(false)), ["open: retained was true and is false"]);
    assert_eq!(binding("qos", json!(0)), ["open: QoS was 1 and is 0"]);
    assert!(binding("qos", json!(2)).is_empty());
    assert_eq!(binding("messageExpiryInterval", json!(60)), ["open: the message expires now"]);
    let turned = after(|d| d["operations"]["sendEvent"]["action"] = json!("receive"));
    assert!(turned.iter().any(|b| b.starts_with("event: who writes it")), "{turned:?}");
    let content = after(|d| d["components"]["messages"]["event"]["contentType"] = json!("text/plain"));
    assert!(content.iter().any(|b| b.starts_with("event: the content type was")), "{content:?}");
    let header = after(|d| {
        d["components"]["messages"]["event"]["headers"]["properties"]
            .as_object_mut()
            .unwrap()
            .shift_remove("id");
    });
    assert_eq!(header, ["event: user property id is gone"]);
    let message = after(|d| {
        d["channels"]["event"]["messages"] = json!({});
    });
    assert_eq!(message, ["event: message event is gone"]);
}

#[test]
fn a_released_contract_is_stepped_only_by_what_does_not_break_it() {
    let dir = tempfile::tempdir().unwrap();
    contract::write(dir.path()).unwrap();
    let path = dir.path().join(contract::ASYNCAPI);
    let mut old = document();
    // As if the release had promised a field that is not written any more.
    old["components"]["schemas"]["EventData"]["properties"]["severity"] = json!({"type": "integer"});
    std::fs::write(&path, old.to_string()).unwrap();
    let error = contract::write(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("event.data.severity: the field is gone") && error.contains("new version"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), old.to_string(), "nothing was written");
    // Under another version everything may differ.
    old["info"]["version"] = json!("0");
    std::fs::write(&path, old.to_string()).unwrap();
    contract::write(dir.path()).unwrap();
    std::fs::write(&path, "{}").unwrap();
    assert!(contract::write(dir.path()).unwrap_err().to_string().contains("no info.version"));
}
