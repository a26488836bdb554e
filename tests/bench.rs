//! `huiyan bench` as a script meets it.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::util::huiyan;

#[test]
fn a_bench_prints_one_list_of_figures_with_their_floors() {
    let output =
        huiyan(&["bench", "decode", "--size", "320x180", "--seconds", "0.3", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // One line per step, so that nobody waits in the dark.
    assert!(said.contains("decode H.264 320x180: round 3 of 3"), "{said}");

    let figures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let name = |figure: &Value| figure["name"].as_str().unwrap().to_owned();
    assert_eq!(name(&figures[0]), "decode.keyframes_per_core.320x180");
    let cores = std::thread::available_parallelism().unwrap().get();
    let all_cores = format!("decode.keyframes_per_core.320x180.t{cores}");
    assert_eq!(figures.get(1).map(name), (cores > 1).then_some(all_cores));
    let has_floor = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_ok();
    for figure in &figures {
        let keys: Vec<_> = figure.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "value", "unit", "floor", "ratio"]);
        // A picture of this size takes at most a few milliseconds, and more than some microseconds.
        let value = figure["value"].as_f64().unwrap();
        assert!((50.0..1e6).contains(&value), "{figure}");
        if has_floor {
            let (floor, ratio) = (figure["floor"].as_f64().unwrap(), figure["ratio"].as_f64().unwrap());
            assert!((50.0..1e6).contains(&floor), "{figure}");
            // The pool cannot be much faster than the library that it uses.
            assert!((0.02..1.5).contains(&ratio), "{figure}");
        } else {
            println!("the floor is not checked: ffmpeg is not installed");
            assert!(figure["floor"].is_null() && figure["ratio"].is_null(), "{figure}");
        }
    }
}

#[test]
fn what_other_hardware_decodes_is_told_by_the_clock() {
    // `auto` takes what is there, which may be libavcodec all the same.
    let args = ["bench", "decode", "--size", "320x180", "--seconds", "0.1", "--decoder", "auto"];
    let output = huiyan(&[&args[..], &["--threads", "1", "--json"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let figures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    let [rate, cost] = names[..] else { panic!("{names:?}") };
    assert!(rate.starts_with("decode.keyframes_per_second.") && rate.ends_with(".320x180.t1"), "{rate}");
    assert!(cost.starts_with("decode.cpu_ms_per_keyframe."), "{cost}");
    for figure in &figures {
        assert!(figure["value"].as_f64().unwrap() > 0.0 && figure["floor"].is_null(), "{figure}");
    }
}

#[test]
fn hardware_that_is_not_there_is_the_users_mistake() {
    for (args, named) in [
        (&["decode", "--pictures", "accelerator"][..], "node.pictures: \"accelerator\" is not possible here"),
        (&["decode", "--decoder", "nvdec"], "expected auto or software or nvcodec or va or v4l2"),
        (&["node", "--cuda-graphs"], "it needs cuda or tensorrt in providers"),
    ] {
        let output = huiyan(&[&["bench"], args].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(named), "{args:?}: {said}");
    }
}

#[test]
fn bench_ingest_measures_each_number_of_sessions_beside_its_floors_and_draws_it() {
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("ingest.svg");
    let output = huiyan(&["bench", "ingest", "--sessions", "4,20", "--seconds", "0.3", "--rounds", "1"])
        .args(["--mbit", "0.3", "--peers", "0", "--json", "--plot"])
        .arg(&plot)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("ingest: 20 sessions, round 1 of 1"), "{said}");
    let figures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| {
        let found = figures.iter().find(|figure| figure["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {figures:?}"))["value"].as_f64().unwrap()
    };
    for sessions in [4, 20] {
        let value = |name: &str| figure(&format!("ingest.{name}.s{sessions}"));
        // The window is short, and a key picture is much of a second's bits.
        assert!((0.05..1.5).contains(&value("mbit_per_session")), "{}", value("mbit_per_session"));
        // Between a tenth of a second and a microsecond of a core for a second of a session, whatever the machine.
        assert!((10.0..1e6).contains(&value("sessions_per_core")), "{}", value("sessions_per_core"));
        for drain in ["drain", "drain_16k", "drain_64k"] {
            assert!((0.001..1e4).contains(&value(&format!("{drain}.gbit_per_core"))), "{drain}");
        }
        assert!(value("wakeups_per_second") > 0.0);
    }
    // Sessions have no threads of their own.
    assert_eq!(figure("ingest.threads.s4"), figure("ingest.threads.s20"));
    assert_eq!(figure("ingest.gbit_per_core"), figure("ingest.gbit_per_core.s20"));
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("tokio drain") && !svg.contains("rtspsrc"), "{svg}");
}

#[test]
fn a_bench_that_makes_no_sense_is_the_users_mistake() {
    for (args, named) in [
        (["bench", "decode", "--size", "640"], "640x360"),
        (["bench", "ingest", "--sessions", "100,0"], "--sessions 0: expected 1 to 20000"),
        (["bench", "decode", "--seconds", "0"], "expected 0.05 to 600 seconds"),
        (["bench", "infer", "--model", "no-such-folder"], "no-such-folder"),
    ] {
        let output = huiyan(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(named), "{args:?}: {said}");
    }
}
