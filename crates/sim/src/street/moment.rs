//! What changes from one picture of a street to the next though nothing in it moves: clouds, the sun's way, the beams of
//! cars, wind that shakes the mast.

use std::f32::consts::TAU;

use tiny_skia::Pixmap;

use super::brush::{Brush, Rgb};
use super::develop::{cloud, grain};
use super::layout::{FAR, Layout};
use super::props::Prop;
use super::thing::{Kind, Thing};
use super::view::{V3, View};

/// One side of the squares, in pixels, at whose corners the light is worked out.
const STEP: usize = 4;
/// Share of the ground's light that comes straight from the sun.
const DIRECT: f32 = 0.42;
/// Height of a tree's crown above the ground, and its radius: metres.
const CROWN: (f32, f32) = (4.2, 1.6);

/// Layers that a beam is painted with.
const BEAM_LAYERS: u32 = 14;

/// One picture's circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moment {
    /// Decides noise and raindrops.
    pub seed: u64,
    /// Where the sun stands and what is before it; `None`: the light is as even as the backdrop's.
    pub sky: Option<Sky>,
    /// Lamps that are on throw light on the road and dazzle the camera.
    pub beams: bool,
    /// By how many pixels to the right and down the whole picture is displaced.
    pub shake: (i32, i32),
}

impl Moment {
    /// Nothing but noise.
    pub fn plain(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// A sky with a sun that moves and clouds that pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sky {
    /// Direction to the sun, of length 1.
    pub sun: V3,
    /// Share of the sky that is clouded, 0..=1.
    pub clouds: f32,
    /// How far the clouds have come, metres across and along.
    pub drift: (f32, f32),
    /// How far the wind bends the crowns of trees, metres across and along.
    pub sway: (f32, f32),
}

/// Where sunlight falls in one street at one moment.
pub(super) struct Sunlight<'a> {
    layout: &'a Layout,
    sky: Sky,
    trees: Vec<(f32, f32)>,
}

impl<'a> Sunlight<'a> {
    pub fn new(layout: &'a Layout, sky: Sky, things: &[Thing]) -> Self {
        let trees = things.iter().filter(|thing| matches!(thing.kind, Kind::Prop(Prop::Tree)));
        Self { layout, sky, trees: trees.map(|tree| (tree.u, tree.s)).collect() }
    }

    /// Share of the sun that is seen from a place on the ground, 0..=1.
    pub fn at(&self, u: f32, s: f32) -> f32 {
        let seed = self.layout.seed as u32;
        let (du, ds) = self.sky.drift;
        let thick = cloud((u + du) / 38.0, (s + ds) / 30.0, seed ^ 0xc10d);
        let clear = smooth((thick - self.sky.clouds) / 0.16 + 0.5);
        if clear <= 0.0 {
            return 0.0;
        }
        clear * self.past_houses(u, s, seed) * self.under_trees(u, s, seed)
    }

    /// The houses' shadow: their heights change every few metres.
    fn past_houses(&self, u: f32, s: f32, seed: u32) -> f32 {
        let sun = self.sky.sun;
        let side = if sun.u < 0.0 { -1.0 } else { 1.0 };
        let wall = side * (self.layout.half + self.layout.footway_on(side));
        if sun.u.abs() < 0.02 || (wall - u) * side <= 0.0 {
            return 1.0;
        }
        let way = (wall - u) / sun.u;
        let (up, along) = (way * sun.h, s + way * sun.s);
        let roof = 5.0 + 8.0 * grain((along / 9.0).floor() as i32, side as i32, seed ^ 0x400f);
        smooth((up - roof) / 0.8 + 0.5)
    }

    fn under_trees(&self, u: f32, s: f32, seed: u32) -> f32 {
        let (sun, (sway_u, sway_s)) = (self.sky.sun, self.sky.sway);
        let reach = CROWN.0 / sun.h.max(0.25);
        let mut light = 1.0_f32;
        for (tu, ts) in &self.trees {
            let (du, ds) = (u - (tu - sun.u * reach + sway_u), s - (ts - sun.s * reach + sway_s));
            let off = du.hypot(ds * sun.h.max(0.4)) / CROWN.1;
            if off < 1.2 {
                // Light falls through the leaves.
                let leaves = 0.55 + 0.45 * smooth((cloud(du * 2.2, ds * 2.2, seed ^ 0x1eaf) - 0.25) * 3.0);
                light = light.min(1.0 - leaves * smooth((1.1 - off) / 0.3));
            }
        }
        light
    }

    /// Puts the ground into this light.
    pub fn fall(&self, canvas: &mut Pixmap, corners: &Corners) {
        let light: Vec<f32> =
            corners.places.iter().map(|p| p.map_or(1.0, |(u, s)| brightness(self.at(u, s)))).collect();
        let (w, h) = (canvas.width() as usize, canvas.height() as usize);
        let data = canvas.data_mut();
        for y in corners.first * STEP..h {
            let (row, fy) = (y / STEP, (y % STEP) as f32 / STEP as f32);
            let rows = |column: usize| {
                let at = row * corners.columns + column;
                light[at] + (light[at + corners.columns] - light[at]) * fy
            };
            let line = &mut data[y * w * 4..(y + 1) * w * 4];
            let mut left = rows(0);
            for (column, square) in line.chunks_mut(STEP * 4).enumerate() {
                let right = rows(column + 1);
                if left < 0.999 || right < 0.999 {
                    for (i, pixel) in square.chunks_exact_mut(4).enumerate() {
                        let k = (256.0 * (left + (right - left) * i as f32 / STEP as f32)) as u32;
                        pixel[..3].iter_mut().for_each(|v| *v = ((u32::from(*v) * k) >> 8) as u8);
                    }
                }
                left = right;
            }
        }
    }
}

/// How bright what this share of the sun falls on is, beside full sunlight.
pub(super) fn brightness(sun: f32) -> f32 {
    1.0 - DIRECT * (1.0 - sun)
}

/// The places on the ground behind a grid of pixels: the same for every picture of a view.
pub(super) struct Corners {
    columns: usize,
    /// First row of the grid with any ground in it.
    first: usize,
    places: Vec<Option<(f32, f32)>>,
}

impl Corners {
    pub fn of(view: &View) -> Self {
        let (columns, rows) = (view.width as usize / STEP + 2, view.height as usize / STEP + 2);
        let place = |at: usize| {
            let (x, y) = ((at % columns * STEP) as f32, (at / columns * STEP) as f32);
            view.ground(x, y).filter(|(_, z)| *z < FAR).map(|(p, _)| (p.u, p.s))
        };
        let places: Vec<_> = (0..columns * rows).map(place).collect();
        let first = places.iter().position(Option::is_some).map_or(rows, |at| at / columns);
        Self { columns, first, places }
    }
}

/// The light that a car's lamps throw on the road before it.
pub(super) fn beam(brush: &mut Brush<'_>, car: &Thing) {
    let stand = car.stand();
    // Many thin layers: light has no edge.
    for layer in 1..=BEAM_LAYERS {
        let share = layer as f32 / BEAM_LAYERS as f32;
        let (far, near_wide, wide) = (4.0 + 15.0 * share, 0.5 + 0.9 * share, 0.7 + 2.6 * share);
        let points = [
            stand.point(2.3, -near_wide, 0.0),
            stand.point(2.3, near_wide, 0.0),
            stand.point(far, wide, 0.0),
            stand.point(far, -wide, 0.0),
        ];
        brush.poly(&points, Rgb(1.0, 0.95, 0.82), 0.36 / BEAM_LAYERS as f32);
    }
}

/// What dazzles the camera of lamps that look at it.
pub(super) fn dazzle(brush: &mut Brush<'_>, car: &Thing) {
    let stand = car.stand();
    for b in [-0.62, 0.62] {
        let lamp = stand.point(2.32, b, 0.68);
        let ahead = stand.direction(1.0, 0.0, 0.0);
        let to_eye = brush.view.eye().minus(lamp);
        let length = to_eye.dot(to_eye).sqrt();
        let facing = ahead.dot(to_eye) / length.max(0.1);
        let (Some((x, y)), true) = (brush.view.project(lamp), facing > 0.25) else { continue };
        let size = brush.view.scale(brush.view.depth(lamp)) * facing;
        for (r, alpha) in [(0.9, 0.10), (0.5, 0.22), (0.24, 0.75)] {
            brush.oval(x, y, r * size, r * size, Rgb(1.0, 0.97, 0.9), alpha);
        }
    }
}

/// The picture displaced; what is uncovered at its edges repeats them. RGB, 3 bytes a pixel.
pub(super) fn shaken(rgb: Vec<u8>, width: usize, (dx, dy): (i32, i32)) -> Vec<u8> {
    if (dx, dy) == (0, 0) || width == 0 {
        return rgb;
    }
    let height = rgb.len() / 3 / width;
    let mut out = Vec::with_capacity(rgb.len());
    for y in 0..height as i32 {
        let line = &rgb[(y - dy).clamp(0, height as i32 - 1) as usize * width * 3..][..width * 3];
        for x in 0..width as i32 {
            let from = (x - dx).clamp(0, width as i32 - 1) as usize * 3;
            out.extend_from_slice(&line[from..from + 3]);
        }
    }
    out
}

fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A slow wave of a few periods that do not fit each other, -1..=1: wind, clouds, gusts. `t` in seconds.
pub(super) fn wander(t: f64, period: f64, phase: f32) -> f32 {
    let wave = |share: f64, shift: f32| ((t / (period * share)).fract() as f32 * TAU + shift).sin();
    0.5 * wave(1.0, phase) + 0.3 * wave(0.37, phase * 2.3) + 0.2 * wave(0.13, phase * 3.7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sky(sun: V3, clouds: f32) -> Sky {
        Sky { sun, clouds, drift: (0.0, 0.0), sway: (0.0, 0.0) }
    }

    #[test]
    fn a_low_sun_leaves_one_side_in_the_shadow_of_its_houses() {
        let layout = Layout::from_seed(3, 640, 360);
        let sun = V3::new(0.9, 0.0, 0.43);
        let light = Sunlight::new(&layout, sky(sun, 0.0), &[]);
        let (near, far) = (light.at(layout.half, 12.0), light.at(-layout.half - 2.0, 12.0));
        assert_eq!(near, 0.0, "under the houses on the sun's side");
        assert!(far >= near);
        let noon = Sunlight::new(&layout, sky(V3::new(0.05, 0.0, 0.998), 0.0), &[]);
        assert_eq!(noon.at(0.0, 12.0), 1.0);
        assert_eq!(Sunlight::new(&layout, sky(sun, 2.0), &[]).at(0.0, 12.0), 0.0, "all is cloud");
    }

    #[test]
    fn a_shaken_picture_moves_as_a_whole() {
        let rgb: Vec<u8> = (0..4 * 3 * 3).map(|i| i as u8).collect();
        let out = shaken(rgb.clone(), 4, (1, -1));
        assert_eq!(out[3..6], rgb[4 * 3..4 * 3 + 3], "one to the right, one up");
        assert_eq!(out[..3], rgb[4 * 3..4 * 3 + 3], "the edge repeats");
        assert_eq!(shaken(rgb.clone(), 4, (0, 0)), rgb);
    }
}
