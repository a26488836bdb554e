//! Many sessions at many recorders: how they are set up, and how they come back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::Camera;
use ingest::Policy;
use sim::rtsp::{Auth, HostStats, Mount, Scheme, Server};
use sim::{Clip, Pattern, Plan};

use crate::watcher::{Watcher, camera, credentials, policy};

fn clip() -> Arc<Clip> {
    let small = Pattern { mbit: 0.1, ..Pattern::default() };
    Arc::new(Clip::pattern(&small).unwrap())
}

/// So many cameras, spread over so many addresses of one server.
async fn recorders(cameras: usize, hosts: u16) -> (Server, Vec<Camera>) {
    let server = Server::bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
    let plan = Plan { hosts, ..Plan::new(cameras) };
    let mounted = plan.mount(&server, &[clip()]).unwrap();
    let cameras = mounted
        .iter()
        .map(|mounted| Camera { url: mounted.url.parse().unwrap(), ..camera(&mounted.id, 0, "") });
    (server, cameras.collect())
}

async fn until_all_play(server: &Server, plays: u64, sessions: u64, seconds: u64) -> Duration {
    let began = Instant::now();
    loop {
        let stats = server.stats();
        if stats.plays >= plays && stats.sessions >= sessions {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(seconds), "{stats:?} after {seconds} s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn peak(hosts: &BTreeMap<IpAddr, HostStats>) -> u64 {
    hosts.values().map(|host| host.setting_up_peak).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_come_and_come_back_without_flooding_any_recorder() {
    const CAMERAS: u64 = 300;
    let (server, cameras) = recorders(CAMERAS as usize, 6).await;
    let policy = Policy { setups_per_host: 3, ..policy() };
    let (watcher, ingest) = Watcher::start(cameras, policy);
    let established = until_all_play(&server, CAMERAS, CAMERAS, 20).await;
    assert!(established < Duration::from_secs(3), "300 in 3 s are 100 a second: {established:?}");
    assert!(peak(&server.hosts()) <= 3, "{:?}", server.hosts());

    let failed: Vec<_> = {
        let health = watcher.health.lock().unwrap();
        health.iter().filter(|h| !h.state.is_watched()).map(|h| h.reason.clone()).collect()
    };
    assert!(failed.iter().all(String::is_empty), "{failed:?}");

    server.reset_peaks();
    assert_eq!(server.cut(None), CAMERAS, "{:?}", server.hosts());
    let back = until_all_play(&server, 2 * CAMERAS, CAMERAS, 20).await;
    println!("{CAMERAS} sessions in {established:?}, back in {back:?}");
    assert!(peak(&server.hosts()) <= 3, "{:?}", server.hosts());
    assert_eq!(server.stats().plays, 2 * CAMERAS, "nobody tried twice");
    let (counters, cut_off) = ingest.shutdown().await;
    assert_eq!((counters.inside(), cut_off), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_restarts_is_tried_by_one_camera_at_a_time() {
    const CAMERAS: u64 = 64;
    let (server, cameras) = recorders(2 * CAMERAS as usize, 2).await;
    let patient =
        Policy { backoff_base: Duration::from_millis(200), backoff_max: Duration::from_secs(1), ..policy() };
    let (watcher, ingest) = Watcher::start(cameras, patient);
    until_all_play(&server, 2 * CAMERAS, 2 * CAMERAS, 20).await;
    let down = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    server.reset_peaks();
    assert_eq!(server.take_down(Some(down), Duration::from_secs(3)), CAMERAS);
    // All of them are told why they wait, though few have tried.
    let waits = "waits, since its host does not answer";
    let waiting = |w: &Watcher| {
        let health = w.health.lock().unwrap();
        let told = health.iter().filter(|h| h.reason.starts_with(waits)).map(|h| h.camera.clone());
        told.collect::<std::collections::BTreeSet<_>>().len()
    };
    watcher.until("64 that know why", 3, |w| waiting(w) + 8 >= CAMERAS as usize).await;
    until_all_play(&server, 3 * CAMERAS, 2 * CAMERAS, 20).await;
    let hosts = server.hosts();
    // The first tries were under way together; then one at a time, with a pause that doubles.
    assert!((1..=25).contains(&hosts[&down].refused), "{hosts:?}");
    assert!(peak(&hosts) <= 4, "{hosts:?}");
    let other = &hosts[&IpAddr::V4(Ipv4Addr::LOCALHOST)];
    assert_eq!(other.plays, CAMERAS, "the other recorder's sessions stand: {hosts:?}");
    ingest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_tried_twice_at_a_recorder_and_every_camera_says_so() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let auth = Auth {
        scheme: Scheme::Digest { nonce_lifetime: Duration::from_secs(60) },
        credentials: (*credentials("admin", "right").unwrap()).clone(),
    };
    let clip = clip();
    let ids: Vec<String> = (0..64).map(|n| format!("c{n}")).collect();
    for id in ids.iter().map(String::as_str).chain(["right"]) {
        server.mount(id, Mount::new(clip.clone()).guarded(auth.clone())).unwrap();
    }
    let port = server.local_addr().port();
    let mut cameras: Vec<_> = ids
        .iter()
        .map(|id| Camera { credentials: credentials("admin", "wrong"), ..camera(id, port, id) })
        .collect();
    cameras.push(Camera { credentials: credentials("admin", "right"), ..camera("right", port, "right") });
    let (watcher, ingest) = Watcher::start(cameras, policy());
    for id in &ids {
        let health = watcher.until_state(id, "auth_failed").await;
        assert!(health.reason.contains("401"), "{health:?}");
    }
    watcher.until_pictures("right", 2).await;
    let reasons: Vec<_> = {
        let health = watcher.health.lock().unwrap();
        health.iter().filter(|h| h.state.name() == "auth_failed").map(|h| h.reason.clone()).collect()
    };
    let shared =
        reasons.iter().filter(|r| r.starts_with("waits, since its host refused the same log-in twice"));
    // A camera that was refused says so in its own words first, and one of the two may be told again as it waits.
    assert!((62..=63).contains(&shared.count()), "{reasons:#?}");
    ingest.shutdown().await;
}
