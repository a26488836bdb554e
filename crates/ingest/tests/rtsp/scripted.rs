//! The simulator's scripted troubles, each at a host of its own: in which state its camera ends or goes on, and that the
//! camera beside it never notices.

use std::sync::Arc;
use std::time::Duration;

use fleet::{Camera, Sampling, Transport};
use flow::Codec;
use ingest::Policy;
use sim::rtsp::{Fault, Mount, Options, Server, Start, Step, Track};
use sim::{Clip, Pattern};

use crate::streams::decoded;
use crate::watcher::{Watcher, camera, policy};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// 25 pictures per second, a key picture each second.
fn clip() -> Arc<Clip> {
    let small = Pattern { size: (320, 180), key_every: 1, mbit: 0.1, ..Pattern::default() };
    Arc::new(Clip::pattern(&small).unwrap())
}

async fn host(mount: Mount) -> Server {
    let options = Options { report_every: MS(500), ..Options::default() };
    let server = Server::bind_with("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    server.mount("cam", mount).unwrap();
    server
}

fn watched(id: &str, server: &Server) -> Camera {
    camera(id, server.local_addr().port(), "cam")
}

fn impatient() -> Policy {
    Policy {
        describe: Duration::from_secs(3),
        setup: Duration::from_secs(1),
        play: Duration::from_secs(1),
        first_picture: Duration::from_secs(4),
        no_data: Duration::from_secs(2),
        teardown: MS(300),
        ..policy()
    }
}

/// It had one session, and is watched in it.
fn undisturbed(watcher: &Watcher, id: &str) {
    let names: Vec<_> = watcher.states(id).iter().map(flow::CameraState::name).collect();
    assert_eq!(names, ["connecting", "streaming"], "{id}");
    let pictures = watcher.pictures(id);
    assert!(pictures.iter().all(|unit| unit.session == pictures[0].session), "{id}");
    // One in 25 is a key picture, and none of those between was lost.
    assert!(pictures.windows(2).all(|p| p[1].sequence == p[0].sequence + 25), "{id}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_that_fail_say_how_and_their_neighbour_goes_on() {
    let clip = clip();
    let after = MS(1_300);
    let cases = [
        ("refuses", Fault::RefuseConnection, "broken", "DESCRIBE"),
        ("hangs-at-describe", Fault::Hang(Step::Describe), "broken", "DESCRIBE was not answered within 3s"),
        ("hangs-at-setup", Fault::Hang(Step::Setup), "broken", "SETUP was not answered within 1s"),
        ("hangs-at-play", Fault::Hang(Step::Play), "broken", "PLAY was not answered within 1s"),
        ("never-lets-in", Fault::WrongPassword, "auth_failed", "401"),
        ("cut-in-a-picture", Fault::CutInPicture(after), "broken", "reset"),
        ("says-bye", Fault::ByeAfter(after), "broken", ""),
        ("falls-silent", Fault::SilentAfter(after), "no_data", "no picture came within 2s"),
        ("turns-to-garbage", Fault::GarbageAfter(after), "broken", "neither RTSP nor RTP"),
        ("has-no-such-stream", Fault::Answer(404), "refused", "404"),
    ];
    let healthy = host(Mount::new(Arc::clone(&clip))).await;
    let (mut cameras, mut hosts) = (vec![watched("healthy", &healthy)], Vec::new());
    for (id, fault, ..) in &cases {
        let server = host(Mount::new(Arc::clone(&clip)).with_fault(fault.clone())).await;
        let mut camera = watched(id, &server);
        camera.credentials = crate::watcher::credentials("watcher", "right");
        cameras.push(camera);
        hosts.push(server);
    }
    let (watcher, ingest) = Watcher::start(cameras, impatient());
    for (id, _, state, reason) in &cases {
        let told = watcher.until_state(id, state).await;
        assert!(told.reason.contains(reason), "{id}: {told:?}");
    }
    // What comes back is watched again.
    for id in ["cut-in-a-picture", "says-bye", "falls-silent", "turns-to-garbage"] {
        let sessions = |w: &Watcher| {
            let mut all: Vec<_> = w.pictures(id).iter().map(|unit| unit.session).collect();
            all.dedup();
            all.len()
        };
        watcher.until(&format!("another session of {id}"), 20, |w| sessions(w) >= 2).await;
    }
    watcher.until_pictures("healthy", 6).await;
    undisturbed(&watcher, "healthy");
    // A password that is wrong is tried twice, and not again for ten minutes.
    let locked = hosts[4].stats();
    assert!(locked.plays == 0 && hosts[4].hosts().values().map(|h| h.connections).sum::<u64>() <= 1);
    let (counters, cut_off) = ingest.shutdown().await;
    assert_eq!((counters.inside(), cut_off), (0, 0), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_that_are_merely_odd_are_watched_without_a_break() {
    let clip = clip();
    let plain = || Mount::new(Arc::clone(&clip));
    let with = |fault| plain().with_fault(fault);
    let moved = host(plain()).await;
    let jump = Fault::ClockJump { after: MS(1_500), seconds: 7_200 };
    let cases = [
        ("drips-its-replies", with(Fault::DripReplies { pause: MS(1) })),
        ("clock-jumps", with(jump)),
        ("sets-in-sdp-only", with(Fault::SetsOnlyInSdp)),
        ("sets-in-stream-only", with(Fault::NoSetsInSdp)),
        ("marks-each-unit", with(Fault::MarkEachUnit)),
        ("never-marks", with(Fault::NoMarker)),
        ("sounds-and-tells", plain().with_track(Track::Audio).with_track(Track::Metadata)),
        ("deaf-to-keep-alive", with(Fault::Hang(Step::KeepAlive))),
        ("deaf-to-teardown", with(Fault::Hang(Step::Teardown))),
        ("has-moved", with(Fault::Redirect { to: moved.url("cam") })),
    ];
    let (mut cameras, mut hosts, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for (id, mount) in cases {
        let server = host(mount).await;
        cameras.push(watched(id, &server));
        hosts.push(server);
        ids.push(id);
    }
    let (watcher, ingest) = Watcher::start(cameras, policy());
    for id in ids {
        watcher.until_pictures(id, 4).await;
        undisturbed(&watcher, id);
        let pictures = watcher.pictures(id);
        assert!(pictures.iter().all(|unit| decoded(Codec::H264, &unit.data) == 1), "{id}");
    }
    let (_, cut_off) = ingest.shutdown().await;
    assert_eq!(cut_off, 0, "one that does not answer TEARDOWN holds nobody up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_of_100_mbit_is_watched_and_its_neighbour_as_well() {
    let clip = clip();
    let flood = host(Mount::new(Arc::clone(&clip)).with_fault(Fault::Flood { mbit: 100 })).await;
    let quiet = host(Mount::new(clip)).await;
    let (watcher, ingest) =
        Watcher::start(vec![watched("flood", &flood), watched("quiet", &quiet)], policy());
    watcher.until_pictures("flood", 2).await;
    watcher.until_pictures("quiet", 5).await;
    undisturbed(&watcher, "quiet");
    // A busy machine may not carry all of it; whatever it missed, what came is whole, and is the picture alone.
    let names: Vec<_> = watcher.states("flood").iter().map(flow::CameraState::name).collect();
    assert_eq!(names, ["connecting", "streaming"]);
    assert!(watcher.pictures("flood").iter().all(|unit| unit.data.len() < 100_000));
    assert!(flood.stats().bytes > 2_000_000, "{:?}", flood.stats());
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_out_of_order_cost_pictures_and_not_the_session() {
    let reorder = Fault::ReorderPackets { share: 0.02, seed: 2 };
    let server = host(Mount::new(clip()).with_fault(reorder)).await;
    let mut camera = watched("gate", &server);
    camera.transport = Transport::Udp;
    camera.look.sampling = Sampling::Fps(25.0);
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    watcher.until_pictures("gate", 60).await;
    let pictures = watcher.pictures("gate");
    assert!(pictures.iter().all(|unit| unit.session == pictures[0].session));
    let stream: Vec<u8> = pictures.iter().flat_map(|unit| unit.data.to_vec()).collect();
    assert_eq!(decoded(Codec::H264, &stream), pictures.len(), "what is passed on can be decoded");
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_minutes_without_a_key_picture_are_noticed_at_once() {
    // 15,000 pictures of one group; the session begins in the middle of it.
    let mut long = (*clip()).clone();
    let (key, others): (Vec<_>, Vec<_>) = long.units.iter().cloned().partition(|unit| unit.key);
    let frame = MS(40);
    let follow = others.iter().cycle().take(14_999).cloned().enumerate();
    long.units = vec![key[0].clone()];
    long.units.extend(follow.map(|(n, unit)| sim::ClipUnit { pts: frame * (n as u32 + 1), ..unit }));
    long.duration = frame * 15_000;
    let offset = Duration::from_secs(300);
    let server = host(Mount::new(Arc::new(long)).starting(Start::Anywhere { offset })).await;
    let mut camera = watched("gate", &server);
    camera.look.at_least_every = Duration::from_secs(2);
    let (watcher, ingest) = Watcher::start(vec![camera], policy());
    let told = |w: &Watcher| {
        let health = w.health.lock().unwrap();
        health.iter().find(|h| h.reason.contains("key picture") || h.note.contains("key picture")).cloned()
    };
    watcher.until("a complaint about the key interval", 15, |w| told(w).is_some()).await;
    assert!(watcher.pictures("gate").is_empty(), "there was none to look at");
    ingest.shutdown().await;
}
