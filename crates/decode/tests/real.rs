//! Real clips and captures, where they are present.

#![allow(clippy::disallowed_macros, clippy::unwrap_used, reason = "a test prints, and may panic")]

mod support;

use std::process::Command;
use std::time::Duration;

use flow::{Codec, Role};
use support::*;

/// The luma of every key picture of the clip, decoded by `ffmpeg`.
fn ffmpeg_luma(path: &std::path::Path) -> Option<Vec<u8>> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-skip_frame", "nokey", "-i"])
        .arg(path)
        .args(["-vsync", "0", "-pix_fmt", "gray", "-vf", "extractplanes=y", "-f", "rawvideo", "-"])
        .output();
    match output {
        Ok(output) if output.status.success() => Some(output.stdout),
        _ => {
            println!("skipped: no ffmpeg to compare with");
            None
        }
    }
}

#[test]
fn key_pictures_equal_those_of_ffmpeg() {
    for (name, codec) in [("media/one-by-one.mp4", Codec::H264), ("media/shop-hevc-1080p.mp4", Codec::H265)] {
        let Some(path) = shared(name) else { return };
        let Some(expected) = ffmpeg_luma(&path) else { return };
        let bench = Bench::new(2, 200, 1);
        let mut source = Source::new("a", codec);
        for coded in read_file(codec, &path).into_iter().filter(|c| c.key) {
            bench.pool.offer(source.alone(coded.data)).unwrap();
        }
        bench.settle();
        let mut frames = bench.frames.lock().unwrap();
        frames.sort_by_key(|frame| frame.id.sequence);
        assert!(!frames.is_empty());
        let luma: Vec<u8> = frames.iter().flat_map(|frame| rows(host(frame), 0)).collect();
        assert_eq!(luma.len(), expected.len(), "{name}");
        assert!(luma == expected, "{name}: the pixels differ");
    }
}

#[test]
fn a_whole_clip_decoded_in_full_gives_every_picture() {
    let Some(path) = shared("media/shop-hevc-1080p.mp4") else { return };
    let coded: Vec<_> = read_file(Codec::H265, &path).into_iter().take(40).collect();
    let bench = Bench::new(1, 300, 1);
    let mut source = Source::new("a", Codec::H265);
    for c in &coded {
        bench.pool.offer(source.unit(c.key, Role::Chained { deliver: true }, c.data.clone())).unwrap();
    }
    let flow = bench.pool.shutdown(Duration::from_secs(30));
    assert_eq!((flow.received, flow.passed), (40, 40), "{flow:?} {:?}", bench.errors.lock().unwrap());
}

/// Pictures of the captures that are whole, as their own decoders count them.
const WHOLE: [(&str, u64); 12] = [
    ("BA_MW_D.264", 100),
    ("Cisco_Men_whisper_640x320_CABAC_Bframe_9.264", 9),
    ("MIDR_MW_D.264", 100),
    ("MPS_MW_A.264", 150),
    ("QCIF_2P_I_allIPCM.264", 2),
    ("cros_64x64-I.h265", 1),
    ("cros_64x64-I-P.h265", 2),
    ("cros_64x64-I-P-B-P.h265", 3),
    ("cros_bbb.h265", 60),
    ("cros_bear.h265", 30),
    ("cros_test-25fps.h265", 250),
    ("cros_test-25fps-interlaced.h264", 250),
];

#[test]
fn captures_whole_and_broken() {
    let Some(folder) = shared("captures/bitstreams") else { return };
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let bench = Bench::new(1, 4000, 30);
    for path in names {
        let codec = match path.extension().and_then(|e| e.to_str()) {
            Some("264" | "h264") => Codec::H264,
            Some("h265") => Codec::H265,
            _ => continue,
        };
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let coded = read_file(codec, &path);
        for role in [Role::Alone, Role::Chained { deliver: true }] {
            let mut source = Source::new(name.replace('_', "-"), codec);
            for c in &coded {
                bench.pool.offer(source.unit(c.key, role, c.data.clone())).unwrap();
            }
        }
    }
    let flow = bench.pool.shutdown(Duration::from_secs(30));
    assert_eq!(flow.inside(), 0, "{flow:?}");
    assert_eq!(bench.dropped("failed"), 0);
    for (name, count) in WHOLE {
        let camera = camera(name.replace('_', "-"));
        let frames = bench.frames.lock().unwrap();
        let latest = frames.iter().filter(|f| f.id.camera == camera).map(|f| f.id.session).max();
        let passed = frames.iter().filter(|f| Some(f.id.session) == latest).count() as u64;
        let errors = bench.errors.lock().unwrap();
        let errors: Vec<_> = errors.iter().filter(|(c, _)| *c == camera).collect();
        assert_eq!(passed, count, "{name}: {errors:?}");
    }
}
