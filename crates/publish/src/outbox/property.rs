//! ONVIF properties: each is true while at least one situation of its kind lasts in its zone.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Transaction, params};

use super::rows::{Kind, Message};

/// What an ONVIF client is told of an event.
#[derive(Debug, Clone)]
pub(crate) struct PushedProperty {
    pub topic: String,
    /// What this event says: of a property, true while its situation lasts and false when it ended.
    pub payload: Bytes,
    /// `false`: a moment, of which nothing is retained.
    pub lasting: bool,
}

/// Stores what an event makes of its property, and the message that tells of it. Messages of one topic are sent in order:
/// the topic is their line.
pub(super) fn insert(
    transaction: &Transaction,
    event: &str,
    pushed: &PushedProperty,
    ended: bool,
    now: i64,
) -> rusqlite::Result<Message> {
    let kind = if pushed.lasting { Kind::Property } else { Kind::Moment };
    let payload = match kind {
        Kind::Property => keep(transaction, event, pushed, ended)?,
        _ => pushed.payload.clone(),
    };
    let topic = pushed.topic.as_str();
    let mut insert = transaction.prepare_cached(
        "INSERT INTO outbox (event, sequence, kind, topic, payload, created) VALUES (?1, 0, ?2, ?1, ?3, ?4)",
    )?;
    let id = insert.insert(params![topic, kind.name(), &payload[..], now])?;
    let line: Arc<str> = topic.into();
    Ok(Message {
        id,
        line,
        event: topic.into(),
        sequence: 0,
        kind,
        topic: topic.into(),
        payload,
        sha256: None,
        repeats: 0,
        submitted: None,
        stored: None,
        sent: None,
    })
}

/// What the property is now: of those that last beside one that ended, the one that began last.
fn keep(
    transaction: &Transaction,
    event: &str,
    pushed: &PushedProperty,
    ended: bool,
) -> rusqlite::Result<Bytes> {
    let mut forget = transaction.prepare_cached("DELETE FROM property WHERE topic = ?1 AND event = ?2")?;
    forget.execute([pushed.topic.as_str(), event])?;
    if !ended {
        transaction
            .prepare_cached("INSERT INTO property (topic, event, payload) VALUES (?1, ?2, ?3)")?
            .execute(params![pushed.topic, event, &pushed.payload[..]])?;
        return Ok(pushed.payload.clone());
    }
    let mut left = transaction
        .prepare_cached("SELECT payload FROM property WHERE topic = ?1 ORDER BY event DESC LIMIT 1")?;
    let left: Option<Vec<u8>> = left.query_map([&pushed.topic], |row| row.get(0))?.next().transpose()?;
    Ok(left.map_or_else(|| pushed.payload.clone(), Bytes::from))
}

/// Each property that is true and has no message under way gets one: a broker may have lost what it retained.
pub(super) fn tell_again(transaction: &Transaction, now: i64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (event, sequence, kind, topic, payload, created)
             SELECT topic, 0, 'property', topic, payload, ?1 FROM property p
             WHERE event = (SELECT max(event) FROM property WHERE topic = p.topic)
               AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.event = p.topic AND o.kind = 'property')",
        )?
        .execute([now])
}
