//! A desk behind a real mosquitto.

// A skipped test says so.
#![allow(clippy::disallowed_macros)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use publish::testing::{Heard, Mosquitto};
use publish::wire::{Outcome, Receipt};

use super::{jpeg, message, publisher, submit};
use crate::{Counts, Desk, Options};

const PATIENCE: Duration = Duration::from_secs(15);
const EVENT_TOPIC: &str = "huiyan/v1/huinan/event/illegal_parking/hn-0001";

/// Nobody listens there.
pub(super) fn nowhere() -> fleet::Broker {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fleet::Broker { message_expiry: PATIENCE, ..fleet::Broker::at("127.0.0.1".into(), port) }
}

/// The broker, or `None` after saying why the test is skipped.
pub(super) fn mosquitto() -> Option<Mosquitto> {
    Mosquitto::start("").map_err(|why| println!("skipped: {why}")).ok()
}

pub(super) async fn start(dir: &Path, broker: fleet::Broker) -> Desk {
    start_with(dir, broker, None).await
}

/// With a store of pictures.
pub(super) async fn start_with(dir: &Path, broker: fleet::Broker, store: Option<fleet::Store>) -> Desk {
    let options = Options {
        site: "huinan".into(),
        broker,
        db: dir.join("desk.sqlite"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        evidence_max_bytes: 1 << 20,
        store,
    };
    let desk = Desk::start(options).await.unwrap();
    until("the desk is connected", || desk.link().is_ok()).await;
    desk
}

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Status line with headers, and body.
pub(super) async fn get(desk: &Desk, path: &str) -> (String, Vec<u8>) {
    let (addr, path) = (desk.addr(), path.to_owned());
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: desk\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end + 4..].to_vec())
}

pub(super) async fn cases(desk: &Desk) -> Vec<serde_json::Value> {
    serde_json::from_slice(&get(desk, "/cases.json").await.1).unwrap()
}

fn receipts(heard: &[Heard]) -> Vec<(Outcome, Option<u64>)> {
    let receipt = |h: &Heard| serde_json::from_slice::<Receipt>(&h.payload).unwrap();
    heard.iter().map(receipt).map(|r| (r.outcome, r.case)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_publisher_to_page() {
    let Some(broker) = mosquitto() else { return };
    let dir = tempfile::tempdir().unwrap();
    let listener = broker.listen("platform", "huiyan/v1/huinan/receipt/#").unwrap();
    let desk = start(dir.path(), broker.broker()).await;
    let publisher = publisher(dir.path(), broker.broker());
    for sequence in 0..3 {
        submit(&publisher, 1, sequence);
        until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;
    }
    until("received", || desk.counts().attached == 2 && desk.counts().pictures == 3).await;
    let heard = listener.wait(PATIENCE, |heard| heard.len() >= 3).unwrap();
    assert_eq!(receipts(&heard), [(Outcome::Accepted, Some(1)); 3]);

    let event = message(1, 0).data.event;
    let (head, page) = get(&desk, "/").await;
    let page = String::from_utf8(page).unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("default-src 'none'"), "{head}");
    assert!(page.contains("疑似机动车乱停放") && page.contains("已消失 ended"), "{page}");
    for role in ["first", "latest", "clear"] {
        let path = format!("/evidence/{event}/{role}.jpg");
        assert!(page.contains(&path), "{path}");
        let (head, bytes) = get(&desk, &path).await;
        assert!(head.contains("content-type: image/jpeg"), "{head}");
        let files = std::fs::read_dir(dir.path().join(format!("evidence/{event}"))).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        let named = |name: &str| name.starts_with(&format!("{role}-")) && name.ends_with(".jpg");
        let file = files.find(|file| file.file_name().unwrap().to_str().is_some_and(named)).unwrap();
        assert_eq!(bytes, std::fs::read(file).unwrap(), "as published");
    }
    let cases = cases(&desk).await;
    assert_eq!(cases.len(), 1);
    assert_eq!(
        (&cases[0]["case"], &cases[0]["state"], &cases[0]["updates"]),
        (&1.into(), &"ended".into(), &1.into())
    );
    assert_eq!(cases[0]["pictures"][0]["objects"][0]["class"], "car");
    assert_eq!(cases[0]["pictures"][2]["objects"], serde_json::json!([]), "nothing is left to be boxed");
    let (head, body) = get(&desk, "/healthz").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["cases"]["ended"], 1);
    for path in
        ["/evidence/x/first.jpg", "/evidence/../../etc/passwd", &format!("/evidence/{event}/near.jpg")]
    {
        assert!(get(&desk, path).await.0.starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_delivered_twice_opens_nothing_twice_and_what_came_meanwhile_waits() {
    let Some(broker) = mosquitto() else { return };
    let dir = tempfile::tempdir().unwrap();
    let listener = broker.listen("platform", "huiyan/v1/huinan/receipt/#").unwrap();
    let send = |number, sequence| {
        broker.publish(EVENT_TOPIC, &message(number, sequence).to_json().unwrap()).unwrap();
    };
    let desk = start(dir.path(), broker.broker()).await;
    (1..=3).for_each(|number| (0..2).for_each(|sequence| send(number, sequence)));
    (1..=3).for_each(|number| (0..2).for_each(|sequence| send(number, sequence)));
    until("all twelve", || desk.counts().duplicates == 6).await;
    assert_eq!(desk.counts(), Counts { opened: 3, attached: 3, duplicates: 6, ..Counts::default() });
    desk.stop().await;

    // Away: the broker keeps what comes.
    (1..=4).for_each(|number| send(number, 0));
    (1..=4).for_each(|number| send(number, 2));
    let desk = start(dir.path(), broker.broker()).await;
    until("the rest", || desk.counts().attached == 4).await;
    assert_eq!(desk.counts(), Counts { opened: 1, attached: 4, duplicates: 3, ..Counts::default() });
    let cases = cases(&desk).await;
    let numbers: Vec<_> = cases.iter().map(|case| case["case"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
    assert!(cases.iter().all(|case| case["state"] == "ended"));
    let heard = listener.wait(PATIENCE, |heard| heard.len() >= 20).unwrap();
    let accepted = receipts(&heard).iter().filter(|(outcome, _)| *outcome == Outcome::Accepted).count();
    assert_eq!((accepted, heard.len()), (11, 20), "one receipt for each delivery");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_commit_and_acknowledgement_the_case_is_there_once() {
    let Some(broker) = mosquitto() else { return };
    let dir = tempfile::tempdir().unwrap();
    let desk = start(dir.path(), broker.broker()).await;
    desk.inbox.hang_before_ack.store(true, std::sync::atomic::Ordering::SeqCst);
    broker.publish(EVENT_TOPIC, &message(1, 0).to_json().unwrap()).unwrap();
    until("committed", || desk.counts().opened == 1).await;
    desk.crash().await;
    let desk = start(dir.path(), broker.broker()).await;
    until("delivered again", || desk.counts().duplicates == 1).await;
    assert_eq!(desk.counts().opened, 0);
    assert_eq!(cases(&desk).await.len(), 1);
    desk.stop().await;
    // Acknowledged now: it does not come a third time.
    let desk = start(dir.path(), broker.broker()).await;
    broker.publish(EVENT_TOPIC, &message(2, 0).to_json().unwrap()).unwrap();
    until("the next", || desk.counts().opened == 1).await;
    assert_eq!(desk.counts().duplicates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_refused_with_the_reason_and_disturb_nobody() {
    let Some(broker) = mosquitto() else { return };
    let dir = tempfile::tempdir().unwrap();
    let listener = broker.listen("platform", "huiyan/v1/huinan/receipt/#").unwrap();
    let desk = start(dir.path(), broker.broker()).await;
    let mut wrong = serde_json::to_value(message(1, 0)).unwrap();
    wrong["data"]["confidence"] = 7.into();
    let event = message(1, 0).data.event;
    let evidence = format!("huiyan/v1/huinan/evidence/{event}/first");
    let nested = "[".repeat(50_000);
    let bad: [(&str, Vec<u8>); 10] = [
        (EVENT_TOPIC, b"".into()),
        (EVENT_TOPIC, b"{".into()),
        (EVENT_TOPIC, b"\xff\xfe\x00".into()),
        (EVENT_TOPIC, nested.into()),
        (EVENT_TOPIC, vec![b'a'; 300_000]),
        (EVENT_TOPIC, wrong.to_string().into()),
        ("huiyan/v1/huinan/event/one/two/three", b"{}".into()),
        ("huiyan/v1/huinan/event/illegal_parking/other", message(3, 0).to_json().unwrap()),
        ("huiyan/v1/huinan/evidence/not-an-id/first", jpeg(64).bytes),
        (&evidence, b"<svg onload=alert(1)>".into()),
    ];
    for (topic, body) in bad {
        broker.publish(topic, &body).unwrap();
    }
    broker.publish(EVENT_TOPIC, &message(2, 0).to_json().unwrap()).unwrap();
    until("the good one", || desk.counts().opened == 1).await;
    assert_eq!(desk.counts(), Counts { opened: 1, refused: 10, ..Counts::default() });
    let heard = listener.wait(PATIENCE, |heard| heard.len() >= 3).unwrap();
    let refused: Receipt = serde_json::from_slice(&heard[0].payload).unwrap();
    assert_eq!((refused.event, refused.outcome, refused.case), (event, Outcome::Refused, None));
    assert!(refused.reason.unwrap().contains("7 is no score"));
    let refused: Receipt = serde_json::from_slice(&heard[1].payload).unwrap();
    assert_eq!(refused.event, message(3, 0).data.event);
    assert!(refused.reason.unwrap().ends_with("at hn-0001; its topic says illegal_parking at other"));
    assert_eq!(heard[2].topic, format!("huiyan/v1/huinan/receipt/{}", message(2, 0).data.event));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_is_listened_to_again() {
    let Some(mut broker) = mosquitto() else { return };
    let dir = tempfile::tempdir().unwrap();
    let desk = start(dir.path(), broker.broker()).await;
    broker.kill();
    until("noticed", || desk.link().is_err()).await;
    assert!(get(&desk, "/healthz").await.0.starts_with("HTTP/1.1 503"));
    assert!(String::from_utf8(get(&desk, "/").await.1).unwrap().contains("未连接 no broker"));
    let broker = broker.start_again().unwrap();
    until("connected again", || desk.link().is_ok()).await;
    broker.publish(EVENT_TOPIC, &message(1, 0).to_json().unwrap()).unwrap();
    until("received", || desk.counts().opened == 1).await;
}
