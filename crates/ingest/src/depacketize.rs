//! RTP payloads → coded pictures (RFC 6184 for H.264, RFC 7798 for H.265).
//!
//! Written for a pipeline that looks at key pictures: other pictures are recognised by their first slice and not
//! assembled, a picture never grows past a limit, all parameter sets are kept, and a bad packet costs its picture,
//! not the session. What real cameras do beside the standards is accepted where it is unambiguous: start codes
//! inside payloads, single-fragment FUs, markers after parameter sets or after every slice, no markers at all.

use std::collections::VecDeque;

use bytes::Bytes;
use flow::Codec;

use crate::nal::{self, Kind, SetKind, Slice};
use crate::parameters::ParameterSets;
use crate::picture::{Arrival, Content, Damage, Packet, Picture, TooLarge};

/// Assembles the pictures of one session.
#[derive(Debug)]
pub(crate) struct Depacketizer {
    codec: Codec,
    keys_only: bool,
    max_bytes: usize,
    sets: ParameterSets,
    current: Option<Current>,
    ready: VecDeque<Picture>,
    lost: u32,
    /// Ticks of the last picture that was closed by a marker.
    marked: Option<i64>,
    /// Cleared once a camera is caught setting the marker on every slice.
    mark_ends_picture: bool,
}

/// The picture that packets are being added to.
#[derive(Debug)]
struct Current {
    ticks: i64,
    arrival: Arrival,
    /// Packets were lost right before its first one.
    after_loss: bool,
    /// Annex B; parameter sets are elsewhere.
    data: Vec<u8>,
    /// Its own parameter sets, Annex B; a key picture gets all that are in force instead.
    own_sets: Vec<u8>,
    fragment: Option<Fragment>,
    /// Its first slice.
    slice: Option<Slice>,
    damage: Option<Damage>,
    /// Nothing more of it needs to be kept.
    skipping: bool,
}

/// A fragmented NAL unit in progress.
#[derive(Debug)]
enum Fragment {
    /// Goes straight to the picture.
    Slice,
    /// Is collected first, because it may hold start codes.
    Other(Vec<u8>),
}

impl Depacketizer {
    /// `keys_only`: other pictures come out as [`Content::NotKey`]. `max_bytes`: of one picture.
    pub(crate) fn new(codec: Codec, keys_only: bool, max_bytes: usize) -> Self {
        Self {
            codec,
            keys_only,
            max_bytes,
            sets: ParameterSets::new(codec),
            current: None,
            ready: VecDeque::new(),
            lost: 0,
            marked: None,
            mark_ends_picture: true,
        }
    }

    /// A parameter set that came by another way than RTP (SDP).
    pub(crate) fn add_parameters(&mut self, nal: &[u8]) {
        if let Some(Kind::Parameters(kind)) = nal::classify(self.codec, nal) {
            self.sets.insert(kind, nal);
        }
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
        if packet.mark && self.mark_ends_picture && current.is_picture() {
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
        Current::new(packet, after_loss)
    }

    fn close(&mut self, mut current: Current) {
        if current.fragment.is_some() {
            current.damaged(Damage::Fragments);
        }
        let content = match (current.damage, current.slice) {
            (Some(damage), _) => Content::Damaged(damage),
            (None, None) => return,
            (None, Some(slice)) if slice.key && !self.sets.complete() => Content::NoParameters,
            (None, Some(slice)) if !slice.key && self.keys_only => Content::NotKey,
            (None, Some(slice)) => Content::Coded {
                key: slice.key,
                skipped_leading: slice.skipped_leading,
                data: if slice.key {
                    prepend(self.sets.annex_b(), current.data)
                } else {
                    prepend(current.own_sets, current.data)
                },
            },
        };
        self.ready.push_back(Picture {
            ticks: current.ticks,
            arrival: current.arrival,
            lost_before: std::mem::take(&mut self.lost),
            content,
        });
    }

    fn add_payload(&mut self, current: &mut Current, payload: &[u8]) -> Result<(), Damage> {
        let payload = without_start_code(payload);
        let head = nal::header_len(self.codec);
        if payload.len() <= head {
            return Err(Damage::Short);
        }
        match (self.codec, nal::nal_type(self.codec, payload[0])) {
            (Codec::H264, 1..=23) | (Codec::H265, 0..=47) => self.add_unit(current, payload),
            (Codec::H264, 24) | (Codec::H265, 48) => self.add_aggregate(current, &payload[head..]),
            (Codec::H264, 28) | (Codec::H265, 49) => self.add_fragment(current, payload),
            (Codec::H264, 25..=27 | 29) | (Codec::H265, 50) => Err(Damage::Structure),
            _ => Err(Damage::Header),
        }
    }

    /// STAP-A (RFC 6184 5.7.1), AP (RFC 7798 4.4.2): units behind 16 bits of length each.
    fn add_aggregate(&mut self, current: &mut Current, mut rest: &[u8]) -> Result<(), Damage> {
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<2>().ok_or(Damage::Short)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let unit = after.get(..length).ok_or(Damage::Short)?;
            self.add_unit(current, unit)?;
            rest = &after[length..];
        }
        Ok(())
    }

    /// FU-A (RFC 6184 5.8), FU (RFC 7798 4.4.3).
    fn add_fragment(&mut self, current: &mut Current, payload: &[u8]) -> Result<(), Damage> {
        let head = nal::header_len(self.codec);
        let (fu, body) = payload[head..].split_first().ok_or(Damage::Short)?;
        let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
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
            Codec::H264 => vec![payload[0] & 0xe0 | fu & 0x1f],
            Codec::H265 => vec![payload[0] & 0x81 | (fu & 0x3f) << 1, payload[1]],
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
        if let Kind::Slice(slice) = nal::classify(self.codec, unit).ok_or(Damage::Header)? {
            self.add_slice(current, slice, unit);
            return Ok(());
        }
        for unit in nal::split_annex_b(unit) {
            match nal::classify(self.codec, unit) {
                Some(Kind::Slice(slice)) => self.add_slice(current, slice, unit),
                Some(Kind::Parameters(kind)) => self.add_set(current, kind, unit),
                Some(Kind::Other) => current.append(unit),
                // `None`: a unit of a header alone, such as an end of sequence.
                Some(Kind::Padding) | None => {}
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
        if current.slice.is_none() {
            current.slice = Some(slice);
            if !slice.first && current.after_loss {
                current.damaged(Damage::Loss);
            } else if !slice.first && self.marked == Some(current.ticks) {
                // The "picture" before was this one's beginning.
                self.mark_ends_picture = false;
                current.damaged(Damage::Marker);
            }
            if self.keys_only && !slice.key {
                current.skip();
            }
        }
        current.append(unit);
    }
}

impl Current {
    fn new(packet: &Packet<'_>, after_loss: bool) -> Self {
        Self {
            ticks: packet.ticks,
            arrival: packet.arrival,
            after_loss,
            data: Vec::new(),
            own_sets: Vec::new(),
            fragment: None,
            slice: None,
            damage: None,
            skipping: false,
        }
    }

    /// Something of a picture has come, so that a marker or a new time ends it.
    fn is_picture(&self) -> bool {
        self.slice.is_some() || self.damage.is_some()
    }

    fn bytes(&self) -> usize {
        let collected = match &self.fragment {
            Some(Fragment::Other(unit)) => unit.len(),
            _ => 0,
        };
        self.data.len() + self.own_sets.len() + collected
    }

    fn append(&mut self, unit: &[u8]) {
        if !self.skipping {
            self.data.extend_from_slice(&nal::START_CODE);
            self.data.extend_from_slice(unit);
        }
    }

    fn damaged(&mut self, why: Damage) {
        self.damage.get_or_insert(why);
        self.fragment = None;
        self.skip();
    }

    fn skip(&mut self) {
        self.skipping = true;
        self.data = Vec::new();
    }
}

fn prepend(mut sets: Vec<u8>, data: Vec<u8>) -> Bytes {
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
#[path = "depacketize_tests.rs"]
mod tests;
