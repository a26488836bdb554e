//! The packets of a broker, for fuzzing.

use bytes::BytesMut;

use super::packet::{Packet, decode, publish, publish_size};
use super::{Incoming, Version};

/// As a listener announces it, about.
const MAX: usize = 4_096;

/// What comes in a connection. The first byte: 1, with 3.1.1; the other bits say in pieces of what size.
pub(crate) fn packets(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let version = if mode & 1 == 0 { Version::V5 } else { Version::V311 };
    let mut kept = BytesMut::new();
    for part in data.chunks(usize::from(mode >> 1) + 1) {
        kept.extend_from_slice(part);
        loop {
            let before = kept.len();
            match decode(version, &mut kept, MAX) {
                Ok(Some(packet)) => {
                    assert!(kept.len() < before, "each packet takes bytes");
                    look(version, &packet);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(kept.len() <= MAX, "what is kept of an unfinished packet is bounded");
    }
}

/// A message that came can be sent, and comes as the same.
fn look(version: Version, packet: &Packet) {
    let Packet::Incoming(Incoming::Publish(message)) = packet else { return };
    let mut out = BytesMut::new();
    publish(version, message, message.packet_id, &mut out);
    assert!(out.len() <= publish_size(version, message), "no more than was reckoned with");
    let back = decode(version, &mut out, 2 * MAX).expect("what we write, we read");
    assert_eq!(back.as_ref(), Some(packet));
    assert!(out.is_empty());
}
