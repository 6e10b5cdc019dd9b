//! Owns `config.json` as it is written: every key, its type, default and range. Plain data, any thread.

use std::net::IpAddr;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::format::Each;
use crate::net::AllowList;
use crate::settings::{self, any, at_least, bytes, from, settings};
use crate::tuning::Presets;
use crate::{health, logging, night, notes, ring, server, source, update};

settings! {
    /// The whole file. A key that is not written has its default.
    pub struct File {
        /// The source of frames.
        camera: source::Settings = <_>::default(), any();
        /// The memory of past frames.
        ring: ring::Settings = <_>::default(), any();
        /// Day and night.
        night: night::Keys = <_>::default(), any();
        /// Named sets of image controls, control name → value. `day` and `night` are applied with the automatic switches.
        presets: Presets = Presets::new(), any();
        /// Pictures on disk.
        export: Export = Export::default(), any();
        /// The encoded stream.
        video: Video = Video::default(), any();
        /// Recordings by the clock.
        record: Record = Record::default(), any();
        /// The stream for viewers.
        rtsp: Rtsp = Rtsp::default(), any();
        /// The trigger port.
        network: server::Keys = <_>::default(), any();
        /// Logs.
        logging: logging::Settings = <_>::default(), any();
        /// Guards.
        limits: health::Settings = <_>::default(), any();
        /// Updates of the image.
        update: update::Settings = <_>::default(), any();
        /// What `status` shows besides.
        status: notes::Settings = <_>::default(), any();
    }
}

impl Serialize for File {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(to)
    }
}

impl File {
    /// As it stands in a file, every key written.
    pub fn json(&self) -> Value {
        settings::value(&mut self.clone())
    }
}

settings! {
    /// `export`
    pub struct Export {
        /// Periodic pictures come from the ring (at the ring's size) instead of a fresh full one.
        auto_save_use_ring: bool = false, any();
        /// Folder of the pictures.
        base_dir: String = "./captures".into(), any();
        /// Formats when a command names none: `jpg`, `png`, `npy`.
        formats: Vec<String> = vec!["jpg".into(), "png".into()], any();
        /// How far `pastStack` reaches back (s).
        save_before_s: f64 = 5.0, from(0.0, 86_400.0);
        /// `pastStack` averages; otherwise it writes every frame of the window.
        stack_dark_frames: bool = true, any();
        /// Frames in the average.
        stack_count: usize = 4, from(1.0, crate::stack::MAX as f64);
        /// Time between periodic pictures (s); 0: none.
        auto_save_interval_s: f64 = 900.0, from(0.0, 31_536_000.0);
        /// JPEG quality.
        jpeg_quality: u8 = 95, from(1.0, 100.0);
        /// Whether the text of `video.overlay` stands in jpg and png pictures too.
        overlay: bool = false, any();
        /// Disk space that stays free (MiB); the oldest pictures go for it.
        min_free_mib: u64 = 64, at_least(0.0);
        /// Bounds per kind of file.
        keep: Each<Bound> = Each::default(), any();
    }
}

settings! {
    /// How much of one kind of file is kept; 0 means without bound.
    pub struct Bound {
        /// All files of the kind together (bytes).
        max_bytes: u64 = 0, at_least(0.0);
        /// Age of the oldest (s).
        max_age_s: f64 = 0.0, from(0.0, 1e10);
    }
}

settings! {
    /// `video`
    pub struct Video {
        /// Who encodes: `auto`, `hardware`, `x264` or `openh264`.
        encoder: String = "auto".into(), any();
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

settings! {
    /// `record`
    pub struct Record {
        /// When to record: `always`, `HH:MM-HH:MM` or `Mon-Fri HH:MM-HH:MM`, local time.
        schedule: Vec<String> = Vec::new(), any();
        /// A recording by the clock goes on in a new file after this time (s); 0: never.
        split_s: u32 = 3600, from(0.0, 86_400.0);
    }
}

settings! {
    /// `rtsp`
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
        password: String = String::new(), any().at_start();
        /// File of the certificate for TLS (PEM); empty: the stream is not encrypted.
        tls_certificate: String = String::new(), any().at_start();
        /// File of its private key (PEM).
        tls_key: String = String::new(), any().at_start();
        /// Viewers at once.
        max_clients: u32 = 8, from(1.0, 64.0).at_start();
        /// Sound beside the pictures.
        audio: Audio = Audio::default(), any();
    }
}

settings! {
    /// `rtsp.audio`
    pub struct Audio {
        /// ALSA's name of the device, such as `hw:1` or `default`; empty: no sound.
        device: String = String::new(), bytes(128).at_start();
        // Below, speech is hard to follow; above, encoders refuse one channel.
        /// Bits a second (kbit/s).
        bitrate_kbps: u32 = 64, from(16.0, 256.0).at_start();
    }
}
