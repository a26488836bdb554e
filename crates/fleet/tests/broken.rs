//! Configurations that are wrong, and exactly what is said about them.

mod common;

use common::{BASE, Folder, card, sha256};

/// Twenty different mistakes in one file.
const TWENTY: &str = "\
site: hui nan
wroker: node-2
broker: {url: \"mqtt://desk:hunter2@127.0.0.1:1883\", message_expiry: 24}
desk: {listen: 127.0.0.1:0}
node: {max_batch: 500, max_delay: [50ms]}
credentials:
  nvr-a: {user: viewer, password: hunter2}
  nvr-b: {user: viewer, password: env:NVR_B_PASSWORD}
models: {street-demo: models/street-demo}
situations:
  parking: {zh: 停车, en: parking, rule: {dwell: {classes: [carr]}}}
  vending: {zh: 游商, en: vending, rule: {dwell: {classes: [tricycle]}, min_score: 40}}
classes:
  community: {model: street-demo, situations: [vending], look: {}, look: {}}
  eagle_eye: {model: street-demos, situations: [parking], look: {at_most_every: 1min}}
cameras:
  - {id: a, class: community, url: \"rtsp://admin:hunter2@192.0.2.1/1\"}
  - {id: b, class: comunity, url: rtsp://192.0.2.2/1}
  - {id: a, class: community, url: rtsp://192.0.2.3/1}
  - {id: d, class: community, url: rtsp://192.0.2.4/1, zones: [{id: z, polygon: [[0, 0], [1, 1], [1, 0], [0, 1]]}]}
  - {id: e, class: community}
  - {id: f, class: community, url: rtsp://192.0.2.5/1, transport: sctp}
";

#[test]
fn twenty_mistakes_are_twenty_messages() {
    let folder = Folder::new();
    let expected = [
        r#"main.yaml:1:7: site: "hui nan" holds ' '; allowed are letters, digits, '.', '_' and '-'"#,
        r#"main.yaml:2:1: wroker: is no known key; did you mean "worker"?"#,
        r#"main.yaml:3:15: broker.url: "mqtt://***@127.0.0.1:1883" holds a credential; write mqtt://host[:port] here and `credentials: a-name` beside it, with the login under the top-level `credentials`"#,
        r#"main.yaml:3:69: broker.message_expiry: "24" has no unit; expected a number with a unit: 500ms, 2s, 3min, 24h or 7d"#,
        r#"main.yaml:4:16: desk.listen: "127.0.0.1:0" has port 0; expected an IP address and a port from 1 to 65535, such as 127.0.0.1:8080"#,
        r#"main.yaml:5:19: node.max_batch: "500" is out of range; expected a whole number from 1 to 256"#,
        r#"main.yaml:5:35: node.max_delay: is a list; expected a duration from 0s to 10s, such as 2s or 3min"#,
        r#"main.yaml:7:35: credentials.nvr-a.password: "***" is written out here; write env:NAME or file:PATH and keep the password there, out of the configuration"#,
        r#"main.yaml:8:35: credentials.nvr-b.password: "env:NVR_B_PASSWORD" is not set; set the environment variable NVR_B_PASSWORD"#,
        r#"main.yaml:11:59: situations.parking.rule.dwell.classes[0]: "carr" is known by none of the configured models; did you mean "car"? they know barrier, boxes, car, goods, person, tricycle, umbrella"#,
        r#"main.yaml:12:82: situations.vending.rule.min_score: "40" is out of range; expected a number from 0 to 1"#,
        r#"main.yaml:14:68: classes.community.look: is written twice: first at main.yaml:14:58; keep one of them"#,
        r#"main.yaml:15:22: classes.eagle_eye.model: "street-demos" is no known model; did you mean "street-demo"?"#,
        r#"main.yaml:15:81: classes.eagle_eye.look.at_most_every: "1min" is longer than at_least_every, 10s; expected at_most_every <= at_least_every"#,
        r#"main.yaml:17:36: cameras[0].url: "rtsp://***@192.0.2.1/1" holds a credential; write rtsp://192.0.2.1/1 and the login under `credentials`: {a-name: {user: env:NAME, password: env:NAME}}, then `credentials: a-name` here"#,
        r#"main.yaml:18:20: cameras[1].class: "comunity" is no known class; did you mean "community"?"#,
        r#"main.yaml:19:10: cameras[2].id: "a" is already used at main.yaml:17:10; camera ids are unique in a site"#,
        r#"main.yaml:20:81: cameras[3].zones[0].polygon: crosses itself: edge 0 meets edge 2; list the corners in order around the zone"#,
        r#"main.yaml:21:5: cameras[4].url: is missing; expected rtsp://host[:port]/path"#,
        r#"main.yaml:22:67: cameras[5].transport: "sctp" is not known; expected tcp or udp"#,
    ];
    let found = folder.mistakes(TWENTY);
    assert_eq!(expected.len(), 20);
    assert_eq!(found, expected, "{found:#?}");
}

/// One mistake each: what is written below [`BASE`], and what is said.
#[test]
fn each_mistake_has_its_message() {
    let cases: &[(&str, &str)] = &[
        ("cameras: {}\n", "6:10: cameras: is a map; expected a list of at most 1000000 entries"),
        ("desk: here\n", r#"6:7: desk: "here" is a text; expected a map with keys out of listen, store"#),
        ("worker:\n", "6:7: worker: has no value; expected 1 to 64 letters, digits, '.', '_' or '-'"),
        (
            "desk: {listen: localhost}\n",
            r#"6:16: desk.listen: "localhost" is no address to listen on; expected an IP address and a port from 1 to 65535, such as 127.0.0.1:8080"#,
        ),
        (
            "node: {evidence_max_bytes: 10}\n",
            r#"6:28: node.evidence_max_bytes: "10" has no unit; expected a number with a unit: 500MB, 512MiB or 10GiB"#,
        ),
        (
            "node: {outbox_max_bytes: 1MiB}\n",
            r#"6:26: node.outbox_max_bytes: "1MiB" is out of range; expected a size from 16MiB to 1024TiB"#,
        ),
        (
            "desk: {store: {bucket: a, folder: b}}\n",
            "6:15: desk.store: names a folder and a bucket; expected folder: PATH or bucket: NAME",
        ),
        (
            "desk: {store: {bucket: a, credentials: s3}}\n",
            r#"6:40: desk.store.credentials: "s3" is no known login; known: none"#,
        ),
        (
            "node: {decode_threads: \"4\"}\n",
            r#"6:24: node.decode_threads: "4" is in quotes, so it is a text; expected a whole number from 0 to 1024"#,
        ),
        (
            "node: {decode_threads: 1.5}\n",
            r#"6:24: node.decode_threads: "1.5" is out of range; expected a whole number from 0 to 1024"#,
        ),
        (
            "node: {max_delay: 11s}\n",
            r#"6:19: node.max_delay: "11s" is out of range; expected a duration from 0s to 10s, such as 2s or 3min"#,
        ),
        (
            "broker: {credentials: mqtt}\n",
            r#"6:23: broker.credentials: "mqtt" is no known login; known: none"#,
        ),
        (
            "broker: {credentials: \"desk:hunter2\"}\n",
            r#"6:23: broker.credentials: "***" is no known login; known: none"#,
        ),
        (
            "credentials: {a: \"admin:hunter2\"}\n",
            r#"6:18: credentials.a: "***" is a text; expected a map with keys out of user, password"#,
        ),
        (
            "credentials: {a: {user: u, password: 123456}}\n",
            r#"6:38: credentials.a.password: "***" is written out here; write env:NAME or file:PATH and keep the password there, out of the configuration"#,
        ),
        (
            "credentials: {a: {user: u, password: file:none}}\n",
            r#"6:38: credentials.a.password: "file:none" cannot be read: No such file or directory (os error 2); expected the secret in none"#,
        ),
        (
            "credentials: {a: {user: u}}\n",
            "6:18: credentials.a.password: is missing; write env:NAME or file:PATH and keep the password there, out of the configuration",
        ),
        (
            "credentials: {\"a b\": {user: u, password: env:TEST_PASSWORD}}\n",
            "6:15: credentials.a b: holds ' '; allowed are letters, digits, '.', '_' and '-'",
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, situations: [parkin]}]\n",
            r#"6:74: cameras[0].situations[0]: "parkin" is no known situation; did you mean "parking"?"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, situations: [parking, parking]}]\n",
            r#"6:83: cameras[0].situations[1]: "parking" is listed twice; keep one of them"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, credentials: nvr}]\n",
            r#"6:74: cameras[0].credentials: "nvr" is no known login; known: none"#,
        ),
        (
            "cameras: [{id: a, class: community, url: 192.0.2.1}]\n",
            r#"6:42: cameras[0].url: "192.0.2.1" is no address; expected rtsp://host[:port]/path"#,
        ),
        (
            "cameras: [{id: a, class: community, url: \"rtsp://192.0.2.1/?pwd=hunter2\"}]\n",
            r#"6:42: cameras[0].url: "rtsp://192.0.2.1/?pwd=***" holds a password among its parameters; addresses are logged: take it out and name the login under `credentials`"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, look: {on_long_keys: other_stream}}]\n",
            "6:11: cameras[0].other_url: is missing; look.on_long_keys: other_stream needs the address of the camera's other stream here",
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, other_url: \"rtsp://u:hunter2@192.0.2.1/\"}]\n",
            r#"6:72: cameras[0].other_url: "rtsp://***@192.0.2.1/" holds a credential; write rtsp://192.0.2.1/ and the login under `credentials`: {a-name: {user: env:NAME, password: env:NAME}}, then `credentials: a-name` here"#,
        ),
        (
            "cameras: [{id: a/b, class: community, url: rtsp://192.0.2.1/}]\n",
            r#"6:16: cameras[0].id: "a/b" holds '/'; allowed are letters, digits, '.', '_' and '-'"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, look: {sampling: {fps: 5}, at_most_every: 1s}}]\n",
            r#"6:103: cameras[0].look.at_most_every: "1s" keeps looks apart, so that 5 per second are never reached; expected at most 200ms, or leave it out"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, look: {sampling: all}}]\n",
            r#"6:78: cameras[0].look.sampling: "all" is not keyframes; expected keyframes or {fps: ...}"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, look: {sampling: {fps: 0}}}]\n",
            r#"6:84: cameras[0].look.sampling.fps: "0" is out of range; expected a number from 0.01 to 60"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, location: {x: 42.6, y: 126.2}}]\n",
            r#"6:84: cameras[0].location.y: "126.2" is out of range; wgs84 is in degrees: -90 to 90"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, location: {x: .nan, y: 1}}]\n",
            r#"6:75: cameras[0].location.x: ".nan" is no number; expected a number from -100000000 to 100000000"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, zones: []}]\n",
            "6:68: cameras[0].zones: has 0 entries; expected a list of 1 to 256 entries",
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, zones: [{id: z, polygon: [[0, 0], [1, 1]]}]}]\n",
            "6:86: cameras[0].zones[0].polygon: has 2 point(s); a polygon needs at least 3",
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, zones: [{id: z, polygon: [[0, 0], [1, 0], [640, 1]]}]}]\n",
            r#"6:104: cameras[0].zones[0].polygon[2][0]: "640" is out of range; expected a number from 0 to 1"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, zones: [{id: z, polygon: [[0, 0], 1, [1, 1]]}]}]\n",
            r#"6:95: cameras[0].zones[0].polygon[1]: is no corner; expected [x, y], for example [0.1, 0.5]"#,
        ),
        (
            "cameras: [{id: a, class: community, url: rtsp://192.0.2.1/, zones: [{id: z, polygon: [[0, 0], [1, 0], [1, 1]]}, {id: z, polygon: [[0, 0], [1, 0], [1, 1]]}]}]\n",
            r#"6:118: cameras[0].zones[1].id: "z" is already used at main.yaml:6:69; zone ids are unique in a camera"#,
        ),
        ("include: [none.yaml]\n", r#"6:11: include[0]: "none.yaml" is missing; there is no file none.yaml"#),
        ("include: [none/*.yaml]\n", r#"6:11: include[0]: "none/*.yaml" matches no file; looked in "#),
        (
            "include: [main.yaml]\n",
            r#"6:11: include[0]: "main.yaml" includes main.yaml, which includes this file; break the circle"#,
        ),
        (
            "include: [\"**/x.yaml\"]\n",
            r#"6:11: include[0]: "**/x.yaml" holds **; write one * for each folder: cameras/*/*.yaml"#,
        ),
        ("include: [models]\n", r#"models: is a folder; expected a file"#),
        (
            "desk: {listen: 127.0.0.1:1, listen: 127.0.0.1:2}\n",
            "6:29: desk.listen: is written twice: first at main.yaml:6:8; keep one of them",
        ),
        ("site: again\n", "6:1: site: is written twice: first at main.yaml:1:1; keep one of them"),
        ("desk: {listen: !!str x}\n", "6:16: has a tag (!...); leave it out; put texts in quotes instead"),
        (
            "desk: {<<: {}}\n",
            "6:8: is a merge key, which YAML 1.2 no longer has; write the keys out, or put what cameras share into a class",
        ),
        ("desk: {[a]: b}\n", "6:8: is a list or map used as a key; expected a plain name"),
        ("desk: [\n", "no YAML"),
        ("---\nsite: b\n", "6:1: begins a second document; expected one document per file"),
    ];
    let mut wrong = String::new();
    let folder = Folder::new();
    for (text, expected) in cases {
        let found = folder.mistakes(&format!("{BASE}{text}"));
        let place = if expected.starts_with(|c: char| c.is_ascii_digit()) { "main.yaml:" } else { "" };
        let whole = format!("{place}{expected}");
        // What a library says is its own business, and what the temporary folder is called.
        let open = expected.ends_with("looked in ") || *expected == "no YAML";
        let same = |one: &String| if open { one.contains(&whole) } else { *one == whole };
        if found.len() != 1 || !found.iter().all(same) {
            wrong.push_str(&format!("{text}  found    {found:#?}\n  expected {whole}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_model_that_lacks_a_class_is_named_with_those_that_have_it() {
    let folder = Folder::new();
    folder.model("coco", "[person, truck]");
    folder.model("trucks", "[truck]");
    let found = folder.mistakes(
        "site: s
models: {street-demo: models/street-demo, coco: models/coco, trucks: models/trucks}
situations:
  parking: {zh: 停车, en: parking, rule: {dwell: {classes: [car]}}}
  lorries: {zh: 货车, en: lorries, rule: {dwell: {classes: [truck]}}}
classes:
  community: {model: street-demo, situations: [parking, lorries]}
cameras:
  - {id: a, class: community, url: rtsp://192.0.2.1/}
  - {id: b, class: community, url: rtsp://192.0.2.1/, model: coco}
  - {id: c, class: community, url: rtsp://192.0.2.1/, model: coco, situations: [lorries]}
",
    );
    let expected = [
        r#"main.yaml:7:57: classes.community.situations[1]: "lorries" counts "truck", which the model street-demo does not know; street-demo knows person, car, tricycle, umbrella, goods, barrier, boxes; "truck" is known by: coco, trucks"#,
        r#"main.yaml:10:62: cameras[1].model: "coco" counts "car", which the model coco does not know; coco knows person, truck; "car" is known by: street-demo"#,
    ];
    assert_eq!(found, expected, "{found:#?}");
}

#[test]
fn what_stands_in_two_files_names_both() {
    let folder = Folder::new();
    folder.write(
        "more.yaml",
        "desk: {listen: 127.0.0.1:1}
situations: {parking: {zh: x, en: x, rule: {dwell: {classes: [car]}}}}
cameras: [{id: a, class: community, url: rtsp://192.0.2.1/}]
",
    );
    let text = format!(
        "{BASE}include: [more.yaml]\ndesk: {{listen: 127.0.0.1:2}}\ncameras: [{{id: a, class: community, url: rtsp://192.0.2.1/}}]\n"
    );
    let expected = [
        "more.yaml:1:16: desk.listen: is written twice: first at main.yaml:7:16; keep one of them",
        "more.yaml:2:14: situations.parking: is written twice: first at main.yaml:4:3; keep one of them",
        r#"more.yaml:3:16: cameras[0].id: "a" is already used at main.yaml:8:16; camera ids are unique in a site"#,
    ];
    assert_eq!(folder.mistakes(&text), expected);
}

#[test]
fn circles_and_repeats_of_includes_are_named() {
    let folder = Folder::new();
    folder.write("a.yaml", "include: [b.yaml]\n");
    folder.write("b.yaml", "include: [./a.yaml]\n");
    let expected = [
        r#"b.yaml:1:11: include[0]: "./a.yaml" includes ./a.yaml, which includes this file; break the circle"#,
        r#"main.yaml:6:19: include[1]: "b.yaml" includes b.yaml again: first a.yaml:1:11; include each file once"#,
    ];
    let mut found = folder.mistakes(&format!("{BASE}include: [a.yaml, b.yaml]\n"));
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_file_that_cannot_be_read_makes_no_other_noise() {
    let folder = Folder::new();
    folder.write("situations.yaml", "situations: {parking: [\n");
    let found = folder.mistakes(
        "site: s
include: [situations.yaml]
models: {street-demo: models/street-demo}
classes: {community: {model: street-demo, situations: [parking]}}
cameras: [{id: a, class: community, url: rtsp://192.0.2.1/}]
",
    );
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("situations.yaml:2:1: no YAML: "), "{found:#?}");
    let missing = folder.load("none.yaml").unwrap_err();
    let expected =
        "none.yaml: cannot be read: No such file or directory (os error 2); expected a readable file";
    assert_eq!(folder.relative(&missing), [expected]);
    folder.write("latin.yaml", b"site: s\nworker: \xe9\n");
    let latin = folder.load("latin.yaml").unwrap_err();
    assert_eq!(
        folder.relative(&latin),
        ["latin.yaml:2:1: is not UTF-8 from this line on; save the file as UTF-8"]
    );
}

#[test]
fn a_card_that_lies_is_caught() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "id: street-demo",
            "id: other",
            r#"1:5: id: "other" is not the name of its folder, "street-demo"; make them equal"#,
        ),
        (
            "width: 416",
            "width: 420",
            r#"6:16: input.width: "420" is no multiple of 32; head yolox needs one"#,
        ),
        (
            "channels: bgr",
            "channels: yuv",
            r#"6:44: input.channels: "yuv" is not known; expected rgb or bgr"#,
        ),
        (
            "head: yolox",
            "head: yolov9",
            r#"7:7: head: "yolov9" is not known; expected yolox or yolov5 or yolov8 or end2end or detr or nanodet or picodet or rtmdet or ssd or fastestdet or classifier"#,
        ),
        (
            "head: yolox",
            "head: yolox\noutput: {reg_max: 7}",
            r#"8:19: output.reg_max: means nothing to head yolox; it takes names, strides, boxes"#,
        ),
        (
            "head: yolox",
            "head: yolov5\noutput: {strides: [8, 16], anchors: [[10, 13]]}",
            r#"8:37: output.anchors: has 1 lists for 2 strides; expected one list per stride: width, height, width, height, ..."#,
        ),
        (
            "head: yolox",
            "head: yolox\nurl: ftp://example.org/model.onnx",
            r#"8:6: url: "ftp://example.org/model.onnx" is no address of a file to fetch; expected https://host/path (or http://)"#,
        ),
        (
            "head: yolox",
            "head: yolox\nurl: https://me:secret@example.org/model.onnx",
            r#"8:6: url: "***" holds a login; expected https://host/path (or http://)"#,
        ),
        (
            "classes: [person, car]",
            "classes: [car, car]",
            r#"8:16: classes: "car" is listed twice; classes are told apart by their names"#,
        ),
        (
            "classes: [person, car]",
            "",
            "1:1: classes: is missing; expected the model's classes, in its order",
        ),
        (
            "classes: [person, car]",
            "classes_file: none.txt",
            r#"8:15: classes_file: "none.txt" cannot be read: No such file or directory (os error 2); expected a readable file"#,
        ),
        ("licence: Apache-2.0\n", "", "1:1: licence: is missing; expected a text of 1 to 200 characters"),
        (
            "head: yolox",
            "head: yolox\nbatch: 0",
            r#"8:8: batch: "0" is not dynamic; expected dynamic or a whole number from 1 to 1024"#,
        ),
        (
            "resize: letterbox_top_left",
            "resize: stretch, deviation: [1, 0, 1]",
            "6:77: input.deviation: holds a 0; samples are divided by it; expected numbers other than 0",
        ),
    ];
    for (good, bad, expected) in cases {
        let folder = Folder::new();
        folder.model("street-demo", "[person, car]");
        let text = card("street-demo", "[person, car]");
        assert!(text.contains(good), "{good}");
        folder.write("models/street-demo/card.yaml", text.replace(good, bad));
        let error = fleet::ModelCard::load(&folder.path("models/street-demo")).unwrap_err();
        assert_eq!(folder.relative(&error), [format!("models/street-demo/card.yaml:{expected}")]);
        // The same through a configuration that names the model.
        let found = folder.mistakes(BASE);
        assert_eq!(found.len(), 1, "{found:#?}");
    }
}

#[test]
fn a_model_file_that_is_cut_is_caught_with_both_hashes() {
    let folder = Folder::new();
    folder.write("models/street-demo/model.onnx", "no model");
    let found = folder.mistakes(BASE);
    let (card, file) = (sha256("no model, but a file"), sha256("no model"));
    let expected = format!(
        "models/street-demo/card.yaml:5:9: sha256: {card:?} is not the SHA-256 of models/street-demo/model.onnx, which is {file:?}; \
         the file is damaged or another one: fetch it again, or correct the card"
    );
    assert_eq!(found, [expected]);
    std::fs::remove_file(folder.path("models/street-demo/model.onnx")).unwrap();
    let found = folder.mistakes(BASE);
    assert!(found[0].contains("file: \"model.onnx\" cannot be read"), "{found:#?}");
}

#[test]
fn a_model_that_is_not_pulled_yet_says_how_to_get_it() {
    let folder = Folder::new();
    let text = card("street-demo", "[person, car]");
    folder.write("models/street-demo/card.yaml", format!("{text}url: https://example.org/model.onnx\n"));
    folder.load_text(BASE).unwrap();
    std::fs::remove_file(folder.path("models/street-demo/model.onnx")).unwrap();
    let dir = folder.path("models/street-demo");
    let expected = "models/street-demo/card.yaml:1:1: file: \"model.onnx\" is not there yet (models/street-demo/model.onnx); \
                    run: huiyan models pull models/street-demo";
    assert_eq!(folder.mistakes(BASE), [expected]);
    let pulled = fleet::ModelCard::load_without_file(&dir).unwrap();
    assert_eq!(pulled.url.as_deref(), Some("https://example.org/model.onnx"));
    assert_eq!(pulled.sha256, sha256("no model, but a file"));
}

#[test]
fn a_hash_that_nobody_knows_keeps_the_model_from_being_used() {
    let folder = Folder::new();
    let (text, hash) = (card("street-demo", "[person, car]"), sha256("no model, but a file"));
    folder.write("models/street-demo/card.yaml", text.replace(&hash, "unknown"));
    let expected = format!(
        "models/street-demo/card.yaml:5:9: sha256: \"unknown\" is not known, so nobody vouches for the file; that of \
         models/street-demo/model.onnx is {hash:?}: compare it with its author's and write it here"
    );
    assert_eq!(folder.mistakes(BASE), [expected]);
    let card = fleet::ModelCard::load_without_file(&folder.path("models/street-demo")).unwrap();
    assert_eq!(card.sha256, "");
}

#[test]
fn a_model_folder_that_is_missing_or_another_is_named() {
    let folder = Folder::new();
    let found = folder.mistakes("site: s\nmodels: {coco: models/coco, other: models/street-demo}\n");
    let expected = [
        r#"main.yaml:2:16: models.coco: "models/coco" is no folder; expected one with a card.yaml at models/coco"#,
        r#"main.yaml:2:29: models.other: "models/street-demo" is the folder of the model "street-demo"; use its own name"#,
    ];
    assert_eq!(found, expected);
}

#[test]
fn endless_mistakes_end() {
    let folder = Folder::new();
    let cameras: String = (0..3_000).map(|i| format!("  - {{id: c{i}, class: x, url: y}}\n")).collect();
    let error = folder.load_text(&format!("{BASE}cameras:\n{cameras}")).unwrap_err();
    assert_eq!((error.list.len(), error.omitted), (1_000, 5_000));
    assert!(error.to_string().ends_with("\nand 5000 more"));
}
