//! Owns what `status json` tells of each entry. The keeper writes it, anybody reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::BootUs;
use crate::verbs::Tag;

/// Of one entry.
#[derive(Debug, Default)]
pub struct Told {
    /// Pictures that were written.
    pub taken: AtomicU64,
    /// Pictures that were due and not taken.
    pub left_out: AtomicU64,
    /// Light and hours allow pictures now.
    on: AtomicBool,
    /// The next one (µs of the boot-time clock); 0: not known.
    next: AtomicU64,
}

impl Told {
    /// Whether pictures are taken now, and when the next one is due.
    pub fn tell(&self, on: bool, next: Option<BootUs>) {
        self.on.store(on, Relaxed);
        self.next.store(next.map_or(0, |next| next.0), Relaxed);
    }

    /// What was told last.
    pub fn state(&self) -> (bool, Option<BootUs>) {
        let next = Some(self.next.load(Relaxed)).filter(|next| *next > 0);
        (self.on.load(Relaxed), next.map(BootUs))
    }
}

/// An entry's tag, and what is told of it.
pub type Line = (Option<Tag>, Arc<Told>);

/// Of all entries, in their order.
#[derive(Debug, Default)]
pub struct Board(Mutex<Vec<Line>>);

impl Board {
    /// Another list.
    pub fn set(&self, all: Vec<Line>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// The list; empty until the keeper has taken the configuration over.
    pub fn all(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
