//! A client's connection to an MQTT broker: 5.0 (OASIS, 2019) or 3.1.1 (ISO/IEC 20922), plain or with TLS.
//!
//! ```text
//! Dialer: addresses in turn, waits, what is told of it -> Connection: one socket, packets in and out, keep-alive
//! ```
//!
//! A connection knows nothing of retries and repeats nothing: what was not acknowledged when it ends is its user's to
//! send again. [`Connection::next`] may be dropped at any time without losing a packet. What a broker refuses comes
//! with its [`Reason`], also one that this crate does not know, and is never taken for a broken connection.

mod connection;
mod dialer;
mod error;
pub(crate) mod fuzz;
mod packet;
mod reader;
mod socket;

pub use connection::Connection;
pub(crate) use dialer::PUBLISHER;
pub use dialer::{Dialer, backoff};
pub use error::{ConnectError, LostError, Reason};
pub use reader::Malformed;

#[cfg(test)]
pub(crate) use socket::open_socket;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

/// Version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 5.0.
    V5,
    /// 3.1.1. Has no reason codes, properties, expiry or will delay: they are left out.
    V311,
}

/// What a client says when it connects.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Client id: a second client with the same one takes the connection away from the first.
    pub client_id: String,
    /// Whether the broker keeps subscriptions and messages while the client is away.
    pub session: Session,
    /// Messages with QoS 1 that the broker may send before the first is acknowledged.
    pub receive_maximum: u16,
    /// Largest packet that is taken, bytes.
    pub max_packet: u32,
    /// Published by the broker when the client is gone without a goodbye.
    pub will: Option<Will>,
}

/// How long a broker remembers a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Until the connection ends (and its will is published).
    Connection,
    /// So long after that. With 3.1.1: as long as the broker likes.
    Kept(Duration),
}

/// A last will.
#[derive(Debug, Clone)]
pub struct Will {
    /// What the broker publishes.
    pub message: Publish,
    /// How long it waits for the client to come back. Not with 3.1.1.
    pub delay: Duration,
}

/// A message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publish {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// The broker keeps it for those who subscribe later; of a message that came: it was kept.
    pub retain: bool,
    /// QoS 1 (at least once) instead of 0.
    pub at_least_once: bool,
    /// Of a message with QoS 1; 0 otherwise.
    pub packet_id: u16,
    /// What 5.0 tells with it.
    pub properties: Properties,
}

/// What MQTT 5 tells with a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Media type.
    pub content_type: Option<Cow<'static, str>>,
    /// The payload is UTF-8 (payload format indicator).
    pub utf8: bool,
    /// How long the broker keeps it for a subscriber that is away, s.
    pub expiry_s: Option<u32>,
    /// Where an answer goes.
    pub response_topic: Option<String>,
    /// What an answer repeats.
    pub correlation: Option<Bytes>,
    /// Name and value.
    pub user: Vec<(Cow<'static, str>, String)>,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message. With QoS 1 it has to be acknowledged ([`Connection::acknowledge`]).
    Publish(Publish),
    /// The broker has taken a message, or refused it.
    PubAck {
        /// Of the message.
        packet_id: u16,
        /// `None`: taken. Always with 3.1.1, where a broker cannot say no.
        refusal: Option<Reason>,
    },
    /// The answer to a subscription: for each filter, in order, why it was refused.
    SubAck {
        /// Of the subscription.
        packet_id: u16,
        /// `None`: granted.
        refusals: Vec<Option<Reason>>,
    },
}
