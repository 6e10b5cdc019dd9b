//! Owns the locks that keep several running programs apart: one for each folder that a program writes into; and how long a start
//! waits for a program that is ending. Knows nothing of what lies there. Main thread, at start; the thread `reload`, when a folder
//! changes.
//!
//! The lock lies in shared memory and not in the folder: a file held open there would keep a card from being unmounted.

use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::kill;
use nix::sys::stat::{major, minor};
use nix::unistd::Pid;

use crate::error::{Error, Kind, Result};
use crate::secrets;
use crate::threads::Thread;

/// Where locks lie: memory that all programs of a machine share.
const PLACE: &str = "/dev/shm";

/// How long a start waits for a process that is ending. A killed one holds its locks and ports until its memory is freed, which
/// took 0.1 s for a ring of 3 GiB on a PC; one that was asked to stop may take 4.5 s.
const ENDING: Duration = Duration::from_secs(10);
/// The same where it cannot be seen who is in the way.
const UNKNOWN: Duration = Duration::from_secs(3);
/// Who shows no sign of ending for so long stays: a signal may still be on its way.
const SETTLE: Duration = Duration::from_millis(500);
/// Between tries.
const TRY: Duration = Duration::from_millis(20);
/// A wait is told from here on.
const TELL: Duration = Duration::from_secs(1);

static TOLD: OnceLock<fn(&str)> = OnceLock::new();

/// Has waits that last told to `tell`; the first caller's holds.
pub fn on_wait(tell: fn(&str)) {
    let _ = TOLD.set(tell);
}

/// Repeats `attempt` while what stands in its way is a process that is ending. `in_use_by` says of an error whether somebody has
/// `what`, and who, where that is known. Beside a living process the error comes after half a second.
pub fn wait_for_ending<T, E>(
    what: &str,
    mut attempt: impl FnMut() -> std::result::Result<T, E>,
    in_use_by: impl Fn(&E) -> Option<Option<u32>>,
) -> std::result::Result<T, E> {
    let (began, mut told) = (Instant::now(), false);
    loop {
        let refused = match attempt() {
            Ok(got) => return Ok(got),
            Err(e) => e,
        };
        let Some(holder) = in_use_by(&refused) else { return Err(refused) };
        let patience = match holder {
            Some(pid) if pid == std::process::id() => Duration::ZERO,
            Some(pid) if is_ending(pid) => ENDING,
            Some(_) => SETTLE,
            None => UNKNOWN,
        };
        let waited = began.elapsed();
        if waited >= patience {
            return Err(refused);
        }
        if waited >= TELL && !told {
            told = true;
            let who = holder.map_or_else(|| "another program".into(), |pid| format!("process {pid}, which is ending,"));
            if let Some(tell) = TOLD.get() {
                tell(&format!("waiting for {what}: {who} still has it"));
            }
        }
        std::thread::sleep(TRY);
    }
}

/// Whether a process is on its way out: killed or exiting, or one of ours that was asked to stop.
fn is_ending(pid: u32) -> bool {
    const SIGKILL: u64 = 1 << (nix::libc::SIGKILL - 1);
    /// `PF_EXITING` of linux/sched.h.
    const EXITING: u32 = 4;
    // Behind the name, which may hold blanks and brackets: state, ppid, pgrp, session, tty_nr, tpgid, flags (proc_pid_stat(5)).
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        // Gone, or another user's that `/proc` does not show (`hidepid`).
        return i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH));
    };
    let words: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let exiting = words.get(6).and_then(|w| w.parse::<u32>().ok()).is_some_and(|flags| flags & EXITING != 0);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().filter_map(|l| l.strip_prefix("SigPnd:").or_else(|| l.strip_prefix("ShdPnd:")));
    let killed = || pending.filter_map(|m| u64::from_str_radix(m.trim(), 16).ok()).any(|mask| mask & SIGKILL != 0);
    let stopping = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut names = threads.filter_map(|t| fs::read_to_string(t.path().join("comm")).ok());
        names.any(|name| name.trim_end() == Thread::Stop.name())
    };
    exiting || killed() || stopping()
}

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
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    // Another user's file may be opened, but not with the wish to create it.
    match OpenOptions::new().read(true).custom_flags(flags).open(lock) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(flags).open(lock)
        }
        opened => opened,
    }
}

/// Number and command line of who has it, where that can be seen.
type Holder = Option<(u32, String)>;

impl Claim {
    /// Claims a folder, which is made if it is missing; `key` is the configuration's word for it. Waits for a program that is
    /// ending ([`wait_for_ending`]).
    ///
    /// A folder that cannot be had now (a card that is not mounted) is not claimed, and neither is one that this process has
    /// already. Errors: `config` when another program has it, with that program's number and command line.
    pub fn folder(key: &str, dir: &Path) -> Result<Claim> {
        let what = format!("the folder {}", dir.display());
        let pid = |holder: &Holder| Some(holder.as_ref().map(|(pid, _)| *pid));
        wait_for_ending(&what, || Claim::attempt(dir), pid).map_err(|holder| {
            let what = format!("{what} is in use by another pastcam{}", named(holder));
            Error::new(Kind::Config, format!("{key}: {what}; give each its own folder, or stop the other"))
        })
    }

    fn attempt(dir: &Path) -> std::result::Result<Claim, Holder> {
        // What is wrong with the folder is told by whoever writes into it.
        let _ = fs::create_dir_all(dir);
        let Some(lock) = lock_of(dir) else { return Ok(Claim(None)) };
        loop {
            let Ok(file) = open(&lock) else { return Ok(Claim(None)) };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // Its owner removed it between our two steps.
                Ok(file) if file.metadata().is_ok_and(|m| m.nlink() == 0) => {}
                Ok(file) => {
                    held().push(lock.clone());
                    return Ok(Claim(Some((file, lock))));
                }
                Err((file, Errno::EWOULDBLOCK)) => {
                    let holder = holder(&file);
                    if holder.as_ref().is_some_and(|(pid, _)| *pid == std::process::id()) {
                        return Ok(Claim(None));
                    }
                    return Err(holder);
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
            held().retain(|held| held != lock);
        }
    }
}

/// The locks of this process.
fn held() -> MutexGuard<'static, Vec<PathBuf>> {
    static HELD: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process has claimed the folder, so that nobody else writes into it.
pub fn has(dir: &Path) -> bool {
    lock_of(dir).is_some_and(|lock| held().contains(&lock))
}

/// Number and command line of the process that holds the lock on a file of shared memory, where that can be seen.
pub fn holder(file: &File) -> Holder {
    let meta = file.metadata().ok()?;
    let place = format!("{:02x}:{:02x}:{}", major(meta.dev()), minor(meta.dev()), meta.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let line = locks.lines().find(|l| l.contains("FLOCK") && l.split_whitespace().any(|w| w == place))?;
    let pid = pid_of(line)?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    Some((pid, secrets::hidden_words(words.split('\0')).trim().to_string()))
}

/// The number in a line of `/proc/locks`; `None` for 0, which stands for a process of another container.
fn pid_of(line: &str) -> Option<u32> {
    line.split_whitespace().nth(4)?.parse().ok().filter(|pid| *pid > 0)
}

/// A holder in a message's words; nothing where nobody is known.
pub fn named(holder: Holder) -> String {
    holder.map_or(String::new(), |(pid, line)| {
        // The dead have no command line any more.
        let line = if line.is_empty() { "it is ending" } else { &line };
        format!(" (pid {pid}: {line})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::process::{Child, Command};

    /// Whether the fortieth try was reached, the first that succeeds, and how many there were.
    fn tries(holder: Option<u32>) -> (bool, u32) {
        let tries = Cell::new(0);
        let attempt = || {
            tries.set(tries.get() + 1);
            if tries.get() < 40 { Err(()) } else { Ok(()) }
        };
        (wait_for_ending("it", attempt, |()| Some(holder)).is_ok(), tries.get())
    }

    #[test]
    fn a_start_waits_for_the_dying_and_soon_gives_up_beside_the_living() {
        let mut child: Child = Command::new("sleep").arg("60").spawn().unwrap();
        let began = Instant::now();
        let (got, n) = tries(Some(child.id()));
        assert!(!got && n > 1 && began.elapsed() >= SETTLE, "{n}");
        child.kill().unwrap();
        // Not waited for yet, it is as one that still frees its memory.
        assert_eq!(tries(Some(child.id())), (true, 40));
        child.wait().unwrap();
        assert_eq!(tries(Some(std::process::id())), (false, 1), "nobody waits for himself");
        let other = wait_for_ending("it", || Err::<(), _>("another error"), |_| None);
        assert_eq!(other, Err("another error"));
    }

    #[test]
    fn a_holder_in_another_container_is_not_known() {
        let line = |pid| format!("7: FLOCK  ADVISORY  WRITE {pid} 00:1a:42 0 EOF");
        assert_eq!((pid_of(&line(713)), pid_of(&line(0)), pid_of("7: -> FLOCK")), (Some(713), None, None));
    }

    #[test]
    fn a_claim_lasts_until_it_is_dropped() {
        let dir = std::env::temp_dir().join(format!("pastcam-claim-{}", std::process::id()));
        let claim = |dir: &Path| Claim::folder("export.base_dir", dir).unwrap();
        let first = claim(&dir);
        assert!(first.holds() && !claim(&dir.join(".")).holds(), "one's own folder by another name is no error");
        let lock = lock_of(&dir).unwrap();
        assert_eq!(holder(&File::open(&lock).unwrap()).unwrap().0, std::process::id());
        assert!(has(&dir.join(".")));
        drop(first);
        assert!(!lock.exists() && !has(&dir));
        assert!(claim(&dir).holds());
        fs::remove_dir_all(&dir).unwrap();
        // A path that can be no folder is somebody else's error.
        assert!(!claim(Path::new("/dev/null/x")).holds());
    }
}
