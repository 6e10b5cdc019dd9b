//! Owns a camera that answers each request with one JPEG picture: asks again and again. One request at a time; a slow camera
//! makes fewer frames and no queue. `next` runs on the capture thread; receiving and decoding run on `GStreamer`'s own.

use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::address::Address;
use super::explain::first_error;
use super::tail::{self, DecoderTail};
use crate::clock::{BootUs, Clock, SystemClock};
use crate::error::{Error, Kind, Result};
use crate::gst::Pipe;
use crate::source::{Camera, Incoming, Polled};

/// No camera's picture is larger (bytes).
const MOST: usize = 32 << 20;

/// See the module's first lines.
pub(super) struct Still {
    address: Address,
    /// Fetches one answer whenever it is set to play.
    fetch: Pipe,
    body: gst_app::AppSink,
    /// Decodes all of them.
    decode: Pipe,
    pictures: gst_app::AppSrc,
    tail: DecoderTail,
    gap: Duration,
    due: Instant,
    /// What has come of the answer; `None` between two requests.
    bytes: Option<Vec<u8>>,
    boot: BootUs,
    next: u64,
}

impl Still {
    pub fn new(address: &Address, camera: &Camera, first: u64) -> Result<Still> {
        let what = "build the receiver of single pictures";
        let fetch = Pipe::launch("souphttpsrc name=source timeout=5 ! appsink name=body sync=false", what)?;
        let source = fetch.named::<gst::Element>("source");
        source.set_property("location", &address.location);
        address.log_in(&source);
        address.trust.tell(&source);
        // A proxy on the way must not answer with the picture before.
        let fresh = gst::Structure::builder("extra-headers").field("Cache-Control", "no-cache").build();
        source.set_property("extra-headers", fresh);
        let decode = Pipe::launch("appsrc name=in caps=image/jpeg format=time is-live=true ! jpegdec name=decoder", what)?;
        let tail = DecoderTail::new(&decode.pipeline, camera, false, |_| true)?;
        let decoded = decode.named::<gst::Element>("decoder").static_pad("src").expect("a decoder has a src pad");
        decoded.link(&tail.entry).map_err(|e| Error::caused(Kind::Media, "join the decoder of single pictures", e))?;
        decode.play(Kind::Media, || "start the decoder of single pictures".into())?;
        Ok(Still {
            address: address.clone(),
            body: fetch.named("body"),
            fetch,
            pictures: decode.named("in"),
            decode,
            tail,
            gap: Duration::from_secs_f64(1.0 / camera.fps),
            due: Instant::now(),
            bytes: None,
            boot: BootUs(0),
            next: first,
        })
    }

    fn fail(&self, what: &str) -> Error {
        Error::new(Kind::Source, format!("{}: {what}", self.address.shown))
    }

    pub fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.bytes.take() {
                // Between two requests the picture before is decoded.
                None => {
                    let idle = self.due.saturating_duration_since(Instant::now());
                    if let Some(sample) = self.tail.pull(idle.min(left)) {
                        tail::lend(&sample, self.next, self.boot, &self.address.shown, sink)?;
                        self.next += 1;
                        return Ok(Polled::Frame);
                    }
                    if let Some(e) = first_error(&self.decode.bus, &self.address) {
                        return Err(e);
                    }
                    if Instant::now() >= self.due {
                        self.ask()?;
                    }
                }
                Some(bytes) => self.receive(bytes, left)?,
            }
            if Instant::now() >= end {
                return Ok(Polled::Nothing);
            }
        }
    }

    fn ask(&mut self) -> Result<()> {
        // In step as long as the camera keeps up.
        self.due = (self.due + self.gap).max(Instant::now());
        self.bytes = Some(Vec::new());
        match self.fetch.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(_) => Err(first_error(&self.fetch.bus, &self.address).unwrap_or_else(|| self.fail("the request does not start"))),
        }
    }

    fn receive(&mut self, mut bytes: Vec<u8>, left: Duration) -> Result<()> {
        let wait = gst::ClockTime::from_nseconds(left.as_nanos() as u64);
        if let Some(sample) = self.body.try_pull_sample(wait) {
            let map = sample.buffer().and_then(|b| b.map_readable().ok());
            bytes.extend_from_slice(map.as_deref().unwrap_or_default());
            if bytes.len() > MOST {
                return Err(self.fail("the answer does not end, and is no stream that is known here"));
            }
            self.bytes = Some(bytes);
            return Ok(());
        }
        if let Some(e) = first_error(&self.fetch.bus, &self.address) {
            return Err(e);
        }
        if !self.body.is_eos() {
            self.bytes = Some(bytes);
            return Ok(());
        }
        // All the way back: from `Ready` GStreamer 1.22 would take the next answer for over before it begins.
        self.fetch.pipeline.set_state(gst::State::Null).map_err(|_| self.fail("the request does not end"))?;
        if !bytes.starts_with(&[0xff, 0xd8]) {
            return Err(self.fail("the answer is no JPEG picture"));
        }
        self.boot = SystemClock.boot();
        self.pictures
            .push_buffer(gst::Buffer::from_mut_slice(bytes))
            .map(drop)
            .map_err(|e| Error::caused(Kind::Source, "decode a picture", e))
    }
}
