//! What the tests of this crate share: cards for the test models, pictures, frames.
#![allow(dead_code)] // Each of them uses a part.
#![allow(clippy::unwrap_used, clippy::disallowed_macros)] // Helpers stand outside of the tests.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fleet::{Channels, Filter, Head, Layout, ModelCard, Range, Resize, Thresholds};
use flow::{CameraId, ClassName, Frame, FrameId, HostPicture, Matrix, ModelId, Plane, SessionId};
use infer::Runtime;
use sha2::{Digest, Sha256};

/// ONNX Runtime as `cargo xtask setup` puts it.
pub fn runtime() -> Runtime {
    Runtime::load(None).unwrap_or_else(|error| panic!("{error}"))
}

pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// The folder of real material, or `None` after saying that the test is skipped.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not here", path.display());
    None
}

pub fn sha256(path: &Path) -> String {
    Sha256::digest(std::fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect()
}

fn card(id: &str, file: PathBuf, side: u32, classes: &[&str], batch: Option<usize>) -> ModelCard {
    ModelCard {
        id: ModelId::new(id).unwrap(),
        version: "1".into(),
        licence: "Apache-2.0".into(),
        source: "test".into(),
        card_path: file.with_file_name("card.yaml"),
        sha256: sha256(&file),
        file,
        url: None,
        width: side,
        height: side,
        input_name: None,
        layout: Layout::Nchw,
        channels: Channels::Bgr,
        range: Range { mean: [0.0; 3], deviation: [1.0; 3] },
        resize: Resize::LetterboxTopLeft { pad: 114 },
        filter: Filter::Smooth,
        extra: Vec::new(),
        head: Head::Yolox,
        output: fleet::Output::of(Head::Yolox),
        classes: classes.iter().map(|name| ClassName::new(name)).collect(),
        thresholds: Thresholds { score: 0.35, nms_iou: 0.65 },
        batch,
        notes: String::new(),
    }
}

/// `testdata/bright.onnx`: bright cells are objects, red or blue; any number of pictures at once.
pub fn bright() -> ModelCard {
    card("bright", testdata("bright.onnx"), 64, &["red", "blue"], None)
}

/// `testdata/moody.onnx`: the same, one picture at a time, and a sample above 250 makes the run fail.
pub fn moody() -> ModelCard {
    card("moody", testdata("moody.onnx"), 64, &["red", "blue"], Some(1))
}

/// YOLOX-nano on COCO, from the shared material.
pub fn yolox_nano() -> Option<ModelCard> {
    let file = shared("models/yolox_nano_416.onnx")?;
    let names = std::fs::read_to_string(shared("models/coco80.txt")?).unwrap();
    let names: Vec<_> = names.lines().collect();
    Some(card("yolox-nano", file, 416, &names, Some(1)))
}

/// The detectors of the shared material, with the resize filters and thresholds of their authors' evaluation.
pub fn detectors() -> Option<Vec<ModelCard>> {
    let names = std::fs::read_to_string(shared("models/coco80.txt")?).unwrap();
    let names: Vec<_> = names.lines().collect();
    let model = |name: &str, file: &str, side| {
        let file = shared("models").map(|dir| dir.join(file))?;
        let card = card(name, file, side, &names, Some(1));
        Some(ModelCard { filter: Filter::Linear, ..card })
    };
    let yolox = model("yolox-nano", "yolox_nano_416.onnx", 416)?;
    let picodet = model("picodet-s", "picodet_s_416_coco_cleaned.onnx", 416)?;
    let fastest = model("fastestdet", "FastestDet.onnx", 352)?;
    Some(vec![
        ModelCard { thresholds: Thresholds { score: 0.01, nms_iou: 0.65 }, ..yolox },
        ModelCard {
            channels: Channels::Rgb,
            range: Range { mean: [123.675, 116.28, 103.53], deviation: [58.395, 57.12, 57.375] },
            resize: Resize::Stretch,
            head: Head::Picodet,
            output: fleet::Output::of(Head::Picodet),
            thresholds: Thresholds { score: 0.025, nms_iou: 0.6 },
            ..picodet
        },
        ModelCard {
            range: Range { mean: [0.0; 3], deviation: [255.0; 3] },
            resize: Resize::Stretch,
            head: Head::Fastestdet,
            output: fleet::Output::of(Head::Fastestdet),
            thresholds: Thresholds { score: 0.001, nms_iou: 0.45 },
            ..fastest
        },
    ])
}

/// A picture of the size whose pixels `rgb` gives, as full-range BT.601 4:2:0 like a JPEG file.
pub fn picture(width: u32, height: u32, rgb: impl Fn(u32, u32) -> [u8; 3]) -> HostPicture {
    let ycc = |x: u32, y: u32| {
        let [r, g, b] = rgb(x.min(width - 1), y.min(height - 1)).map(f32::from);
        let luma = 0.299 * r + 0.587 * g + 0.114 * b;
        [luma, 128.0 + (b - luma) / 1.772, 128.0 + (r - luma) / 1.402]
    };
    let luma = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let luma = Bytes::from_iter(luma.map(|(x, y)| ycc(x, y)[0].round() as u8));
    let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
    let chroma = |i: usize| {
        let cells = (0..ch).flat_map(|y| (0..cw).map(move |x| (2 * x, 2 * y)));
        let mean = |(x, y): (u32, u32)| {
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| ycc(x + dx, y + dy)[i]).iter().sum::<f32>() / 4.0
        };
        Plane { data: Bytes::from_iter(cells.map(|at| mean(at).round() as u8)), stride: cw as usize }
    };
    let planes = [Plane { data: luma, stride: width as usize }, chroma(1), chroma(2)];
    HostPicture::new(width, height, planes, Matrix::Bt601, true).unwrap()
}

/// A picture file.
pub fn open(path: &Path) -> HostPicture {
    let image = image::open(path).unwrap().to_rgb8();
    picture(image.width(), image.height(), |x, y| image.get_pixel(x, y).0)
}

/// A grey 64 x 64 picture with a square of 16 x 16 at the place given.
pub fn square(rgb: [u8; 3], left: u32, top: u32) -> HostPicture {
    let inside = move |x, y| (left..left + 16).contains(&x) && (top..top + 16).contains(&y);
    picture(64, 64, move |x, y| if inside(x, y) { rgb } else { [20; 3] })
}

pub fn frame(camera: &str, sequence: u64, picture: HostPicture) -> Frame {
    let id = FrameId { camera: CameraId::new(camera).unwrap(), session: SessionId::next(), sequence };
    Frame::host(id, jiff::Timestamp::UNIX_EPOCH, picture)
}
