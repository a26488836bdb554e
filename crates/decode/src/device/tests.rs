//! The whole way of a picture that stays where it was decoded, with libavcodec and main memory in the place of the hardware.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use flow::{AccessUnit, CameraId, Codec, Frame, MediaTime, Polygon, Role, SessionId, Timestamp};

use super::*;
use crate::Fault;
use crate::alone::Alone;
use crate::counters::Counters;
use crate::pool::Masks;
use crate::testing::coded_as;
use crate::worker::{Shared, Worker};

/// Its rows are no multiple of what buffers are aligned to.
const SIZE: (u32, u32) = (86, 50);

fn means() -> Means {
    Means { backend: Backend::Software, accelerator: Some(Accelerator::new(Device::MainMemory)) }
}

fn decoded(means: Means) -> Pixels {
    Alone::new(means).decode(Codec::H264, coded_as("smpte", SIZE)).unwrap()
}

fn on_device(pixels: Pixels) -> DevicePicture {
    match pixels {
        Pixels::Device(picture) => picture,
        Pixels::Host(_) => panic!("it came to main memory"),
    }
}

fn on_host(pixels: Pixels) -> HostPicture {
    match pixels {
        Pixels::Host(picture) => picture,
        Pixels::Device(_) => panic!("it is where it was decoded"),
    }
}

/// A plane without what lies between its rows.
fn rows(data: &[u8], stride: usize, columns: usize, rows: usize) -> Vec<u8> {
    data.chunks(stride).take(rows).flat_map(|row| row[..columns].to_vec()).collect()
}

fn planes(picture: &HostPicture) -> [Vec<u8>; 3] {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    [0, 1, 2].map(|plane| {
        let shift = usize::from(plane > 0);
        let plane = &picture.planes()[plane];
        rows(&plane.data, plane.stride, width >> shift, height >> shift)
    })
}

/// What lies at an address, as a GPU would read it.
#[allow(unsafe_code)]
fn at(address: u64, bytes: usize) -> Vec<u8> {
    // SAFETY: the picture says that so much lies there, here in main memory, and the caller holds the picture.
    unsafe { std::slice::from_raw_parts(address as usize as *const u8, bytes) }.to_vec()
}

#[test]
fn the_addresses_of_a_picture_that_stays_are_those_of_its_planes() {
    let wanted = on_host(decoded(Means::default()));
    // Its decoder is gone by now.
    let picture = on_device(decoded(means()));
    assert_eq!((picture.width, picture.height), SIZE);
    assert_eq!((picture.matrix, picture.full_range), (wanted.matrix, wanted.full_range));
    let [y, cb, cr] = planes(&wanted);
    let ([luma, chroma], [stride, chroma_stride]) = (picture.memory.addresses(), picture.strides);
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    assert_eq!(rows(&at(luma, stride * height), stride, width, height), y);
    let pairs: Vec<u8> = cb.iter().zip(&cr).flat_map(|(cb, cr)| [*cb, *cr]).collect();
    assert_eq!(rows(&at(chroma, chroma_stride * height / 2), chroma_stride, width, height / 2), pairs);

    let copy = picture.memory.download().unwrap();
    assert_eq!(planes(&copy), [y, cb, cr], "and a copy of it is the picture");
    assert_eq!(picture.memory.grey().unwrap(), Luma::of(&wanted));
}

#[test]
fn too_many_at_once_come_to_main_memory_until_some_are_gone() {
    let mut means = means();
    let first = on_device(decoded(means.clone()));
    let accelerator = means.accelerator.as_mut().unwrap();
    accelerator.most = 2 * accelerator.used.load(Ordering::Relaxed);
    let second = on_device(decoded(means.clone()));
    let third = on_host(decoded(means.clone()));
    assert_eq!(planes(&third), planes(&second.memory.download().unwrap()));
    drop(first);
    let fourth = on_device(decoded(means.clone()));
    on_host(decoded(means.clone()));
    drop((second, fourth));
    assert_eq!(means.accelerator.unwrap().used.load(Ordering::Relaxed), 0);
}

fn unit(camera: &str, role: Role) -> AccessUnit {
    AccessUnit {
        camera: CameraId::new(camera).unwrap(),
        session: SessionId::next(),
        sequence: 7,
        codec: Codec::H264,
        media_time: MediaTime { ticks: 0, clock_rate: 90_000 },
        captured: Timestamp::UNIX_EPOCH,
        key: true,
        role,
        lost_before: 0,
        bytes_between: 0,
        data: coded_as("smpte", SIZE),
    }
}

#[test]
fn a_camera_with_masks_never_has_a_picture_there() {
    let frames: Arc<Mutex<Vec<Frame>>> = Arc::default();
    let out = frames.clone();
    let left = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)];
    let left = left.map(|(x, y)| flow::NormPoint { x, y });
    let masks: Masks = Arc::new(HashMap::from([(
        CameraId::new("masked").unwrap(),
        Arc::from([Polygon::new(left.to_vec()).unwrap()]),
    )]));
    let shared = Shared {
        means: means(),
        counters: Counters::default(),
        output: Box::new(move |frame| out.lock().unwrap().push(frame)),
        on_error: Box::new(|camera: &CameraId, fault: &Fault| panic!("{camera}: {fault}")),
        masks,
        abort: AtomicBool::new(false),
    };
    let (any, any_out) = crossbeam_channel::bounded(4);
    let (own, own_out) = crossbeam_channel::bounded(4);
    for camera in ["masked", "plain"] {
        any.send(unit(camera, Role::Alone)).unwrap();
        own.send(unit(camera, Role::Chained { deliver: true })).unwrap();
    }
    drop((any, own));
    Worker::new(Arc::new(shared), 2).run(any_out, own_out);
    let frames = frames.lock().unwrap();
    assert_eq!(frames.len(), 4);
    for frame in &*frames {
        let masked = frame.id.camera.as_str() == "masked";
        assert_eq!(matches!(frame.pixels, Pixels::Host(_)), masked, "{:?}", frame.id);
        let picture = frame.pixels.on_host().unwrap();
        let [y, ..] = planes(&picture);
        let left: Vec<u8> = y.chunks(SIZE.0 as usize).flat_map(|row| row[..43].to_vec()).collect();
        assert_eq!(left.iter().all(|&sample| sample == 16), masked, "{:?}", frame.id);
        assert_eq!(frame.luma, Luma::of(&picture));
    }
}

#[test]
fn what_a_decoder_leaves_in_main_memory_is_not_taken_for_a_picture_on_the_gpu() {
    gst::init().unwrap();
    let accelerator = Accelerator::new(Device::Cuda(Cuda::of_a_test()));
    let means = Means { backend: Backend::Software, accelerator: Some(accelerator) };
    assert_eq!(means.caps().to_string(), "video/x-raw(memory:CUDAMemory); video/x-raw");
    let picture = on_host(decoded(means.clone()));
    assert_eq!(planes(&picture), planes(&on_host(decoded(Means::default()))));

    // Not even where the caps say so.
    let info = VideoInfo::builder(VideoFormat::Nv12, 64, 48).build().unwrap();
    let mut caps = info.to_caps().unwrap();
    let features = gst::CapsFeatures::new([cuda::FEATURE]);
    caps.get_mut().unwrap().set_features(0, Some(features));
    let buffer = gst::Buffer::with_size(info.size()).unwrap();
    let kept = means.accelerator.unwrap().keep(&caps, &info, &buffer, (Matrix::Bt601, false));
    assert!(kept.is_none());
}

#[test]
fn the_decoder_is_given_the_shared_context_before_it_starts() {
    gst::init().unwrap();
    let accelerator = Accelerator::new(Device::Cuda(Cuda::of_a_test()));
    let means = Means { backend: Backend::NvCodec, accelerator: Some(accelerator) };
    let pipeline = gst::Pipeline::new();
    means.share_with(&pipeline);
    let element = gst::ElementFactory::make("identity").build().unwrap();
    pipeline.add(&element).unwrap();
    let context = element.context("gst.cuda.context").expect("it was handed on");
    assert!(context.is_persistent());
}

#[test]
fn a_buffer_that_is_shorter_than_its_picture_is_not_kept() {
    gst::init().unwrap();
    let accelerator = Accelerator::new(Device::MainMemory);
    let info = VideoInfo::builder(VideoFormat::Nv12, 64, 48).build().unwrap();
    let keep = |bytes: usize| {
        let buffer = gst::Buffer::with_size(bytes).unwrap();
        accelerator.keep(&info.to_caps().unwrap(), &info, &buffer, (Matrix::Bt601, false))
    };
    assert!(keep(info.size()).is_some());
    assert!(keep(info.size() - 1).is_none());
    assert_eq!(accelerator.used.load(Ordering::Relaxed), 0, "nothing is held");
}

#[test]
fn without_the_hardware_the_pool_says_what_is_missing() {
    gst::init().unwrap();
    let error = Means::new(Backend::Software, Pictures::Accelerator).unwrap_err().to_string();
    assert!(error.contains("software decodes") && error.contains("node.decoder: nvcodec"), "{error}");
    assert!(Means::new(Backend::Va, Pictures::MainMemory).unwrap().accelerator.is_none());
    match Means::new(Backend::NvCodec, Pictures::Accelerator) {
        // A machine with a driver has one.
        Ok(means) => assert!(means.accelerator.is_some()),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("libcuda.so.1") && error.contains("node.pictures"), "{error}");
        }
    }
}
