//! What spares the model work, what gives it more, and what does the work.

mod common;

use std::time::Duration;

use common::{BASE, Folder};
use fleet::{Decoding, Gate, Pictures, Provider};
use flow::ClassName;

#[test]
fn a_gate_is_there_unless_switched_off_and_is_inherited_key_by_key() {
    let folder = Folder::new();
    let fleet = folder
        .load_text(&format!(
            "{BASE}  slow: {{model: street-demo, situations: [parking], gate: {{refresh: 5min, sensitivity: 2}}}}
  off: {{model: street-demo, situations: [parking], gate: off}}
cameras:
  - {{id: a, class: community, url: rtsp://192.0.2.1/1}}
  - {{id: b, class: slow, url: rtsp://192.0.2.1/1, gate: {{refresh: 90s, decode_at_least_every: 0s}}}}
  - {{id: c, class: off, url: rtsp://192.0.2.1/1}}
  - {{id: d, class: off, url: rtsp://192.0.2.1/1, gate: on}}
  - {{id: e, class: slow, url: rtsp://192.0.2.1/1, gate: off}}
",
            BASE = BASE.replace("classes: {community: {model: street-demo, situations: [parking]}}\n", "classes:\n  community: {model: street-demo, situations: [parking]}\n"),
        ))
        .unwrap();
    let gates: Vec<_> = fleet.cameras.iter().map(|camera| camera.gate).collect();
    let gate = |refresh, sensitivity, decode| {
        let seconds = Duration::from_secs;
        Some(Gate { refresh: seconds(refresh), sensitivity, decode_at_least_every: seconds(decode) })
    };
    assert_eq!(gates, [gate(60, 1.0, 10), gate(90, 2.0, 0), None, gate(60, 1.0, 10), None]);
}

#[test]
fn tiles_are_a_class_s_unless_the_camera_says_otherwise() {
    let folder = Folder::new();
    let fleet = folder
        .load_text(
            "site: test
models: {street-demo: models/street-demo}
situations:
  parking: {zh: 停车, en: parking, rule: {dwell: {classes: [car]}}}
classes:
  eye: {model: street-demo, situations: [parking], tiles: {size: 960, smallest: {person: 12}}}
  plain: {model: street-demo, situations: [parking]}
cameras:
  - {id: a, class: eye, url: rtsp://192.0.2.1/1}
  - {id: b, class: eye, url: rtsp://192.0.2.1/1, tiles: off}
  - {id: c, class: plain, url: rtsp://192.0.2.1/1, tiles: native}
  - {id: d, class: plain, url: rtsp://192.0.2.1/1}
",
        )
        .unwrap();
    let [a, b, c, d] = &fleet.cameras[..] else { panic!("four cameras") };
    let tiles = a.tiles.as_ref().unwrap();
    assert_eq!((tiles.size, tiles.overlap), (Some(960), 0.25));
    assert_eq!(tiles.smallest[&ClassName::new("person")], 12.0);
    assert_eq!(c.tiles.as_ref().unwrap().size, None);
    assert!(b.tiles.is_none() && d.tiles.is_none());
}

#[test]
fn hardware_is_named() {
    let folder = Folder::new();
    let plain = folder.load_text(BASE).unwrap();
    assert_eq!((plain.node.decoder, &plain.node.providers[..]), (Decoding::Software, &[Provider::Cpu][..]));
    let text = format!("{BASE}node: {{decoder: auto, providers: [tensorrt, cuda], engines: kept}}\n");
    let node = folder.load_text(&text).unwrap().node;
    assert_eq!(
        (node.decoder, &node.providers[..]),
        (Decoding::Auto, &[Provider::TensorRt, Provider::Cuda][..])
    );
    assert_eq!(node.engines, Some(folder.path("kept")));
    assert_eq!((node.pictures, node.cuda_graphs), (Pictures::MainMemory, false));
    let text = "decoder: nvcodec, providers: [cuda], pictures: accelerator, cuda_graphs: on";
    let node = folder.load_text(&format!("{BASE}node: {{{text}}}\n")).unwrap().node;
    assert_eq!((node.pictures, node.cuda_graphs), (Pictures::Accelerator, true));
}

#[test]
fn hardware_that_does_not_fit_together_is_said_before_anything_starts() {
    let folder = Folder::new();
    let found =
        folder.mistakes(&format!("{BASE}node: {{decoder: auto, pictures: accelerator, cuda_graphs: on}}\n"));
    let expected = [
        r#"main.yaml:6:33: node.pictures: "accelerator" is not possible here; it needs decoder: nvcodec"#,
        r#"main.yaml:6:33: node.pictures: "accelerator" is not possible here; it needs cuda or tensorrt in providers"#,
        r#"main.yaml:6:59: node.cuda_graphs: "on" is not possible here; it needs cuda or tensorrt in providers"#,
    ];
    assert_eq!(found, expected, "{found:#?}");
}

#[test]
fn what_is_wrong_is_said() {
    let folder = Folder::new();
    let text = format!(
        "{BASE}node: {{decoder: nvdec, providers: [rocm]}}
cameras:
  - {{id: a, class: community, url: rtsp://192.0.2.1/1, gate: {{refresh: 60}}, tiles: {{overlap: 0.9}}}}
  - {{id: b, class: community, url: rtsp://192.0.2.1/1, gate: maybe, tiles: {{columns: 3}}}}
"
    );
    let expected = [
        r#"main.yaml:6:17: node.decoder: "nvdec" is not known; expected auto or software or nvcodec or va or v4l2"#,
        r#"main.yaml:6:36: node.providers[0]: "rocm" is not known; expected cpu or cuda or tensorrt or openvino"#,
        r#"main.yaml:8:72: cameras[0].gate.refresh: "60" has no unit; expected a number with a unit: 500ms, 2s, 3min, 24h or 7d"#,
        r#"main.yaml:8:94: cameras[0].tiles.overlap: "0.9" is out of range; expected a number from 0 to 0.5"#,
        r#"main.yaml:9:62: cameras[1].gate: "maybe" is not on, off; expected on, off or {refresh, sensitivity, decode_at_least_every: ...}"#,
        r#"main.yaml:9:77: cameras[1].tiles.columns: is no known key; known here: size, overlap, smallest"#,
    ];
    let found = folder.mistakes(&text);
    assert_eq!(found, expected, "{found:#?}");
}
