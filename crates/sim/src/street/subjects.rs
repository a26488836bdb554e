//! Pictures with things in them that a detector may take for a street vendor, labelled with what they are: what a
//! second model, which looks at such places alone, learns from and is measured on.
//!
//! A label's box is around what a detector would group: carts, goods and canopies. What tells a vendor from the others
//! lies partly beside it: somebody who sells, a door, nobody at all.

use std::f32::consts::{FRAC_PI_2, PI, TAU};

use super::brush::{between, pick};
use super::dataset::{Sample, asked_for};
use super::develop::Conditions;
use super::layout::Layout;
use super::person::Pose;
use super::props::Prop;
use super::random::{Crowd, log_between};
use super::studio::{Picture, SizeError, Studio};
use super::thing::{Class, Kind, Thing};

/// Pictures taken of one street before the next is built.
pub(super) const PER_STREET: usize = 2;
/// What a model sees around a subject, as a share of its box.
const AROUND: f32 = 0.3;
/// Subjects of which others take up more than this share of their own box are left out.
const CROWDED: f32 = 0.3;
/// Tries to find a place for a subject.
const TRIES: usize = 12;

/// What is in such a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Somebody sells: a cart, goods or a parasol, and a person beside them.
    Vendor,
    /// A cart that somebody has parked, empty or with a load, with nothing for sale.
    ParkedTricycle,
    /// People under umbrellas.
    UmbrellaPedestrian,
    /// A shop's own goods, inside its door.
    ShopGoods,
    /// Nothing of all this: cars, people, cartons, the bare street.
    Nothing,
}

impl Subject {
    /// All, in the order that data sets and models number them.
    pub const ALL: [Self; 5] =
        [Self::Vendor, Self::ParkedTricycle, Self::UmbrellaPedestrian, Self::ShopGoods, Self::Nothing];

    /// Its name in data sets and model cards.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::ParkedTricycle => "parked_tricycle",
            Self::UmbrellaPedestrian => "umbrella_pedestrian",
            Self::ShopGoods => "shop_goods",
            Self::Nothing => "nothing",
        }
    }
}

/// A subject in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// What.
    pub subject: Subject,
    /// Left, top, right, bottom of what a detector would group, pixels.
    pub bbox: [u32; 4],
}

/// A picture with its subjects, and the quality that it is to be stored with.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The picture as a data set holds it.
    pub sample: Sample,
    /// What is in it.
    pub placed: Vec<Placed>,
}

/// The first `count` pictures of the data set with this seed, in memory.
///
/// # Errors
/// Where the size is none that can be painted.
pub fn samples(count: usize, seed: u64, size: (u32, u32)) -> Result<Vec<Scene>, SizeError> {
    let streets = (0..count.div_ceil(PER_STREET)).map(|street| samples_of(seed, street, size));
    let mut all: Vec<_> = streets.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    all.truncate(count);
    Ok(all)
}

/// The pictures of a data set's street number `street`.
pub(super) fn samples_of(seed: u64, street: usize, size: (u32, u32)) -> Result<Vec<Scene>, SizeError> {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ street as u64);
    let layout = Layout::from_seed(rng.u64(..), size.0, size.1);
    let conditions = Conditions::random(&mut rng);
    let mut studio = Studio::new(layout.clone(), conditions)?;
    let mut out = Vec::with_capacity(PER_STREET);
    for _ in 0..PER_STREET {
        let (things, groups) = compose(&layout, &conditions, &mut rng);
        let picture = studio.take(&things, rng.u64(..));
        let placed = place(&picture, &things, &groups, &mut rng);
        let labels = asked_for(&picture).copied().collect();
        out.push(Scene { sample: Sample { picture, labels, quality: rng.u8(40..=95) }, placed });
    }
    Ok(out)
}

/// Which things make up a subject.
type Group = (Subject, std::ops::Range<usize>);

/// Fills a street with some of each.
fn compose(layout: &Layout, conditions: &Conditions, rng: &mut fastrand::Rng) -> (Vec<Thing>, Vec<Group>) {
    let mut crowd = Crowd::new(layout, conditions, rng);
    let mut groups = Vec::new();
    for _ in 0..rng.usize(3..7) {
        let from = crowd.things.len();
        let subject = pick(
            rng,
            &[
                Subject::Vendor,
                Subject::Vendor,
                Subject::ParkedTricycle,
                Subject::UmbrellaPedestrian,
                Subject::ShopGoods,
            ],
        );
        let made = (0..TRIES).any(|_| match subject {
            Subject::Vendor => crowd.vendor(rng),
            Subject::ParkedTricycle => crowd.parked(rng),
            Subject::UmbrellaPedestrian => crowd.umbrellas(rng),
            Subject::ShopGoods => crowd.shop(rng),
            Subject::Nothing => false,
        });
        if made {
            groups.push((subject, from..crowd.things.len()));
        }
    }
    for _ in 0..rng.usize(0..4) {
        let from = crowd.things.len();
        crowd.car(rng);
        groups.push((Subject::Nothing, from..crowd.things.len()));
    }
    if rng.f32() < 0.3 {
        let from = crowd.things.len();
        crowd.works(rng);
        groups.push((Subject::Nothing, from..crowd.things.len()));
    }
    for _ in 0..rng.usize(0..6) {
        let ((u, s), pose) =
            (crowd.somewhere(rng), pick(rng, &[Pose::Stand, Pose::Walk(1.0), Pose::Walk(4.0)]));
        let person = Thing::new(Kind::Person(pose, false), u, s, between(rng, 0.0, TAU), rng.u64(..));
        let from = crowd.things.len();
        if crowd.add(person, false) && rng.bool() {
            groups.push((Subject::Nothing, from..crowd.things.len()));
        }
    }
    (crowd.things, groups)
}

impl Crowd<'_> {
    /// Where somebody may stop on a footway or at the kerb, and a heading along the street.
    fn stop(&self, rng: &mut fastrand::Rng) -> (f32, f32, f32) {
        let l = self.layout;
        let side = if rng.f32() < 0.7 { -l.side() } else { l.side() };
        let u = side * (l.half + between(rng, -1.8, l.footway_on(side) - 0.8));
        (u, log_between(rng, 6.0, 26.0), pick(rng, &[0.0, PI]) + between(rng, -0.3, 0.3))
    }

    /// At least one of cart with goods on it, goods and parasol; somebody sells.
    fn vendor(&mut self, rng: &mut fastrand::Rng) -> bool {
        let (u, s, heading) = self.stop(rng);
        let (sin, cos) = heading.sin_cos();
        let at = |a: f32, b: f32| (u + a * sin + b * cos, s + a * cos - b * sin);
        let front = if rng.bool() { 1.0 } else { -1.0 };
        let cart = rng.f32() < 0.75;
        let mut wares = rng.usize(0..4);
        let mut heap = false;
        if cart {
            let cart = Thing::new(Kind::Tricycle, u, s, heading, rng.u64(..));
            if !self.add(cart, false) {
                return false;
            }
            heap = rng.f32() < 0.4 && !super::stall::carries(cart.seed);
            if heap {
                self.things.push(Thing { kind: Kind::Heap, seed: rng.u64(..), ..cart }.lifted(0.86));
            }
        }
        if !heap && wares == 0 {
            wares = 1;
        }
        let mut laid = 0;
        for i in 0..wares {
            let ahead = if cart { -1.3 } else { 0.0 } + 1.9 * (i as f32 - 0.4) + between(rng, -0.2, 0.2);
            let out = if cart { front * between(rng, 0.95, 1.5) } else { between(rng, -0.2, 0.2) };
            let (gu, gs) = at(ahead, out);
            let turned = heading + between(rng, -0.15, 0.15);
            laid += usize::from(self.add(Thing::new(Kind::Goods, gu, gs, turned, rng.u64(..)), true));
        }
        if !heap && laid == 0 {
            return cart && self.take_back();
        }
        if rng.f32() < 0.6 {
            let (pu, ps) = at(between(rng, -1.2, 1.2), front * between(rng, 0.3, 1.0));
            self.parasol(rng, pu, ps);
        }
        for _ in 0..pick(rng, &[1, 1, 1, 2, 2, 3]) {
            let (vu, vs) = at(between(rng, -2.4, 2.4), front * pick(rng, &[-1.0, 0.5, 1.9, 2.2]));
            let pose = if rng.f32() < 0.3 { Pose::Sit } else { Pose::Stand };
            self.person(rng, vu, vs, Some(pose));
        }
        true
    }

    /// Takes the last thing away again: it turned out to be nothing that is wanted.
    fn take_back(&mut self) -> bool {
        self.things.pop();
        false
    }

    /// A cart by itself; now and then somebody stands by or walks past.
    fn parked(&mut self, rng: &mut fastrand::Rng) -> bool {
        let (u, s, heading) = self.stop(rng);
        if !self.add(Thing::new(Kind::Tricycle, u, s, heading, rng.u64(..)), false) {
            return false;
        }
        if rng.f32() < 0.45 {
            let (away, angle) = (between(rng, 1.3, 2.6), between(rng, 0.0, TAU));
            let pose = if rng.bool() { Pose::Stand } else { Pose::Walk(between(rng, 0.0, TAU)) };
            self.person(rng, u + away * angle.sin(), s + away * angle.cos(), Some(pose));
        }
        true
    }

    /// One to four people close together, each under an umbrella: against rain or sun.
    fn umbrellas(&mut self, rng: &mut fastrand::Rng) -> bool {
        let (u, s) = self.somewhere(rng);
        let mut some = false;
        for _ in 0..pick(rng, &[1, 1, 2, 3, 4]) {
            let (away, angle) = (between(rng, 0.0, 1.5), between(rng, 0.0, TAU));
            let pose = if rng.bool() { Pose::Stand } else { Pose::Walk(between(rng, 0.0, TAU)) };
            let (u, s) = (u + away * angle.sin(), s + away * angle.cos());
            let person = Thing::new(Kind::Person(pose, true), u, s, between(rng, 0.0, TAU), rng.u64(..));
            if self.add(person, false) {
                let rim = super::person::height(person.seed) + between(rng, 0.0, 0.12);
                self.things.push(Thing { kind: Kind::Umbrella, seed: rng.u64(..), ..person }.lifted(rim));
                some = true;
            }
        }
        some
    }

    /// A shop's door with its goods behind the threshold; now and then somebody before it.
    fn shop(&mut self, rng: &mut fastrand::Rng) -> bool {
        let l = self.layout;
        let side = if rng.f32() < 0.8 { -l.side() } else { l.side() };
        let (wall, s) = (side * (l.half + l.footway_on(side)), log_between(rng, 6.0, 24.0));
        let along = if side > 0.0 { 0.0 } else { PI };
        let from = self.things.len();
        let door = Thing::new(Kind::Prop(Prop::Doorway), wall - side * 0.02, s, along, rng.u64(..));
        if !self.add(door, false) {
            return false;
        }
        let count = rng.usize(1..3);
        for i in 0..count {
            let aside = if count == 1 { between(rng, -0.4, 0.4) } else { 1.4 * i as f32 - 0.7 };
            // Racks and crates stand along the wall or across the door.
            let heading = if count == 1 { pick(rng, &[0.0, FRAC_PI_2, PI]) } else { FRAC_PI_2 };
            let goods = Thing::new(
                Kind::Goods,
                wall + side * between(rng, 0.3, 0.5),
                s + aside,
                heading,
                rng.u64(..),
            );
            self.add(goods, true);
        }
        if self.things.len() == from + 1 {
            return self.take_back();
        }
        if rng.f32() < 0.4 {
            let before = wall - side * between(rng, 0.6, 2.0);
            let beside = s + between(rng, -2.0, 2.0);
            self.person(rng, before, beside, None);
        }
        true
    }
}

/// What can be seen of the subjects, as boxes, and a place where there is nothing.
fn place(picture: &Picture, things: &[Thing], groups: &[Group], rng: &mut fastrand::Rng) -> Vec<Placed> {
    let mut placed = Vec::new();
    for (subject, members) in groups {
        let wanted = |class: Class| match subject {
            Subject::Nothing => true,
            Subject::UmbrellaPedestrian => matches!(class, Class::Umbrella),
            _ => matches!(class, Class::Tricycle | Class::Goods | Class::Umbrella),
        };
        // Somebody else's umbrella that only passes a vendor's stall is none of its things.
        let own = |thing: &Thing| *subject == Subject::UmbrellaPedestrian || thing.kind != Kind::Umbrella;
        let boxes = asked_for(picture).filter(|seen| {
            members.contains(&seen.thing)
                && wanted(seen.class)
                && own(&things[seen.thing])
                && seen.visible >= 0.4
        });
        let boxes: Vec<_> = boxes.collect();
        // A cart whose goods cannot be seen shows no vendor.
        let told = *subject != Subject::Vendor || boxes.iter().any(|seen| seen.class == Class::Goods);
        if let (true, Some(bbox)) = (told, boxes.iter().map(|seen| seen.bbox).reduce(union)) {
            placed.push(Placed { subject: *subject, bbox });
        }
    }
    let all = placed.clone();
    placed.retain(|one| all.iter().all(|other| other.subject == one.subject || !crowds(other, one)));
    placed.extend(bare(picture, rng));
    placed
}

/// Whether `other` takes up so much of what is seen around `one` that the picture shows two subjects.
fn crowds(other: &Placed, one: &Placed) -> bool {
    let side = |a: u32, b: u32| (a as f32, b as f32, AROUND * b.saturating_sub(a) as f32);
    let shared = |(a0, a1, grown): (f32, f32, f32), (b0, b1, _): (f32, f32, f32)| {
        ((a1 + grown).min(b1) - (a0 - grown).max(b0)).max(0.0)
    };
    let ([x0, y0, x1, y1], [u0, v0, u1, v1]) = (one.bbox, other.bbox);
    let both = shared(side(x0, x1), side(u0, u1)) * shared(side(y0, y1), side(v0, v1));
    other.subject != Subject::Nothing && both > CROWDED * ((x1 - x0) * (y1 - y0)) as f32
}

fn union(a: [u32; 4], b: [u32; 4]) -> [u32; 4] {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

/// A box that holds nothing with a class, if one is soon found.
fn bare(picture: &Picture, rng: &mut fastrand::Rng) -> Option<Placed> {
    let (w, h) = (picture.width as f32, picture.height as f32);
    (0..TRIES).find_map(|_| {
        let wide = log_between(rng, 0.05, 0.3) * w;
        let high = (wide * between(rng, 0.5, 1.5)).min(0.5 * h);
        let (x, y) = (between(rng, 0.0, w - wide), between(rng, 0.3 * h, h - high));
        let bbox = [x, y, x + wide, y + high].map(|v| v as u32);
        let apart = |b: [u32; 4]| b[0] >= bbox[2] || b[2] <= bbox[0] || b[1] >= bbox[3] || b[3] <= bbox[1];
        let free = picture.seen.iter().all(|seen| apart(seen.bbox));
        free.then_some(Placed { subject: Subject::Nothing, bbox })
    })
}
