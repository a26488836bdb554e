//! The wire contract as documents: AsyncAPI 3.0 and JSON Schema (draft 7), made from the types of [`crate::wire`].
//!
//! They are shipped under `configs/contract/`; a test holds that what is shipped is what is made here. The last released
//! contract is kept beside it, and [`breaking`] says what in a newer one would break a program that was written
//! against it.

mod asyncapi;
mod channels;
mod compare;
mod schemas;

use std::path::Path;

use serde_json::Value;

pub use compare::{Break, breaking};

/// A file of the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Relative to the contract's folder, with `/`.
    pub path: String,
    /// What it holds.
    pub json: Value,
}

impl File {
    /// As it is written: indented, with a newline at its end.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.json)
    }
}

/// The name of the AsyncAPI document.
pub const ASYNCAPI: &str = "asyncapi.json";

/// All files: the AsyncAPI document, complete in itself, and each message's schema by itself.
pub fn files() -> Vec<File> {
    let schemas = schemas::alone().into_iter();
    let schemas = schemas.map(|(name, json)| File { path: format!("schemas/{name}.json"), json });
    std::iter::once(File { path: ASYNCAPI.into(), json: asyncapi::document() }).chain(schemas).collect()
}

/// A contract that was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The folder holds a contract of the same version that this one would break.
    #[error(
        "{path} holds a contract of the same version ({version}), which this one would break:\n{}\nA change that breaks \
         needs a new version: the topic root and the event types carry it.",
        .breaks.iter().map(|b| format!("  {b}")).collect::<Vec<_>>().join("\n")
    )]
    Breaks {
        /// The document there.
        path: std::path::PathBuf,
        /// Of both.
        version: String,
        /// What would break.
        breaks: Vec<Break>,
    },
    /// What is there is no contract.
    #[error("{path} is no contract: {why}")]
    Unreadable {
        /// The document there.
        path: std::path::PathBuf,
        /// Why.
        why: String,
    },
    /// The disk.
    #[error("{path}: {source}")]
    File {
        /// Which file or folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Writes all files below `folder`. Where a contract of the same version is there already, it is replaced only by one that
/// breaks nothing: that is how a released contract steps forward.
///
/// # Errors
/// What would break, or the file that cannot be read or written; nothing was written in the first two cases.
pub fn write(folder: &Path) -> Result<Vec<std::path::PathBuf>, WriteError> {
    let files = files();
    check_released(folder, &files[0].json)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError::File { path, source }
    };
    let mut written = Vec::new();
    for file in &files {
        let path = folder.join(&file.path);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(failed(parent))?;
        std::fs::write(&path, file.text()).map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
}

fn check_released(folder: &Path, new: &Value) -> Result<(), WriteError> {
    let path = folder.join(ASYNCAPI);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(WriteError::File { path, source }),
    };
    let old: Value = serde_json::from_slice(&text)
        .map_err(|error| WriteError::Unreadable { path: path.clone(), why: error.to_string() })?;
    let Some(version) = version(&old) else {
        return Err(WriteError::Unreadable { path, why: "it has no info.version".into() });
    };
    if Some(version) != self::version(new) {
        return Ok(());
    }
    let breaks = breaking(&old, new);
    if breaks.is_empty() {
        return Ok(());
    }
    Err(WriteError::Breaks { path, version: version.into(), breaks })
}

/// The contract's version, of an AsyncAPI document.
pub fn version(document: &Value) -> Option<&str> {
    document.pointer("/info/version")?.as_str()
}
