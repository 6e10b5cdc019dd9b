//! Owns on which file system a folder lay at the start, and whether it still does: an unplugged disk must not let pictures fill
//! the disk beneath its mount point. Never mounts, never writes. The caller's thread; a check waits for the disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::stat::{major, minor};

use super::Step;
use crate::error::{Error, Result};

/// The file system of one folder, as of the first check of that folder.
#[derive(Debug, Default)]
pub struct Home {
    known: Mutex<Option<Known>>,
    any: AtomicBool,
}

#[derive(Debug)]
struct Known {
    dir: PathBuf,
    device: u64,
    /// Where that file system is mounted; `None`: at `/`.
    mount: Option<PathBuf>,
}

impl Home {
    /// Whether any file system will do.
    pub fn take_any(&self, any: bool) {
        self.any.store(any, Ordering::Relaxed);
    }

    /// Error `disk` where `dir`, or what is left of the way to it, lies on another file system than at its first check. A disk that is
    /// mounted where the one before was, which is gone, is taken: it has been plugged in again. What cannot be found out is no error:
    /// whatever is done to the folder next will say it.
    pub fn check(&self, dir: &Path) -> Result<()> {
        let _step = Step::begin("look at", dir);
        let Some((at, device)) = nearest(dir) else { return Ok(()) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(home) = known.as_mut().filter(|k| k.dir == dir && !self.any.load(Ordering::Relaxed)) else {
            *known = Some(Known { dir: dir.to_owned(), device, mount: mount_of(&at, device) });
            return Ok(());
        };
        if home.device == device {
            return Ok(());
        }
        if let Some(mount) = home.mount.as_deref() {
            if device_of(mount).ok() == Some(device)
                && mount_of(mount, device).as_deref() == Some(mount)
                && !is_mounted(home.device)
            {
                log::info!("Another disk is mounted at {} now; it is used", mount.display());
                home.device = device;
                return Ok(());
            }
        }
        let cure = home.mount.as_ref().map_or_else(String::new, |mount| format!("mount the disk at {} again, ", mount.display()));
        let what = format!(
            "use {}: it lies on another disk than at the start; {cure}restart to use this one, or set export.any_disk",
            dir.display()
        );
        Err(Error::of_disk("gone", what))
    }
}

/// The file system of a folder. Looked at from inside: a look at the folder itself does not mount what systemd mounts on demand.
fn device_of(folder: &Path) -> io::Result<u64> {
    fs::metadata(folder.join(".")).map(|m| m.dev())
}

/// The nearest folder on the way to `dir` that is there, and its file system.
fn nearest(dir: &Path) -> Option<(PathBuf, u64)> {
    for at in dir.ancestors() {
        match device_of(at) {
            Ok(device) => return Some((at.to_owned(), device)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(_) => return None,
        }
    }
    None
}

/// The topmost folder above `at` that lies on the same file system, unless that is `/`.
fn mount_of(at: &Path, device: u64) -> Option<PathBuf> {
    let real = fs::canonicalize(at).ok()?;
    let mount = real.ancestors().take_while(|a| device_of(a).ok() == Some(device)).last()?;
    mount.parent().map(|_| mount.to_owned())
}

/// Whether that file system is still mounted somewhere, though another one may lie above it.
fn is_mounted(device: u64) -> bool {
    let word = format!("{}:{}", major(device), minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(2) == Some(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::tests::Scratch;
    use crate::error::Kind;

    #[test]
    fn another_file_system_is_refused_and_a_deleted_folder_is_not() {
        let (dir, home) = (Scratch::new("home"), Home::default());
        let captures = dir.join("captures");
        home.check(&captures).unwrap();
        fs::create_dir(&captures).unwrap();
        home.check(&captures).unwrap();
        // A link to elsewhere stands for a mount, which needs root; /proc is a file system of its own everywhere.
        fs::remove_dir(&captures).unwrap();
        std::os::unix::fs::symlink("/proc/self", &captures).unwrap();
        let e = home.check(&captures).unwrap_err();
        assert!(e.kind == Kind::Disk && e.what.contains("another disk") && e.what.contains("export.any_disk"), "{e}");
        home.take_any(true);
        home.check(&captures).unwrap();
        home.take_any(false);
        home.check(&captures).unwrap();
        fs::remove_file(&captures).unwrap();
        assert!(home.check(&captures).is_err(), "a mount point without its disk");
        home.check(Path::new("/proc/self")).unwrap();
    }

    #[test]
    fn mount_points_are_found() {
        let proc = device_of(Path::new("/proc")).unwrap();
        assert_eq!(mount_of(Path::new("/proc/self/fd"), proc), Some("/proc".into()));
        let root = device_of(Path::new("/")).unwrap();
        assert_eq!(mount_of(Path::new("/"), root), None);
        assert!(is_mounted(proc) && !is_mounted(u64::MAX));
    }
}
