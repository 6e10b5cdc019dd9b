//! Owns the work of the threads `recorder` and `clip`: when a recording begins, and who is told what became of it. Both may wait for the
//! disk.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use gstreamer::glib::DateTime;

use super::super::past::{self, Past};
use super::attempt::{End, by_the_disk};
use super::take::Take;
use super::{Done, Order, Recorded, Shared, Under, again};
use crate::clock::BootUs;
use crate::error::{Error, Kind, Result};
use crate::events::{By, Ended, Event, Task};
use crate::export::Tag;
use crate::hours::{self, Span};
use crate::threads;

/// Between looks at the clock.
const ROUND: Duration = Duration::from_millis(500);
/// A recording by the clock that failed begins again after this time, while its hours last.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether the schedule covers the present, in local time.
pub(super) fn due_now(lines: &[Span]) -> bool {
    // Most have no schedule, and then nobody's time zone is asked for.
    if lines.is_empty() {
        return false;
    }
    let Ok(now) = DateTime::now_local() else { return false };
    hours::covered(lines, now.day_of_week() as u32 - 1, (now.hour() * 60 + now.minute()) as u32)
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
