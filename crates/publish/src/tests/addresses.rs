//! Several brokers, of which some are dead or frozen.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says why")]

use std::time::{Duration, Instant};

use fleet::{Address, Broker};

use super::broker::{is_up, start, submit, until};
use crate::testing::sample::event;
use crate::testing::{Listener, Mosquitto};

const PATIENCE: Duration = Duration::from_secs(15);

fn prepare() -> Option<Mosquitto> {
    Mosquitto::prepare("").map_err(|why| println!("skipped: {why}")).ok()
}

/// The first of them is preferred; both are found out quickly.
fn both(first: &Mosquitto, second: &Mosquitto) -> Broker {
    Broker {
        fallbacks: vec![Address { host: "127.0.0.1".into(), port: second.port() }],
        return_after: Duration::from_secs(1),
        keep_alive: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        ..Broker::at("127.0.0.1".into(), first.port())
    }
}

fn has(listener: &Listener, number: u64) {
    let id = event(number, 0).id.to_string();
    let there = |heard: &[crate::testing::Heard]| {
        heard.iter().any(|heard| String::from_utf8_lossy(&heard.payload).contains(&id))
    };
    listener.wait(PATIENCE, there).unwrap_or_else(|heard| panic!("event {number} did not come: {heard:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_address_is_used_while_the_first_is_dead_and_left_when_that_is_back() {
    let (Some(first), Some(second)) = (prepare(), prepare()) else { return };
    let second = second.start_again().unwrap();
    let at_second = second.listen("all", "huiyan/v1/huinan/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), both(&first, &second));
    submit(&publisher, &event(1, 0));
    has(&at_second, 1);

    let first = first.start_again().unwrap();
    let at_first = first.listen("all", "huiyan/v1/huinan/#").unwrap();
    let moved = |heard: &[crate::testing::Heard]| {
        heard.iter().any(|h| String::from_utf8_lossy(&h.payload).contains("moving to another broker"))
    };
    at_second.wait(PATIENCE, moved).unwrap();
    submit(&publisher, &event(2, 0));
    has(&at_first, 2);
    // What lasts is told to the broker that did not know of it.
    has(&at_first, 1);
    until("nothing is left", || publisher.state().unwrap().outbox.messages == 0).await;
    assert!(!at_second.all().iter().any(|h| h.topic.contains(&event(2, 0).id.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_noticed_and_another_address_is_used() {
    let (Some(first), Some(second)) = (prepare(), prepare()) else { return };
    let (first, second) = (first.start_again().unwrap(), second.start_again().unwrap());
    let at_second = second.listen("all", "huiyan/v1/huinan/event/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), both(&first, &second));
    until("connected", || is_up(&publisher)).await;
    first.signal("STOP");
    let frozen = Instant::now();
    // Idle: only the keep-alive can find out.
    until("noticed", || !is_up(&publisher)).await;
    let noticed = frozen.elapsed();
    submit(&publisher, &event(1, 0));
    has(&at_second, 1);
    // The frozen broker's machine still accepts connections: it must not pass for one that is back.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(is_up(&publisher));
    first.signal("CONT");
    println!("noticed after {noticed:?}, with a keep-alive of 1 s");
    // Twice the keep-alive, and some for a busy machine.
    assert!(noticed < Duration::from_secs(6), "{noticed:?}");
}
