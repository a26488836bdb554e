//! Reads the parts of a packet: hostile input, never past its end.

use bytes::{Buf, Bytes};

/// What came is no MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

const CUT: Malformed = Malformed("a packet ends before its parts do");

/// The rest of a packet.
#[derive(Debug)]
pub(super) struct Reader(pub Bytes);

/// A property's value (MQTT 5, table 2-4).
#[derive(Debug)]
pub(super) enum Value {
    /// One, two or four bytes, or a variable length.
    Number(u32),
    Text(String),
    Binary(Bytes),
    Pair(String, String),
}

impl Reader {
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        if self.0.is_empty() { Err(CUT) } else { Ok(self.0.get_u8()) }
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        if self.0.len() < 2 { Err(CUT) } else { Ok(self.0.get_u16()) }
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        if self.0.len() < 4 { Err(CUT) } else { Ok(self.0.get_u32()) }
    }

    /// A variable byte integer (MQTT 5, section 1.5.5).
    fn variable(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a length has more than four bytes"))
    }

    pub fn binary(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::from(self.u16()?);
        if self.0.len() < length { Err(CUT) } else { Ok(self.0.split_to(length)) }
    }

    pub fn text(&mut self) -> Result<String, Malformed> {
        let bytes = self.binary()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a text is no UTF-8"))
    }

    /// Calls `found` with each property. An absent list is an empty one.
    pub fn properties(&mut self, mut found: impl FnMut(u8, Value)) -> Result<(), Malformed> {
        if self.0.is_empty() {
            return Ok(());
        }
        let length = self.variable()? as usize;
        if self.0.len() < length {
            return Err(CUT);
        }
        let mut list = Reader(self.0.split_to(length));
        while !list.0.is_empty() {
            let id = list.u8()?;
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Value::Number(list.u8()?.into()),
                0x13 | 0x21 | 0x22 | 0x23 => Value::Number(list.u16()?.into()),
                0x02 | 0x11 | 0x18 | 0x27 => Value::Number(list.u32()?),
                0x0b => Value::Number(list.variable()?),
                0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Value::Text(list.text()?),
                0x09 | 0x16 => Value::Binary(list.binary()?),
                0x26 => Value::Pair(list.text()?, list.text()?),
                _ => return Err(Malformed("a property has an unknown number")),
            };
            found(id, value);
        }
        Ok(())
    }
}

/// The first packet in `bytes`: its first byte, and the range of what follows the length. `None`: there is not all
/// of it yet. A packet of more than `max` bytes is refused before it has come.
pub(super) fn frame(bytes: &[u8], max: usize) -> Result<Option<(u8, std::ops::Range<usize>)>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let start = 2 + index;
            if start + length > max {
                return Err(Malformed("a packet is larger than was announced to be taken"));
            }
            return Ok((bytes.len() >= start + length).then_some((first, start..start + length)));
        }
    }
    if rest.len() >= 4 { Err(Malformed("a length has more than four bytes")) } else { Ok(None) }
}
