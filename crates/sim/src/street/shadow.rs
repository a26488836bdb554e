//! Shadows on the ground.

use tiny_skia::Pixmap;

use super::brush::{Brush, Rgb};
use super::develop::{Conditions, Light, Weather};
use super::thing::{Kind, Thing};
use super::view::{Stand, V3, View};

/// Darkens the ground under and beside a thing, as `view` sees it, away from the `sun`.
pub fn cast(canvas: &mut Pixmap, (view, sun_at): (&View, V3), conditions: &Conditions, thing: &Thing) {
    let (long, wide, high) = thing.solid();
    let (sun, dark) = match (conditions.light, conditions.weather) {
        (Light::Day, Weather::Clear) => (1.0, 0.34),
        (Light::Dusk, Weather::Clear) => (0.3, 0.25),
        _ => (0.0, 0.22),
    };
    let dark = dark * conditions.shadow;
    if dark <= 0.0 {
        return;
    }
    let (long, wide) = match thing.kind {
        Kind::Person(..) | Kind::Prop(_) => (long.min(0.3), wide.min(0.3)),
        Kind::Umbrella | Kind::Heap => return,
        Kind::Pole(_) => (0.1, 0.1),
        _ => (long, wide),
    };
    let mut brush = Brush { view, sun: sun_at, pixmap: canvas, origin: (0.0, 0.0) };
    let ground = Stand { at: V3::new(thing.u, thing.s, 0.0), heading: thing.heading };
    let toward = sun_at;
    let shift = |h: f32| {
        let k = -sun * h / toward.h.max(0.3);
        (toward.u * k, toward.s * k)
    };
    // Contact: two rings, so that its edge is soft.
    let ring = |grow: f32, (du, ds): (f32, f32)| -> Vec<V3> {
        (0..14)
            .map(|i| {
                let (sin, cos) = (i as f32 * std::f32::consts::TAU / 14.0).sin_cos();
                // Between an ellipse and a rectangle.
                let fill = 1.0 / (sin.abs().max(cos.abs())).powf(0.6);
                let p = ground.point(long * grow * cos * fill, wide * grow * sin * fill, 0.0);
                V3::new(p.u + du, p.s + ds, 0.0)
            })
            .collect()
    };
    let black = Rgb(0.02, 0.02, 0.04);
    if matches!(thing.kind, Kind::Parasol) {
        brush.poly(&ring(0.9, shift(thing.lift)), black, dark * 0.7);
        return;
    }
    if sun > 0.0 && !matches!(thing.kind, Kind::Prop(p) if p.solid().2 > 3.0) {
        let mut points = ring(0.92, (0.0, 0.0));
        points.extend(ring(0.85, shift(high * 0.85)));
        brush.poly(&hull(points), black, dark);
    }
    brush.poly(&ring(1.12, (0.0, 0.0)), black, dark * 0.5);
    brush.poly(&ring(0.95, (0.0, 0.0)), black, dark * 0.7);
}

/// Convex hull on the ground (monotone chain, Andrew 1979).
fn hull(mut points: Vec<V3>) -> Vec<V3> {
    points.sort_by(|a, b| a.u.total_cmp(&b.u).then(a.s.total_cmp(&b.s)));
    let turn = |o: V3, a: V3, b: V3| (a.u - o.u) * (b.s - o.s) - (a.s - o.s) * (b.u - o.u);
    let mut out: Vec<V3> = Vec::with_capacity(points.len() * 2);
    for pass in 0..2 {
        let floor = out.len();
        let chain: &mut dyn Iterator<Item = &V3> =
            if pass == 0 { &mut points.iter() } else { &mut points.iter().rev() };
        for &p in chain {
            while out.len() >= floor + 2 && turn(out[out.len() - 2], out[out.len() - 1], p) <= 0.0 {
                out.pop();
            }
            out.push(p);
        }
        out.pop();
    }
    out
}
