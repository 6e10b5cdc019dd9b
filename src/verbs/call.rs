//! Owns the reading of a command line by the table: who may say it, and every argument by its own rule. Pure.

use super::{Arg, COUNT, EVERY, Place, Rights, Rule, Spec, TABLE, Tag, Verb, join};
use crate::error::{Error, Kind};
use crate::format::Format;

/// The whole answer to a word nobody knows, as the original service gives it.
const UNKNOWN: &str = "UNKNOWN_COMMAND";

/// A line that keeps to the table: a verb and its arguments.
#[derive(Debug, Clone)]
pub struct Call {
    /// The verb.
    pub verb: Verb,
    /// `tag=`
    pub tag: Option<Tag>,
    /// Kinds of file, in order.
    pub formats: Vec<Format>,
    /// Plain words that are no kind of file, in order.
    pub words: Vec<String>,
    /// What is to be set, in order.
    pub pairs: Vec<(String, String)>,
    /// Words of choices by their argument's name.
    pub(super) choices: Vec<(&'static str, &'static str)>,
    /// Numbers by their argument's name.
    pub(super) numbers: Vec<(&'static str, f64)>,
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

type Result<T> = std::result::Result<T, Refused>;

fn usage<T>(what: String) -> Result<T> {
    Err(Error::new(Kind::Usage, what).into())
}

impl Call {
    /// Reads a line for somebody with these rights.
    pub fn parse(line: &str, rights: Rights) -> Result<Call> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let verb = if words.is_empty() { "" } else { words.remove(0) };
        let rows = rows(verb);
        let Some(first) = rows.first() else {
            let why = Error::new(Kind::Usage, format!("there is no verb {verb:?}; help names them"));
            return Err(Refused { why, old: Some(UNKNOWN) });
        };
        if let Some(bad) = words.iter().find(|w| w.strip_prefix("id=").is_some_and(|id| !is_id(id))) {
            return usage(format!("id= takes 1 to 32 of A-Z a-z 0-9 _ . : -, not {bad}"));
        }
        let plain = words.iter().position(|w| !w.contains('='));
        let second = plain.map(|at| words[at]);
        let named = rows.iter().find(|s| s.second().is_some() && s.second() == second);
        let Some(spec) = named.or_else(|| rows.iter().find(|s| s.second().is_none())) else {
            let all: Vec<&str> = rows.iter().filter_map(|s| s.second()).collect();
            let not = second.map_or_else(String::new, |word| format!(", not {word}"));
            return usage(format!("{} takes {}{not}", first.word(), join(&all, "or")));
        };
        if !rights.has(spec.right) {
            // So far that is administration where no token is set: who may take pictures may not therefore replace the system.
            let what = format!("{} wants a token, and none is set (network.token)", spec.text);
            return Err(Error::new(Kind::Denied, what).into());
        }
        if let (Some(_), Some(at)) = (named, plain) {
            words.remove(at);
        }
        let mut call = Call {
            verb: spec.verb,
            tag: None,
            formats: Vec::new(),
            words: Vec::new(),
            pairs: Vec::new(),
            choices: Vec::new(),
            numbers: Vec::new(),
        };
        let mut given: Vec<&str> = Vec::new();
        for word in words {
            given.push(call.take(spec, word, &given)?);
        }
        let lacks = |a: &Arg| matches!(a.place, Place::One | Place::Some) && !given.contains(&a.name);
        if spec.args.iter().any(lacks) { usage(format!("{} takes {}", spec.text, spec.takes())) } else { Ok(call) }
    }

    /// Takes one word; `given` are the arguments so far. Returns the argument it was.
    fn take(&mut self, spec: &'static Spec, word: &str, given: &[&str]) -> Result<&'static str> {
        let Some((key, value)) = word.split_once('=') else { return self.take_plain(spec, word, given) };
        if key == "id" || key == "token" {
            return Ok("");
        }
        if let Some(arg) = spec.args.iter().find(|a| a.rule == Rule::Pair) {
            self.pairs.push((key.into(), value.into()));
            return Ok(arg.name);
        }
        let Some(arg) = TABLE.iter().find_map(|s| s.key(key)) else {
            return usage(format!("known arguments are {}, not {word}; see help {}", spec.takes(), spec.text));
        };
        if !arg.read(value, self)? {
            return usage(format!("{key}= takes {}, not {word}", arg.rule));
        }
        if spec.key(key).is_some() { Ok(arg.name) } else { unfit(spec, word) }
    }

    fn take_plain(&mut self, spec: &'static Spec, word: &str, given: &[&str]) -> Result<&'static str> {
        let free = |a: &&Arg| match a.place {
            Place::Key => false,
            Place::One | Place::Maybe => !given.contains(&a.name),
            Place::Some | Place::Any => true,
        };
        for arg in spec.args.iter().filter(free) {
            match arg.rule {
                _ if arg.read(word, self)? => return Ok(arg.name),
                Rule::Size(_) => return usage(format!("{} takes {}", spec.text, arg.rule)),
                Rule::Seconds(..) | Rule::Number(..) => return usage(format!("{} takes {}, not {word}", spec.text, arg.rule)),
                _ => {}
            }
        }
        unfit(spec, word)
    }

    /// From the first picture of a burst to the last (s); 0 where it follows the frames, and for every other command.
    pub fn burst_s(&self) -> f64 {
        let of_save = |arg| self.number(arg).filter(|_| self.verb == Verb::Save);
        of_save(COUNT).zip(of_save(EVERY)).map_or(0.0, |(count, every)| (count - 1.0) * every)
    }

    /// How many pictures `save` takes; 1 for every other command.
    pub fn pictures(&self) -> u32 {
        self.number(COUNT).filter(|_| self.verb == Verb::Save).map_or(1, |count| count as u32)
    }

    /// The value of an argument that is a number, seconds or bytes.
    pub fn number(&self, arg: Arg) -> Option<f64> {
        self.numbers.iter().rev().find(|(name, _)| *name == arg.name).map(|(_, number)| *number)
    }

    /// The word of an argument that is a choice of a few.
    pub fn choice(&self, arg: Arg) -> Option<&'static str> {
        self.choices.iter().rev().find(|(name, _)| *name == arg.name).map(|(_, word)| *word)
    }
}

/// The rows of a verb: the word is matched exactly first, then without case.
fn rows(verb: &str) -> Vec<&'static Spec> {
    // In capitals that word opens the request of a web browser, which gets what every unknown word gets.
    let known = |s: &&Spec| s.word() == verb || (s.word().eq_ignore_ascii_case(verb) && verb != "GET");
    TABLE.iter().filter(known).collect()
}

/// A word that fits none of the verb's arguments.
fn unfit<T>(spec: &Spec, word: &str) -> Result<T> {
    Err(Refused { why: Error::new(Kind::Usage, spec.slip(word)), old: spec.original.then_some(UNKNOWN) })
}

/// Longest `id=` (characters).
pub const ID_MAX: usize = 32;

fn is_id(value: &str) -> bool {
    (1..=ID_MAX).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
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
