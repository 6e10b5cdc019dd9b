//! Owns the simulated sensor and the run of the real rule over a light trace: one day in seconds, no camera.
//! Never prints and never reads files (that is `trace`). Any thread.
//!
//! The scene is eight patches of different reflectance; each frame is a histogram of eight values. What is modelled: the tone
//! curve, clipping, rounding to 8 bits, auto-exposure with its search, the delay of controls, a driver's own limit.
//! What is not: noise, dark current, motion during an exposure.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde::Serialize;

use super::level::{Histogram, tone};
use super::trace::{Reader, Trace};
use super::{Command, Measurement, Mode, Night, Settings};
use crate::clock::BootUs;
use crate::frame::{Ae, Exposure, Span};

/// Linear light per lux and s·gain of the OV5647 with its stock lens. Source: `rpi.lux` of its tuning file, which saw 8961 of
/// 65535 at 987 lux with 21.663 ms and gain 1.
pub const K: f64 = 8961.0 / 65535.0 / (987.0 * 0.021_663);
/// Reflectances of the eight patches; their mean is 1.
pub const CONTRAST: [f64; 8] = [0.1, 0.25, 0.45, 0.65, 0.9, 1.25, 1.75, 2.65];
/// Linear mean that auto-exposure aims for.
pub const AE_TARGET: f64 = 0.2;
/// Share of the way to its target that auto-exposure goes in a frame (`speed` of the tuning files).
const AE_SPEED: f64 = 0.2;
/// Auto-exposure calls itself converged within this ratio of its target.
const AE_NEAR: f64 = 0.05;
/// Most frames a scene may have at the day's rate: 31 days at ten a second, half a minute of work on a desktop machine.
pub const FRAMES_MAX: f64 = 31.0 * 86_400.0 * 10.0;
/// Frames until a control shows: at full rate, and at night with few requests queued.
const LATENCY_DAY: u64 = 7;
const LATENCY_NIGHT: u64 = 4;

/// Full-range luma of each patch for this much light (lux) and exposure `e` (s).
pub fn patches(lux: f64, e: f64) -> [u8; 8] {
    CONTRAST.map(|m| tone(K * lux * e * m).round() as u8)
}

/// The score that day mode has at full exposure `e_day` (s): the truth the rule is measured against.
pub fn true_score(lux: f64, e_day: f64) -> f64 {
    patches(lux, e_day).map(f64::from).iter().sum::<f64>() / CONTRAST.len() as f64
}

/// log10 of the light (lux) at which day mode scores `score`.
fn log_lux_of(score: f64, e_day: f64) -> f64 {
    let (mut low, mut high) = (-6.0, 8.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if true_score(10_f64.powf(middle), e_day) < score { low = middle } else { high = middle }
    }
    high
}

/// One simulated frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Delivery, counted from the start of the trace.
    pub now: BootUs,
    /// What its metadata says.
    pub exposure: Exposure,
    /// What its metadata says.
    pub ae: Ae,
    /// log10 of the light it saw (lux).
    pub log_lux: f64,
}

/// A camera before a trace of light. Obeys [`Command`]s late, as a real one does.
#[derive(Debug, Clone)]
pub struct Sensor<'a> {
    light: Reader<'a>,
    start: f64,
    frame_us: f64,
    day_time_us: f64,
    day_gain: f64,
    /// Longest time the driver gives, whatever is asked (µs).
    limit_us: f64,
    obeyed: Command,
    /// Frame from which on each command holds.
    coming: VecDeque<(u64, Command)>,
    /// Exposure of auto-exposure (s).
    ae_e: f64,
    frames: u64,
    now_us: f64,
}

impl<'a> Sensor<'a> {
    /// A camera in day mode with a short exposure, as after its start.
    pub fn new(trace: &'a Trace, settings: &Settings) -> Self {
        Sensor {
            light: trace.reader(),
            start: trace.start(),
            frame_us: 1e6 / settings.fps,
            day_time_us: settings.day_time_us(),
            day_gain: settings.day_gain_max,
            limit_us: f64::INFINITY,
            obeyed: Command::Day,
            coming: VecDeque::new(),
            ae_e: 0.01,
            frames: 0,
            now_us: 0.0,
        }
    }

    /// The same with a driver that gives no longer exposure time than this (µs).
    #[must_use]
    pub fn limited_to(mut self, limit_us: f64) -> Self {
        self.limit_us = limit_us;
        self
    }

    /// Queues a command; a later frame obeys it.
    pub fn ask(&mut self, command: Command) {
        let latency = if self.obeyed == Command::Day { LATENCY_DAY } else { LATENCY_NIGHT };
        self.coming.push_back((self.frames + latency, command));
    }

    /// Takes the next frame into `h`.
    pub fn frame(&mut self, h: &mut Histogram) -> Frame {
        self.frames += 1;
        while let Some(&(_, command)) = self.coming.front().filter(|(frame, _)| *frame <= self.frames) {
            self.obeyed = command;
            self.coming.pop_front();
        }
        let log_lux = self.light.log_lux(self.start + self.now_us / 1e6);
        let lux = 10_f64.powf(log_lux);
        let (exposure, ae) = match self.obeyed {
            Command::Day => self.auto(lux),
            Command::Night { exposure_us, gain } => {
                let exposure =
                    Exposure { time_us: (exposure_us as f64).min(self.limit_us), analogue_gain: gain, digital_gain: 1.0 };
                self.ae_e = exposure.e(); // auto-exposure will start from here
                (exposure, Ae::Off)
            }
        };
        self.now_us += exposure.time_us.max(self.frame_us);
        h.clear();
        for luma in patches(lux, exposure.e()) {
            h.add(luma, 1);
        }
        Frame { now: BootUs(self.now_us as u64), exposure, ae, log_lux }
    }

    fn auto(&mut self, lux: f64) -> (Exposure, Ae) {
        let full = self.day_time_us / 1e6 * self.day_gain;
        let target = (AE_TARGET / (K * lux)).min(full);
        self.ae_e += (target - self.ae_e) * AE_SPEED;
        let near = (self.ae_e - target).abs() <= AE_NEAR * target;
        // The filter only comes near its target; at the end of its range a real one stands exactly there.
        let e = if near && target >= full { full } else { self.ae_e.min(full) };
        let time_us = self.day_time_us.min(e * 1e6);
        let exposure = Exposure { time_us, analogue_gain: e * 1e6 / time_us, digital_gain: 1.0 };
        (exposure, if near { Ae::Converged } else { Ae::Searching })
    }
}

/// One change of mode in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Switched {
    /// Time of the trace (s).
    pub t_s: f64,
    /// `NIGHT` or `DAY`.
    pub to: &'static str,
    /// Seconds since the light itself crossed the threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<f64>,
    /// The level that decided.
    pub level: f64,
}

/// What the rule did over a trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Number of switches.
    pub count: usize,
    /// The switches in order.
    pub switches: Vec<Switched>,
    /// Night exposures asked for, the first of each night included.
    pub exposure_commands: usize,
    /// Frames simulated.
    pub frames: u64,
    /// Length of the trace (s).
    pub duration_s: f64,
    /// Time in DAY while day mode would score below half of `dark_threshold`: pictures that are nearly black (s).
    pub dark_by_day_s: f64,
    /// The longest stretch of it (s).
    pub dark_by_day_longest_s: f64,
    /// The most of it within five minutes: a light that blinks breaks the stretches and not the darkness (s).
    pub dark_by_day_in_5_min_s: f64,
}

/// Runs the rule over a trace with the simulated sensor.
pub fn run(trace: &Trace, settings: &Settings) -> Report {
    let (mut sensor, mut night, mut h) = (Sensor::new(trace, settings), Night::new(settings.clone()), Histogram::default());
    let mut dark = Crossing::at(log_lux_of(settings.dark_threshold, settings.day_e()));
    let mut bright = Crossing::at(log_lux_of(settings.exit().0, settings.day_e()));
    let black = log_lux_of(settings.dark_threshold / 2.0, settings.day_e());
    let (mut before, mut stretch, mut longest, mut total) = (0.0, 0.0, 0.0_f64, 0.0);
    let mut report = Report {
        count: 0,
        switches: Vec::new(),
        exposure_commands: 0,
        frames: 0,
        duration_s: trace.end() - trace.start(),
        dark_by_day_s: 0.0,
        dark_by_day_longest_s: 0.0,
        dark_by_day_in_5_min_s: 0.0,
    };
    let mut window = Window::default();
    loop {
        let f = sensor.frame(&mut h);
        let t = f.now.secs();
        if t > report.duration_s {
            (report.dark_by_day_s, report.dark_by_day_longest_s) = (tenths(total), tenths(longest));
            report.dark_by_day_in_5_min_s = tenths(window.most);
            return report;
        }
        report.frames += 1;
        if night.mode() == Mode::Day && f.log_lux < black {
            (stretch, total) = (stretch + t - before, total + t - before);
            longest = longest.max(stretch);
            window.add(before, t);
        } else {
            stretch = 0.0;
        }
        before = t;
        dark.frame(t, f.log_lux);
        bright.frame(t, f.log_lux);
        let m = Measurement { now: f.now, histogram: &h, span: Span::Full, exposure: Some(f.exposure), ae: f.ae };
        let step = night.step(&m);
        if let Some(command) = step.command {
            report.exposure_commands += usize::from(command != Command::Day);
            sensor.ask(command);
        }
        if let Some(s) = step.switched {
            let since = match s.to {
                Mode::Night => dark.fell,
                Mode::Day => bright.rose,
            };
            report.count += 1;
            report.switches.push(Switched {
                t_s: tenths(trace.start() + t),
                to: s.to.word(),
                delay_s: since.map(|c| tenths(t - c)),
                level: tenths(s.level),
            });
        }
    }
}

fn tenths(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// The most of something within five minutes.
#[derive(Debug, Default)]
struct Window {
    /// Its parts in the last five minutes: begin and end (s).
    parts: VecDeque<(f64, f64)>,
    sum: f64,
    most: f64,
}

impl Window {
    fn add(&mut self, from: f64, to: f64) {
        match self.parts.back_mut() {
            Some(last) if last.1 >= from => last.1 = to,
            _ => self.parts.push_back((from, to)),
        }
        self.sum += to - from;
        let begin = to - 300.0;
        while let Some(first) = self.parts.front_mut().filter(|first| first.0 < begin) {
            let gone = first.1.min(begin);
            self.sum -= gone - first.0;
            first.0 = gone;
            if gone < first.1 {
                break;
            }
            self.parts.pop_front();
        }
        self.most = self.most.max(self.sum);
    }
}

/// When the light last passed a value.
#[derive(Debug)]
struct Crossing {
    log_lux: f64,
    before: Option<(f64, f64)>,
    fell: Option<f64>,
    rose: Option<f64>,
}

impl Crossing {
    fn at(log_lux: f64) -> Self {
        Crossing { log_lux, before: None, fell: None, rose: None }
    }
    fn frame(&mut self, t: f64, now: f64) {
        if let Some((t0, before)) = self.before {
            if (before < self.log_lux) != (now < self.log_lux) {
                let when = t0 + (t - t0) * (self.log_lux - before) / (now - before);
                *(if now < before { &mut self.fell } else { &mut self.rose }) = Some(when);
            }
        }
        self.before = Some((t, now));
    }
}

impl Report {
    /// One line of JSON: `{"count": …, "switches": [{"t_s": …, "to": "NIGHT", …}, …], …}`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and words always become JSON")
    }

    /// For a person: a line per switch and a summary, each ended by a newline.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for s in &self.switches {
            let whole = s.t_s as u64;
            let (h, m, sec) = (whole / 3600, whole / 60 % 60, whole % 60);
            let _ = write!(out, "{h:3}:{m:02}:{sec:02}  {:<5}  level {:.1}", s.to, s.level);
            if let Some(d) = s.delay_s {
                let _ = write!(out, ", {d:.1} s after the light crossed the threshold");
            }
            out.push('\n');
        }
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "es" });
        let hours = self.duration_s / 3600.0;
        let _ = writeln!(
            out,
            "{} in {hours:.1} h ({} frames, {} night exposures asked for)",
            plural(self.count, "switch"),
            self.frames,
            self.exposure_commands
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::level::Scale;
    use super::*;

    #[test]
    fn the_light_at_the_thresholds_is_the_known_one() {
        let e_day = Settings::default().day_e();
        assert!((e_day - 0.533_328).abs() < 1e-9 && (K - 0.006_395_101_196_517_505).abs() < 1e-15);
        // From an independent simulation, see tests/data/night/expected.json. The score moves in steps of an eighth.
        for (score, lux) in [(35.0, 10.136_976_115_856_916), (55.0, 18.324_756_448_034_744)] {
            assert!((true_score(lux, e_day) - score).abs() < 1e-9);
            let first = 10_f64.powf(log_lux_of(score, e_day));
            assert!(first <= lux && first > lux * 0.99, "{first}");
        }
    }

    #[test]
    fn the_level_of_a_night_frame_is_the_score_of_day_or_its_bounds_hold_it() {
        let (e_day, mut scale, mut exact) = (Settings::default().day_e(), Scale::default(), 0);
        for i in 0..120 {
            let lux = 0.01 * 1.1_f64.powi(i);
            for e in [12.0, 3.0, 0.75, e_day] {
                let mut h = Histogram::default();
                for v in patches(lux, e) {
                    h.add(v, 1);
                }
                let (light, truth) = (scale.light(&h, Span::Full, e_day / e), true_score(lux, e_day));
                // Half a code of rounding on either side.
                assert!(light.level <= truth + 1.0 && truth <= light.upper + 1.0, "{lux} lux at {e}: {truth}, {light:?}");
                if light.clipped == 0.0 {
                    assert!((light.level - truth).abs() <= 1.0, "{lux} lux at {e}: {truth}, {light:?}");
                    exact += 1;
                }
            }
        }
        assert!(exact > 200, "{exact}");
    }

    #[test]
    fn auto_exposure_holds_its_target_and_stops_at_its_ceiling() {
        for (lux, e, mean) in [(1000.0, AE_TARGET / K / 1000.0, 105.0..125.0), (10.0, 0.533_328, 30.0..40.0)] {
            let trace = Trace::from_rows(&[(0.0, lux), (100.0, lux)]).unwrap();
            let (mut sensor, mut h) = (Sensor::new(&trace, &Settings::default()), Histogram::default());
            let f = (0..60).map(|_| sensor.frame(&mut h)).last().unwrap();
            assert!((f.exposure.e() / e - 1.0).abs() < 0.01 && f.ae == Ae::Converged, "{f:?}");
            assert!(mean.contains(&h.mean(Span::Full)), "{}", h.mean(Span::Full));
        }
    }

    #[test]
    fn commands_are_obeyed_late_and_night_frames_take_their_time() {
        let trace = Trace::from_rows(&[(0.0, 1.0), (100.0, 1.0)]).unwrap();
        let (mut sensor, mut h) = (Sensor::new(&trace, &Settings::default()).limited_to(1e6), Histogram::default());
        sensor.frame(&mut h);
        sensor.ask(Command::Night { exposure_us: 2_000_000, gain: 6.0 });
        let frames: Vec<Frame> = (0..9).map(|_| sensor.frame(&mut h)).collect();
        assert!(frames[5].exposure.time_us < 70_000.0 && (frames[6].exposure.time_us - 1e6).abs() < 1.0);
        assert_eq!(frames[7].now.since(frames[6].now).as_secs(), 1);
    }

    #[test]
    fn a_report_has_both_forms() {
        let trace = Trace::from_rows(&[(0.0, 100.0), (60.0, 100.0), (61.0, 1.0), (600.0, 1.0)]).unwrap();
        let r = run(&trace, &Settings::default());
        let json: serde_json::Value = serde_json::from_str(&r.to_json()).unwrap();
        assert_eq!((&json["count"], &json["switches"][0]["to"]), (&1.into(), &"NIGHT".into()), "{json}");
        let t = json["switches"][0]["t_s"].as_f64().unwrap();
        assert!((70.0..74.0).contains(&t), "{json}");
        assert!((10.0..12.0).contains(&json["switches"][0]["delay_s"].as_f64().unwrap()), "{json}");
        let text = r.to_text();
        assert!(text.starts_with("  0:01:1") && text.contains("NIGHT") && text.contains("1 switch in 0.2 h"), "{text}");
    }

    #[test]
    fn constant_light_within_the_trace_has_no_delay_key() {
        let trace = Trace::from_rows(&[(0.0, 1.0), (60.0, 1.0)]).unwrap();
        let r = run(&trace, &Settings::default());
        assert_eq!((r.count, r.switches[0].delay_s), (1, None));
        assert!(!r.to_json().contains("delay_s"));
    }
}
