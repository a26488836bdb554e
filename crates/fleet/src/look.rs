//! How often a camera is looked at: its own words, then its class's, then the defaults.

use std::time::Duration;

use crate::check::{Fields, Value};
use crate::mistake::{Path, Place, Problem, Report};
use crate::shapes::LOOK;
use crate::units::show_duration;
use crate::{Look, OnLongKeys, Priority, Sampling};

/// What one place says about it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct LookPart {
    sampling: Option<Sampling>,
    at_most_every: Option<Duration>,
    at_least_every: Option<Duration>,
    on_long_keys: Option<OnLongKeys>,
    priority: Option<Priority>,
}

impl LookPart {
    /// `None`: something in it is wrong. Defaults are not filled in.
    pub fn read(fields: Option<&Fields>) -> Option<Self> {
        let Some(fields) = fields else { return Some(Self::default()) };
        let sampling = match fields.item("sampling").map(|item| &item.value) {
            None => None,
            Some(Value::Text(_)) => Some(Sampling::Keyframes),
            Some(Value::Map(fps)) => Some(Sampling::Fps(fps.number("fps")? as f32)),
            Some(_) => return None,
        };
        let written = |key| match fields.item(key) {
            Some(_) => fields.duration(key).map(Some),
            None => Some(None),
        };
        Some(Self {
            sampling,
            at_most_every: written("at_most_every")?,
            at_least_every: written("at_least_every")?,
            on_long_keys: match fields.item("on_long_keys") {
                None => None,
                Some(item) => Some(on_long_keys(item.text()?)),
            },
            priority: match fields.item("priority") {
                None => None,
                Some(item) => Some(priority(item.text()?)),
            },
        })
    }

    /// This, and where it is silent what `class` says.
    pub fn or(self, class: Self) -> Self {
        Self {
            sampling: self.sampling.or(class.sampling),
            at_most_every: self.at_most_every.or(class.at_most_every),
            at_least_every: self.at_least_every.or(class.at_least_every),
            on_long_keys: self.on_long_keys.or(class.on_long_keys),
            priority: self.priority.or(class.priority),
        }
    }

    /// With the defaults; reports what contradicts itself.
    /// `written` is where one would correct it.
    pub fn resolve(self, written: &Fields, path: &Path<'_>, report: &mut Report) -> Option<Look> {
        let look = self.filled()?;
        let keys = ["at_most_every", "at_least_every", "sampling"];
        let start = Place { file: 0, line: 1, column: 1 };
        let place = keys.iter().find_map(|key| written.item(key)).map_or(start, |item| item.place);
        let shown = show_duration(look.at_most_every);
        if let (Sampling::Fps(fps), Some(limit)) = (look.sampling, self.at_most_every) {
            let period = period(fps);
            if limit > period {
                let problem = format!("keeps looks apart, so that {fps} per second are never reached");
                let way = format!("expected at most {}ms, or leave it out", period.as_millis());
                report.add(place, &path.key("at_most_every"), Some(&shown), Problem::new(problem, way));
                return None;
            }
        }
        if look.at_most_every > look.at_least_every {
            let least = show_duration(look.at_least_every);
            let problem = Problem::new(
                format!("is longer than at_least_every, {least}"),
                "expected at_most_every <= at_least_every",
            );
            report.add(place, &path.key("at_most_every"), Some(&shown), problem);
            return None;
        }
        Some(look)
    }

    /// With the defaults. `None` never happens: every default fits its key.
    pub fn filled(self) -> Option<Look> {
        let defaults = Fields::empty(&LOOK);
        let sampling = self.sampling.unwrap_or(Sampling::Keyframes);
        let at_most_every = match (self.at_most_every, sampling) {
            (Some(written), _) => written,
            (None, Sampling::Fps(fps)) => period(fps),
            (None, Sampling::Keyframes) => defaults.duration("at_most_every")?,
        };
        let at_least_every = match self.at_least_every {
            Some(written) => written,
            None => defaults.duration("at_least_every")?,
        };
        let on_long_keys = self.on_long_keys.unwrap_or_default();
        let priority = self.priority.unwrap_or_default();
        Some(Look { sampling, at_most_every, at_least_every, on_long_keys, priority })
    }
}

/// One of the words that the key takes.
fn on_long_keys(word: &str) -> OnLongKeys {
    match word {
        "other_stream" => OnLongKeys::OtherStream,
        _ => OnLongKeys::Decode,
    }
}

/// One of the words that the key takes.
fn priority(word: &str) -> Priority {
    match word {
        "high" => Priority::High,
        "low" => Priority::Low,
        _ => Priority::Normal,
    }
}

/// From one look to the next, rounded down to the millisecond so that no picture is missed by a hair.
fn period(fps: f32) -> Duration {
    Duration::from_millis((1_000.0 / fps) as u64)
}
