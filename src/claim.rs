//! Owns the locks that keep several running programs apart: one for each folder that a program writes into. Knows nothing of
//! what lies there. Main thread, at start; the thread `reload`, when a folder changes.
//!
//! The lock lies in shared memory and not in the folder: a file held open there would keep a card from being unmounted.

use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{major, minor};

use crate::error::{Error, Kind, Result};

/// Where locks lie: memory that all programs of a machine share.
const PLACE: &str = "/dev/shm";

/// A folder that is ours for as long as this lives.
pub struct Claim(Option<(Flock<File>, PathBuf)>);

/// One name for a folder however it is spelled; a card mounted over it is another folder. `None` where there is no folder.
fn lock_of(dir: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(dir).ok()?;
    let meta = fs::metadata(&real).ok()?;
    // FNV-1a.
    let hash = real
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    Some(Path::new(PLACE).join(format!("pastcam-{hash:016x}-{:x}-{:x}.lock", meta.dev(), meta.ino())))
}

fn open(lock: &Path) -> std::io::Result<File> {
    let flags = OFlag::O_NOFOLLOW.bits();
    // Another user's file may be opened, but not with the wish to create it.
    match OpenOptions::new().read(true).custom_flags(flags).open(lock) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(flags).open(lock)
        }
        opened => opened,
    }
}

impl Claim {
    /// Claims a folder, which is made if it is missing; `key` is the configuration's word for it.
    ///
    /// A folder that cannot be had now (a card that is not mounted) is not claimed, and neither is one that this process has
    /// already. Errors: `config` when another program has it, with that program's number and command line.
    pub fn folder(key: &str, dir: &Path) -> Result<Claim> {
        // What is wrong with the folder is told by whoever writes into it.
        let _ = fs::create_dir_all(dir);
        let Some(lock) = lock_of(dir) else { return Ok(Claim(None)) };
        loop {
            let Ok(file) = open(&lock) else { return Ok(Claim(None)) };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // Its owner removed it between our two steps.
                Ok(file) if file.metadata().is_ok_and(|m| m.nlink() == 0) => {}
                Ok(file) => return Ok(Claim(Some((file, lock)))),
                Err((file, Errno::EWOULDBLOCK)) => {
                    let holder = holder(&file);
                    if holder.as_ref().is_some_and(|(pid, _)| *pid == std::process::id()) {
                        return Ok(Claim(None));
                    }
                    let who = named(holder);
                    let what = format!("the folder {} is in use by another pastcam{who}", dir.display());
                    return Err(Error::new(Kind::Config, format!("{key}: {what}; give each its own folder, or stop the other")));
                }
                Err(_) => return Ok(Claim(None)),
            }
        }
    }

    /// Gives the folder up.
    pub fn release(&mut self) {
        *self = Claim(None);
    }

    /// Whether there is a lock behind it.
    pub fn holds(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((_, lock)) = &self.0 {
            // While it is locked: whoever opened it before sees that it has no name any more. One that stays does no harm.
            let _ = fs::remove_file(lock);
        }
    }
}

/// Number and command line of the process that holds the lock on a file of shared memory, where that can be seen.
pub fn holder(file: &File) -> Option<(u32, String)> {
    let meta = file.metadata().ok()?;
    let place = format!("{:02x}:{:02x}:{}", major(meta.dev()), minor(meta.dev()), meta.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let line = locks.lines().find(|l| l.contains("FLOCK") && l.split_whitespace().any(|w| w == place))?;
    let pid: u32 = line.split_whitespace().nth(4)?.parse().ok()?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Some((pid, String::from_utf8_lossy(&words).replace('\0', " ").trim().to_string()))
}

/// A holder in a message's words; nothing where nobody is known.
pub fn named(holder: Option<(u32, String)>) -> String {
    holder.map_or(String::new(), |(pid, line)| format!(" (pid {pid}: {line})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_lasts_until_it_is_dropped() {
        let dir = std::env::temp_dir().join(format!("pastcam-claim-{}", std::process::id()));
        let claim = |dir: &Path| Claim::folder("export.base_dir", dir).unwrap();
        let first = claim(&dir);
        assert!(first.holds() && !claim(&dir.join(".")).holds(), "one's own folder by another name is no error");
        let lock = lock_of(&dir).unwrap();
        assert_eq!(holder(&File::open(&lock).unwrap()).unwrap().0, std::process::id());
        drop(first);
        assert!(!lock.exists());
        assert!(claim(&dir).holds());
        fs::remove_dir_all(&dir).unwrap();
        // A path that can be no folder is somebody else's error.
        assert!(!claim(Path::new("/dev/null/x")).holds());
    }
}
