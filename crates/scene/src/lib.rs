//! One camera's tracks, rules and situations: [`Detections`](flow::Detections) in time order in, [`Event`](flow::Event)s out.
//!
//! A pure state machine: it reads no clock, does no I/O and draws no random numbers, so that a recording
//! replayed gives the same events, ids included. It runs on capture times at 0.2 to 25 looks per second, over gaps
//! and reconnects.
//!
//! - [`Tracker`] follows things from look to look and knows since when each has been standing still.
//! - [`Scene`] holds the rules against the tracks and carries each situation through `began → updated → ended`.
//!
//! `ended` needs positive evidence: looks on which the place was in view and the thing was not there. A lost
//! stream, or a bus that stands in front, ends nothing. Neither does a look that only repeats the one before because
//! the picture has not changed: it carries on what was seen, and every event is of a picture that the model saw.

mod background;
mod condition;
mod ground;
mod motion;
mod near;
mod neighbours;
mod presets;
mod rules;
mod scene;
mod story;
mod tracker;
mod view;

pub use condition::Condition;
pub use ground::Ground;
pub use neighbours::{Neighbours, Sighting};
pub use scene::{Answer, Clock, Question, QuestionId, Saved, Scene};
pub use tracker::{Need, Presence, Stand, Track, Tracker};
