//! Loads and checks a generated fleet of a county's size (29,720 cameras) and fails if that takes over 2 s or
//! 300 MB. The floor, measured in the same run, is the YAML library alone reading the same files.
//!
//! `cargo bench -p fleet --bench fleet_load [-- --json]`

#![allow(clippy::disallowed_macros, reason = "a bench prints its figures")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use fleet::Fleet;
use fleet::generate::{Options, huinan};
use saphyr_parser::{Event, Parser};
use sha2::{Digest, Sha256};

const MAX_SECONDS: f64 = 2.0;
const MAX_MEGABYTES: f64 = 300.0;
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let json = std::env::args().any(|argument| argument == "--json");
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    write_model(&dir.path().join("street-demo"));
    let site = dir.path().join("site");
    let options = Options { model: PathBuf::from("../street-demo"), ..Options::default() };
    huinan(&site, &options).expect("the fleet can be written");

    // The first round, in a process that has done nothing else, is the one whose memory counts.
    reset_peak();
    let before = peak_megabytes();
    let mut seconds = f64::MAX;
    let mut cameras = 0;
    let mut megabytes = 0.0;
    for round in 0..ROUNDS {
        let start = Instant::now();
        let fleet = match Fleet::load(&site.join("huiyan.yaml")) {
            Ok(fleet) => fleet,
            Err(mistakes) => panic!("the generated fleet is right: {mistakes}"),
        };
        seconds = seconds.min(start.elapsed().as_secs_f64());
        cameras = fleet.cameras.len();
        if round == 0 {
            megabytes = peak_megabytes();
        }
    }
    let (floor, bytes) =
        (0..ROUNDS).map(|_| parse_alone(&site)).min_by(|a, b| a.0.total_cmp(&b.0)).expect("rounds > 0");

    if json {
        println!(
            "[{{\"name\":\"fleet.load_seconds\",\"value\":{seconds:.3},\"unit\":\"s\",\"floor\":{floor:.3},\"ratio\":{:.2}}},\
             {{\"name\":\"fleet.load_peak_rss\",\"value\":{megabytes:.1},\"unit\":\"MB\"}}]",
            seconds / floor
        );
    } else {
        println!("cameras          {cameras} in {:.1} MB of YAML", bytes as f64 / 1e6);
        println!("load and check   {seconds:.3} s (best of {ROUNDS}; limit {MAX_SECONDS} s)");
        println!(
            "floor            {floor:.3} s (the YAML library alone on the same files); ratio {:.2}",
            seconds / floor
        );
        println!(
            "peak RSS         {megabytes:.1} MB, {before:.1} MB of it before loading (limit {MAX_MEGABYTES} MB)"
        );
    }
    if cameras != options.cameras() || seconds > MAX_SECONDS || megabytes > MAX_MEGABYTES {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The files through the YAML library's own parser, events thrown away: seconds and bytes.
fn parse_alone(dir: &Path) -> (f64, usize) {
    let start = Instant::now();
    let mut bytes = 0;
    let mut events = 0_u64;
    let cameras = fs::read_dir(dir.join("cameras")).expect("the generator wrote it");
    let files = cameras.map(|entry| entry.expect("it can be listed").path());
    for path in files.chain([dir.join("huiyan.yaml"), dir.join("situations.yaml")]) {
        let text = fs::read_to_string(path).expect("the generator wrote it");
        bytes += text.len();
        let mut parser = Parser::new_from_str(&text);
        while let Some(event) = parser.next_event() {
            let (event, _) = event.expect("generated files are YAML");
            events += u64::from(!matches!(event, Event::Nothing));
        }
    }
    assert!(std::hint::black_box(events) > 0);
    (start.elapsed().as_secs_f64(), bytes)
}

/// A model that can be checked, not run.
fn write_model(dir: &Path) {
    fs::create_dir_all(dir).expect("the folder is ours");
    let model = "no model, but a file";
    let hash: String = Sha256::digest(model).iter().map(|byte| format!("{byte:02x}")).collect();
    let card = format!(
        "id: street-demo\nversion: \"1\"\nlicence: Apache-2.0\nsource: made for this bench\nsha256: {hash}\n\
         input: {{width: 416, height: 256, channels: bgr, resize: stretch}}\nhead: yolox\n\
         classes: [person, car, tricycle, umbrella, goods, barrier, boxes]\n"
    );
    fs::write(dir.join("model.onnx"), model).expect("the folder is ours");
    fs::write(dir.join("card.yaml"), card).expect("the folder is ours");
}

/// Sets the kernel's high-water mark back to what is in use now (proc(5), clear_refs).
fn reset_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The process's high-water mark of resident memory.
fn peak_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
    kib * 1024.0 / 1e6
}
