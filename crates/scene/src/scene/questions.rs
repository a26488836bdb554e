//! What a second model is asked before a situation begins.

use flow::{ClassName, Event, ModelId, NormBox, Score, SituationId, ZoneId};

use super::Scene;
use crate::rules::widened;

/// Tells apart the questions of one look; of no use once the next look has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuestionId {
    watch: usize,
    candidate: usize,
}

/// A situation would begin; is it what it seems?
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// To answer it by.
    pub id: QuestionId,
    /// In which zone.
    pub zone: ZoneId,
    /// Which situation.
    pub situation: SituationId,
    /// Who is asked.
    pub model: ModelId,
    /// About which part of the look's picture: around the things, with the rule's margin.
    pub place: NormBox,
}

/// A second model's best class for that part of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Which class.
    pub class: ClassName,
    /// How sure it is.
    pub score: Score,
}

impl Scene {
    /// What is to be asked about the look just taken, before its situations begin: the rules that have `confirm`. None
    /// after an unchanged look, which asks for another one instead ([`wants_look`](Self::wants_look)).
    ///
    /// A question without an answer is asked again at the next inferred look, if the rule still holds.
    pub fn questions(&self) -> Vec<Question> {
        let Some(sight) = self.shown.map(|shown| &self.sights[shown]) else { return Vec::new() };
        let watches = sight.mind.watches.iter().enumerate();
        let asking = watches.filter_map(|(at, watch)| Some((at, watch, watch.rule.confirm.as_ref()?)));
        let of = |(at, watch, confirm): (usize, &'_ crate::rules::Watch, &'_ fleet::Confirm)| {
            let candidates = watch.candidates.iter().enumerate().filter(|(_, held)| !held.answered);
            let question = |(candidate, held): (usize, &crate::rules::Candidate)| Question {
                id: QuestionId { watch: at, candidate },
                zone: watch.zones[watch.zone_index].id.clone(),
                situation: watch.rule.situation.clone(),
                model: confirm.model.clone(),
                place: widened(&held.place, confirm.margin),
            };
            candidates.map(question).collect::<Vec<_>>()
        };
        asking.flat_map(of).collect()
    }

    /// Takes the answer to a question of the look just taken; `None`: the model was sure of no class. Accepted, the
    /// situation begins with that look: its first event. Rejected, it is held back, and asked about again later while its
    /// things stand, as the rule's `confirm` says. An id that is not of this look is ignored, as is a second answer.
    pub fn answer(&mut self, question: QuestionId, answer: Option<&Answer>) -> Vec<Event> {
        let Some(shown) = self.shown else { return Vec::new() };
        let sight = &mut self.sights[shown];
        let watch = sight.mind.watches.get_mut(question.watch);
        let best = answer.map(|answer| (&answer.class, answer.score));
        let event = watch.and_then(|watch| watch.answer(question.candidate, best));
        let mut events: Vec<Event> = event.into_iter().collect();
        sight.place(&mut events);
        events
    }

    /// How many situations second models have held back so far: zone, situation, number. Each counts once, however often
    /// it was asked about.
    pub fn rejected(&self) -> Vec<(ZoneId, SituationId, u32)> {
        let some = self.watches().filter(|watch| watch.rejected() > 0);
        some.map(|watch| {
            (watch.zones[watch.zone_index].id.clone(), watch.rule.situation.clone(), watch.rejected())
        })
        .collect()
    }

    /// Forgets the questions of the look before.
    pub(super) fn forget_questions(&mut self) {
        let watches = self.sights.iter_mut().flat_map(|sight| &mut sight.mind.watches);
        watches.for_each(|watch| watch.candidates.clear());
    }
}
