//! Our own receiver of RTP in the RTSP connection (RFC 2326 10.12): one TCP connection per camera, few wake-ups, and
//! nothing copied that nobody wants.
//!
//! ```text
//! open:  Talk (one question, one answer) --> DESCRIBE, redirects, log-in --> SETUP --> PLAY --> Playing
//! then:  Socket (wakes seldom, reads into the thread's buffer) --> Framer --> Rtp, Rtcp --> Event
//! ```
//!
//! Signalling is read leniently, because cameras write it carelessly; everything has a limit, because anybody may
//! write it. The parsers are pure and are fuzzed.

mod arrival;
pub(crate) mod ask;
#[cfg(test)]
mod captures;
pub(crate) mod description;
mod fault;
pub(crate) mod framer;
pub(crate) mod message;
mod open;
mod playing;
pub(crate) mod rtcp;
pub(crate) mod rtp;
pub(crate) mod socket;
mod talk;
pub(crate) mod target;

pub(crate) use fault::Fault;
pub(crate) use open::open;
pub(crate) use playing::Playing;
