//! The rows of the table `outbox`.

use flow::EventId;
use rusqlite::{Connection, Transaction, params, params_from_iter};

use super::{Push, SceneState};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A picture.
    Evidence,
    /// An event.
    Event,
    /// The retained message of a situation that lasts; empty when it ended.
    Open,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Event => "event",
            Self::Open => "open",
        }
    }
}

/// A message without PUBACK.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub id: i64,
    pub event: String,
    pub sequence: u32,
    pub kind: Kind,
    pub topic: String,
    /// Empty for evidence: the file holds it.
    pub payload: Vec<u8>,
    /// Of the evidence file.
    pub sha256: Option<String>,
}

/// Inserts the rows of a push. Returns how many unsent pictures a newer one replaced, `None` for a duplicate.
pub(super) fn insert(transaction: &Transaction, push: &Push, now: i64) -> rusqlite::Result<Option<u64>> {
    let event = push.event.to_string();
    let new = transaction.execute(
        "INSERT OR IGNORE INTO seen (event, sequence, at) VALUES (?1, ?2, ?3)",
        params![event, push.sequence, now],
    )?;
    if new == 0 {
        return Ok(None);
    }
    let row = |kind: Kind, topic: String, payload: Option<&[u8]>, sha256: Option<&str>| {
        transaction.execute(
            "INSERT INTO outbox (event, sequence, kind, topic, payload, sha256, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![event, push.sequence, kind.name(), topic, payload, sha256, now],
        )
    };
    let mut replaced = 0;
    if let Some((role, topic, jpeg)) = push.picture {
        let topic = topic.to_string();
        replaced = transaction.execute("DELETE FROM outbox WHERE topic = ?1", [&topic])? as u64;
        row(Kind::Evidence, topic, None, Some(&jpeg.sha256))?;
        transaction.execute(
            "INSERT OR REPLACE INTO evidence (event, role, bytes, created) VALUES (?1, ?2, ?3, ?4)",
            params![event, role.name(), jpeg.bytes.len() as i64, now],
        )?;
    }
    row(Kind::Event, push.topic.to_string(), Some(push.body), None)?;
    // Only the latest retained message counts.
    transaction.execute("DELETE FROM outbox WHERE event = ?1 AND kind = 'open'", [&event])?;
    let payload: &[u8] = if push.ended { &[] } else { push.body };
    row(Kind::Open, push.open.to_string(), Some(payload), None)?;
    keep_open(transaction, push, &event)?;
    Ok(Some(replaced))
}

/// Stores what a camera's scene remembers.
pub(super) fn keep_scene(transaction: &Transaction, scene: &SceneState) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO scene (camera, state) VALUES (?1, ?2)")?
        .execute(params![scene.camera.as_str(), scene.state])
}

fn keep_open(transaction: &Transaction, push: &Push, event: &str) -> rusqlite::Result<usize> {
    if push.ended {
        return transaction.execute("DELETE FROM open WHERE event = ?1", [event]);
    }
    transaction.execute(
        "INSERT OR REPLACE INTO open (event, sequence, topic, payload) VALUES (?1, ?2, ?3, ?4)",
        params![event, push.sequence, push.open.to_string(), push.body],
    )
}

/// The first unsent message of each situation. A refused one holds back what follows in its situation, except that
/// an event does not wait for a picture.
pub(super) fn pending(
    db: &Connection,
    busy: &[String],
    limit: usize,
    now: i64,
) -> rusqlite::Result<Vec<Message>> {
    let holes = vec!["?"; busy.len()].join(",");
    let sql = format!(
        "SELECT o.id, o.event, o.sequence, o.kind, o.topic, o.payload, o.sha256 FROM outbox o
         WHERE o.retry_at <= ? AND o.event NOT IN ({holes})
           AND NOT EXISTS (SELECT 1 FROM outbox p WHERE p.event = o.event AND p.id < o.id
                           AND (p.kind != 'evidence' OR p.retry_at <= ?))
         ORDER BY o.id LIMIT ?"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut values: Vec<rusqlite::types::Value> = vec![now.into()];
    values.extend(busy.iter().map(|event| event.clone().into()));
    values.push(now.into());
    values.push((limit as i64).into());
    statement
        .query_map(params_from_iter(values), |row| {
            let kind: String = row.get(3)?;
            Ok(Message {
                id: row.get(0)?,
                event: row.get(1)?,
                sequence: row.get(2)?,
                kind: match kind.as_str() {
                    "evidence" => Kind::Evidence,
                    "event" => Kind::Event,
                    _ => Kind::Open,
                },
                topic: row.get(4)?,
                payload: row.get::<_, Option<Vec<u8>>>(5)?.unwrap_or_default(),
                sha256: row.get(6)?,
            })
        })?
        .collect()
}

impl Message {
    /// The situation's event id; `None` if somebody else wrote into the database.
    pub fn event_id(&self) -> Option<EventId> {
        EventId::parse(&self.event).ok()
    }
}
