//! A picture that may leave the worker: persons made unrecognisable, then scaled down, then coded.
//!
//! The order matters. Persons are blurred in the planes as they came from the decoder, before anything else reads
//! them, so no later step can carry a trace. Blurring is not a filter that could be inverted: each block of a
//! person's box is replaced by its average, and a person spans at most [`blur::BLOCKS`] blocks in each direction,
//! so a head is one or two blocks. A person whom the model did not see is not blurred; that is why detectors are
//! run with a low threshold, and why access to evidence is a matter for the desk's register.

mod blur;
mod rgb;

use flow::{ClassName, Detection, Frame, Matrix, Pixels};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use crate::wire::sha256;

/// Evidence is scaled down to at most this many pixels per row.
const MAX_WIDTH: u32 = 1280;
/// No evidence picture is larger; brokers limit packets.
pub(crate) const MAX_JPEG_BYTES: usize = 2 * 1024 * 1024;
/// JPEG qualities (1..=100) tried until the picture is small enough. The first is enough for any real street.
const QUALITIES: [u8; 4] = [85, 70, 50, 25];

/// What is made unrecognisable.
#[derive(Debug, Clone, PartialEq)]
pub struct Blur {
    /// Detections of these classes.
    pub classes: Vec<ClassName>,
    /// Their boxes, larger by this share of their width and height on each side: detectors cut off hair and hands.
    pub margin: f32,
}

impl Default for Blur {
    fn default() -> Self {
        Self { classes: vec![ClassName::new("person")], margin: 0.1 }
    }
}

/// A coded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jpeg {
    /// JFIF.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, lower-case hexadecimal.
    pub sha256: String,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A picture that could not be made into evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The encoder said no.
    #[error("evidence of camera {camera}, picture {sequence} ({width}x{height}): {source}")]
    Encode {
        /// Whose picture.
        camera: flow::CameraId,
        /// Which.
        sequence: u64,
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
        /// Why.
        source: image::ImageError,
    },
    /// Even at the lowest quality.
    #[error(
        "evidence of camera {camera}, picture {sequence}: {bytes} bytes; at most {MAX_JPEG_BYTES} are sent"
    )]
    TooLarge {
        /// Whose picture.
        camera: flow::CameraId,
        /// Which.
        sequence: u64,
        /// At the lowest quality.
        bytes: usize,
    },
}

impl Jpeg {
    /// The picture inside of a message.
    pub fn picture(&self) -> crate::wire::Picture {
        use base64::Engine as _;
        crate::wire::Picture {
            media_type: "image/jpeg".into(),
            sha256: self.sha256.clone(),
            data: base64::engine::general_purpose::STANDARD.encode(&self.bytes),
        }
    }

    /// Blurs, scales down to 1280 pixels per row at most, and codes. The detections' boxes are not drawn: they
    /// are in the event, and whoever shows it draws them.
    pub fn of(frame: &Frame, detections: &[Detection], blur: &Blur) -> Result<Self, EvidenceError> {
        let Pixels::Host(picture) = &frame.pixels;
        let mut planes = blur::Planes::copy_of(picture);
        for detection in detections.iter().filter(|d| blur.classes.contains(&d.class)) {
            planes.pixelate(&detection.bbox, blur.margin);
        }
        let bt709 = picture.matrix == Matrix::Bt709;
        let image = rgb::convert(&planes, MAX_WIDTH, bt709, picture.full_range);
        let bytes = encode(&image, frame)?;
        Ok(Self { sha256: sha256(&bytes), bytes, width: image.width, height: image.height })
    }
}

fn encode(image: &rgb::Rgb, frame: &Frame) -> Result<Vec<u8>, EvidenceError> {
    let mut bytes = Vec::new();
    for quality in QUALITIES {
        bytes.clear();
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .encode(&image.data, image.width, image.height, ExtendedColorType::Rgb8)
            .map_err(|source| EvidenceError::Encode {
                camera: frame.id.camera.clone(),
                sequence: frame.id.sequence,
                width: image.width,
                height: image.height,
                source,
            })?;
        if bytes.len() <= MAX_JPEG_BYTES {
            return Ok(bytes);
        }
    }
    Err(EvidenceError::TooLarge {
        camera: frame.id.camera.clone(),
        sequence: frame.id.sequence,
        bytes: bytes.len(),
    })
}

#[cfg(test)]
mod tests {
    use flow::{NormBox, Score};

    use super::*;
    use crate::testing::sample::{frame, frame_of};

    fn person(x0: f32, y0: f32, x1: f32, y1: f32) -> Detection {
        Detection {
            class: ClassName::new("person"),
            score: Score::new(0.9).unwrap(),
            bbox: NormBox::new(x0, y0, x1, y1).unwrap(),
        }
    }

    /// 160 × 128 with a checkerboard of 1-pixel squares in `a..b` rows and columns, plain elsewhere. The averages of
    /// any even-sized block are the same whichever way the board starts.
    fn board(phase: usize, cols: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> Frame {
        let (w, h) = (160, 128);
        let luma = (0..w * h).map(|i| {
            let (x, y) = (i % w, i / w);
            let inside = cols.contains(&x) && rows.contains(&y);
            if inside { [40, 200][(x + y + phase) % 2] } else { 120 }
        });
        frame_of(w, h, luma.collect(), (vec![128; w * h / 4], vec![128; w * h / 4]))
    }

    #[test]
    fn two_faces_with_the_same_block_averages_give_the_same_bytes() {
        // The box with its margin covers columns 32..96, rows 32..96: 64 pixels, 8 blocks of 8.
        let blur = Blur { margin: 0.0, ..Blur::default() };
        let seen = [person(0.2, 0.25, 0.6, 0.75)];
        let (a, b) = (board(0, 32..96, 32..96), board(1, 32..96, 32..96));
        let plain = |f: &Frame| Jpeg::of(f, &[], &blur).unwrap().bytes;
        assert_ne!(plain(&a), plain(&b), "they are two pictures");
        let (a, b) = (Jpeg::of(&a, &seen, &blur).unwrap(), Jpeg::of(&b, &seen, &blur).unwrap());
        assert_eq!(a.bytes, b.bytes, "nothing but the averages is left of either");
        assert_eq!(a.sha256, sha256(&a.bytes));
    }

    #[test]
    fn only_the_named_classes_are_blurred() {
        let (a, b) = (board(0, 32..96, 32..96), board(1, 32..96, 32..96));
        let mut cars = [person(0.2, 0.25, 0.6, 0.75)];
        cars[0].class = ClassName::new("car");
        let bytes = |f: &Frame, blur: &Blur| Jpeg::of(f, &cars, blur).unwrap().bytes;
        assert_ne!(bytes(&a, &Blur::default()), bytes(&b, &Blur::default()));
        let blur = Blur { classes: vec![ClassName::new("car")], margin: 0.0 };
        assert_eq!(bytes(&a, &blur), bytes(&b, &blur));
    }

    #[test]
    fn the_margin_reaches_beyond_the_box() {
        // The detector cut the person: its box ends 8 pixels before the checkerboard does, on every side.
        let (a, b) = (board(0, 32..96, 32..96), board(1, 32..96, 32..96));
        let cut = [person(0.25, 0.3125, 0.55, 0.6875)];
        let bytes = |f: &Frame, margin| Jpeg::of(f, &cut, &Blur { margin, ..Blur::default() }).unwrap().bytes;
        assert_ne!(bytes(&a, 0.0), bytes(&b, 0.0));
        assert_eq!(bytes(&a, 0.2), bytes(&b, 0.2));
    }

    #[test]
    fn large_pictures_are_scaled_down_and_small_ones_left() {
        let jpeg = Jpeg::of(&frame(1920, 1080), &[], &Blur::default()).unwrap();
        assert_eq!((jpeg.width, jpeg.height), (1280, 720));
        let back = image::load_from_memory(&jpeg.bytes).unwrap();
        assert_eq!((back.width(), back.height()), (1280, 720));
        let jpeg = Jpeg::of(&frame(33, 17), &[person(0.0, 0.0, 1.0, 1.0)], &Blur::default()).unwrap();
        assert_eq!((jpeg.width, jpeg.height), (33, 17));
        assert!(Jpeg::of(&frame(1, 1), &[person(0.0, 0.0, 1.0, 1.0)], &Blur::default()).is_ok());
    }
}
