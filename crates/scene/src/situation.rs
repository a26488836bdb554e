//! One situation's life: `began → updated → ended`.

use fleet::Rule;
use flow::{Detections, Event, EventId, EventObject, Phase, Score, SituationKey, Timestamp};

use crate::tracker::{Presence, Track};

/// A situation that has begun and not ended.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    id: EventId,
    key: SituationKey,
    rule: &'static str,
    /// The tracks that make it up; more than one where its rule takes a group for one.
    members: Vec<Member>,
    first_seen: Timestamp,
    began: Timestamp,
    last_seen: Timestamp,
    last_sent: Timestamp,
    /// Number of the next event.
    sequence: u32,
    confidence: Score,
    /// Its things, as last seen.
    objects: Vec<EventObject>,
    /// The first look at which all of it was gone.
    gone_since: Option<Timestamp>,
}

/// A thing of a situation.
#[derive(Debug, Clone, Copy)]
struct Member {
    track: u64,
    /// Since when it stood there when it became part of it: a later time means that it has moved.
    stood_since: Timestamp,
}

impl Member {
    fn new(track: &Track) -> Self {
        Self { track: track.id, stood_since: track.still_since() }
    }

    fn judge<'t>(&self, tracks: &'t [Track], now: Timestamp) -> Verdict<'t> {
        let Some(track) = tracks.iter().find(|track| track.id == self.track) else {
            return Verdict::Gone(now);
        };
        match track.presence {
            Presence::Hidden => Verdict::Unclear,
            Presence::Missing { since, .. } => Verdict::Gone(since),
            Presence::Seen if track.in_doubt() => Verdict::Unclear,
            Presence::Seen if track.still_since() > self.stood_since => Verdict::Gone(track.still_since()),
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
    pub(crate) fn begin(key: SituationKey, rule: &Rule, track: &Track, look: &Detections) -> (Self, Event) {
        let now = look.captured;
        let mut situation = Self {
            id: EventId::new(now, &key, track.id),
            key,
            rule: rule.kind.name(),
            members: vec![Member::new(track)],
            first_seen: track.still_since(),
            began: now,
            last_seen: now,
            last_sent: now,
            sequence: 0,
            confidence: confidence(track),
            objects: vec![object(track)],
            gone_since: None,
        };
        let event = situation.event(Phase::Began, look);
        (situation, event)
    }

    /// Whether a track is part of it.
    pub(crate) fn has(&self, track: u64) -> bool {
        self.members.iter().any(|member| member.track == track)
    }

    /// Makes a track, of which the rule holds, part of it; the next `updated` tells.
    pub(crate) fn join(&mut self, track: &Track) {
        self.members.push(Member::new(track));
    }

    /// Takes one look. The event to send, if any; `ended` is the last.
    pub(crate) fn look(&mut self, rule: &Rule, tracks: &[Track], look: &Detections) -> Option<Event> {
        let now = look.captured;
        let mut present = Vec::new();
        let mut unclear = false;
        let mut gone = Vec::new();
        for member in &self.members {
            match member.judge(tracks, now) {
                Verdict::Present(track) => present.push(track),
                Verdict::Unclear => unclear = true,
                Verdict::Gone(since) => gone.push((member.track, since)),
            }
        }
        if !present.is_empty() {
            self.gone_since = None;
            self.last_seen = now;
            self.objects = present.iter().map(|track| object(track)).collect();
            let best =
                present.iter().map(|track| confidence(track)).max_by(|a, b| a.get().total_cmp(&b.get()));
            self.confidence = best.unwrap_or(self.confidence);
            // What has left the group for good is no longer looked for.
            let over = |since: Timestamp| now.duration_since(since).unsigned_abs() >= rule.end_after;
            self.members.retain(|m| !gone.iter().any(|(track, since)| *track == m.track && over(*since)));
            let due = now.duration_since(self.last_sent).unsigned_abs() >= rule.update_every;
            return due.then(|| self.event(Phase::Updated, look));
        }
        if unclear {
            return None;
        }
        let last = gone.iter().map(|(_, since)| *since).max().unwrap_or(now);
        let since = *self.gone_since.get_or_insert(last);
        let over = now.duration_since(since).unsigned_abs() >= rule.end_after;
        over.then(|| self.event(Phase::Ended { at: since }, look))
    }

    fn event(&mut self, phase: Phase, look: &Detections) -> Event {
        let sequence = self.sequence;
        self.sequence += 1;
        self.last_sent = look.captured;
        Event {
            id: self.id,
            phase,
            sequence,
            key: self.key.clone(),
            rule: self.rule,
            first_seen: self.first_seen,
            began: self.began,
            last_seen: self.last_seen,
            confidence: self.confidence,
            objects: self.objects.clone(),
            model: look.model.clone(),
            frame: look.frame.clone(),
            captured: look.captured,
        }
    }
}

/// How sure: the mean score, lowered by the looks on which it was not seen.
fn confidence(track: &Track) -> Score {
    Score::new((track.mean_score() * track.seen_share()).clamp(0.0, 1.0)).unwrap_or(track.score)
}

fn object(track: &Track) -> EventObject {
    EventObject {
        class: track.class.clone(),
        score: track.score,
        bbox: track.bbox,
        track: track.id,
        first_seen: track.first_seen,
    }
}
