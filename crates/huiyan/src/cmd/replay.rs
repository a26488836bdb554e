//! `huiyan replay`: the same stages on a video file, as fast as it goes, without a broker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fleet::{Camera, Fleet, ModelCard};
use flow::{Detections, Event, Frame, ModelId, Timestamp};
use scene::Scene;

use super::playback::Playback;
use super::timeline::Timeline;
use crate::annotate::{Canvas, VideoOut};
use crate::{UserError, fleet_text};

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
    /// Write a picture of the whole (PNG): for each zone and situation what was seen, how far the clocks were, what was told
    /// (only with one input)
    #[arg(long)]
    timeline: Option<PathBuf>,
    /// Spare the model what shows nothing new, as `huiyan run` does
    #[arg(long)]
    gate: bool,
    /// Also print every look, with its detections, as a JSON line
    #[arg(long)]
    looks: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if (args.annotate.is_some() || args.timeline.is_some()) && args.videos.len() > 1 {
        return Err(UserError("--annotate and --timeline take one input video".into()).into());
    }
    let Subject { camera, card, library, models } = subject(&args)?;
    let playback = Playback::open(camera, card, library.as_deref())?;
    let mut playback = playback.with_second_models(&models, library.as_deref())?;
    for video in &args.videos {
        replay(&args, video, &mut playback).with_context(|| video.display().to_string())?;
    }
    Ok(())
}

fn replay(args: &Args, video: &Path, playback: &mut Playback) -> anyhow::Result<()> {
    let camera = playback.camera(video);
    let mut out = Output { args, start: args.start, camera: &camera, video: None, open: Vec::new() };
    let mut timeline = args.timeline.as_ref().map(|path| (path, Timeline::new(&camera)));
    playback.play(video, args.start, (args.fps, args.gate), &mut |frame, detections, events, scene| {
        if let Some((_, timeline)) = &mut timeline {
            timeline.look(detections, events, scene);
        }
        out.look(frame, detections, events, scene)
    })?;
    if let Some((path, timeline)) = timeline {
        timeline.write(path)?;
    }
    if let Some(video) = out.video {
        video.finish()?;
    }
    Ok(())
}

/// What is watched for, and with what.
struct Subject {
    camera: Camera,
    card: ModelCard,
    /// Where ONNX Runtime is, if that is configured.
    library: Option<PathBuf>,
    /// The folders of the configuration's models.
    models: BTreeMap<ModelId, PathBuf>,
}

fn subject(args: &Args) -> anyhow::Result<Subject> {
    let load = |dir: &Path| ModelCard::load(dir).map_err(|mistakes| UserError(mistakes.to_string()));
    let Some(path) = &args.zones else {
        let dir = args.model.as_deref().context("--model is required without --zones")?;
        let card = load(dir)?;
        let fleet = fleet_text::anything_that_stands(&card, dir, Duration::from_secs(10), &[], None)?;
        let camera = (*fleet.cameras[0]).clone();
        return Ok(Subject { camera, card, library: None, models: fleet.models });
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
    let (card, library) = (load(&dir)?, fleet.node.onnxruntime.clone());
    Ok(Subject { camera: (**camera).clone(), card, library, models: fleet.models.clone() })
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
    fn look(
        &mut self,
        frame: &Frame,
        detections: &Detections,
        events: &[Event],
        scene: &Scene,
    ) -> anyhow::Result<()> {
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
        let picture = frame.pixels.on_host()?;
        let mut canvas = Canvas::new(&picture);
        self.camera.zones.iter().for_each(|zone| canvas.zone(&zone.polygon));
        detections.list.iter().for_each(|detection| canvas.detection(detection));
        let seen = scene.tracks().iter().filter(|track| track.last_seen == frame.captured);
        seen.for_each(|track| canvas.track(&track.bbox, track.id));
        for clock in scene.clocks() {
            let share = clock.ran.as_secs_f32() / clock.at_least.as_secs_f32().max(0.001);
            clock.thing.iter().for_each(|(_, place)| canvas.clock(place, share));
        }
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
