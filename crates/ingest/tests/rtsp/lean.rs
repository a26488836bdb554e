//! What the receiver for RTP in the RTSP connection says to a camera, and how it reads what comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow::{CameraState, Via};
use ingest::Policy;

use crate::raw_server::{Client, RawServer, Request, SDP};
use crate::watcher::{Watcher, camera, credentials, policy};

const SDP_TYPE: &str = "Content-Type: application/sdp\r\n";
const TRANSPORT: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";

/// A key picture with its sets, in four packets.
const UNITS: [&[u8]; 3] = [&[0x67, 66, 0, 30, 0x96, 0x54], &[0x68, 0xce, 0x38, 0x80], &[0x65, 0x88, 1, 2]];

/// Sends key pictures, 20 per second, until the client is gone.
async fn pictures(client: &mut Client, first: u16, count: u16) -> bool {
    for n in first..first + count {
        for (part, unit) in (0u16..).zip(UNITS) {
            if !client.rtp(n * 3 + part, u32::from(n) * 4500, part == 2, unit).await {
                return false;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

/// The answers of a camera up to PLAY.
async fn answer(client: &mut Client, request: &Request, describe: &str, setup: &str, sdp: &str) {
    match request.method.as_str() {
        "DESCRIBE" => client.answer(request, "200 OK", &format!("{SDP_TYPE}{describe}"), sdp).await,
        "SETUP" => client.answer(request, "200 OK", setup, "").await,
        _ => client.answer(request, "200 OK", "", "").await,
    }
}

type Heads = Arc<Mutex<Vec<String>>>;

fn first_lines(heads: &Heads) -> Vec<String> {
    heads.lock().unwrap().iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
}

/// Logs every request, answers it, sends pictures after PLAY, and goes on reading meanwhile.
async fn logging(describe: &'static str, setup: &'static str, sdp: &'static str) -> (RawServer, Heads) {
    let heads = Heads::default();
    let log = Arc::clone(&heads);
    let server = RawServer::start(move |mut client| {
        let log = Arc::clone(&log);
        async move {
            let mut n = 0;
            let mut plays = false;
            loop {
                let next = tokio::time::timeout(Duration::from_millis(50), client.readable()).await;
                if next.is_ok() {
                    let Some(request) = client.request().await else { return };
                    log.lock().unwrap().push(request.head.clone());
                    answer(&mut client, &request, describe, setup, sdp).await;
                    plays |= request.method == "PLAY";
                    if request.method == "TEARDOWN" {
                        return;
                    }
                }
                if plays {
                    if !pictures(&mut client, n, 1).await {
                        return;
                    }
                    n += 1;
                }
            }
        }
    })
    .await;
    (server, heads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_kept_alive_as_the_camera_likes_it_and_ends_with_teardown() {
    let setup = "Session:  abc-1 ;timeout=2\r\nPublic: OPTIONS, DESCRIBE\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let (server, heads) = logging("", setup, SDP).await;
    let (watcher, ingest) = Watcher::start(vec![camera("gate", server.port, "cam")], policy());
    watcher.until_pictures("gate", 3).await;
    assert_eq!(watcher.states("gate"), [CameraState::Connecting, CameraState::Streaming]);
    watcher.until("keep-alive", 10, |_| server.count("OPTIONS") >= 2).await;
    let asked_to_stay =
        heads.lock().unwrap().iter().filter(|h| h.starts_with("OPTIONS ")).cloned().collect::<Vec<_>>();
    assert!(asked_to_stay.iter().all(|h| h.contains("\r\nSession: abc-1\r\n")), "{asked_to_stay:?}");
    ingest.shutdown().await;
    watcher.until("TEARDOWN", 5, |_| server.count("TEARDOWN") == 1).await;
    let lines = first_lines(&heads);
    assert!(lines[1].starts_with("SETUP ") && lines[2].starts_with("PLAY "), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("TEARDOWN "), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_parameter_is_used_once_the_camera_says_that_it_knows_it() {
    let setup = "Session: 1;timeout=2\r\n";
    let describe = "Public: DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n";
    let (server, _heads) = logging(describe, setup, SDP).await;
    let (watcher, ingest) = Watcher::start(vec![camera("gate", server.port, "cam")], policy());
    watcher.until("keep-alive", 10, |_| server.count("GET_PARAMETER") >= 2).await;
    assert_eq!(server.count("OPTIONS"), 0);
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_addresses_go_out_as_they_are_written() {
    const ODD: &str = "v=0\r\ns=x\r\na=control:*\r\nm=audio 0 RTP/AVP 8\r\na=control:audio\r\nm=video 0 RTP/AVP 96\r\n\
        a=rtpmap:96 H264/90000\r\na=control:rtsp://192.168.77.1:5544/ch[1]/v?a=1&b==%5B&c={x}\r\n";
    let (server, heads) = logging("Content-Base: 192.168.77.1:5544/ch[1]/\r\n", "Session: 1\r\n", ODD).await;
    let path = "cam/real[1]?channel=1&subtype=1&x==%20&y=a|b;c&proto=Onvif";
    let (watcher, ingest) = Watcher::start(vec![camera("gate", server.port, path)], policy());
    watcher.until_pictures("gate", 2).await;
    ingest.shutdown().await;
    let lines = first_lines(&heads);
    assert_eq!(lines[0], format!("DESCRIBE rtsp://127.0.0.1:{}/{path} RTSP/1.0", server.port));
    assert_eq!(
        lines[1], "SETUP rtsp://192.168.77.1:5544/ch[1]/v?a=1&b==%5B&c={x} RTSP/1.0",
        "whatever host it names"
    );
    assert_eq!(lines[2], "PLAY rtsp://192.168.77.1:5544/ch[1]/ RTSP/1.0", "a base without its scheme");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_works_where_the_machine_has_it() {
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        println!("skipped: no IPv6 on this machine");
        return;
    }
    let server = RawServer::start_at("[::1]:0", |mut client| async move {
        while let Some(request) = client.request().await {
            answer(&mut client, &request, "", "Session: 1\r\n", SDP).await;
            if request.method == "PLAY" {
                pictures(&mut client, 0, 1000).await;
            }
        }
    })
    .await;
    let mut six = camera("six", server.port, "cam");
    six.url = format!("rtsp://[::1]:{}/cam", server.port).parse().unwrap();
    let (watcher, ingest) = Watcher::start(vec![six], policy());
    watcher.until_pictures("six", 2).await;
    ingest.shutdown().await;
}

/// Sends everybody on to `to`.
async fn redirecting(status: &'static str, to: String) -> RawServer {
    RawServer::start(move |mut client| {
        let to = to.clone();
        async move {
            while let Some(request) = client.request().await {
                client.answer(&request, status, &format!("Location: {to}\r\n"), "").await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirections_are_followed_three_times_and_the_password_does_not_follow_them_to_other_hosts() {
    let (last, _) = logging("", "Session: 1\r\n", SDP).await;
    let to = format!("rtsp://someone:else@127.0.0.1:{}/there", last.port);
    let second = redirecting("301 Moved Permanently", to).await;
    let first = redirecting("302 Found", format!("rtsp://127.0.0.1:{}/then", second.port)).await;

    let guarded = RawServer::start(|mut client| async move {
        while let Some(request) = client.request().await {
            assert!(!request.head.contains("Authorization"), "the login of another host: {}", request.head);
            let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\n";
            client.answer(&request, "401 Unauthorized", challenge, "").await;
        }
    })
    .await;
    let elsewhere =
        redirecting("307 Temporary Redirect", format!("rtsp://localhost:{}/x", guarded.port)).await;
    let nowhere = redirecting("302 Found", "http://127.0.0.1/".to_owned()).await;
    let port = Arc::new(Mutex::new(0));
    let circle = RawServer::start({
        let port = Arc::clone(&port);
        move |mut client| {
            let to = format!("Location: rtsp://127.0.0.1:{}/again\r\n", port.lock().unwrap());
            async move {
                while let Some(request) = client.request().await {
                    client.answer(&request, "308 Permanent Redirect", &to, "").await;
                }
            }
        }
    })
    .await;
    *port.lock().unwrap() = circle.port;

    let mut cameras = vec![
        camera("follows", first.port, "cam"),
        camera("elsewhere", elsewhere.port, "cam"),
        camera("nowhere", nowhere.port, "cam"),
        camera("circle", circle.port, "cam"),
    ];
    cameras[1].credentials = credentials("watcher", "s3cret");
    let slow = Policy {
        backoff_base: Duration::from_secs(1000),
        backoff_max: Duration::from_secs(1000),
        ..policy()
    };
    let (watcher, ingest) = Watcher::start(cameras, slow);
    watcher.until_pictures("follows", 1).await;
    let told = watcher.until_state("elsewhere", "auth_failed").await;
    assert!(told.reason.contains("another host, localhost") && !told.reason.contains("s3cret"), "{told:?}");
    let told = watcher.until_state("nowhere", "broken").await;
    assert!(told.reason.contains("\"http://127.0.0.1/\", which is no rtsp:// address"), "{told:?}");
    let told = watcher.until_state("circle", "broken").await;
    assert!(told.reason.contains("more than 3 times"), "{told:?}");
    assert_eq!(circle.count("DESCRIBE"), 4);
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_nonce_is_replaced_at_once_and_is_no_refused_login() {
    // Every nonce is good for two requests; PLAY meets one that is too old, and so does the first keep-alive.
    let server = RawServer::start(|mut client| async move {
        let (mut nonce, mut uses) = (1, 0);
        let mut plays = false;
        let mut n = 0;
        loop {
            if tokio::time::timeout(Duration::from_millis(20), client.readable()).await.is_ok() {
                let Some(request) = client.request().await else { return };
                let login = request.head.lines().find(|line| line.starts_with("Authorization: Digest "));
                let known = login.is_some_and(|login| login.contains(&format!("nonce=\"{nonce}\"")));
                uses += 1;
                if !known || uses > 2 {
                    (nonce, uses) = (nonce + 1, 0);
                    let stale = if login.is_some() { ", stale=true" } else { "" };
                    let challenge = format!(
                        "WWW-Authenticate: Digest realm=\"x\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"{stale}\r\n"
                    );
                    client.answer(&request, "401 Unauthorized", &challenge, "").await;
                } else {
                    answer(&mut client, &request, "", "Session: 1;timeout=2\r\n", SDP).await;
                    plays |= request.method == "PLAY";
                }
            }
            if plays {
                pictures(&mut client, n, 1).await;
                n += 1;
            }
        }
    })
    .await;
    let mut camera = camera("gate", server.port, "cam");
    camera.credentials = credentials("watcher", "s3cret");
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    watcher.until("keep-alive, refused and asked again", 15, |_| server.count("OPTIONS") >= 4).await;
    let before = watcher.pictures("gate").len();
    watcher.until_pictures("gate", before + 2).await;
    let pictures = watcher.pictures("gate");
    assert!(pictures.iter().all(|unit| unit.session == pictures[0].session), "one session");
    assert_eq!(watcher.states("gate"), [CameraState::Connecting, CameraState::Streaming]);
    assert_eq!((server.count("DESCRIBE"), server.count("PLAY")), (2, 2));
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_before_the_answer_to_play_are_not_lost() {
    let server = RawServer::start(|mut client| async move {
        while let Some(request) = client.request().await {
            if request.method == "PLAY" {
                // Its only key picture.
                pictures(&mut client, 0, 1).await;
            }
            answer(&mut client, &request, "", "Session: 1\r\n", SDP).await;
        }
    })
    .await;
    let (watcher, ingest) = Watcher::start(vec![camera("early", server.port, "cam")], policy());
    watcher.until_pictures("early", 1).await;
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_our_receiver_does_not_understand_is_given_to_the_library() {
    // The first client meets a server that speaks something else.
    let met = Arc::new(AtomicUsize::new(0));
    let strange = RawServer::start(move |mut client| {
        let met = Arc::clone(&met);
        async move {
            while let Some(request) = client.request().await {
                if met.fetch_add(1, Ordering::Relaxed) == 0 {
                    client.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                    return;
                }
                answer(&mut client, &request, "", &format!("Session: 1\r\n{TRANSPORT}"), SDP).await;
                if request.method == "PLAY" {
                    pictures(&mut client, 0, 1000).await;
                }
            }
        }
    })
    .await;
    let (watcher, ingest) = Watcher::start(vec![camera("gate", strange.port, "cam")], policy());
    watcher.until_pictures("gate", 1).await;
    assert_eq!(watcher.until_state("gate", "streaming").await.via, Some(Via::Retina));
    assert_eq!(watcher.states("gate"), [CameraState::Connecting, CameraState::Streaming], "without a word");
    ingest.shutdown().await;
}
