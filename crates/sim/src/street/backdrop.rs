//! What never moves: sky, buildings, ground. Painted once per street and light.

use tiny_skia::Pixmap;

use super::brush::{Brush, Rgb, between, pick};
use super::buildings::{Shine, buildings};
use super::develop::{Conditions, Light, Weather, cloud, grain};
use super::layout::{FAR, Layout};
use super::view::V3;

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
