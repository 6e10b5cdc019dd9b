//! Owns the way from the configuration to what each part of the program is told. Never starts anything. Any thread.

use crate::config::Config;
use crate::error::Result;
use crate::export::{self, KeepKind};
use crate::frame::Layout;
use crate::hot;
use crate::night;
use crate::ring::persist::Store;
use crate::ring::size::{self, Memory, Wish};
use crate::source::{Camera, Control};
use crate::tuning;

/// The floor of free space unless a number is given (MiB, % of the disk): a system card wants room to live.
const AUTO_FLOOR: (u64, u8) = (64, 5);

/// The size of the ring's pictures.
pub fn ring_layout(config: &Config) -> Layout {
    config.ring.layout(Layout::new(config.camera.width, config.camera.height))
}

/// What the sizing rule makes of the configuration on this machine; `own` is memory an old ring file holds already (bytes).
pub fn plan(config: &Config, store: Option<&Store>) -> Result<size::Plan> {
    let camera = Layout::new(config.camera.width, config.camera.height);
    let beside = if ring_layout(config) == camera { 0 } else { crate::ring::FULL_SLOTS * camera.bytes() };
    let wish = Wish {
        frames: config.ring.size,
        layout: ring_layout(config),
        downscaled: config.ring.downscale.enable,
        percent: config.ring.memory_percent,
        reserve: config.ring.reserve_mib << 20,
        beside: beside as u64,
        fps: config.camera.framerate,
    };
    let memory = Memory::read(store.map_or(0, Store::bytes), store.and_then(Store::room))?;
    let mut plan = size::plan(wish, memory)?;
    // Free memory trembles from start to start. A kept ring of nearly this size stays as it is: cutting it would cost frames.
    let old = store.map_or(0, |s| s.frames(wish.layout.bytes()));
    if plan.frames < wish.frames && old <= wish.frames && old.abs_diff(plan.frames) * 10 <= plan.frames {
        plan.frames = old;
    }
    Ok(plan)
}

/// What the source is asked for.
pub(super) fn camera(config: &Config) -> Camera {
    let c = &config.camera;
    Camera {
        layout: Layout::new(c.width, c.height),
        fps: c.framerate,
        day_gain_ceiling: config.night.day_gain_ceiling,
        turn: c.turn(),
        low: config.ring.downscale.enable.then(|| ring_layout(config)),
    }
}

/// The settings of the night rule.
pub fn night_settings(config: &Config) -> night::Settings {
    config.night.settings(config.camera.framerate)
}

pub(super) fn export_settings(config: &Config) -> export::Settings {
    let e = &config.export;
    let mut s = export::Settings::new(&*e.base_dir);
    s.quality = e.jpeg_quality;
    s.any_disk = e.any_disk;
    s.label = export::Label { name: e.camera_name.clone(), place: e.place };
    s.overlay = config.letters();
    s.hot_pixels = e.hot_pixels;
    let bounds = |b: &export::keys::Bound| KeepKind {
        max_bytes: (b.max_bytes > 0).then_some(b.max_bytes),
        max_age_s: (!b.max_age_s.is_zero()).then_some(b.max_age_s.as_secs_f64().ceil() as u64),
    };
    let kinds = e.keep.map(bounds);
    let tags = config.auto.iter().filter(|e| e.is_kept()).filter_map(|e| Some((e.tag.clone()?, bounds(&e.keep)))).collect();
    let (min_free_mib, min_free_percent) = e.min_free_mib.0.map_or(AUTO_FLOOR, |mib| (mib, 0));
    s.keep = export::Keep { min_free_mib, min_free_percent, kinds, tags };
    s
}

/// Controls that move every pixel of the sensor to another place of the picture.
const MOVES: [&str; 3] = ["ScalerCrop", "HorizontalFlip", "VerticalFlip"];

/// Where the frames come from, as far as it decides which pixels are hot; nothing before the source has told its controls.
pub(super) fn origin(config: &Config, device: Option<String>, shown: &tuning::Shown) -> Option<hot::Origin> {
    let moved = |(k, control): (usize, &Control)| MOVES.contains(&&*control.name) && shown.current(k) != control.default;
    device.filter(|_| !shown.source.is_empty()).map(|source| hot::Origin {
        source,
        turn: config.camera.turn().orientation(),
        moved: shown.controls.iter().enumerate().any(moved),
    })
}

/// What `tuning.json` holds.
pub(super) fn persisted_controls(config: &Config) -> tuning::Map {
    let (persisted, said) = tuning::load(&config.export.base_dir);
    match said {
        Some(Ok(said)) => log::info!("{said}"),
        Some(Err(e)) => log::warn!("{e}"),
        None => {}
    }
    persisted
}
