//! When a packet arrived, although it was fetched later together with others.
//!
//! A stream's time stamps run as fast as time does, so each packet says when the stream's zero must have been: the
//! time at which it was fetched, less its own. Waiting for the fetch makes that too late, never too early, so the
//! earliest of them is nearest to the truth, and every packet's arrival follows from it.

use std::time::{Duration, Instant};

use crate::picture::Arrival;

/// A camera's clock may go slow by so much of the time that passed; ordinary ones do by a tenth of it.
const DRIFT: f64 = 1e-3;
/// Time stamps that disagree by more than a fetch can be late, and this, have jumped.
const JUMP: f64 = 1.0;

/// Follows one stream.
#[derive(Debug)]
pub(crate) struct Estimator {
    seconds_per_tick: f64,
    began: Instant,
    /// Seconds after `began` at which the stream's time stamp was zero, and when that was found.
    zero: Option<(f64, f64)>,
}

impl Estimator {
    /// `clock_rate`: RTP ticks per second, > 0.
    pub(crate) fn new(clock_rate: u32, now: Instant) -> Self {
        Self { seconds_per_tick: 1.0 / f64::from(clock_rate.max(1)), began: now, zero: None }
    }

    /// The arrival of a packet with these ticks that was fetched at `fetched`: at most `late` before that, and never
    /// after it.
    pub(crate) fn arrival(&mut self, ticks: i64, fetched: Arrival, late: Duration) -> Arrival {
        let now = fetched.at.saturating_duration_since(self.began).as_secs_f64();
        let media = ticks as f64 * self.seconds_per_tick;
        let zero = now - media;
        let earliest = match self.zero {
            Some((known, since)) => {
                let known = known + (now - since) * DRIFT;
                if zero > known + late.as_secs_f64() + JUMP { zero } else { known.min(zero) }
            }
            None => zero,
        };
        self.zero = Some((earliest, now));
        let waited = (now - (earliest + media)).clamp(0.0, late.as_secs_f64());
        let waited = Duration::try_from_secs_f64(waited).unwrap_or(Duration::ZERO);
        Arrival {
            wall: fetched.wall.checked_sub(waited).unwrap_or(fetched.wall),
            at: fetched.at.checked_sub(waited).unwrap_or(fetched.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use flow::Timestamp;

    use super::*;

    const LATE: Duration = Duration::from_millis(500);

    /// Gives packets (seconds of media time, seconds of fetch), says the estimated arrivals in seconds.
    fn estimate(packets: impl IntoIterator<Item = (f64, f64)>) -> Vec<f64> {
        let start = Instant::now();
        let mut estimator = Estimator::new(90_000, start);
        let packets = packets.into_iter().map(|(media, fetched)| {
            let at = start + Duration::from_secs_f64(fetched);
            let wall = Timestamp::UNIX_EPOCH + Duration::from_secs_f64(fetched);
            let arrival = estimator.arrival((media * 90_000.0) as i64, Arrival { wall, at }, LATE);
            let seconds = arrival.at.saturating_duration_since(start).as_secs_f64();
            let wall = arrival.wall.as_microsecond() as f64 / 1e6;
            assert!((seconds - wall).abs() < 1e-3, "both clocks agree: {seconds} {wall}");
            seconds
        });
        packets.collect()
    }

    #[test]
    fn pictures_fetched_together_get_their_own_times_back() {
        // 25 pictures per second, fetched every half second, a little after the last of them came.
        let media = (0..250).map(|n| f64::from(n) * 0.04);
        let packets = media.map(|media| (media + 7.0, (media / 0.5).floor() * 0.5 + 0.5));
        let arrivals = estimate(packets);
        for (n, pair) in arrivals[25..].windows(2).enumerate() {
            assert!((pair[1] - pair[0] - 0.04).abs() < 0.005, "{n}: {pair:?}");
        }
    }

    #[test]
    fn an_arrival_is_never_far_from_the_fetch_whatever_the_time_stamps_do() {
        let odd = [(0.0, 1.0), (1e5, 1.5), (-1e5, 2.0), (0.0, 2.5), (0.0, 60.0), (0.5, 60.1), (1e9, 60.2)];
        for ((_, fetched), arrival) in odd.iter().zip(estimate(odd)) {
            assert!((fetched - 0.5001..=fetched + 1e-6).contains(&arrival), "{arrival} for {fetched}");
        }
        let mut estimator = Estimator::new(0, Instant::now());
        let now = Arrival { wall: Timestamp::MIN, at: Instant::now() };
        for ticks in [i64::MIN, 0, i64::MAX] {
            estimator.arrival(ticks, now, Duration::MAX);
        }
    }

    #[test]
    fn a_camera_whose_clock_is_slow_is_followed() {
        // 300 ppm slow for an hour, one picture per second, fetched as it comes.
        let arrivals = estimate((0..3600).map(|n| (f64::from(n) * (1.0 - 3e-4), f64::from(n))));
        let behind = 3599.0 - arrivals[3599];
        assert!(behind.abs() < 0.01, "{behind}");
    }
}
