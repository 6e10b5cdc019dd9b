//! Owns the reading of a command line by the table: who may say it, and every argument by its own rule. Pure.

use super::{Arg, Place, Rights, Rule, Spec, TABLE, Tag, Verb, join};
use crate::error::{Error, Kind};
use crate::format::Format;

/// The whole answer to a word nobody knows, as the original service gives it.
const UNKNOWN: &str = "UNKNOWN_COMMAND";

/// The value of one argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A word for a file's name.
    Tag(Tag),
    /// Seconds.
    Seconds(f64),
    /// A whole number.
    Number(u64),
    /// A kind of file.
    Format(Format),
    /// A plain word.
    Word(String),
    /// `name=value`
    Pair(String, String),
}

/// A line that keeps to the table: a verb and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The verb.
    pub verb: Verb,
    /// Its arguments by their names, in the order they were written.
    values: Vec<(&'static str, Value)>,
}

/// A line that was refused.
#[derive(Debug)]
pub struct Refused {
    /// Why, for the log, and for the client where it is no old one.
    pub why: Error,
    /// The bare word that old clients compare.
    pub old: Option<&'static str>,
}

impl From<Error> for Refused {
    fn from(why: Error) -> Self {
        Refused { why, old: None }
    }
}

fn usage(what: String) -> Error {
    Error::new(Kind::Usage, what)
}

impl Call {
    /// Reads a line for somebody with these rights.
    pub fn parse(line: &str, rights: Rights) -> std::result::Result<Call, Refused> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or("");
        let rows = rows(verb);
        let Some(first) = rows.first() else {
            return Err(Refused { why: usage(format!("there is no verb {verb:?}; help names them")), old: Some(UNKNOWN) });
        };
        let words: Vec<&str> = words.collect();
        if let Some(bad) = words.iter().find(|w| w.strip_prefix("id=").is_some_and(|id| !is_id(id))) {
            return Err(usage(format!("id= takes 1 to 32 of A-Z a-z 0-9 _ . : -, not {bad}")).into());
        }
        let second = words.iter().position(|w| !w.contains('='));
        let has_second = |s: &&&Spec| s.second().is_some_and(|of| second.is_some_and(|at| words[at] == of));
        let spec = rows.iter().find(has_second).or(rows.iter().find(|s| s.second().is_none()));
        let Some(spec) = spec else {
            let all: Vec<&str> = rows.iter().filter_map(|s| s.second()).collect();
            let not = second.map_or_else(String::new, |at| format!(", not {}", words[at]));
            return Err(usage(format!("{} takes {}{not}", first.word(), join(&all, "or"))).into());
        };
        if !rights.has(spec.right) {
            // So far that is administration where no token is set: who may take pictures may not therefore replace the system.
            let what = format!("{} wants a token, and none is set (network.token)", spec.text);
            return Err(Error::new(Kind::Denied, what).into());
        }
        let mut call = Call { verb: spec.verb, values: Vec::new() };
        let own = second.filter(|_| spec.second().is_some());
        for (_, word) in words.iter().enumerate().filter(|(i, _)| Some(*i) != own) {
            call.take(spec, word)?;
        }
        match spec.args.iter().find(|a| a.is_required() && !call.has(a)) {
            Some(_) => Err(usage(spec.wants()).into()),
            None => Ok(call),
        }
    }

    fn take(&mut self, spec: &'static Spec, word: &str) -> std::result::Result<(), Refused> {
        let Some((key, value)) = word.split_once('=') else { return self.take_plain(spec, word) };
        if key == "id" || key == "token" {
            return Ok(());
        }
        if let Some(pairs) = spec.args.iter().find(|a| a.rule == Rule::Pair) {
            self.values.push((pairs.name, Value::Pair(key.into(), value.into())));
        } else if let Some(arg) = TABLE.iter().find_map(|s| s.key(key)) {
            let broken = || usage(format!("{key}= takes {}, not {word}", arg.rule));
            self.values.push((arg.name, arg.read(value).ok_or_else(broken)??));
            if spec.key(key).is_none() {
                return Err(unfit(spec, word));
            }
        } else {
            let known = spec.takes();
            return Err(usage(format!("known arguments are {known}, not {word}; see help {}", spec.text)).into());
        }
        Ok(())
    }

    fn take_plain(&mut self, spec: &'static Spec, word: &str) -> std::result::Result<(), Refused> {
        let free = |a: &&Arg| a.place != Place::Key && a.rule != Rule::Pair && (a.repeats() || !self.has(a));
        let mut broken = None;
        for arg in spec.args.iter().filter(free) {
            match arg.read(word) {
                Some(value) => {
                    let value = value?;
                    self.values.push((arg.name, value));
                    return Ok(());
                }
                None => broken = Some(arg).filter(|a| matches!(a.rule, Rule::Seconds(..) | Rule::Number(..) | Rule::Size(_))),
            }
        }
        Err(match broken {
            Some(Arg { rule: Rule::Size(_), .. }) => usage(spec.wants()).into(),
            Some(arg) => usage(format!("{} takes {}, not {word}", spec.text, arg.rule)).into(),
            None => unfit(spec, word),
        })
    }

    fn has(&self, arg: &Arg) -> bool {
        self.all(*arg).next().is_some()
    }

    fn all(&self, arg: Arg) -> impl DoubleEndedIterator<Item = &Value> {
        self.values.iter().filter(move |(name, _)| *name == arg.name).map(|(_, value)| value)
    }

    /// The tag, where one was given.
    pub fn tag(&self) -> Option<Tag> {
        self.all(super::TAG).rev().find_map(|v| if let Value::Tag(tag) = v { Some(tag.clone()) } else { None })
    }

    /// The seconds of an argument.
    pub fn seconds(&self, arg: Arg) -> Option<f64> {
        self.all(arg).rev().find_map(|v| if let Value::Seconds(s) = v { Some(*s) } else { None })
    }

    /// The number of an argument.
    pub fn number(&self, arg: Arg) -> Option<u64> {
        self.all(arg).rev().find_map(|v| if let Value::Number(n) = v { Some(*n) } else { None })
    }

    /// The kinds of file of an argument, in order.
    pub fn formats(&self, arg: Arg) -> Vec<Format> {
        self.all(arg).filter_map(|v| if let Value::Format(f) = v { Some(*f) } else { None }).collect()
    }

    /// The plain words of an argument, in order.
    pub fn words(&self, arg: Arg) -> Vec<&str> {
        self.all(arg).filter_map(|v| if let Value::Word(word) = v { Some(word.as_str()) } else { None }).collect()
    }

    /// What is to be set, in order.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.all(super::SETTINGS)
            .filter_map(|v| if let Value::Pair(k, v) = v { Some((k.as_str(), v.as_str())) } else { None })
            .collect()
    }
}

/// The rows of a verb: the word is matched exactly first, then without case.
fn rows(verb: &str) -> Vec<&'static Spec> {
    // In capitals that word opens the request of a web browser, which gets what every unknown word gets.
    let browser = verb == "GET";
    let known = |s: &&Spec| s.word() == verb || (s.word().eq_ignore_ascii_case(verb) && !browser);
    TABLE.iter().filter(known).collect()
}

/// The word of the verb that a line begins with, as the table writes it.
pub fn word_of(line: &str) -> Option<&'static str> {
    rows(line.split_whitespace().next()?).first().map(|s| s.word())
}

/// A word that fits none of the verb's arguments.
fn unfit(spec: &Spec, word: &str) -> Refused {
    Refused { why: usage(spec.slip(word)), old: spec.original.then_some(UNKNOWN) }
}

fn is_id(value: &str) -> bool {
    (1..=32).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

/// The `id=` of a line, which its answer carries, also where the line is refused.
pub fn id_of(line: &str) -> Option<&str> {
    line.split_whitespace().skip(1).filter_map(|word| word.strip_prefix("id=")).filter(|id| is_id(id)).last()
}

/// The `token=` of a line.
pub fn token_of(line: &str) -> Option<&str> {
    line.split_whitespace().skip(1).filter_map(|word| word.strip_prefix("token=")).last()
}

/// The line, or what is said about it, as it may stand in a log: without the line's tokens, misspelt ones included.
pub fn without_token(line: &str, said: &str) -> String {
    let is_token = |w: &&str| w.get(..6).is_some_and(|key| key.eq_ignore_ascii_case("token=")) && w.len() > 6;
    let mut tokens: Vec<&str> = line.split_whitespace().filter(is_token).collect();
    // The longest first: another may be its beginning.
    tokens.sort_unstable_by_key(|t| std::cmp::Reverse(t.len()));
    tokens.iter().fold(said.to_string(), |said, token| said.replace(token, "token=…"))
}
