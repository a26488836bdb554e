//! Publisher and desk over rumqttd, the broker that `huiyan demo` embeds. It keeps less than mosquitto does (no
//! persistent files), and speaks another MQTT 5 in its details; the demo depends on it.

use std::collections::HashMap;
use std::net::TcpStream;
use std::time::Duration;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::broker::{cases, nowhere, start, until};
use super::{publisher, submit};
use crate::Counts;

/// Runs until the test's process ends.
fn rumqttd() -> fleet::Broker {
    let broker = nowhere();
    let listen = format!("127.0.0.1:{}", broker.port).parse().unwrap();
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 4 << 20,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "test".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: 16,
        max_outgoing_packet_count: 200,
        max_segment_size: 16 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    };
    let config =
        Config { router, v5: Some(HashMap::from([("test".to_owned(), server)])), ..Config::default() };
    std::thread::spawn(move || Broker::new(config).start().map_err(Box::new));
    while TcpStream::connect(listen).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demos_broker_carries_events_and_pictures() {
    let broker = rumqttd();
    let dir = tempfile::tempdir().unwrap();
    let desk = start(dir.path(), broker.clone()).await;
    let publisher = publisher(dir.path(), broker.clone());
    for number in 1..=3 {
        for sequence in 0..3 {
            submit(&publisher, number, sequence);
            until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;
        }
    }
    until("received", || desk.counts().attached == 6 && desk.counts().pictures == 9).await;
    assert_eq!(desk.counts(), Counts { opened: 3, attached: 6, pictures: 9, ..Counts::default() });
    let list = cases(&desk).await;
    assert!(
        list.iter().all(|case| case["state"] == "ended" && case["pictures"].as_array().unwrap().len() == 3)
    );
    desk.stop().await;

    // Away for a while: the session keeps what comes.
    submit(&publisher, 4, 0);
    until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;
    let desk = start(dir.path(), broker).await;
    until("the fourth", || desk.counts().opened == 1).await;
    let numbers: Vec<_> = cases(&desk).await.iter().map(|case| case["case"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
    assert_eq!(publisher.stop(Duration::from_secs(5)).await.unwrap().messages, 0);
}
