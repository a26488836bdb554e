//! What the gate spares, and that it loses nothing.

use serde_json::Value;

use crate::util::{self, huiyan, shared, write};

/// A street at night and one in rain, seen with the gate and without: most looks are spared, and the same
/// situations begin.
#[test]
fn the_gate_spares_most_looks_and_loses_no_situation() {
    for (street, sky, least) in [("vending-day", "night", 0.6), ("obstruction-rain", "rain", 0.6)] {
        let args = ["bench", "gate", "--json", "--size", "640x360", "--seconds", "360"];
        let output = huiyan(&[&args[..], &["--street", street, "--sky", sky]].concat()).output().unwrap();
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
        assert!(value("gate.began_later_s") <= 10.0, "{said}");
        assert!(value(&format!("gate.spared.{street}.{sky}")) >= least, "{said}");
        assert!(value("gate.cpu_ms_per_camera_second") < value("gate.cpu_ms_without_gate"), "{said}");
    }
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
    ] {
        let output = huiyan(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(named), "{said}");
    }
}
