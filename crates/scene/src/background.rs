//! Stationary foreground without a class: what covers a zone and was not there before.
//!
//! Two pictures of the past at look rate, as in dual-background methods for abandoned objects (Porikli, Ivanov, Haga:
//! "Robust abandoned object detection using dual foregrounds", EURASIP J. ASP 2008): a short one that takes up within
//! half a minute whatever stays, and a long one of what has always been there. A cell where the two differ shows
//! something that came and stayed. Both are of down-scaled luma ([`flow::Luma`]), which averages noise away.
//!
//! What only changes the light is not an object: the long picture follows slow light by one gain for the whole picture;
//! a connected patch whose texture is that of the background, brighter or darker, is a shadow or a lamp; many patches
//! that come at once are the sun behind a cloud, since things come one by one; and when much of the picture changes at
//! once (a lamp, the switch to infrared, a moved camera) nothing is said until the picture has settled, which then is
//! the new background.

use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

use fleet::Zone;
use flow::{Detection, Luma, NormBox, NormPoint, Polygon, Timestamp};

use crate::rules::Covered;

mod light;
mod patch;

use light::{Light, is_same_street};
use patch::{Patch, Run, close, find_runs, join, root};

/// The short picture takes up a change within about twice this.
const SHORT: f32 = 12.0;
/// The long picture follows what is not foreground with this time constant, in seconds.
const LONG: f32 = 900.0;
/// Grey levels, of 256, by which the two pictures differ where something covers the background ...
const DIFFERENT: f32 = 14.0;
/// ... or this share of the background's own value, whichever is more.
const DIFFERENT_SHARE: f32 = 0.12;
/// The newest look differs from the short picture by more than this where something moves.
const MOVING: f32 = 20.0;
/// When this share of the cells moves at once it is the light or the camera, not a thing.
const GLOBAL_SHARE: f32 = 0.35;
/// The picture has settled when for this long less than a tenth of that moves.
const SETTLE: Duration = Duration::from_secs(60);
/// What nobody has taken away for this long belongs to the background.
const ABSORB: Duration = Duration::from_secs(24 * 3_600);
/// What is covered is judged at most this often: the pictures of the past show nothing new before.
const JUDGE_EVERY: Duration = Duration::from_secs(4);
/// Looks before anything is said.
const WARM_UP_LOOKS: u32 = 8;
/// A patch of fewer cells is noise.
const MIN_CELLS: usize = 6;
/// So many patches that are new in one look are light.
const MANY: usize = 5;
/// A patch is new for this long, in seconds: the short picture takes that to follow.
const NEW: f32 = 30.0;
/// Correlation of a patch with the background under it from which it is the same surface in other light.
const SAME_SURFACE: f32 = 0.7;
/// Share of the light that the sun's own shadow leaves at least.
const SHADE: f32 = 0.35;
/// Standard deviation of a surface, in grey levels, below which it has no texture to compare.
const SMOOTH: f32 = 4.0;
/// The contrast of near cells has changed when it differs by so many grey levels, or this share of the grey, if that is more.
const CHANGED: f32 = 3.0;
const CHANGED_SHARE: f32 = 0.06;
/// Contrast of near cells, in grey levels, that bare ground seldom has.
const STRONG: f32 = 15.0;

/// What has been in front of a camera.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(crate) struct Background {
    columns: usize,
    rows: usize,
    short: Vec<f32>,
    long: Vec<f32>,
    /// Seconds for which a cell has been foreground.
    stayed: Vec<f32>,
    /// Cells that something stationary covers, after the newest look.
    covered: Vec<bool>,
    /// The cells of each zone.
    areas: Vec<Vec<Range<usize>>>,
    looks: u32,
    /// The long picture is more than the first looks of a new camera.
    learned: bool,
    last: Option<Timestamp>,
    /// When it was last judged what is covered.
    judged: Option<Timestamp>,
    /// Since when the picture is quiet after a global change; nothing is said meanwhile.
    unsettled: Option<Unsettled>,
}

/// Room for one look's work: means nothing between looks, so that one serves all cameras of a thread.
#[derive(Debug, Default)]
struct Scratch {
    /// 1 where the pictures of the past differ and no patch has been found yet.
    differs: Vec<u8>,
    /// The same without small gaps.
    closed: Vec<u8>,
    /// The patch that a cell belongs to; 0: none.
    labels: Vec<u32>,
    /// 1 where the model sees nothing: there the long picture may follow.
    open: Vec<f32>,
    light: Light,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
struct Unsettled {
    quiet_since: Timestamp,
}

/// What is saved: the long picture, from which the rest is learned anew within a minute.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Kept {
    columns: usize,
    rows: usize,
    /// Grey levels, row by row, two hexadecimal digits each.
    long: String,
}

impl From<Background> for Kept {
    fn from(background: Background) -> Self {
        let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
        let cells = background.long.iter().map(|&cell| cell.round().clamp(0.0, 255.0) as u8);
        let long = cells.flat_map(|cell| [digit(cell >> 4), digit(cell & 15)]).collect();
        Self { columns: background.columns, rows: background.rows, long }
    }
}

impl From<Kept> for Background {
    fn from(kept: Kept) -> Self {
        let digits: Option<Vec<u32>> = kept.long.chars().map(|c| c.to_digit(16)).collect();
        let long: Vec<f32> =
            digits.unwrap_or_default().chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as f32).collect();
        // Wrong in any way: learned anew.
        if long.is_empty() || kept.columns.checked_mul(kept.rows) != Some(long.len()) {
            return Self::default();
        }
        let cells = long.len();
        Self {
            columns: kept.columns,
            rows: kept.rows,
            short: long.clone(),
            stayed: vec![0.0; cells],
            covered: vec![false; cells],
            areas: Vec::new(),
            long,
            looks: 0,
            learned: true,
            last: None,
            judged: None,
            unsettled: None,
        }
    }
}

impl Background {
    /// Takes one look. `detections` are things that the model sees: what moves is not taken up. `standing`: where it has
    /// seen things stand.
    pub fn look(
        &mut self,
        luma: &Luma,
        detections: &[Detection],
        standing: impl Iterator<Item = NormBox>,
        now: Timestamp,
    ) {
        if self.columns != luma.columns() || self.rows != luma.rows() {
            *self = Self::from(Kept::default());
            self.start(luma);
        }
        let seconds = match self.last {
            Some(last) if now <= last => return,
            Some(last) => now.duration_since(last).as_secs_f32().min(LONG / 4.0),
            // After a restart of the program the short picture starts from what is there.
            None => {
                self.short = luma.cells().iter().map(|&cell| f32::from(cell)).collect();
                1.0
            }
        };
        self.last = Some(now);
        self.looks = self.looks.saturating_add(1);
        let moving = self.take_short(luma, seconds);
        self.settle(luma, moving, now);
        if self.unsettled.is_some() {
            self.covered.fill(false);
            self.judged = None;
            return;
        }
        let since = self.judged.map(|judged| now.duration_since(judged).unsigned_abs());
        if self.learned && since.is_some_and(|since| since < JUDGE_EVERY) {
            return;
        }
        let seconds = since.map_or(seconds, |since| since.as_secs_f32().min(LONG / 4.0));
        self.judged = Some(now);
        let mut scratch = SCRATCH.take();
        scratch.fit(self.long.len());
        self.judge((luma, detections), standing, seconds, &mut scratch);
        SCRATCH.set(scratch);
    }

    /// Says what is covered now, and moves the long picture on.
    fn judge(
        &mut self,
        (luma, detections): (&Luma, &[Detection]),
        standing: impl Iterator<Item = NormBox>,
        seconds: f32,
        scratch: &mut Scratch,
    ) {
        self.note_open(detections, scratch);
        scratch.light.compare(&self.short, &self.long, &scratch.open, self.columns);
        let patches = self.patches(scratch);
        let expected = &scratch.light.expected;
        // Seen at the judgement before and still now: the short picture shows for a while what has passed,
        // where looks follow each other so fast.
        let seen = |at: &usize| {
            let (now, was) = (f32::from(luma.cells()[*at]), expected[*at]);
            (self.stayed[*at] > 0.0 || seconds > NEW)
                && is_different(now, was)
                && (now > was) == (self.short[*at] > was)
        };
        let new = |patch: &&Patch| {
            let stayed = patch.cells().map(|at| self.stayed[at]).sum::<f32>() / patch.cells as f32;
            let known = patch.cells().filter(|at| scratch.open[*at] == 0.0).count();
            stayed <= NEW.max(seconds * 1.5)
                && known * 2 < patch.cells
                && patch.cells().filter(seen).count() * 2 > patch.cells
        };
        let light: Vec<usize> = match patches.iter().filter(new).count() {
            count if count >= MANY => patches.iter().filter(new).flat_map(Patch::cells).collect(),
            _ => Vec::new(),
        };
        self.covered.fill(false);
        for patch in &patches {
            if !self.is_light(patch, scratch) {
                patch.runs.iter().for_each(|run| self.covered[run.clone()].fill(true));
            }
        }
        for at in light {
            let expected = &mut scratch.light.expected[at];
            self.long[at] *= (self.short[at] + 1.0) / (*expected + 1.0);
            *expected = self.short[at];
            self.covered[at] = false;
        }
        patches.iter().flat_map(|patch| &patch.runs).for_each(|run| scratch.labels[run.clone()].fill(0));
        self.cover_with(standing, &scratch.light);
        self.take_long(seconds, scratch);
    }

    /// Also covered: what a model sees standing there. It may look like the ground in grey: cartons on a dry road do.
    fn cover_with(&mut self, standing: impl Iterator<Item = NormBox>, light: &Light) {
        let (columns, rows) = (self.columns as f32, self.rows as f32);
        for place in standing {
            // Cells of which more than half lies in it.
            let cells = |from: f32, to: f32, of: f32| {
                (from * of).round().min(of) as usize..(to * of).round().min(of) as usize
            };
            let (across, down) =
                (cells(place.x0(), place.x1(), columns), cells(place.y0(), place.y1(), rows));
            if self.is_ground(across.clone(), down.clone(), &light.expected) {
                continue;
            }
            down.for_each(|row| self.covered[row * self.columns..][across.clone()].fill(true));
        }
    }

    /// Whether the picture shows bare ground where a model sees something: what was there before, but for its light. A hard
    /// shadow looks like a car to it. What had contrasts of its own already may well be a thing.
    fn is_ground(&self, across: Range<usize>, down: Range<usize>, expected: &[f32]) -> bool {
        let side = |at: usize| match is_different(self.short[at], expected[at]) {
            true => self.short[at].total_cmp(&expected[at]),
            false => std::cmp::Ordering::Equal,
        };
        let (mut changed, mut own, mut pairs) = (0, 0, 0);
        for row in down.clone() {
            for column in across.clone() {
                let at = row * self.columns + column;
                let lit = (self.short[at] + 1.0) / (expected[at] + 1.0);
                let beside = (column + 2 < across.end).then_some(at + 2);
                let below = (row + 2 < down.end).then_some(at + 2 * self.columns);
                // The edge of a shadow is none of the ground's own contrasts.
                for other in beside.into_iter().chain(below).filter(|other| side(*other) == side(at)) {
                    let was = expected[other] - expected[at];
                    let apart = (self.short[other] - self.short[at] - was * lit).abs();
                    changed += u32::from(apart > CHANGED.max(CHANGED_SHARE * self.short[at]));
                    own += u32::from(was.abs() > STRONG);
                    pairs += 1;
                }
            }
        }
        // Of the contrasts of what is put down a third and more are new; along the edge of a shadow a few are.
        changed * 4 < pairs && own * 10 < pairs * 3
    }

    /// How much of each zone is covered. `None`: not known now.
    pub fn covered(&mut self, zones: &[Zone], ignore: &[Polygon]) -> Vec<Option<Covered>> {
        if self.unsettled.is_some() || self.looks < WARM_UP_LOOKS || self.columns == 0 {
            return vec![None; zones.len()];
        }
        if self.areas.len() != zones.len() {
            self.areas = zones.iter().map(|zone| self.area(&zone.polygon, ignore)).collect();
        }
        self.areas.iter().map(|area| Some(self.cover(area))).collect()
    }

    /// The cells of a zone, row by row, as ranges: zones do not change while a scene lives.
    fn area(&self, zone: &Polygon, ignore: &[Polygon]) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for at in 0..self.columns * self.rows {
            let middle = NormPoint {
                x: ((at % self.columns) as f32 + 0.5) / self.columns as f32,
                y: ((at / self.columns) as f32 + 0.5) / self.rows as f32,
            };
            if !zone.contains(middle) || ignore.iter().any(|part| part.contains(middle)) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == at && at % self.columns != 0 => last.end = at + 1,
                _ => ranges.push(at..at + 1),
            }
        }
        ranges
    }

    fn cover(&self, area: &[Range<usize>]) -> Covered {
        let (mut cells, mut covered) = (0, 0);
        let mut around: Option<[usize; 4]> = None;
        for range in area {
            cells += range.len();
            let found = self.covered[range.clone()].iter().filter(|cell| **cell).count();
            if found == 0 {
                continue;
            }
            covered += found;
            let row = range.start / self.columns;
            let first = range.clone().find(|at| self.covered[*at]).unwrap_or(range.start) % self.columns;
            let last = range.clone().rfind(|at| self.covered[*at]).unwrap_or(range.start) % self.columns;
            let [x0, y0, x1, y1] = around.unwrap_or([first, row, last, row]);
            around = Some([x0.min(first), y0.min(row), x1.max(last), y1.max(row)]);
        }
        let share = covered as f32 / cells.max(1) as f32;
        let scale = |cell: usize, of: usize| cell as f32 / of as f32;
        let around = around.and_then(|[x0, y0, x1, y1]| {
            NormBox::clamped(
                scale(x0, self.columns),
                scale(y0, self.rows),
                scale(x1 + 1, self.columns),
                scale(y1 + 1, self.rows),
            )
        });
        Covered { share, around }
    }

    fn start(&mut self, luma: &Luma) {
        (self.columns, self.rows) = (luma.columns(), luma.rows());
        self.long = luma.cells().iter().map(|&cell| f32::from(cell)).collect();
        self.short = self.long.clone();
        self.stayed = vec![0.0; self.long.len()];
        self.covered = vec![false; self.long.len()];
        self.areas.clear();
    }

    /// Moves the short picture on; the share of the cells that move.
    fn take_short(&mut self, luma: &Luma, seconds: f32) -> f32 {
        let rate = 1.0 - (-seconds / SHORT).exp();
        let mut moving = 0u32;
        for (short, &cell) in self.short.iter_mut().zip(luma.cells()) {
            let cell = f32::from(cell);
            moving += u32::from((cell - *short).abs() > MOVING);
            *short += (cell - *short) * rate;
        }
        moving as f32 / self.short.len() as f32
    }

    /// Notices a global change, and its end. Where much moves but the street is still to be seen, it is only its light.
    fn settle(&mut self, luma: &Luma, moving: f32, now: Timestamp) {
        let Some(unsettled) = &mut self.unsettled else {
            if moving > GLOBAL_SHARE && !is_same_street(luma.cells(), &self.long, self.columns) {
                self.unsettled = Some(Unsettled { quiet_since: now });
            }
            return;
        };
        if moving > GLOBAL_SHARE / 10.0 && !is_same_street(luma.cells(), &self.short, self.columns) {
            unsettled.quiet_since = now;
        } else if now.duration_since(unsettled.quiet_since).unsigned_abs() >= SETTLE {
            self.unsettled = None;
            self.long.copy_from_slice(&self.short);
            self.stayed.fill(0.0);
        }
    }

    /// What differs from its own place, but looks like the background right beside it, is an edge on a mast that shakes.
    fn forgive_shaking(&self, differs: &mut [u8], expected: &[f32]) {
        let columns = self.columns;
        for (at, differs) in differs.iter_mut().enumerate().filter(|(_, differs)| **differs == 1) {
            let (column, row) = (at % columns, at / columns);
            let near = column.saturating_sub(1)..(column + 2).min(columns);
            let (mut low, mut high) = (expected[at], expected[at]);
            for y in row.saturating_sub(1)..(row + 2).min(self.rows) {
                for &grey in &expected[y * columns..][near.clone()] {
                    (low, high) = (low.min(grey), high.max(grey));
                }
            }
            let nearest = self.short[at].clamp(low, high);
            *differs = u8::from(is_different(self.short[at], nearest));
        }
    }

    /// The connected patches among the cells that differ; their cells have their label.
    fn patches(&self, scratch: &mut Scratch) -> Vec<Patch> {
        let Scratch { differs, closed, labels, light, .. } = scratch;
        for ((differs, short), expected) in differs.iter_mut().zip(&self.short).zip(&light.expected) {
            *differs = u8::from(is_different(*short, *expected));
        }
        self.forgive_shaking(differs, &light.expected);
        close(differs, closed, self.columns);
        let mut runs: Vec<Run> = Vec::new();
        // The runs of the row above.
        let mut above = 0..0;
        for row in 0..self.rows {
            let first = runs.len();
            find_runs(closed, row * self.columns..(row + 1) * self.columns, &mut runs);
            for index in first..runs.len() {
                for upper in above.clone() {
                    let (here, there) = (runs[index].cells.clone(), runs[upper].cells.clone());
                    // Also by a corner.
                    if there.start + self.columns <= here.end && here.start <= there.end + self.columns {
                        join(&mut runs, upper, index);
                    }
                }
            }
            above = first..runs.len();
        }
        let mut patches: Vec<Patch> = Vec::new();
        let mut of_root = vec![usize::MAX; runs.len()];
        for index in 0..runs.len() {
            let root = root(&runs, index);
            if of_root[root] == usize::MAX {
                of_root[root] = patches.len();
                patches.push(Patch { label: 0, runs: Vec::new(), cells: 0 });
            }
            let patch = &mut patches[of_root[root]];
            patch.cells += runs[index].cells.len();
            patch.runs.push(runs[index].cells.clone());
        }
        patches.retain(|patch| patch.cells >= MIN_CELLS);
        for (label, patch) in (1..).zip(&mut patches) {
            patch.label = label;
            patch.runs.iter().for_each(|run| labels[run.clone()].fill(label));
        }
        patches
    }

    /// Whether a patch shows the background's own surface in other light. Surfaces are told by the contrasts between
    /// near cells, since light that fades over a patch changes all the rest.
    fn is_light(&self, patch: &Patch, scratch: &Scratch) -> bool {
        let expected = &scratch.light.expected;
        let (mut short, mut long, mut n) = (0.0, 0.0, 0.0f32);
        let (mut ss, mut ll, mut sl) = (0.0, 0.0, 0.0);
        for at in patch.cells() {
            short += self.short[at];
            long += expected[at];
            for other in [at + 2, at + 2 * self.columns] {
                if scratch.labels.get(other) == Some(&patch.label) {
                    let (s, l) = (self.short[other] - self.short[at], expected[other] - expected[at]);
                    ss += s * s;
                    ll += l * l;
                    sl += s * l;
                    n += 1.0;
                }
            }
        }
        if ss.max(ll) <= n * SMOOTH * SMOOTH {
            // A smooth surface on a smooth surface. Shade takes up to two thirds of the light and the sun gives it back,
            // with edges as sharp as things have; beyond that, a thing without any texture at 160 columns is one whose
            // edge is sharp on every side, as a lamp's pool has none.
            let cells = patch.cells as f32;
            let ratio = (short + cells) / (long + cells);
            return (SHADE..=1.0 / SHADE).contains(&ratio) || !self.has_sharp_edge(patch, scratch);
        }
        sl / (ss * ll).sqrt().max(1e-6) > SAME_SURFACE
    }

    /// Whether the patch ends within one cell, as things do; light fades over several.
    fn has_sharp_edge(&self, patch: &Patch, scratch: &Scratch) -> bool {
        let excess = |at: usize| (self.short[at] - scratch.light.expected[at]).abs();
        let inside = patch.cells().map(excess).sum::<f32>() / patch.cells as f32;
        let mut edge = 0u32;
        let mut sharp = 0u32;
        for at in patch.cells() {
            let (column, row) = (at % self.columns, at / self.columns);
            let outside = [
                (column > 1).then(|| at.wrapping_sub(2)),
                (column + 2 < self.columns).then_some(at + 2),
                (row > 1).then(|| at.wrapping_sub(2 * self.columns)),
                (row + 2 < self.rows).then_some(at + 2 * self.columns),
            ];
            let elsewhere = |other: &usize| scratch.labels[*other] != patch.label;
            for neighbour in outside.into_iter().flatten().filter(elsewhere) {
                edge += 1;
                sharp += u32::from(excess(neighbour) < inside * 0.25);
            }
        }
        edge > 0 && sharp * 4 >= edge * 3
    }

    /// Moves the long picture on where nothing covers it.
    fn take_long(&mut self, seconds: f32, scratch: &Scratch) {
        // While it warms up, the first looks make the background.
        self.learned |= self.looks >= WARM_UP_LOOKS;
        let rate = if self.learned { 1.0 - (-seconds / LONG).exp() } else { 1.0 };
        let absorb = ABSORB.as_secs_f32();
        let cells = self.long.iter_mut().zip(&self.short).zip(&mut self.stayed);
        let about = scratch.light.expected.iter().zip(&scratch.open).zip(&self.covered);
        for (((long, short), stayed), ((expected, open), covered)) in cells.zip(about) {
            let differs = is_different(*short, *expected);
            let stay = if differs { *stayed + seconds } else { 0.0 };
            let absorbed = stay > absorb;
            // What is hidden follows the light as its surroundings do: left as it is, it would be of another hour when what
            // hides it leaves, and look like a thing.
            let hidden = (*covered & self.learned) | (*open == 0.0);
            let target = if hidden & !absorbed { *expected } else { *short };
            *stayed = if absorbed { 0.0 } else { stay };
            *long += (target - *long) * if absorbed { 1.0 } else { rate };
        }
    }

    /// Notes the cells in which the model sees nothing.
    fn note_open(&self, detections: &[Detection], scratch: &mut Scratch) {
        scratch.open.fill(1.0);
        for detection in detections {
            let [x0, y0, x1, y1] = self.cells_of(&detection.bbox);
            for row in y0..y1 {
                scratch.open[row * self.columns + x0..row * self.columns + x1].fill(0.0);
            }
        }
    }

    fn cells_of(&self, place: &NormBox) -> [usize; 4] {
        let cell = |share: f32, of: usize| (share * of as f32) as usize;
        [
            cell(place.x0(), self.columns).min(self.columns),
            cell(place.y0(), self.rows).min(self.rows),
            (cell(place.x1(), self.columns) + 1).min(self.columns),
            (cell(place.y1(), self.rows) + 1).min(self.rows),
        ]
    }
}

impl Scratch {
    fn fit(&mut self, cells: usize) {
        self.differs.resize(cells, 0);
        self.labels.resize(cells, 0);
        self.open.resize(cells, 1.0);
    }
}

/// Whether something covers the background, which should look like `expected`.
fn is_different(short: f32, expected: f32) -> bool {
    (short - expected).abs() > DIFFERENT.max(expected * DIFFERENT_SHARE)
}

#[cfg(test)]
mod tests;
