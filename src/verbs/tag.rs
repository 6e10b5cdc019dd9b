//! Owns the one word of a client that gets into file names. Pure.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use crate::settings::{Refusal, Word};

/// A word a client puts into the file's name: 1 to 32 of `A-Z a-z 0-9 _ -`, so it can never leave the folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(String);

impl Tag {
    /// Longest tag (characters).
    pub const MAX: usize = 32;

    /// Takes the word, or says what is wrong with it.
    pub fn new(word: &str) -> Result<Tag> {
        let refuse = |why: String| Err(Error::new(Kind::Usage, format!("take the tag {word:?}: {why}")));
        if let Some(c) = word.chars().find(|&c| !Tag::may_hold(c)) {
            return refuse(format!("it contains {c:?}; use letters a to z, digits, _ and -"));
        }
        match word.len() {
            0 => refuse("it is empty; leave it out instead".into()),
            n if n > Tag::MAX => refuse(format!("it has {n} characters; at most {} are taken", Tag::MAX)),
            _ => Ok(Tag(word.to_owned())),
        }
    }
    /// Whether a tag may contain `c`.
    pub fn may_hold(c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_' || c == '-'
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Error;
    fn from_str(word: &str) -> Result<Tag> {
        Tag::new(word)
    }
}

/// In the configuration an empty text is none.
impl Word for Option<Tag> {
    fn read(text: &str) -> std::result::Result<Self, Refusal> {
        if text.is_empty() {
            return Ok(None);
        }
        Tag::new(text).map(Some).map_err(|_| Refusal::text("empty, or 1 to 32 of A-Z a-z 0-9 _ -", text))
    }
    fn word(&self) -> String {
        self.as_ref().map_or_else(String::new, Tag::to_string)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stay_in_the_folder() {
        assert_eq!(Tag::new("gate_2-b").unwrap().as_str(), "gate_2-b");
        assert!(Tag::new(&"a".repeat(32)).is_ok());
        for (bad, word) in [("../x", "'.'"), ("a b", "' '"), ("", "empty"), ("ü", "'ü'"), ("a\0", "'\\0'")] {
            let e = Tag::new(bad).unwrap_err();
            assert!(e.kind == Kind::Usage && e.what.contains(word), "{e}");
        }
        assert!(Tag::new(&"a".repeat(33)).unwrap_err().what.contains("33 characters"));
    }
}
