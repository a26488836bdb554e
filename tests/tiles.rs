//! Panoramas, looked at in tiles.

use serde_json::Value;

use crate::util::huiyan;

/// Of the things in a 4K panorama that the model misses in the whole picture, tiles find nine of ten.
#[test]
fn tiles_find_what_the_look_at_a_whole_panorama_misses() {
    let output = huiyan(&["bench", "tiles", "--json", "--pictures", "6"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let figures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let value = |name: &str| {
        let figure = figures.iter().find(|figure| figure["name"] == name);
        figure.unwrap_or_else(|| panic!("no {name}: {said}"))["value"].as_f64().unwrap()
    };
    println!("{said}\n{figures:?}");
    assert!(value("tiles.missed_in_whole") >= 10.0, "too few to tell");
    assert!(value("tiles.found_of_missed") >= 0.9, "{said}");
    assert!(value("tiles.recall") >= value("tiles.recall_whole"), "nothing is lost to the tiles");
    assert!(value("tiles.found_twice") <= 1.0, "{said}");
}
