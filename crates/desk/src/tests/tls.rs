//! The desk over mutual TLS, and with MQTT 3.1.1.

// A skipped test says so.
#![allow(clippy::disallowed_macros)]

use fleet::{Broker, MqttVersion, Tls};
use publish::testing::Mosquitto;
use publish::testing::certificates::Authority;

use super::broker::{start, until};
use super::{publisher, submit};
use crate::Counts;

/// What the publisher sends over the same broker opens a case.
async fn a_case_is_opened(broker: Broker, desk_broker: Broker) {
    let dir = tempfile::tempdir().unwrap();
    let desk = start(dir.path(), desk_broker.clone()).await;
    let publisher = publisher(dir.path(), broker);
    submit(&publisher, 1, 0);
    until("received", || desk.counts().opened == 1 && desk.counts().pictures == 1).await;
    until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;

    // What comes while it is away waits for it.
    desk.stop().await;
    submit(&publisher, 2, 0);
    until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;
    let desk = start(dir.path(), desk_broker).await;
    until("the second", || desk.counts().opened == 1 && desk.counts().pictures == 1).await;
    assert_eq!(desk.counts(), Counts { opened: 1, pictures: 1, ..Counts::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_and_a_worker_meet_over_mutual_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "county");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let own = authority.issue("broker.example");
    let (ca, certificate, key) = (authority.ca(), own.certificate, own.key);
    let config = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        ca.display(),
        certificate.display(),
        key.display()
    );
    let _broker = match Mosquitto::start(&config) {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let being = |who: &str| Broker {
        tls: Some(Tls {
            ca: Some(ca.clone()),
            identity: Some(authority.issue(who)),
            name: Some("broker.example".into()),
        }),
        ..Broker::at("127.0.0.1".into(), port)
    };
    a_case_is_opened(being("worker"), being("desk")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desk_of_311_opens_cases_of_a_worker_of_5() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let old = Broker { version: MqttVersion::V311, ..broker.broker() };
    a_case_is_opened(broker.broker(), old).await;
}
