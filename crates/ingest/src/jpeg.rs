//! RTP payloads → JPEG files (RFC 2435).
//!
//! RTP carries the scan and eight bytes that say how it was coded; the file's headers are put in front of it again.
//! Their tables are those of ITU-T T.81 annex K, which RFC 2435 fixes.

use std::collections::{HashMap, VecDeque};

use crate::picture::{Arrival, Content, Damage, Packet, Picture, TooLarge};

/// Luma quantization, T.81 table K.1, row by row.
#[rustfmt::skip]
const LUMA: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61,         12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,         14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,       24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,     72, 92, 95, 98, 112, 100, 103, 99,
];
/// Chroma quantization, T.81 table K.2, row by row.
#[rustfmt::skip]
const CHROMA: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99,         18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,         47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,         99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,         99, 99, 99, 99, 99, 99, 99, 99,
];
/// The order of coefficients in a file, T.81 figure A.6.
#[rustfmt::skip]
const ZIGZAG: [usize; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];
/// T.81 tables K.3 to K.6 as they stand in a DHT segment: class and number, codes per length, values.
const LUMA_DC: [u8; 29] =
    [0x00, 0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const CHROMA_DC: [u8; 29] =
    [0x01, 0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
#[rustfmt::skip]
const LUMA_AC: [u8; 179] = [
    0x10, 0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d,
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
    0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5,
    0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];
#[rustfmt::skip]
const CHROMA_AC: [u8; 179] = [
    0x11, 0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77,
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
    0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
    0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
    0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];
/// RFC 2435 has room for the tables of four components; cameras send two of 64 bytes.
const MAX_TABLE_BYTES: usize = 4 * 128;

/// Quantization tables as they stand in DQT segments, without precision and number: 64 bytes each, or 128.
type Tables = Vec<Vec<u8>>;

/// Puts the pictures of one session together.
#[derive(Debug)]
pub(crate) struct Jpegs {
    max_bytes: usize,
    /// Pixels by SDP, for what RTP can say in multiples of 8 and up to 2,040 only.
    size: Option<(u16, u16)>,
    /// Tables that came with a Q value of 128 to 254 hold as long as the session does (RFC 2435 section 4.2).
    known: HashMap<u8, Tables>,
    current: Option<Current>,
    ready: VecDeque<Picture>,
    lost: u32,
}

/// The picture that packets are being added to.
#[derive(Debug)]
struct Current {
    ticks: i64,
    arrival: Arrival,
    /// The file: headers and what has come of the scan.
    file: Vec<u8>,
    /// Length of the headers. 0: the first fragment has not come.
    headers: usize,
    damage: Option<Damage>,
}

impl Jpegs {
    /// `max_bytes`: of one picture.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let (known, ready) = (HashMap::new(), VecDeque::new());
        Self { max_bytes, size: None, known, current: None, ready, lost: 0 }
    }

    /// Width and height out of the session description.
    pub(crate) fn set_size(&mut self, size: Option<(u16, u16)>) {
        self.size = size;
    }

    pub(crate) fn pop(&mut self) -> Option<Picture> {
        self.ready.pop_front()
    }

    pub(crate) fn push(&mut self, packet: &Packet<'_>) -> Result<(), TooLarge> {
        self.lost = self.lost.saturating_add(packet.lost);
        let mut current = self.continued(packet);
        current.arrival = packet.arrival;
        if current.damage.is_none()
            && let Err(damage) = self.add(&mut current, packet.payload)
        {
            // A picture whose beginning is missing right after a gap is not the camera's fault.
            let lost = damage == Damage::Fragments && packet.lost > 0;
            current.damaged(if lost { Damage::Loss } else { damage });
        }
        if current.file.len() > self.max_bytes {
            return Err(TooLarge { limit: self.max_bytes });
        }
        if packet.mark {
            self.close(current);
        } else {
            self.current = Some(current);
        }
        Ok(())
    }

    fn continued(&mut self, packet: &Packet<'_>) -> Current {
        if let Some(mut current) = self.current.take() {
            if packet.lost > 0 {
                current.damaged(Damage::Loss);
            }
            if current.ticks == packet.ticks {
                return current;
            }
            self.close(current);
        }
        let Packet { ticks, arrival, .. } = *packet;
        Current { ticks, arrival, file: Vec::new(), headers: 0, damage: None }
    }

    fn close(&mut self, mut current: Current) {
        const EOI: [u8; 2] = [0xff, 0xd9];
        let content = match current.damage {
            Some(damage) => Content::Damaged(damage),
            None => {
                if !current.file.ends_with(&EOI) {
                    current.file.extend_from_slice(&EOI);
                }
                Content::Coded {
                    key: true,
                    stands_alone: true,
                    skipped_leading: false,
                    data: current.file.into(),
                }
            }
        };
        let lost_before = std::mem::take(&mut self.lost);
        self.ready.push_back(Picture {
            ticks: current.ticks,
            arrival: current.arrival,
            lost_before,
            content,
        });
    }

    fn add(&mut self, current: &mut Current, payload: &[u8]) -> Result<(), Damage> {
        let (main, rest) = Main::read(payload)?;
        let (restart_interval, mut rest) = match main.kind {
            0..=63 => (0, rest),
            // RFC 2435 section 3.1.7; how restart intervals lie in packets matters only when packets are lost.
            _ => {
                let (header, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Short)?;
                (u16::from_be_bytes([header[0], header[1]]), rest)
            }
        };
        if main.offset == 0 {
            if current.headers > 0 {
                return Err(Damage::Fragments);
            }
            let tables;
            (tables, rest) = self.tables(main.q, rest)?;
            current.file = headers(&main, self.pixels(&main)?, restart_interval, &tables)?;
            current.headers = current.file.len();
        } else if current.headers == 0 || current.file.len() - current.headers != main.offset {
            return Err(Damage::Fragments);
        }
        current.file.extend_from_slice(rest);
        Ok(())
    }

    /// The tables of a picture's first fragment, and what follows them there.
    fn tables<'a>(&mut self, q: u8, rest: &'a [u8]) -> Result<(Tables, &'a [u8]), Damage> {
        match q {
            1..=99 => return Ok((scaled(q), rest)),
            0 | 100..=127 => return Err(Damage::Tables),
            128.. => {}
        }
        // RFC 2435 section 3.1.8.
        let ([_, precision, length @ ..], rest) = rest.split_first_chunk::<4>().ok_or(Damage::Short)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0 {
            let known = self.known.get(&q).ok_or(Damage::Tables)?;
            return Ok((known.clone(), rest));
        }
        let (mut data, rest) = rest.split_at_checked(length).ok_or(Damage::Short)?;
        let mut tables = Vec::new();
        while !data.is_empty() && length <= MAX_TABLE_BYTES {
            let size = if precision >> tables.len() & 1 == 1 { 128 } else { 64 };
            let table;
            (table, data) = data.split_at_checked(size).ok_or(Damage::Tables)?;
            tables.push(table.to_vec());
        }
        if tables.is_empty() || tables.len() > 4 {
            return Err(Damage::Tables);
        }
        if q < 255 {
            self.known.insert(q, tables.clone());
        }
        Ok((tables, rest))
    }

    /// What the SDP says, where the packet says the same in its units or nothing.
    fn pixels(&self, main: &Main) -> Result<(u16, u16), Damage> {
        let side = |blocks: u8, exact: Option<u16>| match (u16::from(blocks) * 8, exact) {
            (0, None) => Err(Damage::Size),
            (0, Some(exact)) => Ok(exact),
            (padded, Some(exact)) if exact.div_ceil(8) * 8 == padded => Ok(exact),
            (padded, _) => Ok(padded),
        };
        Ok((side(main.width, self.size.map(|s| s.0))?, side(main.height, self.size.map(|s| s.1))?))
    }
}

impl Current {
    fn damaged(&mut self, why: Damage) {
        self.damage.get_or_insert(why);
        self.file = Vec::new();
    }
}

/// RFC 2435 section 3.1.
struct Main {
    offset: usize,
    kind: u8,
    q: u8,
    /// In blocks of 8 pixels.
    width: u8,
    height: u8,
}

impl Main {
    fn read(payload: &[u8]) -> Result<(Self, &[u8]), Damage> {
        let (header, rest) = payload.split_first_chunk::<8>().ok_or(Damage::Short)?;
        let [specific, o2, o1, o0, kind, q, width, height] = *header;
        // 1 and 2 are the fields of an interlaced picture; 3 is a single field that stands for the picture.
        if !matches!(specific, 0 | 3) || !matches!(kind & 63, 0 | 1) || kind >= 128 {
            return Err(Damage::Structure);
        }
        let offset = u32::from_be_bytes([0, o2, o1, o0]) as usize;
        Ok((Self { offset, kind, q, width, height }, rest))
    }
}

/// The tables of Q 1 to 99 (RFC 2435 section 4.2), in zigzag order.
fn scaled(q: u8) -> Tables {
    let percent = if q < 50 { 5000 / u32::from(q) } else { 200 - u32::from(q) * 2 };
    let scale = |base: &[u8; 64]| {
        let one = |at: &usize| ((u32::from(base[*at]) * percent + 50) / 100).clamp(1, 255) as u8;
        ZIGZAG.iter().map(one).collect()
    };
    vec![scale(&LUMA), scale(&CHROMA)]
}

/// SOI to SOS (T.81 annex B).
fn headers(
    main: &Main,
    (width, height): (u16, u16),
    restart_interval: u16,
    tables: &Tables,
) -> Result<Vec<u8>, Damage> {
    let mut file = vec![0xff, 0xd8];
    for (number, table) in (0..).zip(tables) {
        let wide = u8::from(table.len() == 128);
        segment(&mut file, 0xdb, &[&[wide << 4 | number], &table[..]])?;
    }
    // Luma sampled once or twice as often per column; the two chroma components share a table.
    let luma = if main.kind & 63 == 0 { 0x21 } else { 0x22 };
    let chroma = u8::from(tables.len() > 1);
    let ([h1, h0], [w1, w0]) = (height.to_be_bytes(), width.to_be_bytes());
    segment(&mut file, 0xc0, &[&[8, h1, h0, w1, w0, 3, 0, luma, 0, 1, 0x11, chroma, 2, 0x11, chroma]])?;
    segment(&mut file, 0xc4, &[&LUMA_DC, &LUMA_AC, &CHROMA_DC, &CHROMA_AC])?;
    if restart_interval > 0 {
        segment(&mut file, 0xdd, &[&restart_interval.to_be_bytes()])?;
    }
    segment(&mut file, 0xda, &[&[3, 0, 0x00, 1, 0x11, 2, 0x11, 0, 63, 0]])?;
    Ok(file)
}

fn segment(file: &mut Vec<u8>, marker: u8, parts: &[&[u8]]) -> Result<(), Damage> {
    let length = 2 + parts.iter().map(|part| part.len()).sum::<usize>();
    let length = u16::try_from(length).map_err(|_| Damage::Tables)?;
    file.extend_from_slice(&[0xff, marker]);
    file.extend_from_slice(&length.to_be_bytes());
    parts.iter().for_each(|part| file.extend_from_slice(part));
    Ok(())
}

#[cfg(test)]
#[path = "jpeg_tests.rs"]
mod tests;
