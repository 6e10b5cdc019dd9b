//! Owns `config.json` as it is written: every key, its type and its default. Never judges a value (that is `check`).
//! Plain data, any thread.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::format::Each;

/// `presets`: name → control name → true, false, a number, a text or a list of numbers.
pub type Presets = BTreeMap<String, BTreeMap<String, Value>>;

/// The whole file. A key that is not written has its default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// The source of frames.
    pub camera: Camera,
    /// The memory of past frames.
    pub ring: Ring,
    /// Day and night.
    pub night: Night,
    /// Named sets of image controls, control name → value. `day` and `night` are applied with the automatic switches.
    pub presets: Presets,
    /// Pictures on disk.
    pub export: Export,
    /// The encoded stream.
    pub video: Video,
    /// Recordings by the clock.
    pub record: Record,
    /// The stream for viewers.
    pub rtsp: Rtsp,
    /// The trigger port.
    pub network: Network,
    /// Logs.
    pub logging: Logging,
    /// Guards.
    pub limits: Limits,
    /// Updates of the image.
    pub update: Update,
    /// What `status` shows besides.
    pub status: Status,
}

/// `camera`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Camera {
    /// Columns (pixels), even.
    pub width: u32,
    /// Rows (pixels), even.
    pub height: u32,
    /// Frames a second by day.
    pub framerate: f64,
    /// Kept for old files: pictures are always colour. Not used.
    pub codec: String,
    /// Kept for old files. Not used.
    pub video_mode: String,
    /// A frame later than this (s) is reported in the log.
    pub capture_timeout_s: f64,
    /// Where frames come from: `auto`, `camera`, `pattern`, `file:PATH`, `rtsp://…`, `http://…`, `https://…`.
    pub source: String,
    /// How the stream of an RTSP camera travels: `auto`, `tcp` or `udp`.
    pub transport: String,
    /// Which camera of this machine: its index, its id, its model or the model's beginning. Empty: the first.
    pub device: String,
    /// Mirror left and right, in the camera.
    pub hflip: bool,
    /// Mirror top and bottom, in the camera.
    pub vflip: bool,
    /// 180 where the camera hangs upside down, else 0.
    pub rotation: u32,
    /// A network stream that repeats one and the same picture for this long (s) counts as lost. 0: never.
    pub frozen_s: f64,
}

impl Default for Camera {
    fn default() -> Self {
        Camera {
            width: 1024,
            height: 768,
            framerate: 10.0,
            codec: "rgb".into(),
            video_mode: "stream".into(),
            capture_timeout_s: 4.0,
            source: "auto".into(),
            transport: "auto".into(),
            device: String::new(),
            hflip: false,
            vflip: false,
            rotation: 0,
            frozen_s: 30.0,
        }
    }
}

/// `ring`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ring {
    /// Frames wished for.
    pub size: usize,
    /// Smaller pictures in the ring.
    pub downscale: Downscale,
    /// Share of the free memory the ring may take (%).
    pub memory_percent: u8,
    /// Memory kept back from that share for encoders and requests (MiB).
    pub reserve_mib: u64,
    /// Keep the frames in a file on tmpfs, so that they outlive a crash of the program.
    pub persist: bool,
    /// That file. Empty: `/dev/shm/pastcam-<trigger_port>.ring`.
    pub persist_path: String,
    /// Lock the ring into memory.
    pub lock: bool,
}

impl Default for Ring {
    fn default() -> Self {
        Ring {
            size: 300,
            downscale: Downscale::default(),
            memory_percent: 80,
            reserve_mib: 24,
            persist: false,
            persist_path: String::new(),
            lock: true,
        }
    }
}

/// `ring.downscale`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Downscale {
    /// Whether the ring holds smaller pictures than the camera makes.
    pub enable: bool,
    /// Columns (pixels), even.
    pub width: u32,
    /// Rows (pixels), even.
    pub height: u32,
}

impl Default for Downscale {
    fn default() -> Self {
        Downscale { enable: false, width: 256, height: 192 }
    }
}

/// `night`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Night {
    /// Whether darkness changes the exposure at all.
    pub enable: bool,
    /// Level below which it is night (0–255). Shown in answers as it is written here.
    pub dark_threshold: Number,
    /// Level above which it is day again (0–255).
    pub bright_threshold: Number,
    /// Dark frames in a row before night begins.
    pub min_dark_frames: u32,
    /// Kept for old files: the camera is never stopped for the night. Not used.
    pub mode: String,
    /// Longest night exposure (µs).
    pub exposure_us: f64,
    /// Night gain.
    pub gain: f64,
    /// Largest gain auto-exposure uses by day: 8 for OV5647, 10 for IMX219.
    pub day_gain_ceiling: f64,
}

impl Default for Night {
    fn default() -> Self {
        Night {
            enable: true,
            dark_threshold: 35.into(),
            bright_threshold: 55.into(),
            min_dark_frames: 20,
            mode: "still".into(),
            exposure_us: 2_000_000.0,
            gain: 6.0,
            day_gain_ceiling: 8.0,
        }
    }
}

/// `export`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Export {
    /// Periodic pictures come from the ring (at the ring's size) instead of a fresh full one.
    pub auto_save_use_ring: bool,
    /// Folder of the pictures.
    pub base_dir: String,
    /// Formats when a command names none: `jpg`, `png`, `npy`.
    pub formats: Vec<String>,
    /// How far `pastStack` reaches back (s).
    pub save_before_s: f64,
    /// `pastStack` averages; otherwise it writes every frame of the window.
    pub stack_dark_frames: bool,
    /// Frames in the average.
    pub stack_count: usize,
    /// Time between periodic pictures (s); 0: none.
    pub auto_save_interval_s: f64,
    /// JPEG quality (1–100).
    pub jpeg_quality: u8,
    /// Whether the text of `video.overlay` stands in jpg and png pictures too.
    pub overlay: bool,
    /// Disk space that stays free (MiB); the oldest pictures go for it.
    pub min_free_mib: u64,
    /// Bounds per kind of file.
    pub keep: Each<Bound>,
}

impl Default for Export {
    fn default() -> Self {
        Export {
            auto_save_use_ring: false,
            base_dir: "./captures".into(),
            formats: vec!["jpg".into(), "png".into()],
            save_before_s: 5.0,
            stack_dark_frames: true,
            stack_count: 4,
            auto_save_interval_s: 900.0,
            jpeg_quality: 95,
            overlay: false,
            min_free_mib: 64,
            keep: Each::default(),
        }
    }
}

/// How much of one kind of file is kept; 0 means without bound.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bound {
    /// All files of the kind together (bytes).
    pub max_bytes: u64,
    /// Age of the oldest (s).
    pub max_age_s: f64,
}

/// `video`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Video {
    /// Who encodes: `auto`, `hardware`, `x264` or `openh264`.
    pub encoder: String,
    /// Bits a second (kbit/s).
    pub bitrate_kbps: u32,
    /// Longest time between two key frames (s).
    pub keyframe_s: f64,
    /// Columns of the stream (pixels), even; 0: as the camera's.
    pub width: u32,
    /// Rows of the stream (pixels), even; 0: as the camera's.
    pub height: u32,
    /// Text at the upper edge of the stream, with date and time as `strftime` writes them; empty: none.
    pub overlay: String,
    /// Hand on what a network camera sends as H.264 instead of encoding its pictures anew.
    pub pass_through: bool,
}

impl Default for Video {
    fn default() -> Self {
        Video {
            encoder: "auto".into(),
            bitrate_kbps: 2000,
            keyframe_s: 2.0,
            width: 0,
            height: 0,
            overlay: String::new(),
            pass_through: true,
        }
    }
}

/// `record`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// When to record: `always`, `HH:MM-HH:MM` or `Mon-Fri HH:MM-HH:MM`, local time.
    pub schedule: Vec<String>,
    /// A recording by the clock goes on in a new file after this time (s); 0: never.
    pub split_s: u32,
}

impl Default for Record {
    fn default() -> Self {
        Record { schedule: Vec::new(), split_s: 3600 }
    }
}

/// Private and link-local networks.
fn local_networks() -> Vec<String> {
    ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"]
        .map(String::from)
        .to_vec()
}

/// `rtsp`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Rtsp {
    /// Whether the stream is served at all.
    pub enable: bool,
    /// TCP port.
    pub port: u16,
    /// Addresses to listen on; none: all, IPv4 and IPv6.
    pub bind: Vec<String>,
    /// Who may watch, as addresses or CIDR blocks.
    pub allow: Vec<String>,
    /// Name to log in with (digest); empty: nobody has to.
    pub user: String,
    /// The password that goes with it.
    pub password: String,
    /// File of the certificate for TLS (PEM); empty: the stream is not encrypted.
    pub tls_certificate: String,
    /// File of its private key (PEM).
    pub tls_key: String,
    /// Viewers at once.
    pub max_clients: u32,
    /// Sound beside the pictures.
    pub audio: Audio,
}

impl Default for Rtsp {
    fn default() -> Self {
        Rtsp {
            enable: false,
            port: 8554,
            bind: Vec::new(),
            allow: local_networks(),
            user: String::new(),
            password: String::new(),
            tls_certificate: String::new(),
            tls_key: String::new(),
            max_clients: 8,
            audio: Audio::default(),
        }
    }
}

/// `rtsp.audio`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Audio {
    /// ALSA's name of the device, such as `hw:1` or `default`; empty: no sound.
    pub device: String,
    /// Bits a second (kbit/s).
    pub bitrate_kbps: u32,
}

impl Default for Audio {
    fn default() -> Self {
        Audio { device: String::new(), bitrate_kbps: 64 }
    }
}

/// `network`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// TCP port of the commands.
    pub trigger_port: u16,
    /// Addresses to listen on; none: all, IPv4 and IPv6.
    pub bind: Vec<String>,
    /// Who may send commands, as addresses or CIDR blocks.
    pub allow: Vec<String>,
    /// Word that every command must carry as `token=WORD`; empty: none.
    pub token: String,
    /// Silence that ends a command without a line end (ms).
    pub idle_ms: u32,
    /// The same picture command again within this time (ms) is refused; 0: never.
    pub debounce_ms: u64,
    /// Clients served at once.
    pub max_clients: usize,
    /// TCP port that stays open after each answer; 0: none.
    pub persistent_port: u16,
    /// Length to which answers on that port are padded with blanks; 0: not.
    pub persistent_pad: u16,
    /// A NUL after each answer on that port.
    pub persistent_nul: bool,
    /// UDP port whose datagrams are commands; 0: none.
    pub udp_port: u16,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            trigger_port: 9999,
            bind: Vec::new(),
            allow: local_networks(),
            token: String::new(),
            idle_ms: 200,
            debounce_ms: 0,
            max_clients: 256,
            persistent_port: 0,
            persistent_pad: 0,
            persistent_nul: false,
            udp_port: 0,
        }
    }
}

/// `logging`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// `CRITICAL`, `ERROR`, `WARNING`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// Folder of the log files; empty: console only.
    pub dir: String,
}

impl Default for Logging {
    fn default() -> Self {
        Logging { level: "INFO".into(), dir: "logs".into() }
    }
}

/// `limits`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory beyond the ring (MiB); above it the program ends with code 42.
    pub max_rss_mib: u64,
    /// Swap use (%) above which one frame in 1.5 s is kept.
    pub swap_slow_percent: f64,
    /// Swap use (%) above which one frame in 3 s is kept.
    pub swap_pause_percent: f64,
    /// Hardware watchdog fed by new frames, such as `/dev/watchdog`; empty: none.
    pub watchdog_device: String,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_rss_mib: 160, swap_slow_percent: 70.0, swap_pause_percent: 85.0, watchdog_device: String::new() }
    }
}

/// `update`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Update {
    /// Folder in which the image's helper waits for a file from `update`; empty: this is no image, and there are no updates.
    pub dir: String,
}

/// `status`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// File whose lines `status` shows as notes, such as a set-up file that was not taken over; empty: none.
    pub notes_file: String,
}
