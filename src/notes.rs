//! Owns the notes that the machine leaves for whoever asks for `status` (`status.notes_file`): a copy in memory, so that nobody who
//! answers clients reads a file. Never writes them. The thread `notes` looks once a second; the copy may be had on any.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::disk;
use crate::events::{Event, Events};
use crate::settings::{any, settings};
use crate::shutdown::Shutdown;

/// Between looks.
const LOOK: Duration = Duration::from_secs(1);
/// Most lines and letters of a line that are shown: whoever writes the file must not be able to fill the answer.
const LINES: usize = 16;
const LETTERS: usize = 200;

settings! {
    /// `status` in the configuration.
    pub struct Settings {
        /// File whose lines `status` shows as notes, such as a set-up file that was not taken over; empty: none.
        notes_file: Option<PathBuf> = None, any();
    }
}

/// The lines as they were seen last. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

fn read(settings: &Settings) -> Vec<String> {
    let Some(file) = &settings.notes_file else { return Vec::new() };
    let text = match disk::read_text(file, disk::SMALL) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => format!("no notes: read {}: {e}", file.display()),
    };
    text.lines().filter(|l| !l.is_empty()).take(LINES).map(|l| l.chars().take(LETTERS).collect()).collect()
}

impl Notes {
    /// Reads them for the first time.
    pub fn new(settings: &Settings) -> Notes {
        Notes(Arc::new(Mutex::new(read(settings))))
    }

    /// All of them.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The thread `notes`: looks at the file that `settings` name by then, until the end.
    pub fn watch(&self, settings: impl Fn() -> Settings, events: &Events, shutdown: &Shutdown) {
        while !shutdown.sleep(LOOK) {
            let now = read(&settings());
            let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now.clone());
            if now != before {
                events.publish(Event::Notes(now));
            }
        }
    }
}
