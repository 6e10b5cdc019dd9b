//! Owns the rule by which free memory becomes a number of frames, and its words for the log.
//! Reads `/proc` and the control group's files once, at start, on the main thread; the rule itself is pure.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::frame::Layout;

/// What the machine says of its memory (bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// `MemAvailable` of `/proc/meminfo`.
    pub available: u64,
    /// What the tightest control group still allows, where there is a limit.
    pub cgroup: Option<u64>,
    /// Already taken by this ring's own file: free for it, though the system counts it as used.
    pub own: u64,
    /// What the tmpfs of the ring's file has room for, where there is such a file.
    pub tmpfs: Option<u64>,
}

impl Memory {
    /// Reads both numbers.
    pub fn read(own: u64, tmpfs: Option<u64>) -> Result<Memory> {
        let text = fs::read_to_string("/proc/meminfo").map_err(|e| Error::caused(Kind::Io, "read /proc/meminfo", e))?;
        let available = meminfo(&text, "MemAvailable").or_else(|| meminfo(&text, "MemFree")).ok_or_else(|| {
            Error::new(Kind::Io, "read /proc/meminfo: neither MemAvailable nor MemFree stands there; set ring.size small and ring.memory_percent to 100")
        })?;
        let cgroup = fs::read_to_string("/proc/self/cgroup").ok().and_then(|s| cgroup_left(&s, Path::new("/sys/fs/cgroup")));
        Ok(Memory { available, cgroup, own, tmpfs })
    }

    fn left(self) -> u64 {
        self.available.min(self.cgroup.unwrap_or(u64::MAX)).saturating_add(self.own)
    }
}

/// One number of a `/proc/meminfo` text (bytes).
pub fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// What the process's control groups, from its own up to the root, still allow; version 2 and version 1.
pub fn cgroup_left(proc_self_cgroup: &str, root: &Path) -> Option<u64> {
    let number = |p: std::path::PathBuf| fs::read_to_string(p).ok()?.trim().parse::<u64>().ok();
    let mut least = None;
    for line in proc_self_cgroup.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (base, limit, usage) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max", "memory.current")
        } else if controllers.split(',').any(|c| c == "memory") {
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            continue;
        };
        for dir in Path::new(path.trim_start_matches('/')).ancestors() {
            let dir = base.join(dir);
            // Page cache counts as usage but gives way, as MemAvailable already knows for the whole machine.
            let cache = fs::read_to_string(dir.join("memory.stat")).ok().and_then(|s| {
                s.lines().find_map(|l| {
                    l.strip_prefix("inactive_file ").or(l.strip_prefix("total_inactive_file "))?.trim().parse::<u64>().ok()
                })
            });
            if let (Some(max), Some(now)) = (number(dir.join(limit)), number(dir.join(usage))) {
                let left = max.saturating_sub(now.saturating_sub(cache.unwrap_or(0)));
                least = Some(least.map_or(left, |l: u64| l.min(left)));
            }
        }
    }
    // Version 1 writes "no limit" as a number near 2^63.
    least.filter(|l| *l < 1 << 60)
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// `ring.size`, frames.
    pub frames: usize,
    /// Size of the ring's pictures.
    pub layout: Layout,
    /// Whether they are smaller than the camera's.
    pub downscaled: bool,
    /// `ring.memory_percent`.
    pub percent: u8,
    /// `ring.reserve_mib` in bytes: for encoders and requests.
    pub reserve: u64,
    /// Full pictures beside a ring of smaller ones (bytes).
    pub beside: u64,
    /// `camera.framerate`.
    pub fps: f64,
}

/// The decision and every number that led to it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What was asked for.
    pub wish: Wish,
    /// What the machine said.
    pub memory: Memory,
    /// Memory the ring may take (bytes).
    pub usable: u64,
    /// Frames that fit.
    pub fits: usize,
    /// Frames the ring will hold.
    pub frames: usize,
}

/// A ring below this cannot hold a stack of frames and take the next one.
const LEAST: usize = 2;
/// On 32-bit machines one process has 3 GiB of addresses; the ring takes at most half.
const ADDRESSES: u64 = if cfg!(target_pointer_width = "32") { 1_610_612_736 } else { 1 << 47 };

/// `frames = min(wish, (percent · left − reserve) / bytes − spare)`.
pub fn plan(wish: Wish, memory: Memory) -> Result<Plan> {
    let share = (u128::from(memory.left()) * u128::from(wish.percent) / 100) as u64;
    let usable = share.saturating_sub(wish.reserve + wish.beside).min(memory.tmpfs.unwrap_or(u64::MAX)).min(ADDRESSES);
    let bytes = wish.layout.bytes().next_multiple_of(4096) as u64 + 4096;
    let fits = ((usable / bytes) as usize).saturating_sub(super::SPARE);
    let frames = wish.frames.min(fits);
    if frames < LEAST {
        return Err(Error::new(
            Kind::Config,
            format!(
                "size the ring: {} MiB are free, {} % of them less {} MiB hold {fits} frames of {} KiB and at least {LEAST} are needed; \
                 free memory, lower camera.width and camera.height, or switch ring.downscale on",
                memory.left() >> 20,
                wish.percent,
                wish.reserve >> 20,
                bytes >> 10
            ),
        ));
    }
    Ok(Plan { wish, memory, usable, fits, frames })
}

impl Plan {
    /// Seconds the ring holds by day.
    pub fn seconds(&self) -> f64 {
        self.frames as f64 / self.wish.fps
    }

    /// Memory that is left to everything else once the ring is full (bytes).
    pub fn leaves(&self) -> u64 {
        let bytes = self.wish.layout.bytes().next_multiple_of(4096) as u64 + 4096;
        self.memory.left().saturating_sub((self.frames + super::SPARE) as u64 * bytes + self.wish.beside)
    }

    /// The calculation in full, for the log.
    pub fn words(&self) -> String {
        let mib = |b: u64| b as f64 / 1_048_576.0;
        let (w, m) = (&self.wish, &self.memory);
        let mut s = String::from("Ring memory calculation details:\n");
        // Writing into a String cannot fail.
        let _ = writeln!(s, "  Available RAM        : {:.1} MiB", mib(m.available));
        let _ = match m.cgroup {
            Some(left) => writeln!(s, "  Control group allows : {:.1} MiB", mib(left)),
            None => writeln!(s, "  Control group allows : no limit"),
        };
        if m.own > 0 {
            let _ = writeln!(s, "  Held by the old ring : {:.1} MiB", mib(m.own));
        }
        let _ = writeln!(s, "  Kept for encoders    : {:.1} MiB", mib(w.reserve));
        if w.beside > 0 {
            let _ = writeln!(s, "  Full pictures beside : {:.1} MiB", mib(w.beside));
        }
        if let Some(room) = m.tmpfs {
            let _ = writeln!(s, "  Room on the tmpfs    : {:.1} MiB", mib(room));
        }
        let _ = writeln!(s, "  Usable ({}%)         : {:.1} MiB", w.percent, mib(self.usable));
        let _ = writeln!(s, "  Image format         : I420 uint8");
        let _ = writeln!(s, "  Ring image size      : {}x{}", w.layout.width, w.layout.height);
        let _ = writeln!(s, "  Bytes per image      : {:.1} KiB", w.layout.bytes() as f64 / 1024.0);
        let _ = writeln!(s, "  Max images possible  : {}", self.fits);
        let of = if w.downscaled { "true (downscaled ring images)" } else { "false (full-resolution camera images)" };
        let _ = writeln!(s, "  downscale.enable     : {of}");
        let _ = write!(s, "  Ring holds           : {} frames, {:.1} s at {} fps", self.frames, self.seconds(), w.fps);
        s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(frames: usize) -> Wish {
        Wish { frames, layout: Layout::new(1024, 768), downscaled: false, percent: 80, reserve: 24 << 20, beside: 0, fps: 10.0 }
    }

    #[test]
    fn the_wish_is_met_where_memory_allows() {
        let p = plan(wish(300), Memory { available: 4 << 30, cgroup: None, own: 0, tmpfs: None }).unwrap();
        assert_eq!(p.frames, 300);
        assert!(p.words().contains("300 frames, 30.0 s at 10 fps"), "{}", p.words());
    }

    #[test]
    fn a_small_board_or_a_tight_group_gets_fewer() {
        let p = plan(wish(300), Memory { available: 200 << 20, cgroup: None, own: 0, tmpfs: None }).unwrap();
        // 0.8 × 200 − 24 = 136 MiB; a slot takes 1156 KiB with its header: 120, of which 4 are spare.
        assert_eq!(p.frames, 116);
        let q = plan(wish(300), Memory { available: 4 << 30, cgroup: Some(200 << 20), own: 0, tmpfs: None }).unwrap();
        assert_eq!(q.frames, p.frames);
        let own = plan(wish(300), Memory { available: 4 << 30, cgroup: Some(200 << 20), own: 100 << 20, tmpfs: None }).unwrap();
        assert!(own.frames > q.frames);
    }

    #[test]
    fn a_small_tmpfs_and_full_pictures_beside_the_ring_count() {
        let memory = Memory { available: 4 << 30, cgroup: None, own: 0, tmpfs: Some(60 << 20) };
        // 60 MiB in slots of 1156 KiB: 53, of which 4 are spare.
        let p = plan(wish(300), memory).unwrap();
        assert_eq!(p.frames, 49);
        assert!(p.words().contains("Room on the tmpfs    : 60.0 MiB"), "{}", p.words());
        let w = Wish { beside: 50 << 20, ..wish(300) };
        let p = plan(w, Memory { available: 200 << 20, cgroup: None, own: 0, tmpfs: None }).unwrap();
        // 50 MiB less than the 136 MiB above.
        assert_eq!(p.frames, 72);
    }

    #[test]
    fn too_little_is_said_with_the_cure() {
        let e = plan(wish(300), Memory { available: 32 << 20, cgroup: None, own: 0, tmpfs: None }).unwrap_err();
        assert!(e.what.contains("ring.downscale"), "{e}");
    }

    #[test]
    fn control_groups_of_both_versions_are_read() {
        let dir = std::env::temp_dir().join(format!("pastcam-cgroup-{}", std::process::id()));
        let put = |p: &str, v: &str| {
            let f = dir.join(p);
            fs::create_dir_all(f.parent().unwrap()).unwrap();
            fs::write(f, v).unwrap();
        };
        put("a/memory.max", "max\n");
        put("a/memory.current", "1\n");
        put("a/b/memory.max", "1000\n");
        put("a/b/memory.current", "700\n");
        put("a/b/memory.stat", "anon 5\ninactive_file 100\n");
        assert_eq!(cgroup_left("0::/a/b\n", &dir), Some(400));
        put("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        put("memory/c/memory.usage_in_bytes", "5\n");
        assert_eq!(cgroup_left("5:cpu,memory:/c\n", &dir), None);
        put("memory/c/memory.limit_in_bytes", "905\n");
        assert_eq!(cgroup_left("5:cpu,memory:/c\n", &dir), Some(900));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn meminfo_is_in_kib() {
        assert_eq!(meminfo("MemTotal: 9 kB\nMemAvailable:   4 kB\n", "MemAvailable"), Some(4096));
    }
}
