//! Real clips, as the small grey pictures that scenes get: whole days on which nothing happens.
#![allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{camera, look, rule, secs, zone};
use fleet::{Camera, Coverage, Look, RuleKind};
use flow::{Event, Luma};
use scene::{Condition, Scene};

/// The clip's pictures, 160x90, `per_second` of them; `None`: the clip or ffmpeg is not there.
fn pictures(clip: &str, per_second: &str) -> Option<Vec<Luma>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/media").join(clip);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    let filter = format!("fps={per_second},scale=160:90:flags=area");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&path)
        .args(["-vf", &filter, "-f", "rawvideo", "-pix_fmt", "gray", "-"])
        .output();
    let Ok(made) = made else {
        println!("skipped: ffmpeg is not there");
        return None;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pictures = made.stdout.chunks_exact(160 * 90);
    Some(pictures.map(|cells| Luma::from_cells(160, 90, cells.to_vec()).expect("as many cells")).collect())
}

/// Watched for anything that covers a twentieth of the picture.
fn watched(every: u64) -> Camera {
    let kind = RuleKind::Coverage(Coverage { share: 0.05, at_least: secs(every * 3) });
    let mut camera = camera(vec![zone("whole", vec![rule("road_obstructed", kind)])]);
    camera.look = Look { at_least_every: secs(every), ..camera.look };
    camera
}

/// Plays the pictures so many seconds apart; events and conditions.
fn play(pictures: &[Luma], seconds: u64) -> (Vec<Event>, Vec<Condition>) {
    let mut scene = Scene::new(&watched(seconds));
    let (mut events, mut conditions) = (Vec::new(), Vec::new());
    for (index, luma) in pictures.iter().enumerate() {
        events.extend(scene.look(&look((index as u64 * seconds) as i64, vec![]), Some(luma)));
        conditions.push(scene.condition());
    }
    (events, conditions)
}

#[test]
fn a_whole_day_of_moving_shadows_is_no_obstacle_and_no_moved_camera() {
    let Some(pictures) = pictures("empty-lot-day-timelapse.mp4", "source_fps") else { return };
    assert!(pictures.len() > 140, "{} pictures", pictures.len());
    let (events, conditions) = play(&pictures, 300);
    assert_eq!(events, []);
    let bad: Vec<_> =
        conditions.iter().enumerate().filter(|(_, condition)| **condition != Condition::Good).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn traffic_from_above_is_no_obstacle_and_no_moved_camera() {
    let Some(pictures) = pictures("car-park-overhead.mp4", "5") else { return };
    // The clip is short: played four times, as at one look per second.
    let pictures: Vec<_> = std::iter::repeat_n(pictures, 4).flatten().collect();
    let (events, conditions) = play(&pictures, 1);
    assert_eq!(events, []);
    assert!(conditions.iter().all(|condition| *condition == Condition::Good));
}

#[test]
fn people_before_a_camera_do_not_suspend_it() {
    let Some(pictures) = pictures("one-by-one.mp4", "2") else { return };
    let (_, conditions) = play(&pictures, 2);
    assert!(conditions.iter().all(|condition| *condition == Condition::Good));
}
