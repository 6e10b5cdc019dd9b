//! Owns the bound on what an RTSP camera sends before a picture is whole: the library collects the parts of one without any. Beyond it
//! the parts are dropped, and the source is told to end. Called on the stream's own thread for each packet; adds up and nothing more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use gstreamer as gst;
use gstreamer::prelude::*;

/// Far more than a coded picture has (bytes).
pub(super) const MOST: u64 = 16 << 20;

/// See the module's first lines.
#[derive(Clone, Default)]
pub(super) struct Intake(Arc<(AtomicU64, AtomicBool)>);

impl Intake {
    /// Counts what leaves this pad; `beyond` is called once when it is too much.
    pub fn count(&self, pad: &gst::Pad, beyond: impl Fn() + Send + Sync + 'static) {
        let both = self.0.clone();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
            let bytes = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => buffer.size(),
                Some(gst::PadProbeData::BufferList(list)) => list.calculate_size(),
                _ => 0,
            };
            let (sum, came) = &*both;
            came.store(true, Relaxed);
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

    /// Whether anything has come.
    pub fn has_come(&self) -> bool {
        self.0.1.load(Relaxed)
    }

    /// A picture has become whole. One that comes after the bound was passed changes nothing.
    pub fn whole(&self) {
        // Nobody adds and resets at once: both happen on the stream's thread.
        if self.0.0.load(Relaxed) <= MOST {
            self.0.0.store(0, Relaxed);
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
