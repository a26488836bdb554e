//! How far a rule is.

use std::time::Duration;

use fleet::RuleKind;
use flow::{ClassName, Timestamp};

use super::{Found, Watch, foot};
use crate::scene::Clock;
use crate::tracker::{Presence, Track};

impl Watch {
    /// What its clocks show: one for each thing that may become a situation, or one for the zone.
    pub fn clocks(&self, tracks: &[Track], now: Timestamp) -> Vec<Clock> {
        let zone = &self.zones[self.zone_index];
        let clock = |ran: Duration, at_least: Duration, thing| Clock {
            zone: zone.id.clone(),
            situation: self.rule.situation.clone(),
            ran,
            at_least,
            thing,
        };
        match (&self.state.found, self.rule.kind.things()) {
            (Found::Things(_), Some(dwell)) => {
                let of = |classes: &[ClassName], track: &Track| {
                    let place = track.standing(dwell.drift).place();
                    track.presence == Presence::Seen
                        && classes.contains(&track.class)
                        && zone.polygon.contains(foot(&place))
                };
                let mine = tracks.iter().filter(|track| of(&dwell.classes, track));
                mine.map(|track| {
                    let stand = track.standing(dwell.drift);
                    clock(stand.stood_for(now), dwell.at_least, Some((track.id, stand.place())))
                })
                .collect()
            }
            (Found::Zone(found), _) => {
                let at_least = match &self.rule.kind {
                    RuleKind::Coverage(rule) => rule.at_least,
                    RuleKind::Count(rule) => rule.at_least,
                    RuleKind::Model(rule) => rule.at_least,
                    RuleKind::Dwell(_) | RuleKind::Together(_) | RuleKind::Cross(_) => return Vec::new(),
                };
                found.ran(now).map(|ran| clock(ran, at_least, None)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}
