//! What the page asks.

use flow::{EventId, Timestamp};
use publish::wire::{EventData, EventMessage, Object, Role};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, StoreError};

/// A case, as it is shown.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Case {
    /// Counts from 1 without gaps.
    #[serde(rename = "case")]
    pub number: u64,
    /// `open` or `ended`.
    pub state: String,
    /// When the desk opened it.
    pub opened: Timestamp,
    /// `updated` messages so far.
    pub updates: u64,
    /// Pictures that are there, in the order first, near, latest, clear; then those of other views.
    pub pictures: Vec<Picture>,
    /// Other cameras that see the same problem.
    pub also_seen_by: Vec<String>,
    /// What its latest message says.
    pub event: EventData,
}

/// A picture of a case.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Picture {
    /// What it shows.
    pub role: Role,
    /// Where it is served; empty where the desk does not have it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Where it is instead: an address in a store that is not the desk's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What is to be seen in it.
    pub objects: Vec<Object>,
}

/// How many cases there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub open: u64,
    pub ended: u64,
}

impl Store {
    /// The newest cases with a number below `before`, newest first.
    pub fn cases(&self, before: Option<u64>, limit: usize) -> Result<Vec<Case>, StoreError> {
        let before = before.and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX);
        self.with(|db| {
            let mut statement = db.prepare_cached(
                "SELECT number, event, state, opened, body,
                        (SELECT count(DISTINCT inbox.event || sequence) FROM inbox JOIN views USING (event)
                         WHERE views.number = cases.number AND phase = 'updated')
                 FROM cases WHERE number < ?1 ORDER BY number DESC LIMIT ?2",
            )?;
            let mut rows = statement.query(params![before, limit as i64])?;
            let mut cases = Vec::new();
            while let Some(row) = rows.next()? {
                let (number, event): (i64, String) = (row.get(0)?, row.get(1)?);
                let body: Vec<u8> = row.get(4)?;
                let views = views(db, number, &event)?;
                let Ok(message) = EventMessage::parse(&body) else {
                    tracing::error!(number, "case without a readable message; not shown");
                    continue;
                };
                cases.push(Case {
                    number: number as u64,
                    state: row.get(2)?,
                    opened: Timestamp::from_millisecond(row.get(3)?).unwrap_or_default(),
                    updates: row.get::<_, i64>(5)? as u64,
                    pictures: self.views_pictures(db, &event, &views)?,
                    also_seen_by: views.into_iter().map(|(_, camera)| camera).collect(),
                    event: message.data,
                });
            }
            Ok(cases)
        })
    }

    /// How many cases there are.
    pub fn total(&self) -> Result<Total, StoreError> {
        self.with(|db| {
            let sql = "SELECT coalesce(sum(state = 'open'), 0), coalesce(sum(state = 'ended'), 0) FROM cases";
            db.query_row(sql, [], |row| {
                Ok(Total { open: row.get::<_, i64>(0)? as u64, ended: row.get::<_, i64>(1)? as u64 })
            })
        })
    }

    /// The bytes of a picture.
    pub fn picture(&self, event: EventId, role: Role) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM evidence WHERE event = ?1 AND role = ?2";
        self.with(|db| {
            db.query_row(sql, params![event.to_string(), role.name()], |row| row.get(0)).optional()
        })
    }
}

/// The views of a case beside its own: event and camera.
fn views(db: &Connection, number: i64, own: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let sql = "SELECT event, camera FROM views WHERE number = ?1 AND event <> ?2 ORDER BY event";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![number, own], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

impl Store {
    fn views_pictures(
        &self,
        db: &Connection,
        own: &str,
        views: &[(String, String)],
    ) -> rusqlite::Result<Vec<Picture>> {
        let mut all = self.pictures(db, own)?;
        for (event, _) in views {
            all.extend(self.pictures(db, event)?);
        }
        Ok(all)
    }

    /// The pictures that a message named: those that came and are the ones it named, and those in a store.
    fn pictures(&self, db: &Connection, event: &str) -> rusqlite::Result<Vec<Picture>> {
        let mut statement = db.prepare_cached(
            "SELECT p.role, p.objects, p.sha256, p.ref, e.sha256 IS NOT NULL FROM pictures p
             LEFT JOIN evidence e ON e.event = p.event AND e.role = p.role AND e.sha256 = p.sha256
             WHERE p.event = ?1 AND (e.sha256 IS NOT NULL OR p.ref <> '')",
        )?;
        let mut rows = statement.query([event])?;
        let mut list = Vec::new();
        while let Some(row) = rows.next()? {
            let (role, objects): (String, String) = (row.get(0)?, row.get(1)?);
            let (sha256, reference, here): (String, String, bool) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let Ok(role) = role.parse::<Role>() else { continue };
            let served = here || self.reaches(event, role, &sha256, &reference);
            list.push(Picture {
                role,
                url: if served { format!("/evidence/{event}/{role}.jpg") } else { String::new() },
                at: (!served).then_some(reference),
                objects: serde_json::from_str(&objects).unwrap_or_default(),
            });
        }
        list.sort_by_key(|picture| picture.role as u8);
        Ok(list)
    }
}
