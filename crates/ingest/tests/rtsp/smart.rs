//! Smart codecs: key pictures minutes apart (here: seconds, against a limit of one).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet::{Camera, OnLongKeys};
use flow::{AccessUnit, Codec, Role};
use ingest::Policy;
use sim::Clip;
use sim::rtsp::{Mount, Server};

use crate::streams::decoded;
use crate::watcher::{Watcher, camera, policy};

/// One key picture in 8.4 s, and one per second.
async fn server() -> Option<Server> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/media");
    let files = [("long", "shop-hevc-1080p.mp4"), ("short", "one-by-one.mp4")];
    if let Some((_, name)) = files.iter().find(|(_, name)| !folder.join(name).is_file()) {
        println!("skipped: {name} is not in {}", folder.display());
        return None;
    }
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    for (path, name) in files {
        server.mount(path, Mount::new(Arc::new(Clip::open(folder.join(name)).unwrap()))).unwrap();
    }
    Some(server)
}

fn smart(server: &Server, limit: Duration) -> Camera {
    let mut camera = camera("gate", server.local_addr().port(), "long");
    camera.look.at_most_every = Duration::from_millis(200);
    camera.look.at_least_every = limit;
    camera
}

/// Notes of the health, in turn.
fn notes(watcher: &Watcher) -> Vec<String> {
    let mut notes: Vec<_> = watcher.health.lock().unwrap().iter().map(|h| h.note.clone()).collect();
    notes.dedup();
    notes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_key_intervals_are_decoded_in_full_and_looks_keep_coming() {
    let Some(server) = server().await else { return };
    let limit = Duration::from_secs(1);
    let (watcher, ingest) = Watcher::start(vec![smart(&server, limit)], policy());
    let looks = |w: &Watcher| -> Vec<AccessUnit> {
        let wanted = |unit: &AccessUnit| !matches!(unit.role, Role::Chained { deliver: false });
        w.pictures("gate").into_iter().filter(wanted).collect()
    };
    watcher.until("looks", 20, |w| looks(w).len() >= 15).await;
    watcher.until("the note", 5, |w| notes(w).iter().any(|n| n.ends_with("decoded in full"))).await;
    let (counters, _) = ingest.shutdown().await;
    assert_eq!(counters.inside(), 0);

    let all = watcher.pictures("gate");
    assert_eq!(all[0].role, Role::Alone, "at first as configured");
    let in_full: Vec<_> = all.iter().filter(|unit| unit.role != Role::Alone).collect();
    assert!(in_full[0].key && in_full.iter().all(|unit| unit.session == in_full[0].session), "one session");
    let stream: Vec<u8> = in_full.iter().take(40).flat_map(|unit| unit.data.to_vec()).collect();
    assert_eq!(decoded(Codec::H265, &stream), 40);
    // Without that, the next look would have come 8.4 s after the first.
    for pair in looks(&watcher).windows(2) {
        let gap = pair[1].captured.duration_since(pair[0].captured).as_secs_f64();
        assert!(gap < 4.0, "{gap:.1} s between two looks");
    }
    let states = watcher.states("gate");
    assert_eq!(states.iter().map(flow::CameraState::name).collect::<Vec<_>>(), ["connecting", "streaming"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_stream_is_taken_and_the_first_one_tried_again() {
    let Some(server) = server().await else { return };
    let mut camera = smart(&server, Duration::from_secs(2));
    camera.look.on_long_keys = OnLongKeys::OtherStream;
    camera.other_url = Some(camera.url.join("short").unwrap());
    let policy = Policy { long_keys_retry: Duration::from_secs(3), ..policy() };
    let (watcher, ingest) = Watcher::start(vec![camera], policy);
    // H.265 is the first stream, H.264 the other one.
    let codecs = |w: &Watcher| {
        let mut codecs: Vec<_> = w.pictures("gate").iter().map(|unit| unit.codec).collect();
        codecs.dedup();
        codecs
    };
    let way = [Codec::H265, Codec::H264, Codec::H265, Codec::H264];
    watcher.until("the other stream twice", 25, |w| codecs(w).len() >= 4).await;
    ingest.shutdown().await;
    assert_eq!(codecs(&watcher)[..4], way);
    assert!(watcher.pictures("gate").iter().all(|unit| unit.role == Role::Alone), "{:?}", notes(&watcher));
    assert!(
        notes(&watcher).iter().any(|n| n.ends_with("its other stream is watched")),
        "{:?}",
        notes(&watcher)
    );
    let states = watcher.states("gate");
    assert_eq!(states.iter().map(flow::CameraState::name).collect::<Vec<_>>(), ["connecting", "streaming"]);
}
