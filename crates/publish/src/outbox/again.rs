//! What the broker has acknowledged, kept a while longer: its word is not its disk.
//!
//! A broker acknowledges a message when it has it in memory (mosquitto writes its own disk seconds or minutes later), and
//! one that is killed forgets what it had promised. So rows of messages with a PUBACK move to the table `sent`, and when
//! a connection was lost, those of its last moments are sent once more, in their old places: before whatever else their
//! situations have to say. Its last moments end with the last acknowledgement: when the loss is noticed says little, since a
//! broker without power is silent for as long as two keep-alives. Receivers know them by their id.
//!
//! A broker may die again before it has written down what was sent again, so that is kept like the rest. A connection that
//! breaks off again and again must still come to what is new: what was sent before goes last ([`Message::repeats`]), and
//! of what was sent more than once only the youngest [`REPEATED_MAX`] are kept: what was made last, not what was acknowledged
//! last, since the youngest are sent first each time.
//!
//! [`Message::repeats`]: super::rows::Message::repeats

use rusqlite::{Transaction, params};

use super::Depth;
use super::ahead::CAPACITY;

/// So many of them leave half of what is read ahead to new messages.
const REPEATED_MAX: usize = CAPACITY / 2;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS sent (            -- events and pictures that the broker has acknowledged a moment ago
    id INTEGER PRIMARY KEY,                  -- as in `outbox`
    event TEXT NOT NULL, sequence INTEGER NOT NULL, kind TEXT NOT NULL, topic TEXT NOT NULL,
    payload BLOB, sha256 TEXT, created INTEGER NOT NULL,
    acked INTEGER NOT NULL                   -- ms since 1970
);
CREATE INDEX IF NOT EXISTS sent_acked ON sent (acked);
DROP TABLE IF EXISTS repeated;               -- of an earlier version
CREATE TABLE IF NOT EXISTS repeats (         -- rows of `outbox` and `sent` that had a PUBACK before
    id INTEGER PRIMARY KEY, times INTEGER NOT NULL
);
";

/// Keeps a message that has its PUBACK now. What is retained is told again at every connection anyway.
pub(super) fn keep(transaction: &Transaction, id: i64, now: i64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO sent (id, event, sequence, kind, topic, payload, sha256, created, acked)
             SELECT id, event, sequence, kind, topic, payload, sha256, created, ?2 FROM outbox
             WHERE id = ?1 AND kind IN ('event', 'evidence')",
        )?
        .execute(params![id, now])
}

/// Forgets what was acknowledged before this time: to be called with an acknowledgement only, by which the broker says that it
/// has lived since.
pub(super) fn forget(transaction: &Transaction, before: i64) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("DELETE FROM repeats WHERE id IN (SELECT id FROM sent WHERE acked < ?1)")?
        .execute([before])?;
    transaction.prepare_cached("DELETE FROM sent WHERE acked < ?1")?.execute([before])
}

/// What is kept waits again. Says how many there are of each kind.
pub(super) fn recall(transaction: &Transaction) -> rusqlite::Result<Depth> {
    transaction.execute(
        "DELETE FROM sent WHERE id IN (SELECT id FROM sent JOIN repeats USING (id)
                                       ORDER BY id DESC LIMIT -1 OFFSET ?1)",
        [REPEATED_MAX as i64],
    )?;
    let count = |kind: &str| {
        let sql = "SELECT count(*) FROM sent WHERE kind = ?1";
        transaction.query_row(sql, [kind], |row| row.get::<_, i64>(0)).map(|n| n.max(0) as u64)
    };
    let (events, evidence) = (count("event")?, count("evidence")?);
    transaction.execute(
        "INSERT OR IGNORE INTO outbox (id, event, sequence, kind, topic, payload, sha256, created)
         SELECT id, event, sequence, kind, topic, payload, sha256, created FROM sent",
        [],
    )?;
    transaction.execute(
        "INSERT INTO repeats (id, times) SELECT id, 1 FROM sent WHERE true
         ON CONFLICT (id) DO UPDATE SET times = times + 1",
        [],
    )?;
    // Of what was evicted or replaced before it had its next PUBACK.
    transaction.execute("DELETE FROM repeats WHERE id NOT IN (SELECT id FROM outbox)", [])?;
    transaction.execute("DELETE FROM sent", [])?;
    Ok(Depth { events, evidence, messages: events + evidence, ..Depth::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids that wait, each with how often it was acknowledged before.
    fn waiting(db: &rusqlite::Connection) -> Vec<(i64, u32)> {
        let mut select = db
            .prepare(
                "SELECT o.id, coalesce(r.times, 0) FROM outbox o LEFT JOIN repeats r USING (id) ORDER BY 1",
            )
            .unwrap();
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    /// All that waits is acknowledged, one a millisecond, in this order.
    fn acknowledge(transaction: &Transaction, ids: impl Iterator<Item = i64>, from: i64) {
        for (at, id) in ids.enumerate() {
            keep(transaction, id, from + at as i64).unwrap();
            transaction.execute("DELETE FROM outbox WHERE id = ?1", [id]).unwrap();
        }
    }

    #[test]
    fn of_what_was_repeated_the_youngest_stay_whenever_they_were_acknowledged() {
        let mut db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch(super::super::file::SCHEMA).unwrap();
        db.execute_batch(SCHEMA).unwrap();
        let transaction = db.transaction().unwrap();
        let count = REPEATED_MAX as i64 + 200;
        for id in 1..=count {
            let insert = "INSERT INTO outbox (id, event, sequence, kind, topic, created) VALUES (?1, 'e', ?1, 'event', 't', 0)";
            transaction.execute(insert, [id]).unwrap();
        }
        acknowledge(&transaction, 1..=count, 1_000);
        // Of what is sent again for the first time all of it.
        assert_eq!(recall(&transaction).unwrap().events, count as u64);
        // The youngest are sent first, and so are acknowledged first.
        acknowledge(&transaction, (1..=count).rev(), 5_000);
        assert_eq!(recall(&transaction).unwrap().events, REPEATED_MAX as u64);
        // What one life of the broker has outlived is not sent again.
        let youngest = (count - REPEATED_MAX as i64 + 1)..=count;
        acknowledge(&transaction, youngest.clone(), 9_000);
        assert_eq!(forget(&transaction, 9_000 + 1_000).unwrap(), 1_000);
        assert_eq!(recall(&transaction).unwrap().events, REPEATED_MAX as u64 - 1_000);
        transaction.commit().unwrap();
        let left = youngest.skip(1_000).map(|id| (id, 3));
        assert_eq!(waiting(&db), left.collect::<Vec<_>>());
    }
}
