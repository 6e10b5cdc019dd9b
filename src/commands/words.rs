//! Owns the grammar of a command line: a verb, plain words, and `key=value` words. Pure.

use super::Respond;
use crate::error::{Error, Kind, Result};
use crate::export::Tag;
use crate::server::Answer;

/// Verbs, spelled as they are answered.
const VERBS: [&str; 9] = ["save", "pastStack", "night_level", "health", "status", "ping", "version", "help", "subscribe"];

/// A command line taken apart.
#[derive(Debug, Clone, Default)]
pub struct Words {
    verb: String,
    /// Words without `=`, in order.
    pub plain: Vec<String>,
    /// `tag=`
    pub tag: Option<Tag>,
    /// `id=`, echoed in the answer.
    pub id: Option<String>,
    /// `token=`
    pub token: Option<String>,
    /// `before=` [s]
    pub before_s: Option<f64>,
    /// `count=`
    pub count: Option<usize>,
}

fn refuse(rule: &str, word: &str) -> Error {
    Error::new(Kind::Usage, format!("{rule}, not {word}"))
}

impl Words {
    /// Takes a line apart. A value that breaks its rule is refused here; which keys fit a verb is the verb's matter.
    pub fn parse(line: &str) -> Result<Words> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or("");
        let verb = VERBS.iter().find(|v| **v == verb).or_else(|| VERBS.iter().find(|v| v.eq_ignore_ascii_case(verb)));
        let Some(verb) = verb else { return Ok(Words::default()) };
        let mut w = Words { verb: (*verb).into(), ..Words::default() };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                w.plain.push(word.into());
                continue;
            };
            match key {
                "tag" => w.tag = Some(value.parse()?),
                "id" => {
                    let fits = (1..=32).contains(&value.len())
                        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
                    if !fits {
                        return Err(refuse("id= takes 1 to 32 of A-Z a-z 0-9 _ . : -", word));
                    }
                    w.id = Some(value.into());
                }
                "token" => w.token = Some(value.into()),
                "before" => {
                    let s = value.parse().ok().filter(|s: &f64| (0.0..=86400.0).contains(s));
                    w.before_s = Some(s.ok_or_else(|| refuse("before= takes seconds from 0 to 86400", word))?);
                }
                "count" => {
                    let n = value.parse().ok().filter(|n| (1..=crate::stack::MAX).contains(n));
                    w.count =
                        Some(n.ok_or_else(|| refuse(&format!("count= takes a number from 1 to {}", crate::stack::MAX), word))?);
                }
                _ => return Err(refuse("known arguments are tag= id= token= before= count=", word)),
            }
        }
        Ok(w)
    }

    /// The verb, empty for a word nobody knows.
    pub fn verb(&self) -> &str {
        &self.verb
    }

    /// Whether nothing but `id=` and `token=` was said in `key=value` form.
    pub fn is_bare(&self) -> bool {
        self.tag.is_none() && self.before_s.is_none() && self.count.is_none()
    }

    /// Adds ` id=…` to the answer.
    pub(super) fn echo(&self, respond: Respond) -> Respond {
        match self.id.clone() {
            None => respond,
            Some(id) => Box::new(move |mut answer: Answer| {
                if answer.line.starts_with('{') {
                    // JSON stays JSON: the id becomes its first member.
                    answer.line.insert_str(1, &format!("\"id\":\"{id}\","));
                } else {
                    answer.line.push_str(" id=");
                    answer.line.push_str(&id);
                }
                respond(answer);
            }),
        }
    }
}
