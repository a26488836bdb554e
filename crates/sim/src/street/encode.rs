//! Pictures → H.264 or H.265, through GStreamer.

use std::time::Duration;

use bytes::Bytes;
use flow::Codec;
use gstreamer::prelude::*;
use gstreamer::{self as gst, ClockTime};
use gstreamer_app::{AppSink, AppSrc};

use super::studio::{Picture, SizeError};
use super::timeline::Timeline;
use crate::{Clip, ClipUnit};

/// An encoder that gives nothing for so long is given up.
const STALL: ClockTime = ClockTime::from_seconds(20);

/// A street that could not be coded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The pictures' size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// GStreamer lacks an element or refuses the pipeline.
    #[error(
        "cannot set up the {codec} encoder: {reason}; are the GStreamer plug-ins good, bad and ugly installed?"
    )]
    Setup {
        /// Which codec.
        codec: Codec,
        /// What GStreamer says.
        reason: String,
    },
    /// The encoder stopped at a picture.
    #[error("the {codec} encoder stopped at picture {picture}: {reason}")]
    Stopped {
        /// Which codec.
        codec: Codec,
        /// Number of the picture.
        picture: u32,
        /// What GStreamer says.
        reason: String,
    },
}

/// A running encoder.
pub struct Encoder {
    codec: Codec,
    size: (u32, u32),
    frame: Duration,
    frames: u32,
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: AppSink,
    units: Vec<ClipUnit>,
    pushed: u32,
}

fn description(timeline: &Timeline, codec: Codec) -> String {
    let (w, h) = timeline.size;
    let (fps, key) = (timeline.fps, timeline.key_frames());
    // One thread each, so that the same pictures give the same bytes.
    let coder = match codec {
        Codec::H264 => format!(
            "x264enc tune=zerolatency speed-preset=superfast bframes=0 key-int-max={key} pass=qual quantizer=27 \
             threads=1 option-string=\"scenecut=0:min-keyint={key}\" ! h264parse config-interval=-1 \
             ! video/x-h264,stream-format=byte-stream,alignment=au"
        ),
        Codec::H265 => format!(
            "x265enc tune=zerolatency speed-preset=ultrafast key-int-max={key} \
             option-string=\"crf=28:scenecut=0:min-keyint={key}:bframes=0:open-gop=0:pools=none:frame-threads=1:repeat-headers=1\" \
             ! h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au"
        ),
        Codec::Mjpeg => "jpegenc quality=75 ! jpegparse".to_owned(),
    };
    format!(
        "appsrc name=source format=time block=true max-buffers=4 \
         caps=video/x-raw,format=RGB,width={w},height={h},framerate={fps}/1 \
         ! videoconvert ! video/x-raw,format=I420,colorimetry=bt601 ! {coder} \
         ! appsink name=sink sync=false max-buffers=64"
    )
}

impl Encoder {
    /// Starts an encoder for a timeline's pictures.
    pub fn start(timeline: &Timeline, codec: Codec) -> Result<Self, EncodeError> {
        let setup = |reason: String| EncodeError::Setup { codec, reason };
        gst::init().map_err(|e| setup(e.to_string()))?;
        let pipeline = gst::parse::launch(&description(timeline, codec)).map_err(|e| setup(e.to_string()))?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| setup("no pipeline".into()))?;
        let named = |name: &str| pipeline.by_name(name).ok_or_else(|| setup(format!("no element {name}")));
        let source = named("source")?.downcast::<AppSrc>().map_err(|_| setup("no appsrc".into()))?;
        let sink = named("sink")?.downcast::<AppSink>().map_err(|_| setup("no appsink".into()))?;
        let encoder = Self {
            codec,
            size: timeline.size,
            frame: Duration::from_secs(1) / timeline.fps,
            frames: timeline.frames(),
            pipeline,
            source,
            sink,
            units: Vec::with_capacity(timeline.frames() as usize),
            pushed: 0,
        };
        encoder.pipeline.set_state(gst::State::Playing).map_err(|e| setup(e.to_string()))?;
        Ok(encoder)
    }

    /// Codes a picture; they come in order.
    pub fn push(&mut self, number: u32, picture: Picture) -> Result<(), EncodeError> {
        self.pushed = number;
        let mut buffer = gst::Buffer::from_mut_slice(rows_of_four(picture));
        let frame = ClockTime::from_nseconds(self.frame.as_nanos() as u64);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(frame * u64::from(number));
            buffer.set_duration(frame);
        }
        self.source.push_buffer(buffer).map_err(|e| self.stopped(e.to_string()))?;
        while let Some(sample) = self.sink.try_pull_sample(ClockTime::ZERO) {
            self.keep(&sample)?;
        }
        Ok(())
    }

    /// The clip, once all pictures are in.
    pub fn finish(mut self) -> Result<Clip, EncodeError> {
        self.source.end_of_stream().map_err(|e| self.stopped(e.to_string()))?;
        while let Some(sample) = self.sink.try_pull_sample(STALL) {
            self.keep(&sample)?;
        }
        if self.units.len() != self.frames as usize {
            return Err(self.stopped(format!("{} of {} pictures came out", self.units.len(), self.frames)));
        }
        Ok(Clip {
            codec: self.codec,
            width: self.size.0,
            height: self.size.1,
            units: std::mem::take(&mut self.units),
            duration: self.frame * self.frames,
        })
    }

    fn keep(&mut self, sample: &gst::Sample) -> Result<(), EncodeError> {
        let buffer = sample.buffer().ok_or_else(|| self.stopped("a sample without a buffer".into()))?;
        let map = buffer.map_readable().map_err(|e| self.stopped(e.to_string()))?;
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        // Encoders shift their time stamps; without B pictures the order is that of the pictures.
        let pts = self.frame * self.units.len() as u32;
        self.units.push(ClipUnit { data: Bytes::copy_from_slice(&map), key, pts });
        Ok(())
    }

    /// An error, with what the pipeline says if it says anything.
    fn stopped(&self, reason: String) -> EncodeError {
        let message = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        let reason = match message.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Error(error)) => error.error().to_string(),
            _ => reason,
        };
        EncodeError::Stopped { codec: self.codec, picture: self.pushed, reason }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Ends the encoder's threads; there is nobody left to tell if it fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// GStreamer's RGB rows begin at multiples of four bytes.
fn rows_of_four(picture: Picture) -> Vec<u8> {
    let row = picture.width as usize * 3;
    let stride = row.next_multiple_of(4);
    if stride == row {
        return picture.rgb;
    }
    let mut out = Vec::with_capacity(stride * picture.height as usize);
    for line in picture.rgb.chunks_exact(row) {
        out.extend_from_slice(line);
        out.resize(out.len() + stride - row, 0);
    }
    out
}
