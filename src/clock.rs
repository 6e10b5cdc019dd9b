//! Owns time: the boot-time clock that every age and interval is counted on, the wall clock that only names and
//! answers show, and how far the wall clock can be trusted. Never sleeps. Any thread.

use std::ops::{Add, Sub};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Microseconds since boot, suspend included (`CLOCK_BOOTTIME`). No clock adjustment moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootUs(pub u64);

impl BootUs {
    /// Time since `earlier`, zero when `earlier` is in fact later.
    pub fn since(self, earlier: BootUs) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
    /// This instant moved back; stops at boot.
    #[must_use]
    pub fn back(self, by: Duration) -> BootUs {
        BootUs(self.0.saturating_sub(by.as_micros() as u64))
    }
    /// Seconds since boot.
    pub fn secs(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add<Duration> for BootUs {
    type Output = BootUs;
    fn add(self, by: Duration) -> BootUs {
        BootUs(self.0.saturating_add(by.as_micros() as u64))
    }
}

impl Sub<BootUs> for BootUs {
    type Output = i64;
    /// Signed distance (µs).
    fn sub(self, other: BootUs) -> i64 {
        self.0 as i64 - other.0 as i64
    }
}

/// Microseconds of the wall clock since 1970-01-01 UTC. Steps whenever NTP or a person says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallUs(pub i64);

/// 2025-01-01 UTC (µs): before the first release of this program, so a wall clock behind it was never set.
const NEVER_SET_BEFORE: i64 = 1_735_689_600_000_000;

impl WallUs {
    /// False when the clock still stands where a board without a battery starts (1970 or the image's date).
    pub fn is_set(self) -> bool {
        self.0 >= NEVER_SET_BEFORE
    }
    /// Seconds since 1970, to the millisecond and cut there, as names and EXIF are: all three show one instant.
    pub fn secs(self) -> f64 {
        self.0.div_euclid(1000) as f64 / 1e3
    }
}

/// How far the wall clock can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Never set since boot.
    Unset,
    /// Set, but nobody says it follows a time server.
    Free,
    /// A time daemon says it is synchronised.
    Synced,
}

impl Quality {
    /// The word shown in `status`.
    pub fn word(self) -> &'static str {
        match self {
            Quality::Unset => "unset",
            Quality::Free => "free",
            Quality::Synced => "synced",
        }
    }
}

/// Files by which time daemons tell that the clock is synchronised: systemd-timesyncd, then the images of this project.
const SYNCED_MARKS: [&str; 2] = ["/run/systemd/timesync/synchronized", "/run/pastcam/clock-synced"];

/// The images' mark for a clock that was only put where it last stood before the start: nobody has set it since.
const SAVED_MARK: &str = "/run/pastcam/clock-saved";

/// Whether the wall clock is only a remembered one.
static REMEMBERED: AtomicBool = AtomicBool::new(false);

/// Looks whether the wall clock is only a remembered one; until it is set, it then counts as never set. Reads `/run`: not for the
/// frame path.
pub fn look() {
    let there = |f: &str| Path::new(f).exists();
    REMEMBERED.store(there(SAVED_MARK) && !SYNCED_MARKS.iter().any(|f| there(f)), Ordering::Relaxed);
}

/// Both clocks. `now` pairs them as closely as two calls allow.
pub trait Clock: Send + Sync {
    /// The boot-time clock.
    fn boot(&self) -> BootUs;
    /// The wall clock.
    fn wall(&self) -> WallUs;
    /// Trust in the wall clock. May touch `/run`; not for the frame path.
    fn quality(&self) -> Quality {
        if !self.wall().is_set() {
            Quality::Unset
        } else if SYNCED_MARKS.iter().any(|f| Path::new(f).exists()) {
            Quality::Synced
        } else {
            Quality::Free
        }
    }
}

/// A wall clock that moves by more against the boot-time clock was set.
const STEP: Duration = Duration::from_millis(500);

/// The wall clock less the boot-time clock, watched for settings of the wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps(Option<(i64, BootUs)>);

impl Steps {
    /// By how much the wall clock was set since the last look (µs), if it was. The first look compares with nothing; slewing, 500 ppm
    /// at most, is no setting.
    pub fn look(&mut self, boot: BootUs, wall: WallUs) -> Option<i64> {
        let offset = wall.0 - boot.0 as i64;
        let (before, at) = self.0.replace((offset, boot))?;
        let by = offset - before;
        (Duration::from_micros(by.unsigned_abs()) > STEP + boot.since(at) / 1000).then_some(by)
    }
}

/// The clocks of the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[allow(clippy::useless_conversion, reason = "the parts of a time are 32 bits wide on a 32-bit board")]
fn read(id: ClockId) -> i64 {
    // The three clocks used here exist on every Linux since 2.6.39, so the call cannot fail.
    let t = clock_gettime(id).expect("the kernel knows this clock");
    i64::from(t.tv_sec()) * 1_000_000 + i64::from(t.tv_nsec()) / 1000
}

impl Clock for SystemClock {
    fn boot(&self) -> BootUs {
        BootUs(read(ClockId::CLOCK_BOOTTIME) as u64)
    }
    fn wall(&self) -> WallUs {
        if REMEMBERED.load(Ordering::Relaxed) {
            // As a board starts that remembers nothing: in 1970.
            return WallUs(read(ClockId::CLOCK_BOOTTIME));
        }
        WallUs(read(ClockId::CLOCK_REALTIME))
    }
}

/// The kernel's monotonic clock (µs), for sources that stamp frames with it (`GStreamer`, V4L2).
pub fn monotonic_us() -> u64 {
    read(ClockId::CLOCK_MONOTONIC) as u64
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct FakeClock(Mutex<(BootUs, WallUs)>, AtomicBool);

impl FakeClock {
    /// Starts at these two instants.
    pub fn at(boot: BootUs, wall: WallUs) -> Self {
        FakeClock(Mutex::new((boot, wall)), AtomicBool::new(false))
    }
    /// What a time daemon says from now on.
    pub fn synced(&self, synced: bool) {
        self.1.store(synced, Ordering::Relaxed);
    }
    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = (now.0 + by, WallUs(now.1.0 + by.as_micros() as i64));
    }
    /// Steps only the wall clock, as NTP does.
    pub fn step_wall(&self, by_us: i64) {
        self.0.lock().unwrap().1.0 += by_us;
    }
}

impl Clock for FakeClock {
    fn boot(&self) -> BootUs {
        self.0.lock().unwrap().0
    }
    fn wall(&self) -> WallUs {
        self.0.lock().unwrap().1
    }
    fn quality(&self) -> Quality {
        match self.1.load(Ordering::Relaxed) {
            _ if !self.wall().is_set() => Quality::Unset,
            true => Quality::Synced,
            false => Quality::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_step_leaves_the_boot_clock_alone() {
        let c = FakeClock::at(BootUs(10), WallUs(1_800_000_000_000_000));
        c.advance(Duration::from_secs(1));
        c.step_wall(-1_700_000_000_000_000);
        assert_eq!(c.boot(), BootUs(1_000_010));
        assert_eq!(c.quality(), Quality::Unset);
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_is_slewed_is_not() {
        let (mut boot, mut wall, mut steps) = (7, 1_000_000, Steps::default());
        let mut after = |ran: u64, by: i64| {
            (boot, wall) = (boot + ran, wall + ran as i64 + by);
            steps.look(BootUs(boot), WallUs(wall))
        };
        assert_eq!(after(0, 0), None, "the first look compares with nothing");
        assert_eq!(after(1_000_000, 500), None);
        assert_eq!(after(1_000_000, 3_600_000_000), Some(3_600_000_000));
        assert_eq!(after(1_000_000, 0), None);
        assert_eq!(after(3_600_000_000, 1_800_000), None, "an hour of slewing");
        assert_eq!(after(0, -3_600_000_000), Some(-3_600_000_000));
    }

    #[test]
    fn an_instant_is_cut_to_the_millisecond_as_names_and_exif_are() {
        assert_eq!(format!("{:.3}", WallUs(1_800_000_000_999_900).secs()), "1800000000.999");
    }

    #[test]
    fn the_kernel_clocks_run() {
        let a = SystemClock.boot();
        assert!(SystemClock.boot() >= a && SystemClock.wall().is_set());
    }
}
