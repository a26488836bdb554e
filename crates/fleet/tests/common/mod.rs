//! Folders with a model and a configuration in them.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "part of tests, though outside of a #[test] function")]

use std::fs;
use std::path::{Path, PathBuf};

use fleet::{Fleet, Mistakes};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A folder that is gone after the test.
pub struct Folder {
    dir: TempDir,
}

/// A model, a situation and a class: what a camera needs.
pub const BASE: &str = "\
site: test
models: {street-demo: models/street-demo}
situations:
  parking: {zh: 停车, en: parking, rule: {dwell: {classes: [car]}}}
classes: {community: {model: street-demo, situations: [parking]}}
";

impl Folder {
    /// With the model `street-demo`.
    pub fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        folder.model("street-demo", "[person, car, tricycle, umbrella, goods, barrier, boxes]");
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A model folder whose card is right.
    pub fn model(&self, id: &str, classes: &str) {
        self.write(&format!("models/{id}/model.onnx"), "no model, but a file");
        self.write(&format!("models/{id}/card.yaml"), card(id, classes));
    }

    pub fn load(&self, name: &str) -> Result<Fleet, Mistakes> {
        Fleet::load_with(&self.path(name), &env)
    }

    /// Writes and loads `main.yaml`.
    pub fn load_text(&self, text: &str) -> Result<Fleet, Mistakes> {
        self.write("main.yaml", text);
        self.load("main.yaml")
    }

    /// The messages of a configuration that is wrong, without this folder's own path.
    pub fn mistakes(&self, text: &str) -> Vec<String> {
        let error = self.load_text(text).expect_err("the configuration is wrong");
        self.relative(&error)
    }

    pub fn relative(&self, error: &Mistakes) -> Vec<String> {
        let own = format!("{}/", self.dir.path().display());
        error.list.iter().map(|mistake| mistake.to_string().replace(&own, "")).collect()
    }
}

/// The card of a made-up model.
pub fn card(id: &str, classes: &str) -> String {
    format!(
        "id: {id}
version: \"1\"
licence: Apache-2.0
source: made for this test
sha256: {}
input: {{width: 416, height: 256, channels: bgr, resize: letterbox_top_left}}
head: yolox
classes: {classes}
",
        sha256("no model, but a file")
    )
}

pub fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The only environment variable that the tests know.
pub fn env(name: &str) -> Option<String> {
    (name == "TEST_PASSWORD").then(|| "hunter2".to_owned())
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
