use std::sync::Arc;

use bytes::Bytes;
use fleet::{Channels, Filter, ModelCard, Range, Resize};
use flow::{
    CameraId, Detection, DeviceMemory, DevicePicture, DownloadError, Frame, FrameId, HostPicture, Matrix,
    Pixels, Plane, SessionId, Timestamp,
};
use ort::session::Session;
use sha2::{Digest, Sha256};

use super::*;
use crate::Model;
use crate::preprocess::Preprocessor;
use crate::testing::card;

/// An NV12 picture as a decoder leaves it, but in main memory.
#[derive(Debug)]
struct Nv12Memory {
    luma: Vec<u8>,
    chroma: Vec<u8>,
    height: u32,
    width: u32,
    strides: [usize; 2],
}

impl DeviceMemory for Nv12Memory {
    fn addresses(&self) -> [u64; 2] {
        [self.luma.as_ptr() as u64, self.chroma.as_ptr() as u64]
    }

    fn download(&self) -> Result<HostPicture, DownloadError> {
        let (w, h) = (self.width.div_ceil(2) as usize, self.height.div_ceil(2) as usize);
        let part = |first: usize| {
            let rows = (0..h).map(|row| &self.chroma[row * self.strides[1]..][..2 * w]);
            let data: Vec<u8> = rows.flat_map(|row| row.iter().skip(first).step_by(2).copied()).collect();
            Plane { data: Bytes::from(data), stride: w }
        };
        let luma = Plane { data: Bytes::from(self.luma.clone()), stride: self.strides[0] };
        Ok(HostPicture::new(self.width, self.height, [luma, part(0), part(1)], Matrix::Bt709, false)?)
    }
}

/// Smooth shapes with noise; what lies between the rows is garbage.
fn picture(seed: u64, width: u32, height: u32, spare: usize) -> DevicePicture {
    let mut random = fastrand::Rng::with_seed(seed);
    let (rows, half_rows) = (height as usize, height.div_ceil(2) as usize);
    let strides = [width as usize + spare, 2 * width.div_ceil(2) as usize + spare];
    let mut plane = |stride: usize, rows: usize| -> Vec<u8> {
        (0..stride * rows)
            .map(|at| {
                let (x, y) = ((at % stride) as f32, (at / stride) as f32);
                let wave = (x / 17.0 + seed as f32).sin() * (y / 23.0).cos();
                (126.0 + 80.0 * wave) as u8 + random.u8(0..20)
            })
            .collect()
    };
    let (luma, chroma) = (plane(strides[0], rows), plane(strides[1], half_rows));
    let memory = Box::new(Nv12Memory { luma, chroma, width, height, strides });
    DevicePicture { width, height, strides, matrix: Matrix::Bt709, full_range: false, memory }
}

/// A model of one node that hands its input on, so that a test sees what it was given.
fn model(runtime: &Runtime) -> Session {
    let mut graph = ort::editor::Graph::new().unwrap();
    let any = |name: &str| {
        let shape = ort::value::Shape::new([-1, 3, -1, -1]);
        let dimension_symbols = ort::value::SymbolicDimensions::empty(4);
        let ty = ort::value::TensorElementType::Float32;
        ort::value::Outlet::new(name, ort::value::ValueType::Tensor { ty, shape, dimension_symbols })
    };
    graph.set_inputs([any("in")]).unwrap();
    graph.set_outputs([any("out")]).unwrap();
    let domain = ort::editor::ONNX_DOMAIN;
    let node = ort::editor::Node::new("Identity", domain, "same", ["in"], ["out"], []).unwrap();
    graph.add_node(node).unwrap();
    let mut model = ort::editor::Model::new([ort::editor::Opset::new(domain, 17).unwrap()]).unwrap();
    model.set_graph(graph).unwrap();
    model.into_session(&Session::builder(runtime.environment()).unwrap()).unwrap()
}

/// The largest difference between what the graph and what the processor's own loops make of a picture, in 255ths of the
/// model's range.
fn difference(card: &ModelCard, pictures: &[DevicePicture]) -> f32 {
    let runtime = Runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
    let card = Arc::new(card.clone());
    let mut session = model(&runtime);
    let mut device = DeviceInput::new(&runtime, &card, &session, Memory::Host, Places::Any).unwrap().unwrap();
    let mut host = Preprocessor::new(&card);
    for (slot, picture) in pictures.iter().enumerate() {
        let there = device.put(pictures.len(), slot, picture).unwrap();
        let here = host.put(slot, &picture.memory.download().unwrap());
        assert_eq!(there, here);
    }
    let tensor = device.tensor(pictures.len()).unwrap();
    let mut binding = session.create_binding().unwrap();
    binding.bind_input("in", tensor).unwrap();
    binding.bind_output_to_device("out", &MemoryInfo::default()).unwrap();
    let outputs = session.run_binding(&binding).unwrap();
    let (shape, values) = outputs["out"].try_extract_tensor::<f32>().unwrap();
    assert_eq!(shape[0], pictures.len() as i64);
    let wanted = host.tensor(pictures.len());
    assert_eq!(values.len(), wanted.len());
    let step = card.range.deviation.iter().fold(f32::MAX, |a, b| a.min(*b));
    let worst = values.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    worst * step
}

#[test]
fn the_graph_makes_what_the_loops_make() {
    let base = card(96, 64, 2);
    let imagenet = Range { mean: [123.7, 116.3, 103.5], deviation: [58.4, 57.1, 57.4] };
    let cards = [
        base.clone(),
        ModelCard { channels: Channels::Rgb, range: imagenet, ..base.clone() },
        ModelCard { resize: Resize::LetterboxCentre { pad: 0 }, filter: Filter::Linear, ..base.clone() },
        ModelCard { resize: Resize::Stretch, ..base },
    ];
    for card in &cards {
        for (width, height) in [(96, 64), (704, 576), (641, 361), (33, 190), (1920, 1080)] {
            let pictures = [picture(1, width, height, 0), picture(2, width, height, 64)];
            // The loops round to 8 bits twice on the way, and the factors of Cb and Cr are up to 2.1.
            let worst = difference(card, &pictures);
            assert!(worst < 4.0, "{width}x{height} {:?} {:?}: {worst} of 255", card.resize, card.filter);
        }
    }
}

#[test]
fn pictures_of_many_sizes_take_turns() {
    let card = Arc::new(card(64, 64, 1));
    let runtime = Runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
    let session = model(&runtime);
    let mut device = DeviceInput::new(&runtime, &card, &session, Memory::Host, Places::Any).unwrap().unwrap();
    for size in (0..GRAPHS as u32 + 4).chain(0..3) {
        device.put(1, 0, &picture(3, 64 + 2 * size, 48, 0)).unwrap();
        assert!(device.graphs.len() <= GRAPHS);
        assert_eq!(device.graphs.last().unwrap().nv12.size.0, 64 + 2 * size);
    }
}

#[test]
fn a_model_that_takes_pixels_instead_of_planes_takes_them_in_main_memory() {
    let runtime = Runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
    let session = model(&runtime);
    let card = Arc::new(ModelCard { layout: Layout::Nhwc, ..card(64, 64, 1) });
    assert!(DeviceInput::new(&runtime, &card, &session, Memory::Host, Places::Any).unwrap().is_none());
    assert_eq!(Memory::of(&[Provider::Cpu, Provider::OpenVino]), None);
    assert_eq!(Memory::of(&[Provider::TensorRt, Provider::Cuda]), Some(Memory::Cuda));
}

/// A bright square on grey, for the test model that finds such.
fn square(left: usize, top: usize) -> DevicePicture {
    let inside = |x: usize, y: usize| (left..left + 16).contains(&x) && (top..top + 16).contains(&y);
    let luma = (0..64 * 64).map(|at| if inside(at % 64, at / 64) { 120 } else { 40 }).collect();
    // Red: much Cr, little Cb.
    let chroma = (0..32 * 64).map(|at| match (inside((at % 64) & !1, at / 64 * 2), at % 2) {
        (false, _) => 128,
        (true, 0) => 90,
        (true, _) => 230,
    });
    let memory = Nv12Memory { luma, chroma: chroma.collect(), width: 64, height: 64, strides: [64, 64] };
    let matrix = Matrix::Bt709;
    DevicePicture {
        width: 64,
        height: 64,
        strides: [64, 64],
        matrix,
        full_range: false,
        memory: Box::new(memory),
    }
}

/// The test model's card.
fn bright() -> Arc<ModelCard> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bright.onnx");
    let content = std::fs::read(&file).unwrap();
    let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    Arc::new(ModelCard { file, sha256, ..card(64, 64, 2) })
}

fn frame(number: usize, (left, top): (usize, usize), on_device: bool) -> Frame {
    let id =
        FrameId { camera: CameraId::new("a").unwrap(), session: SessionId::next(), sequence: number as u64 };
    let picture = square(left, top);
    if on_device {
        return Frame::decoded(id, Timestamp::UNIX_EPOCH, Pixels::Device(picture), &[]).unwrap();
    }
    Frame::host(id, Timestamp::UNIX_EPOCH, picture.memory.download().unwrap())
}

#[test]
fn pictures_of_both_kinds_are_looked_at_in_one_call() {
    let runtime = Runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
    let mut model = Model::open(&runtime, bright()).unwrap();
    let places = [(16, 32), (0, 0), (48, 0), (32, 16)];
    let looked = |model: &mut Model, on_device: [bool; 4]| {
        let frames: Vec<Frame> = (0..4).map(|i| frame(i, places[i], on_device[i])).collect();
        model.look(&frames.iter().collect::<Vec<_>>()).unwrap()
    };
    // Without a place on the accelerator they are copied.
    let wanted = looked(&mut model, [false; 4]);
    let copied = looked(&mut model, [true, false, true, true]);
    assert_eq!(model.work().runs, 2);
    model.prepare_device(&runtime, Places::Any);
    let there = looked(&mut model, [true; 4]);
    let mixed = looked(&mut model, [false, true, false, true]);
    assert_eq!(model.work().runs, 2 + 1 + 2, "each kind has its own run");
    for (i, wanted) in wanted.iter().enumerate() {
        assert!(!wanted.list.is_empty());
        for other in [&copied[i], &there[i], &mixed[i]] {
            assert_eq!(other.frame.sequence, i as u64);
            assert_eq!(other.list.len(), wanted.list.len(), "{wanted:?} {other:?}");
            assert!(
                wanted.list.iter().all(|a| other.list.iter().any(|b| alike(a, b))),
                "{wanted:?} {other:?}"
            );
        }
    }
}

#[test]
fn tensors_with_fixed_places_stay_there_and_hold_what_others_hold() {
    let runtime = Runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
    let mut model = Model::open(&runtime, bright()).unwrap();
    let places = [(16, 32), (0, 0), (48, 0), (32, 16)];
    let looked = |model: &mut Model, pictures: &[(usize, bool)]| {
        let frames: Vec<Frame> = pictures.iter().map(|(i, there)| frame(*i, places[*i], *there)).collect();
        let looks = model.look(&frames.iter().collect::<Vec<_>>()).unwrap();
        looks.into_iter().map(|look| look.list).collect::<Vec<_>>()
    };
    let wanted = looked(&mut model, &[(0, false), (1, false), (2, false), (3, false)]);
    assert!(wanted.iter().all(|list| !list.is_empty()));

    model.prepare_device(&runtime, Places::Fixed);
    let same = |looks: &[Vec<Detection>], of: &[usize]| {
        assert_eq!(looks.len(), of.len());
        for (look, of) in looks.iter().zip(of) {
            let wanted = &wanted[*of];
            assert_eq!(look.len(), wanted.len());
            assert!(wanted.iter().all(|a| look.iter().any(|b| alike(a, b))), "{wanted:?} {look:?}");
        }
    };
    // What is in main memory is copied to the same place.
    same(&looked(&mut model, &[(0, false), (1, false)]), &[0, 1]);
    let two = model.addresses(2);
    assert!(two.len() > 1 && two.iter().all(|address| *address != 0), "{two:?}");
    same(&looked(&mut model, &[(2, true), (3, true)]), &[2, 3]);
    same(&looked(&mut model, &[(1, true), (0, true)]), &[1, 0]);
    same(&looked(&mut model, &[(3, false), (0, false)]), &[3, 0]);
    assert_eq!(model.addresses(2), two, "four runs of two pictures");

    // Another number of pictures is another recording.
    same(&looked(&mut model, &[(3, true)]), &[3]);
    let one = model.addresses(1);
    assert!(one.iter().all(|address| !two.contains(address)), "{one:?} {two:?}");
    same(&looked(&mut model, &[(0, true), (2, true)]), &[0, 2]);
    same(&looked(&mut model, &[(2, false)]), &[2]);
    assert_eq!((model.addresses(1), model.addresses(2)), (one, two));
}

#[test]
fn outputs_whose_shape_a_run_decides_cannot_have_a_place() {
    let runtime = Runtime::load(None).unwrap_or_else(|error| panic!("{error}"));
    let session = model(&runtime);
    let error = fixed_shapes(&session, &[0]).unwrap_err();
    assert_eq!(error, "its output out has the shape ? x 3 x ? x ?, which is known only after a run");
}

fn alike(a: &Detection, b: &Detection) -> bool {
    let off = a.bbox.to_array().into_iter().zip(b.bbox.to_array()).map(|(a, b)| (a - b).abs());
    a.class == b.class && (a.score.get() - b.score.get()).abs() < 0.02 && off.fold(0.0, f32::max) < 0.02
}
