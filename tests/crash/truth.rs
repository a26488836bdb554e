//! What has to be in the desk's inbox at the end, and what is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::maker;

/// The worker's cameras.
pub const CAMERAS: usize = 10;
/// Of one situation.
pub const MESSAGES: u64 = 4;

/// How many events each camera has made.
#[derive(Debug, Default, Clone)]
pub struct Made([u64; CAMERAS]);

impl Made {
    /// Notes what is known of a camera; numbers only grow.
    pub fn set(&mut self, camera: &str, number: u64) {
        let index: usize = camera.strip_prefix("cam-").unwrap().parse().unwrap();
        self.0[index] = self.0[index].max(number);
    }

    /// Of this camera.
    pub fn of(&self, camera: usize) -> u64 {
        self.0[camera]
    }

    /// Of all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The camera that is furthest behind.
    pub fn least(&self) -> usize {
        (0..CAMERAS).min_by_key(|camera| self.0[*camera]).unwrap()
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Events that were made.
    pub made: u64,
    /// That are in the inbox.
    pub arrived: u64,
    /// That are not; named.
    pub lost: Vec<String>,
    /// That are there twice, or that nobody made.
    pub doubled: Vec<String>,
    /// That came after a later one of their situation.
    pub disordered: Vec<String>,
    /// Cases beyond one per situation, or short of it.
    pub cases_off: i64,
}

/// Reads the desk's database, which nobody uses any more.
pub fn judge(desk: &Path, made: &Made) -> Verdict {
    let db = rusqlite::Connection::open(desk).unwrap();
    let mut statement = db.prepare("SELECT event, sequence FROM inbox ORDER BY rowid").unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, u64::from(row.get::<_, u32>(1)?))))
        .unwrap();
    let mut inbox: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let mut latest: BTreeMap<String, u64> = BTreeMap::new();
    let mut verdict = Verdict { made: made.total(), ..Verdict::default() };
    for row in rows {
        let (event, sequence) = row.unwrap();
        if latest.get(&event).is_some_and(|before| *before > sequence) {
            verdict.disordered.push(format!("{event}-{sequence}"));
        }
        latest.insert(event.clone(), sequence);
        *inbox.entry((event, sequence)).or_default() += 1;
    }
    let mut situations = BTreeSet::new();
    for camera in 0..CAMERAS {
        for number in 0..made.of(camera) {
            let event = maker::event(camera, number);
            let key = (event.id.to_string(), u64::from(event.sequence));
            situations.insert(key.0.clone());
            match inbox.remove(&key) {
                None => verdict.lost.push(format!("{}-{} (camera {camera}, number {number})", key.0, key.1)),
                Some(times) => {
                    verdict.arrived += 1;
                    if times > 1 {
                        verdict.doubled.push(format!("{}-{}", key.0, key.1));
                    }
                }
            }
        }
    }
    verdict
        .doubled
        .extend(inbox.into_keys().map(|(event, sequence)| format!("{event}-{sequence}: not made")));
    let cases: i64 = db.query_row("SELECT count(*) FROM cases", [], |row| row.get(0)).unwrap();
    verdict.cases_off = cases - situations.len() as i64;
    verdict
}

/// How many messages the inbox has; 0 before there is one.
pub fn arrived(desk: &Path) -> u64 {
    let count = || -> rusqlite::Result<u64> {
        let db = rusqlite::Connection::open_with_flags(desk, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.query_row("SELECT count(*) FROM inbox", [], |row| row.get::<_, u32>(0)).map(u64::from)
    };
    count().unwrap_or(0)
}
