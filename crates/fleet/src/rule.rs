//! Situations and the rules that recognise them.

use std::sync::Arc;
use std::time::Duration;

use flow::{ClassName, SituationId};

/// A kind of situation, as the operator knows it.
#[derive(Debug, Clone)]
pub struct Situation {
    /// For example `illegal_parking`.
    pub id: SituationId,
    /// Chinese name.
    pub zh: Arc<str>,
    /// English name.
    pub en: Arc<str>,
    /// Its number; two national numberings disagree, so the set is always named.
    pub code: Option<Code>,
    /// How it is recognised.
    pub rule: Arc<Rule>,
}

/// A number in a numbering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Which numbering.
    pub set: Arc<str>,
    /// Which edition of it.
    pub version: Arc<str>,
    /// The number.
    pub code: Arc<str>,
    /// What the numbering calls it.
    pub name: Arc<str>,
}

/// How a situation is recognised in a zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Of which situation.
    pub situation: SituationId,
    /// The condition.
    pub kind: RuleKind,
    /// Detections below this score do not count.
    pub min_score: f32,
    /// `updated` is sent this often while it lasts.
    pub update_every: Duration,
    /// It must have been gone for this long, on clear looks, before `ended`.
    pub end_after: Duration,
}

/// The condition.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// Things of these classes, stationary in the zone for at least this long.
    Dwell(Dwell),
}

impl RuleKind {
    /// The name in YAML and on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dwell(_) => "dwell",
        }
    }
}

/// Things of these classes, stationary in the zone for at least this long.
#[derive(Debug, Clone, PartialEq)]
pub struct Dwell {
    /// Which classes count.
    pub classes: Vec<ClassName>,
    /// For how long.
    pub at_least: Duration,
    /// A thing is stationary while its middle stays within this share of its box's diagonal.
    pub drift: f32,
    /// What counts as one situation.
    pub per: Per,
}

/// What counts as one situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Every thing is one of its own, for example each parked car.
    Thing,
    /// Things that stand side by side are one, for example a stall or a row of barriers.
    Group,
}
