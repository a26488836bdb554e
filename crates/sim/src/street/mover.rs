//! Things that follow a path in time.

use std::f32::consts::{PI, TAU};

use super::person::{self, Pose};
use super::thing::{Kind, Thing};

/// Length of a double step, metres.
const STRIDE: f32 = 1.35;

/// What moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Who {
    /// Someone, with an umbrella or without.
    Walker {
        /// Holds an umbrella.
        umbrella: bool,
        /// Keeps standing upright instead of facing along the path while waiting: radians.
        facing: f32,
    },
    /// A car with its heading at rest.
    Car {
        /// Lamps on.
        lit: bool,
        /// 0 or π.
        heading: f32,
    },
    /// A cart with its heading at rest; someone rides it while it moves.
    Cart {
        /// 0 or π.
        heading: f32,
    },
}

/// A thing and its way: seconds, metres across, metres along.
#[derive(Debug, Clone, PartialEq)]
pub struct Mover {
    /// What.
    pub who: Who,
    /// How it looks.
    pub seed: u64,
    /// In order of time, at least two.
    pub path: Vec<(f32, f32, f32)>,
}

/// Where a mover is.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Metres across.
    pub u: f32,
    /// Metres along.
    pub s: f32,
    /// Metres per second across and along.
    pub speed: (f32, f32),
    /// Metres since the path began.
    pub gone: f32,
}

impl Mover {
    /// When it sets out, seconds.
    pub fn start(&self) -> f32 {
        self.path.first().map_or(f32::INFINITY, |first| first.0)
    }

    /// When it is gone.
    pub fn end(&self) -> f32 {
        self.path.last().map_or(f32::INFINITY, |last| last.0)
    }

    /// Where it is at `t`; `None` before and after its path.
    pub fn at(&self, t: f32) -> Option<At> {
        // A day has thousands of them, and most are over.
        if self.path.last().is_none_or(|last| t >= last.0) {
            return None;
        }
        let mut gone = 0.0;
        for pair in self.path.windows(2) {
            let ((t0, u0, s0), (t1, u1, s1)) = (pair[0], pair[1]);
            let (du, ds) = (u1 - u0, s1 - s0);
            if t < t0 {
                return None;
            }
            if t < t1 {
                let share = (t - t0) / (t1 - t0);
                let speed = (du / (t1 - t0), ds / (t1 - t0));
                let gone = gone + share * du.hypot(ds);
                return Some(At { u: u0 + share * du, s: s0 + share * ds, speed, gone });
            }
            gone += du.hypot(ds);
        }
        None
    }

    /// Draws it, with what it carries, at a place it has been found at.
    pub fn things(&self, at: At, out: &mut Vec<Thing>) {
        let fast = at.speed.0.hypot(at.speed.1);
        let way = at.speed.0.atan2(at.speed.1);
        match self.who {
            Who::Walker { umbrella, facing } => {
                let walks = fast > 0.15;
                let pose = if walks { Pose::Walk(at.gone / STRIDE * TAU) } else { Pose::Stand };
                let heading = if walks { way } else { facing };
                let body = Thing::new(Kind::Person(pose, umbrella), at.u, at.s, heading, self.seed);
                out.push(body);
                if umbrella {
                    let rim = person::height(self.seed) + 0.04;
                    out.push(Thing { kind: Kind::Umbrella, heading: 0.0, ..body }.lifted(rim));
                }
            }
            Who::Car { lit, heading } => {
                // Who parks puts the lamps out.
                let lit = lit && fast > 0.15;
                out.push(Thing::new(Kind::Car(lit), at.u, at.s, steer(heading, at.speed), self.seed));
            }
            Who::Cart { heading } => {
                let heading = steer(heading, at.speed);
                out.push(Thing::new(Kind::Tricycle, at.u, at.s, heading, self.seed));
                if fast > 0.15 {
                    let (sin, cos) = heading.sin_cos();
                    let rider = Thing::new(
                        Kind::Person(Pose::Sit, false),
                        at.u + 0.62 * sin,
                        at.s + 0.62 * cos,
                        heading,
                        self.seed ^ 1,
                    );
                    out.push(rider.lifted(0.4));
                }
            }
        }
    }
}

/// A wheeled thing's heading: along its way, turned from its heading at rest by a little at most.
fn steer(heading: f32, speed: (f32, f32)) -> f32 {
    if speed.0.hypot(speed.1) < 0.3 {
        return heading;
    }
    let turn = (speed.0.atan2(speed.1) - heading + PI).rem_euclid(TAU) - PI;
    heading + turn.clamp(-0.35, 0.35)
}

/// Distance still to go `left` seconds before standing still, or gone since then: even acceleration up to `most`.
fn coast(left: f32, pull: f32, most: f32) -> f32 {
    let ramp = most / pull;
    if left < ramp { pull * left * left / 2.0 } else { pull * ramp * ramp / 2.0 + most * (left - ramp) }
}

/// How a wheeled thing comes to a place and leaves it.
#[derive(Debug, Clone, Copy)]
pub struct Halt {
    /// Where it stands: metres across, along.
    pub spot: (f32, f32),
    /// Where it drives before and after: metres across.
    pub lane: f32,
    /// 0 or π.
    pub heading: f32,
    /// From and to, seconds.
    pub stay: (f32, f32),
    /// Metres per second at most.
    pub most: f32,
}

impl Halt {
    /// The path: 8 s of coming, the stay, 8 s of leaving.
    pub fn path(&self) -> Vec<(f32, f32, f32)> {
        let (from, to) = self.stay;
        let forward = self.heading.cos();
        let point = |t: f32, left: f32, sign: f32| {
            let way = coast(left, 0.35 * self.most, self.most);
            // Draws over to the lane in the first metres.
            let over = (way / 7.0).clamp(0.0, 1.0);
            let over = over * over * (3.0 - 2.0 * over);
            (t, self.spot.0 + (self.lane - self.spot.0) * over, self.spot.1 + sign * forward * way)
        };
        let steps = (0..=32).map(|i| i as f32 * 0.25);
        let come = steps.clone().map(|left| point(from - left, left, -1.0));
        let leave = steps.map(|left| point(to + left, left, 1.0));
        let mut path: Vec<_> = come.collect();
        path.reverse();
        path.extend(leave);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_car_stands_still_for_its_whole_stay() {
        let halt = Halt { spot: (4.0, 12.0), lane: 2.0, heading: 0.0, stay: (10.0, 30.0), most: 7.0 };
        let car = Mover { who: Who::Car { lit: false, heading: 0.0 }, seed: 1, path: halt.path() };
        for t in [10.0, 11.5, 29.9] {
            let at = car.at(t).unwrap();
            assert_eq!((at.u, at.s), (4.0, 12.0), "at {t}");
        }
        assert!(car.at(5.0).unwrap().s < 0.0);
        assert!(car.at(36.0).unwrap().s > 30.0);
        assert!(car.at(1.0).is_none() && car.at(60.0).is_none());
    }
}
