//! Cameras that refuse, hang, send garbage or too much: each ends in the right state, and its neighbour goes on.

use std::time::{Duration, Instant};

use crate::gst_server::{H264, Login, Server};
use crate::raw_server::{Client, RawServer, SDP};
use crate::watcher::{Watcher, camera, policy};
use fleet::{Sampling, Transport};
use ingest::Policy;

fn impatient() -> Policy {
    Policy {
        describe: Duration::from_secs(3),
        setup: Duration::from_millis(300),
        play: Duration::from_secs(3),
        first_picture: Duration::from_millis(1500),
        no_data: Duration::from_millis(600),
        teardown: Duration::from_millis(300),
        ..policy()
    }
}

async fn hang(client: Client) {
    let _open = client;
    std::future::pending::<()>().await;
}

/// Answers DESCRIBE as given and everything else with 200.
async fn describing(status: &'static str, headers: &'static str, body: &'static str) -> RawServer {
    RawServer::start(move |mut client| async move {
        while let Some(request) = client.request().await {
            match request.method.as_str() {
                "DESCRIBE" => client.answer(&request, status, headers, body).await,
                _ => std::future::pending().await,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trouble_has_its_state_and_the_neighbour_goes_on() {
    const SDP_TYPE: &str = "Content-Type: application/sdp\r\n";
    const H263: &str =
        "v=0\r\no=- 0 0 IN IP4 0\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\nm=video 0 RTP/AVP 34\r\n";
    let healthy = Server::start(H264, Login::Open, 0);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let silent = RawServer::start(hang).await;
    let garbage = RawServer::start(|mut client| async move {
        client.send(&[0xff; 4096]).await;
        hang(client).await;
    })
    .await;
    let hangs_up = RawServer::start(|client| async move { drop(client) }).await;
    let not_found = describing("404 Not Found", "", "").await;
    let busy = describing("453 Not Enough Bandwidth", "", "").await;
    let transport = describing("461 Unsupported Transport", "", "").await;
    let h263 = describing("200 OK", SDP_TYPE, H263).await;
    let bad_sdp = describing("200 OK", SDP_TYPE, "this is no SDP\r\n").await;
    let no_setup = describing("200 OK", SDP_TYPE, SDP).await;
    let no_pictures = RawServer::camera(hang).await;
    let bad_rtp = RawServer::camera(|mut client| async move {
        client.send(&[b'$', 0, 0, 4, 1, 2, 3, 4]).await;
        hang(client).await;
    })
    .await;
    let bad_payloads = RawServer::camera(|mut client| async move {
        for n in 0.. {
            if !client.rtp(n, u32::from(n) * 3600, true, &[0x7c, 0x05, 9, 9]).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let no_sets = RawServer::camera(|mut client| async move {
        for n in 0..4 {
            client.rtp(n, u32::from(n) * 3600, true, &[0x65, 0x88, 1, 2]).await;
        }
        hang(client).await;
    })
    .await;
    let endless = RawServer::camera(|mut client| async move {
        let mut start = [0x88; 1400];
        start[..2].copy_from_slice(&[0x7c, 0x85]);
        client.rtp(0, 0, false, &start).await;
        start[1] = 0x05;
        let mut n = 1u16;
        while client.rtp(n, 0, false, &start).await {
            n = n.wrapping_add(1);
        }
    })
    .await;

    let cases = [
        ("closed", closed, "refused"),
        ("silent", silent.port, "broken"),
        ("garbage", garbage.port, "broken"),
        ("hangs-up", hangs_up.port, "broken"),
        ("not-found", not_found.port, "refused"),
        ("busy", busy.port, "refused"),
        ("transport", transport.port, "unsupported"),
        ("h263", h263.port, "unsupported"),
        ("bad-sdp", bad_sdp.port, "broken"),
        ("no-setup", no_setup.port, "broken"),
        ("no-pictures", no_pictures.port, "no_data"),
        ("bad-rtp", bad_rtp.port, "broken"),
        ("bad-payloads", bad_payloads.port, "broken"),
        ("no-sets", no_sets.port, "broken"),
        ("endless", endless.port, "broken"),
    ];
    let mut cameras: Vec<_> = cases.iter().map(|(id, port, _)| camera(id, *port, "cam")).collect();
    cameras.push(camera("healthy", healthy.port, "cam"));
    let (watcher, ingest) = Watcher::start(cameras, impatient());
    for (id, port, state) in cases {
        let health = watcher.until_state(id, state).await;
        assert!(health.reason.contains(&format!("camera {id} at 127.0.0.1:{port}: ")), "{health:?}");
    }
    let reason = |id: &str| {
        watcher.health.lock().unwrap().iter().rfind(|h| h.camera.as_str() == id).unwrap().reason.clone()
    };
    assert!(reason("silent").contains("DESCRIBE was not answered within 3s"), "{}", reason("silent"));
    assert!(reason("no-setup").contains("SETUP was not answered within 300ms"), "{}", reason("no-setup"));
    assert!(reason("h263").contains("video/h263"), "{}", reason("h263"));
    assert!(reason("bad-payloads").contains("fragments of a NAL unit"), "{}", reason("bad-payloads"));
    assert!(reason("no-sets").contains("no parameter sets"), "{}", reason("no-sets"));
    assert!(reason("endless").contains("larger than 4194304 bytes"), "{}", reason("endless"));
    assert!(reason("not-found").contains("404"), "{}", reason("not-found"));

    let before = watcher.pictures("healthy").len();
    watcher.until_pictures("healthy", before + 3).await;
    let states = watcher.states("healthy");
    assert_eq!(states.iter().map(flow::CameraState::name).collect::<Vec<_>>(), ["connecting", "streaming"]);
    assert!(not_found.count("DESCRIBE") >= 3, "it tries again");
    let (counters, cut_off) = ingest.shutdown().await;
    assert_eq!((counters.inside(), cut_off), (0, 0), "{counters:?}");
}

#[tokio::test]
async fn a_stream_that_stops_is_no_data_and_is_set_up_again() {
    let server = RawServer::camera(|mut client| async move {
        let units: [&[u8]; 3] =
            [&[0x67, 66, 0, 30, 0x96, 0x54], &[0x68, 0xce, 0x38, 0x80], &[0x65, 0x88, 1, 2]];
        for (n, unit) in (0u16..).zip(units) {
            client.rtp(n, 0, n == 2, unit).await;
        }
        hang(client).await;
    })
    .await;
    let (watcher, ingest) = Watcher::start(vec![camera("gate", server.port, "cam")], impatient());
    let health = watcher.until_state("gate", "no_data").await;
    assert!(health.reason.contains("no picture came within 600ms"), "{health:?}");
    watcher.until_pictures("gate", 2).await;
    let pictures = watcher.pictures("gate");
    assert_ne!(pictures[0].session, pictures[1].session);
    ingest.shutdown().await;
}

#[tokio::test]
async fn udp_without_pictures_points_at_the_firewall() {
    let server = RawServer::start(|mut client| async move {
        while let Some(request) = client.request().await {
            let (headers, body) = match request.method.as_str() {
                "DESCRIBE" => ("Content-Type: application/sdp\r\n", SDP),
                "SETUP" => ("Session: 1\r\nTransport: RTP/AVP/UDP;unicast;server_port=9-10\r\n", ""),
                _ => ("Session: 1\r\n", ""),
            };
            client.answer(&request, "200 OK", headers, body).await;
        }
    })
    .await;
    let mut camera = camera("gate", server.port, "cam");
    camera.transport = Transport::Udp;
    let (watcher, ingest) = Watcher::start(vec![camera], impatient());
    let health = watcher.until_state("gate", "no_data").await;
    assert!(health.reason.contains("firewall"), "{health:?}");
    ingest.shutdown().await;
}

#[tokio::test]
async fn stopping_wins_every_wait_and_sends_teardown() {
    let hanging = RawServer::start(hang).await;
    let playing = RawServer::camera(|mut client| async move {
        while let Some(request) = client.request().await {
            client.answer(&request, "200 OK", "", "").await;
        }
    })
    .await;
    let refusing = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let cameras = vec![
        camera("hanging", hanging.port, "cam"),
        camera("playing", playing.port, "cam"),
        camera("waiting", refusing, "cam"),
    ];
    let patient = Policy {
        backoff_base: Duration::from_secs(1000),
        backoff_max: Duration::from_secs(1000),
        ..Policy::default()
    };
    let (watcher, ingest) = Watcher::start(cameras, patient);
    watcher.until("PLAY", 5, |_| playing.count("PLAY") == 1 && hanging.port > 0).await;
    watcher.until_state("waiting", "refused").await;
    let began = Instant::now();
    let (_, cut_off) = ingest.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(cut_off, 0);
    assert_eq!(playing.count("TEARDOWN"), 1);
}

/// Replies of real cameras, some of them broken: whatever is in them, the program goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_of_real_cameras_do_not_break_the_program() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/captures/rtsp-sdp-retina/src/client/testdata");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    let mut replies: Vec<(String, Vec<u8>)> = entries
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(p).unwrap()))
        .collect();
    replies.sort();
    assert!(replies.len() > 40);
    let served = std::sync::Arc::new(replies.clone());
    let server = RawServer::start(move |mut client| {
        let served = std::sync::Arc::clone(&served);
        async move {
            while let Some(request) = client.request().await {
                if request.method != "DESCRIBE" {
                    return;
                }
                let (_, reply) = served.iter().find(|(name, _)| *name == request.path).unwrap();
                if reply.starts_with(b"RTSP/") {
                    let text = String::from_utf8_lossy(reply);
                    let lines = text.split_inclusive('\n').map(|line| {
                        if line.to_ascii_lowercase().starts_with("cseq:") {
                            format!("CSeq: {}\r\n", request.cseq)
                        } else {
                            line.to_owned()
                        }
                    });
                    client.send(lines.collect::<String>().as_bytes()).await;
                } else {
                    let body = String::from_utf8_lossy(reply);
                    client.answer(&request, "200 OK", "Content-Type: application/sdp\r\n", &body).await;
                }
            }
        }
    })
    .await;
    let cameras = replies.iter().map(|(name, _)| {
        let mut camera = camera(name, server.port, name);
        camera.look.sampling = Sampling::Fps(1.0);
        camera
    });
    let patient = Policy {
        backoff_base: Duration::from_secs(1000),
        backoff_max: Duration::from_secs(1000),
        ..impatient()
    };
    let (watcher, ingest) = Watcher::start(cameras.collect(), patient);
    for (name, _) in &replies {
        watcher.until(name, 10, |w| w.states(name).len() >= 2).await;
        let state = watcher.states(name).pop().unwrap();
        assert!(!format!("{state:?}").contains("panic"), "{name}: {state:?}");
    }
    // Most of them describe video that can be had; those get as far as SETUP, which this server does not answer.
    assert!(server.count("SETUP") >= 15, "{}", server.count("SETUP"));
    ingest.shutdown().await;
}
