//! Owns the last frames: slots of memory set aside at start, their order in time, who may write and who is reading.
//! Never copies pixels to be read, never waits for a reader, never holds its lock over pixels.
//! Written by the capture thread only; read from any thread.
//!
//! Each slot is an `Arc<Slot>`. The writer takes the oldest slot that nobody else holds, so `Arc::get_mut` yields it for
//! writing; a slot that a reader holds is passed over. Readers clone the `Arc` under the lock and read without it.

mod frames;
mod header;
mod map;
pub mod persist;
mod settings;
pub mod size;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar};
use std::time::{Duration, Instant};

use crate::clock::BootUs;
use crate::error::{Error, Kind, Result};
use crate::frame::FrameMeta;
use crate::lock::{Guard, Ordered, Rank};

pub use frames::{FULL_SLOTS, Frames, Wanted};
use map::Region;
pub use settings::{Downscale, Settings};

/// One frame: its pixels (I420 as [`crate::frame::Layout`] says) and what is known about it.
pub struct Slot {
    region: Region,
    meta: Option<FrameMeta>,
}

impl Slot {
    /// What is known about the frame.
    pub fn meta(&self) -> &FrameMeta {
        // Only published slots leave the ring, and `publish` sets the meta first.
        self.meta.as_ref().expect("a published slot has its meta")
    }
    /// The picture's bytes, `meta().layout.bytes()` of them.
    pub fn pixels(&self) -> &[u8] {
        &self.region.pixels()[..self.meta().layout.bytes()]
    }
}

impl AsRef<[u8]> for Slot {
    fn as_ref(&self) -> &[u8] {
        self.pixels()
    }
}

#[derive(Default)]
struct Slots {
    /// Filled, oldest first.
    order: VecDeque<Arc<Slot>>,
    /// Populated and empty.
    free: Vec<Arc<Slot>>,
    /// Published so far: what waiters compare.
    published: u64,
    /// Calls of [`Ring::wake`] so far.
    woken: u64,
}

/// The last frames. See the module's first lines.
pub struct Ring {
    slots: Ordered<Slots>,
    newer: Condvar,
    /// Somebody sleeps in [`Ring::wait_published`]; spares the capture a system call per frame when nobody does.
    waiters: AtomicUsize,
    slot_bytes: usize,
    wanted: usize,
    spare: usize,
    resident: AtomicUsize,
    dropped: AtomicU64,
    locked: AtomicBool,
    lock_refused: AtomicBool,
}

/// Slots beyond the frames asked for, so that the camera goes on while readers hold all the others.
pub const SPARE: usize = 4;
/// Slots that readers never get: one being written, one to be the newest frame.
const LEFT_TO_CAMERA: usize = 2;
/// Slots populated before [`Ring::anonymous`] returns; [`Ring::populate`] does the rest beside the running camera.
const FIRST: usize = 4;

/// Gauges of the ring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Frames held now.
    pub frames: usize,
    /// Frames it holds when full.
    pub capacity: usize,
    /// Time between the oldest and the newest frame (s).
    pub seconds: f64,
    /// Frames lost because every slot was being read.
    pub dropped: u64,
    /// Memory set aside and populated (bytes).
    pub resident: usize,
    /// Frames published since start.
    pub published: u64,
}

impl Ring {
    fn with(slot_bytes: usize, wanted: usize, spare: usize) -> Ring {
        let mut slots = Slots::default();
        // The deque never grows later: no allocation on the frame path.
        slots.order.reserve_exact(wanted + spare + 1);
        slots.free.reserve_exact(wanted + spare + 1);
        Ring {
            slots: Ordered::new(Rank::Ring, slots),
            newer: Condvar::new(),
            waiters: AtomicUsize::new(0),
            slot_bytes,
            wanted,
            spare,
            resident: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            locked: AtomicBool::new(false),
            lock_refused: AtomicBool::new(false),
        }
    }

    /// A ring of `frames` slots of `slot_bytes` in private memory and [`SPARE`] more. The first slots are ready on return,
    /// locked if wished and allowed; call [`Ring::populate`] from a thread that may take its time for the others.
    pub fn anonymous(slot_bytes: usize, frames: usize, lock: bool) -> Result<Ring> {
        Ring::of(slot_bytes, frames, SPARE, lock)
    }

    /// The same without spare slots, for a few pictures that may be lost.
    pub fn small(slot_bytes: usize, frames: usize, lock: bool) -> Result<Ring> {
        Ring::of(slot_bytes, frames, 0, lock)
    }

    fn of(slot_bytes: usize, frames: usize, spare: usize, lock: bool) -> Result<Ring> {
        let ring = Ring::with(slot_bytes, frames, spare);
        ring.grow_to(FIRST.min(frames + spare), &mut || map::anonymous(slot_bytes), lock)?;
        Ok(ring)
    }

    /// Adds, populates and, where allowed, locks slots until all are there.
    pub fn populate(&self, lock: bool) -> Result<()> {
        self.grow_to(self.wanted + self.spare, &mut || map::anonymous(self.slot_bytes), lock)
    }

    fn grow_to(&self, total: usize, make: &mut dyn FnMut() -> Result<Region>, lock: bool) -> Result<()> {
        loop {
            let have = {
                let s = self.lock();
                s.order.len() + s.free.len()
            };
            if have >= total {
                return Ok(());
            }
            let mut region = make()?;
            self.settle(&mut region, lock);
            self.lock().free.push(Arc::new(Slot { region, meta: None }));
        }
    }

    fn settle(&self, region: &mut Region, lock: bool) {
        region.populate();
        if lock && !self.lock_refused.load(Ordering::Relaxed) {
            match region.lock() {
                Ok(()) => self.locked.store(true, Ordering::Relaxed),
                Err(_) => self.lock_refused.store(true, Ordering::Relaxed),
            }
        }
        self.resident.fetch_add(region.bytes(), Ordering::Relaxed);
    }

    /// Whether the memory is safe from being swapped out.
    pub fn locking(&self) -> Locking {
        match (self.locked.load(Ordering::Relaxed), self.lock_refused.load(Ordering::Relaxed)) {
            (_, true) => Locking::Refused,
            (true, false) => Locking::Locked,
            (false, false) => Locking::NotAsked,
        }
    }

    fn lock(&self) -> Guard<'_, Slots> {
        // Nothing under this lock can panic half-way, so a poisoned lock still guards whole data.
        self.slots.lock()
    }

    /// Bytes one slot holds: frames with a larger [`crate::frame::Layout::bytes`] do not fit.
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// A slot to write the next frame into: an empty one, else the oldest that nobody reads.
    /// `None` when all are being read; the loss is counted.
    pub fn take(&self) -> Option<Taken<'_>> {
        let mut s = self.lock();
        let front_held = |s: &Slots| s.order.front().is_some_and(|slot| Arc::strong_count(slot) > 1);
        // Spares that were in use while readers held the others go back once they can.
        while s.order.len() > self.wanted && !front_held(&s) {
            let spare = s.order.pop_front();
            s.free.extend(spare);
        }
        // While readers hold the oldest, spares serve first, so that new frames do not push each other out.
        let spare = if s.order.len() < self.wanted || front_held(&s) { s.free.pop() } else { None };
        let slot = spare.or_else(|| take_oldest_unheld(&mut s.order));
        drop(s);
        if slot.is_none() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        slot.map(|slot| Taken { ring: self, slot: Some(slot) })
    }

    /// The newest frame.
    pub fn newest(&self) -> Option<Arc<Slot>> {
        self.lock().order.back().cloned()
    }

    /// The oldest frame at or after `t`.
    pub fn first_since(&self, t: BootUs) -> Option<Arc<Slot>> {
        let s = self.lock();
        let at = s.order.partition_point(|slot| slot.meta().boot < t);
        s.order.get(at).cloned()
    }

    /// Lets `pick` choose a run of frames by their metas (oldest first) and holds exactly those. `None` where too few slots
    /// would be left to the camera: readers that wait for a slow disk may together hold three quarters of the ring, and one
    /// of them alone may hold all but the spare slots.
    pub fn hold(&self, pick: impl FnOnce(&Metas<'_>) -> std::ops::Range<usize>) -> Option<Vec<Arc<Slot>>> {
        let s = self.lock();
        let run = pick(&Metas(&s.order));
        let held = |slot: &&Arc<Slot>| Arc::strong_count(slot) > 1;
        let before = s.order.iter().filter(held).count();
        let more = run.len() - s.order.range(run.clone()).filter(held).count();
        let left = (s.order.len() + s.free.len()).saturating_sub(before + more);
        let enough = left >= (self.wanted / 4).max(LEFT_TO_CAMERA);
        let alone = before < LEFT_TO_CAMERA;
        (enough || alone || more == 0).then(|| s.order.range(run).cloned().collect())
    }

    /// Whether one more frame may be held without taking the last slots from the camera.
    pub fn has_room(&self) -> bool {
        let s = self.lock();
        let held = s.order.iter().filter(|slot| Arc::strong_count(slot) > 1).count();
        s.order.len() + s.free.len() > held + LEFT_TO_CAMERA
    }

    /// Looks at the metas (oldest first) under the lock: be brief.
    pub fn look<R>(&self, see: impl FnOnce(&Metas<'_>) -> R) -> R {
        see(&Metas(&self.lock().order))
    }

    /// How many frames have been published since start.
    pub fn published(&self) -> u64 {
        self.lock().published
    }

    /// Sleeps until more than `seen` frames have been published, [`Ring::wake`] is called or `timeout` is over; returns how
    /// many there are now.
    pub fn wait_published(&self, seen: u64, timeout: Duration) -> u64 {
        let end = Instant::now() + timeout;
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut s = self.lock();
        let woken = s.woken;
        while s.published <= seen && s.woken == woken {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            s = s.wait_timeout(&self.newer, left);
        }
        let now = s.published;
        drop(s);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        now
    }

    /// Wakes everybody in [`Ring::wait_published`] without a frame; they find the same count and their own reason to stop.
    pub fn wake(&self) {
        self.lock().woken += 1;
        self.newer.notify_all();
    }

    /// The gauges.
    pub fn stats(&self) -> Stats {
        let s = self.lock();
        let seconds = match (s.order.front(), s.order.back()) {
            (Some(a), Some(b)) => b.meta().boot.since(a.meta().boot).as_secs_f64(),
            _ => 0.0,
        };
        Stats {
            frames: s.order.len(),
            capacity: self.wanted,
            seconds,
            dropped: self.dropped.load(Ordering::Relaxed),
            resident: self.resident.load(Ordering::Relaxed),
            published: s.published,
        }
    }
}

/// The frames' metas, oldest first, as seen under the ring's lock.
pub struct Metas<'a>(&'a VecDeque<Arc<Slot>>);

impl Metas<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The `i`-th oldest.
    pub fn get(&self, i: usize) -> &FrameMeta {
        self.0[i].meta()
    }
}

fn take_oldest_unheld(order: &mut VecDeque<Arc<Slot>>) -> Option<Arc<Slot>> {
    let at = order.iter().position(|slot| Arc::strong_count(slot) == 1)?;
    order.remove(at)
}

/// What became of the wish to lock the ring into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// No slot can be swapped out.
    Locked,
    /// The system refused (`RLIMIT_MEMLOCK`); the slots are populated but may be swapped out.
    Refused,
    /// Locking was not wished.
    NotAsked,
}

/// A slot on its way to becoming the newest frame. Dropped without [`Taken::publish`], it goes back empty.
pub struct Taken<'a> {
    ring: &'a Ring,
    slot: Option<Arc<Slot>>,
}

impl Taken<'_> {
    fn slot(&mut self) -> &mut Slot {
        let slot = self.slot.as_mut().expect("only publish and drop empty it");
        // `take` chose a slot with one owner, under the lock through which all clones are made.
        Arc::get_mut(slot).expect("a taken slot has no other owner")
    }

    /// The bytes to fill. From here until `publish` a persisted slot counts as torn.
    pub fn pixels(&mut self) -> &mut [u8] {
        let slot = self.slot();
        slot.region.begin();
        slot.region.pixels_mut()
    }

    /// Makes the filled slot the newest frame.
    pub fn publish(mut self, meta: FrameMeta) -> Result<()> {
        if meta.layout.bytes() > self.ring.slot_bytes {
            return Err(Error::new(
                Kind::Source,
                format!(
                    "put frame {} into the ring: {}x{} needs {} bytes and a slot has {}; set camera.width and camera.height to the source's size",
                    meta.id,
                    meta.layout.width,
                    meta.layout.height,
                    meta.layout.bytes(),
                    self.ring.slot_bytes
                ),
            ));
        }
        let slot = self.slot();
        slot.meta = Some(meta);
        slot.region.finish(&meta);
        let slot = self.slot.take().expect("publish consumes the guard");
        let mut s = self.ring.lock();
        s.order.push_back(slot);
        s.published += 1;
        drop(s);
        if self.ring.waiters.load(Ordering::SeqCst) > 0 {
            self.ring.newer.notify_all();
        }
        Ok(())
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(mut slot) = self.slot.take() {
            if let Some(s) = Arc::get_mut(&mut slot) {
                s.meta = None;
            }
            self.ring.lock().free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests;
