//! What a scene remembers: over a kill of the worker, over the end of a situation, and what the desk says of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use publish::testing::Mosquitto;
use sim::rtsp::{Mount, Server};
use sim::street::{self, Timeline};

use crate::util::{self, Running, Told, project, write};

/// A car that parks for 20 s in each round of 36 s.
const STREET: &str = "
title: A car stands at the kerb, again and again
seconds: 36
fps: 8
size: [640, 360]
key_every: 1
street: 2
seed: 22
light: day
weather: clear
noise: 2.0
zones: [{id: no_parking, situation: illegal_parking, at: kerb_far, along: 16, wide: 4.5}]
script: [park: {at: kerb_far, from: 8, to: 28}]
";

const PATIENCE: Duration = Duration::from_secs(45);

/// The events, each once: what a killed worker had not yet heard to be acknowledged, it sends again.
fn events(heard: &[publish::testing::Heard]) -> Vec<Told> {
    let mut known = std::collections::BTreeSet::new();
    let mut told = util::events(heard);
    told.retain(|event| known.insert(event.id.clone()));
    told
}

#[test]
fn a_killed_worker_goes_on_and_what_the_desk_dismisses_ends() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let listener = broker.listen("observer", "huiyan/v1/test/event/#").unwrap();
    let replies = broker.listen("desk", "huiyan/v1/test/reply/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let timeline = Timeline::parse("street", STREET).unwrap();
    let clip = Arc::new(street::encode(&timeline, &mut |_, _| {}).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    server.mount("kerb", Mount::new(clip)).unwrap();
    let zones = timeline.zones();
    let corners: Vec<_> = zones[0].polygon.points().iter().map(|p| [p.x, p.y]).collect();
    let yaml = format!(
        "{head}models: {{ street-demo: {model:?} }}
situations:
  illegal_parking:
    zh: 机动车乱停放
    en: illegal parking
    rule: {{ dwell: {{ classes: [car], at_least: 3s }}, update_every: 1h, end_after: 1s }}
classes: {{ any: {{ model: street-demo, look: {{ at_most_every: 500ms }} }} }}
cameras: [{{ id: kerb, class: any, url: {url}, zones: [{{ id: kerb, polygon: {corners:?}, situations: [illegal_parking] }}] }}]
",
        head = util::fleet_head(broker.addr(), dir.path()),
        model = project("models/street-demo"),
        url = server.url("kerb"),
    );
    let config = write(dir.path(), "fleet.yaml", &yaml);
    let start = || Running::start(dir.path(), "run", &["run", "--config", config.to_str().unwrap()]);
    let phases = |n: usize, phase: &'static str| {
        let heard =
            listener.wait(PATIENCE, move |h| events(h).iter().filter(|e| e.phase == phase).count() >= n);
        let log = || std::fs::read_to_string(dir.path().join("run.log")).unwrap_or_default();
        let told =
            heard.unwrap_or_else(|h| panic!("{n} {phase} expected; heard {:?}\n{}", events(&h), log()));
        events(&told)
    };

    let mut worker = start();
    let first = phases(1, "began").remove(0);
    worker.kill();
    let mut worker = start();
    let told = phases(1, "ended");
    let story: Vec<_> = told.iter().map(|e| (e.event.as_str(), e.phase.as_str())).collect();
    assert_eq!(
        story,
        [(first.event.as_str(), "began"), (first.event.as_str(), "ended")],
        "{}",
        worker.said()
    );

    // The next round: the same problem again; the desk says that it is none, and looks for itself.
    let second = phases(2, "began").into_iter().rfind(|e| e.phase == "began").unwrap();
    assert_ne!(second.event, first.event);
    assert_eq!(second.data["recurs"], first.event.as_str());
    let verdict = format!(
        r#"{{"event":"{}","verdict":"not_a_problem","reason":"a resident","at":"2026-11-24T08:00:00Z"}}"#,
        second.event
    );
    broker.publish(&format!("huiyan/v1/test/verdict/{}", second.event), verdict.as_bytes()).unwrap();
    let told = phases(2, "ended");
    assert_eq!(told.last().unwrap().event, second.event);

    let look = br#"{"reply_to":"huiyan/v1/test/reply/desk"}"#;
    broker.publish("huiyan/v1/test/command/kerb/look", look).unwrap();
    let reply = replies.wait(PATIENCE, |heard| !heard.is_empty()).expect("an answer");
    let answer: publish::wire::LookAnswer = serde_json::from_slice(&reply[0].payload).unwrap();
    assert_eq!((answer.camera.as_str(), answer.error.as_str()), ("kerb", ""));
    assert!(answer.picture.is_some_and(|picture| picture.data.len() > 5_000));
    worker.stop();
    assert_eq!(events(&listener.all()).iter().filter(|e| e.phase == "began").count(), 2);
}
