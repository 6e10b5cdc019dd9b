//! Owns SIGHUP: which keys take effect while the program runs, and taking them over, all or none. Never stops a camera, a
//! stream or a recording. Runs on the thread `reload`.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use super::Options;
use super::settings::{export_settings, night_settings};
use crate::capture;
use crate::claim::Claim;
use crate::commands::Commands;
use crate::config::Config;
use crate::error::Result;
use crate::server::ServerControl;
use crate::settings;

/// SIGHUP: reads the configuration again and takes over what can change while the program runs.
pub(super) struct Reload {
    pub(super) options: Options,
    pub(super) commands: Arc<Commands>,
    pub(super) control: ServerControl,
    pub(super) to_capture: Sender<capture::Order>,
    /// Where `tuning.json` lies: beside the pictures.
    pub(super) tuning_dir: Arc<Mutex<PathBuf>>,
    /// That folder is nobody else's.
    pub(super) claim: Arc<Mutex<Claim>>,
}

impl Reload {
    pub(super) fn run(&self) {
        match self.options.load().and_then(|new| self.take(new)) {
            Ok(()) => log::info!("The configuration was read again"),
            Err(e) => log::error!("The configuration stays as it was: {e}"),
        }
    }

    /// Puts back what waits for the next start, and says so. One stream may take the place of another while the program runs; every
    /// other change of the source waits.
    fn keep(new: &mut Config, old: &Config) -> Result<()> {
        let both_remote = new.camera.spec().is_remote() && old.camera.spec().is_remote();
        let mut camera = Vec::new();
        if new.camera.source != old.camera.source && !both_remote {
            camera.push("camera.source".to_string());
            new.file.camera.source = old.camera.source.clone();
        }
        settings::put_back(&mut new.file, &mut old.file.clone(), "", &mut |key| {
            if key.starts_with("camera.") {
                camera.push(key.to_string());
            } else {
                log::warn!("{key} has changed and takes effect at the next start");
            }
        })?;
        if !camera.is_empty() {
            log::warn!("camera has changed and takes effect at the next start: {}", camera.join(", "));
        }
        Ok(())
    }

    fn take(&self, mut new: Config) -> Result<()> {
        let old = self.commands.config();
        Self::keep(&mut new, &old)?;
        new.camera.tls().check()?;
        let serving = self.commands.rtsp.as_ref();
        let certificate = new.rtsp.tls().filter(|_| serving.is_some()).map(|tls| tls.load()).transpose()?;
        let claim = if new.export.base_dir == old.export.base_dir {
            None
        } else {
            Some(Claim::folder("export.base_dir", &new.export.base_dir)?)
        };
        self.commands.exporter.reconfigure(export_settings(&new))?;
        if let Some(claim) = claim.filter(Claim::holds) {
            *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = claim;
        }
        log::set_max_level(new.logging.level);
        self.control.set_allow(new.network.allow.clone());
        self.commands.video.set(&new.stream());
        if let Some(rtsp) = serving {
            rtsp.set_allow(new.rtsp.allow.clone());
            if let Some(certificate) = &certificate {
                rtsp.set_certificate(certificate);
            }
            rtsp.share(!self.commands.video.may_pass());
        }
        self.commands.recorder.set(&new.record);
        // A capture that has ended is on its way out with the program.
        let _ = self.to_capture.send(capture::Order::Night(night_settings(&new)));
        let _ = self.to_capture.send(capture::Order::Source(new.camera.spec()));
        if new.presets != old.presets {
            let _ = self.to_capture.send(capture::Order::Presets(new.presets.clone()));
        }
        *self.tuning_dir.lock().unwrap_or_else(PoisonError::into_inner) = new.export.base_dir.to_path_buf();
        *self.commands.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }
}
