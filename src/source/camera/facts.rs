//! Owns what a frame's metadata means: the names libcamera has for exposure, light and time, in all its versions from 0.4
//! on. Names and not numbers, because the numbers change from version to version. Pure.

use crate::clock::BootUs;
use crate::frame::{Ae, Exposure};
use crate::source::Value;

/// A metadata entry that this program understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    SensorTimestamp,
    ExposureTime,
    AnalogueGain,
    DigitalGain,
    Lux,
    ColourTemperature,
    Focus,
    /// From 0.5 on.
    AeState,
    /// Until 0.4.
    AeLocked,
}

impl Fact {
    pub(super) fn named(name: &str) -> Option<Fact> {
        Some(match name {
            "SensorTimestamp" => Fact::SensorTimestamp,
            "ExposureTime" => Fact::ExposureTime,
            "AnalogueGain" => Fact::AnalogueGain,
            "DigitalGain" => Fact::DigitalGain,
            "Lux" => Fact::Lux,
            "ColourTemperature" => Fact::ColourTemperature,
            "FocusFoM" => Fact::Focus,
            "AeState" => Fact::AeState,
            "AeLocked" => Fact::AeLocked,
            _ => return None,
        })
    }
}

/// What one frame's metadata told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Facts {
    /// The monotonic clock at the sensor (ns).
    pub stamp_ns: Option<u64>,
    time_us: Option<f64>,
    analogue_gain: Option<f64>,
    digital_gain: Option<f64>,
    pub lux: Option<f64>,
    pub colour_temperature: Option<u32>,
    pub focus: Option<i32>,
    state: Option<i64>,
    locked: Option<bool>,
}

impl Facts {
    /// One entry. A value of another kind than the name has is passed over: it says nothing that could be believed.
    pub(super) fn note(&mut self, fact: Fact, value: Value) {
        let real = match value {
            Value::Float(v) if v.is_finite() => Some(v),
            Value::Int(v) => Some(v as f64),
            _ => None,
        };
        match (fact, value) {
            (Fact::SensorTimestamp, Value::Int(ns)) => self.stamp_ns = u64::try_from(ns).ok().filter(|ns| *ns > 0),
            (Fact::ExposureTime, _) => self.time_us = real.filter(|t| *t > 0.0),
            (Fact::AnalogueGain, _) => self.analogue_gain = real.filter(|g| *g > 0.0),
            (Fact::DigitalGain, _) => self.digital_gain = real.filter(|g| *g > 0.0),
            (Fact::Lux, _) => self.lux = real,
            (Fact::ColourTemperature, Value::Int(k)) => self.colour_temperature = u32::try_from(k).ok(),
            (Fact::Focus, Value::Int(f)) => self.focus = i32::try_from(f).ok(),
            (Fact::AeState, Value::Int(s)) => self.state = Some(s),
            (Fact::AeLocked, Value::Bool(l)) => self.locked = Some(l),
            _ => {}
        }
    }

    /// The light taken, when the time is known; gains that are not told are 1.
    pub(super) fn exposure(&self) -> Option<Exposure> {
        Some(Exposure {
            time_us: self.time_us?,
            analogue_gain: self.analogue_gain.unwrap_or(1.0),
            digital_gain: self.digital_gain.unwrap_or(1.0),
        })
    }

    /// Auto-exposure's word. `by_hand`: it was switched off, whatever the driver goes on saying.
    pub(super) fn ae(&self, by_hand: bool) -> Ae {
        match (by_hand, self.state, self.locked) {
            // 0 is idle; 2 converged; until 0.4, where the same name was a draft, 3 locked. The rest are ways of searching.
            (true, ..) | (_, Some(0), _) | (_, None, None) => Ae::Off,
            (_, Some(2 | 3), _) | (_, None, Some(true)) => Ae::Converged,
            (_, Some(_), _) | (_, None, Some(false)) => Ae::Searching,
        }
    }

    /// When the sensor took the frame. V4L2 stamps with the monotonic clock, which stands still in suspend; a stamp that would
    /// lie in the future by it, or is older than any frame can be, is not believed.
    pub(super) fn taken(&self, boot: BootUs, monotonic_us: u64) -> BootUs {
        // Longer than the longest exposure of a sensor and its way through the pipeline.
        const OLDEST_US: u64 = 700_000_000;
        match self.stamp_ns.map(|ns| monotonic_us.checked_sub(ns / 1000)) {
            Some(Some(age)) if age < OLDEST_US => BootUs(boot.0.saturating_sub(age)),
            _ => boot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(entries: &[(&str, Value)]) -> Facts {
        let mut f = Facts::default();
        for (name, value) in entries {
            if let Some(fact) = Fact::named(name) {
                f.note(fact, *value);
            }
        }
        f
    }

    /// As a Pi tells it, in the units and kinds of its IPA.
    #[test]
    fn a_pi_s_metadata_is_understood() {
        let f = facts(&[
            ("SensorTimestamp", Value::Int(5_000_123_000)),
            ("ExposureTime", Value::Int(66_653)),
            ("AnalogueGain", Value::Float(7.98)),
            ("DigitalGain", Value::Float(1.01)),
            ("Lux", Value::Float(3.5)),
            ("ColourTemperature", Value::Int(4300)),
            ("FocusFoM", Value::Int(1277)),
            ("AeState", Value::Int(1)),
            ("ColourGains", Value::Pair([1.5, 1.9])),
        ]);
        let e = f.exposure().unwrap();
        assert!((e.gain() - 8.0598).abs() < 1e-9 && (e.time_us - 66_653.0).abs() < 1e-9);
        assert_eq!((f.lux, f.colour_temperature, f.focus, f.ae(false)), (Some(3.5), Some(4300), Some(1277), Ae::Searching));
        assert_eq!(f.taken(BootUs(9_100_000), 5_100_123), BootUs(9_000_000));
    }

    #[test]
    fn both_words_for_settled_exposure_are_understood() {
        for (entry, ae) in [
            (("AeState", Value::Int(0)), Ae::Off),
            (("AeState", Value::Int(2)), Ae::Converged),
            (("AeState", Value::Int(1)), Ae::Searching),
            (("AeLocked", Value::Bool(true)), Ae::Converged),
            (("AeLocked", Value::Bool(false)), Ae::Searching),
        ] {
            assert_eq!(facts(&[entry]).ae(false), ae, "{entry:?}");
            assert_eq!(facts(&[entry]).ae(true), Ae::Off, "{entry:?}");
        }
        assert_eq!(facts(&[("AeState", Value::Int(1)), ("AeLocked", Value::Bool(true))]).ae(false), Ae::Searching);
    }

    #[test]
    fn nothing_told_is_nothing_known() {
        let f =
            facts(&[("ExposureTime", Value::Bool(true)), ("Lux", Value::Float(f64::NAN)), ("SensorTimestamp", Value::Int(-1))]);
        assert_eq!((f, f.exposure(), f.ae(false)), (Facts::default(), None, Ae::Off));
        assert_eq!(f.taken(BootUs(7), 3), BootUs(7));
        let gain_only = facts(&[("AnalogueGain", Value::Float(2.0))]);
        assert_eq!(gain_only.exposure(), None);
    }

    #[test]
    fn stamps_of_another_clock_are_not_believed() {
        let f = facts(&[("SensorTimestamp", Value::Int(20_000_000_000))]);
        assert_eq!(f.taken(BootUs(15_000_000), 10_000_000), BootUs(15_000_000));
        let old = facts(&[("SensorTimestamp", Value::Int(1_000))]);
        assert_eq!(old.taken(BootUs(2_000_000_000), 2_000_000_000), BootUs(2_000_000_000));
    }
}
