//! Video files through decoder, model and scene: what `replay` and `eval` share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use crossbeam_channel::Receiver;
use decode::{Masks, Pool, PoolOptions};
use fleet::{Camera, ModelCard, Sampling};
use flow::{
    AccessUnit, CameraId, Detections, Event, Flow, Frame, Look, MediaTime, ModelId, Role, SessionId,
    Timestamp,
};
use infer::{Confirmer, Gate, Model, Passage, Runner as _, Runtime, Tiled};
use scene::Scene;
use sim::Clip;

use crate::confirm::{self, Verdicts};

/// Pictures that go through the model at once, where it takes any number.
const BATCH: usize = 8;
/// How long a second model may take: a file does not wait for anybody.
const PATIENCE: Duration = Duration::from_secs(60);
/// Access units inside the decoder at once: more than the pictures that a stream may reorder (16, H.264 section 7.4.2.1.1),
/// which it holds back until later ones have come.
const INSIDE: i64 = 32;

/// Takes each look, with the events that it made and the scene after it.
pub type OnLook<'a> = &'a mut dyn FnMut(&Frame, &Detections, &[Event], &Scene) -> anyhow::Result<()>;

/// A camera whose pictures come from files.
pub struct Playback {
    camera: Camera,
    model: Tiled<Model>,
    batch: usize,
    /// Where it is asked before situations begin.
    confirmer: Option<Confirmer>,
    verdicts: Verdicts,
    /// Pictures of the videos are so far apart, whatever the files say.
    lapse: Option<Duration>,
}

impl Playback {
    /// Opens the model. `library`: where ONNX Runtime is, if that is configured.
    pub fn open(camera: Camera, card: ModelCard, library: Option<&Path>) -> anyhow::Result<Self> {
        let runtime = Runtime::load(library)?;
        let batch = card.batch.unwrap_or(BATCH).max(1);
        let (input, nms_iou) = ((card.width, card.height), card.thresholds.nms_iou);
        let model = Model::open(&runtime, Arc::new(card))?;
        let tiles = camera.tiles.clone();
        let model = Tiled::new(model, input, nms_iou, batch, Arc::new(move |_| tiles.clone()));
        Ok(Self { camera, model, batch, confirmer: None, verdicts: Verdicts::default(), lapse: None })
    }

    /// Opens the second models that the camera's rules ask. `folders`: where each model is.
    pub fn with_second_models(
        mut self,
        folders: &BTreeMap<ModelId, PathBuf>,
        library: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let cards = confirm::cards([&self.camera], folders)?;
        if !cards.is_empty() {
            self.confirmer = Some(Confirmer::new(&Runtime::load(library)?, cards)?);
        }
        Ok(self)
    }

    /// The videos are time-lapse: their pictures are so far apart, on average, whatever the files say.
    pub fn with_lapse(self, lapse: Option<Duration>) -> Self {
        Self { lapse, ..self }
    }

    /// The camera, under the name of a video.
    pub fn camera(&self, video: &Path) -> Camera {
        Camera { id: camera_id(video), ..self.camera.clone() }
    }

    /// Plays a video from its first look to its last; its length. `fps`: looks per second, instead of what the camera
    /// says. `gate`: the model is spared what shows nothing new.
    pub fn play(
        &mut self,
        video: &Path,
        start: Timestamp,
        (fps, gate): (Option<f32>, bool),
        each: OnLook<'_>,
    ) -> anyhow::Result<Duration> {
        let clip = open(video, self.lapse)?;
        let camera = self.camera(video);
        // Without an answer nothing would ever begin.
        if self.confirmer.is_none() && confirm::asking([&camera]).next().is_some() {
            bail!("a rule of {} asks a second model, and none was opened", camera.id);
        }
        let sampling = fps.map_or(camera.look.sampling, Sampling::Fps);
        let units = access_units(&clip, &camera.id, sampling, start);
        let looks = units.iter().filter(|u| u.role != (Role::Chained { deliver: false })).count();
        tracing::info!(
            video = %video.display(), codec = %clip.codec, size = format!("{}x{}", clip.width, clip.height),
            pictures = clip.units.len(), looks, "replaying {:.1} s", clip.duration.as_secs_f64(),
        );
        let (frames, feeder) = decoded(units, decode::masks_of([&camera]))?;
        let bar = progress(looks as u64);
        let mut scene = Scene::new(&camera);
        let gate = gate.then(|| Gate::serving_all([&Arc::new(camera.clone())]));
        while let Ok(first) = frames.recv() {
            let looks = match &gate {
                Some(gate) => vec![self.gated(gate, first)?],
                None => self.seen(first, &frames)?,
            };
            for Look { detections, frame } in &looks {
                let mut events = scene.look(detections, Some(&frame.luma));
                if let Some(confirmer) = &self.confirmer {
                    events.extend(self.verdicts.settle(&mut scene, frame, confirmer, PATIENCE));
                }
                if let Some(gate) = gate.as_ref().filter(|_| scene.wants_look()) {
                    gate.ask(&camera.id);
                }
                each(frame, detections, &events, &scene)?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        finish(feeder)?;
        Ok(clip.duration)
    }

    /// One picture, and those that have come meanwhile, through the model.
    fn seen(&mut self, first: Frame, frames: &Receiver<Frame>) -> anyhow::Result<Vec<Look>> {
        let some: Vec<_> = [first].into_iter().chain(frames.try_iter().take(self.batch - 1)).collect();
        let seen = self.model.look(&some.iter().collect::<Vec<_>>())?;
        Ok(some.into_iter().zip(seen).map(|(frame, detections)| Look { detections, frame }).collect())
    }

    /// One picture through the gate.
    fn gated(&mut self, gate: &Gate, frame: Frame) -> anyhow::Result<Look> {
        match gate.judge(frame) {
            Passage::Spared(look) => Ok(look),
            Passage::Through(frame) => {
                let detections = self.model.look(&[&frame])?.pop().context("a picture gives a look")?;
                let look = Look { detections, frame };
                gate.looked(&look);
                Ok(look)
            }
        }
    }
}

/// A video, with the times of a time-lapse where it is one.
fn open(video: &Path, lapse: Option<Duration>) -> anyhow::Result<Clip> {
    let mut clip = Clip::open(video)?;
    if let Some(lapse) = lapse {
        let pictures = u32::try_from(clip.units.len()).unwrap_or(u32::MAX);
        let longer = (lapse * pictures).as_secs_f64() / clip.duration.as_secs_f64().max(1e-3);
        clip.units.iter_mut().for_each(|unit| unit.pts = unit.pts.mul_f64(longer));
        clip.duration = lapse * pictures;
    }
    Ok(clip)
}

/// Only the pictures of a video, so many a second, in order.
pub fn pictures(
    video: &Path,
    (start, lapse): (Timestamp, Option<Duration>),
    fps: f32,
    each: &mut dyn FnMut(Frame) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let clip = open(video, lapse)?;
    let units = access_units(&clip, &camera_id(video), Sampling::Fps(fps), start);
    let (frames, feeder) = decoded(units, Masks::default())?;
    frames.iter().try_for_each(each)?;
    finish(feeder)
}

type Feeder = std::thread::JoinHandle<Flow>;

/// Decodes on a thread of its own.
fn decoded(units: Vec<AccessUnit>, masks: Masks) -> anyhow::Result<(Receiver<Frame>, Feeder)> {
    let (frames_in, frames) = crossbeam_channel::bounded::<Frame>(8);
    let pool = Pool::new(
        // One thread keeps the pictures in order.
        PoolOptions { threads: 1, queue: 2 * INSIDE as usize, masks, ..PoolOptions::default() },
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
    Ok((frames, feeder))
}

fn finish(feeder: Feeder) -> anyhow::Result<()> {
    let flow = feeder.join().map_err(|_| anyhow::anyhow!("the decoder's thread panicked"))?;
    let lost: Vec<_> = flow.dropped.iter().filter(|(why, n)| *n > 0 && *why != "not_wanted").collect();
    if !lost.is_empty() {
        tracing::warn!("pictures that could not be used: {lost:?}");
    }
    Ok(())
}

/// The file's pictures as a camera would have sent them.
fn access_units(clip: &Clip, camera: &CameraId, sampling: Sampling, start: Timestamp) -> Vec<AccessUnit> {
    let session = SessionId::next();
    let wanted = match sampling {
        Sampling::Keyframes => Vec::new(),
        Sampling::Fps(fps) => looked_at(clip, fps),
    };
    let units = clip.units.iter().enumerate().filter_map(|(sequence, unit)| {
        let role = match sampling {
            Sampling::Keyframes if !unit.key => return None,
            Sampling::Keyframes => Role::Alone,
            Sampling::Fps(_) => Role::Chained { deliver: wanted[sequence] },
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
            bytes_between: 0,
            data: unit.data.clone(),
        })
    });
    units.collect()
}

/// Which pictures are looked at, so many a second: in the order of their times, which is not that of the file where pictures
/// refer to later ones.
fn looked_at(clip: &Clip, fps: f32) -> Vec<bool> {
    let mut order: Vec<usize> = (0..clip.units.len()).collect();
    order.sort_by_key(|&at| clip.units[at].pts);
    let mut wanted = vec![false; order.len()];
    let mut next_look = Duration::ZERO;
    for at in order {
        if clip.units[at].pts >= next_look {
            wanted[at] = true;
            next_look = clip.units[at].pts + Duration::from_secs_f32(0.999 / fps);
        }
    }
    wanted
}

/// A camera's id out of a file's name.
pub fn camera_id(video: &Path) -> CameraId {
    let stem = video.file_stem().unwrap_or_default().to_string_lossy();
    let safe: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    CameraId::new(&safe).unwrap_or_else(|_| CameraId::new("video").expect("a valid id"))
}

/// A bar of looks.
pub fn progress(looks: u64) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len} looks, {per_sec}, {eta} left");
    indicatif::ProgressBar::new(looks).with_style(style.expect("the template is valid"))
}
