//! Cameras that see the same place tell of it once.
//!
//! Each situation that a camera with a ground mapping tells of is a *sighting* with a place. One that begins within
//! [`same_place_m`](fleet::Rule::same_place_m) of an open problem of its kind, which *another* camera tells of, is a view
//! of that problem: its events say so ([`flow::SameAs`]) and open no second case. One camera tells things apart that stand
//! side by side; so a problem has one open sighting per camera, and the nearest problem that lacks one is taken. Two cars
//! that two cameras see are two problems, in whichever order the cameras tell of them.
//!
//! A problem belongs to the sighting that was told of first, and is over when all its sightings have ended: one camera's
//! view may be blocked for good while the other still sees the thing. Each event says only what its own camera knows; who
//! receives them adds up.
//!
//! What is remembered is kept per camera, since an event changes only the sightings of its own: they are stored with
//! that camera's scene, in the transaction that stores the event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fleet::{Camera, Rule, RuleKind};
use flow::{CameraId, Event, EventId, MapPoint, Phase, SameAs, SituationId, SituationKey, Timestamp};

/// Sightings that are remembered of one camera, at most: those that ended first are forgotten first.
const MAX_PER_CAMERA: usize = 256;
/// An open situation that was not seen for so long links nothing any more: its camera is away.
const STALE: Duration = Duration::from_secs(24 * 3_600);

/// A situation of one camera, at a place.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sighting {
    event: EventId,
    key: SituationKey,
    place: MapPoint,
    /// The problem that it is a view of; `None`: its own.
    same_as: Option<SameAs>,
    last_seen: Timestamp,
    ended: bool,
}

impl Sighting {
    fn problem(&self) -> EventId {
        self.same_as.as_ref().map_or(self.event, |first| first.event)
    }

    fn first(&self) -> SameAs {
        self.same_as.clone().unwrap_or_else(|| SameAs { event: self.event, key: self.key.clone() })
    }
}

/// The sightings of a worker's cameras that have a ground mapping.
#[derive(Debug, Default)]
pub struct Neighbours {
    cameras: HashMap<CameraId, Seen>,
}

#[derive(Debug)]
struct Seen {
    crs: Arc<str>,
    rules: HashMap<SituationId, Arc<Rule>>,
    sightings: Vec<Sighting>,
}

impl Neighbours {
    /// Of these cameras; those without `ground` tell for themselves.
    pub fn new<'c>(cameras: impl IntoIterator<Item = &'c Camera>) -> Self {
        let seen = |camera: &'c Camera| {
            let own = camera.ground.as_ref();
            let ground = own.or(camera.presets.iter().find_map(|preset| preset.ground.as_ref()))?;
            let rules = camera.zones.iter().flat_map(|zone| &zone.rules);
            let rules = rules.map(|rule| (rule.situation.clone(), rule.clone())).collect();
            Some((camera.id.clone(), Seen { crs: ground.crs.clone(), rules, sightings: Vec::new() }))
        };
        Self { cameras: cameras.into_iter().filter_map(seen).collect() }
    }

    /// Takes a camera's new event, and fills in whose problem it is ([`Event::same_as`]); and, where its own camera knows
    /// of none before, which one of another camera was in the place not long ago ([`Event::recurs`]).
    pub fn take(&mut self, event: &mut Event) {
        let now = event.captured;
        let Some(seen) = self.cameras.get(&event.key.camera) else { return };
        let Some(rule) = seen.rules.get(&event.key.situation).cloned() else { return };
        // A crossing is over as it begins: what two cameras count are two counts.
        if matches!(rule.kind, RuleKind::Cross(_)) {
            return;
        }
        let known = seen.sightings.iter().position(|sighting| sighting.event == event.id);
        if event.phase == Phase::Began && known.is_none() {
            let Some(place) = event.place else { return };
            event.same_as = self.open_near(event, place, &rule);
            if event.same_as.is_none() && event.recurs.is_none() {
                event.recurs = self.ended_near(event, place, &rule);
            }
        }
        let Some(seen) = self.cameras.get_mut(&event.key.camera) else { return };
        match known {
            Some(index) => {
                let sighting = &mut seen.sightings[index];
                event.same_as = sighting.same_as.clone();
                sighting.ended |= matches!(event.phase, Phase::Ended { .. });
                sighting.last_seen = event.last_seen;
            }
            None if event.phase == Phase::Began => {
                if let Some(place) = event.place {
                    seen.sightings.push(Sighting {
                        event: event.id,
                        key: event.key.clone(),
                        place,
                        same_as: event.same_as.clone(),
                        last_seen: event.last_seen,
                        ended: false,
                    });
                }
            }
            None => {}
        }
        seen.forget(now);
    }

    /// The nearest open problem of another camera that this one has no open sighting of.
    fn open_near(&self, event: &Event, place: MapPoint, rule: &Rule) -> Option<SameAs> {
        let near = self
            .others(event, place, rule)
            .filter(|(_, s)| !s.ended && event.captured.duration_since(s.last_seen).unsigned_abs() < STALE);
        let mine = &self.cameras.get(&event.key.camera)?.sightings;
        let free = near.filter(|(_, s)| !mine.iter().any(|own| !own.ended && own.problem() == s.problem()));
        // Ties go to the one told of first: ids sort by time.
        let nearest = free.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.problem().cmp(&b.1.problem())));
        nearest.map(|(_, sighting)| sighting.first())
    }

    /// The problem that another camera saw end in this place last.
    fn ended_near(&self, event: &Event, place: MapPoint, rule: &Rule) -> Option<EventId> {
        let before = self.others(event, place, rule).filter(|(_, s)| {
            s.ended && event.captured.duration_since(s.last_seen).unsigned_abs() < rule.recurs_within
        });
        before.max_by_key(|(_, s)| (s.last_seen, s.problem())).map(|(_, sighting)| sighting.problem())
    }

    /// What other cameras saw of this kind, near enough, with the distance in metres.
    fn others<'n>(
        &'n self,
        event: &'n Event,
        place: MapPoint,
        rule: &'n Rule,
    ) -> impl Iterator<Item = (f64, &'n Sighting)> {
        let crs = self.cameras.get(&event.key.camera).map(|seen| &seen.crs);
        // Places of two systems are hundreds of metres apart: they are not compared.
        let cameras =
            self.cameras.iter().filter(move |(id, seen)| **id != event.key.camera && Some(&seen.crs) == crs);
        cameras.flat_map(move |(_, seen)| {
            seen.sightings.iter().filter(move |s| s.key.situation == event.key.situation).filter_map(
                move |sighting| {
                    let (east, north) = fleet::metres(&seen.crs, sighting.place, place);
                    let away = east.hypot(north);
                    (away < f64::from(rule.same_place_m)).then_some((away, sighting))
                },
            )
        })
    }

    /// All situations that are views of the same problem as this one, itself too: what the desk says of one it says of
    /// all.
    pub fn views_of(&self, event: EventId) -> Vec<EventId> {
        let all = || self.cameras.values().flat_map(|seen| &seen.sightings);
        let problem = all().find(|s| s.event == event).map_or(event, Sighting::problem);
        let mut views: Vec<_> = all().filter(|s| s.problem() == problem).map(|s| s.event).collect();
        if !views.contains(&event) {
            views.push(event);
        }
        views
    }

    /// What to keep of a camera over a restart, with its scene.
    pub fn save(&self, camera: &CameraId) -> Vec<Sighting> {
        self.cameras.get(camera).map_or_else(Vec::new, |seen| seen.sightings.clone())
    }

    /// Goes on from there; what is of a camera without `ground` now is forgotten.
    pub fn restore(&mut self, camera: &CameraId, mut sightings: Vec<Sighting>) {
        sightings.truncate(MAX_PER_CAMERA);
        sightings.retain(|sighting| sighting.key.camera == *camera);
        if let Some(seen) = self.cameras.get_mut(camera) {
            seen.sightings = sightings;
        }
    }
}

impl Seen {
    /// What ended longer ago than it can recur, and what is too much.
    fn forget(&mut self, now: Timestamp) {
        let rules = &self.rules;
        self.sightings.retain(|s| {
            let keep = rules.get(&s.key.situation).map_or(Duration::ZERO, |rule| rule.recurs_within);
            !s.ended || now.duration_since(s.last_seen).unsigned_abs() < keep
        });
        if self.sightings.len() > MAX_PER_CAMERA {
            let oldest = |s: &Sighting| (!s.ended, s.last_seen);
            let first =
                self.sightings.iter().enumerate().min_by_key(|(_, s)| oldest(s)).map(|(index, _)| index);
            first.map(|index| self.sightings.remove(index));
        }
    }
}
