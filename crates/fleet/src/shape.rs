//! What a configuration may look like, as data. One description drives the checker ([`crate::check`]), the
//! JSON Schema ([`crate::schema()`]) and the test that keeps the commented example equal to the defaults.

use std::time::Duration;

/// A map with known keys.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Names it in the schema.
    pub name: &'static str,
    pub keys: &'static [Key],
}

/// One key of a map.
#[derive(Debug)]
pub(crate) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    pub doc: &'static str,
}

/// What happens where a key is absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Need {
    Required,
    /// As if this had been written.
    Default(&'static str),
    /// Nothing, or what the key's text says.
    Optional,
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Free text of 1 to `.0` characters.
    Text(usize),
    /// 1 to 64 letters, digits, `.`, `_`, `-`: part of topics, file names and addresses.
    Id,
    /// The name of something described elsewhere; `.0` says of what, for messages.
    Name(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number in this range.
    Whole(u64, u64),
    /// A number in this range.
    Number(f64, f64),
    /// A duration in this range.
    Duration(Duration, Duration),
    /// Bytes, in this range.
    Size(u64, u64),
    /// A file or folder, relative to the file that names it.
    Path,
    /// A camera's address.
    Rtsp,
    /// A broker's address.
    Mqtt,
    /// Address and port to listen on.
    Listen,
    /// Plain, or `env:NAME`.
    User,
    /// `env:NAME` or `file:PATH`; anything else is not even shown.
    Secret,
    /// SHA-256 in hexadecimal.
    Sha256,
    /// Corners of a zone.
    Polygon,
    /// A map with known keys.
    Map(&'static Shape),
    /// A map from ids to values.
    Table(&'static Kind),
    /// A list of `.1` to `.2` values.
    List(&'static Kind, usize, usize),
    /// One of these words, or the other kind.
    WordOr(&'static [&'static str], &'static Kind),
}

impl Shape {
    pub fn position(&self, name: &str) -> Option<usize> {
        self.keys.iter().position(|key| key.name == name)
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

pub(crate) const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, need: Need::Required, doc }
}

pub(crate) const fn default(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, need: Need::Default(default), doc }
}

pub(crate) const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, need: Need::Optional, doc }
}
