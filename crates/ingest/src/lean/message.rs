//! RTSP messages (RFC 2326 4, 6, 7), read leniently: bare line feeds, folded lines, blanks around everything, bytes
//! that are no UTF-8, lines that are no headers, a status line without words.

use super::fault::{Fault, excerpt};

/// Start line and headers together.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// A session description of a camera has some hundred bytes.
pub(crate) const MAX_BODY: usize = 256 << 10;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub start: Start,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    Reply { status: u16, phrase: String },
    Request { method: String },
}

impl Message {
    /// The value of the first header of this name (in lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The values of all headers of this name (in lower case).
    pub(crate) fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// `CSeq`.
    pub(crate) fn sequence(&self) -> Option<u32> {
        self.header("cseq")?.parse().ok()
    }
}

/// Whether a message may begin with these bytes; what is too short to tell may.
pub(crate) fn may_begin(data: &[u8]) -> bool {
    const WORDS: [&[u8]; 8] = [
        b"RTSP/",
        b"OPTIONS ",
        b"GET_PARAMETER ",
        b"SET_PARAMETER ",
        b"ANNOUNCE ",
        b"REDIRECT ",
        b"TEARDOWN ",
        b"PLAY_NOTIFY ",
    ];
    WORDS.iter().any(|word| {
        let shared = word.len().min(data.len());
        shared > 0 && data[..shared] == word[..shared]
    })
}

/// Where the headers end, blank line included, if they do. `scanned`: how far it was looked before.
fn head_end(data: &[u8], scanned: usize) -> Option<usize> {
    let mut at = scanned.saturating_sub(3);
    while let Some(found) = data[at..].iter().position(|b| *b == b'\n') {
        let after = at + found + 1;
        match &data[after..] {
            [b'\n', ..] => return Some(after + 1),
            [b'\r', b'\n', ..] => return Some(after + 2),
            _ => at = after,
        }
    }
    None
}

/// The message at the beginning of `data` and its length in bytes; `None`: more has to come. `scanned` remembers how
/// far the end of the headers was looked for; set it to 0 for another message.
pub(crate) fn parse(
    data: &[u8],
    scanned: &mut usize,
    max_body: usize,
) -> Result<Option<(Message, usize)>, Fault> {
    let end = head_end(data, *scanned);
    *scanned = data.len();
    if end.unwrap_or(data.len()) > MAX_HEAD {
        return Err(Fault::LongHead);
    }
    let Some(end) = end else { return Ok(None) };
    // Found again each time that more of the body comes.
    *scanned = end;
    let head = String::from_utf8_lossy(&data[..end]);
    let (start, rest) = head.split_once('\n').unwrap_or((&head, ""));
    let start = start_line(start.trim()).ok_or_else(|| Fault::Malformed(excerpt(data)))?;
    let headers = headers(rest);
    let announced = headers.iter().find(|(name, _)| name == "content-length");
    let length: u64 = announced.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let Some(length) = usize::try_from(length).ok().filter(|n| *n <= max_body) else {
        return Err(Fault::LongBody(length));
    };
    let Some(body) = data.get(end..end + length) else { return Ok(None) };
    Ok(Some((Message { start, headers, body: body.to_vec() }, end + length)))
}

fn start_line(line: &str) -> Option<Start> {
    if let Some(rest) = line.strip_prefix("RTSP/") {
        let (_version, rest) = rest.split_once(char::is_whitespace)?;
        let rest = rest.trim_start();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (status, phrase) = rest.split_at(digits);
        let status = status.parse().ok().filter(|status| (100..1000).contains(status))?;
        return Some(Start::Reply { status, phrase: phrase.trim().chars().take(80).collect() });
    }
    let mut words = line.split_whitespace();
    let method = words.next()?;
    let is_method = method.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    (is_method && line.contains("RTSP/")).then(|| Start::Request { method: method.to_owned() })
}

fn headers(text: &str) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            // Folded (RFC 2822 2.2.3).
            if let Some((_, value)) = headers.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(data: &[u8]) -> (Message, usize) {
        parse(data, &mut 0, MAX_BODY).unwrap().unwrap()
    }

    #[test]
    fn replies_are_read_however_they_are_written() {
        for text in [
            "RTSP/1.0 200 OK\r\nCSeq: 7\r\nPublic: PLAY\r\nContent-Length: 3\r\n\r\nabc",
            "RTSP/1.0 200 OK\nCseq:7\nthis is no header\nPUBLIC :\tPLAY \ncontent-length: 3\n\nabc",
            "RTSP/1.0  200  OK \r\nCSeq:  7\r\nPublic:\r\n  PLAY\r\nContent-Length:3\r\n\r\nabc",
        ] {
            let (message, length) = whole(text.as_bytes());
            assert_eq!(message.start, Start::Reply { status: 200, phrase: "OK".to_owned() });
            assert_eq!((message.sequence(), length), (Some(7), text.len()));
            assert_eq!(message.header("public").map(str::trim), Some("PLAY"));
            assert_eq!(message.body, b"abc");
        }
        let (message, _) = whole(b"RTSP/1.0 404\r\n\r\n$");
        assert_eq!(message.start, Start::Reply { status: 404, phrase: String::new() });
        let (message, length) = whole(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
        assert_eq!((message.start, length), (Start::Request { method: "OPTIONS".to_owned() }, 31));
    }

    #[test]
    fn a_message_may_come_byte_by_byte() {
        let text = b"RTSP/1.0 200 OK\r\nCSeq: 7\r\nContent-Length: 3\r\n\r\nabc";
        let mut scanned = 0;
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end], &mut scanned, MAX_BODY).unwrap(), None, "{end}");
        }
        assert_eq!(parse(text, &mut scanned, MAX_BODY).unwrap().unwrap().1, text.len());
    }

    #[test]
    fn too_much_is_refused_before_it_is_kept() {
        let endless = vec![b'x'; MAX_HEAD + 1];
        assert!(matches!(parse(&endless, &mut 0, MAX_BODY), Err(Fault::LongHead)));
        let mut ends_late = b"RTSP/1.0 200 OK\r\n".to_vec();
        ends_late.resize(MAX_HEAD, b'x');
        ends_late.extend_from_slice(b"\r\n\r\n");
        assert!(matches!(parse(&ends_late, &mut 0, MAX_BODY), Err(Fault::LongHead)));
        let large = b"RTSP/1.0 200 OK\r\nContent-Length: 1048576\r\n\r\n";
        assert!(matches!(parse(large, &mut 0, MAX_BODY), Err(Fault::LongBody(1_048_576))));
        for nonsense in ["\x7f\x01\r\n\r\n", "RTSP/1.0 OK\r\n\r\n", "RTSP/1.0 99999 x\r\n\r\n", "\r\n\r\n"] {
            assert!(matches!(parse(nonsense.as_bytes(), &mut 0, MAX_BODY), Err(Fault::Malformed(_))));
        }
    }

    #[test]
    fn what_begins_like_a_message_is_known_by_its_first_bytes() {
        for yes in ["R", "RTSP/1.0 200 OK", "OPTIONS rtsp://", "ANN", "TEARDOWN "] {
            assert!(may_begin(yes.as_bytes()), "{yes}");
        }
        for no in ["", "$", "RTCP", "\r\n", "xR"] {
            assert!(!may_begin(no.as_bytes()), "{no}");
        }
    }
}
