//! Owns the ring's file: where it may lie, who may use it, which frames the process before left in it.
//! Never writes pixels. Main thread, at start.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, posix_fallocate};
use nix::libc::off_t;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::geteuid;

use super::header::HEADER_BYTES;
use super::map;
use super::{Ring, SPARE, Slot};
use crate::claim;
use crate::clock::{BootUs, Clock, SystemClock};
use crate::error::{Error, Kind, Result};

/// The ring's file, ours alone: locked, of our user, closed to every other. Dropped without becoming a ring, it removes a file it
/// has made.
pub struct Store {
    /// Each slot's mapping has a share in it, so the lock lasts as long as the last mapping.
    file: Arc<Flock<File>>,
    path: PathBuf,
    made: bool,
}

impl Store {
    /// Opens or makes the file and takes it for this process alone, waiting for a program that is ending. A path that is refused is
    /// left as it was.
    pub fn open(path: &Path) -> Result<Store> {
        let what = || format!("open the ring's file {}", path.display());
        let refused = |why: String| Error::new(Kind::Config, format!("{}: {why}", what()));
        let failed = |e| Error::caused(Kind::Config, format!("{}; set ring.persist_path to a writable tmpfs", what()), e);
        // Before anything is made there: a name alone lies in the working directory.
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = statfs(path).or_else(|_| statfs(folder)).map_err(|e| failed(e.into()))?;
        if place.filesystem_type() != TMPFS_MAGIC {
            return Err(refused(
                "it does not lie on tmpfs, and every frame would go to the disk; set ring.persist_path to a file below /dev/shm or /run"
                    .into(),
            ));
        }
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
            let (file, made) = match options.open(path) {
                Err(e) if e.kind() == ErrorKind::NotFound => match options.create_new(true).open(path) {
                    // Another program was quicker.
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                    opened => (opened.map_err(failed)?, true),
                },
                opened => (opened.map_err(failed)?, false),
            };
            // A lock belongs to all descriptors of one opening.
            let again = || file.try_clone().map_err(|_| Errno::EMFILE);
            let lock = || Flock::lock(again()?, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e);
            let in_use_by = |e: &Errno| (*e == Errno::EWOULDBLOCK).then(|| claim::holder(&file).map(|(pid, _)| pid));
            let locked = claim::wait_for_ending(&format!("the ring's file {}", path.display()), lock, in_use_by);
            let file = locked.map_err(|e| {
                let who = claim::named(claim::holder(&file));
                let what = format!("{}: another pastcam{who} uses it; give each its own ring.persist_path", what());
                Error::caused(Kind::Config, what, e)
            })?;
            let found = file.metadata().map_err(failed)?;
            if found.nlink() == 0 {
                // Removed between our two steps.
                continue;
            }
            let store = Store { file: Arc::new(file), path: path.to_path_buf(), made };
            if let Some(why) = foreign(&found) {
                return Err(refused(format!("{why}; remove it or set ring.persist_path to another file")));
            }
            store.file.set_permissions(PermissionsExt::from_mode(0o600)).map_err(failed)?;
            return Ok(store);
        }
    }

    /// Bytes the file occupies already: memory that counts as used but is the ring's own.
    pub fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.blocks() * 512)
    }

    /// Frames that a file of this length holds with slots of `pixels` bytes; 0 for a new one.
    pub fn frames(&self, pixels: usize) -> usize {
        let slot = (HEADER_BYTES + pixels).next_multiple_of(4096) as u64;
        let slots = self.file.metadata().map_or(0, |m| m.len()) / slot;
        (slots as usize).saturating_sub(SPARE)
    }

    /// What its file system still has room for, the file's own bytes included.
    pub fn room(&self) -> Option<u64> {
        let fs = nix::sys::statvfs::fstatvfs(&**self.file).ok()?;
        Some(crate::disk::free_of(&fs) + self.bytes())
    }

    /// The ring of `frames` slots in this file, with every whole frame of the process before, and how many those are.
    ///
    /// All slots are populated on return: a tmpfs that is too small is an error here and not a fault (SIGBUS) later.
    pub fn ring(mut self, pixels: usize, frames: usize, lock: bool) -> Result<(Ring, usize)> {
        let slot = (HEADER_BYTES + pixels).next_multiple_of(4096);
        let total = frames + SPARE;
        let length = slot as u64 * total as u64;
        let what = || {
            let path = self.path.display();
            format!("reserve {length} bytes for the ring in {path}; make ring.size smaller or the tmpfs larger")
        };
        // The number of slots may differ from start to start, as free memory does; slots of another size are not read, their
        // headers tell it. Only here is the file ever cut, and nothing maps it: see `map::in_file`.
        if self.file.metadata().is_ok_and(|m| m.len() > length) {
            self.file.set_len(length).map_err(|e| Error::caused(Kind::Io, what(), e))?;
        }
        // Leaves the file as it is where there is no room.
        let reserved = off_t::try_from(length).map_err(|_| Errno::EFBIG).and_then(|n| posix_fallocate(&**self.file, 0, n));
        reserved.map_err(|e| Error::caused(Kind::Config, what(), e))?;
        let ring = Ring::with(slot - HEADER_BYTES, frames, SPARE);
        let now = SystemClock.boot();
        let (mut found, mut free) = (Vec::new(), Vec::new());
        for index in 0..total {
            let mut region = map::in_file(&self.file, index, slot)?;
            ring.settle(&mut region, lock);
            let meta = region.found(now);
            let to = if meta.is_some() { &mut found } else { &mut free };
            to.push(Arc::new(Slot { region, meta }));
        }
        // From the newest on: no two frames have one number or one instant.
        found.sort_by_key(|slot| std::cmp::Reverse(slot.meta().boot));
        let mut next = (u64::MAX, BootUs(u64::MAX));
        let (found, torn): (Vec<_>, Vec<_>) = found.into_iter().partition(|slot| {
            let this = (slot.meta().id, slot.meta().boot);
            let fits = this.0 < next.0 && this.1 < next.1;
            next = if fits { this } else { next };
            fits
        });
        let count = found.len();
        {
            let mut slots = ring.lock();
            slots.free.extend(free.into_iter().chain(torn));
            slots.order.extend(found.into_iter().rev());
        }
        self.made = false;
        Ok((ring, count))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.made {
            // While it is locked. One that stays does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why this file may not be mapped: somebody who is not our user could write into it or cut it.
fn foreign(file: &std::fs::Metadata) -> Option<String> {
    match () {
        () if !file.is_file() => Some("it is no regular file".into()),
        () if file.uid() != geteuid().as_raw() => Some(format!("it belongs to the user with the number {}", file.uid())),
        () if file.mode() & 0o022 != 0 => Some(format!("other users may write into it (mode {:o})", file.mode() & 0o777)),
        () => None,
    }
}
