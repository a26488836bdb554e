//! YAML that means harm: refused with its place, in little time, without a panic.

mod common;

use std::time::{Duration, Instant};

use common::{BASE, Folder, repository};

/// Ten levels of ten aliases: ten thousand million nodes if it were written out.
fn bomb() -> String {
    let mut text = String::from("cameras:\n  - &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("  - &a{level} [{aliases}]\n"));
    }
    text
}

#[test]
fn hostile_texts_are_refused_at_once() {
    const MANY: usize = 10_000_000;
    let cases: Vec<(&str, String, &str)> = vec![
        ("alias bomb", bomb(), "makes the file too large (aliases count in full)"),
        ("alias of itself", "cameras: &a [*a]\n".to_owned(), "is an alias inside its own anchor"),
        ("flow nesting", format!("desk: {}\n", "[".repeat(100_000)), "recursion limit"),
        ("flow maps", format!("desk: {}\n", "{a: ".repeat(100_000)), ""),
        ("block nesting", format!("desk:\n  {}x\n", "- ".repeat(100_000)), "is nested too deeply"),
        ("aliases that nest", nested_aliases(), "is nested too deeply"),
        (
            "a long line",
            format!("worker: {}\n", "x".repeat(MANY)),
            "has 10000000 characters; at most 64 are allowed",
        ),
        ("a long text", format!("data_dir: \"{}\"\n", "目".repeat(MANY / 3)), "is too long"),
        ("a long key", format!("? {}\n: x\n", "k".repeat(MANY)), "is no known key"),
        ("a long number", format!("node: {{max_batch: {}}}\n", "9".repeat(MANY)), "is no whole number"),
        ("a long list", format!("include: [{}]\n", "a,".repeat(MANY / 2)), "makes the file too large"),
        ("control characters", "worker: \u{1}\u{7f}\n".to_owned(), ""),
    ];
    for (name, text, expected) in cases {
        let folder = Folder::new();
        let start = Instant::now();
        let error = folder.load_text(&format!("{BASE}{text}")).unwrap_err();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(10), "{name}: {took:?}");
        let first = &error.list[0];
        assert!(first.problem.contains(expected), "{name}: {first}");
        assert!(first.line > 0 && first.column > 0, "{name}: {first}");
        let message = error.to_string();
        assert!(message.len() < 20_000, "{name}: a message of {} bytes", message.len());
    }
}

/// Each level is shallow where it is written, and all together are not.
fn nested_aliases() -> String {
    let mut text = String::from("cameras:\n  - &a0 [x]\n");
    for level in 1..40 {
        text.push_str(&format!("  - &a{level} [*a{}]\n", level - 1));
    }
    text
}

#[test]
fn a_file_without_end_is_refused() {
    let folder = Folder::new();
    let whole = std::fs::File::create(folder.path("huge.yaml")).unwrap();
    whole.set_len(33 << 20).unwrap();
    let error = folder.load("huge.yaml").unwrap_err();
    assert_eq!(folder.relative(&error), ["huge.yaml: is too large; at most 32 MiB"]);
    let device = fleet::Fleet::load(std::path::Path::new("/dev/zero")).unwrap_err();
    assert_eq!(device.to_string(), "/dev/zero: is no plain file; expected a file");
}

/// The shipped example with bytes changed, cut, doubled: never a panic, and every refusal has a reason.
#[test]
fn mangled_examples_never_panic() {
    let folder = Folder::new();
    let example = std::fs::read_to_string(repository().join("configs/huiyan.yaml")).unwrap();
    let example = example.replace("../models", "models").replace("include: [\"situations/*.yaml\"]", "");
    let mut rng = fastrand::Rng::with_seed(7);
    let alphabet: Vec<char> = "{}[]:,-#&*!|>'\"%@`?~ \n\tx0é目\u{0}".chars().collect();
    for _ in 0..1_500 {
        let mut text: Vec<char> = example.chars().collect();
        for _ in 0..=rng.usize(..3) {
            let at = rng.usize(..text.len());
            match rng.u8(..4) {
                0 => text[at] = alphabet[rng.usize(..alphabet.len())],
                1 => text.insert(at, alphabet[rng.usize(..alphabet.len())]),
                2 => drop(text.drain(at..(at + rng.usize(..40)).min(text.len()))),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = fleet::Fleet::from_yaml_str(&text, &folder.path("")) {
            assert!(!error.list.is_empty() && !error.to_string().is_empty());
        }
    }
}
