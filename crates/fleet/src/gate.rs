//! Which pictures need no inference: its own words, then its class's, then the defaults.

use std::time::Duration;

use crate::check::{Fields, Item, Value};
use crate::shape::{Kind, Shape, default};

/// When a picture that shows what the last inferred one showed is not inferred again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// A look at least this often, whatever the picture shows.
    pub refresh: Duration,
    /// 1 is usual; 2 takes half as strong a difference for a change. > 0.
    pub sensitivity: f32,
    /// A picture decoded at least this often, whatever the sizes of the coded pictures say; zero: every one.
    pub decode_at_least_every: Duration,
}

static GATE: Shape = Shape {
    name: "gate",
    keys: &[
        default(
            "refresh",
            Kind::Duration(Duration::from_secs(1), Duration::from_secs(86_400)),
            "60s",
            "The model looks at least this often, whatever the picture shows.",
        ),
        default(
            "sensitivity",
            Kind::Number(0.1, 10.0),
            "1",
            "2 takes half as strong a difference for a change, 0.5 only twice as strong a one.",
        ),
        default(
            "decode_at_least_every",
            Kind::Duration(Duration::ZERO, Duration::from_secs(60)),
            "10s",
            "A picture is decoded at least this often, although the sizes of the coded pictures are as usual; 0s: every one.",
        ),
    ],
};

/// `on`, `off`, or its keys.
pub(crate) const KIND: Kind = Kind::WordOr(&["on", "off"], &Kind::Map(&GATE));

/// What one place says about it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct GatePart {
    on: Option<bool>,
    refresh: Option<Duration>,
    sensitivity: Option<f32>,
    decode_at_least_every: Option<Duration>,
}

impl GatePart {
    /// Reads the key `gate`. What is wrong in it has been reported.
    pub fn read(item: Option<&Item>) -> Self {
        match item.map(|item| &item.value) {
            Some(Value::Text(word)) => Self { on: Some(&**word != "off"), ..Self::default() },
            Some(Value::Map(fields)) => Self {
                on: Some(true),
                refresh: fields.item("refresh").and_then(|_| fields.duration("refresh")),
                sensitivity: fields
                    .item("sensitivity")
                    .and_then(|_| fields.number("sensitivity"))
                    .map(|n| n as f32),
                decode_at_least_every: fields
                    .item("decode_at_least_every")
                    .and_then(|_| fields.duration("decode_at_least_every")),
            },
            _ => Self::default(),
        }
    }

    /// This, and where it is silent what `class` says.
    pub fn or(self, class: Self) -> Self {
        Self {
            on: self.on.or(class.on),
            refresh: self.refresh.or(class.refresh),
            sensitivity: self.sensitivity.or(class.sensitivity),
            decode_at_least_every: self.decode_at_least_every.or(class.decode_at_least_every),
        }
    }

    /// With the defaults; `None`: off.
    pub fn filled(self) -> Option<Gate> {
        let defaults = Fields::empty(&GATE);
        self.on.unwrap_or(true).then_some(())?;
        Some(Gate {
            refresh: self.refresh.or(defaults.duration("refresh"))?,
            sensitivity: self.sensitivity.or(defaults.number("sensitivity").map(|n| n as f32))?,
            decode_at_least_every: self
                .decode_at_least_every
                .or(defaults.duration("decode_at_least_every"))?,
        })
    }
}
