//! Owns what is asked of a camera to expose as the night rule wants: names and values of controls, by what the camera offers.
//! Pure.

use crate::source::{Control, Light, Setting, Value};

/// `ExposureTimeMode` and `AnalogueGainMode` have the same two values.
const AUTO: i64 = 0;
const MANUAL: i64 = 1;
/// What a frame lasts beyond its exposure: sensors need some lines to read out, drivers clip the exposure otherwise.
const READ_OUT: f64 = 1.01;

/// The settings, all for one and the same request. Empty where the camera has no such controls.
///
/// Both families of names are served: `AeEnable` alone until libcamera 0.4, the two modes from 0.5 on, where a time is
/// silently ignored unless its mode is manual. The frame duration is a range by night, so that the frames are as long as the
/// exposure needs and not longer.
pub(super) fn settings(light: Light, fps: f64, controls: &[Control]) -> Vec<Setting> {
    let mut out = Vec::new();
    let place = |name: &str| controls.iter().position(|c| c.name == name);
    let mut ask = |name: &str, value: Value| {
        if let Some(i) = place(name) {
            out.push((i, within(&controls[i], value)));
        }
    };
    let day_us = (1e6 / fps).round() as i64;
    match light {
        Light::Auto => {
            ask("AeEnable", Value::Bool(true));
            ask("ExposureTimeMode", Value::Int(AUTO));
            ask("AnalogueGainMode", Value::Int(AUTO));
            ask("FrameDurationLimits", Value::IntPair([day_us, day_us]));
        }
        Light::Manual { time_us, gain } => {
            ask("AeEnable", Value::Bool(false));
            ask("ExposureTimeMode", Value::Int(MANUAL));
            ask("AnalogueGainMode", Value::Int(MANUAL));
            ask("ExposureTime", Value::Int(time_us.round() as i64));
            ask("AnalogueGain", Value::Float(gain));
            let longest = day_us.max((time_us * READ_OUT).ceil() as i64);
            ask("FrameDurationLimits", Value::IntPair([day_us, longest]));
        }
    }
    out
}

/// The value moved into the control's range. Webcams count exposure in steps of 100 µs; drivers round by themselves.
fn within(control: &Control, value: Value) -> Value {
    match (value, control.min, control.max) {
        (Value::Int(v), Value::Int(low), Value::Int(high)) if low <= high => Value::Int(v.clamp(low, high)),
        (Value::Float(v), Value::Float(low), Value::Float(high)) if low <= high => Value::Float(v.clamp(low, high)),
        (Value::IntPair(v), Value::IntPair(low), Value::IntPair(high)) if low[0] <= high[0] && low[1] <= high[1] => {
            Value::IntPair([v[0].clamp(low[0], high[0]), v[1].clamp(low[1], high[1])])
        }
        _ => value,
    }
}

/// Whether auto-exposure would overrule, or the driver refuse, an exposure time set now. `standing` are the values in force
/// and those asked for with it, later ones counting; a camera begins with auto-exposure on.
pub(super) fn overruled(controls: &[Control], standing: &[Setting]) -> bool {
    let last = |name: &str| {
        let place = controls.iter().position(|c| c.name == name)?;
        Some(standing.iter().rev().find(|(i, _)| *i == place).map(|(_, v)| *v))
    };
    let mode = last("ExposureTimeMode");
    let enable = last("AeEnable");
    // The mode has the last word where it was set; else the older switch; else what a camera begins with.
    match (mode, enable) {
        (Some(Some(v)), _) => v != Value::Int(MANUAL),
        (_, Some(Some(v))) => v != Value::Bool(false),
        (None, None) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(name: &str, min: Value, max: Value) -> Control {
        Control { name: name.into(), min, max, default: min, choices: Vec::new() }
    }

    fn pi(modes: bool) -> Vec<Control> {
        let mut all = vec![
            control("AeEnable", Value::Bool(false), Value::Bool(true)),
            control("ExposureTime", Value::Int(75), Value::Int(3_066_979)),
            control("AnalogueGain", Value::Float(1.0), Value::Float(63.9375)),
            control("FrameDurationLimits", Value::IntPair([16_971; 2]), Value::IntPair([3_067_110; 2])),
        ];
        if modes {
            all.push(control("ExposureTimeMode", Value::Int(0), Value::Int(1)));
            all.push(control("AnalogueGainMode", Value::Int(0), Value::Int(1)));
        }
        all
    }

    fn said(light: Light, controls: &[Control]) -> Vec<(&str, Value)> {
        settings(light, 10.0, controls).into_iter().map(|(i, v)| (controls[i].name.as_str(), v)).collect()
    }

    #[test]
    fn night_is_one_request_in_the_words_of_each_version() {
        let night = Light::Manual { time_us: 2_000_000.0, gain: 6.0 };
        let (old, new) = (pi(false), pi(true));
        let common = [
            ("AeEnable", Value::Bool(false)),
            ("ExposureTime", Value::Int(2_000_000)),
            ("AnalogueGain", Value::Float(6.0)),
            ("FrameDurationLimits", Value::IntPair([100_000, 2_020_000])),
        ];
        assert_eq!(said(night, &old), common);
        let said = said(night, &new);
        assert!(common.iter().all(|c| said.contains(c)));
        assert!(said.contains(&("ExposureTimeMode", Value::Int(1))) && said.contains(&("AnalogueGainMode", Value::Int(1))));
    }

    #[test]
    fn day_hands_both_back_to_auto_exposure_at_the_day_s_rate() {
        let c = pi(true);
        let day = said(Light::Auto, &c);
        assert_eq!(
            day,
            [
                ("AeEnable", Value::Bool(true)),
                ("ExposureTimeMode", Value::Int(0)),
                ("AnalogueGainMode", Value::Int(0)),
                ("FrameDurationLimits", Value::IntPair([100_000, 100_000])),
            ]
        );
    }

    #[test]
    fn what_the_sensor_cannot_do_is_clamped_and_what_is_not_offered_is_not_asked() {
        let c = pi(false);
        let night = said(Light::Manual { time_us: 10e6, gain: 100.0 }, &c);
        assert!(night.contains(&("ExposureTime", Value::Int(3_066_979))));
        assert!(night.contains(&("AnalogueGain", Value::Float(63.9375))));
        assert!(night.contains(&("FrameDurationLimits", Value::IntPair([100_000, 3_067_110]))));
        assert!(settings(Light::Auto, 10.0, &[]).is_empty());
    }

    #[test]
    fn an_exposure_time_needs_auto_exposure_off() {
        let (old, new) = (pi(false), pi(true));
        assert!(overruled(&old, &[]) && overruled(&new, &[]));
        assert!(!overruled(&old, &[(0, Value::Bool(false))]));
        assert!(!overruled(&new, &[(0, Value::Bool(true)), (4, Value::Int(1))]));
        assert!(overruled(&new, &[(4, Value::Int(1)), (4, Value::Int(0))]));
        assert!(!overruled(&new, &[(0, Value::Bool(false))]));
        assert!(!overruled(&old[1..], &[]), "a camera without auto-exposure");
    }
}
