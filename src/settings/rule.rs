//! Owns what a key's value may be beyond its type, and the words of a refusal. Pure; any thread.

use std::fmt::{self, Display};

use serde_json::Number;

use crate::error::{Error, Kind};

/// Why a value is refused: the rule and the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    under: String,
    rule: String,
    shown: String,
}

impl Refusal {
    /// Of what is shown as it is.
    pub fn new(rule: impl Into<String>, shown: impl Display) -> Refusal {
        Refusal { under: String::new(), rule: rule.into(), shown: shown.to_string() }
    }

    /// Of a text, in quotes.
    pub fn text(rule: impl Into<String>, text: &str) -> Refusal {
        Refusal::new(rule, format!("{text:?}"))
    }

    /// Of what stands below the key that was read, such as `.day.Brightness`.
    #[must_use]
    pub fn under(self, under: String) -> Refusal {
        Refusal { under, ..self }
    }

    /// The error that names the key.
    #[must_use]
    pub fn of(&self, key: &str) -> Error {
        Error::new(Kind::Config, format!("{key}{}: {self}", self.under))
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, not {}", self.rule, self.shown)
    }
}

/// What a value may be beyond its type, and when a change of it takes effect.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a word that a field says by itself")]
pub struct Rule {
    low: f64,
    high: f64,
    or_zero: bool,
    /// Few enough to be named one by one.
    listed: bool,
    /// What the number must be a multiple of; 0: of anything.
    step: f64,
    /// Bytes of a text, where they are bounded.
    bytes: usize,
    /// A span of time that is written without a fraction.
    pub(super) whole: bool,
    /// A slip in it must not put it into a log.
    pub(super) secret: bool,
    /// A change waits for the next start.
    pub waits: bool,
}

/// Whatever the type holds.
pub const fn any() -> Rule {
    Rule {
        low: f64::MIN,
        high: f64::MAX,
        or_zero: false,
        listed: false,
        step: 0.0,
        bytes: usize::MAX,
        whole: false,
        secret: false,
        waits: false,
    }
}

/// Numbers from `low` to `high`, in the unit of the key.
pub const fn from(low: f64, high: f64) -> Rule {
    Rule { low, high, ..any() }
}

/// Numbers from `low` on.
pub const fn at_least(low: f64) -> Rule {
    from(low, f64::INFINITY)
}

/// The few multiples of `step` from 0 to `high`.
pub const fn multiples(step: f64, high: f64) -> Rule {
    Rule { step, listed: true, ..from(0.0, high) }
}

/// Texts of at most so many bytes, without control characters.
pub const fn bytes(most: usize) -> Rule {
    Rule { bytes: most, ..any() }
}

impl Rule {
    /// And 0.
    #[must_use]
    pub const fn or_zero(self) -> Rule {
        Rule { or_zero: true, ..self }
    }

    /// Only even ones: pixels come in pairs.
    #[must_use]
    pub const fn even(self) -> Rule {
        Rule { step: 2.0, ..self }
    }

    /// A span of time in whole units.
    #[must_use]
    pub const fn whole(self) -> Rule {
        Rule { whole: true, ..self }
    }

    /// A refusal does not show what was written.
    #[must_use]
    pub const fn secret(self) -> Rule {
        Rule { secret: true, ..self }
    }

    /// A change waits for the next start.
    #[must_use]
    pub const fn at_start(self) -> Rule {
        Rule { waits: true, ..self }
    }

    /// Whether a number in the unit of the key is within; `real` ones are shown without a useless fraction.
    pub fn number(&self, n: &Number, real: bool) -> Result<(), Refusal> {
        let v = n.as_f64().unwrap_or(f64::NAN);
        let shown = if real { v.to_string() } else { n.to_string() };
        if self.or_zero && v == 0.0 {
            Ok(())
        } else if self.listed && !((self.low..=self.high).contains(&v) && v % self.step == 0.0) {
            let all = self.all();
            let (last, others) = all.split_last().map_or((String::new(), String::new()), |(l, o)| (l.clone(), o.join(", ")));
            Err(Refusal::new(format!("{others} or {last}"), shown))
        } else if !(self.low..=self.high).contains(&v) {
            Err(Refusal::new(format!("from {}", self.words(" to ")), shown))
        } else if self.step > 0.0 && v % self.step != 0.0 {
            Err(Refusal::new("an even number of pixels", shown))
        } else {
            Ok(())
        }
    }

    /// Whether a text is short enough.
    pub(super) fn text(&self, text: &str) -> Result<(), Refusal> {
        if self.bytes < usize::MAX && (text.len() > self.bytes || text.chars().any(char::is_control)) {
            return Err(Refusal::text(format!("at most {} bytes without control characters", self.bytes), text));
        }
        Ok(())
    }

    /// The range as the reference writes it; `None` where the type says it.
    pub(super) fn range(&self) -> Option<String> {
        match () {
            () if self.bytes < usize::MAX => Some(format!("up to {} bytes", self.bytes)),
            () if self.low <= f64::MIN => None,
            () if self.high.is_infinite() => Some(format!("{} and up", self.low)),
            () if self.listed => Some(self.all().join(", ")),
            () => Some(format!("{}{}", if self.or_zero { "0, " } else { "" }, self.words("–"))),
        }
    }

    /// All numbers of a list.
    fn all(&self) -> Vec<String> {
        let count = (self.high / self.step) as u32;
        (0..=count).map(|n| (f64::from(n) * self.step).to_string()).collect()
    }

    fn words(&self, between: &str) -> String {
        format!("{}{between}{}", self.low, self.high)
    }
}
