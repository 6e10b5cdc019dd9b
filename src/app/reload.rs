//! Owns SIGHUP: which keys take effect while the program runs, and taking them over, all or none. Never stops a camera, a
//! stream or a recording. Runs on the thread `reload`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::Options;
use super::settings::{export_settings, night_settings};
use crate::capture;
use crate::claim::Claim;
use crate::commands::Commands;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::server::ServerControl;

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

/// Keys that are used once, at start.
pub const AT_START: [&str; 23] = [
    "camera",
    "ring",
    "rtsp.enable",
    "rtsp.port",
    "rtsp.bind",
    "rtsp.user",
    "rtsp.password",
    "rtsp.tls_certificate",
    "rtsp.tls_key",
    "rtsp.max_clients",
    "rtsp.audio",
    "network.trigger_port",
    "network.bind",
    "network.idle_ms",
    "network.max_clients",
    "network.persistent_port",
    "network.persistent_pad",
    "network.persistent_nul",
    "network.udp_port",
    "network.token",
    "logging.dir",
    "limits.watchdog_device",
    "update",
];

impl Reload {
    pub(super) fn run(&self) {
        match self.options.load().and_then(|new| self.take(new)) {
            Ok(()) => log::info!("The configuration was read again"),
            Err(e) => log::error!("The configuration stays as it was: {e}"),
        }
    }

    fn take(&self, mut new: Config) -> Result<()> {
        let old = self.commands.config();
        let value =
            |c: &Config| serde_json::to_value(&c.file).map_err(|e| Error::caused(Kind::Config, "compare configurations", e));
        let (mut wanted, in_force) = (value(&new)?, value(&old)?);
        for key in AT_START {
            let path = format!("/{}", key.replace('.', "/"));
            let (Some(w), Some(f)) = (wanted.pointer_mut(&path), in_force.pointer(&path)) else { continue };
            if w != f {
                log::warn!("{key} has changed and takes effect at the next start");
                Value::clone_from(w, f);
            }
        }
        new.file = serde_json::from_value(wanted).map_err(|e| Error::caused(Kind::Config, "take over the configuration", e))?;
        let serving = self.commands.rtsp.as_ref();
        let certificate = new.tls().filter(|_| serving.is_some()).map(|tls| tls.load()).transpose()?;
        let claim = if new.export.base_dir == old.export.base_dir {
            None
        } else {
            Some(Claim::folder("export.base_dir", Path::new(&new.export.base_dir))?)
        };
        self.commands.exporter.reconfigure(export_settings(&new))?;
        if let Some(claim) = claim.filter(Claim::holds) {
            *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = claim;
        }
        log::set_max_level(new.level());
        self.control.set_allow(new.allow());
        self.commands.video.set(&new);
        if let Some(rtsp) = serving {
            rtsp.set_allow(new.watchers());
            if let Some(certificate) = &certificate {
                rtsp.set_certificate(certificate);
            }
            rtsp.share(!self.commands.video.may_pass());
        }
        self.commands.recorder.set(&new.record);
        // A capture that has ended is on its way out with the program.
        let _ = self.to_capture.send(capture::Order::Night(night_settings(&new)));
        if new.presets != old.presets {
            let _ = self.to_capture.send(capture::Order::Presets(new.presets.clone()));
        }
        *self.tuning_dir.lock().unwrap_or_else(PoisonError::into_inner) = PathBuf::from(&new.export.base_dir);
        *self.commands.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }
}
