//! What coded pictures tell before they are decoded: how large they are, how much came between them, and whether their
//! parameter sets are still the same.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use flow::{AccessUnit, Codec};

/// So many pictures are remembered.
const KNOWN: usize = 16;
/// So many must be known before one can be usual.
const LEAST_KNOWN: usize = 8;
/// Unusual is what is further than this many standard deviations from what is usual.
const UNUSUAL: f32 = 3.0;
/// The least standard deviation, as a share of what is usual: of a picture's size, and of the bytes per second between
/// pictures. A scene without noise repeats both to the byte, and a coder's rate control moves them a little.
const LEAST_OF_SIZE: f32 = 0.0013;
const LEAST_OF_RATE: f32 = 0.01;
/// Heads before the first slice that are looked at.
const MAX_UNITS: usize = 64;

/// What is out of the ordinary with a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusual {
    /// Not enough is known yet.
    Unknown,
    /// Other parameter sets.
    Parameters,
    /// Its size.
    Size,
    /// What moved before it.
    Activity,
}

/// The recent pictures of one session.
#[derive(Debug, Default)]
pub(super) struct Coded {
    parameters: Option<u64>,
    sizes: Usual,
    rates: Usual,
}

impl Coded {
    /// Takes a picture; `seconds` after the one before. What is unusual about it, compared with those before.
    pub fn take(&mut self, unit: &AccessUnit, seconds: Option<f32>, sensitivity: f32) -> Option<Unusual> {
        let parameters = parameters(unit.codec, &unit.data);
        if self.parameters.replace(parameters) != Some(parameters) {
            (self.sizes, self.rates) = (Usual::default(), Usual::default());
            self.sizes.add(unit.data.len() as f32);
            return Some(Unusual::Parameters);
        }
        let limit = UNUSUAL / sensitivity;
        let size = unit.data.len() as f32;
        let rate = seconds.map(|seconds| unit.bytes_between as f32 / seconds.max(0.1));
        let unusual = if !self.sizes.is_known() {
            Some(Unusual::Unknown)
        } else if !self.sizes.holds(size, limit, LEAST_OF_SIZE) {
            Some(Unusual::Size)
        } else if rate
            .is_none_or(|rate| self.rates.is_known() && !self.rates.holds(rate, limit, LEAST_OF_RATE))
        {
            Some(Unusual::Activity)
        } else {
            None
        };
        self.sizes.add(size);
        rate.into_iter().for_each(|rate| self.rates.add(rate));
        unusual
    }

    /// As of a session that begins.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The last values of something, and what is usual among them.
#[derive(Debug, Default)]
struct Usual {
    values: VecDeque<f32>,
}

impl Usual {
    fn add(&mut self, value: f32) {
        if self.values.len() == KNOWN {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    fn is_known(&self) -> bool {
        self.values.len() >= LEAST_KNOWN
    }

    /// Whether a value is within so many standard deviations of the median; these out of the median of what the values
    /// are apart from it, so that those which were unusual do not count.
    fn holds(&self, value: f32, deviations: f32, least_share: f32) -> bool {
        let middle = median(self.values.iter().copied());
        let spread = 1.4826 * median(self.values.iter().map(|value| (value - middle).abs()));
        (value - middle).abs() <= deviations * spread.max(least_share * middle)
    }
}

fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut sorted = [0.0; KNOWN];
    let count = sorted.iter_mut().zip(values).map(|(place, value)| *place = value).count();
    sorted[..count].sort_unstable_by(f32::total_cmp);
    sorted[..count].get(count / 2).copied().unwrap_or(0.0)
}

/// A digest of the parameter sets in front of the first slice (H.264 7.4.1: types 7, 8, 13 and 15; H.265 7.4.2: 32 to 34);
/// of a JPEG, its frame header (ITU-T T.81, B.2.2).
fn parameters(codec: Codec, data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    match codec {
        Codec::Mjpeg => frame_header(data).hash(&mut hasher),
        Codec::H264 | Codec::H265 => {
            for unit in units(data).take(MAX_UNITS) {
                let Some(&head) = unit.first() else { continue };
                let (set, slice) = match codec {
                    Codec::H264 => (matches!(head & 31, 7 | 8 | 13 | 15), matches!(head & 31, 1..=5)),
                    _ => (matches!(head >> 1 & 63, 32..=34), head >> 1 & 63 < 32),
                };
                if slice {
                    break;
                }
                if set {
                    unit.hash(&mut hasher);
                }
            }
        }
    }
    hasher.finish()
}

/// The NAL units of an Annex B byte stream, the one behind the last start code up to the end. Lazy: whoever stops at the
/// first slice does not read the picture.
fn units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let next = |data: &[u8]| data.windows(3).position(|three| three == [0, 0, 1]);
    let mut rest = next(data).map(|at| &data[at + 3..]);
    std::iter::from_fn(move || {
        let unit = rest?;
        // A slice is all that is left of the picture, nearly: its head is enough, and its end is not looked for.
        if unit.len() > 4096 && next(&unit[..4096]).is_none() {
            rest = None;
            return Some(&unit[..4096]);
        }
        let end = next(unit);
        rest = end.map(|end| &unit[end + 3..]);
        Some(&unit[..end.unwrap_or(unit.len())])
    })
}

/// Start of frame, with size and components; empty where there is none.
fn frame_header(data: &[u8]) -> &[u8] {
    let mut rest = data.get(2..).unwrap_or_default();
    for _ in 0..MAX_UNITS {
        let [0xff, marker, high, low, ..] = *rest else { break };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(segment) = rest.get(2..2 + length.max(2)) else { break };
        match marker {
            0xc0..=0xc3 => return segment,
            0xda => break,
            _ => rest = &rest[2 + length.max(2)..],
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use flow::{CameraId, MediaTime, Role, SessionId, Timestamp};

    use super::*;

    /// A picture of so many bytes behind these parameter sets.
    fn unit(sets: &[u8], bytes: usize, between: u64) -> AccessUnit {
        let mut data = [&[0, 0, 0, 1, 0x67][..], sets, &[0, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65]].concat();
        data.resize(data.len() + bytes, 0x55);
        AccessUnit {
            camera: CameraId::new("cam").unwrap(),
            session: SessionId::next(),
            sequence: 0,
            codec: Codec::H264,
            media_time: MediaTime { ticks: 0, clock_rate: 90_000 },
            captured: Timestamp::UNIX_EPOCH,
            key: true,
            role: Role::Alone,
            lost_before: 0,
            bytes_between: between,
            data: data.into(),
        }
    }

    /// So many pictures of about this size, then what is said of the last one.
    fn after(usual: impl Fn(usize) -> (usize, u64), last: (usize, u64)) -> Option<Unusual> {
        let mut coded = Coded::default();
        for n in 0..20 {
            let (size, between) = usual(n);
            coded.take(&unit(&[1], size, between), (n > 0).then_some(2.0), 1.0);
        }
        coded.take(&unit(&[1], last.0, last.1), Some(2.0), 1.0)
    }

    #[test]
    fn sizes_and_activity_are_measured_against_their_own_spread() {
        let quiet = |n: usize| (100_000 + n % 3 * 40, 60_000 + (n % 4 * 100) as u64);
        assert_eq!(after(quiet, (100_050, 60_100)), None);
        assert_eq!(after(quiet, (101_000, 60_100)), Some(Unusual::Size));
        assert_eq!(after(quiet, (98_900, 60_100)), Some(Unusual::Size));
        assert_eq!(after(quiet, (100_050, 66_000)), Some(Unusual::Activity));
        assert_eq!(after(quiet, (100_050, 52_000)), Some(Unusual::Activity));
        // A street that is busy all the time.
        let busy = |n: usize| (100_000 + n * 7_919 % 3_000, 60_000 + (n * 104_729 % 20_000) as u64);
        assert_eq!(after(busy, (102_500, 66_000)), None);
        assert_eq!(after(busy, (108_000, 66_000)), Some(Unusual::Size));
    }

    #[test]
    fn what_is_not_known_is_unusual() {
        let mut coded = Coded::default();
        let said: Vec<_> =
            (0..10).map(|n| coded.take(&unit(&[1], 5_000, 900), (n > 0).then_some(2.0), 1.0)).collect();
        assert_eq!(said[0], Some(Unusual::Parameters));
        assert!(said[1..8].iter().all(|said| *said == Some(Unusual::Unknown)), "{said:?}");
        assert_eq!(said[8..], [None, None]);
        // Another profile: the same sizes mean something else.
        assert_eq!(coded.take(&unit(&[2], 5_000, 900), Some(2.0), 1.0), Some(Unusual::Parameters));
        assert_eq!(coded.take(&unit(&[2], 5_000, 900), Some(2.0), 1.0), Some(Unusual::Unknown));
    }

    #[test]
    fn sensitivity_is_a_matter_of_the_deviation() {
        let last = |sensitivity| {
            let mut coded = Coded::default();
            for _ in 0..20 {
                coded.take(&unit(&[1], 100_000, 100), Some(2.0), sensitivity);
            }
            coded.take(&unit(&[1], 100_300, 100), Some(2.0), sensitivity)
        };
        assert_eq!((last(1.0), last(2.0)), (None, Some(Unusual::Size)));
    }

    #[test]
    fn parameters_are_those_before_the_first_slice() {
        let same = |a: &[u8], b: &[u8], codec| parameters(codec, a) == parameters(codec, b);
        let h264 = |sps: u8, sei: u8, slice: u8| {
            [&[0, 0, 1, 0x67, sps, 0, 0, 1, 6, sei][..], &[0, 0, 1, 0x65, slice, 0, 0, 1, 0x67, slice]]
                .concat()
        };
        assert!(same(&h264(1, 1, 1), &h264(1, 2, 2), Codec::H264));
        assert!(!same(&h264(1, 1, 1), &h264(2, 1, 1), Codec::H264));
        let h265 = |set: u8| [0, 0, 1, 66, 1, set, 0, 0, 1, 38, 1, 9];
        assert!(!same(&h265(1), &h265(2), Codec::H265));
        let jpeg = |width: u8, tail: u8| {
            [0xff, 0xd8, 0xff, 0xdb, 0, 3, tail, 0xff, 0xc0, 0, 4, width, 1, 0xff, 0xda, 0, 2, tail]
        };
        assert!(
            same(&jpeg(1, 1), &jpeg(1, 2), Codec::Mjpeg) && !same(&jpeg(1, 1), &jpeg(2, 1), Codec::Mjpeg)
        );
        // Rubbish has some digest, too.
        for rubbish in [&[][..], &[0, 0, 1], &[0xff; 9], &[0xff, 0xd8, 0xff, 0xc0]] {
            for codec in [Codec::H264, Codec::H265, Codec::Mjpeg] {
                parameters(codec, rubbish);
            }
        }
    }
}
