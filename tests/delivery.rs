//! Between the scene and the case: the broker away, the worker and the desk killed. Every situation is one case.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use publish::testing::{Heard, Listener, Mosquitto};
use serde_json::Value;
use sim::rtsp::Server;
use sim::street::{self, Timeline};
use sim::{Begin, Plan};

use crate::util::{self, Running, events, project, write};

/// A car that parks for 8 s in each round of 24 s.
pub const STREET: &str = "
title: A car stops at the kerb, again and again
seconds: 24
fps: 8
size: [640, 360]
key_every: 1
street: 2
seed: 22
light: day
weather: clear
noise: 2.0
zones: [{id: no_parking, situation: illegal_parking, at: kerb_far, along: 16, wide: 4.5}]
script: [park: {at: kerb_far, from: 8, to: 16}]
";

/// Four cameras, each with a situation every 24 s, staggered.
pub struct Street {
    pub server: Server,
    pub config: String,
}

impl Street {
    pub fn open(runtime: &tokio::runtime::Runtime, dir: &Path, broker: SocketAddr) -> Self {
        let timeline = Timeline::parse("street", STREET).unwrap();
        let clip = Arc::new(street::encode(&timeline, &mut |_, _| {}).unwrap());
        let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let plan = Plan { begin: Begin::Staggered, ..Plan::new(4) };
        let zones = timeline.zones();
        let corners: Vec<_> = zones[0].polygon.points().iter().map(|p| [p.x, p.y]).collect();
        let mut yaml = format!(
            "{head}desk: {{ listen: 127.0.0.1:{desk} }}
models: {{ street-demo: {model:?} }}
situations:
  illegal_parking:
    zh: 机动车乱停放
    en: illegal parking
    rule: {{ dwell: {{ classes: [car], at_least: 3s }}, update_every: 1h, end_after: 1s }}
classes: {{ any: {{ model: street-demo, look: {{ at_most_every: 500ms }} }} }}
cameras:
",
            head = util::fleet_head(broker, dir),
            desk = util::free_port(),
            model = project("models/street-demo"),
        );
        for camera in plan.mount(&server, &[clip]).unwrap() {
            yaml += &format!(
                "  - {{ id: {}, class: any, url: {}, zones: [{{ id: kerb, polygon: {corners:?}, situations: [illegal_parking] }}] }}\n",
                camera.id, camera.url
            );
        }
        let config = write(dir, "fleet.yaml", &yaml).to_str().unwrap().to_owned();
        Self { server, config }
    }

    fn desk(&self) -> String {
        let yaml = std::fs::read_to_string(&self.config).unwrap();
        let line = yaml.lines().find(|line| line.starts_with("desk:")).unwrap();
        line.split(['{', '}', ' ']).find(|word| word.starts_with("127.")).unwrap().to_owned()
    }
}

/// GET, as a client without any library would.
pub fn get(addr: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// How many events the worker has put on disk, by its log.
fn made(worker: &Running) -> usize {
    worker.said().matches("疑似").count()
}

pub fn wait_until(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The messages' ids. A message that comes twice (QoS 1 allows it where a broker was killed) is the very same message;
/// per situation they come in order.
fn check_messages(heard: &[Heard]) -> BTreeSet<String> {
    let mut first: BTreeMap<String, Value> = BTreeMap::new();
    let mut phases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events(heard) {
        match first.get(&event.id) {
            Some(data) => assert_eq!(*data, event.data, "{} came again, changed", event.id),
            None => {
                phases.entry(event.event).or_default().push(event.phase);
                first.insert(event.id, event.data);
            }
        }
    }
    for (event, phases) in &phases {
        let order: Vec<_> = phases.iter().map(String::as_str).collect();
        assert!(["began", "ended"].starts_with(&order[..]), "{event}: {order:?}");
    }
    println!("{} messages, {} of them again", heard.len(), heard.len() - first.len());
    first.into_keys().collect()
}

/// Waits until the listener has heard `count` different events.
fn wait_heard(listener: &Listener, count: usize, worker: &Running) -> BTreeSet<String> {
    let distinct = |list: &[Heard]| events(list).into_iter().map(|e| e.id).collect::<BTreeSet<_>>().len();
    let heard = listener.wait(Duration::from_secs(20), |list| distinct(list) >= count);
    let heard = heard.unwrap_or_else(|heard| panic!("{} of {count}\n{}", distinct(&heard), worker.said()));
    check_messages(&heard)
}

#[test]
fn events_wait_on_disk_while_the_broker_is_away_and_arrive_once_each() {
    let broker = match Mosquitto::prepare("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let street = Street::open(&runtime, dir.path(), broker.addr());

    // The broker is absent at start: events are made and wait.
    let mut worker = Running::start(dir.path(), "run", &["run", "--config", &street.config]);
    wait_until("events without a broker", Duration::from_secs(60), || made(&worker) >= 4);

    let mut broker = broker.start_again().unwrap();
    let listener = broker.listen("observer", "huiyan/v1/test/event/#").unwrap();
    wait_heard(&listener, made(&worker), &worker);

    // It is gone for 30 s.
    broker.kill();
    let before = made(&worker);
    std::thread::sleep(Duration::from_secs(30));
    assert!(made(&worker) > before, "watching goes on without a broker");
    let broker = broker.start_again().unwrap();
    wait_until("one more event", Duration::from_secs(30), || made(&worker) > before + 1);
    worker.stop();
    let all = made(&worker);
    assert_eq!(wait_heard(&listener, all, &worker).len(), all, "each event arrived");
    drop((listener, broker));
    runtime.block_on(street.server.shutdown());
}

#[test]
fn a_worker_and_a_desk_that_are_killed_lose_nothing_and_open_nothing_twice() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let street = Street::open(&runtime, dir.path(), broker.addr());
    let listener = broker.listen("observer", "huiyan/v1/test/event/#").unwrap();
    let run = ["run", "--config", &street.config];
    let receive = ["desk", "--config", &street.config];

    let mut desk = Running::start(dir.path(), "desk", &receive);
    desk.wait_said("cases at http://", Duration::from_secs(20));
    let mut worker = Running::start(dir.path(), "run", &run);
    wait_until("events", Duration::from_secs(60), || made(&worker) >= 3);
    desk.kill();
    wait_until("events without a desk", Duration::from_secs(40), || made(&worker) >= 5);
    worker.kill();
    desk = Running::start(dir.path(), "desk", &receive);
    let mut worker = Running::start(dir.path(), "run", &run);
    let now = made(&worker);
    wait_until("events after the restart", Duration::from_secs(60), || made(&worker) >= now + 3);
    worker.stop();

    let all = made(&worker);
    wait_heard(&listener, all, &worker);
    let heard = listener.all();
    // The worker may have been killed after an event was on disk and before it said so.
    let ids: BTreeSet<_> = events(&heard).into_iter().map(|event| event.event).collect();
    let cases =
        || -> Vec<Value> { serde_json::from_str(&get(&street.desk(), "/cases.json")).unwrap_or_default() };
    wait_until("a case for each", Duration::from_secs(20), || cases().len() >= ids.len());

    // Everything is delivered once more.
    for message in &heard {
        broker.publish(&message.topic, &message.payload).unwrap();
    }
    std::thread::sleep(Duration::from_secs(2));
    let cases = cases();
    let opened: Vec<_> =
        cases.iter().map(|case| case["event"]["event"].as_str().unwrap_or_default().to_owned()).collect();
    let distinct: BTreeSet<_> = opened.iter().cloned().collect();
    assert_eq!(opened.len(), distinct.len(), "a situation has two cases: {opened:?}");
    assert_eq!(distinct, ids, "each situation has its case\n{}", desk.said());
    desk.stop();
    runtime.block_on(street.server.shutdown());
}
