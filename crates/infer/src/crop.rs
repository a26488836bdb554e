//! A part of a picture as a picture of its own: what a second model is asked about.

use flow::{Frame, NormBox};

use crate::tiles::{Region, view};

/// Crops are at least so wide and high, pixels: of less there is nothing to tell.
const LEAST: f32 = 4.0;

/// What lies around `place`, in the shape (width : height) that the model takes: the shorter side is grown, so that the
/// model sees more of the street instead of padding or a squeezed picture. At the picture's edges the crop is moved inside,
/// and where it is larger than the picture, cut off. A view of the planes: nothing is copied.
pub(crate) fn crop(frame: &Frame, place: &NormBox, shape: (u32, u32)) -> Option<Frame> {
    let picture = frame.pixels.on_host().ok()?;
    view(frame, &picture, around(place, (picture.width(), picture.height()), shape))
}

/// In whole pixels; left and top are even, so that chroma can be cut, too.
fn around(place: &NormBox, (width, height): (u32, u32), shape: (u32, u32)) -> Region {
    let (across, down) = (width as f32, height as f32);
    let ratio = shape.0 as f32 / shape.1.max(1) as f32;
    let (w, h) = ((place.width() * across).max(LEAST), (place.height() * down).max(LEAST));
    let (w, h) = ((w.max(h * ratio)).min(across), (h.max(w / ratio)).min(down));
    let middle = |a: f32, b: f32| (a + b) / 2.0;
    let start = |middle: f32, side: f32, most: f32| (middle - side / 2.0).clamp(0.0, most - side);
    let left = start(middle(place.x0(), place.x1()) * across, w, across);
    let top = start(middle(place.y0(), place.y1()) * down, h, down);
    let first = |start: f32| start as u32 & !1;
    let length = |start: f32, side: f32, most: u32| {
        let end = ((start + side).ceil() as u32).clamp(1, most);
        (end - first(start)).max(1)
    };
    Region {
        left: first(left),
        top: first(top),
        width: length(left, w, width),
        height: length(top, h, height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(place: [f32; 4], size: (u32, u32), shape: (u32, u32)) -> [u32; 4] {
        let [x0, y0, x1, y1] = place;
        let region = around(&NormBox::new(x0, y0, x1, y1).unwrap(), size, shape);
        [region.left, region.top, region.width, region.height]
    }

    #[test]
    fn the_shorter_side_grows_to_the_models_shape() {
        // 64 x 36 pixels become 64 x 64, around the same middle.
        assert_eq!(region([0.4, 0.4, 0.5, 0.5], (640, 360), (96, 96)), [256, 130, 64, 64]);
        // 32 x 90 pixels for a model that is twice as wide as high.
        assert_eq!(region([0.5, 0.25, 0.55, 0.5], (640, 360), (128, 64)), [246, 90, 180, 90]);
    }

    #[test]
    fn at_the_edge_it_is_moved_inside_and_what_is_too_large_is_cut() {
        assert_eq!(region([0.9, 0.9, 1.0, 1.0], (640, 360), (96, 96)), [576, 296, 64, 64]);
        assert_eq!(region([0.0, 0.0, 1.0, 1.0], (640, 360), (96, 96)), [0, 0, 640, 360]);
        assert_eq!(region([0.0, 0.0, 1.0, 1.0], (641, 361), (96, 96)), [0, 0, 641, 361]);
    }

    #[test]
    fn every_box_of_every_picture_gives_a_part_of_it() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..20_000 {
            let (w, h) = (random.u32(1..700), random.u32(1..400));
            let mut pair = || {
                let (a, b) = (random.f32(), random.f32());
                (a.min(b), a.max(b) + f32::MIN_POSITIVE)
            };
            let ((x0, x1), (y0, y1)) = (pair(), pair());
            let Some(place) = NormBox::clamped(x0, y0, x1, y1) else { continue };
            let shape = (random.u32(1..200), random.u32(1..200));
            let region = around(&place, (w, h), shape);
            assert!(region.width > 0 && region.left + region.width <= w, "{region:?} of {w}x{h}, {place:?}");
            assert!(region.height > 0 && region.top + region.height <= h, "{region:?} of {w}x{h}, {place:?}");
            assert_eq!((region.left % 2, region.top % 2), (0, 0));
        }
    }
}
