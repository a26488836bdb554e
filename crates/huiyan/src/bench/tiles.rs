//! `bench tiles`: rendered panoramas, from a high mast and much larger than the model, looked at as a whole and in tiles; how
//! many of the things that the look at the whole misses the tiles find, and what that costs.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use flow::{CameraId, Detection, Frame, FrameId, HostPicture, Matrix, NormBox, Plane, SessionId, Timestamp};
use infer::{Model, Runner as _, Runtime, Tiled};
use sim::street::{Conditions, Layout, Light, Picture, Seen, SizeError, Studio, Weather, dataset, populate};

use super::infer::load;
use super::material::size;
use super::report::Figure;
use super::{cpu, step};
use crate::UserError;
use crate::cmd::demo::model_dir;

/// Seed of the streets: none that the demo's model was trained on.
const SEED: u64 = 7_000_003;
/// A thing is asked for if so much of it is visible ...
const LEAST_VISIBLE: f32 = 0.5;
/// ... and if it is at least so wide and high, in pixels of the model's input, in a tile.
const LEAST_SIDE: f32 = 14.0;
/// A detection is of a thing if it has its class and overlaps it by this IoU.
const SAME: f32 = 0.5;
/// Height of the camera, metres.
const MAST: f32 = 16.0;
/// Tiles that go through the model at once.
const BATCH: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the model's card [default: models/street-demo]
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Size of the panoramas
    #[arg(long, value_parser = size, default_value = "3840x2160")]
    pub size: (u32, u32),
    /// How many
    #[arg(long, default_value_t = 8)]
    pub pictures: usize,
    /// A tile's width in pixels of the picture
    #[arg(long, default_value_t = 960)]
    pub tile: u32,
    /// Detections below this score do not count, as in a rule
    #[arg(long, default_value_t = 0.4)]
    pub score: f32,
    /// Share of a tile that it has in common with its neighbour
    #[arg(long, default_value_t = 0.25)]
    pub overlap: f32,
}

impl Default for Args {
    fn default() -> Self {
        Self { model: None, size: (3840, 2160), pictures: 8, tile: 960, score: 0.4, overlap: 0.25 }
    }
}

pub fn run(args: &Args) -> anyhow::Result<Vec<Figure>> {
    if !(0.0..=0.5).contains(&args.overlap) || !(1..=1_000).contains(&args.pictures) {
        return Err(UserError("expected --overlap 0 to 0.5 and --pictures 1 to 1000".into()).into());
    }
    let card = load(&model_dir(args.model.as_deref())?)?;
    let runtime = Runtime::load(None)?;
    let (input, nms_iou) = ((card.width, card.height), card.thresholds.nms_iou);
    let open = || Model::open(&runtime, Arc::new(card.clone()));
    let tiles =
        Arc::new(fleet::Tiles { size: Some(args.tile), overlap: args.overlap, smallest: Default::default() });
    let (mut whole, mut tiled) =
        (open()?, Tiled::new(open()?, input, nms_iou, BATCH, Arc::new(move |_| Some(tiles.clone()))));
    let least = LEAST_SIDE * args.tile as f32 / input.0 as f32;
    step(&format!("tiles: rendering {} pictures of {}x{}", args.pictures, args.size.0, args.size.1));
    let mut sum = Sum::default();
    for number in 0..args.pictures {
        let picture = panorama(SEED + number as u64, args.size)?;
        let (frame, labels) = (frame(&picture)?, dataset::labels(&picture));
        let before = cpu::this_thread()?;
        let coarse = whole.look(&[&frame])?.pop().unwrap_or_else(|| unreachable!("one look for one picture"));
        let between = cpu::this_thread()?;
        let fine = tiled.look(&[&frame])?.pop().unwrap_or_else(|| unreachable!("one look for one picture"));
        let after = cpu::this_thread()?;
        sum.cpu[0] += (between - before).as_secs_f64();
        sum.cpu[1] += (after - between).as_secs_f64();
        let counting = [coarse, fine].map(|look| counting(look.list, args.score));
        sum.add(number, &labels, least, args.size, &counting);
    }
    Ok(sum.figures(args.pictures))
}

/// The detections that a rule counts.
fn counting(list: Vec<Detection>, least: f32) -> Vec<Detection> {
    list.into_iter().filter(|d| d.score.get() >= least).collect()
}

#[derive(Default)]
struct Sum {
    asked: usize,
    found: [usize; 2],
    /// Detections that are of no thing at all.
    nothing: [usize; 2],
    seen: [usize; 2],
    missed: usize,
    missed_and_found: usize,
    twice: usize,
    cpu: [f64; 2],
}

impl Sum {
    fn add(
        &mut self,
        number: usize,
        labels: &[Seen],
        least: f32,
        (width, height): (u32, u32),
        lists: &[Vec<Detection>; 2],
    ) {
        let bbox = |seen: &Seen| {
            let [x0, y0, x1, y1] = seen.bbox.map(|v| v as f32);
            let (w, h) = (width as f32, height as f32);
            NormBox::clamped(x0 / w, y0 / h, x1 / w, y1 / h)
        };
        let of = |seen: &Seen, at: &NormBox, d: &Detection| {
            d.class.as_str() == seen.class.name() && d.bbox.iou(at) >= SAME
        };
        let (mut asked, mut missed, mut found) = (0, 0, 0);
        for seen in labels {
            let side = |low: u32, high: u32| (high - low) as f32 >= least;
            let large = side(seen.bbox[0], seen.bbox[2]) && side(seen.bbox[1], seen.bbox[3]);
            let Some(at) = bbox(seen).filter(|_| large && seen.visible >= LEAST_VISIBLE) else { continue };
            let hits = lists.each_ref().map(|list| list.iter().filter(|d| of(seen, &at, d)).count());
            asked += 1;
            missed += usize::from(hits[0] == 0);
            found += usize::from(hits[0] == 0 && hits[1] > 0);
            self.twice += hits[1].saturating_sub(1);
            for (sum, hits) in self.found.iter_mut().zip(hits) {
                *sum += usize::from(hits > 0);
            }
        }
        for (index, list) in lists.iter().enumerate() {
            let anything = |d: &&Detection| {
                // Also what is too small or too hidden to be asked for is something.
                labels.iter().any(|seen| {
                    bbox(seen)
                        .is_some_and(|at| d.class.as_str() == seen.class.name() && d.bbox.iou(&at) >= 0.3)
                })
            };
            self.seen[index] += list.len();
            self.nothing[index] += list.len() - list.iter().filter(anything).count();
        }
        self.asked += asked;
        self.missed += missed;
        self.missed_and_found += found;
        step(&format!(
            "tiles: picture {number}: {asked} things, {missed} missed in the whole picture, {found} of these found in tiles"
        ));
    }

    fn figures(&self, pictures: usize) -> Vec<Figure> {
        let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
        let plain = |name: &str, value: f64, unit| Figure::plain(format!("tiles.{name}"), value, unit);
        let ms = |seconds: f64| seconds * 1e3 / pictures as f64;
        vec![
            plain("found_of_missed", share(self.missed_and_found, self.missed), "share"),
            plain("missed_in_whole", self.missed as f64, "things"),
            plain("recall_whole", share(self.found[0], self.asked), "share"),
            plain("recall", share(self.found[1], self.asked), "share"),
            plain("found_twice", self.twice as f64, "detections too many"),
            plain("of_nothing_whole", share(self.nothing[0], self.seen[0]), "share of detections"),
            plain("of_nothing", share(self.nothing[1], self.seen[1]), "share of detections"),
            plain("cpu_ms_whole", ms(self.cpu[0]), "CPU ms / picture"),
            plain("cpu_ms", ms(self.cpu[1]), "CPU ms / picture"),
        ]
    }
}

/// A street from a high mast: things are 20 to 80 metres away, and a tenth as high in the picture as from a lamp post.
fn panorama(seed: u64, (width, height): (u32, u32)) -> Result<Picture, SizeError> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut layout = Layout::from_seed(rng.u64(..), width, height);
    (layout.view.mast, layout.view.focal, layout.view.horizon) = (MAST, 0.9, 0.05);
    let conditions = Conditions::plain(Light::Day, Weather::Clear, 2.0);
    let mut studio = Studio::new(layout.clone(), conditions)?;
    let things = populate(&layout, &conditions, &mut rng);
    Ok(studio.take(&things, seed))
}

/// The picture as a decoder gives it: BT.601, limited range, chroma of half the size.
fn frame(picture: &Picture) -> anyhow::Result<Frame> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let at = |x: usize, y: usize| {
        let start = (y * width + x) * 3;
        [picture.rgb[start], picture.rgb[start + 1], picture.rgb[start + 2]].map(f32::from)
    };
    let weighted = |p: [f32; 3], weights: [f32; 3]| p.iter().zip(weights).map(|(v, w)| v * w).sum::<f32>();
    let luma = picture
        .rgb
        .as_chunks::<3>()
        .0
        .iter()
        .map(|p| (16.5 + weighted(p.map(f32::from), [0.299, 0.587, 0.114]) * 219.0 / 255.0) as u8);
    let luma: Vec<u8> = luma.collect();
    let chroma = |weights: [f32; 3]| {
        let mut plane = Vec::with_capacity(width * height / 4);
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                let four = [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)];
                let sum: f32 = four.into_iter().map(|p| weighted(p, weights)).sum();
                plane.push((128.5 + sum / 4.0 * 224.0 / 255.0).clamp(0.0, 255.0) as u8);
            }
        }
        plane
    };
    let planes = [
        (luma, width),
        (chroma([-0.168_736, -0.331_264, 0.5]), width / 2),
        (chroma([0.5, -0.418_688, -0.081_312]), width / 2),
    ]
    .map(|(data, stride)| Plane { data: Bytes::from(data), stride });
    let picture = HostPicture::new(picture.width, picture.height, planes, Matrix::Bt601, false)?;
    let id = FrameId { camera: CameraId::new("panorama")?, session: SessionId::next(), sequence: 0 };
    Ok(Frame::host(id, Timestamp::UNIX_EPOCH, picture))
}
