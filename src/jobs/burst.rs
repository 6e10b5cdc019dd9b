//! Owns the bursts: several pictures from one command, each the first frame at or after an instant of its own. Between two
//! pictures a burst is one entry among those that wait for the shutter, and holds no frame. Decides on the thread `shutter`;
//! what became of each picture is told from the thread that wrote it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Job, Make, Order, Saved, Then, Waiting};
use crate::capture::frame_timeout;
use crate::clock::BootUs;
use crate::error::{Error, Result};
use crate::ring::{Ring, Slot};

/// Which pictures.
#[derive(Debug, Clone, Copy)]
pub struct Burst {
    /// How many, at least one.
    pub count: usize,
    /// From one instant to the next; zero: every frame.
    pub every: Duration,
    /// From one frame to the next by day; exposures may make it longer.
    pub frame_time: Duration,
}

/// What became of a burst.
pub struct Outcome {
    /// The pictures that were written, as one; `None` where there is none.
    pub saved: Option<Saved>,
    /// Why there are not all of them.
    pub failed: Option<Error>,
}

/// Called with each picture as soon as it is on the disk.
pub type Each = Box<dyn Fn(&Saved) + Send + Sync>;

/// Called once, when the last picture is on the disk or the burst has failed and nothing of it is under way.
pub type End = Box<dyn FnOnce(Outcome) + Send>;

/// A burst of which pictures are still to be taken.
pub(super) struct Rest {
    burst: Burst,
    begin: BootUs,
    order: Order,
    /// Pictures that have their frame.
    taken: usize,
    state: Arc<State>,
}

struct State {
    each: Each,
    count: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// Pictures on their way to the disk.
    under_way: usize,
    written: Vec<Saved>,
    failed: Option<Error>,
    end: Option<End>,
}

impl Rest {
    pub fn new(burst: Burst, begin: BootUs, order: Order, each: Each, end: End) -> Rest {
        let inside = Inside { end: Some(end), ..Inside::default() };
        let state = Arc::new(State { each, count: burst.count, inside: Mutex::new(inside) });
        Rest { burst, begin, order, taken: 0, state }
    }

    /// How the next picture waits for a frame, which is none of those up to `last`.
    pub fn waiting(self, last: Option<BootUs>, now: BootUs) -> Waiting {
        let due = self.begin + self.burst.every * self.taken as u32;
        let trigger = last.map_or(due, |last| due.max(last + Duration::from_micros(1)));
        Waiting { trigger, until: self.until(trigger.max(now), Duration::ZERO), wanted: None, then: Then::Next(self) }
    }

    /// How long the next picture waits from then on, where a frame may take as long as `exposure`.
    pub fn until(&self, from: BootUs, exposure: Duration) -> BootUs {
        from + frame_timeout(self.burst.frame_time.max(exposure))
    }

    /// Whether no more are wanted: all are taken, or one has failed.
    pub fn is_over(&self) -> bool {
        self.taken == self.burst.count || self.state.lock(|i| i.failed.is_some())
    }

    /// The next picture, of this frame.
    pub fn job(&mut self, frames: Vec<Arc<Slot>>) -> Job {
        self.taken += 1;
        self.state.lock(|i| i.under_way += 1);
        let state = self.state.clone();
        Job { frames, make: Make::Each, order: self.order.clone(), done: Box::new(move |result| state.written(result)) }
    }

    /// The next picture will not be taken.
    pub fn fail(self, e: Error) {
        self.state.settle(|i| _ = i.failed.get_or_insert(e));
    }
}

/// The first frame from `trigger` on, held; empty where there is none yet, `None` where the disk is so far behind that commands hold
/// as much of the ring as they may.
pub(super) fn hold(ring: &Ring, trigger: BootUs) -> Option<Vec<Arc<Slot>>> {
    ring.hold(|frames| {
        let at = (0..frames.len()).rev().take_while(|i| frames.get(*i).boot >= trigger).last();
        at.map_or(0..0, |at| at..at + 1)
    })
}

impl State {
    fn lock<T>(&self, see: impl FnOnce(&mut Inside) -> T) -> T {
        see(&mut self.inside.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A picture is on the disk, or could not be written.
    fn written(&self, result: Result<Saved>) {
        if let Ok(saved) = &result {
            (self.each)(saved);
        }
        self.settle(|i| {
            i.under_way -= 1;
            match result {
                Ok(saved) => i.written.push(saved),
                Err(e) => _ = i.failed.get_or_insert(e),
            }
        });
    }

    /// Takes a word in, and tells the end when it has come.
    fn settle(&self, word: impl FnOnce(&mut Inside)) {
        let over = self.lock(|i| {
            word(i);
            let over = i.written.len() == self.count || (i.failed.is_some() && i.under_way == 0);
            let end = if over { i.end.take() } else { None };
            end.map(|end| (end, Outcome { saved: joined(std::mem::take(&mut i.written)), failed: i.failed.take() }))
        });
        if let Some((end, outcome)) = over {
            end(outcome);
        }
    }
}

/// Several pictures as one, in the order of their frames: two threads write them.
fn joined(mut written: Vec<Saved>) -> Option<Saved> {
    written.sort_by_key(|s| s.first.boot);
    let (first, last) = (written.first()?.first, written.last()?.last);
    let frames = written.iter().map(|s| s.frames).sum();
    Some(Saved { files: written.into_iter().flat_map(|s| s.files).collect(), first, last, frames })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_waits_longer_once_exposures_have_grown() {
        let burst = Burst { count: 12, every: Duration::from_secs(10), frame_time: Duration::from_millis(100) };
        let order = Order { formats: Vec::new(), tag: None, night: None };
        let rest = Rest::new(burst, BootUs(0), order, Box::new(|_| {}), Box::new(|_| {}));
        let (from, s) = (BootUs(7_000_000), Duration::from_secs);
        assert_eq!((rest.until(from, Duration::ZERO), rest.until(from, s(8))), (from + s(5), from + s(26)));
        let waiting = rest.waiting(Some(BootUs(12_000_000)), from);
        assert_eq!((waiting.trigger, waiting.until), (BootUs(12_000_001), BootUs(17_000_001)));
    }
}
