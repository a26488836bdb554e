//! A timeline → the things in the street at any moment.

use std::f32::consts::PI;

use super::develop::{Light, Weather};
use super::layout::Layout;
use super::mover::{Halt, Mover, Who};
use super::random::furniture;
use super::thing::{Kind, Thing};
use super::timeline::{Act, Spot, Stay, Timeline};
use super::view::V3;

/// A thing that is there for a while and does not move.
#[derive(Debug, Clone, Copy)]
struct Stander {
    thing: Thing,
    from: f32,
    to: f32,
}

/// Who sells for longer than this, seconds, walks about.
const LONG_STALL: f32 = 120.0;

/// A circle of the ground that traffic keeps clear of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Obstacle {
    pub(super) u: f32,
    pub(super) s: f32,
    pub(super) radius: f32,
    pub(super) from: f32,
    pub(super) to: f32,
}

/// Which classes make up an act, and when the first of them is in place and the last one gone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Where its middle is on the ground.
    pub at: V3,
    /// Second at which it begins.
    pub from: f32,
    /// Second at which it is over.
    pub to: f32,
}

/// Everything that a timeline puts into its street.
pub struct Stage {
    pub(super) layout: Layout,
    pub(super) seconds: f32,
    pub(super) dark: bool,
    pub(super) wet: bool,
    fixed: Vec<Thing>,
    standers: Vec<Stander>,
    movers: Vec<Mover>,
    /// In the order in which they set out.
    pub(super) traffic: Vec<Mover>,
    /// The longest time that one of them takes, seconds.
    longest: f32,
    pub(super) obstacles: Vec<Obstacle>,
    /// For each act of the script, in its order.
    held: Vec<Held>,
}

impl Stage {
    /// Sets the stage.
    pub fn new(timeline: &Timeline) -> Self {
        let layout = timeline.layout();
        let mut rng = fastrand::Rng::with_seed(timeline.seed);
        let mut stage = Self {
            fixed: furniture(&layout, &mut fastrand::Rng::with_seed(timeline.street ^ 0xf0)),
            layout,
            seconds: timeline.seconds,
            dark: timeline.light != Light::Day,
            wet: timeline.weather == Weather::Rain,
            standers: Vec::new(),
            movers: Vec::new(),
            traffic: Vec::new(),
            longest: 0.0,
            obstacles: Vec::new(),
            held: Vec::new(),
        };
        for act in &timeline.script {
            let held = match act {
                Act::Park(stay) => stage.park(stay, &mut rng),
                Act::Stall(stay) => stage.stall(stay, &mut rng),
                Act::Obstruct(stay) => stage.obstruct(stay, &mut rng),
                Act::Pile(stay) => stage.pile(stay, &mut rng),
                Act::Wait(stay) => stage.wait(stay, &mut rng),
            };
            stage.held.push(held);
        }
        stage.clear_furniture();
        stage.walkers(timeline.traffic.pedestrians, timeline.traffic.umbrellas, &mut rng);
        stage.drivers(timeline.traffic.cars_per_minute, &mut rng);
        stage.traffic.sort_by(|a, b| a.start().total_cmp(&b.start()));
        stage.longest = stage.traffic.iter().map(|m| m.end() - m.start()).fold(0.0, f32::max);
        stage
    }

    /// When and where the acts of the script hold, in its order.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// What is in the street `t` seconds after the start.
    pub fn things(&self, t: f32) -> Vec<Thing> {
        let mut out = self.fixed.clone();
        let there = self.standers.iter().filter(|x| (x.from..x.to).contains(&t));
        out.extend(there.map(|x| x.thing));
        // The loop's end goes on at its start.
        for t in [t, t + self.seconds] {
            for mover in &self.movers {
                if let Some(at) = mover.at(t) {
                    mover.things(at, &mut out);
                }
            }
            // Of a day's thousands, those that may be on their way.
            let first = self.traffic.partition_point(|mover| mover.start() < t - self.longest);
            for mover in self.traffic[first..].iter().take_while(|mover| mover.start() <= t) {
                if let Some(at) = mover.at(t) {
                    mover.things(self.swerve(at, t % self.seconds, mover.who), &mut out);
                }
            }
        }
        out
    }

    fn place(&self, spot: Spot) -> (f32, f32) {
        let middle = self.layout.middle(spot.place);
        (middle.u + spot.across * self.layout.side(), middle.s + spot.along)
    }

    /// From and to of a stay; one without times lasts for ever.
    fn times(&self, stay: &Stay) -> (f32, f32) {
        match (stay.from, stay.to) {
            (Some(from), Some(to)) => (from, to),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    fn stand(&mut self, thing: Thing, from: f32, to: f32) {
        self.standers.push(Stander { thing, from, to });
    }

    fn hold(&mut self, (u, s): (f32, f32), radius: f32, from: f32, to: f32) -> Held {
        self.obstacles.push(Obstacle { u, s, radius, from: from - 5.0, to: to + 5.0 });
        Held { at: V3::new(u, s, 0.0), from, to }
    }

    fn park(&mut self, stay: &Stay, rng: &mut fastrand::Rng) -> Held {
        let spot = self.place(stay.spot());
        let heading = self.layout.traffic(spot.0);
        let (from, to) = self.times(stay);
        let seed = rng.u64(..);
        if stay.from.is_none() {
            self.fixed.push(Thing::new(Kind::Car(false), spot.0, spot.1, heading, seed));
        } else {
            let lane = spot.0.signum() * self.layout.half * 0.4;
            let path = Halt { spot, lane, heading, stay: (from, to), most: 7.5 }.path();
            self.movers.push(Mover { who: Who::Car { lit: self.dark, heading }, seed, path });
        }
        self.hold(spot, 1.1, from, to)
    }

    fn stall(&mut self, stay: &Stay, rng: &mut fastrand::Rng) -> Held {
        let (u, s) = self.place(stay.spot());
        let (from, to) = self.times(stay);
        // The goods lie on the side that the camera sees.
        let toward = (self.layout.view.stand - u).signum();
        let heading = self.layout.traffic(u);
        let cart = (u - 0.55 * toward, s);
        let who = Who::Cart { heading };
        let seed = find(rng, |seed| !super::stall::carries(seed));
        if stay.from.is_none() {
            self.fixed.push(Thing::new(Kind::Tricycle, cart.0, cart.1, heading, seed));
        } else {
            let path = Halt { spot: cart, lane: cart.0, heading, stay: (from, to), most: 3.2 }.path();
            self.movers.push(Mover { who, seed, path });
        }
        for (i, ds) in [-0.95, 0.95].into_iter().enumerate() {
            let goods = find(rng, |seed| (0.7..1.2).contains(&super::stall::solid(seed).2));
            let thing = Thing::new(Kind::Goods, u + 0.62 * toward, s + ds, heading, goods);
            self.stand(thing, from + 1.0 + i as f32, to - 1.0 - i as f32);
        }
        let rim = 2.0;
        let parasol = Thing::new(Kind::Parasol, u + 0.1 * toward, s - 0.2, 0.3, rng.u64(..)).lifted(rim);
        self.stand(parasol, from + 3.0, to - 3.0);
        self.stand(Thing { kind: Kind::Pole(rim), lift: 0.0, ..parasol }, from + 3.0, to - 3.0);
        let long = from.is_finite() && to - from > LONG_STALL;
        if long {
            self.busy_vendor(rng, (u, s), toward, (from, to), seed ^ 1);
        } else {
            let pose = Kind::Person(super::person::Pose::Stand, false);
            let vendor = Thing::new(pose, u + 0.1 * toward, s + 2.2, PI, seed ^ 1);
            self.stand(vendor, from, to);
        }
        if from.is_finite() {
            let mut visits = vec![(from + 8.0, from + 20.0, -0.6), (from + 24.0, from + 38.0, 0.5)];
            let mut next = from + 38.0;
            while long && next + 200.0 < to {
                next += super::brush::between(rng, 50.0, 180.0);
                let end = next + super::brush::between(rng, 20.0, 90.0);
                visits.push((next, end, super::brush::between(rng, -1.0, 1.0)));
                next = end;
            }
            for (start, end, ds) in visits {
                if end + 6.0 < to {
                    self.customer(rng, (u + 1.5 * toward, s + ds), toward, (start, end));
                }
            }
        }
        self.hold((u, s), 1.9, from + 1.0, to - 1.0)
    }

    /// A vendor who does not stand behind the parasol for an hour: at the cart, beside the goods, before them.
    fn busy_vendor(
        &mut self,
        rng: &mut fastrand::Rng,
        (u, s): (f32, f32),
        toward: f32,
        (from, to): (f32, f32),
        seed: u64,
    ) {
        let places =
            [(0.1, 2.2), (1.2, -1.9), (1.35, 0.4), (0.3, -2.3)].map(|(a, b)| (u + a * toward, s + b));
        let mut at = 0;
        let mut path = vec![(from, places[0].0, places[0].1)];
        let mut t = from;
        while t < to {
            t = (t + super::brush::between(rng, 25.0, 90.0)).min(to);
            path.push((t, places[at].0, places[at].1));
            at = (at + rng.usize(1..places.len())) % places.len();
            t += 4.0;
            path.push((t, places[at].0, places[at].1));
        }
        let who = Who::Walker { umbrella: false, facing: -toward * PI / 2.0 };
        self.movers.push(Mover { who, seed, path });
    }

    /// Someone who walks up, looks at the goods and walks on.
    fn customer(&mut self, rng: &mut fastrand::Rng, (u, s): (f32, f32), toward: f32, (from, to): (f32, f32)) {
        let (come, go) = if rng.bool() { (-1.0, 1.0) } else { (1.0, 1.0) };
        let pace = 1.25;
        let path = vec![
            (from - 16.0, u, s + come * 16.0 * pace),
            (from, u, s),
            (to, u, s),
            (to + 20.0, u, s + go * 20.0 * pace),
        ];
        let who = Who::Walker { umbrella: self.wet, facing: -toward * PI / 2.0 };
        self.movers.push(Mover { who, seed: rng.u64(..), path });
    }

    fn obstruct(&mut self, stay: &Stay, rng: &mut fastrand::Rng) -> Held {
        let (u, s) = self.place(stay.spot());
        let (from, to) = self.times(stay);
        let barrier = rng.u64(..);
        let pieces = [
            Thing::new(Kind::Barrier, u - 0.85, s - 1.7, 0.0, barrier),
            Thing::new(Kind::Barrier, u + 0.85, s - 1.7, 0.06, barrier),
            Thing::new(Kind::Boxes, u + 0.35, s - 0.1, 0.4, rng.u64(..)),
            Thing::new(Kind::Boxes, u - 0.8, s + 0.5, 0.1, rng.u64(..)),
            Thing::new(Kind::Barrier, u - 0.85, s + 1.9, 0.05, barrier),
            Thing::new(Kind::Barrier, u + 0.85, s + 1.9, 0.0, barrier),
        ];
        for (i, piece) in pieces.into_iter().enumerate() {
            let wait = 0.75 * i as f32;
            self.stand(piece, from + wait, to - wait);
        }
        if from.is_finite() {
            for (start, end) in [(from - 1.0, from + 5.5), (to - 5.5, to + 1.0)] {
                self.worker(rng, (u, s), (start, end));
            }
        }
        self.hold((u, s), 2.2, from, to)
    }

    fn pile(&mut self, stay: &Stay, rng: &mut fastrand::Rng) -> Held {
        let (u, s) = self.place(stay.spot());
        let (from, to) = self.times(stay);
        let at = [(-0.7, -0.6), (0.6, -0.4), (-0.2, 0.7), (0.9, 0.8)];
        for (i, (du, ds)) in at.into_iter().enumerate() {
            let piece = Thing::new(Kind::Boxes, u + du, s + ds, rng.f32() * PI, rng.u64(..));
            let wait = 0.75 * i as f32;
            self.stand(piece, from + wait, to - wait);
        }
        if from.is_finite() {
            for (start, end) in [(from - 1.0, from + 5.5), (to - 5.5, to + 1.0)] {
                self.worker(rng, (u, s), (start, end));
            }
        }
        self.hold((u, s), 1.6, from, to)
    }

    fn wait(&mut self, stay: &Stay, rng: &mut fastrand::Rng) -> Held {
        let (u, s) = self.place(stay.spot());
        let (from, to) = self.times(stay);
        let facing = if u >= 0.0 { -PI / 2.0 } else { PI / 2.0 };
        let who = Who::Walker { umbrella: true, facing };
        let path = if from.is_finite() {
            vec![(from - 16.0, u, s - 20.0), (from, u, s), (to, u, s), (to + 16.0, u, s + 20.0)]
        } else {
            vec![(0.0, u, s), (2.0 * self.seconds, u, s)]
        };
        self.movers.push(Mover { who, seed: rng.u64(..), path });
        Held { at: V3::new(u, s, 0.0), from, to }
    }

    /// Someone who comes from the footway, is busy beside the spot and goes back.
    fn worker(&mut self, rng: &mut fastrand::Rng, (u, s): (f32, f32), (from, to): (f32, f32)) {
        let side = if u >= 0.0 { 1.0 } else { -1.0 };
        let home = side * (self.layout.half + self.layout.footway_on(side) + 0.6);
        let beside = u + side * 1.9;
        let walk = (home - beside).abs() / 1.2;
        let path = vec![
            (from - walk, home, s - 1.0),
            (from, beside, s - 1.0),
            ((from + to) / 2.0, beside, s + 0.6),
            (to, beside, s - 0.8),
            (to + walk, home, s + 1.0),
        ];
        let who = Who::Walker { umbrella: false, facing: -side * PI / 2.0 };
        self.movers.push(Mover { who, seed: rng.u64(..), path });
    }

    /// Takes away furniture that stands where something happens, or between that and the camera.
    fn clear_furniture(&mut self) {
        let eye = self.layout.view.eye();
        let obstacles = std::mem::take(&mut self.obstacles);
        self.fixed.retain(|thing| {
            let lamp_or_scripted = !matches!(thing.kind, Kind::Prop(p) if p != super::props::Prop::Lamp);
            let near = |o: &Obstacle| (o.u - thing.u).hypot(o.s - thing.s) < o.radius + 1.2;
            let between = |o: &Obstacle| {
                // Distance from the line of sight.
                let (du, ds) = (o.u - eye.u, o.s - eye.s);
                let length = du.hypot(ds);
                let (tu, ts) = (thing.u - eye.u, thing.s - eye.s);
                let ahead = (tu * du + ts * ds) / length;
                let off = (tu * ds - ts * du).abs() / length;
                ahead > 0.0 && ahead < length && off < 2.6
            };
            lamp_or_scripted || !obstacles.iter().any(|o| near(o) || between(o))
        });
        self.obstacles = obstacles;
    }

    /// The street.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// A seed that looks as wanted.
fn find(rng: &mut fastrand::Rng, wanted: impl Fn(u64) -> bool) -> u64 {
    let mut seed = rng.u64(..);
    for _ in 0..64 {
        if wanted(seed) {
            break;
        }
        seed = rng.u64(..);
    }
    seed
}
