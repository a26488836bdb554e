//! Decoded pictures into the model's input tensor.
//!
//! The planes are scaled as they are, 8 bits each, and only then turned into RGB, at the model's small size and on the
//! way into the tensor: no RGB picture is ever made, and of a 1080p picture that saves most of the colour arithmetic.
//! Samples are mixed as the card's filter says, like OpenCV's `INTER_LINEAR` or like PIL's `BILINEAR`: which one a
//! model's authors used matters by a point of score or two (`axis.rs`).
//!
//! Chroma is taken to lie in the middle of its four luma samples, as JPEG says. Video puts it half a luma sample
//! further left (ITU-T H.264 figure 6-1); at a model's input size that is below a quarter of a pixel and ignored.

mod axis;
pub(crate) mod graph;
mod kernel;

use fleet::{Channels, Filter, ModelCard, Resize};
use flow::HostPicture;

use crate::Placement;
use kernel::{Colours, Kernel, Target};

/// Fills the input tensor, NCHW f32, of one model. All buffers are kept from picture to picture.
#[derive(Debug)]
pub(crate) struct Preprocessor {
    width: u32,
    height: u32,
    resize: Resize,
    filter: Filter,
    /// Position of red, green and blue among the tensor's planes.
    order: [usize; 3],
    /// Per plane of the tensor: what a sample is multiplied by, and what is added then.
    scale: [f32; 3],
    offset: [f32; 3],
    kernel: Kernel,
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
            filter: card.filter,
            order,
            scale,
            offset,
            kernel: Kernel::default(),
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
    pub fn put(&mut self, slot: usize, picture: &HostPicture) -> Placement {
        self.grow(slot + 1);
        let place =
            Placement::new(self.resize, (picture.width(), picture.height()), (self.width, self.height));
        if self.placed[slot] != Some(place) {
            self.pad(slot, place);
            self.placed[slot] = Some(place);
        }
        let Self { width, height, order, scale, offset, kernel, tensor, .. } = self;
        let colours =
            Colours::new(picture.matrix, picture.full_range, order.map(|at| [scale[at], offset[at]]));
        let plane = *width as usize * *height as usize;
        let (first, rest) = tensor[slot * 3 * plane..][..3 * plane].split_at_mut(plane);
        let (second, third) = rest.split_at_mut(plane);
        // Green is in the middle, whether red or blue comes first.
        let planes = if order[0] == 0 { [first, second, third] } else { [third, second, first] };
        let (left, top) = (place.left as usize, place.top as usize);
        let mut target = Target { planes, width: *width as usize, left, top };
        kernel.fill(picture, (place.width, place.height), self.filter, &colours, &mut target);
        place
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
}

#[cfg(test)]
mod tests;
