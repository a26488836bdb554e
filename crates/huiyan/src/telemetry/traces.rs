//! Every event's way from the camera to the broker, as OpenTelemetry spans.
//!
//! A situation is one trace, with the id that its messages carry (`traceparent`, W3C Trace Context); each of its
//! messages is a span from the picture's arrival to the broker's PUBACK, and in it the stages, one after the other:
//! where each second of the delay went. Events are rare, so all of them are traced; and delivery never waits for the
//! collector: what it does not take in time is dropped and counted.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use flow::{CameraId, Counter, Event, EventId, FrameId};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use publish::Delivered;

/// Pictures of a camera whose times are remembered: more are not under way.
const PICTURES: usize = 4;
/// Messages that are stored and not yet acknowledged, or the other way round, at most.
const PENDING: usize = 8_192;
/// Messages whose spans wait for the collector.
const WAITING: usize = 1_024;
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Stages of a message; each has a span.
const STAGES: u64 = 8;

/// Notes when what happened.
pub struct Traces {
    pictures: Mutex<HashMap<CameraId, VecDeque<Seen>>>,
    pending: Mutex<HashMap<(EventId, u32), Half>>,
    out: SyncSender<Vec<SpanData>>,
    dropped: Arc<Counter>,
    scope: InstrumentationScope,
}

/// When a picture reached which stage.
struct Seen {
    session: flow::SessionId,
    sequence: u64,
    decoded: SystemTime,
    looked: Option<SystemTime>,
}

/// A message of which one side is known. It may be acknowledged before the outbox has said that it was stored.
enum Half {
    Told(Way),
    Delivered(Delivered),
}

/// The first part of a message's way.
struct Way {
    camera: CameraId,
    situation: String,
    phase: &'static str,
    captured: SystemTime,
    decoded: Option<SystemTime>,
    looked: Option<SystemTime>,
}

impl Traces {
    /// Sends to the collector at `otlp`, from a thread of its own, as `worker` of `site`.
    ///
    /// # Errors
    /// Where that is no address.
    pub fn start(otlp: &str, site: &str, worker: &str) -> anyhow::Result<Arc<Self>> {
        let endpoint = format!("{}/v1/traces", otlp.trim_end_matches('/'));
        let wrong =
            || format!("telemetry.otlp: {otlp:?} is no address of a collector, as http://127.0.0.1:4318");
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new())
            .with_endpoint(&endpoint)
            .with_timeout(PATIENCE)
            .build();
        let mut exporter = exporter.with_context(wrong)?;
        let resource = Resource::builder_empty().with_service_name("huiyan").with_attributes([
            KeyValue::new("service.namespace", site.to_owned()),
            KeyValue::new("service.instance.id", worker.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ]);
        exporter.set_resource(&resource.build());
        let (out, spans) = sync_channel(WAITING);
        let dropped = Arc::new(Counter::default());
        let lost = dropped.clone();
        let handle = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || export(&exporter, &spans, &handle, &lost))?;
        Ok(Arc::new(Self {
            pictures: Mutex::default(),
            pending: Mutex::default(),
            out,
            dropped,
            scope: InstrumentationScope::builder("huiyan").build(),
        }))
    }

    /// A picture was decoded.
    pub fn decoded(&self, frame: &FrameId) {
        let mut pictures = lock(&self.pictures);
        let seen = pictures.entry(frame.camera.clone()).or_default();
        seen.truncate(PICTURES - 1);
        let (session, sequence) = (frame.session, frame.sequence);
        seen.push_front(Seen { session, sequence, decoded: SystemTime::now(), looked: None });
    }

    /// A model has looked at it.
    pub fn looked(&self, frame: &FrameId) {
        let mut pictures = lock(&self.pictures);
        let seen = pictures.get_mut(&frame.camera).and_then(|seen| seen.iter_mut().find(|s| s.is(frame)));
        if let Some(seen) = seen {
            seen.looked = Some(SystemTime::now());
        }
    }

    /// An event came of it, and is on disk.
    pub fn told(&self, event: &Event) {
        let (decoded, looked) = {
            let pictures = lock(&self.pictures);
            let seen = pictures.get(&event.key.camera);
            let seen = seen.and_then(|seen| seen.iter().find(|seen| seen.is(&event.frame)));
            (seen.map(|seen| seen.decoded), seen.and_then(|seen| seen.looked))
        };
        let way = Way {
            camera: event.key.camera.clone(),
            situation: event.key.situation.to_string(),
            phase: match event.phase {
                flow::Phase::Began => "began",
                flow::Phase::Updated => "updated",
                flow::Phase::Ended { .. } => "ended",
            },
            captured: SystemTime::UNIX_EPOCH
                + Duration::from_nanos(u64::try_from(event.captured.as_nanosecond()).unwrap_or(0)),
            decoded,
            looked,
        };
        self.half((event.id, event.sequence), Half::Told(way));
    }

    /// The broker has acknowledged it.
    pub fn delivered(&self, delivered: &Delivered) {
        self.half((delivered.event, delivered.sequence), Half::Delivered(delivered.clone()));
    }

    fn half(&self, key: (EventId, u32), half: Half) {
        let mut pending = lock(&self.pending);
        let (way, delivered) = match (pending.remove(&key), half) {
            (Some(Half::Told(way)), Half::Delivered(delivered))
            | (Some(Half::Delivered(delivered)), Half::Told(way)) => (way, delivered),
            // Of an earlier process, or sent again: nobody will tell its first part.
            (_, Half::Delivered(Delivered { submitted: None, .. })) => return,
            (_, half) => {
                // A broker that is away for long: what came first is what has waited longest for nothing.
                if pending.len() < PENDING {
                    pending.insert(key, half);
                } else {
                    self.dropped.add(1);
                }
                return;
            }
        };
        drop(pending);
        if self.out.try_send(spans(&way, &delivered, &self.scope)).is_err() {
            self.dropped.add(1);
        }
    }
}

impl Seen {
    fn is(&self, frame: &FrameId) -> bool {
        (self.session, self.sequence) == (frame.session, frame.sequence)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done in these sections.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The spans of one message: all of it, and its stages.
fn spans(way: &Way, delivered: &Delivered, scope: &InstrumentationScope) -> Vec<SpanData> {
    let (now, instant) = (SystemTime::now(), Instant::now());
    let at = |moment: Instant| now - instant.saturating_duration_since(moment);
    let acked = at(delivered.acked);
    let trace = TraceId::from_hex(&delivered.event.to_string().replace('-', "")).unwrap_or(TraceId::INVALID);
    // As in the message's traceparent: whoever receives it hangs on under this span.
    let root = u64::from(delivered.sequence) + 1;
    let span = |id: SpanId, parent: SpanId, name: String, start: SystemTime, end: SystemTime| SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: start,
        end_time: end.max(start),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Ok,
        instrumentation_scope: scope.clone(),
    };
    let whole = SpanId::from_bytes(root.to_be_bytes());
    let mut all =
        span(whole, SpanId::INVALID, format!("{} {}", way.situation, way.phase), way.captured, acked);
    all.span_kind = SpanKind::Producer;
    all.attributes = vec![
        KeyValue::new("huiyan.camera", way.camera.to_string()),
        KeyValue::new("huiyan.event", delivered.event.to_string()),
        KeyValue::new("huiyan.sequence", i64::from(delivered.sequence)),
    ];
    let marks = [
        ("decode", way.decoded),
        ("gate and model", way.looked),
        ("scene", delivered.submitted.map(at)),
        ("outbox", delivered.stored.map(at)),
        ("wait for the connection", Some(at(delivered.sent))),
        ("broker", Some(acked)),
    ];
    let mut list = vec![all];
    let mut from = way.captured;
    for (number, (name, until)) in (1..).zip(marks) {
        // A stage whose end is not known, as after a restart, is in the next one's time.
        let Some(until) = until else { continue };
        let id = SpanId::from_bytes((root << 32 | (number % STAGES)).to_be_bytes());
        list.push(span(id, whole, name.to_owned(), from, until));
        from = until.max(from);
    }
    list
}

/// The life of the thread: sends what has come, together.
fn export(
    exporter: &SpanExporter,
    spans: &Receiver<Vec<SpanData>>,
    handle: &tokio::runtime::Handle,
    dropped: &Counter,
) {
    let mut failing = false;
    while let Ok(mut batch) = spans.recv() {
        std::thread::sleep(Duration::from_millis(200));
        batch.extend(spans.try_iter().take(WAITING).flatten());
        let messages = batch.iter().filter(|span| span.span_kind == SpanKind::Producer).count() as u64;
        match handle.block_on(exporter.export(batch)) {
            Ok(()) => failing = false,
            Err(error) => {
                dropped.add(messages);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the collector does not take traces; those of now are lost");
                }
            }
        }
    }
}

/// HTTP for the exporter, by the client that the program has anyway.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        Self(config.build().into())
    }
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        // Blocks: the thread that calls it has nothing else to do.
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let request = Request::from_parts(parts, body.to_vec());
            let (parts, mut body) = self.0.run(request)?.into_parts();
            Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_fill_the_time_between_the_picture_and_the_acknowledgement() {
        let ago = |ms: u64| SystemTime::now() - Duration::from_millis(ms);
        let instant = |ms: u64| Instant::now() - Duration::from_millis(ms);
        let id = EventId::new(
            flow::Timestamp::UNIX_EPOCH,
            &flow::SituationKey {
                camera: CameraId::new("c").unwrap(),
                zone: flow::ZoneId::new("z").unwrap(),
                situation: flow::SituationId::new("s").unwrap(),
            },
            1,
        );
        let way = Way {
            camera: CameraId::new("c").unwrap(),
            situation: "s".into(),
            phase: "began",
            captured: ago(500),
            decoded: Some(ago(480)),
            looked: None,
        };
        let delivered = Delivered {
            event: id,
            sequence: 2,
            submitted: Some(instant(400)),
            stored: Some(instant(390)),
            sent: instant(300),
            acked: instant(100),
        };
        let spans = spans(&way, &delivered, &InstrumentationScope::builder("t").build());
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["s began", "decode", "scene", "outbox", "wait for the connection", "broker"]);
        assert_eq!(spans[0].span_context.span_id().to_string(), "0000000000000003");
        assert_eq!(spans[0].span_context.trace_id().to_string(), id.to_string().replace('-', ""));
        let mut at = spans[0].start_time;
        for stage in &spans[1..] {
            assert_eq!((stage.start_time, stage.parent_span_id), (at, spans[0].span_context.span_id()));
            at = stage.end_time;
        }
        assert_eq!(at, spans[0].end_time);
    }
}
