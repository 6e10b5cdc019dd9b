//! Owns the list `auto` of `config.json`: pictures by the clock, by day and by night, and when each is due. Never asks a clock and
//! takes no picture: local time comes in as microseconds since 1970. Plain data, any thread.

mod board;

use std::time::Duration;

pub use board::{Board, Told};

use crate::error::Result;
use crate::export::keys::Bound;
use crate::format::Format;
use crate::hours::{self, Span, Time};
use crate::settings::{Many, Refusal, Word, any, from, one_of, settings};
use crate::stack::Mode;
use crate::verbs::Tag;

/// The list. So many can be told apart in `status json` and the log, and each has 25 kB of names where its files have a bound.
pub type Entries = Many<Entry, 16>;

/// Most times of day in one entry.
const TIMES: usize = 96;

settings! {
    /// Pictures that are taken again and again.
    pub struct Entry {
        /// Time between two pictures (s), counted from midnight; 0: none.
        interval_s: Duration = Duration::ZERO, from(0.1, 31_536_000.0).or_zero();
        /// Times of day instead, in local time: `HH:MM`, or with days before it.
        at: Vec<Time> = Vec::new(), any();
        /// Whether they are taken always, by day or by night.
        when: When = When::Always, any();
        /// Hours in which they are taken, as `record.schedule`; empty: all.
        hours: Vec<Span> = Vec::new(), any();
        /// Each is the next full frame, the newest of the ring, or a stack of the ring's newest.
        take: Take = Take::Single, any();
        /// Frames in a stack.
        count: usize = 4, from(1.0, crate::stack::MAX as f64);
        /// How the frames of a stack become one picture.
        mode: Mode = Mode::Steady, any();
        /// Kept in the files' names.
        tag: Option<Tag> = None, any();
        /// `jpg`, `png`, `npy`.
        formats: Vec<Format> = vec![Format::Jpg], any();
        /// Bounds of its own for all pictures with its tag, in place of `export.keep`.
        keep: Bound = Bound::default(), any();
    }
}

/// By which mode of the night rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// By day and by night.
    Always,
    /// By day.
    Day,
    /// By night.
    Night,
}

impl Word for When {
    fn read(text: &str) -> std::result::Result<Self, Refusal> {
        one_of(&["always", "day", "night"], text).map(|place| [When::Always, When::Day, When::Night][place])
    }
    fn word(&self) -> String {
        format!("{self:?}").to_ascii_lowercase()
    }
    fn range() -> String {
        "always, day, night".into()
    }
}

/// What a picture is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The first full frame from the instant on.
    Single,
    /// The newest frame of the ring.
    Ring,
    /// Several frames of the ring.
    Stack,
}

impl Word for Take {
    fn read(text: &str) -> std::result::Result<Self, Refusal> {
        one_of(&["single", "ring", "stack"], text).map(|place| [Take::Single, Take::Ring, Take::Stack][place])
    }
    fn word(&self) -> String {
        format!("{self:?}").to_ascii_lowercase()
    }
    fn range() -> String {
        "single, ring, stack".into()
    }
}

impl Entry {
    /// The last instant at or before `now` at which a picture was due.
    pub fn last(&self, now: i64) -> Option<i64> {
        self.step().map_or_else(|| hours::last(&self.at, now), |step| Some(now.div_euclid(step) * step))
    }

    /// The first one behind `now`.
    pub fn next(&self, now: i64) -> Option<i64> {
        self.step().map_or_else(|| hours::next(&self.at, now), |step| Some(now.div_euclid(step) * step + step))
    }

    /// The interval (µs), if it has one.
    fn step(&self) -> Option<i64> {
        (!self.interval_s.is_zero()).then(|| (self.interval_s.as_micros() as i64).max(1))
    }

    /// Whether pictures are taken now; `hours` are unknown while the clock is not set.
    pub fn is_on(&self, night: bool, now: Option<i64>) -> bool {
        let by_mode = match self.when {
            When::Always => true,
            When::Day => !night,
            When::Night => night,
        };
        by_mode && (self.hours.is_empty() || now.is_some_and(|now| hours::cover(&self.hours, now)))
    }

    /// Whether its files have bounds of their own.
    pub fn is_kept(&self) -> bool {
        self.keep != Bound::default()
    }

    /// Whether it depends on light or hours.
    pub fn is_bound(&self) -> bool {
        self.when != When::Always || !self.hours.is_empty()
    }
}

/// What must be together.
pub fn check(entries: &Entries) -> Result<()> {
    for (i, e) in entries.iter().enumerate() {
        let refuse = |key: &str, rule: String, shown: &str| Err(Refusal::new(rule, shown).of(&format!("auto[{i}].{key}")));
        match (e.interval_s.is_zero(), e.at.len()) {
            (true, 0) => return refuse("interval_s", format!("above 0, unless auto[{i}].at has times"), "0"),
            (false, 1..) => return refuse("at", format!("empty where auto[{i}].interval_s is set"), &e.at[0].word()),
            (_, n) if n > TIMES => return refuse("at", format!("at most {TIMES} times"), &n.to_string()),
            _ => {}
        }
        if e.formats.is_empty() {
            return refuse("formats", format!("at least one of {}", Format::words(&Format::ALL)), "an empty list");
        }
        if !e.is_kept() {
            continue;
        }
        // Their files are told by it.
        let Some(tag) = &e.tag else { return refuse("tag", format!("a word, where auto[{i}].keep is set"), "empty") };
        let quoted = format!("\"{tag}\"");
        if entries.iter().enumerate().any(|(k, other)| k != i && other.tag.as_ref() == Some(tag)) {
            return refuse("tag", format!("a tag that no other entry has, where auto[{i}].keep is set"), &quoted);
        }
    }
    let Some(kept) = entries.iter().position(Entry::is_kept) else { return Ok(()) };
    // `gate_002` is also the second `gate` of one frame, and `002` the second without a tag.
    let numbered =
        entries.iter().enumerate().find_map(|(i, e)| e.tag.as_ref().filter(|tag| is_numbered(tag)).map(|tag| (i, tag)));
    numbered.map_or(Ok(()), |(i, tag)| {
        let rule = format!("without a number of three digits or more, alone or behind _, where auto[{kept}].keep is set");
        Err(Refusal::new(rule, format!("\"{tag}\"")).of(&format!("auto[{i}].tag")))
    })
}

/// Whether its end is what a name that was taken has behind it.
fn is_numbered(tag: &Tag) -> bool {
    let end = tag.as_str().rsplit('_').next().unwrap_or_default();
    end.len() >= 3 && end.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const S: i64 = 1_000_000;

    fn entry(text: &str) -> Entry {
        Config::parse(format!("{{\"auto\": [{text}]}}").as_bytes()).unwrap().auto[0].clone()
    }

    fn said(text: &str) -> String {
        Config::parse(format!("{{\"auto\": [{text}]}}").as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn intervals_stand_on_the_clock() {
        let quarter = entry(r#"{"interval_s": "15 min"}"#);
        let noon = 20_785 * 86_400 * S + 12 * 3600 * S;
        assert_eq!((quarter.last(noon + 61 * S), quarter.next(noon + 61 * S)), (Some(noon), Some(noon + 900 * S)));
        assert_eq!((quarter.last(noon), quarter.next(noon)), (Some(noon), Some(noon + 900 * S)));
        let day = entry(r#"{"interval_s": "1 d"}"#);
        assert_eq!(day.last(noon), Some(noon - 12 * 3600 * S));
        let often = entry(r#"{"interval_s": 0.1}"#);
        assert_eq!(often.next(noon + 5), Some(noon + S / 10));
        let daily = entry(r#"{"at": ["06:00", "12:00"]}"#);
        assert_eq!((daily.last(noon - 1), daily.next(noon - 1)), (Some(noon - 6 * 3600 * S), Some(noon)));
    }

    #[test]
    fn hours_and_light_switch_an_entry() {
        let (saturday, hour) = (20_785 * 86_400 * S, 3600 * S);
        let night = entry(r#"{"interval_s": 60, "when": "night", "hours": ["22:00-06:00"]}"#);
        assert!(night.is_on(true, Some(saturday + 23 * hour)) && night.is_on(true, Some(saturday + 5 * hour)));
        assert!(!night.is_on(false, Some(saturday + 23 * hour)) && !night.is_on(true, Some(saturday + 12 * hour)));
        assert!(!night.is_on(true, None), "hours without a clock");
        let day = entry(r#"{"interval_s": 60, "when": "day"}"#);
        assert!(day.is_on(false, None) && !day.is_on(true, None) && day.is_bound());
        assert!(!entry(r#"{"interval_s": 60}"#).is_bound());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let first = r#"{"interval_s": 60}"#;
        for (text, why) in [
            ("{}", "auto[0].interval_s: above 0, unless auto[0].at has times, not 0"),
            (r#"{"interval_s": 0.01}"#, "auto[0].interval_s: from 0.1 to 31536000, not 0.01"),
            (r#"{"interval_s": 60, "at": ["12:00"]}"#, "auto[0].at: empty where auto[0].interval_s is set, not 12:00"),
            (r#"{"at": ["noon"]}"#, "auto[0].at: HH:MM, or days before it such as Mon-Fri 12:00, not \"noon\""),
            (r#"{"interval_s": 60, "when": "dusk"}"#, "auto[0].when: one of always, day, night, not \"dusk\""),
            (r#"{"interval_s": 60, "take": "both"}"#, "auto[0].take: one of single, ring, stack, not \"both\""),
            (r#"{"interval_s": 60, "count": 257}"#, "auto[0].count: from 1 to 256, not 257"),
            (r#"{"interval_s": 60, "tag": "a b"}"#, "auto[0].tag: empty, or 1 to 32 of A-Z a-z 0-9 _ -, not \"a b\""),
            (r#"{"interval_s": 60, "formats": []}"#, "auto[0].formats: at least one of jpg, png, npy, not an empty list"),
            (r#"{"interval_s": 60, "keep": {"max_age_s": "30d"}}"#, "auto[0].tag: a word, where auto[0].keep is set, not empty"),
            (
                r#"{"interval_s": 9, "tag": "a"}, {"interval_s": 60, "tag": "a", "keep": {"max_bytes": 9}}"#,
                "auto[1].tag: a tag that no other entry has, where auto[1].keep is set, not \"a\"",
            ),
            (
                r#"{"interval_s": 60, "tag": "a_002", "keep": {"max_bytes": 9}}"#,
                "auto[0].tag: without a number of three digits or more, alone or behind _, where auto[0].keep is set, not \"a_002\"",
            ),
            (
                r#"{"interval_s": 60, "tag": "002", "keep": {"max_bytes": 9}}"#,
                "auto[0].tag: without a number of three digits or more, alone or behind _, where auto[0].keep is set, not \"002\"",
            ),
            (
                r#"{"interval_s": 60, "tag": "a_002"}, {"interval_s": 60, "tag": "a", "keep": {"max_bytes": 9}}"#,
                "auto[0].tag: without a number of three digits or more, alone or behind _, where auto[1].keep is set, not \"a_002\"",
            ),
            (
                r#"{"interval_s": 60, "tag": "a", "keep": {"max_age": 9}}"#,
                "auto[0].keep.max_age: no such key; did you mean auto[0].keep.max_age_s?",
            ),
            (&format!("{first}, {{\"intervall_s\": 60}}"), "auto[1].intervall_s: no such key; did you mean auto[1].interval_s?"),
            (&format!("{first}, 3"), "auto[1]: a group of keys in braces, not 3"),
            (&vec![first; 17].join(", "), "auto: at most 16 groups, not 17"),
        ] {
            assert_eq!(said(text), why, "{text}");
        }
        let list = Config::parse(br#"{"auto": {"interval_s": 60}}"#).unwrap_err().to_string();
        assert_eq!(list, "auto: a list of groups in brackets, not {\"interval_s\":60}");
    }

    #[test]
    fn a_list_is_written_as_it_was_read() {
        let text = r#"{"auto": [{"at": ["Mon-Fri 12:00"], "take": "stack", "count": 8, "mode": "still", "tag": "noon"}, {"interval_s": "1 min"}]}"#;
        let read = Config::parse(text.as_bytes()).unwrap();
        let again = Config::parse(read.file.json().to_string().as_bytes()).unwrap();
        assert_eq!((again.auto.len(), again.auto == read.auto), (2, true), "{:?}", again.auto);
        assert_eq!(read.file.json()["auto"][1]["interval_s"], 60.0);
    }
}
