//! From the street's ground plan to the picture.
//!
//! Metres throughout: `u` across the street from the middle of the carriageway, `s` along it, `h` above the
//! ground. The camera looks level with its picture plane shifted down (a shift lens), so verticals stay vertical.

/// Nothing nearer than this is drawn, metres.
const NEAR: f32 = 0.6;

/// A place in the street.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct V3 {
    /// Metres to the right of the middle of the carriageway.
    pub u: f32,
    /// Metres along the street from the camera's mast.
    pub s: f32,
    /// Metres above the ground.
    pub h: f32,
}

impl V3 {
    /// Shorthand.
    pub const fn new(u: f32, s: f32, h: f32) -> Self {
        Self { u, s, h }
    }

    /// Scalar product.
    pub fn dot(self, o: Self) -> f32 {
        self.u * o.u + self.s * o.s + self.h * o.h
    }

    /// Difference.
    pub fn minus(self, o: Self) -> Self {
        Self::new(self.u - o.u, self.s - o.s, self.h - o.h)
    }
}

/// A place and a heading: things are drawn in coordinates of their own, `a` ahead, `b` to the right, `c` up.
#[derive(Debug, Clone, Copy)]
pub struct Stand {
    /// Where.
    pub at: V3,
    /// 0 looks along `s`, growing towards `u`; radians.
    pub heading: f32,
}

impl Stand {
    /// The place of a thing's own coordinates in the street.
    pub fn point(&self, a: f32, b: f32, c: f32) -> V3 {
        let (sin, cos) = self.heading.sin_cos();
        V3::new(self.at.u + a * sin + b * cos, self.at.s + a * cos - b * sin, self.at.h + c)
    }

    /// A direction of the thing's own coordinates in the street.
    pub fn direction(&self, a: f32, b: f32, c: f32) -> V3 {
        let (sin, cos) = self.heading.sin_cos();
        V3::new(a * sin + b * cos, a * cos - b * sin, c)
    }
}

/// A camera on its mast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Pixels per row.
    pub width: f32,
    /// Rows.
    pub height: f32,
    /// Row of the horizon as a share of the height.
    pub horizon: f32,
    /// Focal length in picture heights.
    pub focal: f32,
    /// Height of the camera, metres.
    pub mast: f32,
    /// Turn to the right from the street's direction, radians.
    pub yaw: f32,
    /// Where the mast stands, metres across the street.
    pub stand: f32,
}

impl View {
    /// Where the camera is.
    pub fn eye(&self) -> V3 {
        V3::new(self.stand, 0.0, self.mast)
    }

    /// Right and forward of the camera, metres.
    fn turned(&self, p: V3) -> (f32, f32) {
        let (sin, cos) = self.yaw.sin_cos();
        let du = p.u - self.stand;
        (du * cos - p.s * sin, du * sin + p.s * cos)
    }

    /// Distance in front of the camera, metres.
    pub fn depth(&self, p: V3) -> f32 {
        self.turned(p).1
    }

    /// Pixels per metre at a distance.
    pub fn scale(&self, depth: f32) -> f32 {
        self.focal * self.height / depth.max(NEAR)
    }

    fn pixel(&self, x: f32, z: f32, h: f32) -> (f32, f32) {
        let k = self.scale(z);
        (self.width / 2.0 + k * x, self.horizon * self.height - k * (h - self.mast))
    }

    /// Pixel of a place; `None` behind the camera.
    pub fn project(&self, p: V3) -> Option<(f32, f32)> {
        let (x, z) = self.turned(p);
        (z > NEAR).then(|| self.pixel(x, z, p.h))
    }

    /// Pixels of a polygon, cut off in front of the camera.
    pub fn polygon(&self, points: &[V3]) -> Vec<(f32, f32)> {
        let turned: Vec<_> = points.iter().map(|p| (self.turned(*p), p.h)).collect();
        let mut out = Vec::with_capacity(points.len() + 2);
        for (i, &((x0, z0), h0)) in turned.iter().enumerate() {
            let ((x1, z1), h1) = turned[(i + 1) % turned.len()];
            if z0 > NEAR {
                out.push(self.pixel(x0, z0, h0));
            }
            if (z0 > NEAR) != (z1 > NEAR) {
                let t = (NEAR - z0) / (z1 - z0);
                out.push(self.pixel(x0 + t * (x1 - x0), NEAR, h0 + t * (h1 - h0)));
            }
        }
        out
    }

    /// Place on the ground under a pixel and its distance; `None` above the horizon.
    pub fn ground(&self, px: f32, py: f32) -> Option<(V3, f32)> {
        let drop = py - self.horizon * self.height;
        if drop < 0.5 {
            return None;
        }
        let z = self.focal * self.height * self.mast / drop;
        let x = (px - self.width / 2.0) / self.scale(z);
        let (sin, cos) = self.yaw.sin_cos();
        Some((V3::new(self.stand + x * cos + z * sin, -x * sin + z * cos, 0.0), z))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ground_undoes_project() {
        let view =
            View { width: 640.0, height: 360.0, horizon: 0.1, focal: 1.1, mast: 5.0, yaw: 0.4, stand: -5.0 };
        let p = V3::new(2.0, 14.0, 0.0);
        let (x, y) = view.project(p).unwrap();
        let (q, z) = view.ground(x, y).unwrap();
        assert!((p.u - q.u).abs() < 1e-3 && (p.s - q.s).abs() < 1e-3, "{q:?}");
        assert!((z - view.depth(p)).abs() < 1e-3);
        assert_eq!(view.project(V3::new(0.0, -10.0, 0.0)), None);
    }
}
