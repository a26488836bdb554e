//! Which preset a camera that turns (PTZ) shows, by its picture.
//!
//! The fleet names each preset with reference pictures, since nobody asks the camera: many have no way to be asked, and an
//! operator's joystick moves them all. A look belongs to the preset whose picture it matches in place, within one cell of
//! 80 to the row; it counts from the second look in a row on, so that what was taken while moving, or just before it
//! settles, does not. While it matches none, nothing is judged; for [`SUSPEND_AFTER`](crate::condition::SUSPEND_AFTER) that
//! is a tour on its way, then the camera is off its presets.
//!
//! In slowly changing light a preset's views follow, and further ones are learned beside the references. Where light
//! changes at once (infrared) that cannot be told from turning away: such a preset needs a reference for either.

use std::collections::BTreeMap;

use flow::{Luma, Timestamp};

use crate::condition::{Belief, Condition, FEATURELESS, LEARN_AFTER, best, is_blocked, is_defocused};
use crate::view::{MATCHES, View};

/// A settled camera stays at its preset down to this correlation: somebody may stand in front.
const STAYS: f32 = 0.3;
/// The second best preset must fit worse by this much.
const CLEARLY: f32 = 0.1;
/// Fits its preset, but worse than this: the light is becoming another, and may need a view of its own.
const FITS_WELL: f32 = 0.6;
/// Views that are learned beside a preset's references.
const MAX_LEARNED: usize = 3;

/// Watches a camera that turns.
#[derive(Debug, Clone)]
pub(crate) struct Presets {
    known: Vec<Preset>,
    /// The shape that the views have: that of the pictures.
    shape: (usize, usize),
    at: Option<At>,
    belief: Belief,
}

#[derive(Debug, Clone)]
struct Preset {
    name: String,
    references: Vec<Luma>,
    /// The references in the pictures' shape, then what was learned.
    views: Vec<View>,
    learned: Vec<View>,
    /// The picture that may become a view, and since when it keeps.
    candidate: Option<(View, Timestamp)>,
}

/// Where the camera points.
#[derive(Debug, Clone, Copy, PartialEq)]
struct At {
    preset: usize,
    /// It was there at the look before, too.
    settled: bool,
}

/// What is remembered over a restart: the references come from the fleet.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Kept {
    learned: BTreeMap<String, Vec<View>>,
    belief: Belief,
}

impl Presets {
    pub fn new<'p>(names: impl Iterator<Item = &'p str>) -> Self {
        let preset = |name: &str| Preset {
            name: name.to_owned(),
            references: Vec::new(),
            views: Vec::new(),
            learned: Vec::new(),
            candidate: None,
        };
        Self { known: names.map(preset).collect(), shape: (0, 0), at: None, belief: Belief::default() }
    }

    /// What the camera shows at a preset. `false`: there is none of this name.
    pub fn refer(&mut self, name: &str, picture: &Luma) -> bool {
        let Some(preset) = self.known.iter_mut().find(|preset| preset.name == name) else { return false };
        preset.references.push(picture.clone());
        self.shape = (0, 0);
        true
    }

    /// Takes one look: the preset that it counts for, if any.
    pub fn look(&mut self, luma: &Luma, now: Timestamp) -> Option<usize> {
        if self.shape != (luma.columns(), luma.rows()) {
            self.shape = (luma.columns(), luma.rows());
            self.known.iter_mut().for_each(|preset| preset.reshape(luma));
        }
        let picture = View::of(luma);
        let found = self.find(&picture);
        let before = self.at;
        self.at =
            found.map(|(preset, ..)| At { preset, settled: before.is_some_and(|at| at.preset == preset) });
        let says = match found {
            Some((preset, _, view)) if is_defocused(&picture, &self.known[preset].views[view]) => {
                Condition::Defocused
            }
            Some(_) => Condition::Good,
            None if self.is_blocked(&picture) => Condition::Blocked,
            None => Condition::OffPreset,
        };
        let believed = self.belief.take(says, now);
        let at = self.at.filter(|at| at.settled)?.preset;
        if says == Condition::Good {
            let (_, fit, view) = found?;
            self.known[at].learn(picture, fit, view, now);
        }
        // Off its presets until just now: it is back, and need not wait.
        matches!(believed, Condition::Good | Condition::OffPreset).then_some(at)
    }

    /// How the camera is.
    pub fn condition(&self) -> Condition {
        match (self.belief.now(), self.at) {
            (Condition::OffPreset, Some(At { settled: true, .. })) => Condition::Good,
            (believed, _) => believed,
        }
    }

    /// The preset that a picture shows, how well, and as which of its views.
    fn find(&self, picture: &View) -> Option<(usize, f32, usize)> {
        if picture.coarse < FEATURELESS {
            return None;
        }
        let mut fits: Vec<(usize, f32, usize)> = (0..self.known.len())
            .filter_map(|index| {
                let (_, view) = best(&self.known[index].views, picture)?;
                // No gear is exact: it comes back to within a cell or so.
                let in_place = (-1..=1).flat_map(|down| (-1..=1).map(move |right| (right, down)));
                let view_of = &self.known[index].views[view];
                let fit = in_place.map(|(right, down)| view_of.correlation(picture, right, down));
                Some((index, fit.fold(0.0, f32::max), view))
            })
            .collect();
        fits.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (first, second) = (*fits.first()?, fits.get(1).map_or(0.0, |fit| fit.1));
        let stays = self.at == Some(At { preset: first.0, settled: true });
        (first.1 >= if stays { STAYS } else { MATCHES } && first.1 - second >= CLEARLY).then_some(first)
    }

    /// Whether the picture has next to no contrast, against any view of this light.
    fn is_blocked(&self, picture: &View) -> bool {
        let mut lit = self
            .known
            .iter()
            .flat_map(|preset| &preset.views)
            .filter(|view| view.same_light(picture))
            .peekable();
        lit.peek().is_some() && lit.all(|view| is_blocked(picture, view))
    }

    pub fn save(&self) -> Kept {
        let learned = self.known.iter().map(|preset| (preset.name.clone(), preset.learned.clone()));
        Kept { learned: learned.collect(), belief: self.belief.clone() }
    }

    pub fn restore(&mut self, mut kept: Kept) {
        self.belief = kept.belief;
        self.shape = (0, 0);
        for preset in &mut self.known {
            preset.learned = kept.learned.remove(&preset.name).unwrap_or_default();
            preset.learned.truncate(MAX_LEARNED);
        }
    }
}

impl Preset {
    /// Makes views of the references, and of what was learned, in the shape of the pictures that come.
    fn reshape(&mut self, like: &Luma) {
        let shape = View::of(like);
        let references = self.references.iter().filter_map(|reference| resized(reference, like));
        self.views = references.map(|reference| View::of(&reference)).collect();
        self.learned.retain(|view| view.is_like(&shape));
        self.views.extend(self.learned.iter().cloned());
        self.candidate = None;
    }

    /// A picture of this preset, settled and in focus, that fits so well to this one of its views.
    fn learn(&mut self, picture: View, fit: f32, view: usize, now: Timestamp) {
        let references = self.views.len() - self.learned.len();
        if fit >= FITS_WELL {
            self.candidate = None;
            // References are what somebody has looked at: they stay.
            if let Some(index) = view.checked_sub(references) {
                self.learned[index].follow(&picture);
                self.views[view].follow(&picture);
            }
            return;
        }
        match &self.candidate {
            Some((held, since)) if held.is_like(&picture) && held.correlation(&picture, 0, 0) >= MATCHES => {
                if now.duration_since(*since).unsigned_abs() >= LEARN_AFTER {
                    if self.learned.len() == MAX_LEARNED {
                        self.learned.remove(0);
                        self.views.remove(references);
                    }
                    self.views.push(picture.clone());
                    self.learned.push(picture);
                    self.candidate = None;
                }
            }
            _ => self.candidate = Some((picture, now)),
        }
    }
}

/// A picture in the shape of another: a camera's second stream often shows the same in other proportions.
fn resized(picture: &Luma, like: &Luma) -> Option<Luma> {
    let (columns, rows) = (like.columns(), like.rows());
    if (picture.columns(), picture.rows()) == (columns, rows) {
        return Some(picture.clone());
    }
    let of = |at: usize, from: usize, to: usize| {
        let middle = (at as f32 + 0.5) * from as f32 / to as f32 - 0.5;
        let low = middle.max(0.0).floor() as usize;
        (low.min(from - 1), (low + 1).min(from - 1), (middle - low as f32).clamp(0.0, 1.0))
    };
    let cell = |x: usize, y: usize| f32::from(picture.cells()[y * picture.columns() + x]);
    let cells = (0..rows * columns).map(|at| {
        let (x0, x1, right) = of(at % columns, picture.columns(), columns);
        let (y0, y1, down) = of(at / columns, picture.rows(), rows);
        let line = |y| cell(x0, y) * (1.0 - right) + cell(x1, y) * right;
        (line(y0) * (1.0 - down) + line(y1) * down).round() as u8
    });
    Luma::from_cells(u16::try_from(columns).ok()?, u16::try_from(rows).ok()?, cells.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::tests::{Street, at, day};

    /// A street with three presets, and what the camera shows at them.
    const PLACES: [(usize, usize); 3] = [(20, 30), (180, 40), (90, 230)];

    fn presets(street: &mut Street) -> Presets {
        let names = ["gate", "market", "lane"];
        let mut presets = Presets::new(names.into_iter());
        for (name, (left, top)) in names.into_iter().zip(PLACES) {
            assert!(presets.refer(name, &street.look(left, top, day)));
        }
        assert!(!presets.refer("roof", &street.look(0, 0, day)));
        presets
    }

    #[test]
    fn a_tour_is_followed_and_what_is_seen_on_the_way_counts_for_nothing() {
        let mut street = Street::new(11);
        let mut presets = presets(&mut street);
        let mut second = 0;
        for round in 0..3 {
            for (index, (left, top)) in PLACES.into_iter().enumerate() {
                // On its way, then there: a cell or so beside where it was.
                for step in 0..3 {
                    let luma = street.look(left + 60 - 20 * step, top + 45 - 15 * step, day);
                    assert_eq!(presets.look(&luma, at(second)), None, "round {round}, to preset {index}");
                    second += 2;
                }
                for look in 0..10 {
                    let luma = street.look(left + round % 2, top, day);
                    let expected = (look > 0).then_some(index);
                    assert_eq!(presets.look(&luma, at(second)), expected, "round {round}, look {look}");
                    assert_eq!(presets.condition(), Condition::Good);
                    second += 2;
                }
            }
        }
    }

    #[test]
    fn turned_elsewhere_it_says_so_and_it_resumes_by_itself() {
        let mut street = Street::new(12);
        let mut presets = presets(&mut street);
        let (left, top) = PLACES[1];
        for look in 0..5 {
            presets.look(&street.look(left, top, day), at(2 * look));
        }
        for look in 5..60 {
            assert_eq!(presets.look(&street.look(left + 40, top + 60, day), at(2 * look)), None);
        }
        assert_eq!(presets.condition(), Condition::OffPreset);
        assert_eq!(presets.look(&street.look(left, top, day), at(120)), None, "it may be passing");
        assert_eq!(presets.look(&street.look(left, top, day), at(122)), Some(1));
        assert_eq!(presets.condition(), Condition::Good);
        // A bag over the lens is another matter.
        for look in 62..90 {
            presets.look(&street.look(left, top, |_, _, grey| 110.0 + (grey - 110.0) * 0.01), at(2 * look));
        }
        assert_eq!(presets.condition(), Condition::Blocked);
    }

    #[test]
    fn dusk_is_followed_and_remembered_and_another_shape_of_picture_is_the_same_view() {
        let mut street = Street::new(13);
        let mut presets = presets(&mut street);
        let (left, top) = PLACES[0];
        // Lamps come on one by one while the day goes.
        let evening = |dark: f32| {
            move |x: usize, y: usize, grey: f32| {
                let lamp = ((x / 9 * 31 + y / 7 * 17) % 23) as f32 * 6.0;
                grey * (1.0 - 0.8 * dark) + lamp * dark
            }
        };
        let mut counted = 0;
        for look in 0..900 {
            let luma = street.look(left, top, evening((look as f32 / 800.0).min(1.0)));
            counted += i32::from(presets.look(&luma, at(4 * look)) == Some(0));
        }
        assert!(counted > 890, "{counted}");
        // The next evening, after a restart.
        let kept: Kept = serde_json::from_str(&serde_json::to_string(&presets.save()).unwrap()).unwrap();
        let mut again = self::presets(&mut street);
        again.restore(kept);
        for look in 0..5 {
            let luma = street.look(left, top, evening(1.0));
            assert_eq!(again.look(&luma, at(10_000 + 2 * look)), (look > 0).then_some(0));
        }
        // The second stream of a camera shows the same in 5:4.
        let square = Luma::from_cells(160, 128, vec![0; 160 * 128]).unwrap();
        let mut squeezed = self::presets(&mut street);
        for look in 0..5 {
            let luma = resized(&street.look(left, top, day), &square).unwrap();
            assert_eq!(squeezed.look(&luma, at(2 * look)), (look > 0).then_some(0));
        }
    }
}
