//! One film, shown to a scene with the model at every picture and with the gate, and what the two tell.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fleet::Camera;
use flow::{AccessUnit, CameraId, Codec, Event, Look, Phase, SituationId, Timestamp, ZoneId};
use infer::{Gate, GateNumbers, Model, Passage};
use scene::{Condition, Scene};
use sim::Clip;

use super::super::material::{OneByOne, TempFolder, key_units};
use super::super::{cpu, step};

/// Situations of the two runs are one if they begin within so much of each other.
const SAME: Duration = Duration::from_secs(30);

/// What became of one film.
pub struct Outcome {
    pub looks: usize,
    /// Not decoded; decoded, but spared the model.
    pub repeated: usize,
    pub spared: usize,
    pub camera_seconds: f64,
    pub gated: Spent,
    pub bare: Spent,
    pub situations: usize,
    pub lost: Vec<String>,
    pub more: Vec<String>,
    /// How much later than without it a situation begins at most, and ends.
    pub later: f64,
    pub ends_later: f64,
    /// Why pictures were decoded, and why they were looked at.
    pub decoded: Vec<(&'static str, u64)>,
    pub through: Vec<(&'static str, u64)>,
}

/// Processor seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub decoding: f64,
    /// Gate, model and scene.
    pub rest: f64,
}

impl Spent {
    pub fn all(self) -> f64 {
        self.decoding + self.rest
    }

    pub fn add(&mut self, more: Self) {
        self.decoding += more.decoding;
        self.rest += more.rest;
    }
}

/// Shows the film twice.
pub fn measure(label: &str, clip: &Clip, camera: Camera, model: &mut Model) -> anyhow::Result<Outcome> {
    let units = key_units(clip, &camera.id);
    let [first, .., last] = &units[..] else { bail!("{label} has fewer than two key pictures") };
    let looks = units.len();
    let bytes = units.iter().map(|unit| unit.data.len()).sum::<usize>() / looks;
    step(&format!("gate: {label}: {looks} looks of {} KB, twice", bytes / 1024));
    let spanned = last.captured.duration_since(first.captured).unsigned_abs();
    let camera_seconds = spanned.as_secs_f64() * looks as f64 / (looks - 1) as f64;

    let decoder = OneByOne::new()?;
    // What is set up once must not count.
    decoder.decode(first.clone())?;
    let bare = Camera { gate: None, ..camera.clone() };
    let (told_bare, spent_bare, _) = show(units.clone(), bare, model, &decoder)?;
    let (told, spent, numbers) = show(units, camera, model, &decoder)?;
    let (bare_situations, situations) = (begun(&told_bare), begun(&told));
    let (lost, later) = missing(&bare_situations, &situations);
    let (more, _) = missing(&situations, &bare_situations);
    let some = |reasons: Vec<(&'static str, u64)>| reasons.into_iter().filter(|(_, n)| *n > 0).collect();
    Ok(Outcome {
        looks,
        repeated: numbers.repeated as usize,
        spared: numbers.spared as usize,
        camera_seconds,
        gated: spent,
        bare: spent_bare,
        situations: bare_situations.len(),
        lost,
        more,
        later,
        ends_later: ends_later(&told_bare, &told),
        decoded: some(numbers.decoded),
        through: some(numbers.through),
    })
}

/// Shows the pictures to a scene, as a worker would; what it told, and what it cost.
fn show(
    units: Vec<AccessUnit>,
    camera: Camera,
    model: &mut Model,
    decoder: &OneByOne,
) -> anyhow::Result<(Vec<Event>, Spent, GateNumbers)> {
    let camera = Arc::new(camera);
    // Also of films, whose rules are too quick for the gate of a worker.
    let gate = Gate::serving_all([&camera]);
    let mut scene = Scene::new(&camera);
    let (mut events, mut spent) = (Vec::new(), Spent::default());
    for unit in units {
        let before = cpu::this_thread()?;
        let mut repeated = None;
        if gate.must_decode(&unit, |look| repeated.replace(look).is_none()) {
            spent.rest += (cpu::this_thread()? - before).as_secs_f64();
            let before = cpu::own()?;
            let frame = decoder.decode(unit)?;
            spent.decoding += (cpu::own()? - before).as_secs_f64();
            let before = cpu::this_thread()?;
            let look = match gate.judge(frame) {
                Passage::Spared(look) => look,
                Passage::Through(frame) => {
                    let detections = model.look(&[&frame])?.pop().context("a picture gives a look")?;
                    let look = Look { detections, frame };
                    gate.looked(&look);
                    look
                }
            };
            events.extend(scene.look(&look.detections, Some(&look.frame.luma)));
            told(&gate, &scene, &camera.id, &look.detections);
            spent.rest += (cpu::this_thread()? - before).as_secs_f64();
        } else {
            let look = repeated.context("a picture that is not decoded has a look")?;
            events.extend(scene.look(&look, None));
            told(&gate, &scene, &camera.id, &look);
            spent.rest += (cpu::this_thread()? - before).as_secs_f64();
        }
    }
    Ok((events, spent, gate.numbers()))
}

/// The gate hears what the scene says, as in a worker.
fn told(gate: &Gate, scene: &Scene, camera: &CameraId, look: &flow::Detections) {
    if scene.wants_look() {
        gate.ask(camera);
    }
    gate.taken(&look.frame, !scene.wants_look() && scene.condition() == Condition::Good);
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

/// The longest time in seconds by which the end of a situation is told later: by zone and situation, in order.
fn ends_later(wanted: &[Event], found: &[Event]) -> f64 {
    let ends = |events: &[Event]| {
        let mut all: Vec<_> = events
            .iter()
            .filter(|event| matches!(event.phase, Phase::Ended { .. }))
            .map(|event| (event.key.zone.clone(), event.key.situation.clone(), event.captured))
            .collect();
        all.sort();
        all
    };
    let pairs = ends(wanted).into_iter().zip(ends(found));
    let apart = pairs.filter(|(a, b)| (&a.0, &a.1) == (&b.0, &b.1)).map(|(a, b)| b.2.duration_since(a.2));
    apart.map(|apart| apart.as_secs_f64()).fold(0.0, f64::max)
}

/// The film coded anew by x264 with a constant bit rate (the program ffmpeg): a coder that makes all pictures fit, so that
/// sizes say little about what they show.
pub fn at_constant_bit_rate(clip: &Clip, kbit: u32) -> anyhow::Result<Clip> {
    let dir = TempFolder::new()?;
    let (raw, out) = (dir.path().join("film.h264"), dir.path().join("film.mp4"));
    let bytes: Vec<u8> = clip.units.iter().flat_map(|unit| unit.data.iter().copied()).collect();
    std::fs::write(&raw, bytes)?;
    let keys = clip.units.iter().filter(|unit| unit.key).count().max(1);
    let (fps, gop) = (clip.fps().to_string(), clip.units.len().div_ceil(keys).to_string());
    let rate = format!("{kbit}k");
    let format = if clip.codec == Codec::H265 { "hevc" } else { "h264" };
    let x264 = format!("nal-hrd=cbr:scenecut=0:bframes=0:keyint={gop}:min-keyint={gop}");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", format, "-r", &fps, "-i"]).arg(&raw);
    command.args(["-c:v", "libx264", "-preset", "superfast", "-tune", "zerolatency"]);
    command.args(["-b:v", &rate, "-minrate", &rate, "-maxrate", &rate, "-bufsize", &rate]);
    command.args(["-x264-params", &x264]);
    let done = command.arg(&out).stdin(Stdio::null()).stdout(Stdio::null()).status();
    if !done.context("ffmpeg")?.success() {
        bail!("ffmpeg could not code the film at {kbit} kbit/s");
    }
    Ok(Clip::open(&out)?)
}
