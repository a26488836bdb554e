//! The database's file: opened, created, and set aside when it is corrupt, with what can still be read of it.

use std::fs;
use std::path::{Path, PathBuf};

use flow::Timestamp;
use rusqlite::{Connection, OpenFlags, params_from_iter, types::Value};

use super::now_ms;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS seen (            -- events that were pushed, so that a second push is recognised
    event TEXT NOT NULL, sequence INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (event, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (          -- messages without PUBACK, in the order of sending
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL, sequence INTEGER NOT NULL, kind TEXT NOT NULL, topic TEXT NOT NULL,
    payload BLOB,                            -- NULL for evidence: the file holds it; and for `open`: that table does
    sha256 TEXT,                             -- of the file
    created INTEGER NOT NULL,                -- ms since 1970
    refusal TEXT,                            -- the broker's reason, where it said no
    retry_at INTEGER NOT NULL DEFAULT 0      -- ms since 1970: not before
);
CREATE INDEX IF NOT EXISTS outbox_event ON outbox (event, kind);
CREATE INDEX IF NOT EXISTS outbox_refused ON outbox (id) WHERE refusal IS NOT NULL;
CREATE TABLE IF NOT EXISTS evidence (        -- the pictures: of each event one of each role
    event TEXT NOT NULL, role TEXT NOT NULL, bytes INTEGER NOT NULL, created INTEGER NOT NULL,
    name TEXT NOT NULL DEFAULT '',           -- of its files, without ending
    camera TEXT NOT NULL DEFAULT '', class TEXT NOT NULL DEFAULT '', situation TEXT NOT NULL DEFAULT '',
    stored INTEGER NOT NULL DEFAULT 0,       -- it is in the store, and its files are not here
    PRIMARY KEY (event, role)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone (            -- pictures whose end is to be recorded, and whose files are to go
    event TEXT NOT NULL, name TEXT NOT NULL, camera TEXT NOT NULL, why TEXT NOT NULL,
    stored INTEGER NOT NULL,                 -- the store has it
    recorded INTEGER NOT NULL DEFAULT 0,     -- what is left to do is the store's
    PRIMARY KEY (event, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS evidence_age ON evidence (created, event, role, bytes);
CREATE TABLE IF NOT EXISTS open (            -- situations that last: what their retained message says
    event TEXT PRIMARY KEY, sequence INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS property (        -- what lasts, as ONVIF properties: each topic's situations
    topic TEXT NOT NULL, event TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (topic, event)
);
CREATE TABLE IF NOT EXISTS scene (           -- what the scenes remember, with the events that it led to
    camera TEXT PRIMARY KEY, state BLOB NOT NULL
) WITHOUT ROWID;
";

/// For whoever changes the tables.
const SCHEMA_VERSION: i32 = 3;

/// Columns of `evidence` that older files lack.
const NEW_COLUMNS: [&str; 5] = [
    "name TEXT NOT NULL DEFAULT ''",
    "camera TEXT NOT NULL DEFAULT ''",
    "class TEXT NOT NULL DEFAULT ''",
    "situation TEXT NOT NULL DEFAULT ''",
    "stored INTEGER NOT NULL DEFAULT 0",
];

/// A second push of an event is recognised for this long.
const SEEN_FOR_MS: i64 = 30 * 24 * 3600 * 1000;

/// A file of up to so many bytes is checked from end to end when it is opened (some 0.1 s); damage in a larger one is
/// met when it is read.
const CHECKED_UP_TO: u64 = 64 << 20;

/// The tables in the order in which they are worth saving, with their columns.
const TABLES: [(&str, &str); 8] = [
    ("outbox", "id, event, sequence, kind, topic, payload, sha256, created, refusal, retry_at"),
    ("sent", "id, event, sequence, kind, topic, payload, sha256, created, acked"),
    ("open", "event, sequence, topic, payload"),
    ("property", "topic, event, payload"),
    ("evidence", "event, role, bytes, created, name, camera, class, situation, stored"),
    ("gone", "event, name, camera, why, stored, recorded"),
    ("seen", "event, sequence, at"),
    ("scene", "camera, state"),
];

/// Where the database is, and how large it may become.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub path: PathBuf,
    /// Bytes; `None`: as large as the disk.
    pub max_bytes: Option<u64>,
}

/// A corrupt database that was replaced by a new one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Salvage {
    /// Where the old file is now. To be kept for whoever wants to look, or removed.
    pub set_aside: PathBuf,
    /// What was wrong with it.
    pub cause: String,
    /// Messages that were read from it; they will be sent.
    pub messages: u64,
    /// Whether all of it could be read. Otherwise messages may be missing, and situations that last may be told again.
    pub whole: bool,
}

impl Place {
    /// Opens the database, or creates it.
    pub fn open(&self) -> rusqlite::Result<Connection> {
        let db = Connection::open(&self.path)?;
        db.busy_timeout(std::time::Duration::from_secs(2))?;
        db.set_prepared_statement_cache_capacity(64);
        // Two workers with one data directory would send everything twice: the second does not start.
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        // Room that an outage took is given back, in steps. Says nothing to a file that was made without.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        // A log that grew in an outage is cut when it starts anew.
        db.pragma_update(None, "journal_size_limit", 16 << 20)?;
        if let Some(bytes) = self.max_bytes {
            let page: u64 = db.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))?.max(512) as u64;
            db.query_row(&format!("PRAGMA max_page_count = {}", (bytes / page).max(1)), [], |_| Ok(()))?;
        }
        if fs::metadata(&self.path).is_ok_and(|file| file.len() <= CHECKED_UP_TO) {
            check(&db)?;
        }
        db.execute_batch(SCHEMA)?;
        db.execute_batch(super::again::SCHEMA)?;
        add_columns(&db)?;
        db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        db.execute("DELETE FROM seen WHERE at < ?1", [now_ms() - SEEN_FOR_MS])?;
        Ok(db)
    }

    /// Sets the corrupt file aside, makes a new one, and copies into it what can be read of the old one.
    pub fn salvage(&self, cause: &rusqlite::Error) -> Result<(Connection, Salvage), SalvageError> {
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%S").to_string();
        let mut set_aside = self.beside(&format!(".corrupt-{now}"));
        while set_aside.exists() {
            set_aside.as_mut_os_string().push("x");
        }
        // The log belongs to it: it holds what was stored last.
        for end in ["", "-wal"] {
            let (from, to) = (self.beside(end), with_end(&set_aside, end));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SalvageError::Aside { path: from, source: error });
                }
                _ => {}
            }
        }
        let db = self.open().map_err(SalvageError::New)?;
        let (messages, whole) = copy(&set_aside, &db).map_err(SalvageError::New)?;
        Ok((db, Salvage { set_aside, cause: cause.to_string(), messages, whole }))
    }

    fn beside(&self, end: &str) -> PathBuf {
        with_end(&self.path, end)
    }
}

/// A corrupt database could not be replaced.
#[derive(Debug)]
pub(super) enum SalvageError {
    Aside { path: PathBuf, source: std::io::Error },
    New(rusqlite::Error),
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Pictures of an older file are named after their role, and in no chain.
fn add_columns(db: &Connection) -> rusqlite::Result<()> {
    let has_names = "SELECT 1 FROM pragma_table_info('evidence') WHERE name = 'name'";
    if db.prepare(has_names)?.exists([])? {
        return Ok(());
    }
    for column in NEW_COLUMNS {
        db.execute_batch(&format!("ALTER TABLE evidence ADD COLUMN {column}"))?;
    }
    db.execute("UPDATE evidence SET name = role", []).map(drop)
}

/// Reads every page. What is wrong is an error of the kind "corrupt".
fn check(db: &Connection) -> rusqlite::Result<()> {
    let said: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(said)))
}

/// How many messages came over, and whether every table was read to its end.
fn copy(old: &Path, new: &Connection) -> rusqlite::Result<(u64, bool)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(old) = Connection::open_with_flags(old, flags) else { return Ok((0, false)) };
    let transaction = new.unchecked_transaction()?;
    let mut whole = true;
    for (table, columns) in TABLES {
        whole &= copy_table(&old, &transaction, table, columns)?;
    }
    // What is to be sent was pushed, whatever became of the table that says so.
    transaction.execute_batch(
        "INSERT OR IGNORE INTO seen (event, sequence, at) SELECT event, sequence, created FROM outbox WHERE kind = 'event'",
    )?;
    let messages: i64 = transaction.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
    transaction.commit()?;
    Ok((messages.max(0) as u64, whole))
}

/// A body whose pages were overwritten may have its length still: an event's is JSON, or it is not sent.
fn whole_body(table: &str, values: Vec<Value>) -> Result<Vec<Value>, ()> {
    let bodies = values.iter().filter_map(|value| match value {
        Value::Blob(bytes) if matches!(table, "outbox" | "open") && !bytes.is_empty() => Some(bytes),
        _ => None,
    });
    let is_json = |bytes: &Vec<u8>| serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    if bodies.into_iter().all(is_json) { Ok(values) } else { Err(()) }
}

/// From the front until something cannot be read, and then from the back: damage in the middle costs the middle. What
/// SQLite's own errors cannot vouch for (a row of wrong types) is left out. Errors of the new database are errors.
fn copy_table(old: &Connection, new: &Connection, table: &str, columns: &str) -> rusqlite::Result<bool> {
    let count = columns.split(',').count();
    let holes = vec!["?"; count].join(", ");
    let mut insert = new.prepare(&format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({holes})"))?;
    let key = if table == "outbox" { "id" } else { columns.split(',').next().unwrap_or(columns) };
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT {columns} FROM {table} NOT INDEXED ORDER BY {key} {order}");
        let Ok(mut select) = old.prepare(&sql) else { return Ok(false) };
        let Ok(mut rows) = select.query([]) else { continue };
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let values = (0..count).map(|n| row.get::<_, Value>(n)).collect::<Result<Vec<_>, _>>();
                    // `OR IGNORE` leaves out what violates NOT NULL as well as what came from the front already.
                    if let Ok(values) = values.map_err(drop).and_then(|values| whole_body(table, values)) {
                        insert.execute(params_from_iter(values))?;
                    }
                }
                Ok(None) => return Ok(order == "ASC"),
                Err(_) => break,
            }
        }
    }
    Ok(false)
}
