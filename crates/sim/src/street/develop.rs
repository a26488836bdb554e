//! Light, weather and the camera's own faults.

use super::brush::{Rgb, between};
use super::layout::Layout;

/// Time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    /// Daylight.
    Day,
    /// Twilight, the lamps just on.
    Dusk,
    /// Lamps only.
    Night,
}

/// Weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weather {
    /// Dry.
    Clear,
    /// Rain, wet ground.
    Rain,
}

/// Under which circumstances pictures are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Time of day.
    pub light: Light,
    /// Weather.
    pub weather: Weather,
    /// Standard deviation of the sensor's noise, of 255.
    pub noise: f32,
    /// Share of each neighbour in the blur, 0..=0.33.
    pub blur: f32,
    /// Loss of light in the corners, 0..=1.
    pub vignette: f32,
    /// Gain of red, green and blue.
    pub cast: Rgb,
    /// Exponent of the tone curve, about 1.
    pub gamma: f32,
    /// Contrast around the middle, about 1.
    pub contrast: f32,
    /// Strength of shadows, about 1; 0 for none.
    pub shadow: f32,
}

impl Conditions {
    /// A decent camera.
    pub fn plain(light: Light, weather: Weather, noise: f32) -> Self {
        Self {
            light,
            weather,
            noise,
            blur: 0.08,
            vignette: 0.12,
            cast: Rgb(1.0, 1.0, 1.0),
            gamma: 1.0,
            contrast: 1.0,
            shadow: 1.0,
        }
    }

    /// A camera as they come.
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        let light = match rng.u8(..20) {
            0..11 => Light::Day,
            11..16 => Light::Dusk,
            _ => Light::Night,
        };
        let weather = if rng.f32() < 0.25 { Weather::Rain } else { Weather::Clear };
        // Cameras open their iris in the dark, and their sensors grow noisy.
        let dark = if light == Light::Day { 1.0 } else { 1.5 };
        Self {
            light,
            weather,
            noise: between(rng, 0.5, 6.0) * dark,
            blur: between(rng, 0.0, 0.26),
            vignette: between(rng, 0.0, 0.35),
            cast: Rgb(between(rng, 0.9, 1.1), between(rng, 0.94, 1.06), between(rng, 0.9, 1.1)),
            gamma: if dark > 1.0 { between(rng, 0.65, 1.0) } else { between(rng, 0.8, 1.25) },
            contrast: between(rng, 0.8, 1.15),
            shadow: between(rng, 0.6, 1.25),
        }
    }

    /// How the light at a place (pools under lamps at night) changes colours there.
    pub fn grade(&self, layout: &Layout, u: f32, s: f32, depth: f32) -> Grade {
        let (gain, grey, haze) = match self.light {
            Light::Day => (Rgb(1.0, 1.0, 1.0), 0.0, Rgb(0.8, 0.84, 0.9)),
            Light::Dusk => (Rgb(0.62, 0.54, 0.56), 0.12, Rgb(0.42, 0.36, 0.42)),
            Light::Night => (Rgb(0.4, 0.41, 0.46), 0.25, Rgb(0.12, 0.12, 0.15)),
        };
        let pool = self.pool(layout, u, s);
        let lamp = Rgb(1.0, 0.86, 0.66).times(pool);
        let gain = Rgb(gain.0 + lamp.0, gain.1 + lamp.1, gain.2 + lamp.2);
        let (gain, grey, fog) = match self.weather {
            Weather::Clear => (gain, grey, 0.0035),
            Weather::Rain => (gain.times(0.82), grey + 0.22, 0.011),
        };
        Grade::new(gain, grey, haze, 1.0 - (-fog * depth.max(0.0)).exp())
    }

    /// Light of the street lamps at a place on the ground, 0..=1.
    pub fn pool(&self, layout: &Layout, u: f32, s: f32) -> f32 {
        let strength = match self.light {
            Light::Day => return 0.0,
            Light::Dusk => 0.25,
            Light::Night => 0.62,
        };
        let sum: f32 = layout
            .lamps
            .iter()
            .map(|&(lu, ls)| {
                let reach = lu - 2.0 * lu.signum();
                (-((u - reach).powi(2) + (s - ls).powi(2)) / 60.0).exp()
            })
            .sum();
        strength * sum.min(1.0)
    }
}

/// A change of colours: `gain`, some of it turned grey, some haze mixed in. Holds for premultiplied pixels.
#[derive(Debug, Clone, Copy)]
pub struct Grade {
    gain: [f32; 3],
    grey: f32,
    lift: [f32; 3],
}

impl Grade {
    fn new(gain: Rgb, grey: f32, haze: Rgb, mix: f32) -> Self {
        let keep = 1.0 - mix;
        Self {
            gain: [gain.0 * keep, gain.1 * keep, gain.2 * keep],
            grey,
            lift: [haze.0 * mix, haze.1 * mix, haze.2 * mix],
        }
    }

    /// One premultiplied pixel.
    pub fn apply(&self, pixel: &mut [u8], texture: f32) {
        let [r, g, b] = [f32::from(pixel[0]), f32::from(pixel[1]), f32::from(pixel[2])];
        let alpha = f32::from(pixel[3]);
        let luma = 0.299 * r + 0.587 * g + 0.114 * b;
        for (i, v) in [r, g, b].into_iter().enumerate() {
            let dull = v + (luma - v) * self.grey;
            pixel[i] = (dull * self.gain[i] * texture + self.lift[i] * alpha).clamp(0.0, alpha) as u8;
        }
    }
}

/// A cheap hash of two whole numbers, 0..=1: the grain of surfaces.
pub fn grain(x: i32, y: i32, seed: u32) -> f32 {
    let mut h = (x as u32).wrapping_mul(0x9e37_79b1) ^ (y as u32).wrapping_mul(0x85eb_ca77) ^ seed;
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h ^= h >> 13;
    (h & 0xffff) as f32 / 65_535.0
}

/// Smooth noise, 0..=1, with one wave per unit.
pub fn cloud(x: f32, y: f32, seed: u32) -> f32 {
    let (xi, yi) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (ease(x - xi), ease(y - yi));
    let (xi, yi) = (xi as i32, yi as i32);
    let row = |y: i32| grain(xi, y, seed) * (1.0 - tx) + grain(xi + 1, y, seed) * tx;
    row(yi) * (1.0 - ty) + row(yi + 1) * ty
}

/// The camera: blur, tone curve, vignette and noise, with what can be computed once.
pub struct Sensor {
    width: usize,
    height: usize,
    blur: u32,
    curve: [[u8; 256]; 3],
    /// Vignette of a column and of a row, added up, in 1/65536.
    falloff: (Vec<u32>, Vec<u32>),
    noise: Vec<i8>,
    row: Vec<u8>,
}

impl Sensor {
    /// For pictures of a size, under these conditions.
    pub fn new(conditions: &Conditions, width: u32, height: u32) -> Self {
        let cast = [conditions.cast.0, conditions.cast.1, conditions.cast.2];
        let mut curve = [[0; 256]; 3];
        for (plane, gain) in curve.iter_mut().zip(cast) {
            for (i, out) in plane.iter_mut().enumerate() {
                let v = (i as f32 / 255.0 * gain).clamp(0.0, 1.0).powf(conditions.gamma);
                *out = (((v - 0.45) * conditions.contrast + 0.45) * 255.0).clamp(0.0, 255.0) as u8;
            }
        }
        let axis = |n: u32| -> Vec<u32> {
            let term = |i: u32| ((i as f32 + 0.5) / n as f32 * 2.0 - 1.0).powi(2) / 2.0;
            (0..n).map(|i| (term(i) * conditions.vignette.clamp(0.0, 0.9) * 65_536.0) as u32).collect()
        };
        let mut rng = fastrand::Rng::with_seed(0x6e01_5e00);
        let noise =
            (0..65_536).map(|_| (normal(&mut rng) * conditions.noise).clamp(-120.0, 120.0) as i8).collect();
        Self {
            width: width as usize,
            height: height as usize,
            blur: (conditions.blur.clamp(0.0, 0.33) * 256.0) as u32,
            curve,
            falloff: (axis(width), axis(height)),
            noise,
            row: Vec::new(),
        }
    }

    /// RGB, 3 bytes a pixel, out of RGBA; `rng` decides the noise.
    pub fn expose(&mut self, rgba: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
        let (w, h) = (self.width, self.height);
        let mut out = vec![0; w * h * 3];
        for y in 0..h {
            let line = |y: usize| &rgba[y * w * 4..(y + 1) * w * 4];
            self.blur_row(line(y.saturating_sub(1)), line(y), line((y + 1).min(h - 1)));
            let start = rng.usize(..65_536);
            let target = &mut out[y * w * 3..(y + 1) * w * 3];
            for (x, pixel) in target.chunks_exact_mut(3).enumerate() {
                let keep = 65_536 - self.falloff.0[x] - self.falloff.1[y];
                let noise = i32::from(self.noise[(start + x) & 0xffff]);
                for (i, value) in pixel.iter_mut().enumerate() {
                    let seen = (u32::from(self.row[x * 3 + i]) * keep) >> 16;
                    let toned = i32::from(self.curve[i][seen as usize & 0xff]);
                    *value = (toned + noise).clamp(0, 255) as u8;
                }
            }
        }
        out
    }

    /// Three rows into `self.row`, blurred both ways.
    fn blur_row(&mut self, above: &[u8], here: &[u8], below: &[u8]) {
        let (side, mid) = (self.blur, 256 - 2 * self.blur);
        let w = self.width;
        self.row.resize(w * 3, 0);
        let column = |x: usize, i: usize| {
            let at = x * 4 + i;
            (u32::from(above[at]) * side + u32::from(here[at]) * mid + u32::from(below[at]) * side) >> 8
        };
        for i in 0..3 {
            let mut left = column(0, i);
            let mut middle = left;
            for x in 0..w {
                let right = column((x + 1).min(w - 1), i);
                self.row[x * 3 + i] = ((left * side + middle * mid + right * side) >> 8) as u8;
                (left, middle) = (middle, right);
            }
        }
    }
}

/// Normally distributed (Box and Muller 1958).
fn normal(rng: &mut fastrand::Rng) -> f32 {
    let (u, v) = (1.0 - rng.f32(), rng.f32());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
