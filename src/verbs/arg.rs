//! Owns what an argument of a verb may be, described as data: where it stands, its type, its rule. Pure.

use std::fmt;

use super::call::Value;
use crate::error::Result;
use crate::format::Format;

/// Where an argument stands, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `name=value`, may be left out; of several the last holds.
    Key,
    /// A plain word.
    One,
    /// A plain word that may be left out.
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
    /// Seconds with decimals, from and to.
    Seconds(f64, f64),
    /// A whole number, from and to.
    Number(u64, u64),
    /// The size of the body [bytes], and what to say of it.
    Size(&'static str),
    /// A word whose meaning only the one who carries it out knows, and what it is.
    Word(&'static str),
    /// One of these kinds of file.
    Format(&'static [Format]),
    /// The same, but other words are passed over.
    AnyFormat(&'static [Format]),
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
    /// An argument.
    pub const fn new(name: &'static str, place: Place, rule: Rule) -> Arg {
        Arg { name, place, rule }
    }

    /// Whether it may not be left out.
    pub fn is_required(&self) -> bool {
        matches!(self.place, Place::One | Place::Some)
    }

    /// Whether a second word of it is no slip.
    pub(super) fn repeats(&self) -> bool {
        matches!(self.place, Place::Some | Place::Any)
    }

    /// `[tag=WORD]`, `SECONDS`, `[jpg] [png]`.
    pub(super) fn usage(&self) -> String {
        let value = match self.rule {
            Rule::Format(of) | Rule::AnyFormat(of) => return format!("[{}]", Format::words(of).replace(", ", "] [")),
            Rule::Seconds(..) => "SECONDS",
            Rule::Number(..) => "N",
            _ => "WORD",
        };
        match self.place {
            Place::Key => format!("[{}={value}]", self.name),
            Place::One => self.name.into(),
            Place::Maybe => format!("[{}]", self.name),
            Place::Some => format!("{}...", self.name),
            Place::Any => format!("[{}...]", self.name),
        }
    }

    /// `tag=`, `SECONDS`.
    pub fn shown(&self) -> String {
        if self.place == Place::Key { format!("{}=", self.name) } else { self.name.into() }
    }

    /// As a list of arguments names it: a key, else its rule.
    pub(super) fn takes(&self) -> String {
        match (self.place, self.rule) {
            (Place::Key, _) | (_, Rule::Flag) => self.shown(),
            (_, rule) => rule.to_string(),
        }
    }

    /// The value of a word, or what the type itself says against it; `None` breaks the rule.
    pub(super) fn read(&self, word: &str) -> Option<Result<Value>> {
        Some(Ok(match self.rule {
            Rule::Tag => return Some(word.parse().map(Value::Tag)),
            Rule::Seconds(from, to) => Value::Seconds(word.parse().ok().filter(|s| (from..=to).contains(s))?),
            Rule::Number(from, to) => Value::Number(word.parse().ok().filter(|n| (from..=to).contains(n))?),
            Rule::Size(_) => Value::Number(word.parse().ok()?),
            Rule::Format(of) => Value::Format(of.iter().copied().find(|f| f.word() == word)?),
            Rule::AnyFormat(of) => match of.iter().find(|f| f.word() == word) {
                Some(format) => Value::Format(*format),
                None => Value::Word(word.into()),
            },
            Rule::Flag => Value::Word(word.eq_ignore_ascii_case(self.name).then(|| self.name.into())?),
            Rule::Word(_) => Value::Word(word.into()),
            Rule::Pair => return None,
        }))
    }
}

impl Rule {
    /// Whether usage alone does not tell it.
    pub(super) fn needs_words(&self) -> bool {
        !matches!(self, Rule::Format(_) | Rule::AnyFormat(_) | Rule::Flag | Rule::Pair)
    }
}

impl fmt::Display for Rule {
    /// The rule in words: `seconds from 0 to 86400`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Tag => f.write_str("1 to 32 of A-Z a-z 0-9 _ -"),
            Rule::Seconds(from, to) => write!(f, "seconds from {from} to {to}"),
            Rule::Number(from, to) => write!(f, "a number from {from} to {to}"),
            Rule::Size(what) | Rule::Word(what) => f.write_str(what),
            Rule::Format(of) | Rule::AnyFormat(of) => f.write_str(&Format::words(of)),
            Rule::Flag => f.write_str("that word"),
            Rule::Pair => f.write_str("NAME=VALUE words"),
        }
    }
}
