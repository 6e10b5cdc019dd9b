//! Owns what the container of a stream tells of its pictures beside what the coded pictures themselves tell. The pictures go first:
//! decoders take a container's word for the colour, and `GStreamer` reads it wrongly out of MP4 (the mark of full range is lost).
//! Runs on `GStreamer`'s threads.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::frame::Span;
use crate::gst::ToldColour;

/// See the module's first lines.
#[derive(Default)]
pub(super) struct Container {
    colour: Mutex<ToldColour>,
}

impl Container {
    /// The container's word for the colour of its pictures.
    pub fn colour(&self) -> ToldColour {
        *self.colour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an element of the pipeline: call it with each one before it runs.
    pub fn watch(self: &Arc<Self>, element: &gst::Element) {
        let Some(factory) = element.factory().filter(|f| f.metadata("klass").is_some_and(|k| k.contains("Demux"))) else {
            return;
        };
        let (container, mp4) = (self.clone(), factory.name() == "qtdemux");
        element.connect_pad_added(move |_, pad| {
            let container = container.clone();
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
                let without = info.event().and_then(|e| match e.view() {
                    gst::EventView::Caps(caps) => container.take_colour(caps.caps(), mp4),
                    _ => None,
                });
                if let Some(caps) = without {
                    info.data = Some(gst::PadProbeData::Event(gst::event::Caps::new(&caps)));
                }
                gst::PadProbeReturn::Ok
            });
        });
    }

    /// The caps of coded pictures without their colour, which is kept here; `None` where they tell none.
    fn take_colour(&self, caps: &gst::CapsRef, mp4: bool) -> Option<gst::Caps> {
        if !caps.structure(0)?.name().starts_with("video/") || !caps.structure(0)?.has_field("colorimetry") {
            return None;
        }
        let mut told = ToldColour::of(caps);
        if mp4 {
            // `qtdemux` says limited range whatever the file says.
            told.span = told.span.filter(|s| *s == Span::Full);
        }
        *self.colour.lock().unwrap_or_else(PoisonError::into_inner) = told;
        let mut caps = caps.to_owned();
        caps.make_mut().structure_mut(0)?.remove_field("colorimetry");
        Some(caps)
    }
}
