//! Decoded pictures into the model's input tensor.
//!
//! The planes are scaled as they are, 8 bits each, and only then turned into RGB, at the model's small size: of a
//! 1080p picture that saves most of the colour arithmetic and never holds a second full-size picture.
//! The filter is a triangle as wide as the scale (what PIL calls bilinear), which does not alias when it shrinks;
//! OpenCV's `INTER_LINEAR` looks at four pixels only and does.
//!
//! Chroma is taken to lie in the middle of its four luma samples, as JPEG says. Video puts it half a luma sample
//! further left (ITU-T H.264 figure 6-1); at a model's input size that is below a quarter of a pixel and ignored.

use std::mem::size_of;

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use fleet::{Channels, ModelCard, Resize};
use flow::{HostPicture, Matrix, Plane};

use crate::Placement;

/// A picture whose planes the scaler refuses. [`HostPicture`] has checked what it needs, so this is a defect here.
#[derive(Debug, thiserror::Error)]
#[error("plane {plane} of a {width}x{height} picture cannot be scaled: {reason}")]
pub struct ScaleError {
    plane: usize,
    width: u32,
    height: u32,
    reason: String,
}

/// Fills the input tensor, NCHW f32, of one model. All buffers are kept from picture to picture.
#[derive(Debug)]
pub(crate) struct Preprocessor {
    width: u32,
    height: u32,
    resize: Resize,
    /// Position of red, green and blue among the tensor's planes.
    order: [usize; 3],
    /// Per plane of the tensor: what a sample is multiplied by, and what is added then.
    scale: [f32; 3],
    offset: [f32; 3],
    resizer: Resizer,
    /// The planes at the size of the target.
    scaled: [Vec<u8>; 3],
    /// For a plane whose last row ends before its stride.
    whole: Vec<u8>,
    tensor: Vec<f32>,
    /// Where the last picture lay in each slot of the tensor: around it the padding is already there.
    placed: Vec<Option<Placement>>,
}

impl Preprocessor {
    pub fn new(card: &ModelCard) -> Self {
        let order = match card.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        };
        let scale = card.range.deviation.map(|d| 1.0 / d);
        let offset = [0, 1, 2].map(|i| -card.range.mean[i] / card.range.deviation[i]);
        Self {
            width: card.width,
            height: card.height,
            resize: card.resize,
            order,
            scale,
            offset,
            resizer: Resizer::new(),
            scaled: Default::default(),
            whole: Vec::new(),
            tensor: Vec::new(),
            placed: Vec::new(),
        }
    }

    /// Values per picture.
    pub fn values(&self) -> usize {
        3 * self.width as usize * self.height as usize
    }

    /// The first `slots` pictures of the tensor, all made by [`grow`](Self::grow) or [`put`](Self::put).
    pub fn tensor(&self, slots: usize) -> &[f32] {
        &self.tensor[..slots * self.values()]
    }

    /// Makes room for `slots` pictures; new slots are zeros.
    pub fn grow(&mut self, slots: usize) {
        if self.placed.len() < slots {
            self.placed.resize(slots, None);
            self.tensor.resize(slots * self.values(), 0.0);
        }
    }

    /// Puts `picture` into the slot, and says where in it.
    pub fn put(&mut self, slot: usize, picture: &HostPicture) -> Result<Placement, ScaleError> {
        self.grow(slot + 1);
        let place =
            Placement::new(self.resize, (picture.width(), picture.height()), (self.width, self.height));
        for plane in 0..3 {
            self.scale_plane(plane, picture, place)?;
        }
        if self.placed[slot] != Some(place) {
            self.pad(slot, place);
            self.placed[slot] = Some(place);
        }
        self.convert(slot, place, &Coefficients::new(picture.matrix, picture.full_range));
        Ok(place)
    }

    fn scale_plane(
        &mut self,
        index: usize,
        picture: &HostPicture,
        place: Placement,
    ) -> Result<(), ScaleError> {
        let shift = u32::from(index > 0);
        let side = |of: u32| Side {
            samples: of.div_ceil(1 << shift),
            covered: f64::from(of) / f64::from(1 << shift),
        };
        let (width, height) = (side(picture.width()), side(picture.height()));
        let Plane { data, stride } = &picture.planes()[index];
        // The stride of a single row may be anything.
        let stride = if height.samples == 1 { width.samples as usize } else { *stride };
        let bytes = whole_rows(data, stride, height.samples as usize, &mut self.whole);
        self.scaled[index].resize(place.width as usize * place.height as usize, 0);
        let into = (&mut *self.scaled[index], place.width, place.height);
        resample(&mut self.resizer, (bytes, stride), (width, height), into).map_err(|error| ScaleError {
            plane: index,
            width: picture.width(),
            height: picture.height(),
            reason: error.to_string(),
        })
    }

    /// Fills everything around the picture.
    fn pad(&mut self, slot: usize, place: Placement) {
        let pad = match self.resize {
            Resize::LetterboxTopLeft { pad } | Resize::LetterboxCentre { pad } => f32::from(pad),
            Resize::Stretch => return,
        };
        let (width, height) = (self.width as usize, self.height as usize);
        let (left, right) = (place.left as usize, (place.left + place.width) as usize);
        let inside = place.top as usize..(place.top + place.height) as usize;
        let values = self.values();
        let planes = self.tensor[slot * values..][..values].chunks_exact_mut(width * height);
        for (i, plane) in planes.enumerate() {
            let value = pad * self.scale[i] + self.offset[i];
            for (y, row) in plane.chunks_exact_mut(width).enumerate() {
                if inside.contains(&y) {
                    row[..left].fill(value);
                    row[right..].fill(value);
                } else {
                    row.fill(value);
                }
            }
        }
    }

    /// Turns the scaled planes into the tensor's.
    fn convert(&mut self, slot: usize, place: Placement, c: &Coefficients) {
        let (width, height) = (self.width as usize, self.height as usize);
        let values = self.values();
        let (columns, left) = (place.width as usize, place.left as usize);
        let tensor = &mut self.tensor[slot * values..][..values];
        let [luma, cb, cr] = &self.scaled;
        let rows = luma.chunks_exact(columns).zip(cb.chunks_exact(columns).zip(cr.chunks_exact(columns)));
        for (y, (luma, (cb, cr))) in rows.enumerate() {
            let start = (place.top as usize + y) * width + left;
            for (colour, plane) in self.order.into_iter().enumerate() {
                let out = &mut tensor[plane * width * height + start..][..columns];
                c.row(colour, [luma, cb, cr], (self.scale[plane], self.offset[plane]), out);
            }
        }
    }
}

/// One side of a plane.
struct Side {
    samples: u32,
    /// How much of them the picture covers: the chroma of an odd size reaches half a sample beyond it.
    covered: f64,
}

/// Scales a plane, given as bytes and their stride, to the size given.
fn resample(
    resizer: &mut Resizer,
    (bytes, stride): (&[u8], usize),
    (width, height): (Side, Side),
    (into, into_width, into_height): (&mut [u8], u32, u32),
) -> Result<(), Box<dyn std::error::Error>> {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        0.0,
        0.0,
        width.covered,
        height.covered,
    );
    let from = TypedImageRef::<U8>::from_buffer(u32::try_from(stride)?, height.samples, bytes)?;
    let from = TypedCroppedImage::new(from, 0, 0, width.samples, height.samples)?;
    let mut into = TypedImage::<U8>::from_buffer(into_width, into_height, into)?;
    Ok(resizer.resize_typed(&from, &mut into, &options)?)
}

/// The plane as `rows × stride` bytes; a copy only where the last row ends early.
fn whole_rows<'a>(data: &'a [u8], stride: usize, rows: usize, copy: &'a mut Vec<u8>) -> &'a [u8] {
    const { assert!(size_of::<U8>() == 1) };
    let needed = stride * rows;
    if let Some(bytes) = data.get(..needed) {
        return bytes;
    }
    copy.clear();
    copy.extend_from_slice(data);
    copy.resize(needed, 0);
    copy
}

/// One row of YCbCr → R, G, B (ITU-T H.273 equations 38 to 46).
#[derive(Debug, PartialEq)]
struct Coefficients {
    luma: f32,
    black: f32,
    /// Per colour: what Cb and Cr, less 128, are multiplied by.
    chroma: [(f32, f32); 3],
}

impl Coefficients {
    fn new(matrix: Matrix, full_range: bool) -> Self {
        let (kr, kb) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (luma, black, c) =
            if full_range { (1.0, 0.0, 1.0) } else { (255.0 / 219.0, 16.0, 255.0 / 224.0) };
        let (to_red, to_blue) = (2.0 * (1.0 - kr) * c, 2.0 * (1.0 - kb) * c);
        let chroma = [(0.0, to_red), (-to_blue * kb / kg, -to_red * kr / kg), (to_blue, 0.0)];
        Self { luma, black, chroma }
    }

    /// Colour `colour` (0 red, 1 green, 2 blue) of a row, limited to 0..=255, then scaled for the model.
    /// Slices of one length and no branch inside, so that the compiler makes vector code of it.
    fn row(&self, colour: usize, [luma, cb, cr]: [&[u8]; 3], (scale, offset): (f32, f32), out: &mut [f32]) {
        let (from_cb, from_cr) = self.chroma[colour];
        let constant = -self.luma * self.black - 128.0 * (from_cb + from_cr);
        for (((out, y), cb), cr) in out.iter_mut().zip(luma).zip(cb).zip(cr) {
            let value =
                self.luma * f32::from(*y) + from_cb * f32::from(*cb) + from_cr * f32::from(*cr) + constant;
            *out = value.clamp(0.0, 255.0) * scale + offset;
        }
    }
}

#[cfg(test)]
mod tests;
