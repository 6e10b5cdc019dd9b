//! Owns the moment between two audiences: while the media of the last viewer is being put away (unprepared) the library refuses
//! the next one with 503, so the next one waits until that is over. Runs on the library's threads, which wait for each other only
//! here.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::glib::translate::IntoGlib;
use gstreamer_rtsp_server::glib::{self, prelude::*};
use gstreamer_rtsp_server::prelude::*;

/// Longer than a media takes to go (some ms).
const LONGEST: Duration = Duration::from_secs(2);

/// One media's way out. A media that is let go without a word of its end ends it too, or every next viewer would wait.
struct Unprepare {
    all: Arc<Unpreparing>,
    begun: AtomicBool,
}

impl Unprepare {
    fn begin(&self) {
        if !self.begun.swap(true, Relaxed) {
            self.all.change(1);
        }
    }

    fn end(&self) {
        if self.begun.swap(false, Relaxed) {
            self.all.change(-1);
        }
    }
}

impl Drop for Unprepare {
    fn drop(&mut self) {
        self.end();
    }
}

/// Counts the medias that are on their way out.
#[derive(Default)]
pub struct Unpreparing {
    medias: Mutex<usize>,
    gone: Condvar,
}

impl Unpreparing {
    fn change(&self, by: isize) {
        let mut medias = self.medias.lock().unwrap_or_else(PoisonError::into_inner);
        *medias = medias.saturating_add_signed(by);
        drop(medias);
        self.gone.notify_all();
    }

    /// Follows one media from the beginning of its end to the end.
    pub fn watch(self: &Arc<Self>, media: &rtsp::RTSPMedia) {
        let way = Arc::new(Unprepare { all: self.clone(), begun: AtomicBool::new(false) });
        let this = way.clone();
        media.connect_target_state(move |_, state| {
            if state == gst::State::Null.into_glib() {
                this.begin();
            }
        });
        // After the factory, which forgets the media by the same signal.
        media.connect_closure("unprepared", true, glib::closure!(move |_: &rtsp::RTSPMedia| way.end()));
    }

    /// Waits until no media is on its way out.
    pub fn wait(&self) {
        let medias = self.medias.lock().unwrap_or_else(PoisonError::into_inner);
        // Beyond, the viewer is answered 503 and asks again.
        drop(self.gone.wait_timeout_while(medias, LONGEST, |n| *n > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_that_goes_without_a_word_keeps_nobody_waiting() {
        gst::init().unwrap();
        let all = Arc::new(Unpreparing::default());
        let element = gst::ElementFactory::make("bin").build().unwrap();
        let media = rtsp::RTSPMedia::new(element);
        all.watch(&media);
        media.emit_by_name::<()>("target-state", &[&gst::State::Null.into_glib()]);
        assert_eq!(*all.medias.lock().unwrap(), 1);
        drop(media);
        assert_eq!(*all.medias.lock().unwrap(), 0);
    }
}
