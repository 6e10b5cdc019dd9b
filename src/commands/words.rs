//! Owns the grammar of a command line: a verb, plain words, and `key=value` words. Pure.

use super::Respond;
use crate::error::{Error, Kind, Result};
use crate::export::Tag;
use crate::server::Answer;

/// Verbs, spelled as they are answered.
const VERBS: [&str; 18] = [
    "save",
    "pastStack",
    "night_level",
    "health",
    "status",
    "controls",
    "get",
    "set",
    "reset",
    "preset",
    "ping",
    "version",
    "help",
    "subscribe",
    "record",
    "clip",
    "files",
    "delete",
];

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
    /// `NAME=VALUE` words of `set`: every key but `id=` and `token=` is a control there.
    pub settings: Vec<(String, String)>,
    /// `last=`
    pub last: Option<usize>,
}

fn refuse(rule: &str, word: &str) -> Error {
    Error::new(Kind::Usage, format!("{rule}, not {word}"))
}

impl Words {
    /// Takes a line apart. A value that breaks its rule is refused here; which keys fit a verb is the verb's matter.
    pub fn parse(line: &str) -> Result<Words> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or("");
        // In capitals that word opens the request of a web browser, which gets what every unknown word gets.
        let browser = verb == "GET";
        let loosely = || VERBS.iter().find(|v| v.eq_ignore_ascii_case(verb) && !browser);
        let verb = VERBS.iter().find(|v| **v == verb).or_else(loosely);
        let Some(verb) = verb else { return Ok(Words::default()) };
        let mut w = Words { verb: (*verb).into(), ..Words::default() };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                w.plain.push(word.into());
                continue;
            };
            match key {
                "id" => {
                    let fits = (1..=32).contains(&value.len())
                        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
                    if !fits {
                        return Err(refuse("id= takes 1 to 32 of A-Z a-z 0-9 _ . : -", word));
                    }
                    w.id = Some(value.into());
                }
                "token" => w.token = Some(value.into()),
                _ if w.verb == "set" => w.settings.push((key.into(), value.into())),
                "tag" => w.tag = Some(value.parse()?),
                "before" => {
                    let s = value.parse().ok().filter(|s: &f64| (0.0..=86400.0).contains(s));
                    w.before_s = Some(s.ok_or_else(|| refuse("before= takes seconds from 0 to 86400", word))?);
                }
                "count" => {
                    let n = value.parse().ok().filter(|n| (1..=crate::stack::MAX).contains(n));
                    w.count =
                        Some(n.ok_or_else(|| refuse(&format!("count= takes a number from 1 to {}", crate::stack::MAX), word))?);
                }
                "last" if w.verb == "files" => {
                    let n = value.parse().ok().filter(|n| (1..=500).contains(n));
                    w.last = Some(n.ok_or_else(|| refuse("last= takes a number from 1 to 500", word))?);
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
        self.tag.is_none() && self.before_s.is_none() && self.count.is_none() && self.last.is_none()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_matched_exactly_first_then_without_case() {
        for (line, verb) in [
            ("save", "save"),
            ("PASTSTACK jpg", "pastStack"),
            ("Night_Level", "night_level"),
            ("savejpg", ""),
            ("", ""),
            ("Get A", "get"),
            ("GET /", ""),
        ] {
            assert_eq!(Words::parse(line).unwrap().verb(), verb, "{line}");
        }
    }

    #[test]
    fn words_and_values_are_told_apart() {
        let w = Words::parse("pastStack png tag=Tor_1 before=2.5 count=8 id=a:7 token=x=y jpg").unwrap();
        assert_eq!(w.plain, ["png", "jpg"]);
        assert_eq!((w.tag.unwrap().as_str(), w.before_s, w.count), ("Tor_1", Some(2.5), Some(8)));
        assert_eq!((w.id.as_deref(), w.token.as_deref()), (Some("a:7"), Some("x=y")));
    }

    #[test]
    fn the_words_of_set_are_controls() {
        let w = Words::parse("set Brightness=0.5 count=x tag=a/b id=7 persist token=t").unwrap();
        let settings = [("Brightness", "0.5"), ("count", "x"), ("tag", "a/b")].map(|(k, v)| (k.to_string(), v.to_string()));
        assert_eq!((w.settings.as_slice(), w.plain.as_slice()), (&settings[..], &["persist".to_string()][..]));
        assert_eq!((w.id.as_deref(), w.token.as_deref(), w.is_bare()), (Some("7"), Some("t"), true));
        assert!(Words::parse("get Brightness=0.5").is_err());
    }

    #[test]
    fn a_value_that_breaks_its_rule_is_refused_with_both() {
        for bad in [
            "tag=",
            "tag=a/b",
            "id=",
            "id=a;b",
            "before=-1",
            "before=nan",
            "before=x",
            "count=0",
            "count=257",
            "count=1.5",
            "tga=door",
        ] {
            let e = Words::parse(&format!("save {bad}")).unwrap_err();
            assert!(e.kind == Kind::Usage && e.what.contains(bad.split_once('=').unwrap().1), "{bad}: {e}");
        }
    }

    #[test]
    fn the_id_comes_back_in_text_and_in_json() {
        let echoed = |answer: &str| {
            let (to, from) = std::sync::mpsc::channel();
            let line = answer.to_string();
            let respond = Words::parse("status id=7").unwrap().echo(Box::new(move |a| to.send(a.line).unwrap()));
            respond(Answer::ok(line));
            from.recv().unwrap()
        };
        assert_eq!(echoed("PONG"), "PONG id=7");
        assert_eq!(echoed("{\"ok\":true}"), "{\"id\":\"7\",\"ok\":true}");
    }
}
