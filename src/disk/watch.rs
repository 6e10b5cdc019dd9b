//! Owns the list of what is being done to a disk and since when, so that a disk that does not answer is noticed by others than
//! those who wait for it. Never touches a disk. Any thread; a short lock for each step.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A disk that has taken so long for one step does not answer.
pub const HUNG: Duration = Duration::from_secs(5);

struct Entry {
    id: u64,
    what: &'static str,
    path: PathBuf,
    /// `None` between two steps.
    since: Option<Instant>,
}

struct Table {
    next: u64,
    entries: Vec<Entry>,
}

static TABLE: Mutex<Table> = Mutex::new(Table { next: 0, entries: Vec::new() });

fn table() -> MutexGuard<'static, Table> {
    // Whole at every point where a panic could strike.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that is being done to one path; gone from the list when dropped.
#[derive(Debug)]
pub struct Step(u64);

impl Step {
    /// To be done to `path` in steps, none of which has begun.
    pub fn on(what: &'static str, path: &Path) -> Step {
        let mut table = table();
        let id = table.next;
        table.next += 1;
        table.entries.push(Entry { id, what, path: path.to_owned(), since: None });
        Step(id)
    }

    /// Begins now, and is over when this is dropped or taken further.
    pub fn begin(what: &'static str, path: &Path) -> Step {
        let step = Step::on(what, path);
        step.set(Some(Instant::now()));
        step
    }

    /// The one before is over, the next begins.
    pub fn next(&self) {
        self.set(Some(Instant::now()));
    }

    /// One step: `f` waits for the disk.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        self.set(Some(Instant::now()));
        let done = f();
        self.set(None);
        done
    }

    fn set(&self, since: Option<Instant>) {
        if let Some(entry) = table().entries.iter_mut().find(|e| e.id == self.0) {
            entry.since = since;
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        table().entries.retain(|e| e.id != self.0);
    }
}

/// Whether this process is at work on a file of this name, in whatever folder: one folder may have two paths.
pub fn in_work(path: &Path) -> bool {
    path.file_name().is_some_and(|name| table().entries.iter().any(|e| e.path.file_name() == Some(name)))
}

/// The step that has taken longest, if it has taken longer than `limit`: for how long, and what is being done to what.
pub fn slowest(limit: Duration) -> Option<(Duration, String)> {
    let table = table();
    let (since, entry) = table.entries.iter().filter_map(|e| Some((e.since?, e))).min_by_key(|(since, _)| *since)?;
    let took = since.elapsed();
    (took >= limit).then(|| (took, format!("{} {}", entry.what, entry.path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests write files at the same time; a minute later nobody's step is slow but this one's.
    #[test]
    fn the_oldest_step_is_told_and_none_between_steps() {
        let path = Path::new("/nowhere/watched");
        let step = Step::on("write", path);
        let aged = |step: &Step| step.set(Instant::now().checked_sub(Duration::from_secs(3600)));
        assert!(in_work(path) && slowest(Duration::from_secs(1800)).is_none());
        aged(&step);
        let (took, what) = slowest(Duration::from_secs(1800)).unwrap();
        assert!(took >= Duration::from_secs(3600) && what == "write /nowhere/watched");
        assert_eq!(step.run(|| 7), 7);
        assert!(slowest(Duration::from_secs(1800)).is_none());
        aged(&step);
        step.next();
        assert!(slowest(Duration::from_secs(1800)).is_none());
        drop(step);
        assert!(!in_work(path));
    }
}
