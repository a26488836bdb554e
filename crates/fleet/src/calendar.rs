//! When a rule applies: weekdays, hours, dates and holidays, on the site's clock.

use std::collections::BTreeSet;
use std::sync::Arc;

use flow::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;

/// How many windows in a row are joined when asked since when it has been open. A rule that applies round the
/// clock is the same to every clock that runs less than that.
const MAX_JOINED: usize = 32;

/// Windows of time, joined: it is open where one of them is.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    /// The site's time zone.
    pub(crate) zone: TimeZone,
    /// Public holidays.
    pub(crate) holidays: Arc<BTreeSet<Date>>,
    /// At least one.
    pub(crate) windows: Vec<Window>,
}

/// One window: on these days, from then to then.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Window {
    pub days: Vec<Weekday>,
    pub from: Time,
    /// At or before `from`: on the next day.
    pub to: Time,
    /// First and last day of the year's part in which it applies, as month and day.
    pub dates: Option<((i8, i8), (i8, i8))>,
    pub holidays: Holidays,
}

/// What public holidays mean to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holidays {
    /// Days like others.
    Included,
    /// Closed on them.
    Except,
    /// Open on them alone, whatever the weekday.
    Only,
}

impl Calendar {
    /// Whether it is open.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.windows.iter().any(|window| self.start(window, at).is_some())
    }

    /// Since when it has been open without a break, windows that touch joined. `None`: it is closed.
    pub fn open_since(&self, at: Timestamp) -> Option<Timestamp> {
        let start_at = |at| self.windows.iter().filter_map(|window| self.start(window, at)).min();
        let mut since = start_at(at)?;
        for _ in 0..MAX_JOINED {
            let before = since.checked_sub(jiff::Span::new().milliseconds(1)).ok();
            match before.and_then(start_at) {
                Some(earlier) => since = earlier,
                None => break,
            }
        }
        Some(since)
    }

    /// When the run of `window` that covers `at` began.
    fn start(&self, window: &Window, at: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(at).date();
        // A run that passes midnight belongs to the day on which it began.
        [Some(today), today.yesterday().ok()].into_iter().flatten().find_map(|day| {
            if !self.applies(window, day) {
                return None;
            }
            let end_day = if window.to <= window.from { day.tomorrow().ok()? } else { day };
            let from = self.zone.to_timestamp(day.to_datetime(window.from)).ok()?;
            let to = self.zone.to_timestamp(end_day.to_datetime(window.to)).ok()?;
            (from <= at && at < to).then_some(from)
        })
    }

    fn applies(&self, window: &Window, day: Date) -> bool {
        let holiday = self.holidays.contains(&day);
        let weekday = window.days.contains(&day.weekday());
        let by_day = match window.holidays {
            Holidays::Included => weekday,
            Holidays::Except => weekday && !holiday,
            Holidays::Only => holiday,
        };
        let in_dates = window.dates.is_none_or(|(first, last)| {
            let now = (day.month(), day.day());
            // A part of the year may pass New Year.
            if first <= last { first <= now && now <= last } else { now >= first || now <= last }
        });
        by_day && in_dates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Weekday; 7] = [
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
        Weekday::Sunday,
    ];

    fn window(from: (i8, i8), to: (i8, i8)) -> Window {
        let time = |(hour, minute)| Time::constant(hour, minute, 0, 0);
        Window {
            days: ALL.to_vec(),
            from: time(from),
            to: time(to),
            dates: None,
            holidays: Holidays::Included,
        }
    }

    fn calendar(windows: Vec<Window>) -> Calendar {
        let holidays = Arc::new(BTreeSet::from([Date::constant(2026, 10, 1)]));
        Calendar { zone: TimeZone::get("Asia/Shanghai").unwrap(), holidays, windows }
    }

    /// On the clock of Shanghai, eight hours before UTC.
    fn at(text: &str) -> Timestamp {
        format!("{text}+08:00").parse().unwrap()
    }

    #[test]
    fn hours_are_the_sites_and_may_pass_midnight() {
        let night = calendar(vec![window((22, 0), (6, 0))]);
        assert_eq!(night.open_since(at("2026-11-24T21:59:59")), None);
        assert_eq!(night.open_since(at("2026-11-24T22:00:00")), Some(at("2026-11-24T22:00:00")));
        assert_eq!(night.open_since(at("2026-11-25T05:59:59")), Some(at("2026-11-24T22:00:00")));
        assert_eq!(night.open_since(at("2026-11-25T06:00:00")), None);
    }

    #[test]
    fn windows_that_touch_are_one() {
        let joined = calendar(vec![window((8, 0), (12, 0)), window((12, 0), (18, 0))]);
        assert_eq!(joined.open_since(at("2026-11-24T13:00:00")), Some(at("2026-11-24T08:00:00")));
        let whole_day = calendar(vec![window((0, 0), (0, 0))]);
        let since = whole_day.open_since(at("2026-11-24T13:00:00")).unwrap();
        assert!(since <= at("2026-10-25T00:00:00"), "open for weeks, not since midnight: {since}");
    }

    #[test]
    fn days_dates_and_holidays() {
        // 2026-11-24 is a Tuesday.
        let weekend = calendar(vec![Window {
            days: vec![Weekday::Saturday, Weekday::Sunday],
            ..window((0, 0), (0, 0))
        }]);
        assert!(!weekend.is_open(at("2026-11-24T12:00:00")));
        assert!(weekend.is_open(at("2026-11-28T12:00:00")));
        // A run belongs to the day on which it began: Sunday's night reaches into Monday.
        let sunday_night = calendar(vec![Window { days: vec![Weekday::Sunday], ..window((20, 0), (4, 0)) }]);
        assert!(sunday_night.is_open(at("2026-11-30T03:00:00")));
        assert!(!sunday_night.is_open(at("2026-11-29T03:00:00")));

        let working = Window { holidays: Holidays::Except, ..window((8, 0), (18, 0)) };
        assert!(!calendar(vec![working.clone()]).is_open(at("2026-10-01T12:00:00")));
        assert!(calendar(vec![working]).is_open(at("2026-10-02T12:00:00")));
        let feast = Window { holidays: Holidays::Only, days: vec![], ..window((8, 0), (18, 0)) };
        assert!(calendar(vec![feast.clone()]).is_open(at("2026-10-01T12:00:00")));
        assert!(!calendar(vec![feast]).is_open(at("2026-10-02T12:00:00")));

        let winter = Window { dates: Some(((11, 15), (3, 15))), ..window((0, 0), (0, 0)) };
        for (day, open) in
            [("2026-11-14", false), ("2026-11-15", true), ("2027-01-01", true), ("2027-03-16", false)]
        {
            assert_eq!(calendar(vec![winter.clone()]).is_open(at(&format!("{day}T12:00:00"))), open, "{day}");
        }
    }
}
