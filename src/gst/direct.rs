//! Owns an element that is driven by hand: without a pipeline and without threads of its own, one buffer in, what comes of it out.
//! Runs wholly on the caller's thread: pushing a buffer returns when its result has come out.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::pending_error;
use crate::error::{Error, Kind, Result};

/// The element at work. Dropping it stops it.
pub struct Direct {
    element: gst::Element,
    /// Ours, feeds the element.
    feed: gst::Pad,
    /// Ours, its chain function drops what comes out into `out`. Held because the element's link does not own it.
    drain: gst::Pad,
    out: Arc<Mutex<Option<gst::Buffer>>>,
    bus: gst::Bus,
    /// Buffers so far; serves as time stamp, since elements' base classes want time to move on.
    count: u64,
    announced: bool,
}

impl Direct {
    /// Starts an element with one pad each way and no thread inside; `what` is the attempt, for errors.
    pub fn start(element: gst::Element, what: &str) -> Result<Direct> {
        let (bus, out) = (gst::Bus::new(), Arc::new(Mutex::new(None)));
        element.set_bus(Some(&bus));
        // Without a template the pad would take the first size for the only one.
        let (any, sink) = (gst::Caps::new_any(), gst::PadDirection::Sink);
        let template = gst::PadTemplate::new("drain", sink, gst::PadPresence::Always, &any)
            .map_err(|e| Error::caused(Kind::Media, what, e))?;
        let slot = Arc::clone(&out);
        let drain = gst::Pad::builder_from_template(&template)
            .chain_function(move |_, _, buffer| {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(buffer);
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(|_, _, _| true)
            .build();
        let feed = gst::Pad::builder(gst::PadDirection::Src).name("feed").build();
        let this = Direct { element, feed, drain, out, bus, count: 0, announced: false };
        this.wire().map_err(|e| Error::caused(Kind::Media, what, e))?;
        Ok(this)
    }

    fn wire(&self) -> std::result::Result<(), gst::glib::BoolError> {
        let pad = |name| self.element.static_pad(name).expect("the element has a sink and a src pad");
        let refused = |e: gst::PadLinkError| gst::glib::bool_error!("pads do not link: {e}");
        self.feed.set_active(true)?;
        self.drain.set_active(true)?;
        self.feed.link(&pad("sink")).map_err(refused)?;
        pad("src").link(&self.drain).map_err(refused)?;
        let started = self.element.set_state(gst::State::Playing);
        started.map(drop).map_err(|e| gst::glib::bool_error!("it does not start: {e}"))
    }

    /// The element.
    pub fn element(&self) -> &gst::Element {
        &self.element
    }

    /// Tells the element what follows; false where it refuses.
    pub fn announce(&mut self, caps: &gst::Caps) -> bool {
        let segment = gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new());
        let caps = gst::event::Caps::new(caps);
        if std::mem::replace(&mut self.announced, true) {
            return self.feed.push_event(caps);
        }
        [gst::event::StreamStart::new("pictures"), caps, segment].into_iter().all(|e| self.feed.push_event(e))
    }

    /// Hands a buffer in that nobody else holds; what comes of it, and whether it was taken.
    pub fn run(&mut self, mut buffer: gst::Buffer) -> (Option<gst::Buffer>, std::result::Result<(), gst::FlowError>) {
        buffer.make_mut().set_pts(gst::ClockTime::from_seconds(self.count));
        self.count += 1;
        let pushed = self.feed.push(buffer).map(drop);
        (self.out.lock().unwrap_or_else(PoisonError::into_inner).take(), pushed)
    }

    /// What it is that comes out.
    pub fn caps(&self) -> Option<gst::Caps> {
        self.drain.current_caps()
    }

    /// What the element has to complain of since the last look.
    pub fn complaint(&self) -> Option<Error> {
        pending_error(Kind::Media, &self.bus)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // Going down to Null is synchronous and, for an element without threads, cannot fail in a way one could act on.
        let _ = self.element.set_state(gst::State::Null);
    }
}
