//! Owns which value of a control is in force: what was set by hand goes before the preset, that before what was persisted,
//! that before the camera's default. And what goes together: a fixed exposure means auto-exposure off. Pure.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::Presets;
use super::value::{find, from_json, place};
use super::{Map, Origin};
use crate::night::Mode;
use crate::source::{Control, Value};

/// Controls that fix the exposure.
pub const EXPOSURE: [&str; 2] = ["ExposureTime", "AnalogueGain"];
/// Controls that fix the colours.
pub const COLOUR: [&str; 2] = ["ColourGains", "ColourTemperature"];
/// Controls whose presence may keep the night rule from the exposure.
pub const EXPOSURE_GROUP: [&str; 5] = ["ExposureTime", "AnalogueGain", "AeEnable", "ExposureTimeMode", "AnalogueGainMode"];
/// Both since libcamera 0.5; before that `AeEnable` says all. 0 is automatic, 1 by hand.
const MODES: [&str; 2] = ["ExposureTimeMode", "AnalogueGainMode"];
/// The range of frame times (µs); it must allow the exposure.
pub const FRAME_TIMES: &str = "FrameDurationLimits";

/// What is wanted, by whom.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layers {
    /// Set since the start.
    pub hand: Map,
    /// `preset NAME`; `None`: day and night choose.
    pub preset: Option<String>,
    /// `presets` of the configuration.
    pub presets: Presets,
    /// As `tuning.json` has it.
    pub persisted: Map,
    /// `preset auto` gave a persisted exposure back to the night rule, until the next start.
    pub released: bool,
}

/// Who has the exposure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The night rule.
    No,
    /// A fixed exposure.
    Manual,
    /// Auto-exposure, also at night: a preset that was chosen by hand says so.
    Auto,
}

/// The values in force, by the controls' places.
pub type Force = BTreeMap<usize, (Value, Origin)>;

/// Takes out what the new word makes meaningless: the automatic ends a fixed value, a fixed value the automatic.
pub fn give_way(map: &mut Map, name: &str, value: &Value) {
    let mut drop_all = |names: &[&str]| map.retain(|known, _| !names.iter().any(|n| known.eq_ignore_ascii_case(n)));
    match (name, value) {
        ("AeEnable", Value::Bool(true)) => drop_all(&["ExposureTime", "AnalogueGain", "ExposureTimeMode", "AnalogueGainMode"]),
        ("AwbEnable", Value::Bool(true)) => drop_all(&COLOUR),
        _ if EXPOSURE.contains(&name) => drop_all(&["AeEnable"]),
        _ if COLOUR.contains(&name) => drop_all(&["AwbEnable"]),
        _ => {}
    }
}

/// Two words of one order that cannot both be, if any.
pub fn contradiction(controls: &[Control], settings: &[(usize, Value)]) -> Option<(&'static str, &'static str)> {
    let has = |name: &str| settings.iter().find(|(i, _)| controls[*i].name == name).map(|(_, v)| *v);
    let pair = |automatic: &'static str, fixed: [&'static str; 2]| {
        let fixed = fixed.into_iter().find(|name| has(name).is_some())?;
        (has(automatic) == Some(Value::Bool(true))).then_some((automatic, fixed))
    };
    pair("AeEnable", EXPOSURE).or_else(|| pair("AwbEnable", COLOUR))
}

/// Adds what fixed values imply: the automatic off, and its newer names with it.
fn complete(controls: &[Control], layer: &mut BTreeMap<usize, Value>) {
    let at = |name: &str| place(controls, name);
    for (automatic, fixed) in [("AeEnable", EXPOSURE), ("AwbEnable", COLOUR)] {
        let fixed = fixed.iter().filter_map(|n| at(n)).any(|i| layer.contains_key(&i));
        if let Some(i) = at(automatic).filter(|_| fixed) {
            layer.insert(i, Value::Bool(false));
        }
    }
    if let Some(Value::Bool(on)) = at("AeEnable").and_then(|i| layer.get(&i)).copied() {
        for i in MODES.iter().filter_map(|n| at(n)) {
            layer.entry(i).or_insert(Value::Int(i64::from(!on)));
        }
    }
}

impl Layers {
    /// The name of the preset in force and its controls.
    pub fn preset_in(&self, mode: Mode) -> Option<(&str, &BTreeMap<String, Json>)> {
        let name = self.preset.as_deref().unwrap_or(match mode {
            Mode::Day => "day",
            Mode::Night => "night",
        });
        self.presets.get_key_value(name).map(|(name, map)| (name.as_str(), map))
    }

    /// What is in force on this camera, and who has the exposure. `day_us` is the frame time by day. Entries that this camera
    /// does not take are passed over and given to `warn`.
    pub fn resolve(&self, controls: &[Control], mode: Mode, day_us: i64, warn: &mut dyn FnMut(String)) -> (Force, Held) {
        let mut force = Force::new();
        let mut chosen_automatic = false;
        let preset = self.preset_in(mode);
        let layers = [
            (Origin::Persisted, super::file::NAME.to_string(), Some(&self.persisted)),
            (Origin::Preset, preset.map_or_else(String::new, |(name, _)| format!("presets.{name}")), preset.map(|(_, map)| map)),
            (Origin::Hand, "set".into(), Some(&self.hand)),
        ];
        for (origin, from, map) in layers {
            let mut layer = BTreeMap::new();
            for (name, json) in map.into_iter().flatten() {
                match find(controls, name).and_then(|i| Ok((i, from_json(&controls[i], json)?))) {
                    Ok((i, _)) if origin == Origin::Persisted && self.released && in_group(&controls[i].name) => {}
                    Ok((i, value)) => {
                        layer.insert(i, value);
                    }
                    Err(e) => warn(format!("{from}: {e}; it is passed over")),
                }
            }
            complete(controls, &mut layer);
            let automatic = place(controls, "AeEnable").and_then(|i| layer.get(&i)).copied();
            if automatic == Some(Value::Bool(true)) {
                // What lies below must not fix what this layer leaves to the automatic.
                force.retain(|i, _| !EXPOSURE.contains(&controls[*i].name.as_str()));
            }
            if automatic.is_some() {
                chosen_automatic = automatic == Some(Value::Bool(true)) && origin == Origin::Preset && self.preset.is_some();
            }
            if place(controls, "AwbEnable").and_then(|i| layer.get(&i)) == Some(&Value::Bool(true)) {
                force.retain(|i, _| !COLOUR.contains(&controls[*i].name.as_str()));
            }
            force.extend(layer.into_iter().map(|(i, value)| (i, (value, origin))));
        }
        let value = |name: &str| place(controls, name).and_then(|i| force.get(&i)).map(|(v, _)| *v);
        let fixed = EXPOSURE.iter().any(|n| value(n).is_some());
        let held = match value("AeEnable") {
            Some(Value::Bool(true)) if chosen_automatic => Held::Auto,
            Some(Value::Bool(true)) => Held::No,
            Some(_) => Held::Manual,
            None if fixed => Held::Manual,
            None => Held::No,
        };
        // A frame lasts at least as long as its exposure; only these limits would cut it.
        if let (Some(Value::Int(us)), None, Some(i)) = (value("ExposureTime"), value(FRAME_TIMES), place(controls, FRAME_TIMES)) {
            force.insert(i, (Value::IntPair([us.max(day_us); 2]), Origin::Implied));
        }
        (force, held)
    }
}

fn in_group(name: &str) -> bool {
    EXPOSURE_GROUP.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::super::value::tests::controls;
    use super::*;
    use serde_json::json;

    fn map(json: Json) -> Map {
        serde_json::from_value(json).unwrap()
    }
    fn resolve(l: &Layers, mode: Mode) -> (BTreeMap<String, (Value, Origin)>, Held, Vec<String>) {
        let (list, mut said) = (controls(), Vec::new());
        let (force, held) = l.resolve(&list, mode, 100_000, &mut |w| said.push(w));
        (force.into_iter().map(|(i, v)| (list[i].name.clone(), v)).collect(), held, said)
    }

    #[test]
    fn hand_goes_before_preset_before_persisted() {
        let mut l = Layers { persisted: map(json!({"Brightness": 0.1, "AwbMode": "Daylight"})), ..Layers::default() };
        l.presets = serde_json::from_value(json!({"night": {"Brightness": 0.2}, "x": {"brightness": 0.3}})).unwrap();
        let brightness = |l: &Layers, mode| resolve(l, mode).0["Brightness"];
        assert_eq!(brightness(&l, Mode::Day), (Value::Float(0.1), Origin::Persisted));
        assert_eq!(brightness(&l, Mode::Night), (Value::Float(0.2), Origin::Preset));
        l.preset = Some("x".into());
        assert_eq!(brightness(&l, Mode::Night), (Value::Float(0.3), Origin::Preset));
        l.hand = map(json!({"Brightness": 0.4}));
        assert_eq!(brightness(&l, Mode::Day), (Value::Float(0.4), Origin::Hand));
        assert_eq!(resolve(&l, Mode::Day).0["AwbMode"].0, Value::Int(5));
        assert_eq!(resolve(&l, Mode::Day).1, Held::No);
    }

    #[test]
    fn a_fixed_exposure_brings_what_it_needs_and_holds() {
        let mut l = Layers { persisted: map(json!({"ExposureTime": 500_000})), ..Layers::default() };
        let (force, held, _) = resolve(&l, Mode::Day);
        assert_eq!(held, Held::Manual);
        assert_eq!(force["AeEnable"].0, Value::Bool(false));
        assert_eq!(force["FrameDurationLimits"], (Value::IntPair([500_000; 2]), Origin::Implied));
        // By hand back to automatic: nothing of it stays.
        l.hand = map(json!({"AeEnable": true}));
        let (force, held, _) = resolve(&l, Mode::Day);
        assert_eq!((held, force.len(), force["AeEnable"].0), (Held::No, 1, Value::Bool(true)));
        l.hand.clear();
        l.released = true;
        assert!(resolve(&l, Mode::Day).0.is_empty());
    }

    #[test]
    fn a_chosen_preset_with_auto_exposure_holds_it_and_an_automatic_one_does_not() {
        let presets: Presets =
            serde_json::from_value(json!({"day": {"AeEnable": true}, "night": {"ExposureTime": 1000}})).unwrap();
        let mut l = Layers { presets, ..Layers::default() };
        assert_eq!((resolve(&l, Mode::Day).1, resolve(&l, Mode::Night).1), (Held::No, Held::Manual));
        l.preset = Some("day".into());
        assert_eq!(resolve(&l, Mode::Night).1, Held::Auto);
        l.hand = map(json!({"ExposureTime": 1000}));
        assert_eq!(resolve(&l, Mode::Night).1, Held::Manual);
    }

    #[test]
    fn what_the_camera_does_not_take_is_passed_over_and_said() {
        let l = Layers { persisted: map(json!({"Zoom": 2, "Brightness": 7, "AeEnable": true})), ..Layers::default() };
        let (force, _, said) = resolve(&l, Mode::Day);
        assert_eq!((force.len(), said.len()), (1, 2));
        assert!(said[0].contains("tuning.json: Brightness takes a decimal from -1 to 1, not 7"), "{said:?}");
    }

    #[test]
    fn words_that_exclude_each_other_are_told() {
        let list = controls();
        let at = |name| place(&list, name).unwrap();
        let on = (at("AeEnable"), Value::Bool(true));
        assert_eq!(contradiction(&list, &[on, (at("ExposureTime"), Value::Int(100))]), Some(("AeEnable", "ExposureTime")));
        assert_eq!(contradiction(&list, &[on, (at("Brightness"), Value::Float(0.0))]), None);
        let mut m = map(json!({"exposuretime": 5, "Brightness": 1}));
        give_way(&mut m, "AeEnable", &Value::Bool(true));
        assert_eq!(m, map(json!({"Brightness": 1})));
    }
}
