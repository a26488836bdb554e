//! TLS to a real mosquitto, with certificates made here: what is right works, what is wrong has a name.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says why")]

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use fleet::{Address, Broker, Identity, Tls};

use super::broker::{is_up, start, submit, until};
use crate::mqtt::{Connection, Dialer, Hello, Session, Version};
use crate::testing::Mosquitto;
use crate::testing::certificates::Authority;
use crate::testing::sample::event;

const PATIENCE: Duration = Duration::from_secs(15);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn hello() -> Hello {
    Hello {
        client_id: format!("test-{:08x}", fastrand::u32(..)),
        session: Session::Connection,
        receive_maximum: 16,
        max_packet: 65_536,
        will: None,
    }
}

/// What comes of connecting: "connected", or why not.
async fn outcome(port: u16, tls: Option<Tls>) -> String {
    let broker =
        Broker { tls, connect_timeout: Duration::from_secs(3), ..Broker::at("127.0.0.1".into(), port) };
    let at = Address { host: "127.0.0.1".into(), port };
    match Connection::open(&broker, &at, Version::V5, &hello()).await {
        Ok(connection) => {
            connection.close().await;
            "connected".to_owned()
        }
        Err(error) => error.to_string(),
    }
}

/// A mosquitto with a listener for each way in which a broker may present itself.
struct Listeners {
    broker: Mosquitto,
    good: u16,
    expired: u16,
    elsewhere: u16,
    mutual: u16,
}

impl Listeners {
    fn start(authority: &Authority, expired: SystemTime) -> Option<Self> {
        let ports = [(); 4].map(|()| free_port());
        let own = [
            authority.issue("127.0.0.1"),
            authority.issue_until("127.0.0.1", expired),
            authority.issue("other.example"),
            authority.issue("127.0.0.1"),
        ];
        let mut config = String::new();
        for (port, Identity { certificate, key }) in ports.iter().zip(&own) {
            let (certificate, key) = (certificate.display(), key.display());
            config += &format!("listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n");
        }
        // The last one asks for a certificate.
        config += &format!("cafile {}\nrequire_certificate true\n", authority.ca().display());
        let broker = Mosquitto::start(&config).map_err(|why| println!("skipped: {why}")).ok()?;
        let [good, expired, elsewhere, mutual] = ports;
        Some(Self { broker, good, expired, elsewhere, mutual })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_tls_goes_wrong_has_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, stranger) =
        (Authority::new(dir.path(), "county"), Authority::new(dir.path(), "stranger"));
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let Some(at) = Listeners::start(&authority, yesterday) else { return };
    let trusting = |authority: &Authority| Tls { ca: Some(authority.ca()), ..Tls::default() };
    let tls = || Some(trusting(&authority));
    let being = |identity| Some(Tls { identity: Some(identity), ..trusting(&authority) });
    let named = Some(Tls { name: Some("other.example".into()), ..trusting(&authority) });

    let cases = [
        ("private authority", outcome(at.good, tls()).await, "connected"),
        (
            "unknown authority",
            outcome(at.good, Some(trusting(&stranger))).await,
            "issued by nobody in broker.tls.ca",
        ),
        ("expired", outcome(at.expired, tls()).await, "the broker's certificate expired at 20"),
        ("wrong name", outcome(at.elsewhere, tls()).await, "other.example, not for 127.0.0.1; expected"),
        ("another name", outcome(at.elsewhere, named).await, "connected"),
        (
            "client certificate missing",
            outcome(at.mutual, tls()).await,
            "asks for a client certificate; expected",
        ),
        ("client certificate", outcome(at.mutual, being(authority.issue("worker-1"))).await, "connected"),
        (
            "stranger's certificate",
            outcome(at.mutual, being(stranger.issue("worker-1"))).await,
            "the broker refuses our certificate",
        ),
        (
            "TLS to a plain port",
            outcome(at.broker.port(), tls()).await,
            "there is no TLS at this port; expected",
        ),
        ("plain to a TLS port", outcome(at.good, None).await, "mqtt"),
    ];
    for (name, found, expected) in &cases {
        assert!(found.contains(expected), "{name}: {found}");
    }
    // mosquitto hangs up on it; others answer with an alert, as below.
    assert!(cases[9].1.contains("expected"), "{}", cases[9].1);
}

/// Answers each connection with these bytes and keeps it open for a moment.
fn scripted(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(answer);
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    port
}

#[tokio::test]
async fn what_is_no_mqtt_broker_is_told_apart() {
    let alert = scripted(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46]);
    let found = outcome(alert, None).await;
    assert!(found.starts_with("this port speaks TLS; expected mqtts://"), "{found}");
    let found = outcome(scripted(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None).await;
    assert!(found.starts_with("what answers is no MQTT broker"), "{found}");
    let found = outcome(scripted(b"SSH-2.0-OpenSSH_9.2\r\n"), Some(Tls::default())).await;
    assert!(found.contains("no TLS at this port") || found.contains("trusts no"), "{found}");
    let found = outcome(free_port(), None).await;
    assert!(found.contains("refused"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_travel_over_mutual_tls_and_renewed_files_need_no_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, stranger) =
        (Authority::new(dir.path(), "county"), Authority::new(dir.path(), "stranger"));
    let Some(at) = Listeners::start(&authority, SystemTime::now()) else { return };
    let listener = at.broker.listen("all", "huiyan/v1/huinan/event/#").unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::copy(stranger.ca(), &ca).unwrap();
    let tls = Tls { ca: Some(ca.clone()), identity: Some(authority.issue("worker-1")), name: None };
    let broker = Broker { tls: Some(tls), ..Broker::at("127.0.0.1".into(), at.mutual) };
    let publisher = start(&dir.path().join("data"), broker);
    submit(&publisher, &event(1, 0));
    let wrong = || match publisher.state().unwrap().link {
        crate::Link::Down { error, .. } => error.contains("issued by nobody"),
        crate::Link::Up { .. } => false,
    };
    until("the error is visible", wrong).await;
    std::fs::copy(authority.ca(), &ca).unwrap();
    until("connected", || is_up(&publisher)).await;
    let heard = listener.wait(PATIENCE, |heard| !heard.is_empty()).unwrap();
    assert!(heard[0].topic.ends_with("/hn-0001"));
}

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn what_is_wrong_is_told_once_for_each_address_and_not_at_each_try() {
    let told = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(told.clone()));
    let (first, second) = (free_port(), free_port());
    let broker = Broker {
        fallbacks: vec![Address { host: "127.0.0.1".into(), port: second }],
        ..Broker::at("127.0.0.1".into(), first)
    };
    let mut dialer = Dialer::new(broker, "test");
    let (mut tries, mut last) = (0, String::new());
    let hello = hello();
    let dial = dialer.dial(&hello, |trouble| {
        tries += 1;
        last = trouble.to_owned();
    });
    assert!(tokio::time::timeout(Duration::from_millis(2_500), dial).await.is_err(), "nobody is there");
    assert!(tries >= 4, "{tries}");
    assert_eq!(told.load(Ordering::Relaxed), 2, "after {tries} tries");
    for port in [first, second] {
        assert!(last.contains(&format!("mqtt://127.0.0.1:{port}: ")), "{last}");
    }
}
