//! `/metrics` for Prometheus. Everything is read when somebody asks: between two scrapes it costs nothing.

use std::fmt;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use flow::Flow;
use infer::Numbers;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use publish::evidence::Why;
use publish::{BOUNDS_MS, Depth, EvidenceNumbers, Histogram, Link, Metrics};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::health::{HeldBack, Known};
use crate::pipeline::{Pipeline, Report};

/// The content type of OpenMetrics 1.0, which `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Somebody who wants the numbers.
pub type Asked = oneshot::Sender<String>;

/// Serves `/metrics` there as long as the receiver is kept. Who holds the pipeline answers with [`text`].
///
/// # Errors
/// Where the address is taken, or not of this machine.
pub async fn serve(listen: std::net::SocketAddr) -> anyhow::Result<mpsc::Receiver<Asked>> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("telemetry.metrics: /metrics cannot be served at {listen}"))?;
    let (asks, asked) = mpsc::channel(4);
    let router = Router::new().route("/metrics", get(answer)).with_state(asks);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%listen, %error, "/metrics is no longer served");
        }
    });
    Ok(asked)
}

async fn answer(State(asks): State<mpsc::Sender<Asked>>) -> Response {
    let (say, said) = oneshot::channel();
    let asked = asks.send(say).await.is_ok();
    match said.await {
        Ok(text) if asked => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the program is stopping").into_response(),
    }
}

/// All numbers of a worker, as OpenMetrics.
pub fn text(pipeline: &Pipeline) -> String {
    let moment = Moment {
        report: pipeline.report(),
        infer: pipeline.infer_numbers(),
        delivery: pipeline.delivery(),
        // It asks the database.
        evidence: tokio::task::block_in_place(|| pipeline.evidence()),
        cameras: pipeline.health(),
    };
    let mut registry = Registry::with_prefix("huiyan");
    registry.register_collector(Box::new(moment));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes what is written");
    text
}

/// What is known at one moment.
#[derive(Debug)]
struct Moment {
    report: Report,
    infer: Numbers,
    delivery: Metrics,
    evidence: EvidenceNumbers,
    cameras: Vec<Known>,
}

impl Collector for Moment {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut pen = Pen { encoder };
        self.stages(&mut pen)?;
        self.cameras(&mut pen)?;
        self.models(&mut pen)?;
        self.delivery(&mut pen)?;
        self.evidence(&mut pen)
    }
}

impl Moment {
    fn stages(&self, pen: &mut Pen<'_>) -> fmt::Result {
        let Report { ingest, decode, infer, scene, confirm, publish, gate, .. } = &self.report;
        let pictures = &self.delivery.evidence;
        let stages: [(&str, &Flow); 7] = [
            ("ingest", ingest),
            ("decode", decode),
            ("infer", infer),
            ("scene", scene),
            ("confirm", &confirm.questions),
            ("publish", publish),
            ("evidence", pictures),
        ];
        let each = |of: fn(&Flow) -> u64| stages.map(|(stage, flow)| ([("stage", stage)], of(flow)));
        pen.counters("received", "What a stage has received", &each(|flow| flow.received))?;
        pen.counters("passed", "What a stage has passed on", &each(|flow| flow.passed))?;
        let dropped: Vec<_> = stages
            .iter()
            .flat_map(|(stage, flow)| {
                flow.dropped.iter().map(|(why, n)| ([("stage", *stage), ("reason", *why)], *n))
            })
            .collect();
        pen.counters("dropped", "What a stage has dropped", &dropped)?;
        pen.counters("events", "Events made by the scenes", &[([], self.report.events)])?;
        pen.counters(
            "gate_repeated",
            "Pictures not decoded: the last look was repeated",
            &[([], gate.repeated)],
        )?;
        pen.counters("gate_spared", "Pictures decoded and spared the model", &[([], gate.spared)])?;
        let by_reason = |list: &[(&'static str, u64)]| -> Vec<_> {
            list.iter().map(|(why, n)| ([("reason", *why)], *n)).collect()
        };
        pen.counters("gate_decoded", "Pictures that the gate had decoded", &by_reason(&gate.decoded))?;
        pen.counters("gate_through", "Pictures that the gate let through", &by_reason(&gate.through))?;
        let confirmed =
            [([("answer", "confirmed")], confirm.confirmed), ([("answer", "rejected")], confirm.rejected)];
        pen.counters("confirmations", "What second models said", &confirmed)
    }

    fn cameras(&self, pen: &mut Pen<'_>) -> fmt::Result {
        let mut all = flow::Minutes::default();
        let mut states = std::collections::BTreeMap::<&str, i64>::new();
        for known in &self.cameras {
            all.add(&known.minutes);
            *states.entry(known.health.state.name()).or_default() += 1;
        }
        let states: Vec<_> = states.into_iter().map(|(state, n)| ([("state", state)], n as f64)).collect();
        pen.gauges("cameras", "Cameras in each state", None, &states)?;
        let held =
            |of: fn(&HeldBack) -> u32| self.cameras.iter().map(|known| f64::from(of(&known.held_back))).sum();
        let held_back = [
            ([("by", "cap_per_day")], held(|held| held.by_cap)),
            ([("by", "second_model")], held(|held| held.by_second_model)),
        ];
        pen.gauges(
            "situations_held_back",
            "Situations seen and not told: in 24 hours beyond a rule's cap; since their cameras' state is kept by a second model",
            None,
            &held_back,
        )?;
        let spent: Vec<_> =
            all.by_state().map(|(state, spent)| ([("state", state)], spent.as_secs_f64())).collect();
        pen.seconds("camera_time", "Time of all cameras, by their state", &spent)
    }

    fn models(&self, pen: &mut Pen<'_>) -> fmt::Result {
        let models = &self.infer.models;
        let pictures: Vec<_> =
            models.iter().map(|(id, work)| ([("model", id.as_str())], work.pictures)).collect();
        pen.counters("model_pictures", "Pictures that a model has looked at", &pictures)?;
        let broken: Vec<_> =
            models.iter().map(|(id, work)| ([("model", id.as_str())], work.broken_boxes)).collect();
        pen.counters("model_broken_boxes", "Boxes that held NaN or no score", &broken)?;
        let time: Vec<_> = models
            .iter()
            .flat_map(|(id, work)| {
                [("preprocess", work.preprocess), ("run", work.run), ("decode", work.decode)]
                    .map(|(step, spent)| ([("model", id.as_str()), ("step", step)], spent.as_secs_f64()))
            })
            .collect();
        pen.seconds("model_time", "Time that a model took", &time)?;
        let waits = [("0.5", self.infer.wait_p50), ("0.99", self.infer.wait_p99), ("1", self.infer.wait_max)]
            .map(|(quantile, wait)| ([("quantile", quantile)], wait.as_secs_f64()));
        pen.gauges("batch_wait", "How long pictures wait for their batch", Some(Unit::Seconds), &waits)
    }

    fn delivery(&self, pen: &mut Pen<'_>) -> fmt::Result {
        let it = &self.delivery;
        let up = matches!(it.link, Link::Up { .. });
        pen.gauges(
            "broker_connected",
            "Whether the broker is connected",
            None,
            &[([], f64::from(u8::from(up)))],
        )?;
        let Depth { events, evidence, messages, .. } = it.outbox;
        let other = messages.saturating_sub(events + evidence);
        let waiting = [("event", events), ("evidence", evidence), ("other", other)]
            .map(|(kind, n)| ([("kind", kind)], n as f64));
        pen.gauges("outbox_messages", "Messages without PUBACK", None, &waiting)?;
        let gauge = |n: u64| [([], n as f64)];
        pen.gauges("outbox_refused", "Of these, refused by the broker", None, &gauge(it.outbox.refused))?;
        pen.gauges("outbox_held", "Events in memory: the disk takes none", None, &gauge(it.outbox.held))?;
        let oldest = it.outbox.oldest_ms as f64 / 1e3;
        pen.gauges("outbox_oldest", "Age of the oldest message", Some(Unit::Seconds), &[([], oldest)])?;
        pen.gauges("outbox", "Size of the outbox's database", Some(Unit::Bytes), &gauge(it.outbox_bytes))?;
        let evidence = gauge(it.outbox.evidence_bytes);
        pen.gauges("evidence_kept", "Size of the evidence on disk", Some(Unit::Bytes), &evidence)?;
        if let Some(free) = it.disk_free_bytes {
            pen.gauges("disk_free", "Free on the disk of the outbox", Some(Unit::Bytes), &gauge(free))?;
        }
        let now: Vec<_> = it
            .disk_troubles
            .iter()
            .map(|(kind, _)| {
                let is = it.disk.as_ref().is_some_and(|trouble| trouble.kind == *kind);
                ([("kind", kind.name())], f64::from(u8::from(is)))
            })
            .collect();
        pen.gauges("disk_trouble", "What is wrong with the disk now", None, &now)?;
        let ever: Vec<_> = it.disk_troubles.iter().map(|(kind, n)| ([("kind", kind.name())], *n)).collect();
        pen.counters("disk_troubles", "How often the disk got into trouble", &ever)?;
        pen.counters("outbox_salvages", "Corrupt databases that were replaced", &[([], it.salvages)])?;
        pen.counters("outbox_waits", "How often watching waited for the disk", &[([], it.waits)])?;
        pen.counters(
            "messages_acked",
            "Messages that the broker has acknowledged",
            &[([], it.messages_acked)],
        )?;
        let refused: Vec<_> = it.refused.iter().map(|(why, n)| ([("reason", why.as_str())], *n)).collect();
        pen.counters("messages_refused", "Messages that the broker refused", &refused)?;
        pen.histogram("event_stored", "From a decision to the disk", &it.stored)?;
        pen.histogram("event_acked", "From a decision to the broker's PUBACK", &it.acked)?;
        pen.histogram("outbox_transaction", "How long transactions take", &it.transactions)
    }
}

impl Moment {
    /// Pictures: what waits, where it is kept, what went.
    fn evidence(&self, pen: &mut Pen<'_>) -> fmt::Result {
        let EvidenceNumbers { deleted, store } = &self.evidence;
        let deleted =
            Why::ALL.map(|why| ([("reason", why.name())], deleted.get(&why).copied().unwrap_or_default()));
        pen.counters("evidence_deleted", "Pictures deleted, on record", &deleted)?;
        let Some(store) = store else { return Ok(()) };
        let up = f64::from(u8::from(store.state.error.is_none()));
        pen.gauges("evidence_store_up", "Whether the store took the last picture", None, &[([], up)])?;
        if let Some(waiting) = store.waiting {
            let waiting = [([], waiting as f64)];
            pen.gauges("evidence_store_waiting", "Pictures on disk that wait for the store", None, &waiting)?;
        }
        let stored = [([], store.state.stored)];
        pen.counters("evidence_stored", "Pictures that the store has taken", &stored)?;
        let removed = [([], store.state.deleted)];
        pen.counters("evidence_store_deleted", "Pictures that the store has deleted", &removed)
    }
}

/// Labels, and the number.
type Row<'l, const L: usize, N> = ([(&'l str, &'l str); L], N);

struct Pen<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl Pen<'_> {
    fn counters<const L: usize>(&mut self, name: &str, help: &str, rows: &[Row<'_, L, u64>]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, n) in rows {
            ConstCounter::new(*n).encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }

    /// Seconds that only grow.
    fn seconds<const L: usize>(&mut self, name: &str, help: &str, rows: &[Row<'_, L, f64>]) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, spent) in rows {
            ConstCounter::new(*spent).encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn gauges<const L: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: &[Row<'_, L, f64>],
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(*value).encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, read: &Histogram) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut metric = self.encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let bounds = BOUNDS_MS.iter().map(|ms| ms / 1e3).chain([f64::MAX]);
        let buckets: Vec<_> = bounds.zip(read.counts).collect();
        metric.encode_histogram::<NoLabelSet>(read.sum_s, read.count(), &buckets, None)
    }
}
