//! Owns the bound on what an RTSP camera sends before a picture is whole: the library collects the parts of one without any. Beyond it
//! the parts are dropped, and the source is told to end. Called on the stream's own thread for each packet; adds up and nothing more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gstreamer as gst;
use gstreamer::prelude::*;

/// Far more than a coded picture has (bytes).
pub(super) const MOST: u64 = 16 << 20;

/// See the module's first lines.
#[derive(Clone, Default)]
pub(super) struct Intake(Arc<AtomicU64>);

impl Intake {
    /// Counts what leaves this pad; `beyond` is called once when it is too much.
    pub fn count(&self, pad: &gst::Pad, beyond: impl Fn() + Send + Sync + 'static) {
        let sum = self.0.clone();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
            let bytes = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => buffer.size(),
                Some(gst::PadProbeData::BufferList(list)) => list.calculate_size(),
                _ => 0,
            };
            let before = sum.fetch_add(bytes as u64, Relaxed);
            if before + bytes as u64 <= MOST {
                return gst::PadProbeReturn::Ok;
            }
            if before <= MOST {
                beyond();
            }
            // As in the tail.
            gst::PadProbeReturn::Handled
        });
    }

    /// A picture has become whole. One that comes after the bound was passed changes nothing.
    pub fn whole(&self) {
        // Nobody adds and resets at once: both happen on the stream's thread.
        if self.0.load(Relaxed) <= MOST {
            self.0.store(0, Relaxed);
        }
    }

    /// Calls [`Intake::whole`] for each buffer of this pad.
    pub fn watch(&self, pad: &gst::Pad) {
        let intake = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
            intake.whole();
            gst::PadProbeReturn::Ok
        });
    }
}
