//! More of what goes wrong, seen by a client that hides nothing: replies, framing, order, clocks, whole hosts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Client, Incoming, PATIENCE, Recipe, SECOND, clip, serve, serve_with};
use sim::rtsp::{Fault, KeepAlive, Mount, Options, RandomFaults, Server, Start, Step, Track};
use sim::{Clip, Plan};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";
const QUIET: Duration = Duration::from_millis(200);

async fn with(fault: Fault) -> Server {
    serve(Mount::new(clip(SECOND)).with_fault(fault)).await
}

async fn describe(server: &Server) -> common::Reply {
    Client::connect(server, "cam").await.ask("DESCRIBE", "", "").await.unwrap()
}

#[tokio::test]
async fn replies_come_byte_by_byte() {
    let server = with(Fault::DripReplies { pause: Duration::from_millis(1) }).await;
    let mut client = Client::connect(&server, "cam").await;
    client.tell("OPTIONS", "", "").await.unwrap();
    let mut reads = 0;
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 4_096];
        let size = timeout(PATIENCE, client.stream.read(&mut buffer)).await.unwrap().unwrap();
        reply.extend_from_slice(&buffer[..size]);
        reads += 1;
    }
    assert!(reads * 4 > reply.len(), "{reads} reads for {} bytes", reply.len());
    assert!(reply.starts_with(b"RTSP/1.0 200"));
    assert_eq!(client.ask("DESCRIBE", "", "").await.unwrap().status, 200);
}

#[tokio::test]
async fn header_lines_never_end() {
    let server = with(Fault::EndlessHeaders).await;
    let mut client = Client::connect(&server, "cam").await;
    client.tell("DESCRIBE", "", "").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 1 << 20 {
        let mut buffer = vec![0; 64 << 10];
        let size = timeout(PATIENCE, client.stream.read(&mut buffer)).await.unwrap().unwrap();
        seen.extend_from_slice(&buffer[..size]);
    }
    assert!(seen.starts_with(b"RTSP/1.0 200 OK\r\nX-Header: "));
    assert!(!seen.windows(4).any(|four| four == b"\r\n\r\n"));
}

#[tokio::test]
async fn descriptions_are_huge_or_elsewhere_or_without_parameter_sets() {
    let huge = with(Fault::HugeSdp { bytes: 1 << 20 }).await;
    let body = describe(&huge).await.body;
    assert!((1 << 20..1_050_000).contains(&body.len()), "{}", body.len());
    assert!(String::from_utf8(body).unwrap().contains("sprop-parameter-sets="));

    let moved = with(Fault::Redirect { to: huge.url("cam") }).await;
    let reply = describe(&moved).await;
    assert_eq!((reply.status, reply.header("Location")), (302, huge.url("cam").as_str()));

    let bare = with(Fault::NoSetsInSdp).await;
    let text = String::from_utf8(describe(&bare).await.body).unwrap();
    assert!(text.contains("a=rtpmap:96 H264/90000") && !text.contains("sprop"), "{text}");
    let kinds = nal_kinds(&Client::play(&bare, "cam").await.picture().await.unwrap());
    assert!(kinds.contains(&7) && kinds.contains(&8), "{kinds:?}");

    let only = with(Fault::SetsOnlyInSdp).await;
    assert!(String::from_utf8(describe(&only).await.body).unwrap().contains("sprop-parameter-sets=Z"));
    let mut client = Client::play(&only, "cam").await;
    let mut last = None;
    for _ in 0..15 {
        let picture = client.picture().await.unwrap();
        assert!(nal_kinds(&picture).iter().all(|kind| ![7, 8].contains(kind)));
        for packet in picture {
            assert!(
                last.replace(packet.sequence).is_none_or(|last: u16| last.wrapping_add(1) == packet.sequence)
            );
        }
    }
}

fn nal_kinds(packets: &[common::Rtp]) -> Vec<u8> {
    packets.iter().map(|packet| packet.payload[0] & 0x1f).collect()
}

#[tokio::test]
async fn only_the_right_request_keeps_a_session_alive() {
    let options = Options { session_timeout: Duration::from_millis(600), ..Options::default() };
    for (keep_alive, right, wrong) in [
        (KeepAlive::Options, "OPTIONS", "GET_PARAMETER"),
        (KeepAlive::GetParameter, "GET_PARAMETER", "OPTIONS"),
    ] {
        let mount = Mount::new(clip(SECOND)).with_fault(Fault::KeepAliveOnly(keep_alive));
        let server = serve_with(mount, options.clone()).await;
        let mut client = Client::play(&server, "cam").await;
        let listed = client.ask("OPTIONS", "", "").await.unwrap();
        assert_eq!(listed.header("Public").contains(wrong), wrong == right, "{keep_alive:?}");
        for _ in 0..4 {
            tokio::time::sleep(QUIET).await;
            assert_eq!(client.ask(right, "", "").await.unwrap().status, 200, "{keep_alive:?}");
        }
        let ended = async {
            while client.ask(wrong, "", "").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(3), ended).await.expect("the wrong request does not keep it alive");
    }
}

#[tokio::test]
async fn keep_alive_and_teardown_can_hang_while_pictures_come() {
    for (step, method) in [(Step::KeepAlive, "GET_PARAMETER"), (Step::Teardown, "TEARDOWN")] {
        let server = with(Fault::Hang(step)).await;
        let mut client = Client::play(&server, "cam").await;
        client.tell(method, "", "").await.unwrap();
        for _ in 0..40 {
            assert!(!matches!(client.incoming().await.unwrap(), Incoming::Reply(_)), "{method}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_reset_within_a_picture() {
    let server = with(Fault::CutInPicture(QUIET)).await;
    let mut client = Client::play(&server, "cam").await;
    let mut whole = 0;
    let error = loop {
        match client.picture().await {
            Ok(_) => whole += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(whole, 5, "up to the sixth picture, 200 ms after PLAY");
}

#[tokio::test]
async fn a_camera_says_bye_when_told() {
    let server = with(Fault::ByeAfter(QUIET)).await;
    let mut client = Client::play(&server, "cam").await;
    let mut last = Vec::new();
    while let Ok(incoming) = client.incoming().await {
        if let Incoming::Rtcp(report) = incoming {
            last = report;
        }
    }
    assert!(last.windows(2).any(|two| two == [0x81, 203]), "{last:02x?}");
}

#[tokio::test]
async fn garbage_stands_between_frames_that_go_on() {
    let server = with(Fault::GarbageBetween { every: 3, bytes: 5 }).await;
    let mut client = Client::connect(&server, "cam").await;
    client.setup_and_play(TCP).await;
    // Reads as a client does that finds the next frame by its channel and a right RTP header.
    let mut seen = Vec::new();
    while seen.len() < 12_000 {
        let mut buffer = vec![0; 64 << 10];
        let size = timeout(PATIENCE, client.stream.read(&mut buffer)).await.unwrap().unwrap();
        seen.extend_from_slice(&buffer[..size]);
    }
    let (mut at, mut frames, mut skipped) = (0, 0, 0);
    while at + 16 < seen.len() {
        let size = usize::from(u16::from_be_bytes([seen[at + 2], seen[at + 3]]));
        let rtp = seen[at..at + 2] == [b'$', 0] && seen[at + 4] == 0x80 && seen[at + 5] & 0x7f == 96;
        let rtcp = seen[at..at + 2] == [b'$', 1] && seen[at + 4] == 0x80;
        match rtp || rtcp {
            true => (at, frames) = (at + 4 + size, frames + 1),
            false => (at, skipped) = (at + 1, skipped + 1),
        }
    }
    assert!(frames > 10 && skipped >= frames / 3 * 4, "{frames} frames, {skipped} bytes between");
}

#[tokio::test]
async fn frames_come_on_a_channel_that_nobody_set_up() {
    let server = with(Fault::StrangeChannel).await;
    let mut client = Client::play(&server, "cam").await;
    let mut strange = 0;
    for _ in 0..30 {
        // This client calls every channel but 0 RTCP.
        strange += usize::from(
            matches!(client.incoming().await.unwrap(), Incoming::Rtcp(packet) if packet == [0x80; 100]),
        );
    }
    assert!(strange >= 4, "{strange}");
}

#[tokio::test]
async fn datagrams_come_late_and_twice_and_all_of_them() {
    let server = with(Fault::ReorderPackets { share: 0.2, seed: 5 }).await;
    let socket = UdpSocket::bind(common::LOCAL).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut client = Client::connect(&server, "cam").await;
    client.setup_and_play(&format!("RTP/AVP;unicast;client_port={port}-{}", port.wrapping_add(1))).await;
    let mut seen = Vec::new();
    let mut buffer = [0; 2_000];
    while seen.len() < 150 {
        let size = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        seen.push(common::Rtp::parse(&buffer[..size]).sequence);
    }
    let ahead = |a: u16, b: u16| a.wrapping_sub(b) as i16;
    let late = seen.windows(2).filter(|pair| ahead(pair[1], pair[0]) < 0).count();
    assert!(late > 5, "{late} late");
    let first = seen[0];
    let mut numbers: Vec<i16> = seen.iter().map(|sequence| ahead(*sequence, first)).collect();
    numbers.sort_unstable();
    let twice = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(twice > 0, "{numbers:?}");
    // The last few may still be under way.
    let whole = numbers.windows(2).take(120).all(|pair| pair[1] - pair[0] <= 1);
    assert!(whole, "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_has_its_rate_and_the_pictures_are_still_in_it() {
    let server = with(Fault::Flood { mbit: 100 }).await;
    let mut client = Client::play(&server, "cam").await;
    client.picture().await.unwrap();
    let started = Instant::now();
    let (mut bytes, mut filler, mut other) = (0, 0, 0);
    for _ in 0..25 {
        for packet in client.picture().await.unwrap() {
            bytes += packet.payload.len();
            match packet.payload[0] & 0x1f {
                12 => filler += 1,
                _ => other += 1,
            }
        }
    }
    let mbit = bytes as f64 * 8.0 / 1e6 / started.elapsed().as_secs_f64();
    // A machine that is busy gets less, as pictures are left out then.
    assert!((50.0..115.0).contains(&mbit), "{mbit} Mbit/s");
    assert!(filler > 5_000 && other >= 25, "{filler} of filler, {other} others");
}

#[tokio::test]
async fn markers_stand_at_every_unit() {
    let server = with(Fault::MarkEachUnit).await;
    let mut client = Client::play(&server, "cam").await;
    let mut marked = Vec::new();
    for _ in 0..20 {
        let packet = client.rtp().await.unwrap();
        if packet.marker {
            marked.push(packet.payload[0] & 0x1f);
        }
    }
    assert!(marked.contains(&7) && marked.contains(&8), "parameter sets as well: {marked:?}");
}

#[tokio::test]
async fn the_cameras_clock_jumps_and_its_timestamps_do_not() {
    let options = Options { report_every: Duration::from_millis(100), ..Options::default() };
    let fault = Fault::ClockJump { after: Duration::from_millis(450), seconds: -86_400 };
    let server = serve_with(Mount::new(clip(SECOND)).with_fault(fault), options).await;
    let mut client = Client::play(&server, "cam").await;
    let mut reports = Vec::new();
    while reports.len() < 9 {
        if let Incoming::Rtcp(report) = client.incoming().await.unwrap() {
            let word = |at: usize| u32::from_be_bytes(report[at..at + 4].try_into().unwrap());
            reports.push((word(8), word(16)));
        }
    }
    let (first, last) = (reports[0], reports[8]);
    assert!((86_396..=86_400).contains(&first.0.wrapping_sub(last.0)), "{reports:?}");
    assert!((50_000..500_000).contains(&last.1.wrapping_sub(first.1)), "{reports:?}");
}

#[tokio::test]
async fn sound_and_metadata_come_beside_the_video_when_set_up() {
    let mount = Mount::new(clip(SECOND)).with_track(Track::Audio).with_track(Track::Metadata);
    let server = serve(mount).await;
    let mut client = Client::connect(&server, "cam").await;
    let sdp = String::from_utf8(client.ask("DESCRIBE", "", "").await.unwrap().body).unwrap();
    let places = ["m=application", "m=video", "m=audio"].map(|media| sdp.find(media).unwrap());
    assert!(places.is_sorted(), "{sdp}");
    for (track, channels) in [("trackID=1", "2-3"), ("trackID=2", "4-5")] {
        let transport = format!("Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n");
        let session = client.ask("SETUP", &format!("/{track}"), &transport).await.unwrap();
        assert_eq!(session.status, 200, "{track}");
        client.join(session.header("Session"));
    }
    client.setup_and_play(TCP).await;
    let (mut audio, mut metadata, mut video) = (0, 0, 0);
    for _ in 0..100 {
        match client.incoming().await.unwrap() {
            Incoming::Rtp(_) => video += 1,
            Incoming::Rtcp(packet) if packet[..2] == [0x80, 0] => audio += 1,
            Incoming::Rtcp(packet) if packet[..2] == [0x80, 107 | 0x80] => {
                assert!(packet[12..].starts_with(b"<?xml"));
                metadata += 1;
            }
            _ => {}
        }
    }
    assert!(audio > 20 && metadata > 0 && video > 20, "{audio} {metadata} {video}");
    let missing = Client::connect(&server, "cam").await.ask("SETUP", "/trackID=7", "").await.unwrap();
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn a_session_may_begin_between_key_pictures() {
    let clip = clip(Recipe { gop: 25, ..SECOND });
    let start = Start::Anywhere { offset: Duration::from_millis(20) };
    let server = Server::bind(common::LOCAL).await.unwrap();
    // Played for a second, ten pictures apart: at least one of the two begins in between.
    let mut first = Vec::new();
    for (path, ms) in [("a", 0), ("b", 500)] {
        let offset = Duration::from_millis(ms);
        server.mount(path, Mount::new(clip.clone()).starting(Start::Anywhere { offset })).unwrap();
        let picture = Client::play(&server, path).await.picture().await.unwrap();
        first.push(nal_kinds(&picture).contains(&7));
    }
    assert!(first.contains(&false), "{first:?} {start:?}");
}

#[tokio::test]
async fn motion_jpeg_is_what_ffmpeg_takes_it_for() {
    let dir = tempfile::tempdir().unwrap();
    let line = format!(
        "-q videotestsrc num-buffers=10 pattern=ball ! video/x-raw,width=320,height=240,format=I420,framerate=10/1 \
         ! jpegenc ! multifilesink location={}/%02d.jpg",
        dir.path().display()
    );
    common::run("gst-launch-1.0", &line.split_whitespace().collect::<Vec<_>>()).await;
    let units = (0..10u64).map(|n| sim::ClipUnit {
        data: std::fs::read(dir.path().join(format!("{n:02}.jpg"))).unwrap().into(),
        key: true,
        pts: Duration::from_millis(100 * n),
    });
    let clip = Clip {
        codec: flow::Codec::Mjpeg,
        width: 320,
        height: 240,
        units: units.collect(),
        duration: Duration::from_secs(1),
    };
    let server = serve(Mount::new(Arc::new(clip)).rounds(1)).await;
    let hashes = async |input: &[&str]| {
        let arguments =
            [&["-v", "error"], input, &["-map", "0:v", "-vsync", "passthrough", "-f", "framemd5", "-"]];
        let text = common::run("ffmpeg", &arguments.concat()).await;
        let frames = text.lines().filter(|line| !line.starts_with('#'));
        frames.filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    let expected = hashes(&["-i", &format!("{}/%02d.jpg", dir.path().display())]).await;
    assert_eq!(expected.len(), 10);
    for transport in ["tcp", "udp"] {
        let seen = hashes(&["-rtsp_transport", transport, "-i", &server.url("cam")]).await;
        assert_eq!(seen, expected, "{transport}: the same pictures, bit by bit");
    }
}

#[tokio::test]
async fn connections_draw_their_faults_and_some_play() {
    let random = RandomFaults { seed: 1, mean_uptime: Duration::from_millis(100) };
    let server = serve(Mount::new(clip(SECOND)).with_random_faults(random)).await;
    let (mut described, mut failed) = (0, 0);
    for _ in 0..40 {
        let mut client = Client::connect(&server, "cam").await;
        match timeout(QUIET, client.ask("DESCRIBE", "", "")).await {
            Ok(Ok(reply)) if reply.status == 200 => described += 1,
            _ => failed += 1,
        }
    }
    assert!(described >= 20 && failed >= 3, "{described} described, {failed} failed");
}

#[tokio::test]
async fn a_host_is_cut_off_alone_and_its_set_ups_are_counted() {
    let server = Server::bind((Ipv4Addr::UNSPECIFIED, 0).into()).await.unwrap();
    let cameras = Plan { hosts: 2, ..Plan::new(4) }.mount(&server, &[clip(SECOND)]).unwrap();
    let mut clients = Vec::new();
    for camera in &cameras {
        let address = camera.url.strip_prefix("rtsp://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        clients.push(Client::over(stream, camera.url.clone()));
    }
    let hosts: [IpAddr; 2] = [Ipv4Addr::new(127, 0, 0, 1).into(), Ipv4Addr::new(127, 0, 0, 2).into()];
    let stats = async |wanted: u64| {
        timeout(PATIENCE, async {
            while server.hosts().get(&hosts[1]).is_none_or(|host| host.connections != wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("connections are counted");
        server.hosts()[&hosts[1]]
    };
    let before = stats(2).await;
    assert_eq!((before.setting_up, before.setting_up_peak), (2, 2));
    for client in &mut clients {
        client.setup_and_play(TCP).await;
    }
    let playing = stats(2).await;
    assert_eq!((playing.setting_up, playing.setting_up_peak, playing.plays), (0, 2, 2));
    server.reset_peaks();
    assert_eq!(stats(2).await.setting_up_peak, 0);
    assert_eq!(server.plays().iter().filter(|play| play.host == hosts[1]).count(), 2);

    assert_eq!(server.take_down(Some(hosts[1]), Duration::from_millis(700)), 2);
    while clients[1].picture().await.is_ok() {}
    assert_eq!(stats(0).await.connections, 0);
    let down = Client::over(
        TcpStream::connect((hosts[1], server.local_addr().port())).await.unwrap(),
        cameras[1].url.clone(),
    );
    assert!({ down }.ask("OPTIONS", "", "").await.is_err(), "it is down");
    assert_eq!(server.hosts()[&hosts[1]].refused, 1);
    clients[0].picture().await.unwrap();
    clients[0].picture().await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let up = Client::over(
        TcpStream::connect((hosts[1], server.local_addr().port())).await.unwrap(),
        cameras[1].url.clone(),
    );
    assert_eq!({ up }.ask("DESCRIBE", "", "").await.unwrap().status, 200, "it is back");

    assert_eq!(server.cut(Some(hosts[0])), 2, "those at the other host");
    while clients[0].picture().await.is_ok() {}
}
