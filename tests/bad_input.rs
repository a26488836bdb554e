//! What a user gets wrong: each mistake with its place, at start, in words.

use std::path::Path;
use std::process::Output;

use crate::util::{self, huiyan, project, write};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn twenty_mistakes_are_twenty_located_errors() {
    let path = project("tests/fixtures/twenty-mistakes.yaml");
    let output = huiyan(&["check", path.to_str().unwrap()]).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let located: Vec<_> = said.lines().filter(|line| line.contains("twenty-mistakes.yaml:")).collect();
    assert_eq!(located.len(), 20, "{said}");
    // Each says where: file:line:column, and the line is the one on which the fixture says so itself.
    let text = std::fs::read_to_string(&path).unwrap();
    let wrong: Vec<usize> =
        text.lines().enumerate().filter(|(_, line)| line.contains("# wrong")).map(|(i, _)| i + 1).collect();
    for (line, number) in located.iter().zip(&wrong) {
        assert!(line.contains(&format!("twenty-mistakes.yaml:{number}:")), "expected line {number}: {line}");
    }
    assert_eq!(wrong.len(), 20);
    assert!(!said.contains("hunter2"), "a password was printed: {said}");
}

#[test]
fn the_shipped_example_has_no_mistakes_and_the_schema_is_json() {
    let output = huiyan(&["check", project("configs/huiyan.yaml").to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let schema = huiyan(&["schema"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["cameras"].is_object(), "{schema}");
}

/// A fleet with one camera and the model in `model`.
fn fleet_with(dir: &Path, model: &Path) -> String {
    let config = write(
        dir,
        "fleet.yaml",
        &format!(
            "{head}models: {{ street-demo: {model:?} }}\nclasses: {{ any: {{ model: street-demo, situations: [] }} }}\n\
             cameras:\n  - {{ id: a, class: any, url: rtsp://127.0.0.1:9/ }}\n",
            head = util::fleet_head(([127, 0, 0, 1], 9).into(), dir),
        ),
    );
    config.to_str().unwrap().to_owned()
}

/// A copy of the demo's model under `dir`, with its card changed by `change`.
fn model_copy(dir: &Path, change: impl Fn(String) -> String) -> std::path::PathBuf {
    let folder = dir.join("street-demo");
    std::fs::create_dir_all(&folder).unwrap();
    let from = project("models/street-demo");
    std::fs::copy(from.join("model.onnx"), folder.join("model.onnx")).unwrap();
    let card = std::fs::read_to_string(from.join("card.yaml")).unwrap();
    write(&folder, "card.yaml", &change(card));
    folder
}

fn refused_at_start(config: &str, needles: &[&str]) {
    let output = huiyan(&["run", "--for", "20s", "--config", config]).output().unwrap();
    let said = said(&output);
    assert!(!output.status.success(), "it started: {said}");
    for needle in needles {
        assert!(said.contains(needle), "no {needle:?} in: {said}");
    }
}

#[test]
fn a_model_file_cut_in_half_is_an_error_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_copy(dir.path(), |card| card);
    let file = model.join("model.onnx");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refused_at_start(&fleet_with(dir.path(), &model), &["sha256", "model.onnx"]);
    // Even where the card was made for the half file.
    let half = publish::wire::sha256(&bytes[..bytes.len() / 2]);
    let whole = publish::wire::sha256(&bytes);
    let model = model_copy(dir.path(), |card| card.replace(&whole, &half));
    std::fs::write(model.join("model.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    refused_at_start(&fleet_with(dir.path(), &model), &["model.onnx"]);
}

#[test]
fn a_card_that_lies_is_an_error_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let model = model_copy(dir.path(), |card| card.replace("width: 416", "width: 640"));
    refused_at_start(&fleet_with(dir.path(), &model), &["card.yaml", "width", "640", "416"]);
    let model = model_copy(dir.path(), |card| card.replace("person, ", ""));
    refused_at_start(&fleet_with(dir.path(), &model), &["card.yaml", "classes"]);
}

#[test]
fn a_password_in_a_url_is_refused_and_not_printed() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(
        dir.path(),
        "fleet.yaml",
        "cameras:\n  - { id: a, url: 'rtsp://admin:hunter2@127.0.0.1/', model: street-demo }\n",
    );
    let output = huiyan(&["check", config.to_str().unwrap()]).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("fleet.yaml:2:") && said.contains("credential"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
