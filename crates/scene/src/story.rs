//! What every situation is told by, whatever its rule: one id, `began → updated → ended`.

use fleet::Rule;
use flow::{
    Confirmation, Detections, Event, EventId, EventObject, HostPicture, NormBox, Phase, Score, SituationId,
    SituationKey, Timestamp, ZoneId,
};

use crate::near;

/// The part of a situation that its events show.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Story {
    id: EventId,
    zone: ZoneId,
    situation: SituationId,
    first_seen: Timestamp,
    began: Timestamp,
    last_seen: Timestamp,
    last_sent: Timestamp,
    /// Number of the next event.
    sequence: u32,
    /// As the rule states it; events tell what that is worth.
    confidence: Score,
    /// Its things, as last seen.
    objects: Vec<EventObject>,
    /// The situation that was in the same place not long before.
    recurs: Option<EventId>,
    /// The desk has said that it is no problem.
    dismissed: bool,
    /// How well it is seen in the best picture that was sent, and how often a better one was.
    #[serde(default)]
    shown: f32,
    #[serde(default)]
    shown_better: u8,
    /// What a second model said before it began.
    #[serde(default)]
    confirmed_by: Option<Confirmation>,
}

/// What is seen of a situation in one look.
pub(crate) struct Seen {
    pub confidence: Score,
    pub objects: Vec<EventObject>,
}

impl Story {
    /// Begins a situation. `number` tells apart those that begin in the same look.
    pub fn begin(
        key: &SituationKey,
        rule: &Rule,
        number: u64,
        (first_seen, recurs): (Timestamp, Option<EventId>),
        seen: Seen,
        look: &Detections,
    ) -> (Self, Event) {
        let now = look.captured;
        let mut story = Self {
            id: EventId::new(now, key, number),
            zone: key.zone.clone(),
            situation: key.situation.clone(),
            first_seen,
            began: now,
            last_seen: now,
            last_sent: now,
            sequence: 0,
            confidence: seen.confidence,
            objects: seen.objects,
            recurs,
            dismissed: false,
            shown: 0.0,
            shown_better: 0,
            confirmed_by: None,
        };
        let event = story.event(rule, Phase::Began, look);
        (story, event)
    }

    /// It goes on; the event to send, if one is due.
    pub fn update(&mut self, rule: &Rule, seen: Seen, look: &Detections) -> Option<Event> {
        self.last_seen = look.captured;
        self.objects = seen.objects;
        self.confidence = seen.confidence;
        let due = look.captured.duration_since(self.last_sent).unsigned_abs() >= rule.update_every;
        due.then(|| self.event(rule, Phase::Updated, look))
    }

    /// It is over since `at`.
    pub fn end(&mut self, rule: &Rule, at: Timestamp, look: &Detections) -> Event {
        self.event(rule, Phase::Ended { at }, look)
    }

    /// Notes what a second model said; its events tell.
    pub fn confirm(&mut self, confirmation: Confirmation) {
        self.confirmed_by = Some(confirmation);
    }

    /// Whether it is young, and a better look of it may yet be sent.
    pub fn may_be_shown_better(&self) -> bool {
        let age = self.last_seen.duration_since(self.began).unsigned_abs();
        self.shown_better < near::MOST && age <= near::YOUNG && !self.dismissed
    }

    /// Whether it was seen in this look.
    pub fn is_seen_in(&self, look: &Detections) -> bool {
        self.last_seen == look.captured
    }

    /// Takes how well a look shows it; the event to send, where that is clearly better than what was sent.
    pub fn show_near(
        &mut self,
        rule: &Rule,
        judged: Option<(f32, NormBox)>,
        picture: &HostPicture,
        look: &Detections,
    ) -> Option<Event> {
        if self.began == look.captured {
            self.shown = near::of_first(judged.map(|(quality, _)| quality), picture);
        }
        let (quality, part) = judged?;
        if !near::is_better(quality, self.shown) {
            return None;
        }
        (self.shown, self.shown_better) = (quality, self.shown_better + 1);
        // The next `updated` comes when it is due.
        let last_sent = self.last_sent;
        let event = self.event(rule, Phase::Updated, look);
        self.last_sent = last_sent;
        Some(Event { near: Some(part), ..event })
    }

    /// Its id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The desk says that it is no problem: it ends at the next look. Where it was.
    pub fn dismiss(&mut self) -> Vec<NormBox> {
        self.dismissed = true;
        self.objects.iter().map(|object| object.bbox).collect()
    }

    /// Whether it only waits for a look to end at.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed
    }

    /// Where it was last seen.
    pub fn objects(&self) -> &[EventObject] {
        &self.objects
    }

    fn event(&mut self, rule: &Rule, phase: Phase, look: &Detections) -> Event {
        let sequence = self.sequence;
        self.sequence += 1;
        self.last_sent = look.captured;
        Event {
            id: self.id,
            phase,
            sequence,
            key: SituationKey {
                camera: look.frame.camera.clone(),
                zone: self.zone.clone(),
                situation: self.situation.clone(),
            },
            rule: rule.kind.name(),
            first_seen: self.first_seen,
            began: self.began,
            last_seen: self.last_seen,
            confidence: rule.calibration.as_ref().map_or(self.confidence, |known| known.of(self.confidence)),
            uncalibrated: rule.calibration.is_some().then_some(self.confidence),
            objects: self.objects.clone(),
            recurs: self.recurs,
            place: None,
            same_as: None,
            near: None,
            confirmed_by: self.confirmed_by.clone(),
            model: look.model.clone(),
            frame: look.frame.clone(),
            captured: look.captured,
        }
    }
}
