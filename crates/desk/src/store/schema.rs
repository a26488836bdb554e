//! The tables.

/// For whoever changes them.
pub(super) const VERSION: i32 = 3;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS inbox (           -- messages, each once
    source TEXT NOT NULL, message TEXT NOT NULL,
    event TEXT NOT NULL, sequence INTEGER NOT NULL, phase TEXT NOT NULL,
    received INTEGER NOT NULL,               -- ms since 1970
    body BLOB NOT NULL,
    PRIMARY KEY (source, message)
);
CREATE INDEX IF NOT EXISTS inbox_event ON inbox (event);
CREATE TABLE IF NOT EXISTS cases (
    number INTEGER PRIMARY KEY,
    event TEXT NOT NULL UNIQUE,              -- the situation that was told of first
    state TEXT NOT NULL,                     -- open, ended
    opened INTEGER NOT NULL,                 -- ms since 1970
    sequence INTEGER NOT NULL,               -- of the message in body; -1: one of another view, until its own comes
    body BLOB NOT NULL                       -- its message with the highest sequence number
);
CREATE TABLE IF NOT EXISTS views (           -- the situations that a case is made of: one per camera that sees the problem
    event TEXT PRIMARY KEY, number INTEGER NOT NULL,
    camera TEXT NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS views_number ON views (number);
INSERT OR IGNORE INTO views (event, number, camera, ended)   -- cases of version 1
    SELECT event, number, '', state = 'ended' FROM cases;
CREATE TABLE IF NOT EXISTS pictures (        -- what the messages say about their pictures
    event TEXT NOT NULL, role TEXT NOT NULL, sequence INTEGER NOT NULL,
    sha256 TEXT NOT NULL, objects TEXT NOT NULL,
    ref TEXT NOT NULL DEFAULT '',            -- its address in a store, where it does not come over MQTT
    PRIMARY KEY (event, role)
);
CREATE TABLE IF NOT EXISTS evidence (        -- the pictures themselves; they arrive before their message
    event TEXT NOT NULL, role TEXT NOT NULL, sha256 TEXT NOT NULL,
    size INTEGER NOT NULL, received INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (event, role)
);
CREATE INDEX IF NOT EXISTS evidence_age ON evidence (received, event, role, size);
";

/// What the tables of earlier versions lack.
pub(super) fn upgrade(db: &rusqlite::Connection) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM pragma_table_info('pictures') WHERE name = 'ref'";
    if db.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
        db.execute_batch("ALTER TABLE pictures ADD COLUMN ref TEXT NOT NULL DEFAULT ''")?;
    }
    Ok(())
}
