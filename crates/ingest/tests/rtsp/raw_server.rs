//! Cameras that misbehave: a bare TCP listener that answers RTSP requests as the test says.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// H.264 whose parameter sets come in the stream.
pub const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
    a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:v\r\n";

/// Stops when dropped.
pub struct RawServer {
    pub port: u16,
    /// The methods that were asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    asked: Arc<Mutex<Vec<String>>>,
}

pub struct Request {
    pub method: String,
    pub path: String,
    pub cseq: String,
    /// The whole request.
    pub head: String,
}

impl RawServer {
    /// Hands every connection to `serve`.
    pub async fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(Client) -> F + Send + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", serve).await
    }

    /// The same at another address.
    pub async fn start_at<F: Future<Output = ()> + Send + 'static>(
        address: &str,
        serve: impl Fn(Client) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(serve(Client { stream, asked: Arc::clone(&log) }));
            }
        });
        Self { port, asked, task }
    }

    /// Answers like a camera up to PLAY; `after_play` takes over then.
    pub async fn camera<F: Future<Output = ()> + Send + 'static>(
        after_play: impl Fn(Client) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |mut client| {
            let after_play = after_play.clone();
            async move {
                while let Some(request) = client.request().await {
                    match request.method.as_str() {
                        "DESCRIBE" => {
                            client.answer(&request, "200 OK", "Content-Type: application/sdp\r\n", SDP).await
                        }
                        "SETUP" => {
                            let headers =
                                "Session: 1;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
                            client.answer(&request, "200 OK", headers, "").await;
                        }
                        "PLAY" => {
                            client.answer(&request, "200 OK", "Session: 1\r\n", "").await;
                            return after_play(client).await;
                        }
                        _ => client.answer(&request, "200 OK", "", "").await,
                    }
                }
            }
        })
        .await
    }

    pub fn count(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|m| *m == method).count()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Until there is something to read, or the connection ends.
    pub async fn readable(&self) {
        // `readable` alone may remember what has been read.
        _ = self.stream.peek(&mut [0]).await;
    }

    /// The next message, without a body; `None` when the connection ends.
    pub async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        String::from_utf8(head).ok()
    }

    /// The next request, without a body; `None` when the connection ends.
    pub async fn request(&mut self) -> Option<Request> {
        let head = self.head().await?;
        let mut words = head.split_whitespace();
        let method = words.next()?.to_owned();
        let path = words.next()?.rsplit('/').next()?.to_owned();
        let cseq = head.lines().find_map(|l| l.strip_prefix("CSeq: "))?.trim().to_owned();
        self.asked.lock().unwrap().push(method.clone());
        Some(Request { method, path, cseq, head })
    }

    pub async fn answer(&mut self, request: &Request, status: &str, headers: &str, body: &str) {
        let (cseq, length) = (&request.cseq, body.len());
        let head = format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\nContent-Length: {length}\r\n{headers}\r\n");
        self.send(format!("{head}{body}").as_bytes()).await;
    }

    /// Sends and does not care whether anybody is still there.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// An RTP packet on interleaved channel 0 (RFC 2326 section 10.12).
    pub async fn rtp(&mut self, sequence: u16, ticks: u32, mark: bool, payload: &[u8]) -> bool {
        let packet = self.packet(0, sequence, ticks, mark, payload);
        self.send(&packet).await
    }

    pub fn packet(&self, channel: u8, sequence: u16, ticks: u32, mark: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![b'$', channel];
        packet.extend_from_slice(&u16::try_from(payload.len() + 12).unwrap().to_be_bytes());
        packet.extend_from_slice(&[0x80, 96 | u8::from(mark) << 7]);
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&ticks.to_be_bytes());
        packet.extend_from_slice(&7u32.to_be_bytes());
        packet.extend_from_slice(payload);
        packet
    }
}
