//! Against a real mosquitto, heard by a real `mosquitto_sub`.

// A skipped test says so.
#![allow(clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::testing::sample::{self as make, event};
use crate::testing::{Heard, Listener, Mosquitto};
use crate::wire::{EventMessage, PhaseName, WorkerState, WorkerStatus, sha256};
use crate::{Link, Publisher};

const PATIENCE: Duration = Duration::from_secs(15);

/// The broker, or `None` after saying why the test is skipped.
fn mosquitto(extra: &str) -> Option<Mosquitto> {
    Mosquitto::start(extra).map_err(|why| println!("skipped: {why}")).ok()
}

pub(super) fn start(dir: &Path, broker: fleet::Broker) -> Publisher {
    Publisher::start(make::options(dir, broker), &tokio::runtime::Handle::current()).unwrap()
}

pub(super) fn submit(publisher: &Publisher, event: &flow::Event) {
    let (frame, seen) = (make::frame(64, 48), make::seen());
    let picture = Some((&frame, seen.as_slice()));
    publisher.submit(event, &make::camera(), &make::situation(), &make::model(), picture).unwrap();
}

pub(super) fn events(heard: &[Heard]) -> Vec<EventMessage> {
    let events = heard.iter().filter(|h| h.topic.contains("/event/"));
    events.map(|h| EventMessage::parse(&h.payload).unwrap()).collect()
}

/// Waits until as many different event messages were heard, and checks that they were not heard more than
/// `times` times each.
pub(super) fn wait_for(listener: &Listener, count: usize, times: usize) -> Vec<EventMessage> {
    let ids = |heard: &[Heard]| {
        let mut ids = BTreeMap::<String, usize>::new();
        events(heard).into_iter().for_each(|e| *ids.entry(e.id).or_default() += 1);
        ids
    };
    let heard = listener.wait(PATIENCE, |heard| ids(heard).len() >= count);
    let heard = heard.unwrap_or_else(|heard| panic!("{count} events expected, heard {:?}", ids(&heard)));
    assert!(ids(&heard).values().all(|n| *n <= times), "{:?}", ids(&heard));
    events(&heard)
}

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn is_up(publisher: &Publisher) -> bool {
    matches!(publisher.state().unwrap().link, Link::Up { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_situation_arrives_once_in_order_with_its_evidence_first() {
    let Some(broker) = mosquitto("") else { return };
    let listener = broker.listen("all", "huiyan/v1/huinan/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker.broker());
    for sequence in 0..3 {
        submit(&publisher, &event(1, sequence));
        // `latest` would otherwise be replaced, and with a slow broker all would come at once.
        until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;
    }
    let heard = listener.wait(PATIENCE, |heard| heard.len() >= 10).unwrap();
    let id = event(1, 0).id;
    let topics: Vec<_> = heard.iter().map(|h| h.topic.trim_start_matches("huiyan/v1/huinan/")).collect();
    let expected = [
        "worker/w1/status".to_owned(),
        format!("evidence/{id}/first"),
        "event/illegal_parking/hn-0001".to_owned(),
        format!("open/hn-0001/{id}"),
        format!("evidence/{id}/latest"),
        "event/illegal_parking/hn-0001".to_owned(),
        format!("open/hn-0001/{id}"),
        format!("evidence/{id}/clear"),
        "event/illegal_parking/hn-0001".to_owned(),
        format!("open/hn-0001/{id}"),
    ];
    assert_eq!(topics, expected);
    let messages = events(&heard);
    let phases: Vec<_> = messages.iter().map(|m| m.data.phase).collect();
    assert_eq!(phases, [PhaseName::Began, PhaseName::Updated, PhaseName::Ended]);
    let (picture, began) = (&heard[1], &heard[2]);
    assert_eq!(sha256(&picture.payload), messages[0].data.evidence[0].sha256);
    assert_eq!(picture.topic, messages[0].data.evidence[0].reference);
    assert_eq!(picture.content_type, "image/jpeg");
    assert_eq!(began.content_type, "application/cloudevents+json; charset=utf-8");
    assert_eq!(began.expiry, "3600");
    let trace = id.to_string().replace('-', "");
    assert_eq!(began.properties, format!("id:{id}.0 traceparent:00-{trace}-0000000000000001-00"));
    assert_eq!(heard[3].payload, began.payload, "what lasts is retained");
    assert!(heard[9].payload.is_empty(), "and cleared when it ends");

    let state = publisher.state().unwrap();
    assert_eq!((state.events.received, state.events.passed, state.events.inside()), (3, 3, 0));
    assert_eq!((state.evidence.received, state.evidence.passed, state.evidence.inside()), (3, 3, 0));
    assert_eq!(publisher.stop(Duration::from_secs(1)).await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_is_retained_for_those_who_come_later() {
    let Some(broker) = mosquitto("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker.broker());
    submit(&publisher, &event(1, 0));
    submit(&publisher, &event(2, 0));
    submit(&publisher, &event(2, 2));
    until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;
    let later = broker.listen("later", "huiyan/v1/huinan/open/#").unwrap();
    let heard = later.wait(PATIENCE, |heard| !heard.is_empty()).unwrap();
    assert_eq!(heard[0].topic, format!("huiyan/v1/huinan/open/hn-0001/{}", event(1, 0).id));
    assert_eq!(EventMessage::parse(&heard[0].payload).unwrap().data.phase, PhaseName::Began);
    // The retained messages come together: the ended one would be there.
    submit(&publisher, &event(3, 0));
    let heard =
        later.wait(PATIENCE, |heard| heard.iter().any(|h| h.topic.contains(&event(3, 0).id.to_string())));
    assert!(!heard.unwrap().iter().any(|h| h.topic.contains(&event(2, 0).id.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lost_its_memory_is_told_again_what_lasts() {
    let Some(mut broker) = mosquitto("persistence false") else { return };
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker.broker());
    let health = |state| flow::Health::new(make::camera().id, state, "", make::time(0));
    publisher.health(&health(flow::CameraState::Connecting), None);
    publisher.health(&health(flow::CameraState::Streaming), None);
    submit(&publisher, &event(1, 0));
    until("acknowledged", || publisher.state().unwrap().outbox.messages == 0).await;
    broker.kill();
    until("noticed", || !is_up(&publisher)).await;
    let broker = broker.start_again().unwrap();
    until("connected again", || is_up(&publisher)).await;
    let listener = broker.listen("later", "huiyan/v1/huinan/#").unwrap();
    let heard = listener.wait(PATIENCE, |heard| heard.len() >= 3).unwrap();
    let find = |part: &str| heard.iter().find(|h| h.topic.contains(part)).unwrap();
    assert_eq!(EventMessage::parse(&find("/open/").payload).unwrap().data.event, event(1, 0).id);
    assert!(
        String::from_utf8_lossy(&find("/camera/hn-0001/health").payload).contains(r#""state":"streaming""#)
    );
    assert!(String::from_utf8_lossy(&find("/worker/w1/status").payload).contains(r#""state":"online""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_absent_at_start_gets_everything_once_it_is_there() {
    let Some(mut broker) = mosquitto("") else { return };
    let listener = broker.listen("all", "huiyan/v1/huinan/event/#").unwrap();
    broker.kill();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker.broker());
    (0..5).for_each(|number| submit(&publisher, &event(number, 0)));
    let failed =
        || matches!(publisher.state().unwrap().link, Link::Down { error, .. } if error.contains("refused"));
    until("the error is visible", failed).await;
    let state = publisher.state().unwrap();
    assert_eq!((state.outbox.events, state.events.inside()), (5, 5));
    let _broker = broker.start_again().unwrap();
    wait_for(&listener, 5, 1);
    until("drained", || publisher.state().unwrap().outbox.messages == 0).await;
    assert_eq!(publisher.state().unwrap().events.passed, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_and_restarted_loses_nothing_and_keeps_the_order() {
    let Some(mut broker) = mosquitto("") else { return };
    let listener = broker.listen("all", "huiyan/v1/huinan/event/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker.broker());
    (0..8).for_each(|number| submit(&publisher, &event(number, 0)));
    wait_for(&listener, 8, 1);
    broker.kill();
    (0..8).for_each(|number| submit(&publisher, &event(number, 1)));
    tokio::time::sleep(Duration::from_secs(3)).await;
    (0..8).for_each(|number| submit(&publisher, &event(number, 2)));
    // Those of the first eight whose acknowledgement the broker took with it wait too.
    assert!(publisher.state().unwrap().outbox.events >= 16);
    let _broker = broker.start_again().unwrap();
    // At least once on both hops: what was under way when the broker died may come more than once, with the same id.
    let heard = wait_for(&listener, 24, 4);
    for number in 0..8 {
        let mut sequences: Vec<_> =
            heard.iter().filter(|e| e.data.event == event(number, 0).id).map(|e| e.data.sequence).collect();
        sequences.dedup();
        assert_eq!(sequences, [0, 1, 2], "situation {number}");
    }
    until("drained", || publisher.state().unwrap().outbox.messages == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_with_events_on_disk_sends_them_after_its_restart_with_the_same_ids() {
    let broker = match Mosquitto::prepare("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker.broker());
    (0..4).for_each(|number| submit(&publisher, &event(number, 0)));
    publisher.crash().await;
    let broker = broker.start_again().unwrap();
    let listener = broker.listen("all", "huiyan/v1/huinan/event/#").unwrap();
    let publisher = start(dir.path(), broker.broker());
    let heard = wait_for(&listener, 4, 1);
    let ids: Vec<_> = heard.iter().map(|e| e.id.clone()).collect();
    let expected: Vec<_> = (0..4).map(|n| EventMessage::message_id(event(n, 0).id, 0)).collect();
    assert_eq!(ids, expected);
    assert_eq!(publisher.stop(PATIENCE).await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_a_last_will_and_a_stop_a_goodbye() {
    let Some(broker) = mosquitto("") else { return };
    let listener = broker.listen("all", "huiyan/v1/huinan/worker/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let statuses = |count: usize| -> Vec<(WorkerState, String)> {
        let heard = listener.wait(PATIENCE, |heard| heard.len() >= count).unwrap();
        let status = |h: &Heard| serde_json::from_slice::<WorkerStatus>(&h.payload).unwrap();
        heard.iter().map(status).map(|s| (s.state, s.reason)).collect()
    };
    let publisher = start(dir.path(), broker.broker());
    assert_eq!(statuses(1)[0], (WorkerState::Online, String::new()));
    publisher.crash().await;
    assert_eq!(statuses(2)[1], (WorkerState::Offline, "connection lost".into()));
    let publisher = start(dir.path(), broker.broker());
    assert_eq!(statuses(3)[2].0, WorkerState::Online);
    publisher.stop(PATIENCE).await.unwrap();
    assert_eq!(statuses(4)[3], (WorkerState::Offline, "stopped".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_is_kept_and_counted_and_holds_up_nobody_else() {
    // Nothing but evidence and status may be written.
    let acl = "per_listener_settings false\nacl_file ACL";
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("acl");
    std::fs::write(
        &rules,
        "topic readwrite huiyan/v1/huinan/evidence/#\ntopic readwrite huiyan/v1/huinan/worker/#\n",
    )
    .unwrap();
    let Some(broker) = mosquitto(&acl.replace("ACL", &rules.display().to_string())) else { return };
    let publisher = start(dir.path(), broker.broker());
    submit(&publisher, &event(1, 0));
    submit(&publisher, &event(2, 0));
    until("refused", || publisher.state().unwrap().outbox.refused == 2).await;
    let state = publisher.state().unwrap();
    assert!(is_up(&publisher), "a refusal is no lost connection");
    assert_eq!(state.refused, [("not authorized".to_owned(), 2)]);
    assert_eq!((state.outbox.events, state.outbox.evidence), (2, 0));
    assert_eq!(state.events.inside(), 2, "kept, not dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_for_the_broker_is_refused_and_ends_no_connection() {
    // The evidence of event 1 is larger, everything else smaller.
    let Some(broker) = mosquitto("message_size_limit 6000") else { return };
    let listener = broker.listen("all", "huiyan/v1/huinan/event/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), broker.broker());
    let (frame, seen) = (make::frame(1920, 1080), make::seen());
    let large = Some((&frame, seen.as_slice()));
    publisher.submit(&event(1, 0), &make::camera(), &make::situation(), &make::model(), large).unwrap();
    (2..8).for_each(|number| submit(&publisher, &event(number, 0)));
    let heard = wait_for(&listener, 7, 1);
    assert!(heard.iter().any(|e| e.data.event == event(1, 0).id), "the event comes without its picture");
    until("the rest", || publisher.state().unwrap().outbox.messages == 1).await;
    let state = publisher.state().unwrap();
    assert_eq!((state.outbox.evidence, state.outbox.refused), (1, 1));
    assert_eq!(state.refused, [("packet too large".to_owned(), 1)]);
}
