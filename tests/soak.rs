//! `huiyan bench connect` and `huiyan bench soak`, in small: what a county would ask of them in large.

use std::collections::HashMap;

use serde_json::Value;

use crate::util::huiyan;

/// The figures that a bench prints, by name.
fn figures(args: &[&str]) -> HashMap<String, f64> {
    let output = huiyan(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let figure =
        |f: &Value| (f["name"].as_str().unwrap().to_owned(), f["value"].as_f64().unwrap_or(f64::NAN));
    list.iter().map(figure).collect()
}

#[test]
fn sessions_come_and_come_back_and_no_recorder_is_flooded() {
    let figures = figures(&["bench", "connect", "--sessions", "120", "--hosts", "3", "--json"]);
    assert!(figures["connect.establish_s"] < 10.0, "{figures:?}");
    assert!(figures["connect.back_s"] < 16.0, "{figures:?}");
    assert!(figures["connect.back_after_reboot_s"] < 60.0, "{figures:?}");
    assert!(figures["connect.peak_setups_per_host"] <= 4.0, "{figures:?}");
    assert_eq!(figures["connect.left_after_stop"], 0.0, "{figures:?}");
}

#[test]
fn thirty_cameras_go_wrong_in_every_way_and_all_is_accounted_for() {
    let args = ["bench", "soak", "--cameras", "30", "--minutes", "0.34", "--uptime", "5", "--json"];
    let figures = figures(&args);
    for nothing in [
        "soak.descriptors_leaked",
        "soak.cut_off_at_stop",
        "soak.pictures_unaccounted",
        "soak.seconds_unaccounted",
    ] {
        assert_eq!(figures[nothing], 0.0, "{nothing}: {figures:?}");
    }
    // What was watched, and what was not and why, is all there is.
    let watched = figures["soak.watched_percent"];
    let others =
        ["connecting", "no_data", "auth_failed", "refused", "unsupported", "broken", "frozen", "dark"];
    let not: f64 = others.iter().filter_map(|state| figures.get(&format!("soak.{state}_percent"))).sum();
    assert!((watched + not - 100.0).abs() < 0.01, "{figures:?}");
    assert!(watched > 20.0 && not > 5.0, "{figures:?}");
    // One camera in fifty, here one in thirty, asks for a password that nobody has.
    assert!((3.0..3.7).contains(&figures["soak.auth_failed_percent"]), "{figures:?}");
    // No more threads than two, and memory of megabytes, not of what a hostile camera sends.
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    assert!(figures["soak.threads"] <= cores + 1.0, "{figures:?}");
    assert!(figures["soak.rss_kib"] < 400_000.0, "{figures:?}");
}
