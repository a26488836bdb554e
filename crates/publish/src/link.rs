//! From the outbox to the broker: `run` retries, [`Sending`] is one connection.
//!
//! The outbox alone knows what is left to send: what a connection left without acknowledgement when it ended is taken
//! again for the next one.
//!
//! A broker may also close the connection *because of* a message: one of MQTT 3.1.1 has no other way to refuse it.
//! Sent again, it would do so for ever, so after a connection that ended with messages under way the next one sends
//! them one by one; a message that ends [`STRIKES`] connections in a row, or one after which the broker says that it
//! was the reason, is put aside as refused.

mod sending;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use flow::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::mqtt::{Dialer, Hello, LostError, PUBLISHER, Properties, Publish, Session, Will};
use crate::outbox::{Kind, Message, Outbox, OutboxError};
use crate::publisher::{Link, Options, Shared};
use crate::wire::{Role, Topic, WorkerState, WorkerStatus};
use sending::{End, Sending};

/// After so many connections that one message ended, it is put aside.
const STRIKES: u32 = 3;
/// Nothing large is received here, but a reason text may be.
const MAX_PACKET: u32 = 64 << 10;

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
    one_by_one: usize,
    /// How many connections in a row each message ended; by outbox row.
    strikes: HashMap<i64, u32>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Lost(#[from] LostError),
    #[error("the broker did not acknowledge a message within {0:?}")]
    NoAck(Duration),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("the outbox task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl LinkTask {
    pub fn new(options: Options, outbox: Arc<Outbox>, shared: Arc<Shared>) -> Self {
        Self { options, outbox, shared, started: Timestamp::now(), caution: Caution::default() }
    }

    /// Until `stop`: connect, send, and start over when that fails.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut dialer = Dialer::new(self.options.broker.clone(), PUBLISHER);
        let hello = self.hello();
        let shared = self.shared.clone();
        loop {
            let connection = tokio::select! {
                connection = dialer.dial(&hello, |trouble| down(&shared, trouble)) => connection,
                () = stop.cancelled() => return,
            };
            let one_by_one = self.caution.one_by_one > 0;
            let mut sending = Sending::new(&self, connection, one_by_one);
            let result = sending.run(&stop, &dialer, &hello).await;
            let (acked, outstanding) = sending.close(result.is_ok()).await;
            // While they still count as under way.
            self.learn(acked, &outstanding, &result);
            self.outbox.disconnected();
            let trouble = match result {
                Ok(End::Stopped) => return,
                Ok(End::Moving) => {
                    dialer.restart();
                    "moving to the first address".to_owned()
                }
                Err(error) => dialer.lost(&error),
            };
            down(&self.shared, &trouble);
            tokio::select! {
                () = dialer.pause() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// What a connection's end teaches for the next one.
    fn learn(&mut self, acked: usize, outstanding: &[Message], result: &Result<End, LinkError>) {
        self.caution.one_by_one = self.caution.one_by_one.saturating_sub(acked);
        if let Err(error) = result
            && !outstanding.is_empty()
        {
            self.caution.one_by_one = 2 * sending::WINDOW;
            if let [only] = outstanding {
                self.strike(only, error);
            }
        }
        if acked > 0 && outstanding.len() != 1 {
            self.caution.strikes.clear();
        }
    }

    /// The connection ended while only this message was under way.
    fn strike(&mut self, message: &Message, error: &LinkError) {
        let strikes = self.caution.strikes.entry(message.id).or_default();
        *strikes += 1;
        let reason = match error {
            // The broker says itself that the message was the reason.
            LinkError::Lost(LostError::Disconnected(reason)) if reason.is_of_message() => reason.name(),
            _ if *strikes >= STRIKES => "connection closed each time it was sent",
            _ => return,
        };
        let strikes = *strikes;
        self.caution.strikes.remove(&message.id);
        *self.shared.lock().refused.entry(reason.into()).or_default() += 1;
        let (topic, event) = (&message.topic, &message.event);
        tracing::error!(topic, event, strikes, reason, "message put aside");
        self.outbox.refused(message, reason, sending::ASIDE_MS);
    }

    /// What a message carries; `None` for evidence whose file is gone, and then its row is gone too.
    async fn payload(&self, message: &Message) -> Result<Option<bytes::Bytes>, LinkError> {
        if message.kind != Kind::Evidence {
            return Ok(Some(message.payload.clone()));
        }
        let (outbox, message) = (Arc::clone(&self.outbox), message.clone());
        let read = move || {
            let role = message.topic.rsplit('/').next().and_then(|role| role.parse::<Role>().ok());
            let bytes = match (message.event_id(), role, &message.sha256) {
                (Some(event), Some(role), Some(sha256)) => outbox.read_file(event, role, sha256),
                _ => None,
            };
            if bytes.is_none() {
                tracing::warn!(topic = message.topic, "evidence file is gone; not sent");
                outbox.lost(&message);
            }
            bytes.map(bytes::Bytes::from)
        };
        Ok(tokio::task::spawn_blocking(read).await?)
    }

    fn hello(&self) -> Hello {
        let Options { site, worker, broker, .. } = &self.options;
        Hello {
            client_id: format!("huiyan-{site}-{worker}"),
            session: Session::Connection,
            receive_maximum: 16,
            max_packet: MAX_PACKET,
            will: Some(Will {
                message: Publish {
                    topic: self.status_topic(),
                    payload: self.status(WorkerState::Offline, "connection lost").into(),
                    retain: true,
                    at_least_once: true,
                    properties: json(),
                    ..Publish::default()
                },
                delay: broker.will_delay,
            }),
        }
    }

    fn status_topic(&self) -> String {
        let Options { site, worker, .. } = &self.options;
        Topic::Worker { site: site.clone(), worker: worker.clone() }.to_string()
    }

    /// What the worker's status says of its disk; empty where nothing is wrong.
    fn disk_words(&self) -> String {
        self.outbox.trouble().map(|trouble| trouble.to_string()).unwrap_or_default()
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

fn down(shared: &Shared, trouble: &str) {
    let mut state = shared.lock();
    let since = match &state.link {
        Link::Down { since, .. } => *since,
        Link::Up { .. } => Timestamp::now(),
    };
    state.link = Link::Down { since, error: trouble.to_owned() };
}

fn json() -> Properties {
    Properties { content_type: Some("application/json".into()), utf8: true, ..Properties::default() }
}
