//! Owns one line of periodic pictures: only one of them is under way at a time, those from the ring never show the same frame
//! twice, a stack waits until there are enough frames for it, and what is left out is told. The thread `keeper`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::auto::Told;
use crate::capture::frame_timeout;
use crate::clock::BootUs;
use crate::commands::Commands;
use crate::error::{Kind, Result};
use crate::events::By;
use crate::health::State;
use crate::jobs::{Order, Past, Saved};
use crate::logging::Tally;
use crate::ring::Metas;
use crate::stack::{Mode, centred};

/// How long a picture that is wanted at any time waits for a frame: until the camera is back, however long that takes.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Between lines about pictures left out.
const MINUTE: Duration = Duration::from_secs(60);
/// What the log calls the pictures of `export.auto_save_interval_s`.
pub(super) const OLD: &str = "Auto-save";

/// What a picture is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// The first full frame from its instant on.
    Fresh,
    /// The newest of the ring.
    Newest,
    /// At most so many of the ring's newest.
    Stack(usize, Mode),
}

impl Make {
    /// Whether a picture is made of the frames that are there, as it `waits` already. Where the light changes with every frame, as
    /// many alike as a stack wants never come: it waits for about as long as they take.
    fn is_enough(self, there: usize, capacity: usize, frame_time: Duration, waits: Duration) -> bool {
        let most = match self {
            Make::Stack(count, _) => count.min(capacity),
            _ => 1,
        };
        there >= most || (there > 0 && waits > frame_time * 2 * most as u32 + Duration::from_secs(1))
    }
}

/// What is wanted now.
pub(super) struct Wish {
    pub make: Make,
    /// While the camera is away nothing waits for it: later may be another time of the day.
    pub only_now: bool,
    pub order: Order,
    /// Single pictures are no news for the log.
    pub often: bool,
}

/// One line of pictures.
#[derive(Default)]
pub(super) struct Series {
    /// What the log calls it.
    label: String,
    /// For `status json`.
    pub told: Arc<Told>,
    left_out: LeftOut,
    ring: Ring,
    under_way: Arc<AtomicBool>,
    tally: Arc<Tally>,
}

impl Series {
    /// The same by this name in the log.
    pub fn called(self, label: String) -> Series {
        Series { label, ..self }
    }

    /// Orders a picture if one is due or owed. Whether one is owed then.
    pub fn look(&mut self, c: &Commands, due: Option<BootUs>, wish: impl FnOnce() -> Wish) -> bool {
        let now = c.clock.boot();
        if let Some(line) = self.left_out.line(&self.label, now, c.gauges.state() != State::Running, self.ring.owed.is_some()) {
            log::log!(line.0, "{}", line.1);
        }
        if due.is_some() || self.ring.owed.is_some() {
            self.order(c, due, wish());
        }
        self.ring.owed.is_some()
    }

    /// Owes nothing any more: its hours are over.
    pub fn rest(&mut self) {
        self.ring.owed = None;
    }

    fn leave_out(&mut self, pictures: u64) {
        self.left_out.count += pictures;
        self.told.left_out.fetch_add(pictures, Relaxed);
    }

    fn order(&mut self, c: &Commands, due: Option<BootUs>, wish: Wish) {
        let away = wish.only_now && c.gauges.state() != State::Running;
        if away {
            let owed = self.ring.owed.take().is_some();
            return self.leave_out(u64::from(due.is_some()) + u64::from(owed));
        }
        if self.under_way.load(Relaxed) {
            return self.leave_out(u64::from(due.is_some()));
        }
        let missed = self.ring.missed(due.is_some());
        self.leave_out(missed);
        let (now, frame_time) = (c.clock.boot(), c.frame_time(&c.config()));
        let (newest, there) = c.frames.past.look(|frames| state(frames, now, &wish));
        if c.gauges.state() != State::Running {
            // What it waits for then is the camera.
            self.ring.owed = self.ring.owed.map(|_| now);
        }
        let waits = self.ring.owed.map_or(Duration::ZERO, |since| now.since(since));
        let enough = wish.make.is_enough(there, c.frames.past.stats().capacity, frame_time, waits);
        if !self.ring.takes(newest, wish.make != Make::Fresh, enough, due.unwrap_or(now)) {
            return;
        }
        self.left_out.over(&self.label, now);
        self.under_way.store(true, Relaxed);
        let (events, tally, under_way) = (c.events.clone(), self.tally.clone(), UnderWay(self.under_way.clone()));
        let (label, told, make) = (self.label.clone(), self.told.clone(), wish.make);
        let level = if wish.often { log::Level::Debug } else { log::Level::Info };
        let done = Box::new(move |result: Result<Saved>| {
            drop(under_way);
            Saved::tell(&events, &result, By::Clock);
            match result {
                Ok(saved) => {
                    told.taken.fetch_add(1, Relaxed);
                    let file = saved.files.first().map_or_else(String::new, |f| f.display().to_string());
                    let of = match make {
                        Make::Fresh => "fresh image".to_string(),
                        Make::Newest => "from ring".to_string(),
                        Make::Stack(..) => format!("stack of {} frames", saved.frames),
                    };
                    log::log!(level, "{label} {of}: {file}");
                }
                Err(e) => {
                    told.left_out.fetch_add(1, Relaxed);
                    if e.kind == Kind::Busy {
                        log::debug!("{label}: {e}");
                    } else {
                        tally.log_about(log::Level::Error, e.kind.word(), &format!("{label} failed: {e}"));
                    }
                }
            }
        });
        match wish.make {
            Make::Fresh => {
                // A camera that has only just gone is not known to be away.
                let patience = if wish.only_now { frame_timeout(frame_time) } else { FOR_EVER };
                c.jobs.next(due.unwrap_or(now), patience, wish.order, done);
            }
            Make::Newest => c.jobs.past(now, Duration::ZERO, None, Past::Stack(1, Mode::Mean), wish.order, done),
            Make::Stack(n, mode) => c.jobs.past(now, Duration::ZERO, None, Past::Stack(n, mode), wish.order, done),
        }
    }
}

/// The newest frame, and how many are there of which the picture could be made.
fn state(frames: &Metas<'_>, now: BootUs, wish: &Wish) -> (Option<u64>, usize) {
    let Some(newest) = frames.len().checked_sub(1).map(|i| frames.get(i)) else { return (None, 0) };
    let run = match wish.make {
        _ if wish.make != Make::Fresh && wish.order.night.is_some_and(|night| newest.night != night) => 0,
        Make::Stack(count, _) => centred(frames, now, count).len(),
        _ => 1,
    };
    (Some(newest.id), run)
}

/// Pictures from the ring: never the same frame twice.
#[derive(Default)]
struct Ring {
    /// The newest frame when the last picture was taken.
    last: Option<u64>,
    /// A picture was due then while there was no newer frame, or not enough for a stack: one is taken as soon as there are.
    /// The instant stays over later beats, so that a stack waits no longer than it should where the interval is shorter.
    owed: Option<BootUs>,
}

impl Ring {
    /// How many pictures this look leaves out: the one that is still owed when the next beat comes.
    fn missed(&self, beat: bool) -> u64 {
        u64::from(beat && self.owed.is_some())
    }

    /// Whether a picture is taken now. One that would show the same frame again, or for which there are not `enough`, is owed;
    /// `only_newer` is false where that is no matter.
    fn takes(&mut self, newest: Option<u64>, only_newer: bool, enough: bool, due: BootUs) -> bool {
        if only_newer && (newest == self.last || !enough) {
            self.owed.get_or_insert(due);
            return false;
        }
        self.owed = None;
        self.last = newest;
        true
    }
}

/// A picture is under way until this is dropped, whatever becomes of it.
struct UnderWay(Arc<AtomicBool>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// Pictures that were not taken: the one before was still under way, or no new frame came until the next was due.
#[derive(Default)]
struct LeftOut {
    count: u64,
    /// Since the first of them.
    since: Option<BootUs>,
    /// The camera is away, and that has been said.
    waits: bool,
}

impl LeftOut {
    /// What there is to say: when the camera is away once, otherwise once a minute.
    fn line(&mut self, label: &str, now: BootUs, away: bool, owed: bool) -> Option<(log::Level, String)> {
        if self.waits || (self.count == 0 && !(away && owed)) {
            return None;
        }
        if away {
            self.waits = true;
            return Some((log::Level::Warn, format!("{label} waits for the camera")));
        }
        if now.since(*self.since.get_or_insert(now)) < MINUTE {
            return None;
        }
        let count = std::mem::take(&mut self.count);
        self.since = None;
        let why = "the one before was not done: the disk is slow, or the camera sends fewer frames";
        let s = if count == 1 { "" } else { "s" };
        Some((log::Level::Warn, format!("{label}: {count} picture{s} left out in a minute: {why}")))
    }

    /// A picture is taken again.
    fn over(&mut self, label: &str, now: BootUs) {
        if std::mem::take(&mut self.waits) {
            log::info!("{label} goes on; {} pictures were left out while the camera was away", self.count);
            (self.count, self.since) = (0, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> BootUs {
        BootUs(ms * 1000)
    }

    #[test]
    fn a_stack_waits_for_its_frames_but_not_for_ever() {
        let (stack, frame, s) = (Make::Stack(4, Mode::Steady), Duration::from_secs(2), Duration::from_secs);
        assert!(!stack.is_enough(3, 100, frame, s(0)) && stack.is_enough(4, 100, frame, s(0)));
        assert!(stack.is_enough(3, 3, frame, s(0)), "the ring holds no more");
        assert!(
            !stack.is_enough(1, 100, frame, s(17))
                && stack.is_enough(1, 100, frame, s(18))
                && !stack.is_enough(0, 100, frame, s(99))
        );
        assert!(Make::Newest.is_enough(1, 100, frame, s(0)) && !Make::Newest.is_enough(0, 100, frame, s(0)));
    }

    /// Pictures taken and left out over looks, each a beat or not, with the newest frame there.
    fn counted(looks: &[(bool, u64)]) -> (u64, u64) {
        let (mut ring, mut taken, mut missed) = (Ring::default(), 0, 0);
        for (beat, newest) in looks {
            if *beat || ring.owed.is_some() {
                missed += ring.missed(*beat);
                taken += u64::from(ring.takes(Some(*newest), true, true, ms(0)));
            }
        }
        (taken, missed)
    }

    #[test]
    fn a_picture_that_comes_late_is_taken_and_not_left_out() {
        // Frames as often as beats, every third a little late.
        assert_eq!(counted(&[(true, 0), (true, 1), (true, 1), (false, 2), (true, 3), (true, 3), (false, 4)]), (5, 0));
        // One that never comes, and a camera with half the frames.
        assert_eq!(counted(&[(true, 0), (true, 0), (false, 0), (true, 1), (true, 2)]), (3, 1));
        assert_eq!(counted(&[(true, 0), (true, 0), (true, 1), (true, 1), (true, 2), (true, 2)]), (3, 2));
    }

    #[test]
    fn a_stack_waits_over_beats_that_come_meanwhile() {
        let mut ring = Ring::default();
        let missed: Vec<u64> = [1, 2, 3]
            .map(|s| {
                let missed = ring.missed(true);
                assert!(!ring.takes(Some(s), true, false, ms(s * 1000)));
                missed
            })
            .into();
        assert_eq!((missed, ring.owed), (vec![0, 1, 1], Some(ms(1000))));
        assert!(ring.takes(Some(4), true, true, ms(4000)) && ring.owed.is_none());
    }

    #[test]
    fn a_camera_that_is_away_is_two_lines_and_a_slow_disk_one_a_minute() {
        let mut l = LeftOut::default();
        assert!(
            l.line(OLD, ms(0), true, false).is_none() && l.line(OLD, ms(0), false, true).is_none(),
            "nothing is left out yet"
        );
        assert_eq!(l.line(OLD, ms(3000), true, true).unwrap().1, "Auto-save waits for the camera");
        for s in 2..25 {
            l.count += 1;
            assert!(l.line(OLD, ms(s * 3000), true, true).is_none() && l.line(OLD, ms(s * 3000), false, false).is_none());
        }
        l.over(OLD, ms(75_000));
        assert_eq!((l.count, l.waits), (0, false));
        let lines = (0..1800).filter_map(|i| {
            l.count += 1;
            l.line(OLD, ms(75_000 + i * 100), false, false)
        });
        let lines: Vec<String> = lines.map(|l| l.1).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("Auto-save: 601 pictures left out in a minute: "), "{lines:?}");
    }
}
