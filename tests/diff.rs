//! `huiyan diff`: which cameras a change touches.

use std::path::Path;

use serde_json::{Value, json};

use crate::util::{huiyan, project, write};

/// A fleet of a hundred cameras; `change` edits its YAML.
fn fleet(dir: &Path, name: &str, change: impl Fn(String) -> String) -> String {
    let mut yaml = format!(
        "site: test\nmodels: {{ street-demo: {:?} }}
credentials: {{ nvr: {{ user: viewer, password: env:HUIYAN_TEST_PASSWORD }} }}
situations:
  parking: {{ zh: 乱停放, en: parking, rule: {{ dwell: {{ classes: [car], at_least: 3min }} }} }}
  vending: {{ zh: 游商, en: vending, rule: {{ dwell: {{ classes: [person], at_least: 5min }} }} }}
classes:
  community: {{ model: street-demo, situations: [parking, vending] }}
  public: {{ model: street-demo, situations: [parking] }}
cameras:
",
        project("models/street-demo")
    );
    for number in 1..=100 {
        let class = if number <= 60 { "community" } else { "public" };
        yaml += &format!("  - {{ id: cam-{number:03}, class: {class}, url: rtsp://10.0.0.{number}/live }}\n");
    }
    write(dir, name, &change(yaml)).to_str().unwrap().to_owned()
}

fn diff(before: &str, after: &str) -> Value {
    let output =
        huiyan(&["diff", before, after, "--json"]).env("HUIYAN_TEST_PASSWORD", "p-7531").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn each_kind_of_change_touches_the_cameras_that_it_is_about() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path(), "before.yaml", |yaml| yaml);
    let with = |from: &str, to: &str| {
        let after = fleet(dir.path(), "after.yaml", |yaml| {
            assert!(yaml.contains(from), "{from}");
            yaml.replacen(from, to, 1)
        });
        diff(&before, &after)
    };
    let same = diff(&before, &before);
    assert_eq!((&same["same"], &same["settings"], &same["changed"]), (&json!(100), &json!([]), &json!([])));

    // One camera's address: its session begins anew, nobody else's.
    let one = with("rtsp://10.0.0.7/live", "rtsp://10.0.0.7/sub");
    assert_eq!((&one["by_key"], &one["same"]), (&json!({ "url": 1 }), &json!(99)));
    assert_eq!(one["changed"][0]["camera"], "cam-007");
    assert_eq!(one["changed"][0]["changes"][0]["effect"], "session");

    // A class's look: all cameras of the class.
    let look = with(
        "situations: [parking, vending] }",
        "situations: [parking, vending], look: { at_least_every: 30s } }",
    );
    assert_eq!((&look["by_key"], &look["same"]), (&json!({ "look": 60 }), &json!(40)));

    // A situation's rule: the cameras that watch for it.
    let rule = with("at_least: 5min", "at_least: 8min");
    assert_eq!(rule["by_key"], json!({ "situation vending": 60 }));
    let change = &rule["changed"][0]["changes"][0];
    assert!(
        change["before"].as_str().unwrap().contains("300s")
            && change["after"].as_str().unwrap().contains("480s"),
        "{change}"
    );
    assert_eq!(change["effect"], "scene");

    // A class that watches for less: the zones of its cameras.
    let less = with("situations: [parking, vending]", "situations: [parking]");
    assert_eq!(less["by_key"], json!({ "zones": 60 }));

    // A login: the password is not shown.
    let login = with("url: rtsp://10.0.0.9/live", "credentials: nvr, url: rtsp://10.0.0.9/live");
    assert_eq!(login["by_key"], json!({ "credentials": 1 }));
    assert!(!login.to_string().contains("p-7531"));

    // Cameras that come and go, and a setting that is of none of them.
    let moved = with("id: cam-050,", "id: cam-950,");
    assert_eq!(
        (&moved["added"], &moved["removed"], &moved["same"]),
        (&json!(["cam-950"]), &json!(["cam-050"]), &json!(99))
    );
    let node = with("site: test\n", "site: test\nnode: { max_batch: 32 }\n");
    assert_eq!(node["same"], 100);
    assert_eq!(node["settings"][0]["key"], "node");
}

#[test]
fn a_person_reads_sums_first_and_lines_that_fit() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path(), "before.yaml", |yaml| yaml);
    let after = fleet(dir.path(), "after.yaml", |yaml| {
        let yaml = yaml.replace("at_least: 5min", "at_least: 8min").replace("id: cam-100", "id: cam-101");
        yaml.replace("class: public, url", "class: public, name: 富民社区东门, url")
    });
    let output = huiyan(&["diff", &before, &after]).env("HUIYAN_TEST_PASSWORD", "x").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    for needle in [
        "100 cameras → 100: 1 added, 1 removed, 99 changed, 0 the same",
        "judged otherwise",
        "cam-101",
        "60 cameras: cam-001, cam-002, …",
        "39 cameras: cam-061",
        "at_least: 300s → at_least: 480s",
        "富民社区东门",
    ] {
        assert!(text.contains(needle), "no {needle:?} in\n{text}");
    }
    assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 100), "{text}");
    // A configuration with mistakes is no configuration.
    let broken = write(dir.path(), "broken.yaml", "site: a b\n");
    let output = huiyan(&["diff", &before, broken.to_str().unwrap()])
        .env("HUIYAN_TEST_PASSWORD", "x")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken.yaml:1:"), "{output:?}");
}
