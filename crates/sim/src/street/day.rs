//! A day of a street, by its seed: what comes and goes, under one setting of light and weather, and which of it an
//! operator would want to hear of. It is what `huiyan eval` measures the pipeline on.
//!
//! Beside what counts there is what does not: cars that stop for less than the dwell, vendors who only rest, barriers that
//! are gone at once, people who wait under an umbrella, cars that park where they may, traffic.

use std::f32::consts::TAU;
use std::time::Duration;

use flow::{NormBox, SituationId, ZoneId};

use super::brush::between;
use super::develop::{Light, Weather};
use super::layout::{Layout, Place};
use super::moment::{Moment, Sky, wander};
use super::stage::Stage;
use super::studio::{SizeError, Studio};
use super::timeline::{Act, Stay, Timeline, Traffic, ZoneSpec};
use super::view::V3;

/// Where a camera of this seed is not well placed, others are tried.
const STREETS: u64 = 400;
/// Pixels per metre, in 640 columns, that a thing of a zone has at least.
const LEAST_SCALE: f32 = 21.0;
/// What counts lasts this much longer than its dwell at least, and what does not count this much shorter, seconds:
/// between two looks nobody can tell.
const CLEARLY: f32 = 60.0;

/// Light and weather of a whole day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Setting {
    /// Even daylight.
    Day,
    /// Street lamps; a car now and then.
    Night,
    /// Rain by day, wet ground, umbrellas.
    Rain,
    /// Night, with much traffic whose lamps sweep the road and dazzle the camera.
    Headlights,
    /// The sun wanders, clouds pass before it, trees sway: the shadows of houses, trees and clouds move.
    Shadows,
    /// Day; wind shakes the mast by a few pixels.
    Shake,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Day, Self::Night, Self::Rain, Self::Headlights, Self::Shadows, Self::Shake];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Night => "night",
            Self::Rain => "rain",
            Self::Headlights => "headlights",
            Self::Shadows => "shadows",
            Self::Shake => "shake",
        }
    }

    /// The setting of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.name() == name)
    }

    /// The light.
    pub fn light(self) -> Light {
        match self {
            Self::Night | Self::Headlights => Light::Night,
            _ => Light::Day,
        }
    }

    /// The weather.
    pub fn weather(self) -> Weather {
        if self == Self::Rain { Weather::Rain } else { Weather::Clear }
    }

    fn noise(self) -> f32 {
        if self.light() == Light::Night { 4.0 } else { 2.2 }
    }

    fn traffic(self) -> Traffic {
        let (pedestrians, cars_per_minute, umbrellas) = match self {
            Self::Night => (0.7, 0.5, None),
            Self::Headlights => (0.7, 4.0, None),
            Self::Rain => (2.0, 2.0, None),
            Self::Day | Self::Shadows | Self::Shake => (2.5, 2.0, Some(0.08)),
        };
        Traffic { pedestrians, cars_per_minute, umbrellas }
    }
}

/// A situation of which an operator should hear.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// What.
    pub situation: SituationId,
    /// In which zone.
    pub zone: ZoneId,
    /// Second at which the first of its things stands in place.
    pub from: f32,
    /// Second at which the first of them begins to leave.
    pub to: f32,
    /// Around all of it.
    pub bbox: NormBox,
}

/// For how long things must stay to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dwells {
    /// A car.
    pub parking: Duration,
    /// A stall.
    pub vending: Duration,
    /// Barriers and cartons.
    pub obstruction: Duration,
}

/// A day of a street.
#[derive(Debug, Clone)]
pub struct Day {
    /// The street and what happens in it.
    pub timeline: Timeline,
    /// Light and weather.
    pub setting: Setting,
    /// What should be told, in order of time.
    pub due: Vec<Due>,
}

/// No street of this seed can be watched well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "none of the {STREETS} streets of seed {0} has its kerb, footway and lane well in view at {1}x{2} pixels"
)]
pub struct NoStreetError(u64, u32, u32);

/// What a day is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Decides the street and what happens.
    pub seed: u64,
    /// Light and weather.
    pub setting: Setting,
    /// How long the day is, hours.
    pub hours: f32,
    /// Nothing that counts happens.
    pub clean: bool,
    /// Width and height of its pictures, pixels.
    pub size: (u32, u32),
}

impl Day {
    /// Plans a day. The same plan gives the same day.
    pub fn new(plan: Plan, dwells: Dwells) -> Result<Self, NoStreetError> {
        let (width, height) = plan.size;
        let street = (0..STREETS)
            .map(|n| {
                plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n + 1).wrapping_mul(0x2545_f491_4f6c_dd1d)
            })
            .find(|street| well_placed(&Layout::from_seed(*street, width, height)))
            .ok_or(NoStreetError(plan.seed, width, height))?;
        let layout = Layout::from_seed(street, width, height);
        let seconds = (plan.hours * 3_600.0).max(60.0);
        let mut agenda = Agenda { layout: &layout, seconds, booked: Vec::new() };
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0xda71 ^ ((plan.setting as u64) << 40));
        agenda.fill(&mut rng, plan, dwells);
        let mut booked = agenda.booked;
        booked.sort_by(|a, b| a.from.total_cmp(&b.from));
        let due = booked.iter().filter(|b| b.due).filter_map(|b| b.to_due(&layout)).collect();
        let mut script: Vec<Act> = booked.iter().map(Booked::act).collect();
        // One that may stand where it stands, for ever.
        script.push(Act::Park(Stay {
            at: Place::KerbFar,
            along: ZONE_ALONG / 2.0 + 4.0,
            across: 0.0,
            from: None,
            to: None,
        }));
        let timeline = Timeline {
            title: format!("a day of a street: {}", plan.setting.name()),
            seconds,
            fps: 1,
            size: plan.size,
            key_every: 1.0,
            street,
            seed: plan.seed,
            light: plan.setting.light(),
            weather: plan.setting.weather(),
            noise: plan.setting.noise(),
            traffic: plan.setting.traffic(),
            zones: zones(),
            script,
        };
        Ok(Self { timeline, setting: plan.setting, due })
    }

    /// What is in the street, at any second.
    pub fn stage(&self) -> Stage {
        Stage::new(&self.timeline)
    }

    /// The camera.
    pub fn studio(&self) -> Result<Studio, SizeError> {
        Studio::new(self.timeline.layout(), self.timeline.conditions())
    }

    /// The circumstances of a picture taken `t` seconds after the start.
    pub fn moment(&self, t: f64) -> Moment {
        let seed = self.timeline.seed ^ (t * 10.0) as u64;
        let mut moment = Moment { beams: self.timeline.light != Light::Day, ..Moment::plain(seed) };
        match self.setting {
            Setting::Shadows => moment.sky = Some(self.sky(t)),
            Setting::Shake => {
                let mut rng = fastrand::Rng::with_seed(seed ^ 0x5a4e);
                let gust = 4.0 * (0.25 + 0.75 * wander(t, 900.0, 0.7).abs());
                moment.shake = (between(&mut rng, -gust, gust) as i32, between(&mut rng, -gust, gust) as i32);
            }
            _ => {}
        }
        moment
    }

    /// The sun goes there and back in a day, as fast as it does in summer.
    fn sky(&self, t: f64) -> Sky {
        let turn = (t / 86_400.0).fract() as f32 * TAU;
        let start = (self.timeline.street % 628) as f32 / 100.0;
        let (azimuth, rise) = (start + 1.6 * turn.sin(), 0.7 + 0.4 * (turn * 2.0 + 1.0).sin());
        let sun = V3::new(azimuth.sin() * rise.cos(), azimuth.cos() * rise.cos(), rise.sin());
        let wind = (t * 3.0) as f32;
        let sway = |phase: f32| 0.35 * wander(t, 40.0, phase);
        Sky {
            sun,
            clouds: (0.42 + 0.75 * wander(t, 9_000.0, 0.3)).clamp(0.0, 1.2),
            drift: (0.8 * wind, 0.6 * wind),
            sway: (sway(0.0), sway(2.0)),
        }
    }
}

/// Length of the kerb's zone, metres.
const ZONE_ALONG: f32 = 16.0;

fn zones() -> Vec<ZoneSpec> {
    let zone = |id: &str, situation: &str, at, across, along, wide| ZoneSpec {
        id: ZoneId::new(id).expect("a valid id"),
        situation: SituationId::new(situation).ok(),
        at,
        across,
        along,
        wide,
    };
    vec![
        zone("no_parking", "illegal_parking", Place::KerbFar, 0.6, ZONE_ALONG, 3.8),
        zone("footway", "street_vending", Place::FootwayFar, 0.4, 13.0, 5.4),
        zone("lane", "road_obstructed", Place::LaneNear, 0.0, 12.0, 3.4),
    ]
}

/// Whether whoever put the camera up could see all zones well.
fn well_placed(layout: &Layout) -> bool {
    let view = layout.view;
    let seen = |place: Place, reach: f32| {
        let middle = layout.middle(place);
        [-reach, 0.0, reach].into_iter().all(|along| {
            let at = V3::new(middle.u, middle.s + along, 0.0);
            let scale = view.scale(view.depth(at)) * 640.0 / view.width;
            view.project(at).is_some_and(|(x, y)| {
                let (x, y) = (x / view.width, y / view.height);
                (0.08..0.92).contains(&x) && (0.22..0.96).contains(&y) && scale > LEAST_SCALE
            })
        })
    };
    seen(Place::KerbFar, 5.5) && seen(Place::FootwayFar, 4.0) && seen(Place::LaneNear, 2.5)
}

/// What happens in a day, as it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Park,
    Stall,
    Obstruct,
    Pile,
    Wait,
}

impl Sort {
    /// Where it happens, how far along the street from the middle of that, and how far across.
    fn place(self) -> (Place, f32, f32) {
        match self {
            Self::Park => (Place::KerbFar, 5.4, 0.12),
            Self::Stall => (Place::FootwayFar, 3.6, 0.25),
            Self::Wait => (Place::FootwayFar, 5.0, 0.5),
            Self::Obstruct | Self::Pile => (Place::LaneNear, 2.4, 0.2),
        }
    }

    /// Half of its length and width on the ground, and its height, metres.
    fn room(self) -> (f32, f32, f32) {
        match self {
            Self::Park => (2.4, 1.0, 1.6),
            Self::Stall => (2.4, 1.3, 2.4),
            Self::Obstruct => (2.3, 1.6, 1.1),
            Self::Pile => (1.4, 1.4, 1.3),
            Self::Wait => (0.4, 0.4, 1.9),
        }
    }

    fn situation(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Park => Some(("illegal_parking", "no_parking")),
            Self::Stall => Some(("street_vending", "footway")),
            Self::Obstruct | Self::Pile => Some(("road_obstructed", "lane")),
            Self::Wait => None,
        }
    }
}

/// Something that has its time and place.
#[derive(Debug, Clone, Copy)]
struct Booked {
    sort: Sort,
    along: f32,
    across: f32,
    at: V3,
    from: f32,
    to: f32,
    due: bool,
}

impl Booked {
    fn act(&self) -> Act {
        let stay = Stay {
            at: self.sort.place().0,
            along: self.along,
            across: self.across,
            from: Some(self.from),
            to: Some(self.to),
        };
        match self.sort {
            Sort::Park => Act::Park(stay),
            Sort::Stall => Act::Stall(stay),
            Sort::Obstruct => Act::Obstruct(stay),
            Sort::Pile => Act::Pile(stay),
            Sort::Wait => Act::Wait(stay),
        }
    }

    fn to_due(self, layout: &Layout) -> Option<Due> {
        let (situation, zone) = self.sort.situation()?;
        let (long, wide, high) = self.sort.room();
        let mut around = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        for (du, ds, h) in [-wide, wide]
            .into_iter()
            .flat_map(|du| [-long, long].into_iter().flat_map(move |ds| [0.0, high].map(|h| (du, ds, h))))
        {
            let (x, y) = layout.view.project(V3::new(self.at.u + du, self.at.s + ds, h))?;
            let (x, y) = (x / layout.view.width, y / layout.view.height);
            around = [around[0].min(x), around[1].min(y), around[2].max(x), around[3].max(y)];
        }
        Some(Due {
            situation: SituationId::new(situation).ok()?,
            zone: ZoneId::new(zone).ok()?,
            from: self.from,
            to: self.to,
            bbox: NormBox::clamped(around[0], around[1], around[2], around[3])?,
        })
    }
}

struct Agenda<'a> {
    layout: &'a Layout,
    seconds: f32,
    booked: Vec<Booked>,
}

impl Agenda<'_> {
    fn fill(&mut self, rng: &mut fastrand::Rng, plan: Plan, dwells: Dwells) {
        let seconds = |dwell: Duration| dwell.as_secs_f32();
        // What counts comes first, so that it finds room.
        for (due, sort, per_day, dwell) in [
            (true, Sort::Park, 15.0, seconds(dwells.parking)),
            (true, Sort::Stall, 10.0, seconds(dwells.vending)),
            (true, Sort::Obstruct, 5.0, seconds(dwells.obstruction)),
            (true, Sort::Pile, 5.0, seconds(dwells.obstruction)),
            (false, Sort::Park, 12.0, seconds(dwells.parking)),
            (false, Sort::Stall, 5.0, seconds(dwells.vending)),
            (false, Sort::Obstruct, 3.0, seconds(dwells.obstruction)),
            (false, Sort::Pile, 3.0, seconds(dwells.obstruction)),
            (false, Sort::Wait, 8.0, seconds(dwells.vending)),
        ] {
            if due && plan.clean {
                continue;
            }
            let count = (per_day * plan.hours / 24.0_f32).round().max(1.0) as usize;
            for _ in 0..count {
                let stay = if due {
                    let least = dwell + CLEARLY;
                    least * (2_700.0_f32.max(2.0 * least) / least).powf(rng.f32())
                } else {
                    let most = (dwell - CLEARLY).max(20.0);
                    between(rng, (most / 4.0).max(16.0), most)
                };
                self.book(rng, sort, stay, due);
            }
        }
    }

    /// Finds a time and a place; where none is free, it does not happen.
    fn book(&mut self, rng: &mut fastrand::Rng, sort: Sort, stay: f32, due: bool) {
        let first = 900.0_f32.min(self.seconds * 0.1);
        let last = self.seconds - stay - 40.0;
        let (place, reach, aside) = sort.place();
        let middle = self.layout.middle(place);
        for _ in 0..80 {
            if last <= first {
                return;
            }
            let from = between(rng, first, last).round();
            let (along, across) = (between(rng, -reach, reach), between(rng, -aside, aside));
            let at = V3::new(middle.u + across * self.layout.side(), middle.s + along, 0.0);
            let new = Booked { sort, along, across, at, from, to: from + stay, due };
            if self.booked.iter().all(|other| self.agree(&new, other)) {
                self.booked.push(new);
                return;
            }
        }
    }

    /// Whether two things do not stand in each other's way, nor before each other where one of them counts.
    fn agree(&self, a: &Booked, b: &Booked) -> bool {
        // Of stalls side by side nobody can say whether they are one; what blocks a lane is one, however much of it.
        let alike = a.sort.situation() == b.sort.situation() && !matches!(a.sort, Sort::Park | Sort::Wait);
        // Comings and goings included.
        let apart = if alike { 400.0 } else { 150.0 };
        if a.from > b.to + apart || b.from > a.to + apart {
            return true;
        }
        if alike {
            return false;
        }
        let ((long_a, wide_a, _), (long_b, wide_b, _)) = (a.sort.room(), b.sort.room());
        let apart = (a.at.s - b.at.s).abs() > long_a + long_b + 0.6
            || (a.at.u - b.at.u).abs() > wide_a + wide_b + 0.4;
        apart && !(b.due && self.hides(a, b)) && !(a.due && self.hides(b, a))
    }

    /// Whether one stands between the camera and the other.
    fn hides(&self, front: &Booked, back: &Booked) -> bool {
        let eye = self.layout.view.eye();
        let (bu, bs) = (back.at.u - eye.u, back.at.s - eye.s);
        let far = bu.hypot(bs);
        let (fu, fs) = (front.at.u - eye.u, front.at.s - eye.s);
        let ahead = (fu * bu + fs * bs) / far;
        let off = (fu * bs - fs * bu).abs() / far;
        let (long, _, high) = front.sort.room();
        // How far its top hides the ground behind it.
        let reach = ahead * eye.h / (eye.h - high).max(0.5);
        ahead > 0.0 && ahead < far && off < long + 1.0 && far < reach + 1.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DWELLS: Dwells = Dwells {
        parking: Duration::from_secs(180),
        vending: Duration::from_secs(180),
        obstruction: Duration::from_secs(300),
    };

    fn plan(seed: u64, setting: Setting) -> Plan {
        Plan { seed, setting, hours: 24.0, clean: false, size: (640, 360) }
    }

    #[test]
    fn a_day_has_what_counts_in_its_zones_and_a_clean_one_has_not() {
        for setting in Setting::ALL {
            let day = Day::new(plan(7, setting), DWELLS).unwrap();
            let count = |name: &str| day.due.iter().filter(|due| due.situation.as_str() == name).count();
            let (parked, stalls, blocked) =
                (count("illegal_parking"), count("street_vending"), count("road_obstructed"));
            assert!(parked >= 12 && stalls >= 7 && blocked >= 7, "{parked} {stalls} {blocked}");
            // The timeline's own truth agrees: every one of them stands in its zone.
            let told = day.timeline.situations();
            for due in &day.due {
                let same = |t: &&crate::street::TruthSituation| {
                    t.zone == due.zone && (t.from - due.from).abs() < 2.0
                };
                assert!(told.iter().any(|t| same(&t)), "{due:?}");
                let least = if due.situation.as_str() == "road_obstructed" { 300.0 } else { 180.0 };
                assert!(due.to - due.from >= least + CLEARLY - 1.0);
            }
            let clean = Day::new(Plan { clean: true, ..plan(7, setting) }, DWELLS).unwrap();
            assert!(clean.due.is_empty() && clean.timeline.script.len() > 20);
        }
    }

    #[test]
    fn the_same_plan_gives_the_same_day_and_settings_differ() {
        let day = |setting| Day::new(plan(9, setting), DWELLS).unwrap();
        assert_eq!(day(Setting::Rain).timeline, day(Setting::Rain).timeline);
        let (shadows, shake, still) = (day(Setting::Shadows), day(Setting::Shake), day(Setting::Day));
        assert!(shadows.moment(5_000.0).sky != shadows.moment(5_010.0).sky);
        assert!((0..50).any(|i| shake.moment(f64::from(i) * 10.0).shake != (0, 0)));
        assert_eq!(still.moment(77.0).sky, None);
        assert!(day(Setting::Headlights).moment(3.0).beams);
    }

    #[test]
    fn moving_light_changes_the_ground_and_nothing_else_is_there() {
        let day = Day::new(Plan { hours: 0.5, clean: true, ..plan(11, Setting::Shadows) }, DWELLS).unwrap();
        let mut studio = day.studio().unwrap();
        let things: Vec<_> = day.stage().things(0.0).into_iter().filter(|t| t.class().is_none()).collect();
        let mean = |t: f64, studio: &mut Studio| {
            let rgb = studio.take_at(&things, &day.moment(t)).rgb;
            rgb.iter().map(|v| f64::from(*v)).sum::<f64>() / rgb.len() as f64
        };
        let means: Vec<f64> = (0..12).map(|i| mean(f64::from(i) * 150.0, &mut studio)).collect();
        let (low, high) = means.iter().fold((f64::MAX, 0.0_f64), |(l, h), m| (l.min(*m), h.max(*m)));
        assert!(high - low > 3.0, "{means:?}");
    }
}
