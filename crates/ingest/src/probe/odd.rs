//! What is unusual about a stream, in words, for who has to decide whether it matters.

use std::time::Instant;

use fleet::{Look, Sampling};

use super::seen::Seen;
use super::watch::{KeyKind, Watch};

/// Clocks that differ by less are as good as equal.
const CLOCK_S: f64 = 1.0;

/// Everything that a person would want to know and a worker copes with, or does not.
pub(super) fn list(watch: &Watch, seen: &Seen, look: &Look, now: Instant) -> Vec<String> {
    let mut odd = Vec::new();
    keys(watch, seen, look, &mut odd);
    sets(watch, &mut odd);
    markers(watch, &mut odd);
    times(watch, seen, now, &mut odd);
    if seen.loss_percent > 0.1 {
        odd.push(format!("{:.1} % of the RTP packets did not arrive", seen.loss_percent));
    }
    if let (Some(damage), damaged @ 1..) = (watch.last_damage, watch.damaged) {
        odd.push(format!("{damaged} of {} pictures damaged: {damage}", damaged + watch.pictures));
    }
    if watch.undecodable > 0 {
        odd.push(format!("{} key pictures before any parameter sets", watch.undecodable));
    }
    if seen.slices > 1 {
        odd.push(format!("up to {} slices per picture", seen.slices));
    }
    if seen.picture.as_ref().is_some_and(|picture| picture.interlaced) {
        odd.push("interlaced: moving things show combs".to_owned());
    }
    odd
}

fn keys(watch: &Watch, seen: &Seen, look: &Look, odd: &mut Vec<String>) {
    if watch.key_kinds.contains(&KeyKind::Refresh) {
        odd.push(
            "refreshes its picture bit by bit (intra refresh) in place of key pictures: it has to be decoded in full".to_owned(),
        );
    } else if watch.keys.is_empty() {
        odd.push(format!("no key picture in {:.0} s", seen.watched_s));
    }
    if let Some(interval) = seen.key_interval
        && interval.max_s > 1.5 * interval.min_s.max(0.04)
    {
        odd.push(format!(
            "key pictures come irregularly, {:.1} to {:.1} s apart: a smart codec?",
            interval.min_s, interval.max_s
        ));
    }
    let allowed = look.at_least_every.as_secs_f64();
    if let Some(interval) = seen.usual_key_interval_s()
        && look.sampling == Sampling::Keyframes
        && interval > allowed
    {
        odd.push(format!(
            "key pictures {interval:.0} s apart; a look is wanted at least every {allowed:.0} s"
        ));
    }
}

fn sets(watch: &Watch, odd: &mut Vec<String>) {
    match (watch.described_sets, watch.in_band_sets) {
        (false, true) => odd.push("parameter sets in the stream only, none in the description".to_owned()),
        (true, false) => odd.push("parameter sets in the description only, none in the stream".to_owned()),
        _ => {}
    }
    if watch.sizes.len() > 1 {
        let sizes: Vec<_> = watch.sizes.iter().map(|(width, height)| format!("{width}×{height}")).collect();
        odd.push(format!("the size changes, or the description has another: {}", sizes.join(", then ")));
    }
}

fn markers(watch: &Watch, odd: &mut Vec<String>) {
    let pictures = watch.pictures + watch.damaged;
    if pictures >= 3 && watch.marks == 0 {
        odd.push("the RTP marker never ends a picture; the next time stamp does".to_owned());
    } else if pictures >= 3 && watch.marks > pictures + pictures / 2 {
        odd.push(format!("{} RTP markers for {pictures} pictures", watch.marks));
    }
}

fn times(watch: &Watch, seen: &Seen, now: Instant, odd: &mut Vec<String>) {
    if let Some(jump) = watch.jumps.first() {
        let more = watch.jumps.len() - 1;
        let more = if more > 0 { format!(", and {more} more times") } else { String::new() };
        odd.push(format!("time stamps jump by {jump:+.0} s{more}"));
    }
    if let Some(pace) = watch.pace(now)
        && (pace - 1.0).abs() > 0.05
    {
        odd.push(format!("time stamps run at {:.0} % of the clock", pace * 100.0));
    }
    match seen.clock_offset_s {
        None if seen.watched_s >= super::REPORT_EVERY.as_secs_f64() => {
            odd.push("no RTCP sender report: its clock is unknown".to_owned());
        }
        None => {}
        Some(offset) if offset.abs() > 365.0 * 86_400.0 => odd.push("its clock is not set".to_owned()),
        Some(offset) if offset.abs() > CLOCK_S => {
            let way = if offset > 0.0 { "ahead" } else { "behind" };
            odd.push(format!("its clock is {:.1} s {way}", offset.abs()));
        }
        Some(_) => {}
    }
    let described = seen.tracks.iter().find(|track| track.watched).and_then(|track| track.fps);
    if let (Some(described), Some(fps)) = (described, seen.fps)
        && (f64::from(described) - fps).abs() > 0.2 * fps
    {
        odd.push(format!("describes itself as {described:.1} fps and sends {fps:.1}"));
    }
}
