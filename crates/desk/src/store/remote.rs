//! Pictures in a store: a folder that workers and desk share, or a bucket.
//!
//! A message says where its picture is, and a message is hostile input: the desk reads nothing but what its own store would
//! have put under the picture's event, role and hash, and shows nothing that has another hash than the message says.

use flow::EventId;
use publish::wire::{Role, sha256};
use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};

/// As of pictures that come over MQTT.
const MAX_PICTURE_BYTES: u64 = 2 * 1024 * 1024;
/// No address of ours comes near.
const MAX_ADDRESS: usize = 2_048;

/// Where a picture is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// In the database.
    Here(Vec<u8>),
    /// In the store, under this name, with this hash.
    Remote { file: String, sha256: String },
}

/// Why a picture in the store cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("the store does not give it: {0}")]
    Store(String),
    #[error("the store has another picture: its SHA-256 is {found}, and {expected} was reported")]
    Changed { found: String, expected: String },
}

/// What is kept of a picture's reference: an address in a store; empty where it comes over MQTT.
pub(super) fn address(reference: &str) -> &str {
    let in_store = reference.starts_with("s3://") || reference.starts_with("file://");
    if in_store && reference.len() <= MAX_ADDRESS { reference } else { "" }
}

impl Store {
    /// Where a picture is, of those that can be shown.
    pub fn find_picture(&self, event: EventId, role: Role) -> Result<Option<Found>, StoreError> {
        if let Some(bytes) = self.picture(event, role)? {
            return Ok(Some(Found::Here(bytes)));
        }
        let sql = "SELECT sha256, ref FROM pictures WHERE event = ?1 AND role = ?2";
        let named: Option<(String, String)> = self.with(|db| {
            let key = params![event.to_string(), role.name()];
            db.query_row(sql, key, |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })?;
        Ok(named.and_then(|(sha256, reference)| {
            let file = self.remote.as_ref()?.file_of(event, role, &sha256, &reference)?;
            Some(Found::Remote { file, sha256 })
        }))
    }

    /// Whether a picture is where the desk's store has it.
    pub(super) fn reaches(&self, event: &str, role: Role, sha256: &str, reference: &str) -> bool {
        let file = |store: &publish::evidence::Store| {
            store.file_of(EventId::parse(event).ok()?, role, sha256, reference)
        };
        self.remote.as_ref().and_then(file).is_some()
    }

    /// Gets a picture from the store; `None`: it is not there, or not yet.
    pub async fn fetch(
        &self,
        event: EventId,
        file: &str,
        expected: &str,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        let Some(store) = &self.remote else { return Ok(None) };
        let bytes = store.get_within(event, file, MAX_PICTURE_BYTES).await.map_err(RemoteError::Store)?;
        match bytes.as_deref().map(sha256) {
            Some(found) if found != expected => {
                Err(RemoteError::Changed { found, expected: expected.to_owned() })
            }
            _ => Ok(bytes),
        }
    }
}
