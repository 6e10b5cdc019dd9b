//! Owns the work of the threads `recorder` and `clip`: when a recording begins and ends, and from where its pictures come. Both may
//! wait for the disk.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use gstreamer::glib::DateTime;

use super::super::access_unit::AccessUnit;
use super::super::past::{self, Past};
use super::super::queue::AccessUnitQueue;
use super::super::schedule::{self, Span};
use super::take::Take;
use super::{Done, Order, Recorded, Shared, Under, again};
use crate::clock::BootUs;
use crate::error::{Error, Kind, Result};
use crate::events::{By, Ended, Event, Task};
use crate::export::Tag;
use crate::threads;

/// Between looks at the free space.
const LOOK: Duration = Duration::from_secs(2);
/// A recording whose first picture does not come in this time has failed.
const FIRST: Duration = Duration::from_secs(10);
/// Between looks at the clock, and how long one wait for a unit lasts.
const ROUND: Duration = Duration::from_millis(500);
/// A recording by the clock that failed begins again after this time, while its hours last.
const AGAIN: Duration = Duration::from_secs(60);
/// A frame that is on its way into the ring, behind its access unit, has this long to arrive.
const DECODING: Duration = Duration::from_secs(2);

/// Whether the schedule covers the present, in local time.
fn due_now(lines: &[Span]) -> bool {
    // Most have no schedule, and then nobody's time zone is asked for.
    if lines.is_empty() {
        return false;
    }
    let Ok(now) = DateTime::now_local() else { return false };
    schedule::covered(lines, now.day_of_week() as u32 - 1, (now.hour() * 60 + now.minute()) as u32)
}

/// How a recording ended, and why where that was by itself and too early.
type End = (Ended, String);

/// That and how the disk ended a recording.
fn by_the_disk(e: &Error) -> String {
    let which = ["read-only", "gone"].into_iter().find(|w| e.what.contains(w));
    let which = which.unwrap_or(if e.what.contains("is full") || e.what.starts_with("keep ") { "full" } else { "failing" });
    format!("ended by the {which} disk: {}", e.what)
}

fn time(unit: &AccessUnit) -> BootUs {
    BootUs(unit.time().useconds())
}

impl Shared {
    /// The thread `recorder`.
    pub(super) fn run(&self) {
        // After a panic: what was under way is not any more.
        let stops = {
            let mut inside = self.lock();
            inside.under = None;
            inside.stopped = None;
            std::mem::take(&mut inside.stops)
        };
        for stop in stops {
            stop(Err(threads::bug("record")));
        }
        // A recording by the clock that somebody stopped does not begin again within the same hours.
        let (mut stopped, mut failed) = (false, None::<Instant>);
        loop {
            let mut inside = self.lock();
            if inside.closed {
                return;
            }
            if let Some((order, started)) = inside.order.take() {
                (inside.under, inside.untold) = (Some(Under::default()), None);
                drop(inside);
                self.record(&order, By::Command, Some(started));
                continue;
            }
            let now = due_now(&inside.clock.schedule);
            stopped &= now;
            failed = failed.filter(|at| now && at.elapsed() < AGAIN);
            if now && !stopped && failed.is_none() {
                inside.under = Some(Under { by_clock: true, ..Under::default() });
                drop(inside);
                let order = Order { seconds: None, tag: None, before: None, trigger: self.parts.clock.boot() };
                let (asked, whole) = self.record(&order, By::Clock, None);
                (stopped, failed) = (asked, (!whole).then(Instant::now));
                continue;
            }
            // Without a schedule only an order ends the wait.
            let wait = if inside.clock.schedule.is_empty() { Duration::from_secs(3600) } else { ROUND };
            drop(self.changed.wait_timeout(inside, wait).unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }

    /// Makes one recording and tells everybody who asked; whether somebody stopped it, and whether it has all that was asked for.
    fn record(&self, order: &Order, by: By, mut started: Option<Done<String>>) -> (bool, bool) {
        let mut take = Take::new(&self.parts, by, order.tag.as_ref());
        let attempt = threads::guarded("record", || self.attempt(order, by, &mut take, &mut started)).and_then(|made| made);
        let made = Shared::ended(attempt, take);
        let whole = made.as_ref().is_ok_and(|r| r.why.is_empty());
        if let Err(e) = &made {
            log::error!("Recording: {e}");
        }
        if !whole {
            self.parts.gauges.failed.fetch_add(1, Relaxed);
        }
        let stops = {
            let mut inside = self.lock();
            (inside.under, inside.stopped) = (None, None);
            inside.last = made.as_ref().ok().cloned().or(inside.last.take());
            let stops = std::mem::take(&mut inside.stops);
            if !whole && stops.is_empty() && started.is_none() {
                inside.untold = Some(again(&made));
            }
            stops
        };
        match &made {
            Ok(recorded) => self.parts.events.publish(Event::Recorded {
                file: recorded.file.clone(),
                seconds: recorded.seconds,
                pictures: recorded.pictures,
                files: recorded.files,
                lost_s: recorded.lost_s,
                ended: recorded.ended,
                by,
            }),
            Err(e) => self.parts.events.failed(Task::Record, by, e),
        }
        if let (Some(started), Err(e)) = (started, &made) {
            started(Err(Error::new(e.kind, e.to_string())));
        }
        let asked = !stops.is_empty();
        for stop in stops {
            stop(again(&made));
        }
        (asked, whole)
    }

    /// What an attempt and the files it made come to.
    fn ended(attempt: Result<End>, take: Take<'_>) -> Result<Recorded> {
        match attempt {
            Ok((ended, why)) => {
                // Without a picture only when it is stopped in the instant of its beginning.
                let none = || Err(Error::new(Kind::Timeout, "record: it ended before its first picture"));
                take.finish(ended).unwrap_or_else(none).map(|r| Recorded { why, ..r })
            }
            Err(e) => match take.finish(Ended::Disk) {
                None => Err(e),
                // What there is becomes a file all the same.
                Some(Ok(r)) if e.kind == Kind::Disk => {
                    log::error!("Recording: it ends here: {e}");
                    Ok(Recorded { why: by_the_disk(&e), ..r })
                }
                // The answer tells of the failure.
                Some(kept) => {
                    let kept = kept.map_or_else(|e| e.to_string(), |r| r.file.display().to_string());
                    Err(Error { what: format!("{} (kept: {kept})", e.what), ..e })
                }
            },
        }
    }

    /// Takes units until something ends it, into files of which the last is left to the caller.
    fn attempt(&self, order: &Order, by: By, take: &mut Take<'_>, started: &mut Option<Done<String>>) -> Result<End> {
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

    /// The thread `clip`.
    pub(super) fn clip(&self, from: BootUs, until: BootUs, tag: Option<&Tag>) -> Result<Recorded> {
        let (mut take, stop) = (Take::new(&self.parts, By::Command, tag), || self.lock().closed);
        let until = || Some(until);
        let past =
            Past { ring: &self.parts.frames.past, whole: false, from, until: &until, stop: &stop, patience: Duration::ZERO };
        match past::encode(&self.parts.video, &past, &mut |unit| take.put(unit, None)) {
            Ok(()) => {
                let none = || Err(Error::new(Kind::Past, "clip: the ring holds no frame of that time any more"));
                take.finish(Ended::Over).unwrap_or_else(none)
            }
            Err(e) => {
                take.discard();
                Err(e)
            }
        }
    }
}
