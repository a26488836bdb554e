//! RTCP from the server: sender reports and BYE (RFC 3550 section 6).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_TO_UNIX: u64 = 2_208_988_800;
const CNAME: &[u8] = b"huiyan-sim";

/// What a sender report says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) ssrc: u32,
    /// The RTP timestamp of now.
    pub(super) timestamp: u32,
    pub(super) packets: u32,
    /// Payload bytes.
    pub(super) bytes: u32,
}

/// A compound packet of sender report and source description; it must hold both (section 6.1).
pub(super) fn sender_report(report: &Report, now: SystemTime, out: &mut Vec<u8>) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    header(0, 200, 6, report.ssrc, out);
    // NTP seconds wrap in 2036, as the format wants it.
    out.extend_from_slice(&((since.as_secs() + NTP_TO_UNIX) as u32).to_be_bytes());
    out.extend_from_slice(&(fraction as u32).to_be_bytes());
    out.extend_from_slice(&report.timestamp.to_be_bytes());
    out.extend_from_slice(&report.packets.to_be_bytes());
    out.extend_from_slice(&report.bytes.to_be_bytes());
    source_description(report.ssrc, out);
}

/// A last report, then BYE.
pub(super) fn bye(report: &Report, now: SystemTime, out: &mut Vec<u8>) {
    sender_report(report, now, out);
    header(1, 203, 1, report.ssrc, out);
}

fn source_description(ssrc: u32, out: &mut Vec<u8>) {
    // Item type, length, text, and at least one zero, padded to words.
    let item = (2 + CNAME.len() + 1).next_multiple_of(4);
    header(1, 202, 1 + item / 4, ssrc, out);
    out.extend_from_slice(&[1, CNAME.len() as u8]);
    out.extend_from_slice(CNAME);
    out.resize(out.len() + item - 2 - CNAME.len(), 0);
}

/// `words`: 32-bit words after the first.
fn header(count: u8, kind: u8, words: usize, ssrc: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&(words as u16).to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compound_packet_is_whole_words_and_its_lengths_add_up() {
        let report = Report { ssrc: 0x0102_0304, timestamp: 90_000, packets: 7, bytes: 9_000 };
        let mut out = Vec::new();
        bye(&report, UNIX_EPOCH + Duration::from_millis(1_500), &mut out);
        let mut kinds = Vec::new();
        let mut rest = &out[..];
        while !rest.is_empty() {
            kinds.push(rest[1]);
            assert_eq!(rest[4..8], [1, 2, 3, 4]);
            let size = 4 * (1 + usize::from(u16::from_be_bytes([rest[2], rest[3]])));
            rest = &rest[size..];
        }
        assert_eq!(kinds, [200, 202, 203]);
        assert_eq!(out[8..12], (NTP_TO_UNIX as u32 + 1).to_be_bytes());
        assert_eq!(out[12..16], 0x8000_0000u32.to_be_bytes());
    }
}
