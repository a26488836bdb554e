//! A picture in the memory of an accelerator.

use std::fmt::Debug;
use std::ops::Deref;

use crate::{HostPicture, Luma, Matrix, PictureError};

/// What a decoder knows of the memory that holds a picture. It lasts as long as this value.
pub trait DeviceMemory: Debug + Send + Sync {
    /// Where luma and chroma begin, in the accelerator's own addresses.
    fn addresses(&self) -> [u64; 2];

    /// Copies the picture to main memory.
    ///
    /// # Errors
    /// Where the accelerator refuses.
    fn download(&self) -> Result<HostPicture, DownloadError>;

    /// The small grey copy. Whoever can have it for less than the whole picture in I420 should say how.
    ///
    /// # Errors
    /// Where the accelerator refuses.
    fn grey(&self) -> Result<Luma, DownloadError> {
        Ok(Luma::of(&self.download()?))
    }
}

/// A picture that cannot be had in main memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The accelerator's words.
    #[error("the picture cannot be copied from the accelerator: {0}")]
    Device(String),
    /// What came is none.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// YCbCr 4:2:0, 8 bits, as hardware decoders leave it (`NV12`): a plane of Y, and one of half its rows in which Cb and Cr
/// take turns.
#[derive(Debug)]
pub struct DevicePicture {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next, of luma and of chroma.
    pub strides: [usize; 2],
    /// Colour matrix.
    pub matrix: Matrix,
    /// Samples span 0..=255 instead of 16..=235.
    pub full_range: bool,
    /// Where it is.
    pub memory: Box<dyn DeviceMemory>,
}

/// A picture in main memory, or a copy of it there.
#[derive(Debug)]
pub enum OnHost<'p> {
    /// It was there already.
    Here(&'p HostPicture),
    /// It was copied from an accelerator for this once.
    Copied(HostPicture),
}

impl Deref for OnHost<'_> {
    type Target = HostPicture;

    fn deref(&self) -> &HostPicture {
        match self {
            Self::Here(picture) => picture,
            Self::Copied(picture) => picture,
        }
    }
}
