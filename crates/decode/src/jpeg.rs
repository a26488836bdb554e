//! As much of a JPEG file (ITU-T T.81) as it takes to say whether it is one, and of which size.

/// Segments before the frame header that are looked at; cameras send fewer than ten.
const MAX_SEGMENTS: usize = 64;

/// The frame header (T.81 B.2.2): sample precision, size and sub-sampling, which is all that a decoder's buffers
/// depend on. `Err` says why the bytes are no picture.
pub(crate) fn frame_header(data: &[u8]) -> Result<&[u8], String> {
    let mut rest = data.strip_prefix(&[0xff, 0xd8]).ok_or("no JPEG: it does not begin with SOI (ff d8)")?;
    for _ in 0..MAX_SEGMENTS {
        let [0xff, marker, tail @ ..] = rest else { break };
        if *marker == 0xff {
            // A fill byte (B.1.1.2).
            rest = &rest[1..];
            continue;
        }
        let Some((length, _)) = tail.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes(*length)).max(2);
        let Some(body) = tail.get(2..length) else { break };
        match marker {
            0xc0..=0xc2 => return Ok(body),
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(format!("JPEG process SOF{} (expected baseline, SOF0)", marker & 0xf));
            }
            0xda => break,
            _ => rest = &tail[length..],
        }
    }
    Err("no JPEG frame header (SOF) before the first scan".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP0: &[u8] = &[0xff, 0xe0, 0, 4, 1, 2];
    const SOF0: &[u8] = &[0xff, 0xc0, 0, 11, 8, 0, 48, 0, 64, 1, 1, 0x11, 0];

    #[test]
    fn the_frame_header_is_found_behind_other_segments() {
        let file = [&[0xff, 0xd8], APP0, &[0xff], SOF0, &[0xff, 0xda, 0, 2]].concat();
        assert_eq!(frame_header(&file), Ok(&SOF0[4..]));
    }

    #[test]
    fn what_is_no_picture_says_why() {
        let say = |parts: &[&[u8]]| frame_header(&parts.concat()).unwrap_err();
        assert!(say(&[]).contains("SOI"));
        assert!(say(&[&[0xff, 0xd8], APP0]).contains("SOF"));
        assert!(say(&[&[0xff, 0xd8, 0xff, 0xda, 0, 2], SOF0]).contains("SOF"), "after the scan");
        assert!(say(&[&[0xff, 0xd8, 0xff, 0xc9, 0, 2]]).contains("SOF9"), "arithmetic coding");
        for end in 0..SOF0.len() {
            assert!(frame_header(&[&[0xff, 0xd8], &SOF0[..end]].concat()).is_err());
        }
    }
}
