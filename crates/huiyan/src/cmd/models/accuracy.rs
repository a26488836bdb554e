//! `huiyan models accuracy`: COCO AP on labelled pictures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use crossbeam_channel::Receiver;
use decode::{Pool, PoolOptions};
use fleet::{ModelCard, Thresholds};
use flow::{AccessUnit, CameraId, ClassName, Codec, Detection, Frame, MediaTime, Role, SessionId, Timestamp};
use infer::{Accuracy, Found, Instances, Model, Picture, Runtime};

use crate::UserError;

/// For one picture to be decoded.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measure a model's COCO AP on labelled pictures.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders with a card.yaml, or ids of models
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Folder with the pictures
    #[arg(long)]
    images: PathBuf,
    /// Their labels, in COCO's form (instances_*.json); classes are compared by name
    #[arg(long)]
    instances: PathBuf,
    /// Detections below this score do not count; AP wants the weak ones, so it stands in for the card's
    #[arg(long, default_value_t = 0.01)]
    score: f32,
    /// Print as JSON, with the AP of each class
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, library: Option<&Path>) -> anyhow::Result<()> {
    let runtime = Runtime::load(library)?;
    let text = std::fs::read(&args.instances).with_context(|| args.instances.display().to_string())?;
    let instances: Instances = serde_json::from_slice(&text).map_err(|error| {
        UserError(format!("{}: no labels in COCO's form: {error}", args.instances.display()))
    })?;
    let mut results = serde_json::Map::new();
    if !args.json {
        println!(
            "{:24} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}",
            "model", "AP", "AP50", "AP75", "small", "medium", "large"
        );
    }
    for given in &args.models {
        let folder = super::folder(given)?;
        let card = ModelCard::load(&folder).map_err(|mistakes| UserError(mistakes.to_string()))?;
        let result = measure(args, &runtime, &instances, card.clone())?;
        if args.json {
            results.insert(card.id.to_string(), json(&card, &result)?);
            continue;
        }
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let Accuracy { ap, ap50, ap75, ap_small, ap_medium, ap_large, .. } = result;
        let columns =
            [ap, ap50, ap75, ap_small, ap_medium, ap_large].map(|value| format!("{:>6}", number(value)));
        println!("{:24} {}", card.id, columns.join(" "));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    Ok(())
}

fn json(card: &ModelCard, result: &Accuracy) -> anyhow::Result<serde_json::Value> {
    let mut value = serde_json::to_value(result)?;
    let classes = card.classes.iter().zip(&result.classes).filter(|(_, ap)| ap.is_some());
    value["classes"] = classes.map(|(class, ap)| (class.to_string(), serde_json::json!(ap))).collect();
    Ok(value)
}

fn measure(
    args: &Args,
    runtime: &Runtime,
    instances: &Instances,
    card: ModelCard,
) -> anyhow::Result<Accuracy> {
    let card = ModelCard { thresholds: Thresholds { score: args.score, ..card.thresholds }, ..card };
    let names: Vec<&str> = card.classes.iter().map(ClassName::as_str).collect();
    let labelled = instances.pictures(&names);
    if labelled.iter().all(|(_, _, picture)| picture.things.is_empty()) {
        let known = names.join(", ");
        let text = format!("{}: holds none of the classes of {}: {known}", args.instances.display(), card.id);
        return Err(UserError(text).into());
    }
    let mut model = Model::open(runtime, Arc::new(card.clone()))?;
    let decoder = Decoder::new()?;
    let style = indicatif::ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} pictures, {eta} left")?;
    let bar = indicatif::ProgressBar::new(labelled.len() as u64)
        .with_style(style)
        .with_message(card.id.to_string());
    let mut pictures: Vec<Picture> = Vec::with_capacity(labelled.len());
    for (id, file, mut picture) in labelled {
        let path = args.images.join(file);
        let frame = decoder.open(&path, id).with_context(|| path.display().to_string())?;
        let looks = model.look(&[&frame]).with_context(|| path.display().to_string())?;
        let pixels = frame.pixels.on_host()?;
        let size = [f64::from(pixels.width()), f64::from(pixels.height())];
        picture.found = looks[0].list.iter().filter_map(|detection| found(&card, detection, size)).collect();
        pictures.push(picture);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(infer::accuracy(&pictures, card.classes.len()))
}

fn found(card: &ModelCard, detection: &Detection, [width, height]: [f64; 2]) -> Option<Found> {
    let [x0, y0, x1, y1] = detection.bbox.to_array().map(f64::from);
    Some(Found {
        class: card.classes.iter().position(|class| *class == detection.class)?,
        score: detection.score.get().into(),
        bbox: [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height],
    })
}

/// Picture files, decoded as those of a Motion JPEG camera are: by the same decoder, their planes left as they are.
struct Decoder {
    pool: Pool,
    frames: Receiver<Frame>,
    camera: CameraId,
    session: SessionId,
}

impl Decoder {
    fn new() -> anyhow::Result<Self> {
        let (into, frames) = crossbeam_channel::bounded(1);
        let options = PoolOptions { threads: 1, ..PoolOptions::default() };
        // Once the command has ended, nobody waits for the frame.
        let pool =
            Pool::new(options, move |frame| drop(into.send(frame)), |_, fault| tracing::warn!("{fault}"))?;
        let camera = CameraId::new("pictures").expect("letters are an id");
        Ok(Self { pool, frames, camera, session: SessionId::next() })
    }

    fn open(&self, path: &Path, sequence: u64) -> anyhow::Result<Frame> {
        let unit = AccessUnit {
            camera: self.camera.clone(),
            session: self.session,
            sequence,
            codec: Codec::Mjpeg,
            media_time: MediaTime { ticks: 0, clock_rate: 90_000 },
            captured: Timestamp::UNIX_EPOCH,
            key: true,
            role: Role::Alone,
            lost_before: 0,
            bytes_between: 0,
            data: Bytes::from(std::fs::read(path)?),
        };
        self.pool.offer(unit).map_err(|_| anyhow::anyhow!("the decoder is busy"))?;
        self.frames.recv_timeout(PATIENCE).context("it cannot be decoded as JPEG")
    }
}
