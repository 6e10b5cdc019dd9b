//! Owns pictures that `GStreamer` decodes: a video file played for ever, or a stream over HTTP that is neither JPEG nor MJPEG. Those,
//! and RTSP, have rooms of their own.
//! Never reconnects by itself: it reports a loss and the capture starts it again. `next` runs on the capture thread;
//! decoding runs on `GStreamer`'s own threads.

pub(crate) mod address;
mod answer;
mod brake;
mod coded;
mod explain;
mod fetch;
mod http;
mod intake;
pub(crate) mod jpeg;
mod login;
mod reach;
mod relay;
mod rtsp;
mod tail;
mod told;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use super::{Camera, Incoming, Polled, Source};
use crate::clock::{Clock, SystemClock, monotonic_us};
use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::gst::{self as door, Pipe};
use address::Address;
pub use coded::{Coded, CodedAccessUnit, Outlet, no_outlet};
use explain::{explain, first_error};
pub use http::HttpSource;
pub use rtsp::RtspSource;
use tail::{DecoderTail, RateLimiter};
pub(crate) use trust::Trust;

/// The source. See the module's first lines.
pub struct UriSource {
    address: Address,
    /// What is given to the library: the address, or who brings its bytes.
    uri: String,
    live: bool,
    camera: Camera,
    outlet: Outlet,
    /// What takes the bytes of [`UriSource::fed`], once it has started.
    feed: Arc<Mutex<Option<AppSrc>>>,
    running: Option<Playing>,
}

struct Playing {
    pipe: Pipe,
    tail: DecoderTail,
    first: u64,
    next: u64,
    /// What is too large to be decoded.
    excess: Arc<Mutex<Option<String>>>,
}

impl UriSource {
    /// A video file, repeated for ever at its own speed.
    pub fn file(path: &Path, camera: &Camera) -> Result<UriSource> {
        // Opening a pipe would wait for its writer, and nothing could end that.
        let plain = |whole: &PathBuf| disk::regular(std::fs::metadata(whole)?.file_type());
        let whole = std::fs::canonicalize(path)
            .and_then(|whole| plain(&whole).map(|()| whole))
            .map_err(|e| Error::caused(Kind::Source, format!("open the video file {}", path.display()), e))?;
        let uri = gst::glib::filename_to_uri(&whole, None)
            .map_err(|e| Error::caused(Kind::Source, format!("name the video file {}", path.display()), e))?;
        let shown = format!("file {}", whole.display());
        let address = Address { location: uri.into(), login: None, shown, trust: Trust::default() };
        let uri = address.location.clone();
        Ok(UriSource { address, uri, live: false, camera: *camera, outlet: no_outlet(), feed: Arc::default(), running: None })
    }

    /// A stream over HTTP.
    fn stream(address: Address, camera: &Camera, outlet: &Outlet) -> UriSource {
        let uri = address.location.clone();
        UriSource { address, uri, live: true, camera: *camera, outlet: outlet.clone(), feed: Arc::default(), running: None }
    }

    /// A stream whose bytes are brought by somebody else.
    fn fed(address: Address, camera: &Camera, outlet: &Outlet) -> UriSource {
        let mut fed = UriSource::stream(address, camera, outlet);
        fed.uri = "appsrc://".into();
        fed
    }

    fn build(&self, first: u64) -> Result<Playing> {
        let decode = door::element("uridecodebin")?;
        let pipeline = gst::Pipeline::new();
        decode.set_property("uri", &self.uri);
        let pace = Mutex::new(RateLimiter::new(self.camera.fps));
        let tail = DecoderTail::new(&pipeline, &self.camera, true, move |buffer| {
            let time_us = buffer.pts().map_or_else(monotonic_us, gst::ClockTime::useconds);
            pace.lock().unwrap_or_else(PoisonError::into_inner).keeps(time_us)
        })?;
        let failed =
            |e: gst::glib::BoolError| Error::caused(Kind::Media, format!("build the decoder of {}", self.address.shown), e);
        pipeline.add(&decode).map_err(failed)?;
        let container = tail.container.clone();
        pipeline.connect_deep_element_added(move |_, _, element| container.watch(element));
        let excess = Arc::<Mutex<Option<String>>>::default();
        let seen = excess.clone();
        tail::bound(&decode, &self.camera, move |much| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(much);
        });
        let entry = tail.entry.clone();
        decode.connect_pad_added(move |_, pad| {
            let video = pad
                .current_caps()
                .or_else(|| Some(pad.query_caps(None)))
                .is_some_and(|c| c.structure(0).is_some_and(|s| s.name().starts_with("video/")));
            if video && !entry.is_linked() {
                // A pad that does not fit shows as an error of the pipeline, which `next` reports.
                let _ = pad.link(&entry);
            }
        });
        if self.live {
            let (address, feed) = (self.address.clone(), self.feed.clone());
            decode.connect("source-setup", false, move |values| {
                let source = values[1].get::<gst::Element>().ok()?;
                if let Some(fed) = source.downcast_ref::<AppSrc>() {
                    // The connection waits for the decoder.
                    fed.set_property("block", true);
                    *feed.lock().unwrap_or_else(PoisonError::into_inner) = Some(fed.clone());
                }
                if source.has_property_with_type("user-pw", String::static_type()) {
                    address.log_in(&source);
                    address.trust.tell(&source);
                    // The login is for this host.
                    source.set_property("automatic-redirect", address.login.is_none());
                }
                // Seconds without data after which the stream is lost: the library's default is longer.
                if source.has_property_with_type("timeout", u32::static_type()) {
                    source.set_property("timeout", 10u32);
                }
                None
            });
        }
        Ok(Playing { pipe: pipeline.into(), tail, first, next: first, excess })
    }

    /// What the pipeline has to say since the last look.
    fn heard(&self, running: &Playing) -> Result<()> {
        if let Some(excess) = running.excess.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Error::new(Kind::Source, format!("{}: {excess}", self.address.shown)));
        }
        while let Some(message) = running.pipe.bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Eos]) {
            match message.view() {
                gst::MessageView::Eos(_) if !self.live => {
                    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
                    running.pipe.pipeline.seek_simple(flags, gst::ClockTime::ZERO).map_err(|e| {
                        Error::caused(Kind::Source, format!("play {} from its beginning again", self.address.shown), e)
                    })?;
                }
                gst::MessageView::Eos(_) => {
                    return Err(Error::new(Kind::Source, format!("{}: the stream ended", self.address.shown)));
                }
                gst::MessageView::Error(e) => return Err(explain(e, &self.address, running.next > running.first)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Starts a pipeline that receives from this address.
fn play(pipe: &Pipe, address: &Address) -> Result<()> {
    let silent = || Error::new(Kind::Source, format!("{}: the pipeline does not start", address.shown));
    let refused = |_| first_error(&pipe.bus, address).unwrap_or_else(silent);
    pipe.pipeline.set_state(gst::State::Playing).map(drop).map_err(refused)
}

impl Source for UriSource {
    fn name(&self) -> String {
        self.address.shown.clone()
    }

    fn start(&mut self, first: u64) -> Result<()> {
        self.stop();
        let playing = self.build(first)?;
        play(&playing.pipe, &self.address)?;
        self.running = Some(playing);
        if self.live {
            (self.outlet)(Coded::OtherCodec);
        }
        Ok(())
    }

    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        let Some(running) = &mut self.running else {
            return Err(Error::new(Kind::Source, format!("wait for a frame of {}: it was not started", self.address.shown)));
        };
        if let Some(sample) = running.tail.pull(wait) {
            running.tail.lend(&sample, running.next, SystemClock.boot(), &self.address.shown, sink)?;
            running.next += 1;
            return Ok(Polled::Frame);
        }
        self.running.as_ref().map_or(Ok(()), |running| self.heard(running))?;
        Ok(Polled::Nothing)
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running);
            (self.outlet)(Coded::End);
        }
    }
}

impl Drop for UriSource {
    fn drop(&mut self) {
        self.stop();
    }
}
