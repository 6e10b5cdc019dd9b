//! Owns the exposures of night mode: a ladder of halvings from the configured ceiling down to the exposure of day mode,
//! which rung a picture asks for, and whether the driver has followed. Never decides between day and night. Pure.

use std::time::Duration;

use super::level::{Light, inverse};
use super::{Command, Settings};
use crate::clock::BootUs;
use crate::frame::Exposure;

/// Linear mean a night exposure aims for: mid grey.
const GREY: f64 = 0.18;
/// How near the metadata must be to what was asked, as a ratio. Drivers round to whole lines and gain codes.
const NEAR: f64 = 0.10;
/// Two frames of a steady exposure differ by less.
const STEADY: f64 = 0.02;
/// Frames after which a steady but different exposure is the driver's limit. The longest way of a control that was measured
/// is 11 frames.
const PATIENCE: u32 = 16;
/// Steady frames that prove such a limit.
const PROOF: u32 = 4;
/// Frames after which an exposure that neither arrives nor rests is taken as it is: each frame tells its own, so the level is
/// right, and a rule that waits for ever would never see the morning.
const ENOUGH: u32 = 64;

/// The rungs: rung 0 is the ceiling, each next one half the light, the last is day mode's full exposure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ExposureLadder {
    /// Longest exposure time (µs).
    pub time_us: f64,
    /// Gain, the same on every rung.
    pub gain: f64,
    /// Day mode's full exposure `E_day` (s).
    pub e_day: f64,
}

impl ExposureLadder {
    /// The ceiling `E_max` (s).
    pub fn e_max(self) -> f64 {
        self.time_us / 1e6 * self.gain
    }
    /// The last rung.
    pub fn last(self) -> u32 {
        (self.e_max() / self.e_day).log2().ceil().max(0.0) as u32
    }
    /// `E` of a rung (s). Never above the ceiling, even when that is below day mode's own exposure.
    pub fn e(self, rung: u32) -> f64 {
        (self.e_max() / 2_f64.powi(rung as i32)).max(self.e_day).min(self.e_max())
    }
    /// The rung on which a scene of this day score is grey.
    pub fn entry(self, level: f64) -> u32 {
        let grey = GREY * self.e_day / inverse(level); // infinite for a black scene: then the log is −∞ and the rung 0
        ((self.e_max() / grey).log2().floor().max(0.0) as u32).min(self.last())
    }
    /// What to ask of the camera for a rung.
    pub fn command(self, rung: u32) -> Command {
        Command::Night { exposure_us: (self.e(rung) / self.gain * 1e6).round() as u64, gain: self.gain }
    }
}

/// What the driver has been seen to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Limits {
    /// Longest exposure time it gave when asked for more (µs).
    time_us: Option<f64>,
    /// Largest gain it gave when asked for more.
    gain: Option<f64>,
}

impl Limits {
    /// The ladder under these limits.
    pub fn ladder(self, s: &Settings, e_day: f64) -> ExposureLadder {
        let asked = s.exposure_us.min(s.max_exposure_us.unwrap_or(u64::MAX)).max(1) as f64;
        ExposureLadder { time_us: self.time_us.unwrap_or(asked).min(asked), gain: self.gain.unwrap_or(s.gain).min(s.gain), e_day }
    }
    /// Notes where `got` stayed short of `asked`. Time and gain apart: a limit on one must not shrink the other.
    pub fn learn(&mut self, asked: Exposure, got: Exposure) -> bool {
        let before = *self;
        if got.time_us < asked.time_us * (1.0 - NEAR) {
            self.time_us = Some(got.time_us);
        }
        if got.gain() < asked.gain() * (1.0 - NEAR) {
            self.gain = Some(got.gain());
        }
        *self != before
    }
}

/// Whether frames already show the exposure that was asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settling {
    asked: Exposure,
    frames: u32,
    near: u32,
    steady: u32,
    last: f64,
}

/// The answer of [`Settling`] for one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Settled {
    /// Drop this frame.
    NotYet,
    /// This frame counts.
    Yes,
    /// This frame counts, and the driver will not give what was asked: `asked`, `got`.
    Short(Exposure, Exposure),
}

impl Settling {
    /// Waits for this command's exposure.
    pub fn on(exposure_us: u64, gain: f64) -> Self {
        let asked = Exposure { time_us: exposure_us as f64, analogue_gain: gain, digital_gain: 1.0 };
        Settling { asked, frames: 0, near: 0, steady: 0, last: 0.0 }
    }
    /// Takes the next frame's own exposure. `more`: near frames to drop as well, the tone statistics lag by that many.
    pub fn frame(&mut self, got: Exposure, more: u32) -> Settled {
        let (e, asked) = (got.e(), self.asked.e());
        self.frames += 1;
        self.near = if (e - asked).abs() <= NEAR * asked { self.near + 1 } else { 0 };
        self.steady = if (e - self.last).abs() <= STEADY * e { self.steady + 1 } else { 1 };
        self.last = e;
        if self.near > more || self.frames >= ENOUGH {
            Settled::Yes
        } else if self.near == 0 && self.frames >= PATIENCE && self.steady >= PROOF {
            Settled::Short(self.asked, got)
        } else {
            Settled::NotYet
        }
    }
}

/// A wish for another rung that must last before it is granted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Wish {
    /// Direction, first frame, frames so far.
    held: Option<(bool, BootUs, u32)>,
}

impl Wish {
    /// Frames a wish must last.
    const FRAMES: u32 = 2;
    /// And the time.
    const HOLD: Duration = Duration::from_secs(4);
    /// Time when all is white: nothing can be told from such frames.
    const HOLD_WHITE: Duration = Duration::from_secs(2);

    /// The rung to move to now, if any. `exit` is the level that ends the night.
    pub fn frame(&mut self, now: BootUs, ladder: ExposureLadder, rung: u32, light: &Light, exit: f64) -> Option<u32> {
        let wanted = wanted(ladder.last(), rung, light, exit);
        if wanted == rung {
            self.held = None;
            return None;
        }
        let darker = wanted > rung;
        let (since, frames) = match self.held {
            Some((was, since, frames)) if was == darker => (since, frames + 1),
            _ => (now, 1),
        };
        self.held = Some((darker, since, frames));
        let hold = if light.clipped >= 0.9 { Self::HOLD_WHITE } else { Self::HOLD };
        (frames >= Self::FRAMES && now.since(since) >= hold).then_some(wanted)
    }
}

/// The rung this picture asks for.
fn wanted(last: u32, rung: u32, l: &Light, exit: f64) -> u32 {
    // The decision hides behind clipping: the level could be on either side of the threshold.
    let hides = |clipped: f64, upper: f64| clipped >= 0.01 && l.level <= exit && exit < upper;
    if l.clipped >= 0.9 {
        last
    } else if l.clipped >= 0.6 {
        (rung + 2).min(last)
    } else if l.clipped >= 0.25 || l.mean >= 170.0 || hides(l.clipped, l.upper) {
        (rung + 1).min(last)
    } else if l.mean < 60.0 && l.clipped_twice < 0.25 && !hides(l.clipped_twice, l.upper_twice) {
        // Looking one rung ahead keeps a lamp in a dark room from sending the exposure up and down for ever.
        rung.saturating_sub(1)
    } else {
        rung
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder() -> ExposureLadder {
        Limits::default().ladder(&Settings::default(), 0.533_328)
    }
    fn light(mean: f64, level: f64, clipped: f64) -> Light {
        let upper = level + clipped * 200.0;
        Light { mean, level, upper, clipped, clipped_twice: clipped, upper_twice: upper }
    }
    fn got(time_us: f64, gain: f64) -> Exposure {
        Exposure { time_us, analogue_gain: gain, digital_gain: 1.0 }
    }

    #[test]
    fn rungs_go_from_the_ceiling_to_the_exposure_of_day() {
        let l = ladder();
        assert_eq!(l.last(), 5);
        assert!((l.e(0) - 12.0).abs() < 1e-9 && (l.e(2) - 3.0).abs() < 1e-9 && (l.e(5) - 0.533_328).abs() < 1e-9);
        assert_eq!(l.command(0), Command::Night { exposure_us: 2_000_000, gain: 6.0 });
        assert_eq!(l.command(1), Command::Night { exposure_us: 1_000_000, gain: 6.0 });
    }

    #[test]
    fn a_ceiling_below_day_is_still_the_ceiling() {
        let l = ExposureLadder { time_us: 20_000.0, gain: 1.0, e_day: 0.5 };
        assert_eq!((l.last(), l.entry(10.0)), (0, 0));
        assert!((l.e(0) - 0.02).abs() < 1e-12);
    }

    #[test]
    fn a_dark_scene_gets_exactly_what_is_configured() {
        assert_eq!((ladder().entry(0.0), ladder().entry(2.0)), (0, 0));
        assert_eq!(ladder().entry(34.0), 1, "dusk starts lower");
    }

    #[test]
    fn the_exposure_goes_to_where_the_picture_is_grey() {
        assert_eq!(wanted(5, 1, &light(250.0, 46.0, 0.95), 55.0), 5);
        assert_eq!(wanted(5, 1, &light(220.0, 40.0, 0.7), 55.0), 3);
        assert_eq!(wanted(5, 1, &light(150.0, 20.0, 0.3), 55.0), 2);
        assert_eq!(wanted(5, 1, &light(171.0, 20.0, 0.0), 55.0), 2);
        assert_eq!(wanted(5, 1, &light(100.0, 50.0, 0.05), 55.0), 2, "50 to 60 straddles 55");
        assert_eq!(wanted(5, 1, &light(100.0, 20.0, 0.05), 55.0), 1);
        assert_eq!(wanted(5, 1, &light(59.0, 5.0, 0.0), 55.0), 0);
        assert_eq!(wanted(5, 0, &light(5.0, 0.0, 0.0), 55.0), 0);
    }

    #[test]
    fn a_longer_exposure_that_would_be_taken_back_is_not_asked_for() {
        let dim = light(50.0, 20.0, 0.0);
        assert_eq!(wanted(5, 3, &dim, 55.0), 2);
        assert_eq!(wanted(5, 3, &Light { clipped_twice: 0.25, ..dim }, 55.0), 3);
        let near = Light { level: 54.0, upper: 54.0, upper_twice: 54.0, ..light(59.0, 54.0, 0.0) };
        assert_eq!(wanted(5, 5, &near, 55.0), 4);
        assert_eq!(wanted(5, 5, &Light { clipped_twice: 0.02, upper_twice: 57.0, ..near }, 55.0), 5);
    }

    #[test]
    fn a_wish_must_last() {
        let (mut w, white, lit) = (Wish::default(), light(255.0, 46.0, 1.0), light(100.0, 20.0, 0.0));
        let at = |s: u64| BootUs(s * 1_000_000);
        assert_eq!(w.frame(at(10), ladder(), 0, &white, 55.0), None);
        assert_eq!(w.frame(at(12), ladder(), 0, &lit, 55.0), None, "a headlight passed");
        assert_eq!(w.frame(at(14), ladder(), 0, &white, 55.0), None);
        assert_eq!(w.frame(at(15), ladder(), 0, &white, 55.0), None);
        assert_eq!(w.frame(at(16), ladder(), 0, &white, 55.0), Some(5));
    }

    #[test]
    fn stale_frames_and_two_more_are_dropped() {
        let mut s = Settling::on(2_000_000, 6.0);
        for _ in 0..10 {
            assert_eq!(s.frame(got(66_666.0, 8.0), 2), Settled::NotYet);
        }
        assert_eq!(s.frame(got(1_999_000.0, 6.0), 2), Settled::NotYet);
        assert_eq!(s.frame(got(1_999_000.0, 6.0), 2), Settled::NotYet);
        assert_eq!(s.frame(got(1_999_000.0, 6.0), 2), Settled::Yes);
    }

    #[test]
    fn a_driver_that_stays_short_is_believed_after_sixteen_frames() {
        let mut s = Settling::on(2_000_000, 6.0);
        let short = got(1_070_000.0, 6.0);
        for _ in 0..15 {
            assert_eq!(s.frame(short, 2), Settled::NotYet);
        }
        let Settled::Short(asked, got) = s.frame(short, 2) else { panic!("the sixteenth frame must settle") };
        let mut limits = Limits::default();
        assert!(limits.learn(asked, got));
        let l = limits.ladder(&Settings::default(), 0.533_328);
        assert!((l.e_max() - 6.42).abs() < 1e-9 && (l.gain - 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_wandering_exposure_proves_no_limit_and_is_not_waited_for_for_ever() {
        let mut s = Settling::on(2_000_000, 6.0);
        for i in 0..63 {
            assert_eq!(s.frame(got(1_000_000.0 + 40_000.0 * f64::from(i % 3), 6.0), 2), Settled::NotYet);
        }
        assert_eq!(s.frame(got(1_000_000.0, 6.0), 2), Settled::Yes);
    }

    #[test]
    fn a_limit_on_gain_leaves_the_time_alone() {
        let mut limits = Limits::default();
        assert!(limits.learn(got(2_000_000.0, 6.0), got(2_000_000.0, 4.0)));
        assert_eq!(limits.ladder(&Settings::default(), 0.5).command(0), Command::Night { exposure_us: 2_000_000, gain: 4.0 });
        assert!(!limits.learn(got(1_000_000.0, 4.0), got(1_000_000.0, 4.0)), "nothing new");
    }
}
