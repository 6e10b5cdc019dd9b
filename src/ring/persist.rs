//! Owns the ring's file: where it may lie, who may use it, which frames the process before left in it.
//! Never writes pixels. Main thread, at start.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::header::HEADER_BYTES;
use super::map;
use super::{Ring, SPARE, Slot};
use crate::claim;
use crate::error::{Error, Kind, Result};

/// The locked file behind a persisted ring. Keep it for as long as the ring lives.
pub struct Store {
    file: Flock<File>,
    path: PathBuf,
}

impl Store {
    /// Opens or makes the file and takes it for this process alone.
    pub fn open(path: &Path) -> Result<Store> {
        let what = || format!("open the ring's file {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
            .open(path)
            .map_err(|e| Error::caused(Kind::Config, format!("{}; set ring.persist_path to a writable tmpfs", what()), e))?;
        let fs = statfs(path).map_err(|e| Error::caused(Kind::Io, what(), e))?;
        if fs.filesystem_type() != TMPFS_MAGIC {
            return Err(Error::new(
                Kind::Config,
                format!(
                    "{}: it does not lie on tmpfs, and every frame would go to the disk; set ring.persist_path to a file below /dev/shm or /run",
                    what()
                ),
            ));
        }
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, e)| {
            let who = claim::named(claim::holder(&file));
            let what = format!("{}: another pastcam{who} uses it; give each its own ring.persist_path", what());
            Error::caused(Kind::Config, what, e)
        })?;
        Ok(Store { file, path: path.to_path_buf() })
    }

    /// Bytes the file occupies already: memory that counts as used but is the ring's own.
    pub fn bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
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
        let fs = nix::sys::statvfs::fstatvfs(&*self.file).ok()?;
        #[allow(clippy::useless_conversion, reason = "both are 32 bits wide on a 32-bit board")]
        let free = u64::from(fs.blocks_available()) * u64::from(fs.fragment_size());
        Some(free + self.bytes())
    }

    /// The ring of `frames` slots in this file, with every whole frame of the process before, and how many those are.
    ///
    /// All slots are populated on return: a tmpfs that is too small is an error here and not a fault (SIGBUS) later.
    pub fn ring(&self, pixels: usize, frames: usize, lock: bool) -> Result<(Ring, usize)> {
        let slot = (HEADER_BYTES + pixels).next_multiple_of(4096);
        let total = frames + SPARE;
        let length = (slot * total) as u64;
        let what = || {
            format!(
                "reserve {} bytes for the ring in {}; make ring.size smaller or the tmpfs larger",
                slot * total,
                self.path.display()
            )
        };
        // The number of slots may differ from start to start, as free memory does; slots of another size are not read, their
        // headers tell it.
        self.file.set_len(length).map_err(|e| Error::caused(Kind::Io, what(), e))?;
        nix::fcntl::posix_fallocate(&*self.file, 0, length as nix::libc::off_t)
            .map_err(|e| Error::caused(Kind::Config, what(), e))?;
        let ring = Ring::with(slot - HEADER_BYTES, frames, SPARE);
        let mut found = Vec::new();
        for index in 0..total {
            let mut region = map::in_file(&self.file, index, slot)?;
            ring.settle(&mut region, lock);
            let meta = region.found();
            let entry = Arc::new(Slot { region, meta });
            match meta {
                Some(m) => found.push((m.boot, entry)),
                None => ring.lock().free.push(entry),
            }
        }
        found.sort_by_key(|(boot, _)| *boot);
        let count = found.len();
        ring.lock().order.extend(found.into_iter().map(|(_, slot)| slot));
        Ok((ring, count))
    }
}
