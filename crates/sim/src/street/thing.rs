//! The things that move into and out of a street.

use super::brush::Brush;
use super::person::Pose;
use super::props::Prop;
use super::view::{Stand, V3, View};
use super::{car, person, props, stall, works};

/// The classes, in the order that data sets number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Someone.
    Person,
    /// A car or van.
    Car,
    /// A vendor's three-wheeled cart.
    Tricycle,
    /// The canopy of a parasol or umbrella, without its pole.
    Umbrella,
    /// Wares laid out for sale.
    Goods,
    /// A red and white construction barrier.
    Barrier,
    /// A pile of cartons.
    Boxes,
}

impl Class {
    /// All, in order.
    pub const ALL: [Self; 7] =
        [Self::Person, Self::Car, Self::Tricycle, Self::Umbrella, Self::Goods, Self::Barrier, Self::Boxes];

    /// Its name in data sets, ground truth and model cards.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Car => "car",
            Self::Tricycle => "tricycle",
            Self::Umbrella => "umbrella",
            Self::Goods => "goods",
            Self::Barrier => "barrier",
            Self::Boxes => "boxes",
        }
    }
}

/// What a thing is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Someone; whether a hand is raised to hold an umbrella.
    Person(Pose, bool),
    /// A car; whether its lamps are on.
    Car(bool),
    /// A vendor's cart.
    Tricycle,
    /// A stall's parasol; `lift` is the height of its rim.
    Parasol,
    /// An umbrella in someone's hand; `lift` is the height of its rim.
    Umbrella,
    /// A pole under a parasol whose rim is this high, metres.
    Pole(f32),
    /// Goods on the ground.
    Goods,
    /// Goods on a cart's bed; `lift` is the bed's height.
    Heap,
    /// A barrier.
    Barrier,
    /// A pile of cartons.
    Boxes,
    /// Something without a class.
    Prop(Prop),
}

/// A thing in its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thing {
    /// What.
    pub kind: Kind,
    /// Metres across the street.
    pub u: f32,
    /// Metres along the street.
    pub s: f32,
    /// Metres above the ground.
    pub lift: f32,
    /// 0 looks along the street, growing to the right; radians.
    pub heading: f32,
    /// Decides how it looks.
    pub seed: u64,
}

impl Thing {
    /// A thing on the ground.
    pub fn new(kind: Kind, u: f32, s: f32, heading: f32, seed: u64) -> Self {
        Self { kind, u, s, lift: 0.0, heading, seed }
    }

    /// The same, above the ground.
    pub fn lifted(self, lift: f32) -> Self {
        Self { lift, ..self }
    }

    /// Its class, where it has one.
    pub fn class(&self) -> Option<Class> {
        match self.kind {
            Kind::Person(..) => Some(Class::Person),
            Kind::Car(_) => Some(Class::Car),
            Kind::Tricycle => Some(Class::Tricycle),
            Kind::Parasol | Kind::Umbrella => Some(Class::Umbrella),
            Kind::Goods | Kind::Heap => Some(Class::Goods),
            Kind::Barrier => Some(Class::Barrier),
            Kind::Boxes => Some(Class::Boxes),
            Kind::Pole(_) | Kind::Prop(_) => None,
        }
    }

    /// Half length, half width and height of the box around it, metres.
    pub fn solid(&self) -> (f32, f32, f32) {
        match self.kind {
            Kind::Person(..) => (0.45, 0.45, person::height(self.seed)),
            Kind::Car(_) => car::solid(self.seed),
            Kind::Tricycle => (1.6, 0.62, 1.9),
            Kind::Parasol => (1.5, 1.5, 0.8),
            Kind::Umbrella => (0.6, 0.6, 0.35),
            Kind::Pole(rim) => (0.22, 0.22, rim + 0.1),
            Kind::Goods => stall::solid(self.seed),
            Kind::Heap => (1.05, 0.55, 0.4),
            // A barrier is long across its heading.
            Kind::Barrier => {
                let (long, wide, high) = works::barrier_solid(self.seed);
                (wide, long, high)
            }
            Kind::Boxes => works::cartons_solid(self.seed),
            Kind::Prop(prop) => prop.solid(),
        }
    }

    /// Where it stands.
    pub fn stand(&self) -> Stand {
        Stand { at: V3::new(self.u, self.s, self.lift), heading: self.heading }
    }

    /// Whether it looks the same in every picture in which it is at the same place.
    pub fn still(&self) -> bool {
        !matches!(self.kind, Kind::Person(Pose::Walk(_), _))
    }

    /// Distance by which things are painted, far to near. What hangs above others comes after them.
    pub fn order(&self, view: &View) -> f32 {
        let depth = view.depth(V3::new(self.u, self.s, 0.0));
        match self.kind {
            Kind::Parasol => depth - stall::radius(self.seed, false),
            Kind::Umbrella => depth - 0.2,
            Kind::Heap => depth - 0.7,
            // What stands inside is seen through it.
            Kind::Prop(Prop::Doorway) => depth + 3.0,
            _ => depth,
        }
    }

    /// Pixels that it may touch: left, top, right, bottom; `None` where it reaches behind the camera.
    pub fn extent(&self, view: &View) -> Option<[f32; 4]> {
        let stand = self.stand();
        let (long, wide, high) = self.solid();
        let (below, high) = match self.kind {
            Kind::Parasol | Kind::Umbrella => (0.25, high),
            Kind::Person(..) => (0.06, high * 1.06),
            _ => (0.05, high),
        };
        let mut out = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        for a in [-long, long] {
            for b in [-wide, wide] {
                for c in [-below, high] {
                    let (x, y) = view.project(stand.point(a, b, c))?;
                    out = [out[0].min(x), out[1].min(y), out[2].max(x), out[3].max(y)];
                }
            }
        }
        Some([out[0] - 3.0, out[1] - 3.0, out[2] + 3.0, out[3] + 3.0])
    }

    /// Draws it.
    pub fn draw(&self, brush: &mut Brush<'_>) {
        let stand = self.stand();
        match self.kind {
            Kind::Person(pose, raised) => person::draw(brush, &stand, self.seed, pose, raised),
            Kind::Car(lit) => car::draw(brush, &stand, self.seed, lit),
            Kind::Tricycle => stall::tricycle(brush, &stand, self.seed),
            Kind::Parasol => stall::canopy(brush, &stand, self.seed, false),
            Kind::Umbrella => stall::canopy(brush, &stand, self.seed, true),
            Kind::Pole(rim) => stall::pole(brush, &stand, rim),
            Kind::Goods => stall::goods(brush, &stand, self.seed),
            Kind::Heap => stall::heap(brush, &stand, self.seed),
            Kind::Barrier => works::barrier(brush, &stand, self.seed),
            Kind::Boxes => works::pile(brush, &stand, self.seed),
            Kind::Prop(prop) => props::draw(brush, &stand, prop, self.seed),
        }
    }
}
