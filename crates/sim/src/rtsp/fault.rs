//! What goes wrong on purpose.

use std::sync::Arc;
use std::time::Duration;

use crate::Clip;

/// Something that goes wrong on purpose, or that is right and seldom met. Times count from PLAY.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is reset as soon as a request names the path. (Nothing listens: use an address without server.)
    RefuseConnection,
    /// Every request that names the path gets this status, for example 404 or 503.
    Answer(u16),
    /// The request is never answered, nor is anything after it.
    Hang(Step),
    /// Replies come byte by byte.
    DripReplies {
        /// Between two bytes.
        pause: Duration,
    },
    /// The reply to DESCRIBE never ends: header line after header line, as fast as the client reads.
    EndlessHeaders,
    /// DESCRIBE is answered with 302 and this URL.
    Redirect {
        /// Of the `Location` header.
        to: String,
    },
    /// DESCRIBE is answered with bytes that are no SDP.
    GarbageSdp,
    /// The SDP is right, and padded with attributes that nobody knows.
    HugeSdp {
        /// How long it is at least.
        bytes: usize,
    },
    /// The SDP has no parameter sets: they come in the stream only.
    NoSetsInSdp,
    /// The stream has no parameter sets: they stand in the SDP only.
    SetsOnlyInSdp,
    /// The right password is refused, always.
    WrongPassword,
    /// Only this request keeps a session alive. `Public` does not list the other one, and it is answered with 405
    /// (OPTIONS always has its answer).
    KeepAliveOnly(KeepAlive),
    /// The session stays, requests are answered, but no more media come.
    SilentAfter(Duration),
    /// Random bytes come instead of media.
    GarbageAfter(Duration),
    /// Random bytes stand between interleaved frames, which go on; over TCP only.
    GarbageBetween {
        /// Before every so-many-th packet; 1: every one.
        every: u32,
        /// How many bytes.
        bytes: usize,
    },
    /// Frames come on an interleaved channel that nobody has set up, one per picture; over TCP only.
    StrangeChannel,
    /// The TCP connection is reset between two pictures.
    CutAfter(Duration),
    /// The TCP connection is reset in the middle of the first picture after this time.
    CutInPicture(Duration),
    /// The server says BYE and closes.
    ByeAfter(Duration),
    /// This share of the packets is lost; sequence numbers tell.
    LosePackets {
        /// 0.0 to 1.0.
        share: f64,
        /// The same seed loses the same packets in every session.
        seed: u64,
    },
    /// This share of the packets comes up to four packets late, and one in four of those twice; over UDP only.
    ReorderPackets {
        /// 0.0 to 1.0.
        share: f64,
        /// The same seed, the same order.
        seed: u64,
    },
    /// Pictures are blown up with filler data to this rate; over TCP and in H.264 and H.265 only.
    Flood {
        /// Megabits per second.
        mbit: u32,
    },
    /// At the first key picture after this time the stream goes on with another clip, without new SDP; timestamps
    /// and sequence numbers continue.
    SwitchClip {
        /// When.
        after: Duration,
        /// To what.
        to: Arc<Clip>,
    },
    /// Bytes of every so-many-th picture are flipped, except in its parameter sets.
    CorruptPicture {
        /// 1: every picture.
        every: u32,
    },
    /// The marker bit, which ends a picture, is never set.
    NoMarker,
    /// The marker bit is set at the end of each NAL unit, parameter sets included.
    MarkEachUnit,
    /// RTP timestamps jump.
    TimestampJump {
        /// When.
        after: Duration,
        /// By how much, at 90 kHz.
        ticks: i32,
    },
    /// The camera's clock, which sender reports tell, jumps; RTP timestamps do not.
    ClockJump {
        /// When; zero: the clock is wrong from the beginning.
        after: Duration,
        /// By how much.
        seconds: i64,
    },
}

/// A request that can hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// OPTIONS.
    Options,
    /// DESCRIBE.
    Describe,
    /// SETUP.
    Setup,
    /// PLAY.
    Play,
    /// OPTIONS, GET_PARAMETER or SET_PARAMETER after PLAY; media come until then.
    KeepAlive,
    /// TEARDOWN; media go on.
    Teardown,
}

/// A request that keeps a session alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// OPTIONS.
    Options,
    /// GET_PARAMETER.
    GetParameter,
}
