//! Owns which types a key may have, and how each stands in a file. Pure; any thread.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Number, Value, json};

use super::units::Unit;
use super::{Field, Refusal};

/// How a type is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number of 0 or more without fraction, up to this one.
    Whole(u64),
    /// A number.
    Real,
    /// A span of time: a number in the unit of the key, seconds to the type.
    Span,
    /// A text.
    Text,
    /// A list of texts.
    List,
    /// The type looks at it by itself.
    Free,
}

/// The value of a key.
pub trait Leaf: 'static {
    /// How it is written.
    fn kind(&self) -> Kind;
    /// Takes over what was written, which is of that kind and within the rule.
    fn take(&mut self, written: &Value) -> Result<(), Refusal>;
    /// What stands in a file for it.
    fn value(&self) -> Value;
    /// The range as the reference writes it; empty where a sentence says it.
    fn range(&self) -> String {
        String::new()
    }
}

/// A value that is written as one text.
pub trait Word: Sized + 'static {
    /// Reads it.
    fn read(text: &str) -> Result<Self, Refusal>;
    /// Writes it.
    fn word(&self) -> String;
    /// As [`Leaf::range`].
    fn range() -> String {
        String::new()
    }
}

/// One of these words, by its place.
pub fn one_of(known: &[&str], text: &str) -> Result<usize, Refusal> {
    let place = known.iter().position(|k| *k == text);
    place.ok_or_else(|| Refusal::text(format!("one of {}", known.join(", ")), text))
}

impl Field {
    /// Takes over a value; the error does not name the key.
    pub(super) fn take(&self, leaf: &mut dyn Leaf, written: &Value) -> Result<(), Refusal> {
        let refuse = |rule: &str| Err(Refusal::new(rule, written));
        let kind = match leaf.kind() {
            Kind::Span if self.rule.whole => Kind::Whole(u64::MAX),
            kind => kind,
        };
        let (whole, real) = (matches!(kind, Kind::Whole(_)), matches!(kind, Kind::Real | Kind::Span));
        let unit = Unit::of(self.name).filter(|_| whole || real);
        let number = match (written, unit) {
            (Value::String(text), Some(unit)) => {
                let n = unit.read(text, whole)?;
                if whole { Some(Number::from(n as u64)) } else { Number::from_f64(n) }
            }
            (Value::Number(n), _) => Some(n.clone()),
            _ => None,
        };
        match (kind, written) {
            (Kind::Bool, w) if !w.is_boolean() => refuse("true or false"),
            (Kind::Text, Value::String(text)) => self.rule.text(text).and_then(|()| leaf.take(written)),
            (Kind::Text, _) if self.rule.secret => Err(Refusal::new("a text in quotes", "this value")),
            (Kind::Text, _) => refuse("a text in quotes"),
            (Kind::List, Value::Array(list)) => match list.iter().find(|v| !v.is_string()) {
                Some(v) => Err(Refusal::new("a list of strings", v)),
                None => leaf.take(written),
            },
            (Kind::List, _) => refuse("a list in brackets"),
            (Kind::Whole(most), _) => match number.as_ref().and_then(Number::as_u64) {
                None => refuse("a whole number of 0 or more"),
                Some(n) if n > most => refuse(&format!("at most {most}")),
                Some(n) => self.number(leaf, &n.into(), unit),
            },
            (Kind::Real | Kind::Span, _) => match number {
                None => refuse("a number"),
                Some(n) => self.number(leaf, &n, unit),
            },
            _ => leaf.take(written),
        }
    }

    fn number(&self, leaf: &mut dyn Leaf, n: &Number, unit: Option<Unit>) -> Result<(), Refusal> {
        self.rule.number(n, !matches!(leaf.kind(), Kind::Whole(_)) && !self.rule.whole)?;
        match unit {
            Some(unit) if leaf.kind() == Kind::Span => leaf.take(&json!(n.as_f64().unwrap_or(0.0) * unit.one)),
            _ => leaf.take(&Value::Number(n.clone())),
        }
    }

    /// What stands in a file for this value.
    pub fn value(&self, leaf: &dyn Leaf) -> Value {
        match (leaf.kind(), Unit::of(self.name), leaf.value().as_f64()) {
            (Kind::Span, Some(unit), Some(s)) if self.rule.whole => json!((s / unit.one).round() as u64),
            (Kind::Span, Some(unit), Some(s)) => json!(s / unit.one),
            _ => leaf.value(),
        }
    }

    /// The range as the reference writes it; empty where a sentence says it.
    pub fn range(&self, leaf: &dyn Leaf) -> String {
        self.rule.range().unwrap_or_else(|| leaf.range())
    }
}

impl Leaf for bool {
    fn kind(&self) -> Kind {
        Kind::Bool
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        *self = written.as_bool().unwrap_or(*self);
        Ok(())
    }
    fn value(&self) -> Value {
        (*self).into()
    }
    fn range(&self) -> String {
        "true, false".into()
    }
}

macro_rules! whole {
    ($($kind:ty),+) => { $(impl Leaf for $kind {
        fn kind(&self) -> Kind {
            Kind::Whole(u64::try_from(<$kind>::MAX).unwrap_or(u64::MAX))
        }
        fn take(&mut self, written: &Value) -> Result<(), Refusal> {
            *self = written.as_u64().and_then(|n| n.try_into().ok()).unwrap_or(*self);
            Ok(())
        }
        fn value(&self) -> Value {
            (*self).into()
        }
    })+ };
}
whole!(u8, u16, u32, u64, usize);

/// Whole MiB, or `auto` for what the program thinks right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoMib(pub Option<u64>);

impl Leaf for AutoMib {
    fn kind(&self) -> Kind {
        Kind::Free
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        self.0 = match (written, Unit::of("_mib")) {
            (Value::String(text), _) if text == "auto" => None,
            (Value::String(text), Some(unit)) => Some(unit.read(text, true)? as u64),
            _ => Some(written.as_u64().ok_or_else(|| Refusal::new("a whole number of 0 or more, or \"auto\"", written))?),
        };
        Ok(())
    }
    fn value(&self) -> Value {
        self.0.map_or_else(|| "auto".into(), Value::from)
    }
    fn range(&self) -> String {
        "auto, 0 and up".into()
    }
}

impl Leaf for f64 {
    fn kind(&self) -> Kind {
        Kind::Real
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        *self = written.as_f64().unwrap_or(*self);
        Ok(())
    }
    fn value(&self) -> Value {
        (*self).into()
    }
}

impl Leaf for Duration {
    fn kind(&self) -> Kind {
        Kind::Span
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        let s = written.as_f64().unwrap_or_default();
        *self = Duration::try_from_secs_f64(s).map_err(|e| Refusal::new(e.to_string(), s))?;
        Ok(())
    }
    fn value(&self) -> Value {
        self.as_secs_f64().into()
    }
}

impl<T: Word> Leaf for T {
    fn kind(&self) -> Kind {
        Kind::Text
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        *self = T::read(written.as_str().unwrap_or_default())?;
        Ok(())
    }
    fn value(&self) -> Value {
        self.word().into()
    }
    fn range(&self) -> String {
        T::range()
    }
}

impl<T: Word> Leaf for Vec<T> {
    fn kind(&self) -> Kind {
        Kind::List
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        let texts = written.as_array().into_iter().flatten().filter_map(Value::as_str);
        *self = texts.map(T::read).collect::<Result<_, _>>()?;
        Ok(())
    }
    fn value(&self) -> Value {
        self.iter().map(T::word).collect()
    }
    fn range(&self) -> String {
        T::range()
    }
}

impl Word for String {
    fn read(text: &str) -> Result<Self, Refusal> {
        Ok(text.into())
    }
    fn word(&self) -> String {
        self.clone()
    }
}

/// A path; an empty text is none.
impl Word for Option<PathBuf> {
    fn read(text: &str) -> Result<Self, Refusal> {
        whole_path(text)?;
        Ok((!text.is_empty()).then(|| text.into()))
    }
    fn word(&self) -> String {
        self.as_ref().map_or_else(String::new, |p| p.to_string_lossy().into_owned())
    }
}

/// Refuses what only a shell understands at the beginning of a path.
pub fn whole_path(text: &str) -> Result<(), Refusal> {
    let Some(rest) = ["~", "$HOME", "${HOME}"].iter().find_map(|home| text.strip_prefix(home)) else { return Ok(()) };
    let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/') && (rest.is_empty() || rest.starts_with('/')));
    let whole = home.map_or_else(|| "the whole path".into(), |home| format!("{}{rest}", home.trim_end_matches('/')));
    Err(Refusal::text(format!("~ and $HOME mean nothing here; write {whole}"), text))
}

impl Word for IpAddr {
    fn read(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|_| Refusal::text("IPv4 or IPv6 addresses of this machine", text))
    }
    fn word(&self) -> String {
        self.to_string()
    }
    fn range() -> String {
        "IP addresses".into()
    }
}

/// A word that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl std::ops::Deref for Secret {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Word for Secret {
    fn read(text: &str) -> Result<Self, Refusal> {
        if text.len() > 64 || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Refusal::new("at most 64 visible ASCII characters without blanks", "this token"));
        }
        Ok(Secret(text.into()))
    }
    fn word(&self) -> String {
        self.0.clone()
    }
    fn range() -> String {
        "up to 64 visible ASCII characters".into()
    }
}
