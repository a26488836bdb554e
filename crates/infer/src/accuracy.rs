//! COCO's average precision of boxes, as pycocotools counts it (`cocoeval.py`; Lin et al., arXiv:1405.0312).
//!
//! Ten IoU thresholds from 0.50 to 0.95, 101 recalls, three ranges of area, at most 100 boxes per picture and class.
//! Crowds are regions: what lies in one counts neither for nor against, and many boxes may.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Boxes per picture and class that count at most.
const MOST_BOXES: usize = 100;
const THRESHOLDS: usize = 10;
const RECALLS: usize = 101;
/// All, small, medium, large; square pixels.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// Something that is in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Thing {
    /// Index of its class.
    pub class: usize,
    /// Left, top, width, height; pixels.
    pub bbox: [f64; 4],
    /// Square pixels that it covers; at most those of the box.
    pub area: f64,
    /// A group too dense to tell apart.
    pub crowd: bool,
}

/// Something that a model found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Index of its class.
    pub class: usize,
    /// Any number; higher is surer.
    pub score: f64,
    /// Left, top, width, height; pixels.
    pub bbox: [f64; 4],
}

/// What is in a picture and what was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    /// What is in it.
    pub things: Vec<Thing>,
    /// What was found.
    pub found: Vec<Found>,
}

/// How well boxes fit, each 0 to 1. `None` where there is nothing to find.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Accuracy {
    /// The mean over all thresholds of overlap: "the AP".
    pub ap: Option<f64>,
    /// With an overlap (IoU) of 0.5.
    pub ap50: Option<f64>,
    /// With an overlap of 0.75.
    pub ap75: Option<f64>,
    /// Of things below 32 × 32 pixels.
    pub ap_small: Option<f64>,
    /// Of things from there to 96 × 96 pixels.
    pub ap_medium: Option<f64>,
    /// Of larger things.
    pub ap_large: Option<f64>,
    /// Share that is found with 100 boxes per picture and class.
    pub recall: Option<f64>,
    /// The AP of each class.
    pub classes: Vec<Option<f64>>,
}

/// Compares what was found with what is there, over all pictures. `classes`: how many there are; what has a
/// higher class is left out.
pub fn accuracy(pictures: &[Picture], classes: usize) -> Accuracy {
    let by_area: Vec<Vec<Option<Curve>>> =
        AREAS.iter().map(|area| (0..classes).map(|class| curve(pictures, class, *area)).collect()).collect();
    let all = &by_area[0];
    let precision =
        |curve: &Curve| curve.precision.iter().flatten().sum::<f64>() / (THRESHOLDS * RECALLS) as f64;
    let at = |threshold: usize| move |c: &Curve| c.precision[threshold].iter().sum::<f64>() / RECALLS as f64;
    Accuracy {
        ap: mean(all, precision),
        ap50: mean(all, at(0)),
        ap75: mean(all, at(5)),
        ap_small: mean(&by_area[1], precision),
        ap_medium: mean(&by_area[2], precision),
        ap_large: mean(&by_area[3], precision),
        recall: mean(all, |curve| curve.recall.iter().sum::<f64>() / THRESHOLDS as f64),
        classes: all.iter().map(|curve| curve.as_ref().map(precision)).collect(),
    }
}

/// The mean over the classes that there are.
fn mean(curves: &[Option<Curve>], value: impl Fn(&Curve) -> f64) -> Option<f64> {
    let values: Vec<f64> = curves.iter().flatten().map(value).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// One class in one range of areas.
struct Curve {
    /// Per threshold of overlap the best precision at each recall or a higher one.
    precision: Vec<[f64; RECALLS]>,
    /// Per threshold the share that is found.
    recall: [f64; THRESHOLDS],
}

/// A found box after matching.
struct Matched {
    score: f64,
    /// Per threshold whether it belongs to a thing.
    hit: [bool; THRESHOLDS],
    /// Per threshold whether it counts at all.
    ignored: [bool; THRESHOLDS],
}

fn iou_threshold(index: usize) -> f64 {
    0.5 + index as f64 * ((0.95 - 0.5) / 9.0)
}

/// `None` where no picture holds such a thing.
fn curve(pictures: &[Picture], class: usize, area: [f64; 2]) -> Option<Curve> {
    let (mut matched, mut asked) = (Vec::new(), 0);
    for picture in pictures {
        asked += match_picture(picture, class, area, &mut matched);
    }
    if asked == 0 {
        return None;
    }
    // Stable, as equal scores keep the order of the pictures.
    matched.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut curve = Curve { precision: Vec::with_capacity(THRESHOLDS), recall: [0.0; THRESHOLDS] };
    for threshold in 0..THRESHOLDS {
        let (mut hits, mut misses) = (0.0, 0.0);
        let mut points = Vec::with_capacity(matched.len());
        for found in &matched {
            if !found.ignored[threshold] {
                let one = if found.hit[threshold] { &mut hits } else { &mut misses };
                *one += 1.0;
            }
            points.push((hits / asked as f64, hits / (hits + misses + f64::EPSILON)));
        }
        curve.recall[threshold] = points.last().map_or(0.0, |(recall, _)| *recall);
        curve.precision.push(envelope(&mut points));
    }
    Some(curve)
}

/// The best precision at each of the recalls or a higher one; 0 where that is never reached.
fn envelope(points: &mut [(f64, f64)]) -> [f64; RECALLS] {
    for i in (1..points.len()).rev() {
        points[i - 1].1 = points[i - 1].1.max(points[i].1);
    }
    std::array::from_fn(|index| {
        let recall = index as f64 * 0.01;
        let at = points.partition_point(|point| point.0 < recall);
        points.get(at).map_or(0.0, |point| point.1)
    })
}

/// Matches one picture's boxes of a class with its things; returns how many things are asked for.
fn match_picture(picture: &Picture, class: usize, area: [f64; 2], into: &mut Vec<Matched>) -> usize {
    let outside = |size: f64| size < area[0] || size > area[1];
    let mut things: Vec<(&Thing, bool)> = picture
        .things
        .iter()
        .filter(|thing| thing.class == class)
        .map(|thing| (thing, thing.crowd || outside(thing.area)))
        .collect();
    // What is asked for comes first: a box that fits both belongs to it.
    things.sort_by_key(|(_, ignored)| *ignored);
    let mut found: Vec<&Found> = picture.found.iter().filter(|found| found.class == class).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(MOST_BOXES);
    let mut taken = vec![[false; THRESHOLDS]; things.len()];
    for one in found {
        let overlaps: Vec<f64> = things.iter().map(|(thing, _)| overlap(&one.bbox, thing)).collect();
        let unasked = outside(one.bbox[2] * one.bbox[3]);
        let mut matched =
            Matched { score: one.score, hit: [false; THRESHOLDS], ignored: [unasked; THRESHOLDS] };
        for threshold in 0..THRESHOLDS {
            let Some(at) = best(&things, &overlaps, &taken, threshold) else { continue };
            taken[at][threshold] = true;
            matched.hit[threshold] = true;
            matched.ignored[threshold] = things[at].1;
        }
        into.push(matched);
    }
    things.iter().filter(|(_, ignored)| !ignored).count()
}

/// The thing that a box belongs to at a threshold: the best overlap among those asked for, or else among the others.
fn best(
    things: &[(&Thing, bool)],
    overlaps: &[f64],
    taken: &[[bool; THRESHOLDS]],
    threshold: usize,
) -> Option<usize> {
    let (mut least, mut at) = (iou_threshold(threshold).min(1.0 - 1e-10), None);
    for (index, (thing, ignored)) in things.iter().enumerate() {
        if taken[index][threshold] && !thing.crowd {
            continue;
        }
        if *ignored && at.is_some_and(|at: usize| !things[at].1) {
            break;
        }
        if overlaps[index] >= least {
            (least, at) = (overlaps[index], Some(index));
        }
    }
    at
}

/// Intersection over union; over the box alone where the thing is a crowd.
fn overlap(found: &[f64; 4], thing: &Thing) -> f64 {
    let side = |i: usize| {
        (found[i] + found[i + 2]).min(thing.bbox[i] + thing.bbox[i + 2]) - found[i].max(thing.bbox[i])
    };
    let (w, h) = (side(0), side(1));
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let own = found[2] * found[3];
    let whole = if thing.crowd { own } else { own + thing.bbox[2] * thing.bbox[3] - w * h };
    w * h / whole
}

/// A file of labelled pictures in COCO's form (`instances_*.json`); what is not needed is left out.
#[derive(Debug, Clone, Deserialize)]
pub struct Instances {
    /// The pictures.
    pub images: Vec<InstancesImage>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

/// A picture of [`Instances`].
#[derive(Debug, Clone, Deserialize)]
pub struct InstancesImage {
    /// Its number.
    pub id: u64,
    /// The file, inside the folder of pictures.
    pub file_name: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    bbox: [f64; 4],
    area: f64,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Debug, Clone, Deserialize)]
struct Category {
    id: u64,
    name: String,
}

impl Instances {
    /// What is in the pictures, in the order of their numbers: number, file and things. Classes are found by name among
    /// `classes`; what the model does not know is left out, as is what it knows and the file does not.
    pub fn pictures(&self, classes: &[impl AsRef<str>]) -> Vec<(u64, &str, Picture)> {
        let named = |category: &Category| {
            let index = classes.iter().position(|class| class.as_ref() == category.name)?;
            Some((category.id, index))
        };
        let classes: BTreeMap<u64, usize> = self.categories.iter().filter_map(named).collect();
        let mut pictures: BTreeMap<u64, (&str, Picture)> =
            self.images.iter().map(|image| (image.id, (&*image.file_name, Picture::default()))).collect();
        for thing in &self.annotations {
            if let (Some((_, picture)), Some(class)) =
                (pictures.get_mut(&thing.image_id), classes.get(&thing.category_id))
            {
                let (bbox, area, crowd) = (thing.bbox, thing.area, thing.iscrowd != 0);
                picture.things.push(Thing { class: *class, bbox, area, crowd });
            }
        }
        pictures.into_iter().map(|(id, (file, picture))| (id, file, picture)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(bbox: [f64; 4]) -> Thing {
        Thing { class: 0, bbox, area: bbox[2] * bbox[3], crowd: false }
    }

    fn found(score: f64, bbox: [f64; 4]) -> Found {
        Found { class: 0, score, bbox }
    }

    const A: [f64; 4] = [0.0, 0.0, 100.0, 100.0];
    const B: [f64; 4] = [200.0, 0.0, 50.0, 50.0];

    #[test]
    fn all_found_and_nothing_else_is_one() {
        let picture = Picture { things: vec![thing(A), thing(B)], found: vec![found(0.9, A), found(0.8, B)] };
        let result = accuracy(&[picture], 2);
        assert!((result.ap.unwrap() - 1.0).abs() < 1e-9);
        // A is large, B medium; nothing is small, and there is no second class.
        assert_eq!((result.ap_small, result.classes[1]), (None, None));
        assert!(
            (result.ap_large.unwrap() - 1.0).abs() < 1e-9 && (result.ap_medium.unwrap() - 1.0).abs() < 1e-9
        );
    }

    #[test]
    fn a_wrong_box_first_costs_half_of_the_precision() {
        // Wrong, right, right: precision 1/2 at recall 1/2, 2/3 at recall 1; the better one counts for both.
        let wrong = found(0.95, [500.0, 0.0, 50.0, 50.0]);
        let picture =
            Picture { things: vec![thing(A), thing(B)], found: vec![found(0.9, A), wrong, found(0.8, B)] };
        let result = accuracy(std::slice::from_ref(&picture), 1);
        assert!((result.ap50.unwrap() - 2.0 / 3.0).abs() < 1e-9, "{result:?}");
        // Half is found: 51 of the 101 recalls, precision 1/2.
        let picture = Picture { found: picture.found[..2].to_vec(), ..picture };
        let result = accuracy(&[picture], 1);
        assert!((result.ap50.unwrap() - 0.5 * 51.0 / 101.0).abs() < 1e-9, "{result:?}");
        assert!((result.recall.unwrap() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_thing_is_found_once_and_only_as_well_as_its_box_fits() {
        // IoU 0.8: a hit at 0.50, 0.55, …, 0.80, that is at seven of ten thresholds.
        let near = [0.0, 0.0, 100.0, 80.0];
        let picture = Picture { things: vec![thing(A)], found: vec![found(0.9, near)] };
        assert!((accuracy(&[picture], 1).ap.unwrap() - 0.7).abs() < 1e-9);
        let picture = Picture { things: vec![thing(A), thing(B)], found: vec![found(0.9, A), found(0.8, A)] };
        let result = accuracy(&[picture], 1);
        assert!((result.ap50.unwrap() - 51.0 / 101.0).abs() < 1e-9);
    }

    #[test]
    fn boxes_in_a_crowd_count_for_nothing() {
        let crowd = Thing { crowd: true, ..thing([0.0, 0.0, 400.0, 400.0]) };
        let boxes = [found(0.99, [10.0, 10.0, 30.0, 30.0]), found(0.98, [60.0, 60.0, 30.0, 30.0])];
        let mut picture = Picture { things: vec![crowd, thing(B)], found: boxes.to_vec() };
        picture.found.push(found(0.5, B));
        assert!((accuracy(std::slice::from_ref(&picture), 1).ap.unwrap() - 1.0).abs() < 1e-9);
        // Nothing but a crowd: nothing to find.
        picture.things.truncate(1);
        assert_eq!(accuracy(&[picture], 1).ap, None);
    }

    #[test]
    fn a_hundred_boxes_count_and_no_more() {
        let mut boxes: Vec<Found> =
            (0..100).map(|i| found(0.9, [1000.0 + f64::from(i) * 60.0, 0.0, 50.0, 50.0])).collect();
        boxes.push(found(0.1, A));
        let picture = Picture { things: vec![thing(A)], found: boxes };
        assert_eq!(accuracy(&[picture], 1).ap, Some(0.0));
    }
}
