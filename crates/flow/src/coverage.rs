//! Where a camera's time went: every moment since the start is in exactly one state, so the parts add up to the whole.

use std::time::{Duration, Instant};

use crate::CameraState;

/// One camera's time by state. Times come in, and may not go back (one that does counts as no time at all).
#[derive(Debug, Clone)]
pub struct Coverage {
    began: Instant,
    /// Up to here all time is in `spent`.
    until: Instant,
    state: usize,
    /// The present state's time counts from here.
    entered: Instant,
    spent: [Duration; CameraState::NAMES.len()],
}

impl Coverage {
    /// Begins in a state.
    pub fn new(state: &CameraState, now: Instant) -> Self {
        Self { began: now, until: now, state: state.index(), entered: now, spent: Default::default() }
    }

    /// From now on in this state.
    pub fn enter(&mut self, state: &CameraState, now: Instant) {
        self.settle(now);
        if self.state != state.index() {
            (self.state, self.entered) = (state.index(), now);
        }
    }

    /// In this state since `since`, as is known only now: what of that went to the present state is taken back. Time in
    /// states before the present one stays where it is.
    pub fn enter_since(&mut self, state: &CameraState, since: Instant, now: Instant) {
        self.settle(now);
        let since = since.clamp(self.entered.min(now), now);
        let taken_back = now.saturating_duration_since(since).min(self.spent[self.state]);
        self.spent[self.state] -= taken_back;
        self.spent[state.index()] += taken_back;
        (self.state, self.entered) = (state.index(), since);
    }

    /// The time so far.
    pub fn at(&self, now: Instant) -> Minutes {
        let mut settled = self.clone();
        settled.settle(now);
        Minutes { total: settled.until - settled.began, spent: settled.spent }
    }

    fn settle(&mut self, now: Instant) {
        self.spent[self.state] += now.saturating_duration_since(self.until);
        self.until = self.until.max(now);
    }
}

/// A camera's time, or that of many cameras, up to some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minutes {
    total: Duration,
    spent: [Duration; CameraState::NAMES.len()],
}

impl Minutes {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The part in which pictures came that show what is there.
    pub fn watched(&self) -> Duration {
        self.of("streaming") + self.of("losing")
    }

    /// The part spent in the state of this name; zero for a name that no state has.
    pub fn of(&self, name: &str) -> Duration {
        self.by_state().find(|(known, _)| *known == name).map_or(Duration::ZERO, |(_, spent)| spent)
    }

    /// The parts that are not empty, by the state's name.
    pub fn by_state(&self) -> impl Iterator<Item = (&'static str, Duration)> + '_ {
        CameraState::NAMES.into_iter().zip(self.spent).filter(|(_, spent)| !spent.is_zero())
    }

    /// Adds another camera's.
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        for (mine, theirs) in self.spent.iter_mut().zip(other.spent) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_whole_whatever_happens() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut coverage = Coverage::new(&CameraState::Connecting, start);
        coverage.enter(&CameraState::Streaming, at(2));
        coverage.enter(&CameraState::Broken("resets".into()), at(60));
        coverage.enter(&CameraState::Connecting, at(50));
        coverage.enter(&CameraState::Losing(9), at(61));
        let minutes = coverage.at(at(100));
        assert_eq!(minutes.total(), Duration::from_secs(100));
        assert_eq!(minutes.by_state().map(|(_, spent)| spent).sum::<Duration>(), minutes.total());
        let parts: Vec<_> = minutes.by_state().map(|(name, spent)| (name, spent.as_secs())).collect();
        assert_eq!(parts, [("connecting", 3), ("streaming", 58), ("losing", 39)]);
        assert_eq!(minutes.watched(), Duration::from_secs(97));
        // A stream that had gone silent was noticed late.
        let mut coverage = Coverage::new(&CameraState::Connecting, start);
        coverage.enter(&CameraState::Streaming, at(10));
        coverage.enter(&CameraState::Streaming, at(40));
        coverage.enter_since(&CameraState::NoData, at(30), at(50));
        let parts = |coverage: &Coverage, now| {
            coverage.at(now).by_state().map(|(name, spent)| (name, spent.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(parts(&coverage, at(60)), [("connecting", 10), ("streaming", 20), ("no_data", 30)]);
        // Not before the present state began, and not in the future.
        coverage.enter_since(&CameraState::Refused, at(5), at(70));
        assert_eq!(parts(&coverage, at(70)), [("connecting", 10), ("streaming", 20), ("refused", 40)]);
        coverage.enter_since(&CameraState::Streaming, at(90), at(80));
        assert_eq!(parts(&coverage, at(80))[2], ("refused", 50));
        assert_eq!(coverage.at(at(80)).total(), Duration::from_secs(80));

        let mut both = minutes;
        both.add(&minutes);
        assert_eq!((both.total().as_secs(), both.of("losing").as_secs()), (200, 78));
    }
}
