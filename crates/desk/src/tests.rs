//! Tests of the crate as a whole: the database alone, and the desk behind a real mosquitto.

mod broker;
mod cases;
mod corpus;
mod embedded;
mod remote;
mod tls;

use publish::testing::sample;
use publish::wire::EventMessage;
use publish::{Jpeg, Options, Publisher};

/// Message `sequence` of situation `number`, as a publisher makes it.
fn message(number: u64, sequence: u32) -> EventMessage {
    let golden: &[u8] = match sequence {
        0 => include_bytes!("../../publish/testdata/event-began.json"),
        1 => include_bytes!("../../publish/testdata/event-updated.json"),
        _ => include_bytes!("../../publish/testdata/event-ended.json"),
    };
    let mut message = EventMessage::parse(golden).unwrap();
    message.data.event = sample::event(number, sequence).id;
    message.data.sequence = sequence;
    message.id = EventMessage::message_id(message.data.event, sequence);
    message
}

/// A publisher beside the desk.
fn publisher(dir: &std::path::Path, broker: fleet::Broker) -> Publisher {
    Publisher::start(sample::options(dir, broker), &tokio::runtime::Handle::current()).unwrap()
}

/// Submits message `sequence` of situation `number`, with a picture.
fn submit(publisher: &Publisher, number: u64, sequence: u32) {
    let (frame, seen) = (sample::frame(640, 360), sample::seen());
    let picture = Some((&frame, seen.as_slice()));
    let event = sample::event(number, sequence);
    let (camera, situation, model) = (sample::camera(), sample::situation(), sample::model());
    publisher.submit(&event, &camera, &situation, &model, picture).unwrap();
}

fn jpeg(width: usize) -> Jpeg {
    Jpeg::of(&sample::frame(width, 48), &[], &publish::Blur::default()).unwrap()
}

#[test]
fn a_publisher_has_the_options_that_the_samples_speak_of() {
    let options: Options = sample::options(std::path::Path::new("x"), broker::nowhere());
    assert!(message(1, 0).source.starts_with(&format!("/{}/", options.site)));
}
