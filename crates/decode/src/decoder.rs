//! One GStreamer decoder: `appsrc ! avdec_… ! appsink`, or `appsrc ! …parse ! a hardware decoder ! appsink`, fed and read
//! by one worker thread.
//!
//! The worker pushes one access unit and waits until the streaming thread says that it is done with it. Two
//! markers say so. A SEGMENT-DONE event behind the access unit makes the decoder put out all that it holds
//! and reset (`GstVideoDecoder` drains), and arrives at the sink after the last picture: that is how a picture that
//! stands alone comes out at once and leaves no trace; the decoder itself stays open. In a chained stream, `appsrc` asking for more data says
//! that the access unit before has been consumed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use flow::{Codec, Pixels};
use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks, AppSrc, AppSrcCallbacks};
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use crate::device::Means;
use crate::picture::Converter;
use crate::trouble;
use crate::{DecodeError, Fault};

/// How long one access unit may take. Pictures take milliseconds; only a decoder that hangs takes this long.
const DEADLINE: Duration = Duration::from_secs(10);

/// Whether pictures lean on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each by itself.
    Alone,
    /// A stream.
    Chained,
}

/// What came out while one access unit was worked on.
#[derive(Default)]
pub(crate) struct Step {
    /// Number of the access unit that each belongs to, and the picture or why it cannot be used.
    pub(crate) pictures: Vec<(u64, Result<Pixels, String>)>,
    /// Parts of the access unit were guessed: what libavcodec said.
    pub(crate) damage: Option<String>,
    /// The first error that libavcodec reported.
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Consumed(u64),
    Drained(u64),
}

enum Report {
    Done(Marker, Step),
    Failed(String),
}

/// One decoder. Dropping it stops its streaming thread.
pub(crate) struct Decoder {
    codec: Codec,
    /// Its name, for messages.
    element: &'static str,
    mode: Mode,
    pipeline: gst::Pipeline,
    input: AppSrc,
    reports: Receiver<Report>,
    /// Says that a reference timestamp is our number.
    tag: gst::Caps,
    next: u64,
    deadline: Duration,
}

/// What it is fed with.
fn caps(codec: Codec) -> gst::Caps {
    let byte_stream = |media: &str| {
        gst::Caps::builder(media).field("stream-format", "byte-stream").field("alignment", "au").build()
    };
    match codec {
        Codec::H264 => byte_stream("video/x-h264"),
        Codec::H265 => byte_stream("video/x-h265"),
        // Parsed: each buffer is one whole picture.
        Codec::Mjpeg => gst::Caps::builder("image/jpeg").field("parsed", true).build(),
    }
}

fn make(element: &'static str, package: &'static str) -> Result<gst::Element, DecodeError> {
    gst::ElementFactory::make(element).build().map_err(|_| DecodeError::Missing { element, package })
}

impl Decoder {
    /// Builds and starts it.
    pub(crate) fn new(means: &Means, codec: Codec, mode: Mode) -> Result<Self, DecodeError> {
        let backend = means.backend;
        let input = AppSrc::builder().caps(&caps(codec)).format(gst::Format::Time).max_bytes(0).build();
        let element = backend.element(codec);
        let decoder = make(element, backend.package(codec))?;
        let parser = backend.parser(codec).map(|parser| make(parser, backend.package(codec))).transpose()?;
        trouble::listen();
        // The decoder of JPEG has one thread in any case, and no such property.
        if decoder.has_property("max-threads") {
            decoder.set_property("max-threads", 1i32);
        }
        decoder.set_property("qos", false);
        means.prepare(&decoder);
        // Where a stream does not state its reordering, `strict` assumes the most: each picture comes out, but in
        // a chained stream up to 16 pictures late. `normal` guesses, and loses pictures where it guesses wrong.
        if decoder.has_property("std-compliance") {
            decoder.set_property_from_str("std-compliance", "strict");
        }
        let raw = means.caps();
        let sink =
            AppSink::builder().caps(&raw).sync(false).async_(false).enable_last_sample(false).qos(false);
        let sink = sink.build();
        let pipeline = gst::Pipeline::new();
        means.share_with(&pipeline);
        let failed = |what: &str| DecodeError::Init(format!("cannot {what} a {codec} decoder"));
        let after = means.after()?;
        let chain = [
            Some(input.upcast_ref()),
            parser.as_ref(),
            Some(&decoder),
            after.as_ref(),
            Some(sink.upcast_ref()),
        ];
        let chain: Vec<&gst::Element> = chain.into_iter().flatten().collect();
        let linked = pipeline.add_many(&chain).and_then(|()| gst::Element::link_many(&chain));
        linked.map_err(|_| failed("link"))?;

        // At most one report per access unit and one per drain is unread at any time; errors may add a few.
        let (send, reports) = bounded(8);
        let shared = Arc::new(Shared { codec, send, step: Mutex::default() });
        watch(mode, &pipeline, &input, &sink, means, &shared);
        pipeline.set_state(gst::State::Playing).map_err(|_| failed("start"))?;
        Ok(Self { codec, element, mode, pipeline, input, reports, tag: tag(), next: 1, deadline: DEADLINE })
    }

    /// Decodes one access unit; returns its number in this decoder and what came out. After an error the decoder
    /// must be dropped.
    pub(crate) fn decode(&mut self, data: Bytes) -> Result<(u64, Step), Fault> {
        let number = self.next;
        self.next += 1;
        let mut buffer = gst::Buffer::from_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(time(number));
            gst::ReferenceTimestampMeta::add(buffer, &self.tag, time(number), None);
        }
        self.input.push_buffer(buffer).map_err(|e| self.failure(format!("input refused: {e}")))?;
        if self.mode == Mode::Alone {
            self.push_end(number)?;
            Ok((number, self.wait(Marker::Drained(number))?))
        } else {
            Ok((number, self.wait(Marker::Consumed(number))?))
        }
    }

    /// Puts out all that the decoder holds back and forgets the references.
    pub(crate) fn drain(&mut self) -> Result<Step, Fault> {
        let number = self.next;
        self.next += 1;
        self.push_end(number)?;
        self.wait(Marker::Drained(number))
    }

    fn push_end(&self, number: u64) -> Result<(), Fault> {
        if self.input.send_event(gst::event::SegmentDone::new(time(number))) {
            Ok(())
        } else {
            Err(self.failure("event refused".to_owned()))
        }
    }

    fn wait(&self, wanted: Marker) -> Result<Step, Fault> {
        let until = Instant::now() + self.deadline;
        let mut all = Step::default();
        loop {
            match self.reports.recv_deadline(until) {
                Ok(Report::Done(marker, step)) => {
                    all.pictures.extend(step.pictures);
                    all.damage = all.damage.or(step.damage);
                    all.error = all.error.or(step.error);
                    if marker == wanted {
                        return Ok(all);
                    }
                }
                Ok(Report::Failed(why)) => return Err(self.failure(why)),
                Err(RecvTimeoutError::Timeout) => return Err(Fault::Deadline(self.deadline)),
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure("it stopped".to_owned())),
            }
        }
    }

    fn failure(&self, why: String) -> Fault {
        Fault::Failed(format!("{}: {why}", self.element))
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
        if self.pipeline.set_state(gst::State::Null).is_err() {
            tracing::warn!(codec = %self.codec, "a decoder does not stop");
        }
    }
}

/// An access unit's number travels with it as a reference timestamp, which `GstVideoDecoder` copies to the picture.
/// The presentation time would not do: it must not decrease from picture to picture (the decoder changes it then),
/// and pictures do not come out in the order of their access units.
fn tag() -> gst::Caps {
    gst::Caps::new_empty_simple("timestamp/x-access-unit")
}

fn number_of(buffer: &gst::BufferRef) -> Option<u64> {
    buffer.meta::<gst::ReferenceTimestampMeta>().map(|meta| meta.timestamp().mseconds())
}

/// A number as a time: 1 ms apart, so that nothing rounds.
fn time(number: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(number)
}

/// What the streaming thread writes to.
struct Shared {
    codec: Codec,
    send: Sender<Report>,
    step: Mutex<Step>,
}

impl Shared {
    /// On the streaming thread: hands over what came out up to here.
    fn done(&self, marker: Marker) {
        let mut step = std::mem::take(&mut *self.step.lock().unwrap_or_else(PoisonError::into_inner));
        let trouble = trouble::take();
        let damaged = match self.codec {
            Codec::H264 => trouble.concealed,
            // There is no concealment: an error inside a slice or scan leaves the rest of it as it was.
            Codec::H265 | Codec::Mjpeg => trouble.error.is_some(),
        };
        if damaged {
            step.damage = Some(trouble.error.clone().unwrap_or_else(|| "error concealment".to_owned()));
        }
        step.error = trouble.error;
        self.report(Report::Done(marker, step));
    }

    fn report(&self, report: Report) {
        match self.send.try_send(report) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => tracing::error!("a decoder's report was lost"),
        }
    }

    fn picture(&self, number: u64, picture: Result<Pixels, String>) {
        self.step.lock().unwrap_or_else(PoisonError::into_inner).pictures.push((number, picture));
    }
}

/// Installs what the streaming thread calls.
fn watch(
    mode: Mode,
    pipeline: &gst::Pipeline,
    input: &AppSrc,
    sink: &AppSink,
    means: &Means,
    shared: &Arc<Shared>,
) {
    if mode == Mode::Chained {
        watch_consumed(input, shared);
    }
    let pad = sink.static_pad("sink").expect("a sink has one pad of this name");

    let at_end = shared.clone();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| match info.event().map(|e| e.view()) {
        Some(gst::EventView::SegmentDone(end)) => {
            if let gst::GenericFormattedValue::Time(Some(time)) = end.get() {
                at_end.done(Marker::Drained(time.mseconds()));
            }
            gst::PadProbeReturn::Handled
        }
        _ => gst::PadProbeReturn::Ok,
    });

    // Says that strides and offsets are understood, without which every picture would be copied (`avdec` then
    // decodes straight into the buffers that go out).
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        match info.query_mut().map(gst::QueryRef::view_mut) {
            Some(gst::QueryViewMut::Allocation(query)) => {
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                gst::PadProbeReturn::Handled
            }
            _ => gst::PadProbeReturn::Ok,
        }
    });

    let at_sample = shared.clone();
    let mut converter = Converter::new(shared.codec, means.accelerator.clone());
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                if let (Some(caps), Some(buffer)) = (sample.caps(), sample.buffer_owned()) {
                    // 0 belongs to no access unit.
                    let number = number_of(&buffer).unwrap_or(0);
                    at_sample.picture(number, converter.picture(caps, buffer));
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );

    let at_error = shared.clone();
    pipeline.bus().expect("a pipeline has a bus").set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            at_error.report(Report::Failed(error.error().to_string()));
        }
        // Nobody reads the bus: nothing may pile up there.
        gst::BusSyncReply::Drop
    });
}

/// `need-data` comes whenever appsrc has run dry, also by a spurious wake-up, so it counts only with a new buffer
/// before it.
fn watch_consumed(input: &AppSrc, shared: &Arc<Shared>) {
    let seen = Arc::new(AtomicU64::new(0));
    let pad = input.static_pad("src").expect("a source has one pad of this name");
    let at_buffer = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(number) = info.buffer().and_then(|buffer| number_of(buffer)) {
            at_buffer.store(number, Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
    let at_need = shared.clone();
    let mut reported = 0;
    input.set_callbacks(
        AppSrcCallbacks::builder()
            .need_data(move |_, _| {
                let number = seen.load(Ordering::Relaxed);
                if number > reported {
                    reported = number;
                    at_need.done(Marker::Consumed(number));
                }
            })
            .build(),
    );
}

/// Faults for tests.
#[cfg(test)]
impl Decoder {
    /// As if an element had failed.
    pub(crate) fn break_down(&self) {
        gst::element_error!(self.input, gst::StreamError::Decode, ["a test"]);
    }

    /// As if decoding did not end.
    pub(crate) fn hang(&mut self) {
        self.deadline = Duration::from_millis(100);
        let pad = self.input.static_pad("src").expect("a source has one pad of this name");
        pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| gst::PadProbeReturn::Ok);
    }
}
