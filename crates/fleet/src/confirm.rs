//! `confirm`: a second model that looks at the place of a situation before it is told of.

use std::time::Duration;

use flow::{ClassName, ModelId};

use crate::card::{Head, NO_CLASS};
use crate::check::{Fields, Value};
use crate::load::Context;
use crate::mistake::{Path, Problem, listed, nearest};
use crate::tables::{Known, Model};

/// What is asked of a second model before a situation begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirm {
    /// A classifier.
    pub model: ModelId,
    /// The classes that confirm; every other one is a reason not to tell of it.
    pub accept: Vec<ClassName>,
    /// How sure it must be: 0..=1.
    pub at_least: f32,
    /// What it sees around the things, on every side, as a share of the box's width and height.
    pub margin: f32,
    /// After a rejection it is asked again when this long has passed, if the things still stand.
    pub again_after: Duration,
    /// Rejected so often, the things are left alone until they leave or others join them. > 0.
    pub tries: u32,
}

impl Confirm {
    /// With the defaults that the configuration has.
    pub fn new(model: ModelId, accept: Vec<ClassName>) -> Self {
        Self { model, accept, at_least: 0.6, margin: 0.3, again_after: Duration::from_secs(30), tries: 3 }
    }

    /// Whether an answer of this class, the model's best, with this score confirms.
    pub fn accepts(&self, class: &ClassName, score: f32) -> bool {
        self.accept.contains(class) && score >= self.at_least
    }
}

/// Reads `confirm` of a rule. `Some(None)`: absent. `None`: wrong, and reported.
pub(crate) fn read(
    rule: &Fields,
    condition: &str,
    path: &Path<'_>,
    models: &Known<Model>,
    cx: &mut Context<'_>,
) -> Option<Option<Confirm>> {
    let Some(item) = rule.item("confirm") else { return Some(None) };
    let Value::Map(fields) = &item.value else { return None };
    let path = path.key("confirm");
    if condition == "cross" {
        let problem = "stands beside cross: a crossing is over before anybody could be asked again";
        cx.report.add(item.place, &path, None, Problem::new(problem, "leave it out"));
        return None;
    }
    let named = fields.item("model")?;
    let model = models.find(named.text()?, named.place, &path.key("model"), &mut cx.report);
    let accept = fields.list("accept")?;
    let model = model?;
    if model.head != Head::Classifier {
        let problem = format!("has the head {}: it looks for things in whole pictures", model.head.name());
        let problem = Problem::new(problem, "expected a model with the head classifier");
        cx.report.add(named.place, &path.key("model"), named.text(), problem);
        return None;
    }
    let known = || model.classes.iter().map(ClassName::as_str).filter(|class| *class != NO_CLASS);
    let mut classes = Vec::with_capacity(accept.len());
    for (index, item) in accept.iter().enumerate() {
        let text = item.text()?;
        if known().any(|class| class == text) {
            classes.push(ClassName::new(text));
            continue;
        }
        let near = nearest(text, known()).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
        let problem = format!("is no class of the model {}", model.id);
        let problem = Problem::new(problem, format!("{near}it knows {}", listed(known())));
        cx.report.add(item.place, &path.key("accept").index(index), Some(text), problem);
    }
    if classes.len() < accept.len() {
        return None;
    }
    Some(Some(Confirm {
        model: model.id.clone(),
        accept: classes,
        at_least: fields.number("at_least")? as f32,
        margin: fields.number("margin")? as f32,
        again_after: fields.duration("again_after")?,
        tries: fields.whole("tries")? as u32,
    }))
}
