//! What street vendors bring: the three-wheeled cart, the parasol, the goods.

use super::brush::{Brush, Cuboid, Rgb, between, pick};
use super::view::{Stand, V3};

const METAL: Rgb = Rgb(0.32, 0.33, 0.35);
const RUBBER: Rgb = Rgb(0.08, 0.08, 0.085);

/// Chooses roof and load of a cart.
fn extras(rng: &mut fastrand::Rng) -> (bool, Option<f32>) {
    let roofed = rng.f32() < 0.18;
    let load = rng.f32();
    (roofed, (load < 0.3).then_some(0.25 + load))
}

/// Whether a cart has a load or a roof of its own, so that goods cannot be heaped on it.
pub fn carries(seed: u64) -> bool {
    let (roofed, load) = extras(&mut fastrand::Rng::with_seed(seed));
    roofed || load.is_some()
}

/// A three-wheeled cargo cart: an open bed over two rear wheels, one wheel and a handlebar in front.
pub fn tricycle(brush: &mut Brush<'_>, stand: &Stand, seed: u64) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let (roofed, load) = extras(rng);
    let colours = [
        Rgb(0.15, 0.35, 0.65),
        Rgb(0.7, 0.15, 0.12),
        Rgb(0.15, 0.5, 0.3),
        Rgb(0.5, 0.52, 0.55),
        Rgb(0.85, 0.5, 0.1),
    ];
    let colour = pick(rng, &colours).times(between(rng, 0.75, 1.15));
    let tarp = Rgb::hsv(rng.f32(), between(rng, 0.1, 0.6), between(rng, 0.35, 0.8));
    let right = brush.faces(stand.point(0.0, 0.6, 0.3), stand.direction(0.0, 1.0, 0.0));
    let near = if right { 1.0 } else { -1.0 };
    let ahead = brush.view.depth(stand.point(1.0, 0.0, 0.0)) > brush.view.depth(stand.point(-0.5, 0.0, 0.0));

    wheel(brush, stand, (-0.4, -near * 0.58, 0.3), 0.3);
    if ahead {
        front(brush, stand, colour);
    }
    let bed = Cuboid { a: (-1.05, 0.55), b: (-0.52, 0.52), c: (0.42, 0.86) };
    brush.cuboid(stand, bed, colour);
    let inside = [(-1.0, -0.47, 0.86), (0.5, -0.47, 0.86), (0.5, 0.47, 0.86), (-1.0, 0.47, 0.86)];
    brush.face(stand, &inside, (0.0, 0.0, 1.0), colour.times(0.35));
    for i in 0..5 {
        let a = -1.0 + 0.37 * i as f32;
        let b = near * 0.525;
        brush.face(
            stand,
            &[(a, b, 0.44), (a + 0.04, b, 0.44), (a + 0.04, b, 0.85), (a, b, 0.85)],
            (0.0, near, 0.0),
            colour.times(0.7),
        );
    }
    if let Some(high) = load {
        let heap = Cuboid { a: (-0.95, 0.35), b: (-0.42, 0.42), c: (0.86, 0.86 + high) };
        brush.cuboid(stand, heap, tarp);
    }
    if roofed {
        for (a, b) in [(-1.0, -0.48), (-1.0, 0.48), (0.5, -0.48), (0.5, 0.48)] {
            brush.bar(stand.point(a, b, 0.86), stand.point(a, b, 1.75), 0.04, METAL);
        }
        brush.cuboid(stand, Cuboid { a: (-1.15, 0.7), b: (-0.6, 0.6), c: (1.75, 1.85) }, tarp);
    }
    wheel(brush, stand, (-0.4, near * 0.58, 0.3), 0.3);
    if !ahead {
        front(brush, stand, colour);
    }
}

fn wheel(brush: &mut Brush<'_>, stand: &Stand, at: (f32, f32, f32), radius: f32) {
    brush.disc(stand, at, radius, RUBBER);
    brush.disc(stand, at, radius * 0.72, Rgb(0.45, 0.46, 0.48));
    brush.disc(stand, at, radius * 0.6, Rgb(0.25, 0.25, 0.26));
    brush.disc(stand, at, radius * 0.18, METAL);
}

fn front(brush: &mut Brush<'_>, stand: &Stand, colour: Rgb) {
    let p = |a, b, c| stand.point(a, b, c);
    wheel(brush, stand, (1.3, 0.0, 0.29), 0.29);
    brush.bar(p(0.5, 0.0, 0.45), p(1.05, 0.0, 0.6), 0.08, colour.times(0.8));
    brush.bar(p(1.3, 0.06, 0.3), p(1.08, 0.0, 0.95), 0.06, colour);
    brush.bar(p(1.0, -0.34, 1.02), p(1.0, 0.34, 1.02), 0.05, METAL);
    brush.bar(p(1.06, 0.0, 0.95), p(1.0, 0.0, 1.03), 0.05, METAL);
    brush.cuboid(stand, Cuboid { a: (0.56, 0.8), b: (-0.16, 0.16), c: (0.72, 0.82) }, Rgb(0.1, 0.1, 0.1));
    brush.cuboid(stand, Cuboid { a: (1.1, 1.5), b: (-0.09, 0.09), c: (0.56, 0.61) }, colour.times(0.9));
}

/// Radius of a parasol's or umbrella's canopy, metres.
pub fn radius(seed: u64, small: bool) -> f32 {
    let r = fastrand::Rng::with_seed(seed ^ 7).f32();
    if small { 0.46 + 0.12 * r } else { 1.0 + 0.5 * r }
}

/// A canopy of panels with its rim at the stand's height; no pole.
pub fn canopy(brush: &mut Brush<'_>, stand: &Stand, seed: u64, small: bool) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let r = radius(seed, small);
    let rise = r * between(rng, 0.3, 0.5);
    let square = !small && rng.f32() < 0.3;
    let panels = if square { 4 } else { 8 };
    let hue = rng.f32();
    let first = Rgb::hsv(hue, between(rng, 0.45, 0.95), between(rng, 0.45, 0.9));
    let first = if rng.f32() < 0.15 { Rgb(0.13, 0.13, 0.15) } else { first };
    let second = match rng.u8(..4) {
        0 => Rgb(0.92, 0.91, 0.88),
        1 => Rgb::hsv(hue + 0.4, 0.6, 0.8),
        _ => first,
    };
    let rim = |i: usize| {
        let (sin, cos) = ((i as f32 + 0.5) * std::f32::consts::TAU / panels as f32).sin_cos();
        stand.point(r * cos, r * sin, 0.0)
    };
    let top = stand.point(0.0, 0.0, rise);
    let mut order: Vec<usize> = (0..panels).collect();
    let depth = |i: usize| brush.view.depth(rim(i)) + brush.view.depth(rim(i + 1));
    order.sort_by(|&p, &q| depth(q).total_cmp(&depth(p)));
    for i in order {
        let (p, q) = (rim(i), rim(i + 1));
        let out = V3::new((p.u + q.u) / 2.0 - stand.at.u, (p.s + q.s) / 2.0 - stand.at.s, 0.0);
        let length = out.dot(out).sqrt().max(1e-3);
        let normal = V3::new(0.55 * out.u / length, 0.55 * out.s / length, 0.83);
        let colour = if i % 2 == 0 { first } else { second };
        // Seen from below where the panel is turned away.
        let bright = if brush.faces(top, normal) { brush.shade(normal) } else { 0.42 };
        brush.poly(&[top, p, q], colour.times(bright), 1.0);
        let hem = |v: V3| V3::new(v.u, v.s, v.h - 0.12 * r);
        if !small && brush.faces(p, V3::new(out.u, out.s, 0.0)) {
            brush.poly(&[p, q, hem(q), hem(p)], colour.times(bright * 0.8), 1.0);
        }
    }
}

/// The pole under a canopy, from the ground.
pub fn pole(brush: &mut Brush<'_>, stand: &Stand, rim: f32) {
    brush.bar(stand.point(0.0, 0.0, 0.0), stand.point(0.0, 0.0, rim), 0.05, Rgb(0.7, 0.7, 0.68));
    brush.cuboid(stand, Cuboid { a: (-0.2, 0.2), b: (-0.2, 0.2), c: (0.0, 0.1) }, Rgb(0.3, 0.3, 0.3));
}

fn fruit(rng: &mut fastrand::Rng) -> Rgb {
    let colours = [
        Rgb(0.85, 0.15, 0.1),
        Rgb(0.95, 0.55, 0.1),
        Rgb(0.95, 0.85, 0.2),
        Rgb(0.35, 0.65, 0.2),
        Rgb(0.6, 0.75, 0.3),
        Rgb(0.45, 0.15, 0.45),
        Rgb(0.9, 0.75, 0.6),
    ];
    pick(rng, &colours)
}

/// How goods are laid out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wares {
    Table,
    Crates,
    Rack,
    Cloth,
}

fn wares(rng: &mut fastrand::Rng) -> (Wares, f32, f32) {
    let kind = match rng.u8(..10) {
        0..4 => Wares::Table,
        4..7 => Wares::Crates,
        7..8 => Wares::Rack,
        _ => Wares::Cloth,
    };
    (kind, between(rng, 0.65, 1.05), between(rng, 0.35, 0.5))
}

/// Half length, half width and height of goods, metres.
pub fn solid(seed: u64) -> (f32, f32, f32) {
    let (kind, long, wide) = wares(&mut fastrand::Rng::with_seed(seed));
    let height = match kind {
        Wares::Table => 1.1,
        Wares::Crates => 0.75,
        Wares::Rack => 1.65,
        Wares::Cloth => 0.4,
    };
    (long, wide, height)
}

/// A table, crates, a clothes rack or a cloth on the ground, with what is sold.
pub fn goods(brush: &mut Brush<'_>, stand: &Stand, seed: u64) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let (kind, long, wide) = wares(rng);
    match kind {
        Wares::Table => {
            let cloth = Rgb::hsv(rng.f32(), between(rng, 0.1, 0.7), between(rng, 0.4, 0.85));
            brush.cuboid(stand, Cuboid { a: (-long, long), b: (-wide, wide), c: (0.06, 0.74) }, cloth);
            trays(brush, stand, rng, long, wide, 0.74);
        }
        Wares::Crates => {
            let stacked = rng.bool();
            let floor = if stacked { 0.3 } else { 0.0 };
            if stacked {
                brush.cuboid(
                    stand,
                    Cuboid { a: (-long, long), b: (-wide, wide), c: (0.0, 0.3) },
                    Rgb(0.5, 0.38, 0.25),
                );
            }
            trays(brush, stand, rng, long, wide, floor + 0.02);
        }
        Wares::Rack => rack(brush, stand, rng, long),
        Wares::Cloth => {
            let sheet = [(-long, -wide, 0.02), (long, -wide, 0.02), (long, wide, 0.02), (-long, wide, 0.02)];
            let cloth = Rgb::hsv(rng.f32(), between(rng, 0.1, 0.6), between(rng, 0.35, 0.85));
            brush.face(stand, &sheet, (0.0, 0.0, 1.0), cloth);
            wares_on_cloth(brush, stand, rng, long, wide);
        }
    }
}

/// Goods heaped on a cart's bed (the stand is at the bed's height).
pub fn heap(brush: &mut Brush<'_>, stand: &Stand, seed: u64) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let shifted = Stand { at: stand.point(-0.25, 0.0, 0.0), heading: stand.heading };
    trays(brush, &shifted, rng, 0.72, 0.46, 0.0);
}

/// Rows of crates full of something, sorted from the camera's far side.
fn trays(brush: &mut Brush<'_>, stand: &Stand, rng: &mut fastrand::Rng, long: f32, wide: f32, floor: f32) {
    let columns = (long / 0.24).round().max(2.0) as usize;
    let mut cells = Vec::new();
    for i in 0..columns {
        for j in 0..2 {
            let a0 = -long + 2.0 * long * i as f32 / columns as f32;
            let b0 = -wide + wide * j as f32;
            let crate_colour = pick(
                rng,
                &[Rgb(0.55, 0.42, 0.26), Rgb(0.2, 0.45, 0.7), Rgb(0.75, 0.2, 0.2), Rgb(0.85, 0.85, 0.8)],
            );
            let size = Cuboid {
                a: (a0 + 0.015, a0 + 2.0 * long / columns as f32 - 0.015),
                b: (b0 + 0.015, b0 + wide - 0.015),
                c: (floor, floor + between(rng, 0.16, 0.24)),
            };
            cells.push((size, crate_colour, fruit(rng), rng.u64(..)));
        }
    }
    let depth = |c: &Cuboid| brush.view.depth(stand.point((c.a.0 + c.a.1) / 2.0, (c.b.0 + c.b.1) / 2.0, 0.0));
    cells.sort_by(|p, q| depth(&q.0).total_cmp(&depth(&p.0)));
    for (size, colour, content, seed) in cells {
        brush.cuboid(stand, size, colour);
        let rng = &mut fastrand::Rng::with_seed(seed);
        let heap = Cuboid { c: (size.c.1 - 0.02, size.c.1 + 0.02), ..inset(size, 0.02) };
        brush.cuboid(stand, heap, content.times(0.6));
        for _ in 0..14 {
            let (a, b) = (between(rng, heap.a.0, heap.a.1), between(rng, heap.b.0, heap.b.1));
            let up = size.c.1 + between(rng, 0.0, 0.07);
            brush.ball(stand.point(a, b, up), 0.055, content.times(between(rng, 0.8, 1.15)));
        }
    }
}

fn inset(c: Cuboid, by: f32) -> Cuboid {
    Cuboid { a: (c.a.0 + by, c.a.1 - by), b: (c.b.0 + by, c.b.1 - by), c: c.c }
}

fn rack(brush: &mut Brush<'_>, stand: &Stand, rng: &mut fastrand::Rng, long: f32) {
    for a in [-long, long] {
        brush.bar(stand.point(a, -0.25, 0.0), stand.point(a, 0.0, 1.55), 0.04, METAL);
        brush.bar(stand.point(a, 0.25, 0.0), stand.point(a, 0.0, 1.55), 0.04, METAL);
    }
    brush.bar(stand.point(-long, 0.0, 1.55), stand.point(long, 0.0, 1.55), 0.04, METAL);
    // Garments hang side by side across the bar.
    let count = (long * 2.0 / 0.13) as usize;
    let away = brush.view.depth(stand.point(1.0, 0.0, 0.0)) > brush.view.depth(stand.at);
    let hung: Vec<_> = (0..count).map(|i| (i, rng.u64(..))).collect();
    let order: Vec<_> = if away { hung.into_iter().rev().collect() } else { hung };
    for (i, seed) in order {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let a = -long + 0.05 + 0.13 * i as f32;
        let colour = Rgb::hsv(rng.f32(), between(rng, 0.2, 0.8), between(rng, 0.4, 0.9));
        let (half, low) = (between(rng, 0.17, 0.25), between(rng, 0.5, 0.95));
        brush.cuboid(stand, Cuboid { a: (a, a + 0.09), b: (-half, half), c: (low, 1.47) }, colour);
    }
}

fn wares_on_cloth(brush: &mut Brush<'_>, stand: &Stand, rng: &mut fastrand::Rng, long: f32, wide: f32) {
    let mut things: Vec<(f32, f32)> = Vec::new();
    for i in 0..6 {
        for j in 0..3 {
            let a = -long + 0.12 + (2.0 * long - 0.24) * i as f32 / 5.0;
            let b = -wide + 0.1 + (2.0 * wide - 0.2) * j as f32 / 2.0;
            things.push((a + between(rng, -0.04, 0.04), b + between(rng, -0.03, 0.03)));
        }
    }
    things.sort_by(|p, q| {
        brush.view.depth(stand.point(q.0, q.1, 0.0)).total_cmp(&brush.view.depth(stand.point(p.0, p.1, 0.0)))
    });
    for (a, b) in things {
        let colour = Rgb::hsv(rng.f32(), between(rng, 0.3, 0.9), between(rng, 0.4, 0.95));
        if rng.bool() {
            let (r, h) = (between(rng, 0.05, 0.11), between(rng, 0.08, 0.28));
            brush.cuboid(stand, Cuboid { a: (a - r, a + r), b: (b - r, b + r), c: (0.02, h) }, colour);
        } else {
            brush.ball(stand.point(a, b, 0.08), between(rng, 0.06, 0.1), colour);
        }
    }
}
