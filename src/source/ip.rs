//! Owns pictures that `GStreamer` decodes: a video file played for ever, or a network stream.
//! Never reconnects by itself: it reports a loss and the capture starts it again. `next` runs on the capture thread;
//! decoding runs on `GStreamer`'s own threads.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

use super::{Camera, Incoming, Light, Polled, Source, without_secrets};
use crate::clock::{Clock, SystemClock, monotonic_us};
use crate::error::{Error, Kind, Result};
use crate::frame::{Ae, Packing, Planes};
use crate::gst as door;

/// Thins a faster stream out to the wished rate.
struct Pace {
    gap_us: u64,
    /// When the next frame is due.
    due_us: Option<u64>,
    /// The time of the frame before, kept or not [µs].
    before: u64,
}

impl Pace {
    fn new(fps: f64) -> Pace {
        Pace { gap_us: (1e6 / fps) as u64, due_us: None, before: 0 }
    }

    /// Whether the frame of this time is kept. Frames up to half a gap early are, so that a stream of just this rate loses
    /// none to its jitter; on the average the rate holds.
    fn keeps(&mut self, time_us: u64) -> bool {
        // Time runs backwards: a file has begun again, and a short one would never reach what was due. Two gaps off: the
        // stream has paused.
        let again = time_us < std::mem::replace(&mut self.before, time_us);
        let due = self.due_us.filter(|due| !again && due.abs_diff(time_us) <= 2 * self.gap_us).unwrap_or(time_us);
        let keeps = time_us + self.gap_us / 2 >= due;
        if keeps {
            self.due_us = Some(due + self.gap_us);
        }
        keeps
    }
}

/// The source. See the module's first lines.
pub struct Decoded {
    uri: String,
    shown: String,
    live: bool,
    camera: Camera,
    running: Option<Running>,
}

struct Running {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    bus: gst::Bus,
    next: u64,
}

impl Decoded {
    /// A video file, repeated for ever at its own speed.
    pub fn file(path: &Path, camera: &Camera) -> Result<Decoded> {
        let whole = std::fs::canonicalize(path)
            .map_err(|e| Error::caused(Kind::Source, format!("open the video file {}", path.display()), e))?;
        let uri = gst::glib::filename_to_uri(&whole, None)
            .map_err(|e| Error::caused(Kind::Source, format!("name the video file {}", path.display()), e))?;
        Ok(Decoded { uri: uri.into(), shown: format!("file {}", whole.display()), live: false, camera: *camera, running: None })
    }

    /// A network stream.
    pub fn url(url: &str, camera: &Camera) -> Decoded {
        Decoded { uri: url.into(), shown: without_secrets(url), live: true, camera: *camera, running: None }
    }

    fn build(&self) -> Result<Running> {
        door::init()?;
        let pipeline = gst::Pipeline::new();
        let decode = door::element("uridecodebin")?;
        decode.set_property("uri", &self.uri);
        let convert = door::element("videoconvert")?;
        let scale = door::element("videoscale")?;
        // A picture of another shape keeps it, between black bars.
        scale.set_property("add-borders", true);
        let caps = gst_video::VideoCapsBuilder::new()
            .format(gst_video::VideoFormat::I420)
            .width(self.camera.layout.width as i32)
            .height(self.camera.layout.height as i32)
            .pixel_aspect_ratio(gst::Fraction::new(1, 1))
            .build();
        // Two frames at most: when the capture is late the oldest goes, and the decoder never waits for it.
        let sink = gst_app::AppSink::builder().caps(&caps).max_buffers(2).drop(true).sync(true).build();
        let chain = [&convert, &scale, sink.upcast_ref()];
        let failed = |e: gst::glib::BoolError| Error::caused(Kind::Media, format!("build the decoder of {}", self.shown), e);
        pipeline.add(&decode).and_then(|()| pipeline.add_many(chain)).map_err(failed)?;
        gst::Element::link_many(chain).map_err(failed)?;
        let entry = convert.static_pad("sink").expect("videoconvert has a sink pad");
        // Ahead of the conversion, so that it costs nothing. Not `videorate`: on a stream without a frame rate (MJPEG over
        // HTTP) GStreamer 1.22's fails an assertion and takes the process with it, or drops every frame that has no time.
        let pace = Mutex::new(Pace::new(self.camera.fps));
        entry.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let time_us = info.buffer().and_then(|b| b.pts()).map_or_else(monotonic_us, gst::ClockTime::useconds);
            let keeps = pace.lock().unwrap_or_else(PoisonError::into_inner).keeps(time_us);
            // `Handled` gives the frame back here; with `Drop` GStreamer 1.22 would do that once more and complain.
            if keeps { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Handled }
        });
        // MJPEG over HTTP again: its demuxer may always find one more stream, and the decoder would wait for that for ever.
        pipeline.connect_deep_element_added(|_, _, element| {
            if element.factory().is_some_and(|f| f.name() == "multipartdemux") {
                element.set_property("single-stream", true);
            }
        });
        let wanted = self.camera.layout;
        decode.connect_pad_added(move |_, pad| {
            let video = pad
                .current_caps()
                .or_else(|| Some(pad.query_caps(None)))
                .is_some_and(|c| c.structure(0).is_some_and(|s| s.name().starts_with("video/")));
            if let Some(info) = pad.current_caps().filter(|_| video).and_then(|c| gst_video::VideoInfo::from_caps(&c).ok()) {
                if (info.width(), info.height()) != (wanted.width, wanted.height) {
                    log::info!(
                        "The source sends {}x{}; set camera.width and camera.height to that to spare the scaling to {}x{}",
                        info.width(),
                        info.height(),
                        wanted.width,
                        wanted.height
                    );
                }
            }
            if video && !entry.is_linked() {
                // A pad that does not fit shows as an error of the pipeline, which `next` reports.
                let _ = pad.link(&entry);
            }
        });
        if self.live {
            decode.connect("source-setup", false, |values| {
                let source = values[1].get::<gst::Element>().ok()?;
                // Seconds without data after which the stream is lost: libraries' defaults run to minutes.
                if source.has_property_with_type("tcp-timeout", u64::static_type()) {
                    source.set_property("tcp-timeout", 5_000_000u64);
                }
                if source.has_property_with_type("timeout", u64::static_type()) {
                    source.set_property("timeout", 5_000_000u64);
                } else if source.has_property_with_type("timeout", u32::static_type()) {
                    source.set_property("timeout", 10u32);
                }
                None
            });
        }
        let bus = pipeline.bus().expect("a pipeline has a bus");
        Ok(Running { pipeline, sink, bus, next: 0 })
    }

    /// What the pipeline has to say since the last look.
    fn heard(&self, running: &Running) -> Result<()> {
        while let Some(message) = running.bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Eos]) {
            match message.view() {
                gst::MessageView::Eos(_) if !self.live => {
                    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
                    running
                        .pipeline
                        .seek_simple(flags, gst::ClockTime::ZERO)
                        .map_err(|e| Error::caused(Kind::Source, format!("play {} from its beginning again", self.shown), e))?;
                }
                gst::MessageView::Eos(_) => return Err(Error::new(Kind::Source, format!("{}: the stream ended", self.shown))),
                gst::MessageView::Error(e) => {
                    // The library's text may repeat the address with its password.
                    let text = e.error().to_string().replace(&self.uri, &self.shown);
                    return Err(Error::new(Kind::Source, format!("{}: {text}", self.shown)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Source for Decoded {
    fn name(&self) -> String {
        self.shown.clone()
    }

    fn start(&mut self, first: u64) -> Result<()> {
        self.stop();
        let mut running = self.build()?;
        running.next = first;
        let started = running.pipeline.set_state(gst::State::Playing);
        let running = self.running.insert(running);
        if started.is_err() {
            let why = running.bus.pop_filtered(&[gst::MessageType::Error]).and_then(|m| match m.view() {
                gst::MessageView::Error(e) => Some(e.error().to_string()),
                _ => None,
            });
            let text = why.map_or_else(|| "the pipeline does not start".into(), |w| w.replace(&self.uri, &self.shown));
            return Err(Error::new(Kind::Source, format!("{}: {text}", self.shown)));
        }
        Ok(())
    }

    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        let Some(running) = &self.running else {
            return Err(Error::new(Kind::Source, format!("wait for a frame of {}: it was not started", self.shown)));
        };
        let wait = gst::ClockTime::from_nseconds(wait.as_nanos() as u64);
        let Some(sample) = running.sink.try_pull_sample(wait) else {
            self.heard(running)?;
            return Ok(Polled::Nothing);
        };
        let boot = SystemClock.boot();
        let broken = |what: &str| Error::new(Kind::Source, format!("{}: a frame without {what}", self.shown));
        let caps = sample.caps().ok_or_else(|| broken("caps"))?;
        let (layout, colour) = door::read_caps(caps)?;
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| broken("video caps"))?;
        let buffer = sample.buffer().ok_or_else(|| broken("a buffer"))?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(|_| broken("readable planes"))?;
        let plane = |i: u32| frame.plane_data(i).map_err(|_| broken("three planes"));
        let id = running.next;
        sink(&Incoming {
            main: Planes {
                layout,
                packing: Packing::Planar,
                data: [plane(0)?, plane(1)?, plane(2)?],
                stride: [0, 1, 2].map(|i| frame.plane_stride()[i] as usize),
            },
            low: None,
            id,
            boot,
            colour,
            exposure: None,
            ae: Ae::Off,
            lux: None,
            colour_temperature: None,
            focus: None,
            shown: &[],
        });
        if let Some(running) = &mut self.running {
            running.next = id + 1;
        }
        Ok(Polled::Frame)
    }

    fn expose(&mut self, _: Light) -> Result<()> {
        Ok(())
    }

    fn longest_exposure_us(&self) -> Option<f64> {
        None
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            // A pipeline that cannot be stopped is dropped all the same; there is nobody to tell.
            let _ = running.pipeline.set_state(gst::State::Null);
        }
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(fps: f64, times_ms: impl Iterator<Item = u64>) -> usize {
        let mut pace = Pace::new(fps);
        times_ms.filter(|t| pace.keeps(t * 1000)).count()
    }

    #[test]
    fn a_faster_stream_is_thinned_out_and_another_is_left_alone() {
        assert_eq!(kept(10.0, (0..298).map(|i| i * 100 / 3)), 100, "30 a second");
        assert_eq!(kept(10.0, (0..248).map(|i| i * 40)), 100, "25 a second");
        assert_eq!(kept(10.0, (0..100).map(|i| i * 100 + [0, 40, 10, 30][i as usize % 4])), 100, "10 a second, unevenly");
        assert_eq!(kept(10.0, (0..50).map(|i| i * 200)), 50, "5 a second");
        assert_eq!(kept(10.0, (0..10).chain(0..10).map(|i| i * 100)), 20, "begun again");
        assert_eq!(kept(10.0, (0..9).map(|i| i % 3 * 40)), 6, "two frames of each turn of a film of 0.12 s");
    }
}
