//! Packets to bytes and back; of MQTT what a client needs that publishes and subscribes with QoS 0 and 1.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::Reason;
use super::reader::{Malformed, Reader, Value, frame};
use super::{Hello, Incoming, Properties, Publish, Session, Version};

/// The first byte of a broker's first packet.
pub(super) const CONNACK: u8 = 0x20;

const PROPERTY_FORMAT: u8 = 0x01;
const PROPERTY_EXPIRY: u8 = 0x02;
const PROPERTY_CONTENT_TYPE: u8 = 0x03;
const PROPERTY_RESPONSE_TOPIC: u8 = 0x08;
const PROPERTY_CORRELATION: u8 = 0x09;
const PROPERTY_SESSION_EXPIRY: u8 = 0x11;
const PROPERTY_SERVER_KEEP_ALIVE: u8 = 0x13;
const PROPERTY_WILL_DELAY: u8 = 0x18;
const PROPERTY_REASON: u8 = 0x1f;
const PROPERTY_RECEIVE_MAXIMUM: u8 = 0x21;
const PROPERTY_USER: u8 = 0x26;
const PROPERTY_MAX_PACKET: u8 = 0x27;

/// A packet that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    ConnAck(ConnAck),
    Incoming(Incoming),
    Pong,
    /// The broker ends the connection.
    Disconnect(Reason),
}

/// The broker's answer to [`connect`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ConnAck {
    pub refusal: Option<Reason>,
    /// The broker still knew the client.
    pub session_present: bool,
    /// Messages with QoS 1 that may be under way to the broker.
    pub receive_maximum: Option<u16>,
    /// Largest packet that the broker takes, bytes.
    pub max_packet: Option<u32>,
    /// The broker's own idea of the keep-alive, s.
    pub keep_alive_s: Option<u16>,
}

/// Takes the first packet out of `bytes`; `None`: there is not all of it yet.
pub(super) fn decode(
    version: Version,
    bytes: &mut BytesMut,
    max: usize,
) -> Result<Option<Packet>, Malformed> {
    let Some((first, body)) = frame(bytes, max)? else { return Ok(None) };
    let whole = bytes.split_to(body.end).freeze();
    let mut body = Reader(whole.slice(body));
    Ok(Some(match first >> 4 {
        2 => Packet::ConnAck(connack(version, &mut body)?),
        3 => Packet::Incoming(Incoming::Publish(incoming(version, first, body)?)),
        4 => {
            let packet_id = body.u16()?;
            let reason = if body.0.is_empty() { Reason::default() } else { reason(version, &mut body)? };
            Packet::Incoming(Incoming::PubAck { packet_id, refusal: reason.refusal() })
        }
        9 => Packet::Incoming(suback(version, body)?),
        13 => Packet::Pong,
        14 if body.0.is_empty() => Packet::Disconnect(Reason::default()),
        14 => Packet::Disconnect(reason(version, &mut body)?),
        _ => return Err(Malformed("a packet of a kind that a broker does not send to this client")),
    }))
}

/// A reason code and, with 5.0, its text.
fn reason(version: Version, body: &mut Reader) -> Result<Reason, Malformed> {
    let mut reason = Reason::new(body.u8()?);
    if version == Version::V5 {
        body.properties(|id, value| {
            if let (PROPERTY_REASON, Value::Text(text)) = (id, value) {
                reason = std::mem::take(&mut reason).saying(&text);
            }
        })?;
    }
    Ok(reason)
}

fn connack(version: Version, body: &mut Reader) -> Result<ConnAck, Malformed> {
    let session_present = body.u8()? & 1 != 0;
    let code = body.u8()?;
    let mut ack = ConnAck { session_present, ..ConnAck::default() };
    // A broker that does not know 5.0 answers in its own version, which has fewer codes and no properties.
    if version == Version::V311 || body.0.is_empty() {
        ack.refusal = Reason::of_connack_311(code).refusal();
        return Ok(ack);
    }
    let mut reason = Reason::new(code);
    body.properties(|id, value| match (id, value) {
        (PROPERTY_RECEIVE_MAXIMUM, Value::Number(n)) => ack.receive_maximum = u16::try_from(n).ok(),
        (PROPERTY_MAX_PACKET, Value::Number(n)) => ack.max_packet = Some(n),
        (PROPERTY_SERVER_KEEP_ALIVE, Value::Number(n)) => ack.keep_alive_s = u16::try_from(n).ok(),
        (PROPERTY_REASON, Value::Text(text)) => reason = std::mem::take(&mut reason).saying(&text),
        _ => {}
    })?;
    ack.refusal = reason.refusal();
    Ok(ack)
}

fn incoming(version: Version, first: u8, mut body: Reader) -> Result<Publish, Malformed> {
    let topic = body.text()?;
    let packet_id = match (first >> 1) & 3 {
        0 => 0,
        1 => body.u16()?,
        _ => return Err(Malformed("a message has another QoS than was subscribed to")),
    };
    if packet_id == 0 && (first >> 1) & 3 == 1 {
        return Err(Malformed("a message with QoS 1 has no packet id"));
    }
    let mut properties = Properties::default();
    if version == Version::V5 {
        body.properties(|id, value| match (id, value) {
            (PROPERTY_FORMAT, Value::Number(n)) => properties.utf8 = n == 1,
            (PROPERTY_EXPIRY, Value::Number(n)) => properties.expiry_s = Some(n),
            (PROPERTY_CONTENT_TYPE, Value::Text(text)) => properties.content_type = Some(text.into()),
            (PROPERTY_RESPONSE_TOPIC, Value::Text(text)) => properties.response_topic = Some(text),
            (PROPERTY_CORRELATION, Value::Binary(bytes)) => properties.correlation = Some(bytes),
            (PROPERTY_USER, Value::Pair(name, value)) => properties.user.push((name.into(), value)),
            _ => {}
        })?;
    }
    let (retain, at_least_once) = (first & 1 != 0, packet_id != 0);
    Ok(Publish { topic, payload: body.0, retain, at_least_once, packet_id, properties })
}

fn suback(version: Version, mut body: Reader) -> Result<Incoming, Malformed> {
    let packet_id = body.u16()?;
    let mut text = String::new();
    if version == Version::V5 {
        body.properties(|id, value| {
            if let (PROPERTY_REASON, Value::Text(found)) = (id, value) {
                text = found;
            }
        })?;
    }
    let refusals = body.0.iter().map(|code| Reason::new(*code).saying(&text).refusal()).collect();
    Ok(Incoming::SubAck { packet_id, refusals })
}

/// CONNECT, the first packet of a connection. `keep_alive_s` of 0: none.
pub(super) fn connect(
    version: Version,
    hello: &Hello,
    login: Option<&fleet::Credentials>,
    keep_alive_s: u16,
    out: &mut BytesMut,
) {
    let delay_s = hello.will.as_ref().map_or(0, |will| seconds(will.delay));
    let (clean, expiry_s) = match (hello.session, version) {
        (Session::Kept(time), _) => (false, seconds(time)),
        // The will is published when the session ends at the latest, so the session has to live as long as the
        // delay; a clean start would end it at once and tell of a death that is none.
        (Session::Connection, Version::V5) => (delay_s == 0, delay_s),
        (Session::Connection, Version::V311) => (true, 0),
    };
    let mut flags = u8::from(clean) << 1;
    if let Some(will) = &hello.will {
        flags |= 0x04 | u8::from(will.message.at_least_once) << 3 | u8::from(will.message.retain) << 5;
    }
    flags |= if login.is_some() { 0xc0 } else { 0 };

    let mut body = BytesMut::with_capacity(256);
    put_text(&mut body, "MQTT");
    body.put_u8(if version == Version::V5 { 5 } else { 4 });
    body.put_u8(flags);
    body.put_u16(keep_alive_s);
    if version == Version::V5 {
        let mut properties = BytesMut::new();
        put_number(&mut properties, PROPERTY_SESSION_EXPIRY, expiry_s);
        properties.put_u8(PROPERTY_RECEIVE_MAXIMUM);
        properties.put_u16(hello.receive_maximum.max(1));
        put_number(&mut properties, PROPERTY_MAX_PACKET, hello.max_packet);
        put_list(&mut body, &properties);
    }
    put_text(&mut body, &hello.client_id);
    if let Some(will) = &hello.will {
        if version == Version::V5 {
            let mut properties = BytesMut::new();
            put_number(&mut properties, PROPERTY_WILL_DELAY, delay_s);
            put_properties(&mut properties, &will.message.properties);
            put_list(&mut body, &properties);
        }
        put_text(&mut body, &will.message.topic);
        put_binary(&mut body, &will.message.payload);
    }
    if let Some(login) = login {
        put_text(&mut body, &login.user);
        put_text(&mut body, login.password.reveal());
    }
    put_packet(out, 0x10, &body, &[]);
}

/// PUBLISH with `packet_id`, which counts where it is QoS 1.
pub(super) fn publish(version: Version, message: &Publish, packet_id: u16, out: &mut BytesMut) {
    let mut head = BytesMut::with_capacity(message.topic.len() + 160);
    put_text(&mut head, &message.topic);
    if message.at_least_once {
        head.put_u16(packet_id);
    }
    if version == Version::V5 {
        let mut properties = BytesMut::with_capacity(128);
        put_properties(&mut properties, &message.properties);
        put_list(&mut head, &properties);
    }
    let first = 0x30 | u8::from(message.at_least_once) << 1 | u8::from(message.retain);
    put_packet(out, first, &head, &message.payload);
}

/// PUBACK: taken.
pub(super) fn puback(packet_id: u16, out: &mut BytesMut) {
    put_packet(out, 0x40, &packet_id.to_be_bytes(), &[]);
}

/// SUBSCRIBE to these filters.
pub(super) fn subscribe(
    version: Version,
    packet_id: u16,
    filters: &[String],
    at_least_once: bool,
    out: &mut BytesMut,
) {
    let mut body = BytesMut::new();
    body.put_u16(packet_id);
    if version == Version::V5 {
        put_list(&mut body, &[]);
    }
    for filter in filters {
        put_text(&mut body, filter);
        body.put_u8(at_least_once.into());
    }
    put_packet(out, 0x82, &body, &[]);
}

pub(super) fn ping(out: &mut BytesMut) {
    put_packet(out, 0xc0, &[], &[]);
}

/// DISCONNECT: a goodbye, after which the broker publishes no will.
pub(super) fn disconnect(out: &mut BytesMut) {
    put_packet(out, 0xe0, &[], &[]);
}

/// How many bytes [`publish`] makes of it.
pub(super) fn publish_size(version: Version, message: &Publish) -> usize {
    let mut head = BytesMut::new();
    let empty = Publish { payload: Bytes::new(), ..message.clone() };
    publish(version, &empty, 1, &mut head);
    // The length before it may take three bytes more than that of an empty payload.
    head.len() + 3 + message.payload.len()
}

fn put_properties(out: &mut BytesMut, properties: &Properties) {
    if properties.utf8 {
        out.put_slice(&[PROPERTY_FORMAT, 1]);
    }
    if let Some(seconds) = properties.expiry_s {
        put_number(out, PROPERTY_EXPIRY, seconds);
    }
    for (id, text) in [
        (PROPERTY_CONTENT_TYPE, properties.content_type.as_deref()),
        (PROPERTY_RESPONSE_TOPIC, properties.response_topic.as_deref()),
    ] {
        if let Some(text) = text {
            out.put_u8(id);
            put_text(out, text);
        }
    }
    if let Some(bytes) = &properties.correlation {
        out.put_u8(PROPERTY_CORRELATION);
        put_binary(out, bytes);
    }
    for (name, value) in &properties.user {
        out.put_u8(PROPERTY_USER);
        put_text(out, name);
        put_text(out, value);
    }
}

fn put_number(out: &mut BytesMut, id: u8, number: u32) {
    out.put_u8(id);
    out.put_u32(number);
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_binary(out, text.as_bytes());
}

/// At most 64 KiB, which is what the length in front can say; all that this crate writes is far shorter.
fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}

fn put_list(out: &mut BytesMut, properties: &[u8]) {
    put_variable(out, properties.len());
    out.put_slice(properties);
}

fn put_variable(out: &mut BytesMut, mut length: usize) {
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

fn put_packet(out: &mut BytesMut, first: u8, head: &[u8], payload: &[u8]) {
    out.reserve(5 + head.len() + payload.len());
    out.put_u8(first);
    put_variable(out, head.len() + payload.len());
    out.put_slice(head);
    out.put_slice(payload);
}

fn seconds(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
