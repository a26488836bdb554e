//! Sessions through GStreamer's `rtspsrc`: TLS (`rtsps://`), and cameras that the others do not understand or that refuse
//! the transport that was asked for.
//!
//! Only its RTP is taken (`rtspsrc ! appsink`), put in order by its jitter buffer; pictures are put together as for
//! everyone else. It is for the few: each session has threads of its own, four over TCP and seven over UDP (GStreamer 1.22).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet::{Camera, Certificate};
use flow::{Codec, Timestamp};
use gst::glib;
use gst::prelude::*;
use gst_app::{AppSink, AppSinkCallbacks};
use gstreamer as gst;
use gstreamer_app as gst_app;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Event, Video, choose_video};
use crate::error::{SessionError, Step};
use crate::lean::rtp::{self, Follower, Place};
use crate::picture::{Arrival, Packet};
use crate::sdp;
use crate::session::{Context, End, or_cancelled};

/// Packets that wait for us at most: a large key picture has some hundred. What comes beyond is lost, and counted so.
const QUEUE: usize = 4096;
/// Packets that are handed on in one turn.
const TURN: usize = 256;
/// How long its jitter buffer waits for a packet that is missing.
const JITTER_MS: u32 = 200;

/// Sessions of this kind at the same time, all cameras together: they cost threads.
const MAX_SESSIONS: usize = 64;
static SESSIONS: Semaphore = Semaphore::const_new(MAX_SESSIONS);

/// What went wrong, as far as GStreamer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is not installed.
    Missing,
    NotAuthorized,
    /// Nobody listens, or the certificate is not trusted.
    NoConnection,
    /// The camera has no such stream.
    NotFound,
    /// The camera refuses every transport.
    Transport,
    /// There are as many such sessions as there may be.
    Full,
    Other,
}

/// Of `rtspsrc`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub kind: Kind,
    pub text: String,
}

/// A session that plays. Dropping it ends it.
pub(crate) struct Playing {
    pipeline: Stopping,
    packets: Receiver<Received>,
    shared: Arc<Shared>,
    next: Option<Received>,
    follower: Follower,
    _permit: SemaphorePermit<'static>,
}

/// A packet, header and all.
struct Received {
    arrival: Arrival,
    data: gst::MappedBuffer<gst::buffer::Readable>,
}

/// What GStreamer's threads write to.
struct Shared {
    /// Taken away when the session is over, so that the receiver notices.
    send: Mutex<Option<Sender<Received>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// (media, encoding) of all that is offered.
    offers: Vec<(String, String)>,
    /// Which of them.
    chosen: Option<u32>,
    /// Of the RTP.
    caps: Option<gst::Caps>,
    failure: Option<Failure>,
}

/// Stops the pipeline in the background: that waits for the camera's answer and for threads.
struct Stopping(gst::Pipeline);

impl Drop for Stopping {
    fn drop(&mut self) {
        let pipeline = self.0.clone();
        if let Some(bus) = pipeline.bus() {
            bus.unset_sync_handler();
        }
        let stop = move || _ = pipeline.set_state(gst::State::Null);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => _ = runtime.spawn_blocking(stop),
            Err(_) => stop(),
        }
    }
}

/// DESCRIBE, SETUP, PLAY, and the first packet.
pub(crate) async fn open(context: &Context<'_>) -> Result<(Video, Playing), End> {
    let Context { camera, policy, .. } = *context;
    let limit = policy.describe + policy.setup + policy.play + policy.first_picture;
    let mut playing = start(camera, limit).map_err(SessionError::Rtspsrc)?;
    let first = tokio::time::timeout(limit, playing.packets.recv());
    let first = or_cancelled(context.cancel, first).await?;
    let shared = Arc::clone(&playing.shared);
    let mut state = lock(&shared.state);
    if let Some(failure) = &mut state.failure
        && failure.kind == Kind::NoConnection
        && camera.url.scheme() == "rtsps"
        && camera.certificate == Certificate::Checked
    {
        // GStreamer does not say which of the two it was.
        failure.text.push_str(": nobody listens, or nobody vouches for its certificate (see `certificate`)");
    }
    match first {
        Ok(Some(first)) => playing.next = Some(first),
        Ok(None) => return Err(state.why().into()),
        Err(_) if state.chosen.is_some() => {
            let udp = camera.transport == fleet::Transport::Udp;
            return Err(SessionError::NoPicture { limit, udp }.into());
        }
        Err(_) => return Err(SessionError::Silent { step: Step::Describe, limit }.into()),
    }
    let video = video(state.caps.as_deref())?;
    drop(state);
    Ok((video, playing))
}

impl Playing {
    pub(crate) async fn ready(&mut self) -> Result<(), SessionError> {
        if self.next.is_none() {
            self.next = self.packets.recv().await;
        }
        match self.next {
            Some(_) => Ok(()),
            None => Err(lock(&self.shared.state).why()),
        }
    }

    pub(crate) fn take(
        &mut self,
        to: &mut impl FnMut(Event<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        for _ in 0..TURN {
            let Some(packet) = self.next.take().or_else(|| self.packets.try_recv().ok()) else { break };
            let Some(header) = rtp::parse(&packet.data) else { continue };
            let Place::Next { lost, ticks } = self.follower.follow(&header) else { continue };
            let (mark, payload, arrival) = (header.mark, header.payload, packet.arrival);
            to(Event::Packet(Packet { ticks, mark, lost, arrival, payload }))?;
        }
        Ok(())
    }

    /// TEARDOWN, as far as the camera still listens.
    pub(crate) async fn close(self, limit: Duration) {
        let pipeline = self.pipeline.0.clone();
        let stop = tokio::task::spawn_blocking(move || _ = pipeline.set_state(gst::State::Null));
        _ = tokio::time::timeout(limit, stop).await;
    }
}

impl State {
    fn why(&self) -> SessionError {
        match (&self.failure, self.chosen) {
            // It has none to activate, and says so in its own words.
            (_, None) if !self.offers.is_empty() => {
                let offers = self.offers.iter().map(|(media, encoding)| (media.as_str(), encoding.as_str()));
                match choose_video(offers) {
                    Err(error) => error,
                    Ok(_) => SessionError::Closed,
                }
            }
            (Some(failure), _) => SessionError::Rtspsrc(failure.clone()),
            (None, _) => SessionError::Closed,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make(element: &'static str, package: &str) -> Result<gst::Element, Failure> {
    gst::ElementFactory::make(element).build().map_err(|_| Failure {
        kind: Kind::Missing,
        text: format!("GStreamer element `{element}` is missing: install {package}"),
    })
}

/// Builds the pipeline and starts it; what becomes of it is heard through the receiver. `patience`: of one request.
fn start(camera: &Camera, patience: Duration) -> Result<Playing, Failure> {
    let failed = |text: String| Failure { kind: Kind::Other, text };
    let permit = SESSIONS.try_acquire().map_err(|_| Failure {
        kind: Kind::Full,
        text: format!("is for GStreamer's rtspsrc, and all {MAX_SESSIONS} of those are in use"),
    })?;
    gst::init().map_err(|error| failed(format!("GStreamer does not start: {error}")))?;
    let source = make("rtspsrc", "gstreamer1.0-plugins-good")?;
    configure(&source, camera, patience);
    let sink = AppSink::builder().sync(false).async_(false).enable_last_sample(false).build();
    let pipeline = Stopping(gst::Pipeline::new());
    pipeline.0.add_many([&source, sink.upcast_ref()]).map_err(|error| failed(error.to_string()))?;

    let (send, packets) = channel(QUEUE);
    let shared = Arc::new(Shared { send: Mutex::new(Some(send)), state: Mutex::default() });
    watch(&pipeline.0, &source, &sink, &shared);
    if pipeline.0.set_state(gst::State::Playing).is_err() {
        let failure = lock(&shared.state).failure.take();
        return Err(failure.unwrap_or_else(|| failed("rtspsrc does not start".to_owned())));
    }
    Ok(Playing { pipeline, packets, shared, next: None, follower: Follower::default(), _permit: permit })
}

fn configure(source: &gst::Element, camera: &Camera, patience: Duration) {
    source.set_property("location", camera.url.as_str());
    if let Some(login) = &camera.credentials {
        source.set_property("user-id", &login.user);
        source.set_property("user-pw", login.password.reveal());
    }
    source.set_property("user-agent", "huiyan");
    source.set_property("latency", JITTER_MS);
    source.set_property("tcp-timeout", u64::try_from(patience.as_micros()).unwrap_or(u64::MAX));
    // The pictures of a camera that is asked for TLS do not travel in the open.
    if camera.url.scheme() == "rtsps" {
        source.set_property_from_str("protocols", "tcp");
    }
    if camera.certificate == Certificate::Any
        && let Some(property) = source.find_property("tls-validation-flags")
        && let Some(none) =
            glib::FlagsClass::with_type(property.value_type()).and_then(|c| c.builder().build())
    {
        source.set_property_from_value("tls-validation-flags", &none);
    }
}

/// Installs what GStreamer's threads call.
fn watch(pipeline: &gst::Pipeline, source: &gst::Element, sink: &AppSink, shared: &Arc<Shared>) {
    let at_offer = Arc::clone(shared);
    source.connect("select-stream", false, move |values| {
        let number = values.get(1).and_then(|v| v.get::<u32>().ok()).unwrap_or(u32::MAX);
        let caps = values.get(2).and_then(|v| v.get::<gst::Caps>().ok());
        let wanted = caps.is_some_and(|caps| lock(&at_offer.state).offered(number, &caps));
        Some(wanted.to_value())
    });
    let target = sink.static_pad("sink");
    source.connect_pad_added(move |_, pad| {
        if let Some(target) = &target
            && !target.is_linked()
            && pad.link(target).is_err()
        {
            tracing::debug!(pad = %pad.name(), "not linked");
        }
    });
    let at_sample = Arc::clone(shared);
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                at_sample.sample(&sample);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    let at_message = Arc::clone(shared);
    if let Some(bus) = pipeline.bus() {
        bus.set_sync_handler(move |_, message| {
            match message.view() {
                gst::MessageView::Error(error) => at_message.over(Some(failure(error))),
                gst::MessageView::Eos(_) => at_message.over(None),
                _ => {}
            }
            // Nobody reads the bus: nothing may pile up there.
            gst::BusSyncReply::Drop
        });
    }
}

impl State {
    /// One of the streams that the camera offers; whether it is the one that is taken.
    fn offered(&mut self, number: u32, caps: &gst::Caps) -> bool {
        /// More than any camera has.
        const MAX_OFFERS: usize = 32;
        let Some(offer) = caps.structure(0) else { return false };
        let field = |name| offer.get::<String>(name).unwrap_or_default().to_ascii_lowercase();
        let (media, encoding) = (field("media"), field("encoding-name"));
        let is_video = choose_video([(media.as_str(), encoding.as_str())].into_iter()).is_ok();
        if self.offers.len() < MAX_OFFERS {
            self.offers.push((media, encoding));
        }
        is_video && *self.chosen.get_or_insert(number) == number
    }
}

impl Shared {
    fn sample(&self, sample: &gst::Sample) {
        let arrival = Arrival { wall: Timestamp::now(), at: Instant::now() };
        if let Some(caps) = sample.caps() {
            let mut state = lock(&self.state);
            if state.caps.is_none() {
                state.caps = Some(caps.to_owned());
            }
        }
        let Some(data) = sample.buffer_owned().and_then(|b| b.into_mapped_buffer_readable().ok()) else {
            return;
        };
        if let Some(send) = &*lock(&self.send) {
            // Where there is no room the packet is lost, and its number is missing.
            _ = send.try_send(Received { arrival, data });
        }
    }

    fn over(&self, failure: Option<Failure>) {
        let mut state = lock(&self.state);
        state.failure = state.failure.take().or(failure);
        drop(state);
        lock(&self.send).take();
    }
}

/// GStreamer's words, without its source files.
fn failure(error: &gst::message::Error) -> Failure {
    let problem = error.error();
    let kind = match problem.kind::<gst::ResourceError>() {
        Some(gst::ResourceError::NotAuthorized) => Kind::NotAuthorized,
        Some(gst::ResourceError::NotFound) => Kind::NotFound,
        Some(
            gst::ResourceError::OpenRead | gst::ResourceError::OpenReadWrite | gst::ResourceError::OpenWrite,
        ) => Kind::NoConnection,
        _ => Kind::Other,
    };
    let debug = error.debug().unwrap_or_default();
    let detail = debug.lines().skip(1).last().map(str::trim).filter(|line| !line.is_empty());
    let text = problem.message().to_owned();
    let refused =
        |words: &str| words.contains("(461)") || words.to_lowercase().contains("unsupported transport");
    let kind = if refused(&text) || detail.is_some_and(refused) { Kind::Transport } else { kind };
    Failure { kind, text: detail.map_or_else(|| text.clone(), |detail| format!("{text}: {detail}")) }
}

/// What the caps of the RTP say; GStreamer puts the settings of the SDP's `fmtp` there one by one.
fn video(caps: Option<&gst::CapsRef>) -> Result<Video, SessionError> {
    let described = caps.and_then(|caps| caps.structure(0)).ok_or(SessionError::Closed)?;
    let text = |name: &str| described.get::<String>(name).ok();
    let codec = match text("encoding-name").unwrap_or_default().to_ascii_lowercase().as_str() {
        "h264" => Codec::H264,
        "h265" => Codec::H265,
        "jpeg" => Codec::Mjpeg,
        other => return Err(SessionError::NoVideo { offers: format!("video/{other}") }),
    };
    let clock_rate = described.get::<i32>("clock-rate").ok().and_then(|rate| u32::try_from(rate).ok());
    let clock_rate = clock_rate.filter(|rate| *rate > 0).ok_or(SessionError::ClockRate)?;
    let payload = described.get::<i32>("payload").ok().and_then(|n| u8::try_from(n).ok()).unwrap_or(96);
    let mut description = format!("a=fmtp:{payload} ");
    for name in ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps", "sprop-max-don-diff"] {
        if let Some(value) = text(name) {
            description.push_str(&format!("{name}={value};"));
        }
    }
    for (name, attribute) in
        [("x-dimensions", "a=x-dimensions:".to_owned()), ("a-framesize", format!("a=framesize:{payload} "))]
    {
        if let Some(value) = text(name) {
            description.push_str(&format!("\r\n{attribute}{value}"));
        }
    }
    let description = description.into_bytes().into_boxed_slice();
    Ok(Video {
        codec,
        clock_rate,
        parameter_sets: sdp::parameter_sets(&description, payload),
        format: sdp::format(&description, payload),
        description,
        session_timeout: None,
    })
}
