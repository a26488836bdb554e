//! What encoders make beside IDR pictures at regular intervals: open groups, intra refresh, slices, B pictures, Motion
//! JPEG; through GStreamer's payloaders and RTSP server.

use std::time::Duration;

use fleet::{Sampling, Transport};
use flow::{AccessUnit, Codec, Role};

use crate::gst_server::{Login, Server};
use crate::streams::decoded;
use crate::watcher::{Watcher, camera, nal_types, policy};

const VIDEO: &str =
    "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=192,framerate=25/1";

fn x264(settings: &str) -> Server {
    // Left to itself, it would choose a profile without B pictures.
    let launch = format!(
        "( {VIDEO} ! x264enc threads=1 {settings} ! video/x-h264,profile=high ! rtph264pay name=pay0 pt=96 mtu=500 )"
    );
    Server::start(launch, Login::Open, 0)
}

fn x265(settings: &str) -> Server {
    let launch = format!(
        "( {VIDEO} ! x265enc speed-preset=ultrafast log-level=none key-int-max=10 \
         option-string=pools=none:frame-threads=1:wpp=0:{settings} ! rtph265pay name=pay0 pt=96 mtu=500 )"
    );
    Server::start(launch, Login::Open, 0)
}

/// The first `n` pictures of a camera.
async fn pictures(server: &Server, sampling: Sampling, n: usize) -> Vec<AccessUnit> {
    let mut camera = camera("gate", server.port, "cam");
    camera.look.sampling = sampling;
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    watcher.until_pictures("gate", n).await;
    let (counters, _) = ingest.shutdown().await;
    assert!(counters.dropped.iter().all(|(reason, n)| *reason != "damaged" || *n == 0), "{counters:?}");
    watcher.pictures("gate").into_iter().take(n).collect()
}

fn stream(pictures: &[AccessUnit]) -> Vec<u8> {
    pictures.iter().flat_map(|unit| unit.data.to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_groups_of_h264_are_entered_at_recovery_points() {
    let server = x264(
        "bframes=2 b-adapt=false key-int-max=10 speed-preset=veryfast option-string=open-gop=1:scenecut=0",
    );
    let keys = pictures(&server, Sampling::Keyframes, 4).await;
    for (index, unit) in keys.iter().enumerate() {
        let types = nal_types(Codec::H264, &unit.data);
        assert!(types.starts_with(&[7, 8]) && unit.key && unit.role == Role::Alone, "{types:?}");
        let idr = types.contains(&5);
        assert!(idr || index > 0 && types.contains(&6) && types.contains(&1), "{types:?}");
    }
    let types: Vec<_> = keys.iter().map(|unit| (unit.sequence, nal_types(Codec::H264, &unit.data))).collect();
    assert!(types.iter().any(|(_, types)| !types.contains(&5)), "none is open: {types:?}");
    let all = pictures(&server, Sampling::Fps(25.0), 40).await;
    assert_eq!(decoded(Codec::H264, &stream(&all)), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_and_b_pictures_stay_together() {
    let server = x264(
        "bframes=3 b-adapt=false key-int-max=12 speed-preset=veryfast option-string=slices=4:sliced-threads=0:scenecut=0",
    );
    let all = pictures(&server, Sampling::Fps(25.0), 36).await;
    for unit in &all {
        let slices = nal_types(Codec::H264, &unit.data).iter().filter(|kind| matches!(kind, 1 | 5)).count();
        assert_eq!(slices, 4, "picture {}", unit.sequence);
    }
    assert_eq!(decoded(Codec::H264, &stream(&all)), 36);
    let shown: Vec<i64> = all.iter().map(|unit| unit.media_time.ticks).collect();
    assert!(shown.windows(2).any(|pair| pair[1] < pair[0]), "there is no B picture: {shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_groups_of_h265_are_entered_at_cra_pictures() {
    let server = x265("open-gop=1:bframes=2:b-adapt=0:scenecut=0");
    let keys = pictures(&server, Sampling::Keyframes, 3).await;
    for unit in &keys {
        assert_eq!(decoded(Codec::H265, &unit.data), 1);
    }
    let types = |unit: &AccessUnit| nal_types(Codec::H265, &unit.data);
    assert!(keys.iter().any(|unit| types(unit).contains(&21)), "no CRA picture: {:?}", types(&keys[1]));
    let all = pictures(&server, Sampling::Fps(25.0), 30).await;
    assert_eq!(decoded(Codec::H265, &stream(&all)), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_with_intra_refresh_has_no_key_pictures_and_is_decoded_in_full() {
    let server = x264("bframes=0 intra-refresh=true key-int-max=25 speed-preset=veryfast tune=zerolatency");
    let mut camera = camera("gate", server.port, "cam");
    camera.look.at_most_every = Duration::from_millis(400);
    camera.look.at_least_every = Duration::from_secs(2);
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    let wanted = |w: &Watcher| {
        w.pictures("gate").iter().filter(|unit| unit.role == Role::Chained { deliver: true }).count()
    };
    watcher.until("looks", 20, |w| wanted(w) >= 8).await;
    ingest.shutdown().await;
    let in_full: Vec<_> =
        watcher.pictures("gate").into_iter().filter(|unit| unit.role != Role::Alone).collect();
    assert!(in_full[0].key, "it begins at an IDR picture or a recovery point");
    assert!(in_full.windows(2).all(|p| p[1].sequence == p[0].sequence + 1));
    let recovery_points = in_full[1..].iter().filter(|unit| unit.key).count();
    assert!(recovery_points >= 2, "they are told to the decoder");
    let health = watcher.health.lock().unwrap();
    assert!(health.iter().any(|h| h.note.contains("decoded in full")), "{health:#?}");
    assert!(health.iter().all(|h| matches!(h.state.name(), "connecting" | "streaming")), "{health:#?}");
}

/// The bodies of a file's segments of one kind, up to the first scan (ITU-T T.81 B.1.1.4).
fn segments(file: &[u8], marker: u8) -> Vec<u8> {
    let (mut at, mut found) = (2, Vec::new());
    while file[at] == 0xff && file[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        if file[at + 1] == marker {
            found.extend_from_slice(&file[at + 4..end]);
        }
        at = end;
    }
    found
}

/// What GStreamer's encoder writes at this quality.
fn encoded(quality: u32) -> Vec<u8> {
    use gstreamer as gst;
    use gstreamer::prelude::*;
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    let launch = format!(
        "videotestsrc num-buffers=1 ! video/x-raw,format=I420,width=64,height=64 ! jpegenc quality={quality} \
         ! filesink location={}",
        path.display()
    );
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(10), &end).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    std::fs::read(path).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn motion_jpeg_comes_out_as_files_of_its_size() {
    // Tables in band; by number, so that they are computed here; 4:2:2; a size that is no multiple of 16.
    let cases = [
        (80, "I420", (320, 192), "pt=26", Transport::Tcp),
        (35, "I420", (320, 192), "pt=96 quality=35", Transport::Tcp),
        (85, "Y42B", (320, 192), "pt=96", Transport::Tcp),
        (60, "I420", (648, 360), "pt=26", Transport::Udp),
    ];
    for (quality, format, size, pay, transport) in cases {
        let what = format!("{quality} {format} {size:?} {pay}");
        let launch = format!(
            "( videotestsrc is-live=true pattern=ball ! video/x-raw,format={format},width={},height={},framerate=25/1 \
             ! jpegenc quality={quality} ! rtpjpegpay name=pay0 {pay} )",
            size.0, size.1
        );
        let server = Server::start(launch, Login::Open, 0);
        let mut camera = camera("gate", server.port, "cam");
        camera.transport = transport;
        let (watcher, ingest) = Watcher::start(vec![camera], policy());
        watcher.until_pictures("gate", 5).await;
        ingest.shutdown().await;
        let reference = encoded(quality);
        for unit in &watcher.pictures("gate") {
            assert_eq!((unit.codec, unit.key, unit.role), (Codec::Mjpeg, true, Role::Alone), "{what}");
            assert_eq!(decoded(Codec::Mjpeg, &unit.data), 1, "{what}");
            let frame = segments(&unit.data, 0xc0);
            let [h1, h0, w1, w0] = frame[1..5] else { panic!("{frame:?}") };
            assert_eq!(
                (u32::from(w1) << 8 | u32::from(w0), u32::from(h1) << 8 | u32::from(h0)),
                size,
                "{what}"
            );
            assert_eq!(segments(&unit.data, 0xdb), segments(&reference, 0xdb), "{what}: quantization tables");
            assert_eq!(segments(&unit.data, 0xc4), segments(&reference, 0xc4), "{what}: Huffman tables");
        }
    }
}
