//! Situations as ONVIF events, heard by a real `mosquitto_sub`.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says why")]

use std::path::Path;
use std::time::Duration;

use crate::Publisher;
use crate::testing::sample::{self as make, event};
use crate::testing::{Heard, Mosquitto};
use crate::wire::OnvifEvent;

const PATIENCE: Duration = Duration::from_secs(15);

fn start(dir: &Path, broker: &Mosquitto) -> Publisher {
    let broker = fleet::Broker { onvif: Some("{camera}".into()), ..broker.broker() };
    Publisher::start(make::options(dir, broker), &tokio::runtime::Handle::current()).unwrap()
}

fn submit(publisher: &Publisher, event: &flow::Event) {
    publisher.submit(event, &make::camera(), &make::situation(), &make::model(), None).unwrap();
}

/// Event id and state of each message, in the order of their arrival.
fn states(heard: &[Heard]) -> Vec<(String, Option<bool>)> {
    let read = |heard: &Heard| serde_json::from_slice::<OnvifEvent>(&heard.payload).unwrap();
    heard.iter().map(read).map(|event| (event.data.event, event.data.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_situation_is_a_property_that_is_true_while_any_of_its_kind_lasts() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let listener = broker.listen("vms", "+/onvif-ej/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), &broker);
    // Two cars in one zone: the second stays when the first leaves.
    for (number, sequence) in [(1, 0), (2, 0), (1, 2), (2, 2)] {
        submit(&publisher, &event(number, sequence));
    }
    let heard = listener.wait(PATIENCE, |heard| heard.len() >= 4).unwrap();
    let [first, second] = [1, 2].map(|number| event(number, 0).id.to_string());
    let told = [
        (first.clone(), Some(true)),
        (second.clone(), Some(true)),
        (second.clone(), Some(true)),
        (second, Some(false)),
    ];
    assert_eq!(states(&heard), told);
    for message in &heard {
        assert_eq!(
            message.topic,
            "hn-0001/onvif-ej/RuleEngine/FieldDetector/ObjectsInside/&hn-0001/huiyan/illegal_parking@lane"
        );
        assert_eq!(message.content_type, "application/json");
    }
    assert_eq!(publisher.stop(PATIENCE).await.unwrap().messages, 0);
    // Who comes later is told how it is now.
    let later = broker.listen("later", "+/onvif-ej/#").unwrap();
    let heard = later.wait(PATIENCE, |heard| !heard.is_empty()).unwrap();
    assert_eq!((heard[0].retained, states(&heard)[0].1), (true, Some(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_the_broker_and_is_told_again_to_one_that_lost_its_memory() {
    let broker = match Mosquitto::prepare("persistence false") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let publisher = start(dir.path(), &broker);
    submit(&publisher, &event(1, 0));
    submit(&publisher, &event(2, 0));
    drop(publisher);
    // Another process, and the broker is there.
    let mut broker = broker.start_again().unwrap();
    let publisher = start(dir.path(), &broker);
    let listener = broker.listen("vms", "+/onvif-ej/#").unwrap();
    assert_eq!(states(&listener.wait(PATIENCE, |heard| !heard.is_empty()).unwrap())[0].1, Some(true));
    let deadline = std::time::Instant::now() + PATIENCE;
    while publisher.state().unwrap().outbox.messages > 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", publisher.state());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(listener);
    broker.kill();
    let broker = broker.start_again().unwrap();
    let listener = broker.listen("vms", "+/onvif-ej/#").unwrap();
    let heard = listener.wait(PATIENCE, |heard| !heard.is_empty()).unwrap();
    let second = event(2, 0).id.to_string();
    assert_eq!(states(&heard)[0], (second, Some(true)), "the one that began last");
    drop(publisher);
}
