//! Owns on which file system a folder lay at the start, and whether it still does: an unplugged disk must not let pictures fill
//! the disk beneath its mount point. Never mounts, never writes. The caller's thread; a check waits for the disk.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::stat::{major, minor};

use super::Step;
use crate::error::{Error, Result};

/// Folders that are remembered: the present one, and those before in which a recording may still end.
const KEPT: usize = 4;

/// The file systems of the last folders, each as of the first check of that folder.
#[derive(Debug, Default)]
pub struct Home {
    /// Held to compare and to store, never while a disk is asked.
    known: Mutex<VecDeque<Known>>,
    any: AtomicBool,
}

#[derive(Debug, Clone)]
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
        let home = self.lock().iter().find(|k| k.dir == dir).cloned();
        let Some(home) = home.filter(|k| k.device == device || !self.any.load(Ordering::Relaxed)) else {
            self.learn(Known { dir: dir.to_owned(), device, mount: mount_of(&at, device) });
            return Ok(());
        };
        if home.device == device {
            return Ok(());
        }
        if let Some(mount) = home.mount.as_deref() {
            if device_of(mount).ok() == Some(device)
                && mount_of(mount, device).as_deref() == Some(mount)
                && !(is_mounted(home.device, mount) && is_there(home.device, Path::new("/sys/dev/block")))
            {
                log::info!("Another disk is mounted at {} now; it is used", mount.display());
                self.learn(Known { device, ..home });
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

    fn learn(&self, home: Known) {
        let mut known = self.lock();
        known.retain(|k| k.dir != home.dir);
        known.push_back(home);
        if known.len() > KEPT {
            known.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether that file system is still mounted there, though another one may lie above it. Elsewhere its number may be another's by now.
fn is_mounted(device: u64, at: &Path) -> bool {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let (number, at) = (number(device), escaped(at.as_os_str().as_bytes()));
    let fields = |row: &[u8]| {
        let mut fields = row.split(|b| *b == b' ').skip(2);
        (fields.next() == Some(number.as_bytes())) && fields.nth(1) == Some(&at)
    };
    mounts.split(|b| *b == b'\n').any(fields)
}

/// A path as the kernel's list of mounts writes it.
fn escaped(path: &[u8]) -> Vec<u8> {
    let escape = |b: &u8| if b" \t\n\\#".contains(b) { format!("\\{b:03o}").into_bytes() } else { vec![*b] };
    path.iter().flat_map(escape).collect()
}

/// Whether there is still a device beneath that file system, by the kernel's list: one that was torn out stays mounted, also beneath
/// what is mounted on top of it later. File systems without a device of their own are always there.
fn is_there(device: u64, list: &Path) -> bool {
    major(device) == 0 || !list.is_dir() || list.join(number(device)).exists()
}

fn number(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::makedev;

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
    fn two_folders_in_turn_keep_their_file_systems() {
        let (dir, home) = (Scratch::new("homes"), Home::default());
        let (old, new) = (dir.join("old"), dir.join("new"));
        home.check(&old).unwrap();
        home.check(&new).unwrap();
        for taken in [&old, &new] {
            std::os::unix::fs::symlink("/proc/self", taken).unwrap();
        }
        for folder in [&old, &new, &old] {
            assert!(home.check(folder).is_err(), "{}", folder.display());
        }
        for n in 0..9 {
            home.check(&dir.join(n.to_string())).unwrap();
        }
        assert_eq!(home.lock().len(), KEPT);
    }

    #[test]
    fn a_device_that_was_torn_out_is_not_there_any_more() {
        let (list, stick) = (Scratch::new("block"), makedev(8, 17));
        assert!(!is_there(stick, &list) && is_there(makedev(0, 17), &list));
        fs::create_dir(list.join("8:17")).unwrap();
        assert!(is_there(stick, &list));
        assert!(is_there(makedev(8, 18), &list.join("none")), "without a list nothing is known");
    }

    #[test]
    fn mount_points_are_found() {
        let proc = device_of(Path::new("/proc")).unwrap();
        assert_eq!(mount_of(Path::new("/proc/self/fd"), proc), Some("/proc".into()));
        let root = device_of(Path::new("/")).unwrap();
        assert_eq!(mount_of(Path::new("/"), root), None);
        assert!(is_mounted(proc, Path::new("/proc")));
        assert!(!is_mounted(proc, Path::new("/proc/self")) && !is_mounted(root, Path::new("/proc")));
        assert_eq!(escaped(b"/media/my stick\\1"), b"/media/my\\040stick\\1341");
    }
}
