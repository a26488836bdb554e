//! A rendered street, seen from a camera on a mast, that knows what is in its pictures.
//!
//! A [`Layout`] is one street as its seed lays it out; a [`Studio`] takes pictures of it with [`Thing`]s in it,
//! far to near, and records which thing is seen at each pixel, so that the boxes it reports are exact.

mod backdrop;
mod brush;
mod car;
pub mod dataset;
mod develop;
mod layout;
mod person;
mod props;
mod random;
mod stall;
mod studio;
mod thing;
mod view;
mod works;

pub use develop::{Conditions, Light, Weather};
pub use layout::{Layout, Place};
pub use person::Pose;
pub use props::Prop;
pub use random::{furniture, populate};
pub use studio::{Picture, Seen, SizeError, Studio};
pub use thing::{Class, Kind, Thing};
pub use view::{V3, View};
