//! What the gate spares, and that it loses nothing.

use std::net::SocketAddr;
use std::time::Duration;

use publish::testing::Mosquitto;
use serde_json::Value;
use sim::rtsp::{Fault, Mount, Server};

use crate::util::{self, huiyan, project, shared, write};

/// A street at night, and one where a car parks before a camera whose rate control makes all pictures of one size, seen
/// with the gate and without: most pictures are not even decoded, and the same situations begin.
#[test]
fn the_gate_spares_most_looks_and_loses_no_situation() {
    let films = [("vending-day", "night", ""), ("parking-dusk", "day", "600")];
    for (street, sky, kbit) in films {
        let args = ["bench", "gate", "--json", "--size", "640x360", "--seconds", "360", "--fps", "1"];
        let rate: &[&str] = if kbit.is_empty() { &[] } else { &["--kbit", kbit] };
        let film = [&args[..], &["--street", street, "--sky", sky], rate].concat();
        let output = huiyan(&film).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let figures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let value = |name: &str| {
            let figure = figures.iter().find(|figure| figure["name"] == name);
            figure.unwrap_or_else(|| panic!("no {name}: {said}"))["value"].as_f64().unwrap()
        };
        println!("{said}");
        assert!(value("gate.situations") >= 1.0, "nothing happens in {street}: {said}");
        assert_eq!(value("gate.situations_lost"), 0.0, "{said}");
        assert_eq!(value("gate.situations_more"), 0.0, "{said}");
        // Ten seconds until a picture is decoded, and six until what is new has stayed.
        assert!(value("gate.began_later_s") <= 20.0, "{said}");
        assert!(value(&format!("gate.spared.{street}.{sky}")) >= 0.6, "{said}");
        assert!(value(&format!("gate.undecoded.{street}.{sky}")) >= 0.4, "{said}");
        assert!(value("gate.cpu_ms_decoding") < value("gate.cpu_ms_decoding_all"), "{said}");
        assert!(value("gate.cpu_ms_per_camera_second") < value("gate.cpu_ms_without_gate"), "{said}");
    }
}

/// Two cameras whose picture stands still, over RTSP: few of their pictures are decoded, none goes unaccounted, and when one
/// shows something else, that is decoded at once.
#[test]
fn a_street_that_stays_still_is_decoded_seldom() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let [still, moving] =
        ["checkers-8", "ball"].map(|pattern| util::test_picture(dir.path(), pattern, (320, 240)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    let news = Fault::SwitchClip { after: Duration::from_secs(13), to: moving };
    server.mount("still", Mount::new(still.clone())).unwrap();
    server.mount("news", Mount::new(still).with_fault(news)).unwrap();
    let seen = {
        let fleet = format!(
            "{head}models: {{ street-demo: {model:?} }}
situations: {{ s: {{ zh: 测试, en: test, rule: {{ dwell: {{ classes: [car], at_least: 1h }} }} }} }}
classes:
  any:
    model: street-demo
    situations: [s]
    look: {{ at_most_every: 500ms }}
    gate: {{ decode_at_least_every: 5s }}
cameras: [{{ id: still, class: any, url: {still} }}, {{ id: news, class: any, url: {news} }}]
",
            head = util::fleet_head(broker.addr(), dir.path()),
            model = project("models/street-demo"),
            still = server.url("still"),
            news = server.url("news"),
        );
        let config = write(dir.path(), "fleet.yaml", &fleet);
        let output =
            huiyan(&["run", "--json", "--for", "18s", "--config", config.to_str().unwrap()]).output();
        let output = output.unwrap();
        let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
        let end: Value = serde_json::from_str(&last)
            .unwrap_or_else(|_| panic!("no report: {last}\n{}", String::from_utf8_lossy(&output.stderr)));
        end["report"].clone()
    };
    let number = |stage: &str, key: &str| seen[stage][key].as_u64().unwrap();
    let (repeated, spared) = (number("gate", "repeated"), number("gate", "spared"));
    // Eight each until the sizes are known, then one in five seconds, and all that come after the change.
    assert!(number("ingest", "passed") >= 26, "{seen}");
    assert!(repeated >= 6, "{seen}");
    assert_eq!(number("ingest", "passed"), number("decode", "received") + repeated, "{seen}");
    assert_eq!(number("scene", "received"), number("infer", "passed") + spared + repeated, "{seen}");
    assert_eq!(number("scene", "received"), number("scene", "passed"), "{seen}");
    let why = |reason: &str| {
        let all = seen["gate"]["decoded"].as_array().unwrap();
        all.iter().find(|pair| pair[0] == reason).unwrap()[1].as_u64().unwrap()
    };
    let reasons: u64 = seen["gate"]["decoded"].as_array().unwrap().iter().filter_map(|p| p[1].as_u64()).sum();
    assert_eq!(reasons, number("decode", "received"), "{seen}");
    assert!(why("due") >= 1, "{seen}");
    assert!(why("size") + why("activity") + why("first") > 16, "another picture is decoded at once: {seen}");
    runtime.block_on(server.shutdown());
}

/// Six people stand at a table one after the other: with the gate, the same six situations begin and end.
#[test]
fn a_real_clip_tells_the_same_story_with_the_gate() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(video), Some(model)) = (shared("media/one-by-one.mp4"), util::yolox_nano(dir.path())) else {
        return;
    };
    let fleet = format!(
        "site: test
models: {{ yolox-nano: {model:?} }}
situations:
  standing:
    zh: 停留
    en: somebody stands at the table
    rule: {{ dwell: {{ classes: [person], at_least: 5s }}, min_score: 0.3, update_every: 1h, end_after: 1s }}
classes: {{ any: {{ model: yolox-nano }} }}
cameras:
  - id: table
    class: any
    url: rtsp://127.0.0.1/
    zones: [{{ id: table, polygon: [[0.44, 0.0], [0.80, 0.0], [0.80, 1.0], [0.44, 1.0]], situations: [standing] }}]
"
    );
    let config = write(dir.path(), "fleet.yaml", &fleet);
    let story = |more: &[&str]| {
        let args = ["replay", video.to_str().unwrap(), "--zones", config.to_str().unwrap()];
        let output = huiyan(&[&args[..], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let looks = lines.iter().filter(|line| line["basis"] == "inferred").count();
        let events = lines.iter().filter(|line| line["phase"].is_string()).map(|event| {
            let at: jiff::Timestamp = event["captured"].as_str().unwrap().parse().unwrap();
            (event["phase"].as_str().unwrap().to_owned(), at)
        });
        (events.collect::<Vec<_>>(), looks)
    };
    let (bare, all) = story(&["--looks"]);
    let (gated, inferred) = story(&["--looks", "--gate"]);
    assert_eq!(bare.len(), 12, "six begin and end: {bare:?}");
    let phases =
        |events: &[(String, jiff::Timestamp)]| events.iter().map(|e| e.0.clone()).collect::<Vec<_>>();
    assert_eq!(phases(&gated), phases(&bare), "{gated:?}");
    for ((_, with), (_, without)) in gated.iter().zip(&bare) {
        assert!(with.duration_since(*without).as_secs_f64().abs() <= 2.0, "{gated:?} {bare:?}");
    }
    assert!(inferred < all, "{inferred} of {all} looks were inferred");
}

#[test]
fn a_gate_bench_that_makes_no_sense_is_the_users_mistake() {
    for (args, named) in [
        (&["bench", "gate", "--seconds", "5"][..], "expected 60 to 3600"),
        (&["bench", "gate", "--sensitivity", "0"], "expected 0.1 to 10"),
        (&["bench", "gate", "--decode-at-least-every", "90"], "expected 0 to 60"),
    ] {
        let output = huiyan(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(named), "{said}");
    }
}
