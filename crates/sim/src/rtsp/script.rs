//! The faults of a mount, sorted out once so that sessions only look them up.

use std::sync::Arc;
use std::time::Duration;

use super::mount::{Fault, Step};
use super::packets::PacketTable;

/// What goes wrong, and when. The default: nothing.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) refuse_connection: bool,
    pub(super) answer: Option<u16>,
    pub(super) hang: Option<Step>,
    pub(super) garbage_sdp: bool,
    pub(super) wrong_password: bool,
    pub(super) silent_after: Option<Duration>,
    pub(super) garbage_after: Option<Duration>,
    pub(super) cut_after: Option<Duration>,
    /// Share and seed.
    pub(super) lose: Option<(f64, u64)>,
    /// In the order of time.
    pub(super) switches: Vec<(Duration, Arc<PacketTable>)>,
    pub(super) corrupt_every: Option<u64>,
    pub(super) no_marker: bool,
    pub(super) jumps: Vec<(Duration, i32)>,
}

impl Script {
    /// Sorts `faults` out. `table` packetises a clip that is switched to; its error is passed on.
    pub(super) fn new<E>(
        faults: &[Fault],
        mut table: impl FnMut(&Arc<crate::Clip>) -> Result<Arc<PacketTable>, E>,
    ) -> Result<Self, E> {
        let mut script = Self::default();
        for fault in faults {
            match fault {
                Fault::RefuseConnection => script.refuse_connection = true,
                Fault::Answer(status) => script.answer = Some(*status),
                Fault::Hang(step) => script.hang = Some(*step),
                Fault::GarbageSdp => script.garbage_sdp = true,
                Fault::WrongPassword => script.wrong_password = true,
                Fault::SilentAfter(after) => script.silent_after = Some(*after),
                Fault::GarbageAfter(after) => script.garbage_after = Some(*after),
                Fault::CutAfter(after) => script.cut_after = Some(*after),
                Fault::LosePackets { share, seed } => script.lose = Some((share.clamp(0.0, 1.0), *seed)),
                Fault::SwitchClip { after, to } => script.switches.push((*after, table(to)?)),
                Fault::CorruptPicture { every } => script.corrupt_every = Some(u64::from((*every).max(1))),
                Fault::NoMarker => script.no_marker = true,
                Fault::TimestampJump { after, ticks } => script.jumps.push((*after, *ticks)),
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
}
