//! Owns a synthetic camera: still ground, things that move at known speeds, lamps, stars and hot pixels, whose brightness and noise
//! follow the scene's light and the exposure asked for; the frame's id and time and the words TEST PATTERN drawn into it; controls
//! that take their time, and faults on demand. It stands in for a camera in tests, benchmarks and on machines without one, and has
//! the truth to compare pictures with ([`truth`]). Never touches the ring. The thread `sensor` draws; everything else runs on the
//! capture thread.

mod develop;
mod dials;
mod digits;
mod ground;
mod hot;
mod options;
mod plan;
mod scene;
mod sensor;
mod things;
mod title;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Camera, Control, Incoming, Light, Polled, Setting, Source};
use crate::error::{Error, Kind, Result};
use crate::frame::{Colour, Planes};
use crate::night::trace::Trace;
use crate::threads::Thread;
use options::Script;
use sensor::{Ask, Empty, Sensor, Shot};

pub use develop::{FULL_WELL, Noise, READ};
pub use hot::Hot;
pub use options::Options;
pub use scene::{Moment, Scene, truth};
pub use things::{SPEEDS, STAR_FRAMES};

/// Buffers of the sensor: one being filled, one on its way, one in the hands of the capture.
const BUFFERS: usize = 3;

/// The source. See the module's first lines.
pub struct Pattern {
    options: Options,
    camera: Camera,
    trace: Option<Trace>,
    longest_us: f64,
    controls: Vec<Control>,
    script: Arc<Mutex<Script>>,
    running: Option<Running>,
}

struct Running {
    shots: Receiver<std::result::Result<Shot, String>>,
    empty: SyncSender<Empty>,
    asks: Sender<Ask>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Pattern {
    /// A sensor of this size and rate; it does not run yet.
    pub fn new(options: &Options, camera: &Camera) -> Result<Pattern> {
        let trace = options.trace.as_deref().map(Trace::read).transpose()?;
        let longest_us = options.longest_us.unwrap_or(dials::LONGEST_US);
        // It draws what lies as the turned picture does before it is set upright.
        let camera = &Camera { layout: camera.turn.of(camera.layout), ..*camera };
        let this = Pattern {
            options: options.clone(),
            camera: *camera,
            trace,
            longest_us,
            controls: dials::list(camera, longest_us),
            script: Arc::default(),
            running: None,
        };
        this.present()?;
        Ok(this)
    }

    /// Fails while the control file says that it is unplugged.
    fn present(&self) -> Result<()> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.options.control {
            script.refresh(file);
        }
        if script.unplug {
            return Err(Error::new(Kind::Source, "open the pattern: it is unplugged as its control file says (unplug=1)"));
        }
        Ok(())
    }

    fn ask(&self, ask: Ask) -> Result<()> {
        let Some(running) = &self.running else {
            return Err(Error::new(Kind::Source, "set a control of the pattern: it was not started"));
        };
        // A sensor that has ended says so with the next frame that is waited for.
        let _ = running.asks.send(ask);
        Ok(())
    }
}

impl Source for Pattern {
    fn name(&self) -> String {
        format!("{} at {} fps", self.device(), self.camera.fps)
    }

    fn device(&self) -> String {
        let l = self.camera.turn.of(self.camera.layout);
        format!("pattern {}x{}", l.width, l.height)
    }

    fn start(&mut self, first: u64) -> Result<()> {
        self.stop();
        self.present()?;
        let (to_capture, shots) = sync_channel(BUFFERS);
        let (empty, from_capture) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // The channel has room for all of them.
            let _ = empty.send(Empty::default());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (asks, asked) = channel();
        let (script, trace) = (self.script.clone(), self.trace.clone());
        // Made anew, it has forgotten every control.
        let mut sensor = Sensor::new(&self.options, &self.camera, trace, script, stop.clone(), asked, first);
        let thread = Thread::Sensor.spawn(move || sensor.run(&to_capture, &from_capture))?;
        self.running = Some(Running { shots, empty, asks, stop, thread });
        Ok(())
    }

    fn next(&mut self, wait: Duration, sink: &mut dyn FnMut(&Incoming<'_>)) -> Result<Polled> {
        let Some(running) = &self.running else {
            return Err(Error::new(Kind::Source, "wait for a frame of the pattern: it was not started"));
        };
        let shot = match running.shots.recv_timeout(wait) {
            Ok(Ok(shot)) => shot,
            Ok(Err(why)) => return Err(Error::new(Kind::Source, why)),
            Err(RecvTimeoutError::Timeout) => return Ok(Polled::Nothing),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(Kind::Source, "wait for a frame of the pattern: its sensor ended"));
            }
        };
        let main = shot.rows.planes(&shot.pixels);
        sink(&Incoming {
            sent: main.layout.pixels(),
            main,
            low: shot.low.as_ref().map(|(pixels, layout)| Planes::of(*layout, pixels)),
            turn: self.camera.turn,
            id: shot.id,
            boot: shot.boot,
            colour: Colour::default(),
            exposure: Some(shot.exposure),
            ae: shot.ae,
            lux: Some(shot.lux),
            colour_temperature: Some(shot.kelvin),
            focus: None,
            shown: &shot.told,
        });
        // A sensor that ended meanwhile needs no buffer back.
        let _ = running.empty.try_send((shot.pixels, shot.low.map(|(pixels, _)| pixels).unwrap_or_default()));
        Ok(Polled::Frame)
    }

    fn expose(&mut self, light: Light) -> Result<()> {
        self.ask(Ask::Light(light))
    }

    fn longest_exposure_us(&self) -> Option<f64> {
        Some(self.longest_us)
    }

    fn controls(&self) -> &[Control] {
        &self.controls
    }

    fn set(&mut self, settings: &[Setting]) -> Result<()> {
        self.ask(Ask::Set(settings.to_vec()))
    }

    fn stop(&mut self) {
        if let Some(Running { shots, empty, asks, stop, thread }) = self.running.take() {
            stop.store(true, Ordering::Relaxed);
            drop((shots, empty, asks));
            thread.thread().unpark();
            // A panic has been told, and showed as a disconnected channel.
            let _ = thread.join();
        }
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
