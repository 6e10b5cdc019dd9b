//! Owns one MP4 file while it is written: a `GStreamer` pipeline behind a queue of its own limit. Blocks while the disk does,
//! so it is for threads that may wait. Knows nothing of names or rings.
//!
//! The file is written in fragments of half a second, in the first second of a tenth, and becomes a plain MP4 at the end (`first-moov-then-finalise`), each write
//! reaching the medium before the next (`o-sync`): a crash or a power cut costs what came after the last whole fragment.

use std::path::Path;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::access_unit::AccessUnit;
use crate::clock::WallUs;
use crate::error::{Error, Kind, Result};
use crate::gst::Pipe;

/// Bytes that may wait inside the pipeline; more wait where the owner has its own limit.
const INSIDE: u64 = 512 << 10;
/// Length of a fragment (ms), and of those in the first second: what a crash in that second leaves is worth a few small writes.
const FRAGMENT: (u32, u32) = (500, 100);
/// Ticks a second of the pictures' times. Left to itself the muxer takes 100 times the frame rate, in which a picture sent again
/// and the next one, 100 µs apart, are of the same time, and players complain. 32 bits of these last for five days.
const TICKS: u32 = 10_000;
/// A disk that takes nothing for so long has failed.
const STUCK: Duration = Duration::from_secs(30);

/// The file. Dropped without [`Mp4Writer::finish`], it is left as a crash would leave it.
pub struct Mp4Writer {
    pipe: Pipe,
    source: gst_app::AppSrc,
    /// The muxer, while fragments are to become longer.
    mux: Option<gst::Element>,
    /// Time stamp of the first unit.
    first: gst::ClockTime,
    last: gst::ClockTime,
}

impl Mp4Writer {
    /// Begins a file at `path` with this unit, a key frame; `title` and the wall-clock instant go into its metadata.
    pub fn begin(path: &Path, unit: &AccessUnit, wall: WallUs, title: Option<&str>) -> Result<Mp4Writer> {
        let codec = unit.codec()?;
        let line = format!(
            "appsrc name=in format=time block=true ! {} ! {} ! mux.video_0 mp4mux name=mux fragment-duration={} \
             fragment-mode=first-moov-then-finalise ! filesink name=file o-sync=true",
            codec.parser.0, codec.mp4_caps, FRAGMENT.1
        );
        let pipe = Pipe::launch(&line, "build the recorder")?;
        pipe.named::<gst::Element>("file").set_property("location", path);
        let (source, element) = (pipe.named::<gst_app::AppSrc>("in"), pipe.named::<gst::Element>("mux"));
        source.set_max_bytes(INSIDE);
        source.set_caps(Some(&unit.caps));
        element.static_pad("video_0").expect("the line above links it").set_property("trak-timescale", TICKS);
        let mux = pipe.named::<gst::Element>("mux").dynamic_cast::<gst::TagSetter>().expect("mp4mux takes tags");
        if wall.is_set() {
            let to_the_second =
                gst::glib::DateTime::from_unix_utc(wall.0.div_euclid(1_000_000)).and_then(|t| t.format("%Y-%m-%dT%H:%M:%S"));
            if let Ok(text) = to_the_second {
                let start = format!("start {text}.{:03}Z", wall.0.rem_euclid(1_000_000) / 1000);
                mux.add_tag::<gst::tags::Comment>(&start.as_str(), gst::TagMergeMode::Replace);
            }
        }
        if let Some(title) = title {
            mux.add_tag::<gst::tags::Title>(&title, gst::TagMergeMode::Replace);
        }
        pipe.play(Kind::Disk, || format!("begin {}", path.display()))?;
        Ok(Mp4Writer { pipe, source, mux: Some(element), first: unit.time(), last: unit.time() })
    }

    /// Adds a unit; waits while the disk is slow.
    pub fn write(&mut self, unit: &AccessUnit) -> Result<()> {
        if let Some(e) = self.pipe.complaint(Kind::Disk) {
            return Err(e);
        }
        let mut buffer = unit.buffer.clone();
        let time = unit.time().saturating_sub(self.first);
        let b = buffer.make_mut();
        b.set_pts(time);
        b.set_dts(time);
        self.last = unit.time();
        if let Some(mux) = self.mux.take_if(|_| time > gst::ClockTime::SECOND) {
            mux.set_property("fragment-duration", FRAGMENT.0);
        }
        self.source.push_buffer(buffer).map(drop).map_err(|flow| {
            self.pipe.complaint(Kind::Disk).unwrap_or_else(|| Error::caused(Kind::Disk, "write the recording", flow))
        })
    }

    /// From the first unit to the last (s).
    pub fn seconds(&self) -> f64 {
        self.last.saturating_sub(self.first).nseconds() as f64 / 1e9
    }

    /// Makes the file whole. After an error it is as a crash would leave it.
    pub fn finish(self) -> Result<()> {
        let end = self.pipe.finish(&self.source, Kind::Disk, "end the recording", STUCK);
        let stuck = || Error::new(Kind::Disk, format!("end the recording: the disk takes nothing for {} s", STUCK.as_secs()));
        end.unwrap_or_else(|| Err(stuck()))
    }
}
