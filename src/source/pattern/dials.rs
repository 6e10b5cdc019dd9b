//! Owns the controls of the synthetic sensor: which there are, what each does, what a frame tells of them. Pure; stepped on
//! the thread `sensor`.

use crate::frame::{Exposure, Layout};
use crate::night::simulate::{AE_TARGET, K};
use crate::source::{Camera, Control, Light, Setting, Value};

/// Longest exposure (µs), of an OV5647 on current drivers.
pub const LONGEST_US: f64 = 3_070_000.0;
/// Longest exposure by day (µs): the tuning file's "normal" mode.
const DAY_LONGEST_US: f64 = 66_666.0;
/// Shortest exposure (µs).
const SHORTEST_US: f64 = 100.0;
/// Largest analogue gain, of an OV5647.
const GAIN_MAX: f64 = 64.0;
/// The light of the scene (K).
const SCENE_KELVIN: f64 = 5600.0;
/// Code values that a doubled gain moves its colour difference.
const CAST: f64 = 40.0;

/// Places of the controls in [`list`].
pub const EXPOSURE_TIME: usize = 0;
pub const ANALOGUE_GAIN: usize = 1;
pub const AE_ENABLE: usize = 2;
const EXPOSURE_VALUE: usize = 3;
const FRAME_DURATION_LIMITS: usize = 4;
const BRIGHTNESS: usize = 5;
const CONTRAST: usize = 6;
const SATURATION: usize = 7;
const AWB_ENABLE: usize = 8;
const AWB_MODE: usize = 9;
const COLOUR_GAINS: usize = 10;
const COLOUR_TEMPERATURE: usize = 11;
const SCALER_CROP: usize = 12;
/// Frames do not tell these two, as some cameras do not tell some.
const HORIZONTAL_FLIP: usize = 13;
const VERTICAL_FLIP: usize = 14;
/// How many controls each frame tells: all up to here.
pub const TOLD: usize = HORIZONTAL_FLIP;

/// Numbers and names as libcamera has them, and the light each is made for (K).
const AWB_MODES: [(&str, i64, f64); 4] =
    [("AwbAuto", 0, SCENE_KELVIN), ("AwbIncandescent", 1, 2800.0), ("AwbDaylight", 5, SCENE_KELVIN), ("AwbCloudy", 6, 7500.0)];

/// The controls as the sensor offers them.
pub fn list(camera: &Camera, longest_us: f64) -> Vec<Control> {
    let whole = rectangle(camera.layout);
    let control = |name: &str, min, max, default| Control { name: name.into(), min, max, default, choices: Vec::new() };
    let switch = |name, on| control(name, Value::Bool(false), Value::Bool(true), Value::Bool(on));
    let decimal = |name, min, max, default| control(name, Value::Float(min), Value::Float(max), Value::Float(default));
    let day_us = (1e6 / camera.fps) as i64;
    let mut modes = control("AwbMode", Value::Int(0), Value::Int(6), Value::Int(0));
    modes.choices = AWB_MODES.iter().map(|(name, n, _)| ((*name).into(), *n)).collect();
    vec![
        control("ExposureTime", Value::Int(SHORTEST_US as i64), Value::Int(longest_us as i64), Value::Int(20_000)),
        decimal("AnalogueGain", 1.0, GAIN_MAX, 1.0),
        switch("AeEnable", true),
        decimal("ExposureValue", -8.0, 8.0, 0.0),
        control(
            "FrameDurationLimits",
            Value::IntPair([1000.min(day_us); 2]),
            Value::IntPair([(longest_us as i64 + 30_000).max(day_us); 2]),
            Value::IntPair([day_us; 2]),
        ),
        decimal("Brightness", -1.0, 1.0, 0.0),
        decimal("Contrast", 0.0, 32.0, 1.0),
        decimal("Saturation", 0.0, 32.0, 1.0),
        switch("AwbEnable", true),
        modes,
        control("ColourGains", Value::Pair([0.1; 2]), Value::Pair([32.0; 2]), Value::Pair(gains_for(SCENE_KELVIN))),
        control("ColourTemperature", Value::Int(1000), Value::Int(20_000), Value::Int(SCENE_KELVIN as i64)),
        control("ScalerCrop", Value::Rectangle([0, 0, 16, 16]), Value::Rectangle(whole), Value::Rectangle(whole)),
        switch("HorizontalFlip", false),
        switch("VerticalFlip", false),
    ]
}

fn rectangle(l: Layout) -> [i64; 4] {
    [0, 0, i64::from(l.width), i64::from(l.height)]
}

/// Gains (red, blue) that make grey of a grey thing in this light: less red and more blue the warmer it is.
fn gains_for(kelvin: f64) -> [f64; 2] {
    [1.6 * (kelvin / SCENE_KELVIN).powf(0.6), 1.8 * (SCENE_KELVIN / kelvin).powf(0.6)]
}

/// What the picture's colours and tones go through, and which part of the scene it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// −1 to 1: half the range of luma up or down.
    pub brightness: f64,
    /// Around mid grey.
    pub contrast: f64,
    /// 1: as it is.
    pub saturation: f64,
    /// Added to U and V: what wrong colour gains do (code values).
    pub cast: [f64; 2],
    /// x, y, width, height (pixels of the full picture).
    pub crop: [usize; 4],
    /// Left and right changed.
    pub hflip: bool,
    /// Top and bottom changed.
    pub vflip: bool,
}

impl Look {
    /// Nothing changed.
    pub fn plain(l: Layout) -> Look {
        let crop = [0, 0, l.width as usize, l.height as usize];
        Look { brightness: 0.0, contrast: 1.0, saturation: 1.0, cast: [0.0; 2], crop, hflip: false, vflip: false }
    }
}

/// The controls as they stand.
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the camera")]
#[derive(Debug, Clone, Copy)]
pub struct Dials {
    fps: f64,
    day_gain: f64,
    longest_us: f64,
    ae: bool,
    /// Used while `ae` is off.
    time_us: f64,
    gain: f64,
    ev: f64,
    frame_us: [f64; 2],
    brightness: f64,
    contrast: f64,
    saturation: f64,
    awb: bool,
    awb_mode: i64,
    /// Used while `awb` is off.
    gains: [f64; 2],
    kelvin: f64,
    crop: [i64; 4],
    hflip: bool,
    vflip: bool,
}

impl Dials {
    /// As they are after a start.
    pub fn new(camera: &Camera, longest_us: f64) -> Dials {
        let day_us = 1e6 / camera.fps;
        Dials {
            fps: camera.fps,
            day_gain: camera.day_gain_ceiling,
            longest_us,
            ae: true,
            time_us: 20_000.0,
            gain: 1.0,
            ev: 0.0,
            frame_us: [day_us; 2],
            brightness: 0.0,
            contrast: 1.0,
            saturation: 1.0,
            awb: true,
            awb_mode: 0,
            gains: gains_for(SCENE_KELVIN),
            kelvin: SCENE_KELVIN,
            crop: rectangle(camera.layout),
            hflip: false,
            vflip: false,
        }
    }

    /// Whether auto-exposure is on.
    pub fn ae(&self) -> bool {
        self.ae
    }

    /// As the night rule asks for it.
    pub fn light(&mut self, light: Light) {
        let day_us = 1e6 / self.fps;
        match light {
            Light::Auto => (self.ae, self.frame_us) = (true, [day_us; 2]),
            Light::Manual { time_us, gain } => {
                let time_us = time_us.clamp(SHORTEST_US, self.longest_us);
                (self.ae, self.time_us, self.gain) = (false, time_us, gain.clamp(1.0, GAIN_MAX));
                self.frame_us = [day_us.max(time_us); 2];
            }
        }
    }

    /// Takes what one request sets. `now`: the exposure of this moment, which stays when auto-exposure ends.
    pub fn turn(&mut self, settings: &[Setting], now: Exposure) {
        for (place, value) in settings {
            match (*place, *value) {
                (AE_ENABLE, Value::Bool(on)) => {
                    if self.ae && !on {
                        (self.time_us, self.gain) = (now.time_us, now.analogue_gain);
                    }
                    self.ae = on;
                }
                (AWB_ENABLE, Value::Bool(on)) => {
                    if self.awb && !on {
                        (self.gains, self.kelvin) = (gains_for(self.light_kelvin()), self.light_kelvin());
                    }
                    self.awb = on;
                }
                _ => {}
            }
        }
        for (place, value) in settings {
            match (*place, *value) {
                (EXPOSURE_TIME, Value::Int(us)) => self.time_us = us as f64,
                (ANALOGUE_GAIN, Value::Float(gain)) => self.gain = gain,
                (EXPOSURE_VALUE, Value::Float(ev)) => self.ev = ev,
                (FRAME_DURATION_LIMITS, Value::IntPair(us)) => self.frame_us = us.map(|us| us as f64),
                (BRIGHTNESS, Value::Float(v)) => self.brightness = v,
                (CONTRAST, Value::Float(v)) => self.contrast = v,
                (SATURATION, Value::Float(v)) => self.saturation = v,
                (AWB_MODE, Value::Int(mode)) => self.awb_mode = mode,
                (COLOUR_GAINS, Value::Pair(gains)) => self.gains = gains,
                (COLOUR_TEMPERATURE, Value::Int(k)) => (self.gains, self.kelvin) = (gains_for(k as f64), k as f64),
                (SCALER_CROP, Value::Rectangle(crop)) => self.crop = crop,
                (HORIZONTAL_FLIP, Value::Bool(on)) => self.hflip = on,
                (VERTICAL_FLIP, Value::Bool(on)) => self.vflip = on,
                _ => {}
            }
        }
    }

    /// What the sensor really does: by hand within its limits, or as auto-exposure would, time before gain.
    pub fn expose(&self, lux: f64, clamp_us: Option<f64>) -> Exposure {
        let longest = self.longest_us.min(self.frame_us[1]).min(clamp_us.unwrap_or(f64::INFINITY)).max(SHORTEST_US);
        let (time_us, gain) = if self.ae {
            let wanted = AE_TARGET * self.ev.exp2() / (K * lux.max(1e-6)) * 1e6;
            let time = wanted.clamp(SHORTEST_US, longest.min(DAY_LONGEST_US));
            (time, (wanted / time).clamp(1.0, self.day_gain))
        } else {
            (self.time_us.clamp(SHORTEST_US, longest), self.gain)
        };
        Exposure { time_us, analogue_gain: gain, digital_gain: 1.0 }
    }

    /// How long the frame lasts (µs).
    pub fn frame_us(&self, exposure: &Exposure) -> f64 {
        self.frame_us[0].max(exposure.time_us)
    }

    /// The light that automatic white balance takes the scene for (K).
    fn light_kelvin(&self) -> f64 {
        AWB_MODES.iter().find(|(_, n, _)| *n == self.awb_mode).map_or(SCENE_KELVIN, |(_, _, k)| *k)
    }

    fn white(&self) -> ([f64; 2], f64) {
        if self.awb { (gains_for(self.light_kelvin()), self.light_kelvin()) } else { (self.gains, self.kelvin) }
    }

    /// The colour temperature that the gains are made for (K).
    pub fn kelvin(&self) -> u32 {
        self.white().1 as u32
    }

    /// What the picture goes through.
    pub fn look(&self) -> Look {
        let (gains, right) = (self.white().0, gains_for(SCENE_KELVIN));
        let cast = |k: usize| (gains[k] / right[k]).log2() * CAST;
        Look {
            brightness: self.brightness,
            contrast: self.contrast,
            saturation: self.saturation,
            cast: [cast(1), cast(0)],
            crop: self.crop.map(|v| v.max(0) as usize),
            hflip: self.hflip,
            vflip: self.vflip,
        }
    }

    /// What a frame of this exposure tells.
    pub fn told(&self, exposure: &Exposure) -> [Setting; TOLD] {
        let (gains, kelvin) = self.white();
        [
            Value::Int(exposure.time_us as i64),
            Value::Float(exposure.analogue_gain),
            Value::Bool(self.ae),
            Value::Float(self.ev),
            Value::IntPair(self.frame_us.map(|us| us as i64)),
            Value::Float(self.brightness),
            Value::Float(self.contrast),
            Value::Float(self.saturation),
            Value::Bool(self.awb),
            Value::Int(self.awb_mode),
            Value::Pair(gains),
            Value::Int(kelvin as i64),
            Value::Rectangle(self.crop),
        ]
        .map({
            let mut place = 0;
            move |value| {
                place += 1;
                (place - 1, value)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera() -> Camera {
        Camera { layout: Layout::new(320, 240), fps: 10.0, day_gain_ceiling: 8.0, turn: crate::turn::Turn::default(), low: None }
    }

    #[test]
    fn defaults_are_what_a_fresh_sensor_tells() {
        let (list, dials) = (list(&camera(), LONGEST_US), Dials::new(&camera(), LONGEST_US));
        let told = dials.told(&dials.expose(400.0, None));
        for (place, value) in told.into_iter().skip(2) {
            assert_eq!(list[place].default, value, "{}", list[place].name);
        }
        assert_eq!(dials.look(), Look::plain(camera().layout));
        assert_eq!((list[HORIZONTAL_FLIP].name.as_str(), list[VERTICAL_FLIP].name.as_str()), ("HorizontalFlip", "VerticalFlip"));
        assert_eq!((list[SCALER_CROP].name.as_str(), list[AWB_MODE].name.as_str()), ("ScalerCrop", "AwbMode"));
    }

    #[test]
    fn an_exposure_is_cut_by_the_frame_and_by_the_driver() {
        let mut d = Dials::new(&camera(), LONGEST_US);
        let now = d.expose(400.0, None);
        d.turn(&[(AE_ENABLE, Value::Bool(false)), (EXPOSURE_TIME, Value::Int(2_000_000))], now);
        assert!((d.expose(400.0, None).time_us - 100_000.0).abs() < 1e-6, "the frame is 100 ms long");
        d.turn(&[(FRAME_DURATION_LIMITS, Value::IntPair([2_000_000; 2]))], now);
        assert!((d.expose(400.0, None).time_us - 2e6).abs() < 1e-6);
        assert!((d.expose(400.0, Some(5e5)).time_us - 5e5).abs() < 1e-6);
        // Ended without a time of its own, auto-exposure leaves what it had.
        let mut d = Dials::new(&camera(), LONGEST_US);
        d.turn(&[(AE_ENABLE, Value::Bool(false))], now);
        assert_eq!(d.expose(1.0, None), now);
    }

    #[test]
    fn wrong_gains_and_wrong_lamps_cast_a_colour() {
        let mut d = Dials::new(&camera(), LONGEST_US);
        let now = d.expose(400.0, None);
        d.turn(&[(AWB_MODE, Value::Int(1))], now);
        let [u, v] = d.look().cast;
        assert!(u > 10.0 && v < -10.0, "tuned for a bulb, daylight is blue: {u} {v}");
        d.turn(&[(AWB_ENABLE, Value::Bool(false)), (COLOUR_GAINS, Value::Pair([3.2, 1.8]))], now);
        let [u, v] = d.look().cast;
        assert!(u.abs() < 1e-9 && (v - CAST).abs() < 1e-9);
    }
}
