//! Owns `config.json` as it is written: every key, its type, default and range. Plain data, any thread.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use serde_json::{Number, Value};

use crate::format::Each;
use crate::net::AllowList;
use crate::settings::{self, Kind, Leaf, Refusal, Secret, any, at_least, bytes, from, settings};

/// `presets`: name → control name → true, false, a number, a text or a list of numbers.
pub type Presets = BTreeMap<String, BTreeMap<String, Value>>;

settings! {
    /// The whole file. A key that is not written has its default.
    pub struct File {
        /// The source of frames.
        camera: Camera = Camera::default(), any();
        /// The memory of past frames.
        ring: Ring = Ring::default(), any();
        /// Day and night.
        night: Night = Night::default(), any();
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
        network: Network = Network::default(), any();
        /// Logs.
        logging: Logging = Logging::default(), any();
        /// Guards.
        limits: Limits = Limits::default(), any();
        /// Updates of the image.
        update: Update = Update::default(), any();
        /// What `status` shows besides.
        status: Status = Status::default(), any();
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

impl Leaf for Presets {
    fn kind(&self) -> Kind {
        Kind::Free
    }
    fn take(&mut self, written: &Value) -> Result<(), Refusal> {
        let Value::Object(sets) = written else { return Err(Refusal::new("a group of keys in braces", written)) };
        *self = sets.iter().map(|(name, set)| Ok((name.clone(), preset(name, set)?))).collect::<Result<_, Refusal>>()?;
        Ok(())
    }
    fn value(&self) -> Value {
        let set = |set: &BTreeMap<String, Value>| set.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Value>();
        self.iter().map(|(name, controls)| (name.clone(), set(controls))).collect()
    }
}

/// One named set of controls. Which controls there are only the camera knows; their kinds are few.
fn preset(name: &str, set: &Value) -> Result<BTreeMap<String, Value>, Refusal> {
    let word = (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !word {
        return Err(Refusal::text("names of 1 to 32 of A-Z a-z 0-9 _ . -", name));
    }
    if name.eq_ignore_ascii_case("auto") {
        return Err(Refusal::new("names other than auto, which hands back to the night rule", name));
    }
    let Value::Object(set) = set else {
        return Err(Refusal::new("a group of controls in braces", set).under(format!(".{name}")));
    };
    let control = |(control, value): (&String, &Value)| match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok((control.clone(), value.clone())),
        Value::Array(list) if list.len() >= 2 && list.iter().all(Value::is_number) => Ok((control.clone(), value.clone())),
        other => {
            let refusal = Refusal::new("true, false, a number, a text or a list of numbers", other);
            Err(refusal.under(format!(".{name}.{control}")))
        }
    };
    set.iter().map(control).collect()
}

settings! {
    /// `camera`
    pub struct Camera {
        // 8192: the largest picture JPEG encoders and the Pi's ISP agree on. 16: the pattern's code blocks.
        /// Columns (pixels), even.
        width: u32 = 1024, from(16.0, 8192.0).even().at_start();
        /// Rows (pixels), even.
        height: u32 = 768, from(16.0, 8192.0).even().at_start();
        /// Frames a second by day.
        framerate: f64 = 10.0, from(0.1, 240.0).at_start();
        /// Kept for old files: pictures are always colour. Not used.
        codec: String = "rgb".into(), any().at_start();
        /// Kept for old files. Not used.
        video_mode: String = "stream".into(), any().at_start();
        /// A frame later than this (s) is reported in the log.
        capture_timeout_s: f64 = 4.0, from(0.1, 3600.0).at_start();
        /// Where frames come from: `auto`, `camera`, `pattern`, `file:PATH`, `rtsp://…`, `http://…`, `https://…`.
        source: String = "auto".into(), any().at_start();
        /// How the stream of an RTSP camera travels: `auto`, `tcp` or `udp`.
        transport: String = "auto".into(), any().at_start();
        /// Which camera of this machine: its index, its id, its model or the model's beginning. Empty: the first.
        device: String = String::new(), any().at_start();
        /// Mirror left and right, in the camera.
        hflip: bool = false, any().at_start();
        /// Mirror top and bottom, in the camera.
        vflip: bool = false, any().at_start();
        /// 180 where the camera hangs upside down, else 0.
        rotation: u32 = 0, from(180.0, 180.0).or_zero().at_start();
        /// A network stream that repeats one and the same picture for this long (s) counts as lost. 0: never.
        frozen_s: f64 = 30.0, from(0.0, 86_400.0).at_start();
    }
}

settings! {
    /// `ring`
    pub struct Ring {
        /// Frames wished for.
        size: usize = 300, from(2.0, 1e6).at_start();
        /// Smaller pictures in the ring.
        downscale: Downscale = Downscale::default(), any();
        /// Share of the free memory the ring may take (%).
        memory_percent: u8 = 80, from(1.0, 100.0).at_start();
        /// Memory kept back from that share for encoders and requests (MiB).
        reserve_mib: u64 = 24, from(0.0, 65_536.0).at_start();
        /// Keep the frames in a file on tmpfs, so that they outlive a crash of the program.
        persist: bool = false, any().at_start();
        /// That file. Empty: `/dev/shm/pastcam-<trigger_port>.ring`.
        persist_path: String = String::new(), any().at_start();
        /// Lock the ring into memory.
        lock: bool = true, any().at_start();
    }
}

settings! {
    /// `ring.downscale`
    pub struct Downscale {
        /// Whether the ring holds smaller pictures than the camera makes.
        enable: bool = false, any().at_start();
        /// Columns (pixels), even.
        width: u32 = 256, any().at_start();
        /// Rows (pixels), even.
        height: u32 = 192, any().at_start();
    }
}

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
    /// `night`
    pub struct Night {
        /// Whether darkness changes the exposure at all.
        enable: bool = true, any();
        /// Level below which it is night (0–255). Shown in answers as it is written here.
        dark_threshold: AsWritten = AsWritten(35.into()), from(1.0, 250.0);
        /// Level above which it is day again (0–255).
        bright_threshold: AsWritten = AsWritten(55.into()), from(1.0, 250.0);
        /// Dark frames in a row before night begins.
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

settings! {
    /// `network`
    pub struct Network {
        /// TCP port of the commands.
        trigger_port: u16 = 9999, from(1.0, 65_535.0).at_start();
        /// Addresses to listen on; none: all, IPv4 and IPv6.
        bind: Vec<IpAddr> = Vec::new(), any().at_start();
        /// Who may send commands, as addresses or CIDR blocks.
        allow: AllowList = AllowList::default(), any();
        /// Word that every command must carry as `token=WORD`; empty: none.
        token: Secret = Secret::default(), any().at_start();
        /// Silence that ends a command without a line end (ms).
        idle_ms: u32 = 200, from(60.0, 2000.0).at_start();
        /// The same picture command again within this time (ms) is refused; 0: never.
        debounce_ms: u64 = 0, from(0.0, 3_600_000.0);
        /// Clients served at once.
        max_clients: usize = 256, from(1.0, 4096.0).at_start();
        /// TCP port that stays open after each answer; 0: none.
        persistent_port: u16 = 0, from(0.0, 65_535.0).at_start();
        // A line has to hold a word and its ending.
        /// Length to which answers on that port are padded with blanks (bytes); 0: not.
        persistent_pad: u16 = 0, from(16.0, 1024.0).or_zero().at_start();
        /// A NUL after each answer on that port.
        persistent_nul: bool = false, any().at_start();
        /// UDP port whose datagrams are commands; 0: none.
        udp_port: u16 = 0, from(0.0, 65_535.0).at_start();
    }
}

settings! {
    /// `logging`
    pub struct Logging {
        /// `CRITICAL`, `ERROR`, `WARNING`, `INFO`, `DEBUG` or `TRACE`.
        level: String = "INFO".into(), any();
        /// Folder of the log files; empty: console only.
        dir: String = "logs".into(), any().at_start();
    }
}

settings! {
    /// `limits`
    pub struct Limits {
        /// Memory beyond the ring (MiB); above it the program ends with code 42.
        max_rss_mib: u64 = 160, from(16.0, 1_048_576.0);
        /// Swap use (%) above which one frame in 1.5 s is kept.
        swap_slow_percent: f64 = 70.0, from(0.0, 100.0);
        /// Swap use (%) above which one frame in 3 s is kept.
        swap_pause_percent: f64 = 85.0, from(0.0, 100.0);
        /// Hardware watchdog fed by new frames, such as `/dev/watchdog`; empty: none.
        watchdog_device: String = String::new(), any().at_start();
    }
}

settings! {
    /// `update`
    pub struct Update {
        /// Folder in which the image's helper waits for a file from `update`; empty: this is no image, and there are no updates.
        dir: String = String::new(), any().at_start();
    }
}

settings! {
    /// `status`
    pub struct Status {
        /// File whose lines `status` shows as notes, such as a set-up file that was not taken over; empty: none.
        notes_file: String = String::new(), any();
    }
}
