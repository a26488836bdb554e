//! Brokers of MQTT 3.1.1: everything that the version can carry arrives, and what it cannot is known.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says why")]

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use fleet::{Broker, MqttVersion};
use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::broker::{is_up, start, submit, until, wait_for};
use crate::Ear;
use crate::testing::Mosquitto;
use crate::testing::sample::{self as make, event};

const PATIENCE: Duration = Duration::from_secs(15);

fn old(broker: Broker) -> Broker {
    Broker { version: MqttVersion::V311, ..broker }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_health_birth_and_death_arrive_in_311() {
    let broker = match Mosquitto::start("log_type all") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let listener = broker.listen("all", "huiyan/v1/huinan/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), old(broker.broker()));
    (0..3).for_each(|sequence| submit(&publisher, &event(1, sequence)));
    publisher
        .health(&flow::Health::new(make::camera().id, flow::CameraState::Streaming, "", make::time(0)), None);
    let events = wait_for(&listener, 3, 1);
    // The properties are gone, what they said is in the body.
    assert_eq!(events.iter().map(|e| e.data.sequence).collect::<Vec<_>>(), [0, 1, 2]);
    until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;
    publisher.crash().await;
    let heard = listener.wait(PATIENCE, |heard| {
        heard.iter().any(|h| String::from_utf8_lossy(&h.payload).contains("connection lost"))
            && heard.iter().any(|h| h.topic.ends_with("/hn-0001/health"))
    });
    let heard = heard.unwrap();
    let message = heard.iter().find(|h| h.topic.contains("/event/")).unwrap();
    assert_eq!(
        (message.content_type.as_str(), message.expiry.as_str(), message.properties.as_str()),
        ("", "", "")
    );
    assert!(
        heard.iter().any(|h| h.topic.contains("/open/") && h.payload.is_empty()),
        "cleared when it ended"
    );
    // mosquitto's number for 3.1.1.
    assert!(broker.log().contains("as huiyan-huinan-w1 (p2, "), "{}", broker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_heard_and_answered_in_311_also_those_of_an_absence() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let listen = || {
        let (said, heard) = std::sync::mpsc::sync_channel(16);
        let options = make::options(dir.path(), old(broker.broker()));
        let on_heard = Box::new(move |heard| said.try_send(heard).is_ok());
        (Ear::start(&options, &tokio::runtime::Handle::current(), on_heard), heard)
    };
    let look = "huiyan/v1/huinan/command/hn-0001/look";
    let body = br#"{"reply_to":"huiyan/v1/huinan/reply/desk-1"}"#;
    let (ear, heard) = listen();
    let first = (0..75).find_map(|_| {
        broker.publish(look, body).unwrap();
        heard.recv_timeout(Duration::from_millis(200)).ok()
    });
    assert!(matches!(first, Some(crate::Heard::Look { .. })));
    ear.stop().await;
    broker.publish(look, body).unwrap();
    let (_ear, heard) = listen();
    assert!(matches!(heard.recv_timeout(PATIENCE), Ok(crate::Heard::Look { .. })));
}

/// A rumqttd that listens for 3.1.1 only. Runs until the test's process ends.
fn rumqttd_311() -> u16 {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 4 << 20,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let listen = format!("127.0.0.1:{port}").parse().unwrap();
    let server =
        ServerSettings { name: "old".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: 16,
        max_outgoing_packet_count: 200,
        max_segment_size: 16 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    };
    let v4 = Some(HashMap::from([("old".to_owned(), server)]));
    let config = Config { router, v4, ..Config::default() };
    std::thread::spawn(move || drop(rumqttd::Broker::new(config).start()));
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_5_is_spoken_to_in_311_by_itself() {
    let port = rumqttd_311();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), make::broker(port));
    until("connected", || is_up(&publisher)).await;
    let mut client = Command::new("mosquitto_sub")
        .args([
            "-V",
            "mqttv311",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-q",
            "1",
            "-C",
            "1",
            "-W",
            "15",
        ])
        .args(["-t", "huiyan/v1/huinan/event/#"])
        .stdout(Stdio::piped())
        .spawn();
    if let Err(why) = &client {
        println!("not heard by mosquitto_sub: {why}");
    }
    // It subscribes in its own time: said until heard.
    for number in 0.. {
        assert!(number < 150, "neither taken nor heard");
        submit(&publisher, &event(number, 0));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let heard = client.as_mut().map_or(Ok(None), |client| client.try_wait()).unwrap();
        let heard = client.is_err() || heard.is_some_and(|status| status.success());
        if heard && publisher.state().unwrap().events.passed > 0 {
            break;
        }
    }
    if let Ok(mut client) = client {
        let _ = client.kill();
        let _ = client.wait();
    }
}

#[tokio::test]
async fn a_refusal_of_the_version_is_understood_and_remembered() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (versions, mut seen) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 512];
            let _ = stream.read(&mut bytes).await;
            // Fixed header, length, "MQTT" with its length: then the version.
            let version = bytes[bytes.iter().position(|b| *b == b'Q').unwrap() + 3];
            let _ = versions.send(version).await;
            let _ = stream.write_all(&[0x20, 2, 0, if version == 5 { 1 } else { 0 }]).await;
            let _ = stream.read(&mut bytes).await;
        }
    });
    let mut dialer = crate::mqtt::Dialer::new(make::broker(port), "test");
    let hello = crate::mqtt::Hello {
        client_id: "test".into(),
        session: crate::mqtt::Session::Connection,
        receive_maximum: 16,
        max_packet: 65_536,
        will: None,
    };
    for expected in [&[5, 4][..], &[4]] {
        dialer.dial(&hello, |trouble| panic!("{trouble}")).await.close().await;
        for version in expected {
            assert_eq!(seen.recv().await, Some(*version));
        }
    }
    let only_5 = Broker { version: MqttVersion::V5, ..make::broker(port) };
    let at = fleet::Address { host: "127.0.0.1".into(), port };
    let refused = crate::mqtt::Connection::open(&only_5, &at, crate::mqtt::Version::V5, &hello).await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the broker refuses the connection: unsupported protocol version (0x84); expected `broker.version: v3.1.1`, or `auto`"
    );
}

/// The one thing that 3.1.1 takes away and nothing can give back: stated here, so that nobody believes otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_311_broker_cannot_say_that_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("acl");
    std::fs::write(&rules, "topic readwrite huiyan/v1/huinan/worker/#\n").unwrap();
    let broker = match Mosquitto::start(&format!("acl_file {}", rules.display())) {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let publisher = start(&dir.path().join("data"), old(broker.broker()));
    submit(&publisher, &event(1, 0));
    until("taken, as far as 3.1.1 can tell", || publisher.state().unwrap().events.passed == 1).await;
    assert!(publisher.state().unwrap().refused.is_empty());
}
