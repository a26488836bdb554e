//! A probe against GStreamer's RTSP server: what it says of streams of every kind.

use std::sync::Arc;
use std::time::Duration;

use fleet::{Camera, Transport};
use ingest::probe::{KeyKind, Limits, Outcome, Probed, Prober, Seen};
use tokio_util::sync::CancellationToken;

use crate::gst_server::{H264, H265, Login, PASSWORD, Server, USER};
use crate::watcher::{camera, credentials, policy};

async fn probe(camera: Camera) -> Probed {
    let limits = Limits { watch: Duration::from_secs(8), ..Limits::default() };
    let prober = Prober::new(vec![Arc::new(camera)], policy(), limits, CancellationToken::new());
    prober.probe(0, false).await.unwrap()
}

async fn seen(launch: impl Into<String>, transport: Transport) -> Seen {
    let server = Server::start(launch, Login::Open, 0);
    let mut camera = camera("gate", server.port, "cam");
    camera.transport = transport;
    match probe(camera).await.outcome {
        Outcome::Seen(seen) => {
            println!("{seen:#?}");
            *seen
        }
        Outcome::Failed(failure) => panic!("{failure:?}"),
    }
}

fn near(value: Option<f64>, wanted: f64, by: f64) -> bool {
    value.is_some_and(|value| (value - wanted).abs() <= by)
}

#[tokio::test]
async fn h264_and_h265_over_tcp_and_udp() {
    let (h264, h265) = tokio::join!(seen(H264, Transport::Tcp), seen(H265, Transport::Udp));
    for (seen, codec, via) in [(&h264, "H.264", "lean"), (&h265, "H.265", "retina")] {
        assert_eq!((seen.codec.as_str(), seen.via), (codec, via));
        let picture = seen.picture.as_ref().unwrap();
        assert_eq!((picture.width, picture.height), (320, 180));
        assert!(near(seen.fps, 25.0, 1.5), "{:?}", seen.fps);
        assert!(seen.key_kinds.contains(&KeyKind::Idr), "{:?}", seen.key_kinds);
        assert!(seen.keys >= 3 && seen.key_interval.is_some() && seen.watched_s >= 3.9);
        assert_eq!((seen.loss_percent, seen.damaged), (0.0, 0));
        assert!(seen.tracks.len() == 1 && seen.tracks[0].watched, "{:?}", seen.tracks);
        assert!(near(seen.clock_offset_s, 0.0, 0.5), "{:?}", seen.clock_offset_s);
    }
}

#[tokio::test]
async fn open_groups_of_pictures_b_pictures_and_slices_are_told_apart() {
    const SOURCE: &str =
        "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=25/1";
    let open = format!(
        "( {SOURCE} ! x264enc tune=0 speed-preset=ultrafast bframes=2 b-adapt=false key-int-max=25 rc-lookahead=0 \
         option-string=open-gop=1:slices=2:scenecut=0 ! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    );
    let cra = format!(
        "( {SOURCE} ! x265enc speed-preset=ultrafast key-int-max=25 option-string=log-level=none:open-gop=1:bframes=2:rc-lookahead=5:scenecut=0 \
         ! rtph265pay name=pay0 pt=96 config-interval=-1 )"
    );
    let (open, cra) = tokio::join!(seen(open, Transport::Tcp), seen(cra, Transport::Tcp));
    assert!(open.key_kinds.contains(&KeyKind::RecoveryPoint), "{:?}", open.key_kinds);
    assert!(near(open.key_interval.map(|i| i.median_s), 1.0, 0.2), "{:?}", open.key_interval);
    assert!(open.reordered && open.slices == 2, "{open:?}");
    assert!(open.odd.iter().any(|odd| odd.contains("2 slices")), "{:?}", open.odd);
    assert!(cra.key_kinds.contains(&KeyKind::Cra), "{:?}", cra.key_kinds);
    assert!(cra.parameter_sets.in_band && cra.reordered, "{cra:?}");
}

#[tokio::test]
async fn a_gradual_refresh_is_no_key_picture() {
    let launch = "( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 \
                  ! x264enc tune=zerolatency speed-preset=ultrafast intra-refresh=true key-int-max=25 threads=1 \
                  ! rtph264pay name=pay0 pt=96 config-interval=-1 )";
    let seen = seen(launch, Transport::Tcp).await;
    assert!(seen.key_kinds.contains(&KeyKind::Refresh), "{:?}", seen.key_kinds);
    assert!(seen.keys <= 1, "the first picture may be one: {}", seen.keys);
    assert!(seen.odd.iter().any(|odd| odd.contains("bit by bit")), "{:?}", seen.odd);
}

#[tokio::test]
async fn each_picture_of_motion_jpeg_is_a_key_picture() {
    let launch = "( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! jpegenc \
                  ! rtpjpegpay name=pay0 pt=26 )";
    let seen = seen(launch, Transport::Tcp).await;
    assert_eq!((seen.codec.as_str(), seen.key_kinds.as_slice()), ("Motion JPEG", &[KeyKind::Jpeg][..]));
    assert!(near(seen.fps, 10.0, 1.0) && seen.pictures == seen.keys as u64, "{seen:?}");
}

#[tokio::test]
async fn sound_and_metadata_beside_the_video_are_listed() {
    let server = sim::rtsp::Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let clip = tokio::task::spawn_blocking(|| sim::Clip::pattern(&sim::Pattern::default()));
    let mount = sim::rtsp::Mount::new(Arc::new(clip.await.unwrap().unwrap()));
    let mount = mount.with_track(sim::rtsp::Track::Audio).with_track(sim::rtsp::Track::Metadata);
    server.mount("cam", mount).unwrap();
    let port = server.url("cam").parse::<url::Url>().unwrap().port().unwrap();
    let Outcome::Seen(seen) = probe(camera("gate", port, "cam")).await.outcome else { panic!("not seen") };
    let tracks: Vec<_> = seen.tracks.iter().map(|t| (t.encoding.as_str(), t.watched)).collect();
    assert_eq!(tracks, [("vnd.onvif.metadata", false), ("h264", true), ("pcmu", false)]);
    assert!(near(seen.key_interval.map(|i| i.median_s), 2.0, 0.1), "{:?}", seen.key_interval);
    assert!(near(seen.bit_rate, 530_000.0, 80_000.0), "{:?}", seen.bit_rate);
    assert_eq!(seen.session_timeout_s, Some(60.0));
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_says_what_it_is_and_how_it_wants_a_password() {
    let server = Server::start(H264, Login::Digest, 0);
    let mut wrong = camera("gate", server.port, "cam");
    wrong.credentials = credentials(USER, "wrong horse");
    let probed = probe(wrong.clone()).await;
    let hello = probed.server.unwrap();
    assert!(hello.software.unwrap().contains("GStreamer"), "its own name");
    assert!(hello.auth.iter().any(|auth| auth.starts_with("Digest")), "{:?}", hello.auth);
    assert_eq!(hello.status, Some(401));
    match probed.outcome {
        Outcome::Failed(failure) => assert_eq!(failure.state, "auth_failed"),
        Outcome::Seen(seen) => panic!("with a wrong password: {seen:?}"),
    }
    wrong.credentials = credentials(USER, PASSWORD);
    assert!(matches!(probe(wrong).await.outcome, Outcome::Seen(_)));
}
