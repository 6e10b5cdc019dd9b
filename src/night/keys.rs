//! Owns what the configuration says of day and night. Pure; any thread.

use serde_json::{Number, Value};

use super::Settings;
use crate::error::Error;
use crate::settings::{Kind, Leaf, Refusal, any, from, settings};

/// A number that answers show as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct AsWritten(pub Number);

impl AsWritten {
    /// As a float: JSON numbers of this program are all within its range.
    pub fn real(&self) -> f64 {
        self.0.as_f64().unwrap_or(f64::NAN)
    }
}

impl std::fmt::Display for AsWritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Leaf for AsWritten {
    fn kind(&self) -> Kind {
        Kind::Real
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        if let Value::Number(n) = written {
            self.0 = n.clone();
        }
        Ok(())
    }
    fn value(&self) -> Value {
        self.0.clone().into()
    }
}

settings! {
    /// `night` in the configuration.
    pub struct Keys {
        /// Whether darkness changes the exposure at all.
        enable: bool = true, any();
        /// Level below which it is night (0–255). Shown in answers as it is written here.
        dark_threshold: AsWritten = AsWritten(35.into()), from(1.0, 250.0);
        /// Level above which it is day again (0–255).
        bright_threshold: AsWritten = AsWritten(55.into()), from(1.0, 250.0);
        /// Dark frames before night begins; a bright one takes half of one away.
        min_dark_frames: u32 = 20, from(1.0, 100_000.0);
        /// Kept for old files: the camera is never stopped for the night. Not used.
        mode: String = "still".into(), any();
        /// Longest night exposure (µs).
        exposure_us: f64 = 2_000_000.0, from(100.0, 600_000_000.0);
        /// Night gain.
        gain: f64 = 6.0, from(1.0, 64.0);
        /// Largest gain auto-exposure uses by day: 8 for OV5647, 10 for IMX219.
        day_gain_ceiling: f64 = 8.0, from(1.0, 64.0);
    }
}

impl Keys {
    /// What must be together.
    pub fn check(&self) -> Result<(), Error> {
        let (dark, bright) = (self.dark_threshold.real(), self.bright_threshold.real());
        if bright < dark {
            let rule = format!("at least night.dark_threshold ({dark})");
            return Err(Refusal::new(rule, bright).of("night.bright_threshold"));
        }
        Ok(())
    }

    /// The rule by these keys, for a camera of so many frames a second by day.
    pub fn settings(&self, fps: f64) -> Settings {
        Settings {
            enable: self.enable,
            dark_threshold: self.dark_threshold.real(),
            bright_threshold: self.bright_threshold.real(),
            min_dark_frames: self.min_dark_frames,
            exposure_us: self.exposure_us as u64,
            gain: self.gain,
            fps,
            day_gain_max: self.day_gain_ceiling,
            ..Settings::default()
        }
    }
}
