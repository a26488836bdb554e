//! From the picture to the map: the plane homography of a camera whose ground is given by four points.
//!
//! A point of the ground plane and its picture are related by eight numbers, which four pairs determine (Hartley and
//! Zisserman, *Multiple View Geometry*, 2nd edition, section 4.1). Solved once, in metres east and north of the first
//! point, where the numbers are of one size.

use flow::{EventObject, MapPoint, NormPoint};

/// Beyond so many times the four points' own extent, an error of the points grows out of hand: nothing is said.
const REACH: f64 = 3.0;
/// Pivots below this: the points determine nothing.
const SINGULAR: f64 = 1e-12;

/// One camera's ground.
#[derive(Debug, Clone, PartialEq)]
pub struct Ground {
    crs: std::sync::Arc<str>,
    origin: MapPoint,
    /// Row by row; the last is 1.
    homography: [f64; 9],
    /// The points' middle and how far they reach from it, in metres.
    middle: (f64, f64),
    extent: f64,
}

impl Ground {
    /// `None`: the points determine no mapping, which [`fleet`] has ruled out for what it loads.
    pub fn new(points: &fleet::Ground) -> Option<Self> {
        let origin = points.corners[0].1;
        let pairs = points.corners.map(|(at, place)| (at, fleet::metres(&points.crs, origin, place)));
        let homography = solve(pairs)?;
        let middle = (
            pairs.iter().map(|(_, (east, _))| east).sum::<f64>() / 4.0,
            pairs.iter().map(|(_, (_, north))| north).sum::<f64>() / 4.0,
        );
        let extent = pairs.iter().map(|(_, p)| (p.0 - middle.0).hypot(p.1 - middle.1)).fold(0.0, f64::max);
        Some(Self { crs: points.crs.clone(), origin, homography, middle, extent })
    }

    /// The place that this point of the picture shows. `None`: it is above the horizon, or so far from the four points
    /// that they say nothing about it.
    pub fn place(&self, at: NormPoint) -> Option<MapPoint> {
        let h = &self.homography;
        let (x, y) = (f64::from(at.x), f64::from(at.y));
        let w = h[6] * x + h[7] * y + h[8];
        // The four points lie on the near side of the horizon, where w is positive: see `solve`.
        if w <= SINGULAR {
            return None;
        }
        let metres = ((h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w);
        let away = (metres.0 - self.middle.0).hypot(metres.1 - self.middle.1);
        (away <= REACH * self.extent).then(|| fleet::moved(&self.crs, self.origin, metres))
    }

    /// Where these things stand: the middle of their feet; of those whose place is known.
    pub fn place_of(&self, objects: &[EventObject]) -> Option<MapPoint> {
        let (mut sum, mut known) = (MapPoint { x: 0.0, y: 0.0 }, 0.0);
        for place in objects.iter().filter_map(|object| self.place(object.bbox.foot())) {
            sum = MapPoint { x: sum.x + place.x, y: sum.y + place.y };
            known += 1.0;
        }
        (known > 0.0).then(|| MapPoint { x: sum.x / known, y: sum.y / known })
    }
}

/// The homography that takes each point to its metres, scaled so that the third coordinate is positive for them.
fn solve(pairs: [(NormPoint, (f64, f64)); 4]) -> Option<[f64; 9]> {
    // Two equations per pair, h22 = 1: a mapping with h22 = 0 has the picture's corner (0, 0) on the horizon, and is
    // met by moving the origin of the picture to the first point, which is on the ground.
    let (x0, y0) = (f64::from(pairs[0].0.x), f64::from(pairs[0].0.y));
    let mut rows = [[0.0; 9]; 8];
    for (index, (at, (east, north))) in pairs.iter().enumerate() {
        let (x, y) = (f64::from(at.x) - x0, f64::from(at.y) - y0);
        rows[2 * index] = [x, y, 1.0, 0.0, 0.0, 0.0, -x * east, -y * east, *east];
        rows[2 * index + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -x * north, -y * north, *north];
    }
    let h = eliminate(rows)?;
    // w is 1 at the first point; the others of a convex quadrilateral are on its side of the horizon.
    let positive = pairs
        .iter()
        .all(|(at, _)| h[6] * (f64::from(at.x) - x0) + h[7] * (f64::from(at.y) - y0) + 1.0 > SINGULAR);
    let back = |a: f64, b: f64, c: f64| [a, b, c - a * x0 - b * y0];
    let [[a, b, c], [d, e, f], [g, i, j]] =
        [back(h[0], h[1], h[2]), back(h[3], h[4], h[5]), back(h[6], h[7], 1.0)];
    positive.then_some([a, b, c, d, e, f, g, i, j])
}

/// Gaussian elimination with partial pivoting.
fn eliminate(mut rows: [[f64; 9]; 8]) -> Option<[f64; 8]> {
    for column in 0..8 {
        let pivot = (column..8).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))?;
        if rows[pivot][column].abs() < SINGULAR {
            return None;
        }
        rows.swap(column, pivot);
        let pivot = rows[column];
        for (index, row) in rows.iter_mut().enumerate() {
            if index == column {
                continue;
            }
            let factor = row[column] / pivot[column];
            row.iter_mut().zip(pivot).for_each(|(cell, above)| *cell -= factor * above);
        }
    }
    Some(std::array::from_fn(|row| rows[row][8] / rows[row][row]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A camera 6 m above the ground that looks north: a picture with the horizon at its upper edge.
    fn seen(east: f64, north: f64) -> NormPoint {
        NormPoint { x: (0.5 + east / north * 0.6) as f32, y: (6.0 / north) as f32 }
    }

    fn street() -> fleet::Ground {
        let origin = MapPoint { x: 126.04, y: 42.68 };
        let corner = |east, north| (seen(east, north), fleet::moved("wgs84", origin, (east, north)));
        let corners = [corner(-4.0, 10.0), corner(-4.0, 30.0), corner(4.0, 30.0), corner(4.0, 10.0)];
        fleet::Ground { crs: "wgs84".into(), corners }
    }

    #[test]
    fn what_four_points_say_holds_between_and_around_them() {
        let points = street();
        let ground = Ground::new(&points).unwrap();
        let origin = MapPoint { x: 126.04, y: 42.68 };
        for (east, north) in [(-4.0, 10.0), (0.0, 20.0), (3.0, 12.0), (-6.0, 40.0), (1.0, 7.0)] {
            let place = ground.place(seen(east, north)).unwrap();
            let (e, n) = fleet::metres("wgs84", origin, place);
            assert!((e - east).hypot(n - north) < 0.02 * north, "({east}, {north}): ({e}, {n})");
        }
        // On the horizon, above it, and a kilometre away.
        assert_eq!(ground.place(NormPoint { x: 0.5, y: 0.0 }), None);
        assert_eq!(ground.place(seen(0.0, 1_000.0)), None);
    }

    #[test]
    fn points_that_determine_nothing_give_none() {
        let mut points = street();
        points.corners[2] = points.corners[1];
        assert_eq!(Ground::new(&points), None);
    }
}
