//! What blocks a road: barriers and piled cartons.

use super::brush::{Brush, Cuboid, Rgb, between, pick};
use super::view::{Stand, V3};

const WHITE: Rgb = Rgb(0.9, 0.9, 0.88);

/// How a barrier is built.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Build {
    /// Plastic, filled with water.
    Block,
    /// A striped board on two trestles.
    Board,
    /// Pipes.
    Fence,
}

fn build(rng: &mut fastrand::Rng) -> (Build, f32, f32) {
    let build = match rng.u8(..10) {
        0..4 => Build::Block,
        4..8 => Build::Board,
        _ => Build::Fence,
    };
    (build, between(rng, 0.6, 0.85), between(rng, 0.85, 1.05))
}

/// Half length, half width and height of a barrier, metres.
pub fn barrier_solid(seed: u64) -> (f32, f32, f32) {
    let (build, long, high) = build(&mut fastrand::Rng::with_seed(seed));
    (long, if build == Build::Block { 0.25 } else { 0.3 }, high)
}

/// A red and white barrier, long from left to right of its heading (`b`).
pub fn barrier(brush: &mut Brush<'_>, stand: &Stand, seed: u64) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let (build, long, high) = build(rng);
    let red = pick(rng, &[Rgb(0.8, 0.12, 0.1), Rgb(0.85, 0.2, 0.1), Rgb(0.9, 0.35, 0.08)])
        .times(between(rng, 0.85, 1.1));
    // The side that the camera sees.
    let near = if brush.faces(stand.at, stand.direction(1.0, 0.0, 0.0)) { 1.0 } else { -1.0 };
    match build {
        Build::Block => block(brush, stand, (long, high, near), red),
        Build::Board => {
            for b in [-0.75 * long, 0.75 * long] {
                for a in [-0.28, 0.28] {
                    brush.bar(stand.point(a, b, 0.0), stand.point(0.0, b, high), 0.06, Rgb(0.5, 0.5, 0.48));
                }
            }
            stripes(brush, stand, (long, high - 0.32, high), near, red);
            if rng.bool() {
                stripes(brush, stand, (long, high - 0.75, high - 0.5), near, red);
            }
        }
        Build::Fence => {
            for (i, c) in [0.2, 0.5, 0.8, 1.0].into_iter().enumerate() {
                let colour = if i % 2 == 0 { WHITE } else { red };
                brush.bar(stand.point(0.0, -long, c * high), stand.point(0.0, long, c * high), 0.06, colour);
            }
            for i in 0..5 {
                let b = -long + 2.0 * long * i as f32 / 4.0;
                let colour = if i % 2 == 0 { red } else { WHITE };
                brush.bar(stand.point(0.0, b, 0.0), stand.point(0.0, b, high), 0.06, colour);
            }
            for b in [-long, long] {
                brush.bar(stand.point(-0.28, b, 0.03), stand.point(0.28, b, 0.03), 0.06, red);
            }
        }
    }
}

fn block(brush: &mut Brush<'_>, stand: &Stand, (long, high, near): (f32, f32, f32), red: Rgb) {
    let count = 4;
    let mut pieces: Vec<usize> = (0..count).collect();
    let edge = |i: usize| -long + 2.0 * long * i as f32 / count as f32;
    let depth = |i: usize| brush.view.depth(stand.point(0.0, edge(i), 0.0));
    pieces.sort_by(|&p, &q| depth(q).total_cmp(&depth(p)));
    for i in pieces {
        let colour = if i % 2 == 0 { red } else { WHITE };
        let (b0, b1) = (edge(i), edge(i + 1));
        let foot = Cuboid { a: (-0.24, 0.24), b: (b0, b1), c: (0.0, 0.18) };
        brush.cuboid(stand, foot, colour.times(0.92));
        brush.cuboid(stand, Cuboid { a: (-0.13, 0.13), b: (b0, b1), c: (0.18, high) }, colour);
        let face = [
            (near * 0.24, b0, 0.18),
            (near * 0.24, b1, 0.18),
            (near * 0.13, b1, 0.5),
            (near * 0.13, b0, 0.5),
        ];
        brush.face(stand, &face, (near * 0.9, 0.0, 0.4), colour);
    }
}

fn stripes(brush: &mut Brush<'_>, stand: &Stand, (long, c0, c1): (f32, f32, f32), near: f32, red: Rgb) {
    let a = near * 0.03;
    brush.cuboid(stand, Cuboid { a: (-0.03, 0.03), b: (-long, long), c: (c0, c1) }, WHITE);
    let step = 0.26;
    let lean = c1 - c0;
    let mut b = -long;
    while b < long {
        // Diagonal, cut off at the board's end.
        let piece = [(b, c0), (b + step / 2.0, c0), (b + step / 2.0 + lean, c1), (b + lean, c1)];
        let corners: Vec<_> = piece.iter().map(|&(b, c)| (a, b.min(long), c)).collect();
        brush.face(stand, &corners, (near, 0.0, 0.0), red);
        b += step;
    }
}

struct Carton {
    size: Cuboid,
    colour: Rgb,
    tape: Rgb,
}

fn cartons(seed: u64) -> Vec<Carton> {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let (columns, rows) = (rng.usize(2..4), rng.usize(1..3));
    let unit = between(rng, 0.36, 0.56);
    let base = Rgb(0.66, 0.48, 0.3).times(between(rng, 0.8, 1.15));
    let mut out = Vec::new();
    for i in 0..columns {
        for j in 0..rows {
            let (a, b) = (unit * (i as f32 - columns as f32 / 2.0), unit * (j as f32 - rows as f32 / 2.0));
            let mut floor = 0.0;
            for _ in 0..rng.usize(1..4) {
                let high = unit * between(rng, 0.6, 1.0);
                let (da, db) = (between(rng, 0.0, 0.06), between(rng, 0.0, 0.06));
                out.push(Carton {
                    size: Cuboid {
                        a: (a + da, a + unit - 0.02),
                        b: (b + db, b + unit - 0.02),
                        c: (floor, floor + high),
                    },
                    colour: base.times(between(rng, 0.82, 1.12)),
                    tape: pick(rng, &[Rgb(0.85, 0.75, 0.55), Rgb(0.5, 0.35, 0.2), Rgb(0.8, 0.8, 0.78)]),
                });
                floor += high;
            }
        }
    }
    out
}

/// Half length, half width and height of a pile, metres.
pub fn cartons_solid(seed: u64) -> (f32, f32, f32) {
    let list = cartons(seed);
    let most = |f: &dyn Fn(&Cuboid) -> f32| list.iter().map(|c| f(&c.size)).fold(0.0, f32::max);
    (most(&|c| c.a.0.abs().max(c.a.1)), most(&|c| c.b.0.abs().max(c.b.1)), most(&|c| c.c.1))
}

/// A pile of cartons.
pub fn pile(brush: &mut Brush<'_>, stand: &Stand, seed: u64) {
    let mut list = cartons(seed);
    let middle = |c: &Cuboid| stand.point((c.a.0 + c.a.1) / 2.0, (c.b.0 + c.b.1) / 2.0, 0.0);
    let depth = |c: &Carton| brush.view.depth(middle(&c.size));
    list.sort_by(|p, q| depth(q).total_cmp(&depth(p)).then(p.size.c.0.total_cmp(&q.size.c.0)));
    for Carton { size, colour, tape } in list {
        brush.cuboid(stand, size, colour);
        let Cuboid { a: (a0, a1), b: (b0, b1), c: (c0, c1) } = size;
        let m = (b0 + b1) / 2.0;
        let band = 0.035;
        brush.face(
            stand,
            &[(a0, m - band, c1), (a1, m - band, c1), (a1, m + band, c1), (a0, m + band, c1)],
            (0.0, 0.0, 1.0),
            tape,
        );
        for (a, n) in [(a0, -1.0), (a1, 1.0)] {
            let fold = c1 - 0.3 * (c1 - c0);
            brush.face(
                stand,
                &[(a, m - band, fold), (a, m + band, fold), (a, m + band, c1), (a, m - band, c1)],
                (n, 0.0, 0.0),
                tape,
            );
        }
        for (b, n) in [(b0, -1.0), (b1, 1.0)] {
            let (p, q) = (a0 + 0.15 * (a1 - a0), a0 + 0.5 * (a1 - a0));
            let (low, high) = (c0 + 0.2 * (c1 - c0), c0 + 0.45 * (c1 - c0));
            brush.face(
                stand,
                &[(p, b, low), (q, b, low), (q, b, high), (p, b, high)],
                (0.0, n, 0.0),
                colour.times(0.7),
            );
        }
        // The edges, so that the cartons of a pile can be told apart.
        let top = [(a0, b0), (a1, b0), (a1, b1), (a0, b1)].map(|(a, b)| stand.point(a, b, c1));
        outline(brush, &top, colour.times(0.55));
    }
}

fn outline(brush: &mut Brush<'_>, corners: &[V3; 4], colour: Rgb) {
    for i in 0..4 {
        brush.bar(corners[i], corners[(i + 1) % 4], 0.012, colour);
    }
}
