use std::collections::BTreeMap;

use bytes::Bytes;
use flow::{Basis, ClassName, FrameId, Matrix, ModelId, Score, SessionId, Timestamp};

use super::*;

const INPUT: (u32, u32) = (416, 256);

fn tiles(size: Option<u32>, overlap: f32) -> Tiles {
    Tiles { size, overlap, smallest: BTreeMap::new() }
}

/// A picture whose luma is 0 but for bright boxes: left, top, right, bottom.
fn frame(width: u32, height: u32, things: &[[u32; 4]]) -> Frame {
    let mut luma = vec![0_u8; (width * height) as usize];
    for (value, [x0, y0, x1, y1]) in (1..).zip(things) {
        for y in *y0..*y1 {
            luma[(y * width + x0) as usize..(y * width + x1) as usize].fill(value);
        }
    }
    let chroma = || {
        let (w, h) = (width.div_ceil(2), height.div_ceil(2));
        Plane { data: Bytes::from(vec![128; (w * h) as usize]), stride: w as usize }
    };
    let planes = [Plane { data: luma.into(), stride: width as usize }, chroma(), chroma()];
    let picture = HostPicture::new(width, height, planes, Matrix::Bt709, false).unwrap();
    let id = FrameId { camera: CameraId::new("eye").unwrap(), session: SessionId::next(), sequence: 0 };
    Frame::host(id, Timestamp::UNIX_EPOCH, picture)
}

/// Sees every thing of a picture of which enough pixels are left at the model's size.
struct Perfect {
    least_side: f32,
    looks: usize,
    largest_batch: usize,
}

impl Runner for Perfect {
    fn look(&mut self, frames: &[&Frame]) -> Result<Vec<Detections>, LookError> {
        self.looks += frames.len();
        self.largest_batch = self.largest_batch.max(frames.len());
        let look = |frame: &&Frame| {
            let picture = frame.pixels.on_host().unwrap();
            let mut boxes: BTreeMap<u8, [f32; 4]> = BTreeMap::new();
            for y in 0..picture.height() as usize {
                for x in 0..picture.width() as usize {
                    let value = picture.planes()[0].data[y * picture.planes()[0].stride + x];
                    if value > 0 {
                        let (x, y) = (x as f32, y as f32);
                        let b = boxes.entry(value).or_insert([x, y, x + 1.0, y + 1.0]);
                        *b = [b[0].min(x), b[1].min(y), b[2].max(x + 1.0), b[3].max(y + 1.0)];
                    }
                }
            }
            let (w, h) = (picture.width() as f32, picture.height() as f32);
            let scale = (INPUT.0 as f32 / w).min(INPUT.1 as f32 / h);
            let seen = boxes.values().filter(|b| (b[2] - b[0]).min(b[3] - b[1]) * scale >= self.least_side);
            let list = seen.map(|b| Detection {
                class: ClassName::new("thing"),
                score: Score::new(0.8).unwrap(),
                bbox: NormBox::new(b[0] / w, b[1] / h, b[2] / w, b[3] / h).unwrap(),
            });
            Detections {
                frame: frame.id.clone(),
                captured: frame.captured,
                model: ModelId::new("m").unwrap(),
                weights: "".into(),
                basis: Basis::Inferred,
                list: list.collect(),
            }
        };
        Ok(frames.iter().map(look).collect())
    }

    fn take_work(&mut self) -> Work {
        Work::default()
    }
}

fn look(frame: &Frame, tiles: Tiles) -> (Vec<[u32; 4]>, Perfect) {
    let inner = Perfect { least_side: 8.0, looks: 0, largest_batch: 0 };
    let tiles = Arc::new(tiles);
    let mut tiled = Tiled::new(inner, INPUT, 0.5, 8, Arc::new(move |_| Some(tiles.clone())));
    let looks = tiled.look(&[frame]).unwrap();
    assert_eq!(looks.len(), 1);
    let picture = frame.pixels.on_host().unwrap();
    let (w, h) = (picture.width() as f32, picture.height() as f32);
    let pixels = |d: &Detection| {
        let b = &d.bbox;
        [b.x0() * w, b.y0() * h, b.x1() * w, b.y1() * h].map(|v| v.round() as u32)
    };
    let mut found: Vec<_> = looks[0].list.iter().map(pixels).collect();
    found.sort_unstable();
    (found, tiled.inner)
}

#[test]
fn tiles_cover_the_picture_and_overlap() {
    for size in [(3840, 2160), (1920, 1080), (1001, 777), (417, 257), (5000, 300)] {
        for (tile, overlap) in [(None, 0.25), (Some(960), 0.2), (Some(600), 0.0), (None, 0.5)] {
            let regions = cut(size, &tiles(tile, overlap), INPUT);
            let covered = |x: u32, y: u32| {
                regions.iter().any(|r| {
                    (r.left..r.left + r.width).contains(&x) && (r.top..r.top + r.height).contains(&y)
                })
            };
            assert!(regions.iter().all(|r| r.left % 2 == 0 && r.top % 2 == 0));
            assert!(regions.iter().all(|r| r.left + r.width <= size.0 && r.top + r.height <= size.1));
            for y in (0..size.1).step_by(7).chain([size.1 - 1]) {
                for x in (0..size.0).step_by(11).chain([size.0 - 1]) {
                    assert!(regions.is_empty() || covered(x, y), "{size:?} {tile:?} {overlap}: {x}, {y}");
                }
            }
        }
    }
    // Neighbours share at least the overlap.
    let lefts = starts(3840, 416, 0.25);
    assert!(lefts.windows(2).all(|pair| pair[1] - pair[0] <= 312), "{lefts:?}");
    assert_eq!(cut((416, 256), &tiles(None, 0.25), INPUT), []);
    assert_eq!(cut((400, 200), &tiles(Some(960), 0.25), INPUT), []);
}

#[test]
fn a_thing_on_a_seam_is_found_once() {
    // Tiles of 416 x 256 in a picture of 1664 x 1024 begin at multiples of about 312 and 192. Things of 40 x 30 on a
    // grid that shares no factor with that lie in every position to the seams.
    let things: Vec<[u32; 4]> = (0..12)
        .flat_map(|row| (0..15).map(move |column| (column * 107 + 3, row * 83 + 5)))
        .map(|(x, y)| [x, y, x + 40, y + 30])
        .collect();
    let frame = frame(1664, 1024, &things);
    let (found, inner) = look(&frame, tiles(None, 0.25));
    let mut wanted = things.clone();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    assert!(inner.looks > 25 && inner.largest_batch <= 8, "{} looks", inner.looks);
    // At a quarter of their size the model misses all of them in the whole picture.
    let mut whole = Perfect { least_side: 8.0, looks: 0, largest_batch: 0 };
    assert!(whole.look(&[&frame]).unwrap()[0].list.is_empty());
}

#[test]
fn a_thing_larger_than_a_tile_is_one_thing() {
    // Seen in the whole picture.
    let large = [300, 200, 1300, 800];
    assert_eq!(look(&frame(1664, 1024, &[large]), tiles(None, 0.25)).0, [large]);
    // Not seen there, since it is too low, and longer than a tile: its pieces are joined.
    let long = [200, 400, 1250, 424];
    let (found, _) = look(&frame(1664, 1024, &[long]), tiles(None, 0.25));
    assert_eq!(found, [long]);
    let upright = [400, 100, 430, 900];
    assert_eq!(look(&frame(1664, 1024, &[upright]), tiles(None, 0.25)).0, [upright]);
}

#[test]
fn things_side_by_side_stay_two_even_at_a_seam() {
    // The first tile ends at 416 and the second begins at 312: both things are whole in one of them.
    let pair = [[360, 100, 412, 140], [414, 100, 466, 140]];
    assert_eq!(look(&frame(1664, 1024, &pair), tiles(None, 0.25)).0, pair);
}

#[test]
fn what_is_too_small_of_its_class_does_not_count() {
    let things = [[100, 100, 140, 112], [600, 500, 640, 540]];
    let smallest = BTreeMap::from([(ClassName::new("thing"), 20.0)]);
    let found = look(&frame(1664, 1024, &things), Tiles { smallest, ..tiles(None, 0.25) }).0;
    assert_eq!(found, things[1..]);
    let other = BTreeMap::from([(ClassName::new("other"), 20.0)]);
    assert_eq!(look(&frame(1664, 1024, &things), Tiles { smallest: other, ..tiles(None, 0.25) }).0, things);
}

#[test]
fn odd_sizes_are_cut_without_a_remainder() {
    let thing = [960, 730, 1001, 777];
    assert_eq!(look(&frame(1001, 777, &[thing]), tiles(Some(300), 0.25)).0, [thing]);
}

#[test]
fn only_the_cameras_that_ask_are_cut() {
    let inner = Perfect { least_side: 8.0, looks: 0, largest_batch: 0 };
    let mut tiled = Tiled::new(inner, INPUT, 0.5, 8, Arc::new(|_| None));
    let frame = frame(1664, 1024, &[[10, 10, 50, 40]]);
    assert!(tiled.look(&[&frame, &frame]).unwrap().iter().all(|look| look.list.is_empty()));
    assert_eq!(tiled.inner.looks, 2);
}
