//! `huiyan replay`: the same stages on a video file, as fast as it goes, without a broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use decode::{Pool, PoolOptions};
use fleet::{Camera, Fleet, ModelCard, Sampling};
use flow::{
    AccessUnit, CameraId, Detections, Event, Frame, Look, MediaTime, Pixels, Role, SessionId, Timestamp,
};
use infer::{Gate, Model, Passage, Runner as _, Runtime, Tiled};
use scene::Scene;
use sim::Clip;

use crate::annotate::{Canvas, VideoOut};
use crate::{UserError, fleet_text};

/// Pictures that go through the model at once, where it takes any number.
const BATCH: usize = 8;
/// Access units inside the decoder at once.
const INSIDE: i64 = 8;

/// Run the pipeline on a video file: events as JSON lines, an annotated video.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Video files, H.264 or H.265
    #[arg(required = true)]
    videos: Vec<PathBuf>,
    /// Folder of the model's card [default: the one of the camera in --zones]
    #[arg(long, required_unless_present = "zones")]
    model: Option<PathBuf>,
    /// A fleet's YAML; the zones and rules of its first camera are used. Without it, anything that stands in the
    /// picture for 10 s is a situation
    #[arg(long)]
    zones: Option<PathBuf>,
    /// Which camera of --zones, if not the first
    #[arg(long, requires = "zones")]
    camera: Option<String>,
    /// Decode every picture and look at so many a second, instead of at key pictures
    #[arg(long)]
    fps: Option<f32>,
    /// When the video began; events are dated from here
    #[arg(long, default_value = "2000-01-01T00:00:00Z")]
    start: Timestamp,
    /// Write a video with zones, boxes and situations drawn in (only with one input)
    #[arg(long)]
    annotate: Option<PathBuf>,
    /// Spare the model what shows nothing new, as `huiyan run` does
    #[arg(long)]
    gate: bool,
    /// Also print every look, with its detections, as a JSON line
    #[arg(long)]
    looks: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if args.annotate.is_some() && args.videos.len() > 1 {
        return Err(UserError("--annotate takes one input video".into()).into());
    }
    let (camera, card, library) = subject(&args)?;
    let runtime = Runtime::load(library.as_deref())?;
    let (batch, input, nms_iou) =
        (card.batch.unwrap_or(BATCH).max(1), (card.width, card.height), card.thresholds.nms_iou);
    let model = Model::open(&runtime, Arc::new(card))?;
    let tiles = camera.tiles.clone();
    let mut model = Tiled::new(model, input, nms_iou, batch, Arc::new(move |_| tiles.clone()));
    for video in &args.videos {
        replay(&args, video, &camera, (&mut model, batch)).with_context(|| video.display().to_string())?;
    }
    Ok(())
}

/// What is watched for, with which model, and where ONNX Runtime is, if that is configured.
fn subject(args: &Args) -> anyhow::Result<(Camera, ModelCard, Option<PathBuf>)> {
    let load = |dir: &Path| ModelCard::load(dir).map_err(|mistakes| UserError(mistakes.to_string()));
    let Some(path) = &args.zones else {
        let dir = args.model.as_deref().context("--model is required without --zones")?;
        let card = load(dir)?;
        let fleet = fleet_text::anything_that_stands(&card, dir, Duration::from_secs(10), &[], None)?;
        return Ok(((*fleet.cameras[0]).clone(), card, None));
    };
    let fleet = Fleet::load(path).map_err(|mistakes| UserError(mistakes.to_string()))?;
    let wanted = |c: &&Arc<Camera>| args.camera.as_ref().is_none_or(|id| c.id.as_str() == id);
    let camera = fleet.cameras.iter().find(wanted).ok_or_else(|| {
        UserError(format!("{}: no camera {}", path.display(), args.camera.as_deref().unwrap_or("at all")))
    })?;
    let dir = match &args.model {
        Some(dir) => dir.clone(),
        None => fleet.models.get(&camera.model).context("a camera's model is checked")?.clone(),
    };
    Ok(((**camera).clone(), load(&dir)?, fleet.node.onnxruntime.clone()))
}

fn replay(
    args: &Args,
    video: &Path,
    camera: &Camera,
    (model, batch): (&mut Tiled<Model>, usize),
) -> anyhow::Result<()> {
    let clip = Clip::open(video)?;
    let id = camera_id(video);
    let camera = Camera { id: id.clone(), ..camera.clone() };
    let sampling = args.fps.map_or(camera.look.sampling, Sampling::Fps);
    let units = access_units(&clip, &id, sampling, args.start);
    let looks = units.iter().filter(|u| u.role != (Role::Chained { deliver: false })).count();
    tracing::info!(
        video = %video.display(), codec = %clip.codec, size = format!("{}x{}", clip.width, clip.height),
        pictures = clip.units.len(), looks, "replaying {:.1} s", clip.duration.as_secs_f64(),
    );

    let (frames_in, frames) = crossbeam_channel::bounded::<Frame>(8);
    let pool = Pool::new(
        // One thread keeps the pictures in order.
        PoolOptions { threads: 1, ..PoolOptions::default() },
        move |frame| drop(frames_in.send(frame)),
        |camera, fault| tracing::warn!(%camera, "{fault}"),
    )?;
    let feeder = std::thread::spawn(move || {
        for unit in units {
            while pool.counters().inside() >= INSIDE {
                std::thread::sleep(Duration::from_millis(1));
            }
            if pool.offer(unit).is_err() {
                break;
            }
        }
        pool.shutdown(Duration::from_secs(60))
    });

    let bar = progress(looks as u64);
    let mut out = Output { args, start: args.start, camera: &camera, video: None, open: Vec::new() };
    let mut scene = Scene::new(&camera);
    let gate = args.gate.then(|| Gate::serving_all([&Arc::new(camera.clone())]));
    while let Ok(first) = frames.recv() {
        let looks = match &gate {
            Some(gate) => vec![gated(gate, model, first)?],
            None => {
                let some: Vec<_> = [first].into_iter().chain(frames.try_iter().take(batch - 1)).collect();
                let seen = model.look(&some.iter().collect::<Vec<_>>())?;
                some.into_iter().zip(seen).map(|(frame, detections)| Look { detections, frame }).collect()
            }
        };
        for Look { detections, frame } in &looks {
            let events = scene.look(detections, Some(&frame.luma));
            if let Some(gate) = gate.as_ref().filter(|_| scene.wants_look()) {
                gate.ask(&camera.id);
            }
            out.look(frame, detections, &events)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if let Some(video) = out.video {
        video.finish()?;
    }
    let flow = feeder.join().map_err(|_| anyhow::anyhow!("the decoder's thread panicked"))?;
    let lost: Vec<_> = flow.dropped.iter().filter(|(why, n)| *n > 0 && *why != "not_wanted").collect();
    if !lost.is_empty() {
        tracing::warn!("pictures that could not be used: {lost:?}");
    }
    Ok(())
}

/// One picture through the gate.
fn gated(gate: &Gate, model: &mut Tiled<Model>, frame: Frame) -> anyhow::Result<Look> {
    match gate.judge(frame) {
        Passage::Spared(look) => Ok(look),
        Passage::Through(frame) => {
            let detections = model.look(&[&frame])?.pop().context("a picture gives a look")?;
            let look = Look { detections, frame };
            gate.looked(&look);
            Ok(look)
        }
    }
}

/// The file's pictures as a camera would have sent them.
fn access_units(clip: &Clip, camera: &CameraId, sampling: Sampling, start: Timestamp) -> Vec<AccessUnit> {
    let session = SessionId::next();
    let mut next_look = Duration::ZERO;
    let units = clip.units.iter().enumerate().filter_map(|(sequence, unit)| {
        let role = match sampling {
            Sampling::Keyframes if !unit.key => return None,
            Sampling::Keyframes => Role::Alone,
            Sampling::Fps(fps) => {
                let deliver = unit.pts >= next_look;
                if deliver {
                    next_look = unit.pts + Duration::from_secs_f32(0.999 / fps);
                }
                Role::Chained { deliver }
            }
        };
        Some(AccessUnit {
            camera: camera.clone(),
            session,
            sequence: sequence as u64,
            codec: clip.codec,
            media_time: MediaTime { ticks: (unit.pts.as_micros() * 9 / 100) as i64, clock_rate: 90_000 },
            captured: start + unit.pts,
            key: unit.key,
            role,
            lost_before: 0,
            data: unit.data.clone(),
        })
    });
    units.collect()
}

/// A camera's id out of a file's name.
fn camera_id(video: &Path) -> CameraId {
    let stem = video.file_stem().unwrap_or_default().to_string_lossy();
    let safe: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    CameraId::new(&safe).unwrap_or_else(|_| CameraId::new("video").expect("a valid id"))
}

fn progress(looks: u64) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len} looks, {per_sec}, {eta} left");
    indicatif::ProgressBar::new(looks).with_style(style.expect("the template is valid"))
}

/// Where a replay's results go.
struct Output<'a> {
    args: &'a Args,
    start: Timestamp,
    camera: &'a Camera,
    video: Option<VideoOut>,
    /// Situations under way, for drawing.
    open: Vec<Event>,
}

impl Output<'_> {
    fn look(&mut self, frame: &Frame, detections: &Detections, events: &[Event]) -> anyhow::Result<()> {
        let at = frame.captured.duration_since(self.start).unsigned_abs();
        if self.args.looks {
            let line = serde_json::json!({
                "look": at.as_secs_f64(), "basis": detections.basis, "detections": detections.list,
            });
            println!("{line}");
        }
        for event in events {
            println!("{}", fleet_text::event_json(event));
            self.open.retain(|open| open.id != event.id);
            if !matches!(event.phase, flow::Phase::Ended { .. }) {
                self.open.push(event.clone());
            }
        }
        let Some(path) = &self.args.annotate else { return Ok(()) };
        let Pixels::Host(picture) = &frame.pixels;
        let mut canvas = Canvas::new(picture);
        self.camera.zones.iter().for_each(|zone| canvas.zone(&zone.polygon));
        detections.list.iter().for_each(|detection| canvas.detection(detection));
        for event in &self.open {
            let text = format!("{} since {}", event.key.situation, event.first_seen.strftime("%H:%M:%S"));
            event.objects.iter().for_each(|object| canvas.situation(&object.bbox, &text));
        }
        if self.video.is_none() {
            self.video = Some(VideoOut::create(path, picture.width(), picture.height())?);
        }
        self.video.as_ref().expect("it was just made").push(canvas, at)
    }
}
