//! Owns what every source of frames must do, and the words by which a source is chosen.
//! Never keeps a frame. A source lives on the capture thread, which makes it, drives it and drops it; threads of its own
//! (a camera's callback, a decoder) hand frames over through a channel.

mod barcode;
pub mod camera;
pub mod control;
#[cfg(feature = "media")]
pub mod ip;
pub mod pattern;
mod settings;

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::BootUs;
use crate::error::{Error, Kind, Result};
use crate::frame::{Ae, Colour, Exposure, Layout, Planes};
use crate::secrets;
use crate::turn::Turn;

pub use barcode::read as read_barcode;
pub use control::{Control, Setting, Value};
#[cfg(feature = "media")]
pub use ip::{Coded, CodedAccessUnit, Outlet, no_outlet};
pub use settings::{Named, Settings};

/// Where what a source encodes by itself goes: without `media` no source does.
#[cfg(not(feature = "media"))]
pub struct Outlet;

/// For whoever wants none of it.
#[cfg(not(feature = "media"))]
pub fn no_outlet() -> Outlet {
    Outlet
}

/// One frame, borrowed from the source until the sink returns.
pub struct Incoming<'a> {
    /// The full picture.
    pub main: Planes<'a>,
    /// Pixels of the picture that was sent and decoded; `main` may be made from it, smaller.
    pub sent: u64,
    /// The same picture made smaller by the source's own hardware, where it has such a thing.
    pub low: Option<Planes<'a>>,
    /// What sets both upright.
    pub turn: Turn,
    /// The source's own count: gaps are frames that it lost.
    pub id: u64,
    /// When the sensor delivered it.
    pub boot: BootUs,
    /// How colour became numbers.
    pub colour: Colour,
    /// Light taken, where known.
    pub exposure: Option<Exposure>,
    /// Auto-exposure's word.
    pub ae: Ae,
    /// Scene light (lux), where known.
    pub lux: Option<f64>,
    /// Colour temperature (K), where known.
    pub colour_temperature: Option<u32>,
    /// Focus figure of merit, where known.
    pub focus: Option<i32>,
    /// Controls whose value this frame's own metadata tells.
    pub shown: &'a [Setting],
}

/// What a wait for a frame came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// The sink was called once.
    Frame,
    /// No frame within the wait.
    Nothing,
}

/// How a source is to expose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Light {
    /// Auto-exposure at the day's frame rate.
    Auto,
    /// By hand; frames last as long as the exposure needs.
    Manual {
        /// Exposure time (µs).
        time_us: f64,
        /// Gain, analogue first.
        gain: f64,
    },
}

/// What to do when a source fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// A camera of this machine: restart it, rebuild it, then let the supervisor restart the program. One that is away,
    /// unplugged or held by another program, is waited for a while.
    RecoveryLadder,
    /// Something far away: try again for ever, with a growing pause (backoff).
    Backoff,
}

/// A source of frames.
pub trait Source {
    /// What it is, for people; never with credentials.
    fn name(&self) -> String;
    /// Whose pixels its frames have: the part of the name that no other rate and no update changes.
    fn device(&self) -> String {
        self.name()
    }
    /// What the camera calls itself, where it does: its sensor, or the product.
    fn model(&self) -> Option<String> {
        None
    }
    /// Begins to deliver; ids go on from `first`.
    fn start(&mut self, first: u64) -> Result<()>;
    /// Waits at most `wait` for a frame and hands it to `sink`; the buffer is given back when `sink` returns.
    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled>;
    /// Without a frame for so long it says itself that it is lost, and why; zero: that is left to the capture.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }
    /// Changes the exposure while frames run; does nothing where the source cannot.
    fn expose(&mut self, _: Light) -> Result<()> {
        Ok(())
    }
    /// Longest exposure it can do (µs), where it knows.
    fn longest_exposure_us(&self) -> Option<f64> {
        None
    }
    /// The image controls it offers, known once it has started.
    fn controls(&self) -> &[Control] {
        &[]
    }
    /// Asks for all these values with one and the same frame. They are in range and of the right kind. The proof is
    /// [`Incoming::shown`] of a later frame.
    fn set(&mut self, _: &[Setting]) -> Result<()> {
        Err(Error::new(Kind::Source, format!("set a control of {}: it has none", self.name())))
    }
    /// Ends delivery; `start` may follow.
    fn stop(&mut self);
}

/// A source as the configuration or the command line names it.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// The first camera of this machine if there is one, else the pattern.
    Auto,
    /// The camera of this machine with this index, id or model; empty: the first.
    Camera(String),
    /// The synthetic sensor.
    Pattern(pattern::Options),
    /// A video file, repeated for ever at its own speed.
    File(PathBuf),
    /// A network camera, and how it is to be connected.
    Url(String, Link),
}

/// How a network camera is connected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// How the stream of one that speaks RTSP travels.
    pub transport: Transport,
    /// Whom to trust of those that speak TLS.
    pub tls: Tls,
}

/// Which certificates of cameras are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// A file of certificates to trust, in the place of the system's.
    pub ca: Option<PathBuf>,
    /// False: every certificate is taken.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Tls { ca: None, verify: true }
    }
}

impl Tls {
    /// Reads the file. Errors: `config` when it cannot be read or holds no certificate.
    pub fn check(&self) -> Result<()> {
        #[cfg(feature = "media")]
        ip::Trust::load(self)?;
        Ok(())
    }
}

/// How the stream of an RTSP camera travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Over TCP, and over UDP where the camera refuses that.
    #[default]
    Auto,
    /// In the connection itself: nothing is lost, and no firewall is in the way.
    Tcp,
    /// In packets of their own, which may be lost.
    Udp,
}

impl Spec {
    /// Reads `auto`, `camera[:INDEX|ID|MODEL]`, `pattern[:KEY=VALUE,…]`, `file:PATH`, `rtsp://…`, `http://…` or `https://…`.
    pub fn parse(text: &str) -> Result<Spec> {
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        match (scheme, rest) {
            ("auto", "") => Ok(Spec::Auto),
            ("camera", which) => Ok(Spec::Camera(which.to_string())),
            ("pattern", options) => Ok(Spec::Pattern(pattern::Options::parse(options)?)),
            ("file", path) if !path.is_empty() => {
                Ok(Spec::File(path.strip_prefix("//").filter(|p| p.starts_with('/')).unwrap_or(path).into()))
            }
            ("rtsp" | "rtsps" | "http" | "https", rest) if rest.len() > 2 && rest.starts_with("//") => {
                Ok(Spec::Url(text.to_string(), Link::default()))
            }
            _ => Err(Error::new(
                Kind::Config,
                "auto, camera[:INDEX|ID|MODEL], pattern[:KEY=VALUE,…], file:PATH, rtsp://…, http://… or https://…",
            )),
        }
    }

    /// Makes the source; it does not run yet. What it sends encoded goes to `outlet`.
    pub fn make(&self, wanted: &Camera, outlet: &Outlet) -> Result<Box<dyn Source>> {
        match self {
            Spec::Auto => self.clone().settled().make(wanted, outlet),
            Spec::Camera(which) => camera::open(which, wanted),
            Spec::Pattern(options) => Ok(Box::new(pattern::Pattern::new(options, wanted)?)),
            #[cfg(feature = "media")]
            Spec::File(path) => Ok(Box::new(ip::UriSource::file(path, wanted)?)),
            #[cfg(feature = "media")]
            Spec::Url(url, link) if url.starts_with("rtsp") => Ok(Box::new(ip::RtspSource::new(url, link, wanted, outlet)?)),
            #[cfg(feature = "media")]
            Spec::Url(url, link) => Ok(Box::new(ip::HttpSource::new(url, link, wanted, outlet)?)),
            #[cfg(not(feature = "media"))]
            Spec::File(_) | Spec::Url(..) => {
                let Outlet = outlet;
                Err(Error::new(Kind::Source, "decode a film or a stream: this build has no `media`"))
            }
        }
    }

    /// The same with `camera.device`, which names the camera where `auto` or `camera` alone does not.
    #[must_use]
    pub fn of_device(self, device: &str) -> Spec {
        match self {
            Spec::Auto if !device.is_empty() => Spec::Camera(device.to_string()),
            Spec::Camera(which) if which.is_empty() => Spec::Camera(device.to_string()),
            other => other,
        }
    }

    /// The same with what `camera` says of the way to a network camera.
    #[must_use]
    pub fn over(self, link: Link) -> Spec {
        match self {
            Spec::Url(url, _) => Spec::Url(url, link),
            other => other,
        }
    }

    /// What `auto` comes to on this machine, once and for all: a camera that fails later is not replaced by a picture of none.
    #[must_use]
    pub fn settled(self) -> Spec {
        match self {
            Spec::Auto => match camera::first() {
                Ok(id) => Spec::Camera(id),
                Err(why) => {
                    log::warn!(
                        "No camera: a drawn TEST PATTERN takes its place ({why}). Attach a camera, or name the source in camera.source \
                         (camera waits for one, rtsp://… is a network camera, pattern asks for the drawn one); then start again"
                    );
                    Spec::Pattern(pattern::Options::default())
                }
            },
            other => other,
        }
    }

    /// Its kind, one word, as `status` has it.
    pub fn word(&self) -> &'static str {
        match self {
            Spec::Auto => "auto",
            Spec::Camera(_) => "camera",
            Spec::Pattern(_) => "pattern",
            Spec::File(_) => "file",
            Spec::Url(url, _) if url.starts_with("rtsp") => "rtsp",
            Spec::Url(..) => "http",
        }
    }

    /// What to do when it fails, also before it could be made.
    pub fn retry_policy(&self) -> RetryPolicy {
        match self {
            Spec::Auto | Spec::Pattern(_) | Spec::Camera(_) => RetryPolicy::RecoveryLadder,
            Spec::File(_) | Spec::Url(..) => RetryPolicy::Backoff,
        }
    }

    /// Whether it comes over a network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Spec::Url(..))
    }
}

/// What every source is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// Size of the pictures once they are upright.
    pub layout: Layout,
    /// Frames a second by day.
    pub fps: f64,
    /// Largest gain by day.
    pub day_gain_ceiling: f64,
    /// What is done to its pictures after what it tells of them itself: `camera.rotation`, then `camera.hflip`, `camera.vflip`.
    pub turn: Turn,
    /// Size of a second, smaller picture, upright, where a camera of this machine makes one.
    pub low: Option<Layout>,
}

/// A source as it may be shown: addresses without their secrets, also where they are written wrongly.
pub fn without_secrets_in_spec(spec: &str) -> String {
    let (scheme, rest) = spec.split_once(':').unwrap_or((spec, ""));
    let local = match scheme {
        "camera" | "pattern" => !rest.starts_with("//"),
        "file" => !rest.starts_with("//") || rest.starts_with("///"),
        _ => false,
    };
    match spec.rsplit_once('@') {
        _ if local => spec.to_string(),
        _ if spec.contains("://") => secrets::hidden(spec),
        // A slip in front of the host.
        Some((_, place)) => format!("***@{}", secrets::hidden(place)),
        None => match rest.strip_prefix('/').map(|rest| secrets::hidden(&format!("{scheme}://{rest}"))) {
            Some(shown) => shown.replacen("://", ":/", 1),
            None if rest.starts_with(|c: char| !c.is_ascii_digit()) || rest.contains(':') => format!("{scheme}:***"),
            None => secrets::hidden(spec),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_shown_without_their_secrets() {
        for (spec, shown) in [
            ("camera:/base/i2c@1:2/x", "camera:/base/i2c@1:2/x"),
            ("pattern:speed=1", "pattern:speed=1"),
            ("file:/a@b.mp4", "file:/a@b.mp4"),
            ("file:///a:b/c.mp4", "file:///a:b/c.mp4"),
            ("camerax://u:secret@h", "camerax://h"),
            ("camera://u:secret@h", "camera://h"),
            ("patterns://u:secret@h", "patterns://h"),
            ("files:u:secret@h", "***@h"),
            ("rtsp:/u:secret/x", "rtsp:/***/x"),
            ("rtsp:/u:secret@h/x", "***@h/x"),
            ("rtsp:u:secret/x", "rtsp:***"),
            ("rtsp://h:554/u:secret/x", "rtsp://h:554/***/x"),
            ("u:secret/x", "u:***"),
            ("cam:554/live", "cam:554/live"),
            ("webcam", "webcam"),
        ] {
            assert_eq!(without_secrets_in_spec(spec), shown, "{spec}");
        }
    }

    #[test]
    fn specs_are_read() {
        assert_eq!(Spec::parse("auto").unwrap(), Spec::Auto);
        assert_eq!(Spec::parse("file:/a/b.mp4").unwrap(), Spec::File("/a/b.mp4".into()));
        assert_eq!(Spec::parse("file:///a/b.mp4").unwrap(), Spec::File("/a/b.mp4".into()));
        assert!(matches!(Spec::parse("rtsp://cam/1").unwrap(), Spec::Url(..)));
        assert!(matches!(Spec::parse("pattern").unwrap(), Spec::Pattern(_)));
        assert_eq!(Spec::parse("camera:/base/i2c@1:2/x").unwrap(), Spec::Camera("/base/i2c@1:2/x".into()));
        assert_eq!(Spec::parse("camera").unwrap().of_device("imx219"), Spec::Camera("imx219".into()));
        assert_eq!(Spec::parse("camera:1").unwrap().of_device("imx219"), Spec::Camera("1".into()));
        assert_eq!((Spec::Auto.of_device(""), Spec::Auto.of_device("1")), (Spec::Auto, Spec::Camera("1".into())));
        for bad in ["", "webcam", "file:", "rtsp:", "rtsp://", "auto:1", "ftp://x/y", "pattern:speed"] {
            assert!(Spec::parse(bad).is_err(), "{bad}");
        }
    }
}
