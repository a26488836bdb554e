//! Motion JPEG: pictures cut into RTP payloads by RFC 2435.

use super::packets::MAX_PAYLOAD;

/// What RFC 2435 sends of a picture.
#[derive(Debug, Clone)]
struct Parsed<'a> {
    /// 0: 4:2:2, 1: 4:2:0 (section 3.1.3).
    kind: u8,
    /// In units of 8 pixels.
    size: (u8, u8),
    /// MCUs between restart markers; 0: there are none.
    restart_interval: u16,
    /// Luma, then chroma, 64 bytes each.
    tables: Vec<u8>,
    /// Entropy-coded data of the only scan.
    scan: &'a [u8],
}

/// Cuts a picture into payloads. It must be a baseline JPEG with the standard Huffman tables, in 4:2:0 or 4:2:2, with
/// sides that are multiples of 8 and at most 2040: what RFC 2435 can say.
///
/// # Errors
/// What is wrong with it.
pub(super) fn payloads(picture: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    parse(picture).map(|parsed| parsed.payloads())
}

impl Parsed<'_> {
    fn payloads(&self) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        let mut offset = 0;
        while offset < self.scan.len() {
            let place = (offset as u32).to_be_bytes();
            let restarts = self.restart_interval > 0;
            let kind = self.kind | if restarts { 64 } else { 0 };
            // Q 255: the tables come with every picture.
            let mut payload = vec![0, place[1], place[2], place[3], kind, 255, self.size.0, self.size.1];
            if restarts {
                payload.extend_from_slice(&self.restart_interval.to_be_bytes());
                // First and last packet of a restart interval, count unknown: the whole picture must have come.
                payload.extend_from_slice(&[0xff, 0xff]);
            }
            if offset == 0 {
                payload.extend_from_slice(&[0, 0]);
                payload.extend_from_slice(&(self.tables.len() as u16).to_be_bytes());
                payload.extend_from_slice(&self.tables);
            }
            let room = MAX_PAYLOAD - payload.len();
            let end = self.scan.len().min(offset + room);
            payload.extend_from_slice(&self.scan[offset..end]);
            payloads.push(payload);
            offset = end;
        }
        payloads
    }
}

/// Where a component's samples and quantisation table are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Component {
    sampling: u8,
    table: u8,
}

fn parse(data: &[u8]) -> Result<Parsed<'_>, &'static str> {
    const CUT: &str = "is cut short";
    if !data.starts_with(&[0xff, 0xd8]) {
        return Err("is no JPEG");
    }
    let mut tables = [None::<Vec<u8>>, None, None, None];
    let mut frame = None;
    let mut restart_interval = 0;
    let mut at = 2;
    loop {
        let marker = data.get(at..at + 4).ok_or(CUT)?;
        if marker[0] != 0xff {
            return Err("has something between its segments");
        }
        let length = usize::from(u16::from_be_bytes([marker[2], marker[3]]));
        let segment = data.get(at + 4..at + 2 + length).ok_or(CUT)?;
        at += 2 + length;
        match marker[1] {
            0xdb => quantisation_tables(segment, &mut tables)?,
            0xc0 => frame = Some(baseline_frame(segment)?),
            0xc1..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcf => return Err("is not baseline"),
            0xdd => {
                restart_interval = u16::from_be_bytes(segment.try_into().map_err(|_| CUT)?);
            }
            0xda => break,
            _ => {}
        }
    }
    let (size, components) = frame.ok_or("has no frame header")?;
    let kind = match components.map(|component| component.sampling) {
        [0x21, 0x11, 0x11] => 0,
        [0x22, 0x11, 0x11] => 1,
        _ => return Err("is neither 4:2:0 nor 4:2:2"),
    };
    let end = data.windows(2).rposition(|two| two == [0xff, 0xd9]).filter(|&end| end > at).ok_or(CUT)?;
    let mut both = Vec::with_capacity(128);
    for component in &components[..2] {
        let table = tables.get(usize::from(component.table)).and_then(Option::as_ref);
        both.extend_from_slice(table.ok_or("lacks a quantisation table")?);
    }
    Ok(Parsed { kind, size, restart_interval, tables: both, scan: &data[at..end] })
}

fn quantisation_tables(mut rest: &[u8], tables: &mut [Option<Vec<u8>>; 4]) -> Result<(), &'static str> {
    while let Some((&head, after)) = rest.split_first() {
        if head >> 4 != 0 {
            return Err("has 16-bit quantisation tables");
        }
        let table = after.get(..64).ok_or("is cut short")?;
        *tables.get_mut(usize::from(head)).ok_or("has a quantisation table of an unknown number")? =
            Some(table.to_vec());
        rest = &after[64..];
    }
    Ok(())
}

/// SOF0: the size in units of 8 pixels, and three components.
fn baseline_frame(segment: &[u8]) -> Result<((u8, u8), [Component; 3]), &'static str> {
    let &[8, h1, h0, w1, w0, 3, ref components @ ..] = segment else {
        return Err("is not an 8-bit picture of three components");
    };
    let eighths = |high, low| {
        let pixels = u16::from_be_bytes([high, low]);
        u8::try_from(pixels / 8).ok().filter(|n| pixels.is_multiple_of(8) && *n > 0)
    };
    let (Some(width), Some(height)) = (eighths(w1, w0), eighths(h1, h0)) else {
        return Err("has sides that are no multiples of 8 up to 2040");
    };
    let mut found = [Component::default(); 3];
    for (component, place) in components.chunks_exact(3).zip(&mut found) {
        *place = Component { sampling: component[1], table: component[2] };
    }
    Ok(((width, height), found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(sampling: u8, scan: usize, restart: bool) -> Vec<u8> {
        let mut data = vec![0xff, 0xd8];
        for number in 0..2 {
            data.extend([0xff, 0xdb, 0, 67, number]);
            data.extend([number + 1; 64]);
        }
        data.extend([0xff, 0xc0, 0, 17, 8, 0, 16, 0, 24, 3, 1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1]);
        if restart {
            data.extend([0xff, 0xdd, 0, 4, 0, 5]);
        }
        data.extend([0xff, 0xda, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
        data.extend((0..scan).map(|i| i as u8 & 0x7f));
        data.extend([0xff, 0xd9]);
        data
    }

    #[test]
    fn fragments_add_up_to_the_scan_and_the_first_brings_the_tables() {
        let payloads = payloads(&picture(0x22, 3_000, false)).unwrap();
        assert_eq!(payloads.len(), 3);
        assert_eq!(payloads[0][..12], [0, 0, 0, 0, 1, 255, 3, 2, 0, 0, 0, 128]);
        assert_eq!(payloads[0][12..140], [[1; 64], [2; 64]].concat());
        let place = |p: &[u8]| usize::from(p[2]) << 8 | usize::from(p[3]);
        let mut scan = payloads[0][140..].to_vec();
        for payload in &payloads[1..] {
            assert_eq!(place(payload), scan.len());
            scan.extend_from_slice(&payload[8..]);
        }
        assert_eq!(scan, (0..3_000).map(|i| i as u8 & 0x7f).collect::<Vec<_>>());
    }

    #[test]
    fn restart_intervals_have_their_header_and_422_its_type() {
        let payloads = payloads(&picture(0x21, 100, true)).unwrap();
        assert_eq!(payloads[0][4..16], [64, 255, 3, 2, 0, 5, 0xff, 0xff, 0, 0, 0, 128]);
    }

    #[test]
    fn what_the_format_cannot_say_is_refused() {
        let good = picture(0x22, 100, false);
        let why = |data: &[u8]| payloads(data).unwrap_err();
        assert_eq!(why(b"GIF89a"), "is no JPEG");
        assert_eq!(why(&picture(0x11, 100, false)), "is neither 4:2:0 nor 4:2:2");
        for cut in 2..good.len() - 1 {
            why(&good[..cut]);
        }
    }
}
