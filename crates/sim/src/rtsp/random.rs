//! Faults at random, the same for the same seed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::fault::{Fault, Step};

/// What goes wrong on each connection, drawn by chance: in a quarter of them the set-up fails, in the others
/// the stream ends after a while in one of several ways, and may be imperfect until then.
///
/// The draw depends on the seed, the path and the how-many-th connection to it this is, on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomFaults {
    /// Another seed, other faults.
    pub seed: u64,
    /// How long a stream goes well, on average; exponentially distributed.
    pub mean_uptime: Duration,
}

/// Of a hundred connections, so many fail before they play.
const SET_UP_FAILS: u32 = 25;

impl RandomFaults {
    /// The faults of a connection to `path`, counted from 0.
    pub fn draw(&self, path: &str, connection: u64) -> Vec<Fault> {
        let mut hasher = DefaultHasher::new();
        (self.seed, path, connection).hash(&mut hasher);
        let mut rng = fastrand::Rng::with_seed(hasher.finish());
        if rng.u32(..100) < SET_UP_FAILS {
            return vec![set_up_fault(&mut rng)];
        }
        // The inverse of the exponential distribution; its argument is never 0.
        let uptime = self.mean_uptime.mul_f64(-(1.0 - rng.f64()).ln());
        let mut faults = vec![end(&mut rng, uptime)];
        faults.extend(imperfection(&mut rng, uptime));
        faults
    }
}

/// No log-in that is refused: that would stop a camera for the ten minutes that accounts are spared.
fn set_up_fault(rng: &mut fastrand::Rng) -> Fault {
    match rng.u32(..10) {
        0..3 => Fault::RefuseConnection,
        3 => Fault::Answer(404),
        4..6 => Fault::Answer(503),
        6 => Fault::Hang(Step::Describe),
        7 => Fault::Hang(Step::Setup),
        8 => Fault::GarbageSdp,
        _ => Fault::EndlessHeaders,
    }
}

fn end(rng: &mut fastrand::Rng, uptime: Duration) -> Fault {
    match rng.u32(..10) {
        0..3 => Fault::CutAfter(uptime),
        3..5 => Fault::CutInPicture(uptime),
        5..7 => Fault::SilentAfter(uptime),
        7 => Fault::GarbageAfter(uptime),
        _ => Fault::ByeAfter(uptime),
    }
}

fn imperfection(rng: &mut fastrand::Rng, uptime: Duration) -> Option<Fault> {
    let after = uptime / 2;
    match rng.u32(..10) {
        0 => Some(Fault::LosePackets { share: 0.02, seed: rng.u64(..) }),
        1 => Some(Fault::TimestampJump { after, ticks: rng.i32(..) }),
        2 => Some(Fault::ClockJump { after, seconds: 3_600 }),
        3 => Some(Fault::NoMarker),
        4 => Some(Fault::StrangeChannel),
        5 => Some(Fault::MarkEachUnit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_all_kinds_come() {
        let random = RandomFaults { seed: 7, mean_uptime: Duration::from_secs(60) };
        let draw = |n| format!("{:?}", random.draw("cam-0001", n));
        let all: Vec<String> = (0..400).map(draw).collect();
        assert_eq!(all, (0..400).map(draw).collect::<Vec<_>>());
        let other = RandomFaults { seed: 8, ..random };
        assert_ne!(
            all[0..5],
            (0..5).map(|n| format!("{:?}", other.draw("cam-0001", n))).collect::<Vec<_>>()[..]
        );
        assert_ne!(
            all[0..5],
            (0..5).map(|n| format!("{:?}", random.draw("cam-0002", n))).collect::<Vec<_>>()[..]
        );
        for kind in [
            "RefuseConnection",
            "Answer(404)",
            "Answer(503)",
            "Hang(Describe)",
            "Hang(Setup)",
            "GarbageSdp",
            "EndlessHeaders",
            "CutAfter",
            "CutInPicture",
            "SilentAfter",
            "GarbageAfter",
            "ByeAfter",
            "LosePackets",
            "TimestampJump",
            "ClockJump",
            "NoMarker",
            "StrangeChannel",
            "MarkEachUnit",
        ] {
            assert!(all.iter().any(|faults| faults.contains(kind)), "{kind}");
        }
        let plays =
            all.iter().filter(|faults| faults.contains("After") || faults.contains("InPicture")).count();
        assert!((270..330).contains(&plays), "{plays} of 400 play");
    }
}
