//! `Clip::open` on real and on broken files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Recipe, SECOND, make, shared};
use flow::Codec;
use sim::{Clip, ClipError};

/// What ffprobe, which knows nothing of us, says about the packets of a file: (pictures, key pictures).
fn ffprobe(file: &std::path::Path) -> (usize, usize) {
    let arguments =
        ["-v", "error", "-select_streams", "v", "-show_entries", "packet=flags", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(arguments).arg(file).output().expect("ffprobe");
    let text = String::from_utf8(output.stdout).unwrap();
    (text.lines().count(), text.lines().filter(|line| line.contains('K')).count())
}

fn check(clip: &Clip) {
    let keys: Vec<_> = clip.units.iter().filter(|unit| unit.key).collect();
    let set = match clip.codec {
        Codec::H264 => 0x67..=0x67,
        Codec::H265 => 0x40..=0x46,
        Codec::Mjpeg => 0xff..=0xff,
    };
    for key in keys {
        let first_nals: Vec<u8> =
            key.data.windows(4).filter(|w| w[..3] == [0, 0, 1]).map(|w| w[3]).take(4).collect();
        assert!(first_nals.iter().any(|nal| set.contains(nal) || *nal & 0x1f == 7), "{first_nals:02x?}");
    }
    assert_eq!(clip.units.iter().map(|unit| unit.pts).min(), Some(Duration::ZERO));
    assert!(clip.units.iter().all(|unit| unit.pts < clip.duration));
    assert!(clip.units.iter().all(|unit| unit.data.starts_with(&[0, 0, 0, 1])));
}

#[test]
fn real_clips_are_read_as_they_are() {
    let table = [
        ("media/one-by-one.mp4", Codec::H264, (768, 432), 139_400),
        ("media/car-park-overhead.mp4", Codec::H264, (768, 432), 30_160),
        ("media/empty-lot-day-timelapse.mp4", Codec::H264, (960, 540), 30_400),
    ];
    for (file, codec, size, ms) in table {
        let Some(path) = shared(file) else { return };
        let clip = Clip::open(&path).unwrap();
        check(&clip);
        assert_eq!((clip.codec, (clip.width, clip.height)), (codec, size), "{file}");
        assert!(
            clip.duration.abs_diff(Duration::from_millis(ms)) < Duration::from_millis(30),
            "{file} {clip:?}"
        );
        let keys = clip.units.iter().filter(|unit| unit.key).count();
        assert_eq!((clip.units.len(), keys), ffprobe(&path), "{file}");
    }
}

#[test]
fn a_real_h265_clip_starts_at_its_key_picture() {
    let Some(path) = shared("media/shop-hevc-1080p.mp4") else { return };
    let clip = Clip::open(&path).unwrap();
    check(&clip);
    assert_eq!((clip.codec, clip.width, clip.height), (Codec::H265, 1920, 1080));
    assert!(clip.units[0].key);
    let (pictures, keys) = ffprobe(&path);
    assert_eq!(clip.units.iter().filter(|unit| unit.key).count(), keys);
    assert!(
        clip.units.len() <= pictures && clip.units.len() > pictures - 10,
        "{} of {pictures}",
        clip.units.len()
    );
}

#[test]
fn made_clips_have_the_pictures_that_were_made() {
    let dir = tempfile::tempdir().unwrap();
    for h265 in [false, true] {
        let clip = Clip::open(make(Recipe { h265, ..SECOND }, dir.path())).unwrap();
        check(&clip);
        assert_eq!(clip.codec, if h265 { Codec::H265 } else { Codec::H264 });
        assert_eq!((clip.units.len(), clip.duration), (25, Duration::from_secs(1)));
        assert_eq!(clip.units.iter().filter(|unit| unit.key).count(), 2);
    }
}

#[test]
fn what_is_no_clip_is_refused_with_the_file_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let missing = Clip::open(dir.path().join("missing.mp4")).unwrap_err();
    assert!(
        matches!(missing, ClipError::Read { .. }) && missing.to_string().contains("missing.mp4"),
        "{missing}"
    );
    assert!(matches!(Clip::open(dir.path()).unwrap_err(), ClipError::Read { .. }));

    let text = Clip::open(write("notes.txt", b"not a video at all, only some words\n")).unwrap_err();
    assert!(text.to_string().contains("notes.txt") && text.to_string().contains("H.264"), "{text}");
    assert!(Clip::open(write("empty.mp4", b"")).is_err());

    let whole = std::fs::read(make(SECOND, dir.path())).unwrap();
    let cut = Clip::open(write("cut.mp4", &whole[..whole.len() / 2])).unwrap_err();
    assert!(cut.to_string().contains("cut.mp4"), "{cut}");

    let mjpeg = dir.path().join("mjpeg.avi");
    let line = "-q videotestsrc num-buffers=3 ! jpegenc ! avimux ! filesink location=";
    let line = format!("{line}{}", mjpeg.display());
    assert!(Command::new("gst-launch-1.0").args(line.split_whitespace()).status().unwrap().success());
    let wrong = Clip::open(&mjpeg).unwrap_err();
    assert!(matches!(wrong, ClipError::NoVideo { .. }), "{wrong}");
    assert!(wrong.to_string().contains("image/jpeg") && wrong.to_string().contains("ffmpeg"), "{wrong}");
}
