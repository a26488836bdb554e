//! Against GStreamer's RTSP server: pictures of the right kind arrive, over every transport and log-in.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::gst_server::{H264, H265, Login, PASSWORD, Server, USER};
use crate::watcher::{Watcher, camera, credentials, nal_types, policy};
use fleet::{Sampling, Transport};
use flow::{CameraState, Codec, Role};
use gstreamer as gst;
use gstreamer::prelude::*;
use ingest::Policy;

/// How many pictures GStreamer's own decoder makes of a byte stream.
pub fn decoded(codec: Codec, data: &[u8]) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), data).unwrap();
    let (parse, decode) = match codec {
        Codec::H264 => ("h264parse", "avdec_h264"),
        Codec::H265 => ("h265parse", "avdec_h265"),
        Codec::Mjpeg => ("jpegparse", "avdec_mjpeg"),
    };
    let path = file.path().display();
    let launch = format!("filesrc location={path} ! {parse} ! {decode} ! fakesink name=end sync=false");
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let pictures = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&pictures);
    let pad = pipeline.by_name("end").unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(10), &types);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.map(|m| m.type_()), Some(gst::MessageType::Eos));
    pictures.load(Ordering::Relaxed)
}

async fn key_pictures_stand_alone(codec: Codec, launch: &'static str, transport: Transport) {
    let server = Server::start(launch, Login::Open, 0);
    let mut camera = camera("gate", server.port, "cam");
    camera.transport = transport;
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    watcher.until_pictures("gate", 4).await;
    watcher.until("measured rates", 5, |w| w.health.lock().unwrap().iter().any(|h| h.fps.is_some())).await;

    let (counters, cut_off) = ingest.shutdown().await;
    let pictures = watcher.pictures("gate");
    for unit in &pictures {
        let types = nal_types(codec, &unit.data);
        match codec {
            Codec::H264 => assert!(types.starts_with(&[7, 8]) && types.contains(&5), "{types:?}"),
            Codec::H265 => {
                assert!(types.starts_with(&[32, 33, 34]) && types.iter().any(|t| (16..=21).contains(t)))
            }
            Codec::Mjpeg => panic!("each of its pictures stands alone"),
        }
        assert_eq!((unit.codec, unit.key, unit.role, unit.lost_before), (codec, true, Role::Alone, 0));
        assert_eq!(decoded(codec, &unit.data), 1);
        let age = flow::Timestamp::now().duration_since(unit.captured);
        assert!(!age.is_negative() && age.as_secs() < 30, "captured {age} ago");
    }
    for pair in pictures.windows(2) {
        assert_eq!(pair[0].session, pair[1].session);
        assert_eq!(pair[1].sequence - pair[0].sequence, 10, "pictures in between are counted");
        let ticks = pair[1].media_time.ticks - pair[0].media_time.ticks;
        assert!((ticks - 36_000).abs() < 900, "0.4 s at 90 kHz: {ticks}");
    }
    assert_eq!(watcher.states("gate"), [CameraState::Connecting, CameraState::Streaming]);
    let rates = watcher.health.lock().unwrap().iter().rev().find(|h| h.fps.is_some()).cloned().unwrap();
    assert!((15.0..35.0).contains(&rates.fps.unwrap()), "{rates:?}");
    assert!((0.2..0.8).contains(&rates.key_interval_s.unwrap()), "{rates:?}");
    assert_eq!((counters.inside(), cut_off), (0, 0), "{counters:?}");
    assert_eq!(counters.passed, pictures.len() as u64);
    assert!(counters.dropped.iter().any(|(reason, n)| *reason == "not_key" && *n >= 20), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h264_over_tcp() {
    key_pictures_stand_alone(Codec::H264, H264, Transport::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h264_over_udp() {
    key_pictures_stand_alone(Codec::H264, H264, Transport::Udp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h265_over_tcp() {
    key_pictures_stand_alone(Codec::H265, H265, Transport::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fps_passes_the_whole_stream_from_a_key_picture_and_marks_what_is_wanted() {
    let server = Server::start(H264, Login::Open, 0);
    let mut camera = camera("gate", server.port, "cam");
    camera.look.sampling = Sampling::Fps(5.0);
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    watcher.until_pictures("gate", 75).await;
    ingest.shutdown().await;
    let pictures = watcher.pictures("gate");
    assert!(pictures[0].key);
    assert!(pictures.windows(2).all(|p| p[1].sequence == p[0].sequence + 1));
    let wanted = pictures[..75].iter().filter(|u| u.role == Role::Chained { deliver: true }).count();
    assert!((10..=18).contains(&wanted), "5 of 25 per second: {wanted} of 75");
    let stream: Vec<u8> = pictures[..75].iter().flat_map(|u| u.data.to_vec()).collect();
    assert_eq!(decoded(Codec::H264, &stream), 75);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_every_thins_out_key_pictures() {
    let server = Server::start(H264, Login::Open, 0);
    let mut camera = camera("gate", server.port, "cam");
    camera.look.at_most_every = Duration::from_millis(800);
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    watcher.until_pictures("gate", 4).await;
    let (counters, _) = ingest.shutdown().await;
    let pictures = watcher.pictures("gate");
    // Every second of the key pictures, or one further on where a busy machine is late with one.
    assert!(pictures.windows(2).all(|p| (20..=30).contains(&(p[1].sequence - p[0].sequence))));
    let too_soon = counters.dropped.iter().find(|(reason, _)| *reason == "too_soon").unwrap().1;
    assert!(too_soon >= 3, "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_in_with_basic_and_digest() {
    for login in [Login::Basic, Login::Digest] {
        let server = Server::start(H264, login, 0);
        let mut camera = camera("gate", server.port, "cam");
        camera.credentials = credentials(USER, PASSWORD);
        let (watcher, ingest) = Watcher::start(vec![camera], policy());
        watcher.until_pictures("gate", 1).await;
        assert_eq!(server.clients.load(Ordering::Relaxed), 1);
        ingest.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_tried_twice_and_never_printed() {
    for (login, given) in [
        (Login::Basic, credentials(USER, "wr0ng-s3cret")),
        (Login::Digest, credentials(USER, "wr0ng-s3cret")),
        (Login::Digest, None),
    ] {
        let server = Server::start(H264, login, 0);
        let mut camera = camera("gate", server.port, "cam");
        camera.credentials = given;
        let (watcher, ingest) = Watcher::start(vec![camera], policy());
        let health = watcher.until_state("gate", "auth_failed").await;
        assert!(
            health.reason.contains("camera gate at 127.0.0.1") && health.reason.contains("401"),
            "{health:?}"
        );
        assert!(!health.reason.contains("s3cret"), "{health:?}");
        let clients = || server.clients.load(Ordering::Relaxed);
        watcher.until("second try", 10, |_| clients() >= 2).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(clients(), 2, "any other failure would wait 0.1 s at most");
        ingest.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_restarts_is_found_again() {
    let server = Server::start(H264, Login::Open, 0);
    let port = server.port;
    let (watcher, ingest) = Watcher::start(vec![camera("gate", port, "cam")], policy());
    watcher.until_pictures("gate", 2).await;
    drop(server);
    watcher.until_state("gate", "refused").await;
    let before = watcher.pictures("gate");
    let _server = Server::start(H264, Login::Open, port);
    watcher.until_pictures("gate", before.len() + 2).await;
    let after = watcher.pictures("gate").pop().unwrap();
    assert_ne!(after.session, before[0].session);
    assert!(after.media_time.ticks < 90_000 * 10 && after.sequence < 250, "a session of its own: {after:?}");
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_costs_pictures_and_not_the_session() {
    let server = Server::start(H264, Login::Open, 0);
    let mut chained = camera("chained", server.port, "cam");
    chained.look.sampling = Sampling::Fps(25.0);
    let watcher = std::sync::Arc::new(Watcher::default());
    *watcher.refuse.lock().unwrap() = 1;
    let ingest = watcher.watch(vec![chained], Policy { ..policy() });
    watcher.until_pictures("chained", 12).await;
    let (counters, _) = ingest.shutdown().await;
    let count = |name| counters.dropped.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(count("overflow"), 1, "{counters:?}");
    assert!(count("await_key") >= 9, "the rest of its group of pictures is of no use: {counters:?}");
    let first = &watcher.pictures("chained")[0];
    assert!(first.key && first.sequence >= 10, "{first:?}");
    assert_eq!(counters.inside(), 0);
}
