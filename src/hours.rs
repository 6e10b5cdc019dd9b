//! Owns the hours and times of day of `config.json`: how they are written, and when they are. Never asks a clock: local time comes
//! in as microseconds since 1970, or as a day of the week and a minute. Pure; any thread.

use crate::settings::{Refusal, Word};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const RULE: &str = "always, HH:MM-HH:MM, or days before it such as Mon-Fri 08:00-17:30";

const TIME_RULE: &str = "HH:MM, or days before it such as Mon-Fri 12:00";

/// One minute (µs).
const MINUTE: i64 = 60_000_000;
/// One day (µs).
const DAY: i64 = 1440 * MINUTE;

/// One line of hours, as in `record.schedule`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// One bit a day, the lowest Monday: days on which it begins.
    days: u8,
    /// Minutes of the day; an end that is not later than the start lies on the next day.
    from: u32,
    to: u32,
}

fn minutes(text: &str) -> Option<u32> {
    let (h, m) = text.split_once(':')?;
    let two = |s: &str| (s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse::<u32>().ok()).flatten();
    let (h, m) = (two(h)?, two(m)?);
    ((h < 24 && m < 60) || (h == 24 && m == 0)).then_some(h * 60 + m)
}

fn days(text: &str) -> Option<u8> {
    let day = |s: &str| DAYS.iter().position(|d| d.eq_ignore_ascii_case(s));
    text.split(',').try_fold(0, |all, part| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let (a, b) = (day(a)?, day(b)?);
        // Sat-Mon goes over the week's end.
        let count = (b + 7 - a) % 7;
        Some((0..=count).fold(all, |all, k| all | 1 << ((a + k) % 7)))
    })
}

impl Word for Span {
    fn read(text: &str) -> Result<Self, Refusal> {
        Span::parse(text).map_err(|rule| Refusal::text(rule, text))
    }
    fn word(&self) -> String {
        let time = |t: u32| format!("{:02}:{:02}", t / 60, t % 60);
        format!("{} {}-{}", names(self.days), time(self.from), time(self.to))
    }
}

/// A time of day, perhaps on some days of the week only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// As in [`Span`].
    days: u8,
    /// Minute of the day.
    at: u32,
}

impl Word for Time {
    fn read(text: &str) -> Result<Self, Refusal> {
        let (on, at) = text.rsplit_once(' ').map_or((Some(0x7f), text), |(d, t)| (days(d), t));
        match (on, minutes(at)) {
            (Some(days), Some(at)) if at < 24 * 60 => Ok(Time { days, at }),
            _ => Err(Refusal::text(TIME_RULE, text)),
        }
    }
    fn word(&self) -> String {
        let time = format!("{:02}:{:02}", self.at / 60, self.at % 60);
        if self.days == 0x7f { time } else { format!("{} {time}", names(self.days)) }
    }
}

impl Time {
    /// Its instant on a day, counted from 1970, if it is on that day.
    fn on(self, day: i64) -> Option<i64> {
        (self.days >> weekday(day) & 1 == 1).then(|| day * DAY + i64::from(self.at) * MINUTE)
    }
}

/// The last of these times at or before an instant.
pub fn last(times: &[Time], instant: i64) -> Option<i64> {
    let day = instant.div_euclid(DAY);
    // A time on one day of the week was a week ago at the latest.
    (day - 7..=day).rev().find_map(|day| times.iter().filter_map(|t| t.on(day)).filter(|t| *t <= instant).max())
}

/// The first of these times behind an instant.
pub fn next(times: &[Time], instant: i64) -> Option<i64> {
    let day = instant.div_euclid(DAY);
    (day..=day + 7).find_map(|day| times.iter().filter_map(|t| t.on(day)).filter(|t| *t > instant).min())
}

/// The day of the week, Monday 0, of a day counted from 1970, which began with a Thursday.
fn weekday(day: i64) -> u32 {
    (day + 3).rem_euclid(7) as u32
}

/// Whether any of these lines covers an instant.
pub fn cover(spans: &[Span], instant: i64) -> bool {
    covered(spans, weekday(instant.div_euclid(DAY)), (instant.rem_euclid(DAY) / MINUTE) as u32)
}

/// The days, by name.
fn names(days: u8) -> String {
    (0..7).filter(|day| days >> day & 1 == 1).map(|day| DAYS[day]).collect::<Vec<_>>().join(",")
}

impl Span {
    /// Reads one line; the error is the rule.
    fn parse(text: &str) -> Result<Span, &'static str> {
        if text == "always" {
            return Ok(Span { days: 0x7f, from: 0, to: 24 * 60 });
        }
        let (on, times) = text.rsplit_once(' ').map_or((Some(0x7f), text), |(d, t)| (days(d), t));
        let (from, to) = times.split_once('-').ok_or(RULE)?;
        match (on, minutes(from), minutes(to)) {
            (Some(days), Some(from), Some(to)) if from < 24 * 60 && from != to => Ok(Span { days, from, to }),
            _ => Err(RULE),
        }
    }

    /// Whether it covers this minute of this day (Monday 0).
    fn covers(self, day: u32, minute: u32) -> bool {
        let on = |day: u32| self.days >> (day % 7) & 1 == 1;
        if self.from < self.to {
            on(day) && (self.from..self.to).contains(&minute)
        } else {
            (on(day) && minute >= self.from) || (on(day + 6) && minute < self.to)
        }
    }
}

/// Whether any of these lines covers this minute of this day (Monday 0).
pub fn covered(schedule: &[Span], day: u32, minute: u32) -> bool {
    schedule.iter().any(|s| s.covers(day, minute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_cover_what_they_say() {
        let covers = |text: &str, day, h: u32, m| Span::parse(text).unwrap().covers(day, h * 60 + m);
        assert!(covers("always", 6, 23, 59) && covers("always", 0, 0, 0));
        assert!(covers("08:00-17:30", 3, 8, 0) && !covers("08:00-17:30", 3, 17, 30));
        assert!(covers("Mon-Fri 08:00-17:30", 4, 17, 29) && !covers("Mon-Fri 08:00-17:30", 5, 12, 0));
        // Friday's night ends on Saturday morning; Monday begins without one.
        assert!(
            covers("Fri 22:00-06:00", 4, 23, 0) && covers("Fri 22:00-06:00", 5, 5, 59) && !covers("Fri 22:00-06:00", 4, 5, 0)
        );
        assert!(covers("Sat-Mon,wed 00:00-24:00", 6, 12, 0) && covers("Sat-Mon,wed 00:00-24:00", 2, 0, 0));
        assert!(!covers("Sat-Mon,wed 00:00-24:00", 1, 12, 0));
    }

    #[test]
    fn a_line_that_was_written_is_read_again() {
        for text in ["always", "08:00-17:30", "Mon-Fri 18:00-06:00", "Sat-Mon,wed 00:00-24:00"] {
            let span = Span::parse(text).unwrap();
            assert_eq!(Span::parse(&span.word()), Ok(span), "{text}: {}", span.word());
        }
        assert_eq!(Span::parse("Sat-Mon 22:00-06:00").unwrap().word(), "Mon,Sat,Sun 22:00-06:00");
    }

    #[test]
    fn a_time_of_day_comes_on_its_days() {
        let time = |text: &str| Time::read(text).unwrap();
        assert_eq!(["12:00", "Fri-sun 07:05"].map(|t| time(t).word()), ["12:00", "Fri,Sat,Sun 07:05"]);
        for bad in ["", "24:00", "7:05", "noon", "Foo 12:00", "12:00-13:00", "Mon"] {
            assert!(Time::read(bad).is_err(), "{bad}");
        }
        // 2026-11-28 is a Saturday: 20785 days after 1970.
        let at = |day: i64, h: i64, m: i64| (20_785 + day) * DAY + (h * 60 + m) * MINUTE;
        let times = [time("12:00"), time("Mon 06:30")];
        assert_eq!((last(&times, at(0, 12, 0)), next(&times, at(0, 12, 0))), (Some(at(0, 12, 0)), Some(at(1, 12, 0))));
        assert_eq!((last(&times, at(2, 7, 0)), next(&times, at(2, 6, 0))), (Some(at(2, 6, 30)), Some(at(2, 6, 30))));
        assert_eq!((last(&times[1..], at(2, 6, 29)), next(&times[1..], at(2, 6, 30))), (Some(at(-5, 6, 30)), Some(at(9, 6, 30))));
        assert_eq!((last(&[], at(0, 0, 0)), next(&[], at(0, 0, 0))), (None, None));
        let spans = [Span::parse("Sat 08:00-17:30").unwrap()];
        assert!(cover(&spans, at(0, 8, 0)) && !cover(&spans, at(0, 17, 30)) && !cover(&spans, at(1, 8, 0)));
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "8:00-9:00",
            "08:00",
            "08:00-08:00",
            "25:00-26:00",
            "08:60-09:00",
            "Foo 08:00-09:00",
            "24:00-01:00",
            "Mon",
            "Always",
        ] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }
}
