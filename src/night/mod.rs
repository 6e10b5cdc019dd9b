//! Owns the decision between day and night: from the light of each frame, normalised to what day mode would have measured,
//! to a mode and an exposure. Never reads a clock, logs, does I/O or touches the camera: time comes in, commands go out.
//! A plain value, stepped once per frame on the capture thread.
//!
//! Why the level is normalised: day mode stops at 0.53 s·gain while the night exposure is 12 s·gain, so the same scene is
//! 22 times brighter at night. Comparing both with the same thresholds leaves the night one frame after entering it.

mod keys;
mod ladder;
pub mod level;
mod settings;
pub mod simulate;
pub mod trace;

pub use keys::{AsWritten, Keys};
pub use settings::{Rule, Settings};

use std::fmt;
use std::time::Duration;

use crate::clock::BootUs;
use crate::frame::{Ae, Exposure, Span};
use ladder::{ExposureLadder, Limits, Settled, Settling, Wish};
use level::{Histogram, Scale};

/// Exposure times up to this much above day mode's own still are day mode's (rounding to lines).
const DAY_TIME_SLACK: f64 = 1.1;
/// A day gain beyond this many times the configured one is a metadata fault, not a better sensor.
const DAY_GAIN_TRUST: f64 = 4.0;

/// One frame as the rule sees it.
#[derive(Debug, Clone, Copy)]
pub struct Measurement<'a> {
    /// When it was delivered.
    pub now: BootUs,
    /// Its luma.
    pub histogram: &'a Histogram,
    /// What black and white are in that luma.
    pub span: Span,
    /// The light it took, from its own metadata. `None` for sources that do not know (IP cameras).
    pub exposure: Option<Exposure>,
    /// Auto-exposure's word.
    pub ae: Ae,
}

/// Day or night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Auto-exposure at full frame rate.
    #[default]
    Day,
    /// Long exposures.
    Night,
}

impl Mode {
    /// The word in answers and traces.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Day => "DAY",
            Mode::Night => "NIGHT",
        }
    }
}

/// Which threshold decides next. The first two are printed as the configuration wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// `dark_threshold`: below it the night begins.
    Dark,
    /// `bright_threshold`: above it the night ends.
    Bright,
    /// The night ends above 1.5 times the light of `dark_threshold`, because `bright_threshold` is nearer than that.
    Apart,
}

/// What to ask of the camera. Sources without such controls ignore it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// Auto-exposure on, frame time 1/fps.
    Day,
    /// Auto-exposure off, this exposure time and gain; frame time as long as the exposure.
    Night {
        /// Exposure time (µs).
        exposure_us: u64,
        /// Analogue gain.
        gain: f64,
    },
}

/// Why a switch happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The level stayed below `dark_threshold`.
    Dark,
    /// So it was from the first frames on.
    DarkAtStart,
    /// The level stayed above the exit threshold.
    Bright,
    /// Night mode was switched off in the configuration.
    Disabled,
}

/// A change of mode. Its text is one line for the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Switch {
    /// The new mode.
    pub to: Mode,
    /// Median level that decided.
    pub level: f64,
    /// The threshold it was held against.
    pub threshold: f64,
    /// How long it had been beyond.
    pub held: Duration,
    /// Why.
    pub reason: Reason,
    /// No further switch for this long.
    pub dwell: Duration,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.reason {
            Reason::Dark => "below",
            Reason::DarkAtStart => "since the start below",
            Reason::Bright => "above",
            Reason::Disabled => return write!(f, "{}: night mode was switched off", self.to.word()),
        };
        let Switch { level, threshold, .. } = self;
        let (to, held, dwell) = (self.to.word(), self.held.as_secs_f64(), self.dwell.as_secs());
        write!(f, "{to}: level {level:.1}, {side} {threshold:.1} for {held:.1} s; stays for at least {dwell} s")
    }
}

/// What came of one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The newest level: what day mode measures or would measure. 0 to 255. Frames of a changing exposure leave it as it was.
    pub level: f64,
    /// The threshold that applies to it now.
    pub threshold: f64,
    /// Which one that is.
    pub applies: Threshold,
    /// The mode after this frame.
    pub mode: Mode,
    /// Set when the mode changed on this frame.
    pub switched: Option<Switch>,
    /// Set when the camera must be told something.
    pub command: Option<Command>,
    /// Set once when the driver gave less than was asked; the ceiling is now what it gave.
    pub clamped: Option<Exposure>,
}

/// A condition that must last.
#[derive(Debug, Clone, Copy, Default)]
struct Hold {
    since: Option<BootUs>,
    frames: u32,
}

impl Hold {
    /// Takes one frame; `Some(how long)` once the condition has lasted for both.
    fn frame(&mut self, met: bool, now: BootUs, frames: u32, time: Duration) -> Option<Duration> {
        if !met {
            *self = Hold::default();
            return None;
        }
        let held = now.since(*self.since.get_or_insert(now));
        self.frames = self.frames.saturating_add(1);
        (self.frames >= frames && held >= time).then_some(held)
    }
}

/// How dark it has been lately. Each second of light takes half a second of darkness away and not all of it: a light that blinks
/// does not keep the day. More than a third of the time in the dark is dark.
#[derive(Debug, Clone, Copy, Default)]
struct Darkness {
    /// The frame before, and whether it was dark: it stands for the time until the next one.
    last: Option<(BootUs, bool)>,
    time: Duration,
    half_frames: u32,
}

impl Darkness {
    /// Takes one frame; `Some(how long)` once there has been so much darkness, in frames and in time, and there still is.
    fn frame(&mut self, dark: bool, now: BootUs, frames: u32, time: Duration) -> Option<Duration> {
        if let Some((before, was_dark)) = self.last.replace((now, dark)) {
            let past = now.since(before);
            // More than the condition asks for would only delay its end. A frame's time comes with the next one: that much more.
            self.time = if was_dark { (self.time + past).min(time + past) } else { self.time.saturating_sub(past / 2) };
        }
        let enough = frames.saturating_mul(2);
        self.half_frames = if dark { self.half_frames.saturating_add(2).min(enough) } else { self.half_frames.saturating_sub(1) };
        (dark && self.half_frames >= enough && self.time >= time).then_some(self.time)
    }
}

/// Median of the last three values.
#[derive(Debug, Clone, Copy, Default)]
struct Median {
    last: [f64; 3],
    n: usize,
}

impl Median {
    /// Takes a value; `None` until there are three.
    fn push(&mut self, v: f64) -> Option<f64> {
        self.last[self.n % 3] = v;
        self.n += 1;
        let [a, b, c] = self.last;
        (self.n >= 3).then(|| a.min(b).max(a.max(b).min(c)))
    }
}

/// ```text
///            level < dark for min_dark_frames and 10 s (5 s from the start on), light counting half against it
///   ┌─────┐ ─────────────────────────────────────────────────────────────────▶ ┌───────┐ ──┐ too bright, too dark or
///   │ Day │                                                                    │ Night │   │ undecidable for 4 s:
///   └─────┘ ◀───────────────────────────────────────────────────────────────── └───────┘ ◀─┘ another exposure
///            level > exit for 5 frames and 20 s, or night mode switched off
/// ```
/// Both begin by dropping frames that still show the exposure before. No edge is taken within the dwell after another.
#[derive(Debug, Clone, Copy)]
enum State {
    Day(Day),
    Night(Dark),
}

/// Data of [`State::Day`].
#[derive(Debug, Clone, Copy)]
struct Day {
    /// Waiting for auto-exposure.
    settling: bool,
    /// First frame of that wait.
    since: Option<BootUs>,
    /// Nothing was decided since the start.
    first: bool,
    dark: Darkness,
}

/// Data of [`State::Night`].
#[derive(Debug, Clone, Copy)]
struct Dark {
    rung: u32,
    settling: Option<Settling>,
    bright: Hold,
    wish: Wish,
    /// The settings changed: ask for the rung again.
    ask: bool,
}

/// The day and night machine.
#[derive(Debug, Clone)]
pub struct Night {
    settings: Settings,
    state: State,
    /// Largest gain seen under auto-exposure, at least the configured one.
    day_gain: f64,
    limits: Limits,
    scale: Scale,
    median: Median,
    /// `None` until a frame was measured.
    level: Option<f64>,
    /// The source has told an exposure before, so a frame without one is a gap and not a source without.
    tells_exposure: bool,
    /// Times of the last switches, newest first.
    switches: [Option<BootUs>; 4],
    /// No switch before.
    free: BootUs,
    /// Somebody else has the exposure.
    held: bool,
}

/// What one frame caused; becomes a part of [`Step`].
#[derive(Default)]
struct Outcome {
    switched: Option<Switch>,
    command: Option<Command>,
    clamped: Option<Exposure>,
}

impl Night {
    /// Starts in day mode with nothing decided.
    pub fn new(settings: Settings) -> Self {
        Night {
            state: State::Day(Day { settling: true, since: None, first: true, dark: Darkness::default() }),
            day_gain: settings.day_gain_max,
            limits: Limits::default(),
            scale: Scale::default(),
            median: Median::default(),
            level: None,
            tells_exposure: false,
            switches: [None; 4],
            free: BootUs(0),
            held: false,
            settings,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Day or night.
    pub fn mode(&self) -> Mode {
        match self.state {
            State::Day(_) => Mode::Day,
            State::Night(_) => Mode::Night,
        }
    }

    /// Somebody else has the exposure from now on (`true`), or no longer: then [`Night::restarted`] says what to ask. Meanwhile
    /// the mode follows the light as ever, for its own exposure is normalised away, but nothing is asked of the camera and
    /// nothing is learned about its limits.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether somebody else has the exposure.
    pub fn held(&self) -> bool {
        self.held
    }

    /// Takes new settings while running. The mode stays until frames say otherwise; a changed night exposure is asked for with
    /// the next frame; switched off, the next frame ends the night.
    pub fn reconfigure(&mut self, settings: Settings) {
        let old = std::mem::replace(&mut self.settings, settings);
        let new = &self.settings;
        if new.fps.to_bits() != old.fps.to_bits() || new.day_gain_max.to_bits() != old.day_gain_max.to_bits() {
            self.day_gain = new.day_gain_max;
        }
        let ceiling = |s: &Settings| (s.exposure_us, s.gain.to_bits(), s.max_exposure_us);
        if ceiling(new) != ceiling(&old) {
            self.limits = Limits::default();
            if let State::Night(dark) = &mut self.state {
                dark.ask = true;
            }
        }
    }

    /// The camera was stopped and started: what to ask of it again. Waits for settled frames as after a switch.
    pub fn restarted(&mut self) -> Command {
        let ladder = self.ladder();
        match &mut self.state {
            State::Day(day) => {
                *day = Day { settling: true, since: None, first: day.first, dark: Darkness::default() };
                Command::Day
            }
            State::Night(dark) => {
                *dark = Dark::at(dark.rung.min(ladder.last()), ladder);
                ladder.command(dark.rung)
            }
        }
    }

    /// Takes the next frame.
    pub fn step(&mut self, m: &Measurement) -> Step {
        let exposure = m.exposure.filter(|x| x.e().is_finite() && x.e() > 0.0);
        self.tells_exposure |= exposure.is_some();
        let readable = m.histogram.n() > 0 && (exposure.is_some() || !self.tells_exposure);
        let mut out = match self.state {
            State::Night(_) if !self.settings.enable => {
                self.enter_day(m.now, self.level.unwrap_or(0.0), Duration::ZERO, Reason::Disabled)
            }
            State::Day(day) if readable => self.day(day, m, exposure),
            State::Night(dark) if readable => self.night(dark, m, exposure),
            State::Day(_) | State::Night(_) => Outcome::default(),
        };
        if self.held {
            out.command = None;
        }
        let (threshold, applies) = match self.state {
            State::Day(_) => (self.settings.dark_threshold, Threshold::Dark),
            State::Night(_) => self.settings.exit(),
        };
        Step {
            level: self.level.unwrap_or(0.0),
            threshold,
            applies,
            mode: self.mode(),
            switched: out.switched,
            command: out.command,
            clamped: out.clamped,
        }
    }

    fn day(&mut self, mut day: Day, m: &Measurement, exposure: Option<Exposure>) -> Outcome {
        let e_day = self.e_day();
        let ratio = exposure.map_or(1.0, |x| e_day / x.e());
        let day_us = self.settings.day_time_us();
        if day.settling {
            let since = *day.since.get_or_insert(m.now);
            let settled = match (exposure, m.ae) {
                // A late night frame may claim to have converged too: its exposure time gives it away.
                (Some(x), Ae::Converged) => x.time_us <= day_us * DAY_TIME_SLACK,
                // An IP camera tells neither exposure nor convergence, and never will.
                (None, ae) => ae != Ae::Searching,
                _ => false,
            };
            if !settled && m.now.since(since) < self.settings.rule.settle_day {
                self.state = State::Day(day);
                if self.level.is_none() {
                    self.level = Some(self.scale.level(m.histogram, m.span, ratio));
                }
                return Outcome::default();
            }
            day.settling = false;
        }

        let mean = m.histogram.mean(m.span);
        // With exposure to spare the scene is at least as bright as the picture, so a picture that is not dark needs no table:
        // that is every frame of a day, and what auto-exposure does then would renew the table on each of them.
        let score = if ratio >= 1.0 && mean >= self.settings.dark_threshold {
            mean
        } else {
            self.scale.level(m.histogram, m.span, ratio)
        };
        self.level = Some(if ratio >= 1.0 { mean } else { score });
        if let Some(x) = exposure.filter(|x| !self.held && m.ae == Ae::Converged && x.time_us <= day_us * DAY_TIME_SLACK) {
            let trusted = self.settings.day_gain_max * DAY_GAIN_TRUST;
            self.day_gain = self.day_gain.max((x.e() * 1e6 / day_us).min(trusted));
        }

        if let Some(level) = self.median.push(score) {
            let rule = &self.settings.rule;
            let dark = level < self.settings.dark_threshold;
            day.first &= dark;
            let (time, reason) = if day.first { (rule.boot_hold, Reason::DarkAtStart) } else { (rule.enter_hold, Reason::Dark) };
            let held = day.dark.frame(dark, m.now, self.settings.min_dark_frames, time);
            if let Some(held) = held.filter(|_| self.settings.enable && m.now >= self.free) {
                return self.enter_night(m.now, level, held, reason);
            }
        }
        self.state = State::Day(day);
        Outcome::default()
    }

    fn night(&mut self, mut dark: Dark, m: &Measurement, exposure: Option<Exposure>) -> Outcome {
        let mut out = Outcome::default();
        if self.held {
            // What it shows is not what this rule asked for.
            (dark.settling, dark.ask) = (None, false);
        }
        if dark.ask {
            return self.enter_rung(dark, dark.rung.min(self.ladder().last()));
        }
        if let (Some(settling), Some(x)) = (&mut dark.settling, exposure) {
            match settling.frame(x, self.settings.rule.settle_frames) {
                Settled::NotYet => {
                    self.state = State::Night(dark);
                    return out;
                }
                Settled::Yes => {}
                Settled::Short(asked, got) => {
                    if self.limits.learn(asked, got) {
                        dark.rung = 0; // what it gives is the new ceiling
                        out.clamped = Some(got);
                    }
                }
            }
        }
        dark.settling = None;

        let ladder = self.ladder();
        if !self.held && exposure.is_some_and(|x| x.e() > ladder.e_max() * DAY_TIME_SLACK) {
            self.limits = Limits::default(); // it does give more: what was taken for a limit was a late frame
        }
        let ratio = exposure.map_or(1.0, |x| ladder.e_day / x.e());
        let light = self.scale.light(m.histogram, m.span, ratio);
        self.level = Some(light.level);
        let (exit, _) = self.settings.exit();
        if let Some(level) = self.median.push(light.level) {
            let rule = &self.settings.rule;
            let held = dark.bright.frame(level > exit, m.now, rule.min_bright_frames, rule.exit_hold);
            if let Some(held) = held.filter(|_| m.now >= self.free) {
                let switched = self.enter_day(m.now, level, held, Reason::Bright);
                return Outcome { clamped: out.clamped, ..switched };
            }
        }
        if exposure.is_some() && !self.held {
            if let Some(rung) = dark.wish.frame(m.now, ladder, dark.rung, &light, exit) {
                let asked = self.enter_rung(dark, rung);
                return Outcome { clamped: out.clamped, ..asked };
            }
        }
        self.state = State::Night(dark);
        out
    }

    fn enter_night(&mut self, now: BootUs, level: f64, held: Duration, reason: Reason) -> Outcome {
        let ladder = self.ladder();
        let rung = ladder.entry(level);
        self.state = State::Night(Dark::at(rung, ladder));
        let threshold = self.settings.dark_threshold;
        let dwell = self.note_switch(now, Mode::Night);
        let switched = Some(Switch { to: Mode::Night, level, threshold, held, reason, dwell });
        Outcome { switched, command: Some(ladder.command(rung)), clamped: None }
    }

    fn enter_day(&mut self, now: BootUs, level: f64, held: Duration, reason: Reason) -> Outcome {
        self.state = State::Day(Day { settling: true, since: Some(now), first: false, dark: Darkness::default() });
        let (threshold, _) = self.settings.exit();
        let dwell = self.note_switch(now, Mode::Day);
        let switched = Some(Switch { to: Mode::Day, level, threshold, held, reason, dwell });
        Outcome { switched, command: Some(Command::Day), clamped: None }
    }

    /// Stays in the night with another exposure. What is known of the brightness stays: the level does not depend on it.
    fn enter_rung(&mut self, dark: Dark, rung: u32) -> Outcome {
        let ladder = self.ladder();
        self.state = State::Night(Dark { bright: dark.bright, ..Dark::at(rung, ladder) });
        Outcome { command: Some(ladder.command(rung)), ..Outcome::default() }
    }

    /// Remembers a switch and returns for how long there is no other. Only a night is made longer: see [`Rule::guard_switches`].
    fn note_switch(&mut self, now: BootUs, to: Mode) -> Duration {
        self.switches.rotate_right(1);
        self.switches[0] = Some(now);
        let rule = &self.settings.rule;
        let oldest = self.switches.get(rule.guard_switches.saturating_sub(1)).copied().flatten();
        let often = oldest.is_some_and(|t| now.since(t) <= rule.guard_window);
        let dwell = if often && to == Mode::Night { rule.guard_dwell } else { rule.dwell };
        self.free = now + dwell;
        dwell
    }

    fn e_day(&self) -> f64 {
        self.settings.day_time_us() / 1e6 * self.day_gain
    }

    fn ladder(&self) -> ExposureLadder {
        self.limits.ladder(&self.settings, self.e_day())
    }
}

impl Dark {
    /// A rung that was just asked for.
    fn at(rung: u32, ladder: ExposureLadder) -> Self {
        let settling = match ladder.command(rung) {
            Command::Night { exposure_us, gain } => Some(Settling::on(exposure_us, gain)),
            Command::Day => None, // a ladder has no such rung
        };
        Dark { rung, settling, bright: Hold::default(), wish: Wish::default(), ask: false }
    }
}

#[cfg(test)]
mod tests;
