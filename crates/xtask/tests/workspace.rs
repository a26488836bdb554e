//! Rules of the repository that no compiler holds: which crate may see which, what every crate inherits, and what may
//! be committed.

// Helpers of a test are tests, which clippy cannot know.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates of the workspace that each crate may depend on. `huiyan` wires the stages, so it may see all of them.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("flow", &[]),
    ("fleet", &["flow"]),
    ("ingest", STAGE),
    ("decode", STAGE),
    ("infer", STAGE),
    ("scene", STAGE),
    ("publish", STAGE),
    ("cluster", STAGE),
    ("sim", STAGE),
    ("desk", &["flow", "fleet", "publish"]),
    ("xtask", &[]),
];
const STAGE: &[&str] = &["flow", "fleet"];

/// Crate → the workspace crates that it needs to be built (dev-dependencies may reach further).
type Dependencies = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["name"].as_str().unwrap(), package))
}

fn dependencies(metadata: &Value) -> Dependencies {
    let members: BTreeSet<&str> = packages(metadata).map(|(name, _)| name).collect();
    packages(metadata)
        .map(|(name, package)| {
            let needed = package["dependencies"].as_array().unwrap().iter();
            let needed = needed.filter(|dependency| dependency["kind"] != "dev");
            let needed = needed.map(|dependency| dependency["name"].as_str().unwrap());
            (name.to_owned(), needed.filter(|name| members.contains(name)).map(str::to_owned).collect())
        })
        .collect()
}

/// One line per crate that sees what it must not.
fn one_way_breaches(dependencies: &Dependencies) -> Vec<String> {
    let mut breaches = Vec::new();
    for (name, needed) in dependencies.iter().filter(|(name, _)| *name != "huiyan") {
        let Some((_, allowed)) = MAY_SEE.iter().find(|(known, _)| known == name) else {
            breaches.push(format!("{name}: a new crate; say in MAY_SEE what it may depend on"));
            continue;
        };
        for dependency in needed.iter().filter(|dependency| !allowed.contains(&dependency.as_str())) {
            breaches.push(format!("{name} depends on {dependency}; it may depend on {allowed:?} only"));
        }
    }
    breaches
}

#[test]
fn stages_see_flow_and_fleet_only() {
    let dependencies = dependencies(&metadata());
    assert!(dependencies.contains_key("flow") && dependencies["fleet"].contains("flow"), "{dependencies:?}");
    assert_eq!(one_way_breaches(&dependencies), Vec::<String>::new());
}

#[test]
fn a_stage_that_sees_a_stage_is_named_with_it() {
    let needs = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let broken: Dependencies = [
        ("infer".to_owned(), needs(&["flow", "fleet", "decode"])),
        ("desk".to_owned(), needs(&["publish"])),
        ("flow".to_owned(), needs(&["fleet"])),
        ("huiyan".to_owned(), needs(&["ingest", "decode"])),
        ("helpers".to_owned(), needs(&[])),
    ]
    .into();
    let breaches = one_way_breaches(&broken);
    assert_eq!(breaches.len(), 3, "{breaches:?}");
    assert!(breaches[0].starts_with("flow depends on fleet"), "{breaches:?}");
    assert!(breaches[1].starts_with("helpers: a new crate"), "{breaches:?}");
    assert!(breaches[2].starts_with("infer depends on decode"), "{breaches:?}");
}

#[test]
fn every_crate_inherits_lints_and_rust_version() {
    for (name, package) in packages(&metadata()) {
        let manifest = fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
        let lints = lines.iter().skip_while(|line| **line != "[lints]").nth(1);
        assert_eq!(
            lints,
            Some(&"workspace = true"),
            "{name}: its Cargo.toml lacks `[lints]` / `workspace = true`"
        );
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            let line = format!("{key}.workspace = true");
            assert!(lines.contains(&line.as_str()), "{name}: its Cargo.toml lacks `{line}`");
        }
    }
}

/// `None` outside a git checkout (a source archive), where there is nothing to hold.
fn committed() -> Option<Vec<PathBuf>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    match output {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).unwrap();
            Some(names.split_terminator('\0').map(PathBuf::from).collect())
        }
        other => {
            println!("skipped: no list of committed files ({other:?})");
            None
        }
    }
}

#[test]
fn the_top_level_holds_what_its_readers_expect() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "crates",
        "models",
        "configs",
        "benches",
        "tests",
    ];
    for path in committed().unwrap_or_default() {
        let top = path.iter().next().unwrap().to_string_lossy();
        assert!(
            top.starts_with('.') || allowed.contains(&&*top),
            "{}: the top level holds only {allowed:?} and dot-files",
            path.display()
        );
    }
}

#[test]
fn nothing_large_is_committed() {
    const MOST: u64 = 3_000_000;
    for path in committed().unwrap_or_default() {
        // Listed and not there: being removed, and so no longer our business.
        let Ok(about) = fs::metadata(root().join(&path)) else { continue };
        assert!(
            about.len() <= MOST,
            "{}: {} bytes; at most {MOST} are committed",
            path.display(),
            about.len()
        );
    }
}

/// Does `text` hold `path` as a path of its own (not as the tail of a longer one), or something below it?
fn mentions(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + path.len()..].chars().next();
        let inside = |c: char| c.is_alphanumeric() || "/._-~$}".contains(c);
        !before.is_some_and(inside) && after == Some('/')
    })
}

#[test]
fn no_committed_file_names_a_folder_of_this_machine() {
    let home = std::env::var("HOME").unwrap_or_default();
    let folders: Vec<String> =
        [root().display().to_string(), home].into_iter().filter(|folder| folder.len() > 1).collect();
    for path in committed().unwrap_or_default() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for folder in &folders {
            assert!(
                !mentions(&text, folder),
                "{}: names {folder}, which only this machine has",
                path.display()
            );
        }
    }
}

#[test]
fn a_folder_of_this_machine_is_told_from_a_longer_path() {
    assert!(mentions("see '/srv/li/huiyan/target'", "/srv/li"));
    assert!(mentions("/src/main.rs", "/src"));
    assert!(!mentions("crates/flow/src/lib.rs", "/src"));
    assert!(!mentions("$HOME/srv/li/x", "/srv/li"));
    assert!(!mentions("/srv/lin/x", "/srv/li"));
}

/// `cargo xtask test` leaves doc tests out (one link per example), so there must be none that nobody runs.
#[test]
fn examples_in_docs_are_marked_as_text() {
    let sources = committed()
        .unwrap_or_default()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"));
    for path in sources {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        let unmarked = unmarked_examples(&text);
        assert!(
            unmarked.is_empty(),
            "{}: doc tests are not run; write ```text, or a unit test: {unmarked:?}",
            path.display()
        );
    }
}

/// Opening fences in doc comments that rustdoc would compile: line number and line.
fn unmarked_examples(source: &str) -> Vec<(usize, &str)> {
    let mut open = false;
    let mut found = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let line = line.trim();
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let Some(language) = doc.and_then(|doc| doc.trim().strip_prefix("```")) else { continue };
        if !open && (language.is_empty() || language.starts_with("rust") || language.starts_with("no_run")) {
            found.push((index + 1, line));
        }
        open = !open;
    }
    found
}

#[test]
fn an_example_that_rustdoc_would_compile_is_found() {
    assert_eq!(unmarked_examples("/// ```text\n/// a\n/// ```\nfn a() {}\n"), []);
    assert_eq!(
        unmarked_examples("//! ```yaml\n//! a: 1\n//! ```\n/// ```\n/// a();\n/// ```\n"),
        [(4, "/// ```")]
    );
}
