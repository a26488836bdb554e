//! One question, one answer: an RTSP connection before it plays.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ask::Asker;
use super::fault::{Fault, excerpt};
use super::message::{self, MAX_BODY, MAX_HEAD, Message, Start};
use super::socket;
use super::target::Target;

/// What is kept of media that comes before its time.
const MAX_EARLY: usize = 1 << 20;
/// Asked of the socket at once.
const READ: usize = 4 << 10;
/// Logins that are tried for one question: the first challenge, and one whose nonce had become too old.
const MAX_CHALLENGES: usize = 2;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Talk {
    stream: TcpStream,
    input: Vec<u8>,
    scanned: usize,
    /// Interleaved frames that came before the answer to PLAY.
    early: Vec<u8>,
}

impl Talk {
    pub(crate) async fn connect(target: &Target) -> Result<Self, Fault> {
        let mut last = None;
        for address in addresses(target).await? {
            match socket::connect(address).await {
                Ok(stream) => return Ok(Self { stream, input: Vec::new(), scanned: 0, early: Vec::new() }),
                Err(error) => last = Some(error),
            }
        }
        let nowhere = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        Err(Fault::Connect(last.unwrap_or_else(nowhere)))
    }

    /// Asks, logs in where it must, and gives the answer, whatever its status is.
    pub(crate) async fn ask(
        &mut self,
        asker: &mut Asker,
        method: &str,
        url: &str,
        headers: &str,
    ) -> Result<Message, Fault> {
        let mut challenges = 0;
        loop {
            let (request, logged_in) = asker.request(method, url, headers)?;
            self.stream.write_all(request.as_bytes()).await.map_err(Fault::Io)?;
            let (status, reply) = self.answer().await?;
            if status != 401 {
                asker.accepted();
                return Ok(reply);
            }
            asker.challenged(&reply, logged_in)?;
            challenges += 1;
            if challenges > MAX_CHALLENGES {
                return Err(Fault::Status { status, phrase: "(again and again)".to_owned() });
            }
        }
    }

    /// What is left once the stream plays: the connection, and what of the stream has come.
    pub(crate) fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        self.early.append(&mut self.input);
        (self.stream, self.early)
    }

    async fn answer(&mut self) -> Result<(u16, Message), Fault> {
        loop {
            while let Some(message) = self.buffered()? {
                match &message.start {
                    // 100 Continue.
                    Start::Reply { status: ..200, .. } => {}
                    Start::Reply { status, .. } => return Ok((*status, message)),
                    Start::Request { method } => {
                        let answer = answer_to(method, &message);
                        self.stream.write_all(answer.as_bytes()).await.map_err(Fault::Io)?;
                    }
                }
            }
            self.input.reserve(READ);
            if self.stream.read_buf(&mut self.input).await.map_err(Fault::Io)? == 0 {
                return Err(Fault::Closed);
            }
        }
    }

    /// The next message of what has come. Media in front of it is put aside.
    fn buffered(&mut self) -> Result<Option<Message>, Fault> {
        loop {
            let used = match self.input.as_slice() {
                [] => return Ok(None),
                [b'\r' | b'\n', ..] => 1,
                [b'$', _, high, low, ..] => {
                    let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
                    let Some(frame) = self.input.get(..length) else { return Ok(None) };
                    if self.early.len() + length > MAX_EARLY {
                        return Err(Fault::Drowned(MAX_EARLY));
                    }
                    self.early.extend_from_slice(frame);
                    length
                }
                [b'$', ..] => return Ok(None),
                data if !message::may_begin(data) => return Err(Fault::Malformed(excerpt(data))),
                data => match message::parse(data, &mut self.scanned, MAX_BODY)? {
                    Some((message, length)) => {
                        self.input.drain(..length);
                        self.scanned = 0;
                        return Ok(Some(message));
                    }
                    None if data.len() > MAX_HEAD + MAX_BODY => return Err(Fault::Drowned(data.len())),
                    None => return Ok(None),
                },
            };
            self.input.drain(..used);
        }
    }
}

/// What to say to a camera that asks us: most ask in order to see whether we are still there.
pub(crate) fn answer_to(method: &str, request: &Message) -> String {
    let status = match method {
        "OPTIONS" | "GET_PARAMETER" | "SET_PARAMETER" | "ANNOUNCE" | "TEARDOWN" | "PLAY_NOTIFY" => "200 OK",
        _ => "501 Not Implemented",
    };
    let sequence = request.sequence().unwrap_or(0);
    format!("RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n\r\n")
}

/// Where a host can be reached. Only a name costs a look-up (on the runtime's blocking threads).
async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await.map_err(Fault::Resolve)?;
    Ok(found.take(4).collect())
}
