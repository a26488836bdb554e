//! A broker that acknowledges and is killed before it has written down what it promised.

#![allow(clippy::disallowed_macros, reason = "a test that is skipped says why")]

use std::time::Duration;

use crate::Publisher;
use crate::testing::{Mosquitto, sample};
use crate::wire::EventMessage;

/// Writes its disk when it is told to, which is never: killed, it knows nothing any more.
const FORGETFUL: &str = "autosave_on_changes false\nautosave_interval 100000";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_broker_had_promised_is_sent_again_in_order() {
    let mut broker = match Mosquitto::prepare(FORGETFUL) {
        Ok(broker) => broker.start_again().unwrap(),
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    // What is made while nobody answers must not make it forget: the broker's last word is what counts.
    let kept = fleet::Broker { keep_sent: Duration::from_millis(300), ..broker.broker() };
    let publisher =
        Publisher::start(sample::options(dir.path(), kept), &tokio::runtime::Handle::current()).unwrap();
    let submit = |number: u64, sequence: u32| {
        let (camera, situation, model) = (sample::camera(), sample::situation(), sample::model());
        let event = sample::event(number, sequence);
        publisher.submit(&event, &camera, &situation, &model, None).unwrap();
    };
    let acked = async |count: u64| {
        for _ in 0..500 {
            if publisher.metrics().events.passed >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", publisher.metrics());
    };
    // Nobody listens yet, so all of this is lost with the broker.
    submit(1, 0);
    submit(2, 0);
    submit(1, 1);
    acked(3).await;
    broker.kill();
    tokio::time::sleep(Duration::from_millis(900)).await;
    // Made while it is away: must not overtake what came before.
    submit(1, 2);
    // What it was told again it forgets again: the disk of a broker may be slower than what kills it.
    let mut broker = broker.start_again().unwrap();
    acked(7).await;
    broker.kill();
    let broker = broker.start_again().unwrap();
    let listener = broker.listen("late", "huiyan/v1/huinan/event/#").unwrap();
    let heard = listener.wait(Duration::from_secs(30), |heard| heard.len() >= 4).unwrap_or_else(|heard| {
        panic!("{} of 4, {:?}", heard.len(), publisher.metrics());
    });
    let of = |number: u64| -> Vec<u32> {
        let messages = heard.iter().map(|heard| EventMessage::parse(&heard.payload).unwrap().data);
        let id = sample::event(number, 0).id;
        messages.filter(|data| data.event == id).map(|data| data.sequence).collect()
    };
    assert_eq!((of(1), of(2)), (vec![0, 1, 2], vec![0]));
    // The account adds up: what was sent again came in again.
    acked(11).await;
    let events = publisher.metrics().events;
    assert_eq!((events.received, events.passed), (11, 11));
    publisher.stop(Duration::from_secs(5)).await.unwrap();
}
