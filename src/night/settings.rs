//! Owns what the day and night rule is told: the owner's keys, the camera's facts, the constants of the rule, and the
//! thresholds and exposures that follow from them. Believes them: ranges were checked by the configuration. Pure.

use std::time::Duration;

use super::Threshold;
use super::level::{inverse, tone};

/// Longest exposure time of day mode (µs): the last stage of the tuning files' "normal" exposure mode, at any frame rate.
const DAY_TIME_MAX_US: f64 = 66_666.0;
/// The light between entering and leaving the night differs by at least this factor, however close the two thresholds are.
const EXIT_FACTOR: f64 = 1.5;

/// What the owner configures, and what the camera says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whether night mode may be entered at all.
    pub enable: bool,
    /// Below this score it is night. 0 to 255.
    pub dark_threshold: f64,
    /// Above this score, and at least 1.5 times the light of `dark_threshold`, it is day. 0 to 255.
    pub bright_threshold: f64,
    /// Dark frames before the night; 0 counts as 1.
    pub min_dark_frames: u32,
    /// Longest night exposure (µs).
    pub exposure_us: u64,
    /// Night gain, 1.0 and more.
    pub gain: f64,
    /// Frames per second by day, above 0.
    pub fps: f64,
    /// Largest gain of auto-exposure by day: 8 for OV5647, 10 for IMX219. Larger ones are learned when seen.
    pub day_gain_max: f64,
    /// The longest exposure the camera's control accepts (µs), where it says so.
    pub max_exposure_us: Option<u64>,
    /// Times and counts of the rule.
    pub rule: Rule,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            enable: true,
            dark_threshold: 35.0,
            bright_threshold: 55.0,
            min_dark_frames: 20,
            exposure_us: 2_000_000,
            gain: 6.0,
            fps: 10.0,
            day_gain_max: 8.0,
            max_exposure_us: None,
            rule: Rule::default(),
        }
    }
}

impl Settings {
    /// The longest exposure time of day mode (µs).
    pub fn day_time_us(&self) -> f64 {
        (1e6 / self.fps).min(DAY_TIME_MAX_US)
    }
    /// Day mode's full exposure `E_day` (s): exposure time × gain.
    pub fn day_e(&self) -> f64 {
        self.day_time_us() / 1e6 * self.day_gain_max
    }
    /// The level above which the night ends, and where it comes from.
    pub fn exit(&self) -> (f64, Threshold) {
        let apart = tone(EXIT_FACTOR * inverse(self.dark_threshold));
        // Near white 1.5 times the light does not exist: half way to white can still be passed.
        let apart = apart.min(f64::midpoint(self.dark_threshold, 255.0));
        if self.bright_threshold >= apart { (self.bright_threshold, Threshold::Bright) } else { (apart, Threshold::Apart) }
    }
}

/// Times and counts of the rule. Chosen in a simulation of 34 scenes of 24 h (twilights from the equator to Helsinki,
/// street lamps, headlights, clouds, a hand on the lens) so that each switches exactly as often as its light does.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Darkness lasts this long before the night.
    pub enter_hold: Duration,
    /// The same for the first decision after start.
    pub boot_hold: Duration,
    /// Brightness lasts this long before the day.
    pub exit_hold: Duration,
    /// And this many frames.
    pub min_bright_frames: u32,
    /// No switch for this long after one.
    pub dwell: Duration,
    /// The night that began with this many switches within `guard_window` lasts `guard_dwell` at least. The day never does: a
    /// lit yard is still a picture by night, as the exposure goes down to the day's, but a dark yard is none by day.
    /// 2 to 4; with more the guard never acts.
    pub guard_switches: usize,
    /// See `guard_switches`.
    pub guard_window: Duration,
    /// See `guard_switches`.
    pub guard_dwell: Duration,
    /// Frames to drop once the metadata shows the night exposure.
    pub settle_frames: u32,
    /// Longest wait for auto-exposure in day mode.
    pub settle_day: Duration,
}

impl Default for Rule {
    fn default() -> Self {
        let s = Duration::from_secs;
        Rule {
            enter_hold: s(10),
            boot_hold: s(5),
            exit_hold: s(20),
            min_bright_frames: 5,
            dwell: s(60),
            guard_switches: 3,
            guard_window: s(1200),
            guard_dwell: s(1200),
            settle_frames: 2,
            settle_day: s(5),
        }
    }
}
