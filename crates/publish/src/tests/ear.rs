//! What others tell a worker, through a real mosquitto and its own clients.

#![allow(clippy::disallowed_macros)]

use std::sync::mpsc;
use std::time::Duration;

use flow::{CameraId, EventId};

use crate::testing::Mosquitto;
use crate::testing::sample as make;
use crate::wire::{LookAnswer, Verdict};
use crate::{Ear, Heard};

const EVENT: &str = "0193d1a4-5c00-7e6b-8a13-2f6f9b1c7d11";
const PATIENCE: Duration = Duration::from_secs(15);

fn ear(dir: &std::path::Path, broker: &Mosquitto) -> (Ear, mpsc::Receiver<Heard>) {
    let (said, heard) = mpsc::sync_channel(16);
    let options = make::options(dir, broker.broker());
    let on_heard = Box::new(move |heard| said.try_send(heard).is_ok());
    (Ear::start(&options, &tokio::runtime::Handle::current(), on_heard), heard)
}

fn verdict() -> (String, String) {
    let body = format!(
        r#"{{"event":"{EVENT}","verdict":"not_a_problem","reason":"x","at":"2026-11-24T08:00:00Z"}}"#
    );
    (format!("huiyan/v1/huinan/verdict/{EVENT}"), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_and_requests_are_heard_answered_and_what_is_wrong_is_counted() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let replies = broker.listen("desk", "huiyan/v1/huinan/reply/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (ear, heard) = ear(dir.path(), &broker);
    let (topic, body) = verdict();
    // Until it has subscribed nobody hears it: said again until heard.
    let first = (0..75).find_map(|_| {
        broker.publish(&topic, body.as_bytes()).unwrap();
        heard.recv_timeout(Duration::from_millis(200)).ok()
    });
    let event = EventId::parse(EVENT).unwrap();
    assert_eq!(first, Some(Heard::Verdict { event, verdict: Verdict::NotAProblem, reason: "x".into() }));
    while heard.recv_timeout(Duration::from_millis(300)).is_ok() {}

    let look = "huiyan/v1/huinan/command/hn-0001/look";
    broker.publish(look, b"not json").unwrap();
    broker.publish(look, b"{}").unwrap();
    broker.publish(look, br#"{"reply_to":"huiyan/v1/huinan/event/a/b"}"#).unwrap();
    broker.publish(look, br#"{"reply_to":"huiyan/v1/huinan/reply/desk-1"}"#).unwrap();
    let Ok(Heard::Look { camera, reply }) = heard.recv_timeout(PATIENCE) else { panic!("a request to look") };
    assert_eq!(camera, CameraId::new("hn-0001").unwrap());
    assert_eq!(ear.counters().refused.get(), 3);
    let answer = LookAnswer {
        camera,
        captured: None,
        objects: vec![],
        open: vec![event],
        picture: None,
        error: "no picture came in time".into(),
    };
    ear.answer(&reply, &answer);
    let got = replies.wait(PATIENCE, |heard| !heard.is_empty()).unwrap();
    assert_eq!(got[0].topic, "huiyan/v1/huinan/reply/desk-1");
    assert_eq!(serde_json::from_slice::<LookAnswer>(&got[0].payload).unwrap(), answer);

    // What is said while the worker is away is heard when it is back.
    ear.stop().await;
    broker.publish(&topic, body.as_bytes()).unwrap();
    let (_ear, heard) = self::ear(dir.path(), &broker);
    assert!(matches!(heard.recv_timeout(PATIENCE), Ok(Heard::Verdict { .. })));
}
