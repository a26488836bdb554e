//! The desk's database: inbox, cases, pictures.

mod read;
mod remote;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flow::{EventId, NormBox, Timestamp};
use publish::wire::{EventMessage, Object, PhaseName, Role, sha256};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

pub(crate) use read::{Case, Picture, Total};
pub(crate) use remote::Found;

/// The database of one desk.
#[derive(Debug)]
pub(crate) struct Store {
    db: Mutex<Connection>,
    path: PathBuf,
    evidence_max_bytes: u64,
    /// Where pictures are that do not come over MQTT.
    remote: Option<publish::evidence::Store>,
}

/// The database could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("desk database {path}: {source}")]
pub struct StoreError {
    /// Its file.
    pub path: PathBuf,
    /// Why.
    pub source: rusqlite::Error,
}

/// What comes from the broker and can be used.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A message, and as it came.
    Event { message: Box<EventMessage>, body: Bytes },
    /// A picture of a situation.
    Picture { event: EventId, role: Role, bytes: Bytes },
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// It opened this case.
    Opened(u64),
    /// It was attached to this case.
    Attached(u64),
    /// It was there already, in this case.
    Duplicate(u64),
}

impl Store {
    /// Opens, or creates, the database. Evidence is kept up to `evidence_max_bytes`.
    pub fn open(path: &Path, evidence_max_bytes: u64) -> Result<Self, StoreError> {
        let open = || {
            if let Some(dir) = path.parent() {
                // Where this fails, opening the file fails and names the path.
                let _ = std::fs::create_dir_all(dir);
            }
            let db = Connection::open(path)?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            db.busy_timeout(std::time::Duration::from_secs(5))?;
            db.execute_batch(schema::SCHEMA)?;
            schema::upgrade(&db)?;
            db.pragma_update(None, "user_version", schema::VERSION)?;
            Ok(db)
        };
        let db = open().map_err(|source| StoreError { path: path.to_owned(), source })?;
        Ok(Self { db: Mutex::new(db), path: path.to_owned(), evidence_max_bytes, remote: None })
    }

    /// With a store that has the pictures which do not come over MQTT.
    pub fn with_remote(self, remote: Option<publish::evidence::Store>) -> Self {
        Self { remote, ..self }
    }

    /// Stores what arrived together in one transaction, in its order, since the disk's sync is what takes time. A message
    /// opens or updates its case; says what became of each (of a picture, nothing).
    pub fn take(&self, group: &[Arrival]) -> Result<Vec<Option<Received>>, StoreError> {
        let max = i64::try_from(self.evidence_max_bytes).unwrap_or(i64::MAX);
        self.with(|db| {
            let transaction = db.transaction()?;
            let mut received = Vec::with_capacity(group.len());
            for arrival in group {
                received.push(match arrival {
                    Arrival::Event { message, body } => Some(receive(&transaction, message, body)?),
                    Arrival::Picture { event, role, bytes } => {
                        keep_picture(&transaction, *event, *role, bytes)?;
                        None
                    }
                });
            }
            if received.iter().any(Option::is_none) {
                evict(&transaction, max)?;
            }
            transaction.commit()?;
            Ok(received)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&mut self.lock()).map_err(|source| StoreError { path: self.path.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back: the connection is as good as before.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Store {
    /// One message; `body` is the message as it came.
    pub fn receive(&self, message: &EventMessage, body: &[u8]) -> Result<Received, StoreError> {
        let (message, body) = (Box::new(message.clone()), Bytes::copy_from_slice(body));
        let received = self.take(&[Arrival::Event { message, body }])?;
        Ok(received.into_iter().flatten().next().expect("what became of a message is said"))
    }

    /// One picture.
    pub fn keep_picture(&self, event: EventId, role: Role, bytes: &[u8]) -> Result<(), StoreError> {
        let bytes = Bytes::copy_from_slice(bytes);
        self.take(&[Arrival::Picture { event, role, bytes }]).map(|_| ())
    }
}

/// Stores a picture; of each role only the latest.
fn keep_picture(transaction: &Transaction, event: EventId, role: Role, bytes: &[u8]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO evidence (event, role, sha256, size, received, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let size = bytes.len() as i64;
    insert.execute(params![event.to_string(), role.name(), sha256(bytes), size, now_ms(), bytes])?;
    Ok(())
}

fn receive(transaction: &Transaction, message: &EventMessage, body: &[u8]) -> rusqlite::Result<Received> {
    let data = &message.data;
    let event = data.event.to_string();
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO inbox (source, message, event, sequence, phase, received, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let phase = data.phase.name();
    let new =
        insert.execute(params![message.source, message.id, event, data.sequence, phase, now_ms(), body])?;
    let case = case_of(transaction, message)?;
    if let (0, Some(number)) = (new, case) {
        return Ok(Received::Duplicate(number as u64));
    }
    let number = match case {
        Some(number) => number,
        None => open_case(transaction, message, body)?,
    };
    update_case(transaction, message, number, body)?;
    for picture in &data.evidence {
        let (role, objects) = (picture.role.name(), objects(message, picture.part));
        let reference = remote::address(&picture.reference);
        let mut insert = transaction.prepare_cached(
            "INSERT INTO pictures (event, role, sequence, sha256, objects, ref) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (event, role) DO UPDATE SET sequence = excluded.sequence, sha256 = excluded.sha256,
                 objects = excluded.objects, ref = excluded.ref
             WHERE excluded.sequence >= pictures.sequence",
        )?;
        insert.execute(params![event, role, data.sequence, picture.sha256, objects, reference])?;
    }
    Ok(match case {
        Some(number) => Received::Attached(number as u64),
        None => Received::Opened(number as u64),
    })
}

/// The situation that the problem belongs to: that of the camera that told of it first.
fn problem(message: &EventMessage) -> String {
    message.data.same_as.unwrap_or(message.data.event).to_string()
}

/// The case that a message belongs to, if there is one: that of its own situation, or of the one of which it is another
/// view. Either may come first.
fn case_of(transaction: &Transaction, message: &EventMessage) -> rusqlite::Result<Option<i64>> {
    let known = |sql, id: &str| {
        transaction.prepare_cached(sql)?.query_row([id], |row| row.get::<_, i64>(0)).optional()
    };
    let event = message.data.event.to_string();
    Ok(match known("SELECT number FROM views WHERE event = ?1", &event)? {
        Some(number) => Some(number),
        None => known("SELECT number FROM cases WHERE event = ?1", &problem(message))?,
    })
}

fn open_case(transaction: &Transaction, message: &EventMessage, body: &[u8]) -> rusqlite::Result<i64> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO cases (number, event, state, opened, sequence, body)
         VALUES ((SELECT coalesce(max(number), 0) + 1 FROM cases), ?1, 'open', ?2, -1, ?3) RETURNING number",
    )?;
    insert.query_row(params![problem(message), now_ms(), body], |row| row.get(0))
}

/// Messages may arrive in any order: the one with the highest number is shown, of the situation that was told of first.
/// A view that has ended stays ended, and the problem is over when all that is known of it has.
fn update_case(
    transaction: &Transaction,
    message: &EventMessage,
    number: i64,
    body: &[u8],
) -> rusqlite::Result<()> {
    let data = &message.data;
    let sequence = if data.same_as.is_none() { i64::from(data.sequence) } else { -1 };
    let mut show = transaction.prepare_cached(
        "UPDATE cases SET sequence = ?2, body = ?3
         WHERE number = ?1 AND (sequence < ?2 OR (sequence = -1 AND ?2 = -1))",
    )?;
    show.execute(params![number, sequence, body])?;
    let mut view = transaction.prepare_cached(
        "INSERT INTO views (event, number, camera, ended) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (event) DO UPDATE SET ended = max(ended, excluded.ended), camera = excluded.camera",
    )?;
    let ended = data.phase == PhaseName::Ended;
    view.execute(params![data.event.to_string(), number, data.camera.id.as_str(), ended])?;
    let mut state = transaction.prepare_cached(
        "UPDATE cases SET state = CASE WHEN EXISTS (SELECT 1 FROM views WHERE number = ?1 AND ended = 0)
         THEN 'open' ELSE 'ended' END WHERE number = ?1",
    )?;
    state.execute([number])?;
    Ok(())
}

/// The objects of the message that came with a picture: the boxes that fit it, or the part that it shows.
fn objects(message: &EventMessage, part: Option<[f32; 4]>) -> String {
    let cleared = message.data.phase == PhaseName::Ended;
    // The picture at the end shows that the things are gone.
    let list = if cleared { &[] } else { message.data.objects.as_slice() };
    let shown = list.iter().filter_map(|object| {
        let Some([x0, y0, x1, y1]) = part else { return Some(object.clone()) };
        let across = |x: f32| (x - x0) / (x1 - x0);
        let down = |y: f32| (y - y0) / (y1 - y0);
        let b = object.bbox;
        let bbox = NormBox::clamped(across(b.x0()), down(b.y0()), across(b.x1()), down(b.y1()))?;
        Some(Object { bbox, ..object.clone() })
    });
    serde_json::to_string(&shown.collect::<Vec<_>>()).unwrap_or_else(|_| "[]".into())
}

/// The oldest pictures go until the rest fits, those without a case first, so that pictures of nothing cannot displace
/// evidence.
fn evict(transaction: &Transaction, max: i64) -> rusqlite::Result<()> {
    let total: i64 =
        transaction.query_row("SELECT coalesce(sum(size), 0) FROM evidence", [], |row| row.get(0))?;
    if total <= max {
        return Ok(());
    }
    let mut excess = total - max;
    let mut oldest = transaction.prepare(
        "SELECT event, role, size FROM evidence
         ORDER BY event IN (SELECT event FROM views), received, event",
    )?;
    let mut victims: Vec<(String, String)> = Vec::new();
    let mut rows = oldest.query([])?;
    while let Some(row) = rows.next()?.filter(|_| excess > 0) {
        excess -= row.get::<_, i64>(2)?;
        victims.push((row.get(0)?, row.get(1)?));
    }
    for (event, role) in victims {
        transaction.execute("DELETE FROM evidence WHERE event = ?1 AND role = ?2", [event, role])?;
    }
    Ok(())
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
