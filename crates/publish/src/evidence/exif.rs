//! Capture time and camera inside of a JPEG file, as Exif 2.32 (CIPA DC-008): an APP1 segment that holds a small TIFF.

use flow::{CameraId, Timestamp};

/// What wrote the picture.
const SOFTWARE: &str = concat!("huiyan ", env!("CARGO_PKG_VERSION"));
/// APP1's marker, and the JPEG's start.
const APP1: [u8; 2] = [0xff, 0xe1];
const SOI: [u8; 2] = [0xff, 0xd8];

/// Tags (Exif 2.32, tables 3 to 8).
mod tag {
    pub const IMAGE_DESCRIPTION: u16 = 0x010e;
    pub const SOFTWARE: u16 = 0x0131;
    pub const DATE_TIME: u16 = 0x0132;
    pub const EXIF_IFD: u16 = 0x8769;
    pub const EXIF_VERSION: u16 = 0x9000;
    pub const DATE_TIME_ORIGINAL: u16 = 0x9003;
    pub const OFFSET_TIME: u16 = 0x9010;
    pub const OFFSET_TIME_ORIGINAL: u16 = 0x9011;
    pub const SUB_SEC_TIME_ORIGINAL: u16 = 0x9291;
    pub const BODY_SERIAL_NUMBER: u16 = 0xa431;
}

/// Puts the segment behind the start of the image (Exif 2.32, 4.5.4: before all others). The time is UTC and says so.
///
/// Nothing else of the file changes; what is no JPEG comes back as it was.
pub(super) fn into_jpeg(jpeg: Vec<u8>, camera: &CameraId, captured: Timestamp) -> Vec<u8> {
    let Some(rest) = jpeg.strip_prefix(&SOI) else { return jpeg };
    let body = segment(camera, captured);
    let mut out = Vec::with_capacity(jpeg.len() + body.len() + 4);
    out.extend(SOI);
    out.extend(APP1);
    out.extend((body.len() as u16 + 2).to_be_bytes());
    out.extend(&body);
    out.extend(rest);
    out
}

fn segment(camera: &CameraId, captured: Timestamp) -> Vec<u8> {
    let time = captured.strftime("%Y:%m:%d %H:%M:%S").to_string();
    let millis = format!("{:03}", captured.subsec_millisecond());
    let ascii = |text: &str| [text.as_bytes(), &[0]].concat();
    let main = Directory::default()
        .with(tag::IMAGE_DESCRIPTION, ASCII, ascii(&format!("camera {camera}")))
        .with(tag::SOFTWARE, ASCII, ascii(SOFTWARE))
        .with(tag::DATE_TIME, ASCII, ascii(&time))
        // Where the second directory is, filled in below.
        .with(tag::EXIF_IFD, LONG, vec![0; 4]);
    let exif = Directory::default()
        .with(tag::EXIF_VERSION, UNDEFINED, b"0232".to_vec())
        .with(tag::DATE_TIME_ORIGINAL, ASCII, ascii(&time))
        .with(tag::OFFSET_TIME, ASCII, ascii("+00:00"))
        .with(tag::OFFSET_TIME_ORIGINAL, ASCII, ascii("+00:00"))
        .with(tag::SUB_SEC_TIME_ORIGINAL, ASCII, ascii(&millis))
        .with(tag::BODY_SERIAL_NUMBER, ASCII, ascii(camera.as_str()));
    let begin = 8;
    let second = begin + main.size();
    let main = main.with_value(tag::EXIF_IFD, (second as u32).to_be_bytes().to_vec());
    let mut out = b"Exif\0\0".to_vec();
    // Big-endian TIFF, whose first directory follows.
    out.extend(b"MM\0\x2a\0\0\0\x08");
    main.write(begin, &mut out);
    exif.write(second, &mut out);
    out
}

/// Types of values (TIFF 6.0, section 2).
const ASCII: u16 = 2;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;

/// An image file directory: entries of twelve bytes, then what does not fit into them. Tags rise.
#[derive(Default)]
struct Directory(Vec<(u16, u16, Vec<u8>)>);

impl Directory {
    fn with(mut self, tag: u16, kind: u16, value: Vec<u8>) -> Self {
        self.0.push((tag, kind, value));
        self
    }

    fn with_value(mut self, tag: u16, value: Vec<u8>) -> Self {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.0 == tag) {
            entry.2 = value;
        }
        self
    }

    /// Bytes of the directory and its values.
    fn size(&self) -> usize {
        let outside = |(_, _, value): &(u16, u16, Vec<u8>)| {
            if value.len() > 4 { value.len().next_multiple_of(2) } else { 0 }
        };
        2 + 12 * self.0.len() + 4 + self.0.iter().map(outside).sum::<usize>()
    }

    /// `at`: where it begins, counted from the start of the TIFF.
    fn write(&self, at: usize, out: &mut Vec<u8>) {
        let mut next = at + 2 + 12 * self.0.len() + 4;
        let mut outside = Vec::new();
        out.extend((self.0.len() as u16).to_be_bytes());
        for (tag, kind, value) in &self.0 {
            let count = if *kind == LONG { 1 } else { value.len() as u32 };
            out.extend(tag.to_be_bytes());
            out.extend(kind.to_be_bytes());
            out.extend(count.to_be_bytes());
            if value.len() > 4 {
                out.extend((next as u32).to_be_bytes());
                next += value.len().next_multiple_of(2);
                outside.extend(value);
                outside.resize(outside.len().next_multiple_of(2), 0);
            } else {
                out.extend(value.iter().copied().chain([0; 4]).take(4));
            }
        }
        // No further directory.
        out.extend([0; 4]);
        out.extend(outside);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut jpeg = Vec::new();
        let grey = [128; 16 * 16];
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
            .encode(&grey, 16, 16, image::ExtendedColorType::L8)
            .unwrap();
        let captured: Timestamp = "2026-03-04T05:06:07.089Z".parse().unwrap();
        into_jpeg(jpeg, &CameraId::new("hn-0001").unwrap(), captured)
    }

    /// Reads directories as TIFF 6.0 says, without a word of the writer above.
    fn tags(jpeg: &[u8]) -> BTreeMap<u16, String> {
        assert_eq!(&jpeg[..4], [0xff, 0xd8, 0xff, 0xe1]);
        assert_eq!(&jpeg[6..12], b"Exif\0\0");
        let tiff = &jpeg[12..];
        let (two, four) = (
            |at: usize| u16::from_be_bytes(tiff[at..at + 2].try_into().unwrap()),
            |at: usize| u32::from_be_bytes(tiff[at..at + 4].try_into().unwrap()),
        );
        let mut found = BTreeMap::new();
        let mut open = vec![four(4) as usize];
        while let Some(at) = open.pop() {
            let count = usize::from(two(at));
            let mut last = 0;
            for entry in (0..count).map(|n| at + 2 + 12 * n) {
                let (tag, kind, length) = (two(entry), two(entry + 2), four(entry + 4) as usize);
                assert!(tag > last, "tags rise");
                last = tag;
                if kind == 4 {
                    open.push(four(entry + 8) as usize);
                    continue;
                }
                let from = if length > 4 { four(entry + 8) as usize } else { entry + 8 };
                let text = String::from_utf8(tiff[from..from + length].to_vec()).unwrap();
                found.insert(tag, text.trim_end_matches('\0').to_owned());
            }
            assert_eq!(four(at + 2 + 12 * count), 0, "no further directory");
        }
        found
    }

    #[test]
    fn the_tags_say_when_and_where() {
        let found = tags(&sample());
        assert_eq!(found[&0x9003], "2026:03:04 05:06:07");
        assert_eq!(found[&0x9291], "089");
        assert_eq!((&*found[&0x9010], &*found[&0x9011]), ("+00:00", "+00:00"));
        assert_eq!(found[&0xa431], "hn-0001");
        assert_eq!(found[&0x010e], "camera hn-0001");
        assert!(found[&0x0131].starts_with("huiyan "));
        assert_eq!(found[&0x9000], "0232");
    }

    #[test]
    fn the_picture_is_still_one() {
        let back = image::load_from_memory(&sample()).unwrap();
        assert_eq!((back.width(), back.height()), (16, 16));
        assert_eq!(into_jpeg(vec![1, 2], &CameraId::new("c").unwrap(), Timestamp::UNIX_EPOCH), [1, 2]);
    }

    /// A reader that nobody here wrote.
    #[test]
    #[allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]
    fn ffprobe_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jpg");
        std::fs::write(&path, sample()).unwrap();
        let said =
            Command::new("ffprobe").args(["-v", "error", "-show_frames", "-of", "flat"]).arg(&path).output();
        let Ok(said) = said else { return println!("skipped: ffprobe is not installed") };
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        for text in ["2026:03:04 05:06:07", "hn-0001", "huiyan "] {
            assert!(said.contains(text), "{text}: {said}");
        }
    }
}
