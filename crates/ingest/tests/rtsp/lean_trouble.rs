//! What stands between the frames, what floods, what never ends: it costs its own camera at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet::Camera;
use flow::Via;
use ingest::Policy;
use sim::rtsp::{Auth, Fault, KeepAlive, Mount, Options, Scheme, Server};
use sim::{Clip, Pattern};

use crate::raw_server::{RawServer, SDP};
use crate::watcher::{Watcher, camera, credentials, policy};

fn clip() -> Arc<Clip> {
    let small = Pattern { size: (320, 180), key_every: 1, mbit: 0.1, ..Pattern::default() };
    Arc::new(Clip::pattern(&small).unwrap())
}

async fn server(mounts: Vec<(&str, Mount)>) -> Server {
    server_with(Options::default(), mounts).await
}

async fn server_with(options: Options, mounts: Vec<(&str, Mount)>) -> Server {
    let server = Server::bind_with("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    for (path, mount) in mounts {
        server.mount(path, mount).unwrap();
    }
    server
}

fn cameras(server: &Server, ids: &[&str]) -> Vec<Camera> {
    ids.iter().map(|id| camera(id, server.local_addr().port(), id)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_survives_what_cameras_do_beside_the_standard() {
    let clip = clip();
    let mount = || Mount::new(Arc::clone(&clip));
    let options = Options { session_timeout: Duration::from_secs(2), ..Options::default() };
    let mounts = vec![
        ("garbage", mount().with_fault(Fault::GarbageBetween { every: 3, bytes: 50 })),
        ("strange", mount().with_fault(Fault::StrangeChannel)),
        ("options", mount().with_fault(Fault::KeepAliveOnly(KeepAlive::Options))),
        ("get-parameter", mount().with_fault(Fault::KeepAliveOnly(KeepAlive::GetParameter))),
    ];
    let server = server_with(options, mounts).await;
    let ids = ["garbage", "strange", "options", "get-parameter"];
    let (watcher, ingest) = Watcher::start(cameras(&server, &ids), policy());
    for id in ids {
        // Longer than a session lasts that nobody asks for, with one key picture a second.
        watcher.until_pictures(id, 5).await;
        let pictures = watcher.pictures(id);
        assert!(pictures.iter().all(|unit| unit.session == pictures[0].session), "{id}: one session");
        assert_eq!(watcher.until_state(id, "streaming").await.via, Some(Via::Lean), "{id}");
    }
    // Frames are found again at once: nothing is lost over the garbage.
    assert!(watcher.pictures("garbage").windows(2).all(|p| p[1].lost_before == 0));
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digest_with_sha256_and_nonces_that_grow_old() {
    let auth =
        |scheme| Auth { scheme, credentials: (*credentials("watcher", "correct horse").unwrap()).clone() };
    let life = Duration::from_secs(1);
    let clip = clip();
    let mount = |scheme| Mount::new(Arc::clone(&clip)).guarded(auth(scheme));
    let server = server(vec![
        ("md5", mount(Scheme::Digest { nonce_lifetime: life })),
        ("sha256", mount(Scheme::Sha256 { nonce_lifetime: life })),
        ("basic", mount(Scheme::Basic)),
    ])
    .await;
    let ids = ["md5", "sha256", "basic"];
    let mut cameras = cameras(&server, &ids);
    for camera in &mut cameras {
        camera.credentials = credentials("watcher", "correct horse");
    }
    let (watcher, ingest) = Watcher::start(cameras, policy());
    for id in ids {
        watcher.until_pictures(id, 2).await;
        let names: Vec<_> = watcher.states(id).iter().map(flow::CameraState::name).collect();
        assert_eq!(names, ["connecting", "streaming"], "{id}");
    }
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_end_are_refused_in_time() {
    let clip = clip();
    let mount = || Mount::new(Arc::clone(&clip));
    let server = server(vec![
        ("endless", mount().with_fault(Fault::EndlessHeaders)),
        ("huge", mount().with_fault(Fault::HugeSdp { bytes: 1 << 20 })),
        ("slow", mount().with_fault(Fault::DripReplies { pause: Duration::from_millis(200) })),
        ("sdp", mount().with_fault(Fault::GarbageSdp)),
        ("healthy", mount()),
    ])
    .await;
    let drowns = RawServer::start(|mut client| async move {
        if client.request().await.is_some() {
            while client.rtp(1, 1, false, &[0x41; 1400]).await {}
        }
    })
    .await;
    let mut all = cameras(&server, &["endless", "huge", "slow", "sdp", "healthy"]);
    all.push(camera("drowns", drowns.port, "cam"));
    let limits = Policy { describe: Duration::from_secs(3), ..policy() };
    let (watcher, ingest) = Watcher::start(all, limits);
    for (id, reason) in [
        ("endless", "header lines of more than 65536 bytes"),
        ("huge", "at most 262144 are taken"),
        ("slow", "DESCRIBE was not answered within 3s"),
        ("sdp", "camera sdp at"),
        ("drowns", "more than 1048576 bytes came instead of an answer"),
    ] {
        let told = watcher.until_state(id, "broken").await;
        assert!(told.reason.contains(reason), "{told:?}");
    }
    watcher.until_pictures("healthy", 2).await;
    ingest.shutdown().await;
}

#[tokio::test]
async fn a_flood_leaves_the_neighbours_their_turn() {
    // On one thread, together with the server of the others; the flood has a thread of its own and knows no limit.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = Arc::new(AtomicBool::new(false));
    let flood = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || flood(&listener, &stop)
    });
    let server = server(vec![("quiet", Mount::new(clip()))]).await;
    let mut all = cameras(&server, &["quiet"]);
    all.push(camera("flood", port, "cam"));
    let (watcher, ingest) = Watcher::start(all, policy());
    watcher.until_pictures("quiet", 4).await;
    let pictures = watcher.pictures("quiet");
    assert!(pictures.windows(2).all(|p| p[1].sequence == p[0].sequence + 25 && p[1].lost_before == 0));
    // What came between them is counted, too: all that is no key picture, nearly.
    let coded = clip();
    let keys = coded.units.iter().filter(|unit| unit.key).count() as u64;
    let others: usize = coded.units.iter().filter(|unit| !unit.key).map(|unit| unit.data.len()).sum();
    let usual = others as u64 / keys;
    let between: Vec<_> = pictures[1..].iter().map(|picture| picture.bytes_between).collect();
    assert!(
        between.iter().all(|bytes| bytes.abs_diff(usual) < usual / 5 + 1_500),
        "{between:?} instead of {usual}"
    );
    let delays: Vec<_> =
        pictures.windows(2).map(|p| p[1].captured.duration_since(p[0].captured).as_millis()).collect();
    assert!(delays.iter().all(|ms| (200..2500).contains(ms)), "key pictures come once a second: {delays:?}");
    let flooded = ingest.camera_counters().find(|(camera, _)| camera.as_str() == "flood").unwrap().1;
    assert!(flooded.received > 10_000, "the flood is read as well: {flooded:?}");
    ingest.shutdown().await;
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

/// A camera that sends pictures as fast as they are read.
fn flood(listener: &std::net::TcpListener, stop: &AtomicBool) {
    use std::io::{BufRead as _, BufReader, Write as _};
    let (mut stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for method in ["DESCRIBE", "SETUP", "PLAY"] {
        let mut cseq = String::new();
        for line in lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()) {
            if let Some(number) = line.strip_prefix("CSeq: ") {
                number.clone_into(&mut cseq);
            }
        }
        let body = if method == "DESCRIBE" { SDP } else { "" };
        let head = format!(
            "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: 1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    }
    let mut burst = Vec::new();
    let mut n = 0u16;
    while !stop.load(Ordering::Relaxed) {
        burst.clear();
        for _ in 0..64 {
            n = n.wrapping_add(1);
            burst.extend_from_slice(&[b'$', 0, 5, 132, 0x80, 0x80 | 96]);
            burst.extend_from_slice(&n.to_be_bytes());
            burst.extend_from_slice(&(u32::from(n) * 100).to_be_bytes());
            burst.extend_from_slice(&[0, 0, 0, 7, 0x41, 0x9a]);
            burst.resize(burst.len() + 1398, 5);
        }
        if stream.write_all(&burst).is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_ask_too_and_may_say_goodbye() {
    let asked = Arc::new(AtomicBool::new(false));
    let answered = Arc::clone(&asked);
    let server = RawServer::camera(move |mut client| {
        let answered = Arc::clone(&answered);
        async move {
            client.send(b"OPTIONS * RTSP/1.0\r\nCSeq: 77\r\n\r\n").await;
            let Some(answer) = client.head().await else { return };
            answered.store(answer.starts_with("RTSP/1.0 200 OK\r\nCSeq: 77\r\n"), Ordering::Relaxed);
            // RTCP BYE of the source that sends.
            client.rtp(1, 1, true, &[0x41, 0x9a, 1]).await;
            client.send(&[b'$', 1, 0, 8, 0x81, 203, 0, 1, 0, 0, 0, 7]).await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let (watcher, ingest) = Watcher::start(vec![camera("gate", server.port, "cam")], policy());
    let told = watcher.until_state("gate", "broken").await;
    assert!(told.reason.contains("the camera says goodbye (RTCP BYE)"), "{told:?}");
    assert!(asked.load(Ordering::Relaxed), "the request was answered");
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_on_another_channel_than_agreed_are_found() {
    let server = RawServer::camera(|mut client| async move {
        for n in 0u16..2000 {
            // Sets and key picture in one STAP-A would be shorter, but this is what cameras send.
            let units: [&[u8]; 3] =
                [&[0x67, 66, 0, 30, 0x96, 0x54], &[0x68, 0xce, 0x38, 0x80], &[0x65, 0x88, 1, 2]];
            for (part, unit) in (0u16..).zip(units) {
                let packet = client.packet(4, n * 3 + part, u32::from(n) * 4500, part == 2, unit);
                if !client.send(&packet).await {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (watcher, ingest) = Watcher::start(vec![camera("gate", server.port, "cam")], policy());
    watcher.until_pictures("gate", 3).await;
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_camera_s_clock_is_compared_with_ours() {
    let wrong = Fault::ClockJump { after: Duration::ZERO, seconds: -3600 };
    let server =
        server(vec![("right", Mount::new(clip())), ("wrong", Mount::new(clip()).with_fault(wrong))]).await;
    let (watcher, ingest) = Watcher::start(cameras(&server, &["right", "wrong"]), policy());
    for (id, expected) in [("right", 0.0), ("wrong", -3600.0)] {
        let offset = |w: &Watcher| {
            let health = w.health.lock().unwrap();
            health.iter().rev().find(|h| h.camera.as_str() == id).and_then(|h| h.clock_offset_s)
        };
        watcher.until(&format!("clock offset of {id}"), 15, |w| offset(w).is_some()).await;
        let offset = offset(&watcher).unwrap();
        // A report may have waited half a second for its wake-up, and for a busy machine.
        assert!((offset - expected).abs() < 2.0, "{id}: {offset}");
    }
    ingest.shutdown().await;
}
