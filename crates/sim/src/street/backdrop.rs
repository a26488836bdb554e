//! What never moves: sky, buildings, ground. Painted once per street and light.

use tiny_skia::Pixmap;

use super::brush::{Brush, Rgb, between, pick};
use super::develop::{Conditions, Light, Weather, cloud, grain};
use super::layout::{FAR, Layout};
use super::view::{Stand, V3};

/// A lamp, a window or a sign that shines by itself.
struct Shine {
    points: [V3; 4],
    colour: Rgb,
}

/// The street without things, in the light of `conditions`; RGBA, opaque.
pub fn paint(layout: &Layout, conditions: &Conditions, width: u32, height: u32) -> Option<Pixmap> {
    let mut pixmap = Pixmap::new(width, height)?;
    sky(&mut pixmap, layout, conditions);
    ground(&mut pixmap, layout, conditions);
    let view = layout.view;
    let rng = &mut fastrand::Rng::with_seed(layout.seed ^ 0xb11d);
    let mut shines = Vec::new();
    {
        let mut brush = Brush { view: &view, sun: layout.sun, pixmap: &mut pixmap, origin: (0.0, 0.0) };
        markings(&mut brush, layout, rng);
        manholes(&mut brush, layout, rng);
        buildings(&mut brush, layout, rng, &mut shines);
    }
    light(&mut pixmap, layout, conditions);
    let glow = match conditions.light {
        Light::Day => 0.0,
        Light::Dusk => 0.7,
        Light::Night => 0.95,
    };
    let mut brush = Brush { view: &view, sun: layout.sun, pixmap: &mut pixmap, origin: (0.0, 0.0) };
    for Shine { points, colour } in shines {
        if glow > 0.0 {
            brush.poly(&points, colour, glow);
        }
    }
    Some(pixmap)
}

fn sky(pixmap: &mut Pixmap, layout: &Layout, conditions: &Conditions) {
    let (top, low) = match (conditions.light, conditions.weather) {
        (_, Weather::Rain) => (Rgb(0.6, 0.62, 0.65), Rgb(0.72, 0.73, 0.75)),
        (Light::Dusk, _) => (Rgb(0.45, 0.5, 0.8), Rgb(1.0, 0.72, 0.5)),
        _ => (Rgb(0.5, 0.68, 0.92), Rgb(0.85, 0.9, 0.95)),
    };
    let (w, seed) = (pixmap.width() as usize, layout.seed as u32);
    let horizon = (layout.view.horizon * layout.view.height).max(1.0);
    for (i, pixel) in pixmap.data_mut().chunks_exact_mut(4).enumerate() {
        let (x, y) = ((i % w) as f32, (i / w) as f32);
        let c = top
            .toward(low, (y / horizon).min(1.0))
            .toward(Rgb(0.95, 0.95, 0.97), 0.35 * cloud(x / 90.0, y / 25.0, seed));
        pixel.copy_from_slice(&[byte(c.0), byte(c.1), byte(c.2), 255]);
    }
}

fn byte(v: f32) -> u8 {
    (v.clamp(0.0, 1.0) * 255.0) as u8
}

/// What the ground is made of, by seed.
struct Ground {
    asphalt: Rgb,
    paving: Rgb,
    second: Rgb,
    tile: f32,
    stripe: bool,
    seed: u32,
}

fn ground(pixmap: &mut Pixmap, layout: &Layout, conditions: &Conditions) {
    let rng = &mut fastrand::Rng::with_seed(layout.seed ^ 0x620d);
    let grey = between(rng, 0.27, 0.46);
    let hue = pick(
        rng,
        &[Rgb(0.6, 0.57, 0.53), Rgb(0.58, 0.47, 0.42), Rgb(0.55, 0.56, 0.57), Rgb(0.66, 0.63, 0.55)],
    );
    let ground = Ground {
        asphalt: Rgb(grey, grey, grey * between(rng, 0.98, 1.06)),
        paving: hue.times(between(rng, 0.8, 1.1)),
        second: hue.times(between(rng, 0.65, 1.0)),
        tile: between(rng, 0.3, 0.7),
        stripe: rng.f32() < 0.7,
        seed: layout.seed as u32,
    };
    let wet = conditions.weather == Weather::Rain;
    let w = pixmap.width() as usize;
    for (i, pixel) in pixmap.data_mut().chunks_exact_mut(4).enumerate() {
        let (x, y) = (i % w, i / w);
        let Some((p, z)) = layout.view.ground(x as f32 + 0.5, y as f32 + 0.5) else { continue };
        // One pixel's width and depth on the ground: what is finer fades out.
        let fine = z / layout.view.scale(1.0);
        let deep = fine * (z / layout.view.mast).max(1.0);
        let mut c = ground.colour(layout, p, fine, deep);
        let speck = (0.14 / (1.0 + 6.0 * fine)) * (grain(x as i32, y as i32, ground.seed) - 0.5);
        c = c.times(1.0 + speck);
        if wet {
            let puddle = cloud(p.u * 0.5, p.s * 0.3, ground.seed ^ 5);
            let mirror = ((puddle - 0.45) * 3.0).clamp(0.0, 1.0) * (z / 30.0).clamp(0.15, 0.8);
            c = c.times(0.68).toward(Rgb(0.72, 0.74, 0.77), 0.5 * mirror);
        }
        pixel.copy_from_slice(&[byte(c.0), byte(c.1), byte(c.2), 255]);
    }
}

impl Ground {
    fn colour(&self, layout: &Layout, p: V3, fine: f32, deep: f32) -> Rgb {
        let edge = p.u.abs() - layout.half;
        let patch = cloud(p.u * 0.35, p.s * 0.22, self.seed);
        let road = {
            let wear = (p.u * std::f32::consts::TAU / 1.75).cos() * 0.035;
            let coarse = (cloud(p.u * 6.0, p.s * 6.0, self.seed ^ 1) - 0.5) * 0.18 / (1.0 + 4.0 * deep);
            let patched =
                if grain((p.u / 2.7).floor() as i32, (p.s / 5.0).floor() as i32, self.seed ^ 9) > 0.93 {
                    0.82
                } else {
                    1.0
                };
            let gutter = if edge > -0.45 { 0.88 } else { 1.0 };
            self.asphalt.times((0.9 + 0.2 * patch + wear + coarse) * patched * gutter)
        };
        let walk = {
            let (col, row) = ((p.u / self.tile).floor(), (p.s / self.tile).floor());
            let shade =
                0.9 + 0.14 * grain(col as i32, row as i32, self.seed ^ 2) / (1.0 + 3.0 * deep) + 0.12 * patch;
            let base = if (col + row) as i32 % 2 == 0 {
                self.paving
            } else {
                self.paving.toward(self.second, 0.8 / (1.0 + 2.0 * deep))
            };
            let joint = |v: f32, blur: f32| {
                let d = (v / self.tile).fract().abs() * self.tile;
                let d = d.min(self.tile - d);
                1.0 - 0.3 * (1.0 - d / (0.02 + blur)).clamp(0.0, 1.0) * (0.02 / (0.02 + blur)).min(1.0)
            };
            let guide = self.stripe && (edge - 1.2).abs() < 0.2;
            let base = if guide { Rgb(0.75, 0.62, 0.25) } else { base };
            base.times(shade * joint(p.u, fine) * joint(p.s, deep))
        };
        let kerb = Rgb(0.68, 0.67, 0.64).times(0.85 + 0.2 * patch);
        let soft = (fine * 1.2).max(0.02);
        let step = |at: f32| ((edge - at) / soft).clamp(0.0, 1.0);
        // The kerb's shadow line, its stone, then the footway.
        road.toward(Rgb(0.16, 0.16, 0.16), 0.7 * step(-0.08)).toward(kerb, step(0.0)).toward(walk, step(0.22))
    }
}

fn markings(brush: &mut Brush<'_>, layout: &Layout, rng: &mut fastrand::Rng) {
    let paint = Rgb(0.86, 0.86, 0.84).times(between(rng, 0.85, 1.05));
    let yellow = Rgb(0.85, 0.68, 0.2);
    let alpha = between(rng, 0.55, 0.95);
    let flat = |u0: f32, u1: f32, s0: f32, s1: f32| {
        [V3::new(u0, s0, 0.0), V3::new(u1, s0, 0.0), V3::new(u1, s1, 0.0), V3::new(u0, s1, 0.0)]
    };
    let (middle, dashed) = if rng.bool() { (yellow, false) } else { (paint, true) };
    let stop = layout.zebra.unwrap_or(f32::NEG_INFINITY);
    let clear = |s0: f32, s1: f32| s1 < stop - 0.5 || s0 > stop + 4.5;
    let mut s = -2.0;
    while s < FAR {
        let len = if dashed { 2.2 } else { 3.0 };
        if clear(s, s + len) {
            brush.poly(&flat(-0.07, 0.07, s, s + len), middle, alpha);
        }
        for side in [-1.0, 1.0] {
            if layout.half > 5.0 && clear(s, s + 1.8) {
                let u = side * layout.half / 2.0;
                brush.poly(&flat(u - 0.06, u + 0.06, s, s + 1.8), paint, alpha);
            }
            let u = side * (layout.half - 0.3);
            if clear(s, s + 3.0) {
                brush.poly(
                    &flat(u - 0.05, u + 0.05, s, s + 3.0),
                    if dashed { paint } else { yellow },
                    alpha * 0.8,
                );
            }
        }
        s += if dashed { 5.0 } else { 3.0 };
    }
    if let Some(zebra) = layout.zebra {
        let mut u = -layout.half + 0.4;
        while u < layout.half - 0.5 {
            brush.poly(&flat(u, u + 0.45, zebra, zebra + 3.6), paint, alpha);
            u += 0.95;
        }
    }
}

fn manholes(brush: &mut Brush<'_>, layout: &Layout, rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..5) {
        let at = V3::new(between(rng, -layout.half, layout.half), between(rng, 5.0, 30.0), 0.0);
        let ring = |r: f32| -> Vec<V3> {
            (0..14)
                .map(|i| {
                    let (sin, cos) = (i as f32 * std::f32::consts::TAU / 14.0).sin_cos();
                    V3::new(at.u + r * cos, at.s + r * sin, 0.0)
                })
                .collect()
        };
        brush.poly(&ring(0.38), Rgb(0.22, 0.22, 0.22), 0.9);
        brush.poly(&ring(0.31), Rgb(0.32, 0.31, 0.3), 0.9);
    }
}

/// A wall in the plane of the facades of one side.
struct Facade {
    side: f32,
    u: f32,
}

impl Facade {
    /// A rectangle on it, `out` metres in front of it.
    fn quad(&self, s: (f32, f32), h: (f32, f32), out: f32) -> [V3; 4] {
        let u = self.u - self.side * out;
        [V3::new(u, s.0, h.0), V3::new(u, s.1, h.0), V3::new(u, s.1, h.1), V3::new(u, s.0, h.1)]
    }
}

fn buildings(brush: &mut Brush<'_>, layout: &Layout, rng: &mut fastrand::Rng, shines: &mut Vec<Shine>) {
    // Where the street ends: a row of houses across it.
    let end = Stand { at: V3::new(0.0, FAR, 0.0), heading: 0.0 };
    let mut u = -60.0;
    while u < 60.0 {
        let wide = between(rng, 8.0, 18.0);
        let high = between(rng, 6.0, 22.0);
        let wall = Rgb(0.6, 0.6, 0.62).times(between(rng, 0.7, 1.1));
        let p = |a: f32, h: f32| V3::new(a, end.at.s, h);
        brush.poly(&[p(u, 0.0), p(u + wide, 0.0), p(u + wide, high), p(u, high)], wall, 1.0);
        u += wide;
    }
    for side in [-1.0, 1.0] {
        let facade = Facade { side, u: side * (layout.half + layout.footway_on(side)) };
        let mut edges = vec![-14.0_f32];
        while edges[edges.len() - 1] < FAR {
            edges.push(edges[edges.len() - 1] + between(rng, 3.6, 8.5));
        }
        let storeys = rng.usize(1..6);
        let wall = Rgb::hsv(between(rng, 0.02, 0.14), between(rng, 0.05, 0.35), between(rng, 0.5, 0.85));
        for pair in edges.windows(2).rev() {
            let own = if rng.f32() < 0.35 {
                Rgb::hsv(between(rng, 0.0, 0.65), between(rng, 0.02, 0.3), between(rng, 0.45, 0.85))
            } else {
                wall.times(between(rng, 0.93, 1.05))
            };
            let storeys = if rng.f32() < 0.25 { rng.usize(1..6) } else { storeys };
            house(brush, &facade, (pair[0], pair[1]), (own, storeys), rng, shines);
        }
    }
}

fn house(
    brush: &mut Brush<'_>,
    facade: &Facade,
    s: (f32, f32),
    (wall, storeys): (Rgb, usize),
    rng: &mut fastrand::Rng,
    shines: &mut Vec<Shine>,
) {
    let bright = brush.shade(V3::new(-facade.side, 0.0, 0.0));
    let top = 4.0 + 3.1 * (storeys - 1) as f32 + 0.6;
    let wall = wall.times(bright);
    brush.poly(&facade.quad(s, (0.0, top), 0.0), wall, 1.0);
    // Dirt and shade towards the ground and under the cornice.
    brush.poly(&facade.quad(s, (0.0, 0.5), 0.0), Rgb(0.0, 0.0, 0.0), 0.18);
    brush.poly(&facade.quad(s, (top - 0.35, top), 0.1), wall.times(0.75), 1.0);
    for floor in 1..storeys {
        let h = 4.0 + 3.1 * (floor - 1) as f32;
        let count = ((s.1 - s.0) / 1.9).floor().max(1.0);
        for i in 0..count as usize {
            let w0 = s.0 + (s.1 - s.0) * (i as f32 + 0.2) / count;
            let w1 = s.0 + (s.1 - s.0) * (i as f32 + 0.8) / count;
            let glass = Rgb(0.25, 0.32, 0.4).times(between(rng, 0.6, 1.5));
            brush.poly(&facade.quad((w0 - 0.07, w1 + 0.07), (h + 0.73, h + 2.27), 0.0), wall.times(0.7), 1.0);
            let pane = facade.quad((w0, w1), (h + 0.8, h + 2.2), 0.0);
            brush.poly(&pane, glass, 1.0);
            if rng.f32() < 0.3 {
                shines.push(Shine {
                    points: pane,
                    colour: Rgb(1.0, 0.85, 0.55).times(between(rng, 0.5, 0.95)),
                });
            }
            if rng.f32() < 0.15 {
                let unit = facade.quad((w0, w0 + 0.7), (h + 0.1, h + 0.6), 0.35);
                brush.poly(&unit, Rgb(0.8, 0.8, 0.78).times(bright), 1.0);
            }
        }
    }
    shop(brush, facade, s, bright, rng, shines);
}

fn shop(
    brush: &mut Brush<'_>,
    facade: &Facade,
    (s0, s1): (f32, f32),
    bright: f32,
    rng: &mut fastrand::Rng,
    shines: &mut Vec<Shine>,
) {
    let front = (s0 + 0.25, s1 - 0.25);
    let frame = Rgb(0.3, 0.28, 0.26).times(between(rng, 0.5, 1.8) * bright);
    brush.poly(&facade.quad(front, (0.0, 2.85), 0.0), frame, 1.0);
    match rng.u8(..10) {
        // A shutter, down.
        0..3 => {
            let steel = Rgb(0.6, 0.62, 0.64).times(between(rng, 0.7, 1.1) * bright);
            brush.poly(&facade.quad((front.0 + 0.1, front.1 - 0.1), (0.0, 2.75), 0.0), steel, 1.0);
            for i in 0..9 {
                let h = 0.1 + 0.3 * i as f32;
                brush.poly(
                    &facade.quad((front.0 + 0.1, front.1 - 0.1), (h, h + 0.06), 0.0),
                    steel.times(0.8),
                    1.0,
                );
            }
        }
        // Panes with something behind them.
        3..8 => {
            let count = rng.usize(2..5);
            for i in 0..count {
                let width = (front.1 - front.0) / count as f32;
                let pane = facade.quad(
                    (front.0 + width * i as f32 + 0.07, front.0 + width * (i + 1) as f32 - 0.07),
                    (0.12, 2.7),
                    0.0,
                );
                let glass = Rgb(0.25, 0.28, 0.3).times(between(rng, 0.6, 1.6));
                brush.poly(&pane, glass, 1.0);
                shines.push(Shine {
                    points: pane,
                    colour: Rgb(1.0, 0.92, 0.75).times(between(rng, 0.45, 0.9)),
                });
                for _ in 0..4 {
                    let a = front.0 + width * (i as f32 + between(rng, 0.15, 0.7));
                    let h = between(rng, 0.2, 1.9);
                    let spot =
                        facade.quad((a, a + between(rng, 0.15, 0.5)), (h, h + between(rng, 0.15, 0.5)), 0.0);
                    brush.poly(&spot, Rgb::hsv(rng.f32(), 0.5, between(rng, 0.3, 0.8)), 0.6);
                }
            }
        }
        // An open, dark entrance.
        _ => {
            let dark = Rgb(0.12, 0.11, 0.1).times(between(rng, 0.6, 2.0));
            let hole = facade.quad((front.0 + 0.3, front.1 - 0.3), (0.0, 2.6), 0.0);
            brush.poly(&hole, dark, 1.0);
            shines.push(Shine { points: hole, colour: Rgb(0.95, 0.9, 0.8).times(between(rng, 0.3, 0.8)) });
        }
    }
    sign(brush, facade, front, bright, rng, shines);
    if rng.f32() < 0.25 {
        // An awning over the entrance.
        let colour = Rgb::hsv(rng.f32(), between(rng, 0.3, 0.8), between(rng, 0.4, 0.8)).times(bright);
        let high = facade.quad(front, (2.9, 2.9), 0.0);
        let low = facade.quad(front, (2.45, 2.45), 1.1);
        brush.poly(&[high[0], high[1], low[1], low[0]], colour, 1.0);
        brush.poly(&facade.quad(front, (2.3, 2.45), 1.1), colour.times(0.8), 1.0);
    }
}

/// A shop's sign, with strokes that look like writing from afar.
fn sign(
    brush: &mut Brush<'_>,
    facade: &Facade,
    (s0, s1): (f32, f32),
    bright: f32,
    rng: &mut fastrand::Rng,
    shines: &mut Vec<Shine>,
) {
    let board = Rgb::hsv(rng.f32(), between(rng, 0.2, 0.9), between(rng, 0.3, 0.85));
    let ink =
        pick(rng, &[Rgb(0.95, 0.95, 0.9), Rgb(0.95, 0.85, 0.3), Rgb(0.85, 0.12, 0.1), Rgb(0.1, 0.1, 0.1)]);
    brush.poly(&facade.quad((s0, s1), (2.9, 3.75), 0.15), board.times(bright), 1.0);
    if rng.f32() < 0.6 {
        shines.push(Shine { points: facade.quad((s0, s1), (2.9, 3.75), 0.15), colour: board.times(1.1) });
    }
    let count = (((s1 - s0) / 0.8) as usize).clamp(1, 6);
    for i in 0..count {
        let a = s0 + (s1 - s0) * (i as f32 + 0.2) / count as f32;
        for _ in 0..4 {
            let across = rng.bool();
            let (da, dh) = if across { (0.4, 0.07) } else { (0.07, 0.4) };
            let (b, h) = (a + between(rng, 0.0, 0.3), between(rng, 3.05, 3.3));
            let stroke = facade.quad((b, b + da), (h, h + dh), 0.16);
            brush.poly(&stroke, ink.times(bright), 1.0);
            shines.push(Shine { points: stroke, colour: ink });
        }
    }
}

/// Puts the whole backdrop into the light: pools under lamps on the ground, haze with distance.
fn light(pixmap: &mut Pixmap, layout: &Layout, conditions: &Conditions) {
    let w = pixmap.width() as usize;
    let seed = layout.seed as u32;
    let wall = conditions.grade(layout, 1e4, 1e4, 22.0);
    for (i, pixel) in pixmap.data_mut().chunks_exact_mut(4).enumerate() {
        let (x, y) = (i % w, i / w);
        let rough = 0.97 + 0.06 * grain(x as i32, y as i32, seed ^ 77);
        match layout.view.ground(x as f32 + 0.5, y as f32 + 0.5) {
            Some((p, z)) if z < FAR && p.u.abs() < layout.half + 6.0 => {
                conditions.grade(layout, p.u, p.s, z).apply(pixel, rough);
            }
            _ => wall.apply(pixel, rough),
        }
    }
}
