//! Names of things. Each is a type of its own, so that a zone cannot be passed where a camera is meant.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a text cannot be an id. Ids are used in MQTT topics, file names and URLs, hence the narrow alphabet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing between the quotes.
    #[error("is empty; expected 1 to 64 characters")]
    Empty,
    /// Longer than 64 characters.
    #[error("has {0} characters; at most 64 are allowed")]
    TooLong(usize),
    /// A character outside `A-Z a-z 0-9 . _ -`.
    #[error("holds {0:?}; allowed are letters, digits, '.', '_' and '-'")]
    BadCharacter(char),
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        return Err(IdError::BadCharacter(bad));
    }
    if text.len() > 64 {
        return Err(IdError::TooLong(text.len()));
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and keeps `text`: 1 to 64 characters out of letters, digits, `.`, `_` and `-`.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A camera, unique in a site.
    CameraId
);
id!(
    /// A zone, unique in its camera.
    ZoneId
);
id!(
    /// A kind of situation, for example `illegal_parking`.
    SituationId
);
id!(
    /// A model, the name of its folder.
    ModelId
);

/// A class that a model can report, for example `person`. Not an id: model authors put blanks in them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ClassName(Arc<str>);

impl ClassName {
    /// Keeps `text` as it is.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One RTSP session of one camera; two sessions of the same camera differ. Unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SessionId(u64);

impl SessionId {
    /// The next unused id of this process.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_would_break_a_topic() {
        assert_eq!(CameraId::new(""), Err(IdError::Empty));
        assert_eq!(CameraId::new("a/b"), Err(IdError::BadCharacter('/')));
        assert_eq!(CameraId::new("a+"), Err(IdError::BadCharacter('+')));
        assert_eq!(CameraId::new(&"x".repeat(65)), Err(IdError::TooLong(65)));
        assert_eq!(CameraId::new("hn-0001.a_B").unwrap().as_str(), "hn-0001.a_B");
        assert!(serde_json_like("gate/7").is_err());
    }

    fn serde_json_like(text: &str) -> Result<CameraId, serde::de::value::Error> {
        use serde::Deserialize;
        use serde::de::IntoDeserializer;
        CameraId::deserialize(text.into_deserializer())
    }

    #[test]
    fn sessions_differ() {
        assert_ne!(SessionId::next(), SessionId::next());
    }
}
