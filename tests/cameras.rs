//! Cameras that misbehave: each is told apart in its own health, and none of them costs the others anything.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use publish::testing::Mosquitto;
use serde_json::Value;
use sim::rtsp::{Auth, Fault, Mount, Scheme, Server, Step};

use crate::util::{self, project, write};

#[test]
fn bad_cameras_are_told_apart_and_leave_the_others_alone() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let listener = broker.listen("observer", "huiyan/v1/test/camera/+/health").unwrap();
    let (small, large) = (
        util::test_picture(dir.path(), "ball", (320, 240)),
        util::test_picture(dir.path(), "ball", (1280, 720)),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();

    let mount = || Mount::new(small.clone());
    let after = Duration::from_secs(3);
    let secret = fleet::Credentials { user: "admin".into(), password: fleet::Secret::new("right".into()) };
    let guard = Auth { scheme: Scheme::Basic, credentials: secret };
    let mounts = [
        ("good", mount()),
        ("switches", mount().with_fault(Fault::SwitchClip { after, to: large })),
        ("refuses", mount().with_fault(Fault::Answer(503))),
        ("hangs", mount().with_fault(Fault::Hang(Step::Describe))),
        ("garbage", mount().with_fault(Fault::GarbageAfter(after))),
        ("nosdp", mount().with_fault(Fault::GarbageSdp)),
        ("silent", mount().with_fault(Fault::SilentAfter(after))),
        ("corrupt", mount().with_fault(Fault::CorruptPicture { every: 1 })),
        ("locked", mount().guarded(guard)),
    ];
    let mut cameras = String::new();
    // At a recorder of its own: where nobody is known to answer yet, whoever comes first is tried alone, and if that one
    // hangs, its neighbours at the recorder say so and begin 10 s later.
    let other = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    for (name, mount) in mounts {
        let server = if name == "hangs" { &other } else { &server };
        server.mount(name, mount).unwrap();
        cameras += &format!("  - {{ id: {name}, class: any, url: {} }}\n", server.url(name));
    }
    // Bound and closed again: nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    cameras += &format!("  - {{ id: nobody, class: any, url: rtsp://{closed}/x }}\n");

    let config = write(
        dir.path(),
        "fleet.yaml",
        &format!(
            "{head}models: {{ street-demo: {model:?} }}
situations: {{ s: {{ zh: 测试, en: test, rule: {{ dwell: {{ classes: [car], at_least: 1h }} }} }} }}
credentials: {{ wrong: {{ user: admin, password: env:HUIYAN_TEST_PASSWORD }} }}
classes: {{ any: {{ model: street-demo, situations: [s], credentials: wrong, look: {{ at_most_every: 500ms }} }} }}
cameras:
{cameras}",
            head = util::fleet_head(broker.addr(), dir.path()),
            model = project("models/street-demo"),
        ),
    );
    let args = ["run", "--json", "--for", "30s", "--config", config.to_str().unwrap()];
    let output = util::huiyan(&args).env("HUIYAN_TEST_PASSWORD", "not-it-7531").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    let end: Value = serde_json::from_str(&last).unwrap_or_else(|_| panic!("no report: {last}\n{log}"));

    let mut looks = BTreeMap::new();
    for camera in end["cameras"].as_array().unwrap() {
        looks.insert(camera["id"].as_str().unwrap().to_owned(), camera["looks"].as_u64().unwrap());
    }
    println!("{looks:?}");
    for name in ["good", "switches"] {
        assert!(
            looks[name] >= 25,
            "{name}: {} looks in 30 s at one key picture a second\n{log}",
            looks[name]
        );
    }
    for name in ["refuses", "hangs", "nosdp", "locked", "nobody", "corrupt"] {
        assert_eq!(looks[name], 0, "{name}");
    }

    // What each said in its life, as an independent client heard it.
    let mut said: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for heard in listener.all() {
        let name = heard.topic.split('/').nth(4).unwrap().to_owned();
        let health: Value = serde_json::from_slice(&heard.payload).unwrap();
        let text = |key: &str| health[key].as_str().unwrap_or_default().to_owned();
        said.entry(name).or_default().push((text("state"), text("reason")));
    }
    let expect = |name: &str, state: &str, reason: &str| {
        let all = &said[name];
        let found = all.iter().any(|(s, r)| s == state && r.contains(reason));
        assert!(found, "{name} should be {state:?} because of {reason:?}; it said {all:?}");
    };
    expect("good", "streaming", "");
    expect("switches", "streaming", "");
    expect("refuses", "refused", "503");
    expect("hangs", "broken", "DESCRIBE");
    expect("garbage", "broken", "");
    expect("nosdp", "broken", "");
    expect("silent", "no_data", "");
    expect("corrupt", "streaming", "could not be used");
    expect("locked", "auth_failed", "");
    expect("nobody", "refused", "");
    let bad = |state: &str| !["connecting", "streaming"].contains(&state);
    assert!(!said["good"].iter().any(|(state, _)| bad(state)), "{:?}", said["good"]);
    assert!(!log.contains("not-it-7531"), "a password was printed");
    runtime.block_on(async {
        server.shutdown().await;
        other.shutdown().await;
    });
}
