//! Owns how old a file may be taken to be: by the wall clock where that is confirmed, otherwise by the time that has passed for
//! certain. So a clock that is wrong or was set deletes nothing. Never deletes, reads no folder. The thread `retention`.

use std::time::Duration;

use crate::clock::{BootUs, Clock, Quality, Steps, WallUs};

/// How long a clock that was set must run on before a time daemon's word counts again.
const SETTLED: Duration = Duration::from_secs(3600);
/// A clock that is ahead of what is certain by more is doubted aloud.
const DOUBT: Duration = Duration::from_secs(3600);

/// What is known of the time, once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    wall: WallUs,
    /// The wall-clock time that has been reached for certain.
    certain: WallUs,
    /// Since the start, or since the clock was set.
    ran: Duration,
}

/// From `earlier` to `now`, zero where that is in the future.
fn between(earlier: WallUs, now: WallUs) -> Duration {
    Duration::from_micros(now.0.saturating_sub(earlier.0).max(0) as u64)
}

impl Present {
    /// The clock is right.
    #[cfg(test)]
    pub fn confirmed(wall: WallUs) -> Present {
        Present { wall, certain: wall, ran: Duration::MAX }
    }

    /// The wall-clock time that has been reached for certain.
    pub fn certain(&self) -> WallUs {
        self.certain
    }

    /// The age of a file that was written then, as far as it is certain.
    pub fn age(&self, written: WallUs) -> Duration {
        // A file written before the clock was set has no age, nor has any file while the clock is not set.
        if !written.is_set() || !self.wall.is_set() {
            return Duration::ZERO;
        }
        // What was there at the start, or when the clock was set, is at least as old as that; the rest was written by this clock.
        between(written, self.certain).max(between(written, self.wall).min(self.ran))
    }
}

/// The clocks, watched since the start of the program.
#[derive(Debug, Clone)]
pub(super) struct Ages {
    /// Both clocks at the start, or when the clock was first set.
    start: (BootUs, WallUs),
    /// When the wall clock was last set, and by how much (s); the first setting since boot is none.
    stepped: Option<(BootUs, f64)>,
    /// Since when the wall clock has run without being set.
    runs: BootUs,
    steps: Steps,
    /// What the wall clock less the boot-time clock is at least (µs); `None` while nothing is known.
    known: Option<i64>,
    /// That comes from a run whose clock was doubted, so files say nothing.
    recalled: bool,
}

impl Ages {
    /// From now on.
    pub fn watch(clock: &dyn Clock) -> Ages {
        let (boot, wall, mut steps) = (clock.boot(), clock.wall(), Steps::default());
        let _ = steps.look(boot, wall);
        Ages { start: (boot, wall), stepped: None, runs: boot, steps, known: None, recalled: false }
    }

    /// Another folder: what files say of the time is forgotten, what the clocks say is not.
    pub fn elsewhere(&self) -> Ages {
        Ages { known: None, recalled: false, ..self.clone() }
    }

    /// Since when files that were there are witnesses.
    pub fn start(&self) -> BootUs {
        self.start.0
    }

    /// The folder was changed at this time, by the clock of that time. What this run wrote itself proves nothing.
    pub fn witness(&mut self, changed: WallUs) {
        let (boot, wall) = self.start;
        if changed.is_set() && changed <= wall && !self.recalled {
            let least = changed.0 - boot.0 as i64;
            self.known = Some(self.known.map_or(least, |known| known.max(least)));
        }
    }

    /// A run whose clock was doubted left this as certain: the files it wrote then prove nothing, not even to this run.
    pub fn recall(&mut self, certain: WallUs) {
        (self.known, self.recalled) = (Some(certain.0 - self.start.0.0 as i64), true);
    }

    /// Looks at the clocks. `longest`: the largest age that is allowed; a clock that has run for so long without being set is
    /// believed, because everything older was there when it began to. The second value says why the clock is doubted, if it is.
    pub fn look(&mut self, clock: &dyn Clock, longest: Duration) -> (Present, Option<String>) {
        let (boot, wall, quality) = (clock.boot(), clock.wall(), clock.quality());
        let offset = wall.0 - boot.0 as i64;
        if let Some(by) = self.steps.look(boot, wall) {
            self.runs = boot;
            if WallUs(wall.0 - by).is_set() {
                self.stepped = Some((boot, by as f64 / 1e6));
            } else {
                // Until now nothing was known of the time: what is in the folder is to be looked at again.
                (self.start, self.known) = ((boot, wall), self.known.filter(|_| self.recalled));
            }
        }
        let ran = boot.since(self.runs);
        let settled = self.stepped.is_none_or(|(at, _)| boot.since(at) >= SETTLED);
        if (quality == Quality::Synced && settled) || (ran >= longest && wall.is_set()) {
            (self.known, self.stepped, self.recalled) = (Some(offset), None, false);
        }
        let certain = WallUs(self.known.map_or(0, |known| (known + boot.0 as i64).min(wall.0)));
        let ahead = between(certain, wall);
        let why = match self.stepped {
            _ if !wall.is_set() => Some("the clock is not set".to_string()),
            Some((_, by)) => Some(format!("the clock was set by {by:+.3} s")),
            None if self.known.is_some() && ahead > DOUBT => {
                let ahead = ahead.as_secs();
                Some(format!("the clock is {ahead} s ahead of the newest picture, and no time server confirms it"))
            }
            None => None,
        };
        (Present { wall, certain, ran }, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;

    const T: WallUs = WallUs(1_800_000_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);
    const YEAR_S: i64 = 365 * 86_400;

    fn ago(s: i64) -> WallUs {
        WallUs(T.0 - s * 1_000_000)
    }

    fn later(s: i64) -> WallUs {
        ago(-s)
    }

    /// The folder was last changed ten minutes before the program started, by a clock that is now wrong by `wrong` seconds.
    fn started(wrong: i64) -> (FakeClock, Ages) {
        let clock = FakeClock::at(BootUs(5_000_000), later(wrong));
        let mut ages = Ages::watch(&clock);
        ages.witness(ago(600));
        (clock, ages)
    }

    #[test]
    fn a_clock_that_goes_on_where_it_was_is_believed() {
        let (clock, mut ages) = started(0);
        let (now, why) = ages.look(&clock, DAY);
        assert_eq!((now.age(ago(7200)), now.age(later(60)), why), (Duration::from_secs(6600), Duration::ZERO, None));
    }

    #[test]
    fn a_clock_that_is_ahead_at_the_start_makes_nothing_old() {
        let (clock, mut ages) = started(10 * YEAR_S);
        // What this run writes proves nothing of the years before it.
        ages.witness(later(10 * YEAR_S + 1));
        let (now, why) = ages.look(&clock, DAY);
        assert_eq!(now.age(ago(7200)), Duration::from_secs(6600));
        assert!(why.unwrap().starts_with("the clock is 315360600 s ahead of the newest picture"));
        clock.advance(Duration::from_secs(3600));
        let (now, _) = ages.look(&clock, DAY);
        assert_eq!(now.age(ago(7200)), Duration::from_secs(6600 + 3600), "the time of this run counts");
        assert_eq!(now.age(later(10 * YEAR_S + 60)), Duration::from_secs(3540), "and so do the files of this run");
        // After the longest allowed age all that is older may go in any case.
        clock.advance(DAY);
        let (now, why) = ages.look(&clock, DAY);
        assert!(
            now.age(ago(600)) >= DAY && now.age(later(10 * YEAR_S + 90_000 - 60)) == Duration::from_secs(60) && why.is_none()
        );
    }

    #[test]
    fn a_run_with_a_wrong_clock_leaves_no_proof_to_the_next() {
        let (clock, mut ages) = started(10 * YEAR_S);
        clock.advance(Duration::from_secs(1800));
        let certain = ages.look(&clock, DAY).0.certain();
        let mut next = Ages::watch(&clock);
        next.recall(certain);
        next.witness(later(10 * YEAR_S + 600));
        let (now, why) = next.look(&clock, DAY);
        assert_eq!(now.age(ago(7200)), Duration::from_secs(6600 + 1800));
        assert!(why.is_some());
    }

    #[test]
    fn a_clock_that_is_set_is_doubted_until_a_daemon_has_confirmed_it_for_an_hour() {
        let (clock, mut ages) = started(0);
        clock.advance(DAY * 2);
        assert!(ages.look(&clock, DAY).1.is_none());
        clock.step_wall(YEAR_S * 1_000_000);
        clock.synced(true);
        let new = later(2 * 86_400 - 60);
        let (now, why) = ages.look(&clock, DAY);
        assert_eq!((now.age(new), why.as_deref()), (Duration::from_secs(60), Some("the clock was set by +31536000.000 s")));
        clock.advance(Duration::from_secs(3599));
        assert_eq!(ages.look(&clock, DAY).0.age(new), Duration::from_secs(3659));
        clock.advance(Duration::from_secs(1));
        let (now, why) = ages.look(&clock, DAY);
        assert!(why.is_none() && now.age(new) > DAY * 300, "confirmed: the clock is right and was a year behind before");
    }

    #[test]
    fn a_clock_that_is_set_back_and_forth_makes_nothing_old() {
        let (clock, mut ages) = started(0);
        for by in [-YEAR_S, 2 * YEAR_S, -YEAR_S] {
            clock.step_wall(by * 1_000_000);
            let (now, why) = ages.look(&clock, DAY);
            assert!(now.age(ago(700)) <= Duration::from_secs(100) && why.is_some(), "{by}");
        }
    }

    #[test]
    fn the_first_setting_since_boot_needs_no_hour() {
        let clock = FakeClock::at(BootUs(5_000_000), WallUs(5_000_000));
        let mut ages = Ages::watch(&clock);
        let (now, why) = ages.look(&clock, DAY);
        assert_eq!((now.age(ago(7200)), why.as_deref()), (Duration::ZERO, Some("the clock is not set")));
        clock.advance(Duration::from_secs(1));
        clock.step_wall(T.0 - 6_000_000);
        assert_eq!(ages.look(&clock, DAY).0.age(ago(YEAR_S)), Duration::ZERO, "set by whom?");
        assert_eq!(ages.start(), BootUs(6_000_000));
        ages.witness(ago(7200));
        let (now, why) = ages.look(&clock, DAY);
        assert_eq!((now.age(ago(10_800)), why.is_some()), (Duration::from_secs(3600), true));
        clock.synced(true);
        let (now, why) = ages.look(&clock, DAY);
        assert_eq!((now.age(ago(YEAR_S)).as_secs() as i64, why), (YEAR_S, None));
    }

    #[test]
    fn slewing_is_no_step() {
        let (clock, mut ages) = started(0);
        for _ in 0..100 {
            clock.advance(Duration::from_secs(60));
            clock.step_wall(30_000);
            assert!(ages.look(&clock, DAY).1.is_none());
        }
    }
}
