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
/// Two connections to something far away begin no closer together than this, however well they did.
const APART: Duration = Duration::from_secs(1);
/// Pauses after a refusal, from the first on (s). Cameras lock an account after 5 to 7 wrong logins in half an hour; the sixth
/// attempt here is an hour after the first.
const REFUSED_S: [u64; 3] = [120, 300, 1200];
/// The first pause where this login has already worked (s): the camera had a bad moment, or its password was changed.
const REFUSED_ONCE_S: u64 = 10;

#[derive(Debug, PartialEq)]
pub(super) enum RecoveryStep {
    Restart,
    Rebuild,
    RetryAfter(Duration),
    GiveUp,
}

/// One attempt on a source, from its start to its failure.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attempt {
    /// When it began.
    pub begun: BootUs,
    /// The time from its first frame to its last; `None` where none came.
    pub delivered: Option<Duration>,
    /// The other side said no; it is there.
    pub refused: bool,
    /// Since when the source could not even be started.
    pub absent: Option<BootUs>,
}

/// ```text
/// failure ─► Restart ─► again within 60 s ─► Rebuild ─► again within 60 s ─► GiveUp        (a camera of this machine)
/// absent, busy or unplugged ─► pause 1 s ─► 2 s ─► 4 s … 8 s until it is back, or GiveUp   (the same, where it does not start)
/// frames, then a failure ─► at once, one attempt a second at most                          (a stream)
/// no frame ─► pause 1 s ─► 2 s ─► 4 s … 60 s, for ever, never longer than the last frames came for (a stream)
/// refused ─► pause 2 min ─► 5 min ─► 20 min, for ever                                      (a stream)
/// ```
#[derive(Default)]
pub(super) struct RecoveryLadder {
    taken: usize,
    /// Attempts in a row that did not even start.
    away: usize,
    /// Refusals since frames came: an outage between two of them opens no lock.
    refused: usize,
    last: Option<BootUs>,
    /// For how long frames came the last time that any came: the longest pause.
    stretch: Option<Duration>,
}

impl RecoveryLadder {
    pub fn next(&mut self, now: BootUs, attempt: Attempt, policy: RetryPolicy) -> RecoveryStep {
        match policy {
            RetryPolicy::RecoveryLadder => self.climb(now, attempt),
            RetryPolicy::Backoff => RecoveryStep::RetryAfter(self.back_off(now, attempt)),
        }
    }

    fn climb(&mut self, now: BootUs, attempt: Attempt) -> RecoveryStep {
        if attempt.delivered.is_some() {
            self.stretch = attempt.delivered;
        }
        if let Some(since) = attempt.absent {
            // Nothing hangs that could be climbed out of: an unplugged webcam, or one that another program holds.
            if now.since(since) > if self.stretch.is_none() { ABSENT } else { UNPLUGGED } {
                return RecoveryStep::GiveUp;
            }
            self.away += 1;
            return RecoveryStep::RetryAfter(Duration::from_secs(BACKOFF_S[(self.away - 1).min(3)]));
        }
        self.away = 0;
        if self.last.is_none_or(|t| now.since(t) > CALM) {
            self.taken = 0;
        }
        self.taken += 1;
        self.last = Some(now);
        match self.taken {
            1 => RecoveryStep::Restart,
            2 => RecoveryStep::Rebuild,
            _ => RecoveryStep::GiveUp,
        }
    }

    fn back_off(&mut self, now: BootUs, attempt: Attempt) -> Duration {
        let nth = |pauses: &[u64], n: usize| Duration::from_secs(pauses[n.min(pauses.len() - 1)]);
        if attempt.delivered.is_some() {
            (self.taken, self.refused) = (0, 0);
            self.stretch = attempt.delivered;
        }
        if attempt.refused {
            let pause = match (self.refused, self.stretch) {
                (0, Some(_)) => Duration::from_secs(REFUSED_ONCE_S),
                (n, proven) => nth(&REFUSED_S, n - usize::from(proven.is_some())),
            };
            self.refused += 1;
            return pause;
        }
        if attempt.delivered.is_some() {
            return APART.saturating_sub(now.since(attempt.begun));
        }
        let longest = self.stretch.map_or(Duration::MAX, |s| s.max(APART));
        self.taken += 1;
        nth(&BACKOFF_S, self.taken - 1).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(t: u64) -> BootUs {
        BootUs(t * 1_000_000)
    }

    /// A camera of this machine that delivered; since when it is absent.
    fn climb(l: &mut RecoveryLadder, now: u64, delivered: bool, absent: Option<u64>) -> RecoveryStep {
        let attempt = Attempt { delivered: delivered.then_some(Duration::ZERO), absent: absent.map(s), ..Attempt::default() };
        l.next(s(now), attempt, RetryPolicy::RecoveryLadder)
    }

    #[test]
    fn the_ladder_is_climbed_only_by_failures_close_together() {
        let mut l = RecoveryLadder::default();
        let mut step = |t| climb(&mut l, t, true, None);
        assert_eq!([step(100), step(106), step(200)], [RecoveryStep::Restart, RecoveryStep::Rebuild, RecoveryStep::Restart]);
        assert_eq!([step(206), step(212)], [RecoveryStep::Rebuild, RecoveryStep::GiveUp]);
    }

    /// The pause (s) after an attempt that began at `begun` and failed at `now` after so many seconds of frames.
    fn pause(l: &mut RecoveryLadder, begun: u64, now: u64, delivered: Option<u64>, refused: bool) -> u64 {
        let delivered = delivered.map(Duration::from_secs);
        match l.next(s(now), Attempt { begun: s(begun), delivered, refused, absent: None }, RetryPolicy::Backoff) {
            RecoveryStep::RetryAfter(p) => p.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stream_is_asked_again_for_ever_with_growing_pauses() {
        let mut l = RecoveryLadder::default();
        let pauses: Vec<u64> = (0..9).map(|t| pause(&mut l, t, t, None, false)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 15, 30, 60, 60, 60]);
    }

    #[test]
    fn no_pause_is_longer_than_what_came_before_it() {
        let mut l = RecoveryLadder::default();
        assert_eq!(pause(&mut l, 0, 15, Some(15), false), 0, "at once after good delivery");
        let away: Vec<u64> = (0..7).map(|t| pause(&mut l, t, t, None, false)).collect();
        assert_eq!(away, [1, 2, 4, 8, 15, 15, 15]);
        assert_eq!(pause(&mut l, 50, 55, Some(5), false), 0);
        assert_eq!([0; 5].map(|_| pause(&mut l, 60, 60, None, false)), [1, 2, 4, 5, 5]);
        // One frame and away, again and again: an attempt a second.
        assert_eq!([0; 3].map(|_| pause(&mut l, 70, 70, Some(0), false)), [1, 1, 1]);
    }

    #[test]
    fn a_refusal_is_asked_again_seldom() {
        let mut l = RecoveryLadder::default();
        assert_eq!([0; 5].map(|_| pause(&mut l, 0, 0, None, true)), [120, 300, 1200, 1200, 1200]);
        assert_eq!(pause(&mut l, 0, 0, None, false), 1, "an outage after that is one");
        assert_eq!(pause(&mut l, 0, 0, None, true), 1200, "and the refusals count on");
        assert_eq!(pause(&mut l, 0, 9, Some(9), false), 0);
        assert_eq!([0; 3].map(|_| pause(&mut l, 10, 10, None, true)), [10, 120, 300], "the login is known to be right");
    }

    #[test]
    fn an_absent_camera_is_waited_for_and_an_unplugged_one_longer() {
        let mut l = RecoveryLadder::default();
        assert_eq!(climb(&mut l, 100, true, None), RecoveryStep::Restart);
        let mut again = |t| climb(&mut l, t, false, Some(100));
        let pause = |n| RecoveryStep::RetryAfter(Duration::from_secs(n));
        assert_eq!([again(100), again(101), again(103), again(107), again(115)], [1, 2, 4, 8, 8].map(pause));
        assert_eq!([again(131), again(399), again(401)], [pause(8), pause(8), RecoveryStep::GiveUp]);
        assert_eq!(climb(&mut RecoveryLadder::default(), 131, false, Some(100)), RecoveryStep::GiveUp);
        // It came back and failed again: that is a failure like any other.
        assert_eq!(climb(&mut l, 140, true, None), RecoveryStep::Rebuild);
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
