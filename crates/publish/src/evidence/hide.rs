//! What of which thing is made unrecognisable.
//!
//! Persons wholly: that covers faces without a face detector. Of vehicles the band in which number plates are, which
//! covers plates without reading them. Where in a box that band begins depends on the vehicle. Detectors' boxes end at
//! the wheels, so a plate at the bumper of a car lies between 55 and 90 % of the height, seen from the height of a lamp
//! post; the rear of lorries and buses bears the number again, painted large in the middle (GB 7258: 放大牌号); the
//! plate of a two-wheeler hangs below its seat, and its box may or may not hold the rider. The bands begin higher than
//! that, and grow by a margin, since a box may be a tenth off.

use flow::NormBox;

/// What of a thing is hidden.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Hide {
    /// All of its box.
    Whole,
    /// From this share of the box's height, counted from the top, down to its bottom.
    Below(f32),
}

const PERSONS: &[&str] = &[
    "person",
    "pedestrian",
    "people",
    "man",
    "woman",
    "child",
    "boy",
    "girl",
    "rider",
    "cyclist",
    "motorcyclist",
    "head",
    "human-head",
    "face",
    "human-face",
    // Should a model know them, they go as well.
    "license-plate",
    "licence-plate",
    "number-plate",
];

const CARS: &[&str] = &[
    "car",
    "sedan",
    "suv",
    "hatchback",
    "van",
    "minivan",
    "mpv",
    "taxi",
    "jeep",
    "pickup",
    "pickup-truck",
    "vehicle",
    "motor-vehicle",
    "ambulance",
    "police-car",
    "sports-car",
];

const LARGE: &[&str] = &[
    "truck",
    "heavy-truck",
    "lorry",
    "bus",
    "coach",
    "trailer",
    "fire-truck",
    "tanker",
    "machinery-vehicle",
    "construction-vehicle",
    "sweeper",
    "tractor",
];

const SMALL: &[&str] = &[
    "motorcycle",
    "motorbike",
    "motor",
    "moped",
    "scooter",
    "electric-bicycle",
    "e-bike",
    "ebike",
    "bicycle",
    "bike",
    "non-motor-vehicle",
    "tricycle",
    "awning-tricycle",
    "three-wheeler",
];

/// Class names differ in case and in how they join words; a table of them should not.
const BY_CLASS: [(&[&str], Hide); 4] = [
    (PERSONS, Hide::Whole),
    (CARS, Hide::Below(0.45)),
    (LARGE, Hide::Below(0.35)),
    (SMALL, Hide::Below(0.2)),
];

/// What of things of this class is hidden, if anything.
pub(crate) fn of_class(class: &str) -> Option<Hide> {
    let name: String = class
        .trim()
        .chars()
        .map(|c| if matches!(c, ' ' | '_') { '-' } else { c.to_ascii_lowercase() })
        .collect();
    BY_CLASS.iter().find(|(names, _)| names.contains(&&*name)).map(|(_, hide)| *hide)
}

impl Hide {
    /// The part of the box that is hidden.
    pub fn part(self, bbox: &NormBox) -> NormBox {
        match self {
            Self::Whole => *bbox,
            Self::Below(share) => {
                let top = bbox.y0() + bbox.height() * share;
                // A box so flat that rounding leaves no band is hidden wholly.
                NormBox::new(bbox.x0(), top, bbox.x1(), bbox.y1()).unwrap_or(*bbox)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_found_however_a_model_writes_them() {
        assert_eq!(of_class("person"), Some(Hide::Whole));
        assert_eq!(of_class("Awning_Tricycle"), of_class("awning-tricycle"));
        assert_eq!(of_class("Pickup Truck"), Some(Hide::Below(0.45)));
        assert_eq!(of_class("bus"), Some(Hide::Below(0.35)));
        assert_eq!(of_class("umbrella"), None);
    }

    #[test]
    fn a_class_is_in_one_row_only() {
        let mut all: Vec<_> = BY_CLASS.iter().flat_map(|(names, _)| names.iter()).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn every_class_of_a_person_or_vehicle_in_the_shipped_cards_is_hidden() {
        // COCO's and VisDrone's road users, which the zoo's models name, and those of the rendered streets.
        for class in [
            "person",
            "bicycle",
            "car",
            "motorcycle",
            "bus",
            "truck",
            "pedestrian",
            "people",
            "van",
            "tricycle",
            "awning-tricycle",
            "motor",
        ] {
            assert!(of_class(class).is_some(), "{class}");
        }
    }

    #[test]
    fn a_band_reaches_to_the_bottom() {
        let bbox = NormBox::new(0.1, 0.2, 0.5, 0.6).unwrap();
        let band = Hide::Below(0.25).part(&bbox);
        assert!((band.y0() - 0.3).abs() < 1e-6 && band.y1() == 0.6 && band.x0() == 0.1 && band.x1() == 0.5);
    }
}
