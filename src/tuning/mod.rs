//! Owns the image controls of the running camera: what is in force and why, orders on their way to the camera, the proof
//! that they arrived, and the file that keeps them. Never touches the camera itself (the capture does) and never a socket.
//!
//! ```text
//! commands ─ Order ─► capture ─► Tuner ─► Source::set ─► frames ─► Tuner ─ Note ─► thread tuning ─► tuning.json, answer
//!     ▲                             │
//!     └─────────── Board ◄──────────┘
//! ```
//! [`Tuner`] lives on the capture thread, [`Clerk`] on the thread `tuning`; the [`Board`] is read from any.

mod clerk;
mod file;
mod layers;
mod presets;
mod proof;
mod tuner;
pub mod value;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use clerk::{Clerk, Note, Outcome};
pub use file::load;
pub use layers::{Held, contradiction};
pub use presets::Presets;
pub use proof::End;
pub use tuner::{Renewal, Tuner};

use crate::error::Result;
use crate::source::{Control, Value};

/// Control names and values as they stand in files.
pub type Map = BTreeMap<String, serde_json::Value>;

/// Takes what became of an order, once.
pub type Done = Box<dyn FnOnce(Result<Outcome>) + Send>;

/// Who wants a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `set`.
    Hand,
    /// A preset.
    Preset,
    /// `tuning.json`.
    Persisted,
    /// Another value needs it.
    Implied,
}

impl Origin {
    /// The word in `controls`.
    pub fn word(self) -> &'static str {
        match self {
            Origin::Hand => "set",
            Origin::Preset => "preset",
            Origin::Persisted => "persisted",
            Origin::Implied => "implied",
        }
    }
}

/// What is to be changed. Values are of the right kind and in range for the board they were checked against.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// These controls, by name.
    Set {
        /// Names as the camera spells them, and values.
        values: Vec<(String, Value)>,
        /// Also at every later start.
        persist: bool,
    },
    /// Back to what lies beneath: these names, or everything.
    Reset(Vec<String>),
    /// A preset by name, or back to the night rule.
    Preset(Option<String>),
}

/// An order on its way to the camera.
pub struct Order {
    /// What to change.
    pub what: What,
    /// Called from the thread `tuning`.
    pub done: Done,
}

/// What the board shows.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The source's name; empty while there is none.
    pub source: String,
    /// Its controls; none while it does not run.
    pub controls: Arc<[Control]>,
    /// What the last frames told, by the controls' places.
    pub told: Vec<Option<Value>>,
    /// What is in force, by the controls' places.
    pub force: Vec<Option<(Value, Origin)>>,
    /// What `tuning.json` holds.
    pub persisted: Map,
    /// The preset that was chosen by hand.
    pub preset: Option<String>,
    /// The preset whose values are in force, chosen by hand or by day and night.
    pub applied: Option<String>,
    /// The night rule does not have the exposure.
    pub held: bool,
}

impl Shown {
    /// The value of a control as far as it is known: told by a frame, else in force, else the default.
    pub fn current(&self, index: usize) -> Value {
        let told = self.told.get(index).copied().flatten();
        let force = self.force.get(index).copied().flatten().map(|(v, _)| v);
        told.or(force).unwrap_or(self.controls[index].default)
    }
}

/// What any thread may know of the controls. The capture never waits for it.
#[derive(Debug, Default)]
pub struct Board {
    shown: Mutex<Shown>,
    /// Orders that wait for their proof.
    pending: AtomicUsize,
}

impl Board {
    /// As things stand.
    pub fn shown(&self) -> Shown {
        self.lock().clone()
    }
    /// Orders that wait for their proof.
    pub fn pending(&self) -> usize {
        self.pending.load(Relaxed)
    }
    fn lock(&self) -> MutexGuard<'_, Shown> {
        // Nothing that can panic runs under this lock.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// What a frame told; left for the next frame where somebody reads.
    fn tell(&self, told: &[Option<Value>]) {
        if let Ok(mut shown) = self.shown.try_lock() {
            if shown.told.len() == told.len() {
                shown.told.copy_from_slice(told);
            }
        }
    }
}
