//! Owns `set video.…`: changes of the stream while it runs.

use std::sync::{Arc, PoisonError};

use super::{Commands, failed};
use crate::error::{Error, Kind};
use crate::server::Answer;

impl Commands {
    /// Takes over keys of `video`, all or none; they hold until the next start or SIGHUP.
    pub(super) fn set_video(&self, pairs: &[(String, String)]) -> Answer {
        let changes: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        // What is no ASCII arrives as this.
        if let Some((key, _)) = changes.iter().find(|(_, text)| text.contains('?')) {
            let why = "letters, digits and signs of ASCII, not \"?\", which stands here for other letters too";
            return failed(&Error::new(Kind::Usage, format!("{key}: {why}; write it into config.json")));
        }
        // Held while the new one is made, so that of two changes at once none is lost.
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        match config.with(&changes) {
            Err(e) => failed(&e),
            Ok(new) => {
                self.video.set(&new.stream());
                self.exporter.set_overlay(new.letters());
                if let Some(rtsp) = &self.rtsp {
                    rtsp.share(!self.video.may_pass());
                }
                *config = Arc::new(new);
                let said: Vec<String> = changes.iter().map(|(k, v)| format!("{k}={v}")).collect();
                log::info!("Set {}", said.join(" "));
                Answer::ok(format!("OK {}", said.join(" ")))
            }
        }
    }
}
