//! One connection to the broker.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use flow::{CameraId, EventId, Timestamp};
use futures::{Stream, StreamExt};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet, PubAck, PubAckReason, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{LinkError, LinkTask};
use crate::outbox::{Kind, Message};
use crate::publisher::Link;
use crate::wire::{CONTENT_TYPE, EventMessage, Topic, WorkerState};

/// Messages under way at once, at most.
pub(super) const WINDOW: usize = 16;
/// A broker that is silent about a message for so long is as good as gone.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(20);
/// A message that the broker refused is tried again after this.
const REFUSED_MS: i64 = 30_000;
/// A message that closes connections is tried again after this.
pub(super) const ASIDE_MS: i64 = 120_000;
/// The goodbye takes no longer.
const GOODBYE: Duration = Duration::from_secs(2);
/// Fixed header, topic length, packet id and properties of a PUBLISH are never longer, topic and payload aside.
const PACKET_OVERHEAD: usize = 1024;

type Events = Pin<Box<dyn Stream<Item = Result<Event, ConnectionError>> + Send>>;

pub(super) struct Session<'a> {
    task: &'a LinkTask,
    client: AsyncClient,
    /// rumqttc's event loop as a stream: its `poll` must not be dropped half-way, or a packet is lost.
    events: Events,
    connected: bool,
    was_up: bool,
    /// Messages under way at once; the broker may allow fewer than [`WINDOW`].
    window: usize,
    /// The broker's limit for a packet.
    max_packet: usize,
    /// Numbers what was sent.
    next: u64,
    /// Handed to rumqttc, which has not yet told its packet id. It tells them in order.
    handed: VecDeque<Sent>,
    /// Sent, by packet id.
    under_way: HashMap<u16, Sent>,
    acked: u32,
    leaving: Option<Instant>,
}

struct Sent {
    number: u64,
    at: Instant,
    what: What,
}

enum What {
    Message(Message),
    Health(CameraId),
    Birth,
    Death,
}

impl<'a> Session<'a> {
    pub fn open(task: &'a LinkTask, one_by_one: bool) -> Self {
        let (client, events) = AsyncClient::new(task.mqtt_options(), 2 * WINDOW);
        let events = futures::stream::unfold(events, |mut events| async move {
            let event = events.poll().await;
            Some((event, events))
        });
        Self {
            task,
            client,
            events: Box::pin(events),
            connected: false,
            was_up: false,
            window: if one_by_one { 1 } else { WINDOW },
            max_packet: usize::MAX,
            next: 0,
            handed: VecDeque::new(),
            under_way: HashMap::new(),
            acked: 0,
            leaving: None,
        }
    }

    /// Acknowledged messages, messages under way, and whether the connection ever stood.
    pub fn close(self) -> (u32, Vec<Message>, bool) {
        let sent = self.handed.into_iter().chain(self.under_way.into_values());
        let message = |sent: Sent| if let What::Message(message) = sent.what { Some(message) } else { None };
        (self.acked, sent.filter_map(message).collect(), self.was_up)
    }

    /// Until asked to stop, or until the connection fails.
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), LinkError> {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let task = self.task;
        loop {
            tokio::select! {
                event = self.events.next() => {
                    let Some(event) = event else { return Ok(()) };
                    if self.on_event(event.map_err(Box::new)?).await? {
                        return Ok(());
                    }
                }
                () = task.shared.wake.notified(), if self.connected => self.fill().await?,
                _ = tick.tick() => {
                    if self.leaving.is_some_and(|deadline| Instant::now() > deadline) {
                        return Ok(());
                    }
                    if self.outstanding().any(|sent| sent.at.elapsed() > ACK_TIMEOUT) {
                        return Err(LinkError::NoAck);
                    }
                    // What was refused may be due again.
                    self.fill().await?;
                }
                () = stop.cancelled(), if self.leaving.is_none() => {
                    if !self.connected {
                        return Ok(());
                    }
                    self.leaving = Some(Instant::now() + GOODBYE);
                    self.send_status(What::Death)?;
                }
            }
        }
    }

    /// Returns whether the goodbye is done.
    async fn on_event(&mut self, event: Event) -> Result<bool, LinkError> {
        match event {
            Event::Incoming(Packet::ConnAck(ack)) => self.on_connack(&ack).await?,
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(sent) = self.handed.pop_front() {
                    self.under_way.insert(id, sent);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => self.on_puback(&ack).await?,
            Event::Outgoing(Outgoing::Disconnect) => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    async fn on_connack(&mut self, ack: &ConnAck) -> Result<(), LinkError> {
        if let Some(properties) = &ack.properties {
            if let Some(max) = properties.receive_max {
                self.window = self.window.min(usize::from(max.max(1)));
            }
            self.max_packet = properties.max_packet_size.map_or(usize::MAX, |max| max as usize);
        }
        (self.connected, self.was_up) = (true, true);
        {
            let mut state = self.task.shared.lock();
            state.link = Link::Up { since: Timestamp::now() };
            state.health_due = state.health.keys().cloned().collect();
        }
        let broker = &self.task.options.broker;
        tracing::info!(host = broker.host, port = broker.port, "connected to the broker");
        self.task.with_outbox(|outbox| outbox.connected()).await?;
        self.send_status(What::Birth)?;
        self.fill().await
    }

    async fn on_puback(&mut self, ack: &PubAck) -> Result<(), LinkError> {
        let Some(sent) = self.under_way.remove(&ack.pkid) else { return Ok(()) };
        let refusal = match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
            other => Some(format!("{other:?}")),
        };
        self.acked += 1;
        match (sent.what, refusal) {
            (What::Message(message), None) => {
                self.task.with_outbox(move |outbox| outbox.acked(&message)).await?
            }
            (What::Message(message), Some(reason)) => self.refuse(message, reason).await?,
            (What::Death, _) => self.client.try_disconnect().map_err(Box::new)?,
            (What::Birth, None) | (What::Health(_), None) => {}
            (What::Birth, Some(reason)) => self.count_refusal(&self.task.status_topic(), &reason),
            (What::Health(camera), Some(reason)) => self.count_refusal(camera.as_str(), &reason),
        }
        self.fill().await
    }

    async fn refuse(&mut self, message: Message, reason: String) -> Result<(), LinkError> {
        self.count_refusal(&message.topic, &reason);
        self.task.with_outbox(move |outbox| outbox.refused(&message, &reason, REFUSED_MS)).await
    }

    fn count_refusal(&self, topic: &str, reason: &str) {
        tracing::warn!(topic, reason, "the broker refused a message");
        *self.task.shared.lock().refused.entry(reason.into()).or_default() += 1;
    }

    /// Hands over as much as may be under way: events first, then the cameras' health.
    async fn fill(&mut self) -> Result<(), LinkError> {
        while self.connected && self.leaving.is_none() && self.room() > 0 {
            let (busy, limit) = (self.busy(), self.room());
            let due = self.task.with_outbox(move |outbox| outbox.pending(&busy, limit)).await?;
            if due.is_empty() {
                break;
            }
            for message in due {
                self.send_message(message).await?;
            }
        }
        while self.connected && self.leaving.is_none() && self.room() > 0 {
            let due = {
                let mut state = self.task.shared.lock();
                state.health_due.pop_first().and_then(|camera| state.health.get(&camera).cloned())
            };
            let Some(health) = due else { break };
            let topic = Topic::Health { site: self.task.options.site.clone(), camera: health.camera.clone() };
            let body = serde_json::to_vec(&health).unwrap_or_default();
            self.publish(What::Health(health.camera), topic.to_string(), true, body, json())?;
        }
        Ok(())
    }

    async fn send_message(&mut self, message: Message) -> Result<(), LinkError> {
        let Some(payload) = self.task.payload(&message).await? else { return Ok(()) };
        let bytes = payload.len() + message.topic.len() + PACKET_OVERHEAD;
        if bytes > self.max_packet {
            let reason = format!("larger than the broker's limit of {} bytes", self.max_packet);
            return self.refuse(message, reason).await;
        }
        let properties = self.properties(&message, payload.is_empty());
        let retain = message.kind == Kind::Open;
        let topic = message.topic.clone();
        self.publish(What::Message(message), topic, retain, payload, properties)
    }

    fn properties(&self, message: &Message, empty: bool) -> PublishProperties {
        let expiry = u32::try_from(self.task.options.broker.message_expiry.as_secs()).unwrap_or(u32::MAX);
        let trace =
            message.event_id().map(|event| ("traceparent".to_owned(), traceparent(event, message.sequence)));
        match message.kind {
            Kind::Evidence => PublishProperties {
                content_type: Some("image/jpeg".into()),
                message_expiry_interval: Some(expiry),
                user_properties: message.sha256.iter().map(|s| ("sha256".to_owned(), s.clone())).collect(),
                ..PublishProperties::default()
            },
            Kind::Event => PublishProperties {
                content_type: Some(CONTENT_TYPE.into()),
                payload_format_indicator: Some(1),
                message_expiry_interval: Some(expiry),
                user_properties: self.id_property(message).into_iter().chain(trace).collect(),
                ..PublishProperties::default()
            },
            // What lasts must not expire.
            Kind::Open if !empty => PublishProperties {
                content_type: Some(CONTENT_TYPE.into()),
                payload_format_indicator: Some(1),
                user_properties: self.id_property(message).into_iter().collect(),
                ..PublishProperties::default()
            },
            Kind::Open => PublishProperties::default(),
        }
    }

    /// The CloudEvents id, so that a receiver can sort out duplicates unread.
    fn id_property(&self, message: &Message) -> Option<(String, String)> {
        message.event_id().map(|event| ("id".to_owned(), EventMessage::message_id(event, message.sequence)))
    }

    fn send_status(&mut self, what: What) -> Result<(), LinkError> {
        let body = match what {
            What::Death => self.task.status(WorkerState::Offline, "stopped"),
            _ => self.task.status(WorkerState::Online, ""),
        };
        self.publish(what, self.task.status_topic(), true, body, json())
    }

    fn publish(
        &mut self,
        what: What,
        topic: String,
        retain: bool,
        payload: Vec<u8>,
        properties: PublishProperties,
    ) -> Result<(), LinkError> {
        self.client
            .try_publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties)
            .map_err(Box::new)?;
        self.handed.push_back(Sent { number: self.next, at: Instant::now(), what });
        self.next += 1;
        Ok(())
    }

    fn outstanding(&self) -> impl Iterator<Item = &Sent> {
        self.handed.iter().chain(self.under_way.values())
    }

    /// How many more may be sent. The window slides: counted from the oldest without acknowledgement, so that
    /// rumqttc, which gives packet ids in a circle, never meets one that is still in use.
    fn room(&self) -> usize {
        let oldest = self.outstanding().map(|sent| sent.number).min().unwrap_or(self.next);
        self.window.saturating_sub((self.next - oldest) as usize)
    }

    /// Situations with a message under way; their next one waits, so that they stay in order.
    fn busy(&self) -> Vec<String> {
        let event = |sent: &Sent| match &sent.what {
            What::Message(message) => Some(message.event.clone()),
            _ => None,
        };
        self.outstanding().filter_map(event).collect()
    }
}

fn json() -> PublishProperties {
    PublishProperties {
        content_type: Some("application/json".into()),
        payload_format_indicator: Some(1),
        ..PublishProperties::default()
    }
}

/// W3C Trace Context: one trace per situation (its id has the 16 bytes of a trace id), one span per message.
fn traceparent(event: EventId, sequence: u32) -> String {
    let trace: String = event.to_string().chars().filter(|c| *c != '-').collect();
    format!("00-{trace}-{:016x}-00", u64::from(sequence) + 1)
}
