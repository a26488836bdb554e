//! What is told about a camera.

use flow::{CameraId, CameraState, Health, Timestamp, Via};

use crate::HealthSink;
use crate::meter::Rates;

/// Tells changes of one camera's state, and rates now and then.
pub(crate) struct Reporter {
    sink: HealthSink,
    /// As told last; `told` says whether it was.
    health: Health,
    told: bool,
}

impl Reporter {
    pub(crate) fn new(camera: CameraId, sink: HealthSink) -> Self {
        let health = Health::new(camera, CameraState::Connecting, "", Timestamp::now());
        Self { sink, health, told: false }
    }

    /// Tells the state if it is another than before; says whether it was. What was measured of a stream goes with it.
    pub(crate) fn change(&mut self, state: CameraState, reason: String) -> bool {
        // A stream that comes back has to show anew that it loses nothing.
        if self.told && self.health.state == state {
            return false;
        }
        let health = &mut self.health;
        (health.fps, health.bit_rate, health.key_interval_s, health.loss_percent) = (None, None, None, None);
        if !state.has_pictures() {
            health.note.clear();
        }
        self.enter(state);
        self.health.reason = reason;
        self.tell();
        true
    }

    /// Tells measured rates of a camera that streams. `complaint`: what they mean, if nothing good.
    pub(crate) fn rates(&mut self, rates: Rates, complaint: Option<String>) {
        let losing = rates.losing.zip(rates.loss_percent);
        let mut reasons = Vec::new();
        match losing {
            Some((over, percent)) => {
                self.enter(CameraState::Losing(percent.round().clamp(0.0, 100.0) as u8));
                reasons
                    .push(format!("{percent:.1} % of the RTP packets of the last {over:.0?} did not arrive"));
            }
            None => self.enter(CameraState::Streaming),
        }
        reasons.extend(complaint);
        let health = &mut self.health;
        health.reason = reasons.join("; ");
        health.fps = Some(rates.fps);
        health.bit_rate = Some(rates.bit_rate);
        health.key_interval_s = rates.key_interval_s;
        health.loss_percent = rates.loss_percent;
        self.tell();
    }

    /// A whole picture came: told with whatever is told next.
    pub(crate) fn picture(&mut self, arrived: Timestamp) {
        self.health.last_picture = Some(arrived);
    }

    /// What receives the camera: told with whatever is told next.
    pub(crate) fn via(&mut self, via: Via) {
        self.health.via = Some(via);
    }

    /// The camera's clock minus ours, in seconds: told with whatever is told next.
    pub(crate) fn clock_offset(&mut self, seconds: f64) {
        self.health.clock_offset_s = Some(seconds);
    }

    /// How the camera is watched, where not as configured: told with whatever is told next.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.health.note = note.into();
    }

    /// The state's time runs on where only the percentage of a loss is another.
    fn enter(&mut self, state: CameraState) {
        let same = match (&self.health.state, &state) {
            (CameraState::Losing(_), CameraState::Losing(_)) => true,
            (before, now) => before == now,
        };
        if !same || !self.told {
            self.health.since = Timestamp::now();
        }
        self.health.state = state;
    }

    fn tell(&mut self) {
        self.told = true;
        (self.sink)(self.health.clone());
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").field("health", &self.health).finish_non_exhaustive()
    }
}

/// The sink that gives a camera's news to somebody else.
#[cfg(test)]
pub(crate) fn collecting() -> (HealthSink, std::sync::Arc<std::sync::Mutex<Vec<Health>>>) {
    use std::sync::Arc;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink: HealthSink = {
        let told = Arc::clone(&told);
        Arc::new(move |health| told.lock().unwrap().push(health))
    };
    (sink, told)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rates() -> Rates {
        Rates { fps: 10.0, bit_rate: 500_000, ..Rates::default() }
    }

    #[test]
    fn the_same_state_is_told_once() {
        let (sink, told) = collecting();
        let mut reporter = Reporter::new(CameraId::new("c").unwrap(), sink);
        assert!(reporter.change(CameraState::Connecting, String::new()));
        assert!(reporter.change(CameraState::Refused, "once".to_owned()));
        assert!(!reporter.change(CameraState::Refused, "again".to_owned()));
        assert!(reporter.change(CameraState::Broken("x".to_owned()), "other".to_owned()));
        reporter.via(Via::Lean);
        reporter.picture(Timestamp::UNIX_EPOCH);
        assert!(reporter.change(CameraState::Streaming, String::new()));
        reporter.rates(rates(), None);
        assert!(reporter.change(CameraState::NoData, String::new()));
        let told = told.lock().unwrap();
        assert_eq!(
            told.iter().map(|h| h.state.name()).collect::<Vec<_>>(),
            ["connecting", "refused", "broken", "streaming", "streaming", "no_data"]
        );
        assert_eq!((told[4].fps, told[4].bit_rate), (Some(10.0), Some(500_000)));
        assert_eq!(told[4].since, told[3].since);
        assert_eq!((told[5].fps, told[5].via), (None, Some(Via::Lean)), "of a stream that is no more");
        assert_eq!(told[5].last_picture, Some(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_camera_that_loses_packets_says_so_with_the_complaint_and_since_when() {
        let (sink, told) = collecting();
        let mut reporter = Reporter::new(CameraId::new("c").unwrap(), sink);
        reporter.change(CameraState::Streaming, String::new());
        let losing =
            |percent| Rates { loss_percent: Some(percent), losing: Some(Duration::from_secs(60)), ..rates() };
        reporter.rates(losing(4.4), Some("too seldom".to_owned()));
        reporter.rates(losing(6.8), None);
        reporter.rates(Rates { loss_percent: Some(0.5), ..rates() }, None);
        let told = told.lock().unwrap();
        let states: Vec<_> = told.iter().map(|h| h.state.clone()).collect();
        use CameraState::{Losing, Streaming};
        assert_eq!(states, [Streaming, Losing(4), Losing(7), Streaming]);
        assert_eq!(told[1].reason, "4.4 % of the RTP packets of the last 60s did not arrive; too seldom");
        assert_eq!(told[1].since, told[2].since, "only the percentage changed");
        assert_eq!(told[3].reason, "");
    }
}
