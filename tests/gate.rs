//! What the gate spares, and that it loses nothing.

use serde_json::Value;

use crate::util::huiyan;

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
