//! Second models: asked about the place of a situation before it begins, while its picture is still there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use fleet::{Camera, ModelCard, Rule};
use flow::{Counter, Event, Flow, Frame, ModelId};
use infer::{Confirmer, Opinion};
use scene::{Answer, Scene};

use crate::UserError;

/// How long the scenes wait for an answer. A run takes milliseconds; without an answer it is asked again at the camera's
/// next look.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// What came of the questions.
#[derive(Debug, Default)]
pub struct Verdicts {
    confirmed: Counter,
    rejected: Counter,
}

/// The account of the second models.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Confirmations {
    /// Questions asked; answered; without an answer by reason.
    pub questions: Flow,
    /// Answers by which a situation began.
    pub confirmed: u64,
    /// Answers by which it did not.
    pub rejected: u64,
}

impl Verdicts {
    /// The account; all zeros where no rule asks.
    pub fn report(&self, confirmer: Option<&Confirmer>) -> Confirmations {
        let nothing = || Flow { received: 0, passed: 0, dropped: Vec::new() };
        Confirmations {
            questions: confirmer.map_or_else(nothing, Confirmer::counters),
            confirmed: self.confirmed.get(),
            rejected: self.rejected.get(),
        }
    }

    /// Asks about the look just taken and gives the scene the answers: the events of what is confirmed. What gets no answer
    /// is asked again at the next look.
    pub fn settle(
        &self,
        scene: &mut Scene,
        frame: &Frame,
        confirmer: &Confirmer,
        patience: Duration,
    ) -> Vec<Event> {
        let questions = scene.questions();
        let asked: Vec<infer::Question<'_>> = questions
            .iter()
            .map(|question| infer::Question { frame, place: question.place, model: &question.model })
            .collect();
        let answers = confirmer.ask(&asked, patience);
        let mut events = Vec::new();
        for (question, answer) in questions.iter().zip(answers) {
            let Ok(Opinion { best }) = answer else { continue };
            let best = best.map(|(class, score)| Answer { class, score });
            let begun = scene.answer(question.id, best.as_ref());
            let (counter, said) = match begun.is_empty() {
                true => (&self.rejected, "held back"),
                false => (&self.confirmed, "confirmed"),
            };
            counter.add(1);
            let (class, score) =
                best.as_ref().map_or(("nothing it is sure of", 0.0), |b| (b.class.as_str(), b.score.get()));
            tracing::debug!(
                camera = %frame.id.camera, zone = %question.zone, situation = %question.situation,
                model = %question.model, class, score, "{said}"
            );
            events.extend(begun);
        }
        events
    }
}

/// The rules of these cameras that ask a second model.
pub fn asking<'c>(
    cameras: impl IntoIterator<Item = &'c Camera>,
) -> impl Iterator<Item = (&'c Camera, &'c Rule)> {
    let rules = |camera: &'c Camera| {
        let rules = camera.zones.iter().flat_map(|zone| &zone.rules);
        rules.filter(|rule| rule.confirm.is_some()).map(move |rule| (camera, &**rule))
    };
    cameras.into_iter().flat_map(rules)
}

/// The models that these cameras' rules ask.
pub fn models<'c>(cameras: impl IntoIterator<Item = &'c Camera>) -> BTreeSet<ModelId> {
    asking(cameras)
        .filter_map(|(_, rule)| rule.confirm.as_ref())
        .map(|confirm| confirm.model.clone())
        .collect()
}

/// Their cards. `folders`: where each model is.
pub fn cards<'c>(
    cameras: impl IntoIterator<Item = &'c Camera>,
    folders: &BTreeMap<ModelId, PathBuf>,
) -> anyhow::Result<Vec<ModelCard>> {
    let card = |id: &ModelId| {
        let dir = folders.get(id).with_context(|| format!("model {id} is not configured"))?;
        ModelCard::load(dir).map_err(|mistakes| UserError(mistakes.to_string()).into())
    };
    models(cameras).iter().map(card).collect()
}
