//! From the broker into the database.
//!
//! The session is persistent (fixed client id, no clean start): what is published while the desk is away waits at
//! the broker. PUBACK is sent after the commit: what a broken connection left unacknowledged, the broker delivers again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flow::{CameraId, EventId, SituationId, Timestamp};
use publish::mqtt::{Connection, Dialer, Hello, Incoming, LostError, Properties, Publish, Reason, Session};
use publish::wire::{EventMessage, Outcome, Receipt, Topic, peek_event_id};
use tokio_util::sync::CancellationToken;

use crate::store::{Arrival, Received, Store, StoreError};

/// Messages that the broker may send before the first is acknowledged. Those that are there at the same time are stored
/// together, as the disk syncs once for all of them.
const RECEIVE_MAX: u16 = 64;
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
            let mut group = Vec::new();
            let mut more = Some(incoming);
            while let Some(incoming) = more {
                match incoming {
                    Incoming::Publish(message) => group.push(message),
                    other => self.on_answer(other, &filters, dialer)?,
                }
                more = if group.len() < usize::from(RECEIVE_MAX) { connection.ready()? } else { None };
            }
            if !group.is_empty() {
                self.on_messages(connection, group).await?;
            }
        }
    }

    /// What the broker says to what the desk asked and told.
    fn on_answer(&self, answer: Incoming, filters: &[String], dialer: &Dialer) -> Result<(), LinkError> {
        match answer {
            Incoming::SubAck { refusals, .. } => {
                for (filter, refusal) in filters.iter().zip(refusals) {
                    if let Some(reason) = refusal {
                        return Err(LinkError::Subscription(filter.clone(), reason));
                    }
                }
                self.shared.set_link(Ok(Timestamp::now()));
                tracing::info!(broker = dialer.place(), "the desk listens to the broker");
            }
            Incoming::PubAck { refusal: Some(reason), .. } => {
                tracing::warn!(%reason, "the broker refused a receipt");
            }
            Incoming::PubAck { .. } | Incoming::Publish(_) => {}
        }
        Ok(())
    }

    /// Stores what came together, answers, and only then acknowledges. A database that fails ends the connection without
    /// acknowledgement: the broker delivers the messages again.
    async fn on_messages(&self, connection: &mut Connection, group: Vec<Publish>) -> Result<(), LinkError> {
        let usable: Vec<Arrival> =
            group.iter().filter_map(|message| self.usable(connection, message)).collect();
        let store = self.store.clone();
        let (usable, received) = tokio::task::spawn_blocking(move || {
            let received = store.take(&usable);
            (usable, received)
        })
        .await?;
        for (arrival, received) in usable.iter().zip(received?) {
            match (arrival, received) {
                (Arrival::Event { message, .. }, Some(received)) => {
                    self.on_stored(connection, message, received)
                }
                _ => count(&self.shared.pictures),
            }
        }
        #[cfg(test)]
        if self.shared.hang_before_ack.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        for message in &group {
            connection.acknowledge(message);
        }
        Ok(())
    }

    /// What is to be stored of a message. One that cannot be used is counted and answered, where it says what it is about.
    fn usable(&self, connection: &mut Connection, message: &Publish) -> Option<Arrival> {
        match message.topic.parse::<Topic>().ok() {
            Some(Topic::Event { situation, camera, .. }) => {
                match read(&self.site, &message.payload, (&situation, &camera)) {
                    Ok(parsed) => {
                        let body = message.payload.clone();
                        return Some(Arrival::Event { message: Box::new(parsed), body });
                    }
                    Err(reason) => {
                        self.refuse(message, &reason);
                        if let Some(event) = peek_event_id(&message.payload) {
                            let refusal = receipt(event, None, Outcome::Refused, None, Some(reason));
                            self.answer(connection, &refusal);
                        }
                    }
                }
            }
            Some(Topic::Evidence { event, role, .. }) => {
                if is_picture(&message.payload) {
                    return Some(Arrival::Picture { event, role, bytes: message.payload.clone() });
                }
                self.refuse(message, "is no JPEG of at most 2 MiB");
            }
            _ => self.refuse(message, "is no topic for events or evidence"),
        }
        None
    }

    fn on_stored(&self, connection: &mut Connection, message: &EventMessage, received: Received) {
        let (counter, outcome, case) = match received {
            Received::Opened(case) => (&self.shared.opened, Outcome::Accepted, case),
            Received::Attached(case) => (&self.shared.attached, Outcome::Accepted, case),
            Received::Duplicate(case) => (&self.shared.duplicates, Outcome::Duplicate, case),
        };
        count(counter);
        let (event, id) = (message.data.event, message.id.clone());
        tracing::debug!(%event, id, case, ?outcome, "event received");
        self.answer(connection, &receipt(event, Some(id), outcome, Some(case), None));
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

/// Reads a message. Brokers restrict who may write by topic, so what a message says about itself must agree with the
/// topic it came on.
pub(crate) fn read(
    site: &str,
    body: &[u8],
    topic: (&SituationId, &CameraId),
) -> Result<EventMessage, String> {
    let message = EventMessage::parse(body).map_err(|error| error.to_string())?;
    let (situation, camera) = (&message.data.situation.id, &message.data.camera.id);
    if (situation, camera) != topic {
        return Err(format!("is about {situation} at {camera}; its topic says {} at {}", topic.0, topic.1));
    }
    if !message.source.strip_prefix('/').is_some_and(|rest| rest.starts_with(&format!("{site}/"))) {
        return Err(format!("source is not of the site {site}"));
    }
    Ok(message)
}

/// ITU-T T.81 annex B: start of image, then another marker.
pub(crate) fn is_picture(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_PICTURE_BYTES && bytes.starts_with(&[0xff, 0xd8, 0xff])
}

pub(crate) fn receipt(
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
