//! `cross`: a thing's foot crosses the zone's line.

use fleet::{Cross, Direction, RuleKind};
use flow::{Event, NormPoint};

use super::situation::object;
use super::{Place, View, foot};
use crate::story::{Seen, Story};
use crate::tracker::Presence;

/// Where every thing stood at the last look at which it was seen.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Crossings {
    feet: Vec<(u64, NormPoint)>,
    /// Crossings so far: tells apart those of one look.
    number: u64,
}

impl Crossings {
    /// Forgets who was where: the rule does not apply now.
    pub fn forget(&mut self) {
        self.feet.clear();
    }

    /// A crossing begins and ends in one look: two events.
    pub fn look(&mut self, place: &mut Place<'_>, view: &View<'_>, events: &mut Vec<Event>) {
        let (RuleKind::Cross(rule), Some(line)) = (&place.rule.kind, place.zone.line) else { return };
        self.feet.retain(|(id, _)| view.tracks.iter().any(|track| track.id == *id));
        for track in view.tracks {
            if track.presence != Presence::Seen
                || !rule.classes.contains(&track.class)
                || track.score.get() < place.rule.min_score_of(&track.class)
                || !place.large_enough(&track.bbox)
            {
                continue;
            }
            let now_at = foot(&track.bbox);
            let known = self.feet.iter().position(|(id, _)| *id == track.id);
            let Some(index) = known else {
                self.feet.push((track.id, now_at));
                continue;
            };
            let was_at = std::mem::replace(&mut self.feet[index].1, now_at);
            // While nobody looked it may have come any way.
            if !view.unwatched.is_zero() || !crosses(rule, line, was_at, now_at) {
                continue;
            }
            if !place.may_begin(&track.bbox, view.now()) {
                continue;
            }
            self.number += 1;
            let seen = Seen { confidence: track.score, objects: vec![object(track)] };
            let seen_since = (track.first_seen, None);
            let (mut story, began) =
                Story::begin(&place.key, place.rule, self.number, seen_since, seen, view.look);
            events.push(began);
            events.push(story.end(place.rule, view.now(), view.look));
        }
    }
}

/// Whether the way from `from` to `to` crosses the line in the direction asked for.
fn crosses(rule: &Cross, [a, b]: [NormPoint; 2], from: NormPoint, to: NormPoint) -> bool {
    // Twice the signed area of a triangle; positive where the third point is to the right of the way from the first
    // to the second, since y grows downwards.
    let side =
        |p: NormPoint, q: NormPoint, r: NormPoint| (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x);
    let (before, after) = (side(a, b, from), side(a, b, to));
    let (start, end) = (side(from, to, a), side(from, to, b));
    let meets = (before > 0.0) != (after > 0.0) && (start > 0.0) != (end > 0.0);
    meets
        && match rule.direction {
            Direction::Any => true,
            Direction::ToLeft => before > 0.0,
            Direction::ToRight => before <= 0.0,
        }
}
