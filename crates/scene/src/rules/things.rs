//! `dwell` and `together`: things that stand still in a zone, alone or with others beside them.

use fleet::{Dwell, Per, Rule, RuleKind, Together};
use flow::{ClassName, Detections, Event, EventId, NormBox, Phase};

use super::confirm::{Begun, Candidate, Subject, around};
use super::situation::{Situation, is_same, standing};
use super::{Place, View, foot, side_by_side};
use crate::story::Story;
use crate::tracker::{Presence, Stand, Track};

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

    /// What they are told by.
    pub fn stories(&self) -> impl Iterator<Item = &Story> {
        self.open.iter().map(Situation::told_by)
    }

    pub fn stories_mut(&mut self) -> impl Iterator<Item = &mut Story> {
        self.open.iter_mut().map(Situation::story)
    }

    pub fn open_events(&self) -> impl Iterator<Item = EventId> {
        self.open.iter().map(Situation::id)
    }

    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// It begins.
    pub fn open(&mut self, situation: Situation) {
        self.open.push(situation);
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
            let stand = track.standing(dwell.drift);
            if !is_sure(stand) {
                // Repeated looks teach nothing: where it stands, if it does, only another look of the model tells. A
                // gate lets pictures through when things move, so that without this a thing would seem to do nothing else.
                view.wants_look.set(true);
                continue;
            }
            let stood = place.counted(stand.stood_for(view.now()), view.now());
            if stood < dwell.at_least || self.known(rule, track, view.tracks) {
                continue;
            }
            if dwell.per == Per::Group && self.join(rule, track, view.tracks) {
                continue;
            }
            let at = stand.place();
            if !self.accompanied(place.rule, track) {
                continue;
            }
            let all =
                if rule.confirm.is_some() { self.begins_with(place, dwell, track, view) } else { vec![] };
            let subject: Subject = all.iter().map(|one| (one.id, standing(rule, one).since())).collect();
            if place.is_doubtful(&subject, view.now()) || !place.may_begin(&at, view.now()) {
                continue;
            }
            let recurs = place.before(&at, view.now());
            let (mut situation, event) = Situation::begin(&place.key, place.rule, track, recurs, view.look);
            if rule.confirm.is_none() {
                self.open.push(situation);
                events.push(event);
                continue;
            }
            all.iter().filter(|one| one.id != track.id).for_each(|one| situation.join(rule, one));
            let around = asked_about(place.rule, &all, view).unwrap_or(at);
            place.ask(Candidate::new(subject, around, Begun::Things(situation), event));
        }
        place.forget_doubts(|thing, since| {
            view.tracks.iter().any(|track| track.id == thing && standing(rule, track).since() <= since)
        });
    }

    /// What would be part of a situation that begins with `track`: itself, what is the same thing, and what stands beside
    /// it where that makes a group.
    fn begins_with<'t>(
        &self,
        place: &Place<'_>,
        dwell: &Dwell,
        track: &'t Track,
        view: &View<'t>,
    ) -> Vec<&'t Track> {
        let at = |track: &Track| track.standing(dwell.drift).place();
        let mut free: Vec<&Track> = view.tracks.iter().filter(|other| other.id != track.id).collect();
        free.retain(|other| {
            let stand = other.standing(dwell.drift);
            let stood = place.counted(stand.stood_for(view.now()), view.now());
            counts(place, dwell, other)
                && is_sure(stand)
                && stood >= dwell.at_least
                && !self.known(place.rule, other, view.tracks)
        });
        let belongs = |a: &Track, b: &Track| match dwell.per {
            Per::Group => side_by_side(&at(a), &at(b)),
            Per::Thing => at(a).iou(&at(b)) > SAME_THING_IOU,
        };
        let mut all = vec![track];
        while let Some(next) = free.iter().position(|other| all.iter().any(|one| belongs(one, other))) {
            all.push(free.swap_remove(next));
        }
        all
    }

    /// Whether `track`, or one that is the same thing, already has a situation here.
    fn known(&self, rule: &Rule, track: &Track, tracks: &[Track]) -> bool {
        let place = standing(rule, track).place();
        self.open.iter().any(|situation| {
            situation.has(track.id)
                || situation.covers(&place, SAME_THING_IOU)
                || tracks
                    .iter()
                    .filter(|other| situation.has(other.id))
                    .any(|other| is_same(&standing(rule, other).place(), &place, SAME_THING_IOU))
        })
    }

    /// Makes `track` part of an open situation whose things stand beside it.
    fn join(&mut self, rule: &Rule, track: &Track, tracks: &[Track]) -> bool {
        let place = standing(rule, track).place();
        let beside = |situation: &&mut Situation| {
            let members = tracks.iter().filter(|other| situation.has(other.id));
            members.into_iter().any(|other| side_by_side(&standing(rule, other).place(), &place))
        };
        let found = self.open.iter_mut().find(beside);
        found.map(|situation| situation.join(rule, track)).is_some()
    }

    /// Counts, for everything that may become a situation, whether one of the others is beside it.
    fn note_company(&mut self, place: &Place<'_>, rule: &Together, view: &View<'_>) {
        self.company.retain(|company| view.tracks.iter().any(|track| track.id == company.track));
        let others: Vec<_> = view
            .detections
            .iter()
            .filter(|d| rule.with.contains(&d.class) && d.score.get() >= place.rule.min_score_of(&d.class))
            .collect();
        let is_thing =
            |track: &&Track| track.presence == Presence::Seen && rule.things.classes.contains(&track.class);
        let things: Vec<&Track> = view.tracks.iter().filter(is_thing).collect();
        let places: Vec<NormBox> =
            things.iter().map(|track| track.standing(rule.things.drift).place()).collect();
        // Who stands beside one thing of a group is with all of it.
        let mut with: Vec<bool> =
            places.iter().map(|place| others.iter().any(|other| side_by_side(&other.bbox, place))).collect();
        let mut next: Vec<usize> = (0..places.len()).filter(|at| with[*at]).collect();
        while let Some(at) = next.pop() {
            for other in 0..places.len() {
                if !with[other] && side_by_side(&places[at], &places[other]) {
                    with[other] = true;
                    next.push(other);
                }
            }
        }
        for (track, with) in things.into_iter().zip(with) {
            let stand = track.standing(rule.things.drift);
            let known = self.company.iter().position(|company| company.track == track.id);
            let index = known.unwrap_or_else(|| {
                self.company.push(Company { track: track.id, looks: 0, with: 0 });
                self.company.len() - 1
            });
            let company = &mut self.company[index];
            // Moved: what was beside it elsewhere does not count.
            if stand.hits() <= 1 {
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

/// The part of the picture that holds these things and those that are beside them, as far as the rule asks for such.
fn asked_about(rule: &Rule, all: &[&Track], view: &View<'_>) -> Option<NormBox> {
    let own: Vec<NormBox> = all.iter().map(|track| standing(rule, track).place()).collect();
    let with: &[ClassName] = match &rule.kind {
        RuleKind::Together(together) => &together.with,
        _ => &[],
    };
    let beside = view.detections.iter().filter(|d| {
        with.contains(&d.class)
            && d.score.get() >= rule.min_score_of(&d.class)
            && own.iter().any(|place| side_by_side(&d.bbox, place))
    });
    around(own.iter().chain(beside.map(|d| &d.bbox)))
}

/// Whether a thing is there that would be a situation if it stood for long enough, as far as is known.
fn counts(place: &Place<'_>, condition: &Dwell, track: &Track) -> bool {
    let stand = track.standing(condition.drift);
    condition.classes.contains(&track.class)
        && track.presence == Presence::Seen
        && stand.mean_score() >= place.rule.min_score_of(&track.class)
        && place.large_enough(&stand.place())
        && place.zone.polygon.contains(foot(&stand.place()))
}

/// Whether it was seen there often enough.
fn is_sure(stand: &Stand) -> bool {
    !stand.in_doubt() && stand.hits() >= MIN_HITS && stand.seen_share() >= MIN_SEEN_SHARE
}
