//! The tables.

/// For whoever changes them.
pub(super) const VERSION: i32 = 1;

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
    event TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,                     -- open, ended
    opened INTEGER NOT NULL,                 -- ms since 1970
    sequence INTEGER NOT NULL,               -- of the message in body
    body BLOB NOT NULL                       -- the message with the highest sequence number
);
CREATE TABLE IF NOT EXISTS pictures (        -- what the messages say about their pictures
    event TEXT NOT NULL, role TEXT NOT NULL, sequence INTEGER NOT NULL,
    sha256 TEXT NOT NULL, objects TEXT NOT NULL,
    PRIMARY KEY (event, role)
);
CREATE TABLE IF NOT EXISTS evidence (        -- the pictures themselves; they arrive before their message
    event TEXT NOT NULL, role TEXT NOT NULL, sha256 TEXT NOT NULL,
    size INTEGER NOT NULL, received INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (event, role)
);
CREATE INDEX IF NOT EXISTS evidence_age ON evidence (received, event, role, size);
";
