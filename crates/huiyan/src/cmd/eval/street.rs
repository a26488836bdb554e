//! One day of a rendered street: the real detector, the gate and the scene, as `huiyan run` wires them, on simulated time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use fleet::{Camera, Fleet, ModelCard, Rule, RuleKind};
use flow::{
    CameraId, Detection, Event, Frame, FrameId, HostPicture, Look, Matrix, NormBox, Plane, SessionId,
    Timestamp,
};
use infer::{Gate, Model, Passage};
use scene::{Condition, Scene};
use serde_json::json;
use sim::street::{Class, Day, Dwells, Picture, Plan, Stage, StreetZone, Studio};

use super::figures::{Judged, Stretch};
use super::matching::{self, True, Verdict};
use super::page::{Sight, What};
use super::read;
use crate::UserError;
use crate::annotate::Canvas;

/// The situations that are shipped and that these streets have.
pub const SITUATIONS: [&str; 3] = ["illegal_parking", "road_obstructed", "street_vending"];
/// Scores from which lenient rules believe a detection.
pub const LENIENT_SCORE: f32 = 0.25;
/// One look in so many counts what the detector finds.
const COUNT_EVERY: u64 = 7;
/// The detector is asked for things at least this visible, whose box has at least so many pixels: as its README says.
const LEAST_VISIBLE: f32 = 0.5;
const LEAST_PIXELS: f32 = 1024.0;
/// A detection is of a thing when they overlap this much (IoU).
const SAME_BOX: f32 = 0.5;

/// How the days are played.
pub struct Play<'a> {
    /// One look per so long.
    pub every: Duration,
    /// The folders of the shipped situations and of the model.
    pub situations: &'a Path,
    pub model_dir: &'a Path,
    pub card: &'a ModelCard,
    /// Whether pictures that show nothing new are spared the model.
    pub gate: bool,
    /// Draw what was missed and what was told wrongly.
    pub pictures: bool,
    /// Rules ask less than is shipped.
    pub lenient: bool,
}

/// What came of one day.
#[derive(Default)]
pub struct Played {
    pub judged: Judged,
    pub sights: Vec<Sight>,
    pub looks: u64,
    pub inferred: u64,
    /// Looks at which the camera was not taken to be well.
    pub suspended: u64,
    pub detector: Detector,
}

/// By setting: recall, and boxes of nothing per look.
pub type BySetting = BTreeMap<String, (f64, f64)>;

/// What the detector finds of what is there: by class, then setting.
#[derive(Debug, Default)]
pub struct Detector {
    asked_found: BTreeMap<(Class, String), (u64, u64)>,
    /// Boxes of nothing, at a score that rules count.
    false_boxes: BTreeMap<(String, String), u64>,
    looks: BTreeMap<String, u64>,
}

impl Play<'_> {
    /// A camera that looks at such zones, with the shipped rules.
    pub fn camera(&self, id: &str, zones: &[StreetZone]) -> anyhow::Result<Camera> {
        let zones: Vec<_> = zones
            .iter()
            .map(|zone| {
                let corners: Vec<_> = zone.polygon.points().iter().map(|p| [p.x, p.y]).collect();
                let situations: Vec<_> = zone.situation.iter().collect();
                json!({ "id": zone.id, "polygon": corners, "situations": situations })
            })
            .collect();
        let every = self.every.as_millis();
        let set = |name: &str| std::path::absolute(self.situations.join(format!("../codesets/{name}.yaml")));
        let sets = json!({ "cjt214": set("cjt214")?, "gbt30428.2": set("gbt30428.2")? });
        let yaml = format!(
            "site: eval\ninclude: {}\ncode_sets: {sets}\nmodels: {{ {}: {} }}\nclasses:\n  eval: {{ model: {}, situations: [], \
             look: {{ at_most_every: {}ms, at_least_every: {every}ms }}, gate: {} }}\ncameras:\n  - {{ id: {id}, class: eval, \
             url: 'rtsp://127.0.0.1/', zones: {} }}\n",
            json!(SITUATIONS.map(|name| {
                std::path::absolute(self.situations.join(format!("{name}.yaml"))).unwrap_or_default()
            })),
            self.card.id,
            json!(std::path::absolute(self.model_dir)?),
            self.card.id,
            every / 2,
            if self.gate { "on" } else { "off" },
            json!(zones),
        );
        let fleet = Fleet::from_yaml_str(&yaml, Path::new(".")).map_err(|e| UserError(e.to_string()))?;
        let camera = (**fleet.cameras.first().context("one camera was written")?).clone();
        Ok(if self.lenient { lenient(camera) } else { camera })
    }

    /// The kind of each shipped rule, by situation.
    pub fn rules(&self) -> anyhow::Result<BTreeMap<String, &'static str>> {
        let plan =
            Plan { seed: 1, setting: sim::street::Setting::Day, hours: 1.0, clean: true, size: (640, 360) };
        let layout = Day::new(plan, Dwells { parking: MINUTE, vending: MINUTE, obstruction: MINUTE })?;
        let camera = self.camera("any", &layout.timeline.zones())?;
        let rules = camera.zones.iter().flat_map(|zone| &zone.rules);
        Ok(rules.map(|rule| (rule.situation.to_string(), rule.kind.name())).collect())
    }

    /// For how long things must stay, by the shipped rules.
    pub fn dwells(&self) -> anyhow::Result<Dwells> {
        let layout = Day::new(
            Plan { seed: 1, setting: sim::street::Setting::Day, hours: 1.0, clean: true, size: (640, 360) },
            Dwells { parking: MINUTE, vending: MINUTE, obstruction: MINUTE },
        )?;
        let camera = self.camera("any", &layout.timeline.zones())?;
        let of = |name: &str| {
            let rules = camera.zones.iter().flat_map(|zone| &zone.rules);
            let rule = rules.clone().find(|rule| rule.situation.as_str() == name);
            rule.map(|rule| match &rule.kind {
                RuleKind::Dwell(rule) => rule.at_least,
                RuleKind::Together(rule) => rule.things.at_least,
                RuleKind::Coverage(rule) => rule.at_least,
                RuleKind::Count(rule) => rule.at_least,
                RuleKind::Model(rule) => rule.at_least,
                RuleKind::Cross(_) => Duration::ZERO,
            })
            .with_context(|| format!("no rule of {name}"))
        };
        Ok(Dwells {
            parking: of("illegal_parking")?,
            vending: of("street_vending")?,
            obstruction: of("road_obstructed")?,
        })
    }

    /// Plays one day from its first look to its last. `tick` is called at every look.
    pub fn day(
        &self,
        plan: Plan,
        dwells: Dwells,
        model: &mut Model,
        tick: &dyn Fn(),
    ) -> anyhow::Result<Played> {
        let day = Day::new(plan, dwells)?;
        let name = format!("s{}-{}", plan.seed, plan.setting.name());
        let camera = Arc::new(self.camera(&name, &day.timeline.zones())?);
        let mut screen = Screen::new(&day, &name)?;
        let gate = self.gate.then(|| Gate::new([&camera]));
        let mut scene = Scene::new(&camera);
        let mut events: Vec<Event> = Vec::new();
        let mut played = Played::default();
        let looks = (f64::from(day.timeline.seconds) / self.every.as_secs_f64()) as u64;
        for number in 0..looks {
            let (frame, picture) = screen.take(self.every.as_secs_f64() * number as f64, number)?;
            let look = match gate.as_ref().map(|gate| gate.judge(frame)) {
                Some(Passage::Spared(look)) => look,
                Some(Passage::Through(frame)) => {
                    let look = look_at(model, frame)?;
                    gate.as_ref().inspect(|gate| gate.looked(&look));
                    look
                }
                None => {
                    return Err(anyhow::anyhow!("a day is played with a gate that may be off in the camera"));
                }
            };
            played.looks += 1;
            if look.detections.basis == flow::Basis::Inferred {
                played.inferred += 1;
                if number % COUNT_EVERY == 0 {
                    played.detector.count(&picture, &look.detections.list, plan.setting.name());
                }
            }
            events.extend(scene.look(&look.detections, Some(&look.frame.luma)));
            played.suspended += u64::from(scene.condition() != Condition::Good);
            if let Some(gate) = gate.as_ref().filter(|_| scene.wants_look()) {
                gate.ask(&camera.id);
            }
            tick();
        }
        played.judged = judged(&day, &name, &events, dwells, looks as f64 * self.every.as_secs_f64());
        if self.pictures {
            played.sights = sights(&played.judged, &camera, &mut screen, model)?;
        }
        Ok(played)
    }
}

/// The same camera with rules that ask less of what is seen, though not less time.
fn lenient(camera: Camera) -> Camera {
    let rule = |rule: &Arc<Rule>| {
        let mut rule = (**rule).clone();
        rule.min_score = rule.min_score.min(LENIENT_SCORE);
        match &mut rule.kind {
            RuleKind::Together(rule) => rule.share /= 2.0,
            // What `coverage` states is in shares of its own `share`: with another one it would state something else.
            RuleKind::Coverage(_) => {}
            RuleKind::Dwell(_) | RuleKind::Count(_) | RuleKind::Cross(_) | RuleKind::Model(_) => {}
        }
        Arc::new(rule)
    };
    let zone =
        |zone: &fleet::Zone| fleet::Zone { rules: zone.rules.iter().map(rule).collect(), ..zone.clone() };
    Camera { zones: camera.zones.iter().map(zone).collect(), ..camera }
}

const MINUTE: Duration = Duration::from_secs(60);

/// When every day begins.
pub fn start() -> Timestamp {
    Timestamp::from_second(1_780_272_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn look_at(model: &mut Model, frame: Frame) -> anyhow::Result<Look> {
    let detections = model.look(&[&frame])?.pop().context("a picture gives a look")?;
    Ok(Look { detections, frame })
}

/// Shows a day.
pub struct Screen<'a> {
    pub day: &'a Day,
    pub stage: Stage,
    pub studio: Studio,
    pub id: CameraId,
    pub session: SessionId,
}

impl<'a> Screen<'a> {
    pub fn new(day: &'a Day, camera: &str) -> anyhow::Result<Self> {
        let id = CameraId::new(camera)?;
        Ok(Self { day, stage: day.stage(), studio: day.studio()?, id, session: SessionId::next() })
    }

    /// The picture `t` seconds after the start, as a decoder would give it, and what is in it.
    pub fn take(&mut self, t: f64, sequence: u64) -> anyhow::Result<(Frame, Picture)> {
        let things = self.stage.things(t as f32);
        let picture = self.studio.take_at(&things, &self.day.moment(t));
        let id = FrameId { camera: self.id.clone(), session: self.session, sequence };
        let captured = start() + Duration::try_from_secs_f64(t)?;
        Ok((Frame::host(id, captured, planes(&picture)?), picture))
    }
}

/// RGB as Y'CbCr 4:2:0 of limited range (Rec. ITU-R BT.601-7, in 1/256).
pub fn planes(picture: &Picture) -> anyhow::Result<HostPicture> {
    let (w, h) = (picture.width as usize, picture.height as usize);
    let mut luma = vec![0; w * h];
    let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
    let mut sums = vec![[0_i32; 3]; cw * ch];
    for (y, (row, out)) in picture.rgb.chunks_exact(w * 3).zip(luma.chunks_exact_mut(w)).enumerate() {
        let sums = &mut sums[y / 2 * cw..][..cw];
        for (x, (pixel, out)) in row.chunks_exact(3).zip(out).enumerate() {
            let [r, g, b] = [i32::from(pixel[0]), i32::from(pixel[1]), i32::from(pixel[2])];
            *out = (((66 * r + 129 * g + 25 * b + 128) >> 8) + 16) as u8;
            let sum = &mut sums[x / 2];
            *sum = [sum[0] + r, sum[1] + g, sum[2] + b];
        }
    }
    let of = |x: usize, y: usize| ((w - 2 * x).min(2) * (h - 2 * y).min(2)) as i32;
    let chroma = |weights: [i32; 3]| -> Vec<u8> {
        let one = |(at, sum): (usize, &[i32; 3])| {
            let n = of(at % cw, at / cw);
            let mixed = weights[0] * sum[0] + weights[1] * sum[1] + weights[2] * sum[2];
            ((mixed / n + 128 * 256 + 128) >> 8).clamp(0, 255) as u8
        };
        sums.iter().enumerate().map(one).collect()
    };
    let (blue, red) = (chroma([-38, -74, 112]), chroma([112, -94, -18]));
    let plane = |data: Vec<u8>, stride| Plane { data: Bytes::from(data), stride };
    let planes = [plane(luma, w), plane(blue, cw), plane(red, cw)];
    Ok(HostPicture::new(picture.width, picture.height, planes, Matrix::Bt601, false)?)
}

fn judged(day: &Day, camera: &str, events: &[Event], dwells: Dwells, seconds: f64) -> Judged {
    let truth: Vec<True> = day
        .due
        .iter()
        .map(|due| {
            let at = |t: f32| start() + Duration::from_secs_f32(t.max(0.0));
            let at_least = match due.situation.as_str() {
                "illegal_parking" => dwells.parking,
                "street_vending" => dwells.vending,
                _ => dwells.obstruction,
            };
            True {
                camera: camera.into(),
                situation: due.situation.to_string(),
                zone: Some(due.zone.to_string()),
                bbox: Some(due.bbox.to_array()),
                from: at(due.from),
                to: at(due.to),
                at_least,
            }
        })
        .collect();
    let told = read::told(events);
    let name = |text: &'static str, value: String| (text, value);
    let light = if day.setting.light() == sim::street::Light::Day { "day" } else { "night" };
    let weather = if day.setting.weather() == sim::street::Weather::Rain { "rain" } else { "clear" };
    let tags = vec![
        name("setting", day.setting.name().into()),
        name("light", light.into()),
        name("weather", weather.into()),
    ];
    let stretch = Stretch { camera: camera.into(), days: seconds / 86_400.0, tags };
    let verdicts = matching::judge(&told, &truth);
    Judged {
        stretches: vec![stretch],
        truth,
        told,
        verdicts,
        situations: SITUATIONS.map(String::from).to_vec(),
    }
}

/// Pictures of what was missed, told twice and told wrongly: taken once more.
fn sights(
    judged: &Judged,
    camera: &Camera,
    screen: &mut Screen<'_>,
    model: &mut Model,
) -> anyhow::Result<Vec<Sight>> {
    let mut out = Vec::new();
    for (there, _) in judged.truth.iter().zip(&judged.verdicts.found).filter(|(_, found)| found.is_none()) {
        let due = there.from + there.at_least;
        let middle = due + due.duration_since(there.to).unsigned_abs() / 2;
        out.push((
            What::Missed,
            there.situation.clone(),
            middle,
            there.bbox.into_iter().collect(),
            vec![],
            None,
        ));
    }
    for (event, verdict) in judged.told.iter().zip(&judged.verdicts.told) {
        let what = match verdict {
            Verdict::Right(_) => continue,
            Verdict::Again(_) => What::Duplicate,
            Verdict::Wrong => What::FalseAlarm,
        };
        out.push((
            what,
            event.situation.clone(),
            event.began,
            vec![],
            event.boxes.clone(),
            Some(event.confidence),
        ));
    }
    let mut sights = Vec::new();
    for (what, situation, at, truth, told, confidence) in out {
        let t = at.duration_since(start()).as_secs_f64();
        let (frame, picture) = screen.take(t, 0)?;
        let seen = look_at(model, frame)?.detections;
        let mut canvas =
            Canvas::of_rgb(picture.width, picture.height, picture.rgb).context("a picture has its pixels")?;
        for zone in camera.zones.iter().filter(|z| z.rules.iter().any(|r| r.situation.as_str() == situation))
        {
            canvas.zone(&zone.polygon);
        }
        seen.list.iter().for_each(|detection| canvas.detection(detection));
        let boxed = |b: &[f32; 4]| NormBox::clamped(b[0], b[1], b[2], b[3]);
        truth.iter().filter_map(boxed).for_each(|b| canvas.truth(&b, "there"));
        // The last of its boxes is where it was seen last; one is enough to point at it.
        told.iter().take(1).filter_map(boxed).for_each(|b| canvas.situation(&b, &situation));
        sights.push(Sight {
            what,
            camera: camera.id.to_string(),
            situation,
            at,
            confidence,
            jpeg: canvas.jpeg()?,
        });
    }
    Ok(sights)
}

impl Detector {
    fn count(&mut self, picture: &Picture, found: &[Detection], setting: &str) {
        *self.looks.entry(setting.into()).or_default() += 1;
        let (w, h) = (picture.width as f32, picture.height as f32);
        let mut of_something = vec![false; found.len()];
        for seen in &picture.seen {
            let [x0, y0, x1, y1] = seen.bbox.map(|v| v as f32);
            let Some(bbox) = NormBox::clamped(x0 / w, y0 / h, x1 / w, y1 / h) else { continue };
            let mut hit = false;
            for (detection, of) in found.iter().zip(&mut of_something) {
                let overlap = detection.bbox.iou(&bbox);
                hit |= detection.class.as_str() == seen.class.name() && overlap >= SAME_BOX;
                // Where anything at all is, a box is not of nothing.
                *of |= overlap >= 0.2
                    || detection.bbox.intersection(&bbox) >= 0.5 * detection.bbox.area().min(bbox.area());
            }
            if seen.visible >= LEAST_VISIBLE && (x1 - x0) * (y1 - y0) >= LEAST_PIXELS {
                let sums = self.asked_found.entry((seen.class, setting.into())).or_default();
                *sums = (sums.0 + 1, sums.1 + u64::from(hit));
            }
        }
        for (detection, of) in found.iter().zip(of_something) {
            if !of && detection.score.get() >= 0.4 {
                let key = (detection.class.to_string(), setting.to_owned());
                *self.false_boxes.entry(key).or_default() += 1;
            }
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        for (key, (asked, found)) in other.asked_found {
            let sums = self.asked_found.entry(key).or_default();
            *sums = (sums.0 + asked, sums.1 + found);
        }
        for (key, count) in other.false_boxes {
            *self.false_boxes.entry(key).or_default() += count;
        }
        for (key, looks) in other.looks {
            *self.looks.entry(key).or_default() += looks;
        }
    }

    /// Rows of class and, for each setting, recall and boxes of nothing per look.
    pub fn rows(&self) -> Vec<(Class, BySetting)> {
        let row = |class: Class| {
            let of = |(setting, looks): (&String, &u64)| {
                let &(asked, found) = self.asked_found.get(&(class, setting.clone()))?;
                let wrong =
                    self.false_boxes.get(&(class.name().to_owned(), setting.clone())).copied().unwrap_or(0);
                Some((setting.clone(), (found as f64 / asked as f64, wrong as f64 / *looks as f64)))
            };
            (class, self.looks.iter().filter_map(of).collect())
        };
        Class::ALL.into_iter().map(row).collect()
    }
}
