//! What a detector does wrong, as data: measured on rendered pictures of clean days (`--measure-noise`), and played back
//! over many more days than could be rendered (`--noise`, [`super::clean`]).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use fleet::ModelCard;
use flow::{Detection, NormBox};
use infer::{Model, Runtime};
use serde::{Deserialize, Serialize};
use sim::street::{Class, Day, Picture, Plan, Thing};

use super::Args;
use super::rendered::{SIZE, situations_dir};
use super::street::{Play, Screen};
use crate::UserError;
use crate::cmd::demo::model_dir;

/// Boxes of nothing that are kept per class: enough to draw from.
const SAMPLES: usize = 48;
/// A thing is asked for from here on; the detector was trained so.
const LEAST_VISIBLE: f32 = 0.5;
const LEAST_PIXELS: f32 = 400.0;
/// A box is of a thing of its class when they overlap so much (IoU), and the same box as at the look before.
const SAME: f32 = 0.3;
const SAME_PLACE: f32 = 0.5;

/// What a model does wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Of which model, and which file of it.
    pub model: String,
    pub sha256: String,
    /// How it was measured.
    pub measured: String,
    /// Over so many looks ...
    pub looks: u64,
    /// ... so many seconds apart.
    pub every_s: f64,
    pub classes: Vec<ClassNoise>,
}

/// Of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassNoise {
    pub class: Class,
    /// Things that were there and large and visible enough.
    pub asked: u64,
    /// Share of them that was missed, after a look at which the same thing was found, and after one at which it was not.
    pub missed_after_found: f64,
    pub missed_after_missed: f64,
    /// Mean distance of an edge from where it is, as a share of the box's side.
    pub jitter: f64,
    /// Scores of what was found: lowest, deciles, highest.
    pub scores: Vec<f32>,
    /// Boxes of nothing that appear, per look.
    pub false_per_look: f64,
    /// Share of them that is still in the same place at the next look: noise has a memory.
    pub false_stays: f64,
    /// Some of them: left, top, right, bottom, score.
    pub false_boxes: Vec<[f32; 5]>,
}

impl Noise {
    /// Reads a file of it, and makes sure that it is of this model.
    pub fn load(path: &Path, card: &ModelCard) -> anyhow::Result<Self> {
        let wrong = |why: String| UserError(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let noise: Self = serde_saphyr::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if noise.sha256 != card.sha256 {
            return Err(wrong(format!(
                "sha256: {}; the model's file has {}: measure again with huiyan eval --measure-noise",
                noise.sha256, card.sha256
            ))
            .into());
        }
        let odd = |class: &ClassNoise| {
            let shares = [class.missed_after_found, class.missed_after_missed, class.false_stays];
            shares.iter().any(|share| !(0.0..=1.0).contains(share))
                || !(0.0..=100.0).contains(&class.false_per_look)
                || !(0.0..=1.0).contains(&class.jitter)
                || class.scores.len() != 11
        };
        match noise.classes.iter().find(|class| odd(class)) {
            Some(class) => {
                Err(wrong(format!("{}: shares lie in 0..=1, and there are 11 scores", class.class.name()))
                    .into())
            }
            None => Ok(noise),
        }
    }

    /// As the file is written: few digits, one class after the other.
    fn to_yaml(&self) -> String {
        let mut out = format!(
            "# What the detector does wrong on rendered streets on which nothing happens that counts.\n# {}\nmodel: {}\nsha256: {}\n\
             measured: {}\nlooks: {}\nevery_s: {}\nclasses:\n",
            "Written by `huiyan eval --measure-noise`, read by `huiyan eval --noise`.",
            self.model,
            self.sha256,
            serde_json::json!(self.measured),
            self.looks,
            self.every_s,
        );
        for class in &self.classes {
            let list =
                |values: &[f32]| values.iter().map(|v| format!("{v:.3}")).collect::<Vec<_>>().join(", ");
            let boxes: Vec<_> = class.false_boxes.iter().map(|b| format!("[{}]", list(b))).collect();
            out += &format!(
                "  - class: {}\n    asked: {}\n    missed_after_found: {:.5}\n    missed_after_missed: {:.4}\n    jitter: {:.4}\n    \
                 scores: [{}]\n    false_per_look: {:.6}\n    false_stays: {:.4}\n    false_boxes: [{}]\n",
                class.class.name(),
                class.asked,
                class.missed_after_found,
                class.missed_after_missed,
                class.jitter,
                list(&class.scores),
                class.false_per_look,
                class.false_stays,
                boxes.join(", "),
            );
        }
        out
    }
}

/// Which thing of the street: the same at every look at which it stands there.
type Identity = [u32; 3];

fn identity(thing: &Thing) -> Identity {
    [thing.seed as u32, thing.u.to_bits(), thing.s.to_bits()]
}

/// Counts of one class while it is measured.
#[derive(Debug, Default)]
struct Count {
    asked: u64,
    /// Looks at a thing that was asked for at the look before: after it was found, after it was missed.
    after: [u64; 2],
    missed: [u64; 2],
    apart: f64,
    edges: u64,
    scores: Vec<f32>,
    appeared: u64,
    followed: u64,
    stayed: u64,
    boxes: Vec<[f32; 5]>,
}

/// Measures looks that follow each other.
#[derive(Default)]
struct Measure {
    counts: HashMap<Class, Count>,
    looks: u64,
    /// Of the look before: which things were found, and what was of nothing.
    found: HashMap<Identity, bool>,
    nothing: Vec<(Class, NormBox)>,
}

impl Measure {
    /// Forgets the look before: the next one is of another street.
    fn turn(&mut self) {
        self.found.clear();
        self.nothing.clear();
    }

    fn look(&mut self, picture: &Picture, things: &[Thing], list: &[Detection]) {
        self.looks += 1;
        let mut found = HashMap::new();
        let mut of_something = vec![false; list.len()];
        for seen in &picture.seen {
            let [x0, y0, x1, y1] = seen.bbox.map(|v| v as f32);
            let (w, h) = (picture.width as f32, picture.height as f32);
            let Some(bbox) = NormBox::clamped(x0 / w, y0 / h, x1 / w, y1 / h) else { continue };
            let mut best: Option<(f32, &Detection)> = None;
            for (detection, of) in list.iter().zip(&mut of_something) {
                let overlap = detection.bbox.iou(&bbox);
                let inside =
                    detection.bbox.intersection(&bbox) >= 0.5 * detection.bbox.area().min(bbox.area());
                if detection.class.as_str() != seen.class.name() {
                    continue;
                }
                *of |= overlap >= SAME || inside;
                if overlap >= SAME && best.is_none_or(|(most, _)| overlap > most) {
                    best = Some((overlap, detection));
                }
            }
            if seen.visible < LEAST_VISIBLE || (x1 - x0) * (y1 - y0) < LEAST_PIXELS {
                continue;
            }
            let who = identity(&things[seen.thing]);
            let count = self.counts.entry(seen.class).or_default();
            count.asked += 1;
            if let Some(before) = self.found.get(&who) {
                let after = usize::from(!before);
                count.after[after] += 1;
                count.missed[after] += u64::from(best.is_none());
            }
            found.insert(who, best.is_some());
            if let Some((_, detection)) = best {
                count.scores.push(detection.score.get());
                let (a, b) = (detection.bbox.to_array(), bbox.to_array());
                let side = [bbox.width(), bbox.height(), bbox.width(), bbox.height()];
                count.apart +=
                    (0..4).map(|i| f64::from((a[i] - b[i]).abs() / side[i].max(1e-3))).sum::<f64>();
                count.edges += 4;
            }
        }
        self.found = found;
        self.note_nothing(
            list.iter().zip(of_something).filter(|(_, of)| !of).map(|(detection, _)| detection),
        );
    }

    fn note_nothing<'d>(&mut self, list: impl Iterator<Item = &'d Detection>) {
        let mut nothing = Vec::new();
        for detection in list {
            let Some(class) = Class::ALL.into_iter().find(|c| c.name() == detection.class.as_str()) else {
                continue;
            };
            let count = self.counts.entry(class).or_default();
            let same =
                |(known, at): &&(Class, NormBox)| *known == class && at.iou(&detection.bbox) >= SAME_PLACE;
            if self.nothing.iter().find(same).is_some() {
                count.stayed += 1;
            } else {
                count.appeared += 1;
                let [x0, y0, x1, y1] = detection.bbox.to_array();
                count.boxes.push([x0, y0, x1, y1, detection.score.get()]);
            }
            nothing.push((class, detection.bbox));
        }
        for (class, _) in &self.nothing {
            self.counts.entry(*class).or_default().followed += 1;
        }
        self.nothing = nothing;
    }

    fn noise(mut self) -> Vec<ClassNoise> {
        let share = |part: u64, of: u64| if of > 0 { part as f64 / of as f64 } else { 0.0 };
        let class = |class: Class| {
            let mut count = self.counts.remove(&class).unwrap_or_default();
            count.scores.sort_by(f32::total_cmp);
            let last = count.scores.len().saturating_sub(1);
            let score = |i: usize| count.scores.get(last * i / 10).copied().unwrap_or(0.8);
            // Spread over all that were seen, not the first ones.
            let step = count.boxes.len().div_ceil(SAMPLES).max(1);
            ClassNoise {
                class,
                asked: count.asked,
                missed_after_found: share(count.missed[0], count.after[0]),
                missed_after_missed: share(count.missed[1], count.after[1]),
                jitter: if count.edges > 0 { count.apart / count.edges as f64 } else { 0.0 },
                scores: (0..=10).map(score).collect(),
                false_per_look: share(count.appeared, self.looks),
                false_stays: share(count.stayed, count.followed),
                false_boxes: count.boxes.iter().step_by(step).copied().collect(),
            }
        };
        Class::ALL.into_iter().map(class).collect()
    }
}

/// Measures the noise on clean days and writes it down.
pub fn measure(args: &Args, out: &Path) -> anyhow::Result<()> {
    let dir = model_dir(args.model.as_deref())?;
    let card = ModelCard::load(&dir).map_err(|mistakes| UserError(mistakes.to_string()))?;
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
    let hours = args.hours.unwrap_or(1.0) as f32;
    let looks = (f64::from(hours) * 3_600.0 / args.every.as_secs_f64()) as u64;
    let bar = crate::cmd::playback::progress(looks * (settings.len() * args.seeds.0.len()) as u64);
    let mut model = Model::open(&Runtime::load(None)?, Arc::new(card.clone()))?;
    let mut measure = Measure::default();
    for setting in &settings {
        for seed in &args.seeds.0 {
            let plan = Plan { seed: *seed, setting: *setting, hours, clean: true, size: SIZE };
            let day = Day::new(plan, dwells)?;
            let mut screen = Screen::new(&day, "any")?;
            measure.turn();
            for number in 0..looks {
                let t = args.every.as_secs_f64() * number as f64;
                let (frame, picture) = screen.take(t, number)?;
                let things = screen.stage.things(t as f32);
                let seen = model.look(&[&frame])?.pop().context("a picture gives a look")?;
                measure.look(&picture, &things, &seen.list);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let names: Vec<_> = settings.iter().map(|s| s.name()).collect();
    let noise = Noise {
        model: card.id.to_string(),
        sha256: card.sha256.clone(),
        measured: format!("clean days, seeds {:?}, {hours} h each of {}", args.seeds.0, names.join(", ")),
        looks: measure.looks,
        every_s: args.every.as_secs_f64(),
        classes: measure.noise(),
    };
    std::fs::write(out, noise.to_yaml()).map_err(|e| UserError(format!("{}: {e}", out.display())))?;
    println!("{}: {} looks", out.display(), noise.looks);
    for class in &noise.classes {
        println!(
            "{:9} missed {:.2} % after found, {:.0} % after missed; jitter {:.1} %; {:.4} boxes of nothing per look, {:.0} % of them stay",
            class.class.name(),
            100.0 * class.missed_after_found,
            100.0 * class.missed_after_missed,
            100.0 * class.jitter,
            class.false_per_look,
            100.0 * class.false_stays,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flow::{ClassName, Score};
    use sim::street::{Kind, Seen};

    use super::*;

    fn picture() -> (Picture, Vec<Thing>) {
        let things = vec![Thing::new(Kind::Car(false), 1.0, 10.0, 0.0, 5)];
        let seen = Seen { thing: 0, class: Class::Car, bbox: [10, 10, 50, 40], visible: 1.0 };
        (Picture { width: 100, height: 100, rgb: vec![], seen: vec![seen] }, things)
    }

    fn detection(class: &str, x: f32) -> Detection {
        let bbox = NormBox::new(x, 0.1, x + 0.4, 0.4).unwrap();
        Detection { class: ClassName::new(class), score: Score::new(0.8).unwrap(), bbox }
    }

    #[test]
    fn what_is_missed_and_what_is_of_nothing_is_counted_with_its_memory() {
        let (picture, things) = picture();
        let mut measure = Measure::default();
        let (hit, ghost) = (detection("car", 0.1), detection("goods", 0.55));
        measure.look(&picture, &things, std::slice::from_ref(&hit));
        measure.look(&picture, &things, &[hit.clone(), ghost.clone()]);
        measure.look(&picture, &things, &[ghost]);
        measure.look(&picture, &things, &[]);
        let noise = measure.noise();
        let of = |class: Class| noise.iter().find(|n| n.class == class).unwrap();
        let car = of(Class::Car);
        assert_eq!((car.asked, car.missed_after_found, car.missed_after_missed), (4, 0.5, 1.0));
        assert!(car.jitter < 1e-6 && car.false_per_look == 0.0);
        let goods = of(Class::Goods);
        assert_eq!((goods.false_per_look, goods.false_stays, goods.false_boxes.len()), (0.25, 0.5, 1));
    }

    #[test]
    fn a_file_of_noise_is_read_back_and_must_be_of_the_model() {
        let (picture, things) = picture();
        let mut measure = Measure::default();
        measure.look(&picture, &things, &[detection("car", 0.1), detection("goods", 0.55)]);
        let noise = Noise {
            model: "m".into(),
            sha256: "ab".into(),
            measured: "in a \"test\"".into(),
            looks: 1,
            every_s: 10.0,
            classes: measure.noise(),
        };
        let read: Noise = serde_saphyr::from_str(&noise.to_yaml()).unwrap();
        assert_eq!((read.measured, read.classes.len()), (noise.measured, 7));
    }
}
