//! `huiyan eval`: its figures mean what their names say, and the pipeline finds what happens in a rendered street.

use std::path::Path;

use serde_json::Value;

use crate::util::{self, huiyan, project, shared, write};

/// The names that every situation's figures have, for whoever reads them.
const NAMES: [&str; 8] = [
    "precision",
    "recall",
    "f1",
    "onset_p50_s",
    "onset_p95_s",
    "duplicates_per_event",
    "false_alarms_per_camera_day",
    "camera_days",
];

fn eval(args: &[&str], dir: &Path) -> Value {
    let mut all = vec!["eval"];
    all.extend(args);
    let out = huiyan(&all).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "huiyan {all:?}: {said}");
    serde_json::from_slice(&out.stdout).unwrap()
}

/// A car that parks, a stall and two obstructions in one hour of a street that the model has not seen: the car is told of
/// once and on time, and nothing is told that is not there.
#[test]
fn an_hour_of_a_rendered_street_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let hour =
        ["--rendered", "--seeds", "3", "--hours", "1", "--every", "15s", "--light", "day,night", "--json"];
    let found = eval(&[&hour[..], &["--html", page.to_str().unwrap()]].concat(), &project(""));
    let parking = &found["situations"]["illegal_parking"];
    assert!(NAMES.iter().all(|name| parking.get(name).is_some()), "{parking}");
    assert_eq!(
        (parking["recall"].as_f64(), parking["precision"].as_f64()),
        (Some(1.0), Some(1.0)),
        "{found}"
    );
    assert!((parking["camera_days"].as_f64().unwrap() - 2.0 / 24.0).abs() < 1e-6);
    let late = parking["onset_p95_s"].as_f64().unwrap();
    assert!((-15.0..60.0).contains(&late), "told {late} s after it was due");
    let of = |key: &str| -> u64 {
        let each = found["situations"].as_object().unwrap().values();
        each.map(|figures| figures[key].as_u64().unwrap()).sum()
    };
    let (there, told, wrong) = (of("situations"), of("found"), of("false_alarms"));
    assert!(
        there >= 6 && told * 4 >= there * 3 && wrong <= 1,
        "{told} of {there} found, {wrong} false: {found}"
    );
    assert_eq!(found["by"]["light"].as_object().unwrap().len(), 2);
    assert_eq!(found["looks"].as_u64(), Some(480));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("illegal_parking") && page.contains("Reliability"));
}

/// Events and truth out of files: one is right, one is told twice, one is missed, one is of nothing.
#[test]
fn events_are_compared_with_a_truth_of_files() {
    let dir = tempfile::tempdir().unwrap();
    let event = |id: &str, from: &str, until: &str, x: f32| {
        format!(
            "{{\"event\": \"{id}\", \"phase\": \"began\", \"camera\": \"lane\", \"zone\": \"z\", \"situation\": \"illegal_parking\", \
             \"first_seen\": \"2000-01-01T{from}Z\", \"began\": \"2000-01-01T{from}Z\", \"last_seen\": \"2000-01-01T{until}Z\", \
             \"ended\": null, \"confidence\": 0.9, \"objects\": [{{\"class\": \"car\", \"score\": 0.9, \"track\": 1, \
             \"box\": [{x}, 0.5, {}, 0.7]}}]}}",
            x + 0.2
        )
    };
    let events = [
        event("a", "00:10:05", "00:20:00", 0.1),
        event("b", "00:15:00", "00:19:00", 0.12),
        event("c", "02:00:00", "02:10:00", 0.1),
    ];
    let events = write(dir.path(), "events.jsonl", &events.join("\n"));
    let truth = r#"{"camera": "lane", "hours": 12, "light": "night", "situations": [
        {"situation": "illegal_parking", "zone": "z", "box": [0.1, 0.5, 0.3, 0.7], "from": 600, "to": 1200},
        {"situation": "illegal_parking", "zone": "z", "box": [0.6, 0.5, 0.8, 0.7], "from": 600, "to": 1200}]}"#;
    let truth = write(dir.path(), "lane.json", truth);
    let found = eval(&[events.to_str().unwrap(), truth.to_str().unwrap(), "--json"], dir.path());
    let figures = &found["situations"]["illegal_parking"];
    let number = |name: &str| figures[name].as_f64().unwrap();
    assert_eq!((number("precision"), number("recall"), number("duplicates_per_event")), (0.5, 0.5, 2.0));
    assert_eq!((number("false_alarms_per_camera_day"), number("camera_days")), (2.0, 0.5));
    assert_eq!(found["by"]["light"]["night"]["illegal_parking"], *figures);
    // A truth that is none is the user's mistake.
    let bad = write(dir.path(), "bad.json", "{}");
    let out = huiyan(&["eval", events.to_str().unwrap(), bad.to_str().unwrap()]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("bad.json: expected a list"));
}

/// Six people stand at a table, and cars drive through a car park: exactly what the stated truth has. The replay of the
/// same clip draws its timeline.
#[test]
fn real_clips_have_the_situations_that_their_truth_states() {
    let (Some(table), Some(cars)) = (shared("media/one-by-one.mp4"), shared("media/car-park-overhead.mp4"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let Some(model) = util::yolox_nano(dir.path()) else { return };
    let model = model.to_str().unwrap();
    let clips =
        ["--clip", table.to_str().unwrap(), "--clip", cars.to_str().unwrap(), "--model", model, "--json"];
    let found = eval(&clips, dir.path());
    let figures = &found["situations"]["standing"];
    let count = |name: &str| figures[name].as_u64().unwrap();
    assert_eq!(
        (count("situations"), count("found"), count("false_alarms"), count("duplicates")),
        (6, 6, 0, 0),
        "{found}"
    );

    let timeline = dir.path().join("timeline.png");
    let replay =
        ["replay", cars.to_str().unwrap(), "--model", model, "--timeline", timeline.to_str().unwrap()];
    assert!(huiyan(&replay).output().unwrap().status.success());
    let picture = image::open(&timeline).unwrap().to_rgb8();
    assert_eq!(picture.width(), 1_280);
    let inks: std::collections::HashSet<_> = picture.pixels().map(|p| p.0).collect();
    assert!(inks.len() >= 5, "names, what was seen, clocks and an axis: {inks:?}");
}

/// A real car park over a day, a picture every five minutes: shadows wander, lamps go on, one picture is torn, and no car
/// comes. The pictures are five minutes apart, whatever the file says.
#[test]
fn a_day_of_an_empty_car_park_has_no_situation() {
    let Some(lot) = shared("media/empty-lot-day-timelapse.mp4") else { return };
    let dir = tempfile::tempdir().unwrap();
    if util::yolox_nano(dir.path()).is_none() {
        return;
    }
    let fleet = "\
site: eval
models: {yolox-nano: yolox-nano}
situations:
  illegal_parking: {zh: 机动车乱停放, en: illegal parking, rule: {dwell: {classes: [car, truck, bus], at_least: 10min}, min_score: 0.5}}
  road_obstructed: {zh: 道路堵塞, en: road obstructed, rule: {coverage: {share: 0.15, at_least: 10min}}}
classes:
  lot: {model: yolox-nano, situations: [illegal_parking, road_obstructed], look: {at_most_every: 1min, at_least_every: 5min}, gate: off}
cameras:
  - {id: lot, class: lot, url: 'rtsp://127.0.0.1/', zones: [{id: lot, polygon: [[0.05, 0.35], [0.95, 0.35], [0.95, 0.95], [0.05, 0.95]]}]}
";
    write(dir.path(), "lot.yaml", fleet);
    let day = ["--clip", lot.to_str().unwrap(), "--lapse", "5min", "--zones", "lot.yaml", "--json"];
    let found = eval(&day, dir.path());
    assert_eq!(found["events"], serde_json::json!([]), "{found}");
    assert!(found["said"][0].as_str().unwrap().contains("45600 s"), "152 pictures, 12 h 40 min: {found}");
}
