//! The outbox and the publisher without a broker.

use crate::testing::sample::{self as make, event};
use crate::{Outbox, Publisher};

/// Nobody listens there: the port was free a moment ago and connections to it are refused.
pub(super) fn nowhere() -> fleet::Broker {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fleet::Broker::at("127.0.0.1".into(), port)
}

fn submit(publisher: &Publisher, event: &flow::Event, picture: bool) -> crate::Submitted {
    let (frame, seen) = (make::frame(64, 48), make::seen());
    let picture = picture.then_some((&frame, seen.as_slice()));
    publisher.submit(event, &make::camera(), &make::situation(), &make::model(), picture).unwrap()
}

#[tokio::test]
async fn an_event_submitted_twice_is_stored_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let options = make::options(dir.path(), nowhere());
        Publisher::start(options, &tokio::runtime::Handle::current()).unwrap()
    };
    let publisher = start();
    let first = submit(&publisher, &event(1, 0), true);
    let path = first.evidence_path.unwrap();
    let hash = crate::wire::sha256(&std::fs::read(&path).unwrap());
    assert!(path.ends_with(format!("evidence/{}/first-{}.jpg", event(1, 0).id, &hash[..12])));
    let before = std::fs::read(&path).unwrap();
    assert!(image::load_from_memory(&before).is_ok());
    assert!(submit(&publisher, &event(1, 0), true).duplicate);
    let state = publisher.state().unwrap();
    assert_eq!((state.outbox.events, state.outbox.evidence, state.outbox.messages), (1, 1, 3));
    assert_eq!((state.events.received, state.events.inside()), (2, 1));
    publisher.crash().await;

    let publisher = start();
    assert!(submit(&publisher, &event(1, 0), true).duplicate);
    let state = publisher.state().unwrap();
    assert_eq!((state.outbox.events, state.outbox.messages), (1, 3));
    assert_eq!(state.events.inside(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn pictures_go_before_events_when_the_disk_bound_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = make::options(dir.path(), nowhere());
    options.evidence_max_bytes = 5_000;
    let publisher = Publisher::start(options, &tokio::runtime::Handle::current()).unwrap();
    let paths: Vec<_> =
        (0..20).map(|n| submit(&publisher, &event(n, 0), true).evidence_path.unwrap()).collect();
    let state = publisher.state().unwrap();
    assert_eq!(state.outbox.events, 20, "no event is dropped");
    assert!(state.outbox.evidence_bytes <= 5_000, "{:?}", state.outbox);
    let kept = paths.iter().filter(|path| path.exists()).count() as u64;
    assert_eq!(kept, state.outbox.evidence);
    assert!(kept >= 1 && paths[19].exists() && !paths[0].exists(), "the oldest go first");
    assert_eq!(state.evidence.dropped[0], ("evicted", 20 - kept));
    assert_eq!(state.evidence.inside() as u64, kept);
}

#[tokio::test]
async fn a_newer_picture_takes_the_place_of_an_unsent_one() {
    let dir = tempfile::tempdir().unwrap();
    let publisher =
        Publisher::start(make::options(dir.path(), nowhere()), &tokio::runtime::Handle::current()).unwrap();
    submit(&publisher, &event(1, 0), true);
    submit(&publisher, &event(1, 1), true);
    let mut again = event(1, 1);
    again.sequence = 2;
    submit(&publisher, &again, true);
    let state = publisher.state().unwrap();
    assert_eq!((state.outbox.events, state.outbox.evidence), (3, 2), "first, latest");
    assert_eq!(state.evidence.dropped[1], ("replaced", 1));
    assert_eq!(state.outbox.messages, 6, "and one retained message");
    assert_eq!(state.evidence.inside(), 2);
}

#[test]
fn files_that_a_crash_left_without_a_row_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let evidence = dir.path().join("evidence").join(event(1, 0).id.to_string());
    std::fs::create_dir_all(&evidence).unwrap();
    std::fs::write(evidence.join("first.jpg"), b"x").unwrap();
    std::fs::write(evidence.join("latest.part"), b"x").unwrap();
    Outbox::open(dir.path(), 1000).unwrap();
    assert!(!evidence.exists());
}

#[test]
fn two_workers_do_not_share_an_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Outbox::open(dir.path(), 1000).unwrap();
    let error = Outbox::open(dir.path(), 1000).unwrap_err().to_string();
    assert!(error.contains("outbox.sqlite") && error.contains("locked"), "{error}");
}

#[tokio::test]
async fn an_event_with_another_camera_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let publisher =
        Publisher::start(make::options(dir.path(), nowhere()), &tokio::runtime::Handle::current()).unwrap();
    let mut camera = make::camera();
    camera.id = flow::CameraId::new("other").unwrap();
    let error =
        publisher.submit(&event(1, 0), &camera, &make::situation(), &make::model(), None).unwrap_err();
    assert!(error.to_string().ends_with("is about hn-0001, but other was given with it"), "{error}");
}

#[tokio::test]
async fn a_site_that_would_break_the_topics_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = make::options(dir.path(), nowhere());
    options.site = "huinan/#".into();
    let error = Publisher::start(options, &tokio::runtime::Handle::current()).unwrap_err();
    assert!(error.to_string().starts_with(r#"site "huinan/#" holds '/'"#), "{error}");
}
