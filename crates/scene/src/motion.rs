//! Linking things that move from one look to the next, when looks are seconds apart.
//!
//! A constant-velocity guess with a reach that grows with the time between looks, as the covariance of a Kalman filter
//! would; a link is made only where it is nobody's second choice, since a wrong one is worse than none: what moves
//! matters to few rules, and those count crossings.

use std::time::Duration;

use flow::{Detection, NormBox, NormPoint, Timestamp};

use crate::tracker::Track;

/// Nothing is followed further than this from where it should be: half a picture.
const MAX_REACH: f32 = 0.5;
/// What was last seen longer ago than this, in seconds, may be anywhere.
const MAX_SECONDS: f32 = 10.0;
/// How far a thing whose speed is unknown may get in a second, in diagonals of its box: a car at 15 m/s and 4.5 m.
const DIAGONALS_PER_SECOND: f32 = 3.0;
/// The second choice must be further away than the first by this factor.
const CLEAR_CHOICE: f32 = 1.6;
/// Heights of one thing in two looks differ by less than this factor.
const SIZE_RATIO: f32 = 1.8;

/// How a thing moves.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Motion {
    /// Of its middle, in shares of the picture per second; `None` before it was seen twice.
    velocity: Option<(f32, f32)>,
}

impl Motion {
    /// It was at `before`, and is at `now` after `time`.
    pub fn see(&mut self, before: &NormBox, now: &NormBox, time: Duration) {
        let seconds = time.as_secs_f32();
        if seconds <= 0.0 {
            return;
        }
        let (a, b) = (before.centre(), now.centre());
        let seen = ((b.x - a.x) / seconds, (b.y - a.y) / seconds);
        // Half of what was known: boxes jitter, and things turn.
        self.velocity = Some(match self.velocity {
            None => seen,
            Some(old) => ((old.0 + seen.0) / 2.0, (old.1 + seen.1) / 2.0),
        });
    }

    /// Where its middle should be after `seconds`, and how far from that it may be.
    fn guess(&self, place: &NormBox, seconds: f32) -> (NormPoint, f32) {
        let middle = place.centre();
        let diagonal = place.width().hypot(place.height());
        match self.velocity {
            None => (middle, (diagonal * (1.0 + DIAGONALS_PER_SECOND * seconds)).min(MAX_REACH)),
            Some((vx, vy)) => {
                let guess = NormPoint { x: middle.x + vx * seconds, y: middle.y + vy * seconds };
                let way = vx.hypot(vy) * seconds;
                (guess, (diagonal + way * 0.6).min(MAX_REACH))
            }
        }
    }
}

/// Pairs of a track, out of `unseen`, and a detection, by index, that are one thing beyond doubt.
pub(crate) fn link(
    tracks: &[Track],
    unseen: &[usize],
    free: &[&Detection],
    now: Timestamp,
) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
    for &index in unseen {
        let track = &tracks[index];
        if !track.may_move() {
            continue;
        }
        let seconds = now.duration_since(track.last_seen).unsigned_abs().as_secs_f32();
        if seconds > MAX_SECONDS {
            continue;
        }
        let (guess, reach) = track.motion().guess(&track.bbox, seconds);
        for (at, detection) in free.iter().enumerate() {
            if detection.class != track.class || !similar(&track.bbox, &detection.bbox) {
                continue;
            }
            let middle = detection.bbox.centre();
            let away = (middle.x - guess.x).hypot(middle.y - guess.y);
            if away <= reach {
                pairs.push((away, index, at));
            }
        }
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let clear = |pair: &&(f32, usize, usize)| {
        let rivals = pairs.iter().filter(|other| (other.1 == pair.1) != (other.2 == pair.2));
        // The nearest rival of either side: anything nearer than this pair rules it out too.
        rivals.map(|other| other.0).fold(f32::INFINITY, f32::min) > pair.0 * CLEAR_CHOICE
    };
    pairs.iter().filter(clear).map(|&(_, index, at)| (index, at)).collect()
}

fn similar(a: &NormBox, b: &NormBox) -> bool {
    let ratio = a.height() / b.height();
    (1.0 / SIZE_RATIO..=SIZE_RATIO).contains(&ratio)
}

#[cfg(test)]
mod tests {
    use flow::{ClassName, Score};

    use super::*;
    use crate::Tracker;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    fn car(x: f32, y: f32) -> Detection {
        Detection {
            class: ClassName::new("car"),
            score: Score::new(0.8).unwrap(),
            bbox: NormBox::new(x, y, x + 0.1, y + 0.08).unwrap(),
        }
    }

    fn tracker() -> Tracker {
        Tracker::new(Duration::from_secs(30), &[0.25], 0.4)
    }

    #[test]
    fn a_thing_that_crosses_the_picture_in_leaps_keeps_its_number() {
        let mut t = tracker();
        for look in 0..4 {
            t.look(&[car(0.02 + 0.28 * look as f32, 0.5)], at(2_000 * look));
            t.forget(|_| crate::Need::Unknown);
        }
        assert_eq!(t.tracks().len(), 1, "{:#?}", t.tracks());
        assert_eq!(t.tracks()[0].first_seen, at(0));
    }

    #[test]
    fn two_that_cross_are_not_mixed_up_once_their_ways_are_known() {
        let mut t = tracker();
        for look in 0..6 {
            let way = 0.1 * look as f32;
            t.look(&[car(0.1 + way, 0.4), car(0.75 - way, 0.55)], at(500 * look));
        }
        let first = t.tracks().iter().find(|track| track.bbox.y0() < 0.5).unwrap();
        assert_eq!(t.tracks().len(), 2, "{:#?}", t.tracks());
        assert_eq!(first.first_seen, at(0));
        assert!(first.bbox.x0() > 0.55);
    }

    #[test]
    fn where_there_is_doubt_nothing_is_linked() {
        let mut t = tracker();
        t.look(&[car(0.4, 0.5)], at(0));
        t.look(&[car(0.2, 0.5), car(0.62, 0.5)], at(2_000));
        assert_eq!(t.tracks().len(), 3);
    }

    #[test]
    fn what_has_been_standing_does_not_leap() {
        let mut t = tracker();
        for second in 0..5 {
            t.look(&[car(0.4, 0.5)], at(2_000 * second));
        }
        t.look(&[car(0.6, 0.5)], at(10_000));
        assert_eq!(t.tracks().len(), 2, "the one that stood is missing, another has come");
    }
}
