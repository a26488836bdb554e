//! `bench gate`: how many looks the gate spares on streets by day, in rain and at night and on real clips, what a camera
//! costs with it and without, and whether any situation is lost.
//!
//! Each film is decoded once and then shown twice to a scene, with the model at every picture and with the gate in
//! front of it. What the two scenes tell is compared, situation by situation. Processor time is that of decoding (with
//! the small grey copy that the gate compares), gate, model and scene; reading the stream from the network is not
//! in it (`bench ingest` measures that: about 0.1 ms per camera-second).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fleet::{Camera, Fleet, ModelCard};
use flow::{Codec, Event, Frame, Phase, SituationId, Timestamp, ZoneId};
use infer::{Gate, Model, Passage, Runtime};
use scene::Scene;
use serde_json::json;
use sim::Clip;
use sim::street::{Act, Light, Stay, Timeline, Weather};

use super::infer::load;
use super::material::{decoded, size};
use super::report::Figure;
use super::{cpu, step};
use crate::cmd::demo::model_dir;
use crate::cmd::sim::{render, timelines};
use crate::{UserError, fleet_text};

/// Seconds that a street lasts: what stops or trades in it stays for four tenths of that, longer than the rules ask.
const SECONDS: f32 = 480.0;
/// For how long things must stay in a street.
const DWELL: Duration = Duration::from_secs(180);
/// ... and in a film of the user's, where anything that stands counts.
const DWELL_IN_FILM: Duration = Duration::from_secs(10);
/// One look per so many seconds.
const KEY_EVERY: f32 = 2.0;
/// Situations of the two runs are one if they begin within so much of each other.
const SAME: Duration = Duration::from_secs(30);

/// The weather of the streets, by name.
const SKIES: [(&str, Light, Weather); 3] = [
    ("day", Light::Day, Weather::Clear),
    ("rain", Light::Day, Weather::Rain),
    ("night", Light::Night, Weather::Clear),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the model's card [default: models/street-demo]
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Size of the streets' pictures
    #[arg(long, value_parser = size, default_value = "704x576")]
    pub size: (u32, u32),
    /// Streets, by name or file [default: all that are shipped]
    #[arg(long)]
    pub street: Vec<String>,
    /// Under which skies: day, rain, night [default: all]
    #[arg(long, value_parser = ["day", "rain", "night"])]
    pub sky: Vec<String>,
    /// Seconds that each street lasts
    #[arg(long, default_value_t = SECONDS)]
    pub seconds: f32,
    /// Noise of the cameras, standard deviation of 255: what makes key pictures large [default: the streets' own, 2 to 4.5]
    #[arg(long)]
    pub noise: Option<f32>,
    /// Key pictures of these files instead of streets; may be given several times
    #[arg(long, conflicts_with_all = ["street", "sky", "size", "seconds"])]
    pub video: Vec<PathBuf>,
    /// The gate's sensitivity
    #[arg(long, default_value_t = 1.0)]
    pub sensitivity: f32,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            model: None,
            size: (704, 576),
            street: Vec::new(),
            sky: Vec::new(),
            seconds: SECONDS,
            noise: None,
            video: Vec::new(),
            sensitivity: 1.0,
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    if !(60.0..=3600.0).contains(&args.seconds) {
        return Err(UserError(format!("--seconds {}: expected 60 to 3600", args.seconds)).into());
    }
    if !(0.1..=10.0).contains(&args.sensitivity) {
        return Err(UserError(format!("--sensitivity {}: expected 0.1 to 10", args.sensitivity)).into());
    }
    let dir = model_dir(args.model.as_deref())?;
    let card = load(&dir)?;
    let mut model = Model::open(&Runtime::load(None)?, Arc::new(card.clone()))?;
    let mut all = Sum::default();
    let mut figures = Vec::new();
    if args.video.is_empty() {
        let names: Vec<String> = match &args.street[..] {
            [] => sim::street::SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect(),
            some => some.to_vec(),
        };
        for (sky, light, weather) in
            SKIES.iter().filter(|s| args.sky.is_empty() || args.sky.iter().any(|n| n == s.0))
        {
            for (name, timeline) in timelines(&names)? {
                let label = format!("{}.{sky}", stem(Path::new(&name)));
                let timeline = stretched(timeline, (*light, *weather), args);
                let camera = street_camera(&timeline, &dir, args.sensitivity)?;
                step(&format!(
                    "gate: rendering {label}, {:.0} s at {}x{}",
                    args.seconds, args.size.0, args.size.1
                ));
                let film =
                    render(&[(name, timeline)], Codec::H264)?.pop().context("a street gives a film")?;
                figures.push(all.add(&label, measure(&label, &film.clip, camera, &mut model)?));
            }
        }
    } else {
        for path in &args.video {
            let label = stem(path);
            let camera = film_camera(&card, &dir, args.sensitivity)?;
            figures.push(all.add(&label, measure(&label, &Clip::open(path)?, camera, &mut model)?));
        }
    }
    figures.extend(all.figures());
    Ok(figures)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The street with this sky, its script drawn out to the length asked for. What moves, moves as fast as before.
fn stretched(timeline: Timeline, (light, weather): (Light, Weather), args: &Args) -> Timeline {
    let factor = args.seconds / timeline.seconds;
    let script = timeline.script.iter().cloned().map(|mut act| {
        let (Act::Park(stay) | Act::Stall(stay) | Act::Obstruct(stay)) = &mut act;
        *stay = Stay { from: stay.from.map(|t| t * factor), to: stay.to.map(|t| t * factor), ..stay.clone() };
        act
    });
    let script = script.collect();
    // The sensors of cameras are noisier in the dark.
    let own = timeline.noise * if light == Light::Day { 1.0 } else { 1.5 };
    let noise = args.noise.unwrap_or(own).clamp(0.0, 40.0);
    Timeline {
        light,
        weather,
        noise,
        script,
        size: args.size,
        seconds: args.seconds,
        fps: 1,
        key_every: KEY_EVERY,
        ..timeline
    }
}

/// A camera that watches for what happens in the zones of a street, by the rules of the shipped library: three minutes.
fn street_camera(timeline: &Timeline, dir: &Path, sensitivity: f32) -> anyhow::Result<Camera> {
    let zones: Vec<_> = timeline
        .zones()
        .iter()
        .map(|zone| {
            let corners: Vec<_> = zone.polygon.points().iter().map(|p| [p.x, p.y]).collect();
            let situations: Vec<_> = zone.situation.iter().map(|s| s.as_str()).collect();
            json!({ "id": zone.id, "polygon": corners, "situations": situations })
        })
        .collect();
    let at_least = format!("at_least: {}s", DWELL.as_secs());
    let yaml = format!(
        "site: bench
models: {{ {id}: {dir} }}
situations:
  illegal_parking: {{ zh: 停, en: parking, rule: {{ dwell: {{ classes: [car], {at_least} }} }} }}
  street_vending: {{ zh: 贩, en: vending, rule: {{ dwell: {{ classes: [tricycle, umbrella, goods], {at_least}, per: group }} }} }}
  road_obstructed: {{ zh: 障, en: obstacle, rule: {{ dwell: {{ classes: [barrier, boxes], {at_least}, per: group }} }} }}
classes: {{ any: {{ model: {id}, gate: {{ sensitivity: {sensitivity} }} }} }}
cameras: [ {{ id: bench-0, class: any, url: \"rtsp://127.0.0.1/\", zones: {zones} }} ]
",
        id = stem(dir),
        dir = json!(std::path::absolute(dir)?),
        zones = json!(zones),
    );
    let fleet = Fleet::from_yaml_str(&yaml, Path::new(".")).map_err(|m| UserError(m.to_string()))?;
    Ok((**fleet.cameras.first().context("one camera was written")?).clone())
}

/// A camera for which anything that stands for ten seconds is a situation.
fn film_camera(card: &ModelCard, dir: &Path, sensitivity: f32) -> anyhow::Result<Camera> {
    let fleet = fleet_text::anything_that_stands(card, dir, DWELL_IN_FILM, &[], None)?;
    let camera = (**fleet.cameras.first().context("one camera was written")?).clone();
    let gate = camera.gate.map(|gate| fleet::Gate { sensitivity, ..gate });
    Ok(Camera { gate, ..camera })
}

/// What became of one film.
struct Outcome {
    looks: usize,
    spared: usize,
    camera_seconds: f64,
    /// Processor seconds: decoding, all with the gate, all without.
    decode: f64,
    gated: f64,
    bare: f64,
    situations: usize,
    lost: Vec<String>,
    more: Vec<String>,
    /// How much later than without it a situation begins at most.
    later: f64,
    reasons: Vec<(&'static str, u64)>,
}

fn measure(label: &str, clip: &Clip, camera: Camera, model: &mut Model) -> anyhow::Result<Outcome> {
    let keys: Vec<_> =
        clip.units.iter().filter(|unit| unit.key).map(|unit| (unit.pts, unit.data.clone())).collect();
    let bytes = keys.iter().map(|(_, data)| data.len()).sum::<usize>() / keys.len().max(1);
    step(&format!("gate: {label}: {} looks of {} KB, twice", keys.len(), bytes / 1024));
    // What is set up once must not count.
    decoded(clip.codec, &keys[..keys.len().min(1)], &camera.id)?;
    let before = cpu::own()?;
    let frames = decoded(clip.codec, &keys, &camera.id)?;
    let decode = (cpu::own()? - before).as_secs_f64();
    let looks = frames.len();
    let first = frames.first().map(|f| f.captured);
    let last = frames.last().map(|f| f.captured);
    let spanned = first.zip(last).map_or(Duration::ZERO, |(a, b)| b.duration_since(a).unsigned_abs());
    let camera_seconds = spanned.as_secs_f64() * looks as f64 / (looks.max(2) - 1) as f64;

    let bare = Camera { gate: None, ..camera.clone() };
    let (told_bare, frames, spent_bare, _) = show(frames, bare, model)?;
    let (told, _, spent, numbers) = show(frames, camera, model)?;
    let (bare_situations, situations) = (begun(&told_bare), begun(&told));
    let (lost, later) = missing(&bare_situations, &situations);
    let (more, _) = missing(&situations, &bare_situations);
    Ok(Outcome {
        looks,
        spared: numbers.spared as usize,
        camera_seconds,
        decode,
        gated: spent,
        bare: spent_bare,
        situations: bare_situations.len(),
        lost,
        more,
        later,
        reasons: numbers.through.into_iter().filter(|(_, n)| *n > 0).collect(),
    })
}

type Shown = (Vec<Event>, Vec<Frame>, f64, infer::GateNumbers);

/// Shows the frames to a scene; what it told, the frames again, and processor seconds of this thread.
fn show(frames: Vec<Frame>, camera: Camera, model: &mut Model) -> anyhow::Result<Shown> {
    let camera = Arc::new(camera);
    // Also of films, whose rules are too quick for the gate of a worker.
    let gate = Gate::serving_all([&camera]);
    let mut scene = Scene::new(&camera);
    let (mut events, mut shown) = (Vec::new(), Vec::with_capacity(frames.len()));
    let before = cpu::this_thread()?;
    for frame in frames {
        let look = match gate.judge(frame) {
            Passage::Spared(look) => look,
            Passage::Through(frame) => {
                let detections = model.look(&[&frame])?.pop().context("a picture gives a look")?;
                let look = flow::Look { detections, frame };
                gate.looked(&look);
                look
            }
        };
        events.extend(scene.look(&look.detections, Some(&look.frame.luma)));
        if scene.wants_look() {
            gate.ask(&camera.id);
        }
        shown.push(look.frame);
    }
    Ok((events, shown, (cpu::this_thread()? - before).as_secs_f64(), gate.numbers()))
}

/// A situation that began.
struct Begun {
    situation: SituationId,
    zone: ZoneId,
    began: Timestamp,
}

fn begun(events: &[Event]) -> Vec<Begun> {
    let began = |event: &Event| {
        (event.phase == Phase::Began).then(|| Begun {
            situation: event.key.situation.clone(),
            zone: event.key.zone.clone(),
            began: event.began,
        })
    };
    events.iter().filter_map(began).collect()
}

/// Those of `wanted` that have no counterpart in `found`, and the longest time in seconds by which one begins later.
fn missing(wanted: &[Begun], found: &[Begun]) -> (Vec<String>, f64) {
    let mut free: Vec<&Begun> = found.iter().collect();
    let (mut list, mut later) = (Vec::new(), 0.0_f64);
    for w in wanted {
        let apart = |f: &Begun| f.began.duration_since(w.began).as_secs_f64();
        let near = free
            .iter()
            .enumerate()
            .filter(|(_, f)| {
                f.situation == w.situation && f.zone == w.zone && apart(f).abs() <= SAME.as_secs_f64()
            })
            .min_by(|(_, a), (_, b)| apart(a).abs().total_cmp(&apart(b).abs()));
        match near.map(|(index, f)| (index, apart(f))) {
            Some((index, apart)) => {
                later = later.max(apart);
                free.remove(index);
            }
            None => list.push(format!("{} in {} at {}", w.situation, w.zone, w.began.strftime("%H:%M:%S"))),
        }
    }
    (list, later)
}

/// All films together.
#[derive(Default)]
struct Sum {
    looks: usize,
    spared: usize,
    camera_seconds: f64,
    decode: f64,
    gated: f64,
    bare: f64,
    situations: usize,
    lost: usize,
    more: usize,
    later: f64,
}

impl Sum {
    /// Adds a film and tells about it.
    fn add(&mut self, label: &str, film: Outcome) -> Figure {
        let spared = film.spared as f64 / film.looks.max(1) as f64;
        step(&format!(
            "gate: {label}: {:.0} % of {} looks spared; {} situations, begun up to {:.0} s later; the others: {:?}",
            spared * 100.0,
            film.looks,
            film.situations,
            film.later,
            film.reasons
        ));
        for (what, list) in [("lost", &film.lost), ("only with the gate", &film.more)] {
            for situation in list {
                step(&format!("gate: {label}: {what}: {situation}"));
            }
        }
        self.looks += film.looks;
        self.spared += film.spared;
        self.camera_seconds += film.camera_seconds;
        self.decode += film.decode;
        self.gated += film.gated;
        self.bare += film.bare;
        self.situations += film.situations;
        self.lost += film.lost.len();
        self.more += film.more.len();
        self.later = self.later.max(film.later);
        Figure::plain(format!("gate.spared.{label}"), spared, "share of looks")
    }

    fn figures(&self) -> Vec<Figure> {
        let ms = |seconds: f64| seconds * 1e3 / self.camera_seconds.max(1e-9);
        let unit = "CPU ms / camera-second";
        vec![
            Figure::plain("gate.spared", self.spared as f64 / self.looks.max(1) as f64, "share of looks"),
            Figure::plain("gate.cpu_ms_per_camera_second", ms(self.decode + self.gated), unit),
            Figure::plain("gate.cpu_ms_without_gate", ms(self.decode + self.bare), unit),
            Figure::plain("gate.cpu_ms_decoding", ms(self.decode), unit),
            Figure::plain("gate.situations", self.situations as f64, "situations without the gate"),
            Figure::plain("gate.situations_lost", self.lost as f64, "situations"),
            Figure::plain("gate.situations_more", self.more as f64, "situations"),
            Figure::plain("gate.began_later_s", self.later, "s, at most"),
        ]
    }
}
