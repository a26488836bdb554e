//! Two cameras of one street, as their pictures tell it: one case.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use publish::testing::Mosquitto;
use serde_json::Value;
use sim::rtsp::{Mount, Server};
use sim::street::{self, Timeline};

use crate::util::{self, Running, events, project, write};

/// A car that parks for 12 s, and a strip of the kerb of which the corners are known.
fn street(light: &str, weather: &str, seed: u64) -> String {
    format!(
        "
title: A car stands at the kerb
seconds: 28
fps: 8
size: [640, 360]
key_every: 1
street: 2
seed: {seed}
light: {light}
weather: {weather}
noise: 2.0
zones:
  - {{id: no_parking, situation: illegal_parking, at: kerb_far, along: 16, wide: 4.5}}
  - {{id: strip, at: kerb_far, along: 6, wide: 3}}
script: [park: {{at: kerb_far, from: 8, to: 20}}]
"
    )
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn what_two_cameras_see_of_one_street_is_one_case() {
    let broker = match Mosquitto::start("") {
        Ok(broker) => broker,
        Err(why) => return println!("skipped: {why}"),
    };
    let listener = broker.listen("observer", "huiyan/v1/test/event/#").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    // Six metres along the street, which runs north, and three across: in the order of the strip's corners.
    let metres = [(-1.5, -3.0), (1.5, -3.0), (1.5, 3.0), (-1.5, 3.0)];
    let mast = flow::MapPoint { x: 126.046, y: 42.685 };
    let mut cameras = String::new();
    for (name, text) in [("dry", street("day", "clear", 22)), ("wet", street("dusk", "rain", 23))] {
        let timeline = Timeline::parse(name, &text).unwrap();
        let zones = timeline.zones();
        let corners = |index: usize| -> Vec<_> {
            let points: &[flow::NormPoint] = zones[index].polygon.points();
            points.iter().map(|p| [p.x, p.y]).collect()
        };
        let points = corners(1).into_iter().zip(metres).map(|(at, to)| {
            let place = fleet::moved("wgs84", mast, to);
            format!("{{at: {at:?}, place: [{}, {}]}}", place.x, place.y)
        });
        cameras += &format!(
            "  - {{ id: {name}, class: any, url: {url}, location: {{x: {x}, y: {y}}}, ground: [{ground}],
      zones: [{{ id: kerb, polygon: {zone:?}, situations: [illegal_parking] }}] }}\n",
            url = server.url(name),
            x = mast.x,
            y = mast.y,
            ground = points.collect::<Vec<_>>().join(", "),
            zone = corners(0),
        );
        let clip = Arc::new(street::encode(&timeline, &mut |_, _| {}).unwrap());
        server.mount(name, Mount::new(clip)).unwrap();
    }
    let desk_at = util::free_port();
    let yaml = format!(
        "{head}desk: {{ listen: 127.0.0.1:{desk_at} }}
models: {{ street-demo: {model:?} }}
situations:
  illegal_parking:
    zh: 机动车乱停放
    en: illegal parking
    rule: {{ dwell: {{ classes: [car], at_least: 3s }}, update_every: 1h, end_after: 2s, same_place_m: 5 }}
classes: {{ any: {{ model: street-demo, look: {{ at_most_every: 500ms }} }} }}
cameras:
{cameras}",
        head = util::fleet_head(broker.addr(), dir.path()),
        model = project("models/street-demo"),
    );
    let config = write(dir.path(), "fleet.yaml", &yaml);
    let config = config.to_str().unwrap();
    let mut desk = Running::start(dir.path(), "desk", &["desk", "--config", config]);
    desk.wait_said("cases at http://", Duration::from_secs(20));
    let mut worker = Running::start(dir.path(), "run", &["run", "--config", config]);

    let told =
        listener.wait(PATIENCE, |heard| events(heard).iter().filter(|e| e.phase == "began").count() >= 2);
    let told = told.unwrap_or_else(|heard| panic!("heard {:?}\n{}", events(&heard), worker.said()));
    let began: Vec<_> = events(&told).into_iter().filter(|event| event.phase == "began").collect();
    let (first, second) = (&began[0], &began[1]);
    assert_eq!(
        (&first.data["same_as"], &second.data["same_as"]),
        (&Value::Null, &Value::from(first.event.as_str()))
    );
    assert_ne!(first.data["camera"]["id"], second.data["camera"]["id"]);
    assert_eq!(first.data["problem"], second.data["problem"]);
    // The car stands on the strip, so within a few metres of its middle; both say so.
    for event in [first, second] {
        let place = &event.data["place"];
        let at = flow::MapPoint { x: place["x"].as_f64().unwrap(), y: place["y"].as_f64().unwrap() };
        let (east, north) = fleet::metres("wgs84", mast, at);
        assert!(east.hypot(north) < 5.0, "{east} m east, {north} m north");
        assert_eq!(place["crs"], "wgs84");
    }
    let cases = || -> Vec<Value> {
        let body = crate::delivery::get(&format!("127.0.0.1:{desk_at}"), "/cases.json");
        serde_json::from_str(&body).unwrap_or_default()
    };
    let ended = |heard: &[_]| events(heard).iter().filter(|e| e.phase == "ended").count() >= 2;
    assert!(listener.wait(PATIENCE, ended).is_ok(), "{}", worker.said());
    let deadline = std::time::Instant::now() + PATIENCE;
    while cases().first().is_none_or(|case| case["state"] != "ended") {
        assert!(std::time::Instant::now() < deadline, "{:?}\n{}", cases(), desk.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    worker.stop();
    let cases = cases();
    let shown: Vec<_> = cases.iter().map(|case| (&case["event"]["event"], &case["also_seen_by"])).collect();
    assert_eq!(
        shown,
        [(&Value::from(first.event.as_str()), &Value::from(vec![second.data["camera"]["id"].clone()]))]
    );
    desk.stop();
}
