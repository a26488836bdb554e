//! The server's own promises: many sessions, time, bounds, hostile clients.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::{Duration, Instant};

use common::{Client, Incoming, LOCAL, PATIENCE, Recipe, SECOND, clip, serve, serve_with};
use sim::rtsp::{Mount, MountError, Options, Server, Start};
use sim::{Begin, Plan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sessions_get_their_bit_rate() {
    let server = Server::bind(LOCAL).await.unwrap();
    let clip = clip(SECOND);
    let plan = Plan { begin: Begin::FirstPicture, ..Plan::new(200) };
    let cameras = plan.mount(&server, std::slice::from_ref(&clip)).unwrap();
    let watch = |id: String| async {
        let id = id;
        let mut client = Client::play(&server, &id).await;
        let mut bytes = 0;
        client.picture().await.unwrap();
        let started = Instant::now();
        for _ in 0..75 {
            bytes += client.picture().await.unwrap().iter().map(|packet| packet.payload.len()).sum::<usize>();
        }
        (started.elapsed().as_secs_f64(), bytes)
    };
    let seen = futures::future::join_all(cameras.into_iter().map(|camera| watch(camera.id))).await;
    for (seconds, bytes) in seen {
        assert!((2.7..3.6).contains(&seconds), "three rounds took {seconds} s");
        // Start codes and delimiters stay behind, fragment headers come in.
        let share = bytes as f64 / (3 * clip.bytes()) as f64;
        assert!((0.95..1.05).contains(&share), "{share} of the clip's bytes");
    }
    assert_eq!(server.stats().plays, 200);
    assert_eq!(server.stats().pictures_dropped, 0);
    server.shutdown().await;
}

#[tokio::test]
async fn live_cameras_share_a_position_and_the_log_tells_it() {
    let server = Server::bind(LOCAL).await.unwrap();
    let clip = clip(Recipe { pictures: 50, gop: 5, ..SECOND });
    for (path, ms) in [("a", 0), ("b", 700)] {
        let start = Start::Live { offset: Duration::from_millis(ms) };
        server.mount(path, Mount::new(clip.clone()).starting(start)).unwrap();
    }
    let (mut a, mut b) = tokio::join!(Client::play(&server, "a"), Client::play(&server, "b"));
    let (a, b) = (a.picture().await.unwrap(), b.picture().await.unwrap());
    assert_eq!(a[0].payload[0] & 0x1f, 7, "enters at a key picture");
    assert_ne!(a.last().unwrap().payload, b.last().unwrap().payload);
    let plays = server.plays();
    assert_eq!(plays.len(), 2);
    let position = |path: &str| plays.iter().find(|play| play.path == path).unwrap();
    let (a, b) = (position("a"), position("b"));
    let apart = b.position.as_secs_f64()
        - a.position.as_secs_f64()
        - b.started.duration_since(a.started).as_secs_f64();
    assert!((apart.rem_euclid(2.0) - 0.7).abs() < 0.01, "{plays:?}");
}

#[tokio::test]
async fn the_description_has_what_clients_look_for() {
    let server = serve(Mount::new(clip(SECOND))).await;
    let mut client = Client::connect(&server, "cam?profile=1").await;
    let options = client.ask("OPTIONS", "", "").await.unwrap();
    assert!(options.header("Public").contains("GET_PARAMETER"));
    let reply = client.ask("DESCRIBE", "", "Accept: application/sdp\r\n").await.unwrap();
    assert_eq!(reply.header("Content-Base"), server.url("cam/") + "/");
    let sdp = String::from_utf8(reply.body).unwrap();
    for line in
        ["a=rtpmap:96 H264/90000", "sprop-parameter-sets=Z", "a=framerate:25\r\n", "a=control:trackID=0"]
    {
        assert!(sdp.contains(line), "{line} in {sdp}");
    }
    let setup = client
        .ask("SETUP", "/trackID=0", "Transport: RTP/AVP/TCP;unicast;interleaved=4-5\r\n")
        .await
        .unwrap();
    assert!(setup.header("Transport").contains("interleaved=4-5"));
    assert!(setup.header("Session").ends_with(";timeout=60"));
    let play = client.ask("PLAY", "", "Range: npt=0.000-\r\n").await.unwrap();
    assert!(play.header("Range").starts_with("npt=0"));
    let info = play.header("RTP-Info").to_owned();
    let part = |name: &str| info.split(';').find_map(|part| part.strip_prefix(name)).unwrap().to_owned();
    assert_eq!(part("url="), server.url("cam") + "/trackID=0");
    // Channel 4 is not 0, so the client calls it RTCP.
    let mut packets = Vec::new();
    while packets.len() < 2 {
        if let Incoming::Rtcp(packet) = client.incoming().await.unwrap() {
            packets.push(packet);
        }
    }
    assert_eq!(packets[0][1], 200, "a sender report comes first");
    let first = common::Rtp::parse(&packets[1]);
    assert_eq!((part("seq="), part("rtptime=")), (first.sequence.to_string(), first.timestamp.to_string()));
    assert!(setup.header("Transport").contains(&format!("ssrc={:08X}", first.ssrc)));
}

#[tokio::test]
async fn sender_reports_map_media_time_to_the_clock() {
    let options = Options { report_every: Duration::from_millis(200), ..Options::default() };
    let server = serve_with(Mount::new(clip(SECOND)), options).await;
    let mut client = Client::play(&server, "cam").await;
    let mut reports = Vec::new();
    let mut octets = 0;
    while reports.len() < 4 {
        match client.incoming().await.unwrap() {
            Incoming::Rtcp(report) => {
                let word = |at: usize| u32::from_be_bytes(report[at..at + 4].try_into().unwrap());
                assert_eq!(word(24), octets, "payload bytes so far");
                reports.push((f64::from(word(8)) + f64::from(word(12)) / 2f64.powi(32), word(16)));
            }
            Incoming::Rtp(packet) => octets += packet.payload.len() as u32,
            Incoming::Reply(_) => {}
        }
    }
    let (first, last) = (reports[0], reports[3]);
    let ticks = f64::from(last.1.wrapping_sub(first.1)) / 90_000.0;
    assert!((last.0 - first.0 - ticks).abs() < 0.02, "{reports:?}");
    assert!((0.55..1.5).contains(&ticks), "{reports:?}");
}

#[tokio::test]
async fn a_udp_session_ends_unless_it_is_kept_alive() {
    let options = Options { session_timeout: Duration::from_millis(500), ..Options::default() };
    let server = serve_with(Mount::new(clip(SECOND)), options).await;
    let socket = UdpSocket::bind(LOCAL).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut client = Client::connect(&server, "cam").await;
    let setup =
        client.setup_and_play(&format!("RTP/AVP;unicast;client_port={port}-{}", port.wrapping_add(1))).await;
    assert!(setup.header("Transport").contains("server_port="));
    for _ in 0..5 {
        sleep(Duration::from_millis(200)).await;
        assert_eq!(client.ask("GET_PARAMETER", "", "").await.unwrap().status, 200);
    }
    assert_eq!(server.stats().sessions, 1);
    let mut buffer = [0; 2_000];
    let silence =
        async { while timeout(Duration::from_millis(300), socket.recv(&mut buffer)).await.is_ok() {} };
    timeout(PATIENCE, silence).await.expect("the datagrams end");
    assert_eq!(server.stats().sessions, 0);
}

#[tokio::test]
async fn a_client_that_reads_nothing_misses_pictures_and_is_dropped() {
    let options =
        Options { stall_timeout: Duration::from_millis(700), send_buffer: 8 << 10, ..Options::default() };
    let heavy = clip(Recipe { kbit: 6_000, gop: 5, size: (640, 480), ..SECOND });
    let server = serve_with(Mount::new(heavy), options).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let stream = socket.connect(server.local_addr()).await.unwrap();
    let mut client = Client::over(stream, server.url("cam"));
    client.setup_and_play("RTP/AVP/TCP;unicast;interleaved=0-1").await;
    let ended = async {
        while server.stats().sessions > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("it is dropped");
    assert!(server.stats().pictures_dropped > 5, "{:?}", server.stats());
    assert!(server.stats().bytes < 1 << 20, "{:?}", server.stats());
}

#[tokio::test]
async fn a_mount_can_be_taken_away_and_put_back() {
    let server = serve(Mount::new(clip(SECOND))).await;
    let mut client = Client::play(&server, "cam").await;
    client.picture().await.unwrap();
    assert!(server.unmount("/cam/"));
    assert!(!server.unmount("cam"));
    while client.picture().await.is_ok() {}
    assert_eq!(Client::connect(&server, "cam").await.ask("DESCRIBE", "", "").await.unwrap().status, 404);
    server.mount("cam", Mount::new(clip(SECOND))).unwrap();
    let mut again = Client::play(&server, "cam").await;
    again.picture().await.unwrap();
    assert_eq!(again.ask("TEARDOWN", "", "").await.unwrap().status, 200);
    assert!(again.incoming().await.is_err(), "closed after TEARDOWN");
    let address = server.local_addr();
    server.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn bad_mounts_are_refused() {
    let server = Server::bind(LOCAL).await.unwrap();
    let good = clip(SECOND);
    for path in ["", "/", "a b", "straße", "a?b"] {
        assert!(
            matches!(server.mount(path, Mount::new(good.clone())), Err(MountError::Path { .. })),
            "{path}"
        );
    }
    let mut headless = (*good).clone();
    headless.units.remove(0);
    assert!(matches!(server.mount("cam", Mount::new(headless.into())), Err(MountError::Clip { .. })));
}

#[tokio::test]
async fn requests_out_of_order_are_refused_politely() {
    let server = serve(Mount::new(clip(SECOND))).await;
    let mut client = Client::connect(&server, "cam").await;
    assert_eq!(client.ask("PLAY", "", "").await.unwrap().status, 455);
    assert_eq!(client.ask("PLAY", "", "Session: 1234\r\n").await.unwrap().status, 454);
    assert_eq!(client.ask("RECORD", "", "").await.unwrap().status, 405);
    let multicast = "Transport: RTP/AVP;multicast\r\n";
    assert_eq!(client.ask("SETUP", "/trackID=0", multicast).await.unwrap().status, 461);
    assert_eq!(client.ask("SETUP", "/trackID=0", "").await.unwrap().status, 461);
    assert_eq!(client.ask("GET_PARAMETER", "", "").await.unwrap().status, 200);
}

#[tokio::test]
async fn hostile_bytes_cost_the_sender_the_connection_and_nobody_else() {
    let server = serve(Mount::new(clip(SECOND))).await;
    let mut watching = Client::play(&server, "cam").await;
    let mut noise = vec![0; 8_000];
    fastrand::Rng::with_seed(3).fill(&mut noise);
    let endless = [b"DESCRIBE rtsp://h/cam RTSP/1.0\r\nX: ", vec![b'x'; 200_000].as_slice()].concat();
    let hostile: [&[u8]; 8] = [
        &noise,
        &endless,
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"DESCRIBE rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"DESCRIBE rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\nContent-Length: -1\r\n\r\n",
        b"SETUP rtsp://h/cam/trackID=0 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;client_port=65535\r\n\r\n",
        b"OPTIONS * RTSP/1.0\r\n\r\n",
    ];
    for bytes in hostile {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        // The server may close before it has read all.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
        let refused = answer.is_empty() || answer.starts_with(b"RTSP/1.0 4");
        assert!(refused, "{:?}", String::from_utf8_lossy(&answer));
    }
    for _ in 0..10 {
        watching.picture().await.unwrap();
    }
    assert_eq!(server.stats().connections, 1);
}
