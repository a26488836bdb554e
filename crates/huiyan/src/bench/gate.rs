//! `bench gate`: how many looks the gate spares on streets by day, in rain and at night and on real clips, what a camera
//! costs with it and without, and whether any situation is lost.
//!
//! Each film is shown twice to a scene, with every picture decoded and looked at by the model, and with the gate before
//! decoder and model. What the two scenes tell is compared, situation by situation. Processor time is that of decoding
//! (with the small grey copy that the gate compares), gate, model and scene; reading the stream from the network is not
//! in it (`bench ingest` measures that: about 0.1 ms per camera-second).

mod film;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fleet::{Camera, Fleet, ModelCard};
use flow::Codec;
use infer::{Model, Runtime};
use serde_json::json;
use sim::Clip;
use sim::street::{Light, Stay, Timeline, Weather};

use film::{Outcome, Spent, at_constant_bit_rate, measure};

use super::infer::load;
use super::material::size;
use super::report::Figure;
use super::step;
use crate::cmd::demo::model_dir;
use crate::cmd::sim::{render, timelines};
use crate::{UserError, fleet_text};

/// Seconds that a street lasts: what stops or trades in it stays for four tenths of that, longer than the rules ask.
const SECONDS: f32 = 480.0;
/// For how long things must stay in a street.
const DWELL: Duration = Duration::from_secs(180);
/// ... and in a film of the user's, where anything that stands counts.
const DWELL_IN_FILM: f64 = 10.0;
/// One look per so many seconds.
const KEY_EVERY: f32 = 2.0;
/// Pictures per second of a street: what comes between key pictures counts, but takes time to render.
const FPS: u32 = 4;

/// What a zone of a street is watched for, of which classes; those that the model does not know are left out.
const SITUATIONS: [(&str, &[&str], &str); 3] = [
    ("illegal_parking", &["car"], "thing"),
    ("street_vending", &["tricycle", "umbrella", "goods"], "group"),
    ("road_obstructed", &["barrier", "boxes"], "group"),
];

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
    /// Pictures per second of the streets, one of them in two seconds a key picture
    #[arg(long, default_value_t = FPS, value_parser = clap::value_parser!(u32).range(1..=25))]
    pub fps: u32,
    /// Code the streets anew with this constant bit rate, so that the sizes of pictures say little
    #[arg(long, value_parser = clap::value_parser!(u32).range(50..=20_000))]
    pub kbit: Option<u32>,
    /// Key pictures of these files instead of streets; may be given several times
    #[arg(long, conflicts_with_all = ["street", "sky", "size", "seconds", "fps", "kbit"])]
    pub video: Vec<PathBuf>,
    /// For how many seconds a thing must stand in such a file
    #[arg(long, default_value_t = DWELL_IN_FILM, requires = "video")]
    pub dwell: f64,
    /// Decode a picture at least every so many seconds, whatever the sizes say; 0: each
    #[arg(long, default_value_t = 10.0)]
    pub decode_at_least_every: f64,
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
            fps: FPS,
            kbit: None,
            video: Vec::new(),
            dwell: DWELL_IN_FILM,
            decode_at_least_every: 10.0,
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
    if !(0.0..=60.0).contains(&args.decode_at_least_every) {
        let given = args.decode_at_least_every;
        return Err(UserError(format!("--decode-at-least-every {given}: expected 0 to 60")).into());
    }
    super::positive(args.dwell, "--dwell")?;
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
                let camera = street_camera(&timeline, &card, &dir, args)?;
                step(&format!(
                    "gate: rendering {label}, {:.0} s at {}x{}",
                    args.seconds, args.size.0, args.size.1
                ));
                let film =
                    render(&[(name, timeline)], Codec::H264)?.pop().context("a street gives a film")?;
                let clip = match args.kbit {
                    Some(kbit) => at_constant_bit_rate(&film.clip, kbit)?,
                    None => film.clip,
                };
                figures.extend(all.add(&label, measure(&label, &clip, camera, &mut model)?));
            }
        }
    } else {
        for path in &args.video {
            let label = stem(path);
            let camera = film_camera(&card, &dir, args)?;
            figures.extend(all.add(&label, measure(&label, &Clip::open(path)?, camera, &mut model)?));
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
        let stay = act.stay_mut();
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
        fps: args.fps,
        key_every: KEY_EVERY,
        ..timeline
    }
}

/// A camera that watches for what happens in the zones of a street, by the rules of the shipped library: three minutes.
fn street_camera(timeline: &Timeline, card: &ModelCard, dir: &Path, args: &Args) -> anyhow::Result<Camera> {
    let knows = |class: &str| card.classes.iter().any(|known| known.as_str() == class);
    let rules: serde_json::Map<_, _> = SITUATIONS
        .iter()
        .filter_map(|(situation, classes, per)| {
            let classes: Vec<_> = classes.iter().filter(|class| knows(class)).collect();
            let at_least = format!("{}s", DWELL.as_secs());
            let dwell = json!({ "classes": classes, "at_least": at_least, "per": per });
            let rule = json!({ "zh": "疑", "en": situation, "rule": { "dwell": dwell } });
            (!classes.is_empty()).then(|| ((*situation).to_owned(), rule))
        })
        .collect();
    let zones: Vec<_> = timeline
        .zones()
        .iter()
        .map(|zone| {
            let corners: Vec<_> = zone.polygon.points().iter().map(|p| [p.x, p.y]).collect();
            let watched = zone.situation.iter().map(|s| s.as_str()).filter(|s| rules.contains_key(*s));
            json!({ "id": zone.id, "polygon": corners, "situations": watched.collect::<Vec<_>>() })
        })
        .collect();
    let yaml = format!(
        "site: bench
models: {{ {id}: {dir} }}
situations: {rules}
classes: {{ any: {{ model: {id} }} }}
cameras: [ {{ id: bench-0, class: any, url: \"rtsp://127.0.0.1/\", zones: {zones} }} ]
",
        id = stem(dir),
        dir = json!(std::path::absolute(dir)?),
        rules = json!(rules),
        zones = json!(zones),
    );
    let fleet = Fleet::from_yaml_str(&yaml, Path::new(".")).map_err(|m| UserError(m.to_string()))?;
    Ok(gated((**fleet.cameras.first().context("one camera was written")?).clone(), args))
}

/// A camera for which anything that stands for some seconds is a situation.
fn film_camera(card: &ModelCard, dir: &Path, args: &Args) -> anyhow::Result<Camera> {
    let fleet = fleet_text::anything_that_stands(card, dir, Duration::from_secs_f64(args.dwell), &[], None)?;
    Ok(gated((**fleet.cameras.first().context("one camera was written")?).clone(), args))
}

fn gated(camera: Camera, args: &Args) -> Camera {
    let decode_at_least_every = Duration::from_secs_f64(args.decode_at_least_every);
    let sensitivity = args.sensitivity;
    let gate = camera.gate.map(|gate| fleet::Gate { sensitivity, decode_at_least_every, ..gate });
    Camera { gate, ..camera }
}

/// All films together.
#[derive(Default)]
struct Sum {
    looks: usize,
    repeated: usize,
    spared: usize,
    camera_seconds: f64,
    gated: Spent,
    bare: Spent,
    situations: usize,
    lost: usize,
    more: usize,
    later: f64,
    ends_later: f64,
}

impl Sum {
    /// Adds a film and tells about it.
    fn add(&mut self, label: &str, film: Outcome) -> [Figure; 2] {
        let share = |n: usize| n as f64 / film.looks.max(1) as f64;
        let (undecoded, spared) = (share(film.repeated), share(film.repeated + film.spared));
        step(&format!(
            "gate: {label}: of {} looks {:.0} % spared the decoder, {:.0} % the model; {} situations, begun up to {:.0} s \
             later; {:.2} ms per camera-second; decoded: {:?}; looked at: {:?}",
            film.looks,
            undecoded * 100.0,
            spared * 100.0,
            film.situations,
            film.later,
            film.gated.all() * 1e3 / film.camera_seconds,
            film.decoded,
            film.through,
        ));
        for (what, list) in [("lost", &film.lost), ("only with the gate", &film.more)] {
            for situation in list {
                step(&format!("gate: {label}: {what}: {situation}"));
            }
        }
        self.looks += film.looks;
        self.repeated += film.repeated;
        self.spared += film.spared;
        self.camera_seconds += film.camera_seconds;
        self.gated.add(film.gated);
        self.bare.add(film.bare);
        self.situations += film.situations;
        self.lost += film.lost.len();
        self.more += film.more.len();
        self.later = self.later.max(film.later);
        self.ends_later = self.ends_later.max(film.ends_later);
        let figure =
            |what: &str, share: f64| Figure::plain(format!("gate.{what}.{label}"), share, "share of looks");
        [figure("spared", spared), figure("undecoded", undecoded)]
    }

    fn figures(&self) -> Vec<Figure> {
        let ms = |seconds: f64| seconds * 1e3 / self.camera_seconds.max(1e-9);
        let share = |n: usize| n as f64 / self.looks.max(1) as f64;
        let unit = "CPU ms / camera-second";
        vec![
            Figure::plain("gate.spared", share(self.repeated + self.spared), "share of looks"),
            Figure::plain("gate.undecoded", share(self.repeated), "share of looks"),
            Figure::plain("gate.cpu_ms_per_camera_second", ms(self.gated.all()), unit),
            Figure::plain("gate.cpu_ms_decoding", ms(self.gated.decoding), unit),
            Figure::plain("gate.cpu_ms_without_gate", ms(self.bare.all()), unit),
            Figure::plain("gate.cpu_ms_decoding_all", ms(self.bare.decoding), unit),
            Figure::plain("gate.situations", self.situations as f64, "situations without the gate"),
            Figure::plain("gate.situations_lost", self.lost as f64, "situations"),
            Figure::plain("gate.situations_more", self.more as f64, "situations"),
            Figure::plain("gate.began_later_s", self.later, "s, at most"),
            Figure::plain("gate.ended_later_s", self.ends_later, "s, at most"),
        ]
    }
}
