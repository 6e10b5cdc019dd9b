//! Owns one MP4 file while it is written: a `GStreamer` pipeline behind a queue of its own limit. Blocks while the disk does,
//! so it is for threads that may wait. Knows nothing of names or rings.
//!
//! The file is written in fragments of half a second, in the first second of a tenth, and becomes a plain MP4 at the end (`first-moov-then-finalise`), each write
//! reaching the medium before the next (`o-sync`): a crash or a power cut costs what came after the last whole fragment.

use std::path::Path;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::access_unit::AccessUnit;
use crate::clock::WallUs;
use crate::error::{Error, Kind, Result};
use crate::gst as door;

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
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    bus: gst::Bus,
    /// The muxer, while fragments are to become longer.
    mux: Option<gst::Element>,
    /// Time stamp of the first unit.
    first: gst::ClockTime,
    last: gst::ClockTime,
}

impl Mp4Writer {
    /// Begins a file at `path` with this unit, a key frame; `title` and the wall-clock instant go into its metadata.
    pub fn begin(path: &Path, unit: &AccessUnit, wall: WallUs, title: Option<&str>) -> Result<Mp4Writer> {
        let failed = |e: gst::glib::Error| Error::caused(Kind::Media, "build the recorder", e);
        let codec = unit.codec()?;
        for element in [codec.parser.0, "mp4mux"] {
            door::element(element)?;
        }
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=in format=time block=true ! {} ! {} ! mux.video_0 mp4mux name=mux fragment-duration={} fragment-mode=first-moov-then-finalise ! filesink name=file o-sync=true",
            codec.parser.0,
            codec.mp4_caps(),
            FRAGMENT.1
        ))
        .map_err(failed)?
        .downcast::<gst::Pipeline>()
        .expect("a launch line of several elements is a pipeline");
        let named = |name: &str| pipeline.by_name(name).expect("the line above names it");
        named("file").set_property("location", path);
        let source = named("in").downcast::<gst_app::AppSrc>().expect("it is an appsrc");
        source.set_max_bytes(INSIDE);
        source.set_caps(Some(&unit.caps));
        named("mux").static_pad("video_0").expect("the line above links it").set_property("trak-timescale", TICKS);
        let mux = named("mux").dynamic_cast::<gst::TagSetter>().expect("mp4mux takes tags");
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
        let element = named("mux");
        let bus = pipeline.bus().expect("a pipeline has a bus");
        let this = Mp4Writer { pipeline, source, bus, mux: Some(element), first: unit.time(), last: unit.time() };
        if let Err(e) = this.pipeline.set_state(gst::State::Playing) {
            return Err(this.complaint().unwrap_or_else(|| Error::caused(Kind::Disk, format!("begin {}", path.display()), e)));
        }
        Ok(this)
    }

    fn complaint(&self) -> Option<Error> {
        door::pending_error(Kind::Disk, &self.bus)
    }

    /// Adds a unit; waits while the disk is slow.
    pub fn write(&mut self, unit: &AccessUnit) -> Result<()> {
        if let Some(e) = self.complaint() {
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
        self.source
            .push_buffer(buffer)
            .map(drop)
            .map_err(|flow| self.complaint().unwrap_or_else(|| Error::caused(Kind::Disk, "write the recording", flow)))
    }

    /// From the first unit to the last (s).
    pub fn seconds(&self) -> f64 {
        self.last.saturating_sub(self.first).nseconds() as f64 / 1e9
    }

    /// Makes the file whole. After an error it is as a crash would leave it.
    pub fn finish(self) -> Result<()> {
        self.source
            .end_of_stream()
            .map_err(|flow| self.complaint().unwrap_or_else(|| Error::caused(Kind::Disk, "end the recording", flow)))?;
        let end = Instant::now() + STUCK;
        let left = gst::ClockTime::from_nseconds(end.saturating_duration_since(Instant::now()).as_nanos() as u64);
        match self.bus.timed_pop_filtered(left, &[gst::MessageType::Eos, gst::MessageType::Error]) {
            Some(m) => match m.view() {
                gst::MessageView::Error(e) => Err(door::bus_error(Kind::Disk, e)),
                _ => Ok(()),
            },
            None => Err(Error::new(Kind::Disk, format!("end the recording: the disk takes nothing for {} s", STUCK.as_secs()))),
        }
    }
}

impl Drop for Mp4Writer {
    fn drop(&mut self) {
        // Closing the file; what is written is written.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
