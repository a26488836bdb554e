//! Streets full of things, at random: what a detector learns from.

use std::f32::consts::{FRAC_PI_2, PI, TAU};

use super::brush::{between, pick};
use super::develop::{Conditions, Light, Weather};
use super::layout::Layout;
use super::person::Pose;
use super::props::Prop;
use super::thing::{Kind, Thing};
use super::view::V3;

/// Nothing that would be lower than this in the picture is put there, pixels.
const LOWEST: f32 = 11.0;

/// The street's own furniture: lamp posts, trees, bins and the like.
pub fn furniture(layout: &Layout, rng: &mut fastrand::Rng) -> Vec<Thing> {
    let mut out: Vec<Thing> = Vec::new();
    for &(u, s) in &layout.lamps {
        // The arm reaches over the carriageway.
        let heading = -u.signum() * FRAC_PI_2;
        out.push(Thing::new(Kind::Prop(Prop::Lamp), u, s, heading, layout.seed));
    }
    let side = layout.side();
    for _ in 0..rng.usize(0..5) {
        // Trees on the camera's own side would hide everything.
        let own = rng.f32() < 0.15;
        let at = if own { side } else { -side };
        let u = at * (layout.half + 0.8);
        let s = if own { between(rng, 16.0, 40.0) } else { between(rng, 9.0, 45.0) };
        out.push(Thing::new(Kind::Prop(Prop::Tree), u, s, between(rng, 0.0, TAU), rng.u64(..)));
    }
    for _ in 0..rng.usize(0..7) {
        let prop = pick(rng, &Prop::LOOSE);
        let at = if rng.bool() { 1.0 } else { -1.0 };
        let u = at * (layout.half + between(rng, 0.5, layout.footway_on(at) - 0.3));
        let heading = pick(rng, &[0.0, FRAC_PI_2, PI]) + between(rng, -0.2, 0.2);
        out.push(Thing::new(Kind::Prop(prop), u, log_between(rng, 5.0, 40.0), heading, rng.u64(..)));
    }
    out
}

/// Uniform in the logarithm: as many near as far.
pub(super) fn log_between(rng: &mut fastrand::Rng, low: f32, high: f32) -> f32 {
    low * (high / low).powf(rng.f32())
}

/// A random filling of a street; one in ten holds no thing with a class.
pub fn populate(layout: &Layout, conditions: &Conditions, rng: &mut fastrand::Rng) -> Vec<Thing> {
    let mut crowd = Crowd::new(layout, conditions, rng);
    if rng.f32() < 0.1 {
        return crowd.things;
    }
    for _ in 0..pick(rng, &[0, 0, 1, 1, 1, 2]) {
        crowd.stall(rng);
    }
    if rng.f32() < 0.42 {
        crowd.works(rng);
    }
    for _ in 0..rng.usize(0..6) {
        crowd.car(rng);
    }
    for _ in 0..pick(rng, &[0, 1, 2, 3, 4, 6, 9]) {
        let (u, s) = crowd.somewhere(rng);
        crowd.person(rng, u, s, None);
    }
    for _ in 0..rng.usize(0..4) {
        crowd.stray(rng);
    }
    crowd.things
}

/// A street that fills up.
pub(super) struct Crowd<'a> {
    pub(super) layout: &'a Layout,
    pub(super) wet: bool,
    dark: bool,
    /// Circles on the ground that are occupied.
    taken: Vec<(f32, f32, f32)>,
    pub(super) things: Vec<Thing>,
}

impl<'a> Crowd<'a> {
    /// Nothing but the street's own furniture.
    pub(super) fn new(layout: &'a Layout, conditions: &Conditions, rng: &mut fastrand::Rng) -> Self {
        let things = furniture(layout, rng);
        let circle = |thing: &Thing| {
            let (long, wide, high) = thing.solid();
            (thing.u, thing.s, if high > 3.0 { 0.4 } else { long.max(wide) })
        };
        Self {
            layout,
            wet: conditions.weather == Weather::Rain,
            dark: conditions.light != Light::Day,
            taken: things.iter().map(circle).collect(),
            things,
        }
    }

    /// Adds a thing unless it would stand in another, be out of the picture or be too small in it.
    pub(super) fn add(&mut self, thing: Thing, loose: bool) -> bool {
        let view = &self.layout.view;
        let (long, wide, high) = thing.solid();
        let p = V3::new(thing.u, thing.s, thing.lift);
        let depth = view.depth(p);
        let Some((x, y)) = view.project(p) else { return false };
        let shown = x > -0.12 * view.width && x < 1.12 * view.width && y < 1.3 * view.height;
        if depth < 2.5 || !shown || high * view.scale(depth) < LOWEST {
            return false;
        }
        let r = long.max(wide) * if matches!(thing.kind, Kind::Person(..)) { 0.6 } else { 0.8 };
        let hits = |&(u, s, t): &(f32, f32, f32)| (u - thing.u).hypot(s - thing.s) < r + t;
        if !loose && self.taken.iter().any(hits) {
            return false;
        }
        self.taken.push((thing.u, thing.s, r));
        self.things.push(thing);
        true
    }

    /// Somewhere where people walk.
    pub(super) fn somewhere(&self, rng: &mut fastrand::Rng) -> (f32, f32) {
        let l = self.layout;
        let s = log_between(rng, 4.0, 34.0);
        match rng.u8(..10) {
            0..7 => {
                let side = if rng.bool() { 1.0 } else { -1.0 };
                (side * (l.half + between(rng, 0.2, l.footway_on(side) - 0.2)), s)
            }
            7..8 => (between(rng, -l.half, l.half), l.zebra.map_or(s, |z| z + between(rng, 0.2, 3.4))),
            _ => (between(rng, -l.half, l.half), s),
        }
    }

    pub(super) fn person(&mut self, rng: &mut fastrand::Rng, u: f32, s: f32, pose: Option<Pose>) {
        let pose = pose.unwrap_or_else(|| match rng.u8(..10) {
            0..7 => Pose::Walk(between(rng, 0.0, TAU)),
            7..9 => Pose::Stand,
            _ => Pose::Sit,
        });
        let heading = match rng.u8(..3) {
            0 => between(rng, 0.0, TAU),
            1 => between(rng, -0.2, 0.2),
            _ => PI + between(rng, -0.2, 0.2),
        };
        let covered = pose != Pose::Sit && rng.f32() < if self.wet { 0.6 } else { 0.06 };
        let person = Thing::new(Kind::Person(pose, covered), u, s, heading, rng.u64(..));
        if self.add(person, false) && covered {
            let rim = super::person::height(person.seed) + between(rng, 0.0, 0.12);
            self.things.push(Thing { kind: Kind::Umbrella, seed: rng.u64(..), ..person }.lifted(rim));
        }
    }

    pub(super) fn car(&mut self, rng: &mut fastrand::Rng) {
        let l = self.layout;
        let s = log_between(rng, 5.0, 45.0);
        let side = if rng.bool() { 1.0 } else { -1.0 };
        let (u, turn) = match rng.u8(..10) {
            0..5 => (side * l.half * 0.5 + between(rng, -0.4, 0.4), 0.04),
            5..8 => (side * (l.half - between(rng, 0.9, 1.3)), 0.06),
            8..9 => (side * (l.half + between(rng, 0.3, 1.5)), 0.15),
            _ => (between(rng, -l.half, l.half), PI),
        };
        let heading = l.traffic(u) + between(rng, -turn, turn) + if rng.f32() < 0.1 { PI } else { 0.0 };
        self.add(Thing::new(Kind::Car(self.dark && rng.f32() < 0.7), u, s, heading, rng.u64(..)), false);
    }

    /// A vendor's stall, with some of its parts missing.
    fn stall(&mut self, rng: &mut fastrand::Rng) {
        let l = self.layout;
        let side = if rng.f32() < 0.7 { -l.side() } else { l.side() };
        let u = side * (l.half + between(rng, -1.8, l.footway_on(side) - 0.8));
        let s = log_between(rng, 6.0, 24.0);
        let heading = pick(rng, &[0.0, PI]) + between(rng, -0.3, 0.3);
        let (sin, cos) = heading.sin_cos();
        let at = |a: f32, b: f32| (u + a * sin + b * cos, s + a * cos - b * sin);
        let front = if rng.bool() { 1.0 } else { -1.0 };
        let cart = rng.f32() < 0.75;
        if cart {
            let cart = Thing::new(Kind::Tricycle, u, s, heading, rng.u64(..));
            if !self.add(cart, false) {
                return;
            }
            // A loaded cart; its own random load would stand in the goods.
            if rng.f32() < 0.4 && !super::stall::carries(cart.seed) {
                self.things.push(Thing { kind: Kind::Heap, seed: rng.u64(..), ..cart }.lifted(0.86));
            }
        }
        for i in 0..rng.usize(0..4) {
            let (gu, gs) =
                at(-1.7 + 1.9 * i as f32 + between(rng, -0.15, 0.15), front * between(rng, 1.1, 1.5));
            self.add(Thing::new(Kind::Goods, gu, gs, heading + between(rng, -0.15, 0.15), rng.u64(..)), true);
        }
        if rng.f32() < 0.65 {
            let (pu, ps) = at(between(rng, -1.2, 1.2), front * between(rng, 0.5, 1.0));
            self.parasol(rng, pu, ps);
        }
        for _ in 0..rng.usize(0..4) {
            let (vu, vs) = at(between(rng, -2.2, 2.2), front * pick(rng, &[-1.0, 0.7, 2.1, 2.4]));
            let pose = if rng.f32() < 0.3 { Pose::Sit } else { Pose::Stand };
            self.person(rng, vu, vs, Some(pose));
        }
    }

    pub(super) fn parasol(&mut self, rng: &mut fastrand::Rng, u: f32, s: f32) {
        let rim = between(rng, 1.75, 2.15);
        let parasol = Thing::new(Kind::Parasol, u, s, between(rng, 0.0, TAU), rng.u64(..)).lifted(rim);
        if self.add(parasol, true) {
            self.things.push(Thing { kind: Kind::Pole(rim), lift: 0.0, ..parasol });
        }
    }

    /// A row of barriers, with cartons beside it.
    pub(super) fn works(&mut self, rng: &mut fastrand::Rng) {
        let l = self.layout;
        let u = between(rng, -l.half, l.half);
        let s = log_between(rng, 6.0, 26.0);
        let heading = pick(rng, &[0.0, FRAC_PI_2, PI, 0.5]) + between(rng, -0.25, 0.25);
        let (sin, cos) = heading.sin_cos();
        let model = rng.u64(..);
        for i in 0..rng.usize(0..6) {
            let b = 1.75 * i as f32;
            let (bu, bs) = (u + b * cos, s - b * sin);
            let seed = if rng.f32() < 0.8 { model } else { rng.u64(..) };
            self.add(Thing::new(Kind::Barrier, bu, bs, heading + between(rng, -0.08, 0.08), seed), true);
        }
        for _ in 0..rng.usize(0..4) {
            let (bu, bs) = (u + between(rng, -2.5, 3.5), s + between(rng, -2.5, 2.5));
            self.add(Thing::new(Kind::Boxes, bu, bs, between(rng, 0.0, TAU), rng.u64(..)), false);
        }
    }

    /// Something where nobody expects it.
    fn stray(&mut self, rng: &mut fastrand::Rng) {
        let l = self.layout;
        let wide = l.half + l.footway.0.min(l.footway.1) - 0.5;
        let (u, s) = (between(rng, -wide, wide), log_between(rng, 4.5, 28.0));
        let heading = between(rng, 0.0, TAU);
        let kind = match rng.u8(..10) {
            0..2 => Kind::Tricycle,
            2..4 => return self.parasol(rng, u, s),
            4..6 => Kind::Goods,
            6..8 => Kind::Barrier,
            _ => Kind::Boxes,
        };
        self.add(Thing::new(kind, u, s, heading, rng.u64(..)), false);
    }
}
