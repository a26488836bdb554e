//! `confidence.yaml` beside a model's card.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{BASE, Folder, card};
use flow::Score;

/// Beside the card of `id`, whose file every folder of these tests shares.
fn file(folder: &Folder, id: &str, curve: &str) {
    let card = card(id, "[car]");
    let sha256 = card.lines().find_map(|line| line.strip_prefix("sha256: ")).unwrap();
    let text = format!(
        "model: {id}\nsha256: {sha256}\nmeasured: by hand\nsituations:\n  parking: {curve}\n  unheard_of: {curve}\n"
    );
    folder.write(&format!("models/{id}/confidence.yaml"), text);
}

const CURVE: &str = "{rule: dwell, events: 50, right: 45, points: [[0.4, 0.6], [0.8, 0.95]]}";

/// What 0.6 is worth in every zone of the first cameras; `None`: what it says.
fn worth(folder: &Folder, cameras: &str) -> Vec<Option<f32>> {
    let fleet = folder.load_text(&format!("{BASE}{cameras}")).unwrap();
    let rules = fleet.cameras.iter().flat_map(|camera| &*camera.zones).flat_map(|zone| &zone.rules);
    let stated = Score::new(0.6).unwrap();
    rules.map(|rule| rule.calibration.as_ref().map(|known| known.of(stated).get())).collect()
}

const CAMERAS: &str = "\
cameras:
  - {id: a, class: community, url: 'rtsp://10.0.0.1/'}
  - {id: b, class: community, url: 'rtsp://10.0.0.2/', zones: [{id: z, polygon: [[0, 0], [1, 0], [1, 1]]}]}
  - {id: c, class: community, url: 'rtsp://10.0.0.3/', zones: [{id: z, polygon: [[0, 0], [1, 0], [1, 1]], situations: [parking]}]}
";

#[test]
fn it_is_of_the_model_that_looks() {
    let folder = Folder::new();
    assert_eq!(worth(&folder, CAMERAS), [None; 3], "nobody has measured it");
    file(&folder, "street-demo", CURVE);
    for found in worth(&folder, CAMERAS) {
        assert!((found.unwrap() - 0.775).abs() < 1e-6);
    }
    // Another model, of which nothing was measured, or something else.
    folder.model("other", "[car]");
    let own = "models: {other: models/other}\ncameras: [{id: a, class: community, model: other, url: 'rtsp://10.0.0.1/'}]\n";
    let base = BASE.replace("models: {street-demo: models/street-demo}\n", "");
    let both = own.replace("{other", "{street-demo: models/street-demo, other");
    let of = |folder: &Folder| {
        let fleet = folder.load_text(&format!("{base}{both}")).unwrap();
        fleet.cameras[0].zones[0].rules[0].calibration.clone()
    };
    assert_eq!(of(&folder), None);
    file(&folder, "other", "{rule: dwell, events: 9, right: 3, points: [[0.5, 0.3]]}");
    assert_eq!(of(&folder).unwrap().events, 9);
}

#[test]
fn a_rule_of_another_kind_is_not_calibrated_by_it() {
    let folder = Folder::new();
    file(&folder, "street-demo", &CURVE.replace("dwell", "count"));
    assert_eq!(worth(&folder, CAMERAS), [None; 3]);
}

#[test]
fn what_is_wrong_with_it_is_said_with_its_place() {
    let folder = Folder::new();
    let told = |text: &str| {
        folder.write("models/street-demo/confidence.yaml", text);
        folder.load_text(&format!("{BASE}{CAMERAS}")).unwrap_err().to_string()
    };
    file(&folder, "street-demo", CURVE);
    let right = std::fs::read_to_string(folder.path("models/street-demo/confidence.yaml")).unwrap();
    let sha256 = right.lines().nth(1).unwrap();
    let wrong = told(&right.replace(sha256, &format!("sha256: {}", "0".repeat(64))));
    assert!(wrong.contains("confidence.yaml:2:") && wrong.contains("--fit-confidence"), "{wrong}");
    let wrong = told(&right.replace("model: street-demo", "model: street"));
    assert!(
        wrong.contains("confidence.yaml:1:") && wrong.contains("is not the model of the card"),
        "{wrong}"
    );
    let wrong = told(&right.replace("[0.4, 0.6]", "[0.4, 0.99]"));
    assert!(wrong.contains("situations.parking.points") && wrong.contains("does not fall"), "{wrong}");
    let wrong = told(&right.replace("right: 45", "right: 51"));
    assert!(wrong.contains("more than the 50 events"), "{wrong}");
    let wrong = told(&right.replace("[0.4, 0.6]", "[0.4, 1.6]"));
    assert!(wrong.contains("confidence.yaml:5:"), "{wrong}");
}
