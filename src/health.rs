//! Owns what the program knows of its own state: counters and gauges that threads set without waiting, and readings of the
//! process and the machine. Never acts on them (that is the keeper and the capture). Any thread.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::settings::{Refusal, any, from, settings};

settings! {
    /// `limits` in the configuration.
    pub struct Settings {
        /// Memory beyond the ring (MiB); above it the program ends with code 42. 0: what the configured sizes need, and half of that.
        max_rss_mib: u64 = 0, from(16.0, 1_048_576.0).or_zero();
        /// Swap use (%) above which one frame in 1.5 s is kept.
        swap_slow_percent: f64 = 70.0, from(0.0, 100.0);
        /// Swap use (%) above which one frame in 3 s is kept.
        swap_pause_percent: f64 = 85.0, from(0.0, 100.0);
        /// Hardware watchdog fed by new frames, such as `/dev/watchdog`; empty: none.
        watchdog_device: Option<PathBuf> = None, any().at_start();
    }
}

impl Settings {
    /// What must be together.
    pub fn check(&self) -> Result<()> {
        let (slow, pause) = (self.swap_slow_percent, self.swap_pause_percent);
        if pause < slow {
            return Err(Refusal::new(format!("from {slow} to 100"), pause).of("limits.swap_pause_percent"));
        }
        Ok(())
    }
}

/// What the capture is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No frame yet since start.
    Starting = 0,
    /// Frames come.
    Running = 1,
    /// No frames; being recovered.
    Lost = 2,
}

impl State {
    /// The word in `status`.
    pub fn word(self) -> &'static str {
        match self {
            State::Starting => "STARTING",
            State::Running => "RUNNING",
            State::Lost => "LOST",
        }
    }
}

/// Counters and gauges.
#[derive(Debug, Default)]
pub struct Gauges {
    state: AtomicU8,
    night: AtomicBool,
    /// Bits of the level (f32) + 1, so that 0 means "not measured yet".
    level: AtomicU64,
    /// The exit threshold of the night in force, bits of f64.
    exit_threshold: AtomicU64,
    /// The kind of source in use, a word; `None` until `auto` has become one.
    source: Mutex<Option<&'static str>>,
    /// What the camera calls itself.
    model: Mutex<Option<Arc<str>>>,
    device: Mutex<Option<String>>,
    /// Pixels of the pictures that the source sends, the largest so far; those of the ring may be smaller.
    pub sent_pixels: AtomicU64,
    /// Frames the source lost on its way here.
    pub source_lost: AtomicU64,
    /// Pictures sent again to viewers and recordings because the next frame takes long.
    pub repeated: AtomicU64,
    /// Steps of the recovery ladder taken: stop and start again.
    pub restarts: AtomicU64,
    /// Steps of the recovery ladder taken: made anew, or connected again.
    pub rebuilds: AtomicU64,
    /// The longest time a frame may take now (µs): the exposure in force, or one still on its way.
    pub frame_us: AtomicU64,
    /// Switches between day and night.
    pub switches: AtomicU64,
    /// Pictures written.
    pub saved: AtomicU64,
    /// Commands that could not be carried out.
    pub failed: AtomicU64,
    /// Shortest time between kept frames (ms); above 0 while swap use slows the capture down.
    pub pace_ms: AtomicU32,
    /// Until when the capture, while it has no frames, is at work or resting on purpose (µs since boot); beyond that it hangs.
    pub at_work_until_us: AtomicU64,
    /// Why there are no frames; without a secret.
    lost_because: Mutex<Option<String>>,
}

impl Gauges {
    /// What the capture is doing.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Starting,
            1 => State::Running,
            _ => State::Lost,
        }
    }
    /// Sets it.
    pub fn set_state(&self, s: State) {
        self.state.store(s as u8, Relaxed);
    }
    /// The kind of source in use, a word; `None` until it is known.
    pub fn source(&self) -> Option<&'static str> {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Sets it.
    pub fn set_source(&self, word: &'static str) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(word);
    }
    /// What the camera in use calls itself, where it does.
    pub fn model(&self) -> Option<Arc<str>> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Sets it.
    pub fn set_model(&self, model: Option<String>) {
        *self.model.lock().unwrap_or_else(PoisonError::into_inner) = model.map(Arc::from);
    }
    /// Whose pixels the frames have; nothing before there is a source.
    pub fn device(&self) -> Option<String> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Sets it.
    pub fn set_device(&self, device: String) {
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
    }
    /// Why there are no frames, while that is so.
    pub fn lost_because(&self) -> Option<String> {
        self.lost_because.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Sets it.
    pub fn set_lost_because(&self, why: Option<String>) {
        *self.lost_because.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
    /// Whether night mode is on.
    pub fn night(&self) -> bool {
        self.night.load(Relaxed)
    }
    /// The last level and the exit threshold; `None` before the first frame.
    pub fn level(&self) -> Option<(f32, f64)> {
        let bits = self.level.load(Relaxed).checked_sub(1)?;
        Some((f32::from_bits(bits as u32), f64::from_bits(self.exit_threshold.load(Relaxed))))
    }
    /// Sets what the night rule found in one frame.
    pub fn set_level(&self, level: f32, exit_threshold: f64, night: bool) {
        self.exit_threshold.store(exit_threshold.to_bits(), Relaxed);
        self.level.store(u64::from(level.to_bits()) + 1, Relaxed);
        self.night.store(night, Relaxed);
    }
}

/// Bytes of the process in memory (`VmRSS`).
pub fn rss_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page as u64)
}

/// Swap in use, in percent of all swap; 0 where there is none.
///
/// From `sysinfo(2)`: the same two numbers as `/proc/meminfo`, without the kernel writing its other fifty lines. The keeper
/// asks every second, and `health` on the thread that serves everybody.
pub fn swap_percent() -> f64 {
    let Ok(info) = nix::sys::sysinfo::sysinfo() else { return 0.0 };
    let (total, free) = (info.swap_total() as f64, info.swap_free() as f64);
    if total > 0.0 { (total - free) / total * 100.0 } else { 0.0 }
}

/// Temperature of the processor (°C), where the machine tells.
pub fn temperature() -> Option<f64> {
    let text = fs::read_to_string("/sys/class/thermal/thermal_zone0/temp").ok()?;
    Some(text.trim().parse::<f64>().ok()? / 1000.0)
}
