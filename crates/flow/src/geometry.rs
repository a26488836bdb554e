//! Places in a picture, as shares of its width and height: the origin is the top left corner, 1.0 the
//! far edge. Values are checked once, here, so that no later stage meets a NaN or a box outside the picture.

use std::fmt;

/// A point of the picture, both coordinates within 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NormPoint {
    /// Share of the width, from the left.
    pub x: f32,
    /// Share of the height, from the top.
    pub y: f32,
}

/// A place on the map, in the coordinate reference system of its camera's location.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MapPoint {
    /// Longitude in degrees, or metres east in a projected system.
    pub x: f64,
    /// Latitude in degrees, or metres north in a projected system.
    pub y: f64,
}

/// An axis-parallel box: `x0 < x1`, `y0 < y1`, all within 0..=1.
#[derive(Clone, Copy, PartialEq, serde::Serialize)]
pub struct NormBox {
    x0: f32,
    y0: f32,
    x1: f32,
    y1: f32,
}

/// Four numbers that are no box.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("({x0}, {y0}, {x1}, {y1}) is no box: expected 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1")]
pub struct BoxError {
    x0: f32,
    y0: f32,
    x1: f32,
    y1: f32,
}

impl NormBox {
    /// Refuses NaN, empty boxes and boxes that reach outside the picture.
    pub fn new(x0: f32, y0: f32, x1: f32, y1: f32) -> Result<Self, BoxError> {
        // Written so that NaN fails every comparison.
        if 0.0 <= x0 && x0 < x1 && x1 <= 1.0 && 0.0 <= y0 && y0 < y1 && y1 <= 1.0 {
            Ok(Self { x0, y0, x1, y1 })
        } else {
            Err(BoxError { x0, y0, x1, y1 })
        }
    }

    /// The part of these coordinates that lies in the picture; `None` where nothing does, or for NaN.
    /// Detectors regularly report boxes that reach over the edge.
    pub fn clamped(x0: f32, y0: f32, x1: f32, y1: f32) -> Option<Self> {
        Self::new(x0.clamp(0.0, 1.0), y0.clamp(0.0, 1.0), x1.clamp(0.0, 1.0), y1.clamp(0.0, 1.0)).ok()
    }

    /// Left edge.
    pub fn x0(&self) -> f32 {
        self.x0
    }
    /// Top edge.
    pub fn y0(&self) -> f32 {
        self.y0
    }
    /// Right edge.
    pub fn x1(&self) -> f32 {
        self.x1
    }
    /// Bottom edge.
    pub fn y1(&self) -> f32 {
        self.y1
    }
    /// Width, > 0.
    pub fn width(&self) -> f32 {
        self.x1 - self.x0
    }
    /// Height, > 0.
    pub fn height(&self) -> f32 {
        self.y1 - self.y0
    }
    /// Share of the picture, > 0.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }
    /// The middle.
    pub fn centre(&self) -> NormPoint {
        NormPoint { x: (self.x0 + self.x1) / 2.0, y: (self.y0 + self.y1) / 2.0 }
    }
    /// Where a thing stands on the ground: the middle of the bottom edge.
    pub fn foot(&self) -> NormPoint {
        NormPoint { x: (self.x0 + self.x1) / 2.0, y: self.y1 }
    }
    /// Area shared with `other`, 0 where they do not touch.
    pub fn intersection(&self, other: &Self) -> f32 {
        let w = self.x1.min(other.x1) - self.x0.max(other.x0);
        let h = self.y1.min(other.y1) - self.y0.max(other.y0);
        if w > 0.0 && h > 0.0 { w * h } else { 0.0 }
    }
    /// Intersection over union, 0..=1 (Jaccard index).
    pub fn iou(&self, other: &Self) -> f32 {
        let shared = self.intersection(other);
        shared / (self.area() + other.area() - shared)
    }
    /// `[x0, y0, x1, y1]`.
    pub fn to_array(self) -> [f32; 4] {
        [self.x0, self.y0, self.x1, self.y1]
    }
}

impl fmt::Debug for NormBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:.3}, {:.3})-({:.3}, {:.3})", self.x0, self.y0, self.x1, self.y1)
    }
}

impl<'de> serde::Deserialize<'de> for NormBox {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Raw {
            x0: f32,
            y0: f32,
            x1: f32,
            y1: f32,
        }
        let raw = Raw::deserialize(deserializer)?;
        Self::new(raw.x0, raw.y0, raw.x1, raw.y1).map_err(serde::de::Error::custom)
    }
}

/// A simple polygon of at least three points that encloses some area.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Polygon(Vec<NormPoint>);

/// Points that are no polygon.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolygonError {
    /// Fewer than three points.
    #[error("has {0} point(s); a polygon needs at least 3")]
    TooFew(usize),
    /// A coordinate outside the picture, or NaN.
    #[error("point {index} is ({x}, {y}); coordinates are shares of the picture, 0 to 1")]
    Outside {
        /// Which point, counted from 0.
        index: usize,
        /// Its x.
        x: f32,
        /// Its y.
        y: f32,
    },
    /// All points on one line.
    #[error("encloses no area; its points lie on one line")]
    Flat,
    /// Two edges cross.
    #[error("crosses itself: edge {0} meets edge {1}; list the corners in order around the zone")]
    CrossesItself(usize, usize),
}

impl Polygon {
    /// Checks the corners, given in order around the polygon, in either direction.
    pub fn new(points: Vec<NormPoint>) -> Result<Self, PolygonError> {
        if points.len() < 3 {
            return Err(PolygonError::TooFew(points.len()));
        }
        for (index, p) in points.iter().enumerate() {
            if !(0.0..=1.0).contains(&p.x) || !(0.0..=1.0).contains(&p.y) {
                return Err(PolygonError::Outside { index, x: p.x, y: p.y });
            }
        }
        let n = points.len();
        for i in 0..n {
            // Edges that share a corner always meet; compare each with the ones further on.
            for j in i + 2..n {
                if i == 0 && j == n - 1 {
                    continue;
                }
                if segments_cross(points[i], points[(i + 1) % n], points[j], points[(j + 1) % n]) {
                    return Err(PolygonError::CrossesItself(i, j));
                }
            }
        }
        let polygon = Self(points);
        if polygon.area() < 1e-6 { Err(PolygonError::Flat) } else { Ok(polygon) }
    }

    /// The whole picture.
    pub fn whole() -> Self {
        let corner = |x, y| NormPoint { x, y };
        Self(vec![corner(0.0, 0.0), corner(1.0, 0.0), corner(1.0, 1.0), corner(0.0, 1.0)])
    }

    /// The corners, in order.
    pub fn points(&self) -> &[NormPoint] {
        &self.0
    }

    /// Share of the picture (shoelace formula).
    pub fn area(&self) -> f32 {
        let edges = self.0.iter().zip(self.0.iter().cycle().skip(1));
        edges.map(|(a, b)| a.x * b.y - b.x * a.y).sum::<f32>().abs() / 2.0
    }

    /// Even-odd test; points on the left and top edges count as inside.
    pub fn contains(&self, p: NormPoint) -> bool {
        let edges = self.0.iter().zip(self.0.iter().cycle().skip(1));
        edges
            .filter(|(a, b)| {
                (a.y > p.y) != (b.y > p.y) && p.x < (b.x - a.x) * (p.y - a.y) / (b.y - a.y) + a.x
            })
            .count()
            % 2
            == 1
    }
}

fn segments_cross(a: NormPoint, b: NormPoint, c: NormPoint, d: NormPoint) -> bool {
    let side =
        |p: NormPoint, q: NormPoint, r: NormPoint| (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x);
    let (s1, s2) = (side(a, b, c), side(a, b, d));
    let (s3, s4) = (side(c, d, a), side(c, d, b));
    s1 * s2 < 0.0 && s3 * s4 < 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(list: &[(f32, f32)]) -> Vec<NormPoint> {
        list.iter().map(|&(x, y)| NormPoint { x, y }).collect()
    }

    #[test]
    fn boxes_refuse_nan_empty_and_outside() {
        assert!(NormBox::new(f32::NAN, 0.0, 0.5, 0.5).is_err());
        assert!(NormBox::new(0.5, 0.0, 0.5, 0.5).is_err());
        assert!(NormBox::new(0.0, 0.0, 1.1, 0.5).is_err());
        assert_eq!(NormBox::clamped(f32::NAN, 0.0, 0.5, 0.5), None);
        assert_eq!(NormBox::clamped(-1.0, 0.2, 2.0, 0.4), Some(NormBox::new(0.0, 0.2, 1.0, 0.4).unwrap()));
    }

    #[test]
    fn iou_of_half_overlapping_boxes() {
        let a = NormBox::new(0.0, 0.0, 0.4, 0.4).unwrap();
        let b = NormBox::new(0.2, 0.0, 0.6, 0.4).unwrap();
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(a.iou(&NormBox::new(0.5, 0.5, 0.6, 0.6).unwrap()), 0.0);
    }

    #[test]
    fn polygons_refuse_what_cannot_be_a_zone() {
        assert_eq!(Polygon::new(points(&[(0.0, 0.0), (1.0, 1.0)])), Err(PolygonError::TooFew(2)));
        assert_eq!(Polygon::new(points(&[(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])), Err(PolygonError::Flat));
        assert!(matches!(
            Polygon::new(points(&[(0.0, 0.0), (0.5, 1.5), (1.0, 1.0)])),
            Err(PolygonError::Outside { index: 1, .. })
        ));
        assert_eq!(
            Polygon::new(points(&[(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])),
            Err(PolygonError::CrossesItself(0, 2))
        );
    }

    #[test]
    fn a_concave_polygon_knows_its_inside() {
        let l =
            Polygon::new(points(&[(0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0)]))
                .unwrap();
        assert!(l.contains(NormPoint { x: 0.25, y: 0.9 }));
        assert!(!l.contains(NormPoint { x: 0.75, y: 0.9 }));
        assert!((l.area() - 0.75).abs() < 1e-6);
    }
}
