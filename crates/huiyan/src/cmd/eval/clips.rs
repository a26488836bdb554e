//! `huiyan eval --clip`: real clips with their stated truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use fleet::{Camera, Fleet, ModelCard};
use flow::{ModelId, NormBox, Timestamp};
use serde_json::json;

use super::figures::{Judged, Stretch};
use super::matching::{self, Verdict};
use super::page::{Sight, What};
use super::{Args, Outcome, read};
use crate::UserError;
use crate::annotate::Canvas;
use crate::cmd::playback::{self, Playback};

/// A thing must stand for so long, where the truth is of visits or there is none.
const STANDS: Duration = Duration::from_secs(5);
/// Looks per second, where every picture is decoded.
const FPS: f32 = 2.0;

pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome {
        title: "Clips against their stated truth".into(),
        said: vec![],
        judged: Judged::default(),
        sights: vec![],
        more: json!({}),
        tables: vec![],
    };
    for clip in &args.clip {
        one(args, clip, &mut outcome).with_context(|| clip.display().to_string())?;
    }
    outcome.sights = sights(&outcome.judged, &args.clip, args.start, args.lapse)?;
    Ok(outcome)
}

/// Replays one clip and compares.
fn one(args: &Args, clip: &Path, outcome: &mut Outcome) -> anyhow::Result<()> {
    let beside = ["truth.yaml", "situations.json"].map(|end| clip.with_extension(end));
    let truth = beside.iter().find(|path| path.exists());
    let truth = truth.map(|path| read::truth(path, args.start, args.hours)).transpose()?;
    let Subject { camera, card, models, library } =
        subject(args, truth.as_ref().and_then(|t| t.zone.as_ref()))?;
    let mut events = Vec::new();
    let playback = Playback::open(camera, card, library.as_deref())?;
    let mut playback = playback.with_second_models(&models, library.as_deref())?.with_lapse(args.lapse);
    let length = playback.play(clip, args.start, (Some(FPS), false), &mut |_, _, new, _| {
        events.extend(new.to_vec());
        Ok(())
    })?;
    let camera = playback::camera_id(clip).to_string();
    let mut judged = Judged { told: read::told(&events), ..Judged::default() };
    let tags = truth.as_ref().map_or_else(Vec::new, |t| t.stretch.tags.clone());
    judged.truth = truth.map_or_else(Vec::new, |truth| truth.list);
    judged.truth.iter_mut().for_each(|there| {
        there.camera = camera.clone();
        if there.situation == read::STANDING {
            there.at_least = stands(args);
        }
    });
    judged.stretches = vec![Stretch { camera, days: length.as_secs_f64() / 86_400.0, tags }];
    judged.verdicts = matching::judge(&judged.told, &judged.truth);
    let kinds = judged.truth.iter().map(|t| &t.situation).chain(judged.told.iter().map(|e| &e.situation));
    judged.situations = read::names(kinds);
    let wrong = judged.verdicts.told.iter().filter(|v| **v == Verdict::Wrong).count();
    let found = judged.verdicts.found.iter().flatten().count();
    outcome.said.push(format!(
        "{}: {:.0} s, {} situations stated, {found} found, {wrong} false alarms, {} told twice.",
        clip.display(),
        length.as_secs_f64(),
        judged.truth.len(),
        judged.told.len() - found - wrong,
    ));
    outcome.judged.add(judged);
    Ok(())
}

/// For how long a thing must stand, where the truth does not say.
fn stands(args: &Args) -> Duration {
    args.lapse.map_or(STANDS, |lapse| lapse * 2)
}

/// What is watched for, and with what.
struct Subject {
    camera: Camera,
    card: ModelCard,
    /// The folders of the configuration's models.
    models: BTreeMap<ModelId, PathBuf>,
    /// Where ONNX Runtime is, if that is configured.
    library: Option<PathBuf>,
}

/// What is watched for: the fleet's first camera, or people who stand in the truth's zone, or anything that stands anywhere.
fn subject(args: &Args, zone: Option<&(String, Vec<[f32; 2]>)>) -> anyhow::Result<Subject> {
    let load = |dir: &Path| ModelCard::load(dir).map_err(|mistakes| UserError(mistakes.to_string()));
    if let Some(path) = &args.zones {
        let fleet = Fleet::load(path).map_err(|mistakes| UserError(mistakes.to_string()))?;
        let camera =
            fleet.cameras.first().with_context(|| format!("{}: no camera at all", path.display()))?;
        let dir = fleet.models.get(&camera.model).context("a camera's model is checked")?;
        let card = load(args.model.as_deref().unwrap_or(dir))?;
        let (models, library) = (fleet.models.clone(), fleet.node.onnxruntime.clone());
        return Ok(Subject { camera: (**camera).clone(), card, models, library });
    }
    let dir = args
        .model
        .as_deref()
        .ok_or_else(|| UserError("--clip needs --model DIR, or --zones FLEET.yaml".into()))?;
    let card = load(dir)?;
    let (classes, zones) = match zone {
        Some((id, polygon)) => {
            (json!(["person"]), json!([{ "id": id, "polygon": polygon, "situations": [read::STANDING] }]))
        }
        None => (
            json!(card.classes),
            json!([{ "id": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]], "situations": [read::STANDING] }]),
        ),
    };
    let yaml = format!(
        "site: eval\nmodels: {{ {id}: {dir} }}\nsituations:\n  {name}: {{ zh: 停留, en: something stands here, rule: {{ dwell: {{ classes: \
         {classes}, at_least: {stands}s }}, min_score: {score}, update_every: 1h, end_after: 1s }} }}\nclasses:\n  eval: {{ model: \
         {id}, situations: [{name}], look: {{ sampling: {{ fps: {FPS} }}, at_most_every: 400ms, at_least_every: {apart}s }}, gate: off }}\n\
         cameras: [{{ id: any, class: eval, url: 'rtsp://127.0.0.1/', zones: {zones} }}]\n",
        id = card.id,
        dir = json!(std::path::absolute(dir)?),
        name = read::STANDING,
        stands = stands(args).as_secs(),
        apart = args.lapse.map_or(10, |lapse| lapse.as_secs().max(10)),
        score = card.thresholds.score.max(0.3),
    );
    let fleet =
        Fleet::from_yaml_str(&yaml, Path::new(".")).map_err(|mistakes| UserError(mistakes.to_string()))?;
    let camera = (**fleet.cameras.first().context("one camera was written")?).clone();
    Ok(Subject { camera, card, models: fleet.models, library: None })
}

/// When, what it is, of which situation, how sure, where.
type Wanted = (Timestamp, What, String, Option<f32>, Vec<[f32; 4]>);

/// Pictures of what was missed, told twice and told wrongly, out of the videos of these cameras.
pub fn sights(
    judged: &Judged,
    videos: &[PathBuf],
    start: Timestamp,
    lapse: Option<Duration>,
) -> anyhow::Result<Vec<Sight>> {
    let mut sights = Vec::new();
    for video in videos {
        let camera = playback::camera_id(video).to_string();
        let mut wanted: Vec<Wanted> = Vec::new();
        for (there, _) in judged.truth.iter().zip(&judged.verdicts.found).filter(|(_, found)| found.is_none())
        {
            let middle = there.from + there.from.duration_since(there.to).unsigned_abs() / 2;
            wanted.push((
                middle,
                What::Missed,
                there.situation.clone(),
                None,
                there.bbox.into_iter().collect(),
            ));
        }
        for (event, verdict) in judged.told.iter().zip(&judged.verdicts.told) {
            let what = match verdict {
                Verdict::Right(_) => continue,
                Verdict::Again(_) => What::Duplicate,
                Verdict::Wrong => What::FalseAlarm,
            };
            if event.camera == camera {
                wanted.push((
                    event.began,
                    what,
                    event.situation.clone(),
                    Some(event.confidence),
                    event.boxes.clone(),
                ));
            }
        }
        if wanted.is_empty() {
            continue;
        }
        let times: Vec<Timestamp> = wanted.iter().map(|w| w.0).collect();
        let pictures = at(video, (start, lapse), &times)?;
        for ((at, what, situation, confidence, boxes), picture) in wanted.into_iter().zip(pictures) {
            let Some(mut canvas) = picture else { continue };
            let boxed = |b: &[f32; 4]| NormBox::clamped(b[0], b[1], b[2], b[3]);
            for bbox in boxes.iter().take(1).filter_map(boxed) {
                match what {
                    What::Missed => canvas.truth(&bbox, "there"),
                    What::FalseAlarm | What::Duplicate => canvas.situation(&bbox, &situation),
                }
            }
            sights.push(Sight {
                what,
                camera: camera.clone(),
                situation,
                at,
                confidence,
                jpeg: canvas.jpeg()?,
            });
        }
    }
    Ok(sights)
}

/// The pictures of a video nearest to these times, from before.
fn at(
    video: &Path,
    when: (Timestamp, Option<Duration>),
    times: &[Timestamp],
) -> anyhow::Result<Vec<Option<Canvas>>> {
    let mut best: Vec<Option<(Timestamp, Canvas)>> = times.iter().map(|_| None).collect();
    playback::pictures(video, when, FPS, &mut |frame| {
        for (time, best) in times.iter().zip(&mut best) {
            if frame.captured <= *time && best.as_ref().is_none_or(|(at, _)| *at < frame.captured) {
                let picture = frame.pixels.on_host()?;
                *best = Some((frame.captured, Canvas::new(&picture)));
            }
        }
        Ok(())
    })?;
    Ok(best.into_iter().map(|best| best.map(|(_, canvas)| canvas)).collect())
}
