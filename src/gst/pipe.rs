//! Owns a pipeline from its launch line to its end: it stops when it is dropped. Knows nothing of its purpose. Any thread.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use super::{bus_error, has, init, missing, pending_error};
use crate::error::{Error, Kind, Result};

/// A pipeline. Dropping it stops it.
pub struct Pipe {
    /// The pipeline itself.
    pub pipeline: gst::Pipeline,
    /// What it has to say.
    pub bus: gst::Bus,
}

impl From<gst::Pipeline> for Pipe {
    fn from(pipeline: gst::Pipeline) -> Pipe {
        Pipe { bus: pipeline.bus().expect("a pipeline has a bus"), pipeline }
    }
}

impl Pipe {
    /// The pipeline of this launch line of several elements; `what` is the attempt, for errors. One that is missing is named as by
    /// [`element`](super::element).
    pub fn launch(line: &str, what: &str) -> Result<Pipe> {
        init()?;
        let factories = line.split('!').filter_map(|part| part.split_whitespace().find(|w| !w.contains('.')));
        if let Some(gone) = factories.filter(|f| !f.contains('/')).find(|f| !has(f)) {
            return Err(Error::new(Kind::Media, missing(gone)));
        }
        let made = gst::parse::launch(line).map_err(|e| Error::caused(Kind::Media, what, e))?;
        Ok(made.downcast::<gst::Pipeline>().expect("a launch line of several elements is a pipeline").into())
    }

    /// An element that the launch line names, as what it is.
    pub fn named<T: IsA<gst::Element>>(&self, name: &str) -> T {
        self.pipeline.by_name(name).and_then(|e| e.downcast().ok()).expect("the launch line names it")
    }

    /// Makes time stamps those of the pipeline's clock: nothing is added to them.
    pub fn keep_times(&self) {
        self.pipeline.set_start_time(gst::ClockTime::NONE);
        self.pipeline.set_base_time(gst::ClockTime::ZERO);
    }

    /// Starts it; `what` is the attempt, for errors.
    pub fn play(&self, kind: Kind, what: impl FnOnce() -> String) -> Result<()> {
        let refused = |e| self.complaint(kind).unwrap_or_else(|| Error::caused(kind, what(), e));
        self.pipeline.set_state(gst::State::Playing).map(drop).map_err(refused)
    }

    /// What it has to complain of since the last look.
    pub fn complaint(&self, kind: Kind) -> Option<Error> {
        pending_error(kind, &self.bus)
    }

    /// Ends what `source` feeds and waits until all has come out; `None` when that takes longer than `wait`.
    pub fn finish(&self, source: &AppSrc, kind: Kind, what: &str, wait: Duration) -> Option<Result<()>> {
        if let Err(flow) = source.end_of_stream() {
            return Some(Err(self.complaint(kind).unwrap_or_else(|| Error::caused(kind, what, flow))));
        }
        let wait = gst::ClockTime::from_nseconds(wait.as_nanos() as u64);
        let end = self.bus.timed_pop_filtered(wait, &[gst::MessageType::Eos, gst::MessageType::Error])?;
        Some(match end.view() {
            gst::MessageView::Error(e) => Err(bus_error(kind, e)),
            _ => Ok(()),
        })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // One that cannot be stopped is dropped all the same; there is nobody to tell.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
