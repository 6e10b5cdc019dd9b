//! Owns the parts of `config.json`: which room's keys stand under which name. Plain data, any thread.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::settings::{self, any, settings};
use crate::tuning::Presets;
use crate::{auto, export, health, logging, night, notes, ring, server, source, update, video};

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
        export: export::keys::Keys = <_>::default(), any();
        /// Pictures by the clock, by day and by night.
        auto: auto::Entries = <_>::default(), any();
        /// The encoded stream.
        video: video::settings::Settings = <_>::default(), any();
        /// Recordings by the clock.
        record: video::settings::Record = <_>::default(), any();
        /// The stream for viewers.
        rtsp: video::settings::Rtsp = <_>::default(), any();
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
