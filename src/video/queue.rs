//! Owns the access units that wait between the hub and a slow disk: a queue with a limit in bytes. Pushing never waits.

use std::collections::VecDeque;
use std::sync::Condvar;
use std::time::Duration;

use super::access_unit::AccessUnit;
use crate::lock::{Guard, Ordered, Rank};

/// Units that may wait (bytes): 16 s of the default bitrate.
const MOST: usize = 4 << 20;

#[derive(Default)]
struct Inside {
    units: VecDeque<AccessUnit>,
    bytes: usize,
    lost: u64,
    /// Something was lost: what follows up to the next key frame could not be decoded.
    broken: bool,
}

/// The queue.
pub struct AccessUnitQueue {
    inside: Ordered<Inside>,
    more: Condvar,
}

impl Default for AccessUnitQueue {
    fn default() -> Self {
        AccessUnitQueue { inside: Ordered::new(Rank::AccessUnits, Inside::default()), more: Condvar::new() }
    }
}

impl AccessUnitQueue {
    fn lock(&self) -> Guard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock()
    }

    /// Adds a unit, or counts it as lost when there is no room.
    pub fn push(&self, unit: &AccessUnit) {
        let mut q = self.lock();
        q.broken = (q.broken && !unit.keyframe) || q.bytes + unit.buffer.size() > MOST;
        if q.broken {
            q.lost += 1;
            return;
        }
        q.bytes += unit.buffer.size();
        q.units.push_back(unit.clone());
        drop(q);
        self.more.notify_one();
    }

    /// The oldest unit; `None` when none comes within `wait`.
    pub fn pop(&self, wait: Duration) -> Option<AccessUnit> {
        let mut q = self.filled(wait);
        let unit = q.units.pop_front()?;
        q.bytes -= unit.buffer.size();
        Some(unit)
    }

    /// The oldest unit, which stays.
    pub fn first(&self) -> Option<AccessUnit> {
        self.wait_for_first(Duration::ZERO)
    }

    /// The same; `None` when none comes within `wait`.
    pub fn wait_for_first(&self, wait: Duration) -> Option<AccessUnit> {
        self.filled(wait).units.front().cloned()
    }

    fn filled(&self, wait: Duration) -> Guard<'_, Inside> {
        let q = self.lock();
        if q.units.is_empty() && !wait.is_zero() { q.wait_timeout(&self.more, wait) } else { q }
    }

    /// Whether the newest units were lost.
    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// Where something was lost: forgets all and begins anew with the next key frame. For one who has had no unit yet and has the
    /// pictures until then from elsewhere.
    pub fn restart_after_loss(&self) {
        let mut q = self.lock();
        if q.lost > 0 {
            *q = Inside { broken: true, ..Inside::default() };
        }
    }

    /// Units lost so far.
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }
}

#[cfg(test)]
mod tests {
    use gstreamer as gst;

    use super::*;
    use crate::clock::WallUs;

    #[test]
    fn a_full_queue_loses_whole_runs_up_to_a_key_frame() {
        crate::gst::init().unwrap();
        let unit = |id: u64, key: bool| AccessUnit {
            buffer: gst::Buffer::with_size(1 << 20).unwrap(),
            caps: gst::Caps::new_empty_simple("video/x-h264"),
            keyframe: key,
            id,
            wall: WallUs(0),
            behind: 0,
        };
        let q = AccessUnitQueue::default();
        (0..6).for_each(|id| q.push(&unit(id, id == 0)));
        assert_eq!(q.lost(), 2);
        assert_eq!(q.pop(Duration::ZERO).unwrap().id, 0);
        q.push(&unit(6, false));
        q.push(&unit(7, true));
        let rest: Vec<u64> = std::iter::from_fn(|| q.pop(Duration::ZERO)).map(|u| u.id).collect();
        assert_eq!((rest, q.lost()), (vec![1, 2, 3, 7], 3));
    }
}
