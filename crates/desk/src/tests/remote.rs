//! Pictures that a worker has put into a store, on the desk's page.

use std::fs;
use std::path::Path;

use publish::testing::sample;
use publish::wire::{EventMessage, sha256};
use publish::{EvidenceOptions, Publisher};

use super::broker::{cases, get, mosquitto, start_with, until};
use super::{message, submit};
use crate::store::{Arrival, Store};

fn folder(path: &Path) -> Option<fleet::Store> {
    Some(fleet::Store::Folder(path.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_in_the_store_is_shown_where_the_desk_has_that_store_and_told_of_where_not() {
    let Some(broker) = mosquitto() else { return };
    let dir = tempfile::tempdir().unwrap();
    let share = dir.path().join("share");
    fs::create_dir(&share).unwrap();
    let evidence = EvidenceOptions { store: folder(&share), ..EvidenceOptions::default() };
    let options = publish::Options { evidence, ..sample::options(dir.path(), broker.broker()) };
    let publisher = Publisher::start(options, &tokio::runtime::Handle::current()).unwrap();
    let desk = start_with(dir.path(), broker.broker(), folder(&share)).await;
    submit(&publisher, 1, 0);
    until("the case", || desk.counts().opened == 1).await;
    let event = sample::event(1, 0).id;
    let path = format!("/evidence/{event}/first.jpg");
    let files = || fs::read_dir(share.join(event.to_string())).into_iter().flatten().flatten();
    let is_picture = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "jpg");
    let stored = || files().map(|file| file.path()).find(is_picture);
    until("the picture is stored", || stored().is_some()).await;
    let (file, bytes) = (stored().unwrap(), fs::read(stored().unwrap()).unwrap());
    let (head, body) = get(&desk, &path).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: image/jpeg"), "{head}");
    assert_eq!(body, bytes, "as stored");
    assert_eq!(desk.counts().pictures, 0, "none came over MQTT");
    let case = &cases(&desk).await[0];
    assert_eq!(
        (&case["pictures"][0]["url"], &case["pictures"][0]["at"]),
        (&path.as_str().into(), &().into())
    );
    assert!(String::from_utf8(get(&desk, "/").await.1).unwrap().contains(&format!("src=\"{path}\"")));

    // Another picture in its place is not shown, nor anything else that lies there.
    fs::write(&file, [&bytes[..], b"x"].concat()).unwrap();
    let (head, body) = get(&desk, &path).await;
    assert!(head.starts_with("HTTP/1.1 502") && !body.starts_with(&bytes[..8]), "{head}");
    fs::remove_file(&file).unwrap();
    assert!(get(&desk, &path).await.0.starts_with("HTTP/1.1 404"), "it may come yet");

    // A desk without that store says where the picture is. What it has received, it keeps.
    desk.stop().await;
    let reference = url_of(&file);
    for store in [None, folder(dir.path())] {
        let desk = start_with(dir.path(), broker.broker(), store).await;
        assert!(get(&desk, &path).await.0.starts_with("HTTP/1.1 404"));
        let picture = cases(&desk).await[0]["pictures"][0].clone();
        assert_eq!((&picture["url"], &picture["at"]), (&().into(), &reference.as_str().into()), "{picture}");
        let page = String::from_utf8(get(&desk, "/").await.1).unwrap();
        assert!(page.contains(&reference) && !page.contains("<img"), "{page}");
        desk.stop().await;
    }
}

fn url_of(file: &Path) -> String {
    format!("file://{}", file.display())
}

/// A message whose picture is said to be at `reference` and to have the hash `sha256`.
fn naming(number: u64, reference: &str, sha256: &str) -> EventMessage {
    let mut message = message(number, 0);
    message.data.evidence[0].reference = reference.to_owned();
    message.data.evidence[0].sha256 = sha256.to_owned();
    message
}

#[test]
fn what_a_message_makes_up_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let share = dir.path().join("share");
    fs::create_dir(&share).unwrap();
    fs::write(dir.path().join("secret.jpg"), "a secret").unwrap();
    let secret = sha256(b"a secret");
    let remote = publish::evidence::Store::open(&folder(&share).unwrap()).unwrap();
    let store = Store::open(&dir.path().join("desk.sqlite"), 1 << 20).unwrap().with_remote(Some(remote));
    let outside = url_of(&dir.path().join("secret.jpg"));
    let event = message(2, 0).data.event;
    let above = format!("{}/{event}/../../secret.jpg", url_of(&share));
    let hash = "../../secret".to_owned();
    let long = format!("file:///{}", "x".repeat(3_000));
    for (number, reference, sha256, shown) in [
        (1, outside.as_str(), &secret, true),
        (2, &above, &secret, true),
        (3, &above, &hash, true),
        (4, "https://elsewhere/x.jpg", &secret, false),
        (5, &long, &secret, false),
        (6, "s3://bucket/<script>", &secret, true),
    ] {
        let message = naming(number, reference, sha256);
        let body = message.to_json().unwrap().into();
        let (event, role) = (message.data.event, message.data.evidence[0].role);
        store.take(&[Arrival::Event { message: Box::new(message), body }]).unwrap();
        assert_eq!(store.find_picture(event, role).unwrap(), None, "{reference}");
        let case = store.cases(None, 1).unwrap().remove(0);
        let at: Vec<_> = case.pictures.iter().filter_map(|picture| picture.at.as_deref()).collect();
        assert_eq!(at, if shown { vec![reference] } else { vec![] });
        assert!(case.pictures.iter().all(|picture| picture.url.is_empty()));
    }
    let cases = store.cases(None, 50).unwrap();
    let page = crate::page::render(&cases, store.total().unwrap(), None, 50, &Err("x".into()));
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
}

#[test]
fn a_database_of_the_version_before_is_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("desk.sqlite");
    drop(Store::open(&path, 1 << 20).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("ALTER TABLE pictures DROP COLUMN ref").unwrap();
    drop(db);
    let store = Store::open(&path, 1 << 20).unwrap();
    let message = naming(1, "s3://bucket/x.jpg", "00");
    let body = message.to_json().unwrap().into();
    store.take(&[Arrival::Event { message: Box::new(message), body }]).unwrap();
    assert_eq!(store.cases(None, 1).unwrap()[0].pictures[0].at.as_deref(), Some("s3://bucket/x.jpg"));
}
