//! RTP payloads → pictures of NAL units (RFC 6184 for H.264, RFC 7798 for H.265).
//!
//! Written for a pipeline that looks at key pictures: other pictures are recognised by their first slice and not
//! assembled, a picture never grows past a limit, all parameter sets are kept, and a bad packet costs its picture,
//! not the session. What real cameras do beside the standards is accepted where it is unambiguous: start codes
//! inside payloads, single-fragment FUs, markers after parameter sets, inside fragments or after every slice, no
//! markers at all, the two fields of a frame with a time and a marker each.

use std::collections::VecDeque;

use flow::Codec;

use crate::fields::Pairing;
use crate::nal::{self, Kind, SetKind, Slice};
use crate::parameters::ParameterSets;
use crate::picture::{Content, Damage, Packet, Picture, TooLarge};
use crate::sei;
use crate::unit::{Current, Fragment};

/// Assembles the pictures of one session.
#[derive(Debug)]
pub(crate) struct Units {
    codec: Codec,
    keys_only: bool,
    max_bytes: usize,
    sets: ParameterSets,
    current: Option<Current>,
    pairing: Pairing,
    ready: VecDeque<Picture>,
    lost: u32,
    /// Ticks of the last picture that was closed by a marker.
    marked: Option<i64>,
    /// Cleared once a camera is caught setting the marker on every slice.
    mark_ends_picture: bool,
    /// H.265: payloads carry decoding order numbers.
    numbered: bool,
    /// The last decoding order number.
    order: Option<u16>,
}

impl Units {
    /// `keys_only`: other pictures come out as [`Content::NotKey`]. `max_bytes`: of one picture.
    pub(crate) fn new(codec: Codec, keys_only: bool, max_bytes: usize) -> Self {
        Self {
            codec,
            keys_only,
            max_bytes,
            sets: ParameterSets::new(codec),
            current: None,
            pairing: Pairing::default(),
            ready: VecDeque::new(),
            lost: 0,
            marked: None,
            mark_ends_picture: true,
            numbered: false,
            order: None,
        }
    }

    /// A parameter set that came by another way than RTP (SDP).
    pub(crate) fn add_parameters(&mut self, nal: &[u8]) {
        if let Some(Kind::Parameters(kind)) = nal::classify(self.codec, nal) {
            self.sets.insert(kind, nal);
        }
    }

    /// H.265 with `sprop-max-don-diff` above 0 (RFC 7798 section 7.1).
    pub(crate) fn numbered(&mut self, numbered: bool) {
        self.numbered = numbered && self.codec == Codec::H265;
    }

    /// From the next picture on.
    pub(crate) fn keys_only(&mut self, keys_only: bool) {
        self.keys_only = keys_only;
    }

    /// The next finished picture.
    pub(crate) fn pop(&mut self) -> Option<Picture> {
        self.ready.pop_front()
    }

    /// Adds a packet; call [`Self::pop`] until it gives `None` before the next one.
    pub(crate) fn push(&mut self, packet: &Packet<'_>) -> Result<(), TooLarge> {
        self.lost = self.lost.saturating_add(packet.lost);
        let mut current = self.continued(packet);
        current.arrival = packet.arrival;
        if let Err(damage) = self.add_payload(&mut current, packet.payload) {
            current.damaged(if current.after_loss { Damage::Loss } else { damage });
        }
        if current.bytes() > self.max_bytes {
            return Err(TooLarge { limit: self.max_bytes });
        }
        // A marker inside a fragmented NAL unit ends nothing.
        let ends = packet.mark && self.mark_ends_picture && current.fragment.is_none();
        if ends && current.is_picture() {
            self.marked = Some(current.ticks);
            self.close(current);
        } else {
            self.current = Some(current);
        }
        Ok(())
    }

    /// The picture that the packet belongs to: the current one, or a new one after closing that.
    fn continued(&mut self, packet: &Packet<'_>) -> Current {
        let after_loss = packet.lost > 0;
        if let Some(mut current) = self.current.take() {
            if after_loss {
                // What was lost may have been the rest of it.
                current.damaged(Damage::Loss);
            }
            if current.ticks == packet.ticks {
                return current;
            }
            if !current.is_picture() {
                // Parameter sets or SEI that a camera sends with a time of their own.
                current.ticks = packet.ticks;
                return current;
            }
            self.close(current);
        }
        Current::new(packet.ticks, packet.arrival, after_loss)
    }

    fn close(&mut self, mut current: Current) {
        if current.fragment.is_some() {
            current.damaged(Damage::Fragments);
        }
        let key = current.is_key(self.codec, self.keys_only);
        let content = match (current.damage, current.slice) {
            (Some(damage), _) => Content::Damaged(damage),
            (None, None) => return,
            (None, Some(_)) if key && !self.sets.complete() => Content::NoParameters,
            (None, Some(_)) if current.skipping => Content::NotKey,
            (None, Some(slice)) => Content::Coded {
                key,
                stands_alone: current.stands_alone(self.codec),
                skipped_leading: slice.skipped_leading,
                data: if key {
                    prepend(self.sets.annex_b(), current.data)
                } else {
                    prepend(current.own_sets, current.data)
                },
            },
        };
        let lost_before = std::mem::take(&mut self.lost);
        let picture = Picture { ticks: current.ticks, arrival: current.arrival, lost_before, content };
        self.pairing.add(picture, current.lone_field, &mut self.ready);
    }

    fn add_payload(&mut self, current: &mut Current, payload: &[u8]) -> Result<(), Damage> {
        let payload = without_start_code(payload);
        let head = nal::header_len(self.codec);
        if nal::is_end(self.codec, payload) {
            return Ok(());
        }
        if payload.len() <= head {
            return Err(Damage::Short);
        }
        match (self.codec, nal::nal_type(self.codec, payload[0])) {
            (Codec::H265, 0..=47) if self.numbered => {
                let rest = self.in_order(&payload[head..])?;
                self.add_unit(current, &[&payload[..head], rest].concat())
            }
            (Codec::H264, 1..=23) | (Codec::H265, 0..=47) => self.add_unit(current, payload),
            (Codec::H264, 24) | (Codec::H265, 48) => self.add_aggregate(current, &payload[head..]),
            (Codec::H264, 25) => {
                let rest = self.in_order(&payload[head..])?;
                self.add_aggregate(current, rest)
            }
            (Codec::H264, 28 | 29) | (Codec::H265, 49) => self.add_fragment(current, payload),
            (Codec::H264, 26 | 27) | (Codec::H265, 50) => Err(Damage::Structure),
            _ => Err(Damage::Header),
        }
    }

    /// Takes a decoding order number off the front (RFC 6184 section 5.5, RFC 7798 section 4.4). Units that are sent
    /// in another order than they are decoded in are refused: nothing is held back here to sort it.
    fn in_order<'a>(&mut self, payload: &'a [u8]) -> Result<&'a [u8], Damage> {
        let (number, rest) = payload.split_first_chunk::<2>().ok_or(Damage::Short)?;
        let number = u16::from_be_bytes(*number);
        let before = self.order.replace(number).unwrap_or(number);
        // Half of the numbers are behind, half are ahead.
        if number.wrapping_sub(before) < 1 << 15 { Ok(rest) } else { Err(Damage::Order) }
    }

    /// STAP-A (RFC 6184 5.7.1), AP (RFC 7798 4.4.2): units behind 16 bits of length each.
    fn add_aggregate(&mut self, current: &mut Current, mut rest: &[u8]) -> Result<(), Damage> {
        let mut first = true;
        while !rest.is_empty() {
            if self.numbered {
                rest = if std::mem::take(&mut first) {
                    self.in_order(rest)?
                } else {
                    rest.get(1..).ok_or(Damage::Short)? // how much further on the next one is, less 1
                };
            }
            let (length, after) = rest.split_first_chunk::<2>().ok_or(Damage::Short)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let unit = after.get(..length).ok_or(Damage::Short)?;
            self.add_unit(current, unit)?;
            rest = &after[length..];
        }
        Ok(())
    }

    /// FU-A and FU-B (RFC 6184 5.8), FU (RFC 7798 4.4.3).
    fn add_fragment(&mut self, current: &mut Current, payload: &[u8]) -> Result<(), Damage> {
        let head = nal::header_len(self.codec);
        let (fu, mut body) = payload[head..].split_first().ok_or(Damage::Short)?;
        let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
        let is_fu_b = self.codec == Codec::H264 && nal::nal_type(self.codec, payload[0]) == 29;
        if is_fu_b || self.numbered && start {
            body = self.in_order(body)?;
        }
        let fragment = match (start, current.fragment.take()) {
            (true, None) => self.start_fragment(current, payload, *fu, body)?,
            (false, Some(fragment)) => {
                let mut fragment = fragment;
                match &mut fragment {
                    Fragment::Slice if current.skipping => {}
                    Fragment::Slice => current.data.extend_from_slice(body),
                    Fragment::Other(unit) => unit.extend_from_slice(body),
                }
                fragment
            }
            (true, Some(_)) | (false, None) => return Err(Damage::Fragments),
        };
        match fragment {
            Fragment::Other(unit) if end => self.add_unit(current, &unit),
            Fragment::Slice if end => Ok(()),
            unfinished => {
                current.fragment = Some(unfinished);
                Ok(())
            }
        }
    }

    fn start_fragment(
        &mut self,
        current: &mut Current,
        payload: &[u8],
        fu: u8,
        body: &[u8],
    ) -> Result<Fragment, Damage> {
        let mut unit = match self.codec {
            Codec::H265 => vec![payload[0] & 0x81 | (fu & 0x3f) << 1, payload[1]],
            _ => vec![payload[0] & 0xe0 | fu & 0x1f],
        };
        unit.extend_from_slice(body);
        match nal::classify(self.codec, &unit).ok_or(Damage::Header)? {
            Kind::Slice(slice) => {
                self.add_slice(current, slice, &unit);
                Ok(Fragment::Slice)
            }
            _ => Ok(Fragment::Other(unit)),
        }
    }

    /// A whole NAL unit, or several with start codes between them.
    fn add_unit(&mut self, current: &mut Current, unit: &[u8]) -> Result<(), Damage> {
        if current.fragment.is_some() {
            return Err(Damage::Fragments);
        }
        if nal::is_end(self.codec, unit) {
            return Ok(());
        }
        if let Kind::Slice(slice) = nal::classify(self.codec, unit).ok_or(Damage::Header)? {
            self.add_slice(current, slice, unit);
            return Ok(());
        }
        for unit in nal::split_annex_b(unit) {
            match nal::classify(self.codec, unit) {
                Some(Kind::Slice(slice)) => self.add_slice(current, slice, unit),
                Some(Kind::Parameters(kind)) => self.add_set(current, kind, unit),
                Some(Kind::Sei) => {
                    current.recovery = current.recovery.or_else(|| sei::recovery_point(self.codec, unit));
                    current.append(unit);
                }
                Some(Kind::Delimiter) if current.slice.is_some() => self.split(current),
                Some(Kind::Other) => current.append(unit),
                // `None`: a unit of a header alone.
                Some(Kind::Delimiter | Kind::Padding) | None => {}
            }
        }
        Ok(())
    }

    fn add_set(&mut self, current: &mut Current, kind: SetKind, unit: &[u8]) {
        if self.sets.insert(kind, unit) {
            current.own_sets.extend_from_slice(&nal::START_CODE);
            current.own_sets.extend_from_slice(unit);
        }
    }

    fn add_slice(&mut self, current: &mut Current, slice: Slice, unit: &[u8]) {
        // H.264 says the same in several numbers at once; a new time or marker has to do there.
        if self.codec == Codec::H265 && slice.first && current.slice.is_some() {
            self.split(current);
        }
        let field = if self.sets.may_have_fields() { self.sets.field(unit) } else { None };
        let second_field = current.add_field(field) || self.pairing.is_completed_by(field);
        current.second_half |= second_field && current.slice.is_none();
        if current.slice.is_none() {
            current.slice = Some(slice);
            if !slice.first && current.after_loss {
                current.damaged(Damage::Loss);
            } else if !slice.first && self.marked == Some(current.ticks) {
                // The "picture" before was this one's beginning.
                self.mark_ends_picture = false;
                current.damaged(Damage::Marker);
            }
        }
        // What the second field of a frame refers to is the first.
        current.intra &= slice.key || slice.intra || second_field;
        if self.keys_only && !current.intra {
            current.skip();
        }
        current.append(unit);
    }

    /// The next picture begins, whatever time and marker say.
    fn split(&mut self, current: &mut Current) {
        let next = Current::new(current.ticks, current.arrival, false);
        let done = std::mem::replace(current, next);
        self.close(done);
    }
}

fn prepend(mut sets: Vec<u8>, data: Vec<u8>) -> bytes::Bytes {
    if sets.is_empty() {
        return data.into();
    }
    sets.reserve_exact(data.len());
    sets.extend_from_slice(&data);
    sets.into()
}

fn without_start_code(payload: &[u8]) -> &[u8] {
    payload
        .strip_prefix(&nal::START_CODE)
        .or_else(|| payload.strip_prefix(&nal::START_CODE[1..]))
        .unwrap_or(payload)
}

#[cfg(test)]
#[path = "units_tests.rs"]
mod tests;

#[cfg(test)]
#[allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]
#[path = "bitstream_tests.rs"]
mod bitstreams;
