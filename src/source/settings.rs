//! Owns what the configuration says of the source of frames. Pure; any thread.

use std::path::PathBuf;
use std::time::Duration;

use super::{Link, Spec, Tls, Transport, without_secrets_in_spec};
use crate::settings::{Refusal, Word, any, from, multiples, one_of, settings, whole_path};
use crate::turn::Turn;

settings! {
    /// `camera` in the configuration.
    pub struct Settings {
        // 8192: the largest picture JPEG encoders and the Pi's ISP agree on. 16: the pattern's code blocks.
        /// Columns of the pictures as they come out (pixels), even.
        width: u32 = 1024, from(16.0, 8192.0).even().at_start();
        /// Rows of the pictures as they come out (pixels), even.
        height: u32 = 768, from(16.0, 8192.0).even().at_start();
        /// Frames a second by day.
        framerate: f64 = 10.0, from(0.1, 240.0).at_start();
        /// Kept for old files: pictures are always colour. Not used.
        codec: String = "rgb".into(), any().at_start();
        /// Kept for old files. Not used.
        video_mode: String = "stream".into(), any().at_start();
        /// A frame later than this (s) is reported in the log.
        capture_timeout_s: Duration = Duration::from_secs(4), from(0.1, 3600.0).at_start();
        /// Where frames come from: `auto`, `camera`, `pattern`, `file:PATH`, `rtsp://…`, `http://…`, `https://…`.
        source: Named = Named::default(), any().secret();
        /// How the stream of an RTSP camera travels: `auto`, `tcp` or `udp`.
        transport: Transport = Transport::Auto, any();
        /// Certificates of network cameras, or of who signed them, that are trusted over TLS: a PEM file. Empty: the system's.
        tls_ca: Option<PathBuf> = None, any();
        /// Whether the certificate of a network camera is checked.
        tls_verify: bool = true, any();
        /// Which camera of this machine: its index, its id, its model or the model's beginning. Empty: the first.
        device: String = String::new(), any().at_start();
        /// Mirror left and right, after the rotation.
        hflip: bool = false, any().at_start();
        /// Mirror top and bottom, after the rotation.
        vflip: bool = false, any().at_start();
        /// Turn clockwise (degrees), after what the source itself tells of how its pictures lie.
        rotation: u32 = 0, multiples(90.0, 270.0).at_start();
        /// A network stream that repeats one and the same picture for this long (s) counts as lost. 0: never.
        frozen_s: Duration = Duration::from_secs(30), from(0.0, 86_400.0).at_start();
    }
}

impl Settings {
    /// Which certificates of network cameras are trusted.
    pub fn tls(&self) -> Tls {
        Tls { ca: self.tls_ca.clone(), verify: self.tls_verify }
    }

    /// What is done to the source's pictures.
    pub fn turn(&self) -> Turn {
        Turn::new(self.rotation, self.hflip, self.vflip)
    }

    /// Where frames come from.
    pub fn spec(&self) -> Spec {
        self.source.spec.clone().of_device(&self.device).over(Link { transport: self.transport, tls: self.tls() })
    }
}

/// A source, and how it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    text: String,
    spec: Spec,
}

impl Named {
    /// As it may be shown: without passwords.
    pub fn shown(&self) -> String {
        without_secrets_in_spec(&self.text)
    }
}

impl Default for Named {
    fn default() -> Self {
        Named { text: "auto".into(), spec: Spec::Auto }
    }
}

impl Word for Named {
    fn read(text: &str) -> Result<Self, Refusal> {
        let options = text.strip_prefix("pattern:").unwrap_or_default().split(',');
        let values = options.filter_map(|option| Some(option.split_once('=')?.1));
        text.strip_prefix("file:").into_iter().chain(values).try_for_each(whole_path)?;
        // A slip in a stream's address must not put its password into a log.
        let spec = Spec::parse(text).map_err(|e| Refusal::text(e.what, &without_secrets_in_spec(text)))?;
        Ok(Named { text: text.into(), spec })
    }
    fn word(&self) -> String {
        self.text.clone()
    }
}

const TRANSPORTS: [(&str, Transport); 3] = [("auto", Transport::Auto), ("tcp", Transport::Tcp), ("udp", Transport::Udp)];

impl Word for Transport {
    fn read(text: &str) -> Result<Self, Refusal> {
        one_of(&TRANSPORTS.map(|(word, _)| word), text).map(|place| TRANSPORTS[place].1)
    }
    fn word(&self) -> String {
        TRANSPORTS[*self as usize].0.into()
    }
    fn range() -> String {
        TRANSPORTS.map(|(word, _)| word).join(", ")
    }
}
