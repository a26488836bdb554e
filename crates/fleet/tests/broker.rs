//! How the broker is described: addresses, TLS, and what is wrong with its files.
#![allow(clippy::unwrap_used)] // Also in the functions that the tests share.

mod common;

use common::{BASE, Folder};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// A certificate that is valid between these years, and its key, both PEM.
fn certificate(from: i32, until: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec!["worker-1".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// With good files `ca.pem`, `worker.pem`, `worker.key`.
fn folder() -> Folder {
    let folder = Folder::new();
    let (good, key) = certificate(2020, 2045);
    folder.write("ca.pem", &good);
    folder.write("worker.pem", &good);
    folder.write("worker.key", key);
    folder
}

#[test]
fn a_broker_with_tls_and_fallbacks_is_read() {
    let folder = folder();
    let fleet = folder
        .load_text(&format!(
            "{BASE}broker:
  url: mqtts://a.example
  fallbacks: [mqtts://b.example:8884, 'mqtts://[2001:db8::1]']
  tls: {{ca: ca.pem, certificate: worker.pem, key: worker.key, name: broker.example}}
  version: v3.1.1
  keep_alive: 3s
"
        ))
        .unwrap();
    let broker = &fleet.broker;
    assert_eq!(
        broker.to_string(),
        "mqtts://a.example:8883, mqtts://b.example:8884, mqtts://[2001:db8::1]:8883"
    );
    assert_eq!((broker.version, broker.keep_alive.as_secs()), (fleet::MqttVersion::V311, 3));
    let files = broker.tls.as_ref().unwrap().load().unwrap();
    assert_eq!(files.roots.unwrap().len(), 1);
    assert_eq!(files.identity.unwrap().cert.len(), 1);
}

#[test]
fn what_the_url_alone_says() {
    let at = |url: &str| fleet::Broker::at_url(&fleet::broker_url(url, "").unwrap());
    assert_eq!((at("mqtt://h").to_string(), at("mqtt://h").tls), ("mqtt://h:1883".to_owned(), None));
    assert_eq!(at("mqtts://h").to_string(), "mqtts://h:8883");
    assert!(at("mqtts://h").tls.unwrap().load().unwrap().roots.is_none());
}

#[test]
fn onvif_events_have_a_prefix_that_is_one() {
    let folder = folder();
    let load = |prefix: &str| folder.load_text(&format!("{BASE}broker: {{onvif: \"{prefix}\"}}\n"));
    assert_eq!(load("{camera}").unwrap().broker.onvif.as_deref(), Some("{camera}"));
    assert_eq!(load("vms/{site}/{camera}").unwrap().broker.onvif.as_deref(), Some("vms/{site}/{camera}"));
    assert_eq!(folder.load_text(BASE).unwrap().broker.onvif, None);
    for prefix in ["/a", "a/", "a//b", "a/#", "+", "{worker}", "huiyan/v1/{site}", "a b"] {
        let mistakes = load(prefix).unwrap_err().to_string();
        assert!(
            mistakes.contains("broker.onvif") && mistakes.contains("is no prefix of a topic"),
            "{mistakes}"
        );
    }
}

/// One mistake each: what is written below [`BASE`], and what is said.
#[test]
fn each_mistake_has_its_message() {
    let folder = folder();
    let (expired, _) = certificate(2001, 2011);
    let (early, _) = certificate(2040, 2050);
    let (_, other_key) = certificate(2020, 2045);
    folder.write("expired.pem", expired);
    folder.write("early.pem", early);
    folder.write("other.key", &other_key);
    folder.write("empty.pem", "");
    folder.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    folder.write("noise.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    folder.write("locked.key", other_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    let own = |certificate: &str, key: &str| {
        format!("broker: {{url: mqtts://h, tls: {{certificate: {certificate}, key: {key}}}}}\n")
    };
    let cases = [
        (
            "broker: {url: mqtts://h, tls: {ca: none.pem}}\n".to_owned(),
            r#"6:36: broker.tls.ca: "none.pem" cannot be read: No such file or directory (os error 2); expected a readable file, at none.pem"#,
        ),
        (
            "broker: {url: mqtts://h, tls: {ca: empty.pem}}\n".to_owned(),
            r#"6:36: broker.tls.ca: "empty.pem" holds no certificate; expected -----BEGIN CERTIFICATE----- and what follows (PEM)"#,
        ),
        (
            "broker: {url: mqtts://h, tls: {ca: cut.pem}}\n".to_owned(),
            r#"6:36: broker.tls.ca: "cut.pem" is no PEM: a line -----END ...----- is missing; expected -----BEGIN CERTIFICATE----- and what follows (PEM)"#,
        ),
        (
            own("noise.pem", "worker.key"),
            r#"6:45: broker.tls.certificate: "noise.pem" holds something else than a certificate; expected -----BEGIN CERTIFICATE----- and what follows (PEM)"#,
        ),
        (
            own("expired.pem", "worker.key"),
            r#"6:45: broker.tls.certificate: "expired.pem" expired at 2011-01-01T00:00:00Z; expected a certificate that is valid now; is this machine's clock right?"#,
        ),
        (
            own("early.pem", "worker.key"),
            r#"6:45: broker.tls.certificate: "early.pem" is not valid before 2040-01-01T00:00:00Z; expected a certificate that is valid now; is this machine's clock right?"#,
        ),
        (
            own("worker.pem", "other.key"),
            r#"6:62: broker.tls.key: "other.key" is not the key of the first certificate in worker.pem; expected the private key that the certificate was made for, and that certificate first in its file"#,
        ),
        (
            own("worker.pem", "locked.key"),
            r#"6:62: broker.tls.key: "locked.key" is encrypted with a passphrase; expected -----BEGIN PRIVATE KEY----- and what follows (PEM), without a passphrase"#,
        ),
        (
            own("worker.pem", "worker.pem"),
            r#"6:62: broker.tls.key: "worker.pem" holds no private key; expected -----BEGIN PRIVATE KEY----- and what follows (PEM), without a passphrase"#,
        ),
        (
            "broker: {url: mqtts://h, tls: {certificate: worker.pem}}\n".to_owned(),
            r#"6:45: broker.tls.certificate: is given without broker.tls.key; write both, or none"#,
        ),
        (
            "broker: {url: mqtts://h, tls: {name: a b}}\n".to_owned(),
            r#"6:38: broker.tls.name: "a b" is no name of a host; expected a DNS name or an IP address"#,
        ),
        (
            "broker: {url: mqtt://h, tls: {ca: ca.pem}}\n".to_owned(),
            r#"6:30: broker.tls: is given, but broker.url begins with mqtt://; write mqtts:// in broker.url"#,
        ),
        (
            "broker: {url: mqtts://h, fallbacks: [mqtt://i]}\n".to_owned(),
            r#"6:38: broker.fallbacks[0]: "mqtt://i" begins with mqtt://, broker.url with mqtts://; all addresses of a broker use TLS, or none"#,
        ),
        (
            "broker: {url: mqtt://h, fallbacks: [mqtt://h:1883]}\n".to_owned(),
            r#"6:37: broker.fallbacks[0]: "mqtt://h:1883" is written twice; keep one of them; broker.url is the first address"#,
        ),
        (
            "broker: {version: v4}\n".to_owned(),
            r#"6:19: broker.version: "v4" is not known; expected auto or v5 or v3.1.1"#,
        ),
    ];
    for (text, expected) in cases {
        let found = folder.mistakes(&format!("{BASE}{text}"));
        assert_eq!(found, [format!("main.yaml:{expected}")], "{text}");
    }
    let both = folder.mistakes(&format!("{BASE}{}", own("expired.pem", "locked.key")));
    assert_eq!(both.len(), 2, "all mistakes at once: {both:#?}");
}

#[test]
fn a_key_that_others_can_read_and_a_certificate_that_ends_soon_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let set_mode = |mode| {
        std::fs::set_permissions(folder.path("worker.key"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let warnings = || {
        let text = "broker: {url: mqtts://h, tls: {certificate: worker.pem, key: worker.key}}\n";
        folder.load_text(&format!("{BASE}{text}")).unwrap().broker.tls.unwrap().warnings()
    };
    set_mode(0o600);
    assert_eq!(warnings(), Vec::<String>::new());
    set_mode(0o640);
    let found = warnings();
    assert!(found.len() == 1 && found[0].contains("chmod 600"), "{found:?}");

    let mut params = CertificateParams::new(vec!["worker-1".to_owned()]).unwrap();
    params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(3 * 86_400)).into();
    let key = KeyPair::generate().unwrap();
    folder.write("worker.pem", params.self_signed(&key).unwrap().pem());
    folder.write("worker.key", key.serialize_pem());
    set_mode(0o600);
    let found = warnings();
    assert!(found.len() == 1 && found[0].contains("ends at"), "{found:?}");
}
