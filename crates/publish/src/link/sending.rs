//! One connection to the broker.

use std::collections::HashMap;
use std::time::Duration;

use flow::{CameraId, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{LinkError, LinkTask, json};
use crate::mqtt::{Connection, Dialer, Hello, Incoming, Properties, Publish, Reason};
use crate::outbox::{Kind, Message};
use crate::publisher::Link;
use crate::wire::{CONTENT_TYPE, EventMessage, Topic, WorkerState};

/// Messages under way at once, at most. Large enough that a broker some milliseconds away is kept busy.
pub(super) const WINDOW: usize = 128;
/// Bytes of them, at most (one more than fit may be under way).
const WINDOW_BYTES: usize = 4 << 20;
/// So many are taken out of the outbox before their bytes are counted: pictures are large.
const AT_ONCE: usize = 16;
/// A message that the broker refused is tried again after this.
const REFUSED_MS: i64 = 30_000;
/// A message that closes connections is tried again after this.
pub(super) const ASIDE_MS: i64 = 120_000;
/// The last word before a goodbye is waited for no longer.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a connection was given up on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Asked to.
    Stopped,
    /// The preferred broker is back.
    Moving,
}

pub(super) struct Sending<'a> {
    task: &'a LinkTask,
    connection: Connection,
    /// Messages under way at once; the broker may allow fewer than [`WINDOW`].
    window: usize,
    /// By packet id.
    under_way: HashMap<u16, Sent>,
    bytes: usize,
    acked: usize,
    leaving: Option<(Instant, End)>,
}

struct Sent {
    at: Instant,
    bytes: usize,
    what: What,
}

enum What {
    Message(Message),
    Health(CameraId),
    Birth,
    Death,
}

impl<'a> Sending<'a> {
    pub fn new(task: &'a LinkTask, connection: Connection, one_by_one: bool) -> Self {
        let window = if one_by_one { 1 } else { WINDOW.min(connection.receive_maximum()) };
        Self { task, connection, window, under_way: HashMap::new(), bytes: 0, acked: 0, leaving: None }
    }

    /// Ends the connection, with a goodbye where it still stands. Returns how many messages were acknowledged, and
    /// those that were not.
    pub async fn close(self, stands: bool) -> (usize, Vec<Message>) {
        if stands {
            self.connection.close().await;
        }
        let message = |sent: Sent| if let What::Message(message) = sent.what { Some(message) } else { None };
        (self.acked, self.under_way.into_values().filter_map(message).collect())
    }

    /// Until asked to stop, until the preferred broker is back, or until the connection fails.
    pub async fn run(
        &mut self,
        stop: &CancellationToken,
        dialer: &Dialer,
        hello: &Hello,
    ) -> Result<End, LinkError> {
        self.connected().await?;
        let ack_timeout = 2 * self.task.options.broker.keep_alive;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut first_is_back = std::pin::pin!(dialer.first_is_back(hello));
        let task = self.task;
        loop {
            tokio::select! {
                incoming = self.connection.next() => {
                    let mut incoming = Some(incoming?);
                    // All that has come is taken before the next is sent.
                    while let Some(packet) = incoming {
                        if let Some(end) = self.on_incoming(packet) {
                            return Ok(end);
                        }
                        incoming = self.connection.ready()?;
                    }
                    self.fill().await?;
                }
                () = task.shared.wake.notified() => self.fill().await?,
                _ = tick.tick() => {
                    if let Some((deadline, end)) = self.leaving && Instant::now() > deadline {
                        return Ok(end);
                    }
                    if self.under_way.values().any(|sent| sent.at.elapsed() > ack_timeout) {
                        return Err(LinkError::NoAck(ack_timeout));
                    }
                    // What was refused may be due again.
                    self.fill().await?;
                }
                () = &mut first_is_back, if self.leaving.is_none() => {
                    self.leave(End::Moving, "moving to another broker");
                }
                () = stop.cancelled(), if self.leaving.is_none_or(|(_, end)| end != End::Stopped) => {
                    self.leave(End::Stopped, "stopped");
                }
            }
        }
    }

    async fn connected(&mut self) -> Result<(), LinkError> {
        {
            let mut state = self.task.shared.lock();
            state.link = Link::Up { since: Timestamp::now() };
            state.health_due = state.health.keys().cloned().collect();
        }
        let outbox = self.task.outbox.clone();
        tokio::task::spawn_blocking(move || outbox.connected()).await??;
        self.send_status(What::Birth, WorkerState::Online, &self.task.disk_words());
        self.fill().await
    }

    fn leave(&mut self, end: End, reason: &str) {
        self.leaving = Some((Instant::now() + GOODBYE, end));
        self.send_status(What::Death, WorkerState::Offline, reason);
    }

    /// `Some`: the last word has arrived.
    fn on_incoming(&mut self, incoming: Incoming) -> Option<End> {
        // Nothing is subscribed to here: what else comes is not for us.
        let Incoming::PubAck { packet_id, refusal } = incoming else { return None };
        let sent = self.under_way.remove(&packet_id)?;
        self.bytes -= sent.bytes;
        self.acked += 1;
        match (sent.what, refusal) {
            (What::Message(message), None) => self.task.outbox.acked(&message),
            (What::Message(message), Some(reason)) => self.refuse(&message, reason.name(), Some(&reason)),
            (What::Death, _) => return self.leaving.map(|(_, end)| end),
            (What::Birth, None) | (What::Health(_), None) => {}
            (What::Birth, Some(reason)) => {
                self.tell_refusal(&self.task.status_topic(), reason.name(), Some(&reason))
            }
            (What::Health(camera), Some(reason)) => {
                let site = self.task.options.site.clone();
                self.tell_refusal(&Topic::Health { site, camera }.to_string(), reason.name(), Some(&reason));
            }
        }
        None
    }

    fn refuse(&self, message: &Message, name: &str, reason: Option<&Reason>) {
        self.tell_refusal(&message.topic, name, reason);
        self.task.outbox.refused(message, name, REFUSED_MS);
    }

    fn tell_refusal(&self, topic: &str, name: &str, reason: Option<&Reason>) {
        let reason = reason.map_or_else(|| name.to_owned(), Reason::to_string);
        tracing::warn!(topic, reason, "the broker refused a message; it is kept");
        *self.task.shared.lock().refused.entry(name.into()).or_default() += 1;
    }

    /// Hands over as much as may be under way: events first, then the cameras' health.
    async fn fill(&mut self) -> Result<(), LinkError> {
        if self.leaving.is_none() && std::mem::take(&mut self.task.shared.lock().status_due) {
            self.send_status(What::Birth, WorkerState::Online, &self.task.disk_words());
        }
        while self.leaving.is_none() && self.room() > 0 {
            let due = self.task.outbox.take(self.room().min(AT_ONCE));
            if due.is_empty() {
                break;
            }
            for message in due {
                self.send_message(message).await?;
            }
        }
        while self.leaving.is_none() && self.room() > 0 {
            let due = {
                let mut state = self.task.shared.lock();
                state.health_due.pop_first().and_then(|camera| state.health.get(&camera).cloned())
            };
            let Some(health) = due else { break };
            let topic = Topic::Health { site: self.task.options.site.clone(), camera: health.camera.clone() };
            let body = serde_json::to_vec(&health).unwrap_or_default();
            self.publish(What::Health(health.camera), topic.to_string(), true, body.into(), json());
        }
        Ok(())
    }

    async fn send_message(&mut self, message: Message) -> Result<(), LinkError> {
        let Some(payload) = self.task.payload(&message).await? else { return Ok(()) };
        let properties = self.properties(&message, payload.is_empty());
        let retain = matches!(message.kind, Kind::Open | Kind::Property);
        let topic = message.topic.clone();
        let publish = Publish { topic, payload, retain, at_least_once: true, packet_id: 0, properties };
        let max = self.connection.max_packet();
        if max < usize::MAX && self.connection.size_of(&publish) > max {
            let reason = format!("larger than the broker's limit of {max} bytes");
            self.refuse(&message, &reason, None);
            return Ok(());
        }
        self.hand_over(What::Message(message), &publish);
        Ok(())
    }

    fn properties(&self, message: &Message, empty: bool) -> Properties {
        let expiry = u32::try_from(self.task.options.broker.message_expiry.as_secs()).unwrap_or(u32::MAX);
        // The CloudEvents id, so that a receiver can sort out duplicates unread.
        let id =
            message.event_id().map(|event| ("id".into(), EventMessage::message_id(event, message.sequence)));
        let trace = message
            .event_id()
            .map(|event| ("traceparent".into(), EventMessage::trace(event, message.sequence)));
        match message.kind {
            Kind::Evidence => Properties {
                content_type: Some("image/jpeg".into()),
                expiry_s: Some(expiry),
                user: message
                    .sha256
                    .iter()
                    .map(|hash| ("sha256".into(), hash.clone()))
                    .chain(trace)
                    .collect(),
                ..Properties::default()
            },
            Kind::Event => Properties {
                content_type: Some(CONTENT_TYPE.into()),
                utf8: true,
                expiry_s: Some(expiry),
                user: id.into_iter().chain(trace).collect(),
                ..Properties::default()
            },
            // What lasts must not expire.
            Kind::Open if !empty => Properties {
                content_type: Some(CONTENT_TYPE.into()),
                utf8: true,
                user: id.into_iter().chain(trace).collect(),
                ..Properties::default()
            },
            Kind::Open => Properties::default(),
            // The state now, which does not expire.
            Kind::Property => json(),
            Kind::Moment => Properties { expiry_s: Some(expiry), ..json() },
        }
    }

    fn send_status(&mut self, what: What, state: WorkerState, reason: &str) {
        let body = self.task.status(state, reason);
        self.publish(what, self.task.status_topic(), true, body.into(), json());
    }

    fn publish(
        &mut self,
        what: What,
        topic: String,
        retain: bool,
        payload: bytes::Bytes,
        properties: Properties,
    ) {
        let publish = Publish { topic, payload, retain, at_least_once: true, packet_id: 0, properties };
        self.hand_over(what, &publish);
    }

    fn hand_over(&mut self, what: What, publish: &Publish) {
        let id = self.connection.fresh_id(|id| self.under_way.contains_key(&id));
        self.connection.publish(publish, id);
        let bytes = publish.payload.len();
        self.bytes += bytes;
        self.under_way.insert(id, Sent { at: Instant::now(), bytes, what });
    }

    /// How many more may be sent.
    fn room(&self) -> usize {
        if self.bytes >= WINDOW_BYTES { 0 } else { self.window.saturating_sub(self.under_way.len()) }
    }
}
