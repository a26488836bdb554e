//! Cars: a side profile, extruded.

use super::brush::{Brush, Cuboid, Rgb, between, pick};
use super::view::{Stand, V3};

/// A car's shape, metres in its own coordinates.
struct Model {
    /// Outline from the rear bumper over the roof to the front bumper: (ahead, up, whether the piece that starts here is glass).
    outline: &'static [(f32, f32, bool)],
    /// Side windows, each a polygon of (ahead, up).
    windows: &'static [&'static [(f32, f32)]],
    half: f32,
    wheels: (f32, f32),
    radius: f32,
}

const SEDAN: Model = Model {
    outline: &[
        (-2.25, 0.28, false),
        (-2.3, 0.75, false),
        (-2.2, 0.98, false),
        (-1.65, 1.04, true),
        (-1.0, 1.43, false),
        (0.25, 1.46, true),
        (1.05, 1.02, false),
        (2.1, 0.86, false),
        (2.3, 0.6, false),
        (2.28, 0.28, false),
    ],
    windows: &[
        &[(-1.45, 1.02), (-0.95, 1.36), (-0.4, 1.38), (-0.4, 1.0)],
        &[(-0.3, 1.0), (-0.3, 1.39), (0.22, 1.39), (0.85, 1.0)],
    ],
    half: 0.9,
    wheels: (-1.35, 1.4),
    radius: 0.33,
};

const SUV: Model = Model {
    outline: &[
        (-2.2, 0.32, false),
        (-2.28, 0.9, true),
        (-2.0, 1.6, false),
        (-1.8, 1.7, false),
        (0.15, 1.72, true),
        (0.95, 1.2, false),
        (2.05, 1.05, false),
        (2.28, 0.75, false),
        (2.26, 0.32, false),
    ],
    windows: &[
        &[(-1.95, 1.18), (-1.8, 1.58), (-1.2, 1.6), (-1.2, 1.15)],
        &[(-1.1, 1.15), (-1.1, 1.61), (-0.35, 1.62), (-0.35, 1.15)],
        &[(-0.25, 1.15), (-0.25, 1.62), (0.12, 1.62), (0.75, 1.15)],
    ],
    half: 0.94,
    wheels: (-1.35, 1.38),
    radius: 0.37,
};

const VAN: Model = Model {
    outline: &[
        (-2.1, 0.3, false),
        (-2.15, 1.0, true),
        (-2.05, 1.75, false),
        (-1.8, 1.88, false),
        (1.0, 1.88, true),
        (1.75, 1.1, false),
        (2.05, 0.95, false),
        (2.15, 0.6, false),
        (2.12, 0.3, false),
    ],
    windows: &[
        &[(-1.9, 1.12), (-1.85, 1.65), (-0.95, 1.68), (-0.95, 1.1)],
        &[(-0.85, 1.1), (-0.85, 1.68), (0.05, 1.7), (0.05, 1.1)],
        &[(0.15, 1.1), (0.15, 1.7), (0.95, 1.7), (1.5, 1.08)],
    ],
    half: 0.84,
    wheels: (-1.25, 1.3),
    radius: 0.32,
};

const HATCH: Model = Model {
    outline: &[
        (-1.85, 0.28, false),
        (-1.9, 0.85, true),
        (-1.55, 1.42, false),
        (-1.3, 1.5, false),
        (0.2, 1.52, true),
        (0.95, 1.06, false),
        (1.65, 0.9, false),
        (1.88, 0.6, false),
        (1.86, 0.28, false),
    ],
    windows: &[
        &[(-1.5, 1.05), (-1.35, 1.4), (-0.45, 1.43), (-0.45, 1.02)],
        &[(-0.35, 1.02), (-0.35, 1.43), (0.15, 1.43), (0.75, 1.02)],
    ],
    half: 0.84,
    wheels: (-1.15, 1.2),
    radius: 0.3,
};

fn model(rng: &mut fastrand::Rng) -> &'static Model {
    match rng.u8(..10) {
        0..4 => &SEDAN,
        4..7 => &SUV,
        7..8 => &VAN,
        _ => &HATCH,
    }
}

/// Half length, half width and height of a car, metres.
pub fn solid(seed: u64) -> (f32, f32, f32) {
    let model = model(&mut fastrand::Rng::with_seed(seed));
    let top = model.outline.iter().map(|p| p.1).fold(0.0, f32::max);
    let long = model.outline.iter().map(|p| p.0.abs()).fold(0.0, f32::max);
    (long, model.half, top)
}

fn paint(rng: &mut fastrand::Rng) -> Rgb {
    let plain = [
        Rgb(0.9, 0.9, 0.9),
        Rgb(0.82, 0.83, 0.85),
        Rgb(0.55, 0.57, 0.6),
        Rgb(0.35, 0.36, 0.38),
        Rgb(0.12, 0.12, 0.13),
        Rgb(0.6, 0.1, 0.1),
        Rgb(0.15, 0.25, 0.5),
        Rgb(0.5, 0.42, 0.3),
    ];
    if rng.f32() < 0.8 { pick(rng, &plain) } else { Rgb::hsv(rng.f32(), between(rng, 0.4, 0.9), 0.7) }
}

/// Draws a car; `lit` switches its lamps on.
pub fn draw(brush: &mut Brush<'_>, stand: &Stand, seed: u64, lit: bool) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let model = model(rng);
    let colour = paint(rng);
    let glass = Rgb(0.16, 0.2, 0.24).times(between(rng, 0.7, 1.5));
    let rubber = Rgb(0.07, 0.07, 0.075);
    // The roof is narrower than the belt line.
    let half = |up: f32| model.half * (1.0 - 0.2 * ((up - 0.95) / 0.75).clamp(0.0, 1.0));

    let right = brush.faces(stand.point(0.0, model.half, 0.5), stand.direction(0.0, 1.0, 0.0));
    let near = if right { 1.0 } else { -1.0 };
    let (long, wide, _) = solid(seed);
    brush.cuboid(
        stand,
        Cuboid { a: (-long + 0.2, long - 0.2), b: (-wide + 0.1, wide - 0.1), c: (0.12, 0.4) },
        rubber,
    );
    for a in [model.wheels.0, model.wheels.1] {
        brush.disc(stand, (a, -near * (model.half - 0.08), model.radius), model.radius, rubber);
    }

    let mut strips: Vec<_> = model.outline.windows(2).map(|w| (w[0], w[1])).collect();
    let depth = |s: &((f32, f32, bool), (f32, f32, bool))| {
        brush.view.depth(stand.point((s.0.0 + s.1.0) / 2.0, 0.0, (s.0.1 + s.1.1) / 2.0))
    };
    strips.sort_by(|p, q| depth(q).total_cmp(&depth(p)));
    for ((a0, c0, is_glass), (a1, c1, _)) in strips {
        let length = ((a1 - a0).powi(2) + (c1 - c0).powi(2)).sqrt().max(1e-3);
        let normal = (-(c1 - c0) / length, 0.0, (a1 - a0) / length);
        let (w0, w1) = (half(c0), half(c1));
        brush.face(stand, &[(a0, -w0, c0), (a0, w0, c0), (a1, w1, c1), (a1, -w1, c1)], normal, colour);
        if is_glass {
            let inner = |t: f32| (a0 + t * (a1 - a0), c0 + t * (c1 - c0));
            let ((ga0, gc0), (ga1, gc1)) = (inner(0.08), inner(0.92));
            let (g0, g1) = (half(gc0) - 0.1, half(gc1) - 0.1);
            brush.face(
                stand,
                &[(ga0, -g0, gc0), (ga0, g0, gc0), (ga1, g1, gc1), (ga1, -g1, gc1)],
                normal,
                glass,
            );
            let (m, n) = (inner(0.2), inner(0.75));
            let sheen =
                [(m.0, -0.6 * g0, m.1), (m.0, -0.2 * g0, m.1), (n.0, 0.25 * g1, n.1), (n.0, -0.1 * g1, n.1)];
            brush.face(stand, &sheen, normal, glass.toward(Rgb(0.8, 0.85, 0.9), 0.3));
        }
    }
    ends(brush, stand, model, colour, lit, rng);
    flank(brush, stand, model, near, colour, glass, &half);
    for a in [model.wheels.0, model.wheels.1] {
        let b = near * (model.half + 0.01);
        brush.disc(stand, (a, b, model.radius), model.radius * 1.12, rubber.times(0.6));
        brush.disc(stand, (a, b, model.radius), model.radius, rubber.times(1.3));
        brush.disc(stand, (a, b, model.radius), model.radius * 0.58, Rgb(0.55, 0.56, 0.58));
        brush.disc(stand, (a, b, model.radius), model.radius * 0.2, rubber);
    }
}

fn flank(
    brush: &mut Brush<'_>,
    stand: &Stand,
    model: &Model,
    near: f32,
    colour: Rgb,
    glass: Rgb,
    half: &dyn Fn(f32) -> f32,
) {
    let side = |points: &[(f32, f32)]| -> Vec<V3> {
        points.iter().map(|&(a, c)| stand.point(a, near * half(c), c)).collect()
    };
    let body: Vec<_> = model.outline.iter().map(|p| (p.0, p.1)).collect();
    let bright = brush.shade(stand.direction(0.0, near, 0.0)) * 0.96;
    brush.poly(&side(&body), colour.times(bright), 1.0);
    let (rear, front) = (body[0].0, body[body.len() - 1].0);
    let sill = [(rear, 0.28), (rear - 0.02, 0.55), (front + 0.02, 0.5), (front, 0.28)];
    brush.poly(&side(&sill), Rgb(0.0, 0.0, 0.0), 0.22);
    for window in model.windows {
        brush.poly(&side(window), glass, 1.0);
        let (first, second) = (window[0], window[1]);
        let gleam = [first, second, (second.0 + 0.15, second.1), (first.0 + 0.25, first.1)];
        brush.poly(&side(&gleam), Rgb(0.8, 0.85, 0.9), 0.18);
    }
    for pair in model.windows.windows(2) {
        let a = (pair[0][pair[0].len() - 1].0 + pair[1][0].0) / 2.0;
        brush.poly(
            &side(&[(a - 0.012, 0.4), (a - 0.012, 1.0), (a + 0.012, 1.0), (a + 0.012, 0.4)]),
            Rgb(0.0, 0.0, 0.0),
            0.35,
        );
    }
}

fn ends(
    brush: &mut Brush<'_>,
    stand: &Stand,
    model: &Model,
    colour: Rgb,
    lit: bool,
    rng: &mut fastrand::Rng,
) {
    let rear = model.outline[1];
    let front = model.outline[model.outline.len() - 2];
    let w = model.half;
    let quad =
        |a: f32, b0: f32, b1: f32, c0: f32, c1: f32| [(a, b0, c0), (a, b1, c0), (a, b1, c1), (a, b0, c1)];
    let (back, ahead) = ((-1.0, 0.0, 0.1), (1.0, 0.0, 0.15));
    let tail = if lit { Rgb(1.6, 0.25, 0.2) } else { Rgb(0.7, 0.08, 0.08) };
    let lamp = if lit { Rgb(2.0, 2.0, 1.8) } else { Rgb(0.85, 0.88, 0.9) };
    for side in [-1.0, 1.0] {
        let (o, i) = (side * (w - 0.04), side * (w - 0.34));
        brush.face(stand, &quad(rear.0 - 0.01, o, i, rear.1 - 0.12, rear.1 + 0.06), back, tail);
        brush.face(stand, &quad(front.0 + 0.01, o, i, front.1 - 0.06, front.1 + 0.1), ahead, lamp);
    }
    let plate = if rng.f32() < 0.75 { Rgb(0.15, 0.3, 0.75) } else { Rgb(0.3, 0.75, 0.5) };
    brush.face(stand, &quad(rear.0 - 0.02, -0.22, 0.22, 0.55, 0.68), back, plate);
    brush.face(stand, &quad(front.0 + 0.02, -0.22, 0.22, 0.36, 0.48), ahead, plate);
    brush.face(
        stand,
        &quad(front.0 + 0.01, -0.45, 0.45, front.1 - 0.1, front.1 + 0.02),
        ahead,
        Rgb(0.1, 0.1, 0.11),
    );
    brush.face(stand, &quad(rear.0 - 0.01, -w + 0.05, w - 0.05, 0.28, 0.4), back, colour.times(0.4));
    brush.face(stand, &quad(front.0, -w + 0.05, w - 0.05, 0.28, 0.36), ahead, colour.times(0.4));
}
