//! What a session description offers (RFC 4566), for a report.

/// Lines that are read; a real one has some dozens.
const MAX_LINES: usize = 1_000;
const MAX_TRACKS: usize = 16;
const MAX_TEXT: usize = 100;

/// One `m=` section.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Track {
    /// `video`, `audio`, `application` …
    pub media: String,
    /// Its RTP payload type.
    pub payload_type: Option<u8>,
    /// Encoding name in lower case, for example `h264`, `pcma`, `vnd.onvif.metadata`.
    pub encoding: String,
    /// RTP ticks per second.
    pub clock_rate: Option<u32>,
    /// Pictures per second, as described.
    pub fps: Option<f32>,
    /// It is the one that is watched.
    pub watched: bool,
}

/// What a description says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Description {
    /// `a=tool:`, the server's own name.
    pub tool: Option<String>,
    pub tracks: Vec<Track>,
}

/// Reads what can be read.
pub(crate) fn read(sdp: &[u8]) -> Description {
    let text = String::from_utf8_lossy(sdp);
    let mut description = Description::default();
    for line in text.lines().take(MAX_LINES) {
        let line = line.trim_end();
        if let Some(media) = line.strip_prefix("m=") {
            if description.tracks.len() == MAX_TRACKS {
                break;
            }
            description.tracks.push(track(media));
        } else if let Some(tool) = line.strip_prefix("a=tool:") {
            description.tool = Some(short(tool));
        } else if let (Some(track), Some(attribute)) =
            (description.tracks.last_mut(), line.strip_prefix("a="))
        {
            attribute_of(track, attribute);
        }
    }
    description
}

/// `video 0 RTP/AVP 96`.
fn track(media: &str) -> Track {
    let mut words = media.split_ascii_whitespace();
    let name = words.next().unwrap_or("?");
    let payload_type = words.nth(2).and_then(|word| word.parse().ok());
    let (encoding, clock_rate) = match payload_type {
        // RFC 3551 table 4 and 5: those that cameras use without saying so in an `rtpmap`.
        Some(0) => ("pcmu", Some(8_000)),
        Some(8) => ("pcma", Some(8_000)),
        Some(14) => ("mpa", Some(90_000)),
        Some(26) => ("jpeg", Some(90_000)),
        _ => ("?", None),
    };
    Track {
        media: short(name).to_lowercase(),
        payload_type,
        encoding: encoding.to_owned(),
        clock_rate,
        fps: None,
        watched: false,
    }
}

fn attribute_of(track: &mut Track, attribute: &str) {
    if let Some(fps) = attribute.strip_prefix("framerate:") {
        track.fps = fps.trim().parse().ok().filter(|fps: &f32| fps.is_finite() && *fps > 0.0);
    } else if let Some((number, map)) =
        attribute.strip_prefix("rtpmap:").and_then(|map| map.trim_start().split_once(' '))
        && number.parse().ok() == track.payload_type
    {
        let mut parts = map.trim().split('/');
        track.encoding = short(parts.next().unwrap_or_default()).to_lowercase();
        track.clock_rate = parts.next().and_then(|rate| rate.trim().parse().ok());
    }
}

/// A text of the camera's that is shown: without control characters, and not for ever.
pub(super) fn short(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_of_a_camera_with_audio_and_metadata() {
        let sdp = "v=0\r\ns=Media Presentation\r\na=tool:Camera 5.1\u{7}\r\nm=video 0 RTP/AVP 96\r\na=framerate:12.5\r\n\
                   a=rtpmap:96 H264/90000\r\nm=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\n\
                   m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\n";
        let read = read(sdp.as_bytes());
        assert_eq!(read.tool.as_deref(), Some("Camera 5.1"));
        let said: Vec<_> = read
            .tracks
            .iter()
            .map(|t| format!("{} {} {:?} {:?}", t.media, t.encoding, t.clock_rate, t.fps))
            .collect();
        let expected = [
            "video h264 Some(90000) Some(12.5)",
            "audio pcma Some(8000) None",
            "application vnd.onvif.metadata Some(90000) None",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn what_is_no_description_says_nothing() {
        assert_eq!(read(&[0xff; 300]), Description::default());
        let many = "m=video\r\na=rtpmap:\r\na=rtpmap:96\r\na=framerate:inf\r\n".repeat(10_000);
        let read = read(many.as_bytes());
        assert!(read.tracks.len() <= MAX_TRACKS);
        assert!(read.tracks.iter().all(|t| t.fps.is_none() && t.payload_type.is_none()));
    }
}
