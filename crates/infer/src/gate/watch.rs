//! The gate's view of one camera.

use std::collections::HashSet;
use std::time::Duration;

use flow::{
    AccessUnit, Basis, ClassName, Detection, Detections, FrameId, Luma, NormBox, NormPoint, Polygon, Role,
    SessionId, Timestamp,
};

use super::compare::{Compared, Grid, Scratch, compare};
use super::screen::{self, Screen, Wanted};
use super::{Settings, Why};

/// A window is changed if what is left there is more than this many times the noise.
const THRESHOLD: f32 = 3.0;
/// Further pictures that are looked at after one that showed other things than before: what is new is seen twice.
const SETTLE: u8 = 1;
/// Things that only pass may be passed over where the shortest time of a rule is this many pictures or more.
const LEAST_PICTURES: f32 = 30.0;
/// What is new must show the same for one picture more per so many pictures of the shortest time: a thirtieth of it ...
const PICTURES_PER_PATIENCE: f32 = 30.0;
/// ... but no longer than this.
const MOST_PATIENCE: f32 = 3.0;
/// A place that does not come to rest is looked at after so many pictures more.
const RESTLESS: u8 = 2;
/// Places outside the zones, but so near, count: share of the picture's width.
const MARGIN: f32 = 0.03;
/// A detection whose place has this share of changed windows is not what is there now.
const GONE_SHARE: f32 = 0.4;
/// A detection that is found again overlaps the earlier one by at least this IoU.
const AGAIN_IOU: f32 = 0.5;

/// The last inferred picture and what was seen in it.
struct Reference {
    luma: Luma,
    seen: Detections,
}

/// Which windows matter, for pictures of one size.
struct Mask {
    grid: Grid,
    watched: Vec<bool>,
}

/// One camera.
pub(super) struct Watch {
    settings: Settings,
    reference: Option<Reference>,
    mask: Option<Mask>,
    /// The picture before, looked at or spared; kept only where it is needed.
    previous: Option<Luma>,
    /// When the picture before was captured, decoded or not, and how far apart pictures are.
    before: Option<Timestamp>,
    interval: Option<Duration>,
    /// When the last one that was compared was captured.
    judged: Option<Timestamp>,
    /// Per window: for how many pictures in a row it has differed from the reference, and for how many of these it has
    /// shown the same. A picture counts for those before it that were not decoded.
    differs: Vec<u8>,
    settled: Vec<u8>,
    /// For so many pictures something new must show the same, and has not yet.
    awaited: Option<u8>,
    /// What stands according to the last picture that was decoded.
    standing: Vec<Detection>,
    screen: Screen,
    /// Pictures that are still to be looked at.
    settle: u8,
    /// Somebody asked for a look.
    asked: bool,
    /// The newest picture that was sent to be looked at, until its detections are here.
    sent: Option<FrameId>,
    why: Why,
}

/// What to do with a picture.
pub(super) enum Judgement {
    /// Look at it.
    Infer(Why),
    /// These detections of the last inferred picture stand.
    Spare(Detections),
}

impl Watch {
    pub fn new(settings: Settings) -> Self {
        Self {
            screen: Screen::new(settings.decode_every, settings.phase, settings.sensitivity),
            settings,
            reference: None,
            mask: None,
            previous: None,
            before: None,
            interval: None,
            judged: None,
            differs: Vec::new(),
            settled: Vec::new(),
            awaited: None,
            standing: Vec::new(),
            settle: 0,
            asked: false,
            sent: None,
            why: Why::First,
        }
    }

    /// The next picture is looked at.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// What was seen no longer counts: the next picture is looked at as if it were the first.
    pub fn forget(&mut self) {
        self.reference = None;
    }

    /// The look that stands in the place of this picture's, or why it must be decoded.
    pub fn screen(&mut self, unit: &AccessUnit) -> Result<Detections, screen::Reason> {
        if unit.role == Role::Alone {
            self.keep_time(unit.captured);
        }
        let wanted = Wanted {
            look: self.must_look(unit.session, unit.captured).is_some() || self.settle > 0 || self.asked,
            settles_in: self.interval.zip(self.awaited).map(|(interval, n)| interval * u32::from(n)),
            interval: self.interval,
        };
        if let Some(why) = self.screen.judge(unit, &wanted) {
            return Err(why);
        }
        let seen = &self.reference.as_ref().ok_or(screen::Reason::Look)?.seen;
        Ok(Detections {
            frame: FrameId { camera: unit.camera.clone(), session: unit.session, sequence: unit.sequence },
            captured: unit.captured,
            model: seen.model.clone(),
            weights: seen.weights.clone(),
            basis: Basis::Unchanged,
            list: self.standing.clone(),
        })
    }

    /// The picture goes to the decoder.
    pub fn decodes(&mut self, unit: &AccessUnit) {
        self.screen.decodes(unit);
    }

    /// The scene has taken a look.
    pub fn taken(&mut self, frame: &FrameId, at_ease: bool) {
        self.screen.taken(frame, at_ease);
    }

    pub fn judge(
        &mut self,
        id: &FrameId,
        captured: Timestamp,
        luma: &Luma,
        scratch: &mut Scratches,
    ) -> Judgement {
        self.keep_time(captured);
        self.awaited = None;
        let judgement = self.decide(id.session, captured, luma, scratch);
        self.judged = Some(captured);
        if self.settings.shortest.is_some() {
            self.previous = Some(luma.clone());
        }
        match judgement {
            Ok(list) => {
                let Some(reference) = &self.reference else { return self.send(id, Why::First) };
                let (model, weights) = (reference.seen.model.clone(), reference.seen.weights.clone());
                let (frame, basis) = (id.clone(), Basis::Unchanged);
                self.standing.clone_from(&list);
                Judgement::Spare(Detections { frame, captured, model, weights, basis, list })
            }
            Err(why) => self.send(id, why),
        }
    }

    fn send(&mut self, id: &FrameId, why: Why) -> Judgement {
        self.sent = Some(id.clone());
        self.why = why;
        Judgement::Infer(why)
    }

    /// A picture may come twice, before and after the decoder.
    fn keep_time(&mut self, captured: Timestamp) {
        let is_known = |before: Timestamp| {
            // A clock that was set back is followed; a decoder is not a minute late.
            let ahead = before.duration_since(captured);
            !ahead.is_negative() && ahead.unsigned_abs() < Duration::from_secs(60)
        };
        if self.before.is_some_and(is_known) {
            return;
        }
        let since =
            self.before.replace(captured).map(|before| captured.duration_since(before).unsigned_abs());
        // Some are missed; a mean over the last few is good enough.
        self.interval = match (self.interval, since) {
            (Some(mean), Some(since)) => Some((mean * 3 + since.min(mean * 4)) / 4),
            (mean, since) => mean.or(since),
        };
    }

    /// Why a picture must be looked at, whatever it shows.
    fn must_look(&self, session: SessionId, captured: Timestamp) -> Option<Why> {
        if self.sent.is_some() {
            return Some(Why::Waiting);
        }
        let Some(Reference { seen, .. }) = &self.reference else { return Some(Why::First) };
        if seen.frame.session != session {
            return Some(Why::Session);
        }
        let age = captured.duration_since(seen.captured);
        (age.is_negative() || age.unsigned_abs() >= self.settings.refresh).then_some(Why::Refresh)
    }

    /// The detections that stand, or why the picture must be looked at.
    fn decide(
        &mut self,
        session: SessionId,
        captured: Timestamp,
        luma: &Luma,
        scratch: &mut Scratches,
    ) -> Result<Vec<Detection>, Why> {
        let must = self.must_look(session, captured);
        if let Some(why) = must.filter(|why| *why != Why::Refresh) {
            return Err(why);
        }
        let reference = self.reference.as_ref().ok_or(Why::First)?;
        if (reference.luma.columns(), reference.luma.rows()) != (luma.columns(), luma.rows()) {
            return Err(Why::Another);
        }
        if std::mem::take(&mut self.asked) {
            return Err(Why::Asked);
        }
        if let Some(why) = must {
            return Err(why);
        }
        if self.settle > 0 {
            self.settle -= 1;
            return Err(Why::Settling);
        }
        self.compare(captured, luma, scratch)
    }

    /// For how many pictures this one stands: itself and those before it that were not decoded.
    fn stands_for(&self, captured: Timestamp) -> u8 {
        let pictures = self.judged.zip(self.interval).map(|(judged, interval)| {
            let since = captured.duration_since(judged).unsigned_abs();
            (since.as_secs_f32() / interval.as_secs_f32().max(1e-3)).round()
        });
        pictures.unwrap_or(1.0).clamp(1.0, 100.0) as u8
    }

    fn compare(
        &mut self,
        captured: Timestamp,
        luma: &Luma,
        scratch: &mut Scratches,
    ) -> Result<Vec<Detection>, Why> {
        let pictures = self.stands_for(captured);
        let reference = self.reference.as_ref().ok_or(Why::First)?;
        if self.mask.is_none() {
            self.mask = Grid::of(luma).map(|grid| Mask::new(grid, &self.settings));
            self.differs.clear();
            self.settled.clear();
        }
        // Pictures without a window are too small to tell.
        let mask = self.mask.as_ref().ok_or(Why::Another)?;
        let threshold = THRESHOLD / self.settings.sensitivity;
        let Scratches { buffers, changed, moved } = scratch;
        let pair = (&reference.luma, luma);
        if compare(pair, mask.grid, threshold, buffers, changed) == Compared::Another {
            return Err(Why::Another);
        }
        self.differs.resize(mask.grid.len(), 0);
        self.settled.resize(mask.grid.len(), 0);
        // What was not seen may have been at rest.
        count(&mut self.differs, pictures.min(2), |window| changed[window]);
        let gone = |detection: &&Detection| mask.share(changed, &detection.bbox) >= GONE_SHARE;
        if reference.seen.list.iter().filter(gone).any(|d| self.settings.counts(d)) {
            return Err(Why::Gone);
        }
        let stand: Vec<_> = reference.seen.list.iter().filter(|d| !gone(d)).cloned().collect();
        if !changed.iter().zip(&mask.watched).any(|(changed, watched)| *changed && *watched) {
            self.settled.fill(0);
            return Ok(stand);
        }
        // Something is different where it matters. May it be something that only passes?
        let patience = self.patience().ok_or(Why::Changed)?;
        let previous =
            self.previous.as_ref().filter(|p| p.columns() == luma.columns() && p.rows() == luma.rows());
        let pair = (previous.ok_or(Why::Changed)?, luma);
        if compare(pair, mask.grid, threshold, buffers, moved) == Compared::Another {
            return Err(Why::Another);
        }
        count(&mut self.settled, pictures, |window| changed[window] && !moved[window]);
        let counts = self.differs.iter().zip(&self.settled).zip(&mask.watched);
        let stays = |((differs, settled), watched): ((&u8, &u8), &bool)| {
            *watched && (*settled >= patience || *differs > patience + RESTLESS)
        };
        if counts.into_iter().any(stays) {
            return Err(Why::Stays);
        }
        self.awaited = Some(patience);
        Ok(stand)
    }

    /// For how many pictures something new must show the same before it counts; `None`: at once.
    fn patience(&self) -> Option<u8> {
        let pictures = self.settings.shortest?.as_secs_f32() / self.interval?.as_secs_f32().max(1e-3);
        (pictures >= LEAST_PICTURES)
            .then(|| (pictures / PICTURES_PER_PATIENCE).clamp(1.0, MOST_PATIENCE) as u8)
    }

    /// Takes the detections of a picture that was looked at.
    pub fn looked(&mut self, seen: &Detections, luma: &Luma) {
        let newest = self.sent.as_ref().is_none_or(|sent| *sent == seen.frame);
        if newest {
            self.sent = None;
        }
        self.standing.clone_from(&seen.list);
        let before = self.reference.replace(Reference { luma: luma.clone(), seen: seen.clone() });
        let size = |luma: &Luma| (luma.columns(), luma.rows());
        if before.as_ref().is_none_or(|before| size(&before.luma) != size(luma)) {
            self.mask = None;
        }
        self.differs.fill(0);
        self.settled.fill(0);
        let as_before = before.is_some_and(|before| self.same(&before.seen.list, &seen.list));
        self.settle = if self.why == Why::Settling || as_before { 0 } else { SETTLE };
    }

    /// Whether two lists hold the same things, of those that count.
    fn same(&self, a: &[Detection], b: &[Detection]) -> bool {
        let within = |of: &[Detection], others: &[Detection]| {
            let again = |d: &Detection, o: &Detection| o.class == d.class && o.bbox.iou(&d.bbox) >= AGAIN_IOU;
            of.iter().filter(|d| self.settings.counts(d)).all(|d| others.iter().any(|o| again(d, o)))
        };
        within(a, b) && within(b, a)
    }
}

/// Counts in how many pictures in a row it was so, window by window; the newest stands for `pictures`.
fn count(counts: &mut [u8], pictures: u8, so: impl Fn(usize) -> bool) {
    for (window, count) in counts.iter_mut().enumerate() {
        *count = if so(window) { count.saturating_add(pictures) } else { 0 };
    }
}

/// Buffers of a thread.
#[derive(Default)]
pub(super) struct Scratches {
    buffers: Scratch,
    changed: Vec<bool>,
    moved: Vec<bool>,
}

impl Mask {
    fn new(grid: Grid, settings: &Settings) -> Self {
        let watched = (0..grid.len()).map(|window| settings.watches(grid.place(window)));
        Self { grid, watched: watched.collect() }
    }

    /// Which share of a box's windows has changed.
    fn share(&self, changed: &[bool], bbox: &NormBox) -> f32 {
        let [columns, rows] = self.grid.inside(bbox.to_array());
        let all = columns.len() * rows.len();
        let count = rows
            .flat_map(|row| columns.clone().map(move |column| row * self.grid.columns + column))
            .filter(|window| changed[*window])
            .count();
        count as f32 / all.max(1) as f32
    }
}

impl Settings {
    /// Whether some rule may count this detection.
    fn counts(&self, detection: &Detection) -> bool {
        let class = self
            .classes
            .as_ref()
            .is_none_or(|classes: &HashSet<ClassName>| classes.contains(&detection.class));
        class && {
            let foot = detection.bbox.foot();
            let at = NormPoint { x: foot.x, y: (foot.y - 1e-4).max(0.0) };
            self.near_zone(at) && !self.ignore.iter().any(|polygon| polygon.contains(at))
        }
    }

    /// Whether something happening in this part of the picture may matter to a rule.
    fn watches(&self, [x0, y0, x1, y1]: [f32; 4]) -> bool {
        let middle = NormPoint { x: (x0 + x1) / 2.0, y: (y0 + y1) / 2.0 };
        self.near_zone(middle) && !self.ignore.iter().any(|polygon| polygon.contains(middle))
    }

    fn near_zone(&self, at: NormPoint) -> bool {
        self.zones.iter().any(|zone| near(zone, at))
    }
}

/// Whether a point lies in a zone or within the margin around it.
fn near(zone: &Polygon, at: NormPoint) -> bool {
    if zone.contains(at) {
        return true;
    }
    let points = zone.points();
    points.iter().zip(points.iter().cycle().skip(1)).any(|(a, b)| {
        let (dx, dy) = (b.x - a.x, b.y - a.y);
        let along = ((at.x - a.x) * dx + (at.y - a.y) * dy) / (dx * dx + dy * dy).max(f32::MIN_POSITIVE);
        let along = along.clamp(0.0, 1.0);
        (at.x - a.x - along * dx).hypot(at.y - a.y - along * dy) <= MARGIN
    })
}
