//! For unit tests.

use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;

/// One grey key picture of 64x48, H.264.
pub(crate) fn coded() -> Bytes {
    coded_as("solid-color", (64, 48))
}

/// One key picture of this pattern of `videotestsrc`, H.264.
pub(crate) fn coded_as(pattern: &str, (width, height): (u32, u32)) -> Bytes {
    gst::init().unwrap();
    let text = format!(
        "videotestsrc num-buffers=1 pattern={pattern} ! video/x-raw,format=I420,width={width},height={height} ! \
         x264enc ! video/x-h264,stream-format=byte-stream ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = out.pull_sample().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    Bytes::copy_from_slice(&sample.buffer().unwrap().map_readable().unwrap())
}
