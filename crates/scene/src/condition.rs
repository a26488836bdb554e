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

/// Rows and columns are averaged down to about this many columns.
const COLUMNS: usize = 80;
/// A condition is believed after it was seen for this long.
pub const SUSPEND_AFTER: Duration = Duration::from_secs(30);
/// And is over after it was not seen for this long.
pub const RESUME_AFTER: Duration = Duration::from_secs(20);
/// A view is learned from a picture that kept for this long.
const LEARN_AFTER: Duration = Duration::from_secs(120);
/// Views that are remembered.
const MAX_VIEWS: usize = 4;
/// Two pictures are of one kind of light when their means differ by less than this factor.
const SAME_LIGHT: f32 = 1.5;
/// Correlation of contrasts from which it is the same view ...
const MATCHES: f32 = 0.45;
/// ... and below which it is another.
const DIFFERS: f32 = 0.2;
/// A displaced match must be this good, and better than the undisplaced one by [`CLEARLY`].
const DISPLACED: f32 = 0.5;
const CLEARLY: f32 = 0.2;
/// The displacement that is looked for, in cells either way.
const REACH: isize = 12;
/// A displacement of fewer cells does not move a thing out of its zone.
const MIN_DISPLACEMENT: isize = 2;
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
        }
    }
}

/// Watches one camera's own condition.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Watchman {
    views: Vec<View>,
    /// The picture that may become a view, and since when it keeps.
    candidate: Option<(View, Timestamp)>,
    believed: Option<Condition>,
    /// What the looks say since then, where it is not what is believed.
    suspected: Option<(Condition, Timestamp)>,
}

/// The contrasts of one picture.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct View {
    columns: usize,
    mean: f32,
    /// Contrast between neighbouring cells, and between neighbours of neighbours of neighbours.
    fine: f32,
    coarse: f32,
    /// Local contrast of every cell, -127 to 127, row by row.
    #[serde(with = "packed")]
    contrast: Vec<i8>,
}

impl Watchman {
    /// Takes one look; how the camera is.
    pub fn look(&mut self, luma: &Luma, now: Timestamp) -> Condition {
        let view = View::of(luma);
        let says = self.judge(&view);
        self.learn(view, says, now);
        let believed = self.believed.unwrap_or(Condition::Good);
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
        self.believed.unwrap_or(Condition::Good)
    }

    /// What this picture alone says.
    fn judge(&self, picture: &View) -> Condition {
        let like = |view: &&View| view.contrast.len() == picture.contrast.len();
        let matched = self.views.iter().filter(like).map(|view| (view.correlation(picture, 0, 0), view));
        let Some((best, view)) = matched.max_by(|a, b| a.0.total_cmp(&b.0)) else { return Condition::Good };
        if best >= MATCHES {
            let blurred = picture.fine < view.fine * DEFOCUSED && picture.coarse > view.coarse * DEFOCUSED;
            return if blurred { Condition::Defocused } else { Condition::Good };
        }
        let lit = self.views.iter().filter(like).find(|view| view.same_light(picture));
        if lit.is_some_and(|view| picture.coarse < view.coarse * BLOCKED) {
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
    fn learn(&mut self, picture: View, says: Condition, now: Timestamp) {
        let well = says == Condition::Good && self.believed.unwrap_or(Condition::Good) == Condition::Good;
        if !well || picture.coarse < 1.0 {
            self.candidate = None;
            return;
        }
        let known = self.views.iter().position(|view| {
            view.contrast.len() == picture.contrast.len() && view.correlation(&picture, 0, 0) >= MATCHES
        });
        if let Some(index) = known {
            self.candidate = None;
            // Seasons and parked cars: over some hundred looks.
            self.views[index].follow(&picture);
            return;
        }
        match &self.candidate {
            Some((held, since)) if held.contrast.len() == picture.contrast.len() && *since <= now => {
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

impl View {
    fn of(luma: &Luma) -> Self {
        let step = luma.columns().div_ceil(COLUMNS).max(1);
        let (columns, rows) = ((luma.columns() / step).max(1), (luma.rows() / step).max(1));
        let mut grey = Vec::with_capacity(columns * rows);
        for row in 0..rows {
            for column in 0..columns {
                let mut sum = 0u32;
                for y in row * step..((row + 1) * step).min(luma.rows()) {
                    let line = &luma.cells()[y * luma.columns()..];
                    sum += line[column * step..((column + 1) * step).min(luma.columns())]
                        .iter()
                        .map(|&cell| u32::from(cell))
                        .sum::<u32>();
                }
                grey.push(sum as f32 / (step * step) as f32);
            }
        }
        let at = |column: usize, row: usize| grey[row.min(rows - 1) * columns + column.min(columns - 1)];
        let contrast_over = |reach: usize| {
            let each = (0..grey.len()).map(|cell| {
                let (column, row) = (cell % columns, cell / columns);
                (at(column + reach, row) - at(column, row)).abs()
                    + (at(column, row + reach) - at(column, row)).abs()
            });
            each.sum::<f32>() / grey.len() as f32
        };
        // Contrast against the surroundings, scaled by the brightness there: what light multiplies falls out.
        let contrast = (0..grey.len()).map(|cell| {
            let (column, row) = (cell % columns, cell / columns);
            let around = [
                at(column.saturating_sub(2), row),
                at(column + 2, row),
                at(column, row.saturating_sub(2)),
                at(column, row + 2),
            ];
            let mean = around.iter().sum::<f32>() / 4.0;
            ((grey[cell] - mean) / (mean + 8.0) * 300.0).clamp(-127.0, 127.0) as i8
        });
        Self {
            columns,
            mean: grey.iter().sum::<f32>() / grey.len() as f32,
            fine: contrast_over(1),
            coarse: contrast_over(4),
            contrast: contrast.collect(),
        }
    }

    fn same_light(&self, other: &Self) -> bool {
        let ratio = (self.mean + 4.0) / (other.mean + 4.0);
        (1.0 / SAME_LIGHT..=SAME_LIGHT).contains(&ratio)
    }

    /// Correlation of the contrasts where `other` is displaced by so many cells to the right and down: -1..=1.
    fn correlation(&self, other: &Self, right: isize, down: isize) -> f32 {
        let columns = self.columns as isize;
        let rows = (self.contrast.len() / self.columns.max(1)) as isize;
        let (mut ab, mut aa, mut bb) = (0i64, 0i64, 0i64);
        for row in 0.max(-down)..rows.min(rows - down) {
            let (first, end) = (0.max(-right), columns.min(columns - right));
            if first >= end {
                continue;
            }
            let mine = &self.contrast[(row * columns + first) as usize..(row * columns + end) as usize];
            let start = (row + down) * columns + first + right;
            let theirs = &other.contrast[start as usize..(start + end - first) as usize];
            let (mut x, mut y, mut z) = (0i32, 0i32, 0i32);
            for (&a, &b) in mine.iter().zip(theirs) {
                let (a, b) = (i32::from(a), i32::from(b));
                x += a * b;
                y += a * a;
                z += b * b;
            }
            ab += i64::from(x);
            aa += i64::from(y);
            bb += i64::from(z);
        }
        if aa == 0 || bb == 0 { 0.0 } else { (ab as f64 / (aa as f64 * bb as f64).sqrt()) as f32 }
    }

    /// By how much the picture is displaced against this view, in hundredths of the width, if it is.
    fn displaced(&self, picture: &Self, in_place: f32) -> Option<(i8, i8)> {
        let mut best = (in_place.max(DISPLACED - CLEARLY) + CLEARLY, 0, 0);
        for down in -REACH / 2..=REACH / 2 {
            for right in -REACH..=REACH {
                let here = self.correlation(picture, right, down);
                if here > best.0 {
                    best = (here, right, down);
                }
            }
        }
        let (_, right, down) = best;
        let hundredths = |cells: isize| (cells * 100 / self.columns as isize) as i8;
        (right.abs().max(down.abs()) >= MIN_DISPLACEMENT).then(|| (hundredths(right), hundredths(down)))
    }

    fn follow(&mut self, picture: &Self) {
        let near = |was: f32, is: f32| was + (is - was) / 256.0;
        self.mean = near(self.mean, picture.mean);
        self.fine = near(self.fine, picture.fine);
        self.coarse = near(self.coarse, picture.coarse);
        for (was, &is) in self.contrast.iter_mut().zip(&picture.contrast) {
            // One level at a time: 8 bits hold no smaller step.
            if (i16::from(is) - i16::from(*was)).abs() > 8 {
                *was += (is > *was) as i8 * 2 - 1;
            }
        }
    }
}

/// Bytes as hexadecimal digits.
mod packed {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[i8], serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
        let digits = bytes.iter().map(|&b| b as u8).flat_map(|b| [digit(b >> 4), digit(b & 15)]);
        serializer.serialize_str(&digits.collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits"))?;
        Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8 as i8).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 160;
    const HEIGHT: usize = 90;

    /// A street of random houses, seen from `left` and `top`, through `light`, with noise.
    struct Street {
        world: Vec<f32>,
        rng: fastrand::Rng,
    }

    const WORLD: usize = 400;

    impl Street {
        fn new(seed: u64) -> Self {
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

        fn look(&mut self, left: usize, top: usize, develop: impl Fn(usize, usize, f32) -> f32) -> Luma {
            let cells = (0..WIDTH * HEIGHT).map(|at| {
                let (x, y) = (at % WIDTH, at / WIDTH);
                let grey = develop(x, y, self.world[(top + y) * WORLD + left + x]);
                (grey + self.rng.f32() * 6.0 - 3.0).clamp(0.0, 255.0) as u8
            });
            Luma::from_cells(WIDTH as u16, HEIGHT as u16, cells.collect()).unwrap()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn day(_: usize, _: usize, grey: f32) -> f32 {
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
