//! From the broker into the database.
//!
//! The session is persistent (fixed client id, no clean start): what is published while the desk is away waits at
//! the broker. PUBACK is sent by hand, after the commit. As in `publish`, each connection gets an event loop of its
//! own: what a broken connection left unacknowledged, the broker delivers again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flow::{CameraId, EventId, SituationId, Timestamp};
use futures::StreamExt;
use publish::wire::{EventMessage, Outcome, Receipt, Role, Topic, peek_event_id, sha256};
use rumqttc::NetworkOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, Packet, Publish, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ClientError, ConnectionError, Event, MqttOptions};
use tokio_util::sync::CancellationToken;

use crate::store::{Received, Store, StoreError};

/// The broker keeps the session, and what arrives for it, for so long after the desk has gone.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Messages that the broker may send before the first is acknowledged.
const RECEIVE_MAX: u16 = 16;
/// Requests to rumqttc that may wait: a receipt and a PUBACK for each message that may be under way, twice over.
const REQUESTS: usize = 4 * RECEIVE_MAX as usize;
/// Larger pictures are refused.
const MAX_PICTURE_BYTES: usize = 2 * 1024 * 1024;
/// A picture with its topic and properties.
const MAX_PACKET_BYTES: u32 = 4 * 1024 * 1024;

/// What was received since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Event messages that opened a case.
    pub opened: u64,
    /// Event messages attached to a case.
    pub attached: u64,
    /// Event messages that were there already.
    pub duplicates: u64,
    /// Messages that cannot be used: malformed, or on a topic of another shape.
    pub refused: u64,
    /// Evidence pictures stored.
    pub pictures: u64,
}

/// What the inbox tells the rest of the desk.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    opened: AtomicU64,
    attached: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    pictures: AtomicU64,
    link: Mutex<Option<Result<Timestamp, String>>>,
    /// Stands for a process that is killed after the commit.
    #[cfg(test)]
    pub hang_before_ack: std::sync::atomic::AtomicBool,
}

impl Shared {
    pub fn counts(&self) -> Counts {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Counts {
            opened: get(&self.opened),
            attached: get(&self.attached),
            duplicates: get(&self.duplicates),
            refused: get(&self.refused),
            pictures: get(&self.pictures),
        }
    }

    pub fn link(&self) -> Result<Timestamp, String> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.clone().unwrap_or_else(|| Err("not connected yet".into()))
    }

    fn set_link(&self, link: Result<Timestamp, String>) -> bool {
        let mut current = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let news = current.as_ref() != Some(&link);
        *current = Some(link);
        news
    }
}

fn count(n: &AtomicU64) {
    n.fetch_add(1, Ordering::Relaxed);
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0}")]
    Connection(#[from] Box<ConnectionError>),
    #[error("rumqttc did not take a message: {0}")]
    Client(#[from] Box<ClientError>),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("the broker refused the subscription: {0:?}")]
    Subscription(SubscribeReasonCode),
}

/// The receiving task.
#[derive(Debug)]
pub(crate) struct Inbox {
    site: String,
    broker: fleet::Broker,
    store: Arc<Store>,
    shared: Arc<Shared>,
}

impl Inbox {
    pub fn new(site: String, broker: fleet::Broker, store: Arc<Store>, shared: Arc<Shared>) -> Self {
        Self { site, broker, store, shared }
    }

    /// Until `stop`: connect, receive, and start over when that fails.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let mut was_up = false;
            let Err(error) = self.run_once(&stop, &mut was_up).await else { return };
            failures = if was_up { 0 } else { failures + 1 };
            if self.shared.set_link(Err(error.to_string())) {
                let (host, port) = (&self.broker.host, self.broker.port);
                tracing::warn!(host, port, %error, "the desk has no connection to the broker");
            }
            tokio::select! {
                () = tokio::time::sleep(publish::backoff(failures)) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One connection. `Ok` when asked to stop.
    async fn run_once(&self, stop: &CancellationToken, was_up: &mut bool) -> Result<(), LinkError> {
        let (client, events) = AsyncClient::new(self.mqtt_options(), REQUESTS);
        // As a stream, because `poll` must not be dropped half-way: a packet would be lost.
        let events = futures::stream::unfold(events, |mut events| async move {
            let event = events.poll().await;
            Some((event, events))
        });
        let mut events = std::pin::pin!(events);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = stop.cancelled() => None,
            };
            let Some(event) = event else { break };
            match event.map_err(Box::new)? {
                Event::Incoming(Packet::ConnAck(_)) => {
                    *was_up = true;
                    let filters = [Topic::all_events(&self.site), Topic::all_evidence(&self.site)];
                    let filters = filters.map(|filter| Filter::new(filter, QoS::AtLeastOnce));
                    client.try_subscribe_many(filters).map_err(Box::new)?;
                }
                Event::Incoming(Packet::SubAck(ack)) => {
                    let refusal =
                        |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                    if let Some(code) = ack.return_codes.iter().find(refusal) {
                        return Err(LinkError::Subscription(*code));
                    }
                    self.shared.set_link(Ok(Timestamp::now()));
                    tracing::info!(
                        host = self.broker.host,
                        port = self.broker.port,
                        "the desk listens to the broker"
                    );
                }
                Event::Incoming(Packet::Publish(message)) => self.on_message(&client, message).await?,
                _ => {}
            }
        }
        // A goodbye keeps the session; without an answer the connection just ends.
        let _ = client.try_disconnect();
        let goodbye = async { while let Some(Ok(_)) = events.next().await {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), goodbye).await;
        Ok(())
    }

    /// Stores it, answers, and only then acknowledges. A database that fails ends the connection without
    /// acknowledgement: the broker delivers the message again.
    async fn on_message(&self, client: &AsyncClient, message: Publish) -> Result<(), LinkError> {
        let topic = std::str::from_utf8(&message.topic).ok().and_then(|topic| topic.parse::<Topic>().ok());
        match topic {
            Some(Topic::Event { situation, camera, .. }) => {
                self.on_event(client, &message, (&situation, &camera)).await?;
            }
            Some(Topic::Evidence { event, role, .. }) => self.on_picture(event, role, &message).await?,
            _ => self.refuse(&message, "is no topic for events or evidence"),
        }
        #[cfg(test)]
        if self.shared.hang_before_ack.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        client.try_ack(&message).map_err(Box::new)?;
        Ok(())
    }

    async fn on_event(
        &self,
        client: &AsyncClient,
        message: &Publish,
        topic: (&SituationId, &CameraId),
    ) -> Result<(), LinkError> {
        let body = message.payload.clone();
        let parsed = match self.read(&body, topic) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.refuse(message, &reason);
                let Some(event) = peek_event_id(&body) else { return Ok(()) };
                let receipt = receipt(event, None, Outcome::Refused, None, Some(reason));
                return self.answer(client, &receipt);
            }
        };
        let (event, id) = (parsed.data.event, parsed.id.clone());
        let store = self.store.clone();
        let received = tokio::task::spawn_blocking(move || store.receive(&parsed, &body)).await??;
        let (counter, outcome, case) = match received {
            Received::Opened(case) => (&self.shared.opened, Outcome::Accepted, case),
            Received::Attached(case) => (&self.shared.attached, Outcome::Accepted, case),
            Received::Duplicate(case) => (&self.shared.duplicates, Outcome::Duplicate, case),
        };
        count(counter);
        tracing::debug!(%event, id, case, ?outcome, "event received");
        self.answer(client, &receipt(event, Some(id), outcome, Some(case), None))
    }

    /// Reads a message. Brokers restrict who may write by topic, so what a message says about itself must agree
    /// with the topic it came on.
    fn read(&self, body: &[u8], topic: (&SituationId, &CameraId)) -> Result<EventMessage, String> {
        let message = EventMessage::parse(body).map_err(|error| error.to_string())?;
        let (situation, camera) = (&message.data.situation.id, &message.data.camera.id);
        if (situation, camera) != topic {
            return Err(format!(
                "is about {situation} at {camera}; its topic says {} at {}",
                topic.0, topic.1
            ));
        }
        if !message.source.strip_prefix('/').is_some_and(|rest| rest.starts_with(&format!("{}/", self.site)))
        {
            return Err(format!("source is not of the site {}", self.site));
        }
        Ok(message)
    }

    async fn on_picture(&self, event: EventId, role: Role, message: &Publish) -> Result<(), LinkError> {
        let bytes = message.payload.clone();
        // ITU-T T.81 annex B: start of image, then another marker.
        if bytes.len() > MAX_PICTURE_BYTES || !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            self.refuse(message, "is no JPEG of at most 2 MiB");
            return Ok(());
        }
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.keep_picture(event, role, &sha256(&bytes), &bytes))
            .await??;
        count(&self.shared.pictures);
        Ok(())
    }

    fn refuse(&self, message: &Publish, reason: &str) {
        count(&self.shared.refused);
        let topic: String = String::from_utf8_lossy(&message.topic).chars().take(200).collect();
        tracing::warn!(topic, bytes = message.payload.len(), reason, "message refused");
    }

    fn answer(&self, client: &AsyncClient, receipt: &Receipt) -> Result<(), LinkError> {
        let topic = Topic::Receipt { site: self.site.clone(), event: receipt.event };
        let properties = PublishProperties {
            content_type: Some("application/json".into()),
            payload_format_indicator: Some(1),
            message_expiry_interval: u32::try_from(self.broker.message_expiry.as_secs()).ok(),
            ..PublishProperties::default()
        };
        let body = serde_json::to_vec(receipt).unwrap_or_default();
        let sent =
            client.try_publish_with_properties(topic.to_string(), QoS::AtLeastOnce, false, body, properties);
        Ok(sent.map_err(Box::new)?)
    }

    fn mqtt_options(&self) -> MqttOptions {
        let broker = &self.broker;
        let mut options = MqttOptions::new(format!("huiyan-desk-{}", self.site), &broker.host, broker.port);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_keep_alive(Duration::from_secs(10))
            .set_clean_start(false)
            .set_manual_acks(true)
            .set_connection_timeout(5)
            .set_outgoing_inflight_upper_limit(REQUESTS as u16)
            .set_request_channel_capacity(REQUESTS)
            .set_network_options(network)
            .set_connect_properties(ConnectProperties {
                session_expiry_interval: Some(SESSION_EXPIRY.as_secs() as u32),
                receive_maximum: Some(RECEIVE_MAX),
                max_packet_size: Some(MAX_PACKET_BYTES),
                ..ConnectProperties::new()
            });
        if let Some(credentials) = &broker.credentials {
            options.set_credentials(&credentials.user, credentials.password.reveal());
        }
        options
    }
}

fn receipt(
    event: EventId,
    message: Option<String>,
    outcome: Outcome,
    case: Option<u64>,
    reason: Option<String>,
) -> Receipt {
    // A reason may quote the message; it is as hostile as that, and bounded here.
    let reason = reason.map(|text| text.chars().take(300).collect());
    Receipt { event, message, outcome, case, reason, at: Timestamp::now() }
}
