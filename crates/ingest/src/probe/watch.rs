//! What is seen of a stream while it is watched. Pure: packets and times come in.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use flow::Codec;

use super::units;
use crate::depacketize::Depacketizer;
use crate::picture::{Content, Damage, Packet, Picture, TooLarge};
use crate::source::{SenderClock, Video};
use crate::sps::{self, Sps};

/// Key pictures whose times are kept; more say nothing new.
const MAX_KEYS: usize = 1_000;
/// Sizes of pictures that are kept.
const MAX_SIZES: usize = 8;
/// A step of the time stamps that no frame rate explains.
const JUMP_S: f64 = 5.0;
/// Sender reports whose offset is kept.
const MAX_REPORTS: usize = 64;

/// Collects what a stream shows.
#[derive(Debug)]
pub(crate) struct Watch {
    codec: Codec,
    clock_rate: u32,
    depacketizer: Depacketizer,
    pub began: Instant,
    pub packets: u64,
    pub bytes: u64,
    pub lost: u64,
    pub marks: u64,
    pub pictures: u64,
    pub damaged: u64,
    pub last_damage: Option<Damage>,
    /// Key pictures that came without parameter sets.
    pub undecodable: u64,
    pub first_picture: Option<Instant>,
    pub keys: Vec<Key>,
    pub key_kinds: BTreeSet<KeyKind>,
    pub key_bytes: u64,
    pub other_bytes: u64,
    pub slices: usize,
    /// Time stamps go back by less than a jump: pictures are sent in another order than they are shown.
    pub reordered: bool,
    /// Steps of more than [`JUMP_S`], in seconds.
    pub jumps: Vec<f64>,
    pub described_sets: bool,
    pub in_band_sets: bool,
    pub sps: Option<Sps>,
    /// Different sizes in the order in which they came, the described one first.
    pub sizes: Vec<(u32, u32)>,
    /// The camera's clock minus ours at each sender report, in seconds.
    pub offsets: Vec<f64>,
    span: Span,
}

/// One key picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub ticks: i64,
    pub at: Instant,
}

/// What makes a picture one at which decoding can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Nothing behind it refers to anything before it.
    Idr,
    /// H.265 clean random access: pictures that are shown before it may refer to what came before (open GOP).
    Cra,
    /// H.265 broken link access.
    Bla,
    /// Recovery point: no IDR, but a message (SEI) says that decoding may start here (open GOP).
    RecoveryPoint,
    /// A recovery point from which the picture is refreshed bit by bit, over several pictures.
    Refresh,
    /// H.264: an intra picture without any such message.
    Intra,
    /// Motion JPEG: each picture stands alone.
    Jpeg,
}

impl KeyKind {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idr => "IDR",
            Self::Cra => "CRA (open GOP)",
            Self::Bla => "BLA",
            Self::RecoveryPoint => "recovery point (open GOP)",
            Self::Refresh => "gradual refresh",
            Self::Intra => "I picture without IDR",
            Self::Jpeg => "JPEG (each picture)",
        }
    }
}

/// Media time against arrival, without the burst with which many cameras begin.
#[derive(Debug, Default)]
struct Span {
    first: Option<(i64, Instant)>,
    settled: Option<(i64, Instant)>,
    previous: Option<i64>,
    /// Pictures and bytes since the first picture, without the first.
    pictures: u64,
    bytes: u64,
    lowest: i64,
    highest: i64,
}

impl Watch {
    pub(crate) fn new(video: &Video, max_bytes: usize, now: Instant) -> Self {
        let (codec, clock_rate, described) = (video.codec, video.clock_rate, &video.parameter_sets);
        let mut depacketizer = Depacketizer::new(codec, false, max_bytes);
        depacketizer.format(video.format);
        described.iter().for_each(|set| depacketizer.add_parameters(set));
        let mut watch = Self {
            codec,
            clock_rate,
            depacketizer,
            began: now,
            packets: 0,
            bytes: 0,
            lost: 0,
            marks: 0,
            pictures: 0,
            damaged: 0,
            last_damage: None,
            undecodable: 0,
            first_picture: None,
            keys: Vec::new(),
            key_kinds: BTreeSet::new(),
            key_bytes: 0,
            other_bytes: 0,
            slices: 0,
            reordered: false,
            jumps: Vec::new(),
            described_sets: !described.is_empty(),
            in_band_sets: false,
            sps: None,
            sizes: Vec::new(),
            offsets: Vec::new(),
            span: Span::default(),
        };
        described.iter().for_each(|set| watch.note_set(set));
        watch
    }

    /// Takes a packet, in order.
    pub(crate) fn packet(&mut self, packet: &Packet<'_>) -> Result<(), TooLarge> {
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.span.bytes += packet.payload.len() as u64;
        self.lost += u64::from(packet.lost);
        self.marks += u64::from(packet.mark);
        let mut sets = Vec::new();
        units::in_payload(self.codec, packet.payload, &mut |unit| {
            if units::is_set(self.codec, unit) {
                sets.push(unit.to_vec());
            }
        });
        for set in sets {
            self.in_band_sets = true;
            self.note_set(&set);
        }
        self.depacketizer.push(packet)?;
        while let Some(picture) = self.depacketizer.pop() {
            self.picture(picture);
        }
        Ok(())
    }

    /// Takes a sender report.
    pub(crate) fn clock(&mut self, clock: &SenderClock) {
        if self.offsets.len() < MAX_REPORTS {
            self.offsets.extend(clock.offset_s());
        }
    }

    fn note_set(&mut self, set: &[u8]) {
        if let Some(sps) = units::is_sps(self.codec, set).then(|| sps::read(self.codec, set)).flatten() {
            let size = (sps.width, sps.height);
            if self.sizes.last() != Some(&size) && self.sizes.len() < MAX_SIZES {
                self.sizes.push(size);
            }
            self.sps = Some(sps);
        }
    }

    fn picture(&mut self, picture: Picture) {
        let data = match &picture.content {
            Content::Damaged(damage) => {
                self.damaged += 1;
                self.last_damage = Some(*damage);
                return;
            }
            Content::NoParameters => {
                self.undecodable += 1;
                return;
            }
            Content::Coded { data, .. } => data,
            // Asked for with everything, the depacketizer leaves nothing out.
            Content::NotKey => return,
        };
        let seen = units::look(self.codec, data);
        self.slices = self.slices.max(seen.slices);
        self.pictures += 1;
        let key = match seen.key {
            // What a refresh begins with is no picture to look at alone.
            Some(KeyKind::Refresh) => false,
            Some(_) => true,
            None => matches!(picture.content, Content::Coded { key: true, .. }),
        };
        self.key_kinds.extend(seen.key);
        if key {
            self.key_bytes += data.len() as u64;
            if seen.key.is_none() {
                self.key_kinds.insert(KeyKind::Intra);
            }
            if self.keys.len() < MAX_KEYS {
                self.keys.push(Key { ticks: picture.ticks, at: picture.arrival.at });
            }
        } else {
            self.other_bytes += data.len() as u64;
        }
        self.first_picture.get_or_insert(picture.arrival.at);
        self.time(&picture);
    }

    /// Follows the time stamps.
    fn time(&mut self, picture: &Picture) {
        let ticks = picture.ticks;
        let step = self.span.previous.map(|previous| self.seconds(ticks.wrapping_sub(previous)));
        self.span.previous = Some(ticks);
        match step {
            Some(step) if step.abs() > JUMP_S => {
                self.jumps.push(step);
                self.jumps.truncate(MAX_SIZES);
                // What was measured before it cannot be set against what comes.
                self.span = Span { previous: Some(ticks), ..Span::default() };
            }
            Some(step) if step < 0.0 => self.reordered = true,
            _ => {}
        }
        let at = picture.arrival.at;
        let span = &mut self.span;
        let Some((_, first_at)) = span.first else {
            span.first = Some((ticks, at));
            (span.lowest, span.highest, span.bytes) = (ticks, ticks, 0);
            return;
        };
        span.pictures += 1;
        (span.lowest, span.highest) = (span.lowest.min(ticks), span.highest.max(ticks));
        if span.settled.is_none() && at.saturating_duration_since(first_at) >= Duration::from_secs(1) {
            span.settled = Some((ticks, at));
        }
    }

    fn seconds(&self, ticks: i64) -> f64 {
        ticks as f64 / f64::from(self.clock_rate)
    }

    /// Media time from the first picture to the last.
    fn media_s(&self) -> Option<f64> {
        let span = self.seconds(self.span.highest.wrapping_sub(self.span.lowest));
        (span > 0.0 && self.span.pictures > 0).then_some(span)
    }

    /// Pictures per second, by their time stamps: what a camera sends in a burst at PLAY does not count more.
    pub(crate) fn fps(&self) -> Option<f64> {
        self.media_s().map(|span| self.span.pictures as f64 / span)
    }

    /// Bits of RTP payload per second of media time.
    pub(crate) fn bit_rate(&self) -> Option<f64> {
        self.media_s().map(|span| self.span.bytes as f64 * 8.0 / span)
    }

    /// Seconds of media per second of the clock on the wall; 1 for a camera whose time stamps are right. `None`
    /// where it was not watched long enough to tell.
    pub(crate) fn pace(&self, now: Instant) -> Option<f64> {
        const ENOUGH_S: f64 = 3.0;
        let (ticks, at) = self.span.settled?;
        let wall = now.saturating_duration_since(at).as_secs_f64();
        let media = self.seconds(self.span.previous?.wrapping_sub(ticks));
        (wall >= ENOUGH_S).then(|| media / wall)
    }

    /// Seconds between key pictures, by their time stamps; across a jump, by their arrival.
    pub(crate) fn key_intervals(&self) -> Vec<f64> {
        let interval = |pair: &[Key]| {
            let media = self.seconds(pair[1].ticks.wrapping_sub(pair[0].ticks));
            let wall = pair[1].at.saturating_duration_since(pair[0].at).as_secs_f64();
            if media > 0.0 && (self.jumps.is_empty() || (media - wall).abs() < JUMP_S) { media } else { wall }
        };
        self.keys.windows(2).map(interval).collect()
    }

    /// Since the last key picture, or since the first picture where there was none.
    pub(crate) fn without_key(&self, now: Instant) -> Option<Duration> {
        let since = self.keys.last().map(|key| key.at).or(self.first_picture)?;
        Some(now.saturating_duration_since(since))
    }
}
