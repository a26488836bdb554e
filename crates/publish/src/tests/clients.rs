//! `configs/contract/README.md` as an integrator would use it: each piece of code runs as it stands there, with clients
//! that are not ours.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says why")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::testing::Mosquitto;
use crate::testing::sample::{self as make, event};
use crate::wire::{EventMessage, LookAnswer, Verdict};
use crate::{Ear, Heard, Publisher};

const PATIENCE: Duration = Duration::from_secs(30);

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The code under this title: "```LANGUAGE TITLE" begins it.
fn code(title: &str) -> String {
    let page = std::fs::read_to_string(project("configs/contract/README.md")).unwrap();
    let title_of = |line: &str| line.strip_prefix("```")?.split(' ').nth(1).map(str::to_owned);
    let mut lines = page.lines().skip_while(|line| title_of(line).as_deref() != Some(title));
    assert!(lines.next().is_some(), "the page has no code {title}");
    lines.take_while(|line| !line.starts_with("```")).map(|line| format!("{line}\n")).collect()
}

/// A client of the page that is running.
struct Client {
    child: Child,
    lines: Receiver<String>,
}

impl Client {
    /// Runs a shell command as it is on the page, in `dir`.
    fn run(dir: &Path, broker: &Mosquitto, shell: &str) -> Self {
        let mut child = Command::new("sh")
            // A shell that is killed must not leave its client behind.
            .args(["-c", &format!("exec {}", shell.trim_start())])
            .current_dir(dir)
            .env("BROKER", "127.0.0.1")
            .env("PORT", broker.port().to_string())
            .env("PYTHONPATH", project("target/contract/python"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, lines) = sync_channel(1_000);
        let output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = said.try_send(line);
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the client prints a line")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker that says who subscribes, or `None` after saying why the test is skipped.
fn broker() -> Option<Mosquitto> {
    Mosquitto::start("log_type all").map_err(|why| println!("skipped: {why}")).ok()
}

/// Whether what the client needs is here; says what is missing otherwise.
fn there(path: PathBuf) -> bool {
    let there = path.exists();
    if !there {
        println!("skipped: {} is not there; cargo xtask contract installs it", path.display());
    }
    there
}

fn subscribed(broker: &Mosquitto, client: &str) {
    let deadline = Instant::now() + PATIENCE;
    let entry = format!("Sending SUBACK to {client}");
    while !broker.log().contains(&entry) {
        assert!(Instant::now() < deadline, "{client} does not subscribe:\n{}", broker.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn publisher(dir: &Path, broker: &Mosquitto) -> Publisher {
    let broker = fleet::Broker { onvif: Some("{camera}".into()), ..broker.broker() };
    Publisher::start(make::options(dir, broker), &tokio::runtime::Handle::current()).unwrap()
}

fn submit(publisher: &Publisher, number: u64, sequence: u32) {
    let event = event(number, sequence);
    publisher.submit(&event, &make::camera(), &make::situation(), &make::model(), None).unwrap();
}

const TOPIC: &str = "huiyan/v1/huinan/event/illegal_parking/hn-0001";

/// Runs a subscriber of the page and says what it printed of a situation that began and ended.
async fn subscriber(title: &str, name: &str, files: &[&str]) -> Option<Vec<String>> {
    let broker = broker()?;
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|file| std::fs::write(dir.path().join(file), code(file)).unwrap());
    let shell = if title.ends_with(".sh") { code(title) } else { format!("python3 {title}") };
    let client = Client::run(dir.path(), &broker, &shell);
    subscribed(&broker, name);
    let publisher = publisher(dir.path(), &broker);
    submit(&publisher, 1, 0);
    submit(&publisher, 1, 2);
    let lines = vec![client.line(), client.line()];
    publisher.stop(PATIENCE).await.unwrap();
    Some(lines)
}

/// The lines are topic and body.
fn are_events(lines: &[String]) {
    for (line, sequence) in lines.iter().zip([0, 2]) {
        let (topic, body) = line.split_once(' ').unwrap();
        assert_eq!(topic, TOPIC);
        let message = EventMessage::parse(body.as_bytes()).unwrap();
        assert_eq!((message.data.event, message.data.sequence), (event(1, 0).id, sequence));
        assert!(message.traceparent.is_some(), "also without user properties");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_sub_hears_events_as_the_page_says() {
    let Some(lines) = subscriber("subscribe.sh", "my-platform", &[]).await else { return };
    are_events(&lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_management_system_hears_onvif_events_as_the_page_says() {
    let Some(lines) = subscriber("onvif.sh", "my-vms", &[]).await else { return };
    for (line, state) in lines.iter().zip([true, false]) {
        let (topic, body) = line.split_once(' ').unwrap();
        let local = "onvif-ej/RuleEngine/FieldDetector/ObjectsInside/&hn-0001/huiyan/illegal_parking@lane";
        assert_eq!(topic, format!("hn-0001/{local}"));
        let event: crate::wire::OnvifEvent = serde_json::from_str(body).unwrap();
        assert_eq!((event.data.is_inside, event.data.state), (Some(state), Some(state)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mqtt_3_1_1_client_hears_the_same() {
    let Some(lines) = subscriber("subscribe-311.sh", "my-old-platform", &[]).await else { return };
    are_events(&lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn paho_in_python_hears_events_as_the_page_says() {
    if !there(project("target/contract/python/paho")) {
        return;
    }
    let Some(lines) = subscriber("subscribe.py", "my-platform", &["subscribe.py"]).await else { return };
    assert_eq!(lines[0], format!("{TOPIC} 疑似机动车乱停放：商业街东口（lane）"));
    assert_eq!(lines[1], format!("{TOPIC} 疑似机动车乱停放：商业街东口（lane），已消失"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_client_hears_events_as_the_page_says() {
    if !there("/usr/share/java/mqtt-client.jar".into()) {
        return;
    }
    let Some(lines) = subscriber("subscribe-java.sh", "my-platform", &["Subscribe.java"]).await else {
        return;
    };
    are_events(&lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_of_the_page_opens_one_case_however_often_a_message_comes() {
    if !there(project("target/contract/python/paho")) {
        return;
    }
    let Some(broker) = broker() else { return };
    let receipts = broker.listen("receipts", "huiyan/v1/+/receipt/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("inbox.py"), code("inbox.py")).unwrap();
    let inbox = Client::run(dir.path(), &broker, "python3 inbox.py");
    subscribed(&broker, "my-inbox");
    let publisher = publisher(dir.path(), &broker);
    submit(&publisher, 1, 0);
    let opened = inbox.line();
    assert!(opened.starts_with("accepted 1 疑似机动车乱停放"), "{opened}");
    // Sent after the acknowledgement.
    let known = receipts.wait(PATIENCE, |heard| !heard.is_empty()).unwrap();
    let receipt: crate::wire::Receipt = serde_json::from_slice(&known[0].payload).unwrap();
    assert_eq!((receipt.event, receipt.case), (event(1, 0).id, Some(1)));

    // It is killed; what comes meanwhile is kept, and a message that it had already is recognised.
    drop(inbox);
    submit(&publisher, 1, 1);
    submit(&publisher, 2, 0);
    publisher.stop(PATIENCE).await.unwrap();
    let body = golden_body(1, 0);
    broker.publish(TOPIC, &body).unwrap();
    let inbox = Client::run(dir.path(), &broker, "python3 inbox.py");
    let mut lines = [inbox.line(), inbox.line(), inbox.line()];
    lines.sort();
    let begins: Vec<_> = lines.iter().map(|line| line.rsplit_once(" 疑似").unwrap().0).collect();
    assert_eq!(begins, ["accepted 1", "accepted 2", "duplicate 1"]);
    let all = receipts.wait(PATIENCE, |heard| heard.len() >= 4).unwrap();
    let read = all.iter().map(|heard| serde_json::from_slice::<crate::wire::Receipt>(&heard.payload));
    assert!(read.into_iter().all(|receipt| receipt.is_ok()), "receipts are as the contract says");
}

/// What the publisher sent for this event.
fn golden_body(number: u64, sequence: u32) -> Vec<u8> {
    let speaker =
        crate::message::Speaker { site: "huinan".into(), worker: "w1".into(), config_hash: "cd".repeat(32) };
    let message = speaker.message(
        &event(number, sequence),
        &make::camera(),
        &make::situation(),
        &make::model(),
        Vec::new(),
    );
    message.to_json().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_and_a_request_to_look_arrive_as_the_page_says() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (said, heard) = sync_channel(16);
    let options = make::options(dir.path(), broker.broker());
    let on_heard = Box::new(move |heard| said.try_send(heard).is_ok());
    let ear = Ear::start(&options, &tokio::runtime::Handle::current(), on_heard);
    subscribed(&broker, "huiyan-huinan-w1-ear");
    // Of two subscriptions at once.
    std::thread::sleep(Duration::from_millis(200));

    let status = |shell: &str| {
        let script = format!("set -eu\nBROKER=127.0.0.1 PORT={}\n{shell}", broker.port());
        Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap()
    };
    assert!(status(&code("verdict.sh")).status.success());
    let verdict = heard.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(&verdict, Heard::Verdict { verdict: Verdict::NotAProblem, reason, .. } if reason == "loading"),
        "{verdict:?}"
    );

    let asked = Client::run(dir.path(), &broker, &code("look.sh"));
    let Ok(Heard::Look { camera, reply }) = heard.recv_timeout(PATIENCE) else { panic!("a request to look") };
    let answer = LookAnswer {
        camera,
        captured: Some(make::time(1)),
        objects: Vec::new(),
        open: Vec::new(),
        picture: None,
        error: String::new(),
    };
    ear.answer(&reply, &answer);
    assert_eq!(serde_json::from_str::<LookAnswer>(&asked.line()).unwrap(), answer);
}

#[test]
fn the_page_names_every_topic_of_the_contract() {
    let page = std::fs::read_to_string(project("configs/contract/README.md")).unwrap();
    let document = &crate::contract::files()[0].json;
    for (name, channel) in document["channels"].as_object().unwrap() {
        let topic = channel["address"].as_str().unwrap().replace("{reply}", "…");
        if let Some(local) = topic.strip_prefix("{onvif_prefix}/") {
            let row = format!("| `{}` |", local.replace("{rule}", "{situation}@{zone}"));
            assert!(page.contains(&row), "the page does not name {local}");
            continue;
        }
        let row = page.lines().find(|line| line.starts_with(&format!("| `{topic}`")));
        let row = row.unwrap_or_else(|| panic!("the page does not name {topic}"));
        let operations = document["operations"].as_object().unwrap().values();
        let mine = operations.into_iter().find(|op| op["channel"]["$ref"] == format!("#/channels/{name}"));
        let Some(mqtt) = mine.map(|op| &op["bindings"]["mqtt"]) else { continue };
        let yes = |holds: bool| if holds { "yes" } else { "no" };
        let (retained, expires) = (mqtt["retain"] == true, mqtt.get("messageExpiryInterval").is_some());
        assert!(row.ends_with(&format!("| 1 | {} | {} |", yes(retained), yes(expires))), "{row}");
    }
}
