//! What the broker delivers, for fuzzing: it takes any bytes and must neither panic nor take long. No part of the crate's
//! interface.

use std::path::Path;

use bytes::Bytes;
use flow::Timestamp;
use publish::wire::{Outcome, Topic, peek_event_id};

use crate::inbox::{is_picture, read, receipt};
use crate::page;
use crate::store::{Arrival, Received, Store};

/// An entry point.
pub type Target = fn(&[u8]);

/// All of them, by the names of the fuzz targets and of the folders of their corpora.
pub const TARGETS: [(&str, Target); 1] = [("inbox", inbox)];

/// The site of the target; its corpus names it.
const SITE: &str = "huinan";

/// Messages, each a line with its topic and a line with its body, into an empty database as one group, and once more; then
/// the page that shows it.
pub fn inbox(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut group = Vec::new();
    while let (Some(topic), Some(body)) = (lines.next(), lines.next()) {
        let Ok(topic) = std::str::from_utf8(topic).unwrap_or_default().parse::<Topic>() else { continue };
        let bytes = Bytes::copy_from_slice(body);
        match topic {
            Topic::Event { situation, camera, .. } => match read(SITE, body, (&situation, &camera)) {
                Ok(message) => group.push(Arrival::Event { message: Box::new(message), body: bytes }),
                Err(reason) => refuse(body, reason),
            },
            Topic::Evidence { event, role, .. } if is_picture(body) => {
                group.push(Arrival::Picture { event, role, bytes });
            }
            _ => {}
        }
    }
    // Without a database, which takes longer than anything else.
    if group.is_empty() {
        return;
    }
    let store = Store::open(Path::new(":memory:"), 4_096).expect("a database in memory");
    store.take(&group).expect("what is read is stored");
    let again = store.take(&group).expect("what is read is stored");
    let doubled = again.iter().flatten().any(|received| !matches!(received, Received::Duplicate(_)));
    assert!(!doubled, "the same message is there once: {again:?}");
    show(&store);
}

fn refuse(body: &[u8], reason: String) {
    let Some(event) = peek_event_id(body) else { return };
    let refusal = receipt(event, None, Outcome::Refused, None, Some(reason));
    let text = serde_json::to_vec(&refusal).expect("a receipt can be written");
    assert!(text.len() < 4_096, "a refusal is short");
}

/// The page is HTML in which no message has put an element, and each case is on it.
fn show(store: &Store) {
    let (cases, total) = (store.cases(None, 50).expect("cases"), store.total().expect("numbers"));
    assert_eq!(cases.len() as u64, (total.open + total.ended).min(50), "every case is shown");
    let html = page::render(&cases, total, None, 50, &Ok(Timestamp::UNIX_EPOCH));
    assert!(!html.contains("<script"), "{html}");
    assert_eq!(html.matches("<article ").count(), cases.len());
    assert_eq!(html.matches('<').count(), html.matches('>').count(), "no text is an element");
    serde_json::to_vec(&cases).expect("cases.json");
}
