//! Owns what the configuration says of the stream, of recordings by the clock and of viewers. Plain data, any thread; the core,
//! which has no `GStreamer`, knows this much of the room.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::codec::Implementation;
use crate::error::Result;
use crate::frame::Layout;
use crate::hours::Span;
use crate::net::AllowList;
use crate::overlay::letters;
use crate::settings::{Refusal, Word, any, bytes, from, settings};

settings! {
    /// `video` in the configuration.
    pub struct Settings {
        /// Who encodes: `auto`, `hardware`, `x264` or `openh264`.
        encoder: Option<Implementation> = None, any();
        /// Bits a second (kbit/s).
        bitrate_kbps: u32 = 2000, from(50.0, 50_000.0);
        // Below half a second key frames are most of the stream; above, joining and seeking take that long.
        /// Longest time between two key frames (s).
        keyframe_s: f64 = 2.0, from(0.5, 60.0);
        // 4096: the widest that the levels of H.264 in common decoders allow.
        /// Columns of the stream (pixels), even; 0: as the camera's.
        width: u32 = 0, from(16.0, 4096.0).even().or_zero();
        /// Rows of the stream (pixels), even; 0: as the camera's.
        height: u32 = 0, from(16.0, 4096.0).even().or_zero();
        /// Text at the upper edge of the stream, with date and time as `strftime` writes them; empty: none.
        overlay: String = String::new(), bytes(64);
        /// Hand on what a network camera sends as H.264 instead of encoding its pictures anew.
        pass_through: bool = true, any();
    }
}

impl Settings {
    /// What must be together.
    pub fn check(&self) -> Result<()> {
        if (self.width == 0) != (self.height == 0) {
            let value = format!("{} and {}", self.width, self.height);
            return Err(Refusal::new("0 together with video.height, or neither", value).of("video.width"));
        }
        letters::check(&self.overlay).map_err(|e| e.of("video.overlay"))
    }
}

/// The keys of `video`, and what those of other rooms mean for the stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its own keys.
    pub keys: Settings,
    /// Size of the camera's pictures.
    pub camera: Layout,
    /// The day's frame rate (1/s).
    pub fps: f64,
    /// Viewers hear sound.
    pub sound: bool,
    /// The camera's pictures are turned or mirrored on their way into the ring.
    pub turned: bool,
}

settings! {
    /// `record` in the configuration.
    pub struct Record {
        /// When to record: `always`, `HH:MM-HH:MM` or `Mon-Fri HH:MM-HH:MM`, local time.
        schedule: Vec<Span> = Vec::new(), any();
        /// A recording by the clock goes on in a new file after this time (s); 0: never.
        split_s: Duration = Duration::from_secs(3600), from(0.0, 86_400.0).whole();
    }
}

settings! {
    /// `rtsp` in the configuration.
    pub struct Rtsp {
        /// Whether the stream is served at all.
        enable: bool = false, any().at_start();
        /// TCP port.
        port: u16 = 8554, from(1.0, 65_535.0).at_start();
        /// Addresses to listen on; none: all, IPv4 and IPv6.
        bind: Vec<IpAddr> = Vec::new(), any().at_start();
        /// Who may watch, as addresses or CIDR blocks.
        allow: AllowList = AllowList::default(), any();
        /// Name to log in with (digest); empty: nobody has to.
        user: String = String::new(), any().at_start();
        /// The password that goes with it.
        password: String = String::new(), any().secret().at_start();
        /// File of the certificate for TLS (PEM); empty: the stream is not encrypted.
        tls_certificate: Option<PathBuf> = None, any().at_start();
        /// File of its private key (PEM).
        tls_key: Option<PathBuf> = None, any().at_start();
        /// Viewers at once.
        max_clients: u32 = 8, from(1.0, 64.0).at_start();
        /// Sound beside the pictures.
        audio: Audio = Audio::default(), any();
    }
}

settings! {
    /// `rtsp.audio` in the configuration.
    pub struct Audio {
        /// ALSA's name of the device, such as `hw:1` or `default`; empty: no sound.
        device: String = String::new(), bytes(128).at_start();
        // Below, speech is hard to follow; above, encoders refuse one channel.
        /// Bits a second (kbit/s).
        bitrate_kbps: u32 = 64, from(16.0, 256.0).at_start();
    }
}

/// The files of a certificate (PEM).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and behind it those that lead to a known authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Rtsp {
    /// What must be together.
    pub fn check(&self) -> Result<()> {
        let word = |w: &str| w.len() <= 64 && w.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != ':');
        if !word(&self.user) || !word(&self.password) || self.user.is_empty() != self.password.is_empty() {
            let rule = "both or none, at most 64 visible ASCII characters without blanks, colons and quotes";
            return Err(Refusal::new(rule, "these").of("rtsp.user and rtsp.password"));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            let value = format!("{:?} and {:?}", self.tls_certificate.word(), self.tls_key.word());
            return Err(Refusal::new("a file together with rtsp.tls_key, or neither", value).of("rtsp.tls_certificate"));
        }
        Ok(())
    }

    /// The certificate of the stream, where it is to be encrypted.
    pub fn tls(&self) -> Option<Tls> {
        Some(Tls { certificate: self.tls_certificate.clone()?, key: self.tls_key.clone()? })
    }

    /// The sound beside the pictures, where there is to be any.
    pub fn sound(&self) -> Option<&Audio> {
        Some(&self.audio).filter(|audio| !audio.device.is_empty())
    }
}
