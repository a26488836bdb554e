//! A file → access units, through GStreamer's demuxers and parsers.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flow::Codec;
use gstreamer::prelude::*;
use gstreamer::{self as gst, MessageView};
use gstreamer_app::{AppSink, AppSinkCallbacks};

use super::{Clip, ClipError, ClipUnit};
use crate::nal::{self, NalKind, ParameterSets};

/// A clip stays in memory, so it is bounded.
const MAX_BYTES: usize = 512 << 20;
/// A file that gives nothing for so long is given up.
const STALL: Duration = Duration::from_secs(20);

/// What the demuxer's threads have found so far.
#[derive(Default)]
struct Found {
    codec: Option<Codec>,
    size: Option<(u32, u32)>,
    units: Vec<RawUnit>,
    bytes: usize,
    other_tracks: Vec<String>,
    stopped: Option<Stop>,
}

struct RawUnit {
    data: Bytes,
    pts: Option<Duration>,
    duration: Option<Duration>,
}

/// Why reading was stopped from inside.
enum Stop {
    TooLarge,
    Plugin(String),
}

type Shared = Arc<Mutex<Found>>;

pub(super) fn open(path: &Path) -> Result<Clip, ClipError> {
    let readable = std::fs::File::open(path).and_then(|file| file.metadata());
    match readable {
        Ok(data) if data.is_file() => {}
        Ok(_) => {
            return Err(ClipError::Read {
                path: path.into(),
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        Err(source) => return Err(ClipError::Read { path: path.into(), source }),
    }
    let no_gst =
        |error: gst::glib::BoolError| ClipError::GStreamer { path: path.into(), reason: error.to_string() };
    gst::init().map_err(|error| ClipError::GStreamer { path: path.into(), reason: error.to_string() })?;

    let found = Shared::default();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("filesrc").property("location", path).build().map_err(no_gst)?;
    let parse = gst::ElementFactory::make("parsebin").build().map_err(no_gst)?;
    pipeline.add_many([&source, &parse]).and_then(|()| source.link(&parse)).map_err(no_gst)?;
    parse.connect_pad_added({
        let (found, pipeline) = (found.clone(), pipeline.downgrade());
        move |_, pad| {
            let Some(pipeline) = pipeline.upgrade() else { return };
            if let Err(error) = attach(&pipeline, pad, &found) {
                lock(&found).stopped.get_or_insert(Stop::Plugin(error.to_string()));
            }
        }
    });

    let result = run(&pipeline, path, &found);
    // Also ends the demuxer's threads, which hold `found`.
    let stopped = pipeline.set_state(gst::State::Null);
    let found = std::mem::take(&mut *lock(&found));
    match found.stopped {
        Some(Stop::TooLarge) => {
            return Err(ClipError::TooLarge { path: path.into(), limit_mib: MAX_BYTES >> 20 });
        }
        Some(Stop::Plugin(reason)) => return Err(ClipError::GStreamer { path: path.into(), reason }),
        None => {}
    }
    if found.codec.is_none() && !found.other_tracks.is_empty() {
        return Err(ClipError::NoVideo { path: path.into(), found: found.other_tracks.join(", ") });
    }
    result?;
    stopped.map_err(|error| ClipError::Broken { path: path.into(), reason: error.to_string() })?;
    assemble(path, found)
}

fn lock(found: &Shared) -> std::sync::MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays the pipeline until the end of the file, an error, or a stall.
fn run(pipeline: &gst::Pipeline, path: &Path, found: &Shared) -> Result<(), ClipError> {
    let broken = |reason: String| ClipError::Broken { path: path.into(), reason };
    let bus = pipeline.bus().ok_or_else(|| broken("the pipeline has no bus".into()))?;
    pipeline.set_state(gst::State::Playing).map_err(|error| broken(error.to_string()))?;
    let (mut seen, mut quiet) = (0, Duration::ZERO);
    let step = gst::ClockTime::from_seconds(1);
    loop {
        let message = bus.timed_pop_filtered(step, &[gst::MessageType::Error, gst::MessageType::Eos]);
        match message.as_ref().map(|message| message.view()) {
            Some(MessageView::Eos(_)) => return Ok(()),
            Some(MessageView::Error(error)) => return Err(broken(error.error().to_string())),
            _ => {}
        }
        let now = lock(found).bytes;
        quiet = if now == seen { quiet + Duration::from(step) } else { Duration::ZERO };
        seen = now;
        if quiet >= STALL {
            return Err(ClipError::Stalled { path: path.into(), seconds: STALL.as_secs() });
        }
    }
}

/// The first video track that can be served goes to an appsink, everything else to a fakesink: a demuxer with an
/// unlinked track stops.
fn attach(pipeline: &gst::Pipeline, pad: &gst::Pad, found: &Shared) -> Result<(), gst::glib::BoolError> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let media = caps.structure(0).map_or("unknown", |s| s.name().as_str()).to_owned();
    let codec = match media.as_str() {
        "video/x-h264" => Some(Codec::H264),
        "video/x-h265" => Some(Codec::H265),
        _ => None,
    };
    let chosen = {
        let mut found = lock(found);
        match codec {
            Some(codec) if found.codec.is_none() => {
                found.codec = Some(codec);
                Some(codec)
            }
            _ => {
                found.other_tracks.push(media.clone());
                None
            }
        }
    };
    let elements = match chosen {
        Some(codec) => video_branch(codec, &media, found)?,
        None => vec![
            gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build()?,
        ],
    };
    pipeline.add_many(&elements)?;
    gst::Element::link_many(&elements)?;
    for element in elements.iter().rev() {
        element.sync_state_with_parent()?;
    }
    let sink =
        elements[0].static_pad("sink").ok_or_else(|| gst::glib::bool_error!("{media}: no sink pad"))?;
    pad.link(&sink).map_err(|error| gst::glib::bool_error!("{media}: {error}"))?;
    Ok(())
}

fn video_branch(
    codec: Codec,
    media: &str,
    found: &Shared,
) -> Result<Vec<gst::Element>, gst::glib::BoolError> {
    let parser = match codec {
        Codec::H264 => "h264parse",
        Codec::H265 => "h265parse",
        Codec::Mjpeg => "jpegparse",
    };
    // -1: parameter sets before every key picture, so that a client can enter at each.
    let parser = gst::ElementFactory::make(parser).property("config-interval", -1i32).build()?;
    let caps =
        gst::Caps::builder(media).field("stream-format", "byte-stream").field("alignment", "au").build();
    let sink = AppSink::builder().caps(&caps).sync(false).async_(false).max_buffers(64).build();
    let found = found.clone();
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                keep(&mut lock(&found), &sample)
            })
            .build(),
    );
    Ok(vec![parser, sink.upcast()])
}

fn keep(found: &mut Found, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
    let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
    let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
    found.bytes += map.len();
    if found.bytes > MAX_BYTES {
        found.stopped = Some(Stop::TooLarge);
        return Err(gst::FlowError::Error);
    }
    if found.size.is_none() {
        let picture = sample.caps().and_then(|caps| caps.structure(0));
        let side = |name| picture.and_then(|s| s.get::<i32>(name).ok()).and_then(|n| u32::try_from(n).ok());
        found.size = side("width").zip(side("height"));
    }
    found.units.push(RawUnit {
        data: Bytes::copy_from_slice(&map),
        pts: buffer.pts().map(Duration::from),
        duration: buffer.duration().map(Duration::from),
    });
    Ok(gst::FlowSuccess::Ok)
}

/// Raw access units → a clip: starts at the first key picture and at time 0, and every key picture carries its
/// parameter sets.
fn assemble(path: &Path, found: Found) -> Result<Clip, ClipError> {
    let pictures = found.units.len();
    let no_key = || ClipError::NoKeyPicture { path: path.into(), pictures };
    let codec =
        found.codec.ok_or_else(|| ClipError::NoVideo { path: path.into(), found: "no track".into() })?;
    let (width, height) = found.size.ok_or_else(no_key)?;
    let mut units = Vec::with_capacity(pictures);
    let mut sets = ParameterSets::default();
    let mut keys = 0;
    let mut last_duration = None;
    for (picture, raw) in found.units.into_iter().enumerate() {
        let here = ParameterSets::of(codec, &raw.data);
        let has_sets = here.complete(codec);
        if has_sets {
            sets = here;
        }
        let key = nal::is_random_access(codec, &raw.data);
        let enterable = key && sets.complete(codec);
        if (keys == 0 && !enterable) || (keys == 1 && is_skipped_leading(codec, &raw.data)) {
            continue;
        }
        keys += usize::from(key);
        let pts = raw.pts.ok_or_else(|| ClipError::NoTime { path: path.into(), picture })?;
        last_duration = raw.duration.or(last_duration);
        let data = if key && !has_sets { [&sets.annex_b()[..], &raw.data].concat().into() } else { raw.data };
        units.push(ClipUnit { data, key, pts });
    }
    let duration = to_zero(&mut units, last_duration).ok_or_else(no_key)?;
    Ok(Clip { codec, width, height, units, duration })
}

/// A leading picture of the first key picture refers to pictures that are not in the clip: no decoder shows it.
fn is_skipped_leading(codec: Codec, access_unit: &[u8]) -> bool {
    nal::nals(access_unit).any(|nal| NalKind::of(codec, nal) == NalKind::SkippedLeading)
}

/// Moves the first shown picture to time 0 and says how long a round takes: to the end of the last shown picture,
/// which lasts as long as the typical one.
fn to_zero(units: &mut [ClipUnit], last_duration: Option<Duration>) -> Option<Duration> {
    let mut times: Vec<Duration> = units.iter().map(|unit| unit.pts).collect();
    times.sort_unstable();
    let (first, last) = (*times.first()?, *times.last()?);
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    let typical = gaps.get(gaps.len() / 2).copied().or(last_duration).filter(|gap| !gap.is_zero());
    for unit in units {
        unit.pts -= first;
    }
    Some(last - first + typical.unwrap_or(Duration::from_millis(40)))
}
