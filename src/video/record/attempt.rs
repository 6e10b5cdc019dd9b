//! Owns how one recording runs: from where its pictures come, and what ends it. On the thread `recorder`, which may wait for the disk.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::access_unit::AccessUnit;
use super::super::past::{self, Past};
use super::super::queue::AccessUnitQueue;
use super::take::Take;
use super::work::due_now;
use super::{Done, Order, Shared, Under};
use crate::clock::BootUs;
use crate::error::{Error, Kind, Result};
use crate::events::{By, Ended};

/// Between looks at the free space.
const LOOK: Duration = Duration::from_secs(2);
/// A recording whose first picture does not come in this time has failed.
const FIRST: Duration = Duration::from_secs(10);
/// Between looks at what may end it, and how long one wait for a unit lasts.
const ROUND: Duration = Duration::from_millis(500);
/// A frame that is on its way into the ring, behind its access unit, has this long to arrive.
const DECODING: Duration = Duration::from_secs(2);

/// How a recording ended, and why where that was by itself and too early.
pub(super) type End = (Ended, String);

/// That and how the disk ended a recording.
pub(super) fn by_the_disk(e: &Error) -> String {
    format!("ended by the {} disk: {}", e.disk, e.what)
}

fn time(unit: &AccessUnit) -> BootUs {
    BootUs(unit.time().useconds())
}

impl Shared {
    /// Takes units until something ends it, into files of which the last is left to the caller.
    pub(super) fn attempt(&self, order: &Order, by: By, take: &mut Take<'_>, started: &mut Option<Done<String>>) -> Result<End> {
        let (hub, ring) = (self.parts.video.hub(), &self.parts.frames.past);
        let queue = Arc::new(AccessUnitQueue::default());
        let into = queue.clone();
        let _place = hub.subscribe(Box::new(move |unit| {
            into.push(unit);
            true
        }));
        let (begun, looked) = (Instant::now(), Cell::new(Instant::now()));
        let end_of = |first: BootUs| order.seconds.map(|s| order.trigger.max(first) + Duration::from_secs_f64(s));
        // A camera that encodes by itself cannot be asked for a key frame. Where its last one is not kept, the pictures up to the
        // next one come from the ring: its units are here before their frames are there.
        let is_camera = hub.passes_through();
        while !is_camera && queue.wait_for_first(ROUND).is_none() {
            if let Some(end) = self.over(by, &looked) {
                return Ok(end);
            }
            if self.lock().stopped.is_some() {
                return Ok((Ended::Stopped, String::new()));
            }
            if begun.elapsed() > FIRST {
                let what = format!("record: no picture came within {} s", begun.elapsed().as_secs());
                return Err(Error::new(Kind::Timeout, what));
            }
        }
        let from = match order.before {
            Some(before) => Some(order.trigger.back(before)),
            None if queue.first().is_none() => ring.newest().map(|n| n.meta().boot.min(order.trigger)),
            None => None,
        };
        if let Some(from) = from {
            let ended = RefCell::new(None);
            let until = || {
                if is_camera {
                    queue.restart_after_loss();
                }
                let mut ended = ended.borrow_mut();
                *ended = ended.take().or_else(|| self.over(by, &looked));
                let now = ended.as_ref().map(|_| BootUs(0));
                [now, self.lock().stopped, end_of(from), queue.first().as_ref().map(time)].into_iter().flatten().min()
            };
            let stop = || self.lock().closed;
            let past = Past { ring, whole: true, from, until: &until, stop: &stop, patience: DECODING };
            past::encode(&self.parts.video, &past, &mut |unit| self.put(unit, by, take, &queue, started))?;
            if let Some(end) = ended.into_inner() {
                return Ok(end);
            }
            if end_of(from).is_some_and(|end| queue.first().is_none_or(|unit| time(&unit) >= end)) {
                return Ok((Ended::Over, String::new()));
            }
        }
        loop {
            let stopped = self.lock().stopped;
            // Once it is stopped, what waits for a slow disk is still written, and nothing more waited for.
            let unit = queue.pop(if stopped.is_some() { Duration::ZERO } else { ROUND });
            if let Some(unit) = unit.filter(|unit| stopped.is_none_or(|at| time(unit) <= at)) {
                if end_of(take.first().unwrap_or(time(&unit))).is_some_and(|end| time(&unit) >= end) {
                    return Ok((Ended::Over, String::new()));
                }
                self.put(&unit, by, take, &queue, started)?;
            } else if let Some(at) = stopped {
                if queue.is_broken() {
                    take.missed_until(at);
                }
                return Ok((Ended::Stopped, String::new()));
            }
            if let Some(end) = self.over(by, &looked) {
                return Ok(end);
            }
        }
    }

    /// Adds a unit to the recording, and tells where it stands.
    fn put(
        &self,
        unit: &AccessUnit,
        by: By,
        take: &mut Take<'_>,
        queue: &AccessUnitQueue,
        started: &mut Option<Done<String>>,
    ) -> Result<()> {
        let split = self.lock().clock.split_s;
        take.put(unit, (by == By::Clock && !split.is_zero()).then_some(split.as_secs_f64()))?;
        let (name, bytes) = take.present().unwrap_or_default();
        let (seconds, lost) = (take.seconds(), take.lost().max(queue.lost()));
        self.lock().under = Some(Under { name: name.clone(), seconds, bytes, lost, by_clock: by == By::Clock });
        if let Some(started) = started.take() {
            log::info!("Recording {name}");
            started(Ok(name));
        }
        Ok(())
    }

    /// Whether it is over for another reason than that somebody stopped it.
    fn over(&self, by: By, looked: &Cell<Instant>) -> Option<End> {
        let inside = self.lock();
        if inside.closed {
            return Some((Ended::Stopped, String::new()));
        }
        let clock = by == By::Clock;
        let mut over = clock && inside.order.is_some();
        drop(inside);
        if looked.get().elapsed() >= LOOK {
            looked.set(Instant::now());
            if let Err(e) = self.parts.exporter.make_room() {
                log::warn!("Recording: it ends here: {e}");
                return Some((Ended::Disk, by_the_disk(&e)));
            }
            over |= clock && !due_now(&self.lock().clock.schedule);
        }
        over.then_some((Ended::Over, String::new()))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use nix::errno::Errno as E;

    use super::*;
    use crate::disk;

    #[test]
    fn what_the_disk_is_does_not_follow_from_the_name_of_a_file() {
        let path = Path::new("/gone/read-only/keep is full.mp4");
        for (errno, which) in [(E::ENOSPC, "full"), (E::EROFS, "read-only"), (E::ENODEV, "gone"), (E::EIO, "failing")] {
            let said = by_the_disk(&disk::error("write the recording", path, io::Error::from_raw_os_error(errno as i32)));
            assert!(said.starts_with(&format!("ended by the {which} disk: write the recording /gone/")), "{said}");
        }
    }
}
