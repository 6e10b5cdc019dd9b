//! Owns when a source counts as lost and what is done about it then. Plain values without a clock of their own, on the
//! capture thread; the capture carries out what they decide.

use std::time::Duration;

use crate::clock::BootUs;
use crate::source::RetryPolicy;

/// No frame for this long means the source is lost: `max(5 s, 3 · frame time + 2 s)`.
pub fn frame_timeout(frame_time: Duration) -> Duration {
    Duration::from_secs(5).max(3 * frame_time + Duration::from_secs(2))
}

/// The longest time a frame may take: by the exposure in force, by the one before while its frames are still on their way,
/// and by what the last frame took itself. A change of exposure must never look like a hang.
pub(super) struct LongestFrameTime {
    pub in_force_us: f64,
    pub before_us: f64,
    /// Since the last change.
    pub frames: u32,
}

impl LongestFrameTime {
    /// Frames from a request to its effect, at most: 11 were measured.
    const WAY: u32 = 16;

    pub fn change(&mut self, us: f64) {
        let before = if self.frames < Self::WAY { self.before_us } else { 0.0 };
        (self.before_us, self.in_force_us, self.frames) = (before.max(self.in_force_us), us, 0);
    }

    pub fn frame_came(&mut self, took_us: f64) {
        self.frames = self.frames.saturating_add(1);
        if self.frames >= Self::WAY {
            self.before_us = took_us;
        }
    }

    pub fn frame(&self) -> Duration {
        Duration::from_micros(self.in_force_us.max(self.before_us) as u64)
    }
}

/// Tells a stream that repeats one picture: its samples never change.
#[derive(Default)]
pub(super) struct FreezeDetector {
    sum: u64,
    since: Option<BootUs>,
}

impl FreezeDetector {
    /// For how long the picture has been the same.
    pub fn sees(&mut self, bins: &[u32; 256], now: BootUs) -> Duration {
        let sum = bins.iter().fold(0u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        if sum != self.sum {
            (self.sum, self.since) = (sum, Some(now));
        }
        now.since(*self.since.get_or_insert(now))
    }
}

/// A failure this long after the last step begins the ladder anew; it includes the silence that shows a failure.
const CALM: Duration = Duration::from_secs(60);
/// A camera of this machine that was never there for so long is the supervisor's matter.
const ABSENT: Duration = Duration::from_secs(30);
/// One that was unplugged is waited for, the ring kept; after that the supervisor starts the program anew.
const UNPLUGGED: Duration = Duration::from_secs(300);
/// What a camera gets between a failure and a restart, and three of them before it is made anew: a bus that is being reset
/// answers at once, and wrongly.
pub(super) const SETTLE: Duration = Duration::from_secs(1);
/// Backoff: pauses between attempts on something far away, from the first on (s).
const BACKOFF_S: [u64; 7] = [1, 2, 4, 8, 15, 30, 60];

#[derive(Debug, PartialEq)]
pub(super) enum RecoveryStep {
    Restart,
    Rebuild,
    RetryAfter(Duration),
    GiveUp,
}

/// ```text
/// failure ─► Restart ─► again within 60 s ─► Rebuild ─► again within 60 s ─► GiveUp        (a camera of this machine)
/// absent, busy or unplugged ─► pause 1 s ─► 2 s ─► 4 s … 8 s until it is back, or GiveUp   (the same, where it does not start)
/// failure ─► pause 1 s ─► 2 s ─► 4 s … 60 s, for ever                                       (a stream)
/// ```
#[derive(Default)]
pub(super) struct RecoveryLadder {
    taken: usize,
    /// Attempts in a row that did not even start.
    away: usize,
    last: Option<BootUs>,
}

impl RecoveryLadder {
    /// `absent`: since when it could not even be started.
    pub fn next(&mut self, now: BootUs, last_frame: BootUs, policy: RetryPolicy, absent: Option<BootUs>) -> RecoveryStep {
        if let (RetryPolicy::RecoveryLadder, Some(since)) = (policy, absent) {
            // Nothing hangs that could be climbed out of: an unplugged webcam, or one that another program holds.
            if now.since(since) > if last_frame == BootUs(0) { ABSENT } else { UNPLUGGED } {
                return RecoveryStep::GiveUp;
            }
            self.away += 1;
            return RecoveryStep::RetryAfter(Duration::from_secs(BACKOFF_S[(self.away - 1).min(3)]));
        }
        self.away = 0;
        let calm = self.last.is_none_or(|t| match policy {
            RetryPolicy::RecoveryLadder => now.since(t) > CALM,
            // A stream that delivered for a while after the last attempt was well again.
            RetryPolicy::Backoff => last_frame.since(t) > CALM / 2,
        });
        if calm {
            self.taken = 0;
        }
        self.taken += 1;
        self.last = Some(now);
        match (policy, self.taken) {
            (RetryPolicy::Backoff, n) => {
                RecoveryStep::RetryAfter(Duration::from_secs(BACKOFF_S[(n - 1).min(BACKOFF_S.len() - 1)]))
            }
            (RetryPolicy::RecoveryLadder, 1) => RecoveryStep::Restart,
            (RetryPolicy::RecoveryLadder, 2) => RecoveryStep::Rebuild,
            (RetryPolicy::RecoveryLadder, _) => RecoveryStep::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(t: u64) -> BootUs {
        BootUs(t * 1_000_000)
    }

    #[test]
    fn the_ladder_is_climbed_only_by_failures_close_together() {
        let mut l = RecoveryLadder::default();
        assert_eq!(l.next(s(100), s(95), RetryPolicy::RecoveryLadder, None), RecoveryStep::Restart);
        assert_eq!(l.next(s(106), s(95), RetryPolicy::RecoveryLadder, None), RecoveryStep::Rebuild);
        assert_eq!(l.next(s(200), s(195), RetryPolicy::RecoveryLadder, None), RecoveryStep::Restart);
        assert_eq!(l.next(s(206), s(195), RetryPolicy::RecoveryLadder, None), RecoveryStep::Rebuild);
        assert_eq!(l.next(s(212), s(195), RetryPolicy::RecoveryLadder, None), RecoveryStep::GiveUp);
    }

    #[test]
    fn a_stream_is_asked_again_for_ever_with_growing_pauses() {
        let mut l = RecoveryLadder::default();
        let mut pause = |t, frame| match l.next(s(t), s(frame), RetryPolicy::Backoff, None) {
            RecoveryStep::RetryAfter(p) => p.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([pause(10, 0), pause(12, 0), pause(15, 0)], [1, 2, 4]);
        assert_eq!((0..20).map(|i| pause(100 + i, 0)).last(), Some(60));
        assert_eq!(pause(1000, 990), 1);
    }

    #[test]
    fn an_absent_camera_is_waited_for_and_an_unplugged_one_longer() {
        let mut l = RecoveryLadder::default();
        assert_eq!(l.next(s(100), s(99), RetryPolicy::RecoveryLadder, None), RecoveryStep::Restart);
        let mut again = |t| l.next(s(t), s(99), RetryPolicy::RecoveryLadder, Some(s(100)));
        let pause = |n| RecoveryStep::RetryAfter(Duration::from_secs(n));
        assert_eq!([again(100), again(101), again(103), again(107), again(115)], [1, 2, 4, 8, 8].map(pause));
        assert_eq!([again(131), again(399), again(401)], [pause(8), pause(8), RecoveryStep::GiveUp]);
        assert_eq!(
            RecoveryLadder::default().next(s(131), BootUs(0), RetryPolicy::RecoveryLadder, Some(s(100))),
            RecoveryStep::GiveUp
        );
        // It came back and failed again: that is a failure like any other.
        assert_eq!(l.next(s(140), s(139), RetryPolicy::RecoveryLadder, None), RecoveryStep::Rebuild);
    }

    #[test]
    fn no_change_of_exposure_shortens_the_wait_for_frames_on_their_way() {
        let mut l = LongestFrameTime { in_force_us: 1e5, before_us: 1e5, frames: 0 };
        l.change(3e6);
        l.change(2e5);
        l.change(1e5);
        assert_eq!(l.frame(), Duration::from_secs(3));
        for _ in 0..15 {
            l.frame_came(3e6);
        }
        assert_eq!(l.frame(), Duration::from_secs(3));
        l.frame_came(1e5);
        assert_eq!(l.frame(), Duration::from_millis(100));
        l.frame_came(5e5);
        assert_eq!(l.frame(), Duration::from_millis(500), "auto-exposure may go its own way");
    }

    #[test]
    fn frame_timeout_grows_with_the_exposure() {
        assert_eq!(frame_timeout(Duration::from_millis(100)), Duration::from_secs(5));
        assert_eq!(frame_timeout(Duration::from_secs(2)), Duration::from_secs(8));
    }

    #[test]
    fn one_picture_again_and_again_is_noticed() {
        let (mut f, mut bins) = (FreezeDetector::default(), [0; 256]);
        assert_eq!(f.sees(&bins, s(1)), Duration::ZERO);
        assert_eq!(f.sees(&bins, s(31)), Duration::from_secs(30));
        bins[3] = 1;
        assert_eq!(f.sees(&bins, s(32)), Duration::ZERO);
    }
}
