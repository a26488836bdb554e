//! Real clips over the simulator's server, with what goes wrong on the way to a camera.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Camera, Sampling, Transport};
use flow::{AccessUnit, Codec};
use ingest::Policy;
use sim::Clip;
use sim::rtsp::{Fault, Mount, Server};

use crate::streams::decoded;
use crate::watcher::{Watcher, camera, nal_types, policy};

fn clip(name: &str) -> Option<Arc<Clip>> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/media").join(name);
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(Arc::new(Clip::open(path).unwrap()))
}

async fn server(mounts: Vec<(&str, Mount)>) -> Server {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    for (path, mount) in mounts {
        server.mount(path, mount).unwrap();
    }
    server
}

fn chained(id: &str, server: &Server) -> Camera {
    let mut camera = camera(id, server.local_addr().port(), id);
    camera.look.sampling = Sampling::Fps(30.0);
    camera
}

/// Each picture is a key picture or follows the one before it.
fn decodable(pictures: &[AccessUnit]) -> bool {
    pictures[0].key && pictures.windows(2).all(|p| p[1].key || p[1].sequence == p[0].sequence + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_passed_can_be_decoded_whatever_happens_on_the_way() {
    let Some(clip) = clip("one-by-one.mp4") else { return };
    let loss = Fault::LosePackets { share: 0.03, seed: 1 };
    let jump = Fault::TimestampJump { after: Duration::from_secs(1), ticks: -900_000 };
    let server = server(vec![
        ("loss", Mount::new(clip.clone()).with_fault(loss.clone())),
        ("loss-udp", Mount::new(clip.clone()).with_fault(loss)),
        ("no-marker", Mount::new(clip.clone()).with_fault(Fault::NoMarker)),
        ("jump", Mount::new(clip.clone()).with_fault(jump)),
    ])
    .await;
    let ids = ["loss", "loss-udp", "no-marker", "jump"];
    let mut cameras = ids.map(|id| chained(id, &server));
    cameras[1].transport = Transport::Udp;
    let (watcher, ingest) = Watcher::start(cameras.to_vec(), policy());
    for id in ids {
        watcher.until_pictures(id, 30).await;
    }
    let lossy = |id: &str| watcher.pictures(id).iter().any(|u| u.lost_before > 0 && u.key);
    watcher.until("a key picture after loss", 10, |_| lossy("loss") && lossy("loss-udp")).await;
    for id in ids {
        let pictures = watcher.pictures(id);
        assert!(decodable(&pictures), "{id}");
        assert!(pictures.iter().all(|u| u.session == pictures[0].session), "{id}: one session");
        let stream: Vec<u8> = pictures.iter().flat_map(|u| u.data.to_vec()).collect();
        assert_eq!(decoded(Codec::H264, &stream), pictures.len(), "{id}");
    }
    let whole = watcher.pictures("no-marker");
    assert_eq!(whole.len() as u64, whole[whole.len() - 1].sequence + 1, "without loss, nothing is dropped");
    for (camera, flow) in ingest.camera_counters() {
        let damaged = flow.dropped.iter().find(|(reason, _)| *reason == "damaged").unwrap().1;
        assert_eq!(damaged > 0, camera.as_str().starts_with("loss"), "{camera}: {flow:?}");
    }
    let (counters, _) = ingest.shutdown().await;
    assert_eq!(counters.inside(), 0, "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_resolution_brings_its_own_parameter_sets() {
    let (Some(small), Some(large)) = (clip("one-by-one.mp4"), clip("empty-lot-day-timelapse.mp4")) else {
        return;
    };
    let change = Fault::SwitchClip { after: Duration::from_millis(1500), to: large };
    let server = server(vec![("gate", Mount::new(small).with_fault(change))]).await;
    let (watcher, ingest) =
        Watcher::start(vec![camera("gate", server.local_addr().port(), "gate")], policy());
    let sets = |unit: &AccessUnit| unit.data[..unit.data.len().min(32)].to_vec();
    watcher
        .until("other parameter sets", 10, |w| {
            w.pictures("gate").windows(2).any(|p| sets(&p[0]) != sets(&p[1]))
        })
        .await;
    let pictures = watcher.pictures("gate");
    assert!(pictures.iter().all(|u| u.session == pictures[0].session && decoded(Codec::H264, &u.data) == 1));
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_hevc_camera_with_one_key_picture_in_252() {
    let Some(clip) = clip("shop-hevc-1080p.mp4") else { return };
    let server = server(vec![("shop", Mount::new(clip))]).await;
    let port = server.local_addr().port();
    let mut camera = camera("shop", port, "shop");
    camera.look.at_least_every = Duration::from_secs(2);
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    watcher.until_pictures("shop", 1).await;
    let note = |w: &Watcher| w.health.lock().unwrap().iter().any(|h| h.note.contains("at_least_every, 2s"));
    watcher.until("a note about the key interval", 10, note).await;
    let first = &watcher.pictures("shop")[0];
    let types = nal_types(Codec::H265, &first.data);
    assert!(types.starts_with(&[32, 33, 34]), "{types:?}");
    assert_eq!(decoded(Codec::H265, &first.data), 1);
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_cameras_on_the_threads_of_one() {
    let Some(clip) = clip("car-park-overhead.mp4") else { return };
    let server = server(vec![("cam", Mount::new(clip))]).await;
    let port = server.local_addr().port();
    let cameras: Vec<_> = (0..300).map(|n| camera(&format!("c{n}"), port, "cam")).collect();
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = threads();
    let began = Instant::now();
    let (watcher, ingest) = Watcher::start(cameras, Policy { starts_per_second: 1000, ..policy() });
    watcher
        .until("streaming of all", 20, |w| {
            w.health
                .lock()
                .unwrap()
                .iter()
                .filter(|h| h.state.name() == "streaming" && h.fps.is_none())
                .count()
                == 300
        })
        .await;
    let rate = 300.0 / began.elapsed().as_secs_f64();
    println!("{rate:.0} sessions set up per second, with their server on the same machine");
    assert!(rate > 100.0, "{rate:.0} sessions per second");
    assert!(threads() <= before + 1, "{} threads, {before} before", threads());
    let (counters, cut_off) = ingest.shutdown().await;
    assert_eq!((counters.inside(), cut_off), (0, 0));
    assert!(
        watcher.health.lock().unwrap().iter().all(|h| matches!(h.state.name(), "connecting" | "streaming"))
    );
}
