//! What a server says of itself before anything is asked of it. The session that follows is another connection, so
//! whatever goes wrong here is no finding.
//!
//! OPTIONS costs a camera nothing. DESCRIBE without a password shows how one is to be proved, but a camera that asks for
//! none begins to encode then, and some cannot do that for two at once: it is asked only of those that have a password.

use std::time::Duration;

use fleet::Camera;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::describe::short;
use crate::lean::message::{self, MAX_HEAD, Message, Start};
use crate::lean::target::Target;

const MAX_LIST: usize = 16;

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Hello {
    /// The `Server` header.
    pub software: Option<String>,
    /// Methods, from `Public`.
    pub methods: Vec<String>,
    /// How it wants a password proved, for example `Digest MD5`; empty where it wants none.
    pub auth: Vec<String>,
    /// Where it sends its callers instead.
    pub redirect: Option<String>,
    /// The status of DESCRIBE without a password, where it was asked.
    pub status: Option<u16>,
    /// Until the connection stood, in milliseconds.
    pub connect_ms: f64,
}

/// Asks. `password`: the camera asks for one. `None`: nobody answers in RTSP within `limit`.
pub(super) async fn hello(camera: &Camera, password: bool, limit: Duration) -> Option<Hello> {
    tokio::time::timeout(limit, ask(&Target::of(camera), password)).await.ok()?
}

async fn ask(target: &Target, password: bool) -> Option<Hello> {
    let begun = std::time::Instant::now();
    let mut stream = TcpStream::connect((target.host.as_str(), target.port)).await.ok()?;
    let mut hello = Hello { connect_ms: begun.elapsed().as_secs_f64() * 1e3, ..Hello::default() };
    // Some cameras answer one request per connection where the first was not what they expected: what is known by then
    // is kept.
    let mut answered = false;
    let methods = if password { &["OPTIONS", "DESCRIBE"][..] } else { &["OPTIONS"] };
    for (number, method) in (1..).zip(methods) {
        let request = format!(
            "{method} {} RTSP/1.0\r\nCSeq: {number}\r\nUser-Agent: huiyan\r\nAccept: application/sdp\r\n\r\n",
            target.url
        );
        if stream.write_all(request.as_bytes()).await.is_err() {
            break;
        }
        let Some(answer) = answer(&mut stream).await else { break };
        answered = true;
        hello.learn(method, &answer);
    }
    answered.then_some(hello)
}

async fn answer(stream: &mut TcpStream) -> Option<Message> {
    let (mut bytes, mut scanned) = (Vec::new(), 0);
    let mut chunk = [0; 1024];
    loop {
        let n = stream.read(&mut chunk).await.ok()?;
        if n == 0 || bytes.len() + n > MAX_HEAD {
            return None;
        }
        bytes.extend_from_slice(&chunk[..n]);
        if let Some((message, _)) = message::parse(&bytes, &mut scanned, MAX_HEAD).ok()? {
            return Some(message);
        }
    }
}

impl Hello {
    fn learn(&mut self, method: &str, answer: &Message) {
        let Start::Reply { status, .. } = answer.start else { return };
        let first = |name| answer.header(name).map(short).filter(|text| !text.is_empty());
        self.software = first("server").or(self.software.take());
        if self.methods.is_empty() {
            let public = answer.headers("public").flat_map(|line| line.split(','));
            self.methods = public.map(short).filter(|m| !m.is_empty()).take(MAX_LIST).collect();
        }
        self.redirect = first("location").or(self.redirect.take());
        if method == "DESCRIBE" {
            self.status = Some(status);
        }
        // Some want a password for OPTIONS already.
        let auth: Vec<String> = answer.headers("www-authenticate").take(MAX_LIST).map(scheme).collect();
        if !auth.is_empty() {
            self.auth = auth;
        }
    }
}

/// `Digest realm="…", algorithm=SHA-256` → `Digest SHA-256`.
fn scheme(challenge: &str) -> String {
    let (name, parameters) = challenge.trim().split_once(' ').unwrap_or((challenge.trim(), ""));
    if !name.eq_ignore_ascii_case("digest") {
        return short(name);
    }
    let algorithm =
        parameters.split(',').filter_map(|p| p.trim().split_once('=')).find_map(|(key, value)| {
            key.trim().eq_ignore_ascii_case("algorithm").then(|| value.trim().trim_matches('"'))
        });
    // RFC 7616 3.3: without one, it is MD5.
    short(&format!("{name} {}", algorithm.unwrap_or("MD5")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        message::parse(text.as_bytes(), &mut 0, MAX_HEAD).unwrap().unwrap().0
    }

    #[test]
    fn a_server_with_two_ways_to_prove_a_password() {
        let mut hello = Hello::default();
        let options = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS, DESCRIBE, GET_PARAMETER\r\nserver: Rtsp\x07 2.0\r\n\r\n";
        hello.learn("OPTIONS", &message(options));
        let challenge = "RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"a, b\", nonce=\"x\", algorithm=SHA-256\r\n\
                         WWW-Authenticate: Digest realm=\"a\", nonce=\"y\"\r\nWWW-Authenticate: Basic realm=\"a\"\r\n\r\n";
        hello.learn("DESCRIBE", &message(challenge));
        assert_eq!(hello.auth, ["Digest SHA-256", "Digest MD5", "Basic"]);
        assert_eq!(hello.methods, ["OPTIONS", "DESCRIBE", "GET_PARAMETER"]);
        assert_eq!((hello.software.as_deref(), hello.status), (Some("Rtsp 2.0"), Some(401)));
    }
}
