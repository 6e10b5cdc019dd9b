//! Owns periodic pictures: when one is due, that only one is under way at a time, and what is said of those left out. Never takes
//! or writes one: it leaves an order with [`crate::jobs`]. The thread `keeper`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::Keeper;
use crate::clock::BootUs;
use crate::commands::Commands;
use crate::error::{Kind, Result};
use crate::events::By;
use crate::export::Format;
use crate::health::State;
use crate::jobs::{Order, Past, Saved};
use crate::logging::Tally;
use crate::stack::Mode;

/// How long a picture waits for a frame: until the camera is back, however long that takes.
const PATIENCE: Duration = Duration::from_secs(u32::MAX as u64);
/// Between lines about pictures left out.
const MINUTE: Duration = Duration::from_secs(60);
/// Below this interval single pictures are no news for the log.
const OFTEN: Duration = Duration::from_secs(1);

/// The pictures taken by the clock.
#[derive(Default)]
pub(super) struct Periodic {
    cadence: Cadence,
    left_out: LeftOut,
    ring: Ring,
    under_way: Arc<AtomicBool>,
    tally: Arc<Tally>,
}

impl Periodic {
    /// Orders a picture if one is due. How long it is to the next one.
    pub fn look(&mut self, c: &Commands) -> Duration {
        let config = c.config();
        let (now, interval) = (c.clock.boot(), config.export.auto_save_interval_s);
        let due = self.cadence.due(now, interval);
        if let Some(line) = self.left_out.line(now, c.gauges.state() != State::Running, self.ring.owed) {
            log::log!(line.0, "{}", line.1);
        }
        if due.is_some() || self.ring.owed {
            self.order(c, due, config.export.auto_save_use_ring, interval < OFTEN);
        }
        let to_next = self.cadence.next.map_or(Duration::MAX, |next| next.since(c.clock.boot()));
        // What is owed is mostly there before half a beat is over.
        if self.ring.owed { to_next.min(interval / 2) } else { to_next }
    }

    fn order(&mut self, c: &Commands, due: Option<BootUs>, from_ring: bool, often: bool) {
        if self.under_way.load(Relaxed) {
            self.left_out.count += u64::from(due.is_some());
            return;
        }
        self.left_out.count += self.ring.missed(due.is_some());
        if !self.ring.takes(c.frames.past.newest().map(|slot| slot.meta().id), from_ring) {
            return;
        }
        let now = c.clock.boot();
        self.left_out.over(now);
        self.under_way.store(true, Relaxed);
        let order = Order { formats: vec![Format::Jpg], tag: None };
        let (events, tally, under_way) = (c.events.clone(), self.tally.clone(), UnderWay(self.under_way.clone()));
        let done = Box::new(move |result: Result<Saved>| {
            drop(under_way);
            Saved::tell(&events, &result, By::Clock);
            match result {
                Ok(saved) => {
                    let file = saved.files.first().map_or_else(String::new, |f| f.display().to_string());
                    let level = if often { log::Level::Debug } else { log::Level::Info };
                    log::log!(level, "Auto-save {}: {file}", if from_ring { "from ring" } else { "fresh image" });
                }
                Err(e) if e.kind == Kind::Busy => log::debug!("Auto-save: {e}"),
                Err(e) => tally.log_about(log::Level::Error, e.kind.word(), &format!("Auto-save failed: {e}")),
            }
        });
        if from_ring {
            c.jobs.past(now, Duration::ZERO, None, Past::Stack(1, Mode::default()), order, done);
        } else {
            c.jobs.next(due.unwrap_or(now), PATIENCE, order, done);
        }
    }
}

impl Keeper {
    /// Sleeps until the next round, and takes the pictures that are due meanwhile; true when asked to stop.
    pub(super) fn rest(&self, periodic: &mut Periodic, shutdown: &crate::shutdown::Shutdown, round: Duration) -> bool {
        let end = self.commands.clock.boot() + round;
        loop {
            let to_next = if self.commands.frames.past.published() > 0 { periodic.look(&self.commands) } else { round };
            let left = end.since(self.commands.clock.boot());
            if left.is_zero() {
                return shutdown.requested();
            }
            if shutdown.sleep(left.min(to_next)) {
                return true;
            }
        }
    }
}

/// Pictures from the ring: never the same frame twice.
#[derive(Default)]
struct Ring {
    /// The newest frame when the last picture was taken.
    last: Option<u64>,
    /// A picture was due while there was no newer one: it is taken as soon as there is.
    owed: bool,
}

impl Ring {
    /// How many pictures this look leaves out: the one that is still owed when the next beat comes.
    fn missed(&self, beat: bool) -> u64 {
        u64::from(beat && self.owed)
    }

    /// Whether a picture is taken now. One that would show the same frame again is owed; `only_newer` is false where that is no matter.
    fn takes(&mut self, newest: Option<u64>, only_newer: bool) -> bool {
        self.owed = only_newer && newest == self.last;
        self.last = newest;
        !self.owed
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
    fn line(&mut self, now: BootUs, away: bool, owed: bool) -> Option<(log::Level, String)> {
        if self.waits || (self.count == 0 && !(away && owed)) {
            return None;
        }
        if away {
            self.waits = true;
            return Some((log::Level::Warn, "Auto-save waits for the camera".to_string()));
        }
        if now.since(*self.since.get_or_insert(now)) < MINUTE {
            return None;
        }
        let count = std::mem::take(&mut self.count);
        self.since = None;
        let why = "the one before was not done: the disk is slow, or the camera sends fewer frames";
        let s = if count == 1 { "" } else { "s" };
        Some((log::Level::Warn, format!("Auto-save: {count} picture{s} left out in a minute: {why}")))
    }

    /// A picture is taken again.
    fn over(&mut self, now: BootUs) {
        if std::mem::take(&mut self.waits) {
            log::info!("Auto-save goes on; {} pictures were left out while the camera was away", self.count);
            (self.count, self.since) = (0, Some(now));
        }
    }
}

/// A steady beat: due at once, then at multiples of the interval from there, whatever the rounds' own jitter.
#[derive(Default)]
struct Cadence {
    next: Option<BootUs>,
}

impl Cadence {
    /// The beat that has come since the last call, if one has; the last one of several.
    fn due(&mut self, now: BootUs, interval: Duration) -> Option<BootUs> {
        if interval.is_zero() {
            self.next = None;
            return None;
        }
        let next = *self.next.get_or_insert(now);
        if now < next {
            // A shorter interval, after SIGHUP, takes effect now and not after the old one.
            self.next = Some(next.min(now + interval));
            return None;
        }
        let interval = interval.as_micros().max(1) as u64;
        let beat = next + Duration::from_micros(now.since(next).as_micros() as u64 / interval * interval);
        self.next = Some(beat + Duration::from_micros(interval));
        Some(beat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> BootUs {
        BootUs(ms * 1000)
    }

    #[test]
    fn the_beat_does_not_drift() {
        let (mut c, ten) = (Cadence::default(), Duration::from_secs(10));
        assert_eq!(c.due(ms(5_300), ten), Some(ms(5_300)));
        assert_eq!(c.due(ms(14_900), ten), None);
        assert_eq!(c.due(ms(15_900), ten), Some(ms(15_300)));
        assert_eq!(c.due(ms(25_299), ten), None);
        assert_eq!(c.due(ms(25_300), ten), Some(ms(25_300)));
        // Three beats missed are one picture, and the beat stays.
        assert_eq!(c.due(ms(61_000), ten), Some(ms(55_300)));
        assert_eq!(c.due(ms(65_200), ten), None);
        assert_eq!(c.due(ms(65_300), ten), Some(ms(65_300)));
        assert_eq!(c.due(ms(65_400), Duration::ZERO), None);
    }

    #[test]
    fn any_interval_is_kept_as_written() {
        for interval in [0.1, 0.2, 0.5, 1.5, 7.3] {
            let (mut c, interval) = (Cadence::default(), Duration::from_secs_f64(interval));
            // Looks at uneven times.
            let beats: Vec<BootUs> = (0..100_000).filter_map(|i| c.due(ms(i * 10 + i % 4 * 3), interval)).collect();
            assert!(beats.windows(2).all(|w| w[1].since(w[0]) == interval), "{interval:?}");
        }
    }

    /// Pictures taken and left out over looks, each a beat or not, with the newest frame there.
    fn counted(looks: &[(bool, u64)]) -> (u64, u64) {
        let (mut ring, mut taken, mut missed) = (Ring::default(), 0, 0);
        for (beat, newest) in looks {
            if *beat || ring.owed {
                missed += ring.missed(*beat);
                taken += u64::from(ring.takes(Some(*newest), true));
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
    fn a_camera_that_is_away_is_two_lines_and_a_slow_disk_one_a_minute() {
        let mut l = LeftOut::default();
        assert!(l.line(ms(0), true, false).is_none() && l.line(ms(0), false, true).is_none(), "nothing is left out yet");
        assert_eq!(l.line(ms(3000), true, true).unwrap().1, "Auto-save waits for the camera");
        for s in 2..25 {
            l.count += 1;
            assert!(l.line(ms(s * 3000), true, true).is_none() && l.line(ms(s * 3000), false, false).is_none());
        }
        l.over(ms(75_000));
        assert_eq!((l.count, l.waits), (0, false));
        let lines = (0..1800).filter_map(|i| {
            l.count += 1;
            l.line(ms(75_000 + i * 100), false, false)
        });
        let lines: Vec<String> = lines.map(|l| l.1).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("Auto-save: 601 pictures left out in a minute: "), "{lines:?}");
    }
}
