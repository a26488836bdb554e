//! `configs/brokers/mosquitto/acl` in a real mosquitto: what each role may and may not do.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says why")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fleet::{Broker, Credentials, Secret};

use super::broker::{start, submit, until};
use crate::mqtt::{Connection, Hello, Incoming, Publish, Session, Version};
use crate::testing::Mosquitto;
use crate::testing::certificates::Authority;
use crate::testing::sample::{self as make, event};

const ROLES: [&str; 4] = ["worker", "desk", "integrator", "health"];
const PASSWORD: &str = "a-password";

/// Topic below `huiyan/v1/huinan`, who may write it, and who may read it.
const RIGHTS: [(&str, &[&str], &[&str]); 11] = [
    ("event/illegal_parking/hn-0001", &["worker"], &["desk", "integrator"]),
    ("open/hn-0001/e1", &["worker"], &["desk", "integrator", "health"]),
    ("evidence/e1/first", &["worker"], &["desk", "integrator"]),
    ("camera/hn-0001/health", &["worker"], &["desk", "integrator", "health"]),
    ("worker/w1/status", &["worker"], &["desk", "integrator", "health"]),
    ("reply/desk/1", &["worker"], &["desk"]),
    ("reply/integrator/1", &["worker"], &["integrator"]),
    ("receipt/e1", &["desk"], &["integrator"]),
    ("verdict/e1", &["desk"], &["worker", "integrator"]),
    ("command/hn-0001/look", &["desk", "integrator"], &["worker"]),
    ("something/else", &[], &[]),
];

fn broker() -> Option<Mosquitto> {
    let acl = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/brokers/mosquitto/acl");
    let passwords = std::env::temp_dir().join(format!("huiyan-passwords-{}", std::process::id()));
    for (index, role) in ROLES.iter().enumerate() {
        let create: &[&str] = if index == 0 { &["-c"] } else { &[] };
        let status = Command::new("mosquitto_passwd")
            .args(create)
            .arg("-b")
            .arg(&passwords)
            .args([role, PASSWORD])
            .output();
        if let Err(why) = status {
            println!("skipped: mosquitto_passwd: {why}");
            return None;
        }
    }
    let config = format!(
        "allow_anonymous false\npassword_file {}\nacl_file {}\n",
        passwords.display(),
        acl.canonicalize().unwrap().display()
    );
    let broker = Mosquitto::start(&config);
    let _ = std::fs::remove_file(&passwords);
    broker.map_err(|why| println!("skipped: {why}")).ok()
}

fn as_role(broker: &Mosquitto, role: &str, password: &str) -> Broker {
    let login = Credentials { user: role.into(), password: Secret::new(password.into()) };
    Broker { credentials: Some(login), ..broker.broker() }
}

async fn connect(broker: &Mosquitto, role: &str) -> Connection {
    let broker = as_role(broker, role, PASSWORD);
    let hello = Hello {
        client_id: format!("test-{role}"),
        session: Session::Connection,
        receive_maximum: 100,
        max_packet: 65_536,
        will: None,
    };
    Connection::open(&broker, &broker.addresses()[0], Version::V5, &hello).await.unwrap()
}

/// Whether the broker takes a message from it.
async fn may_write(connection: &mut Connection, topic: &str) -> bool {
    let id = connection.fresh_id(|_| false);
    let payload = bytes::Bytes::from_static(b"{}");
    connection
        .publish(&Publish { topic: topic.into(), payload, at_least_once: true, ..Publish::default() }, id);
    loop {
        match connection.next().await.unwrap() {
            Incoming::PubAck { packet_id, refusal } if packet_id == id => {
                assert!(
                    refusal.as_ref().is_none_or(|reason| reason.name() == "not authorized"),
                    "{refusal:?}"
                );
                return refusal.is_none();
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_its_own_and_nothing_else() {
    let Some(broker) = broker() else { return };
    let mut readers = Vec::new();
    for role in ROLES {
        let mut reader = connect(&broker, role).await;
        let id = reader.fresh_id(|_| false);
        reader.subscribe(&["huiyan/#".into()], true, id);
        let answer = reader.next().await.unwrap();
        assert!(matches!(answer, Incoming::SubAck { .. }), "{answer:?}");
        readers.push((role, reader));
    }
    let mut expected = BTreeSet::new();
    for role in ROLES {
        // Another client id than the reader's, which would be cut off.
        let broker_as = as_role(&broker, role, PASSWORD);
        let hello = Hello {
            client_id: format!("writer-{role}"),
            session: Session::Connection,
            receive_maximum: 1,
            max_packet: 65_536,
            will: None,
        };
        let at = &broker_as.addresses()[0];
        let mut writer = Connection::open(&broker_as, at, Version::V5, &hello).await.unwrap();
        for (topic, writers, readers) in RIGHTS {
            let whole = format!("huiyan/v1/huinan/{topic}");
            assert_eq!(
                may_write(&mut writer, &whole).await,
                writers.contains(&role),
                "{role} writes {topic}"
            );
            let other = format!("huiyan/v1/elsewhere/{topic}");
            assert!(!may_write(&mut writer, &other).await, "{role} writes {other}");
            if writers.contains(&role) {
                expected.extend(readers.iter().map(|reader| (*reader, whole.clone())));
            }
        }
    }
    let mut found = BTreeSet::new();
    for (role, reader) in &mut readers {
        while let Ok(Ok(incoming)) = tokio::time::timeout(Duration::from_millis(500), reader.next()).await {
            if let Incoming::Publish(message) = incoming {
                reader.acknowledge(&message);
                found.insert((*role, message.topic));
            }
        }
    }
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_its_role_publishes_and_one_with_a_wrong_password_says_so() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(&dir.path().join("a"), as_role(&broker, "worker", PASSWORD));
    (0..3).for_each(|sequence| submit(&publisher, &event(1, sequence)));
    until("all is taken", || publisher.state().unwrap().outbox.messages == 0).await;
    assert!(publisher.state().unwrap().refused.is_empty());
    let mut options = make::options(&dir.path().join("b"), as_role(&broker, "worker", "another"));
    options.worker = "w2".into();
    let other = crate::Publisher::start(options, &tokio::runtime::Handle::current()).unwrap();
    let told = || match other.state().unwrap().link {
        crate::Link::Down { error, .. } => error.contains("expected") && error.contains("broker.credentials"),
        crate::Link::Up { .. } => false,
    };
    until("the error is visible", told).await;
}

/// `configs/brokers/mosquitto/mosquitto.conf` with the paths of this test: who somebody is stands in the certificate.
#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_configuration_takes_the_role_from_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let own = authority.issue("127.0.0.1");
    std::fs::copy(own.certificate, dir.path().join("broker.pem")).unwrap();
    std::fs::copy(own.key, dir.path().join("broker.key")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/brokers/mosquitto");
    let config = std::fs::read_to_string(configs.join("mosquitto.conf")).unwrap();
    let lines = config.lines().filter(|line| !line.starts_with("persistence"));
    let config: String = lines.map(|line| format!("{line}\n")).collect();
    let config = config
        .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
        .replace("/etc/mosquitto/certs", &dir.path().display().to_string())
        .replace("/etc/mosquitto", &configs.canonicalize().unwrap().display().to_string());
    let broker = match Mosquitto::start(&config) {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let being = |who: &str| Broker {
        tls: Some(fleet::Tls { ca: Some(authority.ca()), identity: Some(authority.issue(who)), name: None }),
        ..Broker::at("127.0.0.1".into(), port)
    };
    let publisher = start(&dir.path().join("worker"), being("worker"));
    submit(&publisher, &event(1, 0));
    until("all is taken", || publisher.state().unwrap().outbox.messages == 0).await;
    let stranger = start(&dir.path().join("integrator"), being("integrator"));
    submit(&stranger, &event(2, 0));
    until("refused", || publisher_refused(&stranger) > 0).await;
    drop(broker);
}

fn publisher_refused(publisher: &crate::Publisher) -> u64 {
    publisher.state().unwrap().refused.iter().map(|(_, times)| times).sum()
}
