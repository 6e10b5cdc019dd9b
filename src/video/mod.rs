//! Owns the encoded stream: one encode of the newest pictures for everybody, made only while there are subscribers,
//! or what a camera encodes by itself, passed through as it comes.
//! Never touches the camera and never delays the ring. Its thread `video` and the encoder's own do the work; any thread asks.

pub mod access_unit;
pub mod choose;
pub mod encode;
mod feed;
mod gop;
pub mod hub;
mod mp4;
mod pass_through;
mod past;
mod queue;
pub mod record;
pub mod rtsp;
pub mod settings;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::clock::Clock;
use crate::codec::{Codec, H264, Implementation};
use crate::error::Result;
use crate::frame::Layout;
use crate::health::Gauges;
use crate::ring::Frames;
use crate::source::Outlet;
use crate::threads::Thread;
use feed::{Feeder, Wish};
use hub::Hub;
use pass_through::PassThrough;
pub use pass_through::PassThroughState;
use settings::Stream;

/// What viewers and recordings get.
const CODEC: &Codec = &H264;

/// The stream and its thread.
pub struct Video {
    hub: Arc<Hub>,
    pass: Arc<PassThrough>,
    wish: Arc<Mutex<Wish>>,
    at_work: Arc<Mutex<Option<Implementation>>>,
    hardware: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn wish(stream: &Stream) -> Wish {
    let v = &stream.keys;
    Wish {
        encoder: v.encoder,
        settings: encode::Settings {
            bitrate_kbps: v.bitrate_kbps,
            keyframe_s: v.keyframe_s,
            size: (v.width > 0).then(|| Layout::new(v.width, v.height)),
            fps: stream.fps,
        },
        overlay: v.overlay.clone(),
        camera: stream.camera,
    }
}

impl Video {
    /// Starts the thread, which sleeps until somebody subscribes to the hub. `remote`: the source is a camera that may encode by
    /// itself.
    pub fn start(
        stream: &Stream,
        frames: Arc<Frames>,
        gauges: Arc<Gauges>,
        clock: Arc<dyn Clock>,
        remote: bool,
    ) -> Result<Video> {
        Video::start_with(stream, (frames, gauges, clock), remote, encode::Encoder::new)
    }

    fn start_with(
        stream: &Stream,
        (frames, gauges, clock): (Arc<Frames>, Arc<Gauges>, Arc<dyn Clock>),
        remote: bool,
        make: feed::Make,
    ) -> Result<Video> {
        let ring = frames.clone();
        let hub = Hub::new(move || ring.whole().wake());
        let pass = Arc::new(PassThrough::new(hub.clone(), clock.clone(), stream, remote));
        let (wish, at_work, hardware) = (Arc::new(Mutex::new(wish(stream))), Arc::default(), Arc::default());
        let feeder = Feeder {
            hub: hub.clone(),
            pass: Arc::clone(&pass),
            frames,
            gauges,
            clock,
            wish: Arc::clone(&wish),
            at_work: Arc::clone(&at_work),
            hardware: Arc::clone(&hardware),
            make,
        };
        let thread = Thread::Video.keep(move || feeder.run())?;
        Ok(Video { hub, pass, wish, at_work, hardware, thread: Mutex::new(Some(thread)) })
    }

    /// Where access units are published.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Where a camera that encodes by itself puts its stream.
    pub fn outlet(&self) -> Outlet {
        let pass = self.pass.clone();
        Arc::new(move |coded| pass.take(coded))
    }

    /// What becomes of the camera's own stream; `None` where the source has none.
    pub fn pass_through_state(&self) -> Option<PassThroughState> {
        self.pass.state()
    }

    /// Whether the camera's own stream may go out, now or later.
    pub fn may_pass(&self) -> bool {
        self.pass.may()
    }

    /// Takes over what the configuration says now.
    pub fn set(&self, stream: &Stream) {
        self.pass.set(stream);
        *self.wish.lock().unwrap_or_else(PoisonError::into_inner) = wish(stream);
        // The feeder looks at it before each picture.
        self.hub.nudge();
    }

    /// Who encodes now; `None` while nobody subscribes.
    pub fn encoder(&self) -> Option<Implementation> {
        *self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self) -> Wish {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a camera's own stream goes out now.
    pub fn passes_through(&self) -> bool {
        self.hub.passes_through()
    }

    /// Whether the stream can be encoded, where that is what it takes; the error has the cure.
    pub fn check(&self) -> Result<()> {
        if self.hub.passes_through() { Ok(()) } else { self.coder(self.wish().camera).map(drop) }
    }

    /// Who is to encode pictures of the past: whoever encodes the present, else the first that may.
    fn coder(&self, picture: Layout) -> Result<Implementation> {
        let (wish, trusted) = (self.wish(), self.hardware.load(Relaxed));
        let size = wish.settings.size.unwrap_or(picture);
        let mut all = choose::candidates(wish.encoder, size).into_iter().filter(|c| *c != Implementation::Hardware || trusted);
        let same = self.encoder().filter(|c| c.takes(size.width, size.height));
        same.or_else(|| all.next()).ok_or_else(|| choose::none_for(size))
    }

    /// Ends the encoder and its thread.
    pub fn close(&self) {
        self.hub.close();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
