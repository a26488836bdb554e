//! How far the rules are: what a person who looks at a replay wants to see.

use std::time::Duration;

use flow::{NormBox, SituationId, ZoneId};

use super::Scene;
use crate::tracker::Track;

/// How far a rule is from telling of something, or for how long it has been true of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// In which zone.
    pub zone: ZoneId,
    /// Which situation.
    pub situation: SituationId,
    /// For how long it holds.
    pub ran: Duration,
    /// For how long it must.
    pub at_least: Duration,
    /// The thing it runs for, where it is one: its track and its place.
    pub thing: Option<(u64, NormBox)>,
}

impl Scene {
    /// The clocks that run after the newest look, in the order of zones and rules.
    pub fn clocks(&self) -> Vec<Clock> {
        let Some(sight) = self.shown.map(|shown| &self.sights[shown]) else { return Vec::new() };
        let tracker = &sight.mind.tracker;
        let Some(now) = tracker.last_look() else { return Vec::new() };
        sight.mind.watches.iter().flat_map(|watch| watch.clocks(tracker.tracks(), now)).collect()
    }

    /// The things that are followed, after the newest look.
    pub fn tracks(&self) -> &[Track] {
        self.shown.map_or(&[], |shown| self.sights[shown].mind.tracker.tracks())
    }
}
