//! Owns hot pixels: which pixels of the sensor glow by themselves in the dark, learned from the ring's own frames, kept beside the
//! pictures, and repaired in pictures. Never changes a frame of the ring or of the stream, and never takes a star or a lamp for one
//! as long as the scene moves. The thread `hot-pixels` learns ([`Watch`]); pictures are repaired on the thread that makes them.

mod file;
mod ground;
mod learn;
mod record;
mod repair;
mod scene;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use crate::frame::{FrameMeta, Layout};

pub use learn::Learner;
pub use watch::{Origin, Watch};

/// Most pixels that are known at a time: one in 200 of 1024×768, far beyond any sensor that is still of use.
pub const MAX: usize = 4096;
/// A picture whose luma is on average below this is dark, whatever is known of its exposure: 25 % of white.
const DARK: u32 = 64;

/// A pixel that is known to be hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Row.
    pub y: u16,
    /// Column.
    pub x: u16,
    /// How far its luma stands above its neighbours' median (code values).
    pub luma: u8,
    /// How far its U stands off its neighbours' median (code values); 0: not at all.
    pub u: i8,
    /// The same for V.
    pub v: i8,
}

/// The known pixels of frames of one size, by row and column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// The frames' size.
    pub layout: Layout,
    /// At most [`MAX`].
    pub spots: Vec<Spot>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum State {
    /// `export.hot_pixels` is off.
    #[default]
    Off,
    /// No frames yet, or it is too bright.
    Waiting,
    /// Frames are being looked at.
    Learning,
    /// A control cuts out a part of the sensor or mirrors it: its pixels are elsewhere.
    Suspended,
}

impl State {
    /// The word in `status json`.
    pub fn word(self) -> &'static str {
        match self {
            State::Off => "off",
            State::Waiting => "waiting",
            State::Learning => "learning",
            State::Suspended => "suspended",
        }
    }
}

/// What is known, shared by who learns, who repairs and who asks.
#[derive(Debug, Default)]
pub struct Hot {
    enabled: AtomicBool,
    state: AtomicU8,
    list: RwLock<Arc<List>>,
    repaired: AtomicU32,
}

impl Hot {
    /// Whether pixels are learned and repaired at all.
    pub fn enable(&self, on: bool) {
        self.enabled.store(on, Relaxed);
    }

    /// What is being done.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            _ if !self.enabled.load(Relaxed) => State::Off,
            s if s == State::Learning as u8 => State::Learning,
            s if s == State::Suspended as u8 => State::Suspended,
            _ => State::Waiting,
        }
    }

    fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// How many are known.
    pub fn known(&self) -> usize {
        self.list().spots.len()
    }

    /// How many were repaired in the last picture.
    pub fn repaired_last(&self) -> u32 {
        self.repaired.load(Relaxed)
    }

    /// The known pixels.
    pub fn list(&self) -> Arc<List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes these the known pixels.
    pub fn set(&self, list: List) {
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }

    /// Repairs a picture in place: I420 as `meta.layout` places it, in a buffer of its own.
    pub fn repair(&self, meta: &FrameMeta, pixels: &mut [u8]) {
        for (at, value) in self.mend(meta, pixels) {
            pixels[at] = value;
        }
    }

    /// The same in a copy; nothing, and no copy, where there is nothing to repair.
    pub fn repaired(&self, meta: &FrameMeta, pixels: &[u8]) -> Option<Vec<u8>> {
        let mend = self.mend(meta, pixels);
        if mend.is_empty() {
            return None;
        }
        let mut copy = pixels[..meta.layout.bytes()].to_vec();
        for (at, value) in mend {
            copy[at] = value;
        }
        Some(copy)
    }

    /// Which bytes of the picture become what.
    fn mend(&self, meta: &FrameMeta, pixels: &[u8]) -> Vec<(usize, u8)> {
        let list = self.list();
        let applies = !list.spots.is_empty() && list.layout == meta.layout && pixels.len() >= meta.layout.bytes();
        let applies = applies && !matches!(self.state(), State::Off | State::Suspended) && is_dark(meta, pixels);
        let (mend, spots) = if applies { repair::mend(&list, pixels) } else { Default::default() };
        self.repaired.store(spots, Relaxed);
        mend
    }
}

/// Whether pixels can be hot in this frame: they glow with long exposures, and by day nothing is to be touched.
fn is_dark(meta: &FrameMeta, pixels: &[u8]) -> bool {
    let luma = &pixels[meta.layout.y()];
    // One row in 16 and one sample in 16 of it.
    let rows = luma.chunks_exact(meta.layout.y_stride()).step_by(16);
    let (mut sum, mut n) = (0, 0);
    for sample in rows.flat_map(|row| row[..meta.layout.width as usize].iter().step_by(16)) {
        sum += u32::from(*sample);
        n += 1;
    }
    meta.night || sum < DARK * n
}
