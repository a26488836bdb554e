//! Pictures of known colours, coded by GStreamer's encoders; real clips; and a pool whose output is kept.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::disallowed_macros, reason = "only tests and examples use it")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use decode::{Pool, PoolOptions};
use flow::{AccessUnit, CameraId, Codec, Frame, HostPicture, MediaTime, Pixels, Role, SessionId, Timestamp};
use gst::prelude::*;
use gst_video::VideoInfo;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

/// Y, Cb, Cr as 8-bit values.
pub type Colour = [u8; 3];

/// One coded picture, in decoding order.
#[derive(Clone)]
pub struct Coded {
    pub key: bool,
    /// Index of the raw picture.
    pub index: usize,
    pub data: Bytes,
}

pub fn codec_parts(codec: Codec) -> (&'static str, &'static str) {
    match codec {
        Codec::H264 => {
            ("x264enc", "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au")
        }
        Codec::H265 => {
            ("x265enc", "h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au")
        }
        Codec::Mjpeg => ("jpegenc", "identity"),
    }
}

/// All-intra, nothing held back.
pub fn intra(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "key-int-max=1 tune=zerolatency speed-preset=ultrafast",
        // With its own thread pool x265 3.5 now and then damages the slice of so small a picture.
        Codec::H265 => {
            "key-int-max=1 tune=zerolatency speed-preset=ultrafast log-level=none \
             option-string=info=0:pools=none:wpp=0:frame-threads=1"
        }
        Codec::Mjpeg => "quality=95",
    }
}

/// One colour per picture.
pub fn encode(
    codec: Codec,
    format: &str,
    size: (u32, u32),
    colours: &[Colour],
    settings: &str,
) -> Vec<Coded> {
    // Even so configured, x265 3.5 on rare occasions gives a picture without its slice: no fault of the decoder.
    for _ in 0..5 {
        let coded = encode_once(codec, format, size, colours, settings);
        if coded.iter().all(|picture| codec != Codec::H265 || has_h265_slice(&picture.data)) {
            return coded;
        }
    }
    panic!("x265 gave five times a picture without a slice");
}

/// Whether a byte stream holds a NAL unit of a slice (ITU-T H.265 table 7-1: types 0 to 31).
fn has_h265_slice(data: &[u8]) -> bool {
    data.windows(4).any(|w| w[..3] == [0, 0, 1] && (w[3] >> 1) & 0x3f < 32)
}

fn encode_once(
    codec: Codec,
    format: &str,
    size: (u32, u32),
    colours: &[Colour],
    settings: &str,
) -> Vec<Coded> {
    gst::init().unwrap();
    let (width, height) = size;
    let raw = format!("video/x-raw,format={format},width={width},height={height},framerate=10/1");
    let (encoder, tail) = codec_parts(codec);
    let text = format!(
        "appsrc name=in format=time caps={raw} ! {encoder} {settings} ! {tail} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
    let input = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let info = VideoInfo::from_caps(&raw.parse::<gst::Caps>().unwrap()).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for (index, colour) in colours.iter().enumerate() {
        let mut buffer = gst::Buffer::from_mut_slice(solid(&info, *colour));
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(index as u64 * 100));
        input.push_buffer(buffer).unwrap();
    }
    input.end_of_stream().unwrap();
    collect(&pipeline)
}

fn solid(info: &VideoInfo, colour: Colour) -> Vec<u8> {
    let mut data = vec![0; info.size()];
    let deep = info.format_info().depth()[0] > 8;
    let shift = info.format_info().depth()[0] - 8;
    for (plane, value) in colour.into_iter().enumerate().take(info.n_planes() as usize) {
        let start = info.offset()[plane];
        let end = info.offset().get(plane + 1).copied().filter(|end| *end > start).unwrap_or(info.size());
        if deep {
            let value = (u16::from(value) << shift).to_le_bytes();
            data[start..end].chunks_exact_mut(2).for_each(|sample| sample.copy_from_slice(&value));
        } else {
            data[start..end].fill(value);
        }
    }
    data
}

/// What comes out of `out`, and the pipeline's end.
fn collect(pipeline: &gst::Pipeline) -> Vec<Coded> {
    let output = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let mut first = None;
    let mut all = Vec::new();
    while let Ok(sample) = output.pull_sample() {
        let buffer = sample.buffer().unwrap();
        let pts = buffer.pts().map_or(0, |t| t.mseconds());
        let first = *first.get_or_insert(pts);
        all.push(Coded {
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            index: (pts.saturating_sub(first) / 100) as usize,
            data: Bytes::copy_from_slice(&buffer.map_readable().unwrap()),
        });
    }
    let bus = pipeline.bus().unwrap();
    if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
        panic!("the test's own encoder failed: {message:?}");
    }
    pipeline.set_state(gst::State::Null).unwrap();
    all
}

/// The video of a file as access units. `index` is of no meaning.
pub fn read_file(codec: Codec, path: &Path) -> Vec<Coded> {
    gst::init().unwrap();
    let (_, tail) = codec_parts(codec);
    let demux = if path.extension().is_some_and(|e| e == "mp4") { "qtdemux !" } else { "" };
    let text = format!("filesrc name=file ! {demux} {tail} ! appsink name=out sync=false");
    let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.by_name("file").unwrap().set_property("location", path.to_str().unwrap());
    pipeline.set_state(gst::State::Playing).unwrap();
    collect(&pipeline)
}

/// A file of the real material, or why the test is skipped.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not here", path.display());
    None
}

pub fn camera(name: impl std::fmt::Display) -> CameraId {
    CameraId::new(&format!("camera-{name}")).unwrap()
}

/// Makes access units of one session.
pub struct Source {
    pub camera: CameraId,
    pub session: SessionId,
    pub codec: Codec,
    pub sequence: u64,
}

impl Source {
    pub fn new(name: impl std::fmt::Display, codec: Codec) -> Self {
        Self { camera: camera(name), session: SessionId::next(), codec, sequence: 0 }
    }

    pub fn unit(&mut self, key: bool, role: Role, data: impl Into<Bytes>) -> AccessUnit {
        let sequence = self.sequence;
        self.sequence += 1;
        AccessUnit {
            camera: self.camera.clone(),
            session: self.session,
            sequence,
            codec: self.codec,
            media_time: MediaTime { ticks: sequence as i64 * 9000, clock_rate: 90_000 },
            captured: Timestamp::from_millisecond(1_700_000_000_000 + sequence as i64).unwrap(),
            key,
            role,
            lost_before: 0,
            bytes_between: 0,
            data: data.into(),
        }
    }

    pub fn alone(&mut self, data: impl Into<Bytes>) -> AccessUnit {
        self.unit(true, Role::Alone, data)
    }
}

/// A pool and what came out of it.
pub struct Bench {
    pub pool: Pool,
    pub frames: Arc<Mutex<Vec<Frame>>>,
    pub errors: Arc<Mutex<Vec<(CameraId, String)>>>,
}

impl Bench {
    pub fn new(threads: usize, queue: usize, max_chained: usize) -> Self {
        let frames: Arc<Mutex<Vec<Frame>>> = Arc::default();
        let errors: Arc<Mutex<Vec<(CameraId, String)>>> = Arc::default();
        let (to_frames, to_errors) = (frames.clone(), errors.clone());
        let pool = Pool::new(
            PoolOptions { threads, queue, max_chained, ..PoolOptions::default() },
            move |frame| to_frames.lock().unwrap().push(frame),
            move |camera, fault| to_errors.lock().unwrap().push((camera.clone(), fault.to_string())),
        )
        .unwrap();
        Self { pool, frames, errors }
    }

    /// Waits until nothing is inside; only for streams that hold nothing back.
    pub fn settle(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.pool.counters().inside() != 0 {
            assert!(Instant::now() < until, "still inside: {:?}", self.pool.counters());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        self.pool.counters().dropped.iter().find(|(name, _)| *name == reason).unwrap().1
    }

    /// Decodes one access unit and returns its picture.
    pub fn one(&self, unit: AccessUnit) -> Option<Frame> {
        self.pool.offer(unit).unwrap();
        self.settle();
        let frame = self.frames.lock().unwrap().pop();
        assert!(self.frames.lock().unwrap().is_empty(), "more than one picture");
        frame
    }
}

pub fn host(frame: &Frame) -> &HostPicture {
    match &frame.pixels {
        Pixels::Host(picture) => picture,
        Pixels::Device(_) => panic!("decoded on an accelerator"),
    }
}

/// The rows of a plane without what lies between them.
pub fn rows(picture: &HostPicture, plane: usize) -> Vec<u8> {
    let shift = u32::from(plane > 0);
    let width = picture.width().div_ceil(1 << shift) as usize;
    let height = picture.height().div_ceil(1 << shift) as usize;
    let plane = &picture.planes()[plane];
    (0..height).flat_map(|y| plane.data[y * plane.stride..][..width].to_vec()).collect()
}

/// Every sample of every plane is within `tolerance` of the colour.
pub fn assert_colour(picture: &HostPicture, colour: Colour, tolerance: u8, what: &str) {
    for (plane, value) in colour.into_iter().enumerate() {
        let rows = rows(picture, plane);
        let worst = rows.iter().map(|sample| sample.abs_diff(value)).max().unwrap();
        assert!(
            worst <= tolerance,
            "{what}: plane {plane} differs from {value} by up to {worst}, mean {}",
            rows.iter().map(|v| *v as f64).sum::<f64>() / rows.len() as f64
        );
    }
}
