//! Session descriptions (RFC 8866) as cameras write them: whatever line cannot be read is passed over.

use super::fault::Fault;
use crate::sdp;

/// More than any camera has.
const MAX_MEDIA: usize = 32;

/// What a camera offers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// `a=control` of the session.
    pub control: Option<String>,
    pub media: Vec<Media>,
}

/// One `m=` section.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    /// `video`, `audio`, `application`; in lower case.
    pub kind: String,
    pub payload_type: u8,
    /// Of its `rtpmap`, or of the static payload type (RFC 3551 6); in lower case, empty where unknown.
    pub encoding: String,
    /// 0 where unknown.
    pub clock_rate: u32,
    pub control: Option<String>,
    /// NAL units out of its `fmtp`.
    pub parameter_sets: Vec<Vec<u8>>,
}

/// Reads a description.
pub(crate) fn parse(text: &[u8]) -> Result<Description, Fault> {
    let text = String::from_utf8_lossy(text);
    let mut sections = text.split("\nm=");
    let session = sections.next().unwrap_or_default();
    let mut description =
        Description { control: attribute(session, "control").map(str::to_owned), media: Vec::new() };
    if let Some(first) = session.strip_prefix("m=") {
        description.media.extend(media(first));
        description.control = None;
    }
    description.media.extend(sections.take(MAX_MEDIA).filter_map(media));
    if description.media.is_empty() {
        return Err(Fault::Description("there is no media (m=) in it"));
    }
    Ok(description)
}

/// A section without its `m=`.
fn media(section: &str) -> Option<Media> {
    let line = section.lines().next()?;
    // media port[/ports] protocol format…
    let mut words = line.split_whitespace();
    let kind = words.next()?.to_ascii_lowercase();
    let payload_type: u8 = words.nth(2)?.parse().ok().filter(|number| *number < 128)?;
    let (encoding, clock_rate) = attributes(section, "rtpmap")
        .find_map(|map| {
            let (number, map) = map.split_once(char::is_whitespace)?;
            if number.parse() != Ok(payload_type) {
                return None;
            }
            let mut parts = map.trim().split('/');
            let encoding = parts.next()?.trim().to_ascii_lowercase();
            let rate = parts.next().and_then(|rate| rate.trim().parse().ok()).unwrap_or(0);
            Some((encoding, rate))
        })
        .unwrap_or_else(|| static_encoding(payload_type));
    Some(Media {
        kind,
        payload_type,
        encoding,
        clock_rate,
        control: attribute(section, "control").map(str::to_owned),
        parameter_sets: sdp::parameter_sets(section.as_bytes(), payload_type),
    })
}

/// RFC 3551 table 5, and what of table 4 has a name in it that a message may tell.
fn static_encoding(payload_type: u8) -> (String, u32) {
    let (encoding, rate) = match payload_type {
        0 => ("pcmu", 8000),
        8 => ("pcma", 8000),
        14 => ("mpa", 90_000),
        26 => ("jpeg", 90_000),
        31 => ("h261", 90_000),
        32 => ("mpv", 90_000),
        33 => ("mp2t", 90_000),
        34 => ("h263", 90_000),
        _ => ("", 0),
    };
    (encoding.to_owned(), rate)
}

fn attribute<'a>(section: &'a str, name: &'a str) -> Option<&'a str> {
    attributes(section, name).next()
}

fn attributes<'a>(section: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    section.lines().filter_map(move |line| {
        let (key, value) = line.trim().strip_prefix("a=")?.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_section_are_its_own() {
        let text = "v=0\r\ns=x\r\na=control:*\r\nm=audio 0 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n\
            a=control:track0\r\nm=video 0/2 RTP/AVP 96 97\r\na=control: rtsp://h/t?x=[1]\r\na=rtpmap:96  H264/90000 \r\n\
            a=fmtp:96 sprop-parameter-sets=Z0IAHpZU,aM44gA==\r\nm=broken\r\nm=video 0 RTP/AVP 26\r\n";
        let description = parse(text.as_bytes()).unwrap();
        assert_eq!(description.control.as_deref(), Some("*"));
        let brief: Vec<_> = description
            .media
            .iter()
            .map(|m| {
                (m.kind.as_str(), m.payload_type, m.encoding.as_str(), m.clock_rate, m.parameter_sets.len())
            })
            .collect();
        assert_eq!(
            brief,
            [
                ("audio", 96, "opus", 48_000, 0),
                ("video", 96, "h264", 90_000, 2),
                ("video", 26, "jpeg", 90_000, 0)
            ]
        );
        assert_eq!(description.media[1].control.as_deref(), Some("rtsp://h/t?x=[1]"));
        assert_eq!(description.media[2].control, None);
        assert_eq!(parse(b"m=video 0 RTP/AVP 26\n").unwrap().media.len(), 1);
    }

    #[test]
    fn what_is_no_description_says_so() {
        for text in [&b""[..], b"this is no SDP\r\n", b"v=0\r\nm=video\r\n", &[0xff; 300]] {
            assert!(matches!(parse(text), Err(Fault::Description(_))), "{text:?}");
        }
    }
}
