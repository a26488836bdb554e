//! `huiyan status` from a real broker: a real worker's cameras, a worker that died, a county's number of messages.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use publish::testing::Mosquitto;
use publish::testing::certificates::Authority;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, MqttOptions};
use serde_json::{Value, json};
use sim::rtsp::{Auth, Fault, Mount, Scheme, Server};
use unicode_width::UnicodeWidthStr as _;

use crate::util::{self, Running, huiyan, project, write};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn status(args: &[&str]) -> Value {
    let output = huiyan(&["status", "--json"]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_workers_cameras_are_listed_worst_first_and_are_stale_once_it_died() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let film = util::test_picture(dir.path(), "ball", (320, 240));
    let credentials = fleet::Credentials { user: "a".into(), password: fleet::Secret::new("b".into()) };
    server.mount("good", Mount::new(film.clone())).unwrap();
    server.mount("busy", Mount::new(film.clone()).with_fault(Fault::Answer(503))).unwrap();
    server.mount("locked", Mount::new(film).guarded(Auth { scheme: Scheme::Basic, credentials })).unwrap();
    let config = write(
        dir.path(),
        "fleet.yaml",
        &format!(
            "{head}models: {{ street-demo: {model:?} }}
situations: {{ s: {{ zh: 测试, en: test, rule: {{ dwell: {{ classes: [car], at_least: 1h }} }} }} }}
classes: {{ any: {{ model: street-demo, situations: [s] }} }}
cameras:
  - {{ id: good, class: any, name: 富民社区东门, url: {} }}
  - {{ id: busy, class: any, name: 西门, url: {} }}
  - {{ id: locked, class: any, url: {} }}
",
            server.url("good"),
            server.url("busy"),
            server.url("locked"),
            head = util::fleet_head(broker.addr(), dir.path()),
            model = project("models/street-demo"),
        ),
    );
    let config = config.to_str().unwrap();
    let before = status(&["--fleet", config]);
    assert_eq!(before["totals"], json!({ "no_report": 3 }), "nobody has spoken yet");

    let mut worker = Running::start(dir.path(), "run", &["run", "--config", config]);
    let listed = |view: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        view["cameras"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| (text(&c["camera"]), text(&c["listed_as"])))
            .collect()
    };
    let expected = [("locked", "auth_failed"), ("busy", "refused"), ("good", "streaming")]
        .map(|(camera, state)| (camera.to_owned(), state.to_owned()));
    let view = until("three states", || {
        let view = status(&["--fleet", config]);
        (listed(&view) == expected && view["cameras"][2]["fps"].is_number()).then_some(view)
    });
    assert_eq!(view["workers"][0]["state"], "online", "{view:#}");
    let good = &view["cameras"][2];
    assert_eq!((&good["name"], &good["worker"]), (&json!("富民社区东门"), &json!("w1")));
    assert!((good["key_interval_s"].as_f64().unwrap() - 1.0).abs() < 0.3, "{good}");
    assert!(view["trouble"].is_null() && view["unreadable"] == 0, "{view}");

    let text = out(&huiyan(&["status", "--fleet", config, "--all"]).output().unwrap());
    println!("{text}");
    assert!(text.lines().all(|line| line.width() <= 100), "{text}");
    let busy: Vec<_> = text.lines().skip_while(|line| !line.starts_with("busy")).take(2).collect();
    assert!(busy[0].contains("西门") && busy.concat().contains("RTSP status 503"), "{busy:?}");
    let heading = text.lines().find(|line| line.starts_with("camera ")).unwrap();
    let good = text.lines().find(|line| line.starts_with("good")).unwrap();
    let column = |line: &str, word: &str| line[..line.find(word).unwrap()].width();
    assert_eq!(
        column(good, "streaming"),
        column(heading, "state"),
        "Chinese names take two columns each:\n{text}"
    );

    // The same without the fleet: what the worker speaks of.
    let url = format!("mqtt://{}", broker.addr());
    assert_eq!(listed(&status(&["--broker", &url, "--site", "test"])), expected);

    // Killed, it cannot say goodbye: the broker does, and nobody knows how the cameras are.
    worker.kill();
    let view = until("the last will", || {
        let view = status(&["--fleet", config]);
        (view["workers"][0]["state"] == "offline").then_some(view)
    });
    assert_eq!(view["totals"], json!({ "worker_offline": 3 }), "{view:#}");
    let text = out(&huiyan(&["status", "--fleet", config]).output().unwrap());
    assert!(text.contains("w1 is offline; it last said streaming"), "{text}");
    runtime.block_on(server.shutdown());
}

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Publishes retained messages, as fast as the broker takes them.
async fn retain(broker: SocketAddr, messages: Vec<(String, String)>) {
    let mut options = MqttOptions::new("filler", broker.ip().to_string(), broker.port());
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    let (client, mut events) = AsyncClient::new(options, 100);
    let count = messages.len();
    let send = async {
        for (topic, body) in messages {
            client.publish(topic, QoS::AtLeastOnce, true, body).await.unwrap();
        }
        std::future::pending::<()>().await
    };
    let acknowledged = async {
        let mut acknowledged = 0;
        while acknowledged < count {
            let event = events.poll().await.unwrap();
            if let rumqttc::v5::Event::Incoming(rumqttc::v5::mqttbytes::v5::Packet::PubAck(_)) = event {
                acknowledged += 1;
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = acknowledged => {}
    }
}

#[test]
fn thousands_of_messages_all_arrive_although_the_broker_queues_a_thousand() {
    let broker = match Mosquitto::start("autosave_on_changes false\nautosave_interval 1800\n") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let states = ["streaming", "streaming", "streaming", "frozen", "invented_later"];
    let health = |n: usize| {
        let state = states[n % states.len()];
        let body = json!({
            "camera": format!("hn-{n:05}"), "state": state, "since": "2026-01-01T00:00:00Z", "worker": "w1",
            "fps": 25.0, "key_interval_s": 2.0, "reason": if state == "streaming" { "" } else { "it is how it is, and long so" },
            "coverage": { "total_s": 100.0, "watched_s": 75.0, "by_state_s": { "streaming": 75.0, "frozen": 25.0 } },
        });
        (format!("huiyan/v1/test/camera/hn-{n:05}/health"), body.to_string())
    };
    const CAMERAS: usize = 6_000;
    let mut messages: Vec<_> = (0..CAMERAS).map(health).collect();
    let event = project("crates/publish/testdata/event-began.json");
    let event: Value = serde_json::from_str(&std::fs::read_to_string(event).unwrap()).unwrap();
    let id = event["data"]["event"].as_str().unwrap();
    messages.push((format!("huiyan/v1/test/open/hn-0001/{id}"), event.to_string()));
    messages.push(("huiyan/v1/test/camera/broken/health".to_owned(), "{".to_owned()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(retain(broker.addr(), messages));

    let mut yaml = format!(
        "{head}models: {{ street-demo: {model:?} }}\nclasses: {{ any: {{ model: street-demo, situations: [] }} }}\ncameras:\n",
        head = util::fleet_head(broker.addr(), dir.path()),
        model = project("models/street-demo"),
    );
    for n in 0..CAMERAS {
        yaml += &format!("  - {{ id: hn-{n:05}, class: any, url: rtsp://127.0.0.1:9/{n} }}\n");
    }
    let config = write(dir.path(), "fleet.yaml", &yaml);
    let config = config.to_str().unwrap();
    let view = status(&["--fleet", config]);
    let expected =
        json!({ "streaming": CAMERAS * 3 / 5, "frozen": CAMERAS / 5, "invented_later": CAMERAS / 5 });
    assert_eq!(view["totals"], expected, "every camera counts, also in a state that is not known here");
    assert_eq!(view["coverage"]["watched_percent"], 75.0);
    assert_eq!(view["unreadable"], 1);
    assert_eq!(view["open"].as_array().unwrap().len(), 1);

    let text = out(&huiyan(&["status", "--fleet", config, "--worst", "5"]).output().unwrap());
    println!("{text}");
    for needle in [
        "6,000 of the fleet",
        "3,600",
        "60.0 %",
        "watched 75.0 %",
        "Open situations: 1",
        "疑似",
        "and 2,395 more",
    ] {
        assert!(text.contains(needle), "no {needle:?} in\n{text}");
    }
    assert!(text.lines().all(|line| line.width() <= 100), "{text}");
}

#[test]
fn watching_goes_on_and_says_so_when_the_broker_goes_away() {
    let mut broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let url = format!("mqtt://{}", broker.addr());
    let log = dir.path().join("out");
    let mut child = huiyan(&["status", "--broker", &url, "--site", "test", "--watch", "300ms", "--json"])
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let last = || -> Option<Value> {
        let text = std::fs::read_to_string(&log).unwrap();
        let whole = text.rsplit_once('\n').map(|(whole, _)| whole.to_owned())?;
        serde_json::from_str(whole.lines().last()?).ok()
    };
    until("a first view", || last().filter(|view| view["trouble"].is_null()));
    let body =
        json!({ "camera": "c", "state": "dark", "since": "2026-01-01T00:00:00Z", "worker": "w" }).to_string();
    let retain = publish_retained(&broker, "huiyan/v1/test/camera/c/health", &body);
    assert!(retain.success());
    until("the new state", || last().filter(|view| view["totals"] == json!({ "dark": 1 })));
    broker.kill();
    until("trouble", || last().filter(|view| view["trouble"].is_string()));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    until("the end", || child.try_wait().unwrap());
}

fn publish_retained(broker: &Mosquitto, topic: &str, body: &str) -> std::process::ExitStatus {
    let port = broker.port().to_string();
    let args = ["-V", "mqttv5", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", topic, "-m", body];
    Command::new("mosquitto_pub").args(args).status().unwrap()
}

#[test]
fn a_private_authority_and_an_own_certificate_are_options() {
    let dir = tempfile::tempdir().unwrap();
    let (county, other) = (Authority::new(dir.path(), "county"), Authority::new(dir.path(), "other"));
    let port = util::free_port();
    let (own, mine) = (county.issue("broker.example"), county.issue("li"));
    let config = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        county.ca().display(),
        own.certificate.display(),
        own.key.display()
    );
    let _broker = match Mosquitto::start(&config) {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, wrong) = (path(&county.ca()), path(&other.ca()));
    let (certificate, key) = (path(&mine.certificate), path(&mine.key));
    let url = format!("mqtts://127.0.0.1:{port}");
    let run = |url: &str, args: &[&str]| {
        let output = huiyan(&["status", "--json", "--broker", url, "--site", "test"]).args(args).output();
        let output = output.unwrap();
        (output.status.code(), err(&output))
    };
    let name = ["--tls-name", "broker.example"];
    let whole = [&name[..], &["--ca", &ca, "--certificate", &certificate, "--key", &key]].concat();
    assert_eq!(run(&url, &whole).0, Some(0), "{}", run(&url, &whole).1);
    for (args, said) in [
        (vec![], "authority"),
        (vec!["--ca", &wrong], "authority"),
        (vec!["--ca", &ca], "broker.example"),
        (vec!["--ca", &ca, "--tls-name", "broker.example"], "certificate"),
    ] {
        let (code, text) = run(&url, &args);
        assert!(code == Some(1) && text.contains(said), "{args:?}: {text}");
    }
    for (url, args, said) in [
        (&*url, vec!["--ca", "nowhere.pem"], "--ca nowhere.pem: "),
        (&url, vec!["--ca", &key], "--ca "),
        (&url, vec!["--certificate", &certificate], "--key"),
        (&url, vec!["--certificate", &certificate, "--key", &ca], "--key "),
        (&url, vec!["--tls-name", "a b"], "--tls-name a b: is no name of a host"),
        ("mqtt://127.0.0.1", vec!["--ca", &ca], "write mqtts://"),
    ] {
        let (code, text) = run(url, &args);
        assert!(code == Some(2) && text.contains(said), "{args:?}: {text}");
    }
}

#[test]
fn no_broker_is_exit_code_1_and_a_mistake_is_2() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("mqtt://{closed}");
    let output = huiyan(&["status", "--broker", &url, "--site", "test"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = err(&output);
    assert!(said.contains("no connection to the broker") && said.trim_end().lines().count() == 1, "{said}");
    for args in [
        &["--broker", "mqtt://me:hunter2@127.0.0.1", "--site", "test"][..],
        &["--broker", "http://127.0.0.1", "--site", "test"],
        &["--broker", "mqtt://127.0.0.1", "--site", "a/b"],
        &["--broker", "mqtt://127.0.0.1"],
        &[],
    ] {
        let output = huiyan(&["status"]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
        assert!(!err(&output).contains("hunter2"), "{}", err(&output));
    }
}
