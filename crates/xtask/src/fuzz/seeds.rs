//! Inputs to begin with, made from recordings of real cameras where they are at hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Of a recording, so much.
const PART: usize = 6 << 10;
/// Payload bytes: small, so that a short input has several packets.
const PAYLOAD: usize = 400;

/// Writes the seeds of a target into a folder. Without recordings there are none.
pub fn write(target: &str, captures: &Path, to: &Path) -> Result<()> {
    let replies = captures.join("rtsp-sdp-retina/src/client/testdata");
    let streams = captures.join("bitstreams");
    let seeds: Vec<(PathBuf, Vec<u8>)> = match target {
        "reply" => read(&replies),
        "sdp" => read(&replies).into_iter().map(|(path, data)| (path, body(&data).to_vec())).collect(),
        "parameters" => units(&streams, |codec, data| [&[codec], &data[..data.len().min(1_024)]].concat()),
        "depacketize_h264" => {
            units(&streams, |codec, data| if codec == 0 { payloads(0, data) } else { Vec::new() })
        }
        "depacketize_h265" => {
            units(&streams, |codec, data| if codec == 1 { payloads(1, data) } else { Vec::new() })
        }
        _ => Vec::new(),
    };
    for (path, data) in seeds.into_iter().filter(|(_, data)| !data.is_empty()) {
        fs::write(to.join(path.file_name().unwrap_or_default()), data)?;
    }
    Ok(())
}

fn read(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), fs::read(entry.path()).ok()?))).collect()
}

/// What stands behind the headers of a reply.
fn body(reply: &[u8]) -> &[u8] {
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(reply, |end| &reply[end + 4..])
}

/// The beginning of each bitstream; 0 for H.264, 1 for H.265.
fn units(folder: &Path, seed: impl Fn(u8, &[u8]) -> Vec<u8>) -> Vec<(PathBuf, Vec<u8>)> {
    let codec = |path: &Path| match path.extension().and_then(|end| end.to_str()) {
        Some("264" | "h264" | "jsv" | "avc" | "26l") => Some(0),
        Some("265" | "h265" | "bit" | "hevc") => Some(1),
        _ => None,
    };
    let seeds = read(folder).into_iter().filter_map(|(path, data)| {
        let data = seed(codec(&path)?, &data[..data.len().min(PART)]);
        Some((path, data))
    });
    seeds.collect()
}

/// The input of a depacketizer's target: NAL units whole or in fragments (RFC 6184 5.8, RFC 7798 4.4.3), each payload
/// behind its flags and its length; each slice is a picture.
fn payloads(codec: u8, stream: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    let mut add = |flags: u8, payload: &[u8]| {
        out.push(flags);
        out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        out.extend_from_slice(payload);
    };
    for unit in nal_units(stream) {
        let slice = if codec == 0 { matches!(unit[0] & 31, 1..=5) } else { unit[0] >> 1 & 63 < 32 };
        let ends = u8::from(slice) * 3;
        if unit.len() <= PAYLOAD {
            add(ends, unit);
            continue;
        }
        let (head, prefix) = match codec {
            0 => (1, vec![unit[0] & 0xe0 | 28, unit[0] & 31]),
            _ => (2, vec![unit[0] & 0x81 | 49 << 1, unit[1], unit[0] >> 1 & 63]),
        };
        let last = (unit.len() - head).div_ceil(PAYLOAD) - 1;
        for (number, part) in unit[head..].chunks(PAYLOAD).enumerate() {
            let mut payload = [&prefix[..], part].concat();
            payload[head] |= u8::from(number == 0) << 7 | u8::from(number == last) << 6;
            let flags = if number == 0 { ends & 2 } else { 0 } | if number == last { ends & 1 } else { 0 };
            add(flags, &payload);
        }
    }
    out
}

fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> = stream
        .windows(3)
        .enumerate()
        .filter(|(_, three)| *three == [0, 0, 1])
        .map(|(at, _)| at + 3)
        .collect();
    let ends: Vec<usize> = starts.iter().skip(1).map(|start| start - 3).chain([stream.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &stream[start..end]).filter(|unit| unit.len() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_stand_behind_flags_and_length_and_fragments_add_up() {
        let slice: Vec<u8> = std::iter::once(0x65).chain((0..900).map(|n| n as u8 | 4)).collect();
        let stream = [&[0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1][..], &slice].concat();
        let input = payloads(0, &stream);
        assert_eq!(input[..7], [0, 0, 0, 3, 0x67, 1, 2]);
        let (mut rest, mut body, mut flags) = (&input[7..], Vec::new(), Vec::new());
        while let [flag, high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            flags.push((*flag, after[1]));
            body.extend_from_slice(&after[2..length]);
            rest = &after[length..];
        }
        assert_eq!(body, slice[1..]);
        assert_eq!(flags, [(2, 0x85), (0, 5), (1, 0x45)]);
    }

    #[test]
    fn without_recordings_there_are_no_seeds() {
        write("depacketize_h264", Path::new("nowhere"), Path::new("nowhere")).unwrap();
        assert_eq!(body(b"RTSP/1.0 200 OK\r\n\r\nv=0"), b"v=0");
        assert_eq!(body(b"v=0"), b"v=0");
    }
}
