//! Owns the grammar of a command line: a verb, plain words, and `key=value` words. Pure.

use super::Respond;
use crate::error::{Error, Kind, Result};
use crate::export::Tag;
use crate::server::{ANSWER_MAX, Answer};

/// Verbs, spelled as they are answered.
const VERBS: [&str; 19] = [
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
    "update",
];

/// A command line taken apart.
#[derive(Debug, Clone, Default)]
pub struct Words {
    verb: String,
    /// Words without `=`, in order.
    pub plain: Vec<String>,
    /// `tag=`
    pub tag: Option<Tag>,
    /// `token=`
    pub token: Option<String>,
    /// `before=` (s)
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
                "id" if is_id(value) => {}
                "id" => return Err(refuse("id= takes 1 to 32 of A-Z a-z 0-9 _ . : -", word)),
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
}

fn is_id(value: &str) -> bool {
    (1..=32).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

/// Adds the line's `id=` to its answer. Apart from [`Words::parse`], because whatever that refuses is answered with it too.
pub(super) fn echo(line: &str, respond: Respond) -> Respond {
    let ids = line.split_whitespace().skip(1).filter_map(|word| word.strip_prefix("id=")).filter(|id| is_id(id));
    match ids.last().map(str::to_string) {
        None => respond,
        Some(id) => Box::new(move |mut answer: Answer| {
            if answer.line.starts_with('{') {
                // JSON stays JSON: the id becomes its first member.
                answer.line.insert_str(1, &format!("\"id\":\"{id}\","));
            } else {
                let id = format!(" id={id}");
                if !answer.long {
                    // A sentence that quotes a long word would push the id out of the line.
                    answer.line = answer.line.chars().take(ANSWER_MAX - 1 - id.len()).collect();
                }
                answer.line.push_str(&id);
            }
            respond(answer);
        }),
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
        assert_eq!(w.token.as_deref(), Some("x=y"));
    }

    #[test]
    fn the_words_of_set_are_controls() {
        let w = Words::parse("set Brightness=0.5 count=x tag=a/b id=7 persist token=t").unwrap();
        let settings = [("Brightness", "0.5"), ("count", "x"), ("tag", "a/b")].map(|(k, v)| (k.to_string(), v.to_string()));
        assert_eq!((w.settings.as_slice(), w.plain.as_slice()), (&settings[..], &["persist".to_string()][..]));
        assert_eq!((w.token.as_deref(), w.is_bare()), (Some("t"), true));
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
        let echoed = |line: &str, answer: &str| {
            let (to, from) = std::sync::mpsc::channel();
            echo(line, Box::new(move |a| to.send(a.line).unwrap()))(Answer::ok(answer));
            from.recv().unwrap()
        };
        assert_eq!(echoed("ping id=7", "PONG"), "PONG id=7");
        assert_eq!(echoed("status json id=7", "{\"ok\":true}"), "{\"id\":\"7\",\"ok\":true}");
        assert_eq!(echoed("foo id=7 id=a;b x", "UNKNOWN_COMMAND"), "UNKNOWN_COMMAND id=7");
        let cut = echoed("save id=7", &"x".repeat(1000));
        assert!(cut.len() == ANSWER_MAX - 1 && cut.ends_with("x id=7"), "{cut}");
        for without in ["foo", "id=7", "foo id=", "foo id=a'b", "foo xid=7"] {
            assert_eq!(echoed(without, "UNKNOWN_COMMAND"), "UNKNOWN_COMMAND", "{without}");
        }
    }

    #[test]
    fn the_server_knows_every_verb() {
        // Its list decides which datagrams are answered at all.
        let known = crate::server::Settings::default().words.verbs;
        assert!(VERBS.iter().all(|verb| known.contains(verb)), "{known:?}");
    }
}
