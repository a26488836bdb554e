//! `huiyan eval --noise`: many clean days at the level of detections.
//!
//! Nothing is rendered but one empty street per camera. What the street holds at a look is known; what the detector makes
//! of it is drawn from the noise measured on rendered pictures: misses that last, boxes that tremble, boxes of nothing that
//! stay. The grey copy, which `coverage` asks for, is the empty street, rendered with its houses, lamps and trees; in it stands
//! each thing as it was rendered once, with its shadow; what moves is a patch. Nothing that counts happens, so that every
//! event is a false alarm.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use fleet::ModelCard;
use flow::{Basis, ClassName, Detection, Detections, Event, FrameId, Luma, NormBox, Score, SessionId};
use scene::Scene;
use serde_json::json;
use sim::street::{Class, Day, Dwells, Kind, Moment, Plan, Setting, Studio, Thing, View};

use super::figures::{Judged, Stretch};
use super::matching;
use super::noise::{ClassNoise, Noise};
use super::rendered::{SIZE, situations_dir};
use super::street::{Play, SITUATIONS, planes, start};
use super::{Args, Outcome, read};
use crate::UserError;
use crate::cmd::demo::model_dir;

/// Seeds of these days: none of them is rendered anywhere.
const FIRST_SEED: u64 = 100_000;
/// What is smaller than this, in pixels of the picture, no detector sees.
const LEAST_PIXELS: f32 = 400.0;
/// Of what is covered more than this by what stands nearer, it sees nothing.
const COVERED: f32 = 0.6;
/// Grey levels by which a thing changes a cell of the copy, at least.
const CHANGES: u8 = 2;
/// Grey noise of the copy, whose cells are means of many pixels.
const GREY_NOISE: f32 = 1.2;

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let dir = model_dir(args.model.as_deref())?;
    let card = ModelCard::load(&dir).map_err(|mistakes| UserError(mistakes.to_string()))?;
    let noise = Noise::load(&dir.join("noise.yaml"), &card)?;
    let situations = situations_dir()?;
    let play = Play {
        every: args.every,
        situations: &situations,
        model_dir: &dir,
        card: &card,
        gate: false,
        pictures: false,
        lenient: false,
    };
    let dwells = play.dwells()?;
    let settings = args.settings();
    let plan = |n: usize| Plan {
        seed: FIRST_SEED + n as u64,
        setting: settings[n % settings.len()],
        hours: args.hours.unwrap_or(24.0) as f32,
        clean: true,
        size: SIZE,
    };
    let plans: Vec<Plan> = (0..args.camera_days.max(1) as usize).map(plan).collect();
    let began = std::time::Instant::now();
    let judged = all(&play, &plans, &noise, dwells, args.jobs)?;
    let looks = plans.iter().map(|p| f64::from(p.hours) * 3_600.0).sum::<f64>() / args.every.as_secs_f64();
    let took = began.elapsed().as_secs_f64();
    Ok(Outcome {
        title: "Clean days at the level of detections".into(),
        said: vec![
            format!(
                "{} days on which nothing counts, one look per {} s, {looks:.0} looks in {took:.0} s. Not rendered: what the detector says is \
                 drawn from the noise measured on {} rendered looks ({}).",
                plans.len(),
                args.every.as_secs_f64(),
                noise.looks,
                noise.measured,
            ),
            "Cars that stop for a while, vendors who only rest, barriers that are soon gone, people who wait and traffic are there.".into(),
        ],
        judged,
        sights: vec![],
        more: json!({ "looks": looks, "seconds": took, "level": "detections" }),
        tables: vec![],
    })
}

fn all(
    play: &Play<'_>,
    plans: &[Plan],
    noise: &Noise,
    dwells: Dwells,
    jobs: Option<usize>,
) -> anyhow::Result<Judged> {
    let bar = indicatif::ProgressBar::new(plans.len() as u64);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Judged::default());
    let work = || -> anyhow::Result<()> {
        while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
            let judged = one(play, *plan, noise, dwells)?;
            done.lock().unwrap_or_else(PoisonError::into_inner).add(judged);
            bar.inc(1);
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.unwrap_or(cores).max(1)).map(|_| scope.spawn(work)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().try_for_each(join)
    })?;
    bar.finish_and_clear();
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn one(play: &Play<'_>, plan: Plan, noise: &Noise, dwells: Dwells) -> anyhow::Result<Judged> {
    let day = Day::new(plan, dwells)?;
    let name = format!("s{}-{}", plan.seed, plan.setting.name());
    let camera = play.camera(&name, &day.timeline.zones())?;
    let stage = day.stage();
    let mut scene = Scene::new(&camera);
    let mut blind = Blind::new(noise, &day, plan.seed)?;
    let session = SessionId::next();
    let looks = (f64::from(day.timeline.seconds) / play.every.as_secs_f64()) as u64;
    let mut events: Vec<Event> = Vec::new();
    for number in 0..looks {
        let t = play.every.as_secs_f64() * number as f64;
        let things = stage.things(t as f32);
        let (list, luma) = blind.look(&things, t)?;
        let look = Detections {
            frame: FrameId { camera: camera.id.clone(), session, sequence: number },
            captured: start() + Duration::try_from_secs_f64(t)?,
            model: play.card.id.clone(),
            weights: play.card.sha256.as_str().into(),
            basis: Basis::Inferred,
            list,
        };
        events.extend(scene.look(&look, Some(&luma)));
    }
    let told = read::told(&events);
    let verdicts = matching::judge(&told, &[]);
    let tags = vec![("setting", plan.setting.name().to_owned())];
    let stretch = Stretch { camera: name, days: f64::from(plan.hours) / 24.0, tags };
    Ok(Judged {
        stretches: vec![stretch],
        truth: vec![],
        told,
        verdicts,
        situations: SITUATIONS.map(String::from).to_vec(),
    })
}

/// Which thing of the street: the same at every look at which it stands there.
type Identity = [u32; 3];

fn identity(thing: &Thing) -> Identity {
    [thing.seed as u32, thing.u.to_bits(), thing.s.to_bits()]
}

/// What a thing that stands makes of the empty street: cells and their grey.
type Sprite = Vec<(usize, u8)>;

/// A camera and a detector that are only played.
struct Blind<'n> {
    noise: &'n Noise,
    view: View,
    setting: Setting,
    rng: fastrand::Rng,
    /// What stands there for ever: houses are drawn behind it, lamps and trees in it.
    fixed: Vec<Thing>,
    studio: Studio,
    moment: Moment,
    /// The empty street.
    empty: Luma,
    /// The things of the look before; how they look, of those that stood there then already.
    standing: HashMap<Identity, Option<Sprite>>,
    grain: Vec<i8>,
    /// Which things were found at the look before.
    found: HashMap<Identity, bool>,
    /// Boxes of nothing that are there.
    nothing: Vec<(Class, [f32; 5])>,
}

impl<'n> Blind<'n> {
    fn new(noise: &'n Noise, day: &Day, seed: u64) -> anyhow::Result<Self> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xb11d);
        let mut fixed = day.stage().things(0.0);
        fixed.retain(is_fixed);
        let (mut studio, moment) = (day.studio()?, day.moment(0.0));
        let picture = studio.take_at(&fixed, &moment);
        let grain = (0..65_536 + 160 * 160).map(|_| {
            let sum: f32 = (0..4).map(|_| rng.f32() - 0.5).sum();
            (sum * 1.73 * GREY_NOISE) as i8
        });
        Ok(Self {
            noise,
            view: day.timeline.layout().view,
            setting: day.setting,
            empty: Luma::of(&planes(&picture)?),
            fixed,
            studio,
            moment,
            standing: HashMap::new(),
            grain: grain.collect(),
            rng: rng.fork(),
            found: HashMap::new(),
            nothing: Vec::new(),
        })
    }

    /// What the detector says of a look, and its grey copy.
    fn look(&mut self, things: &[Thing], t: f64) -> anyhow::Result<(Vec<Detection>, Luma)> {
        let mut there: Vec<(f32, &Thing, NormBox)> = things
            .iter()
            .filter(|thing| !is_fixed(thing))
            .filter_map(|thing| Some((thing.order(&self.view), thing, self.place(thing)?)))
            .collect();
        // Far to near.
        there.sort_by(|a, b| b.0.total_cmp(&a.0));
        let luma = self.grey(&there, t)?;
        let mut list = Vec::new();
        let mut found = HashMap::new();
        for (at, (_, thing, place)) in there.iter().enumerate() {
            let Some(noise) = thing.class().and_then(|class| self.of(class)) else { continue };
            let pixels = place.area() * self.view.width * self.view.height;
            let nearer = there[at + 1..].iter().filter(|(_, other, _)| other.class().is_some());
            let covered =
                nearer.map(|(_, _, other)| other.intersection(place)).sum::<f32>() / place.area().max(1e-6);
            if pixels < LEAST_PIXELS || covered > COVERED {
                continue;
            }
            let who = identity(thing);
            let missed = match self.found.get(&who) {
                Some(false) => noise.missed_after_missed,
                _ => noise.missed_after_found,
            };
            let is_found = self.rng.f64() >= missed;
            found.insert(who, is_found);
            if is_found {
                let score = noise.scores[self.rng.usize(..noise.scores.len())];
                list.extend(self.trembling(noise, place).and_then(|b| detection(noise.class, b, score)));
            }
        }
        self.found = found;
        self.of_nothing(&mut list);
        list.sort_by(|a, b| b.score.get().total_cmp(&a.score.get()));
        Ok((list, luma))
    }

    fn of(&self, class: Class) -> Option<&'n ClassNoise> {
        self.noise.classes.iter().find(|noise| noise.class == class)
    }

    fn place(&self, thing: &Thing) -> Option<NormBox> {
        let [x0, y0, x1, y1] = thing.extent(&self.view)?;
        let (w, h) = (self.view.width, self.view.height);
        // The extent has a margin for drawing.
        NormBox::clamped((x0 + 3.0) / w, (y0 + 3.0) / h, (x1 - 3.0) / w, (y1 - 3.0) / h)
    }

    fn trembling(&mut self, noise: &ClassNoise, place: &NormBox) -> Option<NormBox> {
        let [x0, y0, x1, y1] = place.to_array();
        // Evenly, with the measured mean distance.
        let mut off = |side: f32| side * noise.jitter as f32 * (4.0 * self.rng.f32() - 2.0);
        let (w, h) = (place.width(), place.height());
        NormBox::clamped(x0 + off(w), y0 + off(h), x1 + off(w), y1 + off(h))
    }

    fn of_nothing(&mut self, list: &mut Vec<Detection>) {
        let mut nothing = std::mem::take(&mut self.nothing);
        nothing.retain(|(class, _)| self.of(*class).is_some_and(|noise| self.rng.f64() < noise.false_stays));
        for noise in &self.noise.classes {
            let mut left = noise.false_per_look;
            while !noise.false_boxes.is_empty() && self.rng.f64() < left {
                nothing.push((noise.class, noise.false_boxes[self.rng.usize(..noise.false_boxes.len())]));
                left -= 1.0;
            }
        }
        for (class, [x0, y0, x1, y1, score]) in &nothing {
            list.extend(NormBox::clamped(*x0, *y0, *x1, *y1).and_then(|b| detection(*class, b, *score)));
        }
        self.nothing = nothing;
    }

    /// The empty street in the light of the hour, what is in it, and noise.
    fn grey(&mut self, there: &[(f32, &Thing, NormBox)], t: f64) -> anyhow::Result<Luma> {
        let (columns, rows) = (self.empty.columns(), self.empty.rows());
        self.stand(there)?;
        // Slow light: up to a sixth brighter or darker over some hours, faster where clouds pass.
        let hours = if self.setting == Setting::Shadows { 0.4 } else { 5.0 };
        let gain = 1.0 + 0.16 * (t / (hours * 3_600.0) * std::f64::consts::TAU).sin();
        let gain = (gain * 256.0) as u32;
        let grain = &self.grain[self.rng.usize(..65_536)..];
        let mut cells = self.empty.cells().to_vec();
        for (_, thing, place) in there {
            match self.standing.get(&identity(thing)) {
                Some(Some(sprite)) => sprite.iter().for_each(|(at, grey)| cells[*at] = *grey),
                _ => patch(&mut cells, columns, place, thing.seed),
            }
        }
        for (cell, noise) in cells.iter_mut().zip(grain) {
            let lit = ((u32::from(*cell) * gain + 128) >> 8).min(235) as u8;
            *cell = lit.saturating_add_signed(*noise);
        }
        Luma::from_cells(columns as u16, rows as u16, cells).context("as many cells as before")
    }

    /// Renders, once, what is where it was at the look before.
    fn stand(&mut self, there: &[(f32, &Thing, NormBox)]) -> anyhow::Result<()> {
        let mut before = std::mem::take(&mut self.standing);
        for (_, thing, _) in there {
            let who = identity(thing);
            let sprite = match before.remove(&who) {
                None => None,
                Some(Some(sprite)) => Some(sprite),
                Some(None) => Some(self.sprite(thing)?),
            };
            self.standing.insert(who, sprite);
        }
        Ok(())
    }

    fn sprite(&mut self, thing: &Thing) -> anyhow::Result<Sprite> {
        self.fixed.push(*thing);
        let picture = self.studio.take_at(&self.fixed, &self.moment);
        self.fixed.pop();
        let with = Luma::of(&planes(&picture)?);
        let cells = with.cells().iter().zip(self.empty.cells()).enumerate();
        let changed = cells.filter(|(_, (with, empty))| with.abs_diff(**empty) >= CHANGES);
        Ok(changed.map(|(at, (with, _))| (at, *with)).collect())
    }
}

/// Whether it belongs to the street.
fn is_fixed(thing: &Thing) -> bool {
    matches!(thing.kind, Kind::Prop(_))
}

/// A thing that passes, of two or three greys: it is gone at the next look.
fn patch(cells: &mut [u8], columns: usize, place: &NormBox, seed: u64) {
    let rows = cells.len() / columns;
    let (first, end) = ((place.x0() * columns as f32) as usize, (place.x1() * columns as f32) as usize);
    let (top, bottom) = ((place.y0() * rows as f32) as usize, (place.y1() * rows as f32) as usize);
    let grey = 40 + (seed % 150) as u8;
    for row in top..bottom.min(rows) {
        let line = &mut cells[row * columns..][first.min(columns)..end.min(columns)];
        line.iter_mut().enumerate().for_each(|(x, cell)| *cell = grey + 12 * ((x + row) % 3) as u8);
    }
}

fn detection(class: Class, bbox: NormBox, score: f32) -> Option<Detection> {
    Some(Detection { class: ClassName::new(class.name()), score: Score::new(score).ok()?, bbox })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the drawn pictures show is found in them, also where the detector says nothing: the days are not bland.
    #[test]
    fn an_obstacle_that_no_detector_sees_is_found_in_the_drawn_pictures() {
        let dir = model_dir(None).unwrap();
        let card = ModelCard::load(&dir).unwrap();
        let noise = Noise::load(&dir.join("noise.yaml"), &card).unwrap();
        let situations = situations_dir().unwrap();
        let every = Duration::from_secs(10);
        let play = Play {
            every,
            situations: &situations,
            model_dir: &dir,
            card: &card,
            gate: false,
            pictures: false,
            lenient: false,
        };
        let plan = Plan { seed: 8, setting: Setting::Day, hours: 1.5, clean: false, size: SIZE };
        let day = Day::new(plan, play.dwells().unwrap()).unwrap();
        let camera = play.camera("drawn", &day.timeline.zones()).unwrap();
        let (stage, mut scene) = (day.stage(), Scene::new(&camera));
        let mut blind = Blind::new(&noise, &day, plan.seed).unwrap();
        let session = SessionId::next();
        let mut began = Vec::new();
        for number in 0..540 {
            let t = 10.0 * number as f64;
            let (_, luma) = blind.look(&stage.things(t as f32), t).unwrap();
            let look = Detections {
                frame: FrameId { camera: camera.id.clone(), session, sequence: number },
                captured: start() + every * number as u32,
                model: card.id.clone(),
                weights: "".into(),
                basis: Basis::Inferred,
                list: vec![],
            };
            let events = scene.look(&look, Some(&luma));
            began.extend(events.iter().filter(|e| e.phase == flow::Phase::Began).map(|e| {
                assert_eq!(e.key.situation.as_str(), "road_obstructed");
                (e.first_seen.duration_since(start())).as_secs_f32()
            }));
        }
        let due: Vec<_> = day.due.iter().filter(|due| due.situation.as_str() == "road_obstructed").collect();
        assert!(!due.is_empty());
        for due in &due {
            let found = began.iter().any(|at| (due.from - 20.0..due.from + 120.0).contains(at));
            assert!(found, "{due:?}: {began:?}");
        }
        assert_eq!(began.len(), due.len());
    }
}
