//! Owns what an argument of a verb may be, described as data: where it stands, its type, its rule. Pure.

use std::fmt;

use super::Call;
use crate::error::Result;
use crate::format::Format;

/// Where an argument stands, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `name=value`, may be left out; of several the last holds.
    Key,
    /// One plain word.
    One,
    /// One plain word or none.
    Maybe,
    /// Plain words, at least one.
    Some,
    /// Plain words, perhaps none.
    Any,
}

/// Type and rule of an argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// A [`super::Tag`].
    Tag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Seconds with decimals, from and to.
    Seconds(f64, f64),
    /// A whole number, from and to.
    Number(u64, u64),
    /// The size of the body (bytes), and what to say of it.
    Size(&'static str),
    /// One of these kinds of file.
    Format(&'static [Format]),
    /// The same, but other words are passed over.
    AnyFormat(&'static [Format]),
    /// A word whose meaning only the one who carries it out knows, and what it is.
    Word(&'static str),
    /// The argument's own name, in any case.
    Flag,
    /// `name=value` with a name that only the one who carries it out knows.
    Pair,
}

/// One argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arg {
    /// The key, or what a plain word stands for.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it may be.
    pub rule: Rule,
}

impl Arg {
    /// `[tag=WORD]`, `SECONDS`, `[jpg] [png]`, `[mode=steady|mean]`.
    pub(super) fn usage(&self) -> String {
        let name = self.name;
        match (self.place, self.rule) {
            (_, Rule::Format(of) | Rule::AnyFormat(of)) => format!("[{}]", Format::words(of).replace(", ", "] [")),
            (Place::Key, Rule::Choice(of)) => format!("[{name}={}]", of.join("|")),
            (Place::Key, Rule::Seconds(..)) => format!("[{name}=SECONDS]"),
            (Place::Key, Rule::Number(..)) => format!("[{name}=N]"),
            (Place::Key, _) => format!("[{name}=WORD]"),
            (Place::One, _) => name.into(),
            (Place::Maybe, _) => format!("[{name}]"),
            (Place::Some, _) => format!("{name}..."),
            (Place::Any, _) => format!("[{name}...]"),
        }
    }

    /// `tag=`, `SECONDS`.
    pub fn shown(&self) -> String {
        if self.place == Place::Key { format!("{}=", self.name) } else { self.name.into() }
    }

    /// As a list of arguments names it: a key, else its rule.
    pub(super) fn takes(&self) -> String {
        if self.place == Place::Key || self.rule == Rule::Flag { self.shown() } else { self.rule.to_string() }
    }

    /// Puts the value into the call; false where it breaks the rule, an error where its type has a sentence of its own.
    pub(super) fn read(&self, word: &str, call: &mut Call) -> Result<bool> {
        let number = match self.rule {
            Rule::Seconds(from, to) => word.parse().ok().filter(|s| (from..=to).contains(s)),
            Rule::Number(from, to) => word.parse::<u64>().ok().filter(|n| (from..=to).contains(n)).map(|n| n as f64),
            Rule::Size(_) => word.parse::<u64>().ok().map(|n| n as f64),
            _ => None,
        };
        match (self.rule, Format::of_file(word)) {
            (Rule::Seconds(..) | Rule::Number(..) | Rule::Size(_), _) => match number {
                Some(number) => call.numbers.push((self.name, number)),
                None => return Ok(false),
            },
            (Rule::Format(of) | Rule::AnyFormat(of), Some(format)) if of.contains(&format) => call.formats.push(format),
            (Rule::Format(_) | Rule::Pair, _) => return Ok(false),
            (Rule::Flag, _) if !word.eq_ignore_ascii_case(self.name) => return Ok(false),
            (Rule::Tag, _) => call.tag = Some(word.parse()?),
            (Rule::Choice(of), _) => match of.iter().find(|known| **known == word) {
                Some(known) => call.choices.push((self.name, known)),
                None => return Ok(false),
            },
            (Rule::Word(_) | Rule::AnyFormat(_) | Rule::Flag, _) => call.words.push(word.into()),
        }
        Ok(true)
    }
}

impl fmt::Display for Rule {
    /// The rule in words: `seconds from 0 to 86400`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Tag => f.write_str("1 to 32 of A-Z a-z 0-9 _ -"),
            Rule::Choice(of) => f.write_str(&super::join(of, "or")),
            Rule::Seconds(from, to) => write!(f, "seconds from {from} to {to}"),
            Rule::Number(from, to) => write!(f, "a number from {from} to {to}"),
            Rule::Size(what) | Rule::Word(what) => f.write_str(what),
            Rule::Format(of) | Rule::AnyFormat(of) => f.write_str(&Format::words(of)),
            Rule::Flag => f.write_str("that word"),
            Rule::Pair => f.write_str("NAME=VALUE words"),
        }
    }
}
