//! Owns one MP4 file while it is written: a `GStreamer` pipeline behind a queue of its own limit. Blocks while the disk does,
//! so it is for threads that may wait. Knows nothing of names or rings.
//!
//! The file is written in fragments of half a second, in the first second of a tenth, and becomes a plain MP4 at the end (`first-moov-then-finalise`), each write
//! reaching the medium before the next (`o-sync`): a crash or a power cut costs what came after the last whole fragment.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::access_unit::AccessUnit;
use crate::clock::WallUs;
use crate::disk;
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
    path: PathBuf,
    source: gst_app::AppSrc,
    /// The muxer, while fragments are to become longer.
    mux: Option<gst::Element>,
    /// Time stamp of the first unit.
    first: gst::ClockTime,
    last: gst::ClockTime,
    begun: bool,
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
        // Other parameter sets than the first ones are other caps, which a muxer may refuse or take for those of the whole file. They
        // stand in front of their key frame too, where decoders read them, so it need not know.
        let entry = element.static_pad("video_0").expect("as above");
        entry.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |pad, info| {
            let caps = info.event().is_some_and(|e| e.type_() == gst::EventType::Caps);
            if caps && pad.has_current_caps() { gst::PadProbeReturn::Handled } else { gst::PadProbeReturn::Ok }
        });
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
        pipe.play(Kind::Disk, || format!("begin {}", path.display())).map_err(|e| in_our_words("begin", path, &e))?;
        Ok(Mp4Writer { pipe, path: path.into(), source, mux: Some(element), first: unit.time(), last: unit.time(), begun: false })
    }

    /// Adds a unit; waits while the disk is slow.
    pub fn write(&mut self, unit: &AccessUnit) -> Result<()> {
        if let Some(e) = self.pipe.complaint(Kind::Disk) {
            return Err(in_our_words("write", &self.path, &e));
        }
        let mut buffer = unit.buffer.clone();
        // One time for two pictures ends the muxer.
        let next = if self.begun { self.last + gst::ClockTime::MSECOND } else { self.first };
        (self.last, self.begun) = (unit.time().max(next), true);
        let time = self.last - self.first;
        let b = buffer.make_mut();
        b.set_pts(time);
        b.set_dts(time);
        if let Some(mux) = self.mux.take_if(|_| time > gst::ClockTime::SECOND) {
            mux.set_property("fragment-duration", FRAGMENT.0);
        }
        self.source.push_buffer(buffer).map(drop).map_err(|flow| {
            let e = self.pipe.complaint(Kind::Disk).unwrap_or_else(|| Error::caused(Kind::Disk, "write the recording", flow));
            in_our_words("write", &self.path, &e)
        })
    }

    /// From the first unit to the last (s).
    pub fn seconds(&self) -> f64 {
        self.last.saturating_sub(self.first).nseconds() as f64 / 1e9
    }

    /// Makes the file whole. After an error it is as a crash would leave it.
    pub fn finish(self) -> Result<()> {
        // The muxer must not go on after a failure: it would hide the small indexes for one that has no room.
        if let Some(e) = self.pipe.complaint(Kind::Disk) {
            return Err(in_our_words("end", &self.path, &e));
        }
        let end = self.pipe.finish(&self.source, Kind::Disk, "end the recording", STUCK);
        let stuck = || Error::new(Kind::Disk, format!("end the recording: the disk takes nothing for {} s", STUCK.as_secs()));
        end.map_or_else(|| Err(stuck()), |end| end.map_err(|e| in_our_words("end", &self.path, &e)))
    }
}

/// What the library complains of, as a disk's error: it tells the operating system's reason in its text.
fn in_our_words(attempt: &str, path: &Path, e: &Error) -> Error {
    use nix::errno::Errno as E;
    let said = e.to_string();
    log::debug!("Recording: {said}");
    let full = e.source.as_ref().and_then(|s| s.downcast_ref::<gst::glib::Error>());
    let full = full.is_some_and(|e| e.matches(gst::ResourceError::NoSpaceLeft));
    let known = [E::ENOSPC, E::EDQUOT, E::EROFS, E::EIO, E::ENOENT, E::EACCES, E::EPERM, E::ENODEV, E::ESTALE, E::EFBIG];
    let reason = |errno: E| io::Error::from_raw_os_error(errno as i32);
    let named = |errno: &E| reason(*errno).to_string().rsplit_once(" (").is_some_and(|(text, _)| said.contains(text));
    let errno = Some(E::ENOSPC).filter(|_| full).or_else(|| known.into_iter().find(named));
    let attempt = format!("{attempt} the recording");
    match errno {
        Some(errno) => disk::error(&attempt, path, reason(errno)),
        None => Error::new(Kind::Disk, format!("{attempt} {}: the disk or the muxer failed; look at the disk", path.display())),
    }
}
