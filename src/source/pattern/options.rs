//! Owns the words by which the synthetic sensor is chosen, and those of its control file. Reads files, keeps none open.
//! `Options` on any thread, `Script` on the thread `sensor` and at a start.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::develop::Noise;
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::frame::Layout;

/// What may be written after `pattern:`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// `lux=N`: light of the scene, 400 where nothing is written.
    pub lux: Option<f64>,
    /// `trace=FILE`: light over time as CSV (`t_s,lux`), from its first row on, the last row for ever after.
    pub trace: Option<PathBuf>,
    /// `speed=N`: how much faster the trace runs than time does.
    pub speed: Option<f64>,
    /// `noise=sensor|N|off`: as a sensor has it where nothing is written, the same everywhere (code values, standard deviation),
    /// or none.
    pub noise: Noise,
    /// `motion=on|off`: off, the things and the stars rest where they are in frame 0.
    pub still: bool,
    /// `pan=N`: columns that the camera turns to the right in a frame; the whole scene moves as many to the left.
    pub pan: u64,
    /// `hot=N`: hot pixels.
    pub hot: usize,
    /// `lamps=N`: lamps, 20 where nothing is written and the picture has room.
    pub lamps: Option<usize>,
    /// `stars=N`: stars, 40 where nothing is written and the picture has room.
    pub stars: Option<usize>,
    /// `control=FILE`: a file re-read when it changes, see `Script`.
    pub control: Option<PathBuf>,
    /// `stride=N`: bytes from one Y row to the next, half of that for U and V; less than a row counts as none.
    pub stride: usize,
    /// `low=WxH`: a second, smaller stream, as an ISP with two outputs has it.
    pub low: Option<Layout>,
    /// `latency=N`: frames from a request to its effect, 4 where nothing is written.
    pub latency: Option<u64>,
    /// `hide=N`: frames that do not come after each start, 2 where nothing is written.
    pub hide: Option<u64>,
    /// `longest=US`: the longest exposure (µs), 3070000 where nothing is written.
    pub longest_us: Option<f64>,
    /// `strict=1`: a request that fixes an exposure while auto-exposure is on comes back cancelled, as UVC webcams do it.
    pub strict: bool,
}

/// Most hot pixels, lamps, stars.
const MOST: u64 = 10_000;

/// `WIDTHxHEIGHT`, both even and not zero.
fn size(text: &str) -> Option<Layout> {
    let (w, h) = text.split_once('x')?;
    let l = Layout::new(w.parse().ok()?, h.parse().ok()?);
    (l.width % 2 == 0 && l.height % 2 == 0 && (2..=8192).contains(&l.width) && (2..=8192).contains(&l.height)).then_some(l)
}

impl Options {
    /// Reads `KEY=VALUE,…`; fails with the rule and the word that breaks it.
    pub fn parse(text: &str) -> Result<Options> {
        let mut o = Options::default();
        for word in text.split(',').filter(|w| !w.is_empty()) {
            let rule = "pattern takes lux=N, trace=FILE, speed=N, noise=sensor|N|off, motion=on|off, pan=N, hot=N, lamps=N, stars=N, \
                        control=FILE, stride=N, low=WxH, latency=N, hide=N, longest=US, strict=1";
            let bad = || Error::new(Kind::Config, format!("{rule}, not {word:?}"));
            let (key, value) = word.split_once('=').ok_or_else(bad)?;
            let number = || value.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(bad);
            let count = |most: u64| value.parse::<u64>().ok().filter(|n| *n <= most).ok_or_else(bad);
            match key {
                "lux" => o.lux = Some(number()?),
                "speed" => o.speed = Some(number()?),
                "noise" => {
                    o.noise = match value {
                        "sensor" => Noise::Sensor,
                        "off" => Noise::Off,
                        _ => Some(number()?).filter(|n| *n > 0.0).map_or(Noise::Off, Noise::Codes),
                    }
                }
                "motion" => o.still = [("on", false), ("off", true)].iter().find(|m| m.0 == value).ok_or_else(bad)?.1,
                "pan" => o.pan = count(1000)?,
                "hot" => o.hot = count(MOST)? as usize,
                "lamps" => o.lamps = Some(count(MOST)? as usize),
                "stars" => o.stars = Some(count(MOST)? as usize),
                "trace" => o.trace = Some(value.into()),
                "control" => o.control = Some(value.into()),
                "stride" => o.stride = count(65_536)? as usize,
                "low" => o.low = Some(size(value).ok_or_else(bad)?),
                "latency" => o.latency = Some(count(100)?),
                "hide" => o.hide = Some(count(100)?),
                "longest" => o.longest_us = Some(number()?.max(1000.0)),
                "strict" => o.strict = count(1)? == 1,
                _ => return Err(bad()),
            }
        }
        Ok(o)
    }
}

/// What the control file says, in `KEY=VALUE` words. It lives as long as the source, so that what happens once does not happen
/// again at the next start.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Script {
    read: Option<SystemTime>,
    /// `lux=N`
    pub lux: Option<f64>,
    /// `hang=1`: no frame comes, and no error.
    pub hang: bool,
    /// `fail=1`: the sensor ends with an error, at every start.
    pub fail: bool,
    /// `unplug=1`: the same, and it can be neither made nor started.
    pub unplug: bool,
    /// `cancel=N`: so many requests come back cancelled.
    pub cancel: u32,
    /// `clamp=US`: exposures are cut to this without a word (µs).
    pub clamp_us: Option<f64>,
    /// `resize=WxH`: the size of the picture changes.
    pub resize: Option<Layout>,
}

impl Script {
    /// Reads the file again where it has changed; a word it does not know is passed over.
    pub fn refresh(&mut self, file: &Path) {
        let changed = fs::metadata(file).and_then(|m| m.modified()).ok();
        if changed == self.read {
            return;
        }
        let text = disk::read_text(file, disk::SMALL).unwrap_or_default();
        *self = Script { read: changed, ..Script::default() };
        for (key, value) in text.split_whitespace().filter_map(|w| w.split_once('=')) {
            match key {
                "lux" => self.lux = value.parse().ok(),
                "hang" => self.hang = value == "1",
                "fail" => self.fail = value == "1",
                "unplug" => self.unplug = value == "1",
                "cancel" => self.cancel = value.parse().unwrap_or(0),
                "clamp" => self.clamp_us = value.parse().ok(),
                "resize" => self.resize = size(value),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused_with_the_rule() {
        let o = Options::parse("lux=2,stride=704,low=320x240,latency=7,hide=0,longest=500000,strict=1").unwrap();
        assert_eq!((o.lux, o.stride, o.low), (Some(2.0), 704, Some(Layout::new(320, 240))));
        assert_eq!((o.latency, o.hide, o.longest_us, o.strict), (Some(7), Some(0), Some(500_000.0), true));
        let o = Options::parse("noise=3,motion=off,pan=4,hot=200,lamps=20,stars=0").unwrap();
        assert_eq!((o.noise, o.still, o.pan, o.hot), (Noise::Codes(3.0), true, 4, 200));
        assert_eq!((o.lamps, o.stars), (Some(20), Some(0)));
        let noise = |text: &str| Options::parse(text).unwrap().noise;
        assert_eq!(
            ["", "noise=sensor", "noise=off", "noise=0"].map(noise),
            [Noise::Sensor, Noise::Sensor, Noise::Off, Noise::Off]
        );
        for bad in [
            "stride=-1",
            "low=1",
            "low=3x2",
            "low=0x0",
            "latency=x",
            "strict=2",
            "speed",
            "colour=1",
            "lux=nan",
            "noise=on",
            "noise=-1",
            "motion=1",
            "pan=-4",
            "hot=10001",
            "lamps=x",
        ] {
            let e = Options::parse(bad).unwrap_err().what;
            assert!(e.contains("stride=N") && e.contains("motion=on|off") && e.contains(bad), "{bad}: {e}");
        }
    }
}
