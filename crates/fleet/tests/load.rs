//! Configurations that are right, and what becomes of them.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{BASE, Folder};
use fleet::{Certificate, OnLongKeys, RuleKind, Sampling, Transport};

#[test]
fn a_camera_takes_what_it_does_not_say_from_its_class() {
    let folder = Folder::new();
    let fleet = folder
        .load_text(
            "site: huinan
credentials: {nvr: {user: viewer, password: env:TEST_PASSWORD}}
models: {street-demo: models/street-demo}
situations:
  parking: {zh: 停车, en: parking, rule: {dwell: {classes: [car], at_least: 90s}}}
  vending: {zh: 游商, en: vending, rule: {dwell: {classes: [tricycle, goods]}, min_score: 0.6}}
classes:
  community:
    transport: udp
    certificate: any
    look: {at_least_every: 20s}
    model: street-demo
    situations: [parking]
    credentials: nvr
cameras:
  - {id: a, class: community, url: rtsp://192.0.2.1/1}
  - {id: b, class: community, url: rtsp://192.0.2.2/1, grid: 0042}
  - id: c
    class: community
    url: rtsps://192.0.2.3:8554/1?x=1
    other_url: rtsps://192.0.2.3:8554/2
    transport: tcp
    look: {sampling: {fps: 5}, on_long_keys: other_stream}
    credentials: none
    location: {x: 126.2, y: 42.6}
    zones:
      - {id: road, polygon: [[0, 0], [1, 0], [1, 1]], situations: [vending, parking]}
      - {id: rest, polygon: [[0, 0], [1, 1], [0, 1]]}
",
        )
        .unwrap();
    let [a, b, c] = &fleet.cameras[..] else { panic!("{:?}", fleet.cameras) };

    assert_eq!((a.transport, a.look.sampling), (Transport::Udp, Sampling::Keyframes));
    assert_eq!(
        (a.look.at_most_every, a.look.at_least_every),
        (Duration::from_secs(1), Duration::from_secs(20))
    );
    assert_eq!(a.zones.len(), 1);
    assert_eq!(a.zones[0].id.as_str(), "whole");
    assert_eq!(a.zones[0].rules[0].situation.as_str(), "parking");
    assert_eq!(a.credentials.as_ref().unwrap().password.reveal(), "hunter2");
    // What is the same is there once.
    assert!(Arc::ptr_eq(&a.zones, &b.zones));
    assert!(Arc::ptr_eq(a.credentials.as_ref().unwrap(), b.credentials.as_ref().unwrap()));
    assert!(Arc::ptr_eq(&a.class, &c.class));
    // A number where a text belongs stays as it was written.
    assert_eq!(b.grid.as_deref(), Some("0042"));

    assert_eq!(
        (b.look.on_long_keys, &b.other_url, b.certificate),
        (OnLongKeys::Decode, &None, Certificate::Any)
    );
    assert_eq!(c.look.on_long_keys, OnLongKeys::OtherStream);
    assert_eq!(c.other_url.as_ref().unwrap().path(), "/2");
    assert_eq!(c.transport, Transport::Tcp);
    assert!(c.credentials.is_none());
    assert_eq!(c.look.sampling, Sampling::Fps(5.0));
    assert_eq!(c.look.at_most_every, Duration::from_millis(200));
    assert_eq!(c.look.at_least_every, Duration::from_secs(20));
    assert_eq!(&*c.location.as_ref().unwrap().crs, "wgs84");
    assert_eq!(c.url.port(), Some(8554));
    let situations = |zone: usize| -> Vec<&str> {
        c.zones[zone].rules.iter().map(|rule| rule.situation.as_str()).collect()
    };
    assert_eq!(situations(0), ["vending", "parking"]);
    assert_eq!(situations(1), ["parking"]);
    let RuleKind::Dwell(dwell) = &c.zones[0].rules[0].kind else { panic!("{:?}", c.zones[0].rules[0]) };
    assert_eq!((dwell.at_least, dwell.drift), (Duration::from_secs(180), 0.25));
    assert_eq!(c.zones[0].rules[0].min_score, 0.6);
}

#[test]
fn included_files_are_one_configuration_and_paths_are_their_own() {
    let folder = Folder::new();
    folder.write(
        "parts/rest.yaml",
        "models: {street-demo: ../models/street-demo}
credentials: {nvr: {user: v, password: file:secret}}
data_dir: state
broker: {credentials: nvr}
situations: {parking: {zh: 停车, en: parking, rule: {dwell: {classes: [car]}}}}
classes: {community: {model: street-demo, situations: [parking]}}
include: [cams/?.yaml]
",
    );
    folder.write("parts/secret", "pass word\r\n");
    folder.write("parts/cams/b.yaml", "cameras: [{id: b, class: community, url: rtsp://192.0.2.2/}]\n");
    folder.write("parts/cams/a.yaml", "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/}]\n");
    folder.write("parts/cams/long.yaml", "not: read\n");
    let text = "site: s\ninclude: [parts/*.yaml]\nbroker: {url: 'mqtt://[2001:db8::1]:1884'}\ncameras: [{id: z, class: community, url: rtsp://192.0.2.3/}]\n";
    let fleet = folder.load_text(text).unwrap();
    let ids: Vec<_> = fleet.cameras.iter().map(|camera| camera.id.as_str()).collect();
    assert_eq!(ids, ["z", "a", "b"]);
    assert_eq!(fleet.data_dir, folder.path("parts/state"));
    assert_eq!((fleet.broker.host.as_str(), fleet.broker.port), ("2001:db8::1", 1884));
    assert_eq!(fleet.broker.credentials.as_ref().unwrap().password.reveal(), "pass word");
    assert_eq!(fleet.models.len(), 1);
}

#[test]
fn the_hash_changes_with_any_file_and_with_nothing_else() {
    let folder = Folder::new();
    folder.write("cameras.yaml", "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/}]\n");
    let text = format!("{BASE}include: [cameras.yaml]\n");
    let first = folder.load_text(&text).unwrap().config_hash;
    assert_eq!(first.len(), 64);
    assert_eq!(folder.load_text(&text).unwrap().config_hash, first);
    folder.write("cameras.yaml", "cameras: [{id: b, class: community, url: rtsp://192.0.2.1/}]\n");
    assert_ne!(folder.load_text(&text).unwrap().config_hash, first);
}

#[test]
fn a_text_is_as_good_as_a_file() {
    let folder = Folder::new();
    let text = format!("{BASE}cameras: [{{id: a, class: community, url: rtsp://192.0.2.1/}}]\n");
    let fleet = fleet::Fleet::from_yaml_str(&text, &folder.path("")).unwrap();
    assert_eq!(fleet.cameras.len(), 1);
    assert_eq!(fleet.worker, "worker-1");
    let error = fleet::Fleet::from_yaml_str("sit: x\n", &folder.path("")).unwrap_err();
    assert!(
        error.to_string().contains("<text>:1:1: sit: is no known key; did you mean \"site\"?"),
        "{error}"
    );
}

#[test]
fn anchors_may_be_used_for_what_cameras_share() {
    let folder = Folder::new();
    let text = format!(
        "{BASE}cameras:
  - {{id: a, class: community, url: rtsp://192.0.2.1/, zones: &gate [{{id: gate, polygon: [[0, 0], [1, 0], [1, 1]]}}]}}
  - {{id: b, class: community, url: rtsp://192.0.2.2/, zones: *gate}}
"
    );
    let fleet = folder.load_text(&text).unwrap();
    assert_eq!(fleet.cameras[0].zones[0].polygon, fleet.cameras[1].zones[0].polygon);
}
