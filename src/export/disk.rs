//! Owns how a file gets into the folder: whole or not at all, durable before it is announced, never over another file.
//! Knows nothing of pictures. The caller's thread; every call may block for as long as the disk does.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use nix::sys::statvfs::statvfs;

use crate::error::Error;
pub use crate::error::disk as error;

/// Whether the error says that a file or folder is not there.
pub fn is_gone(e: &Error) -> bool {
    let io = e.source.as_ref().and_then(|s| s.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::NotFound)
}

/// Bytes an ordinary user can still write to the file system of `dir`.
pub fn free_bytes(dir: &Path) -> Result<u64, Error> {
    let v = statvfs(dir).map_err(|e| error("measure the free space of", dir, e.into()))?;
    #[allow(clippy::useless_conversion, reason = "both are 32 bits wide on a 32-bit board")]
    Ok(u64::from(v.blocks_available()) * u64::from(v.fragment_size()))
}

/// Makes the folder and its parents, and makes its existence durable.
pub fn make_folder(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|e| error("create the folder", dir, e))?;
    let above = dir.parent().unwrap_or(dir);
    // A parent that may not be opened (no read permission) cannot be synchronised; the folder is there all the same.
    File::open(above).and_then(|d| d.sync_all()).or_else(|e| if is_refused(&e) { Ok(()) } else { Err(error("sync", above, e)) })
}

/// Makes new and changed names of the folder durable.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn is_refused(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput)
}

/// An unfinished file. Unless it is placed, dropping it removes it.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    placed: bool,
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
        content: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<(Unfinished, u64), E> {
        let path = temporary_path(dir, name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let this = Unfinished { path, placed: false };
        content(&mut file)?;
        if let Some(time) = modified {
            file.set_modified(time)?;
        }
        file.sync_data()?;
        let bytes = file.metadata()?.len();
        Ok((this, bytes))
    }

    /// Gives the file its name. An error of kind `AlreadyExists` leaves both files as they were.
    pub fn place(&mut self, to: &Path) -> io::Result<()> {
        rename_new(&self.path, to)?;
        self.placed = true;
        Ok(())
    }

    /// Takes the name away again.
    pub fn unplace(&mut self, from: &Path) -> io::Result<()> {
        rename_new(from, &self.path)?;
        self.placed = false;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.placed {
            // Nothing to be done when this fails (the folder or the disk is gone); the next start sweeps.
            let _ = fs::remove_file(&self.path);
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

/// The same through a hard link, and where there are none (FAT) through a look and a rename: there the in-process claim on
/// the name is all that guards it.
fn rename_new_by_link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        Err(e) => Err(e),
    }
}

/// Points the link `name` at its neighbour `target`, in one step. A real file of that name is somebody else's and is an error.
pub fn point(dir: &Path, name: &str, target: &str) -> io::Result<()> {
    let link = dir.join(name);
    match fs::symlink_metadata(&link) {
        Ok(m) if !m.is_symlink() => return Err(io::ErrorKind::AlreadyExists.into()),
        _ => {}
    }
    let temporary = temporary_path(dir, name);
    symlink(target, &temporary)?;
    fs::rename(&temporary, &link).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scratch;
    use super::*;
    use std::io::Write;

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
        kept.place(&dir.join("a")).unwrap();
        kept.unplace(&dir.join("a")).unwrap();
        kept.place(&dir.join("b")).unwrap();
        drop(kept);
        assert_eq!(dir.names(), ["b"]);
    }

    #[test]
    fn the_link_moves_and_spares_real_files() {
        let dir = Scratch::new("link");
        point(&dir, "latest.jpg", "a").unwrap();
        point(&dir, "latest.jpg", "b").unwrap();
        assert_eq!(fs::read_link(dir.join("latest.jpg")).unwrap(), Path::new("b"));
        fs::write(dir.join("mine.jpg"), "x").unwrap();
        assert!(point(&dir, "mine.jpg", "b").is_err());
        assert_eq!(dir.names(), ["latest.jpg", "mine.jpg"]);
    }

    #[test]
    fn errors_name_cause_and_cure() {
        let e = error("write", Path::new("/x/a.jpg"), io::Error::from_raw_os_error(28));
        assert!(e.to_string().starts_with("write /x/a.jpg: the disk is full; delete files"), "{e}");
        assert!(is_gone(&error("write", Path::new("/x"), io::ErrorKind::NotFound.into())) && !is_gone(&e));
    }
}
