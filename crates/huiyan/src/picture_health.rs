//! Whether pictures show anything: an encoder that repeats one picture, or a lens that sees nothing. Pure: a camera's
//! small grey pictures and times come in.
//!
//! A camera that looks at an empty yard at night also sends the same picture again and again, nearly: its sensor
//! makes noise, which the mean over a cell lowers but never removes, the light drifts over minutes, and each key
//! picture codes all that anew. An encoder that repeats one picture settles, within a minute or so, to key pictures
//! that are equal to the bit. So a picture is compared with the first one of the present stillness, not with the one
//! before, and a cell that differs by more than a step of rounding ends the stillness.
//!
//! Measured on key pictures, in shares of the cells that differ from the first at all, and the largest difference:
//! one still picture coded by x264 (150 kbit/s to 2 Mbit/s, and constant quality) and x265: 0, once settled; the same
//! darkened to a mean of 17, with sensor noise, 704x576 and 1920x1080, 150 kbit/s to 2 Mbit/s: 23 to 70 %, 3 to 9
//! steps; with a camera's strong noise reduction and 500 kbit/s: 7 to 25 %, 1 to 3 steps; real clips of still
//! cameras by day: 55 % and more, 140 and more; the clock that a camera writes into a still picture: 7 %, 60.

use std::fmt;
use std::time::{Duration, Instant};

use flow::{CameraState, Luma};

/// Rows of the grey picture of which one is kept: a node remembers thousands of cameras.
const KEEP_ROW: usize = 4;
/// A judgement rests on this many pictures at least, however far apart they are.
const MIN_PICTURES: u32 = 3;

/// From when on a picture shows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The same picture for so long is frozen.
    pub frozen_after: Duration,
    /// Cells may differ by this much in a repeated picture: what an encoder rounds.
    pub same_within: u8,
    /// And this share of the cells may differ at all.
    pub same_share: f32,
    /// A black picture for so long is dark.
    pub dark_after: Duration,
    /// The mean of a black picture is at most this; black itself is 16, or 0 in full range.
    pub dark_mean: f32,
    /// From the darkest to the brightest hundredth of a black picture at most: a street at night has lamps.
    pub dark_spread: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frozen_after: Duration::from_secs(600),
            same_within: 1,
            same_share: 0.02,
            dark_after: Duration::from_secs(60),
            dark_mean: 36.0,
            dark_spread: 10,
        }
    }
}

/// What a camera's pictures lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// They do not change.
    Frozen(Duration),
    /// They are black.
    Dark(Duration),
}

impl Nothing {
    /// The camera's state.
    pub fn state(self) -> CameraState {
        match self {
            Self::Frozen(_) => CameraState::Frozen,
            Self::Dark(_) => CameraState::Dark,
        }
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frozen(after) => write!(f, "the picture has not changed for {after:?} or longer"),
            Self::Dark(after) => {
                write!(f, "the picture has been black for {after:?} or longer: is the lens covered?")
            }
        }
    }
}

/// Judges one camera's pictures in turn.
#[derive(Debug)]
pub struct PictureHealth {
    limits: Limits,
    /// The first picture of the present stillness, some of its rows.
    still: Option<Still>,
    dark: Option<Run>,
}

#[derive(Debug)]
struct Still {
    columns: usize,
    cells: Box<[u8]>,
    run: Run,
}

/// Pictures in a row that have something in common.
#[derive(Debug, Clone, Copy)]
struct Run {
    since: Instant,
    pictures: u32,
}

impl Run {
    fn new(now: Instant) -> Self {
        Self { since: now, pictures: 0 }
    }

    /// One more. Whether it now lasts long enough.
    fn extend(&mut self, now: Instant, long_enough: Duration) -> bool {
        self.pictures = self.pictures.saturating_add(1);
        self.pictures >= MIN_PICTURES && now.saturating_duration_since(self.since) >= long_enough
    }
}

impl PictureHealth {
    /// Knows no picture yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, still: None, dark: None }
    }

    /// What the pictures up to this one lack. A covered lens also gives always the same picture: that is dark.
    pub fn judge(&mut self, luma: &Luma, now: Instant) -> Option<Nothing> {
        let limits = self.limits;
        let frozen = self.is_still(luma, now);
        let dark = if is_black(luma, &limits) {
            self.dark.get_or_insert(Run::new(now)).extend(now, limits.dark_after)
        } else {
            self.dark = None;
            false
        };
        match (dark, frozen) {
            (true, _) => Some(Nothing::Dark(limits.dark_after)),
            (false, true) => Some(Nothing::Frozen(limits.frozen_after)),
            (false, false) => None,
        }
    }

    fn is_still(&mut self, luma: &Luma, now: Instant) -> bool {
        let same = self.still.as_ref().is_some_and(|still| {
            still.columns == luma.columns() && is_same(&still.cells, kept(luma), &self.limits)
        });
        if !same {
            let cells = kept(luma).flatten().copied().collect();
            self.still = Some(Still { columns: luma.columns(), cells, run: Run::new(now) });
        }
        self.still.as_mut().is_some_and(|still| still.run.extend(now, self.limits.frozen_after))
    }
}

fn kept(luma: &Luma) -> impl Iterator<Item = &[u8]> {
    luma.cells().chunks(luma.columns()).step_by(KEEP_ROW)
}

fn is_same<'a>(known: &[u8], rows: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> bool {
    let (mut rest, mut differ) = (known, 0);
    for row in rows {
        let Some((mine, others)) = rest.split_at_checked(row.len()) else { return false };
        rest = others;
        let mut largest = 0;
        for (a, b) in mine.iter().zip(row) {
            let apart = a.abs_diff(*b);
            largest = largest.max(apart);
            differ += usize::from(apart > 0);
        }
        if largest > limits.same_within {
            return false;
        }
    }
    rest.is_empty() && differ as f32 <= limits.same_share * known.len() as f32
}

fn is_black(luma: &Luma, limits: &Limits) -> bool {
    // Almost every picture ends here.
    if luma.mean() > limits.dark_mean {
        return false;
    }
    let mut histogram = [0usize; 256];
    luma.cells().iter().for_each(|&cell| histogram[usize::from(cell)] += 1);
    let low = hundredth(histogram.iter().enumerate());
    let high = hundredth(histogram.iter().enumerate().rev());
    high.saturating_sub(low) <= usize::from(limits.dark_spread)
}

/// The level below which a hundredth of the cells is, counted in this direction.
fn hundredth<'a>(levels: impl Iterator<Item = (usize, &'a usize)> + Clone) -> usize {
    let enough = levels.clone().map(|(_, n)| n).sum::<usize>() / 100;
    let mut seen = 0;
    let mut found = levels.skip_while(|(_, n)| {
        seen += **n;
        seen <= enough
    });
    found.next().map_or(0, |(level, _)| level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(2);

    /// A picture of 160x90 cells.
    fn luma(cell: impl FnMut(usize) -> u8) -> Luma {
        Luma::from_cells(160, 90, (0..160 * 90).map(cell).collect()).unwrap()
    }

    /// A street: some structure in every place.
    fn street(cell: usize) -> u8 {
        60 + (cell % 160) as u8 / 2 + (cell / 160) as u8
    }

    /// What is said after each picture, one every two seconds.
    fn judged(pictures: impl IntoIterator<Item = Luma>) -> Vec<Option<Nothing>> {
        let start = Instant::now();
        let mut health = PictureHealth::new(Limits::default());
        (0u32..).zip(pictures).map(|(n, picture)| health.judge(&picture, start + EVERY * n)).collect()
    }

    const FROZEN: Nothing = Nothing::Frozen(Duration::from_secs(600));
    const DARK: Nothing = Nothing::Dark(Duration::from_secs(60));

    #[test]
    fn a_repeated_picture_is_frozen_after_ten_minutes_and_not_before_and_recovers_at_once() {
        let mut random = fastrand::Rng::with_seed(1);
        // An encoder's rounding: one step up in some cells.
        let mut repeated = || luma(|cell| street(cell) + u8::from(random.f32() < 0.003));
        let mut pictures: Vec<_> = (0..400).map(|_| repeated()).collect();
        pictures.push(luma(|cell| street(cell) + if cell / 160 == 40 { 20 } else { 0 }));
        let said = judged(pictures);
        let first = said.iter().position(Option::is_some);
        assert!(first.is_some_and(|n| (300..330).contains(&n)), "{first:?}");
        assert!(said[first.unwrap()..400].iter().all(|said| *said == Some(FROZEN)));
        assert_eq!(said[400], None);
    }

    #[test]
    fn a_yard_at_night_is_not_frozen() {
        let mut random = fastrand::Rng::with_seed(1);
        // Noise of a sensor, lowered by coding and by the mean over a cell to a third of a step.
        let noise = |random: &mut fastrand::Rng| (0..4).map(|_| random.f32() - 0.5).sum::<f32>() * 0.6;
        let night: Vec<_> = (0..600)
            .map(|_| luma(|cell| (f32::from(street(cell)) / 3.0 + 16.0 + noise(&mut random)).round() as u8))
            .collect();
        assert!(judged(night).iter().all(Option::is_none));
    }

    #[test]
    fn slow_light_and_a_small_thing_that_moves_are_changes() {
        // A step of light in three minutes; and one cell, as far away as a person, that comes and goes.
        assert!(
            judged((0..900).map(|n| luma(|cell| street(cell) + (n / 90) as u8))).iter().all(Option::is_none)
        );
        let person = |n: usize| luma(move |cell| if cell == 40 * 160 + n / 90 { 20 } else { street(cell) });
        assert!(judged((0..900).map(person)).iter().all(Option::is_none));
    }

    #[test]
    fn a_covered_lens_is_dark_after_a_minute_and_a_street_at_night_is_not() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut covered = || luma(|_| 16 + random.u8(0..4));
        let mut pictures: Vec<_> = (0..60).map(|_| covered()).collect();
        pictures.push(luma(street));
        let said = judged(pictures);
        assert_eq!(said.iter().position(Option::is_some), Some(30));
        assert!(said[30..60].iter().all(|said| *said == Some(DARK)));
        assert_eq!(said[60], None);
        // Black but for some lamps, and their light on the ground: two in a hundred cells.
        let lamps = |cell: usize| if cell.is_multiple_of(50) { 90 } else { 18 };
        assert!(judged((0..60).map(|n| luma(|cell| lamps(cell + n)))).iter().all(Option::is_none));
    }

    #[test]
    fn two_pictures_in_an_hour_are_no_judgement_and_a_new_size_is_a_new_picture() {
        let start = Instant::now();
        let mut health = PictureHealth::new(Limits::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(health.judge(&luma(street), at(0)), None);
        assert_eq!(health.judge(&luma(street), at(3_600)), None);
        assert_eq!(health.judge(&luma(street), at(3_700)), Some(FROZEN));
        let small = Luma::from_cells(80, 45, (0..80 * 45).map(street).collect()).unwrap();
        assert_eq!(health.judge(&small, at(3_710)), None);
    }
}
