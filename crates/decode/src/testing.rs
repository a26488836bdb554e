//! For unit tests.

use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;

/// One grey key picture of 64x48, H.264.
pub(crate) fn coded() -> Bytes {
    gst::init().unwrap();
    let text = "videotestsrc num-buffers=1 pattern=solid-color ! video/x-raw,format=I420,width=64,height=48 ! \
                x264enc ! video/x-h264,stream-format=byte-stream ! appsink name=out sync=false";
    let pipeline = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = out.pull_sample().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    Bytes::copy_from_slice(&sample.buffer().unwrap().map_readable().unwrap())
}
