//! What only GStreamer's `rtspsrc` can do for us: TLS, and another transport than the one that was asked for.

use std::process::Command;
use std::time::Duration;

use fleet::{Certificate, Transport};
use flow::{Codec, Role, Via};

use crate::gst_server::{Extras, H264, Login, PASSWORD, Server, USER};
use crate::raw_server::RawServer;
use crate::streams::decoded;
use crate::watcher::{Watcher, camera, credentials, policy};

/// A certificate that nobody trusts, and its key.
fn self_signed() -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    match made {
        Ok(output) if output.status.success() => {
            let read = |path| std::fs::read_to_string(path).unwrap();
            Some(read(&certificate) + &read(&key))
        }
        other => {
            println!("skipped: openssl makes no certificate: {other:?}");
            None
        }
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtsps_is_received_where_the_certificate_is_believed() {
    let Some(certificate) = self_signed() else { return };
    let server =
        Server::with(H264, Login::Digest, 0, Extras { certificate: Some(certificate), ..Extras::default() });
    let tls = |id: &str, password: &str, certificate| {
        let mut camera = camera(id, server.port, "cam");
        camera.url = format!("rtsps://127.0.0.1:{}/cam", server.port).parse().unwrap();
        camera.credentials = credentials(USER, password);
        camera.certificate = certificate;
        camera
    };
    let cameras = vec![
        tls("believed", PASSWORD, Certificate::Any),
        tls("checked", PASSWORD, Certificate::Checked),
        tls("wrong", "wr0ng-s3cret", Certificate::Any),
    ];
    let (watcher, ingest) = Watcher::start(cameras, policy());
    watcher.until_pictures("believed", 4).await;
    watcher.until_state("checked", "refused").await;
    let wrong = watcher.until_state("wrong", "auth_failed").await;
    watcher.until("rates", 5, |w| w.health.lock().unwrap().iter().any(|h| h.fps.is_some())).await;
    ingest.shutdown().await;
    for unit in watcher.pictures("believed") {
        assert_eq!((unit.key, unit.role, unit.lost_before), (true, Role::Alone, 0));
        assert_eq!(decoded(Codec::H264, &unit.data), 1);
    }
    let health = watcher.health.lock().unwrap();
    let rates = health.iter().find(|h| h.fps.is_some()).unwrap();
    assert_eq!((rates.camera.as_str(), rates.via), ("believed", Some(Via::Rtspsrc)));
    assert!((15.0..35.0).contains(&rates.fps.unwrap()), "{rates:?}");
    let told: Vec<_> = health.iter().map(|h| h.reason.clone()).collect();
    assert!(told.iter().any(|reason| reason.to_lowercase().contains("certificate")), "{told:#?}");
    assert!(told.iter().all(|reason| !reason.contains("s3cret")), "{told:#?}");
    println!("{}", wrong.reason);
    assert!(watcher.pictures("checked").is_empty() && watcher.pictures("wrong").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_refuses_tcp_is_received_over_udp_by_itself_and_its_threads_end() {
    let server = Server::with(H264, Login::Open, 0, Extras { udp_only: true, ..Extras::default() });
    let camera = camera("gate", server.port, "cam");
    assert_eq!(camera.transport, Transport::Tcp);
    let before = threads();
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    watcher.until_pictures("gate", 5).await;
    let (counters, _) = ingest.shutdown().await;
    assert_eq!(counters.inside(), 0);
    // Of the sessions that were refused before, the server may have had its pipeline to stop first (status 503).
    assert_eq!(watcher.states("gate").last().map(flow::CameraState::name), Some("streaming"));
    let via = watcher.health.lock().unwrap().iter().filter_map(|h| h.via).next_back();
    assert_eq!(via, Some(Via::Rtspsrc));
    drop(server);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    // GStreamer keeps idle threads of its task pool for a while.
    while threads() > before + 6 && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(threads() <= before + 6, "{} threads, {before} before", threads());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_decode_is_not_tried_with_gstreamer_and_named() {
    const MPEG4: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
        a=rtpmap:96 MP4V-ES/90000\r\na=control:v\r\n";
    let server = RawServer::start(|mut client| async move {
        while let Some(request) = client.request().await {
            client.answer(&request, "200 OK", "Content-Type: application/sdp\r\n", MPEG4).await;
        }
    })
    .await;
    let (watcher, ingest) = Watcher::start(vec![camera("gate", server.port, "cam")], policy());
    let health = watcher.until_state("gate", "unsupported").await;
    assert!(health.reason.contains("video/mp4v-es"), "{health:?}");
    ingest.shutdown().await;
    assert_eq!(server.count("OPTIONS"), 0, "what rtspsrc would ask first");
}
