//! Which places on the ground a camera sees, by four points.

use std::sync::Arc;

use flow::{MapPoint, NormPoint};

use crate::Location;
use crate::check::{Fields, Item, Value};
use crate::mistake::{Path, Problem, Report};
use crate::shape::{Kind, Shape, required};

/// Metres per degree of latitude, and of longitude at the equator, on a sphere of the Earth's mean radius
/// (6,371,008.8 m, IUGG): right to half a per cent anywhere.
const METRES_PER_DEGREE: f64 = 111_195.08;
/// Two of the points are at least this far apart, in metres: nearer, an error of a hand's breadth turns the street.
const NEAREST: f64 = 1.0;
/// No camera at a street sees further than this, in metres: the longitude is the latitude, or the system another.
const FURTHEST: f64 = 5_000.0;
/// Three points enclose at least this share of the picture, or they lie on one line.
const FLAT_IN_PICTURE: f64 = 1e-3;
/// The same on the ground, in square metres.
const FLAT_ON_GROUND: f64 = 0.5;

/// Four points of the picture and the places that they show, all on the ground: in order around a convex
/// quadrilateral, no three on one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Ground {
    /// The places' coordinate reference system, that of the camera's location.
    pub crs: Arc<str>,
    /// Where in the picture, and where on the map.
    pub corners: [(NormPoint, MapPoint); 4],
}

static CORNER: Shape = Shape {
    name: "ground point",
    keys: &[
        required(
            "at",
            Kind::List(&Kind::Number(0.0, 1.0), 2, 2),
            "Where in the picture: [x, y], as shares of its width and height.",
        ),
        required(
            "place",
            Kind::List(&Kind::Number(-1e8, 1e8), 2, 2),
            "Where on the map: [longitude, latitude], or [metres east, metres north], in the system of `location.crs`.",
        ),
    ],
};

/// Four of them.
pub(crate) const KIND: Kind = Kind::List(&Kind::Map(&CORNER), 4, 4);

/// Metres east and north from one place to another, both of the system `crs`; right for places some kilometres
/// apart.
pub fn metres(crs: &str, from: MapPoint, to: MapPoint) -> (f64, f64) {
    // CGCS2000 is also used in projected form, in metres.
    let degrees = |p: MapPoint| p.x.abs() <= 180.0 && p.y.abs() <= 90.0;
    if crs == "cgcs2000" && !(degrees(from) && degrees(to)) {
        return (to.x - from.x, to.y - from.y);
    }
    let narrower = ((from.y + to.y) / 2.0).to_radians().cos();
    ((to.x - from.x) * METRES_PER_DEGREE * narrower, (to.y - from.y) * METRES_PER_DEGREE)
}

/// The place that lies so many metres east and north of another: [`metres`] the other way round.
pub fn moved(crs: &str, from: MapPoint, (east, north): (f64, f64)) -> MapPoint {
    if crs == "cgcs2000" && (from.x.abs() > 180.0 || from.y.abs() > 90.0) {
        return MapPoint { x: from.x + east, y: from.y + north };
    }
    let y = from.y + north / METRES_PER_DEGREE;
    let narrower = ((from.y + y) / 2.0).to_radians().cos().max(1e-6);
    MapPoint { x: from.x + east / (METRES_PER_DEGREE * narrower), y }
}

/// Reads the key `ground`; what is wrong with it is reported.
pub(crate) fn read(
    fields: &Fields,
    location: Option<&Location>,
    path: &Path<'_>,
    report: &mut Report,
) -> Option<Ground> {
    let item = fields.item("ground")?;
    let Value::List(items) = &item.value else { return None };
    let corners: Vec<_> = items.iter().filter_map(corner).collect();
    let corners = <[_; 4]>::try_from(corners).ok()?;
    let path = path.key("ground");
    let Some(location) = location else {
        let expected = "give the camera's `location`: its crs is that of these places";
        report.add(item.place, &path, None, Problem::new("needs the camera's location", expected));
        return None;
    };
    let ground = Ground { crs: location.crs.clone(), corners };
    match ground.wrong(MapPoint { x: location.x, y: location.y }) {
        None => Some(ground),
        Some(problem) => {
            report.add(item.place, &path, None, problem);
            None
        }
    }
}

fn corner(item: &Item) -> Option<(NormPoint, MapPoint)> {
    let Value::Map(fields) = &item.value else { return None };
    let pair = |key| {
        let Value::List(items) = &fields.item(key)?.value else { return None };
        match (&items.first()?.value, &items.get(1)?.value) {
            (Value::Number(x), Value::Number(y)) => Some((*x, *y)),
            _ => None,
        }
    };
    let ((x, y), (east, north)) = (pair("at")?, pair("place")?);
    Some((NormPoint { x: x as f32, y: y as f32 }, MapPoint { x: east, y: north }))
}

impl Ground {
    /// What makes it no view of a street, if anything does.
    fn wrong(&self, camera: MapPoint) -> Option<Problem> {
        let picture = self.corners.map(|(at, _)| (f64::from(at.x), f64::from(at.y)));
        let map = self.corners.map(|(_, place)| metres(&self.crs, self.corners[0].1, place));
        for (a, b) in (0..4).flat_map(|a| (0..a).map(move |b| (b, a))) {
            let apart = (map[a].0 - map[b].0).hypot(map[a].1 - map[b].1);
            if !(NEAREST..=FURTHEST).contains(&apart) {
                let problem = format!("points {} and {} are {apart:.1} m apart", a + 1, b + 1);
                let expected = format!("expected {NEAREST} to {FURTHEST} m, places as [longitude, latitude]");
                return Some(Problem::new(problem, expected));
            }
        }
        for (index, (_, place)) in self.corners.iter().enumerate() {
            let (east, north) = metres(&self.crs, camera, *place);
            let away = east.hypot(north);
            if away > FURTHEST {
                let problem =
                    format!("point {} is {:.1} km from the camera's location", index + 1, away / 1_000.0);
                let expected =
                    format!("expected at most {FURTHEST} m, in the system of location.crs ({})", self.crs);
                return Some(Problem::new(problem, expected));
            }
        }
        let around = "expected four points in order around a convex quadrilateral, no three on one line";
        let (seen, real) = (turns(&picture, FLAT_IN_PICTURE), turns(&map, FLAT_ON_GROUND));
        match (seen, real) {
            (None, _) => Some(Problem::new("is no convex quadrilateral in the picture", around)),
            (_, None) => Some(Problem::new("is no convex quadrilateral on the ground", around)),
            // The picture's y points down, the map's up: seen from above, both turn the same way.
            (Some(seen), Some(real)) if seen == real => Some(Problem::new(
                "is mirrored: around the picture it turns the other way than on the ground",
                "are two places swapped, or longitude and latitude?",
            )),
            _ => None,
        }
    }
}

/// Which way the corners turn: `None` where they are not convex, or three lie on one line.
fn turns(corners: &[(f64, f64); 4], flat: f64) -> Option<bool> {
    let area = |i: usize| {
        let (a, b, c) = (corners[i], corners[(i + 1) % 4], corners[(i + 2) % 4]);
        ((b.0 - a.0) * (c.1 - a.1) - (c.0 - a.0) * (b.1 - a.1)) / 2.0
    };
    let areas = [area(0), area(1), area(2), area(3)];
    let same = areas.iter().all(|area| area.abs() > flat && (*area > 0.0) == (areas[0] > 0.0));
    same.then_some(areas[0] > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metres_there_and_back() {
        let here = MapPoint { x: 126.04, y: 42.68 };
        let there = moved("wgs84", here, (120.0, -35.0));
        let (east, north) = metres("wgs84", here, there);
        assert!((east - 120.0).abs() < 0.01 && (north + 35.0).abs() < 0.01, "{east} {north}");
        let (here, there) =
            (MapPoint { x: 421_000.0, y: 4_725_000.0 }, MapPoint { x: 421_003.0, y: 4_725_004.0 });
        assert_eq!(metres("cgcs2000", here, there), (3.0, 4.0));
        assert_eq!(moved("cgcs2000", here, (3.0, 4.0)), there);
    }
}
