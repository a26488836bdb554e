//! Cameras that stream without a fault and show nothing: frozen, black, and covered for a while.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use publish::testing::Mosquitto;
use serde_json::Value;
use sim::rtsp::{Fault, Mount, Server};

use crate::util::{self, project, write};

#[test]
fn a_frozen_and_a_black_picture_are_told_and_go_away_by_themselves() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let listener = broker.listen("observer", "huiyan/v1/test/camera/+/health").unwrap();
    let [still, black, moving] =
        ["checkers-8", "black", "ball"].map(|pattern| util::test_picture(dir.path(), pattern, (320, 240)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let uncover = Fault::SwitchClip { after: Duration::from_secs(12), to: moving.clone() };
    let mounts = [
        ("good", Mount::new(moving.clone())),
        ("still", Mount::new(still)),
        ("covered", Mount::new(black).with_fault(uncover)),
    ];
    let mut cameras = String::new();
    for (name, mount) in mounts {
        server.mount(name, mount).unwrap();
        cameras += &format!("  - {{ id: {name}, class: any, url: {} }}\n", server.url(name));
    }
    let config = write(
        dir.path(),
        "fleet.yaml",
        &format!(
            "{head}models: {{ street-demo: {model:?} }}
situations: {{ s: {{ zh: 测试, en: test, rule: {{ dwell: {{ classes: [car], at_least: 1h }} }} }} }}
classes: {{ any: {{ model: street-demo, situations: [s], look: {{ at_most_every: 500ms }} }} }}
cameras:
{cameras}",
            head = util::fleet_head(broker.addr(), dir.path())
                .replace("node: { ", "node: { frozen_after: 5s, dark_after: 4s, "),
            model = project("models/street-demo"),
        ),
    );
    let args = ["run", "--json", "--for", "20s", "--config", config.to_str().unwrap()];
    let output = util::huiyan(&args).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    let end: Value = serde_json::from_str(&last).unwrap_or_else(|_| panic!("no report: {last}\n{log}"));

    let mut said: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for heard in listener.all() {
        let name = heard.topic.split('/').nth(4).unwrap().to_owned();
        said.entry(name).or_default().push(serde_json::from_slice(&heard.payload).unwrap());
    }
    let states = |name: &str| {
        let mut states: Vec<_> = said[name].iter().map(|h| h["state"].as_str().unwrap()).collect();
        states.dedup();
        states
    };
    assert_eq!(states("good"), ["connecting", "streaming"], "{said:?}");
    assert_eq!(states("still"), ["connecting", "streaming", "frozen"], "{said:?}");
    assert_eq!(states("covered"), ["connecting", "streaming", "dark", "streaming"], "{said:?}");
    let dark = said["covered"].iter().find(|h| h["state"] == "dark").unwrap();
    assert!(dark["reason"].as_str().unwrap().contains("is the lens covered?"), "{dark}");
    let good = said["good"].last().unwrap();
    assert!((5.0..15.0).contains(&good["fps"].as_f64().unwrap()), "{good}");
    assert!(good["bit_rate"].as_u64().unwrap() > 1_000 && good["via"] == "lean", "{good}");
    assert!(good["last_picture"].is_string() && good["clock_offset_s"].is_number(), "{good}");

    // What was watched, and what was not and why, is all the time there was.
    for camera in end["cameras"].as_array().unwrap() {
        let coverage = &camera["coverage"];
        let seconds = |key: &str| coverage["by_state_s"][key].as_f64().unwrap_or(0.0);
        let parts: f64 = coverage["by_state_s"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        let total = coverage["total_s"].as_f64().unwrap();
        assert!((parts - total).abs() < 0.02 && total >= 19.9, "{camera}");
        match camera["id"].as_str().unwrap() {
            "good" => assert!(seconds("streaming") > 17.0, "{camera}"),
            "still" => assert!(seconds("frozen") > 6.0 && seconds("streaming") < 12.0, "{camera}"),
            _ => assert!((3.0..12.0).contains(&seconds("dark")), "{camera}"),
        }
    }
    let all = end["coverage"]["total_s"].as_f64().unwrap();
    assert!((59.7..75.0).contains(&all), "three cameras for 20 s: {end}");
    runtime.block_on(server.shutdown());
}
