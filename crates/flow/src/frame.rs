//! `decode` → `infer`.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{CameraId, DevicePicture, DownloadError, Luma, OnHost, Polygon, SessionId};

/// Which picture: the same numbers as its access unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FrameId {
    /// Whose.
    pub camera: CameraId,
    /// In which session.
    pub session: SessionId,
    /// Number of the access unit in the session.
    pub sequence: u64,
}

/// A decoded picture. Not `Clone`: pixels are moved from stage to stage. Frames are made by the functions below alone, so
/// that what is under a camera's masks is black in every one of them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Frame {
    /// Which.
    pub id: FrameId,
    /// When it was captured.
    pub captured: Timestamp,
    /// Its pixels.
    pub pixels: Pixels,
    /// A small grey copy, for everything that asks what has changed.
    pub luma: Luma,
}

impl Frame {
    /// A frame whose pixels are in main memory.
    pub fn host(id: FrameId, captured: Timestamp, picture: HostPicture) -> Self {
        let luma = Luma::of(&picture);
        Self::with_luma(id, captured, picture, luma)
    }

    /// A frame of pixels in main memory, and of a grey copy that was made before.
    pub fn with_luma(id: FrameId, captured: Timestamp, picture: HostPicture, luma: Luma) -> Self {
        Self { id, captured, pixels: Pixels::Host(picture), luma }
    }

    /// The frame of a picture as the decoder left it, of a camera with parts that nobody may see. They are overwritten, for
    /// which the picture comes to main memory, wherever it was: no frame of such a camera is anywhere else. Others stay
    /// where they are; of one on an accelerator the grey copy is made of its luma ([`DeviceMemory::grey`]).
    ///
    /// # Errors
    /// Where it cannot be copied from the accelerator.
    ///
    /// [`DeviceMemory::grey`]: crate::DeviceMemory::grey
    pub fn decoded(
        id: FrameId,
        captured: Timestamp,
        pixels: Pixels,
        masks: &[Polygon],
    ) -> Result<Self, DownloadError> {
        let picture = match pixels {
            Pixels::Device(picture) if masks.is_empty() => {
                let luma = picture.memory.grey()?;
                return Ok(Self { id, captured, pixels: Pixels::Device(picture), luma });
            }
            Pixels::Device(picture) => picture.memory.download()?,
            Pixels::Host(picture) => picture,
        };
        Ok(Self::host(id, captured, picture.masked(masks)))
    }
}

/// Where the pixels are.
#[derive(Debug)]
pub enum Pixels {
    /// In main memory.
    Host(HostPicture),
    /// In that of an accelerator.
    Device(DevicePicture),
}

impl Pixels {
    /// The picture in main memory; where it is elsewhere, a copy.
    ///
    /// # Errors
    /// Where it cannot be copied from the accelerator.
    pub fn on_host(&self) -> Result<OnHost<'_>, DownloadError> {
        match self {
            Self::Host(picture) => Ok(OnHost::Here(picture)),
            Self::Device(picture) => picture.memory.download().map(OnHost::Copied),
        }
    }
}

/// One plane of samples, 8 bits each.
#[derive(Debug)]
pub struct Plane {
    /// Rows of `stride` bytes; the last row may end after the picture's width.
    pub data: Bytes,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// Which YCbCr matrix (ITU-T H.273 MatrixCoefficients).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601, the usual one up to 576 lines.
    Bt601,
    /// ITU-R BT.709.
    Bt709,
}

/// Planar YCbCr 4:2:0, 8 bits (`I420`): Y of `width × height`, then Cb and Cr of half of each, rounded up.
#[derive(Debug)]
pub struct HostPicture {
    width: u32,
    height: u32,
    planes: [Plane; 3],
    /// Colour matrix.
    pub matrix: Matrix,
    /// Samples span 0..=255 instead of 16..=235.
    pub full_range: bool,
}

/// Planes that do not hold the picture they are said to hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// Zero, or beyond 16,384 (H.264 level 6.2 allows up to 16,880 but no camera comes near).
    #[error("a picture of {0}x{1} is outside 1x1 to 16384x16384")]
    Size(u32, u32),
    /// A plane is shorter than its rows.
    #[error("plane {plane} holds {bytes} bytes; {needed} are needed")]
    Short {
        /// 0 for Y, 1 for Cb, 2 for Cr.
        plane: usize,
        /// What it holds.
        bytes: usize,
        /// What the size asks for.
        needed: usize,
    },
}

impl HostPicture {
    /// Checks that the planes hold `width × height` pixels, so that later stages can index without doubt.
    pub fn new(
        width: u32,
        height: u32,
        planes: [Plane; 3],
        matrix: Matrix,
        full_range: bool,
    ) -> Result<Self, PictureError> {
        if !(1..=16_384).contains(&width) || !(1..=16_384).contains(&height) {
            return Err(PictureError::Size(width, height));
        }
        for (index, plane) in planes.iter().enumerate() {
            let shift = u32::from(index > 0);
            let (w, h) = (width.div_ceil(1 << shift) as usize, height.div_ceil(1 << shift) as usize);
            let needed = plane.stride * (h - 1) + w;
            if plane.stride < w || plane.data.len() < needed {
                return Err(PictureError::Short { plane: index, bytes: plane.data.len(), needed });
            }
        }
        Ok(Self { width, height, planes, matrix, full_range })
    }

    /// Pixels per row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Y, Cb, Cr.
    pub fn planes(&self) -> &[Plane; 3] {
        &self.planes
    }

    /// Y, Cb, Cr.
    pub(crate) fn into_planes(self) -> [Plane; 3] {
        self.planes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::DeviceMemory;

    fn plane(bytes: usize, stride: usize) -> Plane {
        Plane { data: Bytes::from(vec![0; bytes]), stride }
    }

    #[test]
    fn a_picture_holds_what_it_says() {
        let make =
            |y, c| HostPicture::new(5, 3, [plane(y, 5), plane(c, 3), plane(c, 3)], Matrix::Bt601, false);
        assert!(make(15, 6).is_ok());
        assert_eq!(make(14, 6).unwrap_err(), PictureError::Short { plane: 0, bytes: 14, needed: 15 });
        assert_eq!(make(15, 5).unwrap_err(), PictureError::Short { plane: 1, bytes: 5, needed: 6 });
    }

    /// An accelerator that counts what is asked of it.
    #[derive(Debug)]
    struct Far;

    static GREY: AtomicUsize = AtomicUsize::new(0);
    static WHOLE: AtomicUsize = AtomicUsize::new(0);

    impl DeviceMemory for Far {
        fn addresses(&self) -> [u64; 2] {
            [4096, 8192]
        }

        fn download(&self) -> Result<HostPicture, DownloadError> {
            WHOLE.fetch_add(1, Ordering::Relaxed);
            let grey = |bytes, stride| Plane { data: Bytes::from(vec![200; bytes]), stride };
            Ok(HostPicture::new(8, 4, [grey(32, 8), grey(8, 4), grey(8, 4)], Matrix::Bt601, false)?)
        }

        fn grey(&self) -> Result<Luma, DownloadError> {
            GREY.fetch_add(1, Ordering::Relaxed);
            Luma::from_cells(8, 4, vec![200; 32]).ok_or(DownloadError::Device("a test".to_owned()))
        }
    }

    #[test]
    fn a_picture_on_an_accelerator_stays_there_unless_a_part_of_it_may_not_be_seen() {
        let of = |masks: &[Polygon]| {
            let camera = CameraId::new("a").unwrap();
            let id = FrameId { camera, session: SessionId::next(), sequence: 1 };
            let (matrix, memory) = (Matrix::Bt601, Box::new(Far));
            let picture =
                DevicePicture { width: 8, height: 4, strides: [8; 2], matrix, full_range: false, memory };
            Frame::decoded(id, Timestamp::UNIX_EPOCH, Pixels::Device(picture), masks).unwrap()
        };
        let calls = || [&GREY, &WHOLE].map(|count| count.load(Ordering::Relaxed));
        let plain = of(&[]);
        assert!(matches!(plain.pixels, Pixels::Device(_)));
        assert_eq!(calls(), [1, 0], "its grey copy alone comes to main memory");
        assert!(plain.luma.cells().iter().all(|&cell| cell == 200));

        let masked = of(&[Polygon::whole()]);
        let Pixels::Host(picture) = &masked.pixels else { panic!("it is still where nothing can mask it") };
        assert_eq!(calls(), [1, 1]);
        assert!(picture.planes()[0].data.iter().all(|&sample| sample == 16));
        assert!(masked.luma.cells().iter().all(|&cell| cell == 16), "nor does its grey copy show it");
    }
}
