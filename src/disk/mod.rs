//! Owns how a file gets into a folder: whole or not at all, durable before it is announced, under a name of its own; how much
//! room there is; whether the disk answers and is still the same one; and how a whole file is read. Knows nothing of what is in the
//! files. The caller's thread; every call may block for as long as the disk does, and stands in the list of [`slowest`] meanwhile.

mod home;
mod names;
mod read;
mod watch;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use nix::sys::statvfs::{Statvfs, statvfs};

pub use self::home::Home;
pub use self::names::{Name, Names, numbered};
pub use self::read::{SMALL, open, read, read_text, regular};
pub use self::watch::{HUNG, Step, in_work, slowest};

use crate::error::Error;
pub use crate::error::disk as error;

/// Whether the error says that a file or folder is not there.
pub fn is_gone(e: &Error) -> bool {
    let io = e.source.as_ref().and_then(|s| s.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::NotFound)
}

/// Bytes an ordinary user can still write to the file system of `dir`.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    ask(dir).map(|v| free_of(&v))
}

/// What the file system of `dir` says of itself.
pub fn ask(dir: &Path) -> io::Result<Statvfs> {
    let _step = Step::begin("measure the free space of", dir);
    Ok(statvfs(dir)?)
}

/// The size of a file system that has been asked (bytes).
pub fn size_of(v: &Statvfs) -> u64 {
    #[allow(clippy::useless_conversion, reason = "both are 32 bits wide on a 32-bit board")]
    let (blocks, bytes) = (u64::from(v.blocks()), u64::from(v.fragment_size()));
    blocks * bytes
}

/// The free bytes of a file system that has been asked.
pub fn free_of(v: &Statvfs) -> u64 {
    #[allow(clippy::useless_conversion, reason = "both are 32 bits wide on a 32-bit board")]
    let (blocks, bytes) = (u64::from(v.blocks_available()), u64::from(v.fragment_size()));
    blocks * bytes
}

/// Makes the folder and its parents, and makes its existence durable.
pub fn make_folder(dir: &Path) -> Result<(), Error> {
    let _step = Step::begin("create the folder", dir);
    fs::create_dir_all(dir).map_err(|e| error("create the folder", dir, e))?;
    let above = dir.parent().unwrap_or(dir);
    // A parent that may not be opened (no read permission) cannot be synchronised; the folder is there all the same.
    File::open(above).and_then(|d| d.sync_all()).or_else(|e| if is_refused(&e) { Ok(()) } else { Err(error("sync", above, e)) })
}

/// Makes new and changed names of the folder durable.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    let _step = Step::begin("sync", dir);
    File::open(dir)?.sync_all()
}

/// Replaces the file, or makes it: whole or not at all, and durable when this returns.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let (mut file, _) = Unfinished::write::<io::Error>(dir, name, None, |to| to.write_all(content))?;
    file.step.run(|| fs::rename(&file.path, path))?;
    file.placed = true;
    sync_folder(dir)
}

fn is_refused(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
}

/// An unfinished file. Unless it is placed, dropping it removes it.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    placed: bool,
    step: Step,
}

/// A file whose every write is a step of its own: what is written into it may take its time to be made.
struct Written<'a>(&'a mut File, &'a Step);

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.run(|| self.0.write(bytes))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A name in `dir` that nobody else uses: `.<name>.<pid>-<count>.tmp`.
fn temporary_path(dir: &Path, name: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    dir.join(format!(".{name}.{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

impl Unfinished {
    /// Writes a file through `content` and waits until its bytes are on the medium. `modified` overrides its time.
    /// Returns the number of bytes.
    pub fn write<E: From<io::Error>>(
        dir: &Path,
        name: &str,
        modified: Option<SystemTime>,
        content: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(Unfinished, u64), E> {
        let (this, mut file) = loop {
            let path = temporary_path(dir, name);
            let step = Step::on("write", &path);
            match step.run(|| OpenOptions::new().write(true).create_new(true).open(&path)) {
                Ok(file) => break (Unfinished { path, placed: false, step }, file),
                // Left by a process that had our number, and not swept yet.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e.into()),
            }
        };
        content(&mut Written(&mut file, &this.step))?;
        let bytes = this.step.run(|| {
            modified.map_or(Ok(()), |time| file.set_modified(time))?;
            file.sync_data()?;
            file.metadata()
        })?;
        Ok((this, bytes.len()))
    }

    /// Gives the file its name. An error of kind `AlreadyExists` leaves both files as they were.
    pub fn place(&mut self, to: &Path) -> io::Result<()> {
        self.step.run(|| rename_new(&self.path, to))?;
        self.placed = true;
        Ok(())
    }

    /// Takes the name away again.
    pub fn unplace(&mut self, from: &Path) -> io::Result<()> {
        self.step.run(|| rename_new(from, &self.path))?;
        self.placed = false;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing to be done when this fails (the folder or the disk is gone); the next start sweeps.
            let _ = self.step.run(|| fs::remove_file(&self.path));
        }
    }
}

/// Renames without ever replacing `to`.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_env = "gnu")]
    {
        use nix::errno::Errno;
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            // The file system (or a kernel before 3.15) does not know the flag.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {}
            done => return done.map_err(io::Error::from),
        }
    }
    rename_new_by_link(from, to)
}

/// Whether a file system says by this that it has no links; each has its own way.
fn has_no_links(e: &io::Error) -> bool {
    use nix::errno::Errno::{EMLINK, ENOSYS, EOPNOTSUPP, EPERM};
    [EPERM, EOPNOTSUPP, ENOSYS, EMLINK].iter().any(|no| e.raw_os_error() == Some(*no as i32))
}

/// The same through a hard link, and where there are none (FAT) through a look and a rename: there the in-process claim on
/// the name is all that guards it.
fn rename_new_by_link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(e) if has_no_links(&e) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        Err(e) => Err(e),
    }
}

/// Points the link `name` at its neighbour `target`, in one step. A real file of that name is somebody else's and is an error. Where
/// the file system has no links (FAT, many network shares), `name` becomes a copy of `target`, and the answer is false.
pub fn point(dir: &Path, name: &str, target: &str) -> io::Result<bool> {
    let (link, temporary) = (dir.join(name), temporary_path(dir, name));
    // On the draft's name, so that nobody sweeps it meanwhile.
    let step = Step::begin("change the link", &temporary);
    match symlink(target, &temporary) {
        Err(e) if has_no_links(&e) => {
            drop(step);
            return copy(dir, name, target).map(|()| false);
        }
        made => made?,
    }
    let foreign = fs::symlink_metadata(&link).is_ok_and(|m| !m.is_symlink());
    let placed = if foreign { Err(io::ErrorKind::AlreadyExists.into()) } else { fs::rename(&temporary, &link) };
    placed.inspect_err(|_| drop(fs::remove_file(&temporary))).map(|()| true)
}

/// Makes `name` a copy of its neighbour `from`: whole or not at all.
fn copy(dir: &Path, name: &str, from: &str) -> io::Result<()> {
    let mut source = File::open(dir.join(from))?;
    let (mut file, _) = Unfinished::write::<io::Error>(dir, name, None, |to| io::copy(&mut source, to).map(drop))?;
    file.step.run(|| fs::rename(&file.path, dir.join(name)))?;
    file.placed = true;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ops::Deref;
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// A folder of this test's own, removed with everything in it at the end.
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        pub(crate) fn new(word: &str) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("pastcam-unit-{}-{n}-{word}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            Scratch(dir)
        }
        /// What is in it, sorted.
        pub(crate) fn names(&self) -> Vec<String> {
            let mut names: Vec<String> =
                fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Deref for Scratch {
        type Target = Path;
        fn deref(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(dir: &Path, text: &str) -> Unfinished {
        Unfinished::write::<io::Error>(dir, "a", None, |f| f.write_all(text.as_bytes())).unwrap().0
    }

    #[test]
    fn both_ways_of_naming_never_replace() {
        let dir = Scratch::new("naming");
        for rename in [rename_new, rename_new_by_link] {
            let (one, two, to) = (write(&dir, "one"), write(&dir, "two"), dir.join("a"));
            rename(&one.path, &to).unwrap();
            assert_eq!(rename(&two.path, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&to).unwrap(), b"one");
            assert!(two.path.exists() && !one.path.exists());
            fs::remove_file(to).unwrap();
        }
    }

    #[test]
    fn what_is_not_placed_vanishes() {
        let dir = Scratch::new("vanish");
        drop(write(&dir, "x"));
        let failed = Unfinished::write::<io::Error>(&dir, "a", None, |_| Err(io::Error::other("no")));
        assert!(failed.is_err());
        let mut kept = write(&dir, "y");
        assert!(in_work(&kept.path));
        kept.place(&dir.join("a")).unwrap();
        kept.unplace(&dir.join("a")).unwrap();
        kept.place(&dir.join("b")).unwrap();
        drop(kept);
        assert_eq!(dir.names(), ["b"]);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = Scratch::new("replace");
        for text in ["one", "two"] {
            replace(&dir.join("a.json"), text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(dir.join("a.json")).unwrap(), text);
        }
        fs::create_dir(dir.join("b")).unwrap();
        assert!(replace(&dir.join("b"), b"x").is_err());
        assert_eq!(dir.names(), ["a.json", "b"], "no draft stays");
    }

    #[test]
    fn the_link_moves_and_spares_real_files() {
        let dir = Scratch::new("link");
        assert!(point(&dir, "latest.jpg", "a").unwrap() && point(&dir, "latest.jpg", "b").unwrap());
        assert_eq!(fs::read_link(dir.join("latest.jpg")).unwrap(), Path::new("b"));
        fs::write(dir.join("mine.jpg"), "x").unwrap();
        assert!(point(&dir, "mine.jpg", "b").is_err());
        assert_eq!(dir.names(), ["latest.jpg", "mine.jpg"]);
        fs::write(dir.join("c"), "picture").unwrap();
        copy(&dir, "latest.jpg", "c").unwrap();
        assert_eq!(fs::read(dir.join("latest.jpg")).unwrap(), b"picture");
        assert!(copy(&dir, "latest.jpg", "gone").is_err());
        assert_eq!(dir.names(), ["c", "latest.jpg", "mine.jpg"]);
    }

    #[test]
    fn errors_name_cause_and_cure() {
        let e = error("write", Path::new("/x/a.jpg"), io::Error::from_raw_os_error(28));
        assert!(e.to_string().starts_with("write /x/a.jpg: the disk is full; delete files"), "{e}");
        assert!(is_gone(&error("write", Path::new("/x"), io::ErrorKind::NotFound.into())) && !is_gone(&e));
    }
}
