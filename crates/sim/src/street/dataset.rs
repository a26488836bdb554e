//! Labelled pictures of random streets, to train and to measure a detector on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::codecs::jpeg::JpegEncoder;
use serde::Serialize;

use super::develop::Conditions;
use super::layout::Layout;
use super::random::populate;
use super::studio::{Picture, Seen, SizeError, Studio};
use super::subjects::{self, Placed, Subject};
use super::thing::Class;

/// A thing is labelled if at least this share of it is visible.
pub const LEAST_VISIBLE: f32 = 0.25;

/// A label's box is at least this wide and high, pixels.
const LEAST_SIDE: u32 = 4;

/// Pictures taken of one street before the next is built.
const PER_STREET: usize = 4;

/// A data set that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The pictures' size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The disk.
    #[error("{path}: {source}")]
    Write {
        /// What was being written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The JPEG coder.
    #[error("{path}: cannot be coded as JPEG: {source}")]
    Code {
        /// Which picture.
        path: PathBuf,
        /// Why it failed.
        source: image::ImageError,
    },
}

/// What a data set's labels are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// Every thing with a class: what a detector learns. Categories in the order of [`Class::ALL`].
    Things,
    /// What a detector may take for a vendor, as what it is: what a second model learns. Categories in the order of
    /// [`Subject::ALL`].
    Subjects,
}

/// A labelled picture.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The picture and all that is in it.
    pub picture: Picture,
    /// What a detector is asked to find.
    pub labels: Vec<Seen>,
    /// JPEG quality that it is to be stored with, 40..=95.
    pub quality: u8,
}

impl Sample {
    /// The picture as it is stored.
    pub fn jpeg(&self) -> Result<Vec<u8>, image::ImageError> {
        let Picture { rgb, width, height, .. } = &self.picture;
        let mut bytes = Vec::with_capacity(64 << 10);
        JpegEncoder::new_with_quality(&mut bytes, self.quality).encode(
            rgb,
            *width,
            *height,
            image::ExtendedColorType::Rgb8,
        )?;
        Ok(bytes)
    }
}

/// The first `count` pictures of the data set with this seed, in memory.
pub fn samples(count: usize, seed: u64, size: (u32, u32)) -> Result<Vec<Sample>, SizeError> {
    let streets = (0..count.div_ceil(PER_STREET)).map(|street| samples_of(seed, street, size));
    let mut all: Vec<_> = streets.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    all.truncate(count);
    Ok(all)
}

/// The `PER_STREET` pictures of a data set's street number `street`.
fn samples_of(seed: u64, street: usize, size: (u32, u32)) -> Result<Vec<Sample>, SizeError> {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ street as u64);
    let layout = Layout::from_seed(rng.u64(..), size.0, size.1);
    let conditions = Conditions::random(&mut rng);
    let mut studio = Studio::new(layout.clone(), conditions)?;
    let mut out = Vec::with_capacity(PER_STREET);
    for _ in 0..PER_STREET {
        let things = populate(&layout, &conditions, &mut rng);
        let picture = studio.take(&things, rng.u64(..));
        let labels = labels(&picture);
        out.push(Sample { picture, labels, quality: rng.u8(40..=95) });
    }
    Ok(out)
}

/// What a detector is asked to find in a picture.
pub fn labels(picture: &Picture) -> Vec<Seen> {
    asked_for(picture).copied().collect()
}

/// The things that are visible enough to be asked for.
pub(super) fn asked_for(picture: &Picture) -> impl Iterator<Item = &Seen> {
    let worth = |b: [u32; 4]| b[2] - b[0] >= LEAST_SIDE && b[3] - b[1] >= LEAST_SIDE;
    picture.seen.iter().filter(move |s| s.visible >= LEAST_VISIBLE && worth(s.bbox))
}

#[derive(Serialize)]
struct Image {
    id: usize,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct Annotation {
    id: usize,
    image_id: usize,
    category_id: usize,
    /// Left, top, width, height.
    bbox: [u32; 4],
    area: u32,
    iscrowd: u8,
    /// Share of its silhouette that is visible; not one of COCO's keys.
    visible: f32,
}

#[derive(Serialize)]
struct Category {
    id: usize,
    name: &'static str,
}

#[derive(Serialize)]
struct Document {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

/// A label on its way to the file.
struct Label {
    category: usize,
    bbox: [u32; 4],
    visible: f32,
}

/// The pictures of one street, each with its labels.
fn labelled(
    about: Labels,
    seed: u64,
    street: usize,
    size: (u32, u32),
) -> Result<Vec<(Sample, Vec<Label>)>, SizeError> {
    Ok(match about {
        Labels::Things => {
            let label =
                |seen: &Seen| Label { category: seen.class as usize, bbox: seen.bbox, visible: seen.visible };
            let samples = samples_of(seed, street, size)?.into_iter();
            samples
                .map(|sample| {
                    let labels = sample.labels.iter().map(label).collect();
                    (sample, labels)
                })
                .collect()
        }
        Labels::Subjects => {
            let label = |placed: &Placed| Label {
                category: placed.subject as usize,
                bbox: placed.bbox,
                visible: 1.0,
            };
            let scenes = subjects::samples_of(seed, street, size)?.into_iter();
            scenes.map(|scene| (scene.sample, scene.placed.iter().map(label).collect())).collect()
        }
    })
}

/// Writes `dir/images/000001.jpg` … and `dir/labels.json` (COCO's layout; category ids count from 0). The same arguments write the same files. Training and evaluation need different seeds.
/// `progress` is called with the number of pictures written so far, from several threads.
pub fn export(
    dir: &Path,
    about: Labels,
    count: usize,
    seed: u64,
    size: (u32, u32),
    progress: &(dyn Fn(usize) + Sync),
) -> Result<(), DatasetError> {
    let images = dir.join("images");
    std::fs::create_dir_all(&images)
        .map_err(|source| DatasetError::Write { path: images.clone(), source })?;
    let per_street = match about {
        Labels::Things => PER_STREET,
        Labels::Subjects => subjects::PER_STREET,
    };
    let streets = count.div_ceil(per_street);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || -> Result<Vec<(usize, Vec<Label>)>, DatasetError> {
        let mut out = Vec::new();
        loop {
            let street = next.fetch_add(1, Ordering::Relaxed);
            if street >= streets {
                return Ok(out);
            }
            for (i, (sample, labels)) in labelled(about, seed, street, size)?.into_iter().enumerate() {
                let number = street * per_street + i + 1;
                if number <= count {
                    write_jpeg(&images.join(file_name(number)), &sample)?;
                    out.push((number, labels));
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 16);
    let parts = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |h: std::thread::ScopedJoinHandle<'_, _>| {
            h.join().unwrap_or_else(|p| std::panic::resume_unwind(p))
        };
        handles.into_iter().map(join).collect::<Result<Vec<_>, _>>()
    })?;
    let mut all: Vec<_> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(number, _)| *number);
    write_labels(&dir.join("labels.json"), about, &all, size)
}

fn file_name(number: usize) -> String {
    format!("{number:06}.jpg")
}

fn write_jpeg(path: &Path, sample: &Sample) -> Result<(), DatasetError> {
    let bytes = sample.jpeg().map_err(|source| DatasetError::Code { path: path.into(), source })?;
    std::fs::write(path, bytes).map_err(|source| DatasetError::Write { path: path.into(), source })
}

fn write_labels(
    path: &Path,
    about: Labels,
    all: &[(usize, Vec<Label>)],
    size: (u32, u32),
) -> Result<(), DatasetError> {
    let names: Vec<&'static str> = match about {
        Labels::Things => Class::ALL.iter().map(|class| class.name()).collect(),
        Labels::Subjects => Subject::ALL.iter().map(|subject| subject.name()).collect(),
    };
    let image = |&(id, _): &(usize, _)| Image { id, file_name: file_name(id), width: size.0, height: size.1 };
    let flat = all.iter().flat_map(|(image, list)| list.iter().map(move |label| (*image, label)));
    let annotation = |(i, (image_id, label)): (usize, (usize, &Label))| {
        let [x0, y0, x1, y1] = label.bbox;
        Annotation {
            id: i + 1,
            image_id,
            category_id: label.category,
            bbox: [x0, y0, x1 - x0, y1 - y0],
            area: (x1 - x0) * (y1 - y0),
            iscrowd: 0,
            visible: label.visible,
        }
    };
    let labels = Document {
        images: all.iter().map(image).collect(),
        annotations: flat.enumerate().map(annotation).collect(),
        categories: names.into_iter().enumerate().map(|(id, name)| Category { id, name }).collect(),
    };
    let write = || -> io::Result<()> {
        let file = io::BufWriter::new(std::fs::File::create(path)?);
        serde_json::to_writer(file, &labels).map_err(io::Error::from)
    };
    write().map_err(|source| DatasetError::Write { path: path.into(), source })
}
