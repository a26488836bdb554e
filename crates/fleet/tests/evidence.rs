//! Masks, and what becomes of evidence.

mod common;

use std::time::Duration;

use common::{BASE, Folder};
use fleet::Store;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn where_nothing_is_written_pictures_stay_ninety_days_and_nothing_is_masked() {
    let fleet = Folder::new().load_text(BASE).unwrap();
    let evidence = &fleet.evidence;
    assert_eq!(evidence.keep, 90 * DAY);
    assert!(evidence.key.is_none() && evidence.originals_for.is_none() && evidence.store.is_none());
    assert!(evidence.also_blur.is_empty());
    assert!(fleet.cameras.iter().all(|camera| camera.masks.is_empty() && camera.keep_evidence.is_none()));
}

#[test]
fn masks_are_polygons_of_a_camera() {
    let camera = "  - {id: m, class: community, url: rtsp://192.0.2.1/1, masks: MASKS}\n";
    let with = |masks: &str| format!("{BASE}cameras:\n{}", camera.replace("MASKS", masks));
    let fleet = Folder::new().load_text(&with("[[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]")).unwrap();
    let masks = &fleet.cameras.last().unwrap().masks;
    assert_eq!((masks.len(), masks[0].points().len()), (1, 4));
    let mistakes = Folder::new().mistakes(&with("[[[0, 0], [0.5, 0]]]"));
    assert!(mistakes[0].contains("masks[0]") && mistakes[0].contains("at least 3"), "{mistakes:?}");
}

#[test]
fn a_store_is_a_folder_or_a_bucket_with_a_login_by_name() {
    let folder = Folder::new();
    folder.write("secret", "hunter2\n");
    let head = format!("{BASE}credentials: {{s3: {{user: worker, password: file:secret}}}}\n");
    let with = |store: &str| format!("{head}evidence: {{keep: 30d, also_blur: [dog], store: {store}}}\n");
    let bucket = "{bucket: b, endpoint: 'https://s3.example:9000', prefix: /a/b/, credentials: s3}";
    let evidence = folder.load_text(&with(bucket)).unwrap().evidence;
    assert_eq!((evidence.keep, evidence.also_blur.len()), (30 * DAY, 1));
    let Some(Store::S3(s3)) = evidence.store else { panic!("{evidence:?}") };
    assert_eq!((&*s3.bucket, &*s3.region, &*s3.prefix), ("b", "us-east-1", "a/b"));
    assert_eq!(s3.endpoint.unwrap().as_str(), "https://s3.example:9000/");
    let login = s3.credentials.unwrap();
    assert_eq!((&*login.user, login.password.reveal()), ("worker", "hunter2"));
    let evidence = folder.load_text(&with("{folder: share}")).unwrap().evidence;
    assert!(matches!(evidence.store, Some(Store::Folder(at)) if at == folder.path("share")));

    for (store, said) in [
        ("{}", "evidence.store: names no place; expected folder: PATH or bucket: NAME"),
        ("{folder: a, bucket: b}", "evidence.store: names a folder and a bucket"),
        (
            "{bucket: b, endpoint: 'https://me:hunter2@s3.example'}",
            "evidence.store.endpoint: \"***\" holds a credential",
        ),
        (
            "{bucket: b, endpoint: 'ftp://s3.example'}",
            "is no address of a store; expected https://host[:port]",
        ),
        ("{bucket: b, credentials: s4}", "did you mean \"s3\"?"),
    ] {
        let mistakes = folder.mistakes(&with(store));
        assert!(mistakes.len() == 1 && mistakes[0].contains(said), "{store}: {mistakes:?}");
        assert!(!mistakes[0].contains("hunter2"));
    }
}

#[test]
fn keys_come_by_reference_and_recipients_are_public() {
    let folder = Folder::new();
    folder.write("key.pem", "-----BEGIN PRIVATE KEY-----\n");
    let with = |evidence: &str| format!("{BASE}evidence: {evidence}\n");
    let fleet = folder.load_text(&with("{key: file:key.pem}")).unwrap();
    assert!(fleet.evidence.key.as_ref().unwrap().reveal().starts_with("-----BEGIN"));
    assert!(!format!("{fleet:?}").contains("BEGIN PRIVATE"));
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kudygk0vsl6ycdm";
    let fleet = folder.load_text(&with(&format!("{{originals: {{recipient: {recipient}}}}}"))).unwrap();
    assert_eq!(fleet.evidence.originals_for.as_deref(), Some(recipient));
    for (evidence, said) in [
        ("{key: hunter2}", "evidence.key: \"***\" is written out here"),
        ("{key: file:nowhere}", "evidence.key: cannot be read"),
        ("{originals: {}}", "evidence.originals.recipient: is missing"),
        (
            "{originals: {recipient: AGE-SECRET-KEY-1QQQ}}",
            "evidence.originals.recipient: \"***\" is no recipient",
        ),
        ("{keep: 5000d}", "evidence.keep"),
    ] {
        let mistakes = folder.mistakes(&with(evidence));
        assert!(mistakes.len() == 1 && mistakes[0].contains(said), "{evidence}: {mistakes:?}");
        assert!(!mistakes[0].contains("1QQQ"));
    }
}

#[test]
fn classes_and_situations_have_times_of_their_own() {
    let text = BASE
        .replace("en: parking,", "en: parking, keep_evidence: 7d,")
        .replace("{model: street-demo,", "{keep_evidence: 30d, model: street-demo,");
    let camera = "cameras:\n  - {id: a, class: community, url: rtsp://192.0.2.1/1}\n";
    let fleet = Folder::new().load_text(&format!("{text}{camera}")).unwrap();
    assert_eq!(fleet.cameras[0].keep_evidence, Some(30 * DAY));
    let situation = fleet.situations.values().next().unwrap();
    assert_eq!(situation.keep_evidence, Some(7 * DAY));
}

#[test]
fn a_desk_reads_from_a_store_of_its_own_or_from_that_of_the_workers() {
    let folder = Folder::new();
    let logins = "credentials: {s3: {user: a, password: env:TEST_PASSWORD}}\n";
    let with = |rest: &str| folder.load_text(&format!("{BASE}{logins}{rest}")).unwrap();
    assert!(with("").desk.store.is_none());
    let fleet = with("evidence: {store: {folder: share}}\n");
    assert!(matches!(fleet.desk.store, Some(Store::Folder(at)) if at == folder.path("share")));
    let fleet = with(
        "evidence: {store: {bucket: b, prefix: p}}\ndesk: {store: {bucket: b, prefix: p, credentials: s3}}\n",
    );
    let (Some(Store::S3(desk)), Some(Store::S3(worker))) = (fleet.desk.store, fleet.evidence.store) else {
        panic!("two buckets")
    };
    assert_eq!((desk.credentials.map(|login| login.user), desk.prefix), (Some("a".into()), "p".into()));
    assert!(worker.credentials.is_none());
    let fleet = with("node: {outbox_max_bytes: 64MiB}\n");
    assert_eq!(fleet.node.outbox_max_bytes, Some(64 << 20));
}
