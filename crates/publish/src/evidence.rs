//! A picture that may leave the worker: persons and number plates made unrecognisable, then scaled down, then coded.
//!
//! The order matters. What is to be hidden is blurred in the planes as they came from the decoder, before anything else
//! reads them, so no later step can carry a trace. Blurring is not a filter that could be inverted: each block of a
//! region is replaced by its average (`blur`), and a person spans at most nine blocks in each direction, so a head is
//! one or two blocks. A person whom the model did not see is not blurred; that is why detectors are run with a low
//! threshold, and why access to evidence is a matter for the desk's register. Parts of the picture that nobody may see
//! at all (a camera's `masks`) are black before this crate, the model or anything else sees a picture.
//!
//! What happens to pictures afterwards: `folder` writes them, `chain` signs what happened to them, [`verify()`]
//! checks it, `store` carries them elsewhere.

mod blur;
pub(crate) mod chain;
mod exif;
pub(crate) mod folder;
pub(crate) mod fuzz;
mod hide;
pub(crate) mod keeper;
mod key;
mod register;
mod rgb;
mod seal;
pub(crate) mod side;
mod store;
mod verify;

pub use chain::{Deleted, Kept, Link, Record, Stored, What, Why};
pub use keeper::StoreState;
pub use key::{KeyError, PublicKey, SigningKey};
pub use register::{OpenError, Opening, REGISTER, open_original};
pub(crate) use seal::Seal;
pub use seal::SealError;
pub use store::{Store, StoreError};
pub use verify::{ChainEnd, Fetch, Finding, Verification, VerifyError, VerifyOptions, Wrong, verify};

use flow::{ClassName, Detection, Frame, Matrix, NormBox};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use crate::wire::sha256;

/// Evidence is scaled down to at most this many pixels per row.
const MAX_WIDTH: u32 = 1280;
/// No evidence picture is larger; brokers limit packets.
pub(crate) const MAX_JPEG_BYTES: usize = 2 * 1024 * 1024;
/// More than the Exif segment ever takes.
const EXIF_BYTES: usize = 4 * 1024;
/// JPEG qualities (1..=100) tried until the picture is small enough. The first is enough for any real street.
const QUALITIES: [u8; 4] = [85, 70, 50, 25];
/// Of sealed originals.
const ORIGINAL_QUALITY: u8 = 92;
/// The worker's own signing key, in the data directory.
pub(crate) const KEY_FILE: &str = "evidence-key.pem";

/// What is made unrecognisable: persons and the plate band of vehicles (the README has the table), and more.
#[derive(Debug, Clone, PartialEq)]
pub struct Blur {
    /// Detections of these classes as well, wholly.
    pub also: Vec<ClassName>,
    /// Each part, larger by this share of its width and height on each side: detectors cut off hair and hands.
    pub margin: f32,
}

impl Default for Blur {
    fn default() -> Self {
        Self { also: vec![], margin: 0.1 }
    }
}

impl Blur {
    /// The parts of the picture that are hidden, before the margin, each with the thing that it belongs to.
    pub(crate) fn hidden<'d>(&self, seen: &'d [Detection]) -> impl Iterator<Item = (&'d Detection, NormBox)> {
        seen.iter().filter_map(|seen| {
            let also = self.also.contains(&seen.class).then_some(hide::Hide::Whole);
            let hide = also.or_else(|| hide::of_class(seen.class.as_str()))?;
            Some((seen, hide.part(&seen.bbox)))
        })
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
    /// The picture is on an accelerator that does not give it.
    #[error("evidence of camera {camera}: {source}")]
    Download {
        /// Whose picture.
        camera: flow::CameraId,
        /// Why.
        source: flow::DownloadError,
    },
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

    /// Blurs, scales down to 1280 pixels per row at most, and codes, with capture time and camera as Exif. The
    /// detections' boxes are not drawn: they are in the event and in the side file, and whoever shows it draws them.
    pub fn of(frame: &Frame, detections: &[Detection], blur: &Blur) -> Result<Self, EvidenceError> {
        Self::of_part(frame, detections, blur, None)
    }

    /// The same of a part of the picture: a close-up. Hidden is what is hidden in the whole.
    pub fn of_part(
        frame: &Frame,
        detections: &[Detection],
        blur: &Blur,
        part: Option<&NormBox>,
    ) -> Result<Self, EvidenceError> {
        let camera = || frame.id.camera.clone();
        let picture = frame.pixels.on_host();
        let picture = &*picture.map_err(|source| EvidenceError::Download { camera: camera(), source })?;
        let mut planes = blur::Planes::copy_of(picture);
        for (_, part) in blur.hidden(detections) {
            planes.pixelate(&part, blur.margin);
        }
        if let Some(part) = part {
            planes = planes.cut(part);
        }
        let bt709 = picture.matrix == Matrix::Bt709;
        let image = rgb::convert(&planes, MAX_WIDTH, bt709, picture.full_range);
        let bytes = encode(&image, frame)?;
        Ok(Self { sha256: sha256(&bytes), bytes, width: image.width, height: image.height })
    }

    /// The picture as the camera sent it, but for its masks, in full size: for the one place that seals it.
    pub(crate) fn original(frame: &Frame) -> Result<Vec<u8>, EvidenceError> {
        let camera = || frame.id.camera.clone();
        let picture = frame.pixels.on_host();
        let picture = &*picture.map_err(|source| EvidenceError::Download { camera: camera(), source })?;
        let (planes, bt709) = (blur::Planes::copy_of(picture), picture.matrix == Matrix::Bt709);
        let image = rgb::convert(&planes, u32::MAX, bt709, picture.full_range);
        let bytes = encode_at(&image, frame, ORIGINAL_QUALITY)?;
        Ok(exif::into_jpeg(bytes, &frame.id.camera, frame.captured))
    }
}

fn encode(image: &rgb::Rgb, frame: &Frame) -> Result<Vec<u8>, EvidenceError> {
    let mut bytes = Vec::new();
    for quality in QUALITIES {
        bytes = encode_at(image, frame, quality)?;
        if bytes.len() <= MAX_JPEG_BYTES - EXIF_BYTES {
            return Ok(exif::into_jpeg(bytes, &frame.id.camera, frame.captured));
        }
    }
    Err(EvidenceError::TooLarge {
        camera: frame.id.camera.clone(),
        sequence: frame.id.sequence,
        bytes: bytes.len(),
    })
}

fn encode_at(image: &rgb::Rgb, frame: &Frame, quality: u8) -> Result<Vec<u8>, EvidenceError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&image.data, image.width, image.height, ExtendedColorType::Rgb8)
        .map_err(|source| EvidenceError::Encode {
            camera: frame.id.camera.clone(),
            sequence: frame.id.sequence,
            width: image.width,
            height: image.height,
            source,
        })?;
    Ok(bytes)
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
    fn two_plates_with_the_same_block_averages_give_the_same_bytes() {
        // The board is where the lower part of the vehicle is: rows 61 to 96, of which the blocks begin at 56.
        let blur = Blur { margin: 0.0, ..Blur::default() };
        let car = |class: &str| {
            let mut seen = [person(0.2, 0.25, 0.6, 0.75)];
            seen[0].class = ClassName::new(class);
            seen
        };
        let (low, high) = (
            [board(0, 32..96, 56..96), board(1, 32..96, 56..96)],
            [board(0, 32..96, 32..48), board(1, 32..96, 32..48)],
        );
        let bytes = |f: &Frame, class: &str| Jpeg::of(f, &car(class), &blur).unwrap().bytes;
        for class in ["car", "bus", "motorcycle", "person"] {
            assert_eq!(
                bytes(&low[0], class),
                bytes(&low[1], class),
                "{class}: nothing but the averages is left"
            );
        }
        assert_ne!(bytes(&high[0], "car"), bytes(&high[1], "car"), "the rest of a car is evidence");
        assert_eq!(bytes(&high[0], "person"), bytes(&high[1], "person"));
    }

    #[test]
    fn other_things_are_blurred_only_where_that_is_asked_for() {
        let (a, b) = (board(0, 32..96, 32..96), board(1, 32..96, 32..96));
        let mut goods = [person(0.2, 0.25, 0.6, 0.75)];
        goods[0].class = ClassName::new("goods");
        let bytes = |f: &Frame, blur: &Blur| Jpeg::of(f, &goods, blur).unwrap().bytes;
        assert_ne!(bytes(&a, &Blur::default()), bytes(&b, &Blur::default()));
        let blur = Blur { also: vec![ClassName::new("goods")], margin: 0.0 };
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
    fn a_close_up_is_that_part_at_its_own_scale_with_everything_hidden() {
        let part = NormBox::new(0.25, 0.25, 0.5, 0.75).unwrap();
        let whole = frame(2560, 1440);
        let jpeg = Jpeg::of_part(&whole, &[], &Blur::default(), Some(&part)).unwrap();
        assert_eq!((jpeg.width, jpeg.height), (640, 720), "nothing is scaled down");
        // A person in it is hidden as in the whole, though the part begins within the blocks.
        let blur = Blur { margin: 0.0, ..Blur::default() };
        let seen = [person(0.2, 0.25, 0.6, 0.75)];
        let bytes = |f: &Frame, seen: &[Detection]| Jpeg::of_part(f, seen, &blur, Some(&part)).unwrap().bytes;
        let (a, b) = (board(0, 32..96, 32..96), board(1, 32..96, 32..96));
        assert_ne!(bytes(&a, &[]), bytes(&b, &[]));
        assert_eq!(bytes(&a, &seen), bytes(&b, &seen));
        for part in [[0.999, 0.0, 1.0, 1.0], [0.0, 0.0, 0.001, 0.001], [0.0, 0.0, 1.0, 1.0]] {
            let [x0, y0, x1, y1] = part;
            let part = NormBox::new(x0, y0, x1, y1).unwrap();
            for (width, height) in [(1, 1), (33, 17), (640, 360)] {
                assert!(
                    Jpeg::of_part(&frame(width, height), &[], &blur, Some(&part)).is_ok(),
                    "{width}x{height}"
                );
            }
        }
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
