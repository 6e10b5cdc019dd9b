//! Owns the moment between two audiences: while the media of the last viewer is being put away the library refuses the next
//! one with 503, so the next one waits until that is over. Runs on the library's threads, which wait for each other only here.

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

/// Counts the medias that are on their way out.
#[derive(Default)]
pub struct Leaving {
    medias: Mutex<usize>,
    gone: Condvar,
}

impl Leaving {
    fn change(&self, by: isize) {
        let mut medias = self.medias.lock().unwrap_or_else(PoisonError::into_inner);
        *medias = medias.saturating_add_signed(by);
        drop(medias);
        self.gone.notify_all();
    }

    /// Follows one media from the beginning of its end to the end.
    pub fn watch(self: &Arc<Self>, media: &rtsp::RTSPMedia) {
        let leaves = Arc::new(AtomicBool::new(false));
        let (all, this) = (self.clone(), leaves.clone());
        media.connect_target_state(move |_, state| {
            if state == gst::State::Null.into_glib() && !this.swap(true, Relaxed) {
                all.change(1);
            }
        });
        let all = self.clone();
        // After the factory, which forgets the media by the same signal.
        media.connect_closure(
            "unprepared",
            true,
            glib::closure!(move |_: &rtsp::RTSPMedia| {
                if leaves.swap(false, Relaxed) {
                    all.change(-1);
                }
            }),
        );
    }

    /// Waits until no media is on its way out.
    pub fn wait(&self) {
        let medias = self.medias.lock().unwrap_or_else(PoisonError::into_inner);
        // Beyond, the viewer is answered 503 and asks again.
        drop(self.gone.wait_timeout_while(medias, LONGEST, |n| *n > 0));
    }
}
