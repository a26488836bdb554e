//! `huiyan probe` against simulated cameras: what it finds, what it says to write, and what it does not do to hosts.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sim::Clip;
use sim::rtsp::{Auth, Fault, Mount, Scheme, Server};

use crate::util::{self, huiyan, project, write};

/// A test picture coded with this encoder, `key` pictures apart.
fn clip(dir: &Path, name: &str, size: (u32, u32), encoder: &str) -> Arc<Clip> {
    clip_of(60, dir, name, size, encoder)
}

fn clip_of(pictures: u32, dir: &Path, name: &str, size: (u32, u32), encoder: &str) -> Arc<Clip> {
    let path = dir.join(format!("{name}.mp4"));
    let parser = if encoder.starts_with("x265") { "h265parse" } else { "h264parse" };
    let line = format!(
        "videotestsrc num-buffers={pictures} pattern=ball ! video/x-raw,format=I420,width={},height={},framerate=10/1 ! {encoder} ! {parser} ! \
         mp4mux ! filesink location={}",
        size.0,
        size.1,
        path.display()
    );
    let status = Command::new("gst-launch-1.0").arg("-q").args(line.split(' ')).status().unwrap();
    assert!(status.success(), "{line}");
    Arc::new(Clip::open(&path).unwrap())
}

const H264: &str = "x264enc key-int-max=10 bframes=0 speed-preset=ultrafast";
const H265: &str =
    "x265enc key-int-max=20 speed-preset=ultrafast option-string=log-level=none:bframes=0:open-gop=0";
/// One key picture in the whole clip.
const LONG: &str = "x264enc key-int-max=600 bframes=0 speed-preset=ultrafast";

fn served(runtime: &tokio::runtime::Runtime) -> Server {
    runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap()
}

fn guard(password: &str) -> Auth {
    let credentials =
        fleet::Credentials { user: "viewer".into(), password: fleet::Secret::new(password.into()) };
    Auth { scheme: Scheme::Digest { nonce_lifetime: Duration::from_secs(60) }, credentials }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)))
}

#[test]
fn one_camera_is_described_and_what_to_write_for_it_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = served(&runtime);
    server
        .mount("live", Mount::new(clip(dir.path(), "h264", (640, 360), H264)).guarded(guard("right-4711")))
        .unwrap();
    let password = write(dir.path(), "password", "right-4711\n");
    let login = ["--user", "viewer", "--password", &format!("file:{}", password.display())];
    let url = server.url("live");

    let found = huiyan(&["probe", &url, "--json"]).args(login).output().unwrap();
    assert!(found.status.success(), "{}", err(&found));
    let camera = &json(&found)["cameras"][0];
    let seen = &camera["seen"];
    assert_eq!(seen["codec"], "H.264");
    assert_eq!((&seen["picture"]["width"], &seen["picture"]["height"]), (&640.into(), &360.into()));
    assert!(seen["picture"]["profile"].as_str().unwrap().contains("Baseline"), "{seen}");
    let near = |value: &Value, wanted: f64, by: f64| (value.as_f64().unwrap() - wanted).abs() <= by;
    assert!(near(&seen["fps"], 10.0, 0.3), "{seen}");
    assert!(near(&seen["key_interval"]["median_s"], 1.0, 0.05), "{seen}");
    assert_eq!(seen["key_kinds"], serde_json::json!(["idr"]));
    assert_eq!(seen["parameter_sets"]["described"], true);
    assert!(near(&seen["clock_offset_s"], 0.0, 0.5), "{seen}");
    assert_eq!(seen["loss_percent"], 0.0);
    assert!(seen["bit_rate"].as_f64().unwrap() > 1_000.0);
    assert_eq!(camera["server"]["auth"], serde_json::json!(["Digest MD5"]));
    assert_eq!(camera["transport"], "tcp");

    // For a person: the same, in lines that fit, with the YAML.
    let said = huiyan(&["probe", &url, "--seconds", "4"]).args(login).output().unwrap();
    let text = out(&said);
    for needle in ["640×360", "every 1.0 s", "IDR", "Digest MD5", "credentials: probed"] {
        assert!(text.contains(needle), "no {needle:?} in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(!text.contains("right-4711"), "{text}");

    // The YAML alone, included by a fleet, has no mistakes.
    let yaml =
        huiyan(&["probe", &url, "--yaml", "--class", "any", "--seconds", "3"]).args(login).output().unwrap();
    assert_eq!(check(dir.path(), &out(&yaml)), 1, "{}", out(&yaml));
    runtime.block_on(server.shutdown());
}

/// Checks a fleet that includes this YAML; how many cameras it has.
fn check(dir: &Path, yaml: &str) -> u64 {
    write(dir, "probed.yaml", yaml);
    let main = write(
        dir,
        "fleet.yaml",
        &format!(
            "site: test\ninclude: [probed.yaml]\nmodels: {{ street-demo: {:?} }}\n\
             classes: {{ any: {{ model: street-demo, situations: [] }} }}\n",
            project("models/street-demo")
        ),
    );
    let output = huiyan(&["check", "--json", main.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}{}\n{yaml}", out(&output), err(&output));
    json(&output)["cameras"].as_u64().unwrap()
}

#[test]
fn key_pictures_too_far_apart_are_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = served(&runtime);
    // 15 s with one key picture: the probe is over before the second comes.
    let film = clip_of(150, dir.path(), "long", (320, 240), LONG);
    server.mount("Streaming/Channels/101", Mount::new(film)).unwrap();
    let url = server.url("Streaming/Channels/101");
    let yaml = huiyan(&["probe", &url, "--yaml", "--class", "any", "--seconds", "12"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let found = huiyan(&["probe", &url, "--json", "--seconds", "12"]).output().unwrap();
    let seen = &json(&found)["cameras"][0]["seen"];
    assert_eq!((&seen["keys"], &seen["key_interval"]), (&1.into(), &Value::Null));
    let above = seen["key_interval_above_s"].as_f64().unwrap();
    assert!((10.5..13.0).contains(&above), "{seen}");
    assert!(seen["odd"].to_string().contains("a look is wanted at least every 10 s"), "{seen}");
    let yaml = out(&yaml.wait_with_output().unwrap());
    assert!(yaml.contains("switch the smart codec off"), "{yaml}");
    assert!(yaml.lines().all(|line| line.len() <= 100), "{yaml}");
    assert_eq!(check(dir.path(), &yaml), 1);
    // What it suggests in comments is right, too.
    let taken = yaml.replace("    # other_url:", "    other_url:").replace("    # look:", "    look:");
    assert!(taken.contains("\n    other_url: rtsp://") && taken.contains("Channels/102"), "{yaml}");
    assert_eq!(check(dir.path(), &taken), 1);
    runtime.block_on(server.shutdown());
}

#[test]
fn what_the_user_gets_wrong_is_said_in_one_line_and_never_with_the_password() {
    let mistakes: [(&[&str], &str); 5] = [
        (&["rtsp://viewer:hunter2@127.0.0.1/x"], "--user NAME --password env:NAME"),
        (&["rtsp://127.0.0.1/x?password=hunter2"], "--user NAME --password env:NAME"),
        (&["http://127.0.0.1/"], "rtsp://"),
        (&["rtsp://127.0.0.1/", "--user", "viewer", "--password", "hunter2"], "env:NAME or file:PATH"),
        (
            &["rtsp://127.0.0.1/", "--user", "viewer", "--password", "env:HUIYAN_NO_SUCH"],
            "HUIYAN_NO_SUCH is not set",
        ),
    ];
    for (args, needle) in mistakes {
        let output = huiyan(&["probe"]).args(args).output().unwrap();
        let said = err(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(needle) && said.trim_end().lines().count() == 1, "{args:?}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    // No address and no fleet.
    assert_eq!(huiyan(&["probe"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_camera_that_cannot_be_watched_is_exit_code_1_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = served(&runtime);
    let film = clip(dir.path(), "h264", (320, 240), H264);
    server.mount("locked", Mount::new(film.clone()).guarded(guard("right"))).unwrap();
    server.mount("busy", Mount::new(film.clone()).with_fault(Fault::Answer(503))).unwrap();
    server.mount("silent", Mount::new(film).with_fault(Fault::SilentAfter(Duration::ZERO))).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cases = [
        (server.url("locked"), "auth_failed", "wants another login"),
        (server.url("busy"), "refused", "503"),
        (server.url("nowhere"), "refused", "no such path"),
        (server.url("silent"), "no_data", "sends no pictures"),
        (format!("rtsp://{closed}/x"), "refused", "refuses the connection"),
    ];
    for (url, state, kind) in cases {
        let args = [
            "probe",
            &url,
            "--json",
            "--seconds",
            "2",
            "--user",
            "viewer",
            "--password",
            "env:HUIYAN_TEST_WRONG",
        ];
        let output = huiyan(&args).env("HUIYAN_TEST_WRONG", "not-it-7531").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{url}");
        let failure = &json(&output)["cameras"][0]["failed"];
        assert_eq!(failure["state"], state, "{url}: {failure}");
        assert!(failure["kind"].as_str().unwrap().contains(kind), "{url}: {failure}");
        assert!(
            err(&output).starts_with(&format!("huiyan: {url}: ")) && !err(&output).contains("not-it-7531"),
            "{}",
            err(&output)
        );
    }
    runtime.block_on(server.shutdown());
}

/// Forty cameras of all kinds on one server, and one that is not there.
fn forty(dir: &Path, server: &Server) -> std::path::PathBuf {
    let h264 = clip(dir, "h264", (640, 360), H264);
    let h265 = clip(dir, "h265", (1280, 720), H265);
    let mut yaml = format!(
        "{head}models: {{ street-demo: {model:?} }}\n\
         credentials: {{ right: {{ user: viewer, password: env:HUIYAN_TEST_RIGHT }}, wrong: {{ user: viewer, password: env:HUIYAN_TEST_WRONG }} }}\n\
         classes: {{ any: {{ model: street-demo, situations: [] }} }}\ncameras:\n",
        head = util::fleet_head(([127, 0, 0, 1], 9).into(), dir),
        model = project("models/street-demo"),
    );
    for number in 1..=40 {
        let id = format!("cam-{number:02}");
        let clip = if number % 2 == 0 { h264.clone() } else { h265.clone() };
        let (mount, extra) = match number {
            1..=5 => (Mount::new(clip).with_fault(Fault::Answer(503)), ""),
            6 => (Mount::new(clip).with_fault(Fault::GarbageSdp), ""),
            7 => (Mount::new(clip).with_fault(Fault::SilentAfter(Duration::ZERO)), ""),
            8 => (Mount::new(clip).with_fault(Fault::LosePackets { share: 0.1, seed: 7 }), ""),
            9..=12 => (Mount::new(clip).guarded(guard("right-4711")), ", credentials: right"),
            13..=24 => (Mount::new(clip).guarded(guard("right-4711")), ", credentials: wrong"),
            25 => (Mount::new(clip).with_fault(Fault::NoMarker), ""),
            26..=30 => (Mount::new(clip), ", transport: udp"),
            _ => (Mount::new(clip), ""),
        };
        server.mount(&id, mount).unwrap();
        yaml += &format!("  - {{ id: {id}, class: any, url: {}{extra} }}\n", server.url(&id));
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    yaml += &format!("  - {{ id: nobody, class: any, name: 富民社区东门, url: rtsp://{closed}/x }}\n");
    write(dir, "fleet.yaml", &yaml)
}

fn probe_fleet(config: &Path, args: &[&str]) -> Command {
    let mut command = huiyan(&["probe", "--fleet", config.to_str().unwrap(), "--seconds", "6"]);
    command.args(args).env("HUIYAN_TEST_RIGHT", "right-4711").env("HUIYAN_TEST_WRONG", "not-it-7531");
    command
}

#[test]
fn forty_cameras_are_surveyed_with_histograms_and_a_wrong_password_is_tried_twice() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = served(&runtime);
    let config = forty(dir.path(), &server);
    let csv = dir.path().join("probe.csv");

    let output = probe_fleet(&config, &["--json", "--csv", csv.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "some can be watched: {}", err(&output));
    let all = json(&output);
    assert_eq!((&all["asked"], &all["probed"], &all["stopped"]), (&41.into(), &41.into(), &false.into()));
    // 503 five times, no SDP, silence, twelve wrong passwords, and nobody.
    assert_eq!(all["failed"], 20, "{:#}", all["histograms"]);
    let counts = &all["histograms"];
    assert_eq!(
        counts["key_interval"]["up to 1 s"].as_u64().unwrap()
            + counts["key_interval"]["1 to 2 s"].as_u64().unwrap(),
        21
    );
    assert_eq!(
        counts["resolution"]["640×360"].as_u64().unwrap()
            + counts["resolution"]["1280×720"].as_u64().unwrap(),
        21
    );
    assert!(
        counts["codec"].as_object().unwrap().keys().any(|codec| codec.starts_with("H.265 Main")),
        "{counts}"
    );
    assert_eq!(counts["failure"]["refused: says no (RTSP status 503)"], 5, "{counts}");
    let of = |id: &str| {
        let cameras = all["cameras"].as_array().unwrap();
        cameras.iter().find(|camera| camera["camera"] == id).unwrap_or_else(|| panic!("no {id}")).clone()
    };
    assert!(of("cam-08")["seen"]["loss_percent"].as_f64().unwrap() > 2.0, "{}", of("cam-08"));
    assert!(of("cam-25")["seen"]["odd"].to_string().contains("marker"), "{}", of("cam-25"));
    assert_eq!(of("cam-26")["transport"], "udp");
    assert_eq!(of("nobody")["failed"]["state"], "refused");
    // Of the twelve with the wrong password, two were tried: more could lock the account.
    let told = (13..=24).map(|n| of(&format!("cam-{n:02}"))["failed"]["kind"].as_str().unwrap().to_owned());
    let tried = told.filter(|kind| kind == "wants another login").count();
    assert_eq!(tried, 2);
    let lines = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(lines.lines().count(), 42);
    assert!(lines.lines().any(|line| line.starts_with("cam-40,") && line.contains(",640,360,")), "{lines}");

    let text = out(&probe_fleet(&config, &[]).output().unwrap());
    println!("{text}");
    for needle in
        ["41 cameras probed, 21 send pictures", "Key pictures apart", "Resolutions", "Cannot be watched", "█"]
    {
        assert!(text.contains(needle), "no {needle:?} in\n{text}");
    }
    assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 100), "{text}");
    assert!(!text.contains("not-it-7531") && !text.contains("right-4711"));
    runtime.block_on(server.shutdown());
}

#[test]
fn an_interrupted_survey_says_what_it_found_so_far() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = served(&runtime);
    let film = clip(dir.path(), "h264", (320, 240), H264);
    let mut yaml = format!(
        "{}models: {{ street-demo: {:?} }}\nclasses: {{ any: {{ model: street-demo, situations: [] }} }}\ncameras:\n",
        util::fleet_head(([127, 0, 0, 1], 9).into(), dir.path()),
        project("models/street-demo"),
    );
    for number in 1..=4 {
        let id = format!("cam-{number}");
        let fault = if number > 2 { Some(Fault::SilentAfter(Duration::ZERO)) } else { None };
        let mount = fault.into_iter().fold(Mount::new(film.clone()), Mount::with_fault);
        server.mount(&id, mount).unwrap();
        yaml += &format!("  - {{ id: {id}, class: any, url: {} }}\n", server.url(&id));
    }
    let config = write(dir.path(), "fleet.yaml", &yaml);
    let began = Instant::now();
    // Two are done when it is interrupted, two are still waited for.
    let child = huiyan(&["probe", "--fleet", config.to_str().unwrap(), "--seconds", "60", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(10));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "it went on: {:?}", began.elapsed());
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let all = json(&output);
    assert_eq!((&all["asked"], &all["probed"], &all["stopped"]), (&4.into(), &2.into(), &true.into()));
    assert!(
        all["cameras"].as_array().unwrap().iter().all(|camera| camera["seen"]["fps"].is_number()),
        "{all}"
    );
    runtime.block_on(server.shutdown());
}
