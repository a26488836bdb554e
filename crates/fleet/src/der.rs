//! The little of X.509 that rustls does not tell: when a certificate is valid (RFC 5280, section 4.1).

use jiff::{Timestamp, civil};

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`: the version, which a certificate of version 1 leaves out.
const VERSION: u8 = 0xa0;

/// From when and until when a certificate in DER is valid. `None`: it is no certificate.
pub(crate) fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let mut outer = Reader(certificate);
    let mut certificate = Reader(outer.of(SEQUENCE)?);
    let mut signed = Reader(certificate.of(SEQUENCE)?);
    let (first, _) = signed.next()?;
    // The serial number, where that was the version; then signature algorithm and issuer.
    let skipped = if first == VERSION { 3 } else { 2 };
    for _ in 0..skipped {
        signed.next()?;
    }
    let mut validity = Reader(signed.of(SEQUENCE)?);
    Some((time(validity.next()?)?, time(validity.next()?)?))
}

/// Reads one element after the other; never past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Tag and content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`: what RFC 5280 allows of ASN.1's times.
fn time((tag, text): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i16 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let two = |at: usize| rest[at..at + 2].parse::<i8>().ok();
    let time = civil::DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    // 9999-12-31 stands for "never" and is beyond what a time zone may shift.
    jiff::tz::TimeZone::UTC.to_timestamp(time).ok().or(Some(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: i32, until: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["broker.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 2);
        params.not_after = rcgen::date_time_ymd(until, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn validity_is_read_in_both_forms_of_time() {
        // From 2050 on certificates write the year with four digits.
        for (from, until) in [(1999, 2026), (2026, 2071)] {
            let (begins, ends) = validity(&certificate(from, until)).unwrap();
            assert_eq!(begins.to_string(), format!("{from}-01-02T00:00:00Z"));
            assert_eq!(ends.to_string(), format!("{until}-03-04T00:00:00Z"));
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_no_certificate_and_no_panic() {
        let whole = certificate(2020, 2050);
        for end in 0..whole.len() {
            assert_eq!(validity(&whole[..end]), None);
        }
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = validity(&changed);
            }
        }
    }
}
