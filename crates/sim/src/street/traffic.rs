//! People and cars that have nothing to do with the script.

use super::brush::between;
use super::mover::{At, Mover, Who};
use super::stage::Stage;

impl Stage {
    /// People on the footways, some of whom cross at the zebra; `present` at any time.
    pub(super) fn walkers(&mut self, present: f32, umbrellas: Option<f32>, rng: &mut fastrand::Rng) {
        let umbrellas = umbrellas.unwrap_or(if self.wet { 0.65 } else { 0.0 });
        let (near, far) = (-3.0_f32, 52.0_f32);
        let walk = (far - near) / 1.25;
        let count = (present * self.seconds / walk).round() as usize;
        for i in 0..count {
            let start = self.seconds * (i as f32 + 0.8 * rng.f32()) / count as f32;
            let side = if rng.f32() < 0.6 { -self.layout.side() } else { self.layout.side() };
            let u = side * (self.layout.half + between(rng, 0.5, self.layout.footway_on(side) - 0.5));
            let pace = between(rng, 1.05, 1.5);
            let (s0, s1) = if rng.bool() { (near, far) } else { (far, near) };
            let path = match self.layout.zebra {
                Some(zebra) if rng.f32() < 0.25 => {
                    let (z, other) = (zebra + between(rng, 0.6, 3.0), -u.signum() * (self.layout.half + 1.2));
                    timed(start, pace, &[(u, s0), (u, z), (other, z), (other, s1)])
                }
                _ => timed(start, pace, &[(u, s0), (u, s1)]),
            };
            let umbrella = umbrellas > 0.0 && rng.f32() < umbrellas;
            self.traffic.push(Mover { who: Who::Walker { umbrella, facing: 0.0 }, seed: rng.u64(..), path });
        }
    }

    /// Cars that drive through.
    pub(super) fn drivers(&mut self, per_minute: f32, rng: &mut fastrand::Rng) {
        let count = (per_minute * self.seconds / 60.0).round() as usize;
        for i in 0..count {
            let start = self.seconds * (i as f32 + 0.7 * rng.f32()) / count as f32;
            let pace = between(rng, 6.5, 9.0);
            let mut side = if rng.bool() { 1.0 } else { -1.0 };
            // Nobody drives into what lies in a lane.
            let blocked = |side: f32| {
                let lane = side * self.layout.half * 0.5;
                self.obstacles.iter().any(|o| {
                    (o.u - lane).abs() < o.radius * 0.8
                        && o.radius > 1.5
                        && o.from < start + 12.0
                        && o.to > start
                })
            };
            if blocked(side) {
                side = -side;
            }
            if blocked(side) {
                continue;
            }
            let u = side * self.layout.half * 0.48;
            let heading = self.layout.traffic(u);
            let (s0, s1) = if heading == 0.0 { (-8.0, 68.0) } else { (68.0, -8.0) };
            let path = timed(start, pace, &[(u, s0), (u, s1)]);
            self.traffic.push(Mover { who: Who::Car { lit: self.dark, heading }, seed: rng.u64(..), path });
        }
    }

    /// Moves traffic sideways around obstacles.
    pub(super) fn swerve(&self, at: At, t: f32, who: Who) -> At {
        let (room, reach) = match who {
            Who::Walker { .. } => (0.45, 2.5),
            _ => (1.15, 9.0),
        };
        let mut at = at;
        for o in self.obstacles.iter().filter(|o| (o.from..o.to).contains(&t)) {
            let ahead = ((at.s - o.s).abs() - o.radius - 1.0) / reach;
            let weight = (1.0 - ahead).clamp(0.0, 1.0);
            let weight = weight * weight * (3.0 - 2.0 * weight);
            let gap = at.u - o.u;
            let need = o.radius + room;
            if gap.abs() < need {
                // Cars give way towards the middle, people to the side they are on.
                let side = if matches!(who, Who::Car { .. }) {
                    -o.u.signum()
                } else if gap >= 0.0 {
                    1.0
                } else {
                    -1.0
                };
                at.u += (o.u + side * need - at.u) * weight;
            }
        }
        at
    }
}

/// Waypoints walked at an even pace from `start` on.
fn timed(start: f32, pace: f32, points: &[(f32, f32)]) -> Vec<(f32, f32, f32)> {
    let mut t = start;
    let mut out = Vec::with_capacity(points.len());
    for (i, &(u, s)) in points.iter().enumerate() {
        if let Some(&(pu, ps)) = i.checked_sub(1).and_then(|j| points.get(j)) {
            t += (u - pu).hypot(s - ps) / pace;
        }
        out.push((t, u, s));
    }
    out
}
