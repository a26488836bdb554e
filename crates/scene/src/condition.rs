//! Whether the camera still shows what its zones were drawn on.
//!
//! Judged from the small grey copy of each look ([`flow::Luma`]), on local contrast instead of brightness, so that light
//! does not matter. What the camera shows when it is well is remembered as a few *views*, one per kind of light: by day
//! and under infrared a street has other contrasts, and the first night must not look like a moved camera.
//!
//! - **Shifted**: a view matches, but displaced; or nothing that is remembered for this light matches any more (a PTZ
//!   that looks elsewhere).
//! - **Blocked**: the contrast of the view is gone: a bag, a spider's web, spray paint, fog.
//! - **Defocused**: fine contrast is gone, coarse contrast is there.
//!
//! Each must hold for [`SUSPEND_AFTER`] before it is believed, and its end for [`RESUME_AFTER`].

use std::time::Duration;

use flow::{Luma, Timestamp};

use crate::view::{MATCHES, View};

/// A condition is believed after it was seen for this long.
pub const SUSPEND_AFTER: Duration = Duration::from_secs(30);
/// And is over after it was not seen for this long.
pub const RESUME_AFTER: Duration = Duration::from_secs(20);
/// A view is learned from a picture that kept for this long.
pub(crate) const LEARN_AFTER: Duration = Duration::from_secs(120);
/// Views that are remembered.
const MAX_VIEWS: usize = 4;
/// Correlation of contrasts below which it is another view.
const DIFFERS: f32 = 0.2;
/// A picture with less coarse contrast, in grey levels, is no view of anything.
pub(crate) const FEATURELESS: f32 = 1.0;
/// Share of a view's contrast below which the lens is blocked.
const BLOCKED: f32 = 0.2;
/// Share of a view's fine contrast below which it is out of focus.
const DEFOCUSED: f32 = 0.4;

/// How the camera's picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// As it should be, or not known to be otherwise.
    Good,
    /// The camera looks elsewhere: by so many hundredths of the picture's width to the right and down, where that
    /// could be measured.
    Shifted(Option<(i8, i8)>),
    /// Something is in front of the lens.
    Blocked,
    /// Out of focus, or the lens is dirty.
    Defocused,
    /// A camera that turns shows none of its presets: it moves, or was turned elsewhere.
    OffPreset,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Shifted(Some((x, y))) => {
                write!(
                    f,
                    "the camera has moved: its picture is displaced by {x} % of its width and {y} % down"
                )
            }
            Self::Shifted(None) => f.write_str("the camera looks elsewhere than where its zones were drawn"),
            Self::Blocked => f.write_str("something is in front of the lens"),
            Self::Defocused => f.write_str("the picture is out of focus, or the lens is dirty"),
            Self::OffPreset => {
                f.write_str("the camera is off its presets: it shows none of their reference pictures")
            }
        }
    }
}

/// What is believed of a camera: what its looks say for long enough.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Belief {
    believed: Option<Condition>,
    /// What the looks say since then, where it is not what is believed.
    suspected: Option<(Condition, Timestamp)>,
}

impl Belief {
    pub fn now(&self) -> Condition {
        self.believed.unwrap_or(Condition::Good)
    }

    /// Takes what one look says; what is believed now.
    pub fn take(&mut self, says: Condition, now: Timestamp) -> Condition {
        let believed = self.now();
        if std::mem::discriminant(&says) == std::mem::discriminant(&believed) {
            self.suspected = None;
            return believed;
        }
        let same = |c: Condition| std::mem::discriminant(&c) == std::mem::discriminant(&says);
        let since = match self.suspected {
            Some((suspected, since)) if same(suspected) && since <= now => since,
            _ => now,
        };
        self.suspected = Some((says, since));
        let patience = if says == Condition::Good { RESUME_AFTER } else { SUSPEND_AFTER };
        if now.duration_since(since).unsigned_abs() >= patience {
            self.believed = Some(says);
            self.suspected = None;
        }
        self.now()
    }
}

/// Watches one camera's own condition.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Watchman {
    views: Vec<View>,
    /// The picture that may become a view, and since when it keeps.
    candidate: Option<(View, Timestamp)>,
    belief: Belief,
}

impl Watchman {
    /// Takes one look; how the camera is.
    pub fn look(&mut self, luma: &Luma, now: Timestamp) -> Condition {
        let picture = View::of(luma);
        let best = best(&self.views, &picture);
        let says = self.judge(&picture, best);
        let known = best.filter(|(match_, _)| *match_ >= MATCHES).map(|(_, index)| index);
        self.learn(picture, known, says, now);
        self.belief.take(says, now)
    }

    /// What this picture alone says. `best`: how well it fits the view that it fits best.
    fn judge(&self, picture: &View, best: Option<(f32, usize)>) -> Condition {
        let Some((best, index)) = best else { return Condition::Good };
        if best >= MATCHES {
            return if is_defocused(picture, &self.views[index]) {
                Condition::Defocused
            } else {
                Condition::Good
            };
        }
        let like = |view: &&View| view.is_like(picture);
        let lit = self.views.iter().filter(like).find(|view| view.same_light(picture));
        if lit.is_some_and(|view| is_blocked(picture, view)) {
            return Condition::Blocked;
        }
        if lit.is_some_and(|view| picture.fine < view.fine * DEFOCUSED) {
            return Condition::Defocused;
        }
        for view in self.views.iter().filter(like) {
            if let Some(moved) = view.displaced(picture, best) {
                return Condition::Shifted(Some(moved));
            }
        }
        // Without a view for this light it may be the first night.
        if best < DIFFERS && lit.is_some() { Condition::Shifted(None) } else { Condition::Good }
    }

    /// Remembers what the camera shows when it is well: in a new light a new view, in a known one what slowly changes.
    fn learn(&mut self, picture: View, known: Option<usize>, says: Condition, now: Timestamp) {
        let well = says == Condition::Good && self.belief.now() == Condition::Good;
        if !well || picture.coarse < FEATURELESS {
            self.candidate = None;
            return;
        }
        if let Some(index) = known {
            self.candidate = None;
            // Seasons and parked cars.
            self.views[index].follow(&picture);
            return;
        }
        match &self.candidate {
            Some((held, since)) if held.is_like(&picture) && *since <= now => {
                if held.correlation(&picture, 0, 0) < MATCHES {
                    self.candidate = Some((picture, now));
                } else if now.duration_since(*since).unsigned_abs() >= LEARN_AFTER {
                    if self.views.len() == MAX_VIEWS {
                        self.views.remove(0);
                    }
                    self.views.push(picture);
                    self.candidate = None;
                }
            }
            _ => self.candidate = Some((picture, now)),
        }
    }
}

/// The view that a picture fits best, and how well.
pub(crate) fn best(views: &[View], picture: &View) -> Option<(f32, usize)> {
    let like = views.iter().enumerate().filter(|(_, view)| view.is_like(picture));
    let matched = like.map(|(index, view)| (view.correlation(picture, 0, 0), index));
    matched.max_by(|a, b| a.0.total_cmp(&b.0))
}

/// Whether a picture that shows this view shows it without its fine contrast.
pub(crate) fn is_defocused(picture: &View, view: &View) -> bool {
    picture.fine < view.fine * DEFOCUSED && picture.coarse > view.coarse * DEFOCUSED
}

/// Whether a picture shows nothing of this view's contrast, or of any.
pub(crate) fn is_blocked(picture: &View, view: &View) -> bool {
    picture.coarse < view.coarse * BLOCKED
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const WIDTH: usize = 160;
    const HEIGHT: usize = 90;

    /// A street of random houses, seen from `left` and `top`, through `light`, with noise.
    pub(crate) struct Street {
        world: Vec<f32>,
        rng: fastrand::Rng,
    }

    const WORLD: usize = 400;

    impl Street {
        pub(crate) fn new(seed: u64) -> Self {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut world = vec![100.0; WORLD * WORLD];
            for _ in 0..900 {
                let (x, y) = (rng.usize(..WORLD), rng.usize(..WORLD));
                let (w, h, grey) = (rng.usize(4..30), rng.usize(4..30), 40.0 + 150.0 * rng.f32());
                for row in y..(y + h).min(WORLD) {
                    world[row * WORLD + x..row * WORLD + (x + w).min(WORLD)].fill(grey);
                }
            }
            Self { world, rng }
        }

        pub(crate) fn look(
            &mut self,
            left: usize,
            top: usize,
            develop: impl Fn(usize, usize, f32) -> f32,
        ) -> Luma {
            let cells = (0..WIDTH * HEIGHT).map(|at| {
                let (x, y) = (at % WIDTH, at / WIDTH);
                let grey = develop(x, y, self.world[(top + y) * WORLD + left + x]);
                (grey + self.rng.f32() * 6.0 - 3.0).clamp(0.0, 255.0) as u8
            });
            Luma::from_cells(WIDTH as u16, HEIGHT as u16, cells.collect()).unwrap()
        }
    }

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    pub(crate) fn day(_: usize, _: usize, grey: f32) -> f32 {
        grey
    }

    /// A watchman who has seen the street for ten minutes.
    fn learned(street: &mut Street) -> Watchman {
        let mut watchman = Watchman::default();
        for look in 0..300 {
            assert_eq!(watchman.look(&street.look(100, 100, day), at(2 * look)), Condition::Good);
        }
        assert_eq!(watchman.views.len(), 1);
        watchman
    }

    fn say(
        watchman: &mut Watchman,
        street: &mut Street,
        seconds: std::ops::Range<i64>,
        (left, top): (usize, usize),
        develop: impl Fn(usize, usize, f32) -> f32,
    ) -> Vec<Condition> {
        let looks = seconds.step_by(2);
        looks.map(|second| watchman.look(&street.look(left, top, &develop), at(second))).collect()
    }

    #[test]
    fn a_nudged_camera_is_noticed_after_half_a_minute_and_resumes_when_it_is_back() {
        let mut street = Street::new(1);
        let mut watchman = learned(&mut street);
        let said = say(&mut watchman, &mut street, 600..700, (110, 104), day);
        assert_eq!(said[10], Condition::Good, "not at the first sight");
        assert_eq!(said[20], Condition::Shifted(Some((-6, -2))), "{said:?}");
        let said = say(&mut watchman, &mut street, 700..760, (100, 100), day);
        assert_eq!(*said.last().unwrap(), Condition::Good);
    }

    #[test]
    fn a_turned_camera_looks_elsewhere() {
        let mut street = Street::new(2);
        let mut watchman = learned(&mut street);
        let said = say(&mut watchman, &mut street, 600..2_000, (230, 220), day);
        assert_eq!(*said.last().unwrap(), Condition::Shifted(None));
        let said = say(&mut watchman, &mut street, 2_000..2_060, (100, 100), day);
        assert_eq!(*said.last().unwrap(), Condition::Good);
    }

    #[test]
    fn a_bag_over_the_lens_and_a_lost_focus_are_told_apart() {
        let mut street = Street::new(3);
        let mut watchman = learned(&mut street);
        let said =
            say(&mut watchman, &mut street, 600..700, (100, 100), |_, _, grey| 100.0 + (grey - 100.0) * 0.02);
        assert_eq!(*said.last().unwrap(), Condition::Blocked, "{said:?}");
        let mut street = Street::new(3);
        let mut watchman = learned(&mut street);
        // A box blur over the world stands for a lens out of focus.
        let sharp = street.world.clone();
        for y in 12..WORLD - 12 {
            for x in 12..WORLD - 12 {
                let mut sum = 0.0;
                for dy in 0..21 {
                    let row = (y + dy - 10) * WORLD + x - 10;
                    sum += sharp[row..row + 21].iter().sum::<f32>();
                }
                street.world[y * WORLD + x] = sum / 441.0;
            }
        }
        let said = say(&mut watchman, &mut street, 600..700, (100, 100), day);
        assert_eq!(*said.last().unwrap(), Condition::Defocused, "{said:?}");
    }

    #[test]
    fn light_night_and_traffic_are_no_moved_camera() {
        let mut street = Street::new(4);
        let mut watchman = learned(&mut street);
        let mut all = Vec::new();
        // Dusk, half of the light, a hard shadow, then infrared: inverted and flat, from one look to the next.
        all.extend(say(&mut watchman, &mut street, 600..800, (100, 100), |_, _, grey| grey * 0.5));
        all.extend(say(&mut watchman, &mut street, 800..1_000, (100, 100), |x, y, grey| {
            if x > y { grey * 0.45 } else { grey }
        }));
        all.extend(say(&mut watchman, &mut street, 1_000..3_000, (100, 100), |x, y, grey| {
            40.0 + (grey * 0.1) + ((x / 7 * 31 + y / 5 * 17) % 23) as f32
        }));
        all.extend(say(&mut watchman, &mut street, 3_000..3_400, (100, 100), day));
        // A lorry in front of a third of the picture.
        all.extend(say(&mut watchman, &mut street, 3_400..3_600, (100, 100), |x, _, grey| {
            if x < 55 { 90.0 } else { grey }
        }));
        assert!(all.iter().all(|said| *said == Condition::Good), "{all:?}");
    }

    #[test]
    fn what_was_learned_survives_a_restart_in_few_bytes() {
        let mut street = Street::new(5);
        let watchman = learned(&mut street);
        let text = serde_json::to_string(&watchman).unwrap();
        assert!(text.len() < 8_000 * MAX_VIEWS, "{} bytes", text.len());
        let mut watchman: Watchman = serde_json::from_str(&text).unwrap();
        let said = say(&mut watchman, &mut street, 600..700, (110, 104), day);
        assert!(matches!(said.last().unwrap(), Condition::Shifted(Some(_))), "{said:?}");
    }
}
