//! What fuzzing has found worth keeping goes through the inbox once more, each time the tests run.

use std::fs;
use std::path::Path;

use crate::fuzz::TARGETS;

#[test]
fn the_kept_corpus_breaks_nothing() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, target) in TARGETS {
        assert!(fuzz.join("fuzz_targets").join(name).with_extension("rs").exists(), "{name}");
        let inputs: Vec<_> = fs::read_dir(fuzz.join("corpus").join(name)).unwrap().collect();
        assert!(inputs.len() >= 3, "{name}: {} inputs", inputs.len());
        for input in inputs {
            let path = input.unwrap().path();
            let data = fs::read(&path).unwrap();
            assert!(data.len() <= 4_096, "{}: the corpus stays small", path.display());
            assert!(std::panic::catch_unwind(|| target(&data)).is_ok(), "{}", path.display());
        }
    }
}
