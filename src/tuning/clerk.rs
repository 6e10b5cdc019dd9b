//! Owns the end of an order: the file is written, then the one who asked is told. Never touches the camera.
//! Runs on the thread `tuning`, so that neither the capture nor the server waits for a disk.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Done, End, Map, file};
use crate::error::Result;
use crate::source::{Control, Value};
use crate::threads;

/// What became of an order.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The controls of the camera that took it.
    pub controls: Arc<[Control]>,
    /// Each control that was to change: its place, what was asked, how it ended.
    pub ends: Vec<(usize, Value, End)>,
    /// Other controls that had to change with them.
    pub implied: Vec<(usize, Value)>,
    /// The frame that gave the last proof.
    pub frame: Option<u64>,
    /// The night rule does not have the exposure.
    pub held: bool,
    /// The night rule has the exposure again.
    pub released: bool,
    /// `tuning.json` was written.
    pub persisted: bool,
}

/// One order's end on its way to the thread.
pub struct Note {
    /// What became of it.
    pub outcome: Result<Outcome>,
    /// What `tuning.json` is to hold from now on.
    pub save: Option<Map>,
    /// Whom to tell.
    pub done: Done,
}

/// The thread `tuning`.
pub struct Clerk {
    /// Notes from the capture; the thread ends with their sender.
    pub notes: Receiver<Note>,
    /// The folder of the pictures.
    pub dir: Arc<Mutex<PathBuf>>,
}

impl Clerk {
    /// Works until the capture has gone.
    pub fn run(&self) {
        while let Ok(Note { outcome, save, done }) = self.notes.recv() {
            threads::fault("work");
            let dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // What is to be kept is kept even where the camera was lost meanwhile: its next start asks for it.
            let kept = save.map(|values| file::save(&dir, &values)).transpose();
            if let Err(e) = &kept {
                log::warn!("{e}");
            }
            done(outcome.and_then(|outcome| Ok(Outcome { persisted: kept?.is_some(), ..outcome })));
        }
    }
}
