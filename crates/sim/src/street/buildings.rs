//! Houses, shops and their signs.

use super::brush::{Brush, Rgb, between, pick};
use super::layout::{FAR, Layout};
use super::view::V3;

/// A lamp, a window or a sign that shines by itself.
pub struct Shine {
    /// Its corners.
    pub points: [V3; 4],
    /// Its colour when it is on.
    pub colour: Rgb,
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

/// The houses on both sides and across the street's end; collects what shines when it is dark.
pub fn buildings(brush: &mut Brush<'_>, layout: &Layout, rng: &mut fastrand::Rng, shines: &mut Vec<Shine>) {
    // Where the street ends: a row of houses across it.
    let mut u = -60.0;
    while u < 60.0 {
        let wide = between(rng, 8.0, 18.0);
        let high = between(rng, 6.0, 22.0);
        let wall = Rgb(0.6, 0.6, 0.62).times(between(rng, 0.7, 1.1));
        let p = |a: f32, h: f32| V3::new(a, FAR, h);
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
