//! What the tests of the server share: clips, and a client that sees every byte.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::disallowed_macros, reason = "tests say why they are skipped")]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sim::Clip;
use sim::rtsp::{Mount, Options, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes; a test that waits so long fails.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// A file out of `shared/`, or `None` after saying why the test is skipped.
pub fn shared(path: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if !file.exists() {
        println!("skipped: {} is not on this machine", file.display());
        return None;
    }
    Some(file)
}

/// A test picture in motion, encoded.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    pub pictures: u32,
    pub gop: u32,
    pub size: (u32, u32),
    pub kbit: u32,
    pub h265: bool,
}

/// One second, two key pictures.
pub const SECOND: Recipe = Recipe { pictures: 25, gop: 13, size: (320, 240), kbit: 500, h265: false };

/// Makes a file by `recipe` in `dir`.
pub fn make(recipe: Recipe, dir: &Path) -> PathBuf {
    let Recipe { pictures, gop, size: (width, height), kbit, h265 } = recipe;
    let encoder = match h265 {
        false => format!(
            "x264enc key-int-max={gop} bitrate={kbit} speed-preset=ultrafast tune=zerolatency ! h264parse"
        ),
        true => format!("x265enc key-int-max={gop} bitrate={kbit} speed-preset=ultrafast ! h265parse"),
    };
    let file = dir.join(format!("{pictures}-{gop}-{width}-{kbit}-{h265}.mp4"));
    let line = format!(
        "videotestsrc num-buffers={pictures} pattern=ball ! video/x-raw,width={width},height={height},framerate=25/1 \
         ! {encoder} ! mp4mux ! filesink location={}",
        file.display()
    );
    let made =
        Command::new("gst-launch-1.0").arg("-q").args(line.split_whitespace()).output().expect("GStreamer");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

pub fn clip(recipe: Recipe) -> Arc<Clip> {
    let dir = tempfile::tempdir().unwrap();
    Arc::new(Clip::open(make(recipe, dir.path())).unwrap())
}

pub const LOCAL: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0));

/// A server with one mount, `cam`.
pub async fn serve(mount: Mount) -> Server {
    serve_with(mount, Options::default()).await
}

pub async fn serve_with(mount: Mount, options: Options) -> Server {
    let server = Server::bind_with(LOCAL, options).await.unwrap();
    server.mount("cam", mount).unwrap();
    server
}

/// An answer of the server.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// One RTP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtp {
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: Vec<u8>,
}

impl Rtp {
    pub fn parse(bytes: &[u8]) -> Self {
        assert!(bytes.len() > 12 && bytes[0] == 0x80 && bytes[1] & 0x7f == 96, "not RTP: {bytes:02x?}");
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        Self {
            marker: bytes[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
            timestamp: word(4),
            ssrc: word(8),
            payload: bytes[12..].to_vec(),
        }
    }
}

/// What came over the connection.
#[derive(Debug)]
pub enum Incoming {
    Rtp(Rtp),
    Rtcp(Vec<u8>),
    Reply(Reply),
}

/// An RTSP client that hides nothing.
pub struct Client {
    pub stream: TcpStream,
    url: String,
    cseq: u32,
    session: Option<String>,
    input: Vec<u8>,
    /// Packets that came while a reply was awaited.
    early: std::collections::VecDeque<Incoming>,
}

impl Client {
    pub async fn connect(server: &Server, path: &str) -> Self {
        let stream = TcpStream::connect(server.local_addr()).await.unwrap();
        Self::over(stream, server.url(path))
    }

    pub fn over(stream: TcpStream, url: String) -> Self {
        Self { stream, url, cseq: 0, session: None, input: Vec::new(), early: Default::default() }
    }

    /// DESCRIBE, SETUP over TCP, PLAY.
    pub async fn play(server: &Server, path: &str) -> Self {
        let mut client = Self::connect(server, path).await;
        assert_eq!(client.ask("DESCRIBE", "", "").await.unwrap().status, 200);
        client.setup_and_play("RTP/AVP/TCP;unicast;interleaved=0-1").await;
        client
    }

    /// Further requests belong to this session.
    pub fn join(&mut self, session: &str) {
        self.session = session.split(';').next().map(str::to_owned);
    }

    pub async fn setup_and_play(&mut self, transport: &str) -> Reply {
        let setup = self.ask("SETUP", "/trackID=0", &format!("Transport: {transport}\r\n")).await.unwrap();
        assert_eq!(setup.status, 200);
        self.session = setup.header("Session").split(';').next().map(str::to_owned);
        let play = self.ask("PLAY", "/", "Range: npt=0.000-\r\n").await.unwrap();
        assert_eq!(play.status, 200);
        setup
    }

    /// Sends without waiting for the answer.
    pub async fn tell(&mut self, method: &str, suffix: &str, headers: &str) -> io::Result<()> {
        self.cseq += 1;
        let session = self.session.as_ref().map(|id| format!("Session: {id}\r\n")).unwrap_or_default();
        let (url, cseq) = (&self.url, self.cseq);
        let request = format!("{method} {url}{suffix} RTSP/1.0\r\nCSeq: {cseq}\r\n{session}{headers}\r\n");
        self.stream.write_all(request.as_bytes()).await
    }

    pub async fn ask(&mut self, method: &str, suffix: &str, headers: &str) -> io::Result<Reply> {
        self.tell(method, suffix, headers).await?;
        loop {
            match self.incoming().await? {
                Incoming::Reply(reply) => {
                    assert_eq!(reply.header("CSeq"), self.cseq.to_string());
                    return Ok(reply);
                }
                packet => self.early.push_back(packet),
            }
        }
    }

    /// The next RTP packet; sender reports are left out.
    pub async fn rtp(&mut self) -> io::Result<Rtp> {
        loop {
            let next = match self.early.pop_front() {
                Some(early) => early,
                None => self.incoming().await?,
            };
            if let Incoming::Rtp(rtp) = next {
                return Ok(rtp);
            }
        }
    }

    /// The next whole picture, by its marker.
    pub async fn picture(&mut self) -> io::Result<Vec<Rtp>> {
        let mut packets = Vec::new();
        loop {
            packets.push(self.rtp().await?);
            if packets.last().is_some_and(|packet| packet.marker) {
                return Ok(packets);
            }
        }
    }

    /// Whatever comes next.
    pub async fn incoming(&mut self) -> io::Result<Incoming> {
        if self.peek(1).await?[0] == b'$' {
            let head = self.peek(4).await?;
            let (channel, size) = (head[1], usize::from(u16::from_be_bytes([head[2], head[3]])));
            self.peek(4 + size).await?;
            let packet: Vec<u8> = self.input.drain(..4 + size).skip(4).collect();
            return Ok(if channel == 0 {
                Incoming::Rtp(Rtp::parse(&packet))
            } else {
                Incoming::Rtcp(packet)
            });
        }
        let mut size = 1;
        let end = loop {
            self.peek(size).await?;
            if let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            size = self.input.len() + 1;
            if !b"RTSP/1.0".starts_with(&self.input[..self.input.len().min(8)]) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "neither RTSP nor interleaved data"));
            }
        };
        let head: Vec<u8> = self.input.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length = reply.header("Content-Length").parse().unwrap_or(0);
        if length > 0 {
            self.peek(length).await?;
            reply.body = self.input.drain(..length).collect();
        }
        Ok(Incoming::Reply(reply))
    }

    /// Bytes at the front of the input, at least `size` of them.
    async fn peek(&mut self, size: usize) -> io::Result<&[u8]> {
        let mut buffer = vec![0; 64 << 10];
        while self.input.len() < size {
            let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                size => self.input.extend_from_slice(&buffer[..size]),
            }
        }
        Ok(&self.input)
    }
}

/// Runs a client program; kills it when it takes too long.
pub async fn run(program: &str, arguments: &[&str]) -> String {
    let child = tokio::process::Command::new(program).args(arguments).kill_on_drop(true).output();
    let output =
        timeout(Duration::from_secs(15), child).await.expect("client takes too long").expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
