//! Clients that know nothing of us watch the server: ffmpeg, ffprobe, GStreamer's rtspsrc and retina.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{LOCAL, Recipe, SECOND, clip, make, run, serve, shared};
use fleet::{Credentials, Secret};
use sim::Clip;
use sim::rtsp::{Auth, Mount, Scheme, Server, Start};

/// A hash per decoded picture.
async fn hashes(input: &[&str]) -> Vec<String> {
    let output = ["-map", "0:v", "-vsync", "passthrough", "-f", "framemd5", "-"];
    let arguments = [&["-v", "error", "-nostdin"], input, &output].concat();
    let text = run("ffmpeg", &arguments).await;
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    frames.filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect()
}

async fn same_pictures(file: &Path, transport: &str) {
    let server = serve(Mount::new(Arc::new(Clip::open(file).unwrap())).rounds(1)).await;
    let expected = hashes(&["-i", file.to_str().unwrap()]).await;
    let url = server.url("cam");
    let seen = hashes(&["-rtsp_transport", transport, "-i", &url]).await;
    assert!(!expected.is_empty());
    assert_eq!(seen, expected, "{transport}: the same pictures, bit by bit");
    assert_eq!(server.stats().pictures, expected.len() as u64);
    assert_eq!(server.stats().sessions, 0);
    server.shutdown().await;
}

#[tokio::test]
async fn ffmpeg_decodes_the_very_pictures_over_tcp_and_udp_in_both_codecs() {
    let dir = tempfile::tempdir().unwrap();
    let h264 = make(SECOND, dir.path());
    let h265 = make(Recipe { h265: true, ..SECOND }, dir.path());
    tokio::join!(
        same_pictures(&h264, "tcp"),
        same_pictures(&h264, "udp"),
        same_pictures(&h265, "tcp"),
        same_pictures(&h265, "udp"),
    );
}

#[tokio::test]
async fn ffmpeg_decodes_a_real_h265_camera_over_udp() {
    let Some(file) = shared("media/shop-hevc-1080p.mp4") else { return };
    let clip = Arc::new(Clip::open(&file).unwrap());
    let server = serve(Mount::new(clip)).await;
    let url = server.url("cam");
    let seen = hashes(&["-rtsp_transport", "udp", "-t", "1", "-i", &url]).await;
    let expected = hashes(&["-t", "1", "-i", file.to_str().unwrap()]).await;
    let common = seen.iter().zip(&expected).take_while(|(seen, expected)| seen == expected).count();
    assert!(common >= 25, "{common} pictures alike of {} seen", seen.len());
    server.shutdown().await;
}

#[tokio::test]
async fn rounds_follow_without_a_jump() {
    let server = serve(Mount::new(clip(SECOND)).rounds(2)).await;
    let url = server.url("cam");
    let entries = ["-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"];
    let text =
        run("ffprobe", &[&["-v", "error", "-rtsp_transport", "tcp"], &entries[..], &[&url]].concat()).await;
    // ffprobe does not know the time of the very first packet, whose parameter sets come in packets of their own.
    let packets: Vec<(Option<f64>, bool)> = text
        .lines()
        .filter_map(|line| line.split_once(','))
        .map(|(pts, flags)| (pts.parse().ok(), flags.contains('K')))
        .collect();
    assert_eq!(packets.len(), 50);
    assert_eq!(packets.iter().filter(|(_, key)| *key).count(), 4);
    for (n, (pts, _)) in packets.iter().enumerate().skip(1) {
        assert!((pts.unwrap() - 0.04 * n as f64).abs() < 0.001, "packet {n}: {text}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn gstreamer_watches_over_tcp_and_udp() {
    let server = Server::bind(LOCAL).await.unwrap();
    server.mount("street/h264", Mount::new(clip(SECOND))).unwrap();
    server.mount("street/h265", Mount::new(clip(Recipe { h265: true, ..SECOND }))).unwrap();
    let watch = async |codec: &str, protocol: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let url = server.url(&format!("street/{codec}"));
        let line = format!(
            "-q rtspsrc location={url} protocols={protocol} latency=100 ! rtp{codec}depay ! {codec}parse config-interval=-1 \
             ! video/x-{codec},stream-format=byte-stream,alignment=au ! identity eos-after=30 \
             ! filesink location={}",
            file.display()
        );
        run("gst-launch-1.0", &line.split_whitespace().collect::<Vec<_>>()).await;
        let decoded =
            hashes(&["-f", if codec == "h264" { "h264" } else { "hevc" }, "-i", file.to_str().unwrap()])
                .await;
        assert!((28..=30).contains(&decoded.len()), "{codec} {protocol}: {} pictures", decoded.len());
    };
    tokio::join!(watch("h264", "tcp"), watch("h264", "udp"), watch("h265", "tcp"), watch("h265", "udp"));
    server.shutdown().await;
}

#[tokio::test]
async fn passwords_are_asked_for_in_both_schemes() {
    let server = Server::bind(LOCAL).await.unwrap();
    let clip = clip(SECOND);
    let schemes = [("basic", Scheme::Basic), ("digest", Scheme::Digest { nonce_lifetime: common::PATIENCE })];
    for (path, scheme) in schemes {
        let credentials = Credentials { user: "admin".into(), password: Secret::new("se cret".into()) };
        server.mount(path, Mount::new(clip.clone()).rounds(1).guarded(Auth { scheme, credentials })).unwrap();
    }
    let watch = async |path: &str, who: &str| {
        let url = server.url(path).replace("rtsp://", &format!("rtsp://{who}"));
        let arguments = ["-v", "error", "-rtsp_transport", "tcp", "-count_packets", "-show_streams", &url];
        tokio::process::Command::new("ffprobe").args(arguments).kill_on_drop(true).output().await.unwrap()
    };
    for path in ["basic", "digest"] {
        let (right, wrong, none) =
            tokio::join!(watch(path, "admin:se%20cret@"), watch(path, "admin:guess@"), watch(path, ""));
        let text = String::from_utf8_lossy(&right.stdout);
        assert!(
            text.contains("nb_read_packets=25"),
            "{path}: {text} {}",
            String::from_utf8_lossy(&right.stderr)
        );
        for refused in [wrong, none] {
            assert!(!refused.status.success());
            assert!(String::from_utf8_lossy(&refused.stderr).contains("401"), "{path}");
        }
    }
    server.shutdown().await;
}

/// Takes pictures until two rounds are over and says how many were key pictures.
async fn retina_watches(server: &Server, path: &str, transport: retina::client::Transport) -> usize {
    use futures::StreamExt;
    use retina::client::{Credentials, PlayOptions, Session, SessionOptions, SetupOptions};
    let credentials = Credentials { username: "admin".into(), password: "12345".into() };
    let url = url::Url::parse(&server.url(path)).unwrap();
    let mut session =
        Session::describe(url, SessionOptions::default().creds(Some(credentials))).await.unwrap();
    session.setup(0, SetupOptions::default().transport(transport)).await.unwrap();
    let mut pictures = session.play(PlayOptions::default()).await.unwrap().demuxed().unwrap();
    let (mut keys, mut last) = (0, None);
    for n in 0..51 {
        let picture = loop {
            let item =
                tokio::time::timeout(common::PATIENCE, pictures.next()).await.unwrap().unwrap().unwrap();
            if let retina::codec::CodecItem::VideoFrame(picture) = item {
                break picture;
            }
        };
        assert_eq!(picture.loss(), 0, "{path}, picture {n}");
        let elapsed = picture.timestamp().elapsed();
        if let Some(last) = last.replace(elapsed) {
            assert_eq!(elapsed - last, 3_600, "{path}, picture {n}");
        }
        keys += usize::from(picture.is_random_access_point());
    }
    keys
}

#[tokio::test]
async fn retina_watches_over_tcp_and_udp_with_a_password() {
    let server = Server::bind(LOCAL).await.unwrap();
    let credentials = Credentials { user: "admin".into(), password: Secret::new("12345".into()) };
    let auth = Auth { scheme: Scheme::Digest { nonce_lifetime: common::PATIENCE }, credentials };
    let live = Start::Live { offset: std::time::Duration::from_millis(300) };
    server.mount("play", Mount::new(clip(SECOND)).guarded(auth.clone())).unwrap();
    server.mount("live", Mount::new(clip(SECOND)).guarded(auth).starting(live)).unwrap();
    let (tcp, udp) = tokio::join!(
        retina_watches(&server, "play", retina::client::Transport::Tcp(Default::default())),
        retina_watches(&server, "live", retina::client::Transport::Udp(Default::default())),
    );
    assert_eq!(tcp, 5, "key pictures of two rounds and one picture");
    assert!((4..=5).contains(&udp), "{udp}");
    server.shutdown().await;
}
