//! Each fault does what it says, seen by a client that hides nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use common::{Client, Recipe, SECOND, clip, run, serve};
use sim::rtsp::{Fault, Mount, Step};
use tokio::time::timeout;

const SOON: Duration = Duration::from_millis(200);
/// Longer than several pictures take.
const QUIET: Duration = Duration::from_millis(200);

async fn with(fault: Fault) -> sim::rtsp::Server {
    serve(Mount::new(clip(SECOND)).with_fault(fault)).await
}

fn is_reset(error: std::io::Error) {
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[tokio::test]
async fn refused_connections_are_reset() {
    let server = with(Fault::RefuseConnection).await;
    let mut client = Client::connect(&server, "cam").await;
    is_reset(client.ask("OPTIONS", "", "").await.unwrap_err());
    let mut other = Client::connect(&server, "elsewhere").await;
    assert_eq!(other.ask("DESCRIBE", "", "").await.unwrap().status, 404, "other paths are not hit");
}

#[tokio::test]
async fn a_status_answers_everything() {
    let server = with(Fault::Answer(503)).await;
    let mut client = Client::connect(&server, "cam").await;
    for method in ["OPTIONS", "DESCRIBE", "SETUP"] {
        assert_eq!(client.ask(method, "", "").await.unwrap().status, 503);
    }
}

#[tokio::test]
async fn a_hanging_step_never_answers_and_the_steps_before_do() {
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let steps = [
        ("OPTIONS", Step::Options),
        ("DESCRIBE", Step::Describe),
        ("SETUP", Step::Setup),
        ("PLAY", Step::Play),
    ];
    let clip = clip(SECOND);
    for (hanging, step) in steps {
        let server = serve(Mount::new(clip.clone()).with_fault(Fault::Hang(step))).await;
        let mut client = Client::connect(&server, "cam").await;
        for (method, _) in steps {
            let answer =
                timeout(QUIET, client.ask(method, "", if method == "SETUP" { transport } else { "" })).await;
            if method == hanging {
                assert!(answer.is_err(), "{method} is not answered");
                assert!(
                    timeout(QUIET, client.ask("OPTIONS", "", "")).await.is_err(),
                    "nor is anything after it"
                );
                break;
            }
            assert_eq!(answer.unwrap().unwrap().status, 200, "{method}");
        }
    }
}

#[tokio::test]
async fn a_garbage_sdp_is_none() {
    let server = with(Fault::GarbageSdp).await;
    let reply = Client::connect(&server, "cam").await.ask("DESCRIBE", "", "").await.unwrap();
    assert_eq!((reply.status, reply.header("Content-Type")), (200, "application/sdp"));
    assert!(std::str::from_utf8(&reply.body).is_err());
}

#[tokio::test]
async fn the_right_password_is_wrong() {
    use base64::Engine;
    let credentials =
        fleet::Credentials { user: "admin".into(), password: fleet::Secret::new("right".into()) };
    let auth = sim::rtsp::Auth { scheme: sim::rtsp::Scheme::Basic, credentials };
    let header = format!(
        "Authorization: Basic {}\r\n",
        base64::engine::general_purpose::STANDARD.encode("admin:right")
    );
    let mount = Mount::new(clip(SECOND)).guarded(auth);
    for (status, mount) in [(200, mount.clone()), (401, mount.with_fault(Fault::WrongPassword))] {
        let server = serve(mount).await;
        let mut client = Client::connect(&server, "cam").await;
        assert_eq!(client.ask("DESCRIBE", "", &header).await.unwrap().status, status);
    }
    let open = with(Fault::WrongPassword).await;
    let reply = Client::connect(&open, "cam").await.ask("DESCRIBE", "", "").await.unwrap();
    assert_eq!(reply.status, 401);
    assert!(reply.header("WWW-Authenticate").starts_with("Digest"));
}

#[tokio::test]
async fn a_silent_session_still_answers() {
    let server = with(Fault::SilentAfter(SOON)).await;
    let mut client = Client::play(&server, "cam").await;
    for _ in 0..5 {
        client.picture().await.unwrap();
    }
    assert!(timeout(QUIET, client.incoming()).await.is_err(), "nothing comes any more");
    assert_eq!(client.ask("GET_PARAMETER", "", "").await.unwrap().status, 200);
}

#[tokio::test]
async fn garbage_breaks_the_framing() {
    let server = with(Fault::GarbageAfter(SOON)).await;
    let mut client = Client::play(&server, "cam").await;
    for _ in 0..5 {
        client.picture().await.unwrap();
    }
    assert_eq!(client.incoming().await.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_cut_connection_is_reset() {
    let server = with(Fault::CutAfter(SOON)).await;
    let started = std::time::Instant::now();
    let mut client = Client::play(&server, "cam").await;
    let error = loop {
        if let Err(error) = client.picture().await {
            break error;
        }
    };
    is_reset(error);
    assert!(started.elapsed() >= SOON);
}

#[tokio::test]
async fn lost_packets_are_missing_from_the_sequence() {
    let server = with(Fault::LosePackets { share: 0.25, seed: 4 }).await;
    let mut client = Client::play(&server, "cam").await;
    let first = client.rtp().await.unwrap().sequence;
    let (mut received, mut last) = (1, first);
    while received < 70 {
        last = client.rtp().await.unwrap().sequence;
        received += 1;
    }
    let sent = f64::from(last.wrapping_sub(first)) + 1.0;
    let share = 1.0 - f64::from(received) / sent;
    assert!((0.12..0.38).contains(&share), "{share} lost");
}

#[tokio::test]
async fn a_clip_is_switched_at_a_key_picture() {
    let to = clip(Recipe { size: (160, 120), ..SECOND });
    let fault = Fault::SwitchClip { after: Duration::from_millis(600), to };
    let server = serve(Mount::new(clip(SECOND)).with_fault(fault).rounds(1)).await;
    let entries = ["-show_entries", "frame=width,key_frame,pkt_pts_time", "-of", "csv=p=0"];
    let url = server.url("cam");
    let text =
        run("ffprobe", &[&["-v", "error", "-rtsp_transport", "tcp"], &entries[..], &[&url]].concat()).await;
    let widths: Vec<&str> = text.lines().filter_map(|line| line.split(',').nth(1)).collect();
    let small = widths.iter().filter(|width| **width == "160").count();
    assert_eq!((widths.len() - small, small), (25, 25), "{text}");
    assert!(text.lines().any(|line| line.starts_with("1,160")), "it starts with a key picture: {text}");
}

#[tokio::test]
async fn every_third_picture_is_corrupt_and_no_other() {
    let clip = clip(SECOND);
    let clean = serve(Mount::new(clip.clone())).await;
    let dirty = serve(Mount::new(clip).with_fault(Fault::CorruptPicture { every: 3 })).await;
    let (mut good, mut bad) = tokio::join!(Client::play(&clean, "cam"), Client::play(&dirty, "cam"));
    for n in 1..=12 {
        let payloads = |packets: Vec<common::Rtp>| packets.into_iter().map(|p| p.payload).collect::<Vec<_>>();
        let (good, bad) = (payloads(good.picture().await.unwrap()), payloads(bad.picture().await.unwrap()));
        assert_eq!(good != bad, n % 3 == 0, "picture {n}");
        assert_eq!(good.iter().map(Vec::len).sum::<usize>(), bad.iter().map(Vec::len).sum::<usize>());
    }
}

#[tokio::test]
async fn markers_can_be_missing() {
    let server = with(Fault::NoMarker).await;
    let mut client = Client::play(&server, "cam").await;
    let mut times = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let packet = client.rtp().await.unwrap();
        assert!(!packet.marker);
        times.insert(packet.timestamp);
    }
    assert!(times.len() > 5);
}

#[tokio::test]
async fn timestamps_jump_when_told() {
    let server = with(Fault::TimestampJump { after: SOON, ticks: 900_000 }).await;
    let mut client = Client::play(&server, "cam").await;
    let mut steps = Vec::new();
    let mut last = client.picture().await.unwrap()[0].timestamp;
    for _ in 0..10 {
        let now = client.picture().await.unwrap()[0].timestamp;
        steps.push(now.wrapping_sub(last));
        last = now;
    }
    let mut expected = vec![3_600; 10];
    expected[4] += 900_000;
    assert_eq!(steps, expected);
}

#[tokio::test]
async fn datagrams_turn_to_garbage_as_well() {
    let server = with(Fault::GarbageAfter(SOON)).await;
    let socket = tokio::net::UdpSocket::bind(common::LOCAL).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut client = Client::connect(&server, "cam").await;
    client.setup_and_play(&format!("RTP/AVP;unicast;client_port={port}-{}", port.wrapping_add(1))).await;
    let mut buffer = [0; 2_000];
    let mut garbage = 0;
    for _ in 0..60 {
        let size = timeout(common::PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        assert!(size > 12);
        garbage += u32::from(buffer[..2] != [0x80, 96] && buffer[..2] != [0x80, 96 | 0x80]);
    }
    assert!(garbage > 0);
    assert!(matches!(client.ask("OPTIONS", "", "").await, Ok(reply) if reply.status == 200));
}
