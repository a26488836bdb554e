//! Ways to get one picture out for one access unit in, and what each costs.
//!
//! ```sh
//! cargo run --release -p decode --example drain -- CLIP.mp4
//! ```
//!
//! The key pictures of an H.264 clip go through `appsrc ! [h264parse !] avdec_h264 ! appsink` one by one; the next goes
//! in when the one before has come out, or is given up (after 100 ms where nothing makes it come).

#![allow(clippy::disallowed_macros, reason = "an example prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use flow::Codec;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video as gst_video;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Nothing,
    SegmentDone,
    ParserAndSegmentDone,
    Flush,
    NewPipeline,
}

fn main() -> Result<()> {
    let clip = std::env::args().nth(1).ok_or("name a clip")?;
    let codec = if clip.contains("hevc") { Codec::H265 } else { Codec::H264 };
    let mut pictures: Vec<_> =
        support::read_file(codec, Path::new(&clip)).into_iter().filter(|c| c.key).collect();
    while pictures.len() < 100 {
        pictures.extend(pictures.clone());
    }
    let (parser, decoder) = match codec {
        Codec::H264 => ("h264parse", "avdec_h264"),
        Codec::H265 => ("h265parse", "avdec_h265"),
        Codec::Mjpeg => ("jpegparse", "avdec_mjpeg"),
    };
    println!("{:24} {:>8} {:>10} {:>16}", "way", "in", "out", "CPU ms / picture");
    for way in [Way::Nothing, Way::SegmentDone, Way::ParserAndSegmentDone, Way::Flush, Way::NewPipeline] {
        let between = if way == Way::ParserAndSegmentDone { format!("{parser} !") } else { String::new() };
        let kind = decoder.trim_start_matches("avdec_");
        let text = format!(
            "appsrc name=in format=time caps=video/x-{kind},stream-format=byte-stream,alignment=au ! {between} \
             {decoder} max-threads=1 qos=false ! appsink name=out sync=false async=false enable-last-sample=false"
        );
        let mut line = Line::new(&text)?;
        let before = cpu()?;
        let mut out = 0;
        let sure = !matches!(way, Way::Nothing | Way::Flush);
        let patience = Duration::from_millis(if sure { 5000 } else { 100 });
        for (number, picture) in pictures.iter().enumerate() {
            if way == Way::NewPipeline {
                line = Line::new(&text)?;
            }
            let mut buffer = gst::Buffer::from_slice(picture.data.clone());
            buffer.get_mut().ok_or("shared")?.set_pts(gst::ClockTime::from_mseconds(number as u64));
            line.input.push_buffer(buffer)?;
            match way {
                Way::Nothing => {}
                Way::Flush => {
                    // A flush alone would throw away what it should bring out.
                    line.take(patience).inspect(|_| out += 1);
                    line.input.send_event(gst::event::FlushStart::new());
                    line.input.send_event(gst::event::FlushStop::new(true));
                    continue;
                }
                Way::SegmentDone | Way::ParserAndSegmentDone => {
                    line.input.send_event(gst::event::SegmentDone::new(gst::ClockTime::ZERO));
                }
                Way::NewPipeline => {
                    line.input.end_of_stream()?;
                }
            }
            line.take(patience).inspect(|_| out += 1);
        }
        let spent = (cpu()? - before) * 1000.0 / pictures.len() as f64;
        println!("{:24} {:8} {:10} {:16.2}", format!("{way:?}"), pictures.len(), out, spent);
    }
    Ok(())
}

struct Line {
    pipeline: gst::Pipeline,
    input: AppSrc,
    output: AppSink,
}

impl Line {
    fn new(text: &str) -> Result<Self> {
        let pipeline = gst::parse::launch(text)?.downcast::<gst::Pipeline>().map_err(|_| "no pipeline")?;
        let input = pipeline.by_name("in").and_then(|e| e.downcast::<AppSrc>().ok()).ok_or("no appsrc")?;
        let output =
            pipeline.by_name("out").and_then(|e| e.downcast::<AppSink>().ok()).ok_or("no appsink")?;
        let pad = output.static_pad("sink").ok_or("no pad")?;
        pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
            match info.query_mut().map(gst::QueryRef::view_mut) {
                Some(gst::QueryViewMut::Allocation(query)) => {
                    query.add_allocation_meta::<gst_video::VideoMeta>(None);
                    gst::PadProbeReturn::Handled
                }
                _ => gst::PadProbeReturn::Ok,
            }
        });
        pipeline.set_state(gst::State::Playing)?;
        Ok(Self { pipeline, input, output })
    }

    fn take(&self, patience: Duration) -> Option<gst::Sample> {
        let until = Instant::now() + patience;
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            let left = gst::ClockTime::from_nseconds(left.as_nanos() as u64);
            if let Some(sample) = self.output.try_pull_sample(left) {
                return Some(sample);
            }
            if self.output.is_eos() {
                return None;
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// CPU seconds of this process (proc(5), fields 14 and 15, ticks of 10 ms).
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').ok_or("no name")?.1;
    let ticks: f64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>)
        .sum::<std::result::Result<f64, _>>()?;
    Ok(ticks / 100.0)
}
