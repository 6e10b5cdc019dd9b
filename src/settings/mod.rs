//! Owns how a room states its part of `config.json`: each key once, with its type, default, range and whether a change waits for
//! the next start. From that come reading, refusing, writing and listing. Knows no key itself. Pure; any thread.

mod leaf;
mod list;
mod rule;
mod units;

use serde_json::{Map, Value};

pub use leaf::{AutoMib, Kind, Leaf, Secret, Word, one_of, whole_path};
pub use list::{List, Many};
pub use rule::{Refusal, Rule, any, at_least, bytes, from, multiples};

use crate::error::{Error, Kind as ErrorKind, Result};

/// One key as its room states it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in its group. An ending such as `_s` or `_mib` is its unit.
    pub name: &'static str,
    /// What it means, with its unit in brackets.
    pub about: &'static str,
    /// What it may be.
    pub rule: Rule,
}

/// A member of a group: a key or another group.
pub enum Part<'a> {
    /// A key's value.
    Key(&'a mut dyn Leaf),
    /// A group of keys.
    Group(&'a mut dyn Group),
    /// A list of groups of one kind.
    List(&'a mut dyn List),
}

/// What can stand in a group.
pub trait Member {
    /// Itself, as what it is.
    fn part(&mut self) -> Part<'_>;
}

impl<T: Leaf> Member for T {
    fn part(&mut self) -> Part<'_> {
        Part::Key(self)
    }
}

/// A group of keys, made by the macro `settings!`.
pub trait Group {
    /// Its members in their order.
    fn members(&mut self) -> Vec<(Field, Part<'_>)>;
}

/// States a group: `key: Type = default, rule;` for each key, with its meaning as documentation.
macro_rules! settings {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr, $rule:expr;)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[doc = $doc])+ pub $key: $kind,)+ }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)+ }
            }
        }

        impl $crate::settings::Group for $name {
            fn members(&mut self) -> Vec<($crate::settings::Field, $crate::settings::Part<'_>)> {
                use $crate::settings::{Field, Member};
                vec![$((Field { name: stringify!($key), about: concat!($($doc),+), rule: $rule }, self.$key.part()),)+]
            }
        }

        impl $crate::settings::Member for $name {
            fn part(&mut self) -> $crate::settings::Part<'_> {
                $crate::settings::Part::Group(self)
            }
        }
    };
}
pub(crate) use settings;

/// The name of a key in the group at `path`.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

impl Part<'_> {
    /// Takes over what was written under the key `path`.
    fn take(&mut self, field: &Field, written: &Value, path: &str) -> Result<()> {
        match self {
            Part::Group(group) => take(*group, written, path),
            Part::List(list) => list.take(written, path),
            Part::Key(leaf) => field.take(*leaf, written).map_err(|r| r.of(path)),
        }
    }

    /// What stands in a file for it.
    fn value(&mut self, field: &Field) -> Value {
        match self {
            Part::Group(group) => value(*group),
            Part::List(list) => list.value(),
            Part::Key(leaf) => field.value(*leaf),
        }
    }

    /// Whether all of it waits for the next start.
    fn waits(&mut self, field: &Field) -> bool {
        match self {
            Part::Group(group) => group.members().iter_mut().all(|(field, part)| part.waits(field)),
            Part::Key(_) | Part::List(_) => field.rule.waits,
        }
    }
}

/// Takes over the keys that are `written` in the group at `path`; the others stay. The first that is unknown, of the wrong kind
/// or out of range is refused with its whole name.
pub fn take(group: &mut dyn Group, written: &Value, path: &str) -> Result<()> {
    let Value::Object(written) = written else {
        return Err(Refusal::new("a group of keys in braces", written).of(path));
    };
    let mut members = group.members();
    for (name, value) in written {
        match members.iter_mut().find(|(field, _)| field.name == name) {
            Some((field, part)) => part.take(field, value, &join(path, name))?,
            None => return Err(unknown(path, name, members.iter().map(|(field, _)| field.name))),
        }
    }
    Ok(())
}

fn unknown<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    // A key as it may stand in one line: control characters as Rust writes them.
    let shown: String = name.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect();
    let cure = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {}?", join(path, near)),
        None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
    };
    Error::new(ErrorKind::Config, format!("{}: no such key; {cure}", join(path, &shown)))
}

/// All keys of the group with their values.
pub fn value(group: &mut dyn Group) -> Value {
    let members = group.members().into_iter();
    Value::Object(members.map(|(field, mut part)| (field.name.to_string(), part.value(&field))).collect::<Map<_, _>>())
}

/// Shows each key of the group at `path` with its whole name; of a list those of one group, as `auto[].tag`.
pub fn each(group: &mut dyn Group, path: &str, see: &mut dyn FnMut(&str, &Field, &mut dyn Leaf)) {
    for (field, part) in group.members() {
        let at = join(path, field.name);
        match part {
            Part::Group(group) => each(group, &at, see),
            Part::List(list) => each(&mut *list.blank(), &format!("{at}[]"), see),
            Part::Key(leaf) => see(&at, &field, leaf),
        }
    }
}

/// Puts back into `new` what waits for the next start, and tells the name of each that differs: a key's, or that of a whole group
/// that waits.
pub fn put_back(new: &mut dyn Group, old: &mut dyn Group, path: &str, tell: &mut dyn FnMut(&str)) -> Result<()> {
    for ((field, mut new), (_, mut old)) in new.members().into_iter().zip(old.members()) {
        let at = join(path, field.name);
        if new.waits(&field) {
            let old = old.value(&field);
            if new.value(&field) != old {
                tell(&at);
                new.take(&field, &old, &at)?;
            }
        } else if let (Part::Group(new), Part::Group(old)) = (new, old) {
            put_back(new, old, &at, tell)?;
        }
    }
    Ok(())
}

/// The known word most like `key`, by the edits between them, if any is alike at all.
pub fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let edits = |known: &str| strsim::levenshtein(&key.to_lowercase(), &known.to_lowercase());
    known.map(|k| (edits(k), k)).min().filter(|(d, k)| *d <= 1 + k.len() / 3).map(|(_, k)| k)
}

#[cfg(test)]
mod tests;
