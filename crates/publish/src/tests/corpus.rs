//! What fuzzing has found worth keeping goes through the parsers once more, each time the tests run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::fuzz::TARGETS;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_kept_corpus_breaks_nothing() {
    for (name, target) in TARGETS {
        let inputs = files(&format!("corpus/{name}"));
        assert!(inputs.len() >= 3, "{name}: {} inputs", inputs.len());
        for input in inputs {
            let data = fs::read(&input).unwrap();
            assert!(data.len() <= 4_096, "{}: the corpus stays small", input.display());
            let run = std::panic::catch_unwind(|| target(&data));
            assert!(run.is_ok(), "{}", input.display());
        }
    }
}

#[test]
fn every_entry_point_has_its_fuzz_target_and_every_target_its_corpus() {
    let stems = |folder: &str| -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        files(folder).into_iter().map(stem).collect()
    };
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
}
