//! What was seen, in figures.

use std::time::Instant;

use fleet::Camera;
use flow::Via;

use super::describe::{self, Track};
use super::watch::{KeyKind, Watch};
use super::{Sps, odd};
use crate::source::Video;

/// What a camera sends.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Seen {
    /// What received it: `lean`, `retina`, `rtspsrc`.
    pub via: &'static str,
    /// `H.264`, `H.265`, `Motion JPEG`.
    pub codec: String,
    /// Out of the newest sequence parameter set, where it could be read.
    pub picture: Option<Sps>,
    /// Seconds from PLAY to the end.
    pub watched_s: f64,
    /// Seconds from PLAY to the first whole picture.
    pub first_picture_s: Option<f64>,
    /// Whole pictures.
    pub pictures: u64,
    /// Pictures of which something was missing or wrong.
    pub damaged: u64,
    /// Pictures per second, by their time stamps.
    pub fps: Option<f64>,
    /// Bits per second of RTP payload.
    pub bit_rate: Option<f64>,
    /// Key pictures.
    pub keys: usize,
    /// What makes them key pictures.
    pub key_kinds: Vec<KeyKind>,
    /// How far apart they are; `None` where fewer than two came.
    pub key_interval: Option<KeyInterval>,
    /// Where fewer than two came: they are at least so far apart, in seconds.
    pub key_interval_above_s: Option<f64>,
    /// Mean bytes of a key picture, with its parameter sets.
    pub key_bytes: Option<u64>,
    /// Mean bytes of another picture.
    pub other_bytes: Option<u64>,
    /// Slices per picture, at most.
    pub slices: usize,
    /// Pictures are sent in another order than they are shown (B pictures).
    pub reordered: bool,
    /// Where the parameter sets come from.
    pub parameter_sets: ParameterSets,
    /// Everything that the description offers.
    pub tracks: Vec<Track>,
    /// The server's name in the description.
    pub tool: Option<String>,
    /// After how long without a sign of life the camera gives a session up, where it is known.
    pub session_timeout_s: Option<f64>,
    /// RTP packets of the video.
    pub packets: u64,
    /// Share of the packets that did not arrive, in percent.
    pub loss_percent: f64,
    /// The camera's clock minus ours in seconds, the way to us included.
    pub clock_offset_s: Option<f64>,
    /// What is unusual, in words.
    pub odd: Vec<String>,
}

/// Seconds between key pictures.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct KeyInterval {
    /// The middle one.
    pub median_s: f64,
    /// The shortest.
    pub min_s: f64,
    /// The longest; also what has passed since the last one, where that is longer.
    pub max_s: f64,
}

/// Where the parameter sets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ParameterSets {
    /// The session description has them.
    pub described: bool,
    /// The stream has them.
    pub in_band: bool,
}

/// Sums up. `broke_off`: why the stream ended before its time.
pub(super) fn summary(
    watch: &Watch,
    video: &Video,
    via: Via,
    camera: &Camera,
    broke_off: Option<String>,
) -> Seen {
    let now = Instant::now();
    let description = describe::read(&video.description);
    let mut tracks = description.tracks;
    if let Some(track) = tracks.iter_mut().find(|track| is_watched(track, video)) {
        track.watched = true;
    }
    let without_key = watch.without_key(now).map(|time| time.as_secs_f64());
    let key_interval = key_interval(watch.key_intervals(), without_key);
    let mean = |bytes: u64, count: u64| (count > 0).then(|| bytes / count);
    let keys = watch.keys.len() as u64;
    let expected = watch.packets + watch.lost;
    let mut seen = Seen {
        via: via.name(),
        codec: video.codec.to_string(),
        picture: watch.sps.clone(),
        watched_s: now.saturating_duration_since(watch.began).as_secs_f64(),
        first_picture_s: watch.first_picture.map(|at| (at - watch.began).as_secs_f64()),
        pictures: watch.pictures,
        damaged: watch.damaged + watch.undecodable,
        fps: watch.fps(),
        bit_rate: watch.bit_rate(),
        keys: watch.keys.len(),
        key_kinds: watch.key_kinds.iter().copied().collect(),
        key_interval,
        key_interval_above_s: if key_interval.is_none() { without_key } else { None },
        key_bytes: mean(watch.key_bytes, keys),
        other_bytes: mean(watch.other_bytes, watch.pictures.saturating_sub(keys)),
        slices: watch.slices,
        reordered: watch.reordered,
        parameter_sets: ParameterSets { described: watch.described_sets, in_band: watch.in_band_sets },
        tracks,
        tool: description.tool,
        session_timeout_s: video.session_timeout.map(|time| time.as_secs_f64()),
        packets: watch.packets,
        loss_percent: watch.lost as f64 * 100.0 / (expected.max(1)) as f64,
        // What delays a report makes the clock look further behind.
        clock_offset_s: watch.offsets.iter().copied().reduce(f64::max),
        odd: Vec::new(),
    };
    seen.odd = odd::list(watch, &seen, &camera.look, now);
    seen.odd.extend(broke_off.map(|why| format!("the stream ended before its time: {why}")));
    seen
}

fn is_watched(track: &Track, video: &Video) -> bool {
    let encoding = match video.codec {
        flow::Codec::H264 => "h264",
        flow::Codec::H265 => "h265",
        flow::Codec::Mjpeg => "jpeg",
    };
    track.media == "video" && track.encoding == encoding
}

fn key_interval(intervals: Vec<f64>, without_key: Option<f64>) -> Option<KeyInterval> {
    let longest = intervals.iter().copied().reduce(f64::max)?;
    let shortest = intervals.iter().copied().reduce(f64::min)?;
    Some(KeyInterval {
        median_s: median(intervals)?,
        min_s: shortest,
        max_s: longest.max(without_key.unwrap_or(0.0)),
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Seen {
    /// Seconds between key pictures as far as they matter to who looks at them: the usual interval, or what it is at
    /// least.
    pub fn usual_key_interval_s(&self) -> Option<f64> {
        self.key_interval.map(|interval| interval.median_s).or(self.key_interval_above_s)
    }
}
