//! Inputs that once broke another RTSP library, sent to the server as requests and as headers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Client, PATIENCE, SECOND, clip, serve, shared};
use fleet::{Credentials, Secret};
use sim::rtsp::{Auth, Mount, Scheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The inputs of the fuzz tests in a folder of the corpus, in Go's text form.
fn corpus(root: &Path) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.into()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            inputs.extend(text.lines().skip(1).filter_map(quoted));
        }
    }
    inputs
}

/// The bytes of `string("…")` or `[]byte("…")`.
fn quoted(line: &str) -> Option<Vec<u8>> {
    let inner = line.split_once("(\"")?.1.rsplit_once("\")")?.0;
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'x' => {
                let hex = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    Some(bytes)
}

#[tokio::test]
async fn inputs_that_broke_others_break_nothing_here() {
    let Some(root) = shared("captures/rtsp-fuzz-gortsplib/pkg") else { return };
    let inputs = [corpus(&root.join("base")), corpus(&root.join("headers"))].concat();
    assert!(inputs.len() > 50, "{} inputs", inputs.len());
    let server = serve(Mount::new(clip(SECOND))).await;
    let credentials = Credentials { user: "admin".into(), password: Secret::new("x".into()) };
    let scheme = Scheme::Digest { nonce_lifetime: PATIENCE };
    server.mount("guarded", Mount::new(clip(SECOND)).guarded(Auth { scheme, credentials })).unwrap();

    let as_header = |method: &str, path: &str, header: &str, value: &[u8]| {
        let head = format!("{method} {} RTSP/1.0\r\nCSeq: 1\r\n{header}: ", server.url(path));
        [head.as_bytes(), value, b"\r\n\r\n"].concat()
    };
    for input in &inputs {
        let digest = [b"Digest ", input.as_slice()].concat();
        let requests = [
            input.clone(),
            as_header("SETUP", "cam", "Transport", input),
            as_header("PLAY", "cam", "Session", input),
            as_header("PLAY", "cam", "Range", input),
            as_header("DESCRIBE", "guarded", "Authorization", input),
            as_header("DESCRIBE", "guarded", "Authorization", &digest),
            as_header("DESCRIBE", "cam", "Content-Length", input),
        ];
        for request in requests {
            let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
            stream.write_all(&request).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // A reset is as good as an end.
            let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
        }
    }
    // A connection whose task had panicked would still be counted.
    let ended = async {
        while server.stats().connections > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("all connections have ended");
    Client::play(&server, "cam").await.picture().await.unwrap();
}
