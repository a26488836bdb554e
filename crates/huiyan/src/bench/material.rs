//! What the benches work on: key pictures of the rendered street, or of a file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use decode::{Pool, PoolOptions};
use flow::{
    AccessUnit, CameraId, Codec, Frame, FrameId, HostPicture, MediaTime, Plane, Role, SessionId, Timestamp,
};
use sim::{Clip, ClipUnit};

use crate::cmd::sim::{render, timelines};

/// The street that the benches look at.
pub const STREET: &str = "vending-day";
/// Key pictures of the street that are used, over and over.
const STREET_PICTURES: f32 = 16.0;
/// Pictures of a file that are used at most.
const MAX_PICTURES: usize = 64;

/// Key pictures.
pub struct Keys {
    pub codec: Codec,
    /// Their size, `640x360`, or `mixed`.
    pub label: String,
    /// Annex B, each with its parameter sets.
    pub pictures: Vec<Bytes>,
}

impl Keys {
    /// One key picture per second of the shipped street, rendered and coded at this size.
    pub fn of_street(size: (u32, u32)) -> anyhow::Result<Self> {
        let mut timelines = timelines(&[STREET.to_owned()])?;
        for (_, timeline) in &mut timelines {
            timeline.size = size;
            (timeline.fps, timeline.key_every, timeline.seconds) = (1, 1.0, STREET_PICTURES);
        }
        let film = render(&timelines, Codec::H264)?.pop().context("a street gives a film")?;
        Ok(Self::of_clip(&film.clip))
    }

    /// Those that simulated cameras send which play the shipped street: they are larger than pictures coded once a second.
    pub fn of_cameras() -> anyhow::Result<Self> {
        let film = render(&timelines(&[STREET.to_owned()])?, Codec::H264)?.pop();
        Ok(Self::of_clip(&film.context("a street gives a film")?.clip))
    }

    /// The key pictures of a file.
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::of_clip(&Clip::open(path)?))
    }

    fn of_clip(clip: &Clip) -> Self {
        let keys = clip.units.iter().filter(|unit| unit.key).take(MAX_PICTURES);
        let pictures = keys.map(|unit| unit.data.clone()).collect();
        Self { codec: clip.codec, label: format!("{}x{}", clip.width, clip.height), pictures }
    }

    /// Pictures of these, one of each in turn, as a pool gets them whose cameras differ; `None` where there is
    /// nothing to mix.
    pub fn mixed(all: &[Self]) -> Option<Self> {
        let (first, rest) = all.split_first()?;
        let shortest = all.iter().map(|keys| keys.pictures.len()).min()?;
        if rest.is_empty() || rest.iter().any(|keys| keys.codec != first.codec) {
            return None;
        }
        let turn = |n: usize| all.iter().map(move |keys| keys.pictures[n].clone());
        let pictures = (0..shortest).flat_map(turn).collect();
        Some(Self { codec: first.codec, label: "mixed".to_owned(), pictures })
    }

    /// Mean size of a coded picture in bytes.
    pub fn mean_bytes(&self) -> usize {
        self.pictures.iter().map(Bytes::len).sum::<usize>() / self.pictures.len().max(1)
    }

    /// Decodes each of them once, in software.
    pub fn frames(&self) -> anyhow::Result<Vec<Frame>> {
        self.frames_by(PoolOptions { threads: 1, ..PoolOptions::default() })
    }

    /// The same as these options say.
    pub fn frames_by(&self, options: PoolOptions) -> anyhow::Result<Vec<Frame>> {
        let frames: Arc<Mutex<Vec<Frame>>> = Arc::default();
        let out = frames.clone();
        let pool = Pool::new(
            PoolOptions { queue: self.pictures.len(), ..options },
            move |frame| out.lock().unwrap_or_else(PoisonError::into_inner).push(frame),
            |camera, fault| tracing::warn!(%camera, "{fault}"),
        )?;
        let mut units = Units::new(1)?;
        for picture in &self.pictures {
            pool.offer(units.next(self.codec, picture.clone()))?;
        }
        let flow = pool.shutdown(Duration::from_secs(30));
        let frames = std::mem::take(&mut *frames.lock().unwrap_or_else(PoisonError::into_inner));
        if frames.is_empty() {
            bail!("none of the {} key pictures could be decoded: {flow:?}", self.pictures.len());
        }
        Ok(frames)
    }
}

/// The key pictures of a clip, as those of a camera that sent it, with what came between them.
pub fn key_units(clip: &Clip, camera: &CameraId) -> Vec<AccessUnit> {
    let session = SessionId::next();
    let mut between = 0;
    let mut key = |(sequence, unit): (usize, &ClipUnit)| {
        if !unit.key {
            between += unit.data.len() as u64;
            return None;
        }
        Some(AccessUnit {
            camera: camera.clone(),
            session,
            sequence: sequence as u64,
            codec: clip.codec,
            media_time: MediaTime { ticks: (unit.pts.as_micros() * 9 / 100) as i64, clock_rate: 90_000 },
            captured: Timestamp::UNIX_EPOCH + unit.pts,
            key: true,
            role: Role::Alone,
            lost_before: 0,
            bytes_between: std::mem::take(&mut between),
            data: unit.data.clone(),
        })
    };
    clip.units.iter().enumerate().filter_map(&mut key).collect()
}

/// A decoder that is waited for.
pub struct OneByOne {
    pool: Pool,
    frames: Receiver<Result<Frame, String>>,
}

impl OneByOne {
    /// Starts it.
    pub fn new() -> anyhow::Result<Self> {
        let (send, frames) = bounded(16);
        let failed = send.clone();
        let pool = Pool::new(
            PoolOptions { threads: 1, ..PoolOptions::default() },
            move |frame| drop(send.send(Ok(frame))),
            move |_, fault| drop(failed.send(Err(fault.to_string()))),
        )?;
        Ok(Self { pool, frames })
    }

    /// Decodes a picture that stands alone.
    pub fn decode(&self, unit: AccessUnit) -> anyhow::Result<Frame> {
        self.pool.offer(unit)?;
        let frame = self.frames.recv_timeout(Duration::from_secs(30)).context("a picture takes 30 s")?;
        frame.map_err(anyhow::Error::msg)
    }
}

/// Makes access units of a number of cameras in turn.
pub struct Units {
    cameras: Vec<(CameraId, SessionId)>,
    made: u64,
    start: Timestamp,
}

impl Units {
    /// Of cameras `bench-0`, `bench-1`, …
    pub fn new(cameras: usize) -> anyhow::Result<Self> {
        let camera = |n| anyhow::Ok((camera_id(n)?, SessionId::next()));
        Ok(Self {
            cameras: (0..cameras).map(camera).collect::<Result<_, _>>()?,
            made: 0,
            start: Timestamp::now(),
        })
    }

    /// The next camera's next key picture.
    pub fn next(&mut self, codec: Codec, data: Bytes) -> AccessUnit {
        let (camera, session) = &self.cameras[(self.made % self.cameras.len() as u64) as usize];
        let sequence = self.made / self.cameras.len() as u64;
        self.made += 1;
        AccessUnit {
            camera: camera.clone(),
            session: *session,
            sequence,
            codec,
            media_time: MediaTime { ticks: sequence as i64 * 90_000, clock_rate: 90_000 },
            captured: self.start + Duration::from_secs(sequence),
            key: true,
            role: Role::Alone,
            lost_before: 0,
            bytes_between: 0,
            data,
        }
    }
}

/// The id of a made-up camera.
pub fn camera_id(number: usize) -> anyhow::Result<CameraId> {
    Ok(CameraId::new(&format!("bench-{number}"))?)
}

/// The same picture as a frame of another camera; the pixels are shared.
pub fn as_camera(frame: &Frame, camera: &CameraId, sequence: u64) -> anyhow::Result<Frame> {
    let picture = frame.pixels.on_host()?;
    let plane = |index: usize| {
        let plane: &Plane = &picture.planes()[index];
        Plane { data: plane.data.clone(), stride: plane.stride }
    };
    let planes = [plane(0), plane(1), plane(2)];
    let picture =
        HostPicture::new(picture.width(), picture.height(), planes, picture.matrix, picture.full_range)?;
    let id = FrameId { camera: camera.clone(), session: frame.id.session, sequence };
    // The grey copy is taken over: making it is the decoder's work, not that of whoever is measured.
    let (captured, luma) = (Timestamp::now(), frame.luma.clone());
    Ok(Frame::with_luma(id, captured, picture, luma))
}

/// Waits until at most `inside` pictures are in the pool.
pub fn wait_inside(pool: &Pool, inside: i64) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    while pool.counters().inside() > inside {
        if Instant::now() > until {
            bail!("the decoders have done nothing for a minute: {:?}", pool.counters());
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

/// A folder of our own among the temporary files, removed at the end.
pub struct TempFolder(PathBuf);

impl TempFolder {
    /// Makes it.
    pub fn new() -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("huiyan-bench-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("{} could not be removed: {error}", self.0.display());
        }
    }
}

/// Reads `640x360`: what the street can be rendered and coded at.
pub fn size(text: &str) -> Result<(u32, u32), String> {
    let side =
        |text: &str| text.parse().ok().filter(|n: &u32| n.is_multiple_of(2) && (64..=4096).contains(n));
    let sides = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
    sides.ok_or_else(|| {
        format!("{text:?} is no size; write for example 640x360, even numbers from 64 to 4096")
    })
}
