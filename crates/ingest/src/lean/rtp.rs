//! RTP headers (RFC 3550 5.1), and what follows from their numbers: losses, repeated packets, the 64-bit time.

/// The parts of a packet that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub mark: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub time: u32,
    pub ssrc: u32,
    /// Without header, sources, extension and padding.
    pub payload: &'a [u8],
}

/// Reads a packet; `None`: it is none.
pub(crate) fn parse(packet: &[u8]) -> Option<Header<'_>> {
    let (fixed, rest) = packet.split_first_chunk::<12>()?;
    let [first, second, sequence @ .., _, _, _, _, _, _, _, _] = *fixed;
    if first >> 6 != 2 {
        return None;
    }
    let sources = usize::from(first & 0x0f) * 4;
    let mut payload = rest.get(sources..)?;
    if first & 0x10 != 0 {
        let (extension, after) = payload.split_first_chunk::<4>()?;
        let words = usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        payload = after.get(words * 4..)?;
    }
    if first & 0x20 != 0 {
        // The last byte counts itself; some cameras set the bit and pad nothing.
        let padding = usize::from(*payload.last()?);
        payload = payload.get(..payload.len().checked_sub(padding)?)?;
    }
    let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    Some(Header {
        mark: second & 0x80 != 0,
        payload_type: second & 0x7f,
        sequence: u16::from_be_bytes(sequence),
        time: word(4),
        ssrc: word(8),
        payload,
    })
}

/// What a packet is, next to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It goes on, after so many that are missing.
    Next { lost: u32, ticks: i64 },
    /// It came before.
    Old,
}

/// Follows one stream. TCP keeps the order, so a gap is a loss (in the camera, or before it).
#[derive(Debug, Default)]
pub(crate) struct Follower {
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    ssrc: u32,
    sequence: u16,
    time: u32,
    ticks: i64,
}

/// This far back is a repetition; further back is another numbering.
const REPEATED: i16 = -64;
/// More missing at once than any network loses: the camera numbers anew.
const RENUMBERED: u16 = 10_000;

impl Follower {
    /// Places the next packet.
    pub(crate) fn follow(&mut self, header: &Header<'_>) -> Place {
        let Header { sequence, time, ssrc, .. } = *header;
        let Some(last) = self.last else {
            // As the others count it: from the first time stamp on.
            return self.go_on(header, 0, i64::from(time));
        };
        // A time stamp may wrap, jump and go back: the shorter way round is the one it went.
        let ticks = last.ticks + i64::from(time.wrapping_sub(last.time).cast_signed());
        if ssrc != last.ssrc {
            // Another encoder: what was begun will not be finished. How much is missing, nobody knows.
            return self.go_on(header, 1, ticks);
        }
        let ahead = sequence.wrapping_sub(last.sequence);
        match ahead.cast_signed() {
            0 => Place::Old,
            REPEATED..0 => Place::Old,
            _ if ahead > RENUMBERED => self.go_on(header, 1, ticks),
            _ => self.go_on(header, u32::from(ahead) - 1, ticks),
        }
    }

    fn go_on(&mut self, header: &Header<'_>, lost: u32, ticks: i64) -> Place {
        let Header { ssrc, sequence, time, .. } = *header;
        self.last = Some(Last { ssrc, sequence, time, ticks });
        Place::Next { lost, ticks }
    }

    /// The last packet was of this source, or none came yet.
    pub(crate) fn is_following(&self, ssrc: u32) -> bool {
        self.last.is_none_or(|last| last.ssrc == ssrc)
    }

    /// A time stamp near that of the last packet, as 64 bits. `None`: nothing came yet.
    pub(crate) fn extended(&self, ssrc: u32, time: u32) -> Option<i64> {
        let last = self.last.filter(|last| last.ssrc == ssrc)?;
        Some(last.ticks + i64::from(time.wrapping_sub(last.time).cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        [&[first, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7], rest].concat()
    }

    #[test]
    fn what_surrounds_the_payload_is_taken_off() {
        let payload = |first, rest: &[u8]| parse(&packet(first, rest)).map(|h| h.payload.to_vec());
        assert_eq!(payload(0x80, &[1, 2]), Some(vec![1, 2]));
        assert_eq!(payload(0x82, &[0, 0, 0, 1, 0, 0, 0, 2, 1, 2]), Some(vec![1, 2]), "two sources");
        assert_eq!(payload(0x90, &[0xab, 0xac, 0, 1, 9, 9, 9, 9, 1, 2]), Some(vec![1, 2]), "extension");
        assert_eq!(payload(0xa0, &[1, 2, 0, 0, 3]), Some(vec![1, 2]), "padding");
        assert_eq!(payload(0xa0, &[1, 2, 0]), Some(vec![1, 2, 0]), "no padding after all");
        assert_eq!(payload(0x80, &[]), Some(vec![]));
        for (first, rest) in
            [(0x40, &[1u8, 2][..]), (0x8f, &[1, 2]), (0x90, &[0, 0, 0, 9, 1]), (0xa0, &[]), (0xa0, &[200])]
        {
            assert_eq!(payload(first, rest), None, "{first:x} {rest:?}");
        }
        assert_eq!(parse(&[0x80; 11]), None);
        let bytes = packet(0x80, &[5]);
        let header = parse(&bytes).unwrap();
        assert_eq!((header.mark, header.payload_type, header.sequence), (true, 96, 0x1234));
        assert_eq!((header.time, header.ssrc), (9, 7));
    }

    fn follow(packets: &[(u32, u16, u32)]) -> Vec<Place> {
        let mut follower = Follower::default();
        let header = |&(ssrc, sequence, time): &(u32, u16, u32)| Header {
            mark: false,
            payload_type: 96,
            sequence,
            time,
            ssrc,
            payload: &[],
        };
        packets.iter().map(|p| follower.follow(&header(p))).collect()
    }

    #[test]
    fn gaps_are_losses_and_repetitions_are_not() {
        let next = |lost, ticks| Place::Next { lost, ticks };
        let seen = follow(&[
            (7, 65_534, 10),
            (7, 65_535, 10),
            (7, 0, 20),
            (7, 4, 30),
            (7, 4, 30),
            (7, 2, 20),
            (7, 5, 30),
        ]);
        assert_eq!(
            seen,
            [next(0, 10), next(0, 10), next(0, 20), next(3, 30), Place::Old, Place::Old, next(0, 30)]
        );
        let anew = follow(&[(7, 100, 10), (7, 40_000, 20), (7, 40_001, 30), (7, 1000, 40)]);
        assert_eq!(anew, [next(0, 10), next(1, 20), next(0, 30), next(1, 40)], "numbered anew");
        let other = follow(&[(7, 100, 10), (8, 101, 4000), (8, 102, 4010)]);
        assert_eq!(other, [next(0, 10), next(1, 4000), next(0, 4010)], "another source");
    }

    #[test]
    fn time_goes_on_over_a_wrap_and_follows_jumps_both_ways() {
        let times: Vec<i64> = follow(&[(7, 1, u32::MAX - 9), (7, 2, 90), (7, 3, 900_090), (7, 4, 90)])
            .into_iter()
            .map(|place| match place {
                Place::Next { ticks, .. } => ticks - i64::from(u32::MAX),
                Place::Old => panic!(),
            })
            .collect();
        assert_eq!(times, [-9, 91, 900_091, 91]);
    }
}
