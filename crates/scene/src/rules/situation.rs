//! A situation that is made of things which stand somewhere.

use fleet::{Per, Rule};
use flow::{Detections, Event, EventId, EventObject, NormBox, Score, SituationKey, Timestamp};

use super::side_by_side;
use crate::story::{Seen, Story};
use crate::tracker::{Presence, Stand, Track};

/// A thing is gone when it was not there on so many clear looks in a row.
const GONE_LOOKS: u32 = 3;
/// What takes a group's place must have been seen standing there on so many looks.
const HEIR_HITS: u32 = 2;
/// A box of which this share lies in another is part of it.
const INSIDE: f32 = 0.75;

/// A situation that has begun and not ended.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Situation {
    story: Story,
    /// The tracks that make it up; more than one where its rule takes a group for one.
    members: Vec<Member>,
    /// The first look at which all of it was gone.
    gone_since: Option<Timestamp>,
}

/// A thing of a situation.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Member {
    track: u64,
    /// Since when it stood there when it became part of it: a later time means that it has moved.
    stood_since: Timestamp,
}

impl Member {
    fn new(rule: &Rule, track: &Track) -> Self {
        Self { track: track.id, stood_since: standing(rule, track).since() }
    }

    fn judge<'t>(&self, rule: &Rule, tracks: &'t [Track], now: Timestamp) -> Verdict<'t> {
        let Some(track) = tracks.iter().find(|track| track.id == self.track) else {
            return Verdict::Gone(now);
        };
        let stand = standing(rule, track);
        match track.presence {
            Presence::Hidden => Verdict::Unclear,
            // Dazzled or hidden for a moment, however long the time between two looks.
            Presence::Missing { looks, .. } if looks < GONE_LOOKS => Verdict::Unclear,
            Presence::Missing { since, .. } => Verdict::Gone(since),
            Presence::Seen if stand.in_doubt() => Verdict::Unclear,
            Presence::Seen if stand.since() > self.stood_since => Verdict::Gone(stand.since()),
            Presence::Seen => Verdict::Present(track),
        }
    }
}

/// What a look says about one thing of a situation.
enum Verdict<'t> {
    Present(&'t Track),
    Unclear,
    Gone(Timestamp),
}

impl Situation {
    /// Begins with `track`, of which the rule now holds.
    /// `recurs`: the situation that was in the same place before.
    pub fn begin(
        key: &SituationKey,
        rule: &Rule,
        track: &Track,
        recurs: Option<EventId>,
        look: &Detections,
    ) -> (Self, Event) {
        let stand = standing(rule, track);
        let seen = Seen { confidence: confidence(rule, track), objects: vec![object(track)] };
        let (story, event) = Story::begin(key, rule, track.id, (stand.since(), recurs), seen, look);
        (Self { story, members: vec![Member::new(rule, track)], gone_since: None }, event)
    }

    /// Its id.
    pub fn id(&self) -> EventId {
        self.story.id()
    }

    /// What its events show.
    pub fn story(&mut self) -> &mut Story {
        &mut self.story
    }

    /// The same, to read.
    pub fn told_by(&self) -> &Story {
        &self.story
    }

    /// Whether a track is part of it.
    pub fn has(&self, track: u64) -> bool {
        self.members.iter().any(|member| member.track == track)
    }

    /// The tracks that are part of it.
    pub fn tracks(&self) -> impl Iterator<Item = u64> {
        self.members.iter().map(|member| member.track)
    }

    /// Where it was last seen.
    pub fn covers(&self, place: &NormBox, iou: f32) -> bool {
        self.story.objects().iter().any(|object| is_same(&object.bbox, place, iou))
    }

    /// Of a group, what stands there now, when all that made it up is gone: a model boxes a heap of goods now as two
    /// things, now as one with its cart, and a vendor moves a table. As long as anything of its kind stands where it stood,
    /// it is the same stall.
    fn take_heirs<'t>(&mut self, rule: &Rule, tracks: &'t [Track], present: &mut Vec<&'t Track>) -> Heirs {
        let Some(things) = rule.kind.things().filter(|things| things.per == Per::Group) else {
            return Heirs::None;
        };
        let here = |track: &&Track| {
            let place = standing(rule, track).place();
            track.presence == Presence::Seen
                && things.classes.contains(&track.class)
                && track.score.get() >= rule.min_score_of(&track.class)
                && self.story.objects().iter().any(|object| side_by_side(&object.bbox, &place))
        };
        let here: Vec<&Track> = tracks.iter().filter(here).collect();
        let stays = |track: &&&Track| {
            let stand = standing(rule, track);
            !stand.in_doubt() && stand.hits() >= HEIR_HITS
        };
        present.extend(here.iter().filter(stays));
        for track in present.iter() {
            self.members.retain(|member| member.track != track.id);
            self.members.push(Member::new(rule, track));
        }
        match (present.is_empty(), here.is_empty()) {
            (false, _) => Heirs::Found,
            (true, false) => Heirs::Unclear,
            (true, true) => Heirs::None,
        }
    }

    /// Makes a track, of which the rule holds, part of it; the next `updated` tells.
    pub fn join(&mut self, rule: &Rule, track: &Track) {
        self.members.push(Member::new(rule, track));
    }

    /// Ends it without a look at its things: the rule no longer applies.
    pub fn end(&mut self, rule: &Rule, look: &Detections) -> Event {
        self.story.end(rule, look.captured, look)
    }

    /// Takes one look. The event to send, if any; `ended` is the last.
    pub fn look(&mut self, rule: &Rule, tracks: &[Track], look: &Detections) -> Option<Event> {
        let now = look.captured;
        if self.story.is_dismissed() {
            return Some(self.story.end(rule, now, look));
        }
        let mut present = Vec::new();
        let mut unclear = false;
        let mut gone = Vec::new();
        for member in &self.members {
            match member.judge(rule, tracks, now) {
                Verdict::Present(track) => present.push(track),
                Verdict::Unclear => unclear = true,
                Verdict::Gone(since) => gone.push((member.track, since)),
            }
        }
        let mut heirs = Heirs::None;
        if present.is_empty() && !unclear {
            heirs = self.take_heirs(rule, tracks, &mut present);
        }
        if !present.is_empty() {
            self.gone_since = None;
            // What has left the group for good is no longer looked for.
            let over = |since: Timestamp| now.duration_since(since).unsigned_abs() >= rule.end_after;
            self.members.retain(|m| !gone.iter().any(|(track, since)| *track == m.track && over(*since)));
            let best = present
                .iter()
                .map(|track| confidence(rule, track))
                .max_by(|a, b| a.get().total_cmp(&b.get()));
            let seen = Seen {
                confidence: best.expect("something is present"),
                objects: present.iter().map(|track| object(track)).collect(),
            };
            return self.story.update(rule, seen, look);
        }
        if unclear || heirs == Heirs::Unclear {
            return None;
        }
        let last = gone.iter().map(|(_, since)| *since).max().unwrap_or(now);
        let since = *self.gone_since.get_or_insert(last);
        let over = now.duration_since(since).unsigned_abs() >= rule.end_after;
        over.then(|| self.story.end(rule, since, look))
    }
}

/// What stands where a group stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heirs {
    None,
    /// Something of its kind was seen there, once: it may pass.
    Unclear,
    Found,
}

/// How sure: the mean score, lowered by the looks on which it was not seen.
fn confidence(rule: &Rule, track: &Track) -> Score {
    let stand = standing(rule, track);
    Score::new((stand.mean_score() * stand.seen_share()).clamp(0.0, 1.0)).unwrap_or(track.score)
}

/// How a thing stands, as far as this rule lets it drift.
pub(super) fn standing<'t>(rule: &Rule, track: &'t Track) -> &'t Stand {
    rule.kind.things().map_or(track.stand(), |things| track.standing(things.drift))
}

/// Whether two boxes are of one thing: they overlap more than `iou`, or one lies in the other, as when a thing is half
/// hidden or boxed together with its neighbour.
pub(super) fn is_same(a: &NormBox, b: &NormBox, iou: f32) -> bool {
    a.iou(b) > iou || a.intersection(b) >= INSIDE * a.area().min(b.area())
}

/// A thing as events show it.
pub(super) fn object(track: &Track) -> EventObject {
    EventObject {
        class: track.class.clone(),
        score: track.score,
        bbox: track.bbox,
        track: track.id,
        first_seen: track.first_seen,
    }
}
