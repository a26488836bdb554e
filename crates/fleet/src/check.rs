//! A YAML tree against its [`Shape`]: every mistake of form is reported here, what is right comes out typed.

use std::net::SocketAddr;
use std::time::Duration;

use flow::{NormPoint, Polygon};
use url::Url;

use crate::mistake::{Path, Place, Problem, Report, listed, nearest};
use crate::shape::{Key, Kind, Need, Shape};
use crate::tree::{Node, Pair, Pairs, Tree, View};
use crate::{address, units};

/// A typed value and where it was written.
#[derive(Debug)]
pub(crate) struct Item {
    pub place: Place,
    pub value: Value,
}

/// A value of the right form.
#[derive(Debug)]
pub(crate) enum Value {
    /// Of the wrong form; the report has it.
    Bad,
    Text(Box<str>),
    Whole(u64),
    Number(f64),
    Duration(Duration),
    Url(Box<Url>),
    Listen(Box<SocketAddr>),
    Polygon(Box<Polygon>),
    List(Vec<Item>),
    Map(Fields),
    Table(Vec<Entry>),
}

/// One entry of a table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub name: Box<str>,
    /// Of the name.
    pub place: Place,
    pub item: Item,
}

/// A map with known keys, in the order of its shape.
#[derive(Debug)]
pub(crate) struct Fields {
    shape: &'static Shape,
    items: Box<[Option<Item>]>,
}

impl Fields {
    /// With every key absent.
    pub fn empty(shape: &'static Shape) -> Self {
        Self { shape, items: shape.keys.iter().map(|_| None).collect() }
    }

    /// What was written, if anything.
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items[self.position(name)].as_ref()
    }

    /// Moves it out.
    pub fn take(&mut self, name: &str) -> Option<Item> {
        self.items[self.position(name)].take()
    }

    /// The place of a key, to be filled.
    pub fn slot(&mut self, name: &str) -> Option<&mut Option<Item>> {
        self.items.get_mut(self.shape.position(name)?)
    }

    /// What was written, key by key.
    pub fn written(self) -> impl Iterator<Item = (&'static Key, Item)> {
        self.shape.keys.iter().zip(self.items).filter_map(|(key, item)| Some((key, item?)))
    }

    fn position(&self, name: &str) -> usize {
        self.shape.position(name).expect("the caller asks for keys of this shape")
    }

    /// What was written, or else the default. `None`: neither, or of the wrong form.
    fn read<T>(&self, name: &str, pick: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let index = self.position(name);
        match (&self.items[index], self.shape.keys[index].need) {
            (Some(item), _) => pick(&item.value),
            (None, Need::Default(text)) => pick(&default_value(&self.shape.keys[index].kind, text)),
            (None, _) => None,
        }
    }

    /// A text, from what was written or the default.
    pub fn text(&self, name: &str) -> Option<Box<str>> {
        self.read(name, |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// A duration, from what was written or the default.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        self.read(name, |value| match value {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        })
    }

    /// A number, whole or not, from what was written or the default.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.read(name, |value| match value {
            Value::Number(number) => Some(*number),
            _ => None,
        })
    }

    /// A whole number or size, from what was written or the default.
    pub fn whole(&self, name: &str) -> Option<u64> {
        self.read(name, |value| match value {
            Value::Whole(whole) => Some(*whole),
            _ => None,
        })
    }

    /// An address, from what was written or the default.
    pub fn url(&self, name: &str) -> Option<Url> {
        self.read(name, |value| match value {
            Value::Url(url) => Some((**url).clone()),
            _ => None,
        })
    }

    /// An address to listen on, from what was written or the default.
    pub fn listen(&self, name: &str) -> Option<SocketAddr> {
        self.read(name, |value| match value {
            Value::Listen(address) => Some(**address),
            _ => None,
        })
    }

    /// A list of numbers, from what was written or the default.
    pub fn numbers(&self, name: &str) -> Option<Vec<f64>> {
        self.read(name, |value| match value {
            Value::List(items) => items
                .iter()
                .map(|item| match item.value {
                    Value::Number(number) => Some(number),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// A map inside; absent counts as empty.
    pub fn map(&self, name: &str) -> Option<&Fields> {
        match &self.item(name)?.value {
            Value::Map(fields) => Some(fields),
            _ => None,
        }
    }

    /// The items of a list that was written.
    pub fn list(&self, name: &str) -> Option<&[Item]> {
        match &self.item(name)?.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }
}

impl Item {
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The value that a default stands for.
fn default_value(kind: &Kind, text: &str) -> Value {
    if let Kind::List(of, ..) = kind {
        let place = Place { file: 0, line: 0, column: 0 };
        let items = text.trim_matches(['[', ']']).split(',');
        return Value::List(items.map(|t| Item { place, value: default_value(of, t.trim()) }).collect());
    }
    let value = scalar(kind, text, true);
    debug_assert!(value.is_ok(), "the default {text} does not fit its own key: {value:?}");
    value.unwrap_or(Value::Bad)
}

/// Checks a whole document against a kind.
pub(crate) fn check(tree: &Tree, kind: &'static Kind, report: &mut Report) -> Item {
    Checker { tree, report }.item(tree.root, kind, &Path::Root)
}

struct Checker<'c> {
    tree: &'c Tree,
    report: &'c mut Report,
}

impl Checker<'_> {
    fn item(&mut self, node: Node, kind: &'static Kind, path: &Path<'_>) -> Item {
        let (place, view) = (node.place, self.tree.view(node));
        let value = self.value(node, kind, path).unwrap_or_else(|problem| {
            let shown = match view {
                View::Text { text, .. } => Some(kind.shown(text)),
                _ => None,
            };
            if let Some(problem) = problem {
                self.report.add(place, path, shown, problem);
            }
            Value::Bad
        });
        Item { place, value }
    }

    /// `Err(None)`: the report has it already.
    fn value(&mut self, node: Node, kind: &'static Kind, path: &Path<'_>) -> Result<Value, Option<Problem>> {
        let refuse = |problem: String| Err(Some(Problem::new(problem, kind.expected())));
        match (kind, self.tree.view(node)) {
            (Kind::WordOr(words, _), View::Text { text, .. }) if words.contains(&text) => {
                Ok(Value::Text(text.into()))
            }
            (Kind::WordOr(words, of), View::Text { text, plain }) => {
                scalar(of, text, plain).map_err(|problem| Some(widened(problem, kind, words, of)))
            }
            (Kind::WordOr(_, of), _) => self.value(node, of, path),
            (Kind::Map(shape), View::Map(pairs)) => {
                Ok(Value::Map(self.map(Some(pairs), node.place, shape, path)))
            }
            (Kind::Map(shape), View::Null) => Ok(Value::Map(self.map(None, node.place, shape, path))),
            (Kind::Table(of), View::Map(pairs)) => Ok(Value::Table(self.table(pairs, of, path))),
            (Kind::Table(_), View::Null) => Ok(Value::Table(vec![])),
            (Kind::List(of, min, max), View::List(nodes)) if (*min..=*max).contains(&nodes.len()) => {
                let items = nodes.iter().enumerate().map(|(i, node)| self.item(*node, of, &path.index(i)));
                Ok(Value::List(items.collect()))
            }
            (Kind::List(_, 0, _), View::Null) => Ok(Value::List(vec![])),
            (Kind::List(..), View::List(nodes)) => refuse(format!("has {} entries", nodes.len())),
            (Kind::Polygon, View::List(corners)) => self.polygon(corners, path),
            (_, View::Text { text, plain }) => scalar(kind, text, plain).map_err(Some),
            (_, View::Null) => refuse("has no value".to_owned()),
            (_, View::List(_)) => refuse("is a list".to_owned()),
            (_, View::Map(_)) => refuse("is a map".to_owned()),
        }
    }

    fn map(
        &mut self,
        pairs: Option<Pairs<'_>>,
        place: Place,
        shape: &'static Shape,
        path: &Path<'_>,
    ) -> Fields {
        let mut fields = Fields::empty(shape);
        for pair in pairs.into_iter().flat_map(Pairs::iter) {
            let path = path.key(pair.key);
            match shape.position(pair.key) {
                Some(index) => {
                    fields.items[index] = Some(self.item(pair.node, &shape.keys[index].kind, &path));
                }
                None => {
                    let expected = match nearest(pair.key, shape.names()) {
                        Some(name) => format!("did you mean {name:?}?"),
                        None => format!("known here: {}", listed(shape.names())),
                    };
                    self.report.add(pair.place, &path, None, Problem::new("is no known key", expected));
                }
            }
        }
        for (key, item) in shape.keys.iter().zip(&mut fields.items) {
            if item.is_none() && key.need == Need::Required {
                let problem = Problem::new("is missing", key.kind.expected());
                self.report.add(place, &path.key(key.name), None, problem);
                *item = Some(Item { place, value: Value::Bad });
            }
        }
        fields
    }

    fn table(&mut self, pairs: Pairs<'_>, of: &'static Kind, path: &Path<'_>) -> Vec<Entry> {
        let entry = |pair: Pair<'_>| {
            let path = path.key(pair.key);
            if let Err(problem) = id(pair.key) {
                self.report.add(pair.place, &path, None, problem);
            }
            Entry { name: pair.key.into(), place: pair.place, item: self.item(pair.node, of, &path) }
        };
        pairs.iter().map(entry).collect()
    }

    fn polygon(&mut self, corners: &[Node], path: &Path<'_>) -> Result<Value, Option<Problem>> {
        // Whether edges cross is tested pair by pair.
        if corners.len() > 256 {
            let problem = format!("has {} corners", corners.len());
            return Err(Some(Problem::new(problem, "expected 3 to 256 corners")));
        }
        let mut points = Vec::with_capacity(corners.len());
        for (index, corner) in corners.iter().enumerate() {
            points.extend(self.corner(*corner, &path.index(index)));
        }
        if points.len() < corners.len() {
            return Err(None);
        }
        // Flow's own words say what would be right.
        let polygon = Polygon::new(points).map_err(|error| Some(Problem::new(error.to_string(), "")))?;
        Ok(Value::Polygon(Box::new(polygon)))
    }

    /// `None`: the report says why.
    fn corner(&mut self, corner: Node, path: &Path<'_>) -> Option<NormPoint> {
        static COORDINATE: Kind = Kind::Number(0.0, 1.0);
        let tree = self.tree;
        let View::List([x, y]) = tree.view(corner) else {
            let problem = Problem::new("is no corner", "expected [x, y], for example [0.1, 0.5]");
            self.report.add(corner.place, path, None, problem);
            return None;
        };
        let mut coordinate = |node, axis| match self.item(node, &COORDINATE, &path.index(axis)).value {
            Value::Number(number) => Some(number as f32),
            _ => None,
        };
        let (x, y) = (coordinate(*x, 0), coordinate(*y, 1));
        Some(NormPoint { x: x?, y: y? })
    }
}

/// A value that is neither one of the words nor of the other kind.
fn widened(problem: Problem, kind: &Kind, words: &[&str], of: &Kind) -> Problem {
    match of {
        // The other kind is a name: what is wrong with it is what the user wants to know.
        Kind::Name(_) => problem,
        _ => Problem::new(format!("is not {}", words.join(", ")), kind.expected()),
    }
}

fn id(text: &str) -> Result<(), Problem> {
    flow::CameraId::new(text).map_err(|error| Problem::new(error.to_string(), "")).map(drop)
}

/// Reads one scalar. `plain`: it was written without quotes.
fn scalar(kind: &Kind, text: &str, plain: bool) -> Result<Value, Problem> {
    let refuse = |problem: &str| Err(Problem::new(problem, kind.expected()));
    let value = match kind {
        Kind::Text(max) => match text.chars().take(max + 1).count() {
            0 => return refuse("is empty"),
            n if n > *max => return refuse("is too long"),
            _ => Value::Text(text.into()),
        },
        Kind::Id => {
            id(text)?;
            Value::Text(text.into())
        }
        Kind::Name(_) | Kind::User | Kind::Secret | Kind::Path if text.is_empty() => {
            return refuse("is empty");
        }
        Kind::Path if text.contains("://") => return refuse("is an address"),
        Kind::Name(_) | Kind::User | Kind::Path if text.len() > 1_000 => return refuse("is too long"),
        Kind::Name(_) | Kind::User | Kind::Path => Value::Text(text.into()),
        Kind::Secret => match text.split_once(':') {
            Some(("env" | "file", name)) if !name.is_empty() && text.len() <= 1_000 => {
                Value::Text(text.into())
            }
            _ => return refuse("is written out here"),
        },
        Kind::Word(words) => match words.iter().find(|word| **word == text) {
            Some(word) => Value::Text((*word).into()),
            None => return refuse("is not known"),
        },
        Kind::Sha256 if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Value::Text(text.to_ascii_lowercase().into())
        }
        Kind::Sha256 => return refuse("is no SHA-256"),
        Kind::Whole(..) | Kind::Number(..) if !plain => return refuse("is in quotes, so it is a text"),
        Kind::Whole(min, max) => match text.parse::<u64>() {
            Ok(n) if (*min..=*max).contains(&n) => Value::Whole(n),
            Ok(_) => return refuse("is out of range"),
            Err(_) if text.parse::<f64>().is_ok_and(f64::is_finite) => return refuse("is out of range"),
            Err(_) => return refuse("is no whole number"),
        },
        Kind::Number(min, max) => match text.parse::<f64>() {
            Ok(n) if (*min..=*max).contains(&n) => Value::Number(n),
            Ok(n) if n.is_finite() => return refuse("is out of range"),
            _ => return refuse("is no number"),
        },
        Kind::Duration(min, max) => match units::duration(text)? {
            duration if (*min..=*max).contains(&duration) => Value::Duration(duration),
            _ => return refuse("is out of range"),
        },
        Kind::Size(min, max) => match units::size(text)? {
            size if (*min..=*max).contains(&size) => Value::Whole(size),
            _ => return refuse("is out of range"),
        },
        Kind::Rtsp => Value::Url(Box::new(address::rtsp(text)?)),
        Kind::Mqtt => Value::Url(Box::new(address::mqtt(text)?)),
        Kind::Listen => match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => return refuse("has port 0"),
            Ok(address) => Value::Listen(Box::new(address)),
            Err(_) => return refuse("is no address to listen on"),
        },
        Kind::WordOr(words, of) => match words.iter().find(|word| **word == text) {
            Some(word) => Value::Text((*word).into()),
            None => return scalar(of, text, plain),
        },
        Kind::Polygon | Kind::Map(_) | Kind::Table(_) | Kind::List(..) => return refuse("is a text"),
    };
    Ok(value)
}

impl Kind {
    /// What would be right, in words.
    pub fn expected(&self) -> String {
        let duration = units::show_duration;
        match self {
            Self::Text(max) => format!("expected a text of 1 to {max} characters"),
            Self::Id => "expected 1 to 64 letters, digits, '.', '_' or '-'".to_owned(),
            Self::Name(what) => format!("expected the name of a {what}"),
            Self::Word(words) => format!("expected {}", words.join(" or ")),
            Self::Whole(min, max) => format!("expected a whole number from {min} to {max}"),
            Self::Number(min, max) => format!("expected a number from {min} to {max}"),
            Self::Duration(min, max) => {
                format!(
                    "expected a duration from {} to {}, such as 2s or 3min",
                    duration(*min),
                    duration(*max)
                )
            }
            Self::Size(min, max) => {
                format!("expected a size from {} to {}", units::show_size(*min), units::show_size(*max))
            }
            Self::Path => "expected a path".to_owned(),
            Self::Rtsp => "expected rtsp://host[:port]/path".to_owned(),
            Self::Mqtt => "expected mqtt://host[:port] or mqtts://host[:port]".to_owned(),
            Self::Listen => {
                "expected an IP address and a port from 1 to 65535, such as 127.0.0.1:8080".to_owned()
            }
            Self::User => "expected a user name or env:NAME".to_owned(),
            Self::Secret => {
                "write env:NAME or file:PATH and keep the password there, out of the configuration".to_owned()
            }
            Self::Sha256 => "expected 64 hexadecimal digits".to_owned(),
            Self::Polygon => "expected a list of corners [[x, y], ...]".to_owned(),
            Self::Map(shape) => format!("expected a map with keys out of {}", listed(shape.names())),
            Self::Table(_) => "expected a map {name: ...}".to_owned(),
            Self::List(_, min, max) if min == max => format!("expected a list of {min} entries"),
            Self::List(_, 0, max) => format!("expected a list of at most {max} entries"),
            Self::List(_, min, max) => format!("expected a list of {min} to {max} entries"),
            Self::WordOr(words, of) => {
                let of = match of {
                    Self::Map(shape) => format!("{{{}: ...}}", listed(shape.names())),
                    of => of.expected().trim_start_matches("expected ").to_owned(),
                };
                format!("expected {} or {of}", words.join(", "))
            }
        }
    }

    /// The text as a message may show it.
    fn shown<'t>(&self, text: &'t str) -> &'t str {
        let secret = match self {
            Self::Secret | Self::User => true,
            Self::Map(shape) => shape.name == "login",
            // A login written where its name belongs.
            Self::Name("credentials") => id(text).is_err(),
            Self::WordOr(_, of) | Self::Table(of) | Self::List(of, ..) => return of.shown(text),
            _ => false,
        };
        if secret { "***" } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::all_keys;

    #[test]
    fn every_default_fits_its_own_key() {
        for (map, key) in all_keys() {
            if let Need::Default(text) = key.need {
                let value = default_value(&key.kind, text);
                assert!(!matches!(value, Value::Bad), "{map}.{}: {text}", key.name);
            }
        }
    }

    #[test]
    fn every_key_is_explained() {
        for (map, key) in all_keys() {
            assert!(key.doc.ends_with('.'), "{map}.{}: {:?}", key.name, key.doc);
        }
    }
}
