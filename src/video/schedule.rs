//! Owns the times at which recordings run by themselves: how they are written, and whether an instant lies within. Pure.

use crate::settings::{Refusal, Word};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const RULE: &str = "always, HH:MM-HH:MM, or days before it such as Mon-Fri 08:00-17:30";

/// One line of `record.schedule`.
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
        let on = |day: &usize| self.days >> day & 1 == 1;
        let days = (0..7).filter(on).map(|day| DAYS[day]).collect::<Vec<_>>().join(",");
        let time = |t: u32| format!("{:02}:{:02}", t / 60, t % 60);
        format!("{days} {}-{}", time(self.from), time(self.to))
    }
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
