//! The faults of a mount, sorted out once so that sessions only look them up.

use std::sync::Arc;
use std::time::Duration;

use super::fault::{Fault, KeepAlive, Step};
use super::packets::PacketTable;

/// What goes wrong, and when. The default: nothing.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) refuse_connection: bool,
    pub(super) answer: Option<u16>,
    pub(super) hang: Vec<Step>,
    pub(super) drip: Option<Duration>,
    pub(super) endless_headers: bool,
    pub(super) redirect: Option<String>,
    pub(super) garbage_sdp: bool,
    pub(super) huge_sdp: usize,
    pub(super) no_sets_in_sdp: bool,
    pub(super) sets_only_in_sdp: bool,
    pub(super) wrong_password: bool,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) silent_after: Option<Duration>,
    pub(super) garbage_after: Option<Duration>,
    /// Every so-many-th packet, and how many bytes.
    pub(super) garbage_between: Option<(u32, usize)>,
    pub(super) strange_channel: bool,
    pub(super) cut_after: Option<Duration>,
    pub(super) cut_in_picture: Option<Duration>,
    pub(super) bye_after: Option<Duration>,
    /// Share and seed.
    pub(super) lose: Option<(f64, u64)>,
    /// Share and seed.
    pub(super) reorder: Option<(f64, u64)>,
    /// Bits per second.
    pub(super) flood: Option<u64>,
    /// In the order of time.
    pub(super) switches: Vec<(Duration, Arc<PacketTable>)>,
    pub(super) corrupt_every: Option<u64>,
    pub(super) no_marker: bool,
    pub(super) mark_each_unit: bool,
    pub(super) jumps: Vec<(Duration, i32)>,
    /// Seconds.
    pub(super) clock_jumps: Vec<(Duration, i64)>,
}

impl Script {
    /// Sorts `faults` out. `table` packetises a clip that is switched to; its error is passed on.
    pub(super) fn new<'a, E>(
        faults: impl IntoIterator<Item = &'a Fault>,
        mut table: impl FnMut(&Arc<crate::Clip>) -> Result<Arc<PacketTable>, E>,
    ) -> Result<Self, E> {
        let mut script = Self::default();
        for fault in faults {
            match fault {
                Fault::SwitchClip { after, to } => script.switches.push((*after, table(to)?)),
                Fault::LosePackets { share, seed } => script.lose = Some((share.clamp(0.0, 1.0), *seed)),
                Fault::ReorderPackets { share, seed } => {
                    script.reorder = Some((share.clamp(0.0, 1.0), *seed))
                }
                Fault::GarbageBetween { every, bytes } => {
                    script.garbage_between = Some(((*every).max(1), *bytes));
                }
                Fault::CorruptPicture { every } => script.corrupt_every = Some(u64::from((*every).max(1))),
                Fault::RefuseConnection => script.refuse_connection = true,
                Fault::Answer(status) => script.answer = Some(*status),
                Fault::Hang(step) => script.hang.push(*step),
                Fault::DripReplies { pause } => script.drip = Some(*pause),
                Fault::EndlessHeaders => script.endless_headers = true,
                Fault::Redirect { to } => script.redirect = Some(to.clone()),
                Fault::GarbageSdp => script.garbage_sdp = true,
                Fault::HugeSdp { bytes } => script.huge_sdp = *bytes,
                Fault::NoSetsInSdp => script.no_sets_in_sdp = true,
                Fault::SetsOnlyInSdp => script.sets_only_in_sdp = true,
                Fault::WrongPassword => script.wrong_password = true,
                Fault::KeepAliveOnly(request) => script.keep_alive = Some(*request),
                Fault::SilentAfter(after) => script.silent_after = Some(*after),
                Fault::GarbageAfter(after) => script.garbage_after = Some(*after),
                Fault::StrangeChannel => script.strange_channel = true,
                Fault::CutAfter(after) => script.cut_after = Some(*after),
                Fault::CutInPicture(after) => script.cut_in_picture = Some(*after),
                Fault::ByeAfter(after) => script.bye_after = Some(*after),
                Fault::Flood { mbit } => script.flood = Some(u64::from(*mbit) * 1_000_000),
                Fault::NoMarker => script.no_marker = true,
                Fault::MarkEachUnit => script.mark_each_unit = true,
                Fault::TimestampJump { after, ticks } => script.jumps.push((*after, *ticks)),
                Fault::ClockJump { after, seconds } => script.clock_jumps.push((*after, *seconds)),
            }
        }
        script.switches.sort_by_key(|(after, _)| *after);
        Ok(script)
    }

    /// The sum of the timestamp jumps up to this time after PLAY.
    pub(super) fn jumped(&self, after_play: Duration) -> u32 {
        self.jumps
            .iter()
            .filter(|(after, _)| *after <= after_play)
            .fold(0, |sum, (_, t)| sum.wrapping_add_signed(*t))
    }

    /// The sum of the clock's jumps, in seconds, up to this time after PLAY.
    pub(super) fn clock_jumped(&self, after_play: Duration) -> i64 {
        self.clock_jumps.iter().filter(|(after, _)| *after <= after_play).map(|(_, seconds)| seconds).sum()
    }
}
