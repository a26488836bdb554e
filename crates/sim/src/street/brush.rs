//! Drawing of solid shapes into a transparent picture.

use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Transform};

use super::view::{Stand, V3, View};

/// A colour, 0..=1 each; the light is added later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rgb(pub f32, pub f32, pub f32);

impl Rgb {
    /// Brighter (> 1) or darker.
    pub fn times(self, k: f32) -> Self {
        Self(self.0 * k, self.1 * k, self.2 * k)
    }

    /// A step of `t` towards `o`.
    pub fn toward(self, o: Self, t: f32) -> Self {
        Self(self.0 + (o.0 - self.0) * t, self.1 + (o.1 - self.1) * t, self.2 + (o.2 - self.2) * t)
    }

    /// Hue 0..1, saturation, value.
    pub fn hsv(hue: f32, saturation: f32, value: f32) -> Self {
        let ramp = |shift: f32| {
            let k = (shift + hue * 6.0).rem_euclid(6.0);
            value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
        };
        Self(ramp(5.0), ramp(3.0), ramp(1.0))
    }

    /// The same, with an opacity.
    pub fn color(self, alpha: f32) -> Color {
        let c = |v: f32| v.clamp(0.0, 1.0);
        Color::from_rgba(c(self.0), c(self.1), c(self.2), c(alpha)).unwrap_or(Color::BLACK)
    }
}

/// Two random numbers' worth of choice, from a list.
pub fn pick<T: Copy>(rng: &mut fastrand::Rng, list: &[T]) -> T {
    list[rng.usize(..list.len())]
}

/// Uniform between two bounds.
pub fn between(rng: &mut fastrand::Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.f32()
}

/// An upright box in a thing's own coordinates, metres.
#[derive(Debug, Clone, Copy)]
pub struct Cuboid {
    /// Rear and front.
    pub a: (f32, f32),
    /// Left and right.
    pub b: (f32, f32),
    /// Bottom and top.
    pub c: (f32, f32),
}

/// Draws shapes of the street into a picture whose top left corner is at pixel `origin`.
pub struct Brush<'a> {
    /// The camera.
    pub view: &'a View,
    /// Where the light comes from.
    pub sun: V3,
    /// The picture.
    pub pixmap: &'a mut Pixmap,
    /// Pixel of the picture's top left corner.
    pub origin: (f32, f32),
}

impl Brush<'_> {
    fn fill(&mut self, path: &Path, colour: Rgb, alpha: f32) {
        let mut paint = Paint::default();
        paint.set_color(colour.color(alpha));
        let shift = Transform::from_translate(-self.origin.0, -self.origin.1);
        self.pixmap.fill_path(path, &paint, FillRule::Winding, shift, None);
    }

    /// A polygon of pixels.
    pub fn flat(&mut self, points: &[(f32, f32)], colour: Rgb, alpha: f32) {
        let [first, rest @ ..] = points else { return };
        let mut path = PathBuilder::with_capacity(points.len() + 2, points.len() + 2);
        path.move_to(first.0, first.1);
        for p in rest {
            path.line_to(p.0, p.1);
        }
        path.close();
        if let Some(path) = path.finish() {
            self.fill(&path, colour, alpha);
        }
    }

    /// An ellipse of pixels.
    pub fn oval(&mut self, x: f32, y: f32, rx: f32, ry: f32, colour: Rgb, alpha: f32) {
        let rect = tiny_skia::Rect::from_xywh(x - rx, y - ry, 2.0 * rx, 2.0 * ry);
        if let Some(path) = rect.and_then(PathBuilder::from_oval) {
            self.fill(&path, colour, alpha);
        }
    }

    /// A limb of pixels: a bar with round ends, `w0` and `w1` wide.
    pub fn limb(&mut self, p: (f32, f32), q: (f32, f32), w0: f32, w1: f32, colour: Rgb) {
        let angle = (q.1 - p.1).atan2(q.0 - p.0);
        let mut points = [(0.0, 0.0); 10];
        for (i, point) in points.iter_mut().enumerate() {
            let (centre, r, start) = if i < 5 {
                (q, w1 / 2.0, -std::f32::consts::FRAC_PI_2)
            } else {
                (p, w0 / 2.0, std::f32::consts::FRAC_PI_2)
            };
            let (sin, cos) = (angle + start + (i % 5) as f32 * std::f32::consts::FRAC_PI_4).sin_cos();
            *point = (centre.0 + r * cos, centre.1 + r * sin);
        }
        self.flat(&points, colour, 1.0);
    }

    /// A flat polygon in the street.
    pub fn poly(&mut self, points: &[V3], colour: Rgb, alpha: f32) {
        let pixels = self.view.polygon(points);
        self.flat(&pixels, colour, alpha);
    }

    /// How bright a face with this outward normal is.
    pub fn shade(&self, normal: V3) -> f32 {
        0.74 + 0.3 * self.sun.dot(normal)
    }

    /// Whether a face is turned towards the camera.
    pub fn faces(&self, place: V3, normal: V3) -> bool {
        self.view.eye().minus(place).dot(normal) > 0.0
    }

    /// A box; the faces that the camera sees.
    pub fn cuboid(&mut self, stand: &Stand, x: Cuboid, colour: Rgb) {
        let Cuboid { a: (a0, a1), b: (b0, b1), c: (c0, c1) } = x;
        let sides = [
            ([(a0, b0, c1), (a1, b0, c1), (a1, b1, c1), (a0, b1, c1)], (0.0, 0.0, 1.0)),
            ([(a0, b0, c0), (a0, b1, c0), (a0, b1, c1), (a0, b0, c1)], (-1.0, 0.0, 0.0)),
            ([(a1, b0, c0), (a1, b1, c0), (a1, b1, c1), (a1, b0, c1)], (1.0, 0.0, 0.0)),
            ([(a0, b0, c0), (a1, b0, c0), (a1, b0, c1), (a0, b0, c1)], (0.0, -1.0, 0.0)),
            ([(a0, b1, c0), (a1, b1, c0), (a1, b1, c1), (a0, b1, c1)], (0.0, 1.0, 0.0)),
        ];
        for (corners, (na, nb, nc)) in sides {
            self.face(stand, &corners, (na, nb, nc), colour);
        }
    }

    /// One face in a thing's own coordinates, where it is turned towards the camera.
    pub fn face(&mut self, stand: &Stand, corners: &[(f32, f32, f32)], n: (f32, f32, f32), colour: Rgb) {
        let normal = stand.direction(n.0, n.1, n.2);
        let points: Vec<V3> = corners.iter().map(|&(a, b, c)| stand.point(a, b, c)).collect();
        if let Some(&first) = points.first()
            && self.faces(first, normal)
        {
            let bright = self.shade(normal);
            self.poly(&points, colour.times(bright), 1.0);
        }
    }

    /// An upright disc in the plane of a thing's heading: a wheel.
    pub fn disc(&mut self, stand: &Stand, (a, b, c): (f32, f32, f32), radius: f32, colour: Rgb) {
        let points: Vec<V3> = (0..16)
            .map(|i| {
                let (sin, cos) = (i as f32 * std::f32::consts::TAU / 16.0).sin_cos();
                stand.point(a + radius * cos, b, c + radius * sin)
            })
            .collect();
        self.poly(&points, colour, 1.0);
    }

    /// A bar between two places, `width` metres thick.
    pub fn bar(&mut self, p: V3, q: V3, width: f32, colour: Rgb) {
        let (Some(a), Some(b)) = (self.view.project(p), self.view.project(q)) else { return };
        let w0 = (width * self.view.scale(self.view.depth(p))).max(0.7);
        let w1 = (width * self.view.scale(self.view.depth(q))).max(0.7);
        self.limb(a, b, w0, w1, colour);
    }

    /// A ball with a light and a dark side.
    pub fn ball(&mut self, p: V3, radius: f32, colour: Rgb) {
        let Some((x, y)) = self.view.project(p) else { return };
        let r = radius * self.view.scale(self.view.depth(p));
        self.oval(x, y, r, r, colour.times(0.8), 1.0);
        if r > 1.5 {
            self.oval(x - 0.2 * r, y - 0.25 * r, 0.6 * r, 0.6 * r, colour.times(1.15), 0.8);
        }
    }
}
