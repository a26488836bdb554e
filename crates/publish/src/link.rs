//! From the outbox to the broker: `run` retries, `run_once` is one connection.
//!
//! rumqttc keeps its own list of unacknowledged messages and reports a lost connection without saying which
//! message was concerned. So that two lists need not agree, each connection gets an event loop of its own, with a
//! clean session, and what the old one knew is dropped with it: the outbox alone knows what is left to send.
//!
//! A broker may also close the connection *because of* a message (too large, say). Sent again, it would do so for
//! ever, so after a connection that ended with messages under way the next one sends them one by one; a message
//! that ends [`STRIKES`] connections in a row is put aside as refused.

mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use flow::Timestamp;
use rumqttc::NetworkOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, LastWill, LastWillProperties};
use rumqttc::v5::{ConnectionError, MqttOptions};
use tokio_util::sync::CancellationToken;

use crate::evidence::MAX_JPEG_BYTES;
use crate::outbox::{Kind, Message, Outbox, OutboxError};
use crate::publisher::{Link, Options, Shared};
use crate::wire::{Role, Topic, WorkerState, WorkerStatus};
use session::Session;

/// A half-open connection is noticed after two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Longest wait between two tries to connect.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// After so many connections that one message ended, it is put aside.
const STRIKES: u32 = 3;

/// The background task.
#[derive(Debug)]
pub(crate) struct LinkTask {
    options: Options,
    outbox: Arc<Outbox>,
    shared: Arc<Shared>,
    started: Timestamp,
    caution: Caution,
}

/// What earlier connections taught.
#[derive(Debug, Default)]
struct Caution {
    /// Messages are sent one by one, for this many more acknowledgements.
    one_by_one: u32,
    /// How many connections in a row each message ended; by outbox row.
    strikes: HashMap<i64, u32>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0}")]
    Connection(#[from] Box<ConnectionError>),
    #[error("the broker did not acknowledge a message within {} s", session::ACK_TIMEOUT.as_secs())]
    NoAck,
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("the outbox task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("rumqttc did not take a message: {0}")]
    Client(#[from] Box<rumqttc::v5::ClientError>),
}

impl LinkTask {
    pub fn new(options: Options, outbox: Arc<Outbox>, shared: Arc<Shared>) -> Self {
        Self { options, outbox, shared, started: Timestamp::now(), caution: Caution::default() }
    }

    /// Until `stop`: connect, send, and start over when that fails.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let (result, was_up) = self.run_once(&stop).await;
            let Err(error) = result else { return };
            failures = if was_up { 0 } else { failures + 1 };
            self.report_down(&error);
            tokio::select! {
                () = tokio::time::sleep(backoff(failures)) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One connection. `Ok` when asked to stop; also says whether the connection ever stood.
    async fn run_once(&mut self, stop: &CancellationToken) -> (Result<(), LinkError>, bool) {
        let one_by_one = self.caution.one_by_one > 0;
        let mut session = Session::open(self, one_by_one);
        let result = session.run(stop).await;
        let (acked, outstanding, was_up) = session.close();
        self.caution.one_by_one = self.caution.one_by_one.saturating_sub(acked);
        if result.is_err() && !outstanding.is_empty() {
            self.caution.one_by_one = 2 * session::WINDOW as u32;
            if let [only] = outstanding.as_slice() {
                self.strike(only).await;
            }
        }
        if acked > 0 && outstanding.len() != 1 {
            self.caution.strikes.clear();
        }
        (result, was_up)
    }

    /// The connection ended while only this message was under way.
    async fn strike(&mut self, message: &Message) {
        let strikes = self.caution.strikes.entry(message.id).or_default();
        *strikes += 1;
        if *strikes < STRIKES {
            return;
        }
        self.caution.strikes.remove(&message.id);
        let reason = "connection closed each time it was sent";
        *self.shared.lock().refused.entry(reason.into()).or_default() += 1;
        tracing::error!(
            topic = message.topic,
            event = message.event,
            strikes = STRIKES,
            reason,
            "message put aside"
        );
        let message = message.clone();
        let put_aside =
            self.with_outbox(move |outbox| outbox.refused(&message, reason, session::ASIDE_MS)).await;
        if let Err(error) = put_aside {
            tracing::error!(%error, "outbox");
        }
    }

    /// Disk work, on a thread that may block.
    async fn with_outbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, LinkError> {
        let outbox = Arc::clone(&self.outbox);
        Ok(tokio::task::spawn_blocking(move || work(&outbox)).await??)
    }

    /// What a message carries; `None` for evidence whose file is gone, and then its row is gone too.
    async fn payload(&self, message: &Message) -> Result<Option<Vec<u8>>, LinkError> {
        if message.kind != Kind::Evidence {
            return Ok(Some(message.payload.clone()));
        }
        let message = message.clone();
        self.with_outbox(move |outbox| {
            let role = message.topic.rsplit('/').next().and_then(|role| role.parse::<Role>().ok());
            let bytes = match (message.event_id(), role, &message.sha256) {
                (Some(event), Some(role), Some(sha256)) => outbox.read_file(event, role, sha256),
                _ => None,
            };
            if bytes.is_none() {
                tracing::warn!(topic = message.topic, "evidence file is gone; not sent");
                outbox.lost(message.id)?;
            }
            Ok(bytes)
        })
        .await
    }

    fn report_down(&self, error: &LinkError) {
        let mut state = self.shared.lock();
        let text = error.to_string();
        let (since, news) = match &state.link {
            Link::Down { since, error } => (*since, *error != text),
            Link::Up { .. } => (Timestamp::now(), true),
        };
        if news {
            let broker = &self.options.broker;
            tracing::warn!(
                host = broker.host,
                port = broker.port,
                error = text,
                "no connection to the broker"
            );
        }
        state.link = Link::Down { since, error: text };
    }

    fn mqtt_options(&self) -> MqttOptions {
        let Options { site, worker, broker, .. } = &self.options;
        let mut options = MqttOptions::new(format!("huiyan-{site}-{worker}"), &broker.host, broker.port);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_connection_timeout(5)
            .set_outgoing_inflight_upper_limit(session::WINDOW as u16)
            .set_request_channel_capacity(2 * session::WINDOW)
            .set_network_options(network)
            .set_last_will(self.last_will())
            .set_connect_properties(ConnectProperties {
                session_expiry_interval: Some(0),
                // rumqttc takes 10 KiB otherwise. Nothing large is received here, but a reason text may be.
                max_packet_size: Some(MAX_JPEG_BYTES as u32),
                ..ConnectProperties::new()
            });
        if let Some(credentials) = &broker.credentials {
            options.set_credentials(&credentials.user, credentials.password.reveal());
        }
        options
    }

    fn last_will(&self) -> LastWill {
        let properties = LastWillProperties {
            delay_interval: None,
            payload_format_indicator: Some(1),
            message_expiry_interval: None,
            content_type: Some("application/json".into()),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        let body = self.status(WorkerState::Offline, "connection lost");
        LastWill::new(self.status_topic(), body, QoS::AtLeastOnce, true, Some(properties))
    }

    fn status_topic(&self) -> String {
        let Options { site, worker, .. } = &self.options;
        Topic::Worker { site: site.clone(), worker: worker.clone() }.to_string()
    }

    fn status(&self, state: WorkerState, reason: &str) -> Vec<u8> {
        let status = WorkerStatus {
            worker: self.options.worker.clone(),
            state,
            reason: reason.into(),
            started: self.started,
            version: env!("CARGO_PKG_VERSION").into(),
            config_hash: self.options.config_hash.clone(),
        };
        serde_json::to_vec(&status).expect("texts and times only")
    }
}

/// How long to wait before trying a broker again: doubles from 0.2 s to 5 s with each failure, of which a random part between half and all is waited: the workers of a
/// site must not return to a restarted broker all at once.
pub fn backoff(failures: u32) -> Duration {
    let longest = Duration::from_millis(200).saturating_mul(1 << failures.min(10)).min(MAX_BACKOFF);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_five_seconds_and_never_beyond() {
        for failures in 0..40 {
            let wait = backoff(failures);
            assert!(wait >= Duration::from_millis(100) && wait <= MAX_BACKOFF, "{failures}: {wait:?}");
        }
        assert!(backoff(39) >= MAX_BACKOFF / 2);
    }
}
