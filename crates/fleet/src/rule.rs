//! Situations and the rules that recognise them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flow::{ClassName, SituationId};

use crate::{Calendar, Calibration, Confirm};

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
    /// Its evidence is deleted after this long; `None`: as the camera's class says.
    pub keep_evidence: Option<Duration>,
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
    /// Classes with a threshold of their own, instead of `min_score`.
    pub class_scores: BTreeMap<ClassName, f32>,
    /// Things lower than this do not count; it may grow down the picture.
    pub min_height: Option<Perspective>,
    /// `updated` is sent this often while it lasts.
    pub update_every: Duration,
    /// It must have been gone for this long, on clear looks, before `ended`.
    pub end_after: Duration,
    /// After `ended`, nothing begins in the same place for this long.
    pub cooldown: Duration,
    /// A situation in the same place within this time after another is the same problem again.
    pub recurs_within: Duration,
    /// What another camera tells of within so many metres, at the same time, is the same problem; 0: never.
    pub same_place_m: f32,
    /// So many begin in 24 hours, in one zone; of more, only their number is told.
    pub cap_per_day: u32,
    /// When it applies; `None`: always. Time outside does not count.
    pub windows: Option<Arc<Calendar>>,
    /// A second model that is asked before a situation begins; `None`: none is.
    pub confirm: Option<Confirm>,
    /// What its stated confidence is worth with the camera's model; `None`: nobody has measured it.
    pub calibration: Option<Arc<Calibration>>,
}

impl Rule {
    /// A rule with the defaults that the configuration has for everything but the condition.
    pub fn new(situation: SituationId, kind: RuleKind) -> Self {
        Self {
            situation,
            kind,
            min_score: 0.4,
            class_scores: BTreeMap::new(),
            min_height: None,
            update_every: Duration::from_secs(60),
            end_after: Duration::from_secs(10),
            cooldown: Duration::ZERO,
            recurs_within: Duration::from_secs(24 * 3_600),
            same_place_m: 50.0,
            cap_per_day: 20,
            windows: None,
            confirm: None,
            calibration: None,
        }
    }

    /// The score from which a detection of this class counts: 0..=1.
    pub fn min_score_of(&self, class: &ClassName) -> f32 {
        self.class_scores.get(class).copied().unwrap_or(self.min_score)
    }

    /// The lowest score that counts for any class.
    pub fn lowest_score(&self) -> f32 {
        self.class_scores.values().copied().fold(self.min_score, f32::min)
    }
}

/// A size that grows down the picture, as things nearer to the camera look larger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perspective {
    /// Of a thing whose foot is at the upper edge, as a share of the picture's height.
    pub top: f32,
    /// Of a thing whose foot is at the lower edge.
    pub bottom: f32,
}

impl Perspective {
    /// The size at this height of the picture: 0 is the upper edge, 1 the lower.
    pub fn at(&self, y: f32) -> f32 {
        self.top + (self.bottom - self.top) * y.clamp(0.0, 1.0)
    }
}

/// The condition.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleKind {
    /// Things of these classes, stationary in the zone for at least this long.
    Dwell(Dwell),
    /// Such things with others beside them, in one place for at least this long.
    Together(Together),
    /// A share of the zone covered by anything stationary for at least this long.
    Coverage(Coverage),
    /// At least so many in the zone for at least this long.
    Count(Count),
    /// The zone's line crossed.
    Cross(Cross),
    /// A class that is the situation itself, confirmed over time.
    Model(Confirmed),
}

impl RuleKind {
    /// The name in YAML and on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dwell(_) => "dwell",
            Self::Together(_) => "together",
            Self::Coverage(_) => "coverage",
            Self::Count(_) => "count",
            Self::Cross(_) => "cross",
            Self::Model(_) => "model",
        }
    }

    /// Every class that it asks the model for.
    pub fn classes(&self) -> impl Iterator<Item = &ClassName> {
        let (first, second): (&[ClassName], &[ClassName]) = match self {
            Self::Dwell(rule) => (&rule.classes, &[]),
            Self::Together(rule) => (&rule.things.classes, &rule.with),
            Self::Coverage(_) => (&[], &[]),
            Self::Count(rule) => (&rule.classes, &[]),
            Self::Cross(rule) => (&rule.classes, &[]),
            Self::Model(rule) => (&rule.classes, &[]),
        };
        first.iter().chain(second)
    }

    /// What stands still for it: the condition on the things of `dwell` and `together`.
    pub fn things(&self) -> Option<&Dwell> {
        match self {
            Self::Dwell(rule) => Some(rule),
            Self::Together(rule) => Some(&rule.things),
            Self::Coverage(_) | Self::Count(_) | Self::Cross(_) | Self::Model(_) => None,
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

/// Stationary things with others beside them: a stall is goods and somebody who sells them.
#[derive(Debug, Clone, PartialEq)]
pub struct Together {
    /// What stands still. Always a group.
    pub things: Dwell,
    /// Classes of which one must be beside them; these may move.
    pub with: Vec<ClassName>,
    /// On at least this share of the looks: 0..=1.
    pub share: f32,
}

/// A share of the zone covered by anything stationary for at least this long, known to a model or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Share of the zone's area, 0 to 1, from which it begins. It ends below half of that.
    pub share: f32,
    /// For how long.
    pub at_least: Duration,
}

/// At least so many in the zone for at least this long.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    /// Which classes count.
    pub classes: Vec<ClassName>,
    /// From how many on it begins.
    pub from: u32,
    /// Below how many it ends: at most `from`.
    pub below: u32,
    /// For how long.
    pub at_least: Duration,
}

/// The zone's line crossed by a thing's foot.
#[derive(Debug, Clone, PartialEq)]
pub struct Cross {
    /// Which classes count.
    pub classes: Vec<ClassName>,
    /// Which way.
    pub direction: Direction,
}

/// Which way a line is crossed, seen from its first point to its second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Either way.
    Any,
    /// From its right side to its left.
    ToLeft,
    /// From its left side to its right.
    ToRight,
}

/// A class that is the situation itself, such as standing water, confirmed over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmed {
    /// Which classes say so.
    pub classes: Vec<ClassName>,
    /// For how long.
    pub at_least: Duration,
    /// On at least this share of the looks: 0..=1.
    pub share: f32,
}
