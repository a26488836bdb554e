//! The rows of the tables, and the statements that touch them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use flow::EventId;
use rusqlite::{Connection, Row, Transaction, params};

use super::{Depth, Push, PushedPicture, SceneState, now_ms, property};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A picture.
    Evidence,
    /// An event.
    Event,
    /// The retained message of a situation that lasts; empty when it ended.
    Open,
    /// An ONVIF event; what it says is retained.
    Property,
    /// An ONVIF event that is over at once.
    Moment,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Event => "event",
            Self::Open => "open",
            Self::Property => "property",
            Self::Moment => "moment",
        }
    }

    fn parse(name: &str) -> Self {
        match name {
            "evidence" => Self::Evidence,
            "event" => Self::Event,
            "property" => Self::Property,
            "moment" => Self::Moment,
            _ => Self::Open,
        }
    }
}

/// A message without PUBACK.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub id: i64,
    /// Messages of one line are sent one after the other: that of its situation, but for a refused picture.
    pub line: Arc<str>,
    pub event: String,
    pub sequence: u32,
    pub kind: Kind,
    pub topic: String,
    /// Empty for evidence: the file holds it.
    pub payload: Bytes,
    /// Of the evidence file.
    pub sha256: Option<String>,
    /// How often it was acknowledged before, by a broker that may have forgotten it since.
    pub repeats: u32,
    /// It was handed over; `None`: by an earlier process.
    pub submitted: Option<Instant>,
    /// It was on disk; `None`: it was read from there.
    pub stored: Option<Instant>,
    /// It was given to the link.
    pub sent: Option<Instant>,
}

impl Message {
    /// The situation's event id; `None` if somebody else wrote into the database.
    pub fn event_id(&self) -> Option<EventId> {
        EventId::parse(&self.event).ok()
    }

    /// The line of a refused picture.
    pub(super) fn line_of_its_own(&self) -> Arc<str> {
        own_line(&self.event, self.id)
    }
}

pub(super) fn own_line(event: &str, id: i64) -> Arc<str> {
    format!("{event}/{id}").into()
}

/// What a push did to the tables.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// The new messages, in their order.
    pub rows: Vec<Message>,
    /// Messages that the new ones replace.
    pub removed: Vec<(i64, Kind)>,
    /// Bytes of evidence that it added; a picture may replace a larger one.
    pub evidence_bytes: i64,
    /// A picture takes the place of an older one, which is in `gone` now.
    pub replaces: bool,
}

/// Inserts the rows of a push; `None` for a duplicate.
pub(super) fn insert(transaction: &Transaction, push: &Push, now: i64) -> rusqlite::Result<Option<Inserted>> {
    let event = push.event.to_string();
    let new = transaction
        .prepare_cached("INSERT OR IGNORE INTO seen (event, sequence, at) VALUES (?1, ?2, ?3)")?
        .execute(params![event, push.sequence, now])?;
    if new == 0 {
        return Ok(None);
    }
    let line: Arc<str> = event.as_str().into();
    let mut done = Inserted::default();
    let mut row = |kind: Kind, topic: &str, payload: &Bytes, stored: Option<&[u8]>, sha256: Option<&str>| {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO outbox (event, sequence, kind, topic, payload, sha256, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let id = insert.insert(params![event, push.sequence, kind.name(), topic, stored, sha256, now])?;
        done.rows.push(Message {
            id,
            line: line.clone(),
            event: event.clone(),
            sequence: push.sequence,
            kind,
            topic: topic.to_owned(),
            payload: payload.clone(),
            sha256: sha256.map(str::to_owned),
            repeats: 0,
            submitted: None,
            stored: None,
            sent: None,
        });
        Ok::<_, rusqlite::Error>(())
    };
    let mut removed = Vec::new();
    if let Some(picture) = &push.picture
        && let Some(topic) = &picture.topic
    {
        removed.extend(remove(transaction, &event, Kind::Evidence, Some(topic))?);
        row(Kind::Evidence, topic, &Bytes::new(), None, Some(&picture.sha256))?;
    }
    row(Kind::Event, &push.topic, &push.body, Some(&push.body), None)?;
    // Only the latest retained message counts. Its body is that of the table `open`: it is not stored twice.
    removed.extend(remove(transaction, &event, Kind::Open, None)?);
    let open = if push.ended { Bytes::new() } else { push.body.clone() };
    row(Kind::Open, &push.open, &open, None, None)?;
    if let Some(picture) = &push.picture {
        (done.evidence_bytes, done.replaces) = keep_picture(transaction, &event, picture, now)?;
    }
    keep_open(transaction, push, &event)?;
    if let Some(pushed) = &push.property {
        done.rows.push(property::insert(transaction, &event, pushed, push.ended, now)?);
    }
    done.removed = removed;
    Ok(Some(done))
}

fn remove(
    transaction: &Transaction,
    event: &str,
    kind: Kind,
    topic: Option<&str>,
) -> rusqlite::Result<Vec<(i64, Kind)>> {
    let mut delete = transaction.prepare_cached(
        "DELETE FROM outbox WHERE event = ?1 AND kind = ?2 AND topic = coalesce(?3, topic) RETURNING id",
    )?;
    let ids = delete.query_map(params![event, kind.name(), topic], |row| Ok((row.get(0)?, kind)))?;
    ids.collect()
}

/// Bytes that were added, and whether an older picture of the same role is to go.
fn keep_picture(
    transaction: &Transaction,
    event: &str,
    picture: &PushedPicture,
    now: i64,
) -> rusqlite::Result<(i64, bool)> {
    let (role, name) = (picture.role.name(), &picture.name);
    let mut before =
        transaction.prepare_cached("SELECT bytes, name FROM evidence WHERE event = ?1 AND role = ?2")?;
    let before: Option<(i64, String)> =
        before.query_map([event, role], |row| Ok((row.get(0)?, row.get(1)?)))?.next().transpose()?;
    let replaces = before.as_ref().is_some_and(|(_, before)| before != name);
    if replaces {
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO gone (event, name, camera, why, stored)
                 SELECT event, name, camera, 'replaced', stored FROM evidence WHERE event = ?1 AND role = ?2",
            )?
            .execute([event, role])?;
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO evidence (event, role, bytes, created, name, camera, class, situation)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            event,
            role,
            picture.bytes as i64,
            now,
            name,
            picture.camera.as_str(),
            &*picture.class,
            picture.situation.as_str()
        ])?;
    Ok((picture.bytes as i64 - before.map_or(0, |(bytes, _)| bytes), replaces))
}

fn keep_open(transaction: &Transaction, push: &Push, event: &str) -> rusqlite::Result<usize> {
    if push.ended {
        return transaction.prepare_cached("DELETE FROM open WHERE event = ?1")?.execute([event]);
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO open (event, sequence, topic, payload) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![event, push.sequence, push.open, &push.body[..]])
}

/// Stores what a camera's scene remembers.
pub(super) fn keep_scene(transaction: &Transaction, scene: &SceneState) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO scene (camera, state) VALUES (?1, ?2)")?
        .execute(params![scene.camera.as_str(), scene.state])
}

/// Removes a message; `false` where it was gone already.
pub(super) fn delete(transaction: &Transaction, id: i64) -> rusqlite::Result<bool> {
    let gone = transaction.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
    Ok(gone == 1)
}

/// Keeps the broker's reason.
pub(super) fn refuse(
    transaction: &Transaction,
    id: i64,
    reason: &str,
    until: i64,
) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("UPDATE outbox SET refusal = ?2, retry_at = ?3 WHERE id = ?1")?
        .execute(params![id, reason, until])
}

/// How many messages were refused.
pub(super) fn refused(db: &Connection) -> rusqlite::Result<u64> {
    let mut select = db.prepare_cached("SELECT count(*) FROM outbox WHERE refusal IS NOT NULL")?;
    select.query_row([], |row| row.get::<_, i64>(0)).map(|n| n.max(0) as u64)
}

/// The bodies of retained messages are in `open`; where there is none, the situation is over. (Older versions stored
/// them in `outbox`.)
const SELECT: &str = "SELECT o.id, o.event, o.sequence, o.kind, o.topic,
        CASE o.kind WHEN 'open' THEN coalesce(o.payload, (SELECT payload FROM open WHERE event = o.event))
                    ELSE o.payload END,
        o.sha256, o.refusal IS NOT NULL, o.retry_at, r.times
        FROM outbox o LEFT JOIN repeats r ON r.id = o.id";

/// What was read beyond the cursor.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The messages, each with when it may be sent.
    pub rows: Vec<(Message, i64)>,
    /// The cursor after them.
    pub cursor: i64,
    /// There are no more.
    pub end: bool,
}

/// Messages that follow `cursor`, at most `limit`. A row that is none (somebody else wrote it, or a disk that failed) is
/// left where it is.
pub(super) fn after(db: &Connection, cursor: i64, limit: usize) -> rusqlite::Result<Page> {
    let mut select = db.prepare_cached(&format!("{SELECT} WHERE o.id > ?1 ORDER BY o.id LIMIT ?2"))?;
    let mut rows = select.query(params![cursor, limit as i64])?;
    let mut page = Page { cursor, ..Page::default() };
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        page.cursor = row.get(0)?;
        match read(row) {
            Ok(message) => page.rows.push(message),
            Err(error) => tracing::error!(row = page.cursor, %error, "a row of the outbox is no message"),
        }
    }
    page.end = count < limit;
    Ok(page)
}

/// Messages of one situation between two ids, at most `limit`; refused pictures are in no situation's line.
pub(super) fn of_line(
    db: &Connection,
    event: &str,
    (after, upto): (i64, i64),
    limit: usize,
) -> rusqlite::Result<Vec<Message>> {
    let mut select = db.prepare_cached(&format!(
        "{SELECT} WHERE o.event = ?1 AND o.id > ?2 AND o.id <= ?3
           AND NOT (o.kind = 'evidence' AND o.refusal IS NOT NULL) ORDER BY o.id LIMIT ?4"
    ))?;
    let rows = select.query_map(params![event, after, upto, limit as i64], |row| Ok(read(row)))?;
    // What is no message was reported when the cursor passed it.
    rows.filter_map(|row| row.map(|row| row.ok().map(|(message, _)| message)).transpose()).collect()
}

fn read(row: &Row) -> rusqlite::Result<(Message, i64)> {
    let (id, event): (i64, String) = (row.get(0)?, row.get(1)?);
    let kind = Kind::parse(row.get_ref(3)?.as_str()?);
    let refused: bool = row.get(7)?;
    let line = if refused && kind == Kind::Evidence { own_line(&event, id) } else { event.as_str().into() };
    let message = Message {
        id,
        line,
        event,
        sequence: row.get(2)?,
        kind,
        topic: row.get(4)?,
        payload: row.get::<_, Option<Vec<u8>>>(5)?.unwrap_or_default().into(),
        sha256: row.get(6)?,
        repeats: row.get::<_, Option<u32>>(9)?.unwrap_or(0),
        submitted: None,
        stored: None,
        sent: None,
    };
    Ok((message, row.get(8)?))
}

/// What lasts and has no retained message under way gets one.
pub(super) fn tell_open_again(transaction: &Transaction) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (event, sequence, kind, topic, created)
             SELECT event, sequence, 'open', topic, ?1 FROM open
             WHERE NOT EXISTS (SELECT 1 FROM outbox o WHERE o.event = open.event AND o.kind = 'open')",
        )?
        .execute([now_ms()])
        .and_then(|count| Ok(count + property::tell_again(transaction, now_ms())?))
}

/// Counts everything: once, when the outbox is opened.
pub(super) fn depth(db: &Connection) -> rusqlite::Result<Depth> {
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|n| n.max(0) as u64);
    Ok(Depth {
        events: count("SELECT count(*) FROM outbox INDEXED BY outbox_event WHERE kind = 'event'")?,
        evidence: count("SELECT count(*) FROM outbox INDEXED BY outbox_event WHERE kind = 'evidence'")?,
        messages: count("SELECT count(*) FROM outbox")?,
        refused: count("SELECT count(*) FROM outbox WHERE refusal IS NOT NULL")?,
        evidence_bytes: count("SELECT coalesce(sum(bytes), 0) FROM evidence")?,
        held: 0,
        oldest_ms: 0,
    })
}

/// When the oldest message was stored, ms since 1970.
pub(super) fn oldest(db: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut select = db.prepare_cached("SELECT created FROM outbox ORDER BY id LIMIT 1")?;
    select.query_map([], |row| row.get(0))?.next().transpose()
}
