//! The stage's account. Each access unit is counted in once and out once.

use flow::{Counter, Flow};

/// Why an access unit was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The queue was full.
    Overflow,
    /// No picture, or a damaged one.
    Corrupt,
    /// Cannot be decoded before the next key picture.
    NoKey,
    /// Decoded as a reference only.
    NotWanted,
    /// Not whole yet: the stream was entered at a recovery point.
    Recovering,
    /// All chained decoders are in use.
    NoDecoder,
    /// The decoder failed or did not answer.
    Failed,
    /// The pool was shut down first.
    Shutdown,
}

const REASONS: [(Reason, &str); 8] = [
    (Reason::Overflow, "overflow"),
    (Reason::Corrupt, "corrupt"),
    (Reason::NoKey, "no_key"),
    (Reason::NotWanted, "not_wanted"),
    (Reason::Recovering, "recovering"),
    (Reason::NoDecoder, "no_decoder"),
    (Reason::Failed, "failed"),
    (Reason::Shutdown, "shutdown"),
];

/// Numbers shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) received: Counter,
    pub(crate) passed: Counter,
    dropped: [Counter; REASONS.len()],
}

impl Counters {
    /// One access unit less.
    pub(crate) fn drop_one(&self, reason: Reason) {
        // The table lists the reasons in the order of the enum (tested).
        self.dropped[reason as usize].add(1);
    }

    /// The account. What goes out is read before what came in, so that `inside` is never negative.
    pub(crate) fn flow(&self) -> Flow {
        let dropped =
            REASONS.iter().map(|(reason, name)| (*name, self.dropped[*reason as usize].get())).collect();
        let passed = self.passed.get();
        Flow { received: self.received.get(), passed, dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_place() {
        for (index, (reason, _)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        let counters = Counters::default();
        counters.received.add(3);
        counters.passed.add(1);
        counters.drop_one(Reason::Shutdown);
        let flow = counters.flow();
        assert_eq!(flow.inside(), 1);
        assert_eq!(flow.dropped.last(), Some(&("shutdown", 1)));
    }
}
