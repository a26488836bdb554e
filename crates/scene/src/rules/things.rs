//! `dwell` and `together`: things that stand still in a zone, alone or with others beside them.

use fleet::{Dwell, Per, Rule, RuleKind, Together};
use flow::{Detections, Event, EventId, NormBox, Phase};

use super::situation::Situation;
use super::{Place, View, foot, side_by_side};
use crate::tracker::{Presence, Track};

/// Two tracks that overlap more than this are one thing: a second box on it opens no second situation.
const SAME_THING_IOU: f32 = 0.4;
/// A thing must have been seen on this share of the clear looks while it stood there.
const MIN_SEEN_SHARE: f32 = 0.5;
/// ... and on at least this many looks, whatever the time between them.
const MIN_HITS: u32 = 2;

/// The open situations, and who was beside what stands.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Things {
    open: Vec<Situation>,
    company: Vec<Company>,
}

/// How often one of the others was beside a standing thing.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Company {
    track: u64,
    looks: u32,
    with: u32,
}

impl Things {
    pub fn has(&self, track: u64) -> bool {
        self.open.iter().any(|situation| situation.has(track))
    }

    pub fn open_events(&self) -> impl Iterator<Item = EventId> {
        self.open.iter().map(Situation::id)
    }

    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The desk says of this situation that it is no problem. Where it is.
    pub fn dismiss(&mut self, event: EventId) -> Option<Vec<NormBox>> {
        let story = self.open.iter_mut().map(Situation::story).find(|story| story.id() == event);
        story.map(|story| story.dismiss())
    }

    /// Ends everything: the rule no longer applies.
    pub fn end_all(&mut self, rule: &Rule, look: &Detections, events: &mut Vec<Event>, over: &mut Vec<u64>) {
        for mut situation in self.open.drain(..) {
            events.push(situation.end(rule, look));
            over.extend(situation.tracks());
        }
        self.company.clear();
    }

    pub fn look(
        &mut self,
        place: &mut Place<'_>,
        view: &View<'_>,
        events: &mut Vec<Event>,
        over: &mut Vec<u64>,
    ) {
        let ended = self.open.extract_if(.., |situation| {
            let event = situation.look(place.rule, view.tracks, view.look);
            let ended = event.as_ref().is_some_and(|e| matches!(e.phase, Phase::Ended { .. }));
            events.extend(event);
            ended
        });
        over.extend(ended.flat_map(|situation| situation.tracks().collect::<Vec<_>>()));
        if let RuleKind::Together(together) = &place.rule.kind
            && !view.repeats()
        {
            self.note_company(place, together, view);
        }
        self.begin(place, view, events);
    }

    /// Opens a situation for every track of which the rule now holds.
    fn begin(&mut self, place: &mut Place<'_>, view: &View<'_>, events: &mut Vec<Event>) {
        let rule = place.rule;
        let Some(dwell) = rule.kind.things() else { return };
        for track in view.tracks {
            if !counts(place, dwell, track) {
                continue;
            }
            if !is_sure(track) {
                // Repeated looks teach nothing: where it stands, if it does, only another look of the model tells. A
                // gate lets pictures through when things move, so that without this a thing would seem to do nothing else.
                view.wants_look.set(true);
                continue;
            }
            let stood = place.counted(track.stood_for(view.now()), view.now());
            if stood < dwell.at_least || self.known(track, view.tracks) {
                continue;
            }
            if dwell.per == Per::Group && self.join(track, view.tracks) {
                continue;
            }
            let at = track.place();
            if !self.accompanied(place.rule, track) || !place.may_begin(&at, view.now()) {
                continue;
            }
            let recurs = place.before(&at, view.now());
            let (situation, event) = Situation::begin(&place.key, place.rule, track, recurs, view.look);
            self.open.push(situation);
            events.push(event);
        }
    }

    /// Whether `track`, or one that is the same thing, already has a situation here.
    fn known(&self, track: &Track, tracks: &[Track]) -> bool {
        self.open.iter().any(|situation| {
            situation.has(track.id)
                || situation.covers(&track.place(), SAME_THING_IOU)
                || tracks
                    .iter()
                    .filter(|other| situation.has(other.id))
                    .any(|other| other.place().iou(&track.place()) > SAME_THING_IOU)
        })
    }

    /// Makes `track` part of an open situation whose things stand beside it.
    fn join(&mut self, track: &Track, tracks: &[Track]) -> bool {
        let beside = |situation: &&mut Situation| {
            let members = tracks.iter().filter(|other| situation.has(other.id));
            members.into_iter().any(|other| side_by_side(&other.place(), &track.place()))
        };
        let found = self.open.iter_mut().find(beside);
        found.map(|situation| situation.join(track)).is_some()
    }

    /// Counts, for everything that may become a situation, whether one of the others is beside it.
    fn note_company(&mut self, place: &Place<'_>, rule: &Together, view: &View<'_>) {
        self.company.retain(|company| view.tracks.iter().any(|track| track.id == company.track));
        let others: Vec<_> = view
            .detections
            .iter()
            .filter(|d| rule.with.contains(&d.class) && d.score.get() >= place.rule.min_score_of(&d.class))
            .collect();
        for track in view.tracks {
            if track.presence != Presence::Seen || !rule.things.classes.contains(&track.class) {
                continue;
            }
            let with = others.iter().any(|other| side_by_side(&other.bbox, &track.place()));
            let known = self.company.iter().position(|company| company.track == track.id);
            let index = known.unwrap_or_else(|| {
                self.company.push(Company { track: track.id, looks: 0, with: 0 });
                self.company.len() - 1
            });
            let company = &mut self.company[index];
            // Moved: what was beside it elsewhere does not count.
            if track.hits() <= 1 {
                (company.looks, company.with) = (0, 0);
            }
            company.looks += 1;
            company.with += u32::from(with);
        }
    }

    fn accompanied(&self, rule: &Rule, track: &Track) -> bool {
        let RuleKind::Together(together) = &rule.kind else { return true };
        let company = self.company.iter().find(|company| company.track == track.id);
        company.is_some_and(|c| c.with as f32 >= together.share * c.looks as f32 && c.with > 0)
    }
}

/// Whether a thing is there that would be a situation if it stood for long enough, as far as is known.
fn counts(place: &Place<'_>, condition: &Dwell, track: &Track) -> bool {
    condition.classes.contains(&track.class)
        && track.presence == Presence::Seen
        && track.mean_score() >= place.rule.min_score_of(&track.class)
        && place.large_enough(&track.place())
        && place.zone.polygon.contains(foot(&track.place()))
}

/// Whether it was seen there often enough.
fn is_sure(track: &Track) -> bool {
    !track.in_doubt() && track.hits() >= MIN_HITS && track.seen_share() >= MIN_SEEN_SHARE
}
