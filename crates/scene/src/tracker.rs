//! Following things from look to look.
//!
//! What stands still is found again by overlap, and that is what most rules ask about. Association is in two stages,
//! as in ByteTrack (arXiv:2110.06864): confident detections first, then the weak ones, which may keep a track alive
//! but never start one. At one look every two seconds what moves has left its own box long before the next look, so a
//! third stage ([`motion`]) links what is left over by where it should be by now, and only where there is no doubt.

use std::time::Duration;

use flow::{ClassName, Detection, NormBox, Score, Timestamp};

use crate::motion::{self, Motion};

/// Detections below this share of overlap with a track are something else (same class).
const SAME_CLASS_IOU: f32 = 0.3;
/// The same for a detection of another class: models change their mind about a thing that stands still.
const OTHER_CLASS_IOU: f32 = 0.6;
/// A box that covers this share of where a thing stood, and stands nearer to the camera, hides it.
const HIDDEN_SHARE: f32 = 0.5;
/// What was not there on this many clear looks in a row is forgotten, unless a situation waits for it.
const FORGET_AFTER_LOOKS: u32 = 3;
/// Seen more often than this in one place, a thing does not leap to another: it is there, hidden or gone.
const SETTLED_HITS: u32 = 2;
/// More things than this in one picture are not followed: bounds memory and time.
const MAX_TRACKS: usize = 512;

/// What the newest look said about a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Presence {
    /// It was seen.
    Seen,
    /// Something nearer to the camera covers its place: the look says nothing.
    Hidden,
    /// Its place was in view and it was not there, for the first time at `since`.
    Missing {
        /// The first clear look without it.
        since: Timestamp,
        /// How many clear looks without it, in a row.
        looks: u32,
    },
}

/// Whether somebody needs a thing that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It is part of a situation that goes on: it may come back.
    Awaited,
    /// The situation that it was part of is over.
    Over,
    /// It is part of none.
    Unknown,
}

/// One thing, followed.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Track {
    /// Unique in its tracker.
    pub id: u64,
    /// What it was last taken for.
    pub class: ClassName,
    /// Where it was last seen.
    pub bbox: NormBox,
    /// How sure the model was then.
    pub score: Score,
    /// First look at which it was seen.
    pub first_seen: Timestamp,
    /// Last look at which it was seen.
    pub last_seen: Timestamp,
    /// What the newest look said.
    pub presence: Presence,
    /// Where it stands, once for each drift that a rule allows; the strictest first. Never empty.
    stands: Vec<Stand>,
    motion: Motion,
}

/// A thing standing in one place, as a rule sees it that lets it drift so far.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Stand {
    /// It stands while its middle moves by less than this share of its diagonal.
    drift: f32,
    at: NormBox,
    since: Timestamp,
    /// Of the time since then, how long nobody looked.
    unwatched: Duration,
    /// Clear looks since then.
    looks: u32,
    /// Looks at which it was seen.
    hits: u32,
    score_sum: f32,
    /// Seen once away from where it stood: moved, or a bad box? The next look decides.
    strayed: Option<(NormBox, Timestamp)>,
}

impl Stand {
    fn new(drift: f32, at: NormBox, since: Timestamp) -> Self {
        Self { drift, at, since, unwatched: Duration::ZERO, looks: 0, hits: 0, score_sum: 0.0, strayed: None }
    }

    fn see(&mut self, detection: &Detection, now: Timestamp) {
        if stays(&self.at, &detection.bbox, self.drift) {
            self.strayed = None;
        } else if let Some((at, since)) = self.strayed.take() {
            // Twice in a row away from its place: it moved, at the first of the two. Where the two agree it
            // stands there now; where they do not, it is still moving.
            let agree = stays(&at, &detection.bbox, self.drift);
            let start = if agree { (at, since) } else { (detection.bbox, now) };
            *self = Self::new(self.drift, start.0, start.1);
        } else {
            self.strayed = Some((detection.bbox, now));
        }
        self.hit(detection.score);
    }

    fn hit(&mut self, score: Score) {
        self.looks += 1;
        self.hits += 1;
        self.score_sum += score.get();
    }

    /// Since when it has been standing where it is.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// How long it was watched standing where it is, up to `now`.
    pub fn stood_for(&self, now: Timestamp) -> Duration {
        now.duration_since(self.since).unsigned_abs().saturating_sub(self.unwatched)
    }

    /// Where it has been standing.
    pub fn place(&self) -> NormBox {
        self.at
    }

    /// Share of the clear looks, since it stands there, on which it was seen: 0..=1.
    pub fn seen_share(&self) -> f32 {
        self.hits as f32 / self.looks.max(1) as f32
    }

    /// On how many looks it was seen standing there.
    pub fn hits(&self) -> u32 {
        self.hits
    }

    /// Mean score while it has been standing there: 0..=1.
    pub fn mean_score(&self) -> f32 {
        self.score_sum / self.hits.max(1) as f32
    }

    /// Last seen away from its place, and the next look has yet to say whether it moved.
    pub fn in_doubt(&self) -> bool {
        self.strayed.is_some()
    }
}

impl Track {
    /// How it stands for a rule that lets it drift by so much of its diagonal: one of the tracker's drifts.
    pub fn standing(&self, drift: f32) -> &Stand {
        self.stands.iter().find(|stand| stand.drift >= drift).unwrap_or(&self.stands[self.stands.len() - 1])
    }

    /// How it stands for the strictest rule.
    pub fn stand(&self) -> &Stand {
        &self.stands[0]
    }

    /// Whether it has been standing for so short a time that it may as well be moving.
    pub(crate) fn may_move(&self) -> bool {
        self.stand().hits <= SETTLED_HITS || self.stand().in_doubt()
    }

    /// Where it should be by now.
    pub(crate) fn motion(&self) -> &Motion {
        &self.motion
    }

    fn see(&mut self, detection: &Detection, now: Timestamp) {
        self.motion.see(&self.bbox, &detection.bbox, now.duration_since(self.last_seen).unsigned_abs());
        self.presence = Presence::Seen;
        self.class = detection.class.clone();
        self.bbox = detection.bbox;
        self.score = detection.score;
        self.last_seen = now;
        self.stands.iter_mut().for_each(|stand| stand.see(detection, now));
    }

    fn miss(&mut self, now: Timestamp, hidden: bool) {
        if hidden {
            self.presence = Presence::Hidden;
            return;
        }
        self.stands.iter_mut().for_each(|stand| stand.looks += 1);
        self.presence = match self.presence {
            Presence::Missing { since, looks } => Presence::Missing { since, looks: looks + 1 },
            Presence::Seen | Presence::Hidden => Presence::Missing { since: now, looks: 1 },
        };
    }
}

/// Whether a thing at `now` still stands where it stood: its middle moved by less than `drift` of its
/// diagonal, or the boxes still cover each other (a half-hidden thing has its middle elsewhere).
fn stays(stood: &NormBox, now: &NormBox, drift: f32) -> bool {
    let (a, b) = (stood.centre(), now.centre());
    let moved = (a.x - b.x).hypot(a.y - b.y);
    moved <= drift * stood.width().hypot(stood.height()) || stood.iou(now) >= 0.6
}

/// Follows the things in front of one camera.
#[derive(Debug, Clone)]
pub struct Tracker {
    memory: Memory,
    /// Of the time before the newest look, how much nobody looked.
    unwatched: Duration,
    /// A stretch without looks longer than this does not count as standing still.
    max_gap: Duration,
    /// A thing stands still while its middle moves by less than this share of its diagonal: one for each kind of rule,
    /// the smallest first. Never empty.
    drifts: Vec<f32>,
    /// Weaker detections start no track.
    start_score: f32,
}

/// What a tracker has to remember over a restart.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Memory {
    tracks: Vec<Track>,
    next_id: u64,
    last_look: Option<Timestamp>,
}

impl Tracker {
    /// `max_gap`: a stretch without looks longer than this does not count as standing still. `drifts`: shares of its
    /// diagonal by which a still thing may move, as the rules have it; none: a quarter. `start_score`: weaker detections
    /// start no track.
    pub fn new(max_gap: Duration, drifts: &[f32], start_score: f32) -> Self {
        let mut drifts = if drifts.is_empty() { vec![0.25] } else { drifts.to_vec() };
        drifts.sort_by(f32::total_cmp);
        drifts.dedup();
        let memory = Memory { tracks: Vec::new(), next_id: 1, last_look: None };
        Self { memory, unwatched: Duration::ZERO, max_gap, drifts, start_score }
    }

    /// The things followed.
    pub fn tracks(&self) -> &[Track] {
        &self.memory.tracks
    }

    /// Of the time between the newest look and the one before, how much is longer than a gap may be.
    pub fn unwatched(&self) -> Duration {
        self.unwatched
    }

    /// Where things have been standing for at least `time`, seen on most of the looks and on the newest one.
    pub(crate) fn standing(&self, time: Duration, now: Timestamp) -> impl Iterator<Item = NormBox> {
        let stands = move |track: &&Track| {
            let stand = track.stand();
            let often = stand.hits() > 2 && stand.seen_share() > 0.5;
            track.presence == Presence::Seen && often && stand.stood_for(now) >= time
        };
        self.memory.tracks.iter().filter(stands).map(|track| track.stand().place())
    }

    /// When it looked last.
    pub fn last_look(&self) -> Option<Timestamp> {
        self.memory.last_look
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn restore(&mut self, mut memory: Memory) {
        memory.tracks.truncate(MAX_TRACKS);
        memory.tracks.retain(|track| !track.stands.is_empty());
        for track in &mut memory.tracks {
            // The rules may have changed: a drift that is new goes on from the nearest that was there.
            let stands = self.drifts.iter().map(|&drift| Stand { drift, ..*track.standing(drift) });
            track.stands = stands.collect();
        }
        self.memory = memory;
    }

    /// Takes the detections of one look. A look that is not later than the one before is ignored: `false`.
    pub fn look(&mut self, detections: &[Detection], now: Timestamp) -> bool {
        if self.memory.last_look.is_some_and(|last| now <= last) {
            return false;
        }
        self.bridge_gap(now);
        self.memory.last_look = Some(now);

        let mut free: Vec<&Detection> = detections.iter().collect();
        let mut unseen: Vec<usize> = (0..self.memory.tracks.len()).collect();
        let start = self.start_score;
        for strong in [true, false] {
            let (mut stage, rest): (Vec<_>, Vec<_>) =
                free.into_iter().partition(|d| (d.score.get() >= start) == strong);
            self.associate(&mut stage, &mut unseen, now);
            if strong {
                self.follow_movers(&mut stage, &mut unseen, now);
            }
            free = stage.into_iter().chain(rest).collect();
        }
        for index in unseen {
            let hidden = detections.iter().any(|d| hides(d, &self.memory.tracks[index]));
            self.memory.tracks[index].miss(now, hidden);
        }
        for detection in free.into_iter().filter(|d| d.score.get() >= start) {
            self.start(detection, now);
        }
        true
    }

    /// Takes a look that only repeats what the last one saw, since the picture has not changed. Time goes on, and what
    /// is repeated was last seen now; but nothing new is learned: no thing appears or moves, and what is repeated counts
    /// neither as a look nor as a hit. What is not repeated has left, or had before: unless somebody waits for it, it is
    /// forgotten after some looks, so that the next thing does not take its place in the books.
    /// `false`: not later than the look before, and ignored.
    pub fn carry(&mut self, detections: &[Detection], now: Timestamp) -> bool {
        if self.memory.last_look.is_some_and(|last| now <= last) {
            return false;
        }
        self.bridge_gap(now);
        self.memory.last_look = Some(now);
        for track in &mut self.memory.tracks {
            let repeated = detections.iter().any(|d| d.class == track.class && d.bbox == track.bbox);
            track.presence = match track.presence {
                _ if repeated => {
                    track.last_seen = now;
                    Presence::Seen
                }
                Presence::Hidden => Presence::Hidden,
                Presence::Seen => Presence::Missing { since: now, looks: 1 },
                Presence::Missing { since, looks } => Presence::Missing { since, looks: looks + 1 },
            };
        }
        true
    }

    /// Forgets what has gone, so that the next thing in its place starts its own clock: at once where `need` says
    /// that nobody waits for it to come back, never while somebody does, and else after some looks.
    pub fn forget(&mut self, need: impl Fn(&Track) -> Need) {
        self.memory.tracks.retain(|track| match (track.presence, need(track)) {
            (Presence::Seen | Presence::Hidden, _) | (_, Need::Awaited) => true,
            (_, Need::Over) => false,
            (Presence::Missing { looks, .. }, Need::Unknown) => looks < FORGET_AFTER_LOOKS,
        });
    }

    /// Matches each track in `unseen` with the detection that overlaps it most, best pair first; what matched
    /// leaves both lists.
    fn associate(&mut self, free: &mut Vec<&Detection>, unseen: &mut Vec<usize>, now: Timestamp) {
        let mut pairs = Vec::new();
        for &index in unseen.iter() {
            let track = &self.memory.tracks[index];
            for (at, detection) in free.iter().enumerate() {
                let stood = track.stands.iter().map(|stand| stand.at.iou(&detection.bbox));
                let overlap = stood.fold(track.bbox.iou(&detection.bbox), f32::max);
                let needed = if track.class == detection.class { SAME_CLASS_IOU } else { OTHER_CLASS_IOU };
                if overlap >= needed {
                    pairs.push((overlap, index, at));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut taken = vec![false; free.len()];
        for (_, index, at) in pairs {
            if !taken[at]
                && let Some(position) = unseen.iter().position(|&u| u == index)
            {
                taken[at] = true;
                unseen.swap_remove(position);
                self.memory.tracks[index].see(free[at], now);
            }
        }
        let mut at = 0;
        free.retain(|_| {
            at += 1;
            !taken[at - 1]
        });
    }

    /// Links what is left over with where moving things should be by now.
    fn follow_movers(&mut self, free: &mut Vec<&Detection>, unseen: &mut Vec<usize>, now: Timestamp) {
        let links = motion::link(&self.memory.tracks, unseen, free, now);
        for &(index, at) in &links {
            self.memory.tracks[index].see(free[at], now);
            unseen.retain(|&other| other != index);
        }
        let mut at = 0;
        free.retain(|_| {
            at += 1;
            !links.iter().any(|(_, taken)| *taken == at - 1)
        });
    }

    fn start(&mut self, detection: &Detection, now: Timestamp) {
        if self.memory.tracks.len() >= MAX_TRACKS {
            return;
        }
        let stands = self.drifts.iter().map(|&drift| {
            let mut stand = Stand::new(drift, detection.bbox, now);
            stand.hit(detection.score);
            stand
        });
        self.memory.tracks.push(Track {
            id: self.memory.next_id,
            class: detection.class.clone(),
            bbox: detection.bbox,
            score: detection.score,
            first_seen: now,
            last_seen: now,
            presence: Presence::Seen,
            stands: stands.collect(),
            motion: Motion::default(),
        });
        self.memory.next_id += 1;
    }

    /// Nobody looked for a while: that time proves nothing about what stood there.
    fn bridge_gap(&mut self, now: Timestamp) {
        let Some(last) = self.memory.last_look else { return };
        let gap = now.duration_since(last).unsigned_abs();
        self.unwatched = gap.saturating_sub(self.max_gap);
        for track in &mut self.memory.tracks {
            track.stands.iter_mut().for_each(|stand| stand.unwatched += self.unwatched);
        }
    }
}

/// Whether `detection` stands in front of where `track` was: it covers the place and its foot is lower in the
/// picture, so nearer to the camera.
fn hides(detection: &Detection, track: &Track) -> bool {
    let place = &track.stand().at;
    detection.bbox.y1() > place.y1() + 0.02
        && detection.bbox.intersection(place) >= HIDDEN_SHARE * place.area()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn thing(class: &str, score: f32, x: f32, y: f32) -> Detection {
        Detection {
            class: ClassName::new(class),
            score: Score::new(score).unwrap(),
            bbox: NormBox::new(x, y, x + 0.2, y + 0.1).unwrap(),
        }
    }

    fn tracker() -> Tracker {
        Tracker::new(Duration::from_secs(10), &[0.25], 0.4)
    }

    #[test]
    fn a_still_thing_keeps_its_number_over_class_changes_and_weak_looks() {
        let mut t = tracker();
        for (second, seen) in [
            (0, thing("car", 0.8, 0.3, 0.5)),
            (2, thing("truck", 0.7, 0.305, 0.5)),
            (4, thing("car", 0.2, 0.3, 0.502)),
            (6, thing("car", 0.9, 0.3, 0.5)),
        ] {
            assert!(t.look(&[seen], at(second)));
        }
        assert_eq!(t.tracks().len(), 1);
        assert_eq!(t.tracks()[0].stand().since(), at(0));
        assert_eq!(t.tracks()[0].stand().hits(), 4);
    }

    #[test]
    fn weak_detections_start_nothing_and_old_looks_are_ignored() {
        let mut t = tracker();
        assert!(t.look(&[thing("car", 0.39, 0.3, 0.5)], at(0)));
        assert!(t.tracks().is_empty());
        assert!(!t.look(&[thing("car", 0.9, 0.3, 0.5)], at(0)));
        assert!(t.tracks().is_empty());
    }

    #[test]
    fn one_bad_box_does_not_restart_the_clock_but_moving_does() {
        let mut t = tracker();
        t.look(&[thing("car", 0.8, 0.3, 0.5)], at(0));
        t.look(&[thing("car", 0.8, 0.38, 0.5)], at(2));
        assert!(t.tracks()[0].stand().in_doubt());
        t.look(&[thing("car", 0.8, 0.3, 0.5)], at(4));
        assert_eq!(t.tracks()[0].stand().since(), at(0));
        t.look(&[thing("car", 0.8, 0.38, 0.5)], at(6));
        t.look(&[thing("car", 0.8, 0.385, 0.5)], at(8));
        assert_eq!(t.tracks().len(), 1);
        assert_eq!(t.tracks()[0].stand().since(), at(6), "it moved at the first of the two looks that agree");
    }

    #[test]
    fn a_gap_without_looks_is_not_standing_still() {
        let mut t = tracker();
        t.look(&[thing("car", 0.8, 0.3, 0.5)], at(0));
        t.look(&[thing("car", 0.8, 0.3, 0.5)], at(2));
        t.look(&[thing("car", 0.8, 0.3, 0.5)], at(602));
        let stood = t.tracks()[0].stand().stood_for(at(602));
        assert_eq!(stood.as_secs(), 12, "2 s seen, and of 600 s unseen the 10 s that are allowed");
        assert_eq!(t.tracks()[0].stand().since(), at(0));
    }

    #[test]
    fn what_has_left_is_forgotten_also_while_the_picture_stays_the_same() {
        let (parked, passing) = (thing("car", 0.8, 0.3, 0.5), thing("car", 0.8, 0.6, 0.5));
        let mut t = tracker();
        t.look(&[parked.clone(), passing.clone()], at(0));
        // The gate repeats what still stands; somebody walks past it once.
        for (second, list) in [(2, vec![parked.clone()]), (4, vec![]), (6, vec![parked.clone()])] {
            t.carry(&list, at(second));
            t.forget(|_| Need::Unknown);
        }
        assert_eq!(t.tracks().len(), 1, "only what stands is left");
        assert_eq!((t.tracks()[0].presence, t.tracks()[0].last_seen), (Presence::Seen, at(6)));
        assert_eq!(t.tracks()[0].stand().hits(), 1, "what is repeated is no hit");
        // Another one, where the first one passed, has its own clock and its own place.
        t.look(&[parked, thing("car", 0.8, 0.68, 0.52)], at(8));
        let newest = t.tracks().iter().max_by_key(|track| track.id).unwrap();
        assert_eq!((newest.stand().since(), newest.stand().place().x0()), (at(8), 0.68));
    }

    #[test]
    fn what_stands_in_front_hides_and_an_empty_place_is_missing() {
        let mut t = tracker();
        t.look(&[thing("car", 0.8, 0.3, 0.5)], at(0));
        let bus =
            Detection { bbox: NormBox::new(0.2, 0.3, 0.7, 0.8).unwrap(), ..thing("bus", 0.9, 0.0, 0.0) };
        t.look(&[bus], at(2));
        assert_eq!(t.tracks()[0].presence, Presence::Hidden);
        t.look(&[], at(4));
        t.look(&[], at(6));
        assert_eq!(t.tracks()[0].presence, Presence::Missing { since: at(4), looks: 2 });
        t.look(&[], at(8));
        t.forget(|_| Need::Awaited);
        assert!(!t.tracks().is_empty());
        t.forget(|_| Need::Unknown);
        assert!(t.tracks().is_empty());
    }

    #[test]
    fn crowds_are_bounded() {
        let mut t = tracker();
        let crowd: Vec<_> = (0..2000)
            .map(|i| {
                let (x, y) = ((i % 50) as f32 * 0.016, (i / 50) as f32 * 0.02);
                Detection {
                    bbox: NormBox::new(x, y, x + 0.015, y + 0.019).unwrap(),
                    ..thing("person", 0.9, 0.0, 0.0)
                }
            })
            .collect();
        t.look(&crowd, at(0));
        t.look(&crowd, at(1));
        assert_eq!(t.tracks().len(), MAX_TRACKS);
    }

    #[test]
    fn each_rule_has_its_own_drift() {
        // A stall whose box breathes by a third of its diagonal, as people pass before it.
        let mut t = Tracker::new(Duration::from_secs(10), &[0.5, 0.1], 0.4);
        for second in 0..10 {
            let x = if second % 4 < 2 { 0.3 } else { 0.38 };
            t.look(&[thing("goods", 0.8, x, 0.5)], at(2 * second));
        }
        assert_eq!(t.tracks().len(), 1);
        let track = &t.tracks()[0];
        assert_eq!((track.standing(0.5).since(), track.standing(0.5).hits()), (at(0), 10));
        assert!(track.standing(0.1).since() > at(10), "{:?}", track.standing(0.1));
        // Another configuration: what is new goes on from the next looser one that was there.
        let saved = t.memory().clone();
        let mut t = Tracker::new(Duration::from_secs(10), &[0.25, 0.5], 0.4);
        t.restore(saved);
        assert_eq!(t.tracks()[0].standing(0.25).since(), at(0));
        assert_eq!(t.tracks()[0].stands.len(), 2);
    }
}
