//! Pictures that stay where a hardware decoder put them: NV12, in a buffer of GStreamer's that is kept, mapped on the device,
//! for as long as the picture lives.
//!
//! **Bounded.** A decoder has a handful of surfaces and stands still when all are lent out. GStreamer therefore copies each
//! picture out of its surface, on the device, into a pool that grows without end (1.22 always does; from 1.24 on with
//! `num-output-surfaces=1`, which is set here). What bounds it is [`Share`]: once [`MOST`] bytes are in pictures that nobody
//! has let go of, because inference is slow or evidence is held, the next ones come to main memory, and go the way of
//! every other picture there. Nothing waits and nothing is lost; it only costs more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fleet::Pictures;
use flow::{DeviceMemory, DevicePicture, DownloadError, HostPicture, Luma, Matrix, Pixels, Plane};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::DecodeError;
use crate::backend::Backend;
use crate::cuda::{self, Cuda, Mapped};

/// Bytes of pictures on the accelerator at once: 320 of 1920x1080, 1,700 of 704x576.
const MOST: u64 = 1 << 30;

/// What a decoder is made with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Means {
    pub(crate) backend: Backend,
    /// Where its pictures stay; `None`: main memory.
    pub(crate) accelerator: Option<Accelerator>,
}

impl Means {
    /// # Errors
    /// Where pictures are to stay on an accelerator and cannot.
    pub(crate) fn new(backend: Backend, pictures: Pictures) -> Result<Self, DecodeError> {
        let accelerator = match (pictures, backend) {
            (Pictures::MainMemory, _) => None,
            (Pictures::Accelerator, Backend::NvCodec) => {
                Some(Accelerator::new(Device::Cuda(Cuda::primary()?)))
            }
            (Pictures::Accelerator, other) => return Err(DecodeError::NotThere { backend: other.name() }),
        };
        Ok(Self { backend, accelerator })
    }

    /// What is taken from the decoder: raw pictures in main memory, whatever else it could give, or where they are. Of what
    /// is no NV12 the latter comes to main memory later, and so does what a decoder in software gives.
    pub(crate) fn caps(&self) -> gst::Caps {
        let raw = || gst::Structure::new_empty("video/x-raw");
        match self.accelerator.as_ref().map(|accelerator| &accelerator.device) {
            None => gst::Caps::new_empty_simple("video/x-raw"),
            Some(Device::Cuda(_)) => gst::Caps::builder_full()
                .structure_with_features(raw(), gst::CapsFeatures::new([cuda::FEATURE]))
                .structure(raw())
                .build(),
            #[cfg(test)]
            Some(Device::MainMemory) => gst::Caps::builder("video/x-raw").field("format", "NV12").build(),
        }
    }

    /// Answers what the elements will ask for: in which context to work.
    pub(crate) fn share_with(&self, pipeline: &gst::Pipeline) {
        if let Some(Accelerator { device: Device::Cuda(cuda), .. }) = &self.accelerator {
            // A bin hands its contexts to every element that is added to it or asks.
            pipeline.set_context(cuda.context());
        }
    }

    /// Sets what a decoder must be told: to copy, since pictures are held for longer than it can spare its surfaces.
    pub(crate) fn prepare(&self, decoder: &gst::Element) {
        if self.accelerator.is_some() && decoder.has_property("num-output-surfaces") {
            decoder.set_property("num-output-surfaces", 1u32);
        }
    }

    /// What stands behind the decoder: for the tests, what makes a hardware decoder's pictures of libavcodec's.
    pub(crate) fn after(&self) -> Result<Option<gst::Element>, DecodeError> {
        #[cfg(test)]
        if let Some(Accelerator { device: Device::MainMemory, .. }) = &self.accelerator {
            return Ok(Some(gst::ElementFactory::make("videoconvert").build().unwrap()));
        }
        Ok(None)
    }
}

#[derive(Debug, Clone)]
enum Device {
    Cuda(Arc<Cuda>),
    /// What tests use: NV12 in ordinary memory, kept in the same way.
    #[cfg(test)]
    MainMemory,
}

impl Device {
    /// Whether a buffer's memory is its own. Both the caps and the memory must say so: an address in main memory means
    /// nothing to a GPU.
    fn holds(&self, caps: &gst::CapsRef, memory: &gst::MemoryRef) -> bool {
        match self {
            Self::Cuda(_) => {
                let said = caps.features(0).is_some_and(|features| features.contains(cuda::FEATURE));
                said && memory.is_type(cuda::MEMORY)
            }
            #[cfg(test)]
            Self::MainMemory => memory.is_type("SystemMemory"),
        }
    }

    /// Waits until what was written into its memory is there.
    fn finish(&self, memory: &gst::MemoryRef) {
        match self {
            Self::Cuda(cuda) => cuda.finish(memory),
            #[cfg(test)]
            Self::MainMemory => {}
        }
    }
}

/// Where pictures stay, and how many of them.
#[derive(Debug, Clone)]
pub(crate) struct Accelerator {
    device: Device,
    used: Arc<AtomicU64>,
    most: u64,
}

impl Accelerator {
    fn new(device: Device) -> Self {
        Self { device, used: Arc::default(), most: MOST }
    }

    /// The picture in the buffer, where it is. `None`: it has to come to main memory, because it is there, is no NV12, or
    /// too many are on the accelerator already.
    pub(crate) fn keep(
        &self,
        caps: &gst::CapsRef,
        info: &VideoInfo,
        buffer: &gst::Buffer,
        (matrix, full_range): (Matrix, bool),
    ) -> Option<DevicePicture> {
        if info.format() != VideoFormat::Nv12 || buffer.n_memory() != 1 {
            return None;
        }
        let memory = buffer.peek_memory(0);
        if !self.device.holds(caps, memory) {
            return None;
        }
        let share = self.share(buffer.size() as u64)?;
        self.device.finish(memory);
        let mapped = Mapped::new(buffer.clone())?;
        let (width, height) = (info.width(), info.height());
        let lie = Lie::of(info, buffer, mapped.size())?;
        let memory = Box::new(Kept { mapped, width, height, lie, matrix, full_range, _share: share });
        Some(DevicePicture { width, height, strides: lie.strides, matrix, full_range, memory })
    }

    fn share(&self, bytes: u64) -> Option<Share> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Share { bytes, of: self.used.clone() })
    }
}

/// Bytes of what may be on the accelerator; given back when it is gone.
#[derive(Debug)]
struct Share {
    bytes: u64,
    of: Arc<AtomicU64>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How the two planes lie in a buffer.
#[derive(Debug, Clone, Copy)]
struct Lie {
    offsets: [usize; 2],
    strides: [usize; 2],
}

impl Lie {
    /// As the buffer says, or else as is usual. `None` where that is beyond its `bytes`.
    fn of(info: &VideoInfo, buffer: &gst::BufferRef, bytes: usize) -> Option<Self> {
        let meta = buffer.meta::<gst_video::VideoMeta>().filter(|meta| meta.n_planes() == 2);
        let (offsets, strides) = match &meta {
            Some(meta) => (meta.offset(), meta.stride()),
            None => (info.offset(), info.stride()),
        };
        let stride = |plane: usize| usize::try_from(*strides.get(plane)?).ok();
        let lie = Self { offsets: [*offsets.first()?, *offsets.get(1)?], strides: [stride(0)?, stride(1)?] };
        let (width, height) = (info.width() as usize, info.height() as usize);
        let rows = [(width, height), (2 * width.div_ceil(2), height.div_ceil(2))];
        let fits = (0..2).all(|plane| {
            let (columns, rows) = rows[plane];
            // The whole last row: whoever reads the plane reads whole strides.
            let end = lie.strides[plane].checked_mul(rows).and_then(|n| n.checked_add(lie.offsets[plane]));
            lie.strides[plane] >= columns && end.is_some_and(|end| end <= bytes)
        });
        fits.then_some(lie)
    }
}

/// A picture on the accelerator. Its buffer goes back to the decoder's pool with it.
#[derive(Debug)]
struct Kept {
    mapped: Mapped,
    width: u32,
    height: u32,
    lie: Lie,
    matrix: Matrix,
    full_range: bool,
    _share: Share,
}

impl Kept {
    /// Calls `read` with luma and chroma in main memory, to which GStreamer copies the whole buffer, once.
    fn read<T>(&self, read: impl FnOnce([&[u8]; 2]) -> T) -> Result<T, DownloadError> {
        let refused = || DownloadError::Device("GStreamer cannot map the buffer".to_owned());
        let map = self.mapped.buffer().map_readable().map_err(|_| refused())?;
        let planes = self.lie.offsets.map(|offset| map.get(offset..));
        let [Some(luma), Some(chroma)] = planes else { return Err(refused()) };
        Ok(read([luma, chroma]))
    }
}

impl DeviceMemory for Kept {
    fn addresses(&self) -> [u64; 2] {
        self.lie.offsets.map(|offset| self.mapped.address() + offset as u64)
    }

    fn download(&self) -> Result<HostPicture, DownloadError> {
        let (width, height) = (self.width as usize, self.height as usize);
        let planes = self.read(|[luma, chroma]| {
            let [luma_stride, stride] = self.lie.strides;
            let mut y = Vec::with_capacity(width * height);
            luma.chunks(luma_stride).take(height).for_each(|row| y.extend_from_slice(&row[..width]));
            let (w, h) = (width.div_ceil(2), height.div_ceil(2));
            let (mut cb, mut cr) = (Vec::with_capacity(w * h), Vec::with_capacity(w * h));
            for row in chroma.chunks(stride).take(h) {
                let pairs = row[..2 * w].as_chunks::<2>().0;
                cb.extend(pairs.iter().map(|pair| pair[0]));
                cr.extend(pairs.iter().map(|pair| pair[1]));
            }
            [(y, width), (cb, w), (cr, w)].map(|(data, stride)| Plane { data: Bytes::from(data), stride })
        })?;
        Ok(HostPicture::new(self.width, self.height, planes, self.matrix, self.full_range)?)
    }

    fn grey(&self) -> Result<Luma, DownloadError> {
        let size = (self.width, self.height);
        let luma = self.read(|[luma, _]| Luma::of_plane(size, luma, self.lie.strides[0]))?;
        luma.ok_or_else(|| DownloadError::Device("the buffer is shorter than its picture".to_owned()))
    }
}

/// Columns and rows.
pub(crate) fn size_of(pixels: &Pixels) -> (u32, u32) {
    match pixels {
        Pixels::Host(picture) => (picture.width(), picture.height()),
        Pixels::Device(picture) => (picture.width, picture.height),
    }
}

#[cfg(test)]
mod tests;
