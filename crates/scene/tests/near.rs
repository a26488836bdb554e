//! When a situation is shown from near.
#![allow(clippy::unwrap_used, reason = "part of tests, though outside of a #[test] function")]

mod common;

use bytes::Bytes;
use common::{camera, classes, look, rule, secs, thing, zone};
use fleet::{Dwell, Per, RuleKind};
use flow::{Detection, Event, HostPicture, Matrix, Phase, Plane};
use scene::Scene;

const CAR: [f32; 4] = [0.3, 0.3, 0.3, 0.3];

/// Stripes, softer where `blur` is larger, so many pixels wide.
fn picture(width: u32, blur: u32) -> HostPicture {
    let height = width * 9 / 16;
    let row: Vec<u8> = (0..width)
        .map(|x| {
            ((0..=blur).map(|dx| if (x + dx) / 8 % 2 == 0 { 60 } else { 160 }).sum::<u32>() / (blur + 1))
                as u8
        })
        .collect();
    let plane = |data: Vec<u8>, stride: u32| Plane { data: Bytes::from(data), stride: stride as usize };
    let half = (width.div_ceil(2) * height.div_ceil(2)) as usize;
    let chroma = || plane(vec![128; half], width.div_ceil(2));
    HostPicture::new(
        width,
        height,
        [plane(row.repeat(height as usize), width), chroma(), chroma()],
        Matrix::Bt601,
        false,
    )
    .unwrap()
}

/// A car that parks for a minute; what each look shows of it.
fn told(width: u32, looks: impl Fn(i64) -> (u32, Vec<Detection>)) -> Vec<(i64, Event)> {
    let kind = RuleKind::Dwell(Dwell {
        classes: classes(&["car"]),
        at_least: secs(10),
        drift: 0.25,
        per: Per::Thing,
    });
    let mut scene = Scene::new(&camera(vec![zone("street", vec![rule("illegal_parking", kind)])]));
    let mut told = Vec::new();
    for second in (0..60).step_by(2) {
        let (blur, list) = looks(second);
        let look = look(second, list);
        let mut events = scene.look(&look, None);
        if scene.wants_near() {
            events.extend(scene.near(&look, &picture(width, blur)));
        }
        told.extend(events.into_iter().map(|event| (second, event)));
    }
    told
}

fn car() -> Detection {
    thing("car", 0.8, CAR)
}

#[test]
fn where_the_first_picture_shows_it_well_nothing_more_is_sent() {
    let events = told(640, |_| (0, vec![car()]));
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((events[0].1.phase, events[0].1.near), (Phase::Began, None));
}

#[test]
fn a_part_of_a_large_picture_is_sent_at_once_since_the_whole_is_scaled_down() {
    let events = told(2_560, |_| (0, vec![car()]));
    let [(_, began), (second, near)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*second, near.phase, near.sequence, near.id), (10, Phase::Updated, 1, began.id));
    let part = near.near.unwrap();
    assert!(part.intersection(&car().bbox) >= car().bbox.area() * 0.999 && part.area() < 0.25, "{part:?}");
}

#[test]
fn what_was_covered_is_shown_when_it_is_free_and_a_sharper_look_later_again() {
    // Somebody stands before it as the rule begins to hold; then it is foggy, then clear.
    let events = told(640, |second| {
        let mut list = vec![car()];
        if second < 20 {
            list.push(thing("person", 0.9, [0.4, 0.4, 0.08, 0.4]));
        }
        (if second < 40 { 6 } else { 0 }, list)
    });
    let near: Vec<_> =
        events.iter().filter(|(_, event)| event.near.is_some()).map(|(second, _)| *second).collect();
    assert_eq!(near, [20, 40]);
    let numbers: Vec<_> = events.iter().map(|(_, event)| event.sequence).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn however_good_it_gets_it_is_not_sent_for_ever() {
    let events = told(640, |second| (60 - second as u32, vec![car()]));
    let near = events.iter().filter(|(_, event)| event.near.is_some()).count();
    assert!((1..=3).contains(&near), "{near}");
    // Cut off by the picture's edge: never whole.
    let cut = told(640, |_| (0, vec![thing("car", 0.8, [0.0, 0.3, 0.3, 0.3])]));
    assert_eq!(cut.len(), 1);
}
