//! RTCP as far as a receiver needs it (RFC 3550 6): what time the camera thinks it is, and when it leaves.

/// What one packet of a compound says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Sender report (6.4.1).
    Sender {
        ssrc: u32,
        /// Seconds since 1900, 32.32.
        ntp: u64,
        time: u32,
    },
    /// BYE (6.6) of this source.
    Bye { ssrc: u32 },
}

const SENDER_REPORT: u8 = 200;
const BYE: u8 = 203;

/// The reports in a compound packet; ends where it stops making sense.
pub(crate) fn parse(compound: &[u8]) -> impl Iterator<Item = Report> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        loop {
            let (head, _) = rest.split_first_chunk::<4>()?;
            let [first, kind, high, low] = *head;
            if first >> 6 != 2 {
                return None;
            }
            let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
            let packet = rest.get(..length)?;
            rest = &rest[length..];
            if let Some(report) = report(kind, first & 0x1f, packet) {
                return Some(report);
            }
        }
    })
}

fn report(kind: u8, count: u8, packet: &[u8]) -> Option<Report> {
    let word = |at: usize| Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk::<4>()?));
    match kind {
        SENDER_REPORT => {
            let ntp = u64::from(word(8)?) << 32 | u64::from(word(12)?);
            Some(Report::Sender { ssrc: word(4)?, ntp, time: word(16)? })
        }
        BYE if count > 0 => Some(Report::Bye { ssrc: word(4)? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_goodbyes_are_found_among_the_rest() {
        let sender: &[u8] = &[
            0x80, 200, 0, 6, 0, 0, 0, 7, 0xe0, 0, 0, 1, 0x80, 0, 0, 0, 0, 1, 0x5f, 0x90, 0, 0, 0, 1, 0, 0, 0,
            2,
        ];
        let names: &[u8] = &[0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, b'x', 0];
        let bye: &[u8] = &[0x81, 203, 0, 1, 0, 0, 0, 7];
        let reports: Vec<_> = parse(&[sender, names, bye].concat()).collect();
        let clock = Report::Sender { ssrc: 7, ntp: 0xe000_0001_8000_0000, time: 90_000 };
        assert_eq!(reports, [clock, Report::Bye { ssrc: 7 }]);
    }

    #[test]
    fn what_is_cut_off_ends_it() {
        let nothing: [&[u8]; 6] =
            [&[], &[0x80], &[0x40, 200, 0, 0], &[0x80, 200, 0, 9, 1], &[0x80, 200, 0, 0], &[0x80, 203, 0, 0]];
        for data in nothing {
            assert_eq!(parse(data).next(), None, "{data:?}");
        }
    }
}
