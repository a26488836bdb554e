//! One situation's life: `began → updated → ended`.

use fleet::Rule;
use flow::{Detections, Event, EventId, EventObject, Phase, Score, SituationKey, Timestamp};

use crate::tracker::{Presence, Track};

/// A situation that has begun and not ended.
#[derive(Debug)]
pub(crate) struct Situation {
    id: EventId,
    key: SituationKey,
    rule: &'static str,
    /// The track that makes it up.
    pub(crate) track: u64,
    first_seen: Timestamp,
    began: Timestamp,
    last_seen: Timestamp,
    last_sent: Timestamp,
    /// Number of the next event.
    sequence: u32,
    confidence: Score,
    object: EventObject,
    /// The first look at which it was gone.
    gone_since: Option<Timestamp>,
}

/// What a look says about a situation.
enum Verdict {
    Present,
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
            track: track.id,
            first_seen: track.still_since(),
            began: now,
            last_seen: now,
            last_sent: now,
            sequence: 0,
            confidence: confidence(track),
            object: object(track),
            gone_since: None,
        };
        let event = situation.event(Phase::Began, look);
        (situation, event)
    }

    /// Takes one look; `track` is the situation's own, if it is still followed. The event to send, if any;
    /// `ended` is the last.
    pub(crate) fn look(&mut self, rule: &Rule, track: Option<&Track>, look: &Detections) -> Option<Event> {
        let now = look.captured;
        match self.judge(track, now) {
            Verdict::Unclear => None,
            Verdict::Present => {
                let track = track.expect("a present track is followed");
                self.gone_since = None;
                self.last_seen = now;
                self.object = object(track);
                self.confidence = confidence(track);
                let due = now.duration_since(self.last_sent).unsigned_abs() >= rule.update_every;
                due.then(|| self.event(Phase::Updated, look))
            }
            Verdict::Gone(since) => {
                let since = *self.gone_since.get_or_insert(since);
                let over = now.duration_since(since).unsigned_abs() >= rule.end_after;
                over.then(|| self.event(Phase::Ended { at: since }, look))
            }
        }
    }

    fn judge(&self, track: Option<&Track>, now: Timestamp) -> Verdict {
        let Some(track) = track else { return Verdict::Gone(now) };
        match track.presence {
            Presence::Hidden => Verdict::Unclear,
            Presence::Missing { since, .. } => Verdict::Gone(since),
            Presence::Seen if track.in_doubt() => Verdict::Unclear,
            // Its clock was restarted: it has left the place where the situation was.
            Presence::Seen if track.still_since() > self.began => Verdict::Gone(track.still_since()),
            Presence::Seen => Verdict::Present,
        }
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
            objects: vec![self.object.clone()],
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
