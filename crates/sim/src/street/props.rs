//! What stands in a street and is none of the classes.

use super::brush::{Brush, Cuboid, Rgb, between, pick};
use super::view::{Stand, V3};

/// A thing without a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prop {
    /// A street tree.
    Tree,
    /// A lamp post.
    Lamp,
    /// A litter bin.
    Bin,
    /// A low bush.
    Bush,
    /// A box of stone with plants.
    Planter,
    /// A parked bicycle.
    Bicycle,
    /// A round traffic sign on a post.
    Sign,
    /// A stone ball or bollard.
    Bollard,
    /// A grey switch cabinet.
    Cabinet,
    /// A shop's open door in the line of the facades; its left and right lie along the street.
    Doorway,
}

impl Prop {
    /// Those that may stand anywhere on a footway.
    pub const LOOSE: [Self; 7] =
        [Self::Bin, Self::Bush, Self::Planter, Self::Bicycle, Self::Sign, Self::Bollard, Self::Cabinet];

    /// Half length, half width and height, metres.
    pub fn solid(self) -> (f32, f32, f32) {
        match self {
            Self::Tree => (2.2, 2.2, 6.5),
            Self::Lamp => (2.2, 2.2, 7.2),
            Self::Bin => (0.35, 0.3, 1.0),
            Self::Bush => (0.7, 0.7, 0.95),
            Self::Planter => (0.9, 0.35, 1.0),
            Self::Bicycle => (0.9, 0.35, 1.05),
            Self::Sign => (0.4, 0.4, 2.6),
            Self::Bollard => (0.2, 0.2, 0.9),
            Self::Cabinet => (0.5, 0.3, 1.3),
            Self::Doorway => (1.75, 0.05, 2.75),
        }
    }
}

/// Draws a prop.
pub fn draw(brush: &mut Brush<'_>, stand: &Stand, prop: Prop, seed: u64) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    match prop {
        Prop::Tree => tree(brush, stand, rng),
        Prop::Lamp => lamp(brush, stand),
        Prop::Bin => bin(brush, stand, rng),
        Prop::Bush => leaves(brush, stand.point(0.0, 0.0, 0.4), (0.6, 0.4), 26, rng),
        Prop::Planter => {
            let stone = Rgb(0.6, 0.57, 0.52).times(between(rng, 0.7, 1.1));
            brush.cuboid(stand, Cuboid { a: (-0.8, 0.8), b: (-0.3, 0.3), c: (0.0, 0.45) }, stone);
            leaves(brush, stand.point(0.0, 0.0, 0.6), (0.65, 0.25), 26, rng);
        }
        Prop::Bicycle => bicycle(brush, stand, rng),
        Prop::Sign => {
            brush.bar(stand.point(0.0, 0.0, 0.0), stand.point(0.0, 0.0, 2.4), 0.06, Rgb(0.6, 0.6, 0.6));
            let (face, edge) = pick(
                rng,
                &[
                    (Rgb(0.15, 0.3, 0.7), Rgb(0.9, 0.9, 0.9)),
                    (Rgb(0.15, 0.3, 0.7), Rgb(0.8, 0.1, 0.1)),
                    (Rgb(0.9, 0.9, 0.9), Rgb(0.8, 0.1, 0.1)),
                ],
            );
            brush.ball(stand.point(0.0, 0.0, 2.3), 0.3, edge);
            brush.ball(stand.point(0.0, 0.0, 2.3), 0.23, face);
        }
        Prop::Bollard => {
            let stone = Rgb(0.62, 0.6, 0.56).times(between(rng, 0.6, 1.1));
            brush.bar(stand.point(0.0, 0.0, 0.08), stand.point(0.0, 0.0, 0.7), 0.2, stone);
        }
        Prop::Cabinet => {
            let grey = Rgb(0.5, 0.53, 0.5).times(between(rng, 0.7, 1.2));
            brush.cuboid(stand, Cuboid { a: (-0.45, 0.45), b: (-0.22, 0.22), c: (0.0, 1.2) }, grey);
        }
        Prop::Doorway => doorway(brush, stand, rng),
    }
}

/// A frame, and through it a dim room with shelves at its back.
fn doorway(brush: &mut Brush<'_>, stand: &Stand, rng: &mut fastrand::Rng) {
    let mut pane = |(a0, a1): (f32, f32), (c0, c1): (f32, f32), colour: Rgb| {
        let corner = |a, c| stand.point(a, 0.0, c);
        brush.poly(&[corner(a0, c0), corner(a1, c0), corner(a1, c1), corner(a0, c1)], colour, 1.0);
    };
    let frame = Rgb(0.34, 0.32, 0.3).times(between(rng, 0.6, 2.2));
    pane((-1.75, 1.75), (0.0, 2.75), frame);
    let room = Rgb(0.24, 0.22, 0.2).times(between(rng, 0.6, 1.9));
    pane((-1.6, 1.6), (0.0, 2.6), room);
    pane((-1.6, 1.6), (0.0, between(rng, 0.5, 0.8)), room.toward(Rgb(0.5, 0.45, 0.38), 0.6));
    for shelf in 0..rng.usize(1..4) {
        let c = 1.05 + 0.5 * shelf as f32;
        pane((-1.35, 1.35), (c, c + 0.06), room.times(1.6));
        let mut a = -1.3;
        while a < 1.2 {
            let wide = between(rng, 0.08, 0.3);
            let ware = Rgb::hsv(rng.f32(), between(rng, 0.1, 0.6), between(rng, 0.25, 0.6));
            pane((a, a + wide), (c + 0.06, c + between(rng, 0.16, 0.38)), ware);
            a += wide + between(rng, 0.02, 0.25);
        }
    }
}

fn leaves(brush: &mut Brush<'_>, at: V3, (r, h): (f32, f32), count: usize, rng: &mut fastrand::Rng) {
    let green = Rgb::hsv(between(rng, 0.22, 0.36), between(rng, 0.35, 0.65), between(rng, 0.3, 0.5));
    for i in 0..count {
        let angle = between(rng, 0.0, std::f32::consts::TAU);
        let out = rng.f32().sqrt();
        // From the dark inside to the light top.
        let up = -1.0 + 2.0 * (i as f32 / count as f32) + between(rng, -0.3, 0.3);
        let ring = (1.0 - (0.8 * up).clamp(-0.95, 0.95).powi(2)).sqrt();
        let p =
            V3::new(at.u + r * out * ring * angle.cos(), at.s + r * out * ring * angle.sin(), at.h + h * up);
        let Some((x, y)) = brush.view.project(p) else { continue };
        let k = brush.view.scale(brush.view.depth(p)) * r;
        let bright = 0.75 + 0.35 * up + between(rng, -0.12, 0.12);
        brush.oval(x, y, k * between(rng, 0.2, 0.4), k * between(rng, 0.16, 0.3), green.times(bright), 1.0);
    }
}

fn tree(brush: &mut Brush<'_>, stand: &Stand, rng: &mut fastrand::Rng) {
    let trunk = between(rng, 2.4, 3.4);
    let bark = Rgb(0.33, 0.26, 0.2).times(between(rng, 0.7, 1.2));
    brush.bar(
        stand.point(0.0, 0.0, 0.0),
        stand.point(0.1, 0.05, trunk + 0.6),
        between(rng, 0.18, 0.32),
        bark,
    );
    brush.bar(stand.point(0.0, 0.0, trunk - 0.5), stand.point(0.7, 0.3, trunk + 0.8), 0.1, bark);
    brush.bar(stand.point(0.0, 0.0, trunk - 0.3), stand.point(-0.6, -0.4, trunk + 0.8), 0.1, bark);
    let r = between(rng, 1.2, 1.8);
    leaves(brush, stand.point(0.0, 0.0, trunk + 1.2), (r, between(rng, 1.0, 1.5)), 60, rng);
}

fn lamp(brush: &mut Brush<'_>, stand: &Stand) {
    let steel = Rgb(0.42, 0.43, 0.44);
    brush.bar(stand.point(0.0, 0.0, 0.0), stand.point(0.0, 0.0, 6.8), 0.13, steel);
    brush.bar(stand.point(0.0, 0.0, 6.7), stand.point(1.9, 0.0, 7.0), 0.08, steel);
    brush.bar(stand.point(1.5, 0.0, 6.95), stand.point(2.0, 0.0, 7.0), 0.16, Rgb(0.85, 0.85, 0.8));
}

fn bin(brush: &mut Brush<'_>, stand: &Stand, rng: &mut fastrand::Rng) {
    let colour =
        pick(rng, &[Rgb(0.15, 0.4, 0.25), Rgb(0.2, 0.3, 0.55), Rgb(0.35, 0.35, 0.36), Rgb(0.6, 0.45, 0.2)]);
    brush.cuboid(stand, Cuboid { a: (-0.3, 0.3), b: (-0.24, 0.24), c: (0.0, 0.82) }, colour);
    brush.cuboid(stand, Cuboid { a: (-0.33, 0.33), b: (-0.27, 0.27), c: (0.82, 0.92) }, colour.times(0.6));
}

fn bicycle(brush: &mut Brush<'_>, stand: &Stand, rng: &mut fastrand::Rng) {
    let colour =
        pick(rng, &[Rgb(0.9, 0.75, 0.1), Rgb(0.15, 0.55, 0.8), Rgb(0.15, 0.15, 0.16), Rgb(0.3, 0.7, 0.4)]);
    for a in [-0.52, 0.52] {
        ring(brush, stand, a, 0.33);
    }
    let p = |a, c| stand.point(a, 0.0, c);
    for (from, to) in [
        ((-0.52, 0.33), (0.0, 0.3)),
        ((0.0, 0.3), (0.4, 0.75)),
        ((0.0, 0.3), (-0.15, 0.8)),
        ((-0.15, 0.72), (0.4, 0.75)),
        ((0.52, 0.33), (0.38, 0.95)),
        ((-0.52, 0.33), (-0.13, 0.7)),
    ] {
        brush.bar(p(from.0, from.1), p(to.0, to.1), 0.045, colour);
    }
    brush.bar(p(-0.28, 0.84), p(-0.04, 0.84), 0.08, Rgb(0.08, 0.08, 0.08));
    brush.bar(stand.point(0.38, -0.26, 0.98), stand.point(0.38, 0.26, 0.98), 0.04, Rgb(0.1, 0.1, 0.1));
}

fn ring(brush: &mut Brush<'_>, stand: &Stand, a: f32, radius: f32) {
    let p = |i: usize| {
        let (sin, cos) = (i as f32 * std::f32::consts::TAU / 14.0).sin_cos();
        stand.point(a + radius * cos, 0.0, radius + radius * sin)
    };
    for i in 0..14 {
        brush.bar(p(i), p(i + 1), 0.04, Rgb(0.1, 0.1, 0.1));
    }
}
