//! Owns names that running requests have chosen and no file bears yet: the first free one of a stem. Never makes a file. Any
//! thread; the disk is asked without a lock.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Paths without extension. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<HashSet<PathBuf>>>);

/// The `n`th name to try: the stem itself, then `_002`, `_003`, …: they sort in this order, up to `_999`
pub fn numbered(stem: &str, n: u32) -> String {
    if n < 2 { stem.to_owned() } else { format!("{stem}_{n:03}") }
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first name of `stem` in `dir` that nobody in this process has and no file with one of the extensions `taken` bears.
    pub fn first(&self, dir: &Path, stem: String, taken: Vec<&'static str>) -> Name {
        let mut name = Name { names: self.clone(), dir: dir.to_owned(), stem, taken, number: 0 };
        name.take_next();
        name
    }

    /// Whether a running request has this path, whatever its extension.
    pub fn has(&self, path: &Path) -> bool {
        self.lock().contains(&path.with_extension(""))
    }
}

/// A name that nobody else in this process uses, given back when dropped.
#[derive(Debug)]
pub struct Name {
    names: Names,
    dir: PathBuf,
    stem: String,
    taken: Vec<&'static str>,
    number: u32,
}

impl Name {
    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name, without folder and extension.
    pub fn stem(&self) -> String {
        numbered(&self.stem, self.number)
    }

    /// The name with an extension.
    pub fn file(&self, extension: &str) -> String {
        format!("{}.{extension}", self.stem())
    }

    /// Somebody else's file has the name: gives it back and takes the next free one.
    pub fn next(&mut self) {
        self.names.lock().remove(&self.key());
        self.take_next();
    }

    fn key(&self) -> PathBuf {
        self.dir.join(self.stem())
    }

    fn take_next(&mut self) {
        loop {
            self.number += 1;
            let key = self.key();
            if !self.names.lock().insert(key.clone()) {
                continue;
            }
            let _step = super::Step::begin("look for a free name", &key);
            if !self.taken.iter().any(|ext| fs::symlink_metadata(self.dir.join(self.file(ext))).is_ok()) {
                return;
            }
            self.names.lock().remove(&key);
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.names.lock().remove(&self.key());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_before_any_file_bears_it_and_given_back() {
        let dir = std::env::temp_dir().join(format!("pastcam-names-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let names = Names::default();
        let take = || names.first(&dir, "noclock_1_f1".into(), vec!["jpg", "png"]);
        let (first, second) = (take(), take());
        assert_eq!((first.stem().as_str(), second.file("png").as_str()), ("noclock_1_f1", "noclock_1_f1_002.png"));
        assert!(names.has(&dir.join("noclock_1_f1.jpg")) && !names.has(&dir.join("noclock_1_f1_003.jpg")));
        drop(first);
        assert_eq!(take().stem(), "noclock_1_f1");
        fs::write(dir.join("noclock_1_f1.png"), "").unwrap();
        assert_eq!(take().stem(), "noclock_1_f1_003");
        drop(second);
        assert!(names.lock().is_empty());
        fs::remove_dir_all(dir).unwrap();
    }
}
