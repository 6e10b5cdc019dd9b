//! Owns what the configuration says of the ring. Pure; any thread.

use std::path::PathBuf;

use crate::frame::Layout;
use crate::settings::{any, from, settings};

settings! {
    /// `ring` in the configuration.
    pub struct Settings {
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
        persist_path: Option<PathBuf> = None, any().at_start();
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

impl Settings {
    /// The size of the ring's pictures, where the camera's are of this one.
    pub fn layout(&self, camera: Layout) -> Layout {
        let d = &self.downscale;
        if d.enable { Layout::new(d.width, d.height) } else { camera }
    }

    /// The file of a ring that survives; `port` tells the programs of one machine apart.
    pub fn file(&self, port: u16) -> PathBuf {
        self.persist_path.clone().unwrap_or_else(|| format!("/dev/shm/pastcam-{port}.ring").into())
    }
}
