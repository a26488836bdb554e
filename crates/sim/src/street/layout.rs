//! One street: where the camera stands and how the ground is divided.

use super::brush::between;
use super::view::{V3, View};

/// How far the street is drawn, metres.
pub const FAR: f32 = 75.0;

/// A street as laid out by its seed; nothing in it moves.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Everything follows from it.
    pub seed: u64,
    /// The camera.
    pub view: View,
    /// Half of the carriageway's width, metres.
    pub half: f32,
    /// Widths of the left and right footway, metres.
    pub footway: (f32, f32),
    /// Nearest edge of the zebra crossing along the street, metres.
    pub zebra: Option<f32>,
    /// Direction to the light, of length 1.
    pub sun: V3,
    /// Lamp posts, metres across and along.
    pub lamps: Vec<(f32, f32)>,
}

/// A part of the street, seen from the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The carriageway along the kerb on the far side.
    KerbFar,
    /// The carriageway along the kerb on the camera's side.
    KerbNear,
    /// The footway on the far side.
    FootwayFar,
    /// The footway on the camera's side.
    FootwayNear,
    /// The middle of the far lane.
    LaneFar,
    /// The middle of the near lane.
    LaneNear,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::KerbFar, Self::KerbNear, Self::FootwayFar, Self::FootwayNear, Self::LaneFar, Self::LaneNear];

    /// The name in a timeline.
    pub fn name(self) -> &'static str {
        match self {
            Self::KerbFar => "kerb_far",
            Self::KerbNear => "kerb_near",
            Self::FootwayFar => "footway_far",
            Self::FootwayNear => "footway_near",
            Self::LaneFar => "lane_far",
            Self::LaneNear => "lane_near",
        }
    }
}

impl Layout {
    /// The street of a seed, for pictures of `width × height` pixels.
    pub fn from_seed(seed: u64, width: u32, height: u32) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed ^ 0x5eed_0001);
        let side = if rng.bool() { 1.0 } else { -1.0 };
        let half = between(rng, 3.4, 6.2);
        let footway = (between(rng, 2.6, 5.2), between(rng, 2.6, 5.2));
        let yaw = match rng.u8(..10) {
            0..6 => between(rng, 0.15, 0.55),
            6..8 => between(rng, 0.55, 0.95),
            _ => between(rng, -0.05, 0.15),
        };
        let view = View {
            width: width as f32,
            height: height as f32,
            horizon: between(rng, -0.02, 0.24),
            focal: between(rng, 0.85, 1.4),
            mast: between(rng, 4.0, 6.8),
            yaw: -side * yaw,
            stand: side * (half + between(rng, 0.2, 1.6)),
        };
        let zebra = (rng.f32() < 0.55).then(|| between(rng, 9.0, 24.0));
        let (azimuth, rise) = (between(rng, 0.0, std::f32::consts::TAU), between(rng, 0.6, 1.2));
        let sun = V3::new(azimuth.sin() * rise.cos(), azimuth.cos() * rise.cos(), rise.sin());
        let spacing = between(rng, 14.0, 24.0);
        let first = between(rng, 7.0, 14.0);
        let both = rng.bool();
        let mut lamps = Vec::new();
        for i in 0..4 {
            let s = first + spacing * i as f32;
            lamps.push((-side * (half + 0.5), s));
            if both {
                lamps.push((side * (half + 0.5), s + spacing / 2.0));
            }
        }
        Self { seed, view, half, footway, zebra, sun, lamps }
    }

    /// -1 where the camera stands on the left footway, 1 on the right.
    pub fn side(&self) -> f32 {
        self.view.stand.signum()
    }

    /// Width of the footway on a side (-1 or 1).
    pub fn footway_on(&self, side: f32) -> f32 {
        if side < 0.0 { self.footway.0 } else { self.footway.1 }
    }

    /// Heading of the traffic at `u`: it keeps to the right.
    pub fn traffic(&self, u: f32) -> f32 {
        if u > 0.0 { 0.0 } else { std::f32::consts::PI }
    }

    /// Metres across the street of the middle of a place.
    pub fn across(&self, place: Place) -> f32 {
        let (near, far) = (self.side(), -self.side());
        match place {
            Place::KerbFar => far * (self.half - 1.1),
            Place::KerbNear => near * (self.half - 1.1),
            Place::FootwayFar => far * (self.half + 0.5 * self.footway_on(far)),
            Place::FootwayNear => near * (self.half + 0.5 * self.footway_on(near)),
            Place::LaneFar => far * self.half * 0.5,
            Place::LaneNear => near * self.half * 0.5,
        }
    }

    /// The middle of a place: where it comes nearest to a good place in the picture, low but well inside.
    pub fn middle(&self, place: Place) -> V3 {
        let u = self.across(place);
        let off = |s: f32| {
            self.view.project(V3::new(u, s, 0.0)).map_or(f32::INFINITY, |(x, y)| {
                let aside = ((x / self.view.width - 0.5).abs() - 0.2).max(0.0);
                3.0 * aside + (y / self.view.height - 0.62).abs()
            })
        };
        let best = (8..160).map(|i| i as f32 * 0.25).min_by(|a, b| off(*a).total_cmp(&off(*b)));
        V3::new(u, best.unwrap_or(10.0), 0.0)
    }

    /// Corners of a strip of the ground around a place, `along` metres long and `wide` metres wide, moved `across`
    /// towards the camera's side, as shares of the picture, cut off at its edges.
    pub fn strip(&self, place: Place, across: f32, (along, wide): (f32, f32)) -> Vec<(f32, f32)> {
        let m = self.middle(place);
        let m = V3::new(m.u + across * self.side(), m.s, 0.0);
        let corner = |du: f32, ds: f32| V3::new(m.u + du * wide / 2.0, m.s + ds * along / 2.0, 0.0);
        let corners = [corner(-1.0, -1.0), corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0)];
        let pixels = self.view.polygon(&corners);
        cut(pixels.iter().map(|p| (p.0 / self.view.width, p.1 / self.view.height)).collect())
    }
}

/// The part of a convex polygon that lies in the unit square (Sutherland and Hodgman 1974).
fn cut(mut points: Vec<(f32, f32)>) -> Vec<(f32, f32)> {
    let edges: [fn((f32, f32)) -> f32; 4] = [|p| p.0, |p| 1.0 - p.0, |p| p.1, |p| 1.0 - p.1];
    for inside in edges {
        let mut kept = Vec::with_capacity(points.len() + 2);
        for i in 0..points.len() {
            let (p, q) = (points[i], points[(i + 1) % points.len()]);
            let (dp, dq) = (inside(p), inside(q));
            if dp >= 0.0 {
                kept.push(p);
            }
            if (dp >= 0.0) != (dq >= 0.0) {
                let t = dp / (dp - dq);
                kept.push((p.0 + t * (q.0 - p.0), p.1 + t * (q.1 - p.1)));
            }
        }
        points = kept;
    }
    points.into_iter().map(|(x, y)| (x.clamp(0.0, 1.0), y.clamp(0.0, 1.0))).collect()
}
