//! Listens to what others tell a worker. A connection of its own with a session that the broker keeps for a week: what
//! the desk says while the worker is away is heard when it is back.

use std::sync::Arc;
use std::time::Duration;

use flow::{CameraId, Counter, EventId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::mqtt::{Connection, Dialer, Hello, Incoming, LostError, Properties, Publish, Session};
use crate::publisher::Options;
use crate::wire::{LookAnswer, LookCommand, MAX_COMMAND_BYTES, Topic, Verdict, VerdictMessage};

/// Answers that wait for the connection, at most.
const MAX_WAITING: usize = 64;
/// Messages that the broker may send before the first is acknowledged.
const RECEIVE_MAX: u16 = 32;
/// Larger packets are not for us: a command with its topic and properties.
const MAX_PACKET: u32 = 4 * MAX_COMMAND_BYTES as u32;

/// What was heard.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// The desk has decided about a situation.
    Verdict {
        /// Which.
        event: EventId,
        /// What.
        verdict: Verdict,
        /// Why.
        reason: String,
    },
    /// Somebody wants to see a camera now.
    Look {
        /// Which.
        camera: CameraId,
        /// Where the answer goes.
        reply: ReplyTo,
    },
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    topic: String,
    correlation: Option<bytes::Bytes>,
}

impl ReplyTo {
    /// Below `huiyan/v1/{site}/reply/`.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What the answer repeats.
    pub fn correlation(&self) -> Option<&bytes::Bytes> {
        self.correlation.as_ref()
    }
}

/// Takes what was heard; called on the listening task, so it must not block. `false`: too much waits already.
pub type OnHeard = Box<dyn Fn(Heard) -> bool + Send + Sync>;

/// What has been heard so far.
#[derive(Debug, Default)]
pub struct EarCounters {
    /// All messages.
    pub heard: Counter,
    /// Taken.
    pub taken: Counter,
    /// Not taken, since too much waited.
    pub overflowed: Counter,
    /// Malformed, too large, or with a reply topic where none may be.
    pub refused: Counter,
    /// Answers that could not be handed to the connection.
    pub unanswered: Counter,
}

/// Listens until dropped.
#[derive(Debug)]
pub struct Ear {
    answers: mpsc::Sender<Publish>,
    counters: Arc<EarCounters>,
    task: JoinHandle<()>,
    _stop_when_dropped: DropGuard,
}

impl Ear {
    /// Starts to listen, on `handle`. Does not wait for the broker.
    pub fn start(options: &Options, handle: &tokio::runtime::Handle, on_heard: OnHeard) -> Self {
        let (answers, waiting) = mpsc::channel(MAX_WAITING);
        let counters = Arc::new(EarCounters::default());
        let stop = CancellationToken::new();
        let listener = Listener {
            site: options.site.clone(),
            hello: hello(options),
            counters: counters.clone(),
            on_heard,
            waiting,
            refused: false,
        };
        let dialer = Dialer::new(options.broker.clone(), "listener");
        let task = handle.spawn(listener.run(dialer, stop.clone()));
        Self { answers, counters, task, _stop_when_dropped: stop.drop_guard() }
    }

    /// Counts.
    pub fn counters(&self) -> &EarCounters {
        &self.counters
    }

    /// Sends an answer; where it cannot be handed to the connection, whoever asked has to ask again.
    pub fn answer(&self, reply: &ReplyTo, answer: &LookAnswer) {
        let body = serde_json::to_vec(answer).expect("texts, numbers and times only");
        let answered = self.answers.try_send(Publish {
            topic: reply.topic.clone(),
            payload: body.into(),
            at_least_once: true,
            properties: Properties {
                content_type: Some("application/json".into()),
                correlation: reply.correlation.clone(),
                ..Properties::default()
            },
            ..Publish::default()
        });
        if answered.is_err() {
            self.counters.unanswered.add(1);
            tracing::warn!(topic = reply.topic, camera = %answer.camera, "answer not sent: too many wait for the broker");
        }
    }

    /// Says goodbye: the broker keeps the session.
    pub async fn stop(self) {
        let Self { task, _stop_when_dropped, .. } = self;
        drop(_stop_when_dropped);
        let _ = tokio::time::timeout(Duration::from_secs(2), task).await;
    }
}

struct Listener {
    site: String,
    hello: Hello,
    counters: Arc<EarCounters>,
    on_heard: OnHeard,
    waiting: mpsc::Receiver<Publish>,
    /// That the broker refuses was told.
    refused: bool,
}

impl Listener {
    async fn run(mut self, mut dialer: Dialer, stop: CancellationToken) {
        loop {
            let connection = tokio::select! {
                connection = dialer.dial(&self.hello, |_| ()) => connection,
                () = stop.cancelled() => return,
            };
            match self.run_once(connection, &dialer, &stop).await {
                Ok(()) if stop.is_cancelled() => return,
                Ok(()) => dialer.restart(),
                Err(error) => drop(dialer.lost(&error)),
            }
            tokio::select! {
                () = dialer.pause() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One connection, until asked to stop or until the preferred broker is back.
    async fn run_once(
        &mut self,
        mut connection: Connection,
        dialer: &Dialer,
        stop: &CancellationToken,
    ) -> Result<(), LostError> {
        let filters = [Topic::all_verdicts(&self.site), Topic::all_looks(&self.site)];
        let id = connection.fresh_id(|_| false);
        connection.subscribe(&filters, true, id);
        let hello = self.hello.clone();
        let mut first_is_back = std::pin::pin!(dialer.first_is_back(&hello));
        loop {
            tokio::select! {
                incoming = connection.next() => match incoming? {
                    Incoming::Publish(message) => {
                        self.heard(&message);
                        connection.acknowledge(&message);
                    }
                    Incoming::SubAck { refusals, .. } => self.subscribed(&filters, &refusals),
                    Incoming::PubAck { refusal: Some(reason), .. } => {
                        self.counters.unanswered.add(1);
                        tracing::warn!(%reason, "the broker refused an answer");
                    }
                    Incoming::PubAck { .. } => {}
                },
                // Answers may be lost with the connection: whoever asked has to ask again.
                Some(answer) = self.waiting.recv() => {
                    let id = connection.fresh_id(|_| false);
                    connection.publish(&answer, id);
                }
                () = &mut first_is_back => break,
                () = stop.cancelled() => break,
            }
        }
        connection.close().await;
        Ok(())
    }

    fn subscribed(&mut self, filters: &[String], refusals: &[Option<crate::mqtt::Reason>]) {
        for (filter, refusal) in filters.iter().zip(refusals) {
            if let Some(reason) = refusal
                && !std::mem::replace(&mut self.refused, true)
            {
                tracing::warn!(filter, %reason, "not subscribed; expected an access list that lets this worker read there");
            }
        }
    }

    fn heard(&self, message: &Publish) {
        self.counters.heard.add(1);
        let Properties { response_topic, correlation, .. } = message.properties.clone();
        match read(&self.site, &message.topic, &message.payload, response_topic, correlation) {
            Ok(heard) => {
                let taken = (self.on_heard)(heard);
                if taken { &self.counters.taken } else { &self.counters.overflowed }.add(1);
            }
            Err(error) => {
                self.counters.refused.add(1);
                let topic: String = message.topic.chars().take(200).collect();
                tracing::warn!(topic, "refused: {}", error.brief());
            }
        }
    }
}

/// Why a message to a worker is refused.
#[derive(Debug, thiserror::Error)]
pub enum HeardError {
    /// Larger than anything that is expected.
    #[error("{0} bytes; at most {MAX_COMMAND_BYTES} are read")]
    TooLarge(usize),
    /// No topic of ours.
    #[error(transparent)]
    Topic(#[from] crate::wire::TopicError),
    /// A topic of ours on which nobody tells a worker anything.
    #[error("expected a verdict or a request to look")]
    Kind,
    /// Another site's.
    #[error("the topic is of site {0:?}")]
    Site(String),
    /// The body.
    #[error("the body is not as expected: {0}")]
    Body(#[from] serde_json::Error),
    /// The body speaks of another situation.
    #[error("the body is about situation {0}, the topic about another")]
    Other(EventId),
    /// Nobody could be answered, or somebody who must not be.
    #[error("the reply topic is {found:?}; expected one below {expected:?}, as response topic or `reply_to`")]
    Reply {
        /// What was given.
        found: String,
        /// Where answers may go.
        expected: String,
    },
}

impl HeardError {
    /// For a log: it may quote the message, which may be long.
    pub fn brief(&self) -> String {
        self.to_string().chars().take(400).collect()
    }
}

/// Reads a message to a worker: hostile input.
///
/// # Errors
/// What is wrong with it.
pub fn read(
    site: &str,
    topic: &str,
    payload: &[u8],
    response_topic: Option<String>,
    correlation: Option<bytes::Bytes>,
) -> Result<Heard, HeardError> {
    if payload.len() > MAX_COMMAND_BYTES {
        return Err(HeardError::TooLarge(payload.len()));
    }
    match topic.parse::<Topic>()? {
        // The broker was asked for this site's alone.
        Topic::Verdict { site: other, .. } | Topic::Look { site: other, .. } if other != site => {
            Err(HeardError::Site(other))
        }
        Topic::Verdict { event, .. } => {
            let message: VerdictMessage = serde_json::from_slice(payload)?;
            if message.event != event {
                return Err(HeardError::Other(message.event));
            }
            let reason = message.reason.chars().take(500).collect();
            Ok(Heard::Verdict { event, verdict: message.verdict, reason })
        }
        Topic::Look { camera, .. } => {
            let command: LookCommand =
                if payload.is_empty() { LookCommand::default() } else { serde_json::from_slice(payload)? };
            let topic = response_topic.or(command.reply_to).unwrap_or_default();
            // A reply must not pass for an event, a verdict or another site's.
            let expected = format!("{}/", Topic::replies(site));
            let plain = topic.len() <= 256 && !topic.contains(['#', '+', '\0']);
            if !plain || topic.strip_prefix(&expected).is_none_or(str::is_empty) {
                return Err(HeardError::Reply { found: topic.chars().take(100).collect(), expected });
            }
            Ok(Heard::Look { camera, reply: ReplyTo { topic, correlation } })
        }
        _ => Err(HeardError::Kind),
    }
}

fn hello(options: &Options) -> Hello {
    let Options { site, worker, broker, .. } = options;
    Hello {
        client_id: format!("huiyan-{site}-{worker}-ear"),
        session: Session::Kept(broker.session_expiry),
        receive_maximum: RECEIVE_MAX,
        max_packet: MAX_PACKET,
        will: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0193d1a4-5c00-7e6b-8a13-2f6f9b1c7d11";

    fn said(topic: &str, body: &str, response: Option<&str>) -> Result<Heard, String> {
        read("huinan", topic, body.as_bytes(), response.map(str::to_owned), None)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn verdicts_and_requests_are_read() {
        let topic = format!("huiyan/v1/huinan/verdict/{ID}");
        let body = format!(
            r#"{{"event":"{ID}","verdict":"not_a_problem","reason":"自家门前","at":"2026-11-24T08:00:00Z","x":1}}"#
        );
        let heard = said(&topic, &body, None).unwrap();
        let event = EventId::parse(ID).unwrap();
        assert_eq!(heard, Heard::Verdict { event, verdict: Verdict::NotAProblem, reason: "自家门前".into() });
        let look = "huiyan/v1/huinan/command/hn-0001/look";
        let reply = "huiyan/v1/huinan/reply/desk-1";
        assert_eq!(said(look, "", Some(reply)), said(look, &format!(r#"{{"reply_to":"{reply}"}}"#), None));
        assert!(
            matches!(said(look, "", Some(reply)).unwrap(), Heard::Look { camera, .. } if camera.as_str() == "hn-0001")
        );
    }

    #[test]
    fn another_sites_topics_are_refused_and_a_refusal_is_short() {
        let error = said(&format!("huiyan/v1/other/verdict/{ID}"), "{}", None).unwrap_err();
        assert!(error.contains("of site \"other\""), "{error}");
        let error = said("huiyan/v1/other/command/hn-0001/look", "", Some("huiyan/v1/huinan/reply/x"));
        assert!(error.unwrap_err().contains("of site \"other\""));
        let body = format!(r#"{{"event":"{ID}","verdict":"{}"}}"#, "x".repeat(9_000));
        let error = read("huinan", &format!("huiyan/v1/huinan/verdict/{ID}"), body.as_bytes(), None, None);
        assert!(error.unwrap_err().brief().chars().count() <= 400);
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_reason() {
        let topic = format!("huiyan/v1/huinan/verdict/{ID}");
        let other = r#"{"event":"0193d1a4-5c00-7e6b-8a13-2f6f9b1c7d12","verdict":"confirmed","at":"2026-11-24T08:00:00Z"}"#;
        assert!(said(&topic, other, None).unwrap_err().contains("the topic about another"));
        assert!(said(&topic, "{", None).unwrap_err().contains("not as expected"));
        assert!(said(&topic, &" ".repeat(20_000), None).unwrap_err().contains("20000 bytes"));
        assert!(
            said("huiyan/v1/huinan/worker/w/status", "{}", None).unwrap_err().contains("expected a verdict")
        );
        let look = "huiyan/v1/huinan/command/hn-0001/look";
        for reply in [
            "",
            "huiyan/v1/huinan/event/illegal_parking/hn-0001",
            "huiyan/v1/other/reply/x",
            "huiyan/v1/huinan/reply/",
            "huiyan/v1/huinan/reply/#",
        ] {
            assert!(said(look, "", Some(reply)).unwrap_err().contains("expected one below"), "{reply}");
        }
    }
}
