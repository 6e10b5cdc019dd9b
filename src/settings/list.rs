//! Owns lists of groups: how many there may be, and the names of their keys, such as `auto[0].interval_s`. Pure; any thread.

use std::ops::Deref;

use serde_json::Value;

use super::{Group, Member, Part, Refusal, take, value};
use crate::error::Result;

/// A list of groups.
pub trait List {
    /// Takes over the whole list; a key that is not written has its default.
    fn take(&mut self, written: &Value, path: &str) -> Result<()>;
    /// What stands in a file for it.
    fn value(&self) -> Value;
    /// A group in which no key is written.
    fn blank(&self) -> Box<dyn Group>;
}

/// At most so many groups of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Many<T, const MOST: usize>(Vec<T>);

impl<T, const MOST: usize> Default for Many<T, MOST> {
    fn default() -> Self {
        Many(Vec::new())
    }
}

impl<T, const MOST: usize> Deref for Many<T, MOST> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Group + Default + Clone + 'static, const MOST: usize> List for Many<T, MOST> {
    fn take(&mut self, written: &Value, path: &str) -> Result<()> {
        let Value::Array(list) = written else {
            return Err(Refusal::new("a list of groups in brackets", written).of(path));
        };
        if list.len() > MOST {
            return Err(Refusal::new(format!("at most {MOST} groups"), list.len()).of(path));
        }
        let read = |(i, written): (usize, &Value)| {
            let mut group = T::default();
            take(&mut group, written, &format!("{path}[{i}]")).map(|()| group)
        };
        self.0 = list.iter().enumerate().map(read).collect::<Result<_>>()?;
        Ok(())
    }
    fn value(&self) -> Value {
        self.0.iter().map(|group| value(&mut group.clone())).collect()
    }
    fn blank(&self) -> Box<dyn Group> {
        Box::new(T::default())
    }
}

impl<T: Group + Default + Clone + 'static, const MOST: usize> Member for Many<T, MOST> {
    fn part(&mut self) -> Part<'_> {
        Part::List(self)
    }
}
