//! A rendered street, seen from a camera on a mast, that knows what is in its pictures.
//!
//! A [`Layout`] is one street as its seed lays it out; a [`Studio`] takes pictures of it with [`Thing`]s in it,
//! far to near, and records which thing is seen at each pixel, so that the boxes it reports are exact. A
//! [`Timeline`] is a street with a script; [`film`] renders and codes it and keeps the ground truth.

mod backdrop;
mod brush;
mod buildings;
mod car;
pub mod dataset;
mod day;
mod develop;
mod encode;
mod film;
mod layout;
mod moment;
mod mover;
mod person;
mod props;
mod random;
mod shadow;
mod stage;
mod stall;
mod studio;
pub mod subjects;
mod thing;
mod timeline;
mod traffic;
mod view;
mod works;

pub use day::{Day, Due, Dwells, NoStreetError, Plan, Setting};
pub use develop::{Conditions, Light, Weather};
pub use encode::EncodeError;
pub use film::{Film, StreetZone, Truth, TruthBox, TruthSituation, encode, film, truth_boxes};
pub use layout::{Layout, Place};
pub use moment::{Moment, Sky};
pub use person::Pose;
pub use props::Prop;
pub use random::{furniture, populate};
pub use stage::{Held, Stage};
pub use studio::{Picture, Seen, SizeError, Studio};
pub use thing::{Class, Kind, Thing};
pub use timeline::{Act, SHIPPED, Spot, Stay, Timeline, TimelineError, Traffic, ZoneSpec};
pub use view::{V3, View};
