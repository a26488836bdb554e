//! The parsers of what comes from outside, for fuzzing: each takes any bytes and must neither panic nor take long.
//! No part of the crate's interface.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ear::{Heard, read};
use crate::wire::{
    EventMessage, HealthMessage, LookAnswer, LookCommand, MAX_EVENT_BYTES, Onvif, OnvifEvent, Receipt, Topic,
    VerdictMessage, WorkerStatus, peek_event_id,
};

/// An entry point.
pub type Target = fn(&[u8]);

/// All of them, by the names of the fuzz targets and of the folders of their corpora.
pub const TARGETS: [(&str, Target); 5] =
    [("wire", wire), ("command", command), ("packets", packets), ("evidence", evidence), ("sealed", sealed)];

/// The site of the targets; their corpora name it.
const SITE: &str = "huinan";

/// A body of JSON: the first byte says which message it is taken for. What can be read can be written, and reads back as
/// the same.
pub fn wire(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind {
        b'e' => event(body),
        b'h' => again::<HealthMessage>(body),
        b'w' => again::<WorkerStatus>(body),
        b'r' => again::<Receipt>(body),
        b'v' => again::<VerdictMessage>(body),
        b'l' => again::<LookCommand>(body),
        b'a' => again::<LookAnswer>(body),
        b'o' => again::<OnvifEvent>(body),
        _ => {}
    }
}

fn event(body: &[u8]) {
    let Ok(message) = EventMessage::parse(body) else {
        // A refusal names the event where it can.
        _ = peek_event_id(body);
        return;
    };
    assert_eq!(peek_event_id(body), Some(message.data.event));
    let written = message.to_json().expect("what was read can be written");
    // Written out, a text may be longer than it was.
    if written.len() <= MAX_EVENT_BYTES {
        let back = EventMessage::parse(&written).expect("what we write, we read");
        assert_same(&message, &back);
    }
    if let Some(onvif) = Onvif::new("{site}/onvif/{camera}", SITE, &message) {
        assert!(!onvif.topic.contains(['#', '+', '\0']), "{:?} is no topic", onvif.topic);
    }
}

fn again<T: Serialize + DeserializeOwned + Debug>(body: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(body) else { return };
    let written = serde_json::to_vec(&message).expect("what was read can be written");
    let back = serde_json::from_slice::<T>(&written).expect("what we write, we read");
    assert_same(&message, &back);
}

fn assert_same<T: Serialize + Debug>(one: &T, other: &T) {
    let value = |message| serde_json::to_value(message).expect("what was read can be written");
    assert!(same(&value(one), &value(other)), "{one:?}\nreads back as\n{other:?}");
}

/// Equal, but for the last digit of a number: serde_json reads within one unit in the last place.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return false };
            (a - b).abs() <= 4.0 * f64::EPSILON * a.abs().max(b.abs()) || a == b
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => one == other,
    }
}

/// What comes in a connection to a broker.
pub fn packets(data: &[u8]) {
    crate::mqtt::fuzz::packets(data);
}

/// An evidence folder that somebody else may have changed.
pub fn evidence(data: &[u8]) {
    crate::evidence::fuzz::evidence(data);
}

/// A sealed original, and keys.
pub fn sealed(data: &[u8]) {
    crate::evidence::fuzz::sealed(data);
}

/// A message to a worker: topic, response topic and correlation data (each absent where its line is empty), and the body,
/// with ends of lines between.
pub fn command(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || parts.next().unwrap_or_default();
    let (topic, response, correlation, body) = (line(), line(), line(), line());
    let (Ok(topic), Ok(response)) = (std::str::from_utf8(topic), std::str::from_utf8(response)) else {
        return;
    };
    if let Ok(parsed) = topic.parse::<Topic>() {
        assert_eq!(parsed.to_string().parse(), Ok(parsed), "a topic reads back as itself");
    }
    let response = (!response.is_empty()).then(|| response.to_owned());
    let correlation = (!correlation.is_empty()).then(|| bytes::Bytes::copy_from_slice(correlation));
    match read(SITE, topic, body, response, correlation.clone()) {
        Ok(Heard::Verdict { event, reason, .. }) => {
            assert_eq!(topic.parse(), Ok(Topic::Verdict { site: SITE.into(), event }), "of this site");
            assert!(reason.chars().count() <= 500);
        }
        Ok(Heard::Look { camera, reply }) => {
            assert_eq!(topic.parse(), Ok(Topic::Look { site: SITE.into(), camera }), "of this site");
            // No answer may pass for something else than an answer.
            let below = reply.topic().strip_prefix(&format!("{}/", Topic::replies(SITE)));
            assert!(below.is_some_and(|rest| !rest.is_empty() && !rest.contains(['#', '+', '\0'])));
            assert!(reply.topic().parse::<Topic>().is_err());
            assert_eq!(reply.correlation(), correlation.as_ref());
        }
        Err(error) => assert!(error.brief().len() <= 1_600, "a refusal goes to the log"),
    }
}
