//! The tracks beside the video: sound and metadata. No I/O and no clock.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::Delivery;
use super::mount::Track;
use super::player::{Header, Identity};

/// Of G.711 μ-law: silence, near enough.
const SILENCE: u8 = 0xff;
/// Samples, and bytes, of 20 ms at 8 kHz.
const AUDIO_PACKET: usize = 160;
const METADATA: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><tt:MetadataStream \
xmlns:tt=\"http://www.onvif.org/ver10/schema\"><tt:Event/></tt:MetadataStream>";

impl Track {
    /// The number of the track in its control URL; the video has 0.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Audio => 1,
            Self::Metadata => 2,
        }
    }

    /// Its part of the SDP.
    pub(super) fn describe(self) -> String {
        let number = self.number();
        match self {
            Self::Audio => {
                format!("m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:trackID={number}\r\n")
            }
            Self::Metadata => format!(
                "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:trackID={number}\r\n"
            ),
        }
    }

    fn payload_type(self) -> u8 {
        match self {
            Self::Audio => 0,
            Self::Metadata => 107,
        }
    }

    /// Time and timestamp ticks from one packet to the next.
    fn pace(self) -> (Duration, u32) {
        match self {
            Self::Audio => (Duration::from_millis(20), AUDIO_PACKET as u32),
            Self::Metadata => (Duration::from_secs(1), 90_000),
        }
    }
}

/// A track that a session has set up.
#[derive(Debug)]
pub(super) struct Extra {
    pub(super) track: Track,
    pub(super) delivery: Delivery,
    identity: Identity,
    due: Option<Instant>,
}

impl Extra {
    pub(super) fn new(track: Track, delivery: Delivery) -> Self {
        Self { track, delivery, identity: Identity::random(), due: None }
    }

    /// Begins to play.
    pub(super) fn start(&mut self, now: Instant) {
        self.due.get_or_insert(now);
    }

    /// When its next packet is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Appends the next packet, and goes on to the one after it. What is far behind is left out.
    pub(super) fn packet(&mut self, now: Instant, out: &mut Vec<u8>) {
        let (pace, ticks) = self.track.pace();
        let header = Header {
            marker: self.track == Track::Metadata,
            payload_type: self.track.payload_type(),
            sequence: self.identity.sequence,
            timestamp: self.identity.timestamp,
            ssrc: self.identity.ssrc,
        };
        header.write(out);
        match self.track {
            Track::Audio => out.resize(out.len() + AUDIO_PACKET, SILENCE),
            Track::Metadata => out.extend_from_slice(METADATA),
        }
        self.identity.sequence = self.identity.sequence.wrapping_add(1);
        self.identity.timestamp = self.identity.timestamp.wrapping_add(ticks);
        let next = self.due.unwrap_or(now) + pace;
        self.due = Some(next.max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now)));
    }
}
