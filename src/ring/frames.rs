//! Owns where frames go: the ring of the past and, where that holds smaller pictures, a few full ones on demand.
//! Filled by the capture thread; any thread asks.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::Ring;

/// Full pictures kept when the ring holds smaller ones: one being written, one being the newest, two being read.
pub const FULL_SLOTS: usize = 4;

/// The ring, and full pictures for those who want one.
pub struct Frames {
    /// The past.
    pub past: Ring,
    full: Option<Ring>,
    wanted: AtomicUsize,
}

impl Frames {
    /// `full` is there when the ring's pictures are smaller than the camera's.
    pub fn new(past: Ring, full: Option<Ring>) -> Frames {
        Frames { past, full, wanted: AtomicUsize::new(0) }
    }
    /// Where full pictures appear.
    pub fn whole(&self) -> &Ring {
        self.full.as_ref().unwrap_or(&self.past)
    }
    /// The ring to copy a full picture into, if somebody wants one and the past does not hold it anyway.
    pub fn on_demand(&self) -> Option<&Ring> {
        self.full.as_ref().filter(|_| self.wanted.load(SeqCst) > 0)
    }
    /// Frames lost because every slot was being read.
    pub fn dropped(&self) -> u64 {
        self.past.stats().dropped + self.full.as_ref().map_or(0, |f| f.stats().dropped)
    }
    /// Memory set aside and populated (bytes).
    pub fn resident(&self) -> usize {
        self.past.stats().resident + self.full.as_ref().map_or(0, |f| f.stats().resident)
    }
    /// Populates and, where wished, locks what was not at the start; a ring in a file (`kept`) is populated already.
    pub fn populate(&self, lock: bool, kept: bool) -> crate::error::Result<()> {
        if !kept {
            self.past.populate(lock)?;
        }
        self.full.as_ref().map_or(Ok(()), |full| full.populate(lock))
    }
    /// Asks for full pictures until the guard is dropped.
    pub fn want(self: &std::sync::Arc<Self>) -> Wanted {
        self.wanted.fetch_add(1, SeqCst);
        Wanted(self.clone())
    }
}

/// Somebody waits for a full picture.
pub struct Wanted(std::sync::Arc<Frames>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, SeqCst);
    }
}
