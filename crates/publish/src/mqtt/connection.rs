//! One connection: packets in and out over one socket, and a sign of life now and then.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::error::{ConnectError, LostError};
use super::packet::{self, ConnAck, Packet};
use super::reader::Malformed;
use super::socket::{Io, Socket};
use super::{Hello, Incoming, Publish, Version};

/// Bytes read at once, at least.
const READ: usize = 16 << 10;
/// A goodbye takes no longer.
const GOODBYE: Duration = Duration::from_millis(500);

/// A connection to a broker. Dropping it ends it without a goodbye: the broker publishes the will.
pub struct Connection {
    reader: ReadHalf<Box<dyn Io>>,
    writer: WriteHalf<Box<dyn Io>>,
    input: BytesMut,
    output: BytesMut,
    /// What was written may still be in the TLS layer.
    unflushed: bool,
    version: Version,
    max_packet: usize,
    keep_alive: Duration,
    heard: Instant,
    sent: Instant,
    /// When a sign of life was asked for, since nothing came.
    asked: Option<Instant>,
    ack: ConnAck,
    last_id: u16,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("version", &self.version)
            .field("ack", &self.ack)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to `at` in this version of MQTT and waits for the broker's answer.
    ///
    /// # Errors
    /// Why there is no connection, within [`fleet::Broker::connect_timeout`].
    pub async fn open(
        broker: &fleet::Broker,
        at: &fleet::Address,
        version: Version,
        hello: &Hello,
    ) -> Result<Self, ConnectError> {
        let timeout = broker.connect_timeout;
        let opening = Self::open_in_time(broker, at, version, hello);
        tokio::time::timeout(timeout, opening).await.unwrap_or(Err(ConnectError::Timeout(timeout)))
    }

    async fn open_in_time(
        broker: &fleet::Broker,
        at: &fleet::Address,
        version: Version,
        hello: &Hello,
    ) -> Result<Self, ConnectError> {
        let keep_alive = broker.keep_alive;
        let mut socket =
            Socket::open(at, broker.tls.as_ref(), broker.connect_timeout, 2 * keep_alive).await?;
        let seconds = u16::try_from(keep_alive.as_secs().max(1)).unwrap_or(u16::MAX);
        let (mut input, mut output) = (BytesMut::with_capacity(READ), BytesMut::new());
        packet::connect(version, hello, broker.credentials.as_ref(), seconds, &mut output);
        let max_packet = hello.max_packet as usize;
        let ack = async {
            socket.io.write_all(&output).await?;
            socket.io.flush().await?;
            loop {
                // Somebody who speaks TLS answers what he does not understand with an alert (RFC 8446, 5.1).
                if input.starts_with(&[0x15, 0x03]) && broker.tls.is_none() {
                    return Ok(Err(ConnectError::IsTls));
                }
                if input.first().is_some_and(|first| *first != packet::CONNACK) {
                    return Ok(Err(ConnectError::NotMqtt(Malformed(
                        "its first byte is not that of a CONNACK",
                    ))));
                }
                match packet::decode(version, &mut input, max_packet) {
                    Ok(Some(Packet::ConnAck(ack))) => return Ok(Ok(ack)),
                    Ok(Some(_)) => return Ok(Err(ConnectError::Unanswered)),
                    Ok(None) => {}
                    Err(malformed) => return Ok(Err(ConnectError::NotMqtt(malformed))),
                }
                if socket.io.read_buf(&mut input).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        let ack = ack.await.unwrap_or_else(|error: io::Error| Err(socket.unanswered(&error)))?;
        if let Some(reason) = ack.refusal {
            return Err(ConnectError::Refused(reason));
        }
        output.clear();
        let keep_alive =
            ack.keep_alive_s.map_or(keep_alive, |s| keep_alive.min(Duration::from_secs(s.max(1).into())));
        let (reader, writer) = tokio::io::split(socket.io);
        let now = Instant::now();
        let (heard, sent, asked, last_id) = (now, now, None, 0);
        let unflushed = false;
        Ok(Self {
            reader,
            writer,
            input,
            output,
            unflushed,
            version,
            max_packet,
            keep_alive,
            heard,
            sent,
            asked,
            ack,
            last_id,
        })
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the broker still knew this client and its subscriptions.
    pub fn session_present(&self) -> bool {
        self.ack.session_present
    }

    /// Messages with QoS 1 that may be under way to the broker; 65,535 where it says nothing.
    pub fn receive_maximum(&self) -> usize {
        usize::from(self.ack.receive_maximum.unwrap_or(u16::MAX).max(1))
    }

    /// Largest packet that the broker takes, bytes; `usize::MAX` where it says nothing.
    pub fn max_packet(&self) -> usize {
        self.ack.max_packet.map_or(usize::MAX, |max| max as usize)
    }

    /// How large a message is on the wire, bytes (up to 3 too many).
    pub fn size_of(&self, message: &Publish) -> usize {
        packet::publish_size(self.version, message)
    }

    /// A packet id that `is_used` does not know.
    pub fn fresh_id(&mut self, is_used: impl Fn(u16) -> bool) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !is_used(self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Hands over a message, with `packet_id` where it is QoS 1. Sent by [`next`](Self::next). Not bounded: whoever
    /// publishes bounds what is unacknowledged.
    pub fn publish(&mut self, message: &Publish, packet_id: u16) {
        packet::publish(self.version, message, packet_id, &mut self.output);
    }

    /// Hands over a subscription. Its acknowledgement says for each filter whether it was granted.
    pub fn subscribe(&mut self, filters: &[String], at_least_once: bool, packet_id: u16) {
        packet::subscribe(self.version, packet_id, filters, at_least_once, &mut self.output);
    }

    /// Acknowledges a message with QoS 1 that came: the broker need not send it again.
    pub fn acknowledge(&mut self, message: &Publish) {
        if message.at_least_once {
            packet::puback(message.packet_id, &mut self.output);
        }
    }

    /// What has come already; does not wait.
    ///
    /// # Errors
    /// The connection is over.
    pub fn ready(&mut self) -> Result<Option<Incoming>, LostError> {
        loop {
            match packet::decode(self.version, &mut self.input, self.max_packet)? {
                Some(Packet::Incoming(incoming)) => return Ok(Some(incoming)),
                Some(Packet::Disconnect(reason)) => return Err(LostError::Disconnected(reason)),
                Some(Packet::Pong | Packet::ConnAck(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Sends what was handed over, and waits for what comes next. May be dropped at any time: nothing is lost.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn next(&mut self) -> Result<Incoming, LostError> {
        loop {
            if let Some(incoming) = self.ready()? {
                return Ok(incoming);
            }
            self.input.reserve(READ);
            let deadline = self.deadline();
            let writing = self.unflushed || !self.output.is_empty();
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Err(LostError::Closed);
                    }
                    (self.heard, self.asked) = (Instant::now(), None);
                }
                written = write(&mut self.writer, &mut self.output, &mut self.unflushed), if writing => {
                    written?;
                    self.sent = Instant::now();
                }
                () = tokio::time::sleep_until(deadline) => {
                    if self.asked.is_some() {
                        return Err(LostError::Silent(self.heard.elapsed()));
                    }
                    packet::ping(&mut self.output);
                    self.asked = Some(Instant::now());
                }
            }
        }
    }

    /// When a sign of life has to be asked for; or, asked for, to be there. The broker wants to hear from us too.
    fn deadline(&self) -> Instant {
        self.asked.unwrap_or_else(|| self.heard.min(self.sent)) + self.keep_alive
    }

    /// Says goodbye, so that the broker publishes no will, after everything that was handed over.
    pub async fn close(mut self) {
        packet::disconnect(&mut self.output);
        let goodbye = async {
            while self.unflushed || !self.output.is_empty() {
                write(&mut self.writer, &mut self.output, &mut self.unflushed).await?;
            }
            self.writer.shutdown().await?;
            // What still comes is read, as a socket that is closed with something unread takes back what it sent.
            loop {
                self.input.clear();
                self.input.reserve(READ);
                if self.reader.read_buf(&mut self.input).await? == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// Writes a part; may be dropped at any time.
async fn write(
    writer: &mut WriteHalf<Box<dyn Io>>,
    output: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<()> {
    if !output.is_empty() {
        let written = writer.write(output).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *unflushed = true;
        output.advance(written);
    }
    if output.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    }
    Ok(())
}
