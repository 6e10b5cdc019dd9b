//! Owns periodic pictures: when one is due, of `export.auto_save_interval_s` and of each entry of `auto`. Never takes or writes one:
//! it leaves an order with [`crate::jobs`]. The thread `keeper`.

mod series;

use std::sync::Arc;
use std::time::Duration;

use gstreamer::glib::DateTime;

use self::series::{Make, OLD, Series, Wish};
use super::Keeper;
use crate::auto::{Entry, Take, When};
use crate::clock::{BootUs, WallUs};
use crate::commands::Commands;
use crate::config::Config;
use crate::export::Format;
use crate::jobs::Order;

/// Below this interval single pictures are no news for the log.
const OFTEN: Duration = Duration::from_secs(1);
/// A beat that is longer ago is not made up for; a clock that is set back by no more repeats no beat (µs).
const LATE: i64 = 60_000_000;
/// More than that between two looks is a clock that was set, and no adjustment of its rate (µs).
const JUMP: i64 = 500_000;
/// A picture that is not later than this is still of the frame that its beat asks for; the keeper goes a round in less.
const PROMPT: Duration = Duration::from_secs(2);

/// The pictures taken by the clock.
pub(super) struct Periodic {
    /// `export.auto_save_interval_s`.
    old: Series,
    cadence: Cadence,
    /// `auto`, each entry with what is going on there.
    entries: Vec<(Entry, Series)>,
    /// The configuration these are of.
    config: Option<Arc<Config>>,
    /// The last look.
    seen: Option<Seen>,
}

/// Up to where beats have been seen.
#[derive(Clone, Copy)]
struct Seen {
    /// The wall clock, or the boot-time clock while that is not set (µs).
    time: i64,
    boot: BootUs,
}

impl Seen {
    /// From where on beats count at this look: what a clock that was set forward jumped over is not made up for.
    fn since(self, time: i64, boot: BootUs) -> i64 {
        let passed = boot.since(self.boot).as_micros() as i64;
        if time - self.time - passed > JUMP { time - passed } else { self.time }
    }

    /// After this look. A clock that was set back a little passes no beat twice.
    fn then(self, time: i64, boot: BootUs) -> Seen {
        Seen { time: if (0..=LATE).contains(&(self.time - time)) { self.time } else { time }, boot }
    }
}

impl Default for Periodic {
    fn default() -> Self {
        let old = Series::default().called(OLD.into());
        Periodic { old, cadence: Cadence::default(), entries: Vec::new(), config: None, seen: None }
    }
}

/// An instant on the clock by which entries are due.
#[derive(Clone, Copy)]
struct Now {
    /// The wall clock, or the boot-time clock while that is not set (µs).
    time: i64,
    /// Local time less that (µs); none while the clock is not set.
    offset: Option<i64>,
}

impl Now {
    fn of(boot: BootUs, wall: WallUs) -> Now {
        let local = if wall.is_set() { DateTime::from_unix_local(wall.0.div_euclid(1_000_000)).ok() } else { None };
        match local {
            Some(local) => Now { time: wall.0, offset: Some(local.utc_offset().0) },
            None => Now { time: boot.0 as i64, offset: None },
        }
    }

    /// How long ago the last beat of this entry was (µs), if that was since `seen`.
    fn due(self, entry: &Entry, seen: i64) -> Option<i64> {
        let offset = self.offset(entry)?;
        let beat = entry.last(self.time + offset)? - offset;
        (beat > seen && self.time - beat <= LATE).then_some(self.time - beat)
    }

    /// How long it is to the next beat (µs).
    fn next(self, entry: &Entry) -> Option<i64> {
        let offset = self.offset(entry)?;
        entry.next(self.time + offset).map(|beat| beat - offset - self.time)
    }

    fn offset(self, entry: &Entry) -> Option<i64> {
        if entry.at.is_empty() { Some(self.offset.unwrap_or(0)) } else { self.offset }
    }
}

impl Periodic {
    /// Orders the pictures that are due. How long it is to the next one.
    pub fn look(&mut self, c: &Commands) -> Duration {
        let config = c.config();
        self.old(c, &config).min(self.auto(c, &config))
    }

    fn old(&mut self, c: &Commands, config: &Config) -> Duration {
        let interval = config.export.auto_save_interval_s;
        let due = self.cadence.due(c.clock.boot(), interval);
        let make = if config.export.auto_save_use_ring { Make::Newest } else { Make::Fresh };
        let order = || Order { formats: vec![Format::Jpg], tag: None, night: None };
        let owed = self.old.look(c, due, || Wish { make, only_now: false, order: order(), often: interval < OFTEN });
        let to_next = self.cadence.next.map_or(Duration::MAX, |next| next.since(c.clock.boot()));
        // What is owed is mostly there before half a beat is over.
        if owed { to_next.min(interval / 2) } else { to_next }
    }

    fn auto(&mut self, c: &Commands, config: &Arc<Config>) -> Duration {
        if !self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) {
            self.take_over(c, config);
        }
        if self.entries.is_empty() {
            return Duration::MAX;
        }
        let boot = c.clock.boot();
        let (now, night) = (Now::of(boot, c.clock.wall()), c.gauges.night());
        let last = self.seen.unwrap_or(Seen { time: now.time, boot });
        let seen = last.since(now.time, boot);
        self.seen = Some(last.then(now.time, boot));
        let mut soonest = Duration::MAX;
        for (entry, series) in &mut self.entries {
            let on = entry.is_on(night, now.offset.map(|offset| now.time + offset));
            if !on {
                series.rest();
            }
            let ago = now.due(entry, seen).filter(|_| on).map(|ago| Duration::from_micros(ago.unsigned_abs()));
            let due = ago.map(|ago| if ago <= PROMPT { boot.back(ago) } else { boot });
            let owed = series.look(c, due, || wish(entry));
            let next = now.next(entry).map(|next| Duration::from_micros(next.unsigned_abs()));
            series.told.tell(on, next.map(|next| boot + next));
            let to_next = next.unwrap_or(Duration::MAX);
            soonest = soonest.min(if owed { to_next / 2 } else { to_next });
        }
        soonest
    }

    /// Takes a new list over. An entry that stands in it unchanged goes on with what is going on.
    fn take_over(&mut self, c: &Commands, config: &Arc<Config>) {
        let mut before = std::mem::take(&mut self.entries);
        for (i, entry) in config.auto.iter().enumerate() {
            let known = before.iter().position(|(e, _)| e == entry).map(|at| before.swap_remove(at).1);
            let label = entry.tag.as_ref().map_or_else(|| format!("{OLD} auto[{i}]"), |tag| format!("{OLD} \"{tag}\""));
            self.entries.push((entry.clone(), known.unwrap_or_default().called(label)));
        }
        c.auto.set(self.entries.iter().map(|(entry, series)| (entry.tag.clone(), series.told.clone())).collect());
        if self.entries.is_empty() {
            self.seen = None;
        }
        self.config = Some(config.clone());
    }
}

/// What an entry asks for.
fn wish(entry: &Entry) -> Wish {
    let make = match entry.take {
        Take::Single => Make::Fresh,
        Take::Ring => Make::Newest,
        Take::Stack => Make::Stack(entry.count, entry.mode),
    };
    let night = match entry.when {
        When::Always => None,
        when => Some(when == When::Night),
    };
    let often = !entry.interval_s.is_zero() && entry.interval_s < OFTEN;
    let order = Order { formats: entry.formats.clone(), tag: entry.tag.clone(), night };
    Wish { make, only_now: entry.is_bound(), order, often }
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

    #[test]
    fn a_clock_that_is_set_passes_each_beat_once() {
        const S: i64 = 1_000_000;
        let minute = Entry { interval_s: Duration::from_secs(60), ..Entry::default() };
        // Looks at the wall clock once a second of the boot-time clock (s), and at which of them a picture was due.
        let due = |walls: &[i64]| {
            let mut seen = Seen { time: walls[0] * S, boot: ms(0) };
            let looks = walls.iter().enumerate().skip(1).filter(|(i, wall)| {
                let (boot, time) = (ms(*i as u64 * 1000), **wall * S);
                let due = Now { time, offset: Some(0) }.due(&minute, seen.since(time, boot));
                seen = seen.then(time, boot);
                due.is_some()
            });
            looks.map(|(_, wall)| *wall).collect::<Vec<_>>()
        };
        assert_eq!(due(&[58, 59, 60, 61]), [60]);
        assert_eq!(due(&[50, 51, 80, 81]), [0; 0], "set forward over a beat");
        assert_eq!(due(&[50, 51, 120, 121]), [120], "set forward to a beat");
        assert_eq!(due(&[59, 60, 61, 58, 59, 60, 61, 62]), [60], "set back over a beat");
        assert_eq!(due(&[7200, 7201, 59, 60, 61]), [60], "set back by hours");
    }

    #[test]
    fn beats_of_an_entry_follow_local_time_and_not_the_jumps_of_the_clock() {
        const S: i64 = 1_000_000;
        let minute = Entry { interval_s: Duration::from_secs(60), ..Entry::default() };
        // 2026-11-28 12:00:00 in UTC, and a zone with half an hour.
        let (noon, zone) = ((20_785 * 86_400 + 12 * 3600) * S, 5 * 3600 * S + 1800 * S);
        let at = |s: i64| Now { time: noon + s * S, offset: Some(zone) };
        assert_eq!(
            (at(0).due(&minute, noon - S), at(1).due(&minute, noon - S), at(1).due(&minute, noon)),
            (Some(0), Some(S), None)
        );
        assert_eq!((at(59).next(&minute), at(60).next(&minute)), (Some(S), Some(60 * S)));
        // A clock that is set forward or back takes no picture for it, and the next beat comes.
        let hour = Entry { interval_s: Duration::from_secs(3600), ..Entry::default() };
        assert_eq!((at(1860).due(&hour, noon - 40 * 365 * 86_400 * S), at(1800).due(&hour, noon)), (Some(60 * S), Some(0)));
        assert_eq!((at(1861).due(&hour, 7 * S), at(-3600).due(&hour, noon), at(1799).due(&hour, noon)), (None, None, None));
        // The end of summer time: 02:00 comes twice, an hour apart, and 02:59:59 is behind the first.
        let autumn = |s: i64, zone: i64| Now { time: noon + s * S, offset: Some(zone * 3600 * S - 12 * 3600 * S) };
        assert_eq!((autumn(0, 2).due(&hour, noon - S), autumn(3600, 1).due(&hour, noon + 3599 * S)), (Some(0), Some(0)));
        assert_eq!(autumn(1800, 2).due(&hour, noon + 1799 * S), None);
        // Times of day need a clock, intervals do not.
        let half_past = Entry { at: vec![crate::settings::Word::read("17:30").unwrap()], ..Entry::default() };
        let unset = Now { time: 60 * S, offset: None };
        assert_eq!((at(0).due(&half_past, noon - S), unset.due(&half_past, 0), unset.due(&minute, S)), (Some(0), None, Some(0)));
        assert_eq!((unset.next(&half_past), unset.next(&minute)), (None, Some(60 * S)));
    }
}
