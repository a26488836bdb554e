//! From the broker into the database.
//!
//! The session is persistent (fixed client id, no clean start): what is published while the desk is away waits at
//! the broker. PUBACK is sent after the commit: what a broken connection left unacknowledged, the broker delivers again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flow::{CameraId, EventId, SituationId, Timestamp};
use publish::mqtt::{Connection, Dialer, Hello, Incoming, LostError, Properties, Publish, Reason, Session};
use publish::wire::{EventMessage, Outcome, Receipt, Role, Topic, peek_event_id, sha256};
use tokio_util::sync::CancellationToken;

use crate::store::{Received, Store, StoreError};

/// Messages that the broker may send before the first is acknowledged.
const RECEIVE_MAX: u16 = 16;
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

    fn set_link(&self, link: Result<Timestamp, String>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }
}

fn count(n: &AtomicU64) {
    n.fetch_add(1, Ordering::Relaxed);
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Lost(#[from] LostError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error(
        "the broker refused the subscription to {0}: {1}; expected an access list that lets the desk read there"
    )]
    Subscription(String, Reason),
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
        let mut dialer = Dialer::new(self.broker.clone(), "desk");
        let hello = self.hello();
        loop {
            let down = |trouble: &str| self.shared.set_link(Err(trouble.to_owned()));
            let mut connection = tokio::select! {
                connection = dialer.dial(&hello, down) => connection,
                () = stop.cancelled() => return,
            };
            match self.run_once(&mut connection, &dialer, &hello, &stop).await {
                Ok(()) => {
                    // A goodbye keeps the session.
                    connection.close().await;
                    if stop.is_cancelled() {
                        return;
                    }
                    dialer.restart();
                    self.shared.set_link(Err("moving to the first address".to_owned()));
                }
                Err(error) => self.shared.set_link(Err(dialer.lost(&error))),
            }
            tokio::select! {
                () = dialer.pause() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One connection. `Ok` when asked to stop, or when the preferred broker is back.
    async fn run_once(
        &self,
        connection: &mut Connection,
        dialer: &Dialer,
        hello: &Hello,
        stop: &CancellationToken,
    ) -> Result<(), LinkError> {
        let filters = [Topic::all_events(&self.site), Topic::all_evidence(&self.site)];
        let id = connection.fresh_id(|_| false);
        connection.subscribe(&filters, true, id);
        let mut first_is_back = std::pin::pin!(dialer.first_is_back(hello));
        loop {
            let incoming = tokio::select! {
                incoming = connection.next() => incoming?,
                () = &mut first_is_back => return Ok(()),
                () = stop.cancelled() => return Ok(()),
            };
            match incoming {
                Incoming::SubAck { refusals, .. } => {
                    for (filter, refusal) in filters.iter().zip(refusals) {
                        if let Some(reason) = refusal {
                            return Err(LinkError::Subscription(filter.clone(), reason));
                        }
                    }
                    self.shared.set_link(Ok(Timestamp::now()));
                    tracing::info!(broker = dialer.place(), "the desk listens to the broker");
                }
                Incoming::Publish(message) => self.on_message(connection, message).await?,
                Incoming::PubAck { refusal: Some(reason), .. } => {
                    tracing::warn!(%reason, "the broker refused a receipt");
                }
                Incoming::PubAck { .. } => {}
            }
        }
    }

    /// Stores it, answers, and only then acknowledges. A database that fails ends the connection without
    /// acknowledgement: the broker delivers the message again.
    async fn on_message(&self, connection: &mut Connection, message: Publish) -> Result<(), LinkError> {
        match message.topic.parse::<Topic>().ok() {
            Some(Topic::Event { situation, camera, .. }) => {
                self.on_event(connection, &message, (&situation, &camera)).await?;
            }
            Some(Topic::Evidence { event, role, .. }) => self.on_picture(event, role, &message).await?,
            _ => self.refuse(&message, "is no topic for events or evidence"),
        }
        #[cfg(test)]
        if self.shared.hang_before_ack.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        connection.acknowledge(&message);
        Ok(())
    }

    async fn on_event(
        &self,
        connection: &mut Connection,
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
                self.answer(connection, &receipt);
                return Ok(());
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
        self.answer(connection, &receipt(event, Some(id), outcome, Some(case), None));
        Ok(())
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
        let topic: String = message.topic.chars().take(200).collect();
        tracing::warn!(topic, bytes = message.payload.len(), reason, "message refused");
    }

    fn answer(&self, connection: &mut Connection, receipt: &Receipt) {
        let topic = Topic::Receipt { site: self.site.clone(), event: receipt.event };
        let properties = Properties {
            content_type: Some("application/json".into()),
            utf8: true,
            expiry_s: u32::try_from(self.broker.message_expiry.as_secs()).ok(),
            ..Properties::default()
        };
        let payload = serde_json::to_vec(receipt).unwrap_or_default().into();
        let topic = topic.to_string();
        let answer = Publish { topic, payload, at_least_once: true, properties, ..Publish::default() };
        let id = connection.fresh_id(|_| false);
        connection.publish(&answer, id);
    }

    fn hello(&self) -> Hello {
        Hello {
            client_id: format!("huiyan-desk-{}", self.site),
            session: Session::Kept(self.broker.session_expiry),
            receive_maximum: RECEIVE_MAX,
            max_packet: MAX_PACKET_BYTES,
            will: None,
        }
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
