//! A scripted street as its author writes it: YAML, checked as a whole.

use std::collections::HashSet;
use std::path::Path;

use flow::{SituationId, ZoneId};
use serde::Deserialize;

use super::develop::{Conditions, Light, Weather};
use super::layout::{Layout, Place};

/// The timelines that come with the program: name and text.
pub const SHIPPED: [(&str, &str); 4] = [
    ("vending-day", include_str!("../../streets/vending-day.yaml")),
    ("parking-dusk", include_str!("../../streets/parking-dusk.yaml")),
    ("obstruction-rain", include_str!("../../streets/obstruction-rain.yaml")),
    ("quiet-day", include_str!("../../streets/quiet-day.yaml")),
];

/// A scripted street, checked. Plays in a loop: what happens at its end goes on at its start.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    /// What happens, for people.
    pub title: String,
    /// Length of one round, seconds.
    pub seconds: f32,
    /// Pictures per second.
    pub fps: u32,
    /// Width and height, pixels; even.
    pub size: (u32, u32),
    /// Seconds from one key picture to the next.
    pub key_every: f32,
    /// Seed of the street: where the camera stands, how the road runs, which shops there are.
    pub street: u64,
    /// Seed of what moves through it.
    pub seed: u64,
    /// Time of day.
    pub light: Light,
    /// Weather.
    pub weather: Weather,
    /// Standard deviation of the camera's noise, of 255.
    pub noise: f32,
    /// What has nothing to do with the script.
    #[serde(default)]
    pub traffic: Traffic,
    /// Parts of the picture that are watched.
    pub zones: Vec<ZoneSpec>,
    /// What happens.
    #[serde(default)]
    pub script: Vec<Act>,
}

/// Background traffic.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// People in the street at any time, on average.
    #[serde(default)]
    pub pedestrians: f32,
    /// Cars that drive through, per minute.
    #[serde(default)]
    pub cars_per_minute: f32,
    /// Share of the people who carry an umbrella, 0..=1 [default: 0.65 in the rain, none else].
    #[serde(default)]
    pub umbrellas: Option<f32>,
}

/// A strip of the ground around a place.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSpec {
    /// Its id.
    pub id: ZoneId,
    /// What counts as a situation in it; where absent, nothing does.
    #[serde(default)]
    pub situation: Option<SituationId>,
    /// Around which place.
    pub at: Place,
    /// Metres from there towards the camera's side of the street.
    #[serde(default)]
    pub across: f32,
    /// Length along the street, metres.
    pub along: f32,
    /// Width across the street, metres.
    pub wide: f32,
}

/// Where something happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spot {
    /// Near the middle of this place.
    pub place: Place,
    /// Metres along the street from there.
    pub along: f32,
    /// Metres from there towards the camera's side of the street.
    pub across: f32,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// A car drives up, stands, and drives off.
    Park(Stay),
    /// A vendor arrives with a cart, lays out goods under a parasol, sells, packs up and leaves.
    Stall(Stay),
    /// Barriers and cartons are put into the way, and taken away again.
    Obstruct(Stay),
    /// Cartons are piled up in the way, and taken away again.
    Pile(Stay),
    /// Someone with an umbrella comes, waits, and walks on.
    Wait(Stay),
}

/// Where and how long.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stay {
    /// Near the middle of this place.
    pub at: Place,
    /// Metres along the street from there.
    #[serde(default)]
    pub along: f32,
    /// Metres from there towards the camera's side of the street.
    #[serde(default)]
    pub across: f32,
    /// Second at which it stands there; absent: it always does.
    #[serde(default)]
    pub from: Option<f32>,
    /// Second at which it begins to leave; absent: it never does.
    #[serde(default)]
    pub to: Option<f32>,
}

impl Stay {
    /// Where.
    pub fn spot(&self) -> Spot {
        Spot { place: self.at, along: self.along, across: self.across }
    }
}

impl Act {
    /// The name in a timeline.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Park(_) => "park",
            Self::Stall(_) => "stall",
            Self::Obstruct(_) => "obstruct",
            Self::Pile(_) => "pile",
            Self::Wait(_) => "wait",
        }
    }

    /// Which situation it is where that counts; none has the name "nothing".
    pub fn situation(&self) -> &'static str {
        match self {
            Self::Park(_) => "illegal_parking",
            Self::Stall(_) => "street_vending",
            Self::Obstruct(_) | Self::Pile(_) => "road_obstructed",
            Self::Wait(_) => "nothing",
        }
    }

    /// Where and how long.
    pub fn stay(&self) -> &Stay {
        match self {
            Self::Park(stay)
            | Self::Stall(stay)
            | Self::Obstruct(stay)
            | Self::Pile(stay)
            | Self::Wait(stay) => stay,
        }
    }

    /// The same, to change it.
    pub fn stay_mut(&mut self) -> &mut Stay {
        match self {
            Self::Park(stay)
            | Self::Stall(stay)
            | Self::Obstruct(stay)
            | Self::Pile(stay)
            | Self::Wait(stay) => stay,
        }
    }
}

/// A timeline that cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum TimelineError {
    /// The file cannot be read.
    #[error("{name}: {source}")]
    Read {
        /// Which file.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not the YAML of a timeline; the text says where and what was expected.
    #[error("{name}: {reason}")]
    Yaml {
        /// Which file.
        name: String,
        /// Line, column, what is there and what was expected.
        reason: String,
    },
    /// Values that make no sense; all of them.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
    /// No timeline of this name comes with the program.
    #[error("no street {0:?}: expected one of {known}, or the path of a .yaml file", known = SHIPPED.map(|s| s.0).join(", "))]
    Unknown(String),
}

impl Timeline {
    /// A timeline by the name under which it is shipped, or by the path of its file (`.yaml`, `.yml`).
    pub fn open(name: &str) -> Result<Self, TimelineError> {
        if let Some((_, text)) = SHIPPED.iter().find(|(n, _)| *n == name) {
            return Self::parse(name, text);
        }
        if !name.ends_with(".yaml") && !name.ends_with(".yml") {
            return Err(TimelineError::Unknown(name.into()));
        }
        let text = std::fs::read_to_string(Path::new(name))
            .map_err(|source| TimelineError::Read { name: name.into(), source })?;
        Self::parse(name, &text)
    }

    /// Reads and checks; `name` is for messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, TimelineError> {
        let timeline: Self = serde_saphyr::from_str(text)
            .map_err(|error| TimelineError::Yaml { name: name.into(), reason: error.to_string() })?;
        let wrong = timeline.mistakes();
        if wrong.is_empty() {
            Ok(timeline)
        } else {
            Err(TimelineError::Values(wrong.into_iter().map(|w| format!("{name}: {w}")).collect()))
        }
    }

    /// How many pictures one round has.
    pub fn frames(&self) -> u32 {
        (self.seconds * self.fps as f32).round() as u32
    }

    /// Pictures from one key picture to the next.
    pub fn key_frames(&self) -> u32 {
        ((self.key_every * self.fps as f32).round() as u32).max(1)
    }

    /// The street.
    pub fn layout(&self) -> Layout {
        Layout::from_seed(self.street, self.size.0, self.size.1)
    }

    /// The light, the weather and the camera.
    pub fn conditions(&self) -> Conditions {
        Conditions::plain(self.light, self.weather, self.noise)
    }

    fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut within = |key: &str, value: f32, low: f32, high: f32| {
            if !(low..=high).contains(&value) {
                wrong.push(format!("{key}: {value}; expected {low} to {high}"));
            }
        };
        within("seconds", self.seconds, 4.0, 600.0);
        within("fps", self.fps as f32, 1.0, 30.0);
        within("key_every", self.key_every, 1.0 / self.fps.max(1) as f32, self.seconds);
        within("noise", self.noise, 0.0, 40.0);
        within("traffic.pedestrians", self.traffic.pedestrians, 0.0, 60.0);
        within("traffic.cars_per_minute", self.traffic.cars_per_minute, 0.0, 60.0);
        within("traffic.umbrellas", self.traffic.umbrellas.unwrap_or(0.0), 0.0, 1.0);
        for (i, zone) in self.zones.iter().enumerate() {
            within(&format!("zones[{i}].along"), zone.along, 0.5, 60.0);
            within(&format!("zones[{i}].wide"), zone.wide, 0.5, 20.0);
            within(&format!("zones[{i}].across"), zone.across, -12.0, 12.0);
        }
        for (i, act) in self.script.iter().enumerate() {
            let (key, stay) = (format!("script[{i}].{}", act.name()), act.stay());
            within(&format!("{key}.along"), stay.along, -40.0, 40.0);
            within(&format!("{key}.across"), stay.across, -12.0, 12.0);
        }
        let (w, h) = self.size;
        if !(64..=4096).contains(&w) || !(64..=4096).contains(&h) || w % 2 + h % 2 > 0 {
            wrong.push(format!("size: [{w}, {h}]; expected even numbers from 64 to 4096"));
        }
        let mut ids = HashSet::new();
        for (i, zone) in self.zones.iter().enumerate() {
            if !ids.insert(&zone.id) {
                wrong.push(format!("zones[{i}].id: {}; is already used", zone.id));
            }
        }
        for (i, act) in self.script.iter().enumerate() {
            if let Some(text) = self.wrong_times(act.stay()) {
                wrong.push(format!("script[{i}].{}: {text}", act.name()));
            }
        }
        wrong
    }

    fn wrong_times(&self, stay: &Stay) -> Option<String> {
        // Arriving and leaving take their time.
        let (low, high) = (8.0, self.seconds - 8.0);
        match (stay.from, stay.to) {
            (None, None) => None,
            (Some(from), Some(to)) if from >= low && to <= high && to >= from + 8.0 => None,
            (Some(from), Some(to)) => Some(format!(
                "from: {from}, to: {to}; expected from >= {low}, to <= {high}, and at least 8 seconds between them"
            )),
            _ => Some("has only one of from and to; give both, or none for what is always there".into()),
        }
    }
}
