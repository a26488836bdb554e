//! Everything that a real run says, against the contract that is shipped, by validators that are not ours.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use publish::testing::{Heard, Mosquitto};
use serde_json::{Value, json};

use crate::delivery::{Street, wait_until};
use crate::util::{Running, project, write};

const PATIENCE: Duration = Duration::from_secs(60);

/// One JSON line per message, as `validate.mjs` reads it.
fn captured(dir: &Path, heard: &[Heard]) -> std::path::PathBuf {
    let path = dir.join("captured.jsonl");
    let mut file = std::fs::File::create(&path).unwrap();
    for message in heard {
        let payload: Vec<String> = message.payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = json!({
            "topic": message.topic, "retained": message.retained, "content_type": message.content_type,
            "expiry": message.expiry, "properties": message.properties, "payload": payload.concat(), "protocol": 5,
        });
        writeln!(file, "{line}").unwrap();
    }
    path
}

/// Kinds of topics: the level after the site, or `onvif`.
fn kinds(heard: &[Heard]) -> BTreeSet<String> {
    let kind = |message: &Heard| match message.topic.split('/').collect::<Vec<_>>()[..] {
        [_, "onvif-ej", ..] => "onvif".to_owned(),
        [_, _, _, kind, ..] => kind.to_owned(),
        _ => message.topic.clone(),
    };
    heard.iter().map(kind).collect()
}

#[test]
fn every_message_of_a_real_run_is_as_the_contract_says() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let all = broker.listen("all", "huiyan/v1/#").unwrap();
    let vms = broker.listen("vms", "+/onvif-ej/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let street = Street::open(&runtime, dir.path(), broker.addr());
    let yaml = std::fs::read_to_string(&street.config).unwrap();
    let address = format!("url: mqtt://{}", broker.addr());
    assert!(yaml.contains(&address));
    let yaml = yaml.replace(&address, &format!("{address}, onvif: \"{{camera}}\""));
    write(dir.path(), "fleet.yaml", &yaml);

    let desk = Running::start(dir.path(), "desk", &["desk", "--config", &street.config]);
    let mut worker = Running::start(dir.path(), "run", &["run", "--config", &street.config]);
    let ended = |heard: &[Heard]| {
        heard.iter().any(|message| {
            message.topic.contains("/event/")
                && String::from_utf8_lossy(&message.payload).contains(r#""phase":"ended""#)
        })
    };
    let heard = all.wait(PATIENCE, ended);
    let heard = heard
        .unwrap_or_else(|heard| panic!("no situation ended: {} messages\n{}", heard.len(), worker.said()));
    let event = heard.iter().find(|message| message.topic.contains("/event/")).unwrap();
    let event: Value = serde_json::from_slice(&event.payload).unwrap();
    let (id, camera) = (event["data"]["event"].as_str().unwrap(), event["subject"].as_str().unwrap());

    // What others say.
    let look = json!({ "reply_to": "huiyan/v1/test/reply/contract" }).to_string();
    broker.publish(&format!("huiyan/v1/test/command/{camera}/look"), look.as_bytes()).unwrap();
    let verdict =
        json!({ "event": id, "verdict": "not_a_problem", "reason": "x", "at": "2026-11-24T08:00:00Z" })
            .to_string();
    broker.publish(&format!("huiyan/v1/test/verdict/{id}"), verdict.as_bytes()).unwrap();
    let wanted = ["camera", "command", "event", "evidence", "open", "receipt", "reply", "verdict", "worker"];
    wait_until("a message of each kind", PATIENCE, || {
        wanted.iter().all(|kind| kinds(&all.all()).contains(*kind))
    });
    worker.stop();
    drop(desk);
    wait_until("ONVIF events", PATIENCE, || kinds(&vms.all()).contains("onvif"));
    runtime.block_on(street.server.shutdown());

    let mut heard = all.all();
    heard.extend(vms.all());
    let file = captured(dir.path(), &heard);
    let script = project("target/contract/validate.mjs");
    if !script.exists() || !project("target/contract/node_modules").exists() {
        return println!("skipped: the validators are not installed; cargo xtask contract does that");
    }
    let output = Command::new("node")
        .args([script, project("configs/contract"), project("crates/publish/testdata"), file])
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for kind in [
        "event",
        "open",
        "evidence",
        "health",
        "worker",
        "look",
        "reply",
        "receipt",
        "verdict",
        "onvifInside",
    ] {
        assert!(said.contains(&format!(" {kind}")), "no {kind} was validated: {said}");
    }
}
