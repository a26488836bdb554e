//! The rendered street: what it says is in a picture must be what was drawn.

use flow::{Codec, NormPoint};
use sim::street::{
    Class, Conditions, Kind, Layout, Light, Picture, Pose, SHIPPED, Studio, Thing, Timeline, TimelineError,
    TruthBox, Weather, dataset, film, populate, truth_boxes,
};

const SIZE: (u32, u32) = (640, 360);

/// The box around all pixels that differ between two pictures.
fn changed(a: &Picture, b: &Picture) -> Option<[u32; 4]> {
    let mut out: Option<[u32; 4]> = None;
    for (i, (p, q)) in a.rgb.chunks_exact(3).zip(b.rgb.chunks_exact(3)).enumerate() {
        if p.iter().zip(q).any(|(x, y)| x.abs_diff(*y) > 12) {
            let (x, y) = (i as u32 % a.width, i as u32 / a.width);
            let b = out.unwrap_or([x, y, x, y]);
            out = Some([b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)]);
        }
    }
    out
}

fn iou(a: [u32; 4], b: [u32; 4]) -> f32 {
    let area = |b: [u32; 4]| (b[2] - b[0]) as f32 * (b[3] - b[1]) as f32;
    let (w, h) =
        (a[2].min(b[2]).saturating_sub(a[0].max(b[0])), a[3].min(b[3]).saturating_sub(a[1].max(b[1])));
    let shared = w as f32 * h as f32;
    shared / (area(a) + area(b) - shared)
}

#[test]
fn a_box_is_the_box_of_the_pixels_that_a_thing_changes() {
    let mut sums = [(0.0, 0); 7];
    for street in 0..4 {
        let layout = Layout::from_seed(street, SIZE.0, SIZE.1);
        // No noise, no blur and no shadow: nothing else changes.
        let plain = Conditions::plain(Light::Day, Weather::Clear, 0.0);
        let mut studio = Studio::new(layout.clone(), Conditions { shadow: 0.0, blur: 0.0, ..plain }).unwrap();
        let empty = studio.take(&[], 0);
        assert!(empty.seen.is_empty());
        let kinds = [
            Kind::Person(Pose::Walk(1.0), false),
            Kind::Person(Pose::Sit, false),
            Kind::Car(false),
            Kind::Tricycle,
            Kind::Parasol,
            Kind::Umbrella,
            Kind::Goods,
            Kind::Heap,
            Kind::Barrier,
            Kind::Boxes,
        ];
        for (i, kind) in kinds.into_iter().enumerate() {
            for seed in 0..5 {
                let at = layout.middle(sim::street::Place::ALL[(seed as usize + i) % 6]);
                let lift = if matches!(kind, Kind::Parasol | Kind::Umbrella) { 1.9 } else { 0.0 };
                let thing = Thing::new(kind, at.u, at.s, seed as f32 * 1.1, seed).lifted(lift);
                let picture = studio.take(&[thing], 0);
                let [seen] = picture.seen.as_slice() else { panic!("{thing:?}: {:?}", picture.seen) };
                let drawn = changed(&empty, &picture).unwrap();
                let overlap = iou(seen.bbox, drawn);
                assert!(overlap > 0.8, "{thing:?}: says {:?}, drew {drawn:?}", seen.bbox);
                let sum = &mut sums[seen.class as usize];
                *sum = (sum.0 + overlap, sum.1 + 1);
            }
        }
    }
    for (class, (sum, count)) in Class::ALL.into_iter().zip(sums) {
        assert!(sum / count as f32 > 0.9, "{}: mean IoU {}", class.name(), sum / count as f32);
    }
}

#[test]
fn a_thing_behind_another_is_reported_as_far_as_it_is_visible() {
    let layout = Layout::from_seed(2, SIZE.0, SIZE.1);
    let mut studio = Studio::new(layout.clone(), Conditions::plain(Light::Day, Weather::Clear, 2.0)).unwrap();
    let at = layout.middle(sim::street::Place::LaneNear);
    let eye = layout.view.eye();
    // On the line of sight, 1.6 m further away: hidden behind the car.
    let length = (at.u - eye.u).hypot(at.s - eye.s);
    let (u, s) = (at.u + 1.6 * (at.u - eye.u) / length, at.s + 1.6 * (at.s - eye.s) / length);
    let person = Thing::new(Kind::Person(Pose::Stand, false), u, s, 0.0, 5);
    let car = Thing::new(Kind::Car(false), at.u, at.s, 1.5, 6);
    let alone = studio.take(&[person], 0).seen[0];
    let both = studio.take(&[person, car], 0);
    let hidden = both.seen.iter().find(|s| s.class == Class::Person);
    assert_eq!(alone.visible, 1.0);
    let visible = hidden.map_or(0.0, |s| s.visible);
    assert!(visible < 0.75, "{visible}");
    assert_eq!(both.seen.iter().find(|s| s.class == Class::Car).unwrap().visible, 1.0);
}

#[test]
fn the_same_seed_gives_the_same_files_and_all_labels_lie_in_their_pictures() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&a, &b] {
        dataset::export(dir.path(), dataset::Labels::Things, 10, 3, SIZE, &|_| {}).unwrap();
    }
    for name in ["labels.json", "images/000001.jpg", "images/000010.jpg"] {
        let read = |d: &tempfile::TempDir| std::fs::read(d.path().join(name)).unwrap();
        assert_eq!(read(&a), read(&b), "{name}");
    }
    let text = std::fs::read_to_string(a.path().join("labels.json")).unwrap();
    let labels: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(labels["images"].as_array().unwrap().len(), 10);
    assert_eq!(labels["categories"][2]["name"], "tricycle");
    let annotations = labels["annotations"].as_array().unwrap();
    assert!(annotations.len() > 10, "{}", annotations.len());
    for annotation in annotations {
        let b: Vec<u64> =
            annotation["bbox"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
        assert!(b[2] >= 4 && b[3] >= 4 && b[0] + b[2] <= 640 && b[1] + b[3] <= 360, "{b:?}");
    }
}

#[test]
fn subjects_are_of_every_kind_and_each_has_its_crop_to_itself() {
    use sim::street::subjects::{self, Subject};
    let scenes = subjects::samples(60, 4, SIZE).unwrap();
    let mut counts = [0; Subject::ALL.len()];
    for scene in &scenes {
        for placed in &scene.placed {
            let [x0, y0, x1, y1] = placed.bbox;
            assert!(x0 < x1 && y0 < y1 && x1 <= SIZE.0 && y1 <= SIZE.1, "{placed:?}");
            counts[placed.subject as usize] += 1;
            // Of two kinds in one place nobody could say what it is.
            let inside = |other: &&subjects::Placed| {
                let [u0, v0, u1, v1] = other.bbox;
                u0 >= x0 && v0 >= y0 && u1 <= x1 && v1 <= y1
            };
            let mut others = scene.placed.iter().filter(|other| other.subject != placed.subject);
            let large = |other: &subjects::Placed| {
                let [u0, v0, u1, v1] = other.bbox;
                2 * (u1 - u0) * (v1 - v0) > (x1 - x0) * (y1 - y0) && other.subject != Subject::Nothing
            };
            assert!(!others.any(|other| inside(&other) && large(other)), "{placed:?} in {:?}", scene.placed);
        }
    }
    assert!(counts.iter().all(|n| *n >= 15), "{counts:?}");
    assert_eq!(scenes[7].placed, subjects::samples(8, 4, SIZE).unwrap()[7].placed);
    let dir = tempfile::tempdir().unwrap();
    dataset::export(dir.path(), dataset::Labels::Subjects, 6, 4, SIZE, &|_| {}).unwrap();
    let labels: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("labels.json")).unwrap()).unwrap();
    let names: Vec<_> = labels["categories"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, Subject::ALL.map(Subject::name));
    let written = labels["annotations"].as_array().unwrap().len();
    assert_eq!(written, scenes[..6].iter().map(|scene| scene.placed.len()).sum::<usize>());
}

#[test]
fn random_streets_hold_every_class_and_sometimes_nothing() {
    let mut counts = [0; 7];
    let mut empty = 0;
    for street in 0..60 {
        let mut rng = fastrand::Rng::with_seed(street);
        let layout = Layout::from_seed(street, 320, 180);
        let conditions = Conditions::random(&mut rng);
        let mut studio = Studio::new(layout.clone(), conditions).unwrap();
        let picture = studio.take(&populate(&layout, &conditions, &mut rng), street);
        let labels = dataset::labels(&picture);
        empty += i32::from(labels.is_empty());
        labels.iter().for_each(|seen| counts[seen.class as usize] += 1);
    }
    assert!(counts.iter().all(|n| *n >= 5), "{counts:?}");
    assert!((1..20).contains(&empty), "{empty}");
}

fn classes_of(situation: &str) -> &'static [Class] {
    match situation {
        "illegal_parking" => &[Class::Car],
        "street_vending" => &[Class::Tricycle, Class::Goods],
        _ => &[Class::Barrier, Class::Boxes],
    }
}

fn overlap(a: &TruthBox, b: &TruthBox) -> f32 {
    let area = |b: [f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let (p, q) = (a.bbox, b.bbox);
    let shared = (p[2].min(q[2]) - p[0].max(q[0])).max(0.0) * (p[3].min(q[3]) - p[1].max(q[1])).max(0.0);
    shared / (area(p) + area(q) - shared)
}

#[test]
fn situations_are_where_and_when_things_stand_in_their_zones() {
    for (name, text) in SHIPPED {
        // One picture every two seconds, as a camera that is looked at by its key pictures.
        let text = text.replace("fps: 8", "fps: 1");
        let timeline = Timeline::parse(name, &text).unwrap();
        let mut pictures: Vec<(f32, Vec<TruthBox>)> = Vec::new();
        let take = |number: u32, picture: Picture| -> Result<(), sim::street::SizeError> {
            if number.is_multiple_of(2) {
                pictures.push((number as f32, truth_boxes(&picture, number as f32)));
            }
            Ok(())
        };
        timeline.render(take).unwrap();
        let situations = timeline.situations();
        assert_eq!(situations.len(), usize::from(name != "quiet-day"), "{name}");
        for zone in timeline.zones() {
            let kind = zone.situation.as_ref().unwrap().as_str();
            let inside = |b: &&TruthBox| {
                let foot = NormPoint { x: (b.bbox[0] + b.bbox[2]) / 2.0, y: b.bbox[3] - 1e-4 };
                classes_of(kind).contains(&b.class) && zone.polygon.contains(foot)
            };
            let true_one = situations.iter().find(|s| s.zone == zone.id);
            for pair in pictures.windows(3) {
                let t = pair[1].0;
                // The same thing at the same place in three looks: it stands.
                let stands = pair[1].1.iter().filter(inside).any(|b| {
                    [&pair[0].1, &pair[2].1]
                        .iter()
                        .all(|list| list.iter().any(|o| o.class == b.class && overlap(o, b) > 0.6))
                });
                match true_one {
                    Some(s) if t > s.from + 4.0 && t < s.to - 4.0 => {
                        assert!(stands, "{name}: nothing stands in {} at {t}", zone.id);
                    }
                    Some(s) if t > s.from - 4.0 && t < s.to + 4.0 => {}
                    _ => assert!(!stands, "{name}: something stands in {} at {t}", zone.id),
                }
            }
        }
        for s in &situations {
            assert!(
                (10.0..=16.0).contains(&s.from) && s.to <= timeline.seconds - 12.0 && s.to - s.from > 40.0
            );
        }
    }
}

const SHORT: &str = "
title: Short
seconds: 24
fps: 4
size: [322, 180]
key_every: 2
street: 5
seed: 1
light: day
weather: rain
noise: 2
traffic: {pedestrians: 4}
zones: [{id: lane, situation: road_obstructed, at: lane_near, along: 8, wide: 4}]
script: [{obstruct: {at: lane_near, from: 8, to: 16}}]
";

#[test]
fn a_clip_has_a_key_picture_every_two_seconds_and_is_the_same_each_time() {
    let timeline = Timeline::parse("short", SHORT).unwrap();
    for codec in [Codec::H264, Codec::H265] {
        let a = film(&timeline, codec, &mut |_, _| {}).unwrap();
        assert_eq!((a.clip.width, a.clip.height, a.clip.units.len()), (322, 180, 96));
        assert_eq!(a.clip.duration.as_secs(), 24);
        for (i, unit) in a.clip.units.iter().enumerate() {
            assert_eq!(unit.key, i % 8 == 0, "{codec} picture {i}");
            assert_eq!(unit.pts.as_millis(), i as u128 * 250);
        }
        // Parameter sets in front of every key picture: after the start code, maybe an access unit delimiter.
        let parameter_set = |nal: u8| match codec {
            Codec::H264 => nal & 31 == 7,
            Codec::H265 => (nal >> 1) & 63 == 33,
            Codec::Mjpeg => false,
        };
        for unit in a.clip.units.iter().filter(|u| u.key) {
            let found = unit.data.windows(4).any(|w| w[..3] == [0, 0, 1] && parameter_set(w[3]));
            assert!(found, "{codec}: no parameter set");
        }
        assert_eq!(a.truth.situations.len(), 1);
        if codec == Codec::H264 {
            let b = film(&timeline, codec, &mut |_, _| {}).unwrap();
            assert!(a.clip.units.iter().zip(&b.clip.units).all(|(p, q)| p.data == q.data));
            assert_eq!(a.truth, b.truth);
        }
    }
}

#[test]
fn ground_truth_is_written_as_json() {
    let timeline = Timeline::parse("short", SHORT).unwrap();
    let film = film(&timeline, Codec::H264, &mut |_, _| {}).unwrap();
    let dir = tempfile::tempdir().unwrap();
    film.truth.write(&dir.path().join("short")).unwrap();
    let lines = std::fs::read_to_string(dir.path().join("short.boxes.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(first["box"].as_array().unwrap().iter().all(|v| (0.0..=1.0).contains(&v.as_f64().unwrap())));
    assert!(lines.contains("\"class\":\"barrier\""));
    let text = std::fs::read_to_string(dir.path().join("short.situations.json")).unwrap();
    let situations: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(situations[0]["situation"], "road_obstructed");
    assert_eq!((situations[0]["from"].as_f64(), situations[0]["to"].as_f64()), (Some(8.0), Some(16.0)));
}

#[test]
fn mistakes_in_a_timeline_are_located_and_said_all_at_once() {
    let wrong = |from: &str, to: &str| Timeline::parse("x.yaml", &SHORT.replace(from, to)).unwrap_err();
    let text = wrong("noise: 2", "nose: 2").to_string();
    assert!(matches!(wrong("noise: 2", "nose: 2"), TimelineError::Yaml { .. }));
    assert!(text.contains("x.yaml") && text.contains("nose") && text.contains("line 11"), "{text}");
    let text = wrong("weather: rain", "weather: hail").to_string();
    assert!(text.contains("hail") && text.contains("rain"), "{text}");
    let text = wrong("obstruct:", "sing:").to_string();
    assert!(text.contains("sing") && text.contains("obstruct"), "{text}");

    let bad = SHORT
        .replace("fps: 4", "fps: 0")
        .replace("[322, 180]", "[321, 20]")
        .replace("from: 8, to: 16", "from: 16, to: 9")
        .replace("along: 8", "along: .nan");
    let error = Timeline::parse("x.yaml", &bad).unwrap_err();
    let TimelineError::Values(lines) = &error else { panic!("{error}") };
    assert_eq!(lines.len(), 4, "{error}");
    for part in
        ["fps: 0; expected 1 to 30", "size: [321, 20]", "script[0].obstruct: from: 16", "zones[0].along"]
    {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    assert!(Timeline::open("nowhere").unwrap_err().to_string().contains("vending-day"));
    assert!(matches!(Timeline::open("absent.yaml"), Err(TimelineError::Read { .. })));
}
